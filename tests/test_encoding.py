"""Writing a part anew, and keeping lines within 998 octets (kelou/encoding.py)."""

from __future__ import annotations

import email
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import leaves, load, shown

from kelou import mime
from kelou.encoding import Content, boundary, encode, rewrite, within_line_length
from kelou.message import LINE, Message

LONG = "é" * 700 + " " + "x" * 1200
BYTES = st.lists(st.one_of(st.binary(max_size=8), st.sampled_from([b"\r\n", b"\n", b" ", b"x" * 80, b"=", b"\t\r\n", b"."]))).map(b"".join)


def longest(message: Message) -> int:
    return max(len(line.removesuffix(b"\r")) for line in bytes(message).split(b"\n"))


@given(BYTES)
def test_quoted_printable_reads_back(data: bytes) -> None:
    """Text comes back as it was, but that each line end is CRLF; no line is over 76 octets or ends in a blank."""
    encoded = encode(data, "quoted-printable")
    message = Message.parse(b"Content-Transfer-Encoding: quoted-printable\r\n\r\n" + encoded)
    assert mime.content(message, mime.parts(message)[0]) == data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    assert all(len(line) <= 76 and not line.endswith((b" ", b"\t")) for line in encoded.split(b"\r\n"))
    assert encoded.isascii()


@given(st.binary())
def test_base64_reads_back(data: bytes) -> None:
    """Bytes come back as they were."""
    message = Message.parse(b"Content-Transfer-Encoding: base64\r\n\r\n" + encode(data, "base64"))
    assert mime.content(message, mime.parts(message)[0]) == data


def test_short_lines_stay() -> None:
    """A message without a long line is the same object; 998 octets are not too long."""
    message = Message.parse(b"Subject: x\r\n\r\n" + b"y" * LINE + b"\r\n" + b"z" * LINE)
    assert within_line_length(message) is message


@pytest.mark.parametrize("encoding", ["7bit", "8bit", "binary", "quoted-printable"])
@pytest.mark.parametrize("kind", ["plain", "html"])
def test_a_long_line_of_text(kind: str, encoding: str) -> None:
    """Text with a long line becomes quoted-printable, reads as before, and keeps its charset."""
    text = LONG.replace("é", "=C3=A9") if encoding == "quoted-printable" else LONG
    message = Message.parse(f"Content-Type: text/{kind}; charset=utf-8\r\nContent-Transfer-Encoding: {encoding}\r\n\r\na\r\n{text}\r\nb\r\n".encode())
    within = within_line_length(message)
    assert longest(within) <= 78
    (leaf,) = leaves(within)
    assert shown(leaf) == f"a\n{LONG}\nb\n"
    assert leaf["content-transfer-encoding"] == "quoted-printable"
    assert within_line_length(within) is within


