"""The block list: who may not post or subscribe, on one list or on all. `kelou.standing` says what a pattern matches."""

from __future__ import annotations

import re
from typing import Any

from peewee import JOIN

from . import audit
from .address import AddressError, host, parse
from .audit import Actor
from .database import transaction
from .directory import ListView
from .i18n import _
from .models import Block, Domain, MailingList
from .refusal import BadData


def pattern(text: str) -> str:
    """A pattern as it is kept: an address, `@domain`, or a glob with `*` and `?`. Raises BadData."""
    text = text.strip()
    if "*" in text or "?" in text:
        if not re.search(r"\w", text) or not text.isprintable() or " " in text:
            raise BadData(_("{pattern}: a pattern needs something besides * and ?, and no blanks").format(pattern=text))
        return text.lower()
    try:
        return parse(text).key if "@" in text.lstrip("@") else f"@{host(text.lstrip('@.'))}"
    except AddressError as error:
        raise BadData(_("{pattern}: this is no address, @domain or pattern with * ({reason})").format(pattern=text, reason=_(str(error)))) from error


def add(actor: Actor, text: str, the_list: ListView | None = None, reason: str = "") -> bool:
    """Block a pattern, on that list or everywhere; False if it is blocked there already."""
    with transaction():
        _require(actor, the_list)
        wanted = pattern(text)
        if Block.select().where(Block.pattern == wanted, _where(the_list)).exists():
            return False
        Block.create(list=the_list and the_list.id, pattern=wanted, added_by=actor.name, reason=reason)
        audit.record(actor, "block add", the_list.address if the_list else "", wanted, after=reason or None)
        return True


def remove(actor: Actor, text: str, the_list: ListView | None = None) -> bool:
    """Block it no more; False if it was not blocked there."""
    with transaction():
        _require(actor, the_list)
        wanted = pattern(text)
        if not Block.delete().where(Block.pattern == wanted, _where(the_list)).execute():
            return False
        audit.record(actor, "block remove", the_list.address if the_list else "", wanted)
        return True


def entries(the_list: ListView | None = None) -> list[dict[str, Any]]:
    """What is blocked everywhere, and on that list (on any, without one): pattern, list (null: everywhere), since (in seconds), by, reason."""
    rows = Block.select(Block.pattern, MailingList.name, Domain.name, Block.since, Block.added_by, Block.reason)
    rows = rows.join(MailingList, JOIN.LEFT_OUTER).join(Domain, JOIN.LEFT_OUTER).order_by(Block.pattern, Block.id)
    if the_list:
        rows = rows.where(Block.list.is_null() | (Block.list == the_list.id))
    return [
        {"pattern": pattern, "list": f"{name}@{domain}" if name else None, "since": since, "by": by, "reason": reason}
        for pattern, name, domain, since, by, reason in rows.tuples()
    ]


def _where(the_list: ListView | None) -> Any:
    return Block.list == the_list.id if the_list else Block.list.is_null()


def _require(actor: Actor, the_list: ListView | None) -> None:
    if the_list:
        actor.require_moderator(the_list.id)
    else:
        actor.require_listmaster()
