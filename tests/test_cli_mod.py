"""`kelou mod` and `kelou maintain`: what scripts and moderators at a terminal can count on."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from moderation_fixture import ALICE, BOB, LIST, MOIRA, STRANGER, Moderated, post

from kelou import standing
from kelou.admin import cli
from kelou.config import to_toml
from kelou.database import connection, transaction
from kelou.models import Audit, HeldPost

DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
# What steers a terminal, or makes a text read as another (CWE-150): no character of these may come out, whatever a post holds.
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u2028-\u202e\u2066-\u2069\u200b\ufeff]")
ATTACK = "\x1b]0;pwn\x07 \x1b[2J \x9b2J \x9d0;pwn\x9c \u202etxt.exe\u202c [red]red[/red] \u2066x\u2069 \x08\x08 \x7f\x00 \r\x1b[A\x85"


@dataclass
class Shell:
    """The command line on a moderated list."""

    site: Moderated
    capture: pytest.CaptureFixture[str]
    code: int = 0
    out: str = ""
    err: str = ""

    def __call__(self, *arguments: object) -> Shell:
        self.capture.readouterr()
        self.code = cli.call(["-c", str(self.site.config.path), *map(str, arguments)])
        self.out, self.err = self.capture.readouterr()
        return self

    def good(self, *arguments: object) -> Any:
        self(*arguments, "--json")
        assert self.code == 0, self.err
        return json.loads(self.out)

    def state(self, number: int) -> str:
        return str(self.site.row(number).state)


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    for name in ("KELOU_CONFIG", "KELOU_DEBUG", "SUDO_USER", "LC_MESSAGES", "LANG", "LANGUAGE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    site = Moderated(tmp_path)
    config = site.config
    config.path.write_text("".join(f"{key} = {to_toml(value)}\n" for key, value in config.values.items()), "utf-8")
    yield Shell(site, capsys)
    site.close()


def program(shell: Shell, *arguments: object, **more: Any) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "kelou.admin.cli", "-c", str(shell.site.config.path), *map(str, arguments)]
    return subprocess.run(command, check=False, timeout=60, **more)


def test_the_list_of_held_posts(shell: Shell) -> None:
    """An array with what cli.md names, the oldest first."""
    first, second = shell.site.hold(post(1, subject="=?utf-8?q?S=C3=A9ance?=")), shell.site.hold(post(2, STRANGER), author="")
    rows = shell.good("mod", "list")
    assert [row["id"] for row in rows] == [first, second]
    assert {"id", "list", "author", "subject", "rule", "received", "expires", "size"} <= set(rows[0])
    assert (rows[0]["list"], rows[0]["author"], rows[0]["subject"], rows[0]["rule"]) == (LIST, ALICE, "Séance", "moderated")
    assert (rows[0]["authenticated"], rows[1]["authenticated"]) == (True, False)
    assert DATE.fullmatch(rows[0]["received"])
    assert DATE.fullmatch(rows[0]["expires"])
    assert rows[0]["received"] < rows[0]["expires"]
    assert rows[1]["size"] == len(post(2, STRANGER))
    assert shell.good("mod", "list", "amis") == rows == shell.good("mod", "ls", LIST)


def test_an_empty_list(shell: Shell) -> None:
    """An empty array for programs, a word for people, and 0."""
    assert shell.good("mod", "list") == []
    assert shell("mod", "list").out == ""
    assert "No post waits" in shell.err


def test_a_table_of_held_posts(shell: Shell) -> None:
    """People see a line for each."""
    shell.site.hold()
    assert [line.split()[0] for line in shell("mod", "list").out.splitlines()] == ["ID", "1"]


@pytest.mark.parametrize(("verb", "state"), [("approve", "approved"), ("reject", "rejected"), ("discard", "discarded")])
def test_several_at_once(shell: Shell, verb: str, state: str) -> None:
    """Each is decided, and told; to do it again is 0 too, and says by whom it was done."""
    numbers = [shell.site.hold(post(turn)) for turn in range(3)]
    rows = shell.good("mod", verb, *numbers)
    assert [(row["id"], row["state"], row["changed"]) for row in rows] == [(number, state, True) for number in numbers]
    assert [shell.state(number) for number in numbers] == [state] * 3
    again = shell.good("mod", verb, *numbers)
    assert [(row["id"], row["state"], row["changed"], row["by"]) for row in again] == [(row["id"], state, False, row["by"]) for row in rows]
    assert shell("mod", verb, *numbers).code == 0
    assert len(shell.err.splitlines()) == 3


def test_approving_twice_in_one_line(shell: Shell) -> None:
    """A number that stands there twice is decided once."""
    number = shell.site.hold()
    assert [row["changed"] for row in shell.good("mod", "approve", number, number)] == [True]
    assert shell.site.run() == [250]
    assert len(shell.site.copies()) == 1


EXITS: dict[str, tuple[list[str], int]] = {
    "done": (["approve", "1"], 0),
    "decided otherwise": (["approve", "2"], 1),
    "decided otherwise, rejecting": (["reject", "3"], 1),
    "one of two decided otherwise": (["approve", "1", "2"], 1),
    "unknown": (["approve", "99"], 67),
    "unknown, shown": (["show", "99"], 67),
    "several unknown": (["discard", "98", "99"], 67),
    "one of two unknown": (["discard", "1", "99"], 1),
    "not a number": (["approve", "x"], 2),
    "nothing named": (["approve"], 2),
    "a reason too long": (["reject", "1", "--reason", "x" * 2001], 65),
    "a subscriber": (["approve", "1", "--by", ALICE], 77),
    "a stranger": (["discard", "1", "--by", STRANGER], 77),
    "a stranger, shown": (["show", "1", "--by", STRANGER], 77),
    "a stranger's list": (["list", "amis", "--by", STRANGER], 77),
    "a moderator's list of the site": (["list", "--by", MOIRA], 77),
    "no such list": (["list", "amiss"], 67),
    "a moderator": (["approve", "1", "--by", MOIRA], 0),
    "a moderator's list": (["list", "amis", "--by", MOIRA], 0),
}


@pytest.mark.parametrize(("arguments", "code"), EXITS.values(), ids=EXITS)
def test_the_exit_code_says_what_became_of_it(shell: Shell, arguments: list[str], code: int) -> None:
    """0 done, also if it was so already; 1 where it is otherwise, or some failed; 67 unknown; 77 not their right."""
    for turn in range(3):
        shell.site.hold(post(turn))
    shell("mod", "discard", 2)
    shell("mod", "approve", 3)
    assert shell("mod", *arguments).code == code, shell.err
    if code > 2:
        assert shell.out == ""
        assert all(line.startswith("kelou: ") for line in shell.err.splitlines())
        assert shell.state(1) == "held"


def test_what_can_be_done_of_several_is_done(shell: Shell) -> None:
    """An unknown number among others is told, and the others are decided; the array has a row for each."""
    number = shell.site.hold()
    shell("mod", "approve", 99, number, "--json")
    assert shell.code == 1
    assert [(row["id"], row["state"]) for row in json.loads(shell.out)] == [(99, None), (number, "approved")]
    assert "no held post 99" in shell.err


def test_postfix_down_is_75(shell: Shell) -> None:
    """The approval stands, and is distributed once Postfix is back; the code says so, for one and for several."""
    numbers = [shell.site.hold(post(turn)) for turn in range(2)]
    shell.site.peer.say("greeting", "421 4.3.2 Not now")
    shell("mod", "approve", *numbers, "--json")
    assert shell.code == 75
    assert [row["state"] for row in json.loads(shell.out)] == ["approved", "approved"]
    assert [shell.state(number) for number in numbers] == ["approved", "approved"]
    shell.site.peer.say("greeting", "220 peer")
    assert shell("mod", "approve", numbers[0]).code == 0
    shell.site.later(61)
    assert shell.good("maintain")["held_triggered"] == 2
    shell.site.run()
    assert len(shell.site.copies()) == 2


@pytest.mark.parametrize("verb", ["approve", "reject", "discard"])
def test_a_dry_run_decides_nothing(shell: Shell, verb: str) -> None:
    """-n tells what would be, sends nothing and leaves all as it was."""
    number = shell.site.hold()
    shell.site.peer.letters.clear()
    assert shell("mod", verb, number, "-n").code == 0
    assert "Nothing was changed" in shell.err
    assert shell.state(number) == "held"
    assert shell.site.peer.letters == []


def test_who_decided_is_written_down(shell: Shell) -> None:
    """The shell's user, or who is named with --by."""
    for who in ((), ("--by", MOIRA)):
        shell("mod", "discard", shell.site.hold(post(len(who))), *who)
    with connection():
        found = [row.who for row in Audit.select().where(Audit.action == "mod discarded").order_by(Audit.id)]
    assert found[1] == MOIRA
    assert found[0] not in ("", MOIRA)


