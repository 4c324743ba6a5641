"""Subscribers whose mail comes back: what is due for them, once a day and list by list (see `kelou.score` for the steps).

Before anybody is suspended or removed they get one mail of their own, whose return-path nobody can forge: if that comes back too, it is so; if it does
not within a week, the mailbox is well. Owners are told in one notice of all that happened. Where many fail at once, nobody is touched and the
listmasters are told: that is a receiver's trouble, or ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from peewee import JOIN, fn

from . import audit, bounce, directory, maillog, notice, people, returnpath, secret
from .audit import Actor
from .config import Config
from .database import connection, rehearsing, transaction
from .diagnosis import judge
from .directory import ListView
from .i18n import known
from .models import Account, Audit, Bounce, MailingList, Post, Subscription, now
from .score import DAY, MEMORY, PATIENCE, WEIGHT, Limits, Score, brake, step
from .submission import Connection, Unavailable

BY = Actor("kelou maintain")
OFTEN = 20 * 3600  # seconds between two looks at a list
WEEK = 7 * DAY


@dataclass(slots=True)
class _Case:
    """One subscriber, and what is due."""

    held: Any
    score: Score
    state: str
    due: str

    @property
    def address(self) -> str:
        return str(self.held.account.address)


def maintain(config: Config) -> dict[str, int]:
    """Look after every list whose day it is. Returns counts."""
    counts = {f"bounces_{name}": 0 for name in ("told", "probed", "suspended", "removed", "resumed", "held_back", "forgotten")}
    with transaction():
        counts["bounces_forgotten"] = Bounce.delete().where(Bounce.sent < now() - MEMORY).execute()
    with connection():
        due = MailingList.bounces_checked.is_null() | (MailingList.bounces_checked < now() - OFTEN)
        lists = [number for (number,) in MailingList.select(MailingList.id).where(MailingList.status == "open", due).tuples()]
    for number in lists:
        with connection():
            row = directory.by_id(number)
            view = directory.view(row, config) if row else None
        if view and look_after(config, view, counts):
            with transaction():
                MailingList.update(bounces_checked=now()).where(MailingList.id == number).execute()
    return counts


def look_after(config: Config, the_list: ListView, counts: dict[str, int]) -> bool:
    """Do what is due for the subscribers of one list, and tell who has to know. False if Postfix does not answer: the rest is done at the next look."""
    limits = Limits(the_list["bounce_tell"], the_list["bounce_stop"], the_list["bounce_action"], the_list["bounce_keep"])
    with connection():
        cases = _cases(the_list, limits)
        held_back = _held_back(the_list, cases)
    done: dict[str, list[dict[str, Any]]] = {}
    answers = True
    for case in cases:
        if case.held.id in held_back and case.due in ("probe", "suspend", "remove"):
            continue
        if not case.due or (case.due == "probe" and not answers):
            continue
        try:
            mine = _do(config, the_list, case)
        except Unavailable as error:
            answers = mine = False
            maillog.problem("unavailable", list=the_list.address, to=case.address, reason=error)
        if mine:
            done.setdefault(case.due, []).append({"email": case.address, "score": case.score.value, "why": _last(case)})
    for due, name in (("tell", "told"), ("probe", "probed"), ("suspend", "suspended"), ("remove", "removed"), ("resume", "resumed")):
        counts[f"bounces_{name}"] += len(done.get(due, ()))
    counts["bounces_held_back"] += len(held_back)
    _tell(config, the_list, done, limits)
    if held_back:
        _alarm(config, the_list, [case for case in cases if case.held.id in held_back])
    return answers


def _cases(the_list: ListView, limits: Limits) -> list[_Case]:
    """Those whose mail came back, or who are on their way, with their scores brought up to date."""
    scores = bounce.scores(the_list.id)
    query = Subscription.select(Subscription, Account).join(Account).where(Subscription.list == the_list.id, Subscription.mode != "nomail")
    on_the_way = (Subscription.failing != "") | (Subscription.mode == "suspended") | Subscription.bounce_score.is_null(False)
    rows = {held.account_id: held for held in query.where(on_the_way)}
    others = [account for account in scores if account not in rows]
    for start in range(0, len(others), 1000):
        rows |= {held.account_id: held for held in query.where(Subscription.account.in_(others[start : start + 1000]))}
    cases = []
    for account, held in sorted(rows.items()):
        found = scores.get(account, Score(None))
        if held.bounce_score != found.value:
            Subscription.update(bounce_score=found.value).where(Subscription.id == held.id).execute()
        state = bounce.state(held.mode, held.failing).replace("watched", "")
        answered = state in ("probed", "leaving") and _answered(held)
        cases.append(_Case(held, found, state, step(state, held.failing_since, found, answered, limits, now())))
    return cases


def _answered(held: Any) -> bool:
    """Whether the mail they were probed with, or a post sent since, came back in a way that nobody can forge."""
    notes = Bounce.select().join(Post, JOIN.LEFT_OUTER).where(Bounce.list == held.list_id, Bounce.account == held.account_id)
    notes = notes.where(Bounce.kind.in_(list(WEIGHT)), Bounce.proof != "quoted", Bounce.received >= held.failing_since)
    probe = Bounce.post.is_null() & (Bounce.sent >= held.failing_since // DAY * DAY)
    return bool(notes.where(probe | (Post.received > held.failing_since)).exists())


def _held_back(the_list: ListView, cases: list[_Case]) -> set[int]:
    """Those for whom nothing is done, because too many fail at once: together with those who were probed or suspended lately."""
    lately = [case for case in cases if case.state in ("probed", "suspended", "leaving") and case.held.failing_since > now() - PATIENCE]
    failing = {case.held.id: (case.held.account.domain, now() - case.score.first) for case in (*lately, *cases) if case in lately or case.due == "probe"}
    if not failing:
        return set()
    totals = Subscription.select(Account.domain, fn.COUNT(Subscription.id)).join(Account).where(Subscription.list == the_list.id, Subscription.mode != "nomail")
    subscribers = dict(totals.group_by(Account.domain).tuples())
    held = brake(failing, subscribers, the_list["bounce_brake"])
    return {case.held.id for case in cases if case.held.id in held and case.due in ("probe", "suspend", "remove") and case.state in ("", "told", "probed")}


# What is done.


def _do(config: Config, the_list: ListView, case: _Case) -> bool:
    """Take one step; False if somebody else did, or Postfix does not take the mail. Raises Unavailable."""
    begun = now()
    if case.due == "probe" and not _probe(config, the_list, case):
        return False
    if case.due == "remove":
        return people.unsubscribe(config, BY, the_list, case.address, quiet=True).result == "removed"
    held = case.held
    with transaction():
        ours = Subscription.select().where(Subscription.id == held.id, Subscription.mode == held.mode, Subscription.failing == held.failing)
        if not ours.exists():
            return False
        if case.due == "resume":
            bounce.well(held)
        else:
            values = {"tell": {"failing": "told"}, "forget": {"failing": ""}, "probe": {"failing": "probed"}, "suspend": {"mode": "suspended", "failing": ""}}
            Subscription.update(failing_since=begun, **values[case.due]).where(Subscription.id == held.id).execute()
        if case.due in ("suspend", "resume"):
            before = {"score": case.score.value, "state": case.state or "watched"}
            audit.record(BY, f"member {case.due}", the_list.address, case.address, before=before)
    maillog.event(f"bounce-{case.due}", list=the_list.address, to=case.address, score=case.score.value)
    return True


def _probe(config: Config, the_list: ListView, case: _Case) -> bool:
    """Send the one mail that decides. What Postfix refuses outright is an answer, too. Raises Unavailable."""
    if rehearsing():
        return True
    account, sealed = case.held.account, secret.load(config)
    to = f"{account.address.rpartition('@')[0]}@{account.domain}"
    sender = the_list.sub("bounces", returnpath.make(sealed, returnpath.BOUNCES, the_list.id, case.held.id, now()))
    language = known(account.language or the_list["language"])
    with connection():
        content = notice.write(config, sealed, "bounce_probe", account.address, the_list, language, name=account.name, why=_last(case))
    with Connection(config["postfix.reinjection"]) as postfix:
        outcome = postfix.submit(sender, [to], content)
    refusal = outcome.refused.get(0)
    if refusal:
        with transaction():
            kind = judge(refusal.status, refusal.text)
            Bounce.create(list=the_list.id, account=account, kind=kind, status=refusal.status, detail=str(refusal))
    return bool(outcome.taken or refusal)


def _last(case: _Case) -> str:
    """What the receiver said last."""
    with connection():
        notes = Bounce.select(Bounce.status, Bounce.detail).where(Bounce.list == case.held.list_id, Bounce.account == case.held.account_id)
        row = notes.where(Bounce.kind.in_(list(WEIGHT))).order_by(Bounce.sent.desc()).tuples().first()
    return " ".join(filter(None, row)) if row else ""


# Who is told.


def _tell(config: Config, the_list: ListView, done: dict[str, list[dict[str, Any]]], limits: Limits) -> None:
    """One notice to the owners of all that happened to their subscribers today."""
    shown: dict[str, Any] = {name: done.get(due, []) for due, name in (("tell", "told"), ("suspend", "suspended"), ("remove", "removed"), ("resume", "resumed"))}
    if any(shown.values()):
        with connection():
            owners = people.answerable(the_list.id, "owner")
        notice.send_all(config, "bounces", owners, the_list, keep=limits.keep // DAY, **shown)


def _alarm(config: Config, the_list: ListView, cases: list[_Case]) -> None:
    """The listmasters are told of a brake, once a week."""
    with transaction():
        lately = Audit.select().where(Audit.action == "bounce brake", Audit.list == the_list.address, Audit.at > now() - WEEK)
        if lately.exists():
            return
        audit.record(BY, "bounce brake", the_list.address, after={"held_back": len(cases)})
        masters = [row["email"] for row in people.listmasters()]
    maillog.problem("bounce-brake", list=the_list.address, held_back=len(cases))
    failing = [{"email": case.address, "score": case.score.value, "why": _last(case)} for case in cases]
    notice.send_all(config, "bounces_held", masters, the_list, failing=failing[:50], number=len(failing))
