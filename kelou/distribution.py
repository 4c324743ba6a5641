"""Distribution: one accepted post → bytes out to every subscriber, inside the LMTP transaction that brought it.

`accept` fixes who gets the post: one transaction writes the Post and its Chunks. `Distributor.hand_over` gives chunk by chunk to Postfix:

    waiting --(Postfix has the envelope; commit)--> flying --(Postfix answers, commit)--> done, or waiting again with those whom Postfix put off

Killed at any point, the same message comes back from Postfix's queue, is known by its digest, and goes on with what is not done. A chunk that was
flying is the one doubt: Postfix may have taken it. It is sent again, under the same Message-ID, and counted. Envelopes travel on several connections
at once, but of one post only one chunk flies at a time, which costs next to nothing, for the envelope is the long part. Personal copies are the other
way round: their chunks are so small that all that fly are not more.

Of a post, the thread that brought it works all the time, and helpers, which all posts share, take one chunk and then go to the end of their queue. So
a post that has one chunk waits for nobody, several large ones get on alike, and however many there are, Postfix is not flooded with connections.

One handler works on a post at a time. Its name is its own as long as it runs (a lock in its socket folder), so what bears the name and is not
being worked on was left by one that died. What another handler left is free when that gave no sign of life for a while.
"""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

from peewee import IntegrityError

from . import copies, maillog, outgoing, resolver
from .config import Config
from .copies import Copies, Person
from .database import Prepared, connection, keep, transaction
from .diagnosis import judge
from .directory import ListView
from .i18n import N_, _
from .listfields import DROPPED
from .message import Message
from .models import Account, Bounce, Chunk, DigestPost, Post, Subscription, now
from .pace import Pace
from .reading import Reading
from .reception import DIGESTS, RECEIVED, here
from .reply import OK, Reply
from .resolver import Trouble
from .secret import Secret
from .submission import Outcome, Pool, Unavailable

STALE = 3600  # seconds without a sign of life after which another handler's work is free; longer than any chunk may take

PATIENCE = 86400  # seconds that a post waits for the DNS of its author's domain; then it goes out in the list's name, before Postfix gives it up


def digest_of(content: bytes) -> str:
    """What a delivery is known by: Postfix's retry brings the same bytes, under the same queue id."""
    return hashlib.sha256(content).hexdigest()


def known(list_id: int, digest: str) -> bool:
    """Whether this delivery was accepted before. Needs a connection."""
    return bool(_KNOWN(list_id, digest))


def accept(
    the_list: ListView, reading: Reading, size: int, digest: str, queue_id: str, config: Config, message: Message | None = None, mode: str = ""
) -> None:
    """Accept a post: from here on it goes to those who are subscribed now, whatever happens. Doing it twice does it once.

    The `message` is kept too, for those who read digests. With a `mode` it is a digest itself, for who reads them in this form.
    """
    together = bool(the_list["digest"])
    numbers = [number for (number,) in _SUBSCRIBED(the_list.id, reading.author_key, now(), mode or "mail", not mode and not together)]
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
                recipients=len(numbers),
                rewritten=False if mode else None,  # a digest has the list in From anyway
            )
            _cut(post, numbers, copies.chunk(the_list, config))
            if message and together and _DIGEST_READER(the_list.id):
                kept = copies.completed(message, post.message_id, post.received).without(DROPPED)
                DigestPost.create(list=the_list.id, post=post, content=bytes(kept))
    except IntegrityError:  # it was accepted before, or another handler was faster
        if not known(the_list.id, digest):
            raise


def _cut(post: Post, subscriptions: Sequence[int], size: int) -> None:
    """Write the chunks, each under its first one's place."""
    rows = [(post.id, start, _join(subscriptions[start : start + size])) for start in range(0, len(subscriptions), size)]
    for some in range(0, len(rows), 100):
        Chunk.insert_many(rows[some : some + 100], fields=[Chunk.post, Chunk.number, Chunk.subscriptions]).execute()


