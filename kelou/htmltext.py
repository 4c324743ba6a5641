"""The text of an HTML page, for mail that has no plain text: read simply, in linear time, and never raising.

Pages are cut at `<` and `>` only. Python's own parser takes quadratic time for some pages, and what is wanted here is lines of words.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

_BLOCKS = frozenset({
    "address", "article", "blockquote", "br", "center", "dd", "div", "dl", "dt", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr",
    "li", "ol", "p", "pre", "section", "table", "tr", "ul",
})  # fmt: skip
_HIDDEN = frozenset({"head", "script", "style", "template", "title"})
_DEEPEST = 9  # marks of quotation before a line
_TAG = re.compile(r"/?[a-z][a-z0-9]{0,20}(?=[\s/]|$)|[!?]", re.IGNORECASE)  # `<jean@example.org>` is none
_ENDLESS = re.compile(r"&#(?:[0-9]{8}|[xX][0-9a-fA-F]{8})[0-9a-fA-F]*;?")  # int() refuses thousands of digits


def read(page: str) -> str:
    """The text of a page: a line for each block and break, with `> ` before what is quoted."""
    text: list[str] = []
    hidden = ""
    depth = 0
    verbatim = False
    for tag, words in _pieces(page):
        name = tag.removeprefix("/")
        if hidden:
            if tag != f"/{hidden}" and not (hidden == "head" and tag == "body"):
                continue
            hidden = ""
        elif tag in _HIDDEN:
            hidden = tag
            continue
        if name == "blockquote":
            depth = max(0, depth + (1 if tag == name else -1))
        elif name == "pre":
            verbatim = tag == name
        if name in _BLOCKS:
            text.append("\n" + "> " * min(depth, _DEEPEST))
        elif name in ("td", "th"):
            text.append(" ")
        if words:
            words = html.unescape(_ENDLESS.sub("\ufffd", words))
            text.append(words if verbatim else re.sub(r"[ \t\r\n\f]+", " ", words))
    return "".join(text)


def _pieces(page: str) -> Iterator[tuple[str, str]]:
    """Each tag's name in lower case (`/name` for one that closes) and the text up to the next; comments are left out."""
    shown, *comments = page.split("<!--")
    first, *pieces = "".join([shown, *(comment.partition("-->")[2] for comment in comments)]).split("<")
    yield "", first
    for piece in pieces:
        inside, closed, words = piece.partition(">")
        match = _TAG.match(inside)
        if closed and match:
            yield match[0].lower(), words
        else:
            yield "", "<" + piece
