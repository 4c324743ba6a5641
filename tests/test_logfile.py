"""The log, read back: our own lines as they were meant, Postfix' by queue id, and what a stranger wrote into a line is never taken for one."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kelou import logfile, maillog
from kelou.config import Config
from kelou.logfile import Event, pairs, parse, trace

AT = 1_795_392_000  # 2026-11-23T00:00:00Z
STAMP = "2026-11-23T00:00:00+0000"


def config(tmp_path: Path, text: str = "", name: str = "log") -> Config:
    (tmp_path / "log").write_text(text, "utf-8")
    return Config(tmp_path / "kelou.toml", {"log.file": name})


def summary(events: list[Event]) -> list[str]:
    return [f"{event.program} {event.name} {event.queue_id}".strip() for event in events]


@given(
    st.dictionaries(st.from_regex(r"[a-z]{1,8}(?:_[a-z]{1,8})?", fullmatch=True), st.text(min_size=1, max_size=300), max_size=5),
    st.sampled_from(["held", "not-asked"]),
)
def test_what_is_written_is_read(values: dict[str, str], name: str) -> None:
    """Any value comes back as it was: blanks, quotes, backslashes, line ends, other scripts."""
    event = parse(f"{STAMP} kelou/lmtp[7]: {maillog.line(name, dict(values))}")
    assert event is not None
    assert (event.time, event.program, event.name) == (AT, "kelou/lmtp", name)
    assert event.values == {key.replace("_", "-"): value for key, value in values.items()}


@given(st.text(max_size=400))
def test_any_line_is_read_or_passed_over(line: str) -> None:
    """Reading never raises."""
    for prefix in ("", f"{STAMP} kelou/lmtp[7]: ", "Nov 23 00:00:00 mail postfix/smtpd[1]: 4XyZ1234abc: ", f"{STAMP} kelou/lmtp[7]: held "):
        parse(prefix + line)
    pairs(line)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (f"{STAMP} kelou/milter[7]: refused at=DATA rule=x queue-id=4XyZ", "kelou/milter refused 4XyZ"),
        (f"{STAMP} mail kelou[7]: {STAMP} kelou/lmtp[7]: held list=a@b", "kelou/lmtp held"),
        (f"Nov 23 00:00:00 mail kelou-lmtp[7]: {STAMP} kelou/lmtp[7]: held", "kelou/lmtp held"),
        ("Nov 23 00:00:00 mail postfix/smtpd[1]: 4XyZ1234abc: client=unknown[127.0.0.1]", "postfix/smtpd received 4XyZ1234abc"),
        ("2026-11-23T00:00:00.123456+01:00 mail postfix/kelou-out/smtpd[1]: 0A1B2C3D4E: client=x[1]", "postfix/kelou-out/smtpd received 0A1B2C3D4E"),
        ("Nov  3 00:00:00 mail postfix/pickup[1]: 0A1B2C3D4E: uid=0 from=<root>", "postfix/pickup received 0A1B2C3D4E"),
        ("Nov 23 00:00:00 mail postfix/cleanup[1]: 4XyZ1234abc: milter-reject: END-OF-MESSAGE from x[1]: 5.7.1 No", "postfix/cleanup refused 4XyZ1234abc"),
        ("Nov 23 00:00:00 mail postfix/smtp[1]: 4XyZ1234abc: to=<a@b>, relay=x, dsn=4.3.0, status=deferred (x)", "postfix/smtp deferred 4XyZ1234abc"),
        ("Nov 23 00:00:00 mail postfix/qmgr[1]: 4XyZ1234abc: removed", "postfix/qmgr removed 4XyZ1234abc"),
        ("Nov 23 00:00:00 mail postfix/smtpd[1]: NOQUEUE: reject: RCPT from x: 550", "postfix/smtpd refused NOQUEUE"),
    ],
)
def test_a_line(line: str, expected: str) -> None:
    """Ours, as a file, the journal or syslog has it, and Postfix' with short and long queue ids."""
    event = parse(line)
    assert event is not None
    assert summary([event]) == [expected]


@pytest.mark.parametrize(
    "line",
    [
        "Nov 23 00:00:00 mail postfix/smtpd[1]: connect from kelou/lmtp[7]: held list=a@b",
        f"Nov 23 00:00:00 mail postfix/smtpd[1]: warning: {STAMP} kelou/lmtp[7]: held list=a@b",
        f" {STAMP} kelou/lmtp[7]: held list=a@b",
        f"{STAMP} kelou/lmtp[7]: held list=a@b and more",
        f'{STAMP} kelou/lmtp[7]: held list="a',
        "Traceback (most recent call last):",
        "",
    ],
)
def test_what_is_no_line_of_ours(line: str) -> None:
    """A stranger's text inside a line begins none, and half a line is none."""
    assert parse(line) is None


def test_a_stamp_without_a_year() -> None:
    """It is the last such day: on New Year's Eve's evening, not in a year's time."""
    soon = datetime.fromtimestamp(time.time() + 5 * 86400)
    event = parse(f"{soon:%b %d %H:%M:%S} mail postfix/qmgr[1]: 4XyZ1234abc: removed")
    assert event is not None
    assert event.time < time.time()
    assert datetime.fromtimestamp(event.time, UTC).year < soon.year + 1


