"""The parts of a message, found in its bytes without building objects from them (RFC 2045, 2046).

The scanner is iterative and has limits, because a stranger decides how many parts there are and how deep they nest: 1,200 nested parts are
enough to break Python's own parser.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from urllib.parse import unquote_to_bytes

from .message import FIELD, Message, decode, decode_charset

DEPTH = 50
PARTS = 500
HEADER = 60_000  # octets in the header of one part

_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]{1,127}/[a-z0-9!#$&^_.+-]{1,127}")
_WORD = re.compile(r"[A-Za-z0-9_-]+")
_SECTION = re.compile(r"([^*]+)\*(?:([0-9]{1,3})(\*?))?")
_FIELDS = ("content-type", "content-disposition", "content-transfer-encoding")


class TooComplex(ValueError):
    """More parts, or deeper ones, than anything a person sends."""


@dataclass(frozen=True, slots=True)
class Part:
    """A leaf or a container. Offsets count in the message's body; `start:end` is the part's own body, still encoded."""

    type: str  # "text/plain"; lower case
    parameters: Mapping[str, str]  # of Content-Type: charset, boundary, name, …
    disposition: str  # "", "inline", "attachment"
    filename: str
    encoding: str  # "7bit", "8bit", "base64", "quoted-printable", …
    depth: int
    parent: int  # index of the container in the list of parts; -1 for the message itself
    header: int  # where the part's header begins; equal to start for the message itself
    start: int
    end: int

    @property
    def delimiter(self) -> bytes:
        """What begins the lines between the parts of a container; empty for a leaf. Blanks at its end do not count (RFC 2046 section 5.1.1)."""
        boundary = self.parameters.get("boundary", "").rstrip() if self.type.startswith("multipart/") else ""
        return b"--" + boundary.encode("utf-8", "surrogateescape") if boundary else b""


def parts(message: Message) -> list[Part]:
    """Every part, containers before what they hold. Raises TooComplex.

    A message in a message (message/rfc822) is a leaf: what was forwarded is nobody's to look into.
    """
    body = message.body
    top = {name: field.value for name in _FIELDS if (field := message.first(name))}
    found = [_part(top, depth=0, parent=-1, header=0, start=0, end=len(body))]
    unfinished = [0]  # parts whose end is not known yet, the outermost first
    delimiters = {found[0].delimiter: 0} if found[0].delimiter else {}  # of containers that are not closed yet
    at = 0
    while delimiters:
        at = _dashes(body, at)
        if at < 0:
            break
        end = body.find(b"\n", at) + 1 or len(body)
        container, closing = _delimiter(body, at, end, delimiters)
        if container < 0:
            at = end
            continue
        # RFC 2046 section 5.1.1: the line end before a delimiter belongs to it. An outer delimiter also ends what was left open inside.
        before = at - 2 if body[max(0, at - 2) : at] == b"\r\n" else max(0, at - 1)
        while unfinished[-1] != container:
            index = unfinished.pop()
            before = max(before, found[index].start)  # an empty part begins, and ends, at the delimiter itself
            found[index] = replace(found[index], end=before)
            delimiters = {key: owner for key, owner in delimiters.items() if owner != index}
        if closing:
            delimiters = {key: owner for key, owner in delimiters.items() if owner != container}
            at = end
            continue
        if len(found) >= PARTS:
            raise TooComplex("too many parts")
        fields, start = _header(body, end, delimiters)
        part = _part(fields, depth=found[container].depth + 1, parent=container, header=end, start=start, end=len(body))
        if part.depth > DEPTH:
            raise TooComplex("parts nested too deeply")
        unfinished.append(len(found))
        # A container inside that uses a boundary already in use has no parts of its own: the outer one's delimiter ends it.
        if part.delimiter and part.delimiter not in delimiters:
            delimiters[part.delimiter] = len(found)
        found.append(part)
        at = start
    return found


def is_leaf(parts: list[Part], index: int) -> bool:
    """Whether this part holds no others."""
    return index + 1 >= len(parts) or parts[index + 1].parent != index


def content(message: Message, part: Part) -> bytes:
    """The body of a leaf without its transfer encoding. Never raises: what is broken is read as clients read it."""
    raw = message.body[part.start : part.end]
    if part.encoding == "base64":
        data = re.sub(rb"[^A-Za-z0-9+/]", b"", raw.partition(b"=")[0])
        data = data[: -1 if len(data) % 4 == 1 else None]
        return binascii.a2b_base64(data + b"=" * (-len(data) % 4))
    return binascii.a2b_qp(raw) if part.encoding == "quoted-printable" else raw


def text(message: Message, part: Part, limit: int) -> str:
    """The first `limit` characters of a leaf as text, with line feeds between lines. Never raises."""
    return decode_charset(content(message, part), part.parameters.get("charset", "us-ascii")).replace("\r\n", "\n")[:limit]


def parameters(value: bytes) -> tuple[str, dict[str, str]]:
    """The word that a Content-Type or Content-Disposition begins with, in lower case, and its parameters (RFC 2045 section 5.1, RFC 2231).

    Never raises. Of two parameters of one name the first counts.
    """
    unfolded = value.decode("utf-8", "surrogateescape").replace("\r", "").replace("\n", "")
    pieces = _pieces(unfolded)
    word = next(pieces, "").partition("(")[0].strip().lower()
    plain: dict[str, str] = {}
    sections: dict[str, dict[int, tuple[str, bool]]] = {}
    for piece in pieces:
        name, equals, written = piece.partition("=")
        name, written = name.strip().lower(), _unquote(written.strip())
        section = _SECTION.fullmatch(name)
        if section and equals:
            number, coded = int(section[2] or 0), section[3] == "*" or section[2] is None
            sections.setdefault(section[1], {}).setdefault(number, (written, coded))
        elif name and equals:
            plain.setdefault(name, written)
    for name, numbered in sections.items():
        plain[name] = _join(numbered)  # RFC 2231 section 4 goes before the plain form that old readers get
    return word, plain


def _part(fields: Mapping[str, bytes], depth: int, parent: int, header: int, start: int, end: int) -> Part:
    kind, of_type = parameters(fields.get("content-type", b""))
    disposition, of_disposition = parameters(fields.get("content-disposition", b""))
    encoding = _WORD.match(fields.get("content-transfer-encoding", b"").decode("latin-1").strip())
    filename = of_disposition.get("filename") or of_type.get("name", "")
    return Part(
        type=kind if _TYPE.fullmatch(kind) else "text/plain",  # RFC 2045 section 5.2
        parameters=of_type,
        disposition=disposition,
        filename=decode(filename.encode("utf-8", "surrogateescape")),
        encoding=encoding[0].lower() if encoding else "7bit",
        depth=depth,
        parent=parent,
        header=header,
        start=start,
        end=end,
    )


def _dashes(body: bytes, at: int) -> int:
    """The next line, from the line that begins at `at`, that begins with two hyphens; -1 if there is none."""
    if body.startswith(b"--", at):
        return at
    return body.find(b"\n--", at) + 1 or -1


def _delimiter(body: bytes, at: int, end: int, delimiters: Mapping[bytes, int]) -> tuple[int, bool]:
    """The container whose delimiter this line is, and whether it closes it; -1 if it is none."""
    if not body.startswith(b"--", at):
        return -1, False
    line = body[at:end].rstrip(b" \t\r\n")
    if line in delimiters:
        return delimiters[line], False
    if line.endswith(b"--") and line[:-2] in delimiters:
        return delimiters[line[:-2]], True
    return -1, False


def _header(body: bytes, first: int, delimiters: Mapping[bytes, int]) -> tuple[dict[str, bytes], int]:
    """The fields that matter of the part header that begins at `first`, and where the part's body begins."""
    at = first
    while at < len(body):
        end = body.find(b"\n", at) + 1 or len(body)
        if end - first > HEADER:
            raise TooComplex("a part with too long a header")
        if _delimiter(body, at, end, delimiters)[0] >= 0:
            break  # a header that never ends: the part has no body
        if not body[at:end].strip(b"\r\n"):
            at = end
            break
        folded = at > first and body[at : at + 1] in (b" ", b"\t")
        if not folded and not FIELD.match(body, at, end):
            break
        at = end
    header = Message.parse(body[first:at])
    return {name: field.value for name in _FIELDS if (field := header.first(name))}, at


