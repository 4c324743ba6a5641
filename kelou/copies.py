"""Copies: what of a post goes to whom, and in which transactions with Postfix.

    shared      one message for all
    verp        the same, and Postfix writes each recipient into their return-path (XVERP, see VERP_README): a bounce says whose it is
    personal    one message for each, with return-path, link to unsubscribe and signature of its own

A personal copy passes no milter, which would halve the speed: it is signed here, by the same signer. The post is prepared and its body hashed once,
what differs is put in where it belongs. Only where a footer names the reader each copy is prepared for itself.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from email.utils import formatdate
from typing import Protocol

from . import maillog, outgoing, returnpath, secret, signing
from .canonical import simple_body
from .config import Config
from .directory import ListView
from .listfields import mailto
from .message import Field, Message, field, phrase
from .models import now
from .outgoing import Reader
from .reply import OK, OUR_FAULT, Reply
from .secret import Secret
from .submission import Connection, Outcome, Unavailable, lines

PERSONAL = 50  # personal copies between two commits: after a crash each connection has that many in doubt
LOCAL_PART = 64  # octets (RFC 5321 section 4.5.3.1.1)

_PLAIN = re.compile(r"[A-Za-z0-9._+-]+@[A-Za-z0-9.-]+")  # what a return-path can be made of


@dataclass(frozen=True, slots=True)
class Person:
    """A subscriber, at the address they have now."""

    subscription: int
    account: int
    address: str
    name: str


@dataclass(frozen=True, slots=True)
class Transaction:
    """One message for some of a chunk's people, named by their places."""

    places: Sequence[int]
    reverse_path: str
    content: bytes
    parameters: str = ""


class Copies(Protocol):
    """A mode of delivery, for one post."""

    endpoint: str  # the setting that names the port
    apart: bool  # whether each copy is a transaction of its own

    def transactions(self, people: Sequence[Person]) -> Iterator[Transaction]:
        """How these people get the post."""
        ...


def of(
    message: Message, message_id: str, received: int, the_list: ListView, config: Config, site_secret: Secret, *, rewritten: bool = False
) -> Copies:
    """The copies of a post as the list has them made, in its author's name or `rewritten` in the list's."""
    message = completed(message, message_id, received)
    if the_list["delivery"] == "personal":
        return Personal(message, the_list, config, site_secret, rewritten)
    return Shared(message, the_list, config, site_secret, rewritten)


def completed(message: Message, message_id: str, received: int) -> Message:
    """What came, for every try with the same Message-ID and Date, where the author's program made none."""
    message = message.without(["Kelou-"])
    if not message.text("message-id"):
        message = message.with_field(field("Message-ID", message_id))
    if not message.text("date"):
        message = message.with_field(field("Date", formatdate(received)))
    return message


