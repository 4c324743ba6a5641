"""Moderation: posts that wait for a person, as rows with their exact bytes. What is approved is what was held, found by our own id.

    held -> approved | rejected | discarded | expired

Each arrow is one guarded UPDATE: of two moderators who act in the same second one decides, and the other is told who did. An approval is
committed and then sent to ourselves as a tiny message (`trigger`), so that Postfix's queue is the queue of distributions here too; the LMTP
handler answers it when all copies are out. `kelou maintain` sends a trigger again where Postfix was down.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from . import audit, confirmation, directory, distribution, htmltext, maillog, mime, notice, people, policy, secret
from .audit import Actor
from .config import Config
from .database import connection, transaction
from .directory import ListView
from .i18n import N_, _
from .message import CRLF, Message, field
from .models import Block, Domain, Guest, HeldPost, MailingList, Post, Subscription, Token, iso, now
from .policy import Decision, Facts
from .reading import Reading, read
from .refusal import NotFound, TryAgain
from .submission import Connection, Unavailable

HOUR = 3600
BUSY = 20  # notices of held posts to one list's moderators in an hour; a flood of forged posts is told once, later
ASKED = 3  # confirmations that one address is asked for in a day, on all lists
ATTACHED = 1024**2  # octets of a post that goes with its notice
REMIND = 3 * 86400  # seconds before it expires that a held post's moderators are reminded

# How each state is told to people.
WORDS = {
    "held": N_("held"),
    "approved": N_("approved"),
    "rejected": N_("rejected"),
    "discarded": N_("discarded"),
    "expired": N_("expired"),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a held post; `changed` is False if it had been decided before, by `by`."""

    number: int
    state: str
    by: str
    at: int
    changed: bool


# Holding.


def known(list_id: int, digest: str) -> bool:
    """Whether this delivery was held before, whatever became of it. Needs a connection."""
    return bool(HeldPost.select(HeldPost.id).where(HeldPost.list == list_id, HeldPost.digest == digest).exists())


def hold(facts: Facts, decision: Decision, content: bytes, digest: str, queue_id: str) -> int:
    """Keep a post for the moderators, committed when this returns; its id. Doing it twice does it once."""
    reading = facts.reading
    with transaction():
        HeldPost.insert(
            list=facts.list.id,
            digest=digest,
            content=content,
            reverse_path=facts.reverse_path,
            message_id=reading.message_id if reading else "",
            queue_id=queue_id,
            author=reading.author_key if reading else "",
            authenticated=facts.author.address if facts.proved else "",
            subject=reading.subject if reading else "",
            size=len(content),
            rule=decision.rule,
            detail=decision.detail,
            expires=now() + facts.list["held_for"],
        ).on_conflict_ignore().execute()
        number: int = HeldPost.get(HeldPost.list == facts.list.id, HeldPost.digest == digest).id
    maillog.event("held", list=facts.list.address, id=number, rule=decision.rule, queue_id=queue_id, message_id=reading.message_id if reading else "")
    return number


def tell(config: Config, facts: Facts, decision: Decision, number: int) -> None:
    """Tell of a post that was just held: its moderators, and an authenticated author; or ask an author who is not to confirm it.

    What can not be told now is told by `maintain`; nothing is lost by it, so nothing is raised.
    """
    if decision.confirm:
        _ask_author(config, facts, number)
        return
    if facts.proved and facts.reading and not facts.reading.automatic:
        notice.send(config, "held_author", facts.author.address, facts.list, **_shown(config, number))
    if facts.list["held_notices"] == "each":
        tell_moderators(config, facts.list, number)


def tell_moderators(config: Config, the_list: ListView, number: int) -> bool:
    """The notice of one held post, with the post attached and a key for each moderator; False if it is left for later."""
    with connection():
        lately = HeldPost.select().where(HeldPost.list == the_list.id, HeldPost.noticed > now() - HOUR).count()
        held = HeldPost.get_or_none(HeldPost.id == number, HeldPost.state == "held")
    if held is None or lately >= BUSY:
        return held is None
    return _send_held(config, "held", the_list, [held], held.content)


