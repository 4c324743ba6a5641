"""The log: one line an event, `kelou/lmtp[12]: held list=ca@lists.example rule=moderated message-id=<…>`, as Postfix writes its own.

Values come from strangers: blanks and control characters in them are escaped, so that an event is one line and a key is a key.
"""

from __future__ import annotations

import logging
import sys

_log = logging.getLogger("kelou")


def start(door: str, level: str = "info") -> None:
    """Log to standard error from now on; journald or the sandbox takes it from there."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(f"%(asctime)s kelou/{door}[%(process)d]: %(message)s", "%Y-%m-%dT%H:%M:%S%z"))
    _log.handlers[:] = [handler]
    _log.setLevel(level.upper())
    _log.propagate = False


def event(name: str, **values: object) -> None:
    """An event worth a line: its name and what it was about."""
    _log.info("%s", line(name, values))


def problem(name: str, **values: object) -> None:
    """Something an admin should look at."""
    _log.warning("%s", line(name, values))


def fault(name: str, **values: object) -> None:
    """Our own fault: the line, and the traceback of the exception at hand."""
    _log.error("%s", line(name, values), exc_info=True)


def line(name: str, values: dict[str, object]) -> str:
    """`name key=value …`; empty values are left out, underscores in keys become hyphens."""
    return " ".join([name, *(f"{key.replace('_', '-')}={quote(str(value))}" for key, value in values.items() if value not in ("", None))])


def quote(text: str) -> str:
    """The text as it stands if it is plain, else in double quotes with escapes, in ASCII-printable and letters only; at most 300 characters."""
    text = text if len(text) <= 300 else text[:299] + "…"
    if text.isprintable() and not set(text) & set(' "=\\'):
        return text
    shown = "".join(
        c if c.isprintable() and c not in '"\\' else {'"': '\\"', "\\": "\\\\"}.get(c) or c.encode("unicode_escape").decode() for c in text
    )
    return f'"{shown}"'
