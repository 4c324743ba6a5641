"""What the shell shows: tables and records on standard output, messages on standard error, JSON for scripts.

Texts come from strangers (subjects, names, addresses), so each goes through `safe` before a terminal sees it (CWE-150).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from kelou.finding import Finding
from kelou.i18n import N_, _

Row = Mapping[str, Any]

# Words for programs that a table shows in the language in force, where they are the value of one of these keys.
_KEYS = frozenset({"status", "state", "origin", "mode", "result", "event", "roles", "milter", "lmtp", "map", "database"})
_WORDS = frozenset({
    N_("pending"), N_("open"), N_("closed"), N_("purged"), N_("new"), N_("active"), N_("retired"), N_("list"), N_("type"), N_("site"), N_("default"),
    N_("mail"), N_("nomail"), N_("distributing"), N_("sent"), N_("held"), N_("approved"), N_("rejected"), N_("discarded"), N_("expired"),
    N_("accepted"), N_("added"), N_("already"), N_("invalid"), N_("blocked"), N_("full"), N_("removed"), N_("absent"),
    N_("owner"), N_("moderator"), N_("subscriber"), N_("listmaster"), N_("up"), N_("down"), N_("missing"), N_("denied"),
    N_("suspended"), N_("watched"), N_("told"), N_("probed"), N_("leaving"),
})  # fmt: skip

_NAMES = frozenset({"id", "list", "email"})  # what one types again, of a table

# C0, DEL and C1 steer the terminal; U+2028 and U+2029 break lines; bidi controls and invisible characters make a text read as another.
# What writing itself needs stays: soft hyphen, joiners, marks of direction (U+00AD, U+200C to U+200F).
_UNSAFE = re.compile(
    "[\0-\x1f\x7f-\x9f\u061c\u180e\u200b\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)

_SHORT = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}


def _escape(match: re.Match[str]) -> str:
    number = ord(match[0])
    if match[0] in _SHORT:
        return _SHORT[match[0]]
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def safe(text: str, *, keep: str = "") -> str:
    """The text with everything visible that could steer a terminal; characters in `keep` (a new line, a tab) stay as they are."""
    return _UNSAFE.sub(lambda match: match[0] if match[0] in keep else _escape(match), text)


def to_json(value: Any) -> str:
    """JSON for people and programs: accents stay; what could steer a terminal is in \\u escapes, which mean the same."""
    text = json.dumps(value, ensure_ascii=False, indent=2, default=str)
    # Between the strings there is nothing unsafe but line ends; inside them JSON has escaped C0 already.
    return _UNSAFE.sub(lambda match: match[0] if match[0] == "\n" else json.dumps(match[0])[1:-1] if match[0] != "\x7f" else "\\u007f", text)


def cell(key: str, value: Any) -> str:
    """One value of a table, in one line."""
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if isinstance(value, (list, tuple)):
        return ", ".join(cell(key, part) for part in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{safe(str(name))}={cell(key, part)}" for name, part in value.items())
    if key in _KEYS and value in _WORDS:
        return _(value)
    return "" if value is None else safe(str(value))


def width(text: str) -> int:
    """Columns that a text takes on a terminal: none for what combines, two for wide characters (Unicode annex 11)."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) or char in "\u00ad\u200c\u200d\u200e\u200f" else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )


def clip(text: str, columns: int) -> str:
    """The text in so many columns, with an ellipsis where it was cut."""
    if width(text) <= columns:
        return text
    while text and width(text) > columns - 1:
        text = text[:-1]
    return text + "…"


def table(columns: Mapping[str, str], rows: Iterable[Row], columns_wide: int | None = None) -> str:
    """Rows under titles; `columns` maps a row's key to its title. Cut to `columns_wide` if given, the widest column first, and names last."""
    cells = [[cell(key, row.get(key)) for key in columns] for row in rows]
    titles = [title.upper() for title in columns.values()]
    numeric = [bool(cells) and all(re.fullmatch(r"-?\d*", line[at]) for line in cells) for at in range(len(titles))]
    widths = [max(width(line[at]) for line in (titles, *cells)) for at in range(len(titles))]
    if columns_wide:
        room = columns_wide - 2 * (len(widths) - 1)
        while sum(widths) > room and max(widths) > 8:
            spare = [at for at, key in enumerate(columns) if key not in _NAMES and widths[at] > 8]
            widths[max(spare or range(len(widths)), key=widths.__getitem__)] -= 1
    return "\n".join(_line(line, widths, numeric) for line in (titles, *cells))


def _line(line: Sequence[str], widths: Sequence[int], numeric: Sequence[bool]) -> str:
    shown = []
    for text, columns, right in zip(line, widths, numeric, strict=True):
        clipped = clip(text, columns)
        blank = " " * (columns - width(clipped))
        shown.append(blank + clipped if right else clipped + blank)
    return "  ".join(shown).rstrip()


def record(titles: Mapping[str, str], row: Row) -> str:
    """One thing, a line for each of its values that there is."""
    widest = max((width(title) for title in titles.values()), default=0)
    lines = []
    for key, title in titles.items():
        text = cell(key, row.get(key))
        if text:
            lines.append(f"{title}{' ' * (widest - width(title))}  {text}")
    return "\n".join(lines)


def findings(found: Sequence[Finding], as_json: bool) -> None:
    """What was found, with what to do about it."""
    if as_json:
        data(to_json([asdict(finding) for finding in found]))
        return
    colours = {"ok": ("32", _("ok")), "warning": ("33", _("warning")), "unknown": ("33", _("unknown")), "error": ("31", _("error"))}
    for finding in found:
        colour, word = colours[finding.state]
        data(f"{coloured(word, colour)}  {finding.check}  {safe(finding.detail)}".rstrip())
        if finding.fix:
            data(f"    → {safe(finding.fix)}")


def terminal_width() -> int | None:
    """The columns of the terminal that standard output is, or None where it is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def coloured(text: str, code: str, stream: Any = None) -> str:
    """The text in an ANSI colour, on a terminal and without NO_COLOR only (no-color.org)."""
    stream = stream or sys.stdout
    if not stream.isatty() or os.environ.get("NO_COLOR"):
        return text
    return f"\x1b[{code}m{text}\x1b[0m"


class Unwritten(OSError):
    """Standard output takes nothing."""


def data(text: str) -> None:
    """Write data. Raises Unwritten."""
    with _writing():
        sys.stdout.write(text + "\n" if text else "")


def flush() -> None:
    """Let go of all that was written. Raises Unwritten."""
    with _writing():
        sys.stdout.flush()


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:  # who read us wants no more
        raise
    except OSError as error:
        raise Unwritten(*error.args) from error


def message(text: str) -> None:
    """Write a message to the person at the shell; several lines are several."""
    sys.stderr.write(safe(text, keep="\n\t") + "\n")


def problem(text: str) -> None:
    """Write in one line what went wrong."""
    sys.stderr.write(coloured("kelou:", "31", sys.stderr) + " " + safe(text) + "\n")


def confirm(question: str) -> bool:
    """Ask, on a terminal; the default, and the answer where there is no terminal, is no."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    sys.stderr.write(safe(question) + _(" [y/N] "))
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes", "o", "oui"}


def ask(question: str) -> str:
    """A line that is typed in, empty where there is no terminal."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return ""
    sys.stderr.write(safe(question) + " ")
    sys.stderr.flush()
    return sys.stdin.readline().strip()
