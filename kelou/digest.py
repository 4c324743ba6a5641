"""Digests: a list's posts together, for those who want them so.

    digest         an index, and each post as a message of its own in a multipart/digest (RFC 2046 section 5.1.5)
    digestplain    an index and the texts of the posts, in one text (RFC 1153)

A post is kept for the digest by the transaction that accepts it (`kelou.distribution`). `maintain` makes a digest of what waited long enough, or
is enough; one transaction takes the posts away, accepts the digest as a post to those who read this form, and puts its bytes where approved posts
wait. From there it goes the way of an approved post: Postfix's queue has the trigger, a cursor says who has got it, and nobody gets it twice.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from itertools import accumulate

from babel.dates import format_date
from peewee import fn

from . import directory, distribution, maillog, mime, moderation, plaintext
from .config import Config
from .database import connection, transaction
from .directory import ListView
from .encoding import boundary, encode, within_line_length
from .i18n import _, speaking
from .message import CRLF, LINE, Message, field, phrase
from .models import DigestPost, Domain, HeldPost, MailingList, Post, Subscription, now
from .reading import author_of, read
from .reception import DIGESTS
from .refusal import TryAgain

TEXT = 100_000  # characters of a part in a plain digest
WIDTH = 70  # RFC 1153: the line of hyphens between the preamble and the posts
BETWEEN = "-" * 30
POSTS = 500  # in one digest
_SEPARATOR = re.compile(r"^-(?=-{29})", re.MULTILINE)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# RFC 1153: these fields, in this order, and no others.
_SHOWN = ("Date", "From", "To", "Cc", "Subject", "Message-ID", "Keywords", "Summary")
_ENCRYPTED = frozenset({"multipart/encrypted", "application/pgp-encrypted"})
_SMIME = frozenset({"application/pkcs7-mime", "application/x-pkcs7-mime"})
_PGP = re.compile(rb"^-----BEGIN PGP MESSAGE-----", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Entry:
    """A post in a digest."""

    message: Message
    encrypted: bool

    @classmethod
    def of(cls, content: bytes) -> Entry:
        message = Message.parse(content)
        return cls(message, _encrypted(message))

    @property
    def title(self) -> str:
        """What the index says of it."""
        author = author_of(self.message)
        name = (author.name or str(author.address)) if author else self.message.text("from")
        subject = self.message.text("subject")[:200] or _("(no subject)")
        return " ".join([subject, f"({name[:100]})", *([_("[encrypted, and left out]")] if self.encrypted else [])])


# What is due.


def maintain(config: Config) -> dict[str, int]:
    """Make the digests that are due, and have them distributed. Returns counts."""
    with connection():
        rows = (
            DigestPost.select(DigestPost.list, fn.MIN(Post.received), fn.SUM(Post.size))
            .join(Post)
            .switch(DigestPost)
            .join(MailingList)
            .where(MailingList.status == "open")
            .group_by(DigestPost.list)
        )
        waiting = list(rows.tuples())
    counts = {"digests": 0}
    for number, oldest, size in waiting:
        with connection():
            row = MailingList.select(MailingList, Domain).join(Domain).where(MailingList.id == number).first()
            the_list = directory.view(row, config) if row else None
        if the_list and (oldest <= now() - the_list["digest"] or size >= the_list["digest_size"]):
            counts["digests"] += _all(config, the_list)
    return counts


def _all(config: Config, the_list: ListView) -> int:
    """Everything that waits, in as many digests as its size asks for."""
    count = 0
    while (made := _take(config, the_list)) is not None:
        count += bool(made)
        for number in made:
            with suppress(TryAgain):  # it is in the log, and `moderation.maintain` tries again
                moderation.trigger(config, number)
    return count


class _Taken(Exception):
    """Somebody else was faster."""


def _take(config: Config, the_list: ListView) -> list[int] | None:
    """Make one digest in each form that is read: the ids to distribute them by. None if nothing waits."""
    with connection():
        rows = DigestPost.select(DigestPost.id, Post.size).join(Post).where(DigestPost.list == the_list.id).order_by(DigestPost.id)
        waiting = list(rows.tuples())
        fit = sum(total <= the_list["digest_size"] for total in accumulate(size for _number, size in waiting))
        chosen = [number for number, _size in waiting[: min(POSTS, max(1, fit))]]
        contents = DigestPost.select(DigestPost.content).where(DigestPost.id.in_(chosen)).order_by(DigestPost.id)
        entries = [Entry.of(bytes(content)) for (content,) in contents.tuples()]
        readers = Subscription.select(Subscription.mode).where(Subscription.list == the_list.id, Subscription.mode.in_(DIGESTS)).distinct()
        modes = sorted(mode for (mode,) in readers.tuples())
    if not entries:
        return None
    try:
        with transaction():
            if DigestPost.delete().where(DigestPost.id.in_(chosen)).execute() != len(chosen):
                raise _Taken
            made = [_put(config, the_list, mode, entries) for mode in modes]
    except _Taken:
        return None
    maillog.event("digest", list=the_list.address, posts=len(entries), modes=",".join(modes))
    return made


def _put(config: Config, the_list: ListView, mode: str, entries: Sequence[Entry]) -> int:
    """Accept a digest for those who read them in this form, and put its bytes where approved posts wait."""
    today = datetime.fromtimestamp(now(), UTC)
    year = int(datetime(today.year, 1, 1, tzinfo=UTC).timestamp())
    issue = HeldPost.select().where(HeldPost.list == the_list.id, HeldPost.rule == mode, HeldPost.decided >= year).count() + 1
    with speaking(the_list["language"]):
        content = bytes(write(the_list, mode, entries, today, issue))
    reading, digest = read(Message.parse(content)), distribution.digest_of(content)
    distribution.accept(the_list, reading, len(content), digest, "", config, mode=mode)
    values = {"message_id": reading.message_id, "author": reading.author_key, "subject": reading.subject, "size": len(content)}
    row = HeldPost.create(list=the_list.id, digest=digest, content=content, rule=mode, state="approved", decided=now(), **values)
    return int(row.id)


# How it is written, in the language in force.


def write(the_list: ListView, mode: str, entries: Sequence[Entry], today: datetime, issue: int) -> Message:
    """A digest of these posts. The list's own header fields, tag and footer are put in where it is distributed, as with every post."""
    title = _("{list} Digest V{year} #{issue}").format(list=the_list.name, year=today.year, issue=issue)
    fields = [
        field("From", f"{phrase(the_list.subject[:200])} <{the_list.sub('owner')}>".lstrip()),
        field("To", the_list.address),
        field("Subject", title),
        field("Date", format_datetime(today)),
        field("Message-ID", f"<{uuid.uuid4().hex}@{the_list.domain}>"),
        field("Auto-Submitted", "auto-generated"),  # RFC 3834 section 5: nobody is to be told by it that somebody is away
        field("MIME-Version", "1.0"),
    ]
    index = _index(the_list, entries, today, issue)
    shown = [entry.message for entry in entries if not entry.encrypted]
    if mode == "digestplain":
        content = _text(_plain(index, shown, the_list))
    else:
        content = _multipart(_text(index), shown) if shown else _text(index)
    return Message.parse(b"".join(one.raw for one in fields) + content)


