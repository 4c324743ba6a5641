"""Delivery reports: what a bounce says, recipient by recipient (RFC 3464, RFC 6533, complaints by RFC 5965).

`read(raw)` takes whatever arrived at a bounce address and never raises. Where a report says more than a program can be sure of, the kind is
`unknown`: nobody loses a subscription over a text that was not understood.

    hard      the mailbox is not there          full      the mailbox is full           delayed    it is still being tried
    soft      it could not be reached           policy    the message, or we, were refused: nothing about the mailbox
    delivered (relayed, expanded)               autoreply a program or an absence answers   complaint  a reader calls it spam
"""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from email import message_from_bytes

from flufl.bounce import all_failures

from . import htmltext, mime
from .address import AddressError, Mailbox, mailboxes, parse
from .diagnosis import judge
from .message import FIELD, Message, decode, decode_charset
from .mime import Part, TooComplex

COUNTS = frozenset({"hard", "soft", "full"})
# The worst first: what a report on several recipients is called by.
KINDS = ("complaint", "hard", "full", "soft", "policy", "delayed", "delivered", "autoreply", "unknown")

_ENVELOPE = re.compile(rb"\A(?:\r?\n)*(?:From [^\r\n]{0,500}\r?\n)?")  # what a mailbox file (mbox) has above a message

ENTRIES = 1_000  # recipients in one report
_LARGEST = 2 * 1024**2  # octets that are looked at; what a report says, it says at its beginning
_DIAGNOSTIC = 500
_QUOTED = 200_000  # octets in which the Message-ID of a returned message is looked for

logging.getLogger("flufl.bounce").setLevel(logging.CRITICAL + 1)  # what breaks in it is caught below, and is no news


@dataclass(frozen=True, slots=True)
class Entry:
    """What a report says of one recipient. `recipient` is empty where it was redacted or can not be read."""

    recipient: str
    status: str  # 5.1.1; empty if none was given
    action: str  # failed, delayed, delivered, relayed, expanded; empty if none was given
    kind: str
    diagnostic: str = ""

    @property
    def counts(self) -> bool:
        """Whether this feeds a score."""
        return self.kind in COUNTS


@dataclass(frozen=True, slots=True)
class Report:
    """A whole report. `message_id` is that of the message it is about, where it says so."""

    kind: str
    entries: tuple[Entry, ...] = ()
    message_id: str = ""


def read(raw: bytes) -> Report:
    """What a message at a bounce address says. Never raises."""
    message = Message.parse(_ENVELOPE.sub(b"", raw[:_LARGEST]))
    try:
        parts = mime.parts(message)
    except TooComplex:
        return Report("unknown")
    returned = _returned(message, parts)
    for reader in (_delivery_status, _feedback, _disposition, _complaint_of_hotmail, _text):
        entries = reader(message, parts, returned)
        if entries is not None:
            once = {(entry.recipient, entry.status, entry.action, entry.kind): entry for entry in reversed(entries)}
            return Report(_worst(entries), tuple(reversed(once.values()))[:ENTRIES], _message_id(message, returned))
    if _is_autoreply(message):
        return Report("autoreply", (Entry(_author(message), "", "", "autoreply"),))
    return Report("unknown")


def _worst(entries: Sequence[Entry]) -> str:
    return min((entry.kind for entry in entries), key=KINDS.index, default="unknown")


# Delivery status notifications.

_STATUS_PARTS = ("message/delivery-status", "message/global-delivery-status")
_FAILED = frozenset({"failed", "failure", "fail", "error", ""})  # OpenSMTPD says error
_STATUS = re.compile(r"(?<![0-9.])([245])\s?\.\s?([0-9]{1,3})\s?\.\s?([0-9]{1,3})(?![0-9])")
_SMTP_REPLY = re.compile(
    r"(?<![0-9.])([45][0-9][0-9])[ :-]{1,3}\(?#?(?:([45])\.([0-9]{1,3})\.([0-9]{1,3})(?![0-9.]))?|#([45])\.([0-9]{1,3})\.([0-9]{1,3})(?![0-9.])"
)
_BARE_STATUS = re.compile(r"\s*(?:smtp|x-[a-z0-9-]{1,40})?\s*;?\s*([45])\.([0-9]{1,3})\.([0-9]{1,3})(?![0-9.])", re.IGNORECASE)


