"""Delivery reports: a corpus of them, what they are in detail, and whatever else a stranger may send to a bounce address."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kelou import report
from kelou.report import KINDS, Entry, read

CORPUS = Path(__file__).parent / "messages" / "bounces"
FILES = sorted(CORPUS.glob("*.eml"))


def line(entry: Entry) -> str:
    """An entry as the .expect files have it."""
    return " ".join(value or "-" for value in (entry.recipient, entry.status, entry.action, entry.kind))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_corpus_is_understood(path: Path) -> None:
    """Each report of the corpus gives the right kind, and of each recipient the right address, status, action and kind; in CRLF as in LF."""
    expected = path.with_suffix(".expect").read_text("utf-8").splitlines()
    raw = path.read_bytes()
    for form in (raw, raw.replace(b"\r\n", b"\n"), raw.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")):
        found = read(form)
        assert [found.kind, *map(line, found.entries)] == expected


def flufl() -> dict[str, list[str]]:
    """What is expected of flufl.bounce's own corpus."""
    expected: dict[str, list[str]] = {}
    for text in (CORPUS / "flufl" / "expect").read_text("utf-8").splitlines():
        if text.startswith("  "):
            expected[list(expected)[-1]].append(text.strip())
        else:
            expected[text] = []
    return expected


@pytest.mark.parametrize("name", sorted(flufl()))
def test_reports_of_old_and_odd_servers_are_understood_or_count_nothing(name: str) -> None:
    """Of each report that flufl.bounce knows we read the same addresses, and judge them no harder than the words allow."""
    assert list(map(line, read((CORPUS / "flufl" / f"{name}.txt").read_bytes()).entries)) == flufl()[name]


def test_the_corpus_has_every_kind() -> None:
    """No kind is without an example."""
    assert {read(path.read_bytes()).kind for path in FILES} == set(KINDS)


def test_only_a_failing_mailbox_counts() -> None:
    """hard, soft and full feed a score; a refused message, a delay, an absence, a complaint and what was not understood do not."""
    assert {kind for kind in KINDS if Entry("", "", "", kind).counts} == {"hard", "soft", "full"}


@pytest.mark.parametrize(
    ("name", "message_id"),
    [("postfix-unknown-user", "<post-1@example.org>"), ("qmail-no-mailbox", "<cr-12@example.org>"), ("arf-yahoo", "<cr-12@example.org>"), ("person-writes", "")],
)
def test_a_report_says_which_message_came_back(name: str, message_id: str) -> None:
    """The Message-ID of the post that failed is read from the returned header (RFC 3462), or from what old servers quote."""
    assert read((CORPUS / f"{name}.eml").read_bytes()).message_id == message_id


def dsn(fields: bytes) -> bytes:
    """A report with these fields on a recipient."""
    return (
        b'From: MAILER-DAEMON@mx.example.net\nContent-Type: multipart/report; report-type=delivery-status; boundary="b"\n\n--b\n'
        b"Content-Type: message/delivery-status\n\nReporting-MTA: dns; mx.example.net\n\n" + fields + b"\n--b--\n"
    )


