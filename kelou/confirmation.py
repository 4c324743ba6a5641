"""Tokens: single-use keys that go out by mail and come back as proof that somebody reads there.

A token is 130 random bits in 26 lower-case letters and digits (base32): some mail programs fold the case of what stands before the @. Only its
hash is kept, with what it is good for: one action, on one object of one list, by one address, until a time.
"""

from __future__ import annotations

import hashlib
import secrets

from .models import Token, now

_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_LENGTH = 26


def make(action: str, list_id: int | None, key: str, object: str, lifetime: int, client: str = "") -> str:
    """A new token; `key` is the address it is for, `lifetime` in seconds, `client` who had it sent. Call in a transaction."""
    token = "".join(secrets.choice(_ALPHABET) for _place in range(_LENGTH))
    Token.create(digest=_digest(token), action=action, list=list_id, address=key, object=object, client=client, expires=now() + lifetime)
    return token


def find(token: str) -> Token | None:
    """The row of a token that is good now: known, not used, not expired."""
    row: Token | None = Token.get_or_none(Token.digest == _digest(token.lower()), Token.used.is_null(), Token.expires > now())
    return row


def use(row: Token) -> bool:
    """Use a token up; False if somebody was faster. Call in the transaction that does what it is good for."""
    return bool(Token.update(used=now()).where(Token.id == row.id, Token.used.is_null()).execute())


def withdraw(action: str, object: str) -> None:
    """Make the tokens of an action on an object worthless: it was decided otherwise."""
    Token.update(used=now()).where(Token.action == action, Token.object == object, Token.used.is_null()).execute()


def withdraw_from(action: str, key: str, object: str) -> None:
    """Make the tokens that one address had for that worthless: it gets a new one."""
    Token.update(used=now()).where(Token.action == action, Token.address == key, Token.object == object, Token.used.is_null()).execute()


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