def _send_held(config: Config, template: str, the_list: ListView, posts: list[Any], attached: bytes | None) -> bool:
    """A notice to all who moderate, each with their own keys; notes on the posts that they were told."""
    with transaction():
        them = people.answerable(the_list.id, "moderator")
        keys = {to: {held.id: _key(the_list, held, to) for held in posts} for to in them}
    untold = notice.send_all(
        config,
        template,
        them,
        the_list,
        each=lambda to: {
            "posts": [_described(held, the_list, keys[to][held.id]) for held in posts],
            "reply_to": the_list.sub("confirm", keys[to][posts[0].id]) if len(posts) == 1 else "",
        },
        attached=None if attached is None else _attachment(attached),
    )
    if len(untold) == len(them):
        return False
    with transaction():
        HeldPost.update(noticed=now()).where(HeldPost.id.in_([held.id for held in posts])).execute()
    return True


def _attachment(content: bytes) -> bytes:
    """The post as it came in, without what our milter wrote into it; of a large one, its header and a word that the rest is elsewhere."""
    message = Message.parse(content).without(("kelou-",))
    if len(content) <= ATTACHED:
        return bytes(message)
    head = message.without(("content-", "mime-version"))
    text = _("(This post has {size} octets; kelou mod show has the rest.)").format(size=len(content))
    return bytes(head.with_body(text.encode("ascii", "replace") + CRLF))


def _key(the_list: ListView, held: Any, to: str) -> str:
    return confirmation.make("moderate", the_list.id, people.read_address(to).key, str(held.id), max(HOUR, (held.expires or 0) - now()))


def _described(held: Any, the_list: ListView, key: str) -> dict[str, Any]:
    return {
        "number": held.id,
        "author": held.author,
        "proved": bool(held.authenticated),
        "subject": held.subject[:200],
        "received": held.received,
        "expires": held.expires,
        "rule": held.rule,
        "why": lambda: policy.explain(held.rule, the_list, held.detail),
        "size": held.size,
        "reply": the_list.sub("confirm", key),
    }


def _shown(config: Config, number: int) -> dict[str, Any]:
    with connection():
        held = find(number)
        return {"post": _described(held, directory.view(held.list, config), ""), "answers": held.message_id}


def _ask_author(config: Config, facts: Facts, number: int) -> None:
    """The confirmation that makes up for a missing signature; capped, because whoever forged the post chose who is asked."""
    key = facts.reading.author_key if facts.reading else ""
    with transaction():
        asked = Token.select().where(Token.action == "author", Token.address == key, Token.created > now() - 24 * HOUR).count()
        lately = Token.select().where(Token.action == "author", Token.list == facts.list.id, Token.created > now() - HOUR).count()
        if not key or asked >= ASKED or lately >= BUSY:
            maillog.event("not-asked", list=facts.list.address, id=number)
            return
        token = confirmation.make("author", facts.list.id, key, str(number), facts.list["held_for"])
    notice.send(config, "confirm_author", key, facts.list, reply_to=facts.list.sub("confirm", token), **_shown(config, number))


# Looking.


def waiting(the_list: ListView | None = None) -> list[dict[str, Any]]:
    """Held posts, the oldest first: id, list, author, authenticated, subject, rule, received, expires, size."""
    rows = _rows().where(HeldPost.state == "held").order_by(HeldPost.received, HeldPost.id)
    return [_row(held) for held in (rows.where(HeldPost.list == the_list.id) if the_list else rows)]


def find(number: int) -> Any:
    """The row of a held post, decided or not. Raises NotFound."""
    held = _rows(HeldPost.content).where(HeldPost.id == number).first()
    if held is None:
        raise NotFound(_("there is no held post {number}; kelou mod list shows those there are").format(number=number))
    return held


def describe(number: int) -> dict[str, Any]:
    """All about a held post but its bytes."""
    held = find(number)
    row = _row(held) | {"state": held.state, "detail": held.detail, "message_id": held.message_id, "queue_id": held.queue_id}
    return row | {"reverse_path": held.reverse_path, "decided": iso(held.decided), "decided_by": held.decided_by, "reason": held.reason}


def _rows(*more: Any) -> Any:
    # Their bytes are not read to name them.
    fields = [column for name, column in HeldPost._meta.fields.items() if name != "content"]
    return HeldPost.select(*fields, *more, MailingList, Domain).join(MailingList).join(Domain)


