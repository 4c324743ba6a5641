"""Writing a part anew: transfer encodings, and a leaf's new content put in the place of the old (RFC 2045 section 6).

Only the leaf that changes is written; every other byte of the message stays.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from . import mime
from .message import CRLF, LINE, Field, Message, field

_QP_LITERAL = re.compile(rb"[^!-<>-~ \t]")  # RFC 2045 section 6.7: all else is written =XX
_NESTED = 10  # how deep messages in messages are looked into


@dataclass(frozen=True, slots=True)
class Content:
    """What a leaf is to hold, decoded; how it is to be encoded; and its charset where that changes too."""

    data: bytes
    encoding: str
    charset: str = ""


def encode(data: bytes, encoding: str) -> bytes:
    """Bytes in a transfer encoding; as they are in one that changes nothing."""
    if encoding == "base64":
        return base64.encodebytes(data).replace(b"\n", CRLF)
    if encoding == "quoted-printable":
        return CRLF.join(_quoted(line) for line in re.split(rb"\r?\n", data))
    return data


def rewrite(message: Message, parts: list[mime.Part], contents: Mapping[int, Content]) -> Message:
    """The message with these leaves, by their index in `parts`, written anew."""
    pieces: list[bytes] = []
    rest = 0
    for index in sorted(contents):
        part, new = parts[index], contents[index]
        encoded, encoding = encode(new.data, new.encoding), new.encoding
        if _collides(encoded, parts, index):
            # Decoded text may hold a line that is a delimiter, by chance or by intent. No line of base64 begins with a hyphen.
            encoded, encoding = encode(new.data, "base64"), "base64"
        header = message if part.parent < 0 else Message.parse(message.body[part.header : part.start])
        if encoding != part.encoding:
            header = header.with_field(field("Content-Transfer-Encoding", encoding))
        if new.charset:
            header = header.with_field(_content_type(part, new.charset))
        if part.parent < 0:
            return (message if header is message else _versioned(header)).with_body(encoded)
        before = message.body[rest : part.header]
        if before and not before.endswith(b"\n"):  # a delimiter that the message breaks off in
            before += CRLF
        if message.body[part.end : part.end + 1] not in (b"", b"\r", b"\n"):  # a part without even an empty line before the next delimiter
            encoded = encoded.removesuffix(CRLF) + CRLF
        pieces += [before, bytes(header.with_body(encoded))]
        rest = part.end
    return message.with_body(b"".join([*pieces, message.body[rest:]])) if contents else message


def within_line_length(message: Message) -> Message:
    """The message with no line over 998 octets; the same object if there was none.

    Postfix's smtp client breaks longer lines (smtp_line_length_limit), after we have signed: every copy would fail its DKIM check. So a leaf
    with such a line is written anew, a header field is folded at a blank, and only what is neither is broken as Postfix would.
    """
    return _within(message, 0)


def boundary(*texts: bytes) -> str:
    """A boundary that none of these holds; the same ones give the same, so that a retry sends the same bytes."""
    digest = hashlib.sha256(b"".join(texts)).hexdigest()
    while any(digest[:32].encode() in part for part in texts):
        digest = hashlib.sha256(digest.encode()).hexdigest()
    return f"=_kelou_{digest[:32]}"


def _within(message: Message, depth: int) -> Message:
    fields = tuple(f if not _long(f.raw) else Field(_fold(f.raw)) for f in message.fields)
    if fields != message.fields:
        message = replace(message, fields=fields)
    if not _long(message.body):
        return message
    try:
        parts = mime.parts(message)
    except mime.TooComplex:
        parts = []
    contents: dict[int, Content] = {}
    for index, part in enumerate(parts):
        raw = message.body[part.start : part.end]
        if not mime.is_leaf(parts, index) or part.type.startswith("multipart/") or not _long(raw):
            continue
        if part.type in ("message/rfc822", "message/global") and part.encoding not in ("base64", "quoted-printable"):
            if depth < _NESTED:  # RFC 2046 section 5.2.1: it may not be encoded itself, its own parts may
                contents[index] = Content(bytes(_within(Message.parse(raw), depth + 1)), part.encoding)
            continue
        # In QP bytes that are no text would lose their line ends.
        text = part.type.startswith("text/") and part.encoding != "base64"
        contents[index] = Content(mime.content(message, part), "quoted-printable" if text else "base64")
    message = rewrite(message, parts, contents)
    return message.with_body(_break(message.body)) if _long(message.body) else message


def _versioned(message: Message) -> Message:
    return message if message.first("mime-version") else message.with_field(field("MIME-Version", "1.0"))


def _content_type(part: mime.Part, charset: str) -> Field:
    kept = {**part.parameters, "charset": charset}
    written = "".join(
        f"; {name}={_quote(value)}" for name, value in kept.items() if re.fullmatch(r"[a-z0-9_-]+", name) and value.isascii()
    )
    return field("Content-Type", part.type + written)


def _quote(value: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9_.+-]+", value):
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _collides(encoded: bytes, parts: list[mime.Part], index: int) -> bool:
    lines = b"\n" + encoded
    while (index := parts[index].parent) >= 0:
        if parts[index].delimiter and b"\n" + parts[index].delimiter in lines:
            return True
    return False


def _quoted(line: bytes) -> bytes:
    """A line in quoted-printable, of at most 76 octets each (RFC 2045 section 6.7)."""
    text = _QP_LITERAL.sub(lambda match: b"=%02X" % match[0][0], line)
    if text[-1:] in (b" ", b"\t"):
        text = text[:-1] + b"=%02X" % text[-1]
    if len(text) <= 76:
        return text
    pieces: list[bytes] = []
    at = 0
    while len(text) - at > 76:
        cut = at + 75
        while b"=" in text[max(at, cut - 2) : cut]:  # never between = and its digits
            cut -= 1
        pieces.append(text[at:cut])
        at = cut
    return b"=\r\n".join([*pieces, text[at:]])


def _fold(raw: bytes) -> bytes:
    """A header field folded at its blanks: a line end before a blank is nothing to DKIM's relaxed canonicalization (RFC 6376 section 3.4.2)."""
    lines: list[bytes] = []
    for line in raw.splitlines(keepends=True):
        start = 0
        while len(line) - start > LINE:
            blank = max(line.rfind(b" ", start + 1, start + LINE - 2), line.rfind(b"\t", start + 1, start + LINE - 2))
            if blank < 0 or not line[start:blank].strip() or not line[blank:].strip():
                break
            lines.append(line[start:blank] + CRLF)
            start = blank
        lines.append(line[start:])
    return _break(b"".join(lines))


def _long(data: bytes) -> bool:
    """Whether any line is over 998 octets."""
    at = 0
    while at + LINE < len(data):
        end = data.find(b"\n", at) + 1 or len(data)
        if end - at > LINE and len(_bare(data[at:end])) > LINE:
            return True
        at = end
    return False


def _bare(line: bytes) -> bytes:
    return line.removesuffix(b"\n").removesuffix(b"\r")


def _break(data: bytes) -> bytes:
    """What Postfix would do to lines that are still too long, done before we sign."""
    lines: list[bytes] = []
    for line in data.split(b"\n"):
        bare = _bare(line)
        if len(bare) > LINE:
            rest = (b" " + bare[at : at + LINE - 1] for at in range(LINE, len(bare), LINE - 1))
            line = CRLF.join([bare[:LINE], *rest]) + line[len(bare) :]
        lines.append(line)
    return b"\n".join(lines)