def _delivery_status(message: Message, parts: Sequence[Part], _returned: Message | None) -> list[Entry] | None:
    """The report proper. A report that somebody forwards is a message in a message, where nobody looks (see `mime.parts`)."""
    found = [part for part in parts if part.type in _STATUS_PARTS and part.depth > 0]
    if not found or not (parts[0].type == "multipart/report" or _from_daemon(message)):
        return None
    entries: list[Entry] = []
    human = ""
    for part in found:
        for group in _groups(mime.content(message, part)):
            if not human and "diagnostic-code" not in group:
                human = _human(message, parts)
            entries.append(_entry(group, human))
            if len(entries) >= ENTRIES:
                return entries
    return entries or None


def _groups(content: bytes) -> Iterator[dict[str, bytes]]:
    """The fields of each recipient (RFC 3464 section 2.1). Writers forget the empty line between groups, so that a field that comes again begins one."""
    for block in _BLANK.split(content):
        group: dict[str, bytes] = {}
        for name, value in _fields(block):
            if name in ("original-recipient", "final-recipient", "action") and name in group:
                yield group
                group = {}
            group.setdefault(name, value)
        if group.keys() & {"final-recipient", "original-recipient", "action"}:
            yield group


_BLANK = re.compile(rb"\n[ \t]*\r?\n")


def _fields(block: bytes) -> Iterator[tuple[str, bytes]]:
    """The fields of a group. Unlike in a header, a line that is none ends nothing."""
    name, value = "", b""
    for line in block.splitlines():
        if line[:1] in (b" ", b"\t"):
            value = (value + line)[:20_000]
            continue
        if name:
            yield name, value
        match = FIELD.match(line)
        name, value = (match[1].decode("ascii").lower(), line[match.end() :]) if match else ("", b"")
    if name:
        yield name, value


def _entry(group: Mapping[str, bytes], human: str) -> Entry:
    def text(name: str) -> str:
        return decode(group.get(name, b"")[:20_000])

    written = re.match(r"[a-z]+", text("action").lower())
    action = written[0] if written else ""
    diagnostic = _diagnostic(text("diagnostic-code") or text("x-supplementary-info"))
    status = _status(text("status")) or status_in(diagnostic or text("status"))
    recipient = _recipient(group)
    if action in ("delayed", "delivered", "relayed", "expanded"):
        return Entry(recipient, status, action, "delayed" if action == "delayed" else "delivered", diagnostic)
    if action not in _FAILED:
        return Entry(recipient, status, "", "unknown", diagnostic)
    action = action and "failed"
    if not action and not status.startswith("5"):  # RFC 3464 section 2.3.3 wants an action; without one only class 5 is final
        kind = {"2": "delivered", "4": "delayed"}.get(status[:1], "unknown")
        return Entry(recipient, status, action, kind, diagnostic)
    if diagnostic or (status and not status.endswith(".0.0")):
        return Entry(recipient, status, action, judge(status, diagnostic), diagnostic)
    return Entry(recipient, status, action, _judge_text(status, text("status") + " " + _beside(human, recipient, ()), human), diagnostic)


def _judge_text(status: str, beside: str, human: str) -> str:
    """What the words beside an address say of it, else those above the returned message: they speak of nobody by name, and remove nobody."""
    kind = judge(status, beside)
    if kind == "unknown":
        kind = judge(status, _head(human))
    return kind if kind != "hard" or judge(status, beside) == "hard" else "unknown"


