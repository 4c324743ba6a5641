"""DKIM canonicalisation of header fields and bodies (RFC 6376 section 3.4), in time that grows with the size and no faster.

Signing and verifying share it. dkimpy's own expressions need 27 minutes for a body that is one line of a million blanks, and a stranger
decides what stands in a body.
"""

from __future__ import annotations

import re

CRLF = b"\r\n"

_LINE_END = re.compile(rb"\r?\n")
_BLANKS = re.compile(rb"[ \t]+")
_LINE_ENDS_REVERSED = re.compile(rb"(?:\n\r)*")


def crlf(data: bytes) -> bytes:
    """Every line end as CRLF, which is what was on the wire and is signed (section 5.3)."""
    return _LINE_END.sub(CRLF, data)


def simple_body(body: bytes) -> bytes:
    """Section 3.4.3: without the empty lines at the end; a body without any line is one empty line."""
    return _without_last_lines(body) + CRLF


def relaxed_body(body: bytes) -> bytes:
    """Section 3.4.4: blanks run together, none before a line end, no empty lines at the end; a body without any line is nothing."""
    if body and not body.endswith(CRLF):
        body += CRLF
    kept = _without_last_lines(_BLANKS.sub(b" ", body).replace(b" \r\n", CRLF))
    return kept + CRLF if kept else b""


def relaxed_field(raw: bytes) -> bytes:
    """Section 3.4.2: a header field with its name in lower case, unfolded, blanks run together and none around the value."""
    name, _colon, value = raw.partition(b":")
    return name.rstrip(b" \t").lower() + b":" + _BLANKS.sub(b" ", value.replace(b"\r", b"").replace(b"\n", b"")).strip(b" ") + CRLF


def _without_last_lines(body: bytes) -> bytes:
    # Searched from the end: `(\r\n)*$` from the start would try again at every line end.
    tail = body[len(body.rstrip(CRLF)) :][::-1]
    match = _LINE_ENDS_REVERSED.match(tail)
    return body[: len(body) - (match.end() if match else 0)]
