"""The command line: what scripts and people outside can count on (exit codes, JSON, messages, languages)."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest

from kelou import config, database
from kelou.admin import cli
from kelou.models import Audit, HeldPost, MailingList, Post

CONFIG = """
[site]
language = "en"
[database]
url = "sqlite:///kelou.db"
[secret]
file = "secret"
[postfix]
sockets = "sockets"
reinjection = "127.0.0.1:1"
command_directory = "bin"
[dkim]
directory = "dkim"
[dns]
resolvers = ["127.0.0.1:1"]
"""
DOMAIN = "lists.example.org"
LIST = f"garden@{DOMAIN}"
DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
PROGRAM = (sys.executable, "-m", "kelou.admin.cli")


@dataclass
class Kelou:
    """A site in a folder, and the command line on it."""

    folder: Path
    capture: pytest.CaptureFixture[str]
    code: int = 0
    out: str = ""
    err: str = ""

    @property
    def file(self) -> Path:
        return self.folder / "kelou.toml"

    def __call__(self, *arguments: object) -> Kelou:
        self.capture.readouterr()
        self.code = cli.call(["-c", str(self.file), *map(str, arguments)])
        self.out, self.err = self.capture.readouterr()
        return self

    def good(self, *arguments: object) -> Any:
        """What a command that has to succeed says in JSON."""
        self("--json", *arguments)
        assert self.code == 0, self.err
        return json.loads(self.out) if self.out else None


@pytest.fixture
def bare(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Kelou:
    """A configuration, and nothing else."""
    for name in ("KELOU_CONFIG", "KELOU_DEBUG", "SUDO_USER", "LC_MESSAGES", "LANG", "LANGUAGE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    (tmp_path / "kelou.toml").write_text(CONFIG)
    return Kelou(tmp_path, capsys)


@pytest.fixture
def site(bare: Kelou) -> Kelou:
    """A site with a domain and a listmaster."""
    bare.good("init")
    bare.good("domain", "add", DOMAIN)
    bare.good("listmaster", "add", "master@example.org")
    return bare


@pytest.fixture
def garden(site: Kelou) -> Kelou:
    """And an open list, whose owner is olga."""
    site.good("list", "create", "garden", "--owner", "olga@example.org", "--type", "discussion", "--subject", "The garden")
    return site


# Exit codes


EXITS = {
    "done": (["list", "show", "garden"], 0),
    "done by the list's address": (["list", "show", LIST], 0),
    "nothing to do": (["domain", "add", DOMAIN], 0),
    "no such command": (["list", "sohw", "garden"], 2),
    "no such noun": (["lst"], 2),
    "no such option": (["list", "list", "--nope"], 2),
    "an argument is missing": (["list", "show"], 2),
    "an option is missing": (["list", "request", "x", "--owner", "a@example.org"], 2),
    "no such type": (["list", "create", "x", "--owner", "a@example.org", "--subject", "x", "--type", "nope"], 2),
    "no such language": (["--lang", "de", "list", "list"], 2),
    "no command": (["list"], 2),
    "not an address": (["member", "add", "garden", "nobody"], 65),
    "not a setting": (["list", "set", "garden", "pots=closed"], 65),
    "not a value": (["list", "set", "garden", "post=nobody"], 65),
    "not KEY=VALUE": (["list", "set", "garden", "post"], 65),
    "not a name": (["list", "create", "a/b", "--owner", "a@example.org", "--subject", "x", "--type", "hotline"], 65),
    "not a domain": (["domain", "add", "under score.example"], 65),
    "not a pattern": (["block", "add", "*"], 65),
    "no file": (["member", "import", "garden", "/nowhere/at/all"], 65),
    "not a backup": (["backup", "verify", "/etc/passwd"], 65),
    "not an address to act by": (["--by", "me", "list", "close", "garden"], 65),
    "not a setting of the site": (["config", "get", "site.nmae"], 65),
    "no such list": (["list", "show", "gardens"], 67),
    "no such list, far from any": (["list", "show", "zzz"], 67),
    "no such domain": (["domain", "show", "other.example"], 67),
    "no such subscriber": (["member", "set", "garden", "who@example.org", "mode=nomail"], 67),
    "no such post": (["post", "show", "7"], 67),
    "no such message": (["trace", "<nothing@example.org>"], 67),
    "no sandbox": (["sandbox", "status", "/nowhere/at/all"], 67),
    "an owner who is the list": (["owner", "add", "garden", LIST], 65),
    "a moderator who is one of its addresses": (["moderator", "add", "garden", f"garden-owner@{DOMAIN}"], 65),
    "a list that owns itself": (["list", "create", "self", "--owner", f"self@{DOMAIN}", "--subject", "x", "--type", "hotline"], 65),
    "no folder for a backup": (["backup", "create", "/nowhere/at/all"], 73),
    "no folder that takes one": (["backup", "create", "/proc/backup"], 73),
    "there is one": (["list", "create", "garden", "--owner", "a@example.org", "--subject", "x", "--type", "hotline"], 73),
    "not confirmed": (["list", "purge", "garden"], 77),
    "still open": (["-y", "list", "purge", "garden"], 77),
    "not their right": (["--by", "stranger@example.org", "list", "close", "garden"], 77),
    "the last owner": (["owner", "remove", "garden", "olga@example.org"], 77),
    "the domain has lists": (["domain", "remove", DOMAIN], 77),
}


@pytest.mark.parametrize(("arguments", "code"), EXITS.values(), ids=EXITS)
def test_the_exit_code_says_what_became_of_it(garden: Kelou, arguments: list[str], code: int) -> None:
    """0 done, 1 partly, 2 usage, else sysexits.h; a failure is one line on standard error and nothing on standard output."""
    assert garden(*arguments).code == code, garden.err
    if code > 2:
        assert garden.out == ""
        assert len(garden.err.splitlines()) == 1, garden.err
        assert garden.err.startswith("kelou: ")


def test_without_a_configuration_is_78(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A configuration that is not there, or is wrong, is 78, and the line says what to do."""
    assert cli.call(["-c", str(tmp_path / "none.toml"), "list", "list"]) == 78
    assert "kelou init" in capsys.readouterr().err
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("[site]\nnmae = 'x'\n")
    assert cli.call(["-c", str(wrong), "list", "list"]) == 78
    assert "site.name" in capsys.readouterr().err


