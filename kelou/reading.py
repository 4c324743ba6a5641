"""What a post says of itself, read once for rules, logs and people: authors, identity, marks of loops and programs, its parts.

Reading never raises and changes nothing; what can not be read is said in `problem`. None of it is proof of anything.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from . import htmltext, mime
from .address import AddressError, Mailbox, mailboxes
from .i18n import N_
from .message import Field, Message, decode

HEADER = 60_000  # octets; libmilter drops a connection over 65,535 in one field
FIELDS = 1_000
LINE = 1_000_000

_LIST_ID = re.compile(r"<([^<>\s]{1,255})>\s*$")
# What SpamAssassin (X-Spam-Flag, X-Spam-Status) and rspamd (X-Spam, X-Spamd-Result, X-Rspamd-Action) write of spam.
_SPAM = (
    ("x-spam-flag", re.compile(r"\s*yes\b", re.IGNORECASE)),
    ("x-spam-status", re.compile(r"\s*yes\b", re.IGNORECASE)),
    ("x-spam", re.compile(r"\s*(yes|spam)\b", re.IGNORECASE)),
    ("x-spamd-result", re.compile(r"[^:]{0,40}:\s*true\b", re.IGNORECASE)),
    ("x-rspamd-action", re.compile(r"\s*(reject|add header|rewrite subject|soft reject)", re.IGNORECASE)),
)
_COMMANDS = re.compile(
    r"(?:re\s*:\s*)?(?:unsubscribe|signoff|subscribe|(?:se\s+|me\s+)?d[ée]sabonner|d[ée]sabonnement|d[ée]sinscription|(?:se\s+|me\s+)?d[ée]sinscrire)"
    r"(?:\s+[\w.+@*-]{1,80}){0,2}[\s.!]*",
    re.IGNORECASE,
)
# What Mailman and others take for a moderator's password, as a header field or in the first line.
_PASSWORD = re.compile(r"(?:x-)?approved?\s{0,9}:\s{0,9}\S{1,200}", re.IGNORECASE)
_SHORT = 5  # lines of a mail that may be a command
_LISTS = frozenset({"list", "bulk", "junk", "auto_reply"})


@dataclass(frozen=True, slots=True)
class Reading:
    """A post as its own header and parts describe it."""

    author: Mailbox | None
    author_key: str  # the one address in From:, to compare by; empty if there is not exactly one
    message_id: str
    fingerprint: str  # SHA-256 of what the author wrote, without what the way here added
    subject: str
    list_ids: frozenset[str]
    hops: int  # servers that it passed, by its Received fields
    automatic: bool
    recipients: tuple[str, ...]  # keys of the addresses in To: and Cc:
    fields: tuple[Field, ...]
    parts: tuple[mime.Part, ...]
    files: tuple[str, ...]  # attachments, as `type/subtype/filename`
    spam: bool  # a spam filter's verdict, whoever wrote it there
    password: bool  # whether it has an "Approved:" line, as for a password of another list manager
    command: str  # the command that a short mail to the list seems to be; empty if none
    problem: str  # why it is no proper message, in English (marked for translation); empty if it is one


def read(message: Message) -> Reading:
    """Read a post."""
    author = author_of(message)
    problem = _problem(message)
    parts: tuple[mime.Part, ...] = ()
    if not problem:
        try:
            parts = tuple(mime.parts(message))
        except mime.TooComplex:
            problem = N_("it has too many parts")
    return Reading(
        author=author,
        author_key=author.address.key if author else "",
        message_id=message.text("message-id")[:998],
        fingerprint=_fingerprint(message),
        subject=message.text("subject"),
        list_ids=frozenset(m[1].lower() for f in message.all("list-id") if (m := _LIST_ID.search(f.text))),
        hops=len(message.all("received")),
        automatic=_automatic(message),
        recipients=_recipients(message),
        fields=message.fields if not problem else (),
        parts=parts,
        files=tuple(f"{part.type}/{part.filename}" for part in parts if part.disposition == "attachment" or part.filename),
        spam=any(pattern.match(field.text) for name, pattern in _SPAM for field in message.all(name)),
        password=_password(message, parts),
        command=_command(message, parts),
        problem=problem,
    )


def _automatic(message: Message) -> bool:
    """Whether a program says that it wrote this: RFC 3834 section 5, and what was in use before and beside it."""
    said = message.text("auto-submitted").lower().partition(";")[0].strip()
    older = any(message.first(name) for name in ("x-autoreply", "x-autorespond", "x-autoresponder"))
    return said not in ("", "no") or older or message.text("precedence").lower() in _LISTS


def author_of(message: Message) -> Mailbox | None:
    """The one mailbox that From: names; None if it is missing, names several, or can be read in two ways (RFC 5322 section 3.6.2)."""
    fields = message.all("from")
    if len(fields) != 1:
        return None
    try:
        found = mailboxes(fields[0].value)
    except AddressError:
        return None
    return found[0] if len(found) == 1 else None


def _command(message: Message, parts: tuple[mime.Part, ...]) -> str:
    """Sympa's rule of misaddressed commands: the subject, or the first line of a mail of a few lines, is one."""
    subject = message.text("subject")
    plain = next((part for part in parts if part.type == "text/plain"), None)
    lines = [line.strip() for line in mime.text(message, plain, 2_000).splitlines() if line.strip()] if plain else []
    if len(lines) > _SHORT:
        return ""
    first = lines[0] if lines else ""
    return next((text[:80] for text in (subject[:200], first[:200]) if _COMMANDS.fullmatch(text)), "")


