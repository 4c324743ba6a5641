"""Mail with commands → what is done, and one answer. Who is not certain gets no answer, at most a confirmation of what was asked (kelou.consent).

An answer goes to an address that is proved: by the milter, or by a key that was sent there. It says in the person's language what became of each
command, below the mail that it answers, and so that no program answers it (RFC 3834). Programs get none.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from . import confirmation, consent, directory, errand, lifecycle, mailcommand, maillog, membership, moderation, notice, office, standing
from .address import Address
from .address import parse as parse_address
from .command import Command
from .config import Config
from .database import connection, transaction
from .directory import ListView
from .errand import Done, Errand
from .i18n import N_, _, known, language, speaking
from .mailcommand import Parsed
from .message import Message
from .models import Account, CommandMail, Subscription, Token, iso, now
from .notice import Desk
from .policy import Author
from .reading import Reading
from .refusal import NotFound, Refusal
from .returnpath import Mark

DAY = 86400
ANSWERS = 100  # a day to one address; nobody writes more, but two programs would
UNKNOWN = 5  # of these, to mail in which there was nothing to do

BAD_KEY = N_("This key is not good (any more): it was used, it expired, or it is misspelt.")

# Absence notices of programs that do not say so in the header (RFC 3834 section 5 asks them to).
_ABSENT = re.compile(
    r"(?:automatic reply|auto(?:matic)?[- ]?reply|out of (?:the )?office|autoreply|réponse automatique|absence du bureau|message d'absence)\b", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail to an address that takes commands, as the door has it."""

    message: Message
    reading: Reading
    author: Author
    reverse_path: str
    digest: str
    client: str = ""


def digest_of(content: bytes, recipient: str) -> str:
    """What tells a delivery from another: a retry brings the same bytes for the same recipient."""
    return hashlib.sha256(recipient.encode("utf-8", "replace") + b"\0" + content).hexdigest()


def from_program(reverse_path: str, message: Message, reading: Reading) -> bool:
    """Whether nobody would read an answer, or a program would answer that (RFC 3834 section 2)."""
    return not reverse_path or reading.automatic or bool(reading.list_ids) or bool(_ABSENT.match(message.text("subject").strip()))


def take(config: Config, domain: str, mail: Mail, own: Command | None = None) -> None:
    """Do what a mail to the command address of that domain asks. `own`: it came to an address that is a command itself, whatever it says."""
    desk = desk_of(config, domain)
    sender = mail.reading.author.address if mail.reading.author else None
    why = _unheard(mail, sender)
    if why or sender is None:
        maillog.event("ignored", why=why, author=sender or "", message_id=mail.reading.message_id)
        return
    proved = mail.author.address == sender.key
    parsed = Parsed((own,)) if own else mailcommand.parse(mail.message, lists=lambda name: errand.named(config, name, domain) is not None)
    who = Errand(config, desk, sender, _proof(mail), client=mail.client, answers=mail.reading.message_id)
    maillog.event("commands", author=sender, proved=proved, commands=len(parsed.commands), end=parsed.end, message_id=mail.reading.message_id)
    with speaking(_language(who, parsed.commands)):
        kind = _serve(who, parsed, mail) if proved else _ask(who, parsed.commands)
    with transaction():
        CommandMail.insert(digest=mail.digest, address=sender.key, kind=kind).on_conflict_ignore().execute()


