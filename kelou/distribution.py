"""Distribution: one accepted post → bytes out to every subscriber, inside the LMTP transaction that brought it.

`accept` fixes who gets the post: one transaction writes the Post and its Chunks. `Distributor.hand_over` gives chunk by chunk to Postfix:

    waiting --(commit)--> flying --(Postfix answers, commit)--> done, or waiting again with those whom Postfix put off

Killed at any point, the same message comes back from Postfix's queue, is known by its digest, and goes on with what is not done. A chunk that was
flying is the one doubt: Postfix may have taken it. It is sent again, under the same Message-ID, and counted.

One handler works on a post at a time. Its name is its own as long as it runs (a lock in its socket folder), so what bears the name and is not
being worked on was left by one that died. What another handler left is free when that gave no sign of life for a while.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from email.utils import formatdate

from peewee import IntegrityError

from . import maillog, outgoing, secret
from .config import Config
from .database import connection, transaction
from .directory import ListView
from .i18n import N_, _
from .message import Message, field
from .models import Account, Bounce, Chunk, Post, Subscription, now
from .reading import Reading
from .reply import OK, Reply
from .secret import Secret
from .submission import Outcome, Pool, Unavailable

STALE = 3600  # seconds without a sign of life after which another handler's work is free; longer than any chunk may take


def digest_of(content: bytes) -> str:
    """What a delivery is known by: Postfix's retry brings the same bytes, under the same queue id."""
    return hashlib.sha256(content).hexdigest()


def known(list_id: int, digest: str) -> bool:
    """Whether this delivery was accepted before. Needs a connection."""
    return bool(Post.select(Post.id).where(Post.list == list_id, Post.digest == digest).exists())


def accept(the_list: ListView, reading: Reading, size: int, digest: str, queue_id: str, config: Config) -> None:
    """Accept a post: from here on it goes to those who are subscribed now, whatever happens. Doing it twice does it once."""
    if known(the_list.id, digest):
        return
    try:
        with transaction():
            post = Post.create(
                list=the_list.id,
                digest=digest,
                message_id=reading.message_id or _message_id(digest, the_list.domain),
                fingerprint=reading.fingerprint,
                queue_id=queue_id,
                author=reading.author_key,
                subject=reading.subject,
                size=size,
            )
            post.recipients = _cut(post, _subscribed(the_list.id, reading.author_key), max(1, config["distribution.chunk"]))
            post.save(only=[Post.recipients])
    except IntegrityError:  # another handler was faster
        if not known(the_list.id, digest):
            raise


def _subscribed(list_id: int, author_key: str) -> Iterator[int]:
    """The subscriptions that get a post, ordered by domain, because Postfix then makes one delivery of many recipients."""
    rows = (
        Subscription.select(Subscription.id)
        .join(Account)
        .where(Subscription.list == list_id, Subscription.mode == "mail", (Account.key != author_key) | Subscription.own_posts)
        .order_by(Account.domain, Subscription.id)
    )
    return (number for (number,) in rows.tuples().iterator())


def _cut(post: Post, subscriptions: Iterable[int], size: int) -> int:
    """Write the chunks; returns how many subscriptions there are."""
    numbers = list(subscriptions)
    starts = range(0, len(numbers), size)
    rows = [(post.id, place, _join(numbers[start : start + size])) for place, start in enumerate(starts)]
    for some in range(0, len(rows), 100):
        Chunk.insert_many(rows[some : some + 100], fields=[Chunk.post, Chunk.number, Chunk.subscriptions]).execute()
    return len(numbers)


