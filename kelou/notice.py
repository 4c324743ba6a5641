"""Notices: what Kelou itself writes to people, from a template (kelou.template).

Notices are signed like posts, say that a program wrote them (RFC 3834 section 5) and have the null reverse-path, so that nothing ever answers
them. In each template there are `site`, `list` (a ListView), `name` (of whom it goes to, or empty) and what the sender of the notice adds. Where
there is something to click, the text has an HTML alternative, which is the same text and nothing else.
"""

from __future__ import annotations

import email.utils
import html
import re
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from . import secret, submission, template
from .address import AddressError, parse
from .config import Config
from .database import connection, rehearsing
from .directory import ListView
from .encoding import encode, within_line_length
from .footer import linked
from .i18n import known
from .maillog import event, problem
from .message import CRLF, LINE, Message, field, phrase
from .models import Account, now
from .reply import Reply
from .setting import SettingError


@dataclass(frozen=True, slots=True)
class Desk:
    """What a notice is about that is about no list, or several: the command address of a domain. In a template it stands for the list."""

    address: str
    domain: str
    language: str
    name: str = ""


_MESSAGE_ID = re.compile(r"<[!-;=?-~]{3,250}>")


def send(config: Config, template: str, to: str, the_list: ListView | Desk, **values: Any) -> bool:
    """Send one notice; False if Postfix did not take it (that is logged, and undoes nothing)."""
    return not send_all(config, template, [to], the_list, **values)


def send_all(
    config: Config,
    template: str,
    recipients: Iterable[str],
    the_list: ListView | Desk,
    *,
    each: Callable[[str], dict[str, Any]] | None = None,
    **values: Any,
) -> tuple[str, ...]:
    """A notice to each of them, in their own language; returns the addresses whose notice Postfix did not take.

    `each` gives the values that are one recipient's own. Call it after the commit: what was decided stands, whether or not somebody can be told.
    """
    waiting = list(dict.fromkeys(recipients))
    if not waiting or rehearsing():
        return ()
    tried = 0
    refused: list[str] = []
    try:
        with connection(), submission.Connection(config["postfix.reinjection"]) as postfix:
            for to, content in _written(config, template, waiting, the_list, lambda to: values | (each(to) if each else {})):
                outcome = postfix.submit("", [to], content)
                tried += 1
                if outcome.taken and not outcome.refused and not outcome.deferred:
                    event("notice", template=template, list=the_list.address, to=to, message_id=values.get("answers"))
                else:
                    problem("notice-refused", template=template, list=the_list.address, to=to, reply=_refusal(outcome))
                    refused.append(to)
    except (submission.Unavailable, SettingError) as error:
        problem("notice-unsent", template=template, list=the_list.address, recipients=len(waiting) - tried, why=error)
    return (*refused, *waiting[tried:])


def _refusal(outcome: submission.Outcome) -> Reply:
    return outcome.refused.get(0) or outcome.deferred.get(0) or outcome.final


def _written(
    config: Config, template: str, recipients: list[str], the_list: ListView | Desk, values: Callable[[str], dict[str, Any]]
) -> Iterator[tuple[str, bytes]]:
    sealed = secret.load(config)
    for to in recipients:
        person = Account.get_or_none(Account.key == _key(to))
        language = known(person.language if person and person.language else _language(the_list))
        name = person.name if person else ""
        yield to, write(config, sealed, template, to, the_list, language, name=name, **values(to))


def _language(the_list: ListView | Desk) -> str:
    language: str = the_list.language if isinstance(the_list, Desk) else the_list["language"]
    return language


def _key(to: str) -> str:
    try:
        return parse(to).key
    except AddressError:
        return ""


def write(
    config: Config,
    sealed: secret.Secret,
    wanted: str,
    to: str,
    the_list: ListView | Desk,
    language: str,
    *,
    name: str = "",
    reply_to: str = "",
    answers: str = "",
    replied: bool = False,
    attached: bytes | None = None,
    **values: Any,
) -> bytes:
    """The notice as bytes, 7-bit whatever the text: header fields through `message.field`, the text in UTF-8.

    `answers` is the Message-ID that mail programs show it below; `replied` says that it goes to the author of that message, in answer to it;
    `attached` is a message that goes with it as it is.
    """
    values |= {"site": config["site.name"], "name": name, "reply_to": reply_to}
    written = template.render(wanted, language, the_list, values)
    if isinstance(the_list, Desk):
        sender = the_list.address
    else:
        sender = the_list.sub("owner") if the_list.status == "open" else f"listmaster@{the_list.domain}"
    fields = [
        secret.ask_signature(sealed, the_list.domain, now()),
        field("From", f"{phrase(config['site.name'])} <{sender}>"),
        field("To", _mailbox(name, to)),
        field("Subject", written.subject),
        field("Date", email.utils.format_datetime(datetime.now(UTC))),
        field("Message-ID", f"<{uuid.uuid4().hex}@{the_list.domain}>"),
        field("Auto-Submitted", "auto-replied" if replied else "auto-generated"),  # RFC 3834 section 5
        field("MIME-Version", "1.0"),
        field("Content-Language", language),
    ]
    if reply_to:
        fields.append(field("Reply-To", reply_to))
    if _MESSAGE_ID.fullmatch(answers):
        fields += [field("In-Reply-To", answers), field("References", answers)]
    part = _part(written.text, "plain")
    if written.links:
        part = _parts(part, _part(alternative(written.subject, written.text, language), "html"))
    return b"".join(f.raw for f in fields) + (part if attached is None else _with_message(part, attached))


