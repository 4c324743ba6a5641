"""Notices: what Kelou itself writes to people, from templates/LANGUAGE/NAME.txt.

A template's first line is `Subject: …`; a blank line, then the text. Notices are signed like posts, say that a program wrote them (RFC 3834
section 5) and have the null reverse-path, so that nothing ever answers them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .config import Config
from .directory import ListView


def send(config: Config, template: str, to: str, the_list: ListView, **values: Any) -> bool:
    """Send one notice; False if Postfix did not take it (that is logged, and undoes nothing)."""
    return not send_all(config, template, [to], the_list, **values)


def send_all(config: Config, template: str, recipients: Iterable[str], the_list: ListView, **values: Any) -> tuple[str, ...]:
    """A notice to each of them, in their own language; returns the addresses whose notice Postfix did not take."""
    raise NotImplementedError
