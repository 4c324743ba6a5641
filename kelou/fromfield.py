"""From: of a post, where its author's domain would have it refused (RFC 9989 section 7.4).

`fails` is a receiver's DMARC verdict on the post as it goes out: the author's own signature still holds, or ours is of the author's
organisation, or nothing speaks for From:. `rewritten` puts the list in the author's place, and the author where a reply still finds them:

    From: Jane Doe via board <board@lists.example>
    Reply-To: Jane Doe <jane@asso.example>           (Cc:, where the list's policy has replies go elsewhere)
    X-Original-From: Jane Doe <jane@asso.example>
"""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Callable

from . import dkimverify, dmarc
from .address import AddressError, Mailbox, mailboxes
from .directory import ListView
from .dkimworker import PASS
from .listfields import written
from .message import Field, Message, field, joined, phrase
from .reading import author_of
from .resolver import Dns, Inquiry, Trouble

QUESTIONS = 100
SECONDS = 60
LONGEST = 60  # characters of a name
VIA = " via "

_AT = frozenset("@\uff20\ufe6b")


def fails(post: Message, the_list: ListView, dns: Dns, now: Callable[[], float] = time.time) -> bool:
    """Whether receivers will refuse or put aside this post for what its author's domain asks. Raises Trouble where that can not be known now."""
    author = author_of(post)
    if author is None or author.address.host == the_list.domain:
        return False
    host, asked = author.address.host, Inquiry(dns, QUESTIONS, SECONDS)
    policy = dmarc.policy(host, asked)
    # As declared: with t=y receivers are asked to be milder, and what they do then nobody knows.
    if policy.p == "none" or dmarc.aligned(host, the_list.domain, policy.adkim, asked):
        return False
    verdicts = dkimverify.verify(post, asked, lambda domain: dmarc.aligned(host, domain, policy.adkim, asked), now)
    if any(verdict.result == PASS for verdict in verdicts):
        return False
    trouble = next((verdict for verdict in verdicts if verdict.result == "temperror"), None)
    if trouble:
        raise Trouble(f"{trouble.domain}: {trouble.why}")
    return True


def rewritten(post: Message, original: Message, the_list: ListView) -> Message:
    """The post in the list's name. `original` is how it came: `post` has the list's reply-to policy already."""
    source, author = original.first("from"), author_of(original)
    if source is None or author is None or author.address.key == the_list.address:
        return post
    post = _answerable(post, source, author, the_list)
    post = post.with_field(field("From", f"{phrase(_name(author, the_list))} <{the_list.address}>"))
    return post.with_field(joined("X-Original-From", source.value))


def _answerable(post: Message, source: Field, author: Mailbox, the_list: ListView) -> Message:
    """The post with its author where replies look for them: in Reply-To, or in Cc where the policy has replies go elsewhere."""
    replies = _keys(post, "reply-to")
    if VIA in author.name and replies:  # another list has rewritten it: the author is there, and its address would be one more at each passage
        return post
    elsewhere = the_list["reply_to"] in ("list", "address") and replies and replies <= _policy(the_list)
    name = "Cc" if elsewhere else "Reply-To"
    if author.address.key in (_keys(post, "to") | _keys(post, "cc") if elsewhere else replies):
        return post
    # An address that is not ASCII (RFC 6532) stays in the bytes that it came in.
    mailbox = field(name, written(author)).value if author.address.local.isascii() else source.value
    there = [one.value for one in post.all(name)[:1] if one.text]
    return post.with_field(joined(name, *there, mailbox))


def _policy(the_list: ListView) -> set[str]:
    return {the_list.address, str(the_list["reply_to_address"]).lower()}


def _keys(post: Message, name: str) -> set[str]:
    try:
        return {mailbox.address.key for one in post.all(name) for mailbox in mailboxes(one.value)}
    except AddressError:
        return set()


def _name(author: Mailbox, the_list: ListView) -> str:
    """The name that is shown: no address in it, which would be taken for that of the sender, and `via` once."""
    names = (_plain(name) for name in (author.name.partition(VIA)[0], author.address.local.strip('"')))
    name = next(filter(None, names), "")[:LONGEST].strip()
    return f"{name}{VIA}{the_list.name}".strip()


def _plain(name: str) -> str:
    visible = "".join(" " if unicodedata.category(char) in ("Cc", "Zl", "Zp") else char for char in name if unicodedata.category(char) != "Cf")
    return " ".join(word for word in visible.split() if not _AT & set(word))
