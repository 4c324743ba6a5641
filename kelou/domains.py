"""List domains: the domains that lists live in, and the verbs on them."""

from __future__ import annotations

from typing import Any

from peewee import JOIN, fn

from . import audit
from .address import AddressError, host
from .audit import Actor
from .database import transaction
from .i18n import _, ngettext
from .models import Domain, MailingList, OldName
from .refusal import BadData, NotFound, NotPermitted


def name_of(text: str) -> str:
    """A domain as it is kept: A-labels, lower case. Raises BadData."""
    try:
        return host(text.strip())
    except AddressError as error:
        raise BadData(_("{domain}: {reason}").format(domain=text, reason=_(str(error)))) from error


def find(text: str) -> Domain:
    """The row of a domain that is served. Raises NotFound, BadData."""
    row: Domain | None = Domain.get_or_none(Domain.name == name_of(text))
    if row is None:
        raise NotFound(_("{domain} is not served; add it with: kelou domain add {domain}").format(domain=text))
    return row


def add(actor: Actor, text: str) -> bool:
    """Serve a domain; False if it is served already."""
    with transaction():
        actor.require_listmaster()
        name = name_of(text)
        if Domain.get_or_none(Domain.name == name):
            return False
        Domain.create(name=name)
        audit.record(actor, "domain add", object=name)
        return True


def remove(actor: Actor, text: str) -> bool:
    """Serve a domain no more; False if it is not served. Raises NotPermitted while it has lists."""
    with transaction():
        actor.require_listmaster()
        row: Domain | None = Domain.get_or_none(Domain.name == name_of(text))
        if row is None:
            return False
        count = MailingList.select().where(MailingList.domain == row).count()
        if count:
            said = ngettext("{domain} has {number} list; purge it first", "{domain} has {number} lists; purge them first", count)
            raise NotPermitted(said.format(domain=row.name, number=count))
        OldName.delete().where(OldName.domain == row).execute()
        row.delete_instance()
        audit.record(actor, "domain remove", object=row.name)
        return True


def domains() -> list[dict[str, Any]]:
    """The domains by name: domain, lists, since (in seconds)."""
    rows = (
        Domain.select(Domain.name, Domain.created, fn.COUNT(MailingList.id))
        .join(MailingList, JOIN.LEFT_OUTER)
        .group_by(Domain.id, Domain.name, Domain.created)
        .order_by(Domain.name)
    )
    return [{"domain": name, "lists": lists, "since": created} for name, created, lists in rows.tuples()]
