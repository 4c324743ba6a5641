"""A message as bytes: header fields in their order, and a body nobody touches (RFC 5322 section 2.1).

`Message.parse(raw)` cuts, `bytes(message)` joins, and the two are inverse for any input. What a stranger wrote is never rewritten through
Python's email package: it changes bytes, and an author's DKIM signature dies of that. Reading is another matter: `decode` and `Message.text`
give text for people and rules, and never raise.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

CRLF = b"\r\n"
LINE = 998  # octets in a line, without CRLF (RFC 5322 section 2.1.1)

# RFC 5322 section 2.2: printable US-ASCII except the colon. Section 4.5.3 lets obsolete senders put blanks before the colon.
_FIELD = re.compile(rb"([!-9;-~]+)[ \t]{0,200}:")
_NAME = re.compile(r"[!-9;-~]+")
_ENCODED_WORD = re.compile(r"=\?([^?\s]{1,60})\?([bBqQ])\?([^?\s]*)\?=")
_BETWEEN_WORDS = re.compile(r"(=\?[^?\s]{1,60}\?[bBqQ]\?[^?\s]*\?=)[ \t\r\n]+(?==\?[^?\s]{1,60}\?[bBqQ]\?[^?\s]*\?=)")


@dataclass(frozen=True, slots=True)
class Field:
    """One header field as it stands in the message."""

    raw: bytes

    @property
    def name(self) -> str:
        """The field's name in lower case."""
        return self.raw.partition(b":")[0].rstrip(b" \t").decode("ascii").lower()

    @property
    def value(self) -> bytes:
        """What stands after the colon, folding and all, without the last line end."""
        return self.raw.partition(b":")[2].rstrip(b"\r\n")

    @property
    def text(self) -> str:
        """The value for people: unfolded, encoded words decoded, nothing that could start another field."""
        return decode(self.value)


@dataclass(frozen=True, slots=True)
class Message:
    """Header fields, what separates them from the body (an empty line, or nothing when the body begins without one), and the body."""

    fields: tuple[Field, ...]
    separator: bytes
    body: bytes

    @classmethod
    def parse(cls, raw: bytes) -> Message:
        """Cut `raw`. Any bytes are a message: where the first line is no header field, all of it is body."""
        fields: list[Field] = []
        start = at = 0
        while at < len(raw):
            end = raw.find(b"\n", at) + 1 or len(raw)
            first = raw[at : at + 1]
            if at == start and first in (b"\r", b"\n") and not raw[at:end].strip(b"\r\n"):
                return cls(tuple(fields), raw[at:end], raw[end:])
            if at == start and not _FIELD.match(raw, at, end):
                return cls(tuple(fields), b"", raw[at:])
            if raw[end : end + 1] not in (b" ", b"\t"):
                fields.append(Field(raw[start:end]))
                start = end
            at = end
        return cls(tuple(fields), b"", b"")

    def __bytes__(self) -> bytes:
        return b"".join([*(field.raw for field in self.fields), self.separator, self.body])

    def all(self, name: str) -> list[Field]:
        """Every field of that name, from the top."""
        return [field for field in self.fields if field.name == name.lower()]

    def first(self, name: str) -> Field | None:
        """The topmost field of that name."""
        return next((field for field in self.fields if field.name == name.lower()), None)

    def text(self, name: str) -> str:
        """The topmost field of that name as text; empty if there is none."""
        field = self.first(name)
        return field.text if field else ""

    def without(self, names: Iterable[str]) -> Message:
        """The same message less every field of these names; a name ending in `-` stands for all that begin so."""
        exact = frozenset(name.lower() for name in names)
        prefixes = tuple(name for name in exact if name.endswith("-"))
        kept = tuple(f for f in self.fields if f.name not in exact and not (prefixes and f.name.startswith(prefixes)))
        return replace(self, fields=kept)

    def with_top(self, fields: Iterable[Field]) -> Message:
        """The same message with these fields above the others."""
        return replace(self, fields=(*fields, *self.fields), separator=self.separator or CRLF)

    def with_field(self, field: Field) -> Message:
        """The same message with `field` where the first of its name stood, and no other of that name; at the end if there was none."""
        name = field.name
        at = next((i for i, f in enumerate(self.fields) if f.name == name), len(self.fields))
        rest = tuple(f for f in self.fields[at:] if f.name != name)
        return replace(self, fields=(*self.fields[:at], field, *rest), separator=self.separator or CRLF)

    def with_body(self, body: bytes) -> Message:
        """The same header over another body."""
        return replace(self, body=body, separator=self.separator or CRLF)


