"""Moderation: posts that wait for a person, as rows with their exact bytes. What is approved is what was held, found by our own id.

    held -> approved | rejected | discarded | expired

Each arrow is one guarded UPDATE: of two moderators who act in the same second one decides, and the other is told who did. An approval is
committed and then sent to ourselves as a tiny message (`trigger`), so that Postfix's queue is the queue of distributions here too; the LMTP
handler answers it when all copies are out. `kelou maintain` sends a trigger again where Postfix was down.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from . import audit, blocklist, confirmation, directory, distribution, htmltext, maillog, mime, notice, people, policy, secret
from .audit import Actor
from .config import Config
from .database import connection, rehearsing, transaction
from .directory import ListView
from .facts import of_message
from .i18n import N_, _
from .message import CRLF, Message, field
from .models import Domain, Guest, HeldPost, MailingList, Post, Subscription, Token, iso, now
from .policy import Action, Author, Decision, Facts
from .reading import Reading, read
from .refusal import BadData, NotFound, NotPermitted, TryAgain
from .submission import Connection, Unavailable

HOUR = 3600
BUSY = 20  # notices of held posts, and as many of decisions, to one list's moderators in an hour; of a flood they are told once, later
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
    if decision.confirm and _ask_author(config, facts, number):
        return
    if facts.proved and facts.reading and not facts.reading.automatic:
        notice.send(config, "held_author", facts.author.address, facts.list, **_shown(config, number))
    if facts.list["held_notices"] == "each":
        tell_moderators(config, facts.list, number)


def tell_moderators(config: Config, the_list: ListView, number: int) -> bool:
    """The notice of one held post, with the post attached and a key for each moderator; False if it is left for later."""
    with connection():
        held = HeldPost.get_or_none(HeldPost.id == number, HeldPost.state == "held")
        lately = HeldPost.select().where(HeldPost.list == the_list.id, HeldPost.noticed > now() - HOUR).count()
    return held is not None and lately < BUSY and bool(_send_held(config, the_list, [held]))


def _send_held(config: Config, the_list: ListView, posts: Sequence[Any], *, again: bool = False) -> int:
    """One notice to all who moderate, each with their own keys: of a single post, with the post attached, or of several.

    Returns of how many posts they were told. They are noted as told before, so that of two who would tell one does, and not if nobody could be.
    """
    apart = [held for held in posts if held.rule in policy.FOR_LISTMASTERS]
    if 0 < len(apart) < len(posts):
        rest = [held for held in posts if held not in apart]
        return sum(_send_held(config, the_list, some, again=again) for some in (apart, rest))
    told = HeldPost.reminded if again else HeldPost.noticed
    with transaction():
        free = (HeldPost.state == "held", told.is_null())
        posts = [held for held in posts if HeldPost.update({told: now()}).where(HeldPost.id == held.id, *free).execute()]
        them = _judges(the_list, posts[0]) if posts else []
        keys = {to: {held.id: _key(the_list, held, to) for held in posts} for to in them}
        content = find(posts[0].id).content if len(posts) == 1 else None
    if not posts:
        return 0
    untold = notice.send_all(
        config,
        "held" if len(posts) == 1 else "held_several",
        them,
        the_list,
        each=lambda to: {
            "posts": [_described(held, the_list, keys[to][held.id]) for held in posts],
            "reply_to": the_list.sub("confirm", keys[to][posts[0].id]) if len(posts) == 1 else "",
        },
        again=again,
        answers=posts[0].message_id if len(posts) == 1 else "",
        attached=None if content is None else _attachment(bytes(content)),
    )
    if len(untold) < len(them):
        return len(posts)
    with transaction():
        HeldPost.update({told: None}).where(HeldPost.id.in_([held.id for held in posts])).execute()
    return 0


def _judges(the_list: ListView, held: Any) -> list[str]:
    """Who is to decide on a held post."""
    return people.answerable(None if held.rule in policy.FOR_LISTMASTERS else the_list.id, "moderator")


def _require_judge(actor: Actor, held: Any) -> None:
    """Raises NotPermitted."""
    if held.rule in policy.FOR_LISTMASTERS:
        actor.require_listmaster()
    else:
        actor.require_moderator(held.list_id)


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


def _ask_author(config: Config, facts: Facts, number: int) -> bool:
    """The confirmation that makes up for a missing signature; capped, because whoever forged the post chose who is asked. False if nobody was."""
    author = facts.reading.author if facts.reading and not facts.reading.automatic else None
    if author is None:
        return False
    with transaction():
        made = Token.select().where(Token.action == "author")
        asked = made.where(Token.address == author.address.key, Token.created > now() - 24 * HOUR).count()
        lately = made.where(Token.list == facts.list.id, Token.created > now() - HOUR).count()
        if asked >= ASKED or lately >= BUSY:
            maillog.event("not-asked", list=facts.list.address, id=number)
            return False
        token = confirmation.make("author", facts.list.id, author.address.key, str(number), facts.list["held_for"])
    reply_to = facts.list.sub("confirm", token)
    if notice.send(config, "confirm_author", str(author.address), facts.list, reply_to=reply_to, **_shown(config, number)):
        return True
    with transaction():
        confirmation.withdraw("author", str(number))
    return False


# Looking.


def waiting(the_list: ListView | None = None) -> list[dict[str, Any]]:
    """Held posts, the oldest first: id, list, author, authenticated, subject, rule, received, expires, size."""
    rows = _rows().where(HeldPost.state == "held").order_by(HeldPost.received, HeldPost.id)
    return [_row(held) for held in (rows.where(HeldPost.list == the_list.id) if the_list else rows)]


def index(actor: Actor, the_list: ListView, to: str) -> list[dict[str, Any]]:
    """The posts that wait, a hundred of them, as notices show them, with keys for one moderator. Raises NotPermitted."""
    with transaction():
        actor.require_moderator(the_list.id)
        posts = _rows().where(HeldPost.state == "held", HeldPost.list == the_list.id).order_by(HeldPost.id).limit(100)
        return [_described(held, the_list, _key(the_list, held, to)) for held in posts]


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

    def then(the_list: ListView, held: Any) -> None:
        if held.state == "held" and the_list.status != "open":
            text = _("{list} is not open: its held posts can be approved once it is")
            raise NotPermitted(text.format(list=the_list.address))
        if allow_author:
            _allow(actor, the_list, held)

    outcome = _decide(config, actor, number, "approved", then=then)
    if outcome.state == "approved":
        trigger(config, number)
    return outcome


def reject(config: Config, actor: Actor, number: int, reason: str = "") -> Outcome:
    """Refuse a held post; its author is told, with the reason, if authenticated."""
    return _decide(config, actor, number, "rejected", reason)


def discard(config: Config, actor: Actor, number: int, *, block_author: bool = False) -> Outcome:
    """Drop a held post; its author is told nothing. `block_author` puts the author on the list's block list."""

    def then(the_list: ListView, held: Any) -> None:
        if block_author:
            blocklist.add(actor, _author_of(held), the_list, f"mod discard {held.id}")

    return _decide(config, actor, number, "discarded", then=then)