_DIGEST_READER = Prepared(lambda list_id: Subscription.select(Subscription.id).where(Subscription.list == list_id, Subscription.mode.in_(DIGESTS)).limit(1))
_KNOWN = Prepared(lambda list_id, digest: Post.select(Post.id).where(Post.list == list_id, Post.digest == digest))
# Those that get a post, ordered by domain, because Postfix then makes one delivery of many recipients.
_SUBSCRIBED = Prepared(
    lambda list_id, author, today, mode, digests: (
        Subscription.select(Subscription.id)
        .join(Account)
        .where(Subscription.list == list_id, (Subscription.mode == mode) | (Subscription.mode.in_(DIGESTS) & digests))
        .where(here(today), (Account.key != author) | Subscription.own_posts)
        .order_by(Account.domain, Subscription.id)
    )
)


class Distributor:
    """Hands accepted posts over to Postfix. `worker` is the name of this handler: no other that runs has it."""

    def __init__(self, config: Config, site_secret: Secret, worker: str) -> None:
        self.worker = worker
        self.stopping = threading.Event()
        self._busy: set[int] = set()
        self._lock = threading.Lock()
        self._pools: dict[str, Pool] = {}
        self._connections = max(1, config["distribution.connections"])
        self._helpers = ThreadPoolExecutor(max(1, self._connections - 1), "distribution", keep)
        self.configure(config, site_secret)

    def configure(self, config: Config, site_secret: Secret) -> None:
        """Work by this configuration from now on. Posts under way go on with the copies that they began with."""
        idle, self._pools = self._pools, {name: Pool(config[name]) for name in ("postfix.reinjection", "postfix.personal")}
        self._config, self._secret = config, site_secret
        self.dns = resolver.from_config(config)
        self._pace = Pace(config, self.stopping)
        for pool in idle.values():
            pool.close()

    def close(self) -> None:
        """Close the connections to Postfix."""
        self._helpers.shutdown(wait=False, cancel_futures=True)
        for pool in self._pools.values():
            pool.close()

    def hand_over(self, the_list: ListView, message: Message, digest: str, queue_id: str = "") -> Reply:
        """Bring an accepted post to everybody who has not got it: 250 when Postfix has every copy, else 451, and the next try goes on from there.

        `queue_id` is that of the delivery that asks for it, which is what Postfix has to bring again if it comes to that.
        """
        with connection():
            post = Post.get(Post.list == the_list.id, Post.digest == digest)
        if post.state == "sent":
            return OK
        try:
            post.rewritten = self._in_own_name(the_list, message, post)
        except Trouble as trouble:
            maillog.problem("author-unknown", list=the_list.address, message_id=post.message_id, reason=trouble)
            return _later(_DNS)
        with self._claim(post, queue_id) as claimed:
            if claimed:
                return self._hand_over(the_list, message, post)
        with connection():
            sent = Post.select().where(Post.id == post.id, Post.state == "sent").exists()
        return OK if sent else _later(_BUSY)

    def unfinished(self) -> list[str]:
        """The queue ids of the posts that are to be gone on with here, and that nobody is at work on."""
        with self._lock:
            busy = set(self._busy)
        with connection():
            rows = Post.select(Post.id, Post.queue_id).where(Post.state == "distributing", Post.worker.in_(["", self.worker])).tuples()
            return [queue_id for number, queue_id in rows if queue_id and number not in busy]

    def _hand_over(self, the_list: ListView, message: Message, post: Post) -> Reply:
        made = copies.of(message, post.message_id, post.received, the_list, self._config, self._secret, rewritten=bool(post.rewritten))
        work = _Work(_waiting(post), self.stopping, lambda chunk: self._submit(the_list, post, made, work, chunk))
        try:
            work.do(self._helpers, self._connections - 1)
        except Unavailable as error:
            maillog.problem("unavailable", list=the_list.address, message_id=post.message_id, reason=error, doubtful=error.doubtful or "")
            return _later(_POSTFIX)
        except _NotOurs:
            return _later(_BUSY)
        return _later(_STOPPING) if self.stopping.is_set() and work.left else self._finish(the_list, post)

    def _in_own_name(self, the_list: ListView, message: Message, post: Post) -> bool:
        """Whether the post goes out in the list's name: found out at the first try, and then the same for everybody. Raises Trouble."""
        if post.rewritten is not None:
            return bool(post.rewritten)
        try:
            return outgoing.in_own_name(copies.completed(message, post.message_id, post.received), the_list, self._config, self.dns)
        except Trouble:
            if now() < post.received + PATIENCE:
                raise
            return True

    @contextmanager
    def _claim(self, post: Post, queue_id: str = "") -> Iterator[bool]:
        """The post, for this thread of this handler alone; False if somebody else is at work on it, or it is done."""
        with self._lock:
            mine = post.id not in self._busy
            self._busy.add(post.id)
        if not mine:
            yield False
            return
        try:
            yield self._take(post, queue_id)
        finally:
            try:
                if post.state != "sent":
                    with transaction():
                        Post.update(worker="").where(Post.id == post.id, Post.worker == self.worker).execute()
            except Exception:
                maillog.fault("not-released", message_id=post.message_id)  # free all the same: the name is ours, and we are not busy with it
            with self._lock:
                self._busy.discard(post.id)

    def _take(self, post: Post, queue_id: str) -> bool:
        free = Post.worker.in_(["", self.worker]) | (Post.claimed < now() - STALE)
        agreed = Post.rewritten.is_null() | (Post.rewritten == post.rewritten)  # else somebody was faster, and found something else
        with transaction():
            values = {"worker": self.worker, "claimed": now(), "rewritten": post.rewritten, **({"queue_id": queue_id} if queue_id else {})}
            if not Post.update(**values).where(Post.id == post.id, Post.state == "distributing", free, agreed).execute():
                return False
            flying = Chunk.select(Chunk.subscriptions).where(Chunk.post == post.id, Chunk.state == "flying").tuples()
            doubtful = sum(len(_split(numbers)) for (numbers,) in flying)
            if doubtful:
                Chunk.update(state="waiting").where(Chunk.post == post.id, Chunk.state == "flying").execute()
                Post.update(doubtful=Post.doubtful + doubtful).where(Post.id == post.id).execute()
        if doubtful:
            maillog.problem("doubtful", message_id=post.message_id, recipients=doubtful)
        return True

    def _submit(self, the_list: ListView, post: Post, made: Copies, work: _Work, chunk: int) -> bool:
        """Hand a chunk over; whether more of it can be handed over at once."""
        with connection():
            people = _people(post, chunk)
        if made.apart:
            self._pace.wait(len(people))
        with ExitStack() as flight:
            outcome, stale = Outcome(OK), False
            if people:
                ready = _Once(lambda: self._fly(flight, post, work, chunk, alone=not made.apart))
                with self._pools[made.endpoint].connection() as postfix:
                    outcome = copies.hand_in(postfix, made, people, ready)
                    postfix.spent = postfix.spent or outcome.lost is not None
                    stale = postfix.kept and postfix.spent and not ready.done
            left = self._note(post, chunk, people, outcome)
        if outcome.lost:
            raise outcome.lost
        for place, reply in (*outcome.refused.items(), *outcome.deferred.items()):
            maillog.problem("recipient", list=the_list.address, message_id=post.message_id, recipient=people[place].address, reply=reply)
        if not outcome.taken:
            maillog.problem("not-taken", list=the_list.address, message_id=post.message_id, reply=outcome.final)
        # RFC 5321 section 4.5.3.1.10: "too many recipients" is said to those of this transaction. And an smtpd that lost its milter since the last
        # post says "later" to the envelope, where another one does not: else a post would wait for minutes after each restart of the milter.
        return bool(left) and ((stale and not outcome.taken) or (outcome.taken and all(reply.code == 452 for reply in outcome.deferred.values())))

    def _fly(self, flight: ExitStack, post: Post, work: _Work, chunk: int, alone: bool) -> None:
        """Note that a chunk is on its way to Postfix. Raises _NotOurs if the post is not ours any more."""
        if alone:
            flight.enter_context(work.airspace)
        with transaction():
            if not _CLAIMED.count(now(), post.id, self.worker) or not _FLYING.count(chunk):
                raise _NotOurs

    def _note(self, post: Post, chunk: int, people: Sequence[Person], outcome: Outcome) -> list[int]:
        """Write down what Postfix said: whom it refused bounces, whom it put off is tried again, with the rest if it took nothing. Returns who is left."""
        untaken = (place for place in range(len(people)) if place in outcome.deferred or not outcome.taken)
        left = [people[place].subscription for place in untaken if place not in outcome.refused]
        with transaction():
            if not _LANDED.count("waiting" if left else "done", _join(left), chunk):
                raise _NotOurs  # or the list was purged meanwhile
            for place, reply in outcome.refused.items():
                account = people[place].account
                if Account.select().where(Account.id == account).exists():  # else they are gone
                    kind = judge(reply.status, reply.text)
                    Bounce.create(list=post.list_id, account=account, post=post.id, kind=kind, status=reply.status, detail=str(reply), sent=post.received)
            taken = len(people) - len(left) - len(outcome.refused)
            if not _COUNTED.count(taken, outcome.doubtful, now(), post.id, self.worker):
                raise _NotOurs
            if not left:
                self._end(post)
        return left

    def _end(self, post: Post) -> bool:
        """Call it done if nothing is left, in the transaction that noted the last of it."""
        if _LEFT(post.id):
            return False
        if not Post.update(state="sent", finished=now(), worker="").where(Post.id == post.id, Post.worker == self.worker).execute():
            raise _NotOurs
        Chunk.delete().where(Chunk.post == post.id).execute()
        post.state = "sent"
        return True

    def _finish(self, the_list: ListView, post: Post) -> Reply:
        with transaction() if post.state != "sent" else connection():
            if post.state != "sent" and not self._end(post):
                return _later(_PUT_OFF)
            count, doubtful = _SUMS(post.id)[0]
        maillog.event("distributed", list=the_list.address, message_id=post.message_id, recipients=count, doubtful=doubtful or "")
        return OK