def by_link(config: Config, domain: str, mail: Mail, mark: Mark) -> None:
    """Unsubscribe whom a link in their own copy of a post names, at once: it went to nobody else. Its mail may be a program's, as a click makes one.

    A forwarded post has the link too; so somebody who writes from another address only has the subscriber asked.
    """
    with connection():
        row = Subscription.select(Subscription, Account).join(Account).where(Subscription.id == mark.subscription, Subscription.list == mark.list).first()
        done = CommandMail.select().where(CommandMail.digest == mail.digest).exists()
        found = directory.by_id(mark.list)
        the_list = directory.view(found, config) if found else None
    sender = mail.reading.author.address if mail.reading.author else None
    if done or sender is None or the_list is None:
        maillog.event("ignored", why="done before" if done else "no one author", message_id=mail.reading.message_id)
    elif row is None:
        take(config, domain, mail, Command("unsubscribe", line=f"unsubscribe {the_list.name}", list=the_list.address))
    elif sender.key != row.account.key:
        consent.ask(config, the_list, parse_address(row.account.address), [Command("unsubscribe", list=the_list.address)], client=mail.client)
    elif mail.message.text("auto-submitted").lower().startswith("auto-replied"):
        maillog.event("ignored", why="a program wrote it", message_id=mail.reading.message_id)
    else:
        membership.leave(config, the_list, sender, confirmed=True, answers=mail.reading.message_id)
        maillog.event("left", list=the_list.address, address=sender, message_id=mail.reading.message_id)
        with transaction():
            CommandMail.insert(digest=mail.digest, address=sender.key, kind="silent").on_conflict_ignore().execute()


def desk_of(config: Config, domain: str) -> Desk:
    """Where commands for a domain go; the listmasters, if there is no command address."""
    local = next(iter(config["site.command_addresses"]), "listmaster")
    return Desk(f"{local}@{domain}", domain, config["site.language"])


def _unheard(mail: Mail, sender: Address | None) -> str:
    """Why a mail is not even read; empty if it is."""
    if sender is None:
        return "no one author"
    if from_program(mail.reverse_path, mail.message, mail.reading):
        return "a program wrote it"
    if mail.author.forbidden:
        return "its domain disowns it"
    with connection():
        if CommandMail.select().where(CommandMail.digest == mail.digest).exists():
            return "done before"
        if sender.host in directory.domains() and not Account.select().where(Account.key == sender.key).exists():
            return "it is from ourselves"
        return ""


def _proof(mail: Mail) -> str:
    return f"mail {iso(now())}, {mail.author.why}, {mail.reading.message_id}"[:500]


def _language(who: Errand, commands: Iterable[Command]) -> str:
    """The person's, else that of the one list it is about, else the site's."""
    with connection():
        account = Account.get_or_none(Account.key == who.address.key)
    if account and account.language:
        return known(account.language)
    about = _about(who, commands)
    return known(about["language"] if isinstance(about, ListView) else about.language)


def _about(who: Errand, commands: Iterable[Command]) -> ListView | Desk:
    """The one list that commands are about, else the desk."""
    names = {command.list for command in commands}
    found = errand.named(who.config, names.pop(), who.desk.domain) if len(names) == 1 else None
    return found or who.desk


# Whoever is certain.


def _serve(who: Errand, parsed: Parsed, mail: Mail) -> str:
    """Do the commands and answer. Returns what kind of mail it was."""
    kind = "answered" if parsed.commands else "unknown"
    if not parsed.commands and parsed.end == "quit":
        return "silent"
    results = [(command, _do(who, command)) for command in parsed.commands]
    if _tired(who.address.key, kind):
        maillog.problem("not-answered", to=who.address, kind=kind)
        return "silent"
    if not parsed.unknown and not parsed.left and results and all(done.told for _command, done in results):
        return kind
    _tell(who, results, parsed, mail.message.text("subject"))
    return kind


def _do(who: Errand, command: Command) -> Done:
    """One command; a refusal is an answer like any other."""
    try:
        if command.problem:
            return Done(_(command.problem))
        if command.verb in BY_KEY:
            return _by_command(who, command)
        return office.VERBS[command.verb](who, command)
    except Refusal as no:
        return Done(str(no))


def _tired(key: str, kind: str) -> bool:
    """Whether this address had all the answers of a day."""
    with connection():
        lately = CommandMail.select().where(CommandMail.address == key, CommandMail.received > now() - DAY)
        unknown = lately.where(CommandMail.kind == "unknown").count() if kind == "unknown" else 0
        return unknown >= UNKNOWN or lately.where(CommandMail.kind != "silent").count() >= ANSWERS


