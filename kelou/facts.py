"""The facts of a decision, gathered from the envelope, the message and the database: the same for both doors, so that they decide the same."""

from __future__ import annotations

from peewee import fn

from . import standing
from .address import AddressError, parse
from .database import Prepared
from .directory import ListView
from .message import Message
from .models import Post, Subscription, now
from .policy import Author, Facts
from .reading import Reading, read


def of_envelope(the_list: ListView, reverse_path: str, size: int = 0) -> Facts:
    """What is known at RCPT: the list, the reverse-path (without brackets, empty for the null one) and the size the client announced, if any."""
    return Facts(
        list=the_list,
        reverse_path=reverse_path,
        size=size,
        standing=standing.Standing(blocked=standing.blocked(the_list.id, _key(reverse_path))),
    )


def of_message(
    the_list: ListView, reverse_path: str, message: Message, size: int, author: Author, digest: str = "", *, from_fails: bool | None = False
) -> Facts:
    """What is known when the message is there; `size` counts all of it, in octets.

    `digest` is that of a delivery (`Post.digest`): a retry of one that was begun is not a duplicate of itself. `from_fails`: `outgoing.unwanted`.
    """
    reading = read(message)
    return Facts(
        list=the_list,
        reverse_path=reverse_path,
        size=size,
        reading=reading,
        author=author,
        standing=standing.of(the_list.id, reading.author_key, _key(reverse_path)),
        from_fails=from_fails,
        lately=_LATELY(the_list.id, now() - 3600)[0][0] if the_list["hourly_posts"] else 0,
        watched=_watched(the_list),
        twin=_twin(the_list.id, reading, digest),
    )


def _watched(the_list: ListView) -> bool:
    """Whether the list has many subscribers, and distributed few posts so far."""
    few = the_list["watched_posts"]
    return bool(few) and _LATELY(the_list.id, 0)[0][0] < few and _SUBSCRIBERS(the_list.id)[0][0] >= the_list["watched_from"]


_LATELY = Prepared(lambda list_id, since: Post.select(fn.COUNT(Post.id)).where(Post.list == list_id, Post.received >= since))
_SUBSCRIBERS = Prepared(lambda list_id: Subscription.select(fn.COUNT(Subscription.id)).where(Subscription.list == list_id))


def _twin(list_id: int, reading: Reading, digest: str) -> str:
    """Whether a post with this Message-ID was distributed: `same` content, `other`, or empty for none."""
    if not reading.message_id:
        return ""
    earlier = dict(_SAME_ID(list_id, reading.message_id))
    if not earlier or digest in earlier:
        return ""
    return "same" if reading.fingerprint in earlier.values() else "other"


_SAME_ID = Prepared(
    lambda list_id, message_id: Post.select(Post.digest, Post.fingerprint).where(Post.list == list_id, Post.message_id == message_id)
)


def _key(reverse_path: str) -> str:
    try:
        return parse(reverse_path).key
    except AddressError:
        return ""
