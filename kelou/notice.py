"""Notices: what Kelou itself writes to people, from templates/LANGUAGE/NAME.txt.

A template's first line is `Subject: …`; a blank line, then the text. Notices are signed like posts, say that a program wrote them (RFC 3834
section 5) and have the null reverse-path, so that nothing ever answers them. In each template there are `site`, `list` (a ListView), `name` (of
whom it goes to, or empty) and what the sender of the notice adds.
"""

from __future__ import annotations

import email.utils
import re
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from babel.dates import format_date
from jinja2 import StrictUndefined, Template
from jinja2.sandbox import SandboxedEnvironment

from . import secret, submission
from .address import AddressError, parse
from .config import Config
from .database import connection, rehearsing
from .directory import ListView
from .encoding import encode, within_line_length
from .i18n import known, speaking
from .maillog import event, problem
from .message import CRLF, LINE, Message, field, phrase
from .models import Account, now
from .reply import Reply
from .setting import SettingError

_TEMPLATES = Path(__file__).with_name("templates")
_SUBJECT = "Subject: "
# What terminals and programs could take for orders; a name or description came from somebody.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


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
    template: str,
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
    subject, text = render(template, language, site=config["site.name"], list=the_list, name=name, reply_to=reply_to, **values)
    if isinstance(the_list, Desk):
        sender = the_list.address
    else:
        sender = the_list.sub("owner") if the_list.status == "open" else f"listmaster@{the_list.domain}"
    fields = [
        secret.ask_signature(sealed, the_list.domain, now()),
        field("From", f"{phrase(config['site.name'])} <{sender}>"),
        field("To", _mailbox(name, to)),
        field("Subject", subject),
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
    return b"".join(f.raw for f in fields) + (_part(text) if attached is None else _with_message(_part(text), attached))


def _part(text: str) -> bytes:
    """The text as a MIME part: its header fields, a blank line, its body."""
    encoding, body = _encode(text)
    fields = field("Content-Type", "text/plain; charset=utf-8"), field("Content-Transfer-Encoding", encoding)
    return b"".join(f.raw for f in fields) + CRLF + body


def _with_message(part: bytes, attached: bytes) -> bytes:
    """The text with a message behind it (RFC 2046 section 5.2.1), whose lines are kept within what Postfix sends on unbroken."""
    content = bytes(within_line_length(Message.parse(attached)))
    boundary = uuid.uuid4().hex  # never in what was written before it was made
    encoding = "7bit" if content.isascii() else "8bit"
    fields = field("Content-Type", "message/rfc822"), field("Content-Transfer-Encoding", encoding), field("Content-Disposition", "attachment")
    delimiter = b"\r\n--" + boundary.encode("ascii")
    head = field("Content-Type", f'multipart/mixed; boundary="{boundary}"').raw + field("Content-Transfer-Encoding", encoding).raw
    return b"".join([head, delimiter, CRLF, part, delimiter, CRLF, *(f.raw for f in fields), CRLF, content, delimiter, b"--", CRLF])


def render(template: str, language: str, **values: Any) -> tuple[str, str]:
    """The subject and the text of a notice. The two are rendered apart, so that no value can end the subject and go on in the text."""
    subject, text = _template(language, template)
    with speaking(language):
        return _clean(subject.render(values)), _clean(text.render(values))


@cache
def _template(language: str, name: str) -> tuple[Template, Template]:
    head, blank, text = (_TEMPLATES / language / f"{name}.txt").read_text("utf-8").partition("\n\n")
    if not blank or not head.startswith(_SUBJECT) or "\n" in head:
        raise ValueError(f"templates/{language}/{name}.txt must begin with a line {_SUBJECT!r} and a blank one")
    environment = SandboxedEnvironment(
        undefined=StrictUndefined, autoescape=False, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters["date"] = lambda seconds: format_date(
        datetime.fromtimestamp(seconds, UTC), "long", locale="en_GB" if language == "en" else language
    )
    return environment.from_string(head.removeprefix(_SUBJECT)), environment.from_string(text)


def _clean(text: str) -> str:
    return _CONTROL.sub(" ", text.replace("\r\n", "\n").replace("\r", "\n")).encode("utf-8", "replace").decode("utf-8")


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
