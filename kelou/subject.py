"""The subject tag: `[board] Minutes`, and `Re: [board] Minutes` in the answers, once, whatever language the mail program answers in."""

from __future__ import annotations

import re

from .message import Message, field

# What mail programs put before the subject of an answer or of a forwarded message; Outlook and others translate it.
_ANSWER = "re|ré|réf|ref|rép|rep|r|aw|antw|antwort|sv|vs|rv|res|odp|ynt|atb|vá|απ|отв|回复|答复|回覆"
_FORWARD = "fwd|fw|tr|wg|vb|vl|vid|doorst|enc|pd|rif|πρθ|转发|轉寄"
_COUNT = r"(?:\[[0-9]{1,4}\]|\([0-9]{1,4}\)|[\^*][0-9]{1,4})?"
_PREFIX = re.compile(rf"(?:(?P<answer>{_ANSWER})|(?P<forward>{_FORWARD}))\.? ?{_COUNT} ?[:：] ?", re.IGNORECASE)
# A prefix in some other language, believed only where our own tag follows.
_ANY_PREFIX = re.compile(rf"[^\W\d_]{{1,12}}\.? ?{_COUNT} ?[:：] ?")


def tagged(message: Message, tag: str) -> Message:
    """The message with `[tag]` in its subject, behind `Re:` and the like; the same object if it stands there already."""
    tag = " ".join(tag.split())
    if not tag:
        return message
    subject = message.text("subject")
    prefixes, stem = _cut(subject, f"[{tag}]".lower())
    shown = " ".join(part for part in (*prefixes, f"[{tag}]", stem) if part)
    return message if shown == subject else message.with_field(field("Subject", shown))


def _cut(subject: str, tag: str) -> tuple[list[str], str]:
    """The prefixes, one of a kind in a row, and the subject without them and without the tag (in lower case)."""
    prefixes: list[str] = []
    last, at = "", 0
    foreign = _foreign(subject, tag)
    while at < len(subject):
        if subject[at : at + len(tag)].lower() == tag:
            at = _blanks(subject, at + len(tag))
            continue
        known = _PREFIX.match(subject, at)
        found = known or (_ANY_PREFIX.match(subject, at) if at < foreign else None)
        if not found:
            break
        kind = (known.lastgroup if known else found[0].lower()) or ""
        if kind != last:
            prefixes.append(found[0].strip())
        last, at = kind, found.end()
    return prefixes, subject[at:].strip()


def _foreign(subject: str, tag: str) -> int:
    """Where the tag stands, if all before it are prefixes; else 0."""
    place, at = subject.lower().find(tag), 0
    while 0 < at + 1 <= place and (found := _ANY_PREFIX.match(subject, at, place)):
        at = found.end()
    return place if at == place else 0


def _blanks(subject: str, at: int) -> int:
    return at + 1 if subject[at : at + 1] == " " else at
