"""What an address is to a list: its roles, its subscription, the block list. Looked up with prepared SQL, because the milter asks at every RCPT."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass

from .database import Prepared
from .models import Account, Block, Guest, Listmaster, Role, Subscription


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether or not the address is proved to be the author's."""

    owner: bool = False
    moderator: bool = False
    subscriber: bool = False
    posting: str = ""  # hold, accept, refuse: of a subscriber, or accept of a guest, over the list's policy
    blocked: str = ""  # the pattern of the block list that matches


def of(list_id: int, key: str, *others: str) -> Standing:
    """The standing of the address with that key; the block list is asked about `others` (a reverse-path) too. Needs a connection."""
    roles = {role for (role,) in _ROLES(list_id, key)}
    subscription = next(iter(_SUBSCRIPTION(list_id, key)), None)
    posting = subscription[0] if subscription else ""
    if not subscription and _GUEST(list_id, key):
        posting = "accept"
    return Standing(
        owner="owner" in roles,
        moderator="moderator" in roles,
        subscriber=subscription is not None,
        posting=posting,
        blocked=blocked(list_id, key, *others),
    )


def blocked(list_id: int | None, *keys: str) -> str:
    """The first pattern of the site's or the list's block list that one of these addresses matches; empty if none."""
    for (pattern,) in _BLOCKS(list_id or 0):
        if any(matches(pattern, key) for key in keys if key):
            return str(pattern)
    return ""


_ROLES = Prepared(lambda list_id, key: Role.select(Role.role).join(Account).where(Role.list == list_id, Account.key == key))
_SUBSCRIPTION = Prepared(
    lambda list_id, key: Subscription.select(Subscription.posting).join(Account).where(Subscription.list == list_id, Account.key == key)
)
_GUEST = Prepared(lambda list_id, key: Guest.select(Guest.id).join(Account).where(Guest.list == list_id, Account.key == key))
_BLOCKS = Prepared(lambda list_id: Block.select(Block.pattern).where(Block.list.is_null() | (Block.list == list_id)).order_by(Block.id))


def matches(pattern: str, key: str) -> bool:
    """Whether an address matches a block: `local@domain`, `domain`, `@domain` (and what is below it), or a glob with `*` and `?`."""
    pattern = pattern.lower()
    if "*" in pattern or "?" in pattern:
        return fnmatch.fnmatchcase(key, pattern)
    if "@" in pattern.lstrip("@"):
        return key == pattern
    host = key.rpartition("@")[2]
    domain = pattern.lstrip("@.")
    return host == domain or host.endswith("." + domain)


def is_listmaster(key: str) -> bool:
    """Whether the address is a site administrator's."""
    return bool(Listmaster.select().join(Account).where(Account.key == key).exists())