def test_without_a_database_is_69(bare: Kelou) -> None:
    """A database that was never made is 69, is told how to be made, and is not made by looking."""
    assert bare("list", "list").code == 69
    assert "kelou init" in bare.err
    assert not (bare.folder / "kelou.db").exists()


def test_an_old_database_is_78(bare: Kelou) -> None:
    """A database without its tables is told to be brought up to date."""
    (bare.folder / "kelou.db").touch()
    assert bare("list", "list").code == 78
    assert "kelou init" in bare.err


def test_a_locked_database_is_75(garden: Kelou, monkeypatch: pytest.MonkeyPatch) -> None:
    """While somebody else writes for too long, it is to be tried again."""
    import sqlite3

    monkeypatch.setattr(database, "BUSY", 0)
    monkeypatch.setitem(database._PRAGMAS, "busy_timeout", 0)
    other = sqlite3.connect(garden.folder / "kelou.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert garden("list", "close", "garden").code == 75
    other.execute("ROLLBACK")
    other.close()
    assert garden("list", "close", "garden").code == 0


def test_a_database_that_is_none_is_69(garden: Kelou) -> None:
    """A file that is no database is named as damaged."""
    (garden.folder / "kelou.db").write_bytes(b"no database, " * 1000)
    for left in ("kelou.db-wal", "kelou.db-shm"):
        (garden.folder / left).unlink(missing_ok=True)
    assert garden("list", "list").code == 69
    assert "kelou backup restore" in garden.err


@pytest.mark.parametrize(("debug", "lines"), [("", 1), ("1", 5)], ids=["a line", "a traceback with KELOU_DEBUG=1"])
def test_our_own_fault_is_70(garden: Kelou, monkeypatch: pytest.MonkeyPatch, debug: str, lines: int) -> None:
    """A bug is one line, and a traceback for who asks for it."""

    def broken(*_args: object) -> None:
        raise ZeroDivisionError("\x1b[31mboom")

    monkeypatch.setattr("kelou.lifecycle.lists", broken)
    monkeypatch.setenv("KELOU_DEBUG", debug)
    assert garden("list", "list").code == 70
    assert "ZeroDivisionError" in garden.err
    assert len(garden.err.splitlines()) >= lines
    assert debug or len(garden.err.splitlines()) == 1
    assert "\x1b" not in garden.err.splitlines()[-1]


def test_an_interruption_is_130(garden: Kelou, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control-C is quiet."""

    def interrupted(*_args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("kelou.lifecycle.lists", interrupted)
    assert garden("list", "list").code == 130
    assert "Traceback" not in garden.err


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """The program itself."""
    surroundings = {key: value for key, value in os.environ.items() if not key.startswith(("LC_", "LANG", "KELOU"))}
    return subprocess.run([*PROGRAM, *map(str, arguments)], capture_output=True, text=True, check=False, env=surroundings | environment, timeout=60)


def test_a_closed_pipe_is_quiet(garden: Kelou) -> None:
    """`kelou list show … | head -1` leaves no traceback."""
    command = " ".join((*PROGRAM, "-c", str(garden.file), "config", "show", "--json"))
    done = subprocess.run(["bash", "-c", f"{command} | true"], capture_output=True, text=True, check=False)
    assert done.stderr == ""


@pytest.mark.parametrize(("wrong", "right"), [(["lits"], "list"), (["list", "actviate"], "activate"), (["member", "improt"], "import")])
def test_a_misspelt_command_gets_a_suggestion(bare: Kelou, wrong: list[str], right: str) -> None:
    """The nearest command is named."""
    assert bare(*wrong).code == 2
    assert f"did you mean {right}?" in bare.err


# JSON


def keys(row: dict[str, Any], *wanted: str) -> None:
    """A row has these keys; cli.md says "at least"."""
    assert set(wanted) <= set(row), row


def test_json_may_stand_before_or_after_the_verb(garden: Kelou) -> None:
    """`--json` before the noun, before the verb's arguments and after them is the same."""
    shown = {(garden(*arguments).code, garden.out) for arguments in (
        ["--json", "list", "show", "garden"], ["list", "show", "--json", "garden"], ["list", "--json", "show", "garden"], ["list", "show", "garden", "--json"],
    )}  # fmt: skip
    assert len(shown) == 1
    keys(json.loads(shown.pop()[1]), "list", "status", "type", "owners", "subscribers", "settings")


def test_a_request_and_its_decision(site: Kelou) -> None:
    """A request is pending, with advice on a name that says too little; it is activated under another."""
    asked = site.good("list", "request", "news", "--owner", "o@example.org", "--type", "newsletter", "--subject", "News", "--organisation", "Les Amis")
    assert (asked["list"], asked["status"]) == (f"news@{DOMAIN}", "pending")
    assert asked["advice"]
    (waiting,) = site.good("list", "requests")
    keys(waiting, "list", "type", "subject", "organisation", "requested_by", "advice")
    assert site("member", "add", "news", "a@example.org").code == 77
    opened = site.good("list", "activate", "news", "--rename", "amis-news")
    assert (opened["list"], opened["status"], opened["changed"]) == (f"amis-news@{DOMAIN}", "open", True)
    assert site.good("list", "activate", "amis-news")["changed"] is False
    assert site.good("list", "requests") == []


def test_a_request_is_refused_with_its_reason(site: Kelou) -> None:
    """A refused list is closed, and keeps why."""
    site.good("list", "request", "spam", "--owner", "o@example.org", "--type", "hotline", "--subject", "x")
    assert site("list", "refuse", "spam").code == 2
    assert site.good("list", "refuse", "spam", "--reason", "No such organisation")["status"] == "closed"
    assert site.good("list", "show", "spam")["reason"] == "No such organisation"


def test_a_list_as_json(garden: Kelou) -> None:
    """`list show` says where each setting comes from; `list list` has a row a list."""
    garden.good("list", "set", "garden", "max_size=300K", "subject=The big garden")
    shown = garden.good("list", "show", "garden")
    assert (shown["list"], shown["status"], shown["type"]) == (LIST, "open", "discussion")
    assert shown["owners"] == ["olga@example.org"]
    assert shown["subscribers"] == 0
    assert shown["subject"] == "The big garden"
    assert shown["settings"]["max_size"] == {"value": 307200, "origin": "list"}
    assert shown["settings"]["post"] == {"value": "subscribers", "origin": "type"}
    assert shown["settings"]["language"]["origin"] == "site"
    assert garden.good("list", "get", "garden", "max_size") == {"key": "max_size", "value": 307200, "origin": "list"}
    assert garden("list", "get", "garden", "max_size").out == "300K\n"
    garden.good("list", "unset", "garden", "max_size")
    assert garden.good("list", "get", "garden", "max_size")["origin"] == "default"
    (row,) = garden.good("list", "list")
    keys(row, "list", "status", "type", "owners", "subscribers")
    assert garden.good("list", "list", "--status", "pending") == []
    assert [row["list"] for row in garden.good("list", "list", "--owner", "olga@example.org")] == [LIST]
    assert {row["type"] for row in garden.good("list", "types")} == {"newsletter", "discussion", "working-group", "moderated", "hotline", "confidential"}


def test_the_life_of_a_list(garden: Kelou) -> None:
    """Closed, reopened, renamed, purged; twice is once."""
    assert garden.good("list", "close", "garden")["status"] == "closed"
    assert garden.good("list", "close", "garden")["changed"] is False
    assert garden.good("list", "reopen", "garden")["status"] == "open"
    assert garden.good("list", "rename", "garden", "orchard")["list"] == f"orchard@{DOMAIN}"
    garden.good("list", "close", "orchard")
    assert garden.good("-y", "list", "purge", "orchard")["status"] == "purged"
    assert garden("list", "show", "orchard").code == 67


def test_a_member_as_json(garden: Kelou) -> None:
    """Adding twice succeeds; the row has what cli.md names."""
    assert garden.good("member", "add", "garden", "Ann@Example.org", "Ann", "Bell")["result"] == "added"
    again = garden.good("member", "add", "garden", "ann@example.org")
    keys(again, "email", "result")
    assert again["result"] == "already"
    (row,) = garden.good("member", "list", "garden")
    keys(row, "email", "name", "mode", "since", "source", "bounce_score")
    assert (row["email"], row["name"], row["mode"]) == ("Ann@Example.org", "Ann Bell", "mail")
    assert DATE.fullmatch(row["since"])
    assert garden.good("member", "set", "garden", "ann@example.org", "mode=nomail")["mode"] == "nomail"
    assert [found["list"] for found in garden.good("member", "find", "ann@example.org")] == [LIST]
    assert garden.good("member", "move", "ann@example.org", "bell@example.org")["result"] == "moved"
    assert garden("member", "export", "garden").out == "bell@example.org Ann Bell\n"
    assert garden("member", "export", "garden", "--csv").out.splitlines()[0].startswith("email,name,mode,since")
    assert [row["result"] for row in garden.good("member", "remove", "garden", "bell@example.org", "who@example.org")] == ["removed", "absent"]


@pytest.mark.parametrize("place", ["nowhere/rejects", "."])
def test_a_reject_file_that_can_not_be_written_is_73(garden: Kelou, place: str) -> None:
    """It is opened before anything is done: then nothing is."""
    (garden.folder / "people").write_text("a@example.org\nbroken\n")
    assert garden("member", "import", "garden", garden.folder / "people", "--reject-file", garden.folder / place).code == 73
    assert (garden.good("member", "list", "garden"), len(garden.err.splitlines())) == ([], 0)
    assert garden("member", "import", "garden", garden.folder / "people", "--reject-file", garden.folder / "rejects").code == 1
    assert (garden.folder / "rejects").read_text() == "broken\n"


def test_two_people_are_made_one_only_by_who_is_sure(garden: Kelou) -> None:
    """A move to an address that somebody has needs -y, or a yes at a terminal; to a new one, or another spelling, it does not."""
    for who in ("a", "b"):
        garden.good("member", "add", "garden", f"{who}@example.org")
    assert garden("member", "move", "a@example.org", "B@example.org").code == 77
    assert len(garden.good("member", "list", "garden")) == 2
    assert garden.good("-n", "member", "move", "a@example.org", "b@example.org")["result"] == "merged"
    assert garden.good("member", "move", "a@example.org", "A@example.org")["result"] == "moved"
    assert garden.good("member", "move", "a@example.org", "c@example.org")["result"] == "moved"
    assert garden("member", "move", "gone@example.org", "b@example.org").code == 67
    assert garden("--by", "olga@example.org", "-y", "member", "move", "c@example.org", "b@example.org").code == 77
    assert garden.good("-y", "member", "move", "c@example.org", "b@example.org")["result"] == "merged"


@pytest.mark.parametrize("form", [[], ["--csv"]], ids=["lines", "csv"])
def test_what_export_writes_import_reads(garden: Kelou, form: list[str]) -> None:
    """Names with an @, a comma or quotes in them too."""
    names = {"a@example.org": "Ann (ann@work.example)", "b@example.org": "bob@work.example", "c@example.org": "Cy, \"the\" Old", "d@example.org": ""}
    for email, name in names.items():
        garden.good("member", "add", "garden", email, name)
    (garden.folder / "people").write_text(garden("member", "export", "garden", *form).out)
    garden.good("list", "create", "orchard", "--owner", "olga@example.org", "--type", "discussion", "--subject", "x")
    for email in names:
        garden.good("member", "move", email, email.replace("example.org", "old.example"))
    assert garden.good("member", "import", "orchard", garden.folder / "people")["added"] == len(names)
    assert {row["email"]: row["name"] for row in garden.good("member", "list", "orchard")} == names


@pytest.mark.parametrize("in_sandbox", [False, True], ids=["a host", "a sandbox"])
def test_doctor_says_how_to_start_what_does_not_run(garden: Kelou, in_sandbox: bool) -> None:
    """In a sandbox, `kelou sandbox up`; else the command of each daemon."""
    if in_sandbox:
        (garden.folder / "sandbox.json").write_text("{}")
    assert garden("doctor", "--json").code == 1
    fixes = {row["check"]: row["fix"] for row in json.loads(garden.out) if row["check"].startswith("socket ")}
    up = f"kelou sandbox up {garden.folder}"
    serve = {"socket milter": "kelou serve milter", "socket lmtp": "kelou serve lmtp", "socket map": "kelou serve lmtp"}
    assert fixes == (dict.fromkeys(serve, up) if in_sandbox else serve)


def test_a_backup_that_can_not_be_names_the_file(garden: Kelou) -> None:
    """And not a draft of ours beside it."""
    for place in ("/nowhere/at/all", "/proc/backup"):
        assert garden("backup", "create", place).err.startswith(f"kelou: {place}: ")


def test_why_somebody_is_not_added_is_said_once(garden: Kelou) -> None:
    """With the pattern, or the number."""
    garden.good("block", "add", "@spam.example")
    assert garden("member", "add", "garden", "x@spam.example").err == "x@spam.example is not added: on the block list: @spam.example\n"
    garden.good("list", "set", "garden", "max_subscribers=1")
    garden.good("member", "add", "garden", "a@example.org")
    assert garden("member", "add", "garden", "b@example.org").err.startswith("b@example.org is not added: the list has the 1 subscribers")


def test_what_is_so_already_is_named(garden: Kelou) -> None:
    """A change that changes nothing says what there was to change."""
    said = [("close", "garden"), ("set", "garden", "post=owners", "footer=-- \nA  line")], ["closed.", "has post=owners, footer=-- A line"]
    for arguments, words in zip(*said, strict=True):
        first = garden("list", *arguments).err.splitlines()[0]
        assert first == f"{LIST} {words if words.startswith('has') else 'is ' + words}"
        assert garden("list", *arguments).err.splitlines()[0] == f"Nothing to do: {first}"
    assert garden("list", "unset", "garden", "spam").err.splitlines()[0] == f"Nothing to do: {LIST} has no spam of its own."


@pytest.mark.parametrize("arguments", [["list", "list"], ["--json", "config", "show"], ["--help"]], ids=["a line", "more than a buffer", "help"])
def test_a_full_disk_under_the_output_is_74(garden: Kelou, arguments: list[str]) -> None:
    """One line, and nothing of Python's own."""
    buffered = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    with Path("/dev/full").open("w") as full:
        command = [*PROGRAM, "-c", str(garden.file), *arguments]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=buffered)
    assert (done.returncode, len(done.stderr.splitlines())) == (74, 1), done.stderr


def test_a_blocked_address_is_a_negative_answer(garden: Kelou) -> None:
    """Who is on the block list is not added, with exit 1."""
    garden.good("block", "add", "@spam.example", "--reason", "spam")
    assert garden("member", "add", "garden", "x@spam.example", "--json").code == 1
    assert json.loads(garden.out)["result"] == "blocked"


PEOPLE = b"\xef\xbb\xbf# our people\r\na@example.org Ann Bell\r\n\r\nbroken\r\nb@example.org\r\nA@EXAMPLE.org Again\r\nx@spam.example\r\n"


def test_a_batch_as_json(garden: Kelou) -> None:
    """Good lines are in, bad ones are reported by number, and the exit is 1; the rejected lines are written."""
    garden.good("block", "add", "@spam.example", "--list", "garden")
    garden.good("member", "add", "garden", "b@example.org")
    file = garden.folder / "people"
    file.write_bytes(PEOPLE)
    rejects = garden.folder / "rejects"
    assert garden("--json", "member", "import", "garden", file, "--quiet", "--reject-file", rejects).code == 1
    report = json.loads(garden.out)
    assert {key: report[key] for key in ("added", "invalid", "blocked", "removed")} == {"added": 1, "invalid": 1, "blocked": 1, "removed": 0}
    assert report["already"] == 2
    assert [(line["line"], line["result"]) for line in report["lines"]] == [(2, "added"), (4, "invalid"), (5, "already"), (6, "already"), (7, "blocked")]
    for line in report["lines"]:
        keys(line, "line", "input", "result", "detail")
    assert rejects.read_text().splitlines() == ["broken", "x@spam.example"]
    assert len(garden.good("member", "list", "garden")) == 2


def test_a_batch_that_is_all_good_is_0(garden: Kelou) -> None:
    """From the standard input too; a second time changes nothing; --sync removes who is not in it."""
    people = "a@example.org\nb@example.org\n"
    command = [*PROGRAM, "-c", str(garden.file), "--json", "member", "import", "garden", "-"]
    for added, already in ((2, 0), (0, 2)):
        done = subprocess.run(command, input=people, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert (json.loads(done.stdout)["added"], json.loads(done.stdout)["already"]) == (added, already)
    file = garden.folder / "people"
    file.write_text("b@example.org\n")
    assert garden("member", "import", "garden", file, "--sync").code == 77  # nobody was there to confirm
    assert garden.good("-y", "member", "import", "garden", file, "--sync")["removed"] == 1


def test_roles_as_json(garden: Kelou) -> None:
    """Owners, moderators and listmasters have the same verbs."""
    for noun, target in (("owner", ["garden"]), ("moderator", ["garden"]), ("listmaster", [])):
        assert garden.good(noun, "add", *target, "max@example.org", "Max")["result"] == "added"
        assert garden.good(noun, "add", *target, "MAX@example.org")["result"] == "already"
        assert "max@example.org" in [row["email"] for row in garden.good(noun, "list", *target)]
        assert garden.good(noun, "remove", *target, "max@example.org")["result"] == "removed"
        assert garden.good(noun, "rm", *target, "max@example.org")["result"] == "absent"


def test_blocks_as_json(garden: Kelou) -> None:
    """Patterns are kept in one form, everywhere or on a list."""
    assert garden.good("block", "add", "Spam.Example") == {"pattern": "@spam.example", "list": None, "result": "added"}
    assert garden.good("block", "add", "@spam.example")["result"] == "already"
    assert garden.good("block", "add", "@spam.example", "--list", "garden")["result"] == "added"
    assert {row["list"] for row in garden.good("block", "ls")} == {None, LIST}
    assert garden.good("block", "remove", "spam.example")["result"] == "removed"
    assert garden.good("block", "remove", "spam.example")["result"] == "absent"


def test_domains_keys_and_records(site: Kelou) -> None:
    """A key's record is in what is to be published, in strings of at most 255 octets."""
    key = site.good("dkim", "new", DOMAIN, "--selector", "s1")
    keys(key, "domain", "selector", "record")
    assert site.good("domain", "show", DOMAIN)["selector"] == "s1"
    assert [row["selector"] for row in site.good("dkim", "list")] == ["s1"]
    rows = site.good("dns", "records", DOMAIN, "--host", "mx.example.org")
    assert [(row["name"], row["type"]) for row in rows] == [
        (DOMAIN, "MX"), (DOMAIN, "TXT"), (f"s1._domainkey.{DOMAIN}", "TXT"), (f"_dmarc.{DOMAIN}", "TXT"), (f"_mta-sts.{DOMAIN}", "TXT"),
        (f"mta-sts.{DOMAIN}", "CNAME"), (f"https://mta-sts.{DOMAIN}/.well-known/mta-sts.txt", "FILE"), (f"_smtp._tls.{DOMAIN}", "TXT"),
        ("address.of.mx.example.org", "PTR"),
    ]  # fmt: skip
    zone = site("dns", "records", DOMAIN, "--zone", "--host", "mx.example.org").out
    import dns.zone

    parsed = dns.zone.from_text(zone, origin=f"{DOMAIN}.", relativize=False, check_origin=False)
    (txt,) = parsed.get_rdataset(f"s1._domainkey.{DOMAIN}.", "TXT")
    assert b"".join(txt.strings).decode() == key["record"]
    (mx,) = parsed.get_rdataset(f"{DOMAIN}.", "MX")
    assert str(mx.exchange) == "mx.example.org."
    assert site("dkim", "new", DOMAIN, "--selector", "s1").code == 73
    assert site("dkim", "new", "other.example").code == 67


def test_posts_and_traces(garden: Kelou) -> None:
    """What was distributed and what was held, by id and by Message-ID."""
    with database.transaction():
        the_list = MailingList.get()
        Post.create(list=the_list, digest="d", message_id="<1@x>", author="a@x", subject="\x1b]0;pwn\x07", recipients=3, handed_over=2)
        HeldPost.create(list=the_list, digest="e", message_id="<1@x>", rule="moderated", state="approved", decided=2_000_000_000, decided_by="m@x")
    (row,) = garden.good("post", "list", "garden")
    keys(row, "id", "list", "message_id", "state", "recipients", "handed_over")
    assert garden.good("post", "show", row["id"])["handed_over"] == 2
    events = garden.good("trace", "1@x")
    assert {event["event"] for event in events} == {"held", "approved", "accepted", "distributing"}
    assert all(DATE.fullmatch(event["time"]) for event in events)
    assert "\x1b" not in garden("post", "list").out + garden("trace", "<1@x>").out
    assert "\\x1b]0;pwn\\x07" in garden("post", "list").out


def test_doctor_says_what_to_do(garden: Kelou) -> None:
    """Each thing that is wrong has its remedy; nothing runs here, so the exit is 1."""
    assert garden("doctor", "--json").code == 1
    found = json.loads(garden.out)
    for row in found:
        assert set(row) == {"check", "state", "detail", "fix"}
        assert row["state"] in ("ok", "warning", "error")
        assert row["fix"] or row["state"] == "ok"
    states = {row["check"]: row["state"] for row in found}
    assert states["config"] == states["database"] == states["secret"] == "ok"
    assert states["socket milter"] == states[f"dkim {DOMAIN}"] == "error"


POSTCONF = """#!/bin/sh
echo relay_domains = a.example, {domain}
echo relay_recipient_maps = socketmap:unix:kelou/{socket}:recipient
echo "smtpd_milters = {{ unix:kelou/milter.sock, default_action=accept }}"
echo "$@" >>"$(dirname "$0")/called"
"""


@pytest.mark.parametrize(
    ("domain", "socket", "wrong"),
    [(DOMAIN, "map.sock", set()), ("other.example", "map.sock", {"relay_domains"}), (f"x{DOMAIN}", "map", {"relay_domains", "relay_recipient_maps"})],
    ids=["as it should be", "the domain is not there", "it only looks like it"],
)
def test_doctor_reads_postfix(garden: Kelou, domain: str, socket: str, wrong: set[str]) -> None:
    """What main.cf has to hold is looked up with postconf, and nothing of Postfix is changed."""
    postconf = garden.folder / "bin" / "postconf"
    postconf.parent.mkdir()
    postconf.write_text(POSTCONF.format(domain=domain, socket=socket))
    postconf.chmod(0o755)
    garden("doctor", "--json")
    found = {row["check"].removeprefix("postfix "): row["state"] for row in json.loads(garden.out) if row["check"].startswith("postfix ")}
    assert found == {name: "error" if name in wrong else "ok" for name in ("relay_domains", "relay_recipient_maps", "smtpd_milters")}
    called = [line.split()[:3] for line in (postconf.parent / "called").read_text().splitlines()]
    assert called == [["-c", "/etc/postfix", "-hx"], ["-c", "/etc/postfix", "-x"]]


def _loosen(garden: Kelou, _patch: pytest.MonkeyPatch) -> None:
    (garden.folder / "dkim" / DOMAIN / "s1.pem").chmod(0o644)


def _lag(_garden: Kelou, _patch: pytest.MonkeyPatch) -> None:
    with database.transaction():
        Audit.create(who="root", action="test", at=int(time.time()) + 86400)


def _outdate(garden: Kelou, _patch: pytest.MonkeyPatch) -> None:
    with sqlite3.connect(garden.folder / "kelou.db") as connection:
        connection.execute("DELETE FROM schema_migration")


def _fill(_garden: Kelou, patch: pytest.MonkeyPatch) -> None:
    patch.setattr("kelou.admin.doctor.shutil.disk_usage", lambda _path: SimpleNamespace(free=4096))


def _shut(garden: Kelou, _patch: pytest.MonkeyPatch) -> None:
    (garden.folder / "sockets").chmod(0o700)


AILMENTS = {
    "a key that everybody reads": (_loosen, f"dkim {DOMAIN}", "chmod 600"),
    "a clock that was put back": (_lag, "clock", "timedatectl"),
    "a database of an earlier version": (_outdate, "database", "kelou init"),
    "a full disk": (_fill, "disk", "make room"),
    "sockets behind a closed door": (_shut, "sockets", "chmod g+x"),
    "a Postfix that is down": (lambda _garden, _patch: None, "postfix.reinjection", "postfix start"),
    "a daemon that is down": (lambda _garden, _patch: None, "socket lmtp", "kelou serve lmtp"),
}


@pytest.mark.parametrize(("harm", "check", "fix"), AILMENTS.values(), ids=AILMENTS)
def test_doctor_finds_what_is_wrong_with_the_host(
    garden: Kelou, monkeypatch: pytest.MonkeyPatch, harm: Callable[[Kelou, pytest.MonkeyPatch], None], check: str, fix: str
) -> None:
    """Each of these is an error with what to do, and none before it was done; a DNS that does not answer is only a warning."""
    garden.good("dkim", "new", DOMAIN, "--selector", "s1")
    garden("doctor", "--json")
    before = {row["check"]: row for row in json.loads(garden.out)}
    assert before[f"dns {DOMAIN}"]["state"] == "warning"
    harm(garden, monkeypatch)
    assert garden("doctor", "--json").code == 1
    found = {row["check"]: row for row in json.loads(garden.out)}
    assert found[check]["state"] == "error"
    assert fix in found[check]["fix"]
    down = {"socket lmtp", "postfix.reinjection"}
    assert check in down or before.get(check, {"state": "ok"})["state"] == "ok"


def test_doctor_looks_without_a_database(bare: Kelou) -> None:
    """A host that was never set up gets findings, not a failure."""
    assert bare("doctor", "--json").code == 1
    assert {row["check"]: row["state"] for row in json.loads(bare.out)}["database"] == "error"
    assert not (bare.folder / "kelou.db").exists()


def test_status_counts(garden: Kelou) -> None:
    """What runs and how much there is; 1 as nothing runs."""
    assert garden("status", "--json").code == 1
    row = json.loads(garden.out)
    assert (row["database"], row["milter"], row["open"], row["subscriptions"]) == ("up", "missing", 1, 0)


def test_the_configuration_as_json(bare: Kelou) -> None:
    """Each setting with value, default, type and origin."""
    rows = {row["key"]: row for row in bare.good("config", "show")}
    assert set(rows) == set(config.SETTINGS)
    assert rows["secret.file"] | {"help": ""} == {
        "key": "secret.file", "value": "secret", "default": "/var/lib/kelou/secret", "origin": str(bare.file), "type": "line", "help": "",
    }  # fmt: skip
    assert bare.good("config", "get", "distribution.chunk")["value"] == 500
    assert bare("config", "get", "dns.timeout").out == "5s\n"
    assert bare.good("config", "path") == {"path": str(bare.file)}


# init


def test_init_may_be_run_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second time nothing is changed, and the secret stays."""
    kelou = Kelou(tmp_path, capsys)
    kelou.file.write_text(CONFIG)
    first = kelou.good("init")
    assert {step["what"] for step in first["steps"] if step["changed"]} == {"directory", "sockets", "secret", "database"}
    secret = (tmp_path / "secret").read_bytes()
    assert not any(step["changed"] for step in kelou.good("init")["steps"])
    assert (tmp_path / "secret").read_bytes() == secret
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "kelou.db").stat().st_mode & 0o007 == 0


def test_init_writes_a_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is none, the sample is written, and followed at once; with -n it is not."""
    monkeypatch.setattr(config, "sample", lambda: CONFIG)  # the real one would have this test write to /var/lib/kelou
    kelou = Kelou(tmp_path / "etc", capsys)
    assert kelou("-n", "init").code == 0
    assert "to be made" in kelou.err
    assert not kelou.folder.exists()
    assert kelou.good("init")["steps"][0] == {"what": "config", "path": str(kelou.file), "changed": True}
    assert kelou.file.read_text() == CONFIG
    assert (kelou.folder / "kelou.db").exists()


# Who


def test_the_audit_log_says_who(garden: Kelou, monkeypatch: pytest.MonkeyPatch) -> None:
    """SUDO_USER, or the address of --by; the newest entry first."""
    monkeypatch.setenv("SUDO_USER", "paula")
    garden.good("list", "close", "garden")
    garden.good("--by", "master@example.org", "list", "reopen", "garden")
    rows = garden.good("audit", "list", "--list", "garden", "--limit", "2")
    assert [row["who"] for row in rows] == ["master@example.org", "paula"]
    for row in rows:
        keys(row, "at", "who", "action", "list", "object", "before", "after")
        assert DATE.fullmatch(row["at"])


BY = {
    "an owner sets up their list": ("olga@example.org", ["list", "set", "garden", "max_size=1M"], 0),
    "an owner adds a subscriber": ("olga@example.org", ["member", "add", "garden", "x@example.org"], 0),
    "an owner activates nothing": ("olga@example.org", ["list", "create", "b", "--owner", "o@example.org", "--type", "hotline", "--subject", "x"], 77),
    "an owner adds no domain": ("olga@example.org", ["domain", "add", "b.example"], 77),
    "an owner makes no key": ("olga@example.org", ["dkim", "new", DOMAIN], 77),
    "an owner rotates no key": ("olga@example.org", ["dkim", "rotate", DOMAIN], 77),
    "an owner blocks on their list": ("olga@example.org", ["block", "add", "x@example.org", "--list", "garden"], 0),
    "an owner blocks nowhere else": ("olga@example.org", ["block", "add", "x@example.org"], 77),
    "a listmaster blocks everywhere": ("master@example.org", ["block", "add", "x@example.org"], 0),
    "a listmaster adds a domain": ("MASTER@example.org", ["domain", "add", "b.example"], 0),
    "a stranger reads nobody": ("stranger@example.org", ["member", "list", "garden"], 77),
    "a stranger sees no list's settings": ("stranger@example.org", ["list", "show", "garden"], 77),
    "an owner reads their subscribers": ("olga@example.org", ["member", "list", "garden"], 0),
    "an owner reads their list's audit log": ("olga@example.org", ["audit", "list", "--list", "garden"], 0),
    "an owner reads no other audit log": ("olga@example.org", ["audit", "list"], 77),
    "an owner finds nobody": ("olga@example.org", ["member", "find", "x@example.org"], 77),
    "an owner makes no backup": ("olga@example.org", ["backup", "create", "b.tar.gz"], 77),
    "no address restores one": ("master@example.org", ["backup", "restore", "b.tar.gz"], 77),
    "no address prepares the host": ("master@example.org", ["init"], 77),
    "somebody leaves by themselves": ("olga@example.org", ["member", "remove", "garden", "olga@example.org"], 0),
    "a stranger adds nobody": ("stranger@example.org", ["member", "add", "garden", "x@example.org"], 77),
    "a stranger makes no owner": ("stranger@example.org", ["owner", "add", "garden", "stranger@example.org"], 77),
}


@pytest.mark.parametrize(("who", "arguments", "code"), BY.values(), ids=BY)
def test_who_acts_by_an_address_has_its_rights_only(garden: Kelou, who: str, arguments: list[str], code: int) -> None:
    """--by is checked against the roles that the address holds; it may stand after the verb too."""
    assert garden(*arguments, "--by", who).code == code, garden.err


# -n


DRY = {
    "a list is created": ["list", "create", "b", "--owner", "o@example.org", "--type", "hotline", "--subject", "x"],
    "a list is closed": ["list", "close", "garden"],
    "a setting": ["list", "set", "garden", "post=closed"],
    "a subscriber": ["member", "add", "garden", "x@example.org"],
    "a domain": ["domain", "add", "b.example"],
    "a block": ["block", "add", "x@example.org"],
    "an owner": ["owner", "add", "garden", "x@example.org"],
    "a key": ["dkim", "new", DOMAIN],
}


@pytest.mark.parametrize("arguments", DRY.values(), ids=DRY)
@pytest.mark.parametrize("place", [0, -1], ids=["before", "after"])
def test_a_dry_run_changes_nothing(garden: Kelou, arguments: list[str], place: int) -> None:
    """-n tells what would be done; no row and no file is another afterwards."""
    before = state(garden)
    assert garden(*(["-n", *arguments] if place == 0 else [*arguments, "-n"])).code == 0, garden.err
    assert state(garden) == before
    assert garden.err
    assert garden(*arguments).code == 0, garden.err
    assert state(garden) != before


def test_a_dry_batch_changes_nothing(garden: Kelou) -> None:
    """An import with -n reports each line as it would be, and --sync needs no confirmation then."""
    file = garden.folder / "people"
    file.write_text("a@example.org\n")
    before = state(garden)
    assert garden.good("-n", "member", "import", "garden", file, "--sync")["added"] == 1
    assert state(garden) == before


def state(kelou: Kelou) -> tuple[str, list[str]]:
    """Every row, and every file but the database's."""
    import sqlite3

    live = sqlite3.connect(kelou.folder / "kelou.db")
    dump = "\n".join(live.iterdump())
    live.close()
    return dump, sorted(str(path) for path in kelou.folder.rglob("*") if not path.name.startswith("kelou.db"))


@pytest.mark.parametrize("path", [path for path, command in cli.commands(cli.tree()) if not isinstance(command, click.Group)], ids=" ".join)
def test_every_verb_takes_the_common_options(path: tuple[str, ...]) -> None:
    """Each command has each common option, none of its own takes one's name, and each has a help."""
    command = dict(cli.commands(cli.tree()))[path]
    names = [name for parameter in command.params for name in (*parameter.opts, parameter.name) if isinstance(parameter, click.Option)]
    options = [name for name in names if name and name.startswith("-")]
    assert len(options) == len(set(options))
    assert len({parameter.name for parameter in command.params}) == len(command.params)
    assert {"-c", "--json", "--lang", "-q", "-y", "-n", "--by"} <= set(options)
    assert command.help


# People


def test_hostile_names_are_shown_harmless(garden: Kelou) -> None:
    """A subject or pattern with escapes reaches neither table nor message as such."""
    garden("list", "set", "garden", "subject=\x9b2J\u202eevil")
    assert "\x9b" not in garden.out + garden.err
    garden("list", "show", "garden\x1b[2J")
    assert garden.code in (65, 67)
    assert "\x1b" not in garden.err
    garden("block", "add", "x\x1b]0;pwn\x07")
    assert "\x1b" not in garden.err
    garden("lis\x1b[2Jt")
    assert "\x1b" not in garden.err


def test_quiet_says_nothing_but_errors(garden: Kelou) -> None:
    """-q keeps messages back, not data and not errors."""
    assert garden("-q", "list", "close", "garden").err == ""
    assert garden("-q", "list", "show", "garden").out
    assert garden("-q", "list", "show", "nope").err


def test_aliases(garden: Kelou) -> None:
    """ls and rm stand for list and remove."""
    assert garden("list", "ls").code == 0
    assert garden("block", "rm", "x@example.org").code == 0


def test_the_language_is_that_of_the_option_or_the_locale(garden: Kelou) -> None:
    """--lang, wherever it stands, else the locale; help and refusals follow it."""
    english = run("list", "--help", LC_ALL="C")
    assert "Open a pending list." in english.stdout
    from kelou import i18n

    with i18n.speaking("fr"):
        french = i18n._("Open a pending list.")
    for done in (run("--lang", "fr", "list", "--help"), run("list", "--help", LC_ALL="fr_FR.UTF-8"), run("list", "--lang=fr", "--help", LANG="fr_FR")):
        assert french in done.stdout
    with i18n.speaking("fr"):
        unknown = i18n._("there is no post {number}; kelou post list shows those there are").format(number=7)
    assert unknown in garden("post", "show", 7, "--lang", "fr").err


def test_help_is_quick() -> None:
    """`kelou --help` loads no library of the mail path, so that it is there at once."""
    code = "import sys; from kelou.admin import cli; cli.call(['--help']); print([m for m in ('dkim', 'dns', 'aiosmtpd', 'jinja2', 'cryptography') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_version() -> None:
    """`kelou --version` is one line."""
    import kelou

    assert run("--version").stdout == f"kelou {kelou.__version__}\n"


# Backup


def test_a_backup_brings_everything_back(garden: Kelou) -> None:
    """Database, secret and keys are as they were; what came after is gone; a damaged one is refused."""
    garden.good("dkim", "new", DOMAIN, "--selector", "s1")
    file = garden.folder / "saved.tar.gz"
    garden.good("backup", "create", file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert garden.good("backup", "verify", file)["result"] == "whole"
    assert garden("backup", "create", file).code == 73
    secret = (garden.folder / "secret").read_bytes()
    (garden.folder / "secret").unlink()
    (garden.folder / "dkim" / DOMAIN / "s1.pem").unlink()
    garden.good("list", "close", "garden")
    assert garden("backup", "restore", file).code == 77
    assert garden.good("list", "show", "garden")["status"] == "closed"
    assert garden.good("-y", "backup", "restore", file)["result"] == "restored"
    assert garden.good("list", "show", "garden")["status"] == "open"
    assert (garden.folder / "secret").read_bytes() == secret
    assert garden.good("domain", "show", DOMAIN)["selector"] == "s1"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0xFF
    file.write_bytes(data)
    assert garden("backup", "verify", file).code == 65
    assert garden("-y", "backup", "restore", file).code == 65
    assert garden.good("list", "show", "garden")["status"] == "open"