def _diagnostic(text: str) -> str:
    return " ".join(text.split())[:_DIAGNOSTIC]


def _status(text: str) -> str:
    """The status at the beginning of a Status field, whatever stands behind it."""
    match = _STATUS.match(text.strip(" \t\"'<(#"))
    return ".".join(str(int(number)) for number in match.groups()) if match else ""


def status_in(text: str) -> str:
    """The status that a reply says: behind a reply code or a `#`, or first of all. Elsewhere three numbers may be a version or an address."""
    match = _SMTP_REPLY.search(text)
    bare = _BARE_STATUS.match(text)
    if bare and (not match or bare.start(1) < match.start()):
        return ".".join(str(int(number)) for number in bare.groups())
    if not match:
        return ""
    numbers = [number for number in (*match.groups()[1:4], *match.groups()[4:]) if number]
    if len(numbers) == 3 and (match[1] is None or match[1][0] == numbers[0]):
        return ".".join(str(int(number)) for number in numbers)
    return f"{match[1][0]}.0.0" if match[1] else ""


# Addresses in reports.

_TYPED = re.compile(r"\s*([A-Za-z0-9-]{1,40})\s*;(.*)", re.DOTALL)
_CODE_POINT = re.compile(r"\\x\{([0-9A-Fa-f]{2,6})\}")
_XTEXT = re.compile(r"\+([0-9A-F]{2})")


def _recipient(group: Mapping[str, bytes]) -> str:
    """Whom we sent it to: the original recipient, whatever the address it was forwarded to."""
    final = _read_address(group.get("final-recipient", b""))
    original = _read_address(group.get("original-recipient", b""))
    if not original:
        return final or _read_address(group.get("x-actual-recipient", b"")) or _read_address(group.get("x-original-recipient", b""))
    return original


def _read_address(value: bytes) -> str:
    """`rfc822; user@example.org` and what people make of it; empty if there is no address in it (RFC 3464 section 2.3.1, RFC 6533 section 3)."""
    text = decode_charset(value[:2_000].replace(b"\r", b"").replace(b"\n", b""), "utf-8")
    typed = _TYPED.match(text)
    kind, text = (typed[1].lower(), typed[2]) if typed else ("rfc822", text)
    text = text.strip()
    if kind in ("utf-8", "utf8") or "\\x{" in text:
        text = _CODE_POINT.sub(lambda match: _character(int(match[1], 16)), text)
    encoded = [int(code, 16) for code in _XTEXT.findall(text)]
    # ORCPT is in xtext (RFC 3461 section 4) and not always decoded. Jane+42@ is a tag: only what has to be encoded tells that it was.
    if encoded and len(encoded) == text.count("+") and any(code in (0x2B, 0x3D) or not 0x21 <= code <= 0x7E for code in encoded):
        text = _XTEXT.sub(lambda match: chr(int(match[1], 16)), text)
    return _one_address(text)


def _character(number: int) -> str:
    return chr(number) if number < 0xD800 or 0xDFFF < number < 0x110000 else "\ufffd"


def _one_address(text: str) -> str:
    if text.startswith("<") and text.endswith(">"):
        text = text[1:-1]
    try:
        return str(parse(text))
    except AddressError:
        pass
    try:
        found = mailboxes(text.encode("utf-8", "replace"))
    except AddressError:
        return ""
    return str(found[0].address) if len(found) == 1 else ""


# Complaints (RFC 5965).

# What a reader says of a message. `not-spam`, `auth-failure` (RFC 6591) and what else is registered are no complaints.
_COMPLAINTS = frozenset({"abuse", "fraud", "opt-out", "opt-out-list", "complaint", "spam"})