Then = Callable[[ListView, Any], None]


def _decide(config: Config, actor: Actor, number: int, state: str, reason: str = "", then: Then | None = None) -> Outcome:
    """One transaction: the decision, if it is not made yet, and what goes `then` with it. Who would decide otherwise learns how it was."""
    with transaction():
        held = find(number)
        _require_judge(actor, held)
        the_list = directory.view(held.list, config)
        changed = _turn(held, state, actor.name, reason)
        now_is = find(number)
        if then and now_is.state == state:
            then(the_list, held)
        if changed:
            audit.record(actor, f"mod {state}", the_list.address, str(number), before="held", after={"state": state, "reason": reason})
    if changed:
        values = {"list": the_list.address, "rule": held.rule, "message_id": held.message_id, "queue_id": held.queue_id}
        maillog.event(state, id=number, by=actor.name, **values)
        _tell_decided(config, the_list, held, state, actor, reason)
    return Outcome(number, now_is.state, now_is.decided_by, now_is.decided or 0, changed)


def _turn(held: Any, state: str, by: str, reason: str = "") -> bool:
    """The guarded UPDATE. An approved post keeps its bytes until they are out, the others need them no more."""
    values: dict[str, Any] = {"state": state, "decided": now(), "decided_by": by, "reason": reason}
    if state != "approved":
        values["content"] = None
    done = HeldPost.update(**values).where(HeldPost.id == held.id, HeldPost.state == "held").execute()
    return bool(done)


def _tell_decided(config: Config, the_list: ListView, held: Any, state: str, actor: Actor, reason: str) -> None:
    """The other moderators learn of it, if they were told of the post; an authenticated author of a rejection."""
    values = {"post": _described(held, the_list, ""), "by": actor.name, "state": state, "reason": reason, "answers": held.message_id}
    if state == "rejected" and held.authenticated:
        notice.send(config, "rejected", held.authenticated, the_list, **values)
    with connection():
        lately = HeldPost.select().where(HeldPost.list == the_list.id, HeldPost.decided > now() - HOUR, HeldPost.decided_by != "").count()
        others = [to for to in _judges(the_list, held) if people.read_address(to).key != actor.key]
    if (held.noticed or held.reminded) and lately <= BUSY:  # whoever clears up after a flood does not make another one
        notice.send_all(config, "decided", others, the_list, **values)


