"""Addresses: read strictly, keep as spelled, compare as the field does (RFC 5321 section 4.1.2, RFC 6531).

`Address` is one mailbox that names exactly one place. Two readers make it: `parse` for what people type and what an envelope holds,
`mailboxes` for an address field of a message. Both refuse rather than guess, because what they read decides who may post: Python's own
parseaddr takes `alice@list.org <evil@x>` for alice's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import idna

from .i18n import N_
from .message import decode

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\-\u0080-\U0010ffff]+"
_LOCAL = re.compile(rf'{_ATOM}(?:\.{_ATOM})*|"(?:[ !#-\[\]-~\u0080-\U0010ffff]|\\[ -~])+"')
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")


class AddressError(ValueError):
    """This is not one address; the message says why, in English: `_` translates it."""


@dataclass(frozen=True, slots=True)
class Address:
    """A mailbox: `local` as spelled, `domain` as spelled, `key` to compare by."""

    local: str
    domain: str
    key: str

    def __str__(self) -> str:
        return f"{self.local}@{self.domain}"

    @property
    def host(self) -> str:
        """The domain in its DNS form, lower case (A-labels, RFC 5890)."""
        return self.key.rpartition("@")[2]


def parse(text: str) -> Address:
    """One address and nothing else. Raises AddressError with a reason for people.

    The domain compares without regard to case (RFC 5321 section 2.3.11). So does the local part: the standard leaves that to the receiving
    host (section 2.4), and no mail provider of today tells `Jane@` from `jane@`. What goes on the wire is always what was given.
    """
    text = text.strip()
    if not text:
        raise AddressError(N_("no address given"))
    if len(text.encode("utf-8", "replace")) > 254:
        raise AddressError(N_("longer than 254 octets"))
    local, at, domain = text.rpartition("@")
    if not at:
        raise AddressError(N_("no @ in it"))
    if not _LOCAL.fullmatch(local) or not local.isprintable():  # no controls, odd blanks, bidi marks or lone surrogates
        raise AddressError(N_("the part before @ is not valid") if local else N_("nothing before @"))
    if len(local.encode()) > 64:
        raise AddressError(N_("the part before @ is longer than 64 octets"))
    return Address(local, domain, f"{_fold_local(local)}@{host(domain)}")


def host(domain: str) -> str:
    """A domain in its DNS form: A-labels, lower case, no final dot. Raises AddressError."""
    domain = domain.removesuffix(".")
    try:
        ascii_form = domain.lower() if domain.isascii() else idna.encode(domain, uts46=True).decode("ascii").lower()
    except (idna.IDNAError, UnicodeError) as error:
        raise AddressError(N_("the domain is not valid")) from error
    labels = ascii_form.split(".")
    if len(ascii_form) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise AddressError(N_("the domain is not valid") if domain else N_("no domain after @"))
    if labels[-1].isdigit():
        raise AddressError(N_("an IP address is no domain"))
    if len(labels) < 2 and ascii_form != "localhost":
        raise AddressError(N_("the domain is not complete"))
    return ascii_form


def _fold_local(local: str) -> str:
    if local.startswith('"'):
        inner = re.sub(r"\\(.)", r"\1", local[1:-1])
        if _LOCAL.fullmatch(inner):  # RFC 5321 section 4.1.2: quoting that changes nothing names the same mailbox
            local = inner
    # Letter by letter, and never from outside ASCII into it: casefold would take `boſs@` (or the Kelvin sign) for `boss@`.
    return "".join(c.lower() if c.isascii() or not c.lower().isascii() else c for c in local)


@dataclass(frozen=True, slots=True)
class Mailbox:
    """An address in a field of a message, with its display name."""

    name: str
    address: Address


def mailboxes(value: bytes) -> list[Mailbox]:
    """The mailboxes of an address field. Raises AddressError where the field can be read in two ways, or not at all.

    Accepted: `local@domain`, `Name <local@domain>` with the name as atoms, quoted strings or encoded words; comments around them; several,
    with commas. Refused: source routes, text after `>`, addresses in names unquoted, NUL, what is not closed (RFC 5322 section 3.4 without
    most of section 4).
    """
    if b"\0" in value:
        raise AddressError("NUL in an address field")
    text = value.decode("utf-8", "surrogateescape").replace("\r", "").replace("\n", "")
    if any(0xDC80 <= ord(c) <= 0xDCFF for c in text):
        text = value.decode("latin-1").replace("\r", "").replace("\n", "")
    found: list[Mailbox] = []
    for tokens in _split(_tokens(text)):
        found += _mailbox(tokens)
    return found


_TOKEN = re.compile(
    r"""(?P<blank>[ \t]+)
      | (?P<quoted>"(?:[^"\\]|\\.)*")
      | (?P<special>[<>,:;@.\[\]])
      | (?P<atom>[^\s<>,:;@.\[\]"()\\]+)""",
    re.VERBOSE,
)


def _tokens(text: str) -> list[str]:
    """Atoms, quoted strings, specials and single blanks; comments are blanks (RFC 5322 section 3.2.2)."""
    tokens: list[str] = []
    at = 0
    while at < len(text):
        if text[at] == "(":
            at = _comment(text, at)
            tokens.append(" ")
            continue
        match = _TOKEN.match(text, at)
        if not match:
            raise AddressError("not an address field")
        tokens.append(" " if match.lastgroup == "blank" else match[0])
        at = match.end()
    return tokens


def _comment(text: str, at: int) -> int:
    """The place behind a comment, which may hold others."""
    depth = 0
    while at < len(text):
        char = text[at]
        if char == "\\":
            at += 1
        elif char == "(":
            depth += 1
        elif char == ")":
            depth -= 1
            if depth == 0:
                return at + 1
        at += 1
    raise AddressError("a comment that is not closed")


def _split(tokens: list[str]) -> list[list[str]]:
    parts: list[list[str]] = [[]]
    inside = False
    for token in tokens:
        if token == "," and not inside:
            parts.append([])
            continue
        inside = token == "<" or (inside and token != ">")
        parts[-1].append(token)
    return parts


def _mailbox(tokens: list[str]) -> list[Mailbox]:
    words = _strip(tokens)
    if not words:
        return []  # RFC 5322 section 4.4: empty places between commas
    if "<" not in words:
        return [Mailbox("", _address(words))]
    at = words.index("<")
    if words[-1] != ">" or words.count("<") > 1 or words.count(">") > 1:
        raise AddressError("text after the address")
    name = words[:at]
    if any(word in ("@", ":", ";", "[", "]", ",") for word in name):
        raise AddressError("a display name that looks like an address")
    shown = "".join(re.sub(r"\\(.)", r"\1", w[1:-1]) if w.startswith('"') else w for w in name)
    return [Mailbox(decode(shown.encode("utf-8", "surrogateescape")), _address(_strip(words[at + 1 : -1])))]


def _strip(words: list[str]) -> list[str]:
    start, end = 0, len(words)
    while start < end and words[start] == " ":
        start += 1
    while end > start and words[end - 1] == " ":
        end -= 1
    return words[start:end]


def _address(words: list[str]) -> Address:
    if " " in words or words.count("@") != 1:
        raise AddressError("not one address")
    return parse("".join(words))
