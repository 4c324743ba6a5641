"""How people come to a list and leave it by their own wish; and those who wait for an owner's approval.

A list's `subscribe` says what it takes: nothing more, a confirmation from the address, an owner's approval, or both. Leaving takes a confirmation
at most. Deciding on somebody who waits removes a row: of two owners who decide at once, the second is told that there is nobody.
"""

from __future__ import annotations

from typing import Any

from . import confirmation, consent, directory, maillog, notice, people, standing
from .address import Address
from .audit import Actor, record
from .command import Command
from .config import Config
from .database import connection, transaction
from .directory import ListView
from .i18n import N_, _
from .models import Account, CommandMail, Domain, MailingList, PendingSubscription, Subscription, Token, iso, now
from .people import Result
from .refusal import NotFound, NotPermitted

DAY = 86400
WAIT = 30 * DAY  # seconds that somebody waits for an owner; then they are told that nobody decided
KEEP = 30 * DAY  # seconds that tokens and answered mails are remembered after they were good for something

# The results that are not `people`'s: what happens next.
ASKED, WAITING = "asked", "waiting"


def join(
    config: Config,
    the_list: ListView,
    address: Address,
    name: str = "",
    *,
    proof: str,
    confirmed: bool = False,
    invited: bool = False,
    quiet: bool = False,
    client: str = "",
    answers: str = "",
) -> Result:
    """Subscribe somebody who wants to be, and has proved the address by `proof`: added, already, blocked, full, asked (to confirm) or waiting.

    `confirmed`: by a key that went to the address. `invited`: an owner wants them. Raises NotPermitted where nobody can subscribe.
    """
    actor = Actor(str(address), address.key)
    with connection():
        known = standing.of(the_list.id, address.key)
        staff = known.owner or known.moderator
        if known.subscriber:
            return Result(str(address), "already")
    way = the_list["subscribe"]
    if way == "closed" and not invited and not known.owner:
        raise NotPermitted(_("{list} is closed to new subscribers; its owners add people: {owners}").format(list=the_list.address, owners=the_list.sub("owner")))
    if known.blocked:
        raise NotPermitted(_("{address} can not be subscribed to {list}; its owners can tell why: {owners}").format(
            address=address, list=the_list.address, owners=the_list.sub("owner")))  # fmt: skip
    with connection():
        people.require_open(config, Actor(""), the_list, False)
    if way in ("confirm", "confirm-owner") and not confirmed:
        command = Command("subscribe", list=the_list.address, name=name, quiet=quiet)
        consent.ask(config, the_list, address, [command], client=client, answers=answers)
        return Result(str(address), ASKED)
    if way in ("owner", "confirm-owner") and not invited and not staff:
        _wait(config, the_list, address, name, proof)
        return Result(str(address), WAITING)
    return people.subscribe(config, actor, the_list, str(address), name, "mail", quiet=quiet, consent=proof, answers=answers)


def invite(config: Config, actor: Actor, the_list: ListView, email: str, name: str = "") -> Result:
    """Ask somebody, for an owner, whether they want to be subscribed: invited, already, or asked lately. Raises BadData, NotPermitted."""
    address = people.read_address(email)
    with connection():
        people.require_open(config, actor, the_list, False)
        if the_list.status != "open":
            raise NotPermitted(_("{list} is not active yet").format(list=the_list.address))
        known = standing.of(the_list.id, address.key)
    if known.subscriber:
        return Result(str(address), "already")
    if known.blocked:
        return Result(str(address), "blocked", people.blocked_by(known.blocked))
    by = actor.name if actor.key else the_list.sub("owner")
    if not consent.invite(config, the_list, address, people.clean_name(name), by, sure=True):
        return Result(str(address), "not-asked", _("they were asked lately, or Postfix did not take it"))
    with transaction():
        record(actor, "member invite", the_list.address, str(address))
    return Result(str(address), "invited")


def leave(
    config: Config, the_list: ListView, address: Address, *, confirmed: bool = False, quiet: bool = False, client: str = "", answers: str = ""
) -> Result:
    """Unsubscribe somebody who wants to leave, and has proved the address: removed, absent or asked. Nothing can keep them."""
    with transaction():
        gone = PendingSubscription.delete().where(PendingSubscription.list == the_list.id, PendingSubscription.key == address.key).execute()
        subscribed = standing.of(the_list.id, address.key).subscriber
    if subscribed and the_list["unsubscribe"] == "confirm" and not confirmed:
        consent.ask(config, the_list, address, [Command("unsubscribe", list=the_list.address, quiet=quiet)], client=client, answers=answers)
        return Result(str(address), ASKED)
    result = people.unsubscribe(config, Actor(str(address), address.key), the_list, str(address), quiet=quiet, answers=answers)
    return Result(str(address), "removed", told=False) if gone and result.result == "absent" else result


def subscriptions(config: Config, key: str) -> list[ListView]:
    """The lists that an address is subscribed to."""
    with connection():
        rows = MailingList.select(MailingList, Domain).join(Domain).switch(MailingList).join(Subscription)
        found = rows.join(Account).where(Account.key == key).order_by(MailingList.name, Domain.name)
        return [directory.view(row, config) for row in found]


# Those who wait for an owner.


