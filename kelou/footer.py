"""The footer, put below the text of a post so that ordinary mail clients show it there, and not as an attachment.

An extra text part at the end is simpler, and Outlook makes a file "ATT00001.txt" of it. So the footer goes into the text itself: in each
alternative (plain and HTML), in that part's charset and transfer encoding where they can hold it.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterator

from . import mime
from .encoding import Content, boundary, encode, rewrite
from .message import CRLF, Message, codec, decode_strictly, field

# What is signed or encrypted is its author's: one byte more, and the signature is void.
_SEALED = frozenset({
    "multipart/signed", "multipart/encrypted", "application/pkcs7-mime", "application/x-pkcs7-mime", "application/pgp-encrypted", "application/pgp",
})  # fmt: skip
_PGP = re.compile(rb"^-----BEGIN PGP (?:SIGNED )?MESSAGE-----", re.MULTILINE)
_LINK = re.compile(r"\b(?:https?://|mailto:)[^\s<>\"]*[^\s<>\".,;:!?')\]]")
_ENDS = (re.compile(rb"</body\b", re.IGNORECASE), re.compile(rb"</html\b", re.IGNORECASE))
_PROBE = "\n<-- >"  # what every superset of ASCII writes as ASCII does
_ENCODINGS = frozenset({"7bit", "8bit", "binary", "base64", "quoted-printable"})


def with_footer(message: Message, text: str) -> Message:
    """The message with `text` below its text; as it is if it is signed or encrypted, or ends with this footer already."""
    clean = "".join(c for c in text.encode("utf-8", "replace").decode() if ord(c) >= 32 or c in "\n\t")
    lines = clean.strip("\n").split("\n")
    if not any(line.strip() for line in lines):
        return message
    try:
        parts = mime.parts(message)
    except mime.TooComplex:
        return message
    targets = list(_texts(parts, 0))
    if any(part.type in _SEALED for part in parts) or any(_PGP.search(mime.content(message, parts[i])) for i in targets):
        return message
    if not targets:
        return _with_part(message, parts, lines)
    contents: dict[int, Content] = {}
    for index in targets:
        data = mime.content(message, parts[index])
        write = _html if parts[index].type == "text/html" else _plain
        new = write(data, parts[index], lines)
        if new.data != data:
            contents[index] = new
    return rewrite(message, parts, contents)


def _texts(parts: list[mime.Part], index: int) -> Iterator[int]:
    """The leaves that a client shows as the body: every alternative, and of parts in a row the first that is text, for Outlook shows no other."""
    part = parts[index]
    if mime.is_leaf(parts, index):
        attached = part.disposition == "attachment" or (part.filename and part.parent >= 0)
        if part.type in ("text/plain", "text/html") and part.encoding in _ENCODINGS and not attached:
            yield index
        return
    for child in range(index + 1, len(parts)):
        if parts[child].parent != index:
            continue
        found = list(_texts(parts, child))
        yield from found
        # In multipart/related the first part is the text (RFC 2387 section 3.2), the rest are its pictures.
        if part.type == "multipart/related" or (found and part.type != "multipart/alternative"):
            return


def _plain(data: bytes, part: mime.Part, lines: list[str]) -> Content:
    if part.parameters.get("format", "").lower() == "flowed":
        lines = [_stuffed(line) for line in lines]
    footer = "\r\n".join(lines) + "\r\n"
    declared = part.parameters.get("charset") or "us-ascii"
    written, charset = _in_charset(footer, declared), ""
    if written is None and (text := _read(data, declared)) is not None:
        data, written, charset = text.encode("utf-8"), footer.encode("utf-8"), "utf-8"
    if written is None:  # the text is not in the charset that it names, and stays: our accents give way
        written = _in_charset(_unaccented(footer), declared) or b""
    ending, body = written.replace(CRLF, b"\n").rstrip(), data.replace(CRLF, b"\n").rstrip()
    if not ending or (b"\n" + body).endswith(b"\n" + ending):
        return Content(data, part.encoding)
    new = data + _gap(data) + _like(data, written)
    return Content(new, _room(part, data, new, charset), charset)


def _html(data: bytes, part: mime.Part, lines: list[str]) -> Content:
    declared, charset = part.parameters.get("charset") or "us-ascii", ""
    if _in_charset("", declared) is None:  # not a superset of ASCII: UTF-16 and its like
        text = _read(data, declared)
        if text is None:
            return Content(data, part.encoding)
        data, charset = text.encode("utf-8"), "utf-8"
    shown = "<br>\r\n".join(map(linked, lines)).encode("ascii", "xmlcharrefreplace")
    fragment = b'<div class="list-footer"><br>\r\n' + shown + b"</div>\r\n"
    at = next((found[-1].start() for end in _ENDS if (found := list(end.finditer(data)))), len(data))
    if data[:at].replace(CRLF, b"\n").endswith(fragment.replace(CRLF, b"\n")):
        return Content(data, part.encoding)
    new = data[:at] + _like(data, fragment) + data[at:]
    return Content(new, _room(part, data, new, charset), charset)


def _in_charset(text: str, charset: str) -> bytes | None:
    """The text in that charset, if it can be appended to what is there: not if the charset is no superset of ASCII."""
    try:
        name = codec(charset)
    except LookupError:
        name = "ascii"  # an unknown one most likely is
    try:
        return text.encode(name) if _PROBE.encode(name) == _PROBE.encode("ascii") else None
    except (ValueError, LookupError):
        return None


def _read(data: bytes, charset: str) -> str | None:
    """The text, where there is no doubt about it. What claims to be ASCII and is not may be UTF-8 all the same."""
    text = decode_strictly(data, charset)
    return decode_strictly(data, "utf-8") if text is None else text


def _room(part: mime.Part, old: bytes, new: bytes, charset: str) -> str:
    """The transfer encoding for the new content: the part's own, but that 7bit holds no other octets (RFC 2045 section 2.7).

    Where it held some all the same and its charset stays, we do not mend it.
    """
    eight = not new.isascii() and (old.isascii() or charset != "")
    return "quoted-printable" if part.encoding == "7bit" and eight else part.encoding


def _like(data: bytes, text: bytes) -> bytes:
    """Our text with the line ends of theirs."""
    return text.replace(CRLF, b"\n") if b"\n" in data and CRLF not in data else text


def _gap(data: bytes) -> bytes:
    """What makes one empty line between the text and the footer."""
    if not data:
        return b""
    ends = 2 if data.endswith((b"\n\n", b"\n\r\n")) else 1 if data.endswith(b"\n") else 0
    return _like(data, CRLF * (2 - ends))


def _stuffed(line: str) -> str:
    """A line of format=flowed text that flows nowhere, and is no quotation (RFC 3676 sections 4.3, 4.4)."""
    line = line if line == "-- " else line.rstrip(" ")
    return " " + line if line.startswith((" ", ">", "From ")) else line


def _unaccented(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))
    return "".join(c for c in plain if not unicodedata.combining(c)).encode("ascii", "replace").decode("ascii")


def linked(line: str) -> str:
    """A line of text as HTML, with its links."""
    shown, at = "", 0
    for match in _LINK.finditer(line):
        link = html.escape(match[0])
        shown += html.escape(line[at : match.start()], quote=False) + f'<a href="{link}">{link}</a>'
        at = match.end()
    return shown + html.escape(line[at:], quote=False)


def _with_part(message: Message, parts: list[mime.Part], lines: list[str]) -> Message:
    """A post without any text: the footer becomes its text, as the first part, for only there every client shows it.

    Behind an attachment Outlook would make another attachment of it.
    """
    text = ("\r\n".join(lines) + "\r\n").encode("utf-8", "replace")
    new = b"".join(
        f.raw
        for f in (
            field("Content-Type", "text/plain; charset=utf-8"),
            field("Content-Transfer-Encoding", "quoted-printable"),
            field("Content-Disposition", "inline"),
        )
    )
    new += CRLF + encode(text, "quoted-printable")
    top = parts[0]
    if top.type == "multipart/mixed" and len(parts) > 1 and b"\n" + top.delimiter not in b"\n" + new:
        at = message.body.rfind(b"\n", 0, parts[1].header - 1) + 1
        line = message.body[at : parts[1].header].rstrip(b"\r\n") + CRLF
        return message.with_body(message.body[:at] + line + new + message.body[at:])
    # A bare invitation stays one to calendars where its text is an alternative to it.
    kind = "multipart/alternative" if top.type == "text/calendar" else "multipart/mixed"
    between = boundary(message.body, new)
    outer = message.without(["content-"]).with_field(field("Content-Type", f'{kind}; boundary="{between}"'))
    if not outer.first("mime-version"):
        outer = outer.with_field(field("MIME-Version", "1.0"))
    own = tuple(f for f in message.fields if f.name.startswith("content-"))
    inner = bytes(Message(own, b"", b"").with_body(message.body))
    line = b"--" + between.encode()
    return outer.with_body(b"".join([line, CRLF, new, line, CRLF, inner, CRLF, line, b"--", CRLF]))
