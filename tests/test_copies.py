"""Copies: who gets which bytes from which return-path, in each mode of delivery."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dkim
import pytest
from database_fixture import DOMAIN, NOBODY, open_list, open_site
from smtppeer import HANG_UP, Peer

from kelou import copies, returnpath, secret, signing
from kelou.config import Config
from kelou.copies import Person
from kelou.directory import ListView
from kelou.message import Message
from kelou.returnpath import BOUNCES, LEAVE
from kelou.submission import Connection, Outcome

HEAD = (
    b"From: Alice <alice@example.org>\r\nTo: amis@lists.example.org\r\nSubject: News\r\nMessage-ID: <1@example.org>\r\n"
    b"Date: Mon, 1 Jan 2024 00:00:00 +0000\r\nMIME-Version: 1.0\r\n"
)
PLAIN = b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nBonjour \xc3\xa0 tous.\r\n"
BASE64 = b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\nQm9uam91ciDDoCB0b3VzLg==\r\n"
QUOTED = b"Content-Type: text/html; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n<p>Bonjour =E0 tous</p>\r\n"
PARTS = (
    b'Content-Type: multipart/alternative; boundary="x"\r\n\r\n--x\r\nContent-Type: text/plain\r\n\r\nHi\r\n--x\r\n'
    b"Content-Type: text/html\r\n\r\n<b>Hi</b>\r\n--x--\r\n"
)
PICTURE = b"Content-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\niVBORw0KGgo=\r\n"
ODD = b"Content-Type: text/plain\r\n\r\nbare\nends\rhere\n.\n\n\n"

ANN = Person(1, 11, "Ann@example.net", "Ann Élise")
BOB = Person(2, 12, "bob@example.net", "")
PEOPLE = [ANN, BOB, Person(3, 13, "carl@example.org", "Carl")]


@dataclass
class Desk:
    """A list whose copies are made, and the records of the keys they are signed with."""

    config: Config
    list: ListView
    records: dict[bytes, bytes]
    peer: Peer

    def set(self, **values: Any) -> Desk:
        self.list = replace(self.list, settings={**self.list.settings, **values})
        return self

    def make(self, body: bytes = PLAIN) -> copies.Copies:
        return copies.of(Message.parse(HEAD + body), "<1@example.org>", 0, self.list, self.config, secret.load(self.config))

    def hand_in(self, people: list[Person], body: bytes = PLAIN) -> Outcome:
        with Connection(self.peer.endpoint) as postfix:
            return copies.hand_in(postfix, self.make(body), people, bool)

    def mark(self, purpose: str, token: str) -> int:
        found = returnpath.read(secret.load(self.config), purpose, token)
        assert found is not None
        assert found.list == self.list.id
        return found.subscription

    def verified(self, content: bytes) -> bool:
        return bool(dkim.verify(content, dnsfunc=lambda name, timeout=5: self.records.get(bytes(name).rstrip(b"."))))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Callable[..., Desk]]:
    peers: list[Peer] = []

    def make(**replies: str | list[str]) -> Desk:
        peers.append(Peer({"." if key == "dot" else key: value for key, value in replies.items()}))
        config = open_site(tmp_path, NOBODY, dkim__directory=str(tmp_path / "dkim"))
        record = signing.create(tmp_path / "dkim", DOMAIN, "s1")
        return Desk(config, open_list(config), {f"s1._domainkey.{DOMAIN}".encode(): record.encode()}, peers[0])

    yield make
    for peer in peers:
        peer.close()


@pytest.mark.parametrize("footer", ["", "-- \n{subject}: {unsubscribe}", "Pour {email} ({name}), où {unsubscribe}"], ids=["none", "link", "named"])
@pytest.mark.parametrize("body", [PLAIN, BASE64, QUOTED, PARTS, PICTURE, ODD], ids=["plain", "base64", "quoted", "parts", "picture", "odd"])
def test_each_personal_copy_is_signed(desk: Callable[..., Desk], body: bytes, footer: str) -> None:
    """What arrives verifies, has one way out that is its reader's own, and names nobody else."""
    here = desk().set(delivery="personal", footer=footer)
    assert here.hand_in(PEOPLE, body).taken
    assert [letter.recipients for letter in here.peer.letters] == [[person.address] for person in PEOPLE]
    for person, letter in zip(PEOPLE, here.peer.letters, strict=True):
        content = letter.content.replace(b"\r\n..", b"\r\n.")
        assert here.verified(content)
        assert not here.verified(content.replace(b"List-Unsubscribe: <", b"List-Unsubscribe: <https://evil.example/>, <"))
        message = Message.parse(content)
        sender = letter.mail.partition("<")[2].partition(">")[0]
        assert here.mark(BOUNCES, sender.partition("+")[2].partition("@")[0]) == person.subscription
        (leave,) = message.all("list-unsubscribe")
        token = leave.text.partition("%2B")[2].partition("@")[0]
        assert leave.text == f"<mailto:amis-leave%2B{token}@{DOMAIN}>"
        assert here.mark(LEAVE, token) == person.subscription
        assert message.text("to") == "amis@lists.example.org"
        assert not any(other.address.encode() in content for other in PEOPLE if other is not person)
        if footer and body == PLAIN:
            assert token.encode() in message.body
        if "email" in footer and body == PLAIN:
            assert f"Pour {person.address} ({person.name or person.address}), où".encode() in message.body