LOG = f"""\
Nov 23 00:00:01 mail postfix/smtpd[1]: 4AAAA: client=unknown[192.0.2.1]
Nov 23 00:00:01 mail postfix/cleanup[1]: 4AAAA: message-id=<other@example.org>
Nov 23 00:00:01 mail postfix/qmgr[1]: 4AAAA: removed
Nov 23 00:00:02 mail postfix/smtpd[1]: 4AAAA: client=unknown[192.0.2.2]
Nov 23 00:00:02 mail postfix/cleanup[1]: 4AAAA: message-id=<one=1@example.org>
{STAMP} kelou/milter[3]: refused at=RCPT recipient=x@lists.example.org rule=address
Nov 23 00:00:02 mail postfix/qmgr[1]: 4AAAA: from=<a@example.org>, size=300, nrcpt=1 (queue active)
{STAMP} kelou/lmtp[2]: accepted list=amis@lists.example.org rule=accepted queue-id=4AAAA message-id="<one=1@example.org>"
Nov 23 00:00:03 mail postfix/kelou/lmtp[1]: 4AAAA: to=<amis@lists.example.org>, relay=x, status=sent (250 2.0.0 OK)
Nov 23 00:00:03 mail postfix/qmgr[1]: 4AAAA: removed
Nov 23 00:00:03 mail postfix/kelou-out/smtpd[1]: 4BBBB: client=unknown[127.0.0.1]
Nov 23 00:00:03 mail postfix/cleanup[1]: 4BBBB: message-id=<one=1@example.org>
{"".join(f"Nov 23 00:00:04 mail postfix/smtp[1]: 4BBBB: to=<u{n}@example.net>, relay=x, status=sent (250 OK){chr(10)}" for n in range(9))}\
Nov 23 00:00:04 mail postfix/smtp[1]: 4BBBB: to=<u9@example.net>, relay=x, status=bounced (host x said: 550 No)
Nov 23 00:00:05 mail postfix/qmgr[1]: 4BBBB: removed
Nov 23 00:00:06 mail postfix/smtpd[1]: 4AAAA: client=unknown[192.0.2.3]
Nov 23 00:00:06 mail postfix/cleanup[1]: 4AAAA: message-id=<third@example.org>
"""


@pytest.mark.parametrize("written", ["<one=1@example.org>", "one=1@example.org"])
def test_one_message_through_it_all(tmp_path: Path, written: str) -> None:
    """Its lines and no other's: a queue id that was used for other messages before and after tells of this one only; many copies are counted."""
    found = trace(config(tmp_path, LOG), written)
    assert sorted(summary(found)) == sorted([
        "postfix/smtpd received 4AAAA", "postfix/qmgr queued 4AAAA", "kelou/lmtp accepted 4AAAA", "postfix/kelou/lmtp sent 4AAAA", "postfix/qmgr removed 4AAAA",
        "postfix/kelou-out/smtpd received 4BBBB", "postfix/smtp bounced 4BBBB", "postfix/smtp sent 4BBBB", "postfix/qmgr removed 4BBBB",
    ])  # fmt: skip
    assert next(event.values for event in found if event.queue_id == "4BBBB" and event.name == "sent") == {"recipients": "9"}
    assert next(event.text for event in found if event.queue_id == "4AAAA" and event.name == "received") == "client=unknown[192.0.2.2]"


@pytest.mark.parametrize("odd", ["a b@example.org", 'quo"te\\@example.org', "é@example.org", "x" * 400 + "@example.org"], ids=["blank", "quote", "accent", "long"])
def test_an_odd_message_id(tmp_path: Path, odd: str) -> None:
    """A Message-ID that is escaped or cut in the log is found all the same."""
    line = maillog.line("held", {"list": "a@b", "message_id": f"<{odd}>"})
    assert summary(trace(config(tmp_path, f"{STAMP} kelou/lmtp[2]: {line}\n"), odd)) == ["kelou/lmtp held"]


def test_nothing_is_found_by_nothing(tmp_path: Path) -> None:
    """An empty Message-ID is nobody's, not everybody's."""
    assert trace(config(tmp_path, LOG + f"{STAMP} kelou/lmtp[2]: held list=a@b message-id=<>\n"), "") == []


def test_only_the_end_of_a_large_log_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands before the bound is not looked at, and a line that is cut by it is none."""
    lines = [f"{STAMP} kelou/lmtp[2]: held id={number} message-id=<m@x>\n" for number in range(100)]
    monkeypatch.setattr(logfile, "BOUND", len(lines[-1]) * 3 + 10)
    assert [event.values["id"] for event in trace(config(tmp_path, "".join(lines)), "m@x")] == ["97", "98", "99"]


def test_a_log_that_can_not_be_read(tmp_path: Path) -> None:
    """It is told, and not taken for an empty one."""
    with pytest.raises(FileNotFoundError):
        trace(config(tmp_path, name="none"), "m@x")


def test_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a file journalctl is asked for the mail facility and for us, where there is one."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert trace(config(tmp_path, name=""), "m@x") == []
    program = tmp_path / "journalctl"
    program.write_text(f"#!/bin/sh\necho \"$@\" > {tmp_path}/asked\necho '{STAMP} mail kelou[7]: {STAMP} kelou/lmtp[7]: held list=a@b message-id=<m@x>'\n")
    program.chmod(0o755)
    assert summary(trace(config(tmp_path, name=""), "m@x")) == ["kelou/lmtp held"]
    asked = (tmp_path / "asked").read_text()
    assert "SYSLOG_FACILITY=2 + SYSLOG_IDENTIFIER=kelou +" in asked
    assert os.fspath(tmp_path) not in asked