def _author_of(held: Any) -> str:
    if not held.author:
        raise BadData(_("post {number} does not name one author").format(number=held.id))
    return str(held.author)


def _allow(actor: Actor, the_list: ListView, held: Any) -> None:
    account = people.account(_author_of(held))
    subscription = (Subscription.list == the_list.id, Subscription.account == account)
    if Subscription.select().where(*subscription).exists():
        changed = Subscription.update(posting="accept").where(*subscription, Subscription.posting != "accept").execute()
    else:
        _guest, changed = Guest.get_or_create(list=the_list.id, account=account, defaults={"added_by": actor.name})
    if changed:
        audit.record(actor, "mod allow", the_list.address, account.address, after={"posting": "accept"})


# Distributing what was approved.


def trigger(config: Config, number: int) -> None:
    """Send ourselves the message that starts the distribution of an approved post. Raises TryAgain; `maintain` tries again then too.

    A post that is out already needs none, and the distribution of an approval that is rolled back must not start.
    """
    with connection():
        held = find(number)
    if held.content is None or rehearsing():
        return
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
    distribution.accept(the_list, read(message), len(content), held.digest, held.queue_id, config, message)
    return the_list, message, held.digest


def done(number: int) -> None:
    """The approved post is out: its bytes are needed no more."""
    with transaction():
        HeldPost.update(content=None).where(HeldPost.id == number, HeldPost.state == "approved").execute()


# Answers by mail.


APPROVE = frozenset(["approve", "approved", "accept", "distribute", "dis", "ok", "yes", "oui", "approuver", "accepter", "distribuer", "activate", "activer"])
REJECT = frozenset(["reject", "rej", "refuse", "rejeter", "refuser"])  # a reason may follow in the same line
NO = frozenset(["no", "non"])  # the same; but "no problem" is none
DISCARD = frozenset(["discard", "drop", "spam", "ignore", "ignorer", "supprimer"])

# Where what somebody wrote themselves ends: marks of quotation, of a signature, of what Outlook puts above the message that it answers.
_END = re.compile(r"\s*(?:>|-- ?$|-{5}|_{5}|\*?(?:From|De|Von|Da|Van)\*?\s?:|(?:On|Le)\b.{10,300}:\s*$)")
_INTRODUCTION = re.compile(r"(?:On|Le|Am|El|Il|Op)\b.{10}")  # its first line, where "… wrote:" is in a second one


def answer(config: Config, row: Token, message: Message, reading: Reading) -> None:
    """Do what the answer to a notice asks, for whom its key stands. Raises NotPermitted, NotFound; TryAgain where Postfix is down.

    A moderator says in the subject or in the first line what is to be done with the post. An author who answers at all has confirmed.
    """
    by_key(config, row, *wish(message, reading), reading.message_id)


def by_key(config: Config, row: Token, wanted: str, reason: str, answers: str) -> None:
    """Decide on the post that a key is for. Whether its holder still moderates is asked again; what became of the post, or who was faster, is told
    to them and to nobody else, below the message `answers`."""
    if row.action == "author":
        _confirmed(config, row)
        return
    if row.action != "moderate":
        raise NotFound(row.action)
    actor, number = Actor(row.address, row.address), int(row.object)
    with connection():
        held = find(number)
        _require_judge(actor, held)
        the_list = directory.view(held.list, config)
    outcome = Outcome(number, held.state, held.decided_by, held.decided or 0, False)
    try:
        if wanted in APPROVE:
            outcome = approve(config, actor, number)
        elif wanted in REJECT | NO:
            outcome = reject(config, actor, number, reason)
        elif wanted in DISCARD:
            outcome = discard(config, actor, number)
    finally:
        if outcome.state != "held":
            with transaction():
                confirmation.use(row)
    post = _described(held, the_list, "")
    values = {"post": post, "by": outcome.by, "state": outcome.state, "changed": outcome.changed, "reason": reason, "answers": answers, "replied": True}
    notice.send(config, "answered", row.address, the_list, **values)


