"""A post as it goes out to subscribers: the list's header fields, then the tag and the footer where the list has them."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from .config import Config
from .directory import ListView
from .encoding import within_line_length
from .footer import with_footer
from .i18n import _, speaking
from .listfields import command, with_list_fields
from .listtype import FOOTER
from .message import Message, field
from .subject import tagged

_PLACEHOLDER = re.compile(r"\{(list|address|subject|unsubscribe|email|name)\}")


@dataclass(frozen=True, slots=True)
class Reader:
    """The one subscriber that a copy is for, and the URL by which they leave."""

    email: str
    name: str
    unsubscribe: str


def prepare(message: Message, the_list: ListView, config: Config, reader: Reader | None = None) -> Message:
    """The post for this list's subscribers, or for one of them. The same post gives the same bytes, so that a retry repeats what was sent.

    With neither tag nor footer, the body and what the author's DKIM signature covers stay as they came.
    """
    own = {"email": reader.email, "name": reader.name, "unsubscribe": reader.unsubscribe} if reader else {}
    names = {
        "list": the_list.name,
        "address": the_list.address,
        "subject": the_list.subject,
        "unsubscribe": command(the_list, config, "unsubscribe"),
        **own,
    }
    post = with_list_fields(message, the_list, config, reader.unsubscribe if reader else "")
    if not post.text("message-id"):  # RFC 5322 section 3.6.4 wants one, and large receivers refuse mail without
        digest = hashlib.sha256(bytes(message)).hexdigest()[:32]
        post = post.with_field(field("Message-ID", f"<{digest}@{the_list.domain}>"))
    post = tagged(post, fill(the_list["subject_tag"], names))
    post = with_footer(post, fill(_footer(the_list), names))
    return within_line_length(post)


def fill(text: str, names: dict[str, str]) -> str:
    """The text with its placeholders filled in; other braces are the owner's own. What is filled in is not looked at again."""
    return _PLACEHOLDER.sub(lambda match: names.get(match[1], match[0]), text)


def addresses_reader(the_list: ListView) -> bool:
    """Whether what stands in a copy for one subscriber names them, and not only their link."""
    return not {"email", "name"}.isdisjoint(_PLACEHOLDER.findall(_footer(the_list) + the_list["subject_tag"]))


def _footer(the_list: ListView) -> str:
    if the_list["footer"] != FOOTER:
        return str(the_list["footer"])
    with speaking(the_list["language"]):
        return _(FOOTER)