def _index(the_list: ListView, entries: Sequence[Entry], today: datetime, issue: int) -> str:
    """RFC 1153's preamble: which digest this is, and the subjects in it."""
    language = the_list["language"]
    date = format_date(today, "long", locale="en_GB" if language == "en" else language)
    first = _("{list} Digest    {date}    Volume {year} : Issue {issue}").format(list=the_list.name, date=date, year=today.year, issue=issue)
    titles = [f"{number:4}. {entry.title}" for number, entry in enumerate(entries, 1)]
    return "\n".join([first, "", _("In this digest:"), "", *titles, ""])


def _plain(index: str, posts: Sequence[Message], the_list: ListView) -> str:
    end = _("End of {list} Digest").format(list=the_list.name)
    pieces = [f"{index}\n{'-' * WIDTH}\n"]
    for post in posts:
        header = [f"{name}: {post.text(name)[:2000]}" for name in _SHOWN if post.text(name)]
        text = plaintext.read(post, TEXT).strip("\n")
        # No line of a post may look like the one between posts.
        pieces.append("\n".join([*header, "", _SEPARATOR.sub(" -", text), "", BETWEEN, ""]))
    return "\n".join([*pieces, end, "*" * len(end), ""])


def _text(text: str) -> bytes:
    """The text as a MIME part."""
    clean = _CONTROL.sub(" ", text.replace("\r\n", "\n").replace("\r", "\n"))
    data = clean.encode("utf-8", "replace").replace(b"\n", CRLF)
    plain = data.isascii() and all(len(line) <= LINE for line in data.split(CRLF))
    encoding = "7bit" if plain else "quoted-printable"
    fields = field("Content-Type", "text/plain; charset=utf-8"), field("Content-Transfer-Encoding", encoding)
    return b"".join(one.raw for one in fields) + CRLF + encode(data, encoding)


def _multipart(index: bytes, posts: Sequence[Message]) -> bytes:
    """The index, and below it the posts as they came."""
    letters = [_part("message/rfc822", bytes(within_line_length(post))) for post in posts]
    return _container("multipart/mixed", [index, _container("multipart/digest", letters)])


def _container(kind: str, parts: Sequence[bytes]) -> bytes:
    mark = boundary(*parts)
    delimiter = f"\r\n--{mark}".encode("ascii")
    return _part(f'{kind}; boundary="{mark}"', b"".join([*(delimiter + CRLF + part for part in parts), delimiter, b"--", CRLF]))


def _part(kind: str, content: bytes) -> bytes:
    """A part that may not be encoded itself (RFC 2046 sections 5.1.1 and 5.2.1), and says what is in it."""
    fields = field("Content-Type", kind), field("Content-Transfer-Encoding", "7bit" if content.isascii() else "8bit")
    return b"".join(one.raw for one in fields) + CRLF + content


def _encrypted(message: Message) -> bool:
    """Whether only those can read it whom it was encrypted for (RFC 3156, RFC 8551), which a digest is no place for."""
    try:
        parts = mime.parts(message)
    except mime.TooComplex:
        return False
    return any(
        part.type in _ENCRYPTED
        or (part.type in _SMIME and part.parameters.get("smime-type", "").lower() != "signed-data")
        or (part.type == "text/plain" and part.disposition != "attachment" and _PGP.search(mime.content(message, part)))
        for part in parts
    )