def _row(held: Any) -> dict[str, Any]:
    return {
        "id": held.id,
        "list": f"{held.list.name}@{held.list.domain.name}",
        "author": held.author,
        "authenticated": bool(held.authenticated),
        "subject": held.subject,
        "rule": held.rule,
        "received": iso(held.received),
        "expires": iso(held.expires),
        "size": held.size,
    }


# Deciding.


def approve(config: Config, actor: Actor, number: int, *, allow_author: bool = False) -> Outcome:
    """Distribute a held post: exactly the bytes that were held, once. Raises NotFound, NotPermitted; TryAgain where Postfix is down.

    `allow_author`: what its author writes to this list from now on is not held.
    """
    outcome = _decide(config, actor, number, "approved", then=lambda held: _allow(actor, held) if allow_author else None)
    if outcome.state == "approved":
        trigger(config, number)
    return outcome


def reject(config: Config, actor: Actor, number: int, reason: str = "") -> Outcome:
    """Refuse a held post; its author is told, with the reason, if authenticated."""
    return _decide(config, actor, number, "rejected", reason)


def discard(config: Config, actor: Actor, number: int, *, block_author: bool = False) -> Outcome:
    """Drop a held post; its author is told nothing. `block_author` puts the author on the list's block list."""
    return _decide(config, actor, number, "discarded", then=lambda held: _block(actor, held) if block_author else None)


def _decide(config: Config, actor: Actor, number: int, state: str, reason: str = "", then: Any = None) -> Outcome:
    with transaction():
        held = find(number)
        actor.require_moderator(held.list_id)
        the_list = directory.view(held.list, config)
        if not _turn(held, state, actor.name, reason):
            held = find(number)
            return Outcome(number, held.state, held.decided_by, held.decided or 0, False)
        if then:
            then(held)
        audit.record(actor, f"mod {state}", the_list.address, str(number), before="held", after={"state": state, "reason": reason})
    maillog.event(state, list=the_list.address, id=number, by=actor.name, message_id=held.message_id, queue_id=held.queue_id)
    _tell_decided(config, the_list, held, state, actor, reason)
    return Outcome(number, state, actor.name, now(), True)


def _turn(held: Any, state: str, by: str, reason: str = "") -> bool:
    """The guarded UPDATE. An approved post keeps its bytes until they are out, the others need them no more."""
    values: dict[str, Any] = {"state": state, "decided": now(), "decided_by": by, "reason": reason}
    if state != "approved":
        values["content"] = None
    done = HeldPost.update(**values).where(HeldPost.id == held.id, HeldPost.state == "held").execute()
    return bool(done)


def _tell_decided(config: Config, the_list: ListView, held: Any, state: str, actor: Actor, reason: str) -> None:
    """The other moderators learn of it; an authenticated author of a rejection."""
    values = {"post": _described(held, the_list, ""), "by": actor.name, "state": state, "reason": reason, "answers": held.message_id}
    if state == "rejected" and held.authenticated:
        notice.send(config, "rejected", held.authenticated, the_list, **values)
    if held.noticed and actor.key != held.author:
        with connection():
            others = [to for to in people.answerable(the_list.id, "moderator") if people.read_address(to).key != actor.key]
        notice.send_all(config, "decided", others, the_list, **values)


def _allow(actor: Actor, held: Any) -> None:
    if not held.author:
        return
    account = people.account(held.author)
    flagged = Subscription.update(posting="accept").where(Subscription.list == held.list_id, Subscription.account == account).execute()
    if not flagged:
        Guest.insert(list=held.list_id, account=account, added_by=actor.name).on_conflict_ignore().execute()


def _block(actor: Actor, held: Any) -> None:
    there = Block.select().where(Block.list == held.list_id, Block.pattern == held.author).exists()
    if held.author and not there:
        Block.create(list=held.list_id, pattern=held.author, added_by=actor.name, reason=f"mod discard {held.id}")


# Distributing what was approved.


