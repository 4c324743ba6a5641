"""The authenticated author, from the milter that saw the client to the LMTP handler that decides: a sealed header field, `Kelou-Author`.

    Kelou-Author: q=QUEUE-ID; t=TIME; a=ADDRESS; w=WHY; f=FLAGS; m=DIGEST; s=SEAL

ADDRESS and WHY are percent-encoded, so that no blank or semicolon in them matters, nor any folding under way. FLAGS are `trouble` and `forbidden`.
DIGEST is over From, Date, Message-ID and Subject: with the queue id it ties the field to the one message that the milter saw.
"""

from __future__ import annotations

import hashlib
from urllib.parse import quote, unquote

from .message import Field, Message, field
from .policy import Author
from .secret import AUTHOR, Secret

LIFETIME = 10 * 86400  # seconds; twice Postfix's maximal_queue_lifetime

_FLAGS = ("trouble", "forbidden")
_WHY = 250  # characters; percent-encoded they are still one line (RFC 5322 section 2.1.1)
_BOUND = ("from", "date", "message-id", "subject")


def seal(secret: Secret, author: Author, queue_id: str, message: Message, now: int) -> Field:
    """The field that tells who wrote this message, which Postfix keeps under this queue id."""
    flags = ",".join(flag for flag in _FLAGS if getattr(author, flag))
    tags = {"q": queue_id, "t": str(now), "a": author.address, "w": author.why[:_WHY], "f": flags, "m": _digest(message)}
    shown = "; ".join(f"{name}={quote(text, safe='@+=,')}" for name, text in tags.items())
    return field(AUTHOR, f"{shown}; s={secret.seal('author', *tags.values())}")


def open(secret: Secret, message: Message, queue_id: str, now: int) -> Author:
    """Who wrote this message, as the milter found. Nobody, with the reason, where it did not say, or where somebody else did."""
    found = message.all(AUTHOR)
    author = next((author for one in found if (author := _open(secret, one, message, queue_id, now))), None)
    return author or Author("", "its seal is not ours" if found else "the milter did not see it")


def _open(secret: Secret, one: Field, message: Message, queue_id: str, now: int) -> Author | None:
    words = b"".join(one.value.split()).decode("ascii", "replace").split(";")
    tags = {name: unquote(text) for name, _equals, text in (word.partition("=") for word in words)}
    mark = tags.pop("s", "")
    if list(tags) != list("qtawfm") or not secret.holds(mark, "author", *tags.values()):
        return None
    if tags["q"] != queue_id or tags["m"] != _digest(message) or abs(now - int(tags["t"])) > LIFETIME:
        return None
    flags = tags["f"].split(",")
    return Author(tags["a"], tags["w"], **{flag: flag in flags for flag in _FLAGS})


def _digest(message: Message) -> str:
    digest = hashlib.sha256()
    for name in _BOUND:
        for one in message.all(name):
            digest.update(name.encode("ascii") + b":" + b" ".join(one.value.split()) + b"\n")  # folding may differ
    return digest.hexdigest()[:32]
