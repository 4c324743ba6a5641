"""What a post says of itself, read once for rules, logs and people: authors, identity, marks of loops and programs, its parts.

Reading never raises and changes nothing; what can not be read is said in `problem`. None of it is proof of anything.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from . import mime
from .address import AddressError, Mailbox, mailboxes
from .i18n import N_
from .message import Message

HEADER = 60_000  # octets; libmilter drops a connection over 65,535 in one field
FIELDS = 1_000
LINE = 1_000_000

_LIST_ID = re.compile(r"<([^<>\s]{1,255})>\s*$")
_LISTS = frozenset({"list", "bulk", "junk"})


@dataclass(frozen=True, slots=True)
class Reading:
    """A post as its own header and parts describe it."""

    author: Mailbox | None
    author_key: str  # the one address in From:, to compare by; empty if there is not exactly one
    message_id: str
    subject: str
    list_ids: frozenset[str]
    automatic: bool
    recipients: tuple[str, ...]  # keys of the addresses in To: and Cc:
    parts: tuple[mime.Part, ...]
    problem: str  # why it is no proper message, in English (marked for translation); empty if it is one


def read(message: Message) -> Reading:
    """Read a post."""
    author = _author(message)
    problem = _problem(message)
    parts: tuple[mime.Part, ...] = ()
    if not problem:
        try:
            parts = tuple(mime.parts(message))
        except mime.TooComplex:
            problem = N_("it has too many parts")
    auto = message.text("auto-submitted").lower()
    return Reading(
        author=author,
        author_key=author.address.key if author else "",
        message_id=message.text("message-id")[:998],
        subject=message.text("subject"),
        list_ids=frozenset(m[1].lower() for f in message.all("list-id") if (m := _LIST_ID.search(f.text))),
        automatic=bool(auto and auto.partition(";")[0].strip() != "no") or message.text("precedence").lower() in _LISTS,
        recipients=_recipients(message),
        parts=parts,
        problem=problem,
    )


def _author(message: Message) -> Mailbox | None:
    fields = message.all("from")
    if len(fields) != 1:
        return None
    try:
        found = mailboxes(fields[0].value)
    except AddressError:
        return None
    return found[0] if len(found) == 1 else None


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
