"""Commands by mail on the whole way, over the port that the Internet reaches: authors proved by DKIM in the sandbox's DNS, or by a key."""

from __future__ import annotations

import email
import email.policy
import re
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote
from uuid import uuid4

import dns.message
import dns.query
import pytest
import signer
from conftest import Delivered, Sandbox
from test_e2e_milter import LISTS

HERE = "commands.example"  # a domain that signs
COMMANDS = f"sympa@{LISTS}"


@pytest.fixture(scope="module", autouse=True)
def zone(sandbox: Sandbox) -> Iterator[None]:
    """The key of the people in this story."""
    path = Path(sandbox.info["zone"])
    before = path.read_text()
    path.write_text(f'{before}\ns1._domainkey.{HERE}. 60 IN TXT "{signer.record().decode()}"\n{HERE}. 60 IN A 192.0.2.1\n')
    host, _colon, port = str(sandbox.info["dns"]).rpartition(":")
    deadline = time.monotonic() + 10
    while not dns.query.udp(dns.message.make_query(f"{HERE}.", "A"), host, 5, int(port)).answer:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    yield
    path.write_text(before)


class People:
    """Who writes and reads: each has a mailbox in the world."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.seen: set[bytes] = set()

    def address(self, name: str) -> str:
        return f"{name}.{uuid4().hex[:8]}@{HERE}"

    def write(self, author: str, to: str, subject: str = "", body: str = "", *, signed: bool = True, by: str = HERE, **client: str) -> None:
        """Send a mail as a mail client would, with the signature of the author's provider or without."""
        content = (
            f"From: Somebody <{author}>\r\nTo: {to}\r\nSubject: {subject}\r\nDate: Mon, 23 Nov 2026 12:00:00 +0000\r\n"
            f"Message-ID: <{uuid4()}@{HERE}>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{body}"
        ).replace("\r\n", "\n").replace("\n", "\r\n").encode()  # fmt: skip
        dialogue = self.sandbox.untrusted(author, to, signer.sign(content, domain=by) if signed else content, **client)
        assert dialogue.accepted, dialogue

    def letters(self, to: str) -> list[Delivered]:
        return [one for one in self.sandbox.delivered() if one.delivered_to == to and one.content not in self.seen]

    def read(self, to: str) -> email.message.EmailMessage:
        """The next mail that somebody gets."""
        deadline = time.monotonic() + 30
        while not (found := self.letters(to)):
            assert time.monotonic() < deadline, self.sandbox.log()[-3000:]
            time.sleep(0.05)
        self.seen.add(found[0].content)
        parsed = email.message_from_bytes(found[0].content, policy=email.policy.default)
        assert isinstance(parsed, email.message.EmailMessage)
        return parsed

    def nothing(self, to: str) -> bool:
        """Whether they got nothing. A mail sent after it to another has arrived by then, and so would this one."""
        late = self.address("later")
        self.write(late, COMMANDS, "help")
        self.read(late)
        return not self.letters(to)


@pytest.fixture
def people(sandbox: Sandbox) -> People:
    return People(sandbox)


def text(message: email.message.EmailMessage) -> str:
    part = message.get_body(("plain",))
    assert part is not None
    content: str = part.get_content()
    return content.replace("\r\n", "\n")


def make(people: People, *settings: str, kind: str = "working-group") -> tuple[str, str, str]:
    """A list, with its owner and a subscriber."""
    name, owner, jane = f"c{uuid4().hex[:10]}", people.address("owner"), people.address("jane")
    for arguments in (
        ("list", "create", name, "--owner", owner, "--type", kind, "--subject", "News"),
        ("list", "set", name, "language=en", *settings),
        ("member", "add", name, jane, "--quiet"),
    ):
        done = people.sandbox.kelou(*arguments)
        assert done.returncode == 0, done.stderr
    people.read(owner)
    return name, owner, jane


def subscribers(people: People, name: str) -> list[str]:
    return [row["email"] for row in people.sandbox.json("member", "list", name)]


def footer_link(people: People, name: str, owner: str, reader: str) -> tuple[str, str]:
    """Address and subject of the link below a post, as a click on it fills them in."""
    people.write(owner, f"{name}@{LISTS}", "A letter", "Bonjour\n")
    link = re.search(r"mailto:([^?\s>]+)(?:\?subject=([^\s>]+))?", text(people.read(reader)))
    assert link
    return unquote(link[1]), unquote(link[2] or "")


def test_the_footer_unsubscribes_who_is_certain_at_once(people: People) -> None:
    """The link below a post, clicked by a subscriber whose provider signs: gone, with one mail that says so, below theirs."""
    name, owner, jane = make(people)
    to, subject = footer_link(people, name, owner, jane)
    assert (to, subject) == (COMMANDS, f"unsubscribe {name}")
    people.write(jane, to, subject)
    goodbye = people.read(jane)
    assert "no longer subscribed" in text(goodbye)
    assert (goodbye["Auto-Submitted"], bool(goodbye["In-Reply-To"])) == ("auto-replied", True)
    assert subscribers(people, name) == []