def field(name: str, value: str) -> Field:
    """Build a header field: the one place where text becomes header bytes, so that no text can start a field of its own.

    Control characters become blanks, what is not ASCII becomes encoded words (RFC 2047), long lines are folded.
    Raises ValueError for a name that is none.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"not a header field name: {name!r}")
    clean = "".join(" " if ord(c) < 32 or ord(c) == 127 else c for c in value).strip()
    words = clean if clean.isascii() else _encode(clean, len(name) + 2)
    return Field(b"".join(_fold(f"{name}: ".encode("ascii"), words.encode("ascii"))))


def phrase(text: str) -> str:
    """A display name for an address field: quoted or encoded as needed, without line ends (RFC 5322 section 3.2.5)."""
    clean = "".join(" " if ord(c) < 32 or ord(c) == 127 else c for c in text).strip()
    if not clean.isascii():
        return _encode(clean, 0)
    if re.fullmatch(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]*", clean) and "=?" not in clean:
        return clean
    return '"' + clean.replace("\\", "\\\\").replace('"', '\\"') + '"'


def decode(value: bytes) -> str:
    """Header bytes as text: unfolded, encoded words decoded, control characters blanked. Never raises, whatever it is given."""
    text = _decode_bytes(value, "utf-8")
    text = _BETWEEN_WORDS.sub(r"\1", text)  # RFC 2047 section 6.2: blanks between encoded words are not shown
    text = _ENCODED_WORD.sub(_decode_word, text)
    return " ".join("".join(" " if ord(c) < 32 or ord(c) == 127 else c for c in text).split())


def decode_charset(data: bytes, charset: str) -> str:
    """Bytes as text in a charset that a stranger named. Never raises; what can not be read becomes U+FFFD."""
    return _decode_bytes(data, charset)


def _decode_bytes(data: bytes, charset: str) -> str:
    # Some codecs are no charsets (idna, punycode, zlib…), some raise what the "replace" handler should have caught.
    try:
        text = data.decode(charset, "strict")
    except (LookupError, ValueError, AssertionError, RecursionError):
        text = data.decode("utf-8", "replace") if charset.lower() in ("utf-8", "utf8") else data.decode("latin-1")
    return text if isinstance(text, str) else data.decode("latin-1")


def _decode_word(match: re.Match[str]) -> str:
    charset, encoding, data = match[1].partition("*")[0], match[2].lower(), match[3]
    try:
        if encoding == "b":
            raw = base64.b64decode(data + "=" * (-len(data) % 4))
        else:
            raw = binascii.a2b_qp(data.encode("ascii"), header=True)
    except (ValueError, binascii.Error):
        return match[0]
    return _decode_bytes(raw, charset)


def _encode(text: str, used: int) -> str:
    """Encoded words in UTF-8, none over 75 characters, no character cut in two (RFC 2047 sections 2 and 5)."""
    words: list[bytes] = []
    chunk = b""
    room = 75 - len("=?utf-8?b??=")
    for char in text:
        encoded = char.encode("utf-8", "replace")
        limit = room - used if not words and used < room - 8 else room
        if len(base64.b64encode(chunk + encoded)) > limit:
            words.append(chunk)
            chunk = b""
        chunk += encoded
    words.append(chunk)
    return " ".join(f"=?utf-8?b?{base64.b64encode(w).decode('ascii')}?=" for w in words)


def _fold(start: bytes, value: bytes) -> Iterator[bytes]:
    """Fold at blanks, at 78 characters where possible (RFC 5322 section 2.1.1)."""
    line = start
    fresh = True
    for word in value.split(b" "):
        if not fresh and len(line) + 1 + len(word) > 78:
            yield line + CRLF
            line = b" " + word
        else:
            line += word if fresh else b" " + word
        fresh = False
    yield line + CRLF
