"""Authentication-Results of the host's own verifiers (RFC 8601): what they say, and which of them are forged.

Anybody can write such a field, with any name in it. One is believed only if it claims a name that the configuration lists
(`authors.authserv_ids`), and what makes that name worth believing is the border, which has two duties:

- The verifier's milter stands before Kelou's in `smtpd_milters`. Postfix shows each milter the message as the ones before left it, without its
  own Received on top; so what a verifier of this host added stands above everything the sender wrote.
- Fields that claim our name on arrival are removed before a verifier adds its own (RFC 8601 section 5). OpenDKIM does so by itself. Where the
  verifier does not, Postfix can: `header_checks` see what arrives, never what a milter adds (that is `milter_header_checks`), so a rule
  `/^Authentication-Results:.*our\\.name/ IGNORE` there takes away the forged ones and only these.

Without the second duty a field that a sender forged can not be told from a true one where the verifier adds none. What can be done here is
done: of each method, only the topmost field that reports it counts, so that a forged field can never overrule a verifier that did speak, and
nothing counts that stands below a field of the message's earlier life (`Received`). `forged` names all other occurrences of our names, for the
milter to remove, so that nobody further on believes them.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from .message import Message

NAME = "authentication-results"
LENGTH = 8_192  # octets in a field
RESULTS = 50  # in one field

_QUOTED = re.compile(r'"(?:[^"\\\r\n]|\\[^\r\n])*"')
_PIECE = re.compile(rf'[ \t\r\n]+|;|{_QUOTED.pattern}|[^\s;"()\\]+')
_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_PROPERTY = re.compile(rf"{_NAME.pattern}\.[a-z0-9][a-z0-9._-]*")


class _Malformed(ValueError):
    """Not an Authentication-Results field."""


@dataclass(frozen=True, slots=True)
class Result:
    """One result: `dkim=pass header.d=example.org` is ("dkim", "pass", {"header.d": "example.org"}). All in lower case."""

    method: str
    result: str
    properties: dict[str, str]


@dataclass(frozen=True, slots=True)
class Statement:
    """An Authentication-Results field that could be read: who says it, and what."""

    authserv_id: str
    results: tuple[Result, ...]


def believed(message: Message, authserv_ids: Collection[str]) -> list[Result]:
    """The results that verifiers of these names left on the message."""
    return [result for _occurrence, results in _true(message, authserv_ids) for result in results]


def forged(message: Message, authserv_ids: Collection[str]) -> list[int]:
    """Which Authentication-Results fields claim one of our names and are not believed: 1 is the topmost (as chgheader counts)."""
    true = {occurrence for occurrence, _results in _true(message, authserv_ids)}
    names = {name.lower() for name in authserv_ids}
    return [n for n, field in enumerate(message.all(NAME), 1) if n not in true and claimed(field.value) & names]


def claimed(value: bytes) -> set[str]:
    """Whose field it is, or might be: of one that can not be read, every word, as somebody else may read it otherwise."""
    statement = read(value)
    if statement:
        return {statement.authserv_id}
    return set(re.split(r"[^a-z0-9._-]+", value.decode("utf-8", "replace").lower()))


def read(value: bytes) -> Statement | None:
    """Read a field's value strictly; None if it is not well-formed."""
    if len(value) > LENGTH:
        return None
    try:
        return _statement(_parts(value.decode("utf-8")))
    except (UnicodeDecodeError, _Malformed):
        return None


def _true(message: Message, authserv_ids: Collection[str]) -> list[tuple[int, list[Result]]]:
    """Occurrences that are believed, with those of their results that are."""
    names = {name.lower() for name in authserv_ids}
    found: list[tuple[int, list[Result]]] = []
    heard: set[str] = set()
    occurrence = 0
    for field in message.fields:
        if not names or field.name == "received":
            break
        if field.name != NAME:
            continue
        occurrence += 1
        if not claimed(field.value) & names:
            continue
        statement = read(field.value)
        if not statement:
            break  # else a sender who gets our verifier to write what we can not read would have the word himself
        methods = {result.method for result in statement.results}
        new = [result for result in statement.results if result.method not in heard]
        if new or not methods:
            found.append((occurrence, new))
        if not methods:
            break  # "none": our verifier looked at nothing, so nobody else's word may stand in for it
        heard |= methods
    return found


def _parts(text: str) -> list[list[str]]:
    """The words between semicolons. Comments are blanks (RFC 5322 section 3.2.2); a quoted string stays with the word it is in."""
    parts: list[list[str]] = [[]]
    word = ""
    at = depth = 0
    while at < len(text):
        if depth or text[at] == "(":
            depth += (text[at] == "(") - (text[at] == ")")
            at += 2 if text[at] == "\\" else 1
            piece = " "
        else:
            match = _PIECE.match(text, at)
            if not match:
                raise _Malformed
            at = match.end()
            piece = match[0]
        if piece.strip(" \t\r\n") and piece != ";":
            word += piece
            continue
        if word:
            parts[-1].append(word)
            word = ""
        if piece == ";":
            parts.append([])
    if depth:
        raise _Malformed
    if word:
        parts[-1].append(word)
    return parts


def _statement(parts: list[list[str]]) -> Statement:
    head = parts[0]
    if len(parts) > RESULTS or not (len(head) == 1 or (len(head) == 2 and head[1] == "1")):
        raise _Malformed
    results = [_result(words) for words in parts[1:] if words and [word.lower() for word in words] != ["none"]]
    return Statement(_value(head[0]), tuple(results))


def _result(words: list[str]) -> Result:
    """`method[/version]=result [reason=…] [ptype.property=value …]`, without blanks around the signs, as verifiers write it."""
    method, equals, result = words[0].partition("=")
    method = method.lower().removesuffix("/1")
    if not equals or not _NAME.fullmatch(method) or not _NAME.fullmatch(result.lower()):
        raise _Malformed
    properties: dict[str, str] = {}
    for word in words[1:]:
        name, equals, value = word.partition("=")
        name = name.lower()
        if not equals or name in properties or not (name == "reason" or _PROPERTY.fullmatch(name)):
            raise _Malformed  # of two of a kind, somebody else may read the other one
        properties[name] = _value(value)
    return Result(method, result.lower(), properties)


def _value(word: str) -> str:
    return _QUOTED.sub(lambda quoted: re.sub(r"\\(.)", r"\1", quoted[0][1:-1]), word).lower()