def test_a_long_line_of_a_file() -> None:
    """What is no text becomes base64, byte for byte; its neighbours stay."""
    data = b"\x89PNG\r\n" + b"\0\xff\r\x0b" * 1000 + b"\n"
    body = b"--b\r\n\r\nText\r\n--b\r\nContent-Type: image/png\r\n\r\n" + data + b"\r\n--b--\r\n"
    within = within_line_length(Message.parse(b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" + body))
    text, picture = leaves(within)
    assert picture.get_payload(decode=True) == data
    assert text.get_payload() == "Text"
    assert within.body.startswith(b"--b\r\n\r\nText\r\n--b\r\nContent-Type: image/png\r\n")


def test_a_long_line_of_base64() -> None:
    """Base64 in one line is cut in lines."""
    message = Message.parse(b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n" + b"QUJD" * 1000 + b"\r\n")
    within = within_line_length(message)
    assert longest(within) <= 76
    assert shown(leaves(within)[0]) == "ABC" * 1000


def test_a_long_line_in_a_forwarded_message() -> None:
    """A message in a message may not be encoded itself; its own text may."""
    inner = b"Subject: in\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + LONG.encode()
    message = Message.parse(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: message/rfc822\r\n\r\n" + inner + b"\r\n--b--\r\n")
    within = within_line_length(message)
    assert longest(within) <= 78
    assert [shown(leaf) for leaf in leaves(within)] == [LONG]


def test_what_is_no_part_is_broken_before_we_sign() -> None:
    """A long line of a preamble or a boundary-less multipart is broken as Postfix would break it, with a blank."""
    message = Message.parse(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"p" * 2500 + b"\r\n--b\r\n\r\nx\r\n--b--\r\n")
    within = within_line_length(message)
    assert longest(within) <= LINE
    assert b"--b\r\n\r\nx\r\n--b--\r\n" in within.body


def test_a_long_header_is_folded_at_blanks() -> None:
    """Folding is nothing to DKIM's relaxed canonicalization: unfolded, the field is what it was."""
    references = b" ".join(b"<%d@x.example>" % n for n in range(500))
    message = Message.parse(b"References: " + references + b"\r\nX-Word: " + b"w" * 3000 + b"\r\n\r\nbody")
    within = within_line_length(message)
    assert longest(within) <= LINE
    assert within.fields[0].value.replace(b"\r\n", b"") == b" " + references
    assert within.body == b"body"


def test_decoded_text_makes_no_part() -> None:
    """A line of decoded text that is a delimiter does not cut the message: that leaf becomes base64."""
    smuggled = b"=2D-b\r\nContent-Type: text/html\r\n\r\n<b>never a part</b>" + b"x" * 2000
    message = Message.parse(
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" + smuggled + b"\r\n--b--\r\n"
    )
    within = within_line_length(message)
    (leaf,) = leaves(within)
    assert shown(leaf) == "--b\nContent-Type: text/html\n\n<b>never a part</b>" + "x" * 2000


def test_only_the_leaf_changes() -> None:
    """What is around a rewritten leaf keeps every byte; the order of its header fields stays."""
    message = load("mixed-text-attachment")
    found = mime.parts(message)
    new = rewrite(message, found, {1: Content(b"new\r\n", "quoted-printable", "utf-8")})
    assert new.fields == message.fields
    assert new.body[: found[1].header] == message.body[: found[1].header]
    assert new.body.endswith(message.body[found[1].end :])
    (first, *_rest) = leaves(new)
    assert (first["content-type"], first["content-transfer-encoding"]) == ("text/plain; charset=utf-8; format=flowed", "quoted-printable")


def test_nothing_to_rewrite_is_the_same_object() -> None:
    """No contents, no change."""
    message = load("mixed-text-attachment")
    assert rewrite(message, mime.parts(message), {}) is message


def test_a_boundary_is_in_no_text() -> None:
    """It is the same for the same texts, and stands in none of them."""
    first = boundary(b"a", b"b")
    assert first == boundary(b"a", b"b") != boundary(b"a", b"c")
    assert first.encode() not in boundary(b"a", b"b", first.encode()).encode()


@given(st.binary(max_size=400), st.integers(0, 3000))
def test_no_bytes_raise(raw: bytes, length: int) -> None:
    """Whatever comes, no line that goes out is too long, and what had none is untouched."""
    raw = raw.replace(b"\0", b"\n--b\r\n") + b"x" * length + raw
    for head in (b"", b"Content-Type: multipart/mixed; boundary=b\r\n\r\n", b"Content-Type: image/x\r\n\r\n"):
        message = Message.parse(head + raw)
        within = within_line_length(message)
        assert longest(within) <= LINE
        assert within is message or longest(message) > LINE
        email.message_from_bytes(bytes(within))


def test_ten_megabytes_in_one_line() -> None:
    """A huge line is encoded in a few seconds."""
    start = time.monotonic()
    for head in (b"", b"Content-Type: image/png\r\n\r\n", b"Content-Type: multipart/mixed\r\n\r\n"):
        within_line_length(Message.parse(head + b"\r\n" + b"\xe9 a" * 3_000_000))
    assert time.monotonic() - start < 30