def _pieces(text: str) -> Iterator[str]:
    """The text cut at the semicolons that are not in a quoted string."""
    start, quoted, skip = 0, False, -1
    for match in re.finditer(r'[\\";]', text):
        at, char = match.start(), match[0]
        if at == skip:
            continue
        if char == "\\":
            skip = at + 1 if quoted else -1
        elif char == '"':
            quoted = not quoted
        elif not quoted:
            yield text[start:at]
            start = at + 1
    yield text[start:]


def _unquote(written: str) -> str:
    if not written.startswith('"'):
        return re.split(r"[ \t]+\(", written, maxsplit=1)[0]
    found = re.match(r'"((?:[^"\\]|\\.)*)', written)
    return re.sub(r"\\(.)", r"\1", found[1]) if found else ""


def _join(sections: Mapping[int, tuple[str, bool]]) -> str:
    """A value that was cut in pieces, or says its charset, or both (RFC 2231)."""
    charset, data = "utf-8", b""
    for number in sorted(sections):
        written, coded = sections[number]
        if coded and number == 0 and written.count("'") >= 2:
            charset, _language, written = written.split("'", 2)
        raw = written.encode("utf-8", "surrogateescape")
        data += unquote_to_bytes(raw) if coded else raw
    return decode_charset(data, charset or "us-ascii")