def test_the_footer_unsubscribes_who_is_not_after_a_confirmation(people: People) -> None:
    """The same from a provider that signs nothing: a confirmation to that address; a reply to it does it. The key is unknown from then on."""
    name, owner, jane = make(people)
    to, subject = footer_link(people, name, owner, jane)
    people.write(jane, to, subject, signed=False)
    asked = people.read(jane)
    assert subscribers(people, name) == [jane]
    people.write(jane, str(asked["Reply-To"]), f"Re: {asked['Subject']}", signed=False)
    assert "no longer subscribed" in text(people.read(jane))
    assert subscribers(people, name) == []
    dialogue = people.sandbox.untrusted(jane, str(asked["Reply-To"]), b"From: <x@y.example>\r\n\r\n")
    assert dialogue.recipients[0].startswith("550 5.1.1")


@pytest.mark.parametrize("signed", [True, False])
def test_a_readers_own_link_unsubscribes_at_once(people: People, signed: bool) -> None:
    """A personal copy's link is a key: certain or not, one click. Used by somebody it was forwarded to, it has the reader asked."""
    name, owner, jane = make(people, kind="newsletter")
    to, _subject = footer_link(people, name, owner, jane)
    assert to.startswith(f"{name}-leave+")
    people.write(people.address("friend"), to, signed=signed)
    assert "confirm" in str(people.read(jane)["Reply-To"])
    assert subscribers(people, name) == [jane]
    people.write(jane, to, signed=signed)
    assert "no longer subscribed" in text(people.read(jane))
    assert subscribers(people, name) == []


@pytest.mark.parametrize("how", ["forged", "signed by another domain", "by name"])
def test_nobody_unsubscribes_somebody_else(people: People, how: str) -> None:
    """Neither with their From, nor with it and a good signature of one's own, nor by naming them."""
    name, _owner, jane = make(people)
    mallory = people.address("mallory")
    if how == "forged":
        people.write(jane, COMMANDS, f"unsubscribe {name}", signed=False)
    elif how == "signed by another domain":
        people.write(jane, COMMANDS, f"unsubscribe {name}", by="elsewhere.example")
    else:
        people.write(mallory, COMMANDS, f"unsubscribe {name} {jane}")
        assert "is asked to confirm" in text(people.read(mallory))
    assert "confirm" in text(people.read(jane))
    assert subscribers(people, name) == [jane]


def test_a_stranger_gets_no_answer(people: People) -> None:
    """Questions and nonsense by who is not certain: silence."""
    name, _owner, _jane = make(people)
    nobody = people.address("nobody")
    for subject in ("help", "lists", f"info {name}", f"review {name}", "Buy this", f"subscribe nonsense{name}"):
        people.write(nobody, COMMANDS, subject, signed=False)
    assert people.nothing(nobody)


def test_one_client_and_many_victims(people: People) -> None:
    """One client has a few confirmations sent in an hour, whoever they are for: what Postfix knows of it reaches the cap."""
    names = [make(people)[0] for _ in range(2)]
    victims = [f"v{number}@victim{number}.example" for number in range(36)]
    for number, victim in enumerate(victims):
        people.write(victim, f"{names[number % 2]}-subscribe@{LISTS}", signed=False, ADDR="192.0.2.201")
    assert people.nothing(victims[-1])
    assert sum(bool(people.letters(victim)) for victim in victims) == 30


@pytest.mark.parametrize("language", ["en", "fr"])
def test_the_whole_story_by_mail_alone(people: People, language: str) -> None:
    """Request, notice, activation, set-up, a batch, a post, its footer, and goodbye."""
    french = language == "fr"
    name, ann, chief = f"s{uuid4().hex[:10]}", people.address("ann"), people.address("chief")
    assert people.sandbox.kelou("listmaster", "add", chief).returncode == 0

    fields = 'type=newsletter objet="Nos jardins" langue=fr' if french else 'type=newsletter subject="Our gardens" language=en'
    people.write(ann, COMMANDS, f"{'demande' if french else 'request'} {name} {fields}")
    assert name in text(people.read(ann))
    notice = people.read(chief)
    assert people.sandbox.json("list", "show", name)["status"] == "pending"
    people.write(chief, str(notice["Reply-To"]), f"Re: {notice['Subject']}", "Activer\n\n> …" if french else "activate\n\n> …")
    told = {text(people.read(ann))}
    assert any(name in one for one in told)

    people.write(ann, COMMANDS, "", f"régler {name} reply_to list\n" if french else f"set {name} reply_to list\n")
    assert "reply_to" in text(people.read(ann))
    readers = [people.address(f"reader{number}") for number in range(3)]
    people.write(ann, COMMANDS, f"ajouter {name}" if french else f"add {name}", "".join(f"{reader} Jean Le Goff\n" for reader in readers))
    assert "3 " in text(people.read(ann))
    for reader in readers:
        assert "Jean Le Goff" in text(people.read(reader))

    to, subject = footer_link(people, name, ann, readers[0])
    people.write(readers[0], to, subject)
    assert ("désabonné(e)" if french else "no longer subscribed") in text(people.read(readers[0]))
    assert sorted(subscribers(people, name)) == sorted(readers[1:])
    assert people.sandbox.kelou("listmaster", "remove", chief).returncode == 0
