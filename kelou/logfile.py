"""The log, read back: what the daemons and Postfix wrote of one message, found by its Message-ID and then by its queue ids.

It comes from the file in `log.file`, else from the journal, of either the last part only. Lines are strangers' text in part, so that a line of ours
is known by its very beginning, and what does not read as one is passed over.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime

from . import maillog
from .config import Config

BOUND = 64 * 1024**2  # octets from the end of the file that are read
LINES = 300_000  # lines of the journal that are
FEW = 5  # recipients of one queue id that are named one by one

_STAMP = r"(?:\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d)?|[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d)"
# As we write it, or as the journal and syslog write it on.
_OURS = re.compile(rf"({_STAMP}) (?:\S+ (?:[\w./-]+(?:\[\d+\])?: {_STAMP} )?)?(kelou/[a-z]+)\[\d+\]: ([a-z-]+)((?: .*)?)")
_POSTFIX = re.compile(rf"({_STAMP}) \S+ ([\w./-]+)\[\d+\]: (?!warning:|error:|fatal:|panic:)([0-9A-Za-z]{{5,30}}): (.*)")
_RECIPIENT = re.compile(r"to=<(.*?)>, .*status=([a-z]+) \((.*)\)", re.DOTALL)
_PAIR = re.compile(r' ([a-z-]+)=("(?:[^"\\]|\\.)*"|[^ "=\\]*)')
_ESCAPE = re.compile(r'\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8})|(["\\nrt]))')
_JOURNAL = ("SYSLOG_FACILITY=2", *(f"+ SYSLOG_IDENTIFIER={name}" for name in ("kelou", "kelou-lmtp", "kelou-milter", "kelou/lmtp", "kelou/milter")))  # 2: mail


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to a message. `values` is what our own line says; of Postfix' line `text` is what stands behind the queue id."""

    time: int
    program: str
    name: str
    queue_id: str = ""
    values: dict[str, str] = field(default_factory=dict)
    text: str = ""
    place: int = 0  # which line it was


def trace(config: Config, message_id: str) -> list[Event]:
    """What the log says of a message, in its order. Raises OSError where the file can not be read."""
    wanted = _spellings(message_id)
    # Most lines are of others: this much of it is in every spelling, and quickly looked for.
    mark = max(re.findall(r"[A-Za-z0-9._@-]+", message_id[:200]), key=len, default="message-id=")
    ids = {event.queue_id for event in _events(config, {mark}) if event.queue_id and event.values.get("message-id") in wanted}
    lives: dict[str, list[Event]] = {}
    closed: list[list[Event]] = []
    for event in _events(config, {mark, *ids}):
        if event.queue_id not in ids and event.values.get("message-id") not in wanted:
            continue
        if not event.queue_id:
            closed.append([event])
            continue
        # A queue id is used again for other messages: one life of it is from here to where Postfix removes it.
        lives.setdefault(event.queue_id, []).append(event)
        if event.name == "removed":
            closed.append(lives.pop(event.queue_id))
    found = [event for life in (*closed, *lives.values()) for event in _of_message(life, wanted)]
    return sorted(found, key=lambda event: (event.time, event.place))


def parse(line: str) -> Event | None:
    """One line; None if it is none of ours, and none of Postfix' about a message."""
    ours = _OURS.fullmatch(line)
    if ours:
        values = pairs(ours[4])
        return None if values is None else Event(_time(ours[1]), ours[2], ours[3], values.get("queue-id", ""), values)
    other = _POSTFIX.fullmatch(line)
    if not other:
        return None
    text = other[4]
    recipient = _RECIPIENT.fullmatch(text)
    if recipient:
        return Event(_time(other[1]), other[2], recipient[2], other[3], {"to": recipient[1], "reply": recipient[3]}, text)
    name = re.split(r"[=:]", text, maxsplit=1)[0]
    values = {"message-id": text.partition("=")[2]} if name.endswith("message-id") else {}
    return Event(_time(other[1]), other[2], _NAMES.get(name, name if re.fullmatch(r"[a-z-]{1,30}", name) else "postfix"), other[3], values, text)


_NAMES = {"client": "received", "uid": "received", "from": "queued", "milter-reject": "refused", "reject": "refused", "resent-message-id": "message-id"}


def pairs(text: str) -> dict[str, str] | None:
    """` key=value …` as `maillog.line` writes it; None if it was not written by it."""
    values: dict[str, str] = {}
    at = 0
    while at < len(text):
        pair = _PAIR.match(text, at)
        if not pair:
            return None
        quoted = pair[2].startswith('"')
        values[pair[1]] = _ESCAPE.sub(_character, pair[2][1:-1]) if quoted else pair[2]
        at = pair.end()
    return values


def _character(match: re.Match[str]) -> str:
    code = match[1] or match[2] or match[3]
    if not code:
        return {"n": "\n", "r": "\r", "t": "\t"}.get(match[4], match[4])
    return chr(int(code, 16)) if int(code, 16) < 0x110000 else "\ufffd"


def _spellings(message_id: str) -> frozenset[str]:
    """A Message-ID with and without its brackets, as we write it and as Postfix does."""
    bare = message_id.strip().removeprefix("<").removesuffix(">")
    both = bare, f"<{bare}>"
    written = {(pairs(f" id={maillog.quote(one)}") or {}).get("id", "") for one in both}
    return frozenset({*both, *written, *(re.sub(r"[^ -~]", "?", one) for one in both)} - {"", "<>"})


def _of_message(life: list[Event], wanted: frozenset[str]) -> Iterator[Event]:
    """What is worth telling of one life of a queue id, if it was that message's; of many recipients that got it, how many."""
    if not any(event.values.get("message-id") in wanted for event in life):
        return
    sent = [event for event in life if event.name == "sent"]
    for event in life:
        if event.name == "message-id" or (event.name == "sent" and len(sent) > FEW):
            continue
        yield event
    if len(sent) > FEW:
        last = sent[-1]
        yield replace(last, values={"recipients": str(len(sent))}, text="")


def _events(config: Config, marks: Collection[str]) -> Iterator[Event]:
    """The events of lines that hold one of these texts."""
    for place, line in enumerate(_of_file(config) if config["log.file"] else _of_journal()):
        event = parse(line) if any(mark in line for mark in marks) else None
        if event:
            yield replace(event, place=place)


def _of_file(config: Config) -> Iterator[str]:
    with config.directory("log.file").open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - BOUND))
        if size > BOUND:
            file.readline()  # the rest of a line
        for line in file:
            yield line.decode("utf-8", "replace").rstrip("\r\n")


def _of_journal() -> list[str]:
    program = shutil.which("journalctl")
    if not program:
        return []
    command = [program, "--quiet", "--no-pager", "--output=short-iso", f"--lines={LINES}", *" ".join(_JOURNAL).split()]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return done.stdout.decode("utf-8", "replace").splitlines()


def _time(stamp: str) -> int:
    """Seconds; without a zone it is ours, without a year the last time that it was that day."""
    try:
        if stamp[0].isdigit():
            return int(datetime.fromisoformat(stamp).timestamp())
        now = datetime.now()
        then = datetime.strptime(f"{now.year} {stamp}", "%Y %b %d %H:%M:%S")
        return int((then if (then - now).days < 1 else then.replace(year=now.year - 1)).timestamp())
    except ValueError:
        return 0
