"""The text of a message for people who are shown no more than that: its text parts, and a line for each part that is none."""

from __future__ import annotations

from . import htmltext, mime
from .i18n import _
from .message import Message


def read(message: Message, limit: int) -> str:
    """The text, of each part at most `limit` characters; of HTML only where there is no plain text. Never raises."""
    try:
        parts = mime.parts(message)
    except mime.TooComplex:
        return _("(The parts of this message are too many to be shown.)")
    plain = any(part.type == "text/plain" and part.disposition != "attachment" for part in parts)
    shown = []
    for index, part in enumerate(parts):
        if part.type == "text/plain" and part.disposition != "attachment":
            shown.append(mime.text(message, part, limit))
        elif part.type == "text/html" and part.disposition != "attachment":
            shown += [] if plain else [htmltext.read(mime.text(message, part, limit))]
        elif mime.is_leaf(parts, index):
            shown.append(_("({type} {name}, {size} octets)").format(type=part.type, name=part.filename, size=part.end - part.start))
    return "\n".join(text.replace("\r\n", "\n") for text in shown)
