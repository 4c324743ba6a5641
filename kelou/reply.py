"""Replies: a reply code, an enhanced status code and a text (RFC 5321 section 4.2, RFC 3463)."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reply:
    """What a client is told: `550 5.7.1 text`. The text is for the person behind the client; it is ASCII by the time it is on the wire."""

    code: int
    status: str
    text: str

    def __str__(self) -> str:
        return f"{self.code} {self.status} {self.text}"

    @property
    def permanent(self) -> bool:
        return self.code >= 500

    @property
    def wire(self) -> str:
        """The reply in one line of ASCII, at most 512 octets with its CRLF (RFC 5321 section 4.5.3.1.5)."""
        return f"{self.code} {self.status} {to_ascii(self.text)}"[:500]


OK = Reply(250, "2.0.0", "OK")
HELD = Reply(250, "2.6.0", "Held for the moderators")
DISCARDED = Reply(250, "2.0.0", "OK, not distributed")
OUR_FAULT = Reply(451, "4.3.0", "The list server has a problem; the message stays queued and is tried again")


def to_ascii(text: str) -> str:
    """Text without accents and control characters; what has no ASCII form becomes `?`."""
    plain = unicodedata.normalize("NFKD", text.replace("’", "'").replace("«", '"').replace("»", '"').replace("œ", "oe").replace("…", "..."))
    kept = "".join(c for c in plain if not unicodedata.combining(c))
    return " ".join(kept.encode("ascii", "replace").decode("ascii").translate(dict.fromkeys([*range(32), 127], " ")).split())
