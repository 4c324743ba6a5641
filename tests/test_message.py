"""A message as bytes (kelou/message.py)."""

from __future__ import annotations

import base64
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import NAMES, load

from kelou.message import LINE, Field, Message, decode, decode_charset, field, phrase

PIECES = st.lists(
    st.one_of(
        st.sampled_from([b"Subject:", b"From: a@b.example", b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b"\0", b"\xe9", b"x", b"Content-Type: text/plain"]),
        st.binary(max_size=6),
    ),
    max_size=30,
).map(b"".join)


@given(PIECES)
def test_cutting_and_joining_gives_the_same_bytes(raw: bytes) -> None:
    """Any bytes are a message, and come back as they were."""
    assert bytes(Message.parse(raw)) == raw


@pytest.mark.parametrize("name", NAMES)
def test_cutting_and_joining_gives_the_same_file(name: str) -> None:
    """So do real posts and broken ones."""
    assert bytes(load(name)) == bytes(Message.parse(bytes(load(name))))


@given(PIECES)
def test_changed_headers_still_parse(raw: bytes) -> None:
    """A field that is added is found again, alone of its name, and moves no byte of the body, wherever the message broke off."""
    message = Message.parse(raw)
    for changed in (message.with_top([field("X-New", "1")]), message.with_field(field("X-New", "1")), message.with_body(message.body).with_field(field("X-New", "1"))):
        again = Message.parse(bytes(changed))
        assert [f.text for f in again.all("x-new")] == ["1"]
        assert again.body == message.body
        assert [f.name for f in again.fields if f.name != "x-new"] == [f.name for f in message.fields]


def test_a_body_after_a_header_that_breaks_off() -> None:
    """A header without its last line end and its empty line gets both before a body."""
    assert bytes(Message.parse(b"Subject: cut").with_body(b"text")) == b"Subject: cut\r\n\r\ntext"


@given(st.text(), st.text())
def test_a_field_is_one_field(name: str, value: str) -> None:
    """No name and no value makes a second field, a body, or a line over 998 octets."""
    try:
        built = field(name, value)
    except ValueError:
        return
    again = Message.parse(built.raw + b"\r\nbody")
    assert [f.raw for f in again.fields] == [built.raw]
    assert again.body == b"body"
    assert all(len(line) <= LINE for line in built.raw.split(b"\r\n"))
    assert built.raw.isascii()


@given(st.text(st.characters(min_codepoint=32, exclude_characters="\x7f", exclude_categories=["Cs"])).filter(lambda t: "=?" not in t))
def test_what_is_written_is_read(text: str) -> None:
    """A field's text is what was given, but for blanks; each encoded word has at most 75 characters (RFC 2047 section 2)."""
    built = field("Subject", text)
    assert built.text == " ".join(text.split())
    assert all(len(word) <= 75 for word in built.raw.split() if word.startswith(b"=?"))


@given(st.text())
def test_a_phrase_starts_no_field_and_hides_no_address(text: str) -> None:
    """A display name never breaks the field, and what stands behind it in angle brackets stays what is there."""
    from kelou.address import mailboxes

    built = field("From", f"{phrase(text)} <list@lists.example>")
    assert [str(box.address) for box in mailboxes(built.value)] == ["list@lists.example"]


@given(st.one_of(st.binary(), st.lists(st.sampled_from([b"=?utf-8?b?", b"=?x?q?", b"?=", b" ", b"\r\n ", b"4pyT", b"=C3", b"\xff", b"idna"])).map(b"".join)))
def test_decoding_never_raises(value: bytes) -> None:
    """Whatever a header holds, people get one line of text."""
    text = decode(value)
    assert not any(ord(c) < 32 or ord(c) == 127 for c in text)
    text.encode("utf-8")


@given(st.binary(), st.one_of(st.text(max_size=20), st.sampled_from(["idna", "punycode", "undefined", "utf-7", "zlib", "hz", "utf-16", "rot13", "a\0b", "../x"])))
def test_no_charset_raises(data: bytes, charset: str) -> None:
    """A charset is a stranger's word."""
    decode_charset(data, charset).encode("utf-8")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        pytest.param(b" =?utf-8?q?R=C3=A9union?= du =?iso-8859-1?b?6XTp?=", "Réunion du été", id="words"),
        pytest.param(b" =?utf-8?q?a?=\r\n =?utf-8?q?b?= c", "ab c", id="no-blank-between-words"),
        pytest.param(b" =?utf-8?b?w6nD?= =?utf-8?b?qQ==?=", "éé", id="character-cut-in-two"),
        pytest.param(b" =?utf-8*fr?q?=C3=A9?=", "é", id="language"),
        pytest.param(b" =?utf-8?b?w6k?=", "é", id="no-padding"),
        pytest.param(b" =?iso-2022-jp?b?GyRCJDMkcxsoQg==?=", "こん", id="japanese"),
        pytest.param(b" =?utf-8?q?a=0D=0ABcc:_x?=", "a Bcc: x", id="line-end-inside"),
        pytest.param("Réunion".encode(), "Réunion", id="raw-utf-8"),
        pytest.param("Réunion".encode("latin-1"), "Réunion", id="raw-latin-1"),
        pytest.param(b" =?nonsense?q?=C3=A9?=", "é", id="unknown-charset"),
    ],
)
def test_encoded_words(value: bytes, text: str) -> None:
    """Subjects are read as people see them."""
    assert decode(value) == text


def test_long_headers_take_no_time() -> None:
    """Megabytes of half an encoded word, blanks or fields are read in a moment."""
    start = time.monotonic()
    for value in (b"=?a?b?" * 50_000, b"=?a?b?x?= " * 20_000, b" " * 1_000_000, b"=?a?q?x?=" + b" " * 500_000 + b"x", b"=?punycode?q?" + b"a" * 200_000 + b"?="):
        decode(value)
    Message.parse(b"a: b\r\n" * 100_000)
    assert time.monotonic() - start < 5


def test_an_endless_word_is_encoded() -> None:
    """What could not be folded becomes encoded words, so that no line is too long."""
    built = field("Subject", "x" * 5000)
    assert built.text == "x" * 5000
    assert max(map(len, built.raw.split(b"\r\n"))) <= 78


def test_names_are_names() -> None:
    """A field's name has no blank, colon or line end."""
    for name in ("", "a b", "a:", "a\r\nb", "é"):
        with pytest.raises(ValueError, match="not a header field name"):
            field(name, "x")


def test_without_takes_prefixes() -> None:
    """`list-` stands for all that begin so, `list` for itself."""
    message = Message.parse(b"List-Id: a\r\nlist-post : b\r\nListing: c\r\nTo: d\r\n\r\n")
    assert [f.name for f in message.without(["List-", "to"]).fields] == ["listing"]


def test_with_field_keeps_the_place() -> None:
    """A field that is replaced stays where the first of its name stood; the others of its name go."""
    message = Message.parse(b"A: 1\r\nB: 2\r\nC: 3\r\nb: 4\r\n\r\n")
    assert bytes(message.with_field(Field(b"B: 5\r\n"))) == b"A: 1\r\nB: 5\r\nC: 3\r\n\r\n"


def test_base64_of_broken_length() -> None:
    """A word of base64 that lost a character gives what can be read."""
    assert decode(b"=?utf-8?b?" + base64.b64encode(b"hello")[:-3] + b"?=") == "hel"
