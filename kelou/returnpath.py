"""Return-paths and leaving addresses of one subscriber: `LIST-bounces+TOKEN@domain`, `LIST-leave+TOKEN@domain`.

A token says which subscription of which list, and the day it was made, under a seal: nothing is stored, and nobody can make one. Its 28 characters are
lower-case base32, because some mail systems change the case of a local part; it shows neither address nor number (the seal hides what it seals), and
it never means somebody else, since numbers are not given again.
"""

from __future__ import annotations

import base64
import hmac
from dataclasses import dataclass

from .secret import Secret

BOUNCES = "bounces"
LEAVE = "leave"
LENGTH = 28  # characters of a token

_DAY = 86400
_WIDTHS = (3, 4, 2)  # octets of the list's number, the subscription's, the day's
_SEALED = sum(_WIDTHS)
_SEAL = 8  # octets: 64 bits, and each guess is a mail


@dataclass(frozen=True, slots=True)
class Mark:
    """What a token says."""

    list: int
    subscription: int
    day: int  # since 1970

    def age(self, now: int) -> int:
        """In days; negative where the clock was turned back since."""
        return now // _DAY - self.day


def make(secret: Secret, purpose: str, list_id: int, subscription: int, now: int) -> str:
    """The token for a subscription; one for BOUNCES, which strangers come to see in reports, does not serve to LEAVE."""
    numbers = (list_id, subscription, now // _DAY)
    plain = b"".join(number.to_bytes(width, "big") for number, width in zip(numbers, _WIDTHS, strict=True))
    seal = _seal(secret, purpose, plain)
    return base64.b32encode(seal + _hidden(secret, seal, plain)).decode("ascii").rstrip("=").lower()


def read(secret: Secret, purpose: str, token: str) -> Mark | None:
    """What a token of ours says, None for any other text. Whether the subscription still exists, and the token's age, is for the caller to judge."""
    if len(token) != LENGTH or not token.isascii():
        return None
    try:
        data = base64.b32decode(token.upper() + "=" * (-LENGTH % 8))
    except ValueError:
        return None
    plain = _hidden(secret, data[:_SEAL], data[_SEAL:])
    list_id, subscription, day = (int.from_bytes(plain[start:end], "big") for start, end in ((0, 3), (3, 7), (7, 9)))
    # Made anew, because the last character has bits to spare: one token has one spelling.
    same = hmac.compare_digest(make(secret, purpose, list_id, subscription, day * _DAY), token.lower())
    return Mark(list_id, subscription, day) if same else None


def _seal(secret: Secret, purpose: str, plain: bytes) -> bytes:
    return bytes.fromhex(secret.seal("return-path", purpose, plain.hex()))[:_SEAL]


def _hidden(secret: Secret, seal: bytes, data: bytes) -> bytes:
    """The data under a mask that its seal makes; the same again shows it."""
    mask = bytes.fromhex(secret.seal("return-path mask", seal.hex()))[:_SEALED]
    return bytes(one ^ other for one, other in zip(data, mask, strict=True))