def _tell(who: Errand, results: list[tuple[Command, Done]], parsed: Parsed, subject: str) -> bool:
    values: dict[str, Any] = {
        "subject": re.sub(r"^(?:re\s?:\s*)+", "", subject.strip(), flags=re.IGNORECASE)[:100],
        "results": [{"line": command.line or consent.line(command), "text": done.text} for command, done in results if done.text],
        "unknown": list(parsed.unknown),
        "left": parsed.left,
        "help": "" if results else errand.help_(who, Command("help")).text,
        "commands": who.desk.address,
        "answers": who.answers,
        "replied": True,
    }
    return notice.send(who.config, "answer", str(who.address), replace(who.desk, language=language()), **values)


# Whoever is not.


def _ask(who: Errand, commands: Iterable[Command]) -> str:
    """Send confirmations of what is worth one, to the addresses concerned; what a key proves is done."""
    wanted: dict[str, list[Command]] = {}
    addresses: dict[str, Address] = {}
    for command in commands:
        if command.problem:
            continue
        if command.verb in BY_KEY:
            _do(replace(who, proof=""), command)
            continue
        about = None if command.list in ("", "*") else errand.named(who.config, command.list, who.desk.domain)
        named = bool(command.email) and command.verb in ("subscribe", "unsubscribe")
        to = parse_address(command.email) if named else who.address
        if _worth(who, about, command, to):
            addresses.setdefault(to.key, to)
            kept = replace(command, list=about.address if about else command.list, email="" if named else command.email)
            wanted.setdefault(to.key, []).append(kept)
    for key, asked in wanted.items():
        lists = {command.list for command in asked}
        one = errand.named(who.config, next(iter(lists)), who.desk.domain) if len(lists) == 1 else None
        to = addresses[key]
        consent.ask(who.config, one or who.desk, to, asked, client=who.client, answers=who.answers if to.key == who.address.key else "")
    return "silent"


def _worth(who: Errand, about: ListView | None, command: Command, to: Address) -> bool:
    """Whether a command by somebody who is not certain is worth a mail to the address concerned: a question is not."""
    if command.verb == "request":
        return bool(command.list and command.fields.get("type") and command.fields.get("subject"))
    if about is None:
        subscribed = bool(membership.subscriptions(who.config, to.key))
        return command.list == "*" and (subscribed or (command.verb == "unsubscribe" and to.key == who.address.key))
    with connection():
        known = standing.of(about.id, to.key)
        staff = known.owner or standing.is_listmaster(to.key)
    if command.verb == "subscribe":
        return about.status == "open" and about["subscribe"] != "closed" and not known.blocked and (to.key == who.address.key or not known.subscriber)
    if command.verb == "unsubscribe":
        # Somebody who writes from an address that is not subscribed sees what we write there, and knows the better.
        return about.status != "pending" and (known.subscriber or (to.key == who.address.key and about.status == "open"))
    if command.verb == "set" and command.option:
        return known.subscriber
    if command.verb == "invite":
        return staff or (about["invite"] == "subscribers" and known.subscriber)
    if command.verb == "modindex":
        return staff or known.moderator
    return staff and command.verb in ("add", "del", "set", "remind", "stats", "review")


# Keys.


def confirm(config: Config, row: Token, domain: str, message: Message, reading: Reading) -> None:
    """Do what the answer to a notice asks, by its key. Raises a Refusal; TryAgain where Postfix is down."""
    wanted, reason = moderation.wish(message, reading)
    holder = Errand(config, desk_of(config, domain), parse_address(row.address), _proof_of(row), confirmed=True, answers=reading.message_id)
    _by(holder, row, wanted, reason, message.text("subject"))


def _proof_of(row: Token) -> str:
    return f"mail {iso(now())}, a key sent there {iso(row.created)}"


# The commands that hold a key, and what keys each takes.
BY_KEY: Mapping[str, tuple[str, ...]] = {
    "confirm": (*consent.ACTIONS, "author"),
    "distribute": ("moderate", "subscription"),
    "reject": ("moderate", "subscription"),
    "activate": ("request",),
    "refuse": ("request", "subscription"),
}
_WANTED = {"confirm": "", "distribute": "approve", "activate": "approve", "reject": "reject", "refuse": "reject"}