def _password(message: Message, parts: tuple[mime.Part, ...]) -> bool:
    """Whether it brings a password along. Its HTML form has it too: that is how Mailman once told whole lists."""
    if any(message.first(name) for name in ("approved", "approve", "x-approved", "x-approve")):
        return True
    texts = {part.type: part for part in reversed(parts) if part.type in ("text/plain", "text/html")}
    shown = {kind: mime.text(message, part, 10_000) for kind, part in texts.items()}
    pages = [htmltext.read(text) if kind == "text/html" else text for kind, text in shown.items()]
    lines = [next((line for line in page.splitlines() if line.strip()), "").strip() for page in pages]
    return any(_PASSWORD.fullmatch(decode(line[:1000].encode("utf-8", "replace"))) for line in lines)


def _fingerprint(message: Message) -> str:
    digest = hashlib.sha256()
    for name in ("from", "date", "subject"):
        digest.update(b"\0".join(field.value for field in message.all(name)) + b"\n")
    digest.update(message.body)
    return digest.hexdigest()


def _recipients(message: Message) -> tuple[str, ...]:
    keys: list[str] = []
    for field in (*message.all("to"), *message.all("cc")):
        try:
            keys += [mailbox.address.key for mailbox in mailboxes(field.value)]
        except AddressError:  # groups, old syntax: one broken field says nothing of the others
            keys += [found.lower() for found in re.findall(r"[^\s<>,;:\"()]{1,64}@[^\s<>,;:\"()]{1,255}", field.text)]
    return tuple(keys)


def _problem(message: Message) -> str:
    if not message.fields:
        return N_("it has no header")
    if len(message.fields) > FIELDS or sum(len(field.raw) for field in message.fields) > HEADER:
        return N_("its header is too large")
    for field in message.fields:
        try:
            text = field.raw.decode("utf-8")  # RFC 6532 section 3.2: what is not ASCII in a header is UTF-8
        except UnicodeDecodeError:
            return N_("its header is in an unknown character set")
        if "\0" in text:
            return N_("there are NUL characters in its header")
    if b"\0" in message.body:
        return N_("there are NUL characters in its text")
    if _longest(message.body) > LINE:
        return N_("it has a line that is too long")
    return ""


def _longest(body: bytes) -> int:
    at = longest = 0
    while at < len(body):
        end = body.find(b"\n", at) + 1 or len(body)
        longest = max(longest, end - at)
        at = end
    return longest
