"""Bounces: whose a report is, and how far it is believed. A report that nobody can be sure of counts nothing.

    token    `LIST-bounces+TOKEN@`: the token is ours and names the subscription. Personal copies and every mail that decides have it.
    quoted   `LIST-bounces@` and `LIST-bounces+user=domain@` (XVERP), which anybody can write to: the address that the report names, if it quotes
             the Message-ID of a post that this list sent in the last thirty days, to somebody who was subscribed then.

The second is weak: whoever received a post knows its Message-ID, and can say that another's copy came back. What they gain is that the other is
sent one mail to see: only that mail's own token suspends or removes anybody (see `kelou.failing`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from peewee import fn

from . import directory, maillog, notice, people, report, returnpath
from .address import AddressError, parse
from .audit import Actor, record
from .config import Config
from .database import connection, transaction
from .directory import ListView
from .i18n import _
from .models import Account, Bounce, Domain, MailingList, Post, Subscription, iso, now
from .people import read_address
from .refusal import NotFound
from .report import KINDS, Entry, Report
from .returnpath import BOUNCES, LEAVE, Mark
from .score import DAY, MEMORY, WEIGHT, Failure, Score, score
from .secret import Secret

OLDEST = 30  # days between a mail and a report of it that still says something
_LATE = 7 * DAY  # a token may be younger than its post: distribution goes on for as long as Postfix tries
COMPLAINT = 120  # days until a complaint about an old copy is too late
KEPT = frozenset({"hard", "soft", "full", "policy", "unknown"})  # kinds of failures that are noted; not all of them count


@dataclass(frozen=True, slots=True)
class _Failed:
    """Somebody's mail that came back."""

    list: int
    account: int
    address: str
    proof: str
    sent: int
    post: int | None
    entry: Entry


# What comes in.


def take(config: Config, secret: Secret, the_list: ListView | None, token: str, content: bytes, queue_id: str) -> None:
    """Take what came to a bounce address: note the failures that are proved, act on a complaint. Never refuses: who sends reports gets none."""
    found = report.read(content)
    where = the_list.address if the_list else ""
    values = {"list": where, "kind": found.kind, "queue_id": queue_id, "message_id": found.message_id}
    if found.kind == "complaint":
        complain(config, secret, the_list, token, content, found, queue_id)
        return
    noted = [failed for failed in _failed(secret, the_list, token, found) if failed.entry.kind in KEPT]
    for failed in noted:
        _note(failed)
        maillog.event("bounce", **values | {"kind": failed.entry.kind}, to=failed.address, status=failed.entry.status, proof=failed.proof)
    if not noted:
        maillog.event("bounce-ignored", **values, recipient=next((entry.recipient for entry in found.entries), ""))


def _failed(secret: Secret, the_list: ListView | None, token: str, found: Report) -> Iterator[_Failed]:
    mark = returnpath.read(secret, BOUNCES, token) if token else None
    if mark:
        yield from _by_token(mark, the_list, found)
    elif the_list and (not token or "=" in token):  # else a key that is none of ours
        yield from _by_quotation(the_list, token, found)


def _by_token(mark: Mark, the_list: ListView | None, found: Report) -> Iterator[_Failed]:
    """The token says whose it is and when the mail was sent, whatever the report says: replayed, it is the same failure again."""
    held = _subscribed(mark)
    if held is None or not found.entries or not -1 <= mark.age(now()) <= OLDEST or (the_list and the_list.id != mark.list):
        return
    begin, end = mark.day * DAY, (mark.day + 1) * DAY
    posts = Post.select(Post.id, Post.received).where(Post.list == mark.list, Post.message_id == found.message_id, Post.received < end)
    post = posts.where(Post.received >= begin - _LATE).tuples().first() if found.message_id else None
    sent = post[1] if post else min(now(), end - 1)
    entry = max(found.entries, key=lambda entry: KINDS.index(entry.kind)) if found.kind in KEPT else found.entries[0]
    yield _Failed(mark.list, held.account_id, held.account.address, "token", sent, post[0] if post else None, entry)


def _by_quotation(the_list: ListView, token: str, found: Report) -> Iterator[_Failed]:
    post = _quoted(the_list, found)
    if post is None:
        return
    number, sent = post
    local, equals, domain = token.rpartition("=")
    entries = [Entry(f"{local}@{domain}", e.status, e.action, e.kind, e.diagnostic) for e in found.entries[:1]] if equals else list(found.entries)
    for entry in entries:
        held = _subscriber(the_list, entry.recipient)
        if held and held.since <= sent:
            yield _Failed(the_list.id, held.account_id, held.account.address, "quoted", sent, number, entry)


def _quoted(the_list: ListView, found: Report) -> tuple[int, int] | None:
    """The post of this list that a report quotes, and when it was sent."""
    recent = Post.select(Post.id, Post.received).where(
        Post.list == the_list.id, Post.message_id == found.message_id, Post.received > now() - OLDEST * DAY
    )
    row: tuple[int, int] | None = recent.tuples().first() if found.message_id else None
    return row


