"""Mail with commands, delivered as Postfix delivers it: by an author who is certain or not, and what was sent for it."""

from __future__ import annotations

import email
import email.policy
import re
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from database_fixture import DOMAIN, open_site
from smtppeer import Peer

from kelou import authorseal, database, secret
from kelou.config import Config
from kelou.distribution import Distributor
from kelou.lmtp.delivery import Door, Envelope, deliver
from kelou.message import Message
from kelou.models import now
from kelou.policy import Author

COMMANDS = f"sympa@{DOMAIN}"
KEY = re.compile(r"confirm\+([a-z2-7]{26})@")
_number = count(1)


@dataclass
class Sent:
    """A notice: to whom, and what it says."""

    to: str
    message: Message
    text: str

    @property
    def key(self) -> str:
        """The key in its Reply-To."""
        found = KEY.search(self.message.text("reply-to"))
        assert found, self.text
        return found[1]

    @property
    def answer_to(self) -> str:
        return self.message.text("reply-to")


@dataclass
class Site:
    """A site with a door and a Postfix that keeps what it is given."""

    directory: Path
    language: str = "en"
    peer: Peer = field(default_factory=Peer)

    def __post_init__(self) -> None:
        self.config: Config = open_site(self.directory, self.peer.endpoint, site__language=self.language)
        self.secret = secret.load(self.config)
        self.door = Door(self.config, self.secret, Distributor(self.config, self.secret, "test"))

    def write(
        self, author: str, subject: str = "", body: str = "", to: str = COMMANDS, *, sure: bool = True, client: str = "", extra: str = "", raw: bytes = b"",
        reverse_path: str | None = None,
    ) -> list[Sent]:  # fmt: skip
        """Deliver a mail; what was sent for it."""
        queue_id = f"Q{next(_number)}"
        content = self.sealed(author, subject, body, to, sure=sure, extra=extra, raw=raw, queue_id=queue_id)
        return self.deliver(content, to, author if reverse_path is None else reverse_path, queue_id, client)

    def sealed(
        self, author: str, subject: str, body: str = "", to: str = COMMANDS, *, sure: bool = True, extra: str = "", raw: bytes = b"", queue_id: str = "Q1"
    ) -> bytes:
        """A mail as the milter passes it on."""
        head = f"From: <{author}>\r\nTo: {to}\r\nSubject: {subject}\r\nMessage-ID: <{next(_number)}@example.org>\r\n{extra}"
        content = raw or f"{head}\r\n{body}".replace("\r\n", "\n").replace("\n", "\r\n").encode()
        if not sure:
            return content
        return authorseal.seal(self.secret, Author(author.lower(), "test"), queue_id, Message.parse(content), now()).raw + content

    def use(self) -> None:
        """Bind the models to this site's database."""
        database.open_database(self.config)

    def deliver(self, content: bytes, to: str, reverse_path: str, queue_id: str = "Q", client: str = "") -> list[Sent]:
        before = len(self.peer.letters)
        self.reply = deliver(self.door, Envelope(reverse_path, to, queue_id, client), content)
        return [read(letter.recipients[0], letter.content) for letter in self.peer.letters[before:]]


def read(to: str, content: bytes) -> Sent:
    part = email.message_from_bytes(content, policy=email.policy.default).get_body(("plain",))
    assert part is not None
    return Sent(to, Message.parse(content), part.get_content().replace("\r\n", "\n"))