def _feedback(message: Message, parts: Sequence[Part], returned: Message | None) -> list[Entry] | None:
    if parts[0].type != "multipart/report":
        return None
    part = next((part for part in parts if part.type == "message/feedback-report"), None)
    if part is None:
        return None
    header = Message.parse(mime.content(message, part).lstrip(b"\r\n\t "))
    word = re.match(r"[a-z-]+", header.text("feedback-type").lower())
    kind = "complaint" if word and word[0] in _COMPLAINTS else "unknown"
    recipients = [_read_address(field.value) for field in header.all("original-rcpt-to")[:ENTRIES]]
    known = list(dict.fromkeys(recipient for recipient in recipients if recipient))
    return [Entry(recipient, "", "", kind) for recipient in known or [_returned_to(returned)]]


def _complaint_of_hotmail(message: Message, parts: Sequence[Part], returned: Message | None) -> list[Entry] | None:
    """Microsoft's reports are no ARF: the message alone, with the recipient in a field of theirs."""
    if returned is None or parts[0].type != "multipart/mixed" or not returned.first("x-hmxmroriginalrecipient"):
        return None
    return [Entry(_returned_to(returned), "", "", "complaint")]


def _returned_to(returned: Message | None) -> str:
    """Whom a returned message had reached, by what receivers write into it."""
    fields = (returned.first(name) for name in ("x-hmxmroriginalrecipient", "x-original-to", "delivered-to")) if returned else ()
    return next((address for field in fields if field and (address := _one_address(field.text))), "")


# What a mail program says of a message (RFC 8098).

_SIEVE = re.compile(r"message (?:to|for) .{1,300}? was automatically rejected|automatically rejected", re.IGNORECASE | re.DOTALL)


def _disposition(message: Message, parts: Sequence[Part], _returned: Message | None) -> list[Entry] | None:
    """A receipt; or a refusal by a Sieve script (RFC 5429 section 2.2), which Dovecot also makes of a full mailbox."""
    part = next((part for part in parts if part.type == "message/disposition-notification" and part.depth > 0), None)
    if part is None or parts[0].type != "multipart/report":
        return None
    header = Message.parse(mime.content(message, part).lstrip(b"\r\n\t "))
    recipient = next((a for name in ("original-recipient", "final-recipient") if (f := header.first(name)) and (a := _read_address(f.value))), "")
    human = _human(message, parts)
    if not _SIEVE.search(human):
        return [Entry(recipient, "", "", "autoreply")]
    kind = judge("", human)
    return [Entry(recipient, "", "failed", kind if kind == "full" else "policy", _diagnostic(human))]


# Reports in no standard form, through flufl.bounce.

_FOR_FLUFL = ("from", "subject", "x-mailer", "x-failed-recipients", "content-type", "content-transfer-encoding", "mime-version")
_BODY = 16_000  # octets, in lines of at most _LINE: its patterns take time that grows with the square of a line
_LINE = 200
_DAEMON = re.compile(
    r"mailer-?daemon|mail-?daemon|mdaemon|postmaster|mail-?delivery|mail\.?delivery|bounces?|no-?reply-?bounce|mailer|mailsystem|mail-?system", re.IGNORECASE
)
_SUBJECT = re.compile(
    r"undeliver|returned mail|returned to sender|(?:mail|message|delivery)\b.{0,40}\b(?:fail|error|problem|return|delay|warning|notif)|failure notice|"
    r"fail(?:ed|ure).{0,20}\b(?:mail|message|deliver)|could not be delivered|not delivered|non remis|non distribu|echec|erreur de (?:remise|livraison)|"
    r"unzustellbar|nicht zugestellt|devuelto|no entregado|mancata consegna|nao entregue|onbestelbaar|nondeliverable|non.?delivery|user unknown",
    re.IGNORECASE,
)