def _subscribed(mark: Mark) -> Any:
    query = Subscription.select(Subscription, Account).join(Account)
    return query.where(Subscription.id == mark.subscription, Subscription.list == mark.list).first()


def _subscriber(the_list: ListView, address: str) -> Any:
    try:
        key = parse(address).key
    except AddressError:
        return None
    return Subscription.select(Subscription, Account).join(Account).where(Subscription.list == the_list.id, Account.key == key).first()


def _note(failed: _Failed) -> None:
    """Note a failure once, however often it is reported; a worse or a better proved report of it takes the place of the first."""
    with transaction():
        day = failed.sent // DAY * DAY
        same = Bounce.post == failed.post if failed.post else Bounce.post.is_null() & (Bounce.sent >= day) & (Bounce.sent < day + DAY)
        known = Bounce.get_or_none(Bounce.list == failed.list, Bounce.account == failed.account, same)
        values = {"kind": failed.entry.kind, "status": failed.entry.status, "detail": failed.entry.diagnostic, "proof": failed.proof}
        if known is None:
            Bounce.create(list=failed.list, account=failed.account, post=failed.post, sent=failed.sent, received=now(), **values)
        elif (KINDS.index(failed.entry.kind), failed.proof == "quoted") < (KINDS.index(known.kind), known.proof == "quoted"):
            Bounce.update(received=now(), **values).where(Bounce.id == known.id).execute()
    refresh(failed.list, failed.account)


# Complaints.

_TOKENS = re.compile(rb"(bounces|leave)(?:\+|%2b)([a-z2-7]{28})(?:@|%40)", re.IGNORECASE)


def complain(config: Config, secret: Secret, the_list: ListView | None, token: str, content: bytes, found: Report, queue_id: str) -> bool:
    """Somebody calls a post spam (RFC 5965): they are unsubscribed, if a token of theirs says who they are, and the owners told. Else only told."""
    mark = _complainant(secret, token, content)
    row = directory.by_id(mark.list) if mark else None
    held = _subscribed(mark) if mark else None
    if row and held:
        view = directory.view(row, config)
        result = people.unsubscribe(config, Actor("complaint"), view, held.account.address, quiet=True)
        maillog.event("complaint", list=view.address, to=held.account.address, result=result.result, queue_id=queue_id)
        _tell_owners(config, view, held.account.address, removed=True)
        return True
    if the_list and _quoted(the_list, found):
        for failed in _by_quotation(the_list, "", found):
            if not Bounce.select().where(Bounce.list == failed.list, Bounce.account == failed.account, Bounce.post == failed.post).exists():
                _note(failed)
                _tell_owners(config, the_list, failed.address, removed=False)
    maillog.event("complaint", list=the_list.address if the_list else "", to=next((e.recipient for e in found.entries), ""), result="not proved", queue_id=queue_id)
    return False


def _complainant(secret: Secret, token: str, content: bytes) -> Mark | None:
    """Whose copy it was: by the token of the address that the report came to, or one in the copy itself (its return-path, its List-Unsubscribe)."""
    written = [(BOUNCES, token)] if token else []
    written += [(m[1].decode().lower(), m[2].decode()) for m, _n in zip(_TOKENS.finditer(content), range(50), strict=False)]
    marks = (returnpath.read(secret, BOUNCES if purpose == "bounces" else LEAVE, text) for purpose, text in written)
    return next((mark for mark in marks if mark and -1 <= mark.age(now()) <= COMPLAINT), None)


def _tell_owners(config: Config, the_list: ListView, address: str, *, removed: bool) -> None:
    with connection():
        owners = people.answerable(the_list.id, "owner")
    notice.send_all(config, "complaint", owners, the_list, email=address, removed=removed)


# Scores.


def scores(list_id: int, account: int | None = None) -> dict[int, Score]:
    """The scores of a list's subscribers, by account: of those only whose mail came back. Needs a connection."""
    posts = [at for (at,) in Post.select(Post.received).where(Post.list == list_id, Post.received > now() - MEMORY).order_by(Post.received).tuples()]
    rows = (
        Bounce.select(Bounce.account, Bounce.sent, Bounce.kind, Subscription.since, Subscription.reachable)
        .join(Subscription, on=(Subscription.list == Bounce.list) & (Subscription.account == Bounce.account))
        .where(Bounce.list == list_id, Bounce.kind.in_(list(WEIGHT)), Bounce.sent > now() - MEMORY)
        .where(Bounce.sent >= Subscription.since, Bounce.sent >= Subscription.reachable)
        .order_by(Bounce.sent)
    )
    failures: dict[int, list[Failure]] = {}
    begun: dict[int, int] = {}
    for number, sent, kind, since, reachable in (rows.where(Bounce.account == account) if account else rows).tuples():
        failures.setdefault(number, []).append(Failure(sent, kind))
        begun[number] = max(since, reachable)
    return {number: score(some, [at for at in posts if at >= begun[number]], now()) for number, some in failures.items()}