def test_a_reason_reaches_the_author(shell: Shell) -> None:
    """And is kept with the post."""
    number = shell.site.hold()
    shell.site.peer.letters.clear()
    assert shell("mod", "reject", number, "--reason", " Hors sujet. ").code == 0
    assert shell.good("mod", "show", number)["reason"] == "Hors sujet."
    assert any("Hors sujet." in mail.as_string() for mail in shell.site.mails(ALICE))


def test_allow_and_block(shell: Shell) -> None:
    """`approve --allow-author` and `discard --block-author`."""
    shell("mod", "approve", shell.site.hold(post(1, BOB), author=BOB), "--allow-author")
    shell("mod", "discard", shell.site.hold(post(2, STRANGER), author=""), "--block-author")
    with connection():
        assert standing.of(shell.site.list.id, BOB).posting == "accept"
        assert standing.of(shell.site.list.id, STRANGER).blocked == STRANGER


# Showing.


def test_show_for_programs(shell: Shell) -> None:
    """All about the post in one object: why, the header, the text."""
    number = shell.site.hold(post(body="Bonjour", extra="Cc: x@example.org\r\n"))
    shown = shell.good("mod", "show", number)
    assert {"id", "list", "author", "subject", "rule", "received", "expires", "size", "why", "state", "header", "text", "reverse_path"} <= set(shown)
    assert (shown["why"], shown["state"], shown["text"]) == (f"The list {LIST} is moderated.", "held", "Bonjour\n")
    assert {"name": "Cc", "value": "x@example.org"} in shown["header"]
    assert not any(field["name"].lower().startswith("kelou-") for field in shown["header"])


