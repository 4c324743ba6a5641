"""A site with a list that people moderate: the LMTP door's decisions in this process, and a Postfix that only remembers what it is given."""

from __future__ import annotations

import email
import email.message
import email.policy
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from database_fixture import SHELL, open_list, open_site
from peewee import fn
from smtppeer import Letter, Peer

from kelou import authorseal, lifecycle, people, secret
from kelou.config import Config
from kelou.database import connection, transaction
from kelou.directory import ListView
from kelou.distribution import Distributor
from kelou.lmtp.delivery import Door, Envelope, deliver
from kelou.message import Message
from kelou.models import HeldPost, Token, now
from kelou.policy import Author
from kelou.reply import Reply

ALICE, BOB, CAROL = "alice@example.org", "bob@example.net", "carol@example.net"
MOIRA, MAX, OWNER = "moira@example.org", "max@example.org", "owner@example.org"
STRANGER = "mallory@example.com"
LIST = "amis@lists.example.org"
KEY = re.compile(r"amis-confirm\+([a-z2-7]{26})@lists\.example\.org")
QUEUE_ID = "4XyZ1234abc"


def post(number: int = 1, author: str = ALICE, body: str = "Hello.", subject: str = "News", extra: str = "") -> bytes:
    header = f"From: Someone <{author}>\r\nTo: {LIST}\r\nSubject: {subject}\r\nMessage-ID: <{number}@example.org>\r\n"
    return f"{header}{extra}\r\n{body}\r\n".encode()


@dataclass
class Moderated:
    """The site; `list` is moderated by Moira and Max, and Alice, Bob and Carol are subscribed."""

    directory: Path
    peer: Peer = field(default_factory=Peer)
    type: str = "moderated"

    def __post_init__(self) -> None:
        self.config: Config = open_site(self.directory, self.peer.endpoint)
        self.secret = secret.load(self.config)
        self.door = Door(self.config, self.secret, Distributor(self.config, self.secret, "this"))
        self.list: ListView = open_list(self.config, type=self.type)
        for address in (MOIRA, MAX):
            people.add_role(self.config, SHELL, self.list, "moderator", address)
        for address in (ALICE, BOB, CAROL):
            people.subscribe(self.config, SHELL, self.list, address, quiet=True)
        self.peer.letters.clear()

    def close(self) -> None:
        self.door.distributor.close()
        self.peer.close()

    def set(self, **values: str) -> None:
        """Set something for the list."""
        self.list = lifecycle.set_values(self.config, SHELL, self.list, values).list

    def deliver(self, content: bytes, recipient: str = LIST, reverse_path: str = ALICE, author: str = "", queue_id: str = QUEUE_ID) -> Reply:
        """What Postfix brings; `author` is who the milter found to have written it."""
        if author:
            content = authorseal.seal(self.secret, Author(author, "test"), queue_id, Message.parse(content), now()).raw + content
        return deliver(self.door, Envelope(reverse_path, recipient, queue_id), content)

    def hold(self, content: bytes | None = None, author: str = ALICE, **more: Any) -> int:
        """Have a post held; its number."""
        assert self.deliver(post() if content is None else content, author=author, **more).status == "2.6.0"
        with connection():
            return int(HeldPost.select(fn.MAX(HeldPost.id)).scalar())

    def row(self, number: int) -> Any:
        with connection():
            return HeldPost.get_by_id(number)

    def count(self) -> int:
        with connection():
            return int(HeldPost.select().count())

    def mails(self, to: str = "", of: str = "") -> list[email.message.EmailMessage]:
        """The notices so far, to somebody, with a text in their subject."""
        found = [letter for letter in self.peer.letters if self.is_notice(letter) and (not to or letter.recipients == [to])]
        read = [email.message_from_bytes(letter.content, policy=email.policy.default) for letter in found]
        return [mail for mail in read if isinstance(mail, email.message.EmailMessage) and of in str(mail["Subject"])]

    def is_notice(self, letter: Letter) -> bool:
        return letter.mail.startswith("MAIL FROM:<>") and not letter.recipients[0].startswith("kelou-distribute+")

    def copies(self) -> list[Letter]:
        """What was distributed."""
        return [letter for letter in self.peer.letters if letter.mail.startswith("MAIL FROM:<amis-bounces@")]

    def triggers(self) -> list[Letter]:
        return [letter for letter in self.peer.letters if letter.recipients[0].startswith("kelou-distribute+")]

    def run(self) -> list[int]:
        """Bring back the triggers that Postfix was given, and forget them; the codes of the replies."""
        given = self.triggers()
        for letter in given:
            self.peer.letters.remove(letter)
        return [self.deliver(letter.content, letter.recipients[0], "").code for letter in given]

    def key(self, to: str, number: int = -1) -> str:
        """The key in a notice that somebody got."""
        match = KEY.search(self.mails(to)[number].as_string().replace("=\n", ""))
        assert match
        return match[1]

    def answer(self, key: str, body: str = "", subject: str = "Re: Post to approve", reverse_path: str = MOIRA, extra: str = "") -> Reply:
        content = f"From: {reverse_path}\r\nTo: {LIST}\r\nSubject: {subject}\r\nMessage-ID: <answer@example.org>\r\n{extra}\r\n".encode()
        content += body.replace("\n", "\r\n").encode() + b"\r\n"
        return self.deliver(content, f"amis-confirm+{key}@lists.example.org", reverse_path)

    def later(self, seconds: int) -> None:
        """Let time pass: all that has happened is so much longer ago."""
        with transaction():
            columns = (HeldPost.received, HeldPost.expires, HeldPost.noticed, HeldPost.reminded, HeldPost.decided)
            HeldPost.update({column: column - seconds for column in columns}).execute()
            Token.update({column: column - seconds for column in (Token.created, Token.expires, Token.used)}).execute()


def text(mail: email.message.EmailMessage) -> str:
    """The text of a notice."""
    part = mail.get_body(("plain",))
    assert part
    content = part.get_content()
    assert isinstance(content, str)
    return content.replace("\r\n", "\n")