def refresh(list_id: int, account: int) -> None:
    """Bring the score that the list of subscribers shows up to date."""
    with transaction():
        value = scores(list_id, account).get(account, Score(None)).value
        Subscription.update(bounce_score=value).where(Subscription.list == list_id, Subscription.account == account).execute()


# What is shown, and forgotten.

# How the state of a subscriber is told to people.
STATES = ("watched", "told", "probed", "suspended", "leaving")


def state(mode: str, failing: str) -> str:
    """Where a subscriber is on the way of `kelou.score`."""
    if mode == "suspended":
        return "leaving" if failing == "probed" else "suspended"
    return failing or "watched"


def failing(the_list: ListView | None = None, key: str = "") -> list[dict[str, Any]]:
    """Whose mail comes back, on a list or all, as `--json` shows it: email, list, score, state, why. Needs a connection."""
    bounced = Bounce.select(Bounce.id).where(Bounce.list == Subscription.list, Bounce.account == Subscription.account)
    bounced = bounced.where(Bounce.sent >= Subscription.reachable, Bounce.sent >= Subscription.since)
    query = (
        Subscription.select(Subscription.list, Subscription.account, Subscription.mode, Subscription.failing, Account.address, MailingList.name, Domain.name)
        .join(Account)
        .switch(Subscription)
        .join(MailingList)
        .join(Domain)
        .where((Subscription.failing != "") | (Subscription.mode == "suspended") | fn.EXISTS(bounced))
        .order_by(MailingList.id, Account.key)
    )
    if the_list:
        query = query.where(Subscription.list == the_list.id)
    if key:
        query = query.where(Account.key == key)
    rows: list[dict[str, Any]] = []
    known: dict[int, dict[int, Score]] = {}
    for list_id, account, mode, how, email, name, domain in query.tuples():
        if list_id not in known:
            known[list_id] = scores(list_id)
        found = known[list_id].get(account, Score(None))
        rows.append({"email": email, "list": f"{name}@{domain}", "score": found.value, "state": state(mode, how), "why": found.why})
    return rows


def show(address: str) -> list[dict[str, Any]]:
    """One subscriber's scores, with every failure there is a note of. Raises NotFound, BadData."""
    parsed = read_address(address)
    with connection():
        rows = failing(key=parsed.key)
        for row in rows:
            name, _at, domain = row["list"].rpartition("@")
            notes = Bounce.select(Bounce.sent, Bounce.received, Bounce.kind, Bounce.status, Bounce.proof, Bounce.detail).join(Account).switch(Bounce)
            notes = notes.join(MailingList).join(Domain).where(Account.key == parsed.key, MailingList.name == name, Domain.name == domain)
            keys = ("sent", "received", "kind", "status", "proof", "detail")
            failures = [dict(zip(keys, values, strict=True)) for values in notes.order_by(Bounce.sent).tuples()]
            row["failures"] = [f | {"sent": iso(f["sent"]), "received": iso(f["received"]), "counts": f["kind"] in WEIGHT} for f in failures]
        if not rows and not Account.select().where(Account.key == parsed.key).exists():
            raise NotFound(_("nobody has the address {address}").format(address=parsed))
    return rows


def reset(actor: Actor, address: str) -> list[dict[str, Any]]:
    """Forget a subscriber's failures, on all lists that the actor owns; who was suspended receives again. Raises NotFound, NotPermitted."""
    parsed = read_address(address)
    with transaction():
        rows = failing(key=parsed.key)
        if not rows and not Account.select().where(Account.key == parsed.key).exists():
            raise NotFound(_("nobody has the address {address}").format(address=parsed))
        for row in rows:
            held = (
                Subscription.select(Subscription, Account, MailingList, Domain)
                .join(Account)
                .switch(Subscription)
                .join(MailingList)
                .join(Domain)
                .where(Account.key == parsed.key, MailingList.name == row["list"].rpartition("@")[0], Domain.name == row["list"].rpartition("@")[2])
                .get()
            )
            actor.require_owner(held.list_id)
            Bounce.delete().where(Bounce.list == held.list_id, Bounce.account == held.account_id).execute()
            well(held)
            record(actor, "bounce reset", row["list"], row["email"], before={"score": row["score"], "state": row["state"]})
    return rows


def well(held: Any) -> None:
    """A subscriber's mailbox is known to be well: what failed before says nothing any more. Call in a transaction."""
    mode = "mail" if held.mode == "suspended" else held.mode
    values = {"mode": mode, "failing": "", "failing_since": now(), "reachable": now(), "bounce_score": None}
    Subscription.update(**values).where(Subscription.id == held.id).execute()
