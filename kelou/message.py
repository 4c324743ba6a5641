"""A message as bytes: header fields in their order, and a body nobody touches (RFC 5322 section 2.1).

`Message.parse(raw)` cuts, `bytes(message)` joins, and the two are inverse for any input. What a stranger wrote is never rewritten through
Python's email package: it changes bytes, and an author's DKIM signature dies of that. Reading is another matter: `decode` and `Message.text`
give text for people and rules, and never raise.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

CRLF = b"\r\n"
LINE = 998  # octets in a line, without CRLF (RFC 5322 section 2.1.1)

# RFC 5322 section 2.2: printable US-ASCII except the colon. Section 4.5.3 lets obsolete senders put blanks before the colon.
FIELD = re.compile(rb"([!-9;-~]+)[ \t]{0,200}:")
_NAME = re.compile(r"[!-9;-~]+")
_ENCODED_WORD = re.compile(r"=\?([^?\s]{1,60})\?([bBqQ])\?([^?\s]*)\?=")
_ENCODED_WORDS = re.compile(r"=\?[^?\s]{1,60}\?[bBqQ]\?[^?\s]*\?=(?:[ \t\r\n]*=\?[^?\s]{1,60}\?[bBqQ]\?[^?\s]*\?=)*")
_CHARSET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+-]{0,39}")
# Codecs that are no charsets of a text; punycode and idna take quadratic time.
_NO_CHARSET = frozenset({"idna", "punycode", "unicode-escape", "raw-unicode-escape", "undefined"})
_SURROGATE = re.compile("[\ud800-\udfff]")


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
            if at == start and not FIELD.match(raw, at, end):
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
        whole = self._whole()
        return replace(whole, fields=(*fields, *whole.fields))

    def with_field(self, field: Field) -> Message:
        """The same message with `field` where the first of its name stood, and no other of that name; at the end if there was none."""
        name, whole = field.name, self._whole()
        at = next((i for i, f in enumerate(whole.fields) if f.name == name), len(whole.fields))
        rest = tuple(f for f in whole.fields[at:] if f.name != name)
        return replace(whole, fields=(*whole.fields[:at], field, *rest))

    def with_body(self, body: bytes) -> Message:
        """The same header over another body."""
        return replace(self._whole(), body=body)

    def _whole(self) -> Message:
        """The same message with the line ends that it lacks where its header or its last field breaks off, so that more can follow."""
        fields = self.fields
        if fields and not fields[-1].raw.endswith(b"\n"):
            fields = (*fields[:-1], Field(fields[-1].raw + CRLF))
        separator = self.separator if self.separator.endswith(b"\n") else CRLF
        return replace(self, fields=fields, separator=separator)


def field(name: str, value: str) -> Field:
    """Build a header field: the one place where text becomes header bytes, so that no text can start a field of its own.

    Control characters become blanks, what is not ASCII (or one endless word) becomes encoded words (RFC 2047), long lines are folded.
    Raises ValueError for a name that is none.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"not a header field name: {name!r}")
    clean = "".join(" " if ord(c) < 32 or ord(c) == 127 else c for c in value).strip()
    plain = clean.isascii() and all(len(word) < LINE - 100 for word in clean.split(" "))  # a longer word could not be folded
    words = clean if plain else _encode(clean, len(name) + 2)
    return Field(b"".join(_fold(f"{name}: ".encode("ascii"), words.encode("ascii"))))


def joined(name: str, *values: bytes) -> Field:
    """A field of what stands in other fields, joined with commas: for bytes that were header bytes before, and stay as they were."""
    return Field(name.encode("ascii") + b": " + b",\r\n ".join(value.strip(b" \t\r\n") for value in values) + CRLF)


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
    text = _ENCODED_WORDS.sub(_decode_words, decode_charset(value, "utf-8"))
    return " ".join("".join(" " if ord(c) < 32 or ord(c) == 127 else c for c in text).split())


def decode_charset(data: bytes, charset: str) -> str:
    """Bytes as text in a charset that a stranger named. Never raises; what is not in that charset is read as UTF-8, else as Latin-1."""
    text = decode_strictly(data, charset)
    if text is None:
        text = decode_strictly(data, "utf-8")
    return data.decode("latin-1") if text is None else text


def decode_strictly(data: bytes, charset: str) -> str | None:
    """Bytes as text, if they are text in that charset."""
    try:
        return _SURROGATE.sub("\ufffd", data.decode(codec(charset)))
    except (LookupError, ValueError, AssertionError, RecursionError):  # codecs of rare charsets raise what they like
        return None


def codec(charset: str) -> str:
    """Python's name for a charset that a stranger named. Raises LookupError if there is none."""
    name = codecs.lookup(charset).name if _CHARSET.fullmatch(charset) else ""
    if not name or name in _NO_CHARSET:
        raise LookupError(f"no charset: {charset!r}")
    return name


def _decode_words(match: re.Match[str]) -> str:
    """Encoded words in a row: the blanks between them are not shown (RFC 2047 section 6.2), and many writers cut a character in two there."""
    runs: list[tuple[str, bytes]] = []
    for word in _ENCODED_WORD.finditer(match[0]):
        charset, data = word[1].partition("*")[0].lower(), word[3]  # RFC 2231 section 5: `*` and a language
        if word[2] in "bB":
            clean = re.sub(r"[^A-Za-z0-9+/]", "", data)
            clean = clean[: -1 if len(clean) % 4 == 1 else None]
            raw = base64.b64decode(clean + "=" * (-len(clean) % 4))
        else:
            raw = binascii.a2b_qp(data.encode("utf-8", "replace"), header=True)
        if runs and runs[-1][0] == charset:
            runs[-1] = charset, runs[-1][1] + raw
        else:
            runs.append((charset, raw))
    return "".join(decode_charset(raw, charset) for charset, raw in runs)


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