def _text(message: Message, parts: Sequence[Part], _returned: Message | None) -> list[Entry] | None:
    """The reports of old or odd servers. Its addresses are believed; what happened to them is judged by the text beside them."""
    subject = _plain(message.text("subject")[:500])
    if _FORWARDED.match(subject):
        return None
    looks = _from_daemon(message) or message.first("x-failed-recipients") or _SUBJECT.search(subject)
    if not looks or _is_absence(message) or len(parts) > 60 or any(part.depth > 10 for part in parts):
        return None
    try:
        temporary, permanent = all_failures(message_from_bytes(_shortened(message, parts)))
    except Exception:  # patterns over what a stranger wrote: IndexError, LookupError, RecursionError and what comes to mind
        return None
    entries = []
    human = _human(message, parts)
    spelled = [(address, "delayed") for address in sorted(temporary)] + [(address, "failed") for address in sorted(permanent - temporary)]
    known = [(text, action) for address, action in spelled if (text := _one_address(address.decode("utf-8", "replace")))]
    for recipient, action in known[:ENTRIES]:
        beside = _beside(human, recipient, [other for other, _action in known if other != recipient])
        status = status_in(beside)
        kind = "delayed" if action == "delayed" else _judge_text(status, beside, human if len(known) == 1 else "")
        entries.append(Entry(recipient, status, action, kind, _diagnostic(beside)))
    return entries or None


_FORWARDED = re.compile(r"\s*(?:re|fwd?|tr|wg|aw|rv|vs|i)\s*:", re.IGNORECASE)


def _shortened(message: Message, parts: Sequence[Part]) -> bytes:
    """What flufl may see: little, and nothing of a message that is attached."""
    end = min([_BODY, *(part.header for part in parts if part.type.startswith("message/") and part.depth > 0)])
    fields = [field.raw[:2_000].rstrip(b"\r\n") for field in message.fields if field.name in _FOR_FLUFL]
    lines = [line[:_LINE] for line in message.body[:end].splitlines()]
    return b"\n".join([*fields[:20], b"", *lines])


def _beside(text: str, recipient: str, others: Sequence[str]) -> str:
    """The text behind an address, to the next one or to where the message begins that came back."""
    low = text.lower()
    at = low.find(recipient.lower())
    if at < 0:
        return ""
    start = at + len(recipient)
    line = low.rfind("\n", 0, at) + 1  # some say why before they say who
    ends = [place for other in others[:50] if (place := low.find(other.lower(), start)) > 0]
    back = _ORIGINAL.search(text, start)
    return text[line : min([start + 1_000, *ends, *([back.start()] if back else [])])]


def _head(text: str) -> str:
    """The text above the message that came back."""
    back = _ORIGINAL.search(text, 1)
    return text[: min(1_000, back.start() if back else 1_000)]


_ORIGINAL = re.compile(
    r"^[-_= ]{2,}.{0,20}(?:original|old message|copy of|below this line|returned mail|message header|forwarded|undelivered)|"
    r"(?:original message|message text|copy of (?:the|your) (?:original |)message|returned message).{0,20}follows|^Return-Path:|^Received: ",
    re.IGNORECASE | re.MULTILINE,
)


# The rest.


def _returned(message: Message, parts: Sequence[Part]) -> Message | None:
    """The header of the message that the report is about."""
    kinds = ("message/rfc822", "text/rfc822-headers", "message/global", "message/global-headers", "message/rfc822-headers")
    part = next((part for part in parts if part.type in kinds and part.depth > 0), None)
    return Message.parse(mime.content(message, part).lstrip(b"\r\n")).with_body(b"") if part else None


_MESSAGE_ID = re.compile(rb"^[> \t]{0,4}(?:x-original-|original-)?message-id:[ \t]{0,9}(?:\r?\n[ \t]{1,9})?(<[!-;=?-~]{3,250}>)", re.IGNORECASE | re.MULTILINE)


def _message_id(message: Message, returned: Message | None) -> str:
    """The Message-ID of the message that came back: in its header, or in what is quoted of it."""
    field = returned.first("message-id") if returned else None
    found = _MESSAGE_ID.match(field.raw) if field else _MESSAGE_ID.search(message.body[:_QUOTED])
    return found[1].decode("ascii") if found else ""


