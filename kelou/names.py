"""Names of lists: what one may be, and advice where it says too little."""

from __future__ import annotations

from dataclasses import dataclass

from .config import Config


@dataclass(frozen=True, slots=True)
class Advice:
    """A sentence on a name, and a name that would be better; empty if none comes to mind."""

    text: str
    name: str = ""


def check(name: str, domain: str, config: Config, besides: int | None = None) -> str:
    """The name in lower case. Raises BadData for what can be no name, CannotCreate for one that is taken; `besides` is the id of a list
    whose own names do not count."""
    raise NotImplementedError


def advice(name: str, domain: str, organisation: str, config: Config) -> Advice | None:
    """What to say of a name that is too general for a site of many organisations; None if it is fine."""
    raise NotImplementedError