def trigger(config: Config, number: int) -> None:
    """Send ourselves the message that starts the distribution of an approved post. Raises TryAgain; `maintain` tries again then too."""
    with connection():
        held = find(number)
    domain = held.list.domain.name
    content = b"".join(
        one.raw
        for one in (
            secret.ask_signature(secret.load(config), domain, now()),
            field("From", f"mailer-daemon@{domain}"),
            field("To", f"{directory.TRIGGER}+{number}@{domain}"),
            field("Subject", f"distribute {number}"),
            field("Auto-Submitted", "auto-generated"),
        )
    )
    try:
        with Connection(config["postfix.reinjection"]) as postfix:
            outcome = postfix.submit("", [f"{directory.TRIGGER}+{number}@{domain}"], content + CRLF)
        problem = "" if outcome.taken else str(outcome.final)
    except Unavailable as error:
        problem = str(error)
    if problem:
        maillog.problem("not-triggered", id=number, reason=problem)
        text = _("{number} is approved, but Postfix does not answer; it is distributed once Postfix is back (kelou maintain)")
        raise TryAgain(text.format(number=number))


def approved(number: int, config: Config) -> tuple[ListView, Message, str] | None:
    """What the LMTP handler distributes for a trigger: list, message and digest, accepted as a post; None if there is nothing to do (any more)."""
    with connection():
        held = _rows(HeldPost.content).where(HeldPost.id == number).first()
        if held is None or held.state != "approved" or held.content is None or held.list.status != "open":
            return None
        the_list = directory.view(held.list, config)
        content = bytes(held.content)
    message = Message.parse(content)
    distribution.accept(the_list, read(message), len(content), held.digest, held.queue_id, config)
    return the_list, message, held.digest


def done(number: int) -> None:
    """The approved post is out: its bytes are needed no more."""
    with transaction():
        HeldPost.update(content=None).where(HeldPost.id == number, HeldPost.state == "approved").execute()


# Answers by mail.


APPROVE = frozenset(["approve", "approved", "accept", "distribute", "dis", "ok", "yes", "oui", "approuver", "accepter", "distribuer"])
REJECT = frozenset(["reject", "rej", "refuse", "no", "non", "rejeter", "refuser"])
DISCARD = frozenset(["discard", "drop", "spam", "ignore", "ignorer", "supprimer"])


def answer(config: Config, row: Token, message: Message, reading: Reading) -> None:
    """Do what the answer to a notice asks, for whom its key stands. Raises NotPermitted, NotFound; TryAgain where Postfix is down.

    A moderator says in the subject or in the first line what is to be done with the post; whether they still moderate is asked again. What
    became of it, or who was faster, is told to that moderator and to nobody else. An author who answers at all has confirmed.
    """
    if row.action == "author":
        _confirmed(config, row)
        return
    if row.action != "moderate":
        raise NotFound(row.action)
    actor, number = Actor(row.address, row.address), int(row.object)
    wish, reason = _wish(message, reading)
    with connection():
        held = find(number)
        actor.require_moderator(held.list_id)
        the_list = directory.view(held.list, config)
    outcome = Outcome(number, held.state, held.decided_by, held.decided or 0, False)
    try:
        if wish in APPROVE:
            outcome = approve(config, actor, number)
        elif wish in REJECT:
            outcome = reject(config, actor, number, reason)
        elif wish in DISCARD:
            outcome = discard(config, actor, number)
    finally:
        if outcome.state != "held":
            with transaction():
                confirmation.use(row)
    post = _described(held, the_list, "")
    values = {"post": post, "by": outcome.by, "state": outcome.state, "changed": outcome.changed, "reason": reason, "answers": reading.message_id}
    notice.send(config, "answered", row.address, the_list, **values)


def _wish(message: Message, reading: Reading) -> tuple[str, str]:
    """The first word of the subject, if it says anything, else of the text; and what stands behind it there, up to what is quoted."""
    subject = message.text("subject")
    part = next((p for kind in ("text/plain", "text/html") for p in reading.parts if p.type == kind), None)
    text = mime.text(message, part, 20_000) if part else ""
    text = htmltext.read(text) if part and part.type == "text/html" else text
    lines = list(takewhile(lambda line: not line.lstrip().startswith((">", "-- ", "-----")), text.splitlines()))
    for words in (subject, "\n".join(lines)):
        first, *rest = words.strip().split(None, 1) or [""]
        if first.strip(".,:;!").casefold() in APPROVE | REJECT | DISCARD:
            reason = rest[0] if rest else ("\n".join(lines) if words == subject else "")
            return first.strip(".,:;!").casefold(), reason.strip()[:1000]
    return "", ""