_CLAIMED = Prepared(lambda time, post, worker: Post.update(claimed=time).where(Post.id == post, Post.worker == worker))
_FLYING = Prepared(lambda chunk: Chunk.update(state="flying").where(Chunk.id == chunk, Chunk.state == "waiting"))
_LANDED = Prepared(lambda state, left, chunk: Chunk.update(state=state, subscriptions=left).where(Chunk.id == chunk, Chunk.state != "done"))
_COUNTED = Prepared(
    lambda taken, doubtful, time, post, worker: Post.update(
        handed_over=Post.handed_over + taken, doubtful=Post.doubtful + doubtful, claimed=time
    ).where(Post.id == post, Post.worker == worker)
)
_LEFT = Prepared(lambda post: Chunk.select(Chunk.id).where(Chunk.post == post, Chunk.state != "done").limit(1))
_SUMS = Prepared(lambda post: Post.select(Post.handed_over, Post.doubtful).where(Post.id == post))


class _NotOurs(Exception):
    """Another handler took the post over, or it is gone."""


class _Once:
    """Does what it is called for the first time, and nothing after."""

    def __init__(self, do: Callable[[], object]) -> None:
        self._do: Callable[[], object] | None = do

    @property
    def done(self) -> bool:
        return self._do is None

    def __call__(self) -> None:
        do, self._do = self._do, None
        if do:
            do()