def _wait(config: Config, the_list: ListView, address: Address, name: str, proof: str) -> None:
    with transaction():
        values = {"list": the_list.id, "address": str(address), "key": address.key, "name": people.clean_name(name), "consent": proof}
        new = PendingSubscription.insert(**values).on_conflict_ignore().as_rowcount().execute()
        row = PendingSubscription.get(PendingSubscription.list == the_list.id, PendingSubscription.key == address.key)
        owners = people.answerable(the_list.id, "owner") if new else []
        keys = {to: confirmation.make("subscription", the_list.id, people.read_address(to).key, str(row.id), WAIT) for to in owners}
        if new:
            record(Actor(str(address), address.key), "member ask", the_list.address, str(address), after={"consent": proof})
    if not new:
        return
    maillog.event("subscription-waits", list=the_list.address, id=row.id, address=address)
    notice.send_all(
        config, "subscription", owners, the_list, person=row.address, person_name=row.name, number=row.id, expires=row.asked + WAIT,
        each=lambda to: {"reply_to": consent.reply_address(the_list, keys[to])},
    )  # fmt: skip


def waiting(the_list: ListView | None = None) -> list[dict[str, Any]]:
    """Who waits for an owner's approval, the longest first: id, list, email, name, asked, expires, consent. Needs a connection."""
    rows = _rows().order_by(PendingSubscription.id)
    return [_row(row) for row in (rows.where(PendingSubscription.list == the_list.id) if the_list else rows)]


def approve(config: Config, actor: Actor, number: int, *, quiet: bool = False) -> Result:
    """Subscribe somebody who waits. Raises NotFound, NotPermitted."""
    with transaction():
        row, the_list = _decidable(config, actor, number)
        people.require_open(config, actor, the_list, False)
        _remove(row)
        result = people.subscribe(config, actor, the_list, row.address, row.name, "mail", quiet=True, consent=f"{row.consent}; approved by {actor.name}")
        if not result.done:
            raise NotPermitted(f"{row.address}: {result.detail}")
        record(actor, "sub approve", the_list.address, row.address)
    if result.result != "added" or quiet:
        return result
    return Result(result.email, "added", told=notice.send(config, "subscribed", result.email, the_list, actor="", own=True))


def refuse(config: Config, actor: Actor, number: int, reason: str = "", *, quiet: bool = False) -> Result:
    """Refuse somebody who waits, and tell them why. Raises NotFound, NotPermitted."""
    with transaction():
        row, the_list = _decidable(config, actor, number)
        _remove(row)
        record(actor, "sub refuse", the_list.address, row.address, after={"reason": reason})
    told = quiet or notice.send(config, "subscription_refused", row.address, the_list, reason=reason, expired=False)
    return Result(row.address, "refused", told=told)


def _decidable(config: Config, actor: Actor, number: int) -> tuple[Any, ListView]:
    row = _rows().where(PendingSubscription.id == number).first()
    if row is None:
        raise NotFound(_("nobody waits under the number {number} (any more): another owner may have decided").format(number=number))
    actor.require_owner(row.list_id)
    return row, directory.view(row.list, config)


def _remove(row: Any) -> None:
    if not PendingSubscription.delete().where(PendingSubscription.id == row.id).execute():
        raise NotFound(_("somebody else has just decided on {address}").format(address=row.address))


def _rows() -> Any:
    return PendingSubscription.select(PendingSubscription, MailingList, Domain).join(MailingList).join(Domain)


def _row(row: Any) -> dict[str, Any]:
    return {
        "id": row.id,
        "list": f"{row.list.name}@{row.list.domain.name}",
        "email": row.address,
        "name": row.name,
        "asked": iso(row.asked),
        "expires": iso(row.asked + WAIT),
        "consent": row.consent,
    }


# What each result is in words for the person it is about. Those that a notice tells are not said twice.
WORDS = {
    "added": N_("You are subscribed to {list}."),
    "already": N_("You are subscribed to {list} already."),
    "full": N_("{list} has all the subscribers that it may have; its owners can tell more: {owners}"),
    "blocked": N_("You can not be subscribed to {list}; its owners can tell why: {owners}"),
    ASKED: N_("A message was sent to {address}; reply to it to confirm."),
    WAITING: N_("Your request was passed on to the owners of {list}; you will be told what they decide."),
    "removed": N_("You are unsubscribed from {list}."),
    "absent": N_("{address} is not subscribed to {list}."),
}


def words(result: Result, the_list: ListView) -> str:
    """A result, for the person."""
    return _(WORDS[result.result]).format(list=the_list.address, address=result.email, owners=the_list.sub("owner"))


# What time brings.


def maintain(config: Config) -> dict[str, int]:
    """Those who waited too long are told so; what is remembered for nothing is forgotten. Returns counts."""
    with connection():
        late = list(_rows().where(PendingSubscription.asked < now() - WAIT))
    for row in late:
        with transaction():
            gone = PendingSubscription.delete().where(PendingSubscription.id == row.id).execute()
            the_list = directory.view(row.list, config)
        if gone:
            notice.send(config, "subscription_refused", row.address, the_list, reason="", expired=True)
    with transaction():
        tokens = Token.delete().where(Token.expires < now() - KEEP).execute()
        mails = CommandMail.delete().where(CommandMail.received < now() - KEEP).execute()
    return {"subscriptions_expired": len(late), "tokens_forgotten": tokens, "mails_forgotten": mails}
