"""What the shell shows: nothing that came from a stranger steers the terminal."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kelou.admin import output

HOSTILE = {
    "title of the window": ("\x1b]0;pwn\x07", "\\x1b]0;pwn\\x07"),
    "clear the screen, C1": ("\x9b2J", "\\x9b2J"),
    "right to left override": ("ab\u202ecd", "ab\\u202ecd"),
    "isolates": ("\u2066x\u2069", "\\u2066x\\u2069"),
    "line separators": ("a\u2028b\u2029c", "a\\u2028b\\u2029c"),
    "a new line in a cell": ("a\nb\r\tc", "a\\nb\\r\\tc"),
    "delete": ("a\x7f", "a\\x7f"),
    "half a character": ("a\udcff", "a\\udcff"),
    "tag characters": ("a\U000e0041", "a\\U000e0041"),
    "markup is text": ("[red]x[/red]", "[red]x[/red]"),
    "accents and emoji stay": ("Éloïse 🌻 à", "Éloïse 🌻 à"),
    "a joined emoji stays": ("👩\u200d🌾", "👩\u200d🌾"),
}


@pytest.mark.parametrize(("text", "shown"), HOSTILE.values(), ids=HOSTILE)
def test_what_steers_a_terminal_is_made_visible(text: str, shown: str) -> None:
    """Controls, bidi controls and invisible characters are escaped, all else stays."""
    assert output.safe(text) == shown


@pytest.mark.parametrize("text", [text for text, _shown in HOSTILE.values()], ids=HOSTILE)
def test_json_is_the_same_text_and_steers_nothing(text: str) -> None:
    """JSON means exactly what was given, and has no unsafe character in its bytes."""
    written = output.to_json({"subject": text})
    assert json.loads(written) == {"subject": text}
    assert output.safe(written, keep="\n") == written


@given(st.text(st.characters()))
def test_nothing_unsafe_is_left(text: str) -> None:
    """Whatever comes in, a cell is one line of printable characters that UTF-8 can write."""
    shown = output.cell("subject", text)
    assert not any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 or 0x2028 <= ord(c) <= 0x202E or 0x2066 <= ord(c) <= 0x2069 for c in shown)
    assert len(shown.splitlines()) <= 1
    shown.encode("utf-8")
    assert json.loads(output.to_json([text])) == [text]


def test_a_table_is_aligned() -> None:
    """Columns start under their titles, numbers end under each other, nothing trails."""
    text = output.table({"name": "name", "n": "n"}, [{"name": "é", "n": 7}, {"name": "日本", "n": 100}])
    assert text.split("\n") == ["NAME    N", "é       7", "日本  100"]


def test_a_narrow_table_cuts_names_last() -> None:
    """What one types again stays whole while there is something else to cut."""
    row = {"id": 12345678901, "list": "a-long-name@lists.example.org", "subject": "A short subject", "state": "held"}
    shown = output.table({key: key for key in row}, [row], 60).splitlines()[1]
    assert shown.split()[:2] == ["12345678901", "a-long-name@lists.example.org"]
    assert "…" in shown
    assert max(map(len, output.table({key: key for key in row}, [row], 40).splitlines())) <= 40


def test_a_table_fits_the_terminal() -> None:
    """On a terminal the widest column is cut, with an ellipsis; off it nothing is."""
    rows = [{"a": "x" * 100, "b": "short"}]
    assert max(map(output.width, output.table({"a": "a", "b": "b"}, rows, 40).split("\n"))) <= 40
    assert "…" in output.table({"a": "a", "b": "b"}, rows, 40)
    assert "x" * 100 in output.table({"a": "a", "b": "b"}, rows)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "no_colour", "coloured"),
    [(Terminal(), "", True), (Terminal(), "1", False), (io.StringIO(), "", False)],
    ids=["a terminal", "a terminal with NO_COLOR", "a pipe"],
)
def test_colour_is_for_terminals(stream: io.StringIO, no_colour: str, coloured: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Colour on a terminal, and not with NO_COLOR."""
    monkeypatch.setenv("NO_COLOR", no_colour)
    assert ("\x1b" in output.coloured("ok", "32", stream)) is coloured


@pytest.mark.parametrize(("typed", "sure"), [("\n", False), ("", False), ("y\n", True), ("oui\n", True), ("n\n", False), ("yikes\n", False)])
def test_the_default_is_no(typed: str, sure: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a yes is one."""
    monkeypatch.setattr("sys.stdin", Terminal(typed))
    monkeypatch.setattr("sys.stderr", Terminal())
    assert output.confirm("Sure?") is sure


def test_nobody_is_asked_off_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A script's standard input is no answer."""
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert output.confirm("Sure?") is False