class _Work:
    """One try of a post: its chunks, for the thread that brought it and for helpers. `airspace` is for the one chunk that flies."""

    def __init__(self, chunks: Iterable[int], stopping: threading.Event, do: Callable[[int], bool]) -> None:
        self.left = deque(chunks)
        self.airspace = threading.Lock()
        self._stopping = stopping
        self._do = do
        self._under_way = 0
        self._error: BaseException | None = None
        self._changed = threading.Condition()

    def do(self, helpers: ThreadPoolExecutor, most: int) -> None:
        """Work until nothing is left, or something is in the way. Raises what went wrong, when nobody is at work any more."""
        for _helper in range(min(most, len(self.left) - 1)):
            helpers.submit(self._help, helpers)
        while self._one() or self._wait():
            pass
        if self._error:
            raise self._error

    def _help(self, helpers: ThreadPoolExecutor) -> None:
        if self._one():
            helpers.submit(self._help, helpers)  # behind the other posts'

    def _wait(self) -> bool:
        """Wait until nobody is at work any more; whether there is something to do again."""
        with self._changed:
            self._changed.wait_for(lambda: not self._under_way or self._open)
            return self._open

    @property
    def _open(self) -> bool:
        return bool(self.left) and not self._error and not self._stopping.is_set()

    def _one(self) -> bool:
        """Do one chunk; False if there was none to do."""
        with self._changed:
            if not self._open:
                return False
            chunk = self.left.popleft()
            self._under_way += 1
        try:
            if self._do(chunk):
                self.left.append(chunk)
        except BaseException as error:
            with self._changed:
                self._error = self._error or error
            if not isinstance(error, Exception):
                raise
        finally:
            with self._changed:
                self._under_way -= 1
                self._changed.notify_all()
        return True