def _by_command(who: Errand, command: Command) -> Done:
    """Who has a key is who it was sent to: what came of it is told there."""
    with connection():
        row = confirmation.find(command.token)
    about = errand.named(who.config, command.list, who.desk.domain) if command.list else None
    if row is None or row.action not in BY_KEY[command.verb] or (command.list and (about is None or about.id != row.list_id)):
        raise NotFound(_(BAD_KEY))
    holder = replace(who, address=parse_address(row.address), proof=_proof_of(row), confirmed=True)
    quiet = command.verb == "reject" and command.quiet and row.action == "moderate"
    _by(holder, row, "discard" if quiet else _WANTED[command.verb], command.text, command.line)
    same = row.address == who.address.key
    return Done("" if same else _("What came of it is told to the address that this key was sent to."), told=same)


def _by(holder: Errand, row: Token, wanted: str, reason: str, subject: str) -> None:
    """Do what a key is good for, and tell its holder. It is used up then, unless the answer said nothing that could be done."""
    if row.action in ("moderate", "author"):
        moderation.by_key(holder.config, row, wanted, reason, holder.answers)
        return
    with connection():
        found = directory.by_id(row.list_id) if row.list_id else None
        the_list = directory.view(found, holder.config) if found else None
    kept = consent.unpack(row.object) if row.action in (consent.JOIN, consent.LEAVE) else [Command(row.action, list=the_list.address if the_list else "")]
    with speaking(_language(holder, kept)):
        if row.action in consent.ACTIONS and wanted in moderation.REJECT | moderation.NO:
            maillog.event("declined", action=row.action, by=row.address)
            results = []
        elif row.action in _DECISIONS and the_list:
            results = [(kept[0], _decided(lambda: _DECISIONS[row.action](holder, row, the_list, wanted, reason)))]
        else:
            results = [(command, _do(holder, command)) for command in kept]
        if not any(done.again for _command, done in results):
            with transaction():
                confirmation.use(row)
        if not all(done.told for _command, done in results):
            _tell(holder, results, Parsed(), subject)


def _decided(decide: Callable[[], Done]) -> Done:
    try:
        return decide()
    except Refusal as no:
        return Done(str(no))


def _invited(holder: Errand, row: Token, the_list: ListView, _wanted: str, _reason: str) -> Done:
    said = json.loads(row.object)
    proof = f"{holder.proof}, invited by {said['by']}"
    result = membership.join(
        holder.config, the_list, holder.address, said["name"], proof=proof, confirmed=True, invited=said["sure"], answers=holder.answers
    )
    return Done(membership.words(result, the_list), told=result.result == "added" and result.told)


def _subscription(holder: Errand, row: Token, _list: ListView, wanted: str, reason: str) -> Done:
    number = int(row.object)
    if wanted in moderation.APPROVE:
        return Done(_("{address} is subscribed.").format(address=membership.approve(holder.config, holder.actor, number).email))
    if wanted in moderation.REJECT | moderation.NO | moderation.DISCARD:
        result = membership.refuse(holder.config, holder.actor, number, reason, quiet=wanted in moderation.DISCARD)
        return Done(_("{address} is not subscribed.").format(address=result.email))
    return Done(_("Your answer was not understood. Answer the notice again with approve, or with refuse and a reason, in the first line."), again=True)


def _request(holder: Errand, _row: Token, the_list: ListView, wanted: str, reason: str) -> Done:
    if wanted in moderation.APPROVE:
        outcome = lifecycle.activate(holder.config, holder.actor, the_list)
        return Done("\n".join([_("{list} is active.").format(list=outcome.list.address), *outcome.advice]))
    if wanted in moderation.REJECT | moderation.NO and reason.strip():
        lifecycle.refuse(holder.config, holder.actor, the_list, reason)
        return Done(_("{list} is refused; who asked for it is told your reason.").format(list=the_list.address))
    return Done(_("Your answer was not understood. Answer the notice again with activate, or with refuse and a reason, in the first line."), again=True)


_DECISIONS: Mapping[str, Callable[[Errand, Token, ListView, str, str], Done]] = {
    consent.INVITE: _invited,
    "subscription": _subscription,
    "request": _request,
}
