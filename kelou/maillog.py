"""The log: one line an event, `kelou/lmtp[12]: held list=ca@lists.example rule=moderated message-id=<…>`, as Postfix writes its own.

Values come from strangers: blanks and control characters in them are escaped, so that an event is one line and a key is a key.
"""

from __future__ import annotations

import logging
import os
import sys

_log = logging.getLogger("kelou")


def start(door: str, level: str = "info") -> None:
    """Log to standard error from now on; journald or the sandbox takes it from there. The journal knows time, name and process by itself."""
    handler = logging.StreamHandler(sys.stderr)
    form = f"%(asctime)s kelou/{door}[%(process)d]: %(message)s"
    handler.setFormatter(_Journal("%(message)s") if _to_journal() else logging.Formatter(form, "%Y-%m-%dT%H:%M:%S%z"))
    _log.handlers[:] = [handler]
    set_level(level)
    _log.propagate = False


def set_level(level: str) -> None:
    """Log what is at least so important: error, warning, info, debug."""
    _log.setLevel(level.upper())


def _to_journal() -> bool:
    """Whether standard error is the journal's (JOURNAL_STREAM in systemd.exec(5))."""
    status = os.fstat(2)
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4}


class _Journal(logging.Formatter):
    """Each line with its priority, as the journal reads it (sd-daemon(3)): a traceback is an error in all of its lines."""

    def format(self, record: logging.LogRecord) -> str:
        mark = f"<{_PRIORITIES.get(record.levelno, 3)}>"
        return "\n".join(mark + line for line in super().format(record).splitlines())


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