def wish(message: Message, reading: Reading) -> tuple[str, str]:
    """The word that stands alone in the subject, else in the first line of the text, or begins it with a reason behind it; and the reason.

    What is approved can not be taken back, so "ok, but …" approves nothing; who answers so is asked again.
    """
    text = _written(message, reading)
    for words, below in ((message.text("subject").strip(), text), (text, "")):
        line, _end, rest = words.partition("\n")
        first, _blank, more = line.strip().partition(" ")
        word = first.strip(".,:;!").casefold()
        if word in REJECT or (word in APPROVE | NO | DISCARD and not more.strip()):
            return word, ("\n".join(filter(None, (more.strip(), rest.strip()))) or below)[:1000]
    return "", ""


def _written(message: Message, reading: Reading) -> str:
    """What the author of an answer wrote themselves."""
    part = next((p for kind in ("text/plain", "text/html") for p in reading.parts if p.type == kind), None)
    text = mime.text(message, part, 20_000) if part else ""
    lines = (htmltext.read(text) if part and part.type == "text/html" else text).splitlines()
    end = next((at for at, line in enumerate(lines) if _END.match(line)), len(lines))
    quoted, lines = lines[end : end + 1], lines[:end]
    while quoted and lines and not lines[-1].strip():
        lines.pop()
    if quoted and len(lines) > 1 and lines[-1].rstrip().endswith(":") and _INTRODUCTION.match(lines[-2].strip()):
        del lines[-2:]
    return "\n".join(line.strip() for line in lines).strip()


def _confirmed(config: Config, row: Token) -> None:
    """The author confirmed a post that had no proof: it is judged as if it had come with one, by what the list says now."""
    number, why = int(row.object), "confirmed by mail"
    with transaction():
        held = find(number)
        if not confirmation.use(row) or held.state != "held":
            return
        the_list, message = directory.view(held.list, config), Message.parse(bytes(held.content))
        decision = policy.decide(of_message(the_list, held.reverse_path, message, held.size, Author(row.address, why), held.digest))
        accepted = decision.action is Action.ACCEPT and _turn(held, "approved", row.address)
        if not accepted:  # since then they left, say; the moderators see why
            HeldPost.update(authenticated=row.address, rule=decision.rule, detail=decision.detail).where(HeldPost.id == number).execute()
        audit.record(Actor(row.address), "mod confirmed", the_list.address, str(number), before="held", after="approved" if accepted else decision.rule)
    values = {"list": the_list.address, "rule": decision.rule, "message_id": held.message_id, "queue_id": held.queue_id}
    maillog.event("confirmed", id=number, by=row.address, **values)
    if accepted:
        trigger(config, number)
    else:
        tell_moderators(config, the_list, number)


# What time brings.


def maintain(config: Config) -> dict[str, int]:
    """What is due: expiries, late notices, reminders, triggers that Postfix did not take. Returns counts."""
    counts = {"held_told": 0, "held_reminded": 0, "held_expired": 0, "held_triggered": 0}
    for the_list, posts in _by_list(config, HeldPost.expires < now()):
        counts["held_expired"] += sum(_expire(config, the_list, held) for held in posts)
    asked = Token.select(Token.object).where(Token.action == "author", Token.used.is_null(), Token.expires > now())
    for the_list, posts in _by_list(config, HeldPost.noticed.is_null(), HeldPost.id.cast("text").not_in(asked)):
        if _due(the_list):
            counts["held_told"] += _send_held(config, the_list, posts)
    for the_list, posts in _by_list(config, HeldPost.reminded.is_null(), HeldPost.expires < now() + REMIND, HeldPost.received < now() - REMIND):
        counts["held_reminded"] += _send_held(config, the_list, posts, again=True)
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
    maillog.event("expired", list=the_list.address, id=held.id, rule=held.rule, message_id=held.message_id, queue_id=held.queue_id)
    if held.authenticated:
        notice.send(config, "expired", held.authenticated, the_list, post=_described(held, the_list, ""), answers=held.message_id)
    return 1


def _stuck() -> list[int]:
    """Approved posts whose bytes are still here, on open lists, and that no handler has worked on for a day: Postfix holds no trigger of theirs."""
    with connection():
        busy = Post.select(Post.digest).where(Post.state == "distributing", Post.claimed > now() - 24 * HOUR)
        rows = HeldPost.select(HeldPost.id).join(MailingList).where(HeldPost.state == "approved", MailingList.status == "open", HeldPost.content.is_null(False))
        return [number for (number,) in rows.where(HeldPost.decided < now() - 60, HeldPost.digest.not_in(busy)).order_by(HeldPost.id).tuples()]