class Distributor:
    """Hands accepted posts over to Postfix. `worker` is the name of this handler: no other that runs has it."""

    def __init__(self, config: Config, site_secret: Secret, worker: str) -> None:
        self.worker = worker
        self.stopping = threading.Event()
        self._config = config
        self._secret = site_secret
        self._pool = Pool(config["postfix.reinjection"])
        self._busy: set[int] = set()
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the connections to Postfix."""
        self._pool.close()

    def hand_over(self, the_list: ListView, message: Message, digest: str) -> Reply:
        """Bring an accepted post to everybody who has not got it: 250 when Postfix has every copy, else 451, and the next try goes on from there."""
        with connection():
            post = Post.get(Post.list == the_list.id, Post.digest == digest)
        if post.state == "sent":
            return OK
        with self._claim(post) as claimed:
            if claimed:
                return self._hand_over(the_list, message, post)
        with connection():
            sent = Post.select().where(Post.id == post.id, Post.state == "sent").exists()
        return OK if sent else _later(_BUSY)

    def _hand_over(self, the_list: ListView, message: Message, post: Post) -> Reply:
        sender = the_list.sub("bounces")
        content = self._content(the_list, message, post)
        try:
            for chunk in _waiting(post):
                if self.stopping.is_set():
                    return _later(_STOPPING)
                if not self._fly(post, chunk):
                    return _later(_BUSY)
                self._submit(the_list, post, chunk, sender, content)
        except Unavailable as error:
            maillog.problem("unavailable", list=the_list.address, message_id=post.message_id, reason=error, doubtful=error.doubtful or "")
            return _later(_POSTFIX)
        return self._finish(the_list, post)

    def _content(self, the_list: ListView, message: Message, post: Post) -> bytes:
        """The post as it goes out; every try makes the same Message-ID and Date, where the author's program made none."""
        message = message.without(["Kelou-"])
        if not message.text("message-id"):
            message = message.with_field(field("Message-ID", post.message_id))
        if not message.text("date"):
            message = message.with_field(field("Date", formatdate(post.received)))
        message = outgoing.prepare(message, the_list, self._config)
        return bytes(message.with_top([secret.ask_signature(self._secret, the_list.domain, now())]))

    @contextmanager
    def _claim(self, post: Post) -> Iterator[bool]:
        """The post, for this thread of this handler alone; False if somebody else is at work on it, or it is done."""
        with self._lock:
            mine = post.id not in self._busy
            self._busy.add(post.id)
        if not mine:
            yield False
            return
        try:
            yield self._take(post)
        finally:
            try:
                with transaction():
                    Post.update(worker="").where(Post.id == post.id, Post.worker == self.worker).execute()
            except Exception:
                maillog.fault("not-released", message_id=post.message_id)  # free all the same: the name is ours, and we are not busy with it
            with self._lock:
                self._busy.discard(post.id)

    def _take(self, post: Post) -> bool:
        free = Post.worker.in_(["", self.worker]) | (Post.claimed < now() - STALE)
        with transaction():
            if not Post.update(worker=self.worker, claimed=now()).where(Post.id == post.id, Post.state == "distributing", free).execute():
                return False
            flying = Chunk.select(Chunk.id, Chunk.subscriptions).where(Chunk.post == post.id, Chunk.state == "flying").tuples()
            doubtful = sum(len(_split(numbers)) for _id, numbers in flying)
            if doubtful:
                Chunk.update(state="waiting").where(Chunk.post == post.id, Chunk.state == "flying").execute()
                Post.update(doubtful=Post.doubtful + doubtful).where(Post.id == post.id).execute()
        if doubtful:
            maillog.problem("doubtful", message_id=post.message_id, recipients=doubtful)
        return True

    def _fly(self, post: Post, chunk: int) -> bool:
        """Note that a chunk is on its way to Postfix; False if the post is not ours any more."""
        with transaction():
            ours = Post.update(claimed=now()).where(Post.id == post.id, Post.worker == self.worker).execute()
            return bool(ours and Chunk.update(state="flying").where(Chunk.id == chunk, Chunk.state == "waiting").execute())

    def _submit(self, the_list: ListView, post: Post, chunk: int, sender: str, content: bytes) -> None:
        with connection():
            people = _people(post, chunk)
        try:
            outcome = Outcome(OK)
            if people:
                with self._pool.connection() as postfix:
                    outcome = postfix.submit(sender, [address for _id, _account, address in people], content)
        except Unavailable as error:
            if not error.doubtful:
                with transaction():
                    Chunk.update(state="waiting").where(Chunk.id == chunk).execute()
            raise
        _note(post, chunk, people, outcome)
        for place, reply in (*outcome.refused.items(), *outcome.deferred.items()):
            maillog.problem("recipient", list=the_list.address, message_id=post.message_id, recipient=people[place][2], reply=reply)
        if not outcome.taken:
            maillog.problem("not-taken", list=the_list.address, message_id=post.message_id, reply=outcome.final)

    def _finish(self, the_list: ListView, post: Post) -> Reply:
        with transaction():
            if Chunk.select().where(Chunk.post == post.id, Chunk.state != "done").exists():
                return _later(_PUT_OFF)
            mine = (Post.id == post.id, Post.worker == self.worker)
            if not Post.update(state="sent", finished=now(), worker="").where(*mine).execute():
                return _later(_BUSY)
            Chunk.delete().where(Chunk.post == post.id).execute()
            count, doubtful = Post.select(Post.handed_over, Post.doubtful).where(Post.id == post.id).tuples().get()
        maillog.event("distributed", list=the_list.address, message_id=post.message_id, recipients=count, doubtful=doubtful or "")
        return OK


