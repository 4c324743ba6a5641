"""Subscribing many at once from a file (abonnements par lots): one person a line, bad lines reported, good ones in.

A line is `Email[space]Name`, `Name <email>`, or CSV with commas, semicolons or tabs; `#` begins a comment, blank lines do not count.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from .audit import Actor
from .config import Config
from .directory import ListView


@dataclass(frozen=True, slots=True)
class Line:
    """A line that names somebody, or fails to: then `error` says why."""

    number: int
    input: str
    email: str = ""
    name: str = ""
    key: str = ""
    error: str = ""


@dataclass(slots=True)
class Report:
    """What became of each line. `lines` are objects {line, input, result, detail}; result: added, already, invalid, blocked, full, removed."""

    added: int = 0
    already: int = 0
    invalid: int = 0
    blocked: int = 0
    removed: int = 0
    lines: list[dict[str, Any]] = field(default_factory=list)
    untold: int = 0  # welcomes that Postfix did not take
    rejected: list[str] = field(default_factory=list)  # the lines that did not get in, as they were: for --reject-file

    @property
    def complete(self) -> bool:
        """Whether every line got in."""
        return not self.rejected


def parse(data: bytes) -> Iterator[Line]:
    """The people in a file of any of those forms, in any usual encoding. Never raises."""
    raise NotImplementedError


def apply(
    config: Config,
    actor: Actor,
    the_list: ListView,
    data: bytes,
    *,
    sync: bool = False,
    quiet: bool = False,
    dry_run: bool = False,
    force: bool = False,
    source: str = "import",
) -> Report:
    """Subscribe everybody in the file, in one transaction; with `sync` remove who is not in it. A file without one good line never syncs (BadData)."""
    raise NotImplementedError