def hostile() -> bytes:
    raw = f"From: {ATTACK} <{STRANGER}>\r\nTo: {LIST}\r\nX-A: {ATTACK}\r\nMIME-Version: 1.0\r\n".encode()
    raw += b"Subject: =?utf-8?b?G10wO3B3bgcgwpsySiDigK50eHQuZXhl?= [red]\r\nMessage-ID: <\x1b[2J@example.org>\r\n"
    raw += b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n'
    raw += ATTACK.replace("\x00", "").encode() + b"\r\n[red]\r\n--b\r\nContent-Type: application/x-\x1b[2J; name*=utf-8''%1b%5d0%3bpwn%07%c2%9b2J\r\n"
    return raw + b"Content-Disposition: attachment\r\n\r\nx\r\n--b--\r\n"


@pytest.mark.parametrize("arguments", [["show", "1"], ["list"], ["list", "amis"], ["show", "1", "--json"], ["list", "--json"], ["reject", "1"]], ids=" ".join)
def test_nothing_of_a_post_steers_the_terminal(shell: Shell, arguments: list[str]) -> None:
    """Escapes, C1 controls, direction overrides: in header, text, file names, types; they are shown as what they are."""
    with transaction():
        shell.site.hold(hostile(), author="")
        HeldPost.update(detail=ATTACK, reason=ATTACK, author=f"{ATTACK}@example.org", reverse_path=ATTACK).execute()
    shell("mod", *arguments)
    assert shell.code == 0
    assert not UNSAFE.search(shell.out), ascii(shell.out)
    assert not UNSAFE.search(shell.err), ascii(shell.err)
    if arguments[0] == "show":
        assert "[red]" in shell.out, "no markup of ours is read in it"


def test_on_a_terminal_too(shell: Shell) -> None:
    """The same on a real terminal (pty), where colours are switched on."""
    shell.site.hold(hostile(), author="")
    code, shown = on_terminal(shell, "mod", "show", 1)
    assert code == 0
    assert not UNSAFE.search(shown.replace("\r\n", "\n")), ascii(shown)
    assert "\\x1b]0;pwn" in shown


def on_terminal(shell: Shell, *arguments: object) -> tuple[int, str]:
    """Run with standard output and error on a terminal; the code and what it shows."""
    leader, follower = pty.openpty()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "kelou.admin.cli", "-c", str(shell.site.config.path), *map(str, arguments)],
            stdin=follower, stdout=follower, stderr=follower, env={**os.environ, "TERM": "xterm", "LC_ALL": "C.UTF-8"},
        )  # fmt: skip
        os.close(follower)
        shown = b""
        while True:
            try:
                piece = os.read(leader, 65536)
            except OSError:  # the other side has gone (EIO)
                break
            if not piece:
                break
            shown += piece
        return process.wait(60), shown.decode("utf-8")
    finally:
        os.close(leader)