def test_one_preparation_serves_all(desk: Callable[..., Desk], monkeypatch: pytest.MonkeyPatch) -> None:
    """The post is prepared twice, to find the places of the token, however many copies there are."""
    here = desk().set(delivery="personal", footer="{unsubscribe}")
    prepare, count = copies.outgoing.prepare, list[int]()
    monkeypatch.setattr(copies.outgoing, "prepare", lambda *given, **more: count.append(1) or prepare(*given, **more))
    people = [Person(number, number, f"user{number}@example.net", "") for number in range(1, 30)]
    assert here.hand_in(people).taken
    assert len(here.peer.letters) == 29
    assert len(count) == 2


def test_to_names_the_reader(desk: Callable[..., Desk]) -> None:
    """If the list asks for it, in the place where the author's To stood."""
    here = desk().set(delivery="personal", to_subscriber=True)
    here.hand_in([ANN, BOB])
    first, second = (Message.parse(letter.content) for letter in here.peer.letters)
    assert (first.text("to"), second.text("to")) == ("Ann Élise <Ann@example.net>", "bob@example.net")
    assert len(first.all("to")) == 1
    assert here.verified(here.peer.letters[0].content)


def test_no_key_no_signature(desk: Callable[..., Desk], tmp_path: Path) -> None:
    """Without a key copies go out unsigned, as those that the milter has no key for."""
    here = desk().set(delivery="personal")
    (tmp_path / "dkim" / DOMAIN / "selectors").unlink()
    assert here.hand_in([ANN]).taken
    assert b"DKIM-Signature" not in here.peer.letters[0].content


def test_a_long_name_still_fits(desk: Callable[..., Desk]) -> None:
    """Return-path and way out stay within 64 octets before the @ (RFC 5321 section 4.5.3.1.1)."""
    here = desk().set(delivery="personal")
    here.list = replace(here.list, name="a" * 50)
    here.hand_in([ANN])
    sender = here.peer.letters[0].mail.partition("<")[2].partition(">")[0]
    assert sender.startswith("bounces+")
    assert b"<mailto:leave%2B" in here.peer.letters[0].content