def _part(text: str, kind: str) -> bytes:
    """The text as a MIME part: its header fields, a blank line, its body."""
    encoding, body = _encode(text)
    fields = field("Content-Type", f"text/{kind}; charset=utf-8"), field("Content-Transfer-Encoding", encoding)
    return b"".join(f.raw for f in fields) + CRLF + body


def _parts(plain: bytes, page: bytes) -> bytes:
    """The two as alternatives, the better one last (RFC 2046 section 5.1.4)."""
    boundary = uuid.uuid4().hex
    delimiter = b"\r\n--" + boundary.encode("ascii")
    head = field("Content-Type", f'multipart/alternative; boundary="{boundary}"').raw + field("Content-Transfer-Encoding", "7bit").raw
    return b"".join([head, delimiter, CRLF, plain, delimiter, CRLF, page, delimiter, b"--", CRLF])


def _with_message(part: bytes, attached: bytes) -> bytes:
    """The text with a message behind it (RFC 2046 section 5.2.1), whose lines are kept within what Postfix sends on unbroken."""
    content = bytes(within_line_length(Message.parse(attached)))
    boundary = uuid.uuid4().hex  # never in what was written before it was made
    encoding = "7bit" if content.isascii() else "8bit"
    fields = field("Content-Type", "message/rfc822"), field("Content-Transfer-Encoding", encoding), field("Content-Disposition", "attachment")
    delimiter = b"\r\n--" + boundary.encode("ascii")
    head = field("Content-Type", f'multipart/mixed; boundary="{boundary}"').raw + field("Content-Transfer-Encoding", encoding).raw
    return b"".join([head, delimiter, CRLF, part, delimiter, CRLF, *(f.raw for f in fields), CRLF, content, delimiter, b"--", CRLF])


# Blanks that HTML would not show: before a line's text, and in a column's gap.
_GAP = re.compile(r"^ +|  +", re.MULTILINE)
_BRACKETED = re.compile(r"<((?:mailto:|https?://)[^\s<>]+)>")


def alternative(subject: str, text: str, language: str) -> str:
    """The text as a page: its paragraphs, lines and links, and nothing that is fetched or needs a style sheet."""
    shown = _GAP.sub(lambda gap: "\N{NO-BREAK SPACE}" * len(gap[0]), _BRACKETED.sub(r"\1", text))
    paragraphs = ["<br>\n".join(map(linked, block.split("\n"))) for block in re.split(r"\n{2,}", shown.strip("\n"))]
    page = [
        f'<!DOCTYPE html>\n<html lang="{language}">\n<head><meta charset="utf-8"><title>{html.escape(subject)}</title></head>\n<body>',
        *(f"<p>{paragraph}</p>" for paragraph in paragraphs),
        "</body>\n</html>\n",
    ]
    return "\n".join(page).encode("ascii", "xmlcharrefreplace").decode("ascii")


def _mailbox(name: str, to: str) -> str:
    """The value of To:. An address with a local part beyond ASCII can stand in no field of a 7-bit message (RFC 6532)."""
    address = parse(to)
    if not address.local.isascii():
        return "undisclosed-recipients:;"
    shown = f"{address.local}@{address.host}"
    return f"{phrase(name)} <{shown}>" if name else shown


def _encode(text: str) -> tuple[str, bytes]:
    """The transfer encoding and the encoded text (RFC 2045 section 6), with CRLF."""
    data = text.encode("utf-8").replace(b"\n", CRLF)
    if data.isascii() and all(len(line) <= LINE for line in data.split(CRLF)):
        return "7bit", data
    # Quoted-printable triples what is not ASCII, base64 adds a third to all, and nobody can read it in a log.
    beyond = sum(octet > 127 for octet in data)
    name = "quoted-printable" if beyond * 6 < len(data) else "base64"
    return name, encode(data, name)