# What is large, or long, or deep: each would take minutes if anything took time that grows with the square.
HUGE = {
    "one endless line": b"From: MAILER-DAEMON@x.example\n\n" + b"a" * 3_000_000,
    "an endless line of at signs": b"From: MAILER-DAEMON@x.example\nSubject: failure notice\n\n" + b"a@" * 1_000_000,
    "a line for every pattern": b"From: MAILER-DAEMON@x.example\n\nfailed addresses follow:\nYour message could not be delivered\n" + b"a" * 199 * 5_000,
    "a diagnostic of a megabyte": dsn(b"Final-Recipient: rfc822; a@b.example\nAction: failed\nStatus: 5.0.0\nDiagnostic-Code: " + b"mailbox " * 150_000 + b"\n"),
    "a diagnostic of brackets": dsn(b"Final-Recipient: rfc822; a@b.example\nAction: failed\nDiagnostic-Code: smtp; " + b"<" * 400_000 + b"\n"),
    "a diagnostic of dots": dsn(b"Final-Recipient: rfc822; a@b.example\nAction: failed\nDiagnostic-Code: smtp; " + b"a." * 400_000 + b"\n"),
    "a status of digits": dsn(b"Final-Recipient: rfc822; a@b.example\nAction: failed\nStatus: " + b"5." * 400_000 + b"\n"),
    "an address of a megabyte": dsn(b"Final-Recipient: rfc822; " + b"(" * 500_000 + b"a@b.example\nAction: failed\nStatus: 5.1.1\n"),
    "a subject of a megabyte": b"From: a@b.example\nSubject: " + b"re: " * 250_000 + b"\n\nHi.\n",
    "many groups": dsn(b"Final-Recipient: rfc822; a@b.example\nAction: failed\nStatus: 5.1.1\n\n" * 30_000),
    "many lines that are no fields": dsn(b"nothing here\n" * 100_000),
    "many groups without an address": dsn(b"X: y\n\n" * 200_000),
    "parts in parts": b'Content-Type: multipart/mixed; boundary="0"\n\n'
    + b"".join(b'--%d\nContent-Type: multipart/mixed; boundary="%d"\n\n' % (n, n + 1) for n in range(3_000)),
    "a field folded without end": dsn(b"Final-Recipient: rfc822; a@b.example\nAction: failed\nDiagnostic-Code: smtp;\n" + b" x\n" * 300_000),
    "many parts": b'Content-Type: multipart/report; boundary="b"\n\n' + b"--b\nContent-Type: message/delivery-status\n\n\n" * 50_000,
    "an encoded word of a megabyte": b"From: =?utf-8?q?" + b"=41" * 300_000 + b"?= <MAILER-DAEMON@x.example>\n\nx",
    "nul": b"\0" * 1_000_000,
}


@pytest.mark.parametrize("raw", HUGE.values(), ids=HUGE)
def test_nothing_takes_long(raw: bytes) -> None:
    """What is huge is read in a time in proportion to its size, and counts nothing that is not said."""
    begun = time.process_time()
    read(raw)
    assert time.process_time() - begun < 5


CHARSETS = (
    "utf-8", "iso-8859-1", "windows-1252", "koi8-r", "iso-2022-jp", "gb2312", "big5", "utf-16", "utf-7", "shift_jis", "x-none", "unicode-1-1-utf-7", "idna",
    "unicode-escape",
)  # fmt: skip


def test_an_unreadable_charset_is_no_obstacle() -> None:
    """A report in any charset, or in one that there is none of, keeps its address and status."""
    for charset in CHARSETS:
        raw = dsn(b"Final-Recipient: rfc822; luc@example.net\nAction: failed\nStatus: 5.1.1\nDiagnostic-Code: smtp; 550 \xe9\xff\xfe user unknown\n")
        found = read(raw.replace(b"--b\nContent-Type", b"--b\nContent-Type: text/plain; charset=" + charset.encode() + b"\n\n\xe9\xa1\xff\n--b\nContent-Type", 1))
        assert [line(entry) for entry in found.entries] == ["luc@example.net 5.1.1 failed hard"]


def test_a_broken_detector_is_not_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever flufl.bounce raises, the report is one that was not understood."""

    def broken(_message: object) -> None:
        raise IndexError

    monkeypatch.setattr(report, "all_failures", broken)
    assert read((CORPUS / "qmail-no-mailbox.eml").read_bytes()).kind == "unknown"


PIECES = st.sampled_from(
    [path.read_bytes() for path in FILES]
    + [b"\n\n", b"\r\n", b"--b\n", b"--b--\n", b"Content-Type: message/delivery-status\n\n", b"Final-Recipient: ", b"rfc822;", b"Action: failed\n", b"Status: 5.1.1\n"]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(PIECES, st.binary(max_size=40)), max_size=6).map(b"".join), st.integers(0, 4_000), st.binary(max_size=8))
@example(b"", 0, b"")
@example(b"From: mailer-daemon@yale.edu\n\nMessage not delivered to the following\n", 0, b"")
def test_reading_never_raises(raw: bytes, place: int, noise: bytes) -> None:
    """Whatever comes, cut and spliced as it may be, is read: a kind there is, and addresses that are addresses."""
    found = read(raw[:place] + noise + raw[place:])
    assert found.kind in KINDS
    for entry in found.entries:
        assert entry.kind in KINDS
        assert not entry.recipient or "@" in entry.recipient