def test_verp(desk: Callable[..., Desk]) -> None:
    """Postfix writes the return-paths; who does not fit into one gets a copy alone, with our token."""
    long, odd = Person(8, 18, f"{'x' * 40}@example.net", ""), Person(9, 19, '"a b"@example.net', "")
    here = desk().set(delivery="verp")
    assert here.hand_in([ANN, long, BOB, odd]).taken
    first, second, third = here.peer.letters
    assert first.mail == f"MAIL FROM:<amis-bounces@{DOMAIN}> BODY=8BITMIME XVERP=+="
    assert first.recipients == [ANN.address, BOB.address]
    for letter, person in ((second, long), (third, odd)):
        sender = letter.mail.partition("<")[2].partition(">")[0]
        assert letter.recipients == [person.address]
        assert "XVERP" not in letter.mail
        assert here.mark(BOUNCES, sender.partition("+")[2].partition("@")[0]) == person.subscription


LATER, NEVER = "451 4.3.0 Later", "550 5.7.1 No"


@pytest.mark.parametrize(
    ("replies", "taken", "refused", "deferred", "letters"),
    [
        ([NEVER, "250 Ok", NEVER, NEVER, "250 Ok", "250 Ok"], True, {2}, set(), 2),
        ([NEVER, "250 Ok", "250 Ok"], True, set(), set(), 2),
        ([NEVER, NEVER, NEVER], False, set(), {0, 1, 2, 3}, 0),
        ([LATER], False, set(), {0, 1, 2, 3}, 0),
        ([NEVER, LATER, "250 Ok"], True, set(), {0, 1}, 1),
    ],
    ids=["for the sake of one", "too many at once", "for nobody's sake", "not now", "half not now"],
)
def test_a_refused_transaction_is_split(
    desk: Callable[..., Desk], replies: list[str], taken: bool, refused: set[int], deferred: set[int], letters: int
) -> None:
    """Whoever Postfix refuses a message for the sake of is found, and the others get it; what it takes in no part is nobody's failure."""
    people = [Person(number, number, f"user{number}@example.net", "") for number in range(4)]
    here = desk(dot=[*replies, replies[-1]])
    outcome = here.hand_in(people)
    assert (outcome.taken, set(outcome.refused), set(outcome.deferred)) == (taken, refused, deferred)
    assert len(here.peer.letters) == letters


@pytest.mark.parametrize(
    ("replies", "refused", "deferred"),
    [(["250 Ok", NEVER, "250 Ok"], {1}, set()), (["250 Ok", LATER, "250 Ok"], set(), {1}), ([NEVER], set(), {0, 1, 2})],
    ids=["one refused", "one put off", "all refused"],
)
def test_a_copy_that_is_refused(desk: Callable[..., Desk], replies: list[str], refused: set[int], deferred: set[int]) -> None:
    """One copy refused while the others were taken is that reader's failure; where all are, nobody is to blame."""
    outcome = desk(dot=replies).set(delivery="personal").hand_in(PEOPLE)
    assert (set(outcome.refused), set(outcome.deferred)) == (refused, deferred)


def test_postfix_leaves_in_the_middle(desk: Callable[..., Desk]) -> None:
    """What was taken before stays taken; the one whose reply never came is the doubt."""
    outcome = desk(dot=["250 Ok", HANG_UP]).set(delivery="personal").hand_in(PEOPLE)
    assert outcome.lost is not None
    assert (set(outcome.deferred), outcome.refused, outcome.doubtful) == ({1, 2}, {}, 1)


def test_what_may_be_in_doubt() -> None:
    """A chunk of personal copies is never larger than what may be in doubt, shared among the connections."""
    the_list = ListView(1, "a", DOMAIN, "a", "open", "discussion", "", {"delivery": "personal"}, {})
    shared = replace(the_list, settings={"delivery": "shared"})
    sizes = [
        (copies.chunk(the_list, Config(Path("x"), values)), copies.chunk(shared, Config(Path("x"), values)))
        for values in (
            {},
            {"distribution.chunk": 8, "distribution.connections": 4},
            {"distribution.chunk": 1, "distribution.connections": 9},
        )
    ]
    assert sizes == [(50, 500), (2, 8), (1, 1)]
