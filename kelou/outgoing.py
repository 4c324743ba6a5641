"""A post as it goes out to subscribers: the list's header fields, then the tag and the footer where the list has them."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from . import fromfield, reading
from .config import Config
from .directory import ListView
from .encoding import within_line_length
from .footer import with_footer
from .i18n import _, speaking
from .listfields import command, with_list_fields
from .listtype import FOOTER, PLACEHOLDERS
from .message import Message, field
from .resolver import Dns, Trouble
from .subject import tagged

_PLACEHOLDER = re.compile(r"\{(" + "|".join(PLACEHOLDERS) + r")\}")


@dataclass(frozen=True, slots=True)
class Reader:
    """The one subscriber that a copy is for, and the URL by which they leave."""

    email: str
    name: str
    unsubscribe: str


def prepare(message: Message, the_list: ListView, config: Config, reader: Reader | None = None, *, rewritten: bool = False) -> Message:
    """The post for this list's subscribers, or for one of them. The same post gives the same bytes, so that a retry repeats what was sent.

    With neither tag nor footer, the body and what the author's DKIM signature covers stay as they came. `rewritten`: in the list's name.
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
    return within_line_length(fromfield.rewritten(post, message, the_list) if rewritten else post)


def in_own_name(message: Message, the_list: ListView, config: Config, dns: Dns, now: Callable[[], float] = time.time) -> bool:
    """Whether the post goes out in the list's name (`from_rewriting`). Raises Trouble where its author's domain can not be asked now."""
    if the_list["from_rewriting"] in ("always", "never"):
        return bool(the_list["from_rewriting"] == "always")
    return fromfield.fails(_specimen(message, the_list, config), the_list, dns, now)


def unwanted(message: Message, the_list: ListView, config: Config, dns: Dns, now: Callable[[], float] = time.time) -> bool | None:
    """Whether the list refuses a post for being one that it would have to rewrite; None where that can not be known now."""
    if the_list["from_rewriting"] != "refuse" or reading.read(message).problem:
        return False
    try:
        return in_own_name(message, the_list, config, dns, now)
    except Trouble:
        return None


def _specimen(message: Message, the_list: ListView, config: Config) -> Message:
    """The post with all that changes what its author signed."""
    post = prepare(message, the_list, config)
    return post.with_field(field("To", the_list.sub("reader"))) if the_list["delivery"] == "personal" and the_list["to_subscriber"] else post


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
