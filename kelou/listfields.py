"""The list's own header fields of a post (RFC 2369, RFC 2919), and where a reply goes.

What an author or another list wrote in their place is dropped: a forged List-Unsubscribe would be signed by us. What stays, stays for a
reason: Received, because a trace is never removed (RFC 5321 section 4.4) and counts hops; the author's DKIM-Signature, because it still
verifies where nothing else changes; Authentication-Results of others, which receivers do not believe anyway; To and Cc, always.
"""

from __future__ import annotations

from urllib.parse import quote

from .address import AddressError, Mailbox, mailboxes
from .config import Config
from .directory import ListView
from .message import Field, Message, field, phrase

# A name that ends in a hyphen stands for all that begin so.
DROPPED = (
    "list-", "mailing-list", "archived-at", "precedence", "x-loop",              # what only the list says
    "feedback-id", "cfbl-",                                                      # complaints would go elsewhere (RFC 9477)
    "approved", "approve", "x-approved", "x-approve",                            # passwords of other list managers
    "kelou-",                                                                    # our own
    "return-path", "delivered-to", "x-original-to", "x-envelope-to", "errors-to", "bcc", "resent-bcc",  # envelopes of earlier trips
    # Receipts of thousands of subscribers, to one author or to a victim (RFC 8098 section 2.1).
    "return-receipt-to", "disposition-notification-to", "disposition-notification-options", "x-confirm-reading-to", "x-pmrqc",
)  # fmt: skip


def with_list_fields(message: Message, the_list: ListView, config: Config, unsubscribe: str = "") -> Message:
    """The message with this list's fields above the others, and with its Reply-To policy."""
    return _with_reply_to(message.without(DROPPED), the_list).with_top(list_fields(the_list, config, unsubscribe))


def list_fields(the_list: ListView, config: Config, unsubscribe: str = "") -> list[Field]:
    """The fields that stand in all that a list sends. `unsubscribe` is the URL by which one subscriber leaves, where the copy is for one."""
    title = phrase(the_list.subject[:200])
    post = "NO" if the_list["announce"] else f"<{mailto(the_list.address)}>"
    found = [
        field("List-Id", f"{title} <{the_list.list_id}>".lstrip()),
        field("List-Post", post),
        field("List-Help", f"<{command(the_list, config, 'help', '')}>"),
        field("List-Subscribe", f"<{command(the_list, config, 'subscribe')}>"),
        field("List-Unsubscribe", f"<{unsubscribe or command(the_list, config, 'unsubscribe')}>"),
        field("List-Owner", f"<{mailto(the_list.sub('owner'))}>"),
        field("Precedence", "list"),  # no standard; absence notices have heeded it for thirty years
    ]
    if config["feedback.sender"]:  # campaign, customer, kind of mail, sender: of each Gmail makes a table of its own
        words = (the_list.name, the_list.domain, the_list.type, config["feedback.sender"])
        found.append(field("Feedback-ID", ":".join(word.replace(":", "-") for word in words)))
    if config["feedback.address"]:
        found.append(field("CFBL-Address", f"{the_list.sub('bounces')}; report=arf"))  # RFC 9477 section 3.1.1
    return found


def command(the_list: ListView, config: Config, word: str, argument: str | None = None) -> str:
    """The mailto: URL of a mail command, in the form that Sympa's users know: the list's name in the subject."""
    words = f"{word} {the_list.name if argument is None else argument}".strip()
    robot = next(iter(config["site.command_addresses"]), "")
    if robot:
        return mailto(f"{robot}@{the_list.domain}", words)
    return mailto(the_list.sub("request"), words) if word == "help" else mailto(the_list.sub(word))


def mailto(address: str, subject: str = "") -> str:
    """A mailto: URL (RFC 6068)."""
    local, _at, domain = address.rpartition("@")
    return f"mailto:{quote(local, safe='')}@{domain}" + (f"?subject={quote(subject, safe='')}" if subject else "")


def _with_reply_to(message: Message, the_list: ListView) -> Message:
    policy, force = the_list["reply_to"], the_list["reply_to_force"]
    if not force and (policy == "author" or message.text("reply-to")):
        return message
    author = "" if policy in ("list", "address") else _author(message)
    places = {
        "author": [author],
        "list": [the_list.address],
        "both": [the_list.address, author],
        "address": [the_list["reply_to_address"]],
    }[policy]
    value = ", ".join(place for place in places if place)
    return message.with_field(field("Reply-To", value)) if value else message


def _author(message: Message) -> str:
    """The author's mailbox, as From: has it; empty if it can not be written in ASCII or read with certainty."""
    first = message.first("from")
    try:
        found = mailboxes(first.value) if first else []
    except AddressError:
        return ""
    return written(found[0]) if len(found) == 1 and found[0].address.local.isascii() else ""


def written(mailbox: Mailbox) -> str:
    """A mailbox as an address field has it, its domain in A-labels."""
    address = f"{mailbox.address.local}@{mailbox.address.host}"
    return f"{phrase(mailbox.name)} <{address}>" if mailbox.name else address