def _human(message: Message, parts: Sequence[Part]) -> str:
    """What a report says to people."""
    for index, part in enumerate(parts):
        if part.type == "text/plain" and mime.is_leaf(list(parts), index) and part.disposition != "attachment":
            return mime.text(message, part, _BODY)
    html = next((part for part in parts if part.type == "text/html" and part.disposition != "attachment"), None)
    return htmltext.read(mime.text(message, html, _BODY)) if html else ""


def _author(message: Message) -> str:
    first = message.first("from")
    try:
        found: list[Mailbox] = mailboxes(first.value[:2_000]) if first else []
    except AddressError:
        found = []
    return str(found[0].address) if len(found) == 1 else ""


def _from_daemon(message: Message) -> bool:
    """Whether a mail system wrote this, by its own words."""
    written = message.text("from")[:500]
    local = (_author(message) or written).rpartition("@")[0]
    return not written or bool(_DAEMON.match(local.strip("<\" ") or written)) or bool(re.match(r"[\"']?mail (?:delivery|system)|[\"']?mailer", written, re.IGNORECASE))


_ABSENT = re.compile(
    r"^\W{0,3}(?:(?:re|tr|aw|sv|auto(?:matic)?)\s*[:-]?\s*)?(?:"
    r"out of (?:the )?office|auto(?:matic|mated)?[ -]?(?:re(?:ply|sponse|ponse)|response)|autorepl|vacation|away from|"
    r"on (?:leave|holiday|vacation)|absen[ct]|reponse automatique|message (?:automatique|d'absence)|conge|en (?:conge|vacances|deplacement)|hors (?:du|de) bureau|"
    r"notification d'absence|gestionnaire d'absence|abwesen|automatische (?:antwort|reactie)|afwezig|fuera de (?:la )?oficina|respuesta automatica|ausen|ferie|"
    r"risposta automatica|fuori (?:sede|ufficio)|resposta automatica|frånvaro|franvaro|poza biurem|autosvar)|"
    r"\b(?:out of (?:the )?office|ooo|reponse automatique|absence du bureau|automatic reply|auto-?reply|autoresponder|je suis (?:absent|en conge))",
    re.IGNORECASE,
)
_CHALLENGE = re.compile(
    r"please confirm|confirm your (?:message|email|mail)|confirmez|confirmation (?:requise|required|needed)|sender verification|verif(?:y|ication)|mailinblack|boxbe|"
    r"authentifi(?:cation|er|ez)|spam ?arrest|challenge|action required to deliver|votre (?:message|mail|e-mail) (?:est|a ete) (?:mis )?en attente",
    re.IGNORECASE,
)
_ANSWERING = ("x-autoreply", "x-autorespond", "x-autoresponder", "x-auto-reply", "x-auto-response-suppress-reply", "x-vacation", "x-mail-autoreply", "x-autoreply-from")


def _is_absence(message: Message) -> bool:
    """Whether somebody's program answers that they are away."""
    return any(message.first(name) for name in _ANSWERING) or bool(_ABSENT.search(_plain(message.text("subject")[:500])))


def _is_autoreply(message: Message) -> bool:
    """Whether a program answered (RFC 3834 section 5, and what was in use before): an absence, a receipt, a challenge."""
    said = message.text("auto-submitted").lower()
    answered = said.startswith(("auto-replied", "auto-generated", "auto-notified"))
    older = message.text("precedence").lower() in ("auto_reply", "auto-reply")
    return answered or older or _is_absence(message) or bool(_CHALLENGE.search(_plain(message.text("subject")[:500])))


def _plain(text: str) -> str:
    """Text without accents, as the patterns have it."""
    return "".join(c for c in unicodedata.normalize("NFKD", text.replace("’", "'")) if not unicodedata.combining(c))