def test_raw_bytes_are_not_for_a_terminal(shell: Shell) -> None:
    """--raw refuses a terminal with 77, and none of the bytes get there."""
    shell.site.hold(hostile(), author="")
    code, shown = on_terminal(shell, "mod", "show", 1, "--raw")
    assert code == 77
    assert "X-A:" not in shown
    assert "pwn" not in shown


def test_raw_bytes_to_a_pipe_are_exact(shell: Shell) -> None:
    """What is approved is what --raw shows: octet by octet, with NUL, bare line ends and no end of line."""
    raw = hostile() + b"\0\xff\r\r\n\nno end"
    shell.site.hold(raw, author="")
    done = program(shell, "mod", "show", 1, "--raw", capture_output=True)
    assert (done.returncode, done.stdout) == (0, raw)


def test_raw_bytes_that_are_kept_no_more(shell: Shell) -> None:
    """Of a decided post there are none: 67, and the line says why."""
    number = shell.site.hold()
    shell("mod", "discard", number)
    done = program(shell, "mod", "show", number, "--raw", capture_output=True)
    assert (done.returncode, done.stdout) == (67, b"")
    assert b"discarded" in done.stderr
    assert shell.good("mod", "show", number)["state"] == "discarded"


def test_the_text_of_an_html_post(shell: Shell) -> None:
    """A post without plain text is shown by the text of its page, without its scripts."""
    page = "<html><head><title>T</title></head><body><script>evil()</script><p>Bonjour &agrave; tous</p></body></html>"
    number = shell.site.hold(post(body=page, extra="MIME-Version: 1.0\r\nContent-Type: text/html; charset=utf-8\r\n"))
    shown = shell("mod", "show", number).out
    assert "Bonjour à tous" in shown
    assert "evil" not in shown


def test_a_rule_of_another_version(shell: Shell) -> None:
    """A post that was held by a rule that is no more is shown all the same."""
    number = shell.site.hold()
    with transaction():
        HeldPost.update(rule="forgotten").execute()
    assert shell.good("mod", "show", number)["why"] == "forgotten"
    shell.site.later(12 * 86400 + 60)
    assert shell.good("maintain")["held_reminded"] == 1


# Maintenance.


def test_maintain_counts(shell: Shell) -> None:
    """One object of numbers; nothing due is 0."""
    counts = shell.good("maintain")
    assert {"held_told", "held_reminded", "held_expired", "held_triggered"} <= set(counts)
    assert set(counts.values()) == {0}
    shell.site.hold()
    shell.site.later(16 * 86400)
    assert shell.good("maintain")["held_expired"] == 1
    assert shell("maintain").err == "Nothing was due.\n"


def test_maintain_is_not_for_an_address(shell: Shell) -> None:
    """It is the timer's and the admin's."""
    assert shell("maintain", "--by", MOIRA).code == 77


# One message through it all.


def test_trace_without_the_log(shell: Shell) -> None:
    """A log that can not be read is told, and what the tables know is shown all the same."""
    number = shell.site.hold()
    shell("mod", "approve", number)
    with shell.site.config.path.open("a") as file:
        file.write('log.file = "/nowhere/at/all"\n')
    assert shell("trace", "<0@example.org>").code == 67
    events = shell.good("trace", "<1@example.org>")
    assert [event["event"] for event in events] == ["held", "approved"]
    assert "/nowhere/at/all can not be read" in shell.err


def test_trace_shows_a_log_safely(shell: Shell) -> None:
    """What strangers wrote into the log steers no terminal, and forges no event of ours."""
    log = shell.site.directory / "log"
    forged = "2026-11-23T00:00:00+0000 kelou/lmtp[1]: approved message-id=<1@example.org>"
    log.write_text(
        f"Nov 23 00:00:00 mail postfix/cleanup[1]: 4XyZ1234abc: message-id=<1@example.org>\n"
        f"Nov 23 00:00:00 mail postfix/cleanup[1]: 4XyZ1234abc: warning: header Subject: {ATTACK} {forged}\n".replace("\r", ""),
        "utf-8",
    )
    with shell.site.config.path.open("a") as file:
        file.write(f'log.file = "{log}"\n')
    shell("trace", "1@example.org")
    assert shell.code == 0
    assert not UNSAFE.search(shell.out), ascii(shell.out)
    assert [event["event"] for event in shell.good("trace", "1@example.org")] == ["warning"]