def _waiting(post: Post) -> list[int]:
    with connection():
        return [number for (number,) in _WAITING(post.id)]


def _people(post: Post, chunk: int) -> list[Person]:
    """Those of a chunk who are still subscribed, at the addresses they have now."""
    numbers = _split(_CHUNK(chunk)[0][0])
    found: dict[int, Person] = {}
    for start in range(0, len(numbers), 1000):  # a limit of SQLite's on variables is 32,766
        rows = (
            Subscription.select(Subscription.id, Account.id, Account.address, Account.domain, Account.name)
            .join(Account)
            .where(Subscription.id.in_(numbers[start : start + 1000]), Subscription.list == post.list_id)
            .where(Subscription.mode.in_(RECEIVED), here(now()))  # who changed from one to the other would else get neither
        )
        # The local part goes out as spelled; the domain in the form that DNS and every server know.
        for number, account, address, domain, name in rows.tuples():
            found[number] = Person(number, account, f"{address.rpartition('@')[0]}@{domain}", name)
    return [found[number] for number in numbers if number in found]


_WAITING = Prepared(lambda post: Chunk.select(Chunk.id).where(Chunk.post == post, Chunk.state == "waiting").order_by(Chunk.number))
_CHUNK = Prepared(lambda chunk: Chunk.select(Chunk.subscriptions).where(Chunk.id == chunk))


def _message_id(digest: str, domain: str) -> str:
    return f"<{digest[:32]}@{domain}>"


def _join(numbers: Iterable[int]) -> str:
    return ",".join(map(str, numbers))


def _split(text: str) -> list[int]:
    return [int(number) for number in text.split(",") if number]


def _later(text: str) -> Reply:
    return Reply(451, "4.3.0", _(text))


_BUSY = N_("This post is being distributed already; the rest follows")
_DNS = N_("It can not be found out now what the author's domain asks for; the post is tried again")
_STOPPING = N_("The list server is being stopped; the rest of the post follows")
_POSTFIX = N_("The mail server takes no copies now; the rest of the post follows")
_PUT_OFF = N_("Some recipients were put off by the mail server; they are tried again")
