"""The parts of a message (kelou/mime.py)."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import NAMES, leaves, load, shown

from kelou import mime
from kelou.message import Message

LINES = [
    b"--a", b"--a--", b"--b", b"--b--", b"--a \t", b"--", b"----", b"", b"text", b" folded", b"Content-Type: multipart/mixed; boundary=b", b"--c", b"\0\xff",
    b"Content-Type: multipart/alternative; boundary=\"c \"", b"Content-Type: text/plain; charset=utf-7", b"Content-Type: multipart/x; boundary=a",
    b"Content-Transfer-Encoding: base64", b"Content-Type: x; name*", b"Content-Disposition: attachment; filename*=idna''%ff", b"Content-Type: message/rfc822",
]  # fmt: skip
BODIES = st.lists(st.tuples(st.sampled_from(LINES), st.sampled_from([b"\r\n", b"\r\n", b"\n", b"\r", b""]))).map(lambda ls: b"".join(a + b for a, b in ls))


def nested(depth: int) -> Message:
    """Multiparts in multiparts."""
    top = b"Content-Type: multipart/mixed; boundary=b0\r\n\r\n"
    inner = b"".join(b"--b%d\r\nContent-Type: multipart/mixed; boundary=b%d\r\n\r\n" % (n, n + 1) for n in range(depth))
    return Message.parse(top + inner)


@given(BODIES)
def test_any_bytes_have_parts(body: bytes) -> None:
    """For any bytes there are parts inside each other's bounds, in their order, or too many of them; nothing else happens."""
    message = Message.parse(b"Content-Type: multipart/mixed; boundary=a\r\n\r\n" + body)
    try:
        found = mime.parts(message)
    except mime.TooComplex:
        return
    for index, part in enumerate(found):
        assert part.header <= part.start <= part.end <= len(message.body)
        assert part.parent < index
        if index:
            outer = found[part.parent]
            assert outer.start <= part.header
            assert part.end <= outer.end
            assert part.depth == outer.depth + 1
            assert found[index - 1].header < part.header
        mime.text(message, part, 100).encode("utf-8")


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("nul", "header-8bit-latin1", "plain-wrong-charset", "forwarded-as-attachment", "no-headers")])
def test_another_parser_finds_the_same_leaves(name: str) -> None:
    """Types and bytes of the leaves are those that Python's email finds."""
    message = load(name)
    found = mime.parts(message)
    ours = [(found[i].type, message.body[found[i].start : found[i].end]) for i in range(len(found)) if mime.is_leaf(found, i)]
    theirs = [(p.get_content_type(), str(p.get_payload()).encode("utf-8", "surrogateescape")) for p in leaves(message)]
    # Python's parser drops the blank line at the end of a part that nothing closes, and no other bytes.
    assert [(kind, body.replace(b"\r\n", b"\n").rstrip()) for kind, body in ours] == [(kind, body.replace(b"\r\n", b"\n").rstrip()) for kind, body in theirs]


@pytest.mark.parametrize(
    ("name", "types"),
    [
        ("html-outlook", ["multipart/alternative", " text/plain", " text/html"]),
        ("html-apple-mail-related", ["multipart/alternative", " text/plain", " multipart/related", "  text/html", "  image/png"]),
        ("forwarded-as-attachment", ["multipart/mixed", " text/plain", " message/rfc822"]),
        ("missing-close-boundary", ["multipart/alternative", " text/plain", " text/html"]),
        ("boundary-blanks-and-epilogue", ["multipart/mixed", " text/plain"]),
        ("bare-line-feeds", ["multipart/alternative", " text/plain", " text/html"]),
        ("no-headers", ["text/plain"]),
        ("plain-ascii", ["text/plain"]),
    ],
)
def test_the_tree(name: str, types: list[str]) -> None:
    """Containers come before what they hold."""
    assert [" " * part.depth + part.type for part in mime.parts(load(name))] == types


def test_offsets_are_exact() -> None:
    """The line end before a delimiter belongs to the delimiter, one more belongs to the part (RFC 2046 section 5.1.1)."""
    body = b"--a\r\nX: y\r\n\r\none\r\n\r\n--a\r\n\r\n--a\r\ntwo: headers only\r\n--a\r\nno header here\r\n--a--\r\n"
    message = Message.parse(b"Content-Type: multipart/mixed; boundary=a\r\n\r\n" + body)
    found = mime.parts(message)[1:]
    assert [body[p.start : p.end] for p in found] == [b"one\r\n", b"", b"", b"no header here"]
    assert [body[p.header : p.start] for p in found] == [b"X: y\r\n\r\n", b"\r\n", b"two: headers only\r\n", b""]


def test_an_outer_delimiter_ends_the_inner_parts() -> None:
    """Where an inner boundary is never closed, the outer one closes it."""
    body = b"--a\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nin\r\n--a\r\n\r\nout\r\n--b\r\nstill out\r\n--a--\r\n"
    message = Message.parse(b"Content-Type: multipart/mixed; boundary=a\r\n\r\n" + body)
    assert [body[p.start : p.end] for p in mime.parts(message)[2:]] == [b"in", b"out\r\n--b\r\nstill out"]


@pytest.mark.parametrize("depth", [mime.DEPTH + 1, 1_200, 20_000])
def test_nested_beyond_measure(depth: int) -> None:
    """1,200 nested parts break Python's parser; here they are too many, at once."""
    start = time.monotonic()
    with pytest.raises(mime.TooComplex):
        mime.parts(nested(depth))
    assert time.monotonic() - start < 1