Person = tuple[int, int, str]  # a subscription, its account, the address


def _waiting(post: Post) -> list[int]:
    with connection():
        rows = Chunk.select(Chunk.id).where(Chunk.post == post.id, Chunk.state == "waiting").order_by(Chunk.number).tuples()
        return [number for (number,) in rows]


def _people(post: Post, chunk: int) -> list[Person]:
    """Those of a chunk who are still subscribed, at the addresses they have now.

    Somebody who joined since may have got the number of somebody who left: they are not of this post.
    """
    (text,) = Chunk.select(Chunk.subscriptions).where(Chunk.id == chunk).tuples().get()
    numbers = _split(text)
    found: dict[int, Person] = {}
    for start in range(0, len(numbers), 1000):  # a limit of SQLite's on variables is 32,766
        rows = (
            Subscription.select(Subscription.id, Account.id, Account.address, Account.domain)
            .join(Account)
            .where(
                Subscription.id.in_(numbers[start : start + 1000]),
                Subscription.list == post.list_id,
                Subscription.mode == "mail",
                Subscription.since <= post.received,
            )
        )
        # The local part goes out as spelled; the domain in the form that DNS and every server know.
        found |= {number: (number, account, f"{address.rpartition('@')[0]}@{domain}") for number, account, address, domain in rows.tuples()}
    return [found[number] for number in numbers if number in found]


def _note(post: Post, chunk: int, people: Sequence[Person], outcome: Outcome) -> None:
    """Write down what Postfix said: whom it refused bounces, whom it put off is tried again, with the rest if it took nothing."""
    left = [person[0] for place, person in enumerate(people) if place not in outcome.refused and (place in outcome.deferred or not outcome.taken)]
    with transaction():
        state = "waiting" if left else "done"
        if not Chunk.update(state=state, subscriptions=_join(left)).where(Chunk.id == chunk, Chunk.state == "flying").execute():
            return  # the list was purged meanwhile
        for place, reply in outcome.refused.items():
            account = people[place][1]
            if Account.select().where(Account.id == account).exists():  # else they are gone
                Bounce.create(list=post.list_id, account=account, post=post.id, kind="hard", status=reply.status, detail=str(reply))
        taken = len(people) - len(left) - len(outcome.refused)
        Post.update(handed_over=Post.handed_over + taken).where(Post.id == post.id).execute()


def _message_id(digest: str, domain: str) -> str:
    return f"<{digest[:32]}@{domain}>"


def _join(numbers: Iterable[int]) -> str:
    return ",".join(map(str, numbers))


def _split(text: str) -> list[int]:
    return [int(number) for number in text.split(",") if number]


def _later(text: str) -> Reply:
    return Reply(451, "4.3.0", _(text))


_BUSY = N_("This post is being distributed already; the rest follows")
_STOPPING = N_("The list server is being stopped; the rest of the post follows")
_POSTFIX = N_("The mail server takes no copies now; the rest of the post follows")
_PUT_OFF = N_("Some recipients were put off by the mail server; they are tried again")