def _confirmed(config: Config, row: Token) -> None:
    """The author confirmed a post that had no proof: it is distributed as if it had one."""
    number = int(row.object)
    with transaction():
        held = find(number)
        if not confirmation.use(row) or not _turn(held, "approved", row.address):
            return
        audit.record(Actor(row.address), "mod confirmed", f"{held.list.name}@{held.list.domain.name}", str(number), before="held", after="approved")
    maillog.event("confirmed", id=number, by=row.address, message_id=held.message_id)
    trigger(config, number)


# What time brings.


def maintain(config: Config) -> dict[str, int]:
    """What is due: late notices, reminders, expiries, triggers that Postfix did not take. Returns counts."""
    counts = {"held_told": 0, "held_reminded": 0, "held_expired": 0, "held_triggered": 0}
    for the_list, posts in _by_list(config, HeldPost.noticed.is_null()):
        if _due(the_list):
            counts["held_told"] += len(posts) * _send_held(config, "held_several" if len(posts) > 1 else "held", the_list, posts, None)
    for the_list, posts in _by_list(config, HeldPost.reminded.is_null(), HeldPost.expires < now() + REMIND, HeldPost.received < now() - REMIND):
        if _send_held(config, "held_several", the_list, posts, None):
            with transaction():
                HeldPost.update(reminded=now()).where(HeldPost.id.in_([held.id for held in posts])).execute()
            counts["held_reminded"] += len(posts)
    for the_list, posts in _by_list(config, HeldPost.expires < now()):
        counts["held_expired"] += sum(_expire(config, the_list, held) for held in posts)
    for number in _stuck():
        try:
            trigger(config, number)
        except TryAgain:
            break
        counts["held_triggered"] += 1
    return counts


def _by_list(config: Config, *where: Any) -> Iterator[tuple[ListView, list[Any]]]:
    """Held posts that meet a condition, list by list, a hundred of each at a time."""
    with connection():
        numbers = [n for (n,) in HeldPost.select(HeldPost.list).where(HeldPost.state == "held", *where).distinct().tuples()]
    for list_id in numbers:
        with connection():
            posts = list(_rows().where(HeldPost.state == "held", HeldPost.list == list_id, *where).order_by(HeldPost.id).limit(100))
            view = directory.view(posts[0].list, config) if posts else None
        if view:
            yield view, posts


def _due(the_list: ListView) -> bool:
    """Whether the list's moderators have had their peace since the last notice: an hour, or a day where they are told once a day."""
    with connection():
        last = HeldPost.select(HeldPost.noticed).where(HeldPost.list == the_list.id, HeldPost.noticed.is_null(False))
        newest = last.order_by(HeldPost.noticed.desc()).tuples().first()
    return not newest or newest[0] <= now() - (24 * HOUR if the_list["held_notices"] == "daily" else HOUR)


def _expire(config: Config, the_list: ListView, held: Any) -> int:
    with transaction():
        if not _turn(held, "expired", ""):
            return 0
        audit.record(Actor("kelou maintain"), "mod expired", the_list.address, str(held.id), before="held", after="expired")
    maillog.event("expired", list=the_list.address, id=held.id, message_id=held.message_id)
    if held.authenticated:
        notice.send(config, "expired", held.authenticated, the_list, post=_described(held, the_list, ""), answers=held.message_id)
    return 1


def _stuck() -> list[int]:
    """Approved posts whose bytes are still here, on open lists, and that no handler is known to work on."""
    with connection():
        busy = Post.select(Post.digest).where(Post.state == "distributing", Post.worker != "")
        rows = HeldPost.select(HeldPost.id).join(MailingList).where(HeldPost.state == "approved", MailingList.status == "open", HeldPost.content.is_null(False))
        return [number for (number,) in rows.where(HeldPost.decided < now() - 60, HeldPost.digest.not_in(busy)).order_by(HeldPost.id).tuples()]