def test_nested_within_measure() -> None:
    """What is not over the limit is read."""
    assert len(mime.parts(nested(mime.DEPTH))) == mime.DEPTH + 1


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"--a\r\n\r\nx\r\n" * 100_000, id="100,000 parts"),
        pytest.param(b"--a\r\n" + b"x: y\r\n" * 1_600_000, id="endless header"),
        pytest.param(b"--a\r\n\r\n" + b"--\r\n" * 2_500_000, id="lines of hyphens"),
        pytest.param(b"--a\r\n\r\n" + b"--a-" * 2_500_000, id="one line"),
        pytest.param(b"--a\r\nContent-Type: text/plain" + b';a="\\' * 10_000 + b"\r\n\r\n", id="open quotes"),
        pytest.param(b"--a\r\nContent-Type: text/plain" + b";a*0*=" * 9_000 + b"\r\n\r\n", id="many sections"),
        pytest.param(b"--a\r\n\r\n" + b"\r\n" * 5_000_000, id="empty lines"),
    ],
)
def test_ten_megabytes_of_malice(body: bytes) -> None:
    """Ten hostile megabytes are read or refused in a few seconds, on a slow machine too."""
    message = Message.parse(b"Content-Type: multipart/mixed; boundary=a\r\n\r\n" + body)
    start = time.monotonic()
    try:
        found = mime.parts(message)
    except mime.TooComplex:
        found = []
    assert len(found) < mime.PARTS
    assert time.monotonic() - start < 10


@pytest.mark.parametrize(
    ("value", "word", "found"),
    [
        ("text/plain; charset=us-ascii (Plain text)", "text/plain", {"charset": "us-ascii"}),
        ('text/plain; charset="us-ascii"', "text/plain", {"charset": "us-ascii"}),
        ('Text/HTML ;CHARSET = "a;b\\"c" ; format=flowed', "text/html", {"charset": 'a;b"c', "format": "flowed"}),
        ("message/external-body; URL*0=\"ftp://\";\r\n URL*1=\"cs.utk.edu/x\"", "message/external-body", {"url": "ftp://cs.utk.edu/x"}),
        ("application/x-stuff; title*=us-ascii'en-us'This%20is%20%2A%2A%2Afun%2A%2A%2A", "application/x-stuff", {"title": "This is ***fun***"}),
        ("a/b; t*0*=us-ascii'en'This%20is%20even%20more%20; t*1*=%2A%2A%2Afun%2A%2A%2A%20; t*2=\"isn't it!\"", "a/b", {"t": "This is even more ***fun*** isn't it!"}),
        ("attachment; filename=old.txt; filename*=utf-8''n%C3%A9w.txt", "attachment", {"filename": "néw.txt"}),
        ("text/plain; charset=a; charset=b", "text/plain", {"charset": "a"}),
        ("text/plain; name*", "text/plain", {}),
        ('a/b; x="never closed; y=z', "a/b", {"x": "never closed; y=z"}),
        ("a/b; x*=nonsense'%ff", "a/b", {"x": "nonsense'ÿ"}),
        (";;=;", "", {}),
        ("", "", {}),
    ],
)
def test_parameters(value: str, word: str, found: dict[str, str]) -> None:
    """Quoted strings, comments, RFC 2231, and what is broken."""
    assert mime.parameters(value.encode()) == (word, found)


PIECES = [b";", b"a", b"*", b"0", b"=", b'"', b"\\", b"'", b"%C3", b"(", b" ", b"\r\n ", b"\xff", b"utf-7''+2AA-"]


@given(st.one_of(st.binary(), st.lists(st.sampled_from(PIECES)).map(b"".join)))
def test_parameters_never_raise(value: bytes) -> None:
    """Whatever a stranger writes there."""
    mime.parameters(value)
    mime.parts(Message.parse(b"Content-Type: multipart/x; " + value.replace(b"\n", b" ") + b"\r\n\r\n--a\r\n"))


@pytest.mark.parametrize("name", ["plain-8bit-utf8", "plain-quoted-printable-iso-8859-15", "plain-base64-utf8", "plain-iso-2022-jp", "plain-utf-16-base64"])
def test_text_is_what_another_parser_reads(name: str) -> None:
    """Charsets and transfer encodings are undone."""
    message = load(name)
    assert mime.text(message, mime.parts(message)[0], 10_000) == shown(leaves(message)[0])


def test_attachments_have_names() -> None:
    """A file's name is read from RFC 2231 and from encoded words, which many programs use in its place."""
    found = mime.parts(load("mixed-text-attachment"))
    assert [(p.disposition, p.filename) for p in found] == [("", ""), ("", ""), ("attachment", "notes détail.txt"), ("attachment", "procès.pdf")]


@pytest.mark.parametrize("body", [b"QUJD", b"QUJD\r\nQUJD=", b"Q", b"====", b"Q!U*J D", b"QUJD=QUJD", b"\xff\0"])
def test_broken_base64_is_read(body: bytes) -> None:
    """Base64 that breaks off or holds something else gives what can be read."""
    message = Message.parse(b"Content-Transfer-Encoding: base64\r\n\r\n" + body)
    assert b"ABC".startswith(mime.content(message, mime.parts(message)[0])[:3])
