"""`kelou sub` and `kelou member add --invite`: people who come by their own wish, from the shell."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from database_fixture import SHELL, open_list
from mail_fixture import Site, read

from kelou import lifecycle, people
from kelou.admin import cli
from kelou.config import to_toml
from kelou.database import connection


class Shell:
    """The command line of a site with a list whose owners approve."""

    def __init__(self, site: Site, capture: pytest.CaptureFixture[str]) -> None:
        self.site, self.capture = site, capture
        self.list = lifecycle.set_values(site.config, SHELL, open_list(site.config), {"subscribe": "owner"}).list
        site.config.path.write_text("".join(f"{key} = {to_toml(value)}\n" for key, value in site.config.values.items()), "utf-8")

    def __call__(self, *arguments: object) -> int:
        self.capture.readouterr()
        code = cli.call(["-c", str(self.site.config.path), *map(str, arguments)])
        self.out, self.err = self.capture.readouterr()
        return code

    def data(self, *arguments: object) -> Any:
        self.code = self(*arguments, "--json")
        return json.loads(self.out)

    def subscribers(self) -> set[str]:
        with connection():
            return {row["email"] for row in people.subscribers(self.list)}


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.delenv("LANGUAGE", raising=False)
    site = Site(tmp_path)
    yield Shell(site, capsys)
    site.peer.close()


def test_who_waits(shell: Shell) -> None:
    """An array, the longest first, of the whole site or of one list."""
    for name in ("ann", "bob"):
        shell.site.write(f"{name}@example.org", "subscribe amis")
    rows = shell.data("sub", "list")
    assert [row["email"] for row in rows] == ["ann@example.org", "bob@example.org"]
    assert set(rows[0]) == {"id", "list", "email", "name", "asked", "expires", "consent"}
    assert shell.data("sub", "ls", "amis", "--by", "owner@example.org") == rows
    assert shell("sub", "list", "amis", "--by", "ann@example.org") == 77


def test_approving_and_refusing(shell: Shell) -> None:
    """Each is told; a number that waits no more is 67, several of which one does not are 1, and -n changes nothing."""
    for name in ("ann", "bob", "eve"):
        shell.site.write(f"{name}@example.org", "subscribe amis")
    ann, bob, eve = (row["id"] for row in shell.data("sub", "list"))
    assert shell("sub", "approve", "-n", ann) == 0
    assert shell.subscribers() == set()
    assert shell("sub", "approve", ann, "--by", "bob@example.org") == 77
    shell.site.peer.letters.clear()
    assert shell.data("sub", "approve", ann, "--by", "owner@example.org")[0]["result"] == "added"
    assert shell.data("sub", "refuse", bob, "--reason", "Friends only")[0]["result"] == "refused"
    assert shell.site.peer.recipients == ["ann@example.org", "bob@example.org"]
    assert b"Friends only" in shell.site.peer.letters[1].content
    assert shell("sub", "approve", ann) == 67
    assert shell("sub", "approve", ann, eve) == 1
    assert shell.subscribers() == {"ann@example.org", "eve@example.org"}


def test_inviting(shell: Shell) -> None:
    """Whoever is invited is subscribed once they answer; asking again on the same day is a negative answer."""
    shell.site.peer.letters.clear()
    assert shell.data("member", "add", "amis", "ann@example.org", "Ann", "--invite")["result"] == "invited"
    assert shell.subscribers() == set()
    assert shell("member", "add", "amis", "ann@example.org", "Ann", "--invite") == 1
    (letter,) = shell.site.peer.letters
    shell.site.write("ann@example.org", "Re: Invitation", "", read("", letter.content).answer_to, sure=False)
    assert shell.subscribers() == {"ann@example.org"}
    assert shell.data("member", "add", "amis", "ann@example.org", "--invite")["result"] == "already"
