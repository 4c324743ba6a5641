"""The posts under tests/messages, and what a mail client makes of a post."""

from __future__ import annotations

import email
import email.message
from pathlib import Path

from kelou.message import Message

FOLDER = Path(__file__).with_name("messages")
NAMES = sorted(path.stem for path in FOLDER.glob("*.eml"))


def load(name: str) -> Message:
    return Message.parse((FOLDER / f"{name}.eml").read_bytes())


def leaves(message: Message) -> list[email.message.Message]:
    """The leaves as another parser than ours finds them."""
    return [part for part in email.message_from_bytes(bytes(message)).walk() if not part.is_multipart()]


def shown(part: email.message.Message) -> str:
    """A leaf's text as that parser decodes it."""
    data = part.get_payload(decode=True)
    assert isinstance(data, bytes)
    return data.decode(part.get_content_charset() or "us-ascii").replace("\r\n", "\n")