def chunk(the_list: ListView, config: Config) -> int:
    """How many recipients are handed over between two commits. What is in doubt after a crash is never more than `distribution.chunk`."""
    size: int = max(1, config["distribution.chunk"])
    return max(1, min(PERSONAL, size // max(1, config["distribution.connections"]))) if the_list["delivery"] == "personal" else size


class Shared:
    """One message for all, signed by the milter; with mode verp, return-paths of their own."""

    endpoint = "postfix.reinjection"
    apart = False

    def __init__(self, message: Message, the_list: ListView, config: Config, site_secret: Secret, rewritten: bool) -> None:
        prepared = outgoing.prepare(message, the_list, config, rewritten=rewritten)
        self._content = bytes(prepared.with_top([secret.ask_signature(site_secret, the_list.domain, now())]))
        self._list = the_list
        self._secret = site_secret

    def transactions(self, people: Sequence[Person]) -> Iterator[Transaction]:
        sender, everybody = self._list.sub("bounces"), range(len(people))
        if self._list["delivery"] != "verp":
            yield Transaction(everybody, sender, self._content)
            return
        fit = [place for place in everybody if self._fits(sender, people[place].address)]
        if fit:
            yield Transaction(fit, sender, self._content, "XVERP=+=")
        for place in sorted({*everybody} - {*fit}):
            token = returnpath.make(self._secret, returnpath.BOUNCES, self._list.id, people[place].subscription, now())
            yield Transaction([place], self._list.sub("bounces", token), self._content)

    def _fits(self, sender: str, address: str) -> bool:
        """Whether Postfix can make a return-path of it: `LIST-bounces+user=domain@…`."""
        return _PLAIN.fullmatch(address) is not None and len(sender.partition("@")[0]) + len("+") + len(address) <= LOCAL_PART


class Personal:
    """One message for each. What they have in common is prepared once, around the place of a token."""

    endpoint = "postfix.personal"
    apart = True

    def __init__(self, message: Message, the_list: ListView, config: Config, site_secret: Secret, rewritten: bool) -> None:
        self._message = message
        self._rewritten = rewritten
        self._list = the_list
        self._config = config
        self._secret = site_secret
        self._key = signing.active(config.directory("dkim.directory"), the_list.domain)
        if self._key is None:
            maillog.problem("unsigned", why="the domain has no active key", domain=the_list.domain)
        self._mould = None if outgoing.addresses_reader(the_list) else self._cast()

    def transactions(self, people: Sequence[Person]) -> Iterator[Transaction]:
        today = now()
        for place, person in enumerate(people):
            leave, bounces = (
                returnpath.make(self._secret, purpose, self._list.id, person.subscription, today)
                for purpose in (returnpath.LEAVE, returnpath.BOUNCES)
            )
            yield Transaction([place], self._list.sub("bounces", bounces), self._copy(person, leave, today))

    def _copy(self, person: Person, leave: str, today: int) -> bytes:
        if self._mould:
            fields, body, digest = self._mould.filled(leave)
        else:
            prepared = self._prepared(leave, person.address, person.name)
            fields, body, digest = list(prepared.fields), prepared.body, signing.body_hash(prepared.body)
        if self._list["to_subscriber"] and person.address.isascii():
            fields = _addressed(fields, person)
        if self._key:
            fields = [signing.sign_fields(fields, digest, self._key, today), *fields]
        return b"".join([*(one.raw for one in fields), b"\r\n", body])

    def _prepared(self, leave: str, address: str = "", name: str = "") -> Message:
        """The post for one reader, in the very lines that Postfix gets: they are what is signed."""
        reader = Reader(address, name or address, mailto(self._list.sub("leave", leave)))
        return Message.parse(lines(bytes(outgoing.prepare(self._message, self._list, self._config, reader, rewritten=self._rewritten))))

    def _cast(self) -> Mould | None:
        """The mould, if copies differ in nothing but the token: tried with two."""
        one, other = (secrets.token_hex(returnpath.LENGTH)[: returnpath.LENGTH] for _time in range(2))
        mould = Mould(self._prepared(one), one)
        fields, body, _digest = mould.filled(other)
        same = Message(tuple(fields), mould.separator, body) == self._prepared(other)
        return mould if same else None


class Mould:
    """A prepared post with a token in it, to make others of that differ in the token alone; the body up to the first token is hashed once."""

    def __init__(self, message: Message, token: str) -> None:
        self.separator = message.separator
        # In quoted-printable a token may be broken in two, always at the same place (RFC 2045 section 6.7).
        self._places = re.compile(b"(?:=\r\n)?".join(letter.encode("ascii") for letter in token))
        self._fields = [(one, self._cut(one.raw)) for one in message.fields]
        self._body = self._cut(message.body)
        # A row of pieces begins and ends with text. Only the body's end is not hashed as it stands.
        first, *rest = self._body
        end = simple_body(_joined(self._body[-1:], b""))
        self._hash = hashlib.sha256(_joined([first], b"") if rest else end)
        self._canonical = [*rest[:-1], end] if rest else []

    def _cut(self, text: bytes) -> list[bytes | slice]:
        """The text as it stands, and parts of the token between."""
        pieces: list[bytes | slice] = []
        at = 0
        for found in self._places.finditer(text):
            pieces.append(text[at : found.start()])
            at, letters = found.end(), 0
            for part in found[0].split(b"=\r\n"):
                pieces += [b"=\r\n"] * bool(letters) + [slice(letters, letters + len(part))]
                letters += len(part)
        return [*pieces, text[at:]]

    def filled(self, token: str) -> tuple[list[Field], bytes, str]:
        """The fields, the body and the hash of the body, with this token."""
        new = token.encode("ascii")
        digest = self._hash.copy()
        digest.update(_joined(self._canonical, new))
        fields = [Field(_joined(pieces, new)) if len(pieces) > 1 else one for one, pieces in self._fields]
        return fields, _joined(self._body, new), base64.b64encode(digest.digest()).decode("ascii")


def _joined(pieces: Sequence[bytes | slice], token: bytes) -> bytes:
    return b"".join([piece if isinstance(piece, bytes) else token[piece] for piece in pieces])


def _addressed(fields: list[Field], person: Person) -> list[Field]:
    to = field("To", f"{phrase(person.name)} <{person.address}>" if person.name else person.address)
    at = next((index for index, one in enumerate(fields) if one.name == "to"), len(fields))
    return [*fields[:at], to, *(one for one in fields[at:] if one.name != "to")]


def hand_in(postfix: Connection, copies: Copies, people: Sequence[Person], ready: Callable[[], object]) -> Outcome:
    """Give these people their copies. `ready` is called before the first message goes; a connection that is lost is in the Outcome.

    A message refused for good to one recipient alone is that recipient's failure, if the others got theirs; else nobody is to blame yet.
    """
    refused: dict[int, Reply] = {}
    deferred: dict[int, Reply] = {}
    alone: dict[int, Reply] = {}
    left = set(range(len(people)))
    final, any_taken, one = OK, False, Transaction((), "", b"")
    try:
        for one in copies.transactions(people):
            said = _divided(postfix, people, one, _submitted(postfix, people, one, ready), ready)
            left.difference_update(one.places)
            any_taken = any_taken or said.taken
            refused |= said.refused
            deferred |= said.deferred
            if not said.taken:
                final = said.final
                rest = {place: final for place in one.places if place not in said.refused and place not in said.deferred}
                (alone if final.permanent and len(one.places) == 1 else deferred).update(rest)
    except Unavailable as error:
        return Outcome(OUR_FAULT, refused, deferred | alone | dict.fromkeys(left, OUR_FAULT), error, len(one.places) if error.doubtful else 0)
    if any_taken:
        return Outcome(OK, refused | alone, deferred)
    return Outcome(final, refused, deferred | alone)


def _divided(postfix: Connection, people: Sequence[Person], one: Transaction, whole: Outcome, ready: Callable[[], object]) -> Outcome:
    """What became of a transaction in the end: one that Postfix refuses for good is split, so that whoever it is for the sake of does not keep the
    others from theirs. Where it takes neither half, it is not for one recipient's sake.
    """
    middle = len(one.places) // 2
    if whole.taken or not middle or not whole.final.permanent or len(whole.refused) + len(whole.deferred) == len(one.places):
        return whole
    halves = [replace(one, places=one.places[:middle]), replace(one, places=one.places[middle:])]
    parts = [_submitted(postfix, people, half, ready) for half in halves]
    if not any(part.taken for part in parts):
        return whole
    refused: dict[int, Reply] = {}
    deferred: dict[int, Reply] = {}
    for half, part in zip(halves, parts, strict=True):
        said = _divided(postfix, people, half, part, ready)
        rest = {place: said.final for place in half.places if not said.taken and place not in said.refused and place not in said.deferred}
        (refused if said.final.permanent and len(half.places) == 1 else deferred).update(rest)
        refused |= said.refused
        deferred |= said.deferred
    return Outcome(OK, refused, deferred)


def _submitted(postfix: Connection, people: Sequence[Person], one: Transaction, ready: Callable[[], object]) -> Outcome:
    """One transaction, its recipients named by their places in the chunk."""
    addresses = [people[place].address for place in one.places]
    said = postfix.submit(one.reverse_path, addresses, one.content, one.parameters, ready)
    refused, deferred = ({one.places[place]: reply for place, reply in table.items()} for table in (said.refused, said.deferred))
    return Outcome(said.final, refused, deferred)
