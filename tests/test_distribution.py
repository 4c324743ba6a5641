"""Distribution: everybody who was subscribed gets a post once, whatever dies or changes meanwhile."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from database_fixture import DOMAIN, NOBODY, open_list, open_site
from dnsserver import SERVFAIL, Server
from smtppeer import HANG_UP, Letter, Peer

from kelou import distribution, secret
from kelou.config import Config
from kelou.database import connection, transaction
from kelou.directory import ListView
from kelou.distribution import PATIENCE, STALE, Distributor
from kelou.message import Message
from kelou.models import Account, Bounce, Chunk, MailingList, Post, Subscription, now
from kelou.reading import read
from kelou.reply import Reply
from kelou.submission import Connection, Outcome

AUTHOR = "alice@example.org"
CONTENT = (
    b"Received: from a by b; Mon, 1 Jan 2024 00:00:00 +0000\r\nFrom: Alice <alice@example.org>\r\nTo: amis@lists.example.org\r\n"
    b"Subject: News\r\nMessage-ID: <1@example.org>\r\nDate: Mon, 1 Jan 2024 00:00:00 +0000\r\n\r\nHello.\r\n"
)


class Fault(Exception):
    """Something that nobody thought of."""


@dataclass
class Site:
    """A list, and a Postfix that is there."""

    config: Config
    peer: Peer
    list: ListView

    def subscribe(self, *addresses: str, own_posts: bool = True, mode: str = "mail") -> None:
        with transaction():
            for address in addresses:
                account = Account.create(address=address, key=address.lower(), domain=address.rpartition("@")[2].lower())
                Subscription.create(list=self.list.id, account=account, own_posts=own_posts, mode=mode, since=now() - 10)

    def leave(self, address: str) -> None:
        with transaction():
            Subscription.delete().where(Subscription.account == Account.get(Account.address == address)).execute()

    def distributor(self, worker: str = "here:/sockets") -> Distributor:
        return Distributor(self.config, secret.load(self.config), worker)

    def accept(self, content: bytes = CONTENT) -> str:
        digest = distribution.digest_of(content)
        with connection():
            distribution.accept(self.list, read(Message.parse(content)), len(content), digest, "QUEUEID", self.config)
        return digest

    def post(self, content: bytes = CONTENT, distributor: Distributor | None = None) -> Reply:
        digest = self.accept(content)
        return (distributor or self.distributor()).hand_over(self.list, Message.parse(content), digest)

    @property
    def row(self) -> Post:
        with connection():
            return Post.get()

    @property
    def chunks(self) -> list[tuple[str, int]]:
        with connection():
            return [(row.state, len(row.subscriptions.split(","))) for row in Chunk.select().order_by(Chunk.number)]

    @property
    def letters(self) -> list[Letter]:
        return self.peer.letters

    @property
    def got(self) -> list[str]:
        return self.peer.recipients


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    peers: list[Peer] = []

    def make(
        chunk: int = 2, people: Iterable[str] = (), connections: int = 1, delivery: str = "shared", **replies: str | list[str]
    ) -> Site:
        peers.append(Peer({"." if key == "dot" else key: value for key, value in replies.items()}))
        config = open_site(tmp_path, NOBODY, distribution__chunk=chunk, distribution__connections=connections)
        the_list = open_list(config)
        the_list = replace(the_list, settings={**the_list.settings, "delivery": delivery})
        config = Config(config.path, {**config.values, "postfix.reinjection": peers[0].endpoint, "postfix.personal": peers[0].endpoint})
        made = Site(config, peers[0], the_list)
        made.subscribe(*people)
        return made

    yield make
    for peer in peers:
        peer.close()


FIVE = [f"user{number}@example.net" for number in range(5)]


def test_everybody_gets_it_once(site: Callable[..., Site]) -> None:
    """A post goes out in chunks, and 250 is said when Postfix has them all."""
    here = site(people=FIVE)
    assert here.post().code == 250
    assert here.got == FIVE
    assert [len(letter.recipients) for letter in here.letters] == [2, 2, 1]
    assert (here.row.state, here.row.recipients, here.row.handed_over, here.row.doubtful, here.row.worker) == ("sent", 5, 5, 0, "")
    assert here.chunks == []


def test_recipients_are_grouped_by_domain(site: Callable[..., Site]) -> None:
    """Domains stand together, so that Postfix makes few deliveries."""
    here = site(chunk=10, people=["1@b.example", "2@a.example", "3@b.example", "4@a.example"])
    here.post()
    assert here.got == ["2@a.example", "4@a.example", "1@b.example", "3@b.example"]


def test_recipients_never_see_each_other(site: Callable[..., Site]) -> None:
    """Recipients are in the envelope only; the reverse-path is the list's, To is as the author wrote it."""
    here = site(chunk=10, people=FIVE)
    here.post()
    (letter,) = here.letters
    assert letter.mail == f"MAIL FROM:<amis-bounces@{DOMAIN}>"
    assert b"user" not in letter.content
    assert b"To: amis@lists.example.org\r\n" in letter.content
    assert letter.content.endswith(b"\r\n\r\nHello.\r\n")


def test_our_own_fields_are_ours(site: Callable[..., Site]) -> None:
    """What an author, or the milter, wrote in Kelou-… fields goes no further; our request for a signature does."""
    here = site(people=FIVE[:1])
    here.post(b"Kelou-Author: q=1\r\nKelou-Sign: d=evil.example; t=1; s=0\r\nkelou-x: y\r\n" + CONTENT)
    (letter,) = here.letters
    assert letter.content.lower().count(b"kelou-") == 1
    assert secret.signature_asked(secret.load(here.config), Message.parse(letter.content), now()) == DOMAIN


def test_missing_fields_are_added_once_for_all(site: Callable[..., Site]) -> None:
    """A post without Message-ID and Date gets them, the same ones at each try."""
    here = site(chunk=1, people=FIVE[:3], dot=["250 Ok", "451 4.3.0 Later", "451 4.3.0 Later", "250 Ok"])
    bare = b"From: alice@example.org\r\nSubject: x\r\n\r\nHello\r\n"
    assert here.post(bare).code == 451
    assert here.post(bare).code == 250
    headers = {tuple(letter.content.partition(b"\r\n" + name)[2].partition(b"\r\n")[0] for name in (b"Message-ID:", b"Date:")) for letter in here.letters}
    assert len(here.letters) == 3
    assert len(headers) == 1
    assert all(next(iter(headers)))
    assert here.row.message_id.encode() == next(iter(headers))[0].strip()


@pytest.mark.parametrize("own_posts", [True, False])
def test_the_authors_own_copy(site: Callable[..., Site], own_posts: bool) -> None:
    """Authors receive their own posts if they want to."""
    here = site(people=FIVE[:1])
    here.subscribe(AUTHOR, own_posts=own_posts)
    assert here.post().code == 250
    assert (AUTHOR in here.got) is own_posts
    assert FIVE[0] in here.got


def test_those_who_want_no_mail_get_none(site: Callable[..., Site]) -> None:
    """Mode nomail is subscribed, and receives nothing."""
    here = site(people=FIVE[:1])
    here.subscribe("quiet@example.org", mode="nomail")
    assert here.post().code == 250
    assert here.got == FIVE[:1]


def test_nobody_is_subscribed(site: Callable[..., Site]) -> None:
    """A post to nobody is done at once."""
    here = site()
    assert here.post().code == 250
    assert here.row.state == "sent"
    assert here.letters == []


def test_the_same_delivery_again(site: Callable[..., Site]) -> None:
    """A retry of what is done already is 250, and nothing goes out."""
    here = site(people=FIVE)
    assert [here.post().code for _ in range(3)] == [250, 250, 250]
    assert here.got == FIVE


# What a distribution to three people in two chunks does, step by step: each word sent, each reply read, each commit.
STEPS = (
    "commit",                                                                       # the post is accepted
    "commit",                                                                       # it is claimed
    "reply", "write", "reply",                                                      # a connection
    *(("write", "reply", "reply", "reply", "reply", "commit", "write", "reply", "commit")),  # a chunk of two: envelope, flying, content, noted
    *(("write", "reply", "reply", "reply", "commit", "write", "reply", "commit")),           # a chunk of one, and done
)  # fmt: skip


class Steps:
    """Counts what a distribution does, and can kill the process before or after a step."""

    def __init__(self, patch: pytest.MonkeyPatch, kill: Callable[[int, bool], bool] = lambda number, before: False) -> None:
        self.done: list[str] = []
        self._kill = kill
        self._lock = threading.Lock()
        write, reply, transacted = Connection._write, Connection._reply, distribution.transaction

        @contextmanager
        def transaction() -> Iterator[None]:
            number = 0
            with transacted():
                yield
                number = self._begin("commit")
            self._end(number)

        def wrapped(name: str, do: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **options: Any) -> Any:
                number = self._begin(name)
                result = do(*arguments, **options)
                self._end(number)
                return result

            return call

        patch.setattr(Connection, "_write", wrapped("write", write))
        patch.setattr(Connection, "_reply", wrapped("reply", reply))
        patch.setattr(distribution, "transaction", transaction)

    def _begin(self, name: str) -> int:
        with self._lock:
            number = len(self.done)
            self.done.append(name)
            self._die_if(number, True)
        return number

    def _end(self, number: int) -> None:
        with self._lock:
            self._die_if(number, False)

    def _die_if(self, number: int, before: bool) -> None:
        if self._kill(number, before):
            os.kill(os.getpid(), signal.SIGKILL)


def killed(site: Site, at: int, before: bool) -> bool:
    """Distribute in a process that is killed (kill -9) before or after that step; whether it came to that."""
    child = os.fork()
    if not child:
        status = 1
        try:
            Steps(pytest.MonkeyPatch(), lambda number, is_before: (number, is_before) == (at, before))
            status = 0 if site.post().code == 250 else 2
        finally:
            os._exit(status)
    _pid, ended = os.waitpid(child, 0)
    assert os.WIFSIGNALED(ended) or os.WEXITSTATUS(ended) == 0, ended
    return os.WIFSIGNALED(ended)


def test_the_steps_are_these(site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch) -> None:
    """The table of steps is complete: what is killed below is killed at each of them."""
    here = site(people=FIVE[:3])
    steps = Steps(monkeypatch)
    assert here.post().code == 250
    assert tuple(steps.done) == STEPS


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("step", range(len(STEPS)), ids=[f"{number}-{name}" for number, name in enumerate(STEPS)])
def test_killed_at_each_step(site: Callable[..., Site], step: int, before: bool) -> None:
    """kill -9 at any step: the next try gives everybody the post, and who has it twice was of the one chunk in doubt, which is counted."""
    people = FIVE[:3]
    here = site(people=people)
    assert killed(here, step, before)
    assert here.post().code == 250
    counted = Counter(here.got)
    twice = {person for person, number in counted.items() if number > 1}
    assert set(counted) == set(people)
    assert max(counted.values()) <= 2
    assert len(twice) <= here.row.doubtful <= 2
    assert twice in ({*people[:2]}, {*people[2:]}, set())
    assert (here.row.state, here.row.handed_over, here.chunks) == ("sent", 3, [])
    assert len({letter.content.partition(b"Message-ID:")[2].partition(b"\r\n")[0] for letter in here.letters}) == 1
    # In doubt is only what Postfix was about to get, or has, and we did not note: between the commits around a chunk's content.
    inside = {number for number in range(len(STEPS)) if STEPS[number - 1 : number + 3] == ("commit", "write", "reply", "commit")}
    near = any(step in (number, number + 1) or (step, before) in ((number - 1, False), (number + 2, True)) for number in inside)
    assert bool(here.row.doubtful) == near


@pytest.mark.parametrize("delivery", ["shared", "verp", "personal"])
@pytest.mark.parametrize("step", range(0, 104, 8))
def test_killed_on_many_connections(site: Callable[..., Site], step: int, delivery: str) -> None:
    """The same with four connections at once, whose steps are in no order: what is in doubt is still no more than one chunk."""
    people = [f"user{number:02}@example.net" for number in range(20)]
    here = site(people=people, chunk=4, connections=4, delivery=delivery)
    if not killed(here, step, before=step % 2 == 0):
        assert sorted(here.got) == people
        return
    assert here.post().code == 250
    counted = Counter(here.got)
    twice = {person for person, number in counted.items() if number > 1}
    assert set(counted) == set(people)
    assert max(counted.values()) <= 2
    assert len(twice) <= here.row.doubtful <= 4
    assert (here.row.state, here.row.handed_over) == ("sent", 20)


def test_a_fault_lets_go_of_the_post(site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch) -> None:
    """After an exception the same handler can go on with the post."""
    here = site(people=FIVE)
    distributor = here.distributor()
    submit, turns = Connection.submit, iter(range(9))

    def fail(self: Connection, *given: Any) -> Outcome:
        if next(turns) == 1:
            raise Fault
        return submit(self, *given)

    with monkeypatch.context() as patched:
        patched.setattr(Connection, "submit", fail)
        with pytest.raises(Fault):
            here.post(distributor=distributor)
    assert here.row.worker == ""
    assert here.post(distributor=distributor).code == 250
    assert sorted(here.got) == FIVE


def test_left_meanwhile(site: Callable[..., Site]) -> None:
    """Who left before their chunk went out gets nothing; nobody else is skipped or repeated."""
    here = site(people=FIVE, dot=["250 Ok", "451 4.3.0 Later", "250 Ok"])
    assert here.post().code == 451
    here.leave(FIVE[3])
    assert here.post().code == 250
    assert sorted(here.got) == [*FIVE[:3], FIVE[4]]


def test_joined_meanwhile(site: Callable[..., Site]) -> None:
    """Who joined after the post was accepted does not get it: no number is given twice, whatever the clock says."""
    here = site(people=FIVE, dot=["250 Ok", "451 4.3.0 Later", "451 4.3.0 Later", "250 Ok"])
    assert here.post().code == 451
    here.leave(FIVE[4])
    with transaction():
        Post.update(received=now() - 5).execute()
        account = Account.create(address="new@example.net", key="new@example.net", domain="example.net")
        joined = Subscription.create(list=here.list.id, account=account)
        assert joined.id > 5, "no number is given twice"
    assert here.post().code == 250
    assert sorted(here.got) == FIVE[:4]


def test_moved_meanwhile(site: Callable[..., Site]) -> None:
    """Who changed address, even to another domain, gets it once, at the new address."""
    here = site(people=FIVE, dot=["250 Ok", "451 4.3.0 Later", "451 4.3.0 Later", "250 Ok"])
    assert here.post().code == 451
    with transaction():
        Account.update(address="Moved@Aaa.example", key="moved@aaa.example", domain="aaa.example").where(Account.address == FIVE[0]).execute()
        Account.update(address="Moved2@Aaa.example", key="moved2@aaa.example", domain="aaa.example").where(Account.address == FIVE[4]).execute()
    assert here.post().code == 250
    assert sorted(here.got) == ["Moved2@aaa.example", *FIVE[:4]]


def test_a_refused_recipient_bounces(site: Callable[..., Site]) -> None:
    """One recipient that Postfix refuses is a bounce of theirs; the post goes to the others, and is done."""
    here = site(people=FIVE, **{f"RCPT TO:<{FIVE[2]}>": "550 5.1.1 No such user"})
    assert here.post().code == 250
    assert here.got == [*FIVE[:2], *FIVE[3:]]
    with connection():
        bounces = [(row.account.address, row.post.id, row.kind, row.status, row.detail) for row in Bounce.select()]
    assert bounces == [(FIVE[2], here.row.id, "hard", "5.1.1", "550 5.1.1 No such user")]
    assert (here.row.handed_over, here.row.recipients) == (4, 5)


def test_a_deferred_recipient_is_tried_again(site: Callable[..., Site]) -> None:
    """One recipient that Postfix puts off makes it 451, and the retry sends to them alone."""
    here = site(people=FIVE, **{f"RCPT TO:<{FIVE[2]}>": ["450 4.2.0 Later", "250 Ok"]})
    assert here.post().code == 451
    assert here.got == [*FIVE[:2], *FIVE[3:]]
    assert here.chunks == [("done", 1), ("waiting", 1), ("done", 1)]
    assert here.post().code == 250
    assert here.got == [*FIVE[:2], *FIVE[3:], FIVE[2]]
    assert here.row.handed_over == 5


@pytest.mark.parametrize("reply", ["451 4.3.0 Disk full", "550 5.7.1 Milter says no", "552 5.3.4 Too large"])
@pytest.mark.parametrize("command", ["MAIL", "DATA", "."])
def test_a_refused_chunk_is_tried_again(site: Callable[..., Site], command: str, reply: str) -> None:
    """Postfix refuses a whole chunk, for now or for good: to the post's client it is 451, never 5xx, and nobody bounces."""
    here = site(people=FIVE)
    here.peer.say(command, reply)
    assert here.post().code == 451
    assert here.got == []
    here.peer.say(command, {"MAIL": "250 Ok", "DATA": "354 Go", ".": "250 Ok"}[command])
    assert here.post().code == 250
    assert here.got == FIVE
    assert here.row.doubtful == 0
    with connection():
        assert Bounce.select().count() == 0


def test_postfix_is_down(site: Callable[..., Site]) -> None:
    """Nothing listens: 451, and the post goes out when something does."""
    here = site(people=FIVE)
    down = Site(Config(here.config.path, {**here.config.values, "postfix.reinjection": NOBODY}), here.peer, here.list)
    assert down.post().code == 451
    assert here.post().code == 250
    assert (here.got, here.row.doubtful) == (FIVE, 0)


def test_postfix_hangs_up_after_the_dot(site: Callable[..., Site]) -> None:
    """A chunk whose reply never came is in doubt, and sent again."""
    here = site(people=FIVE, dot=["250 Ok", HANG_UP, "250 Ok"])
    assert here.post().code == 451
    assert here.post().code == 250
    assert sorted(here.got) == sorted(FIVE + FIVE[2:4])
    assert here.row.doubtful == 2


def test_a_retry_while_the_first_is_at_work(site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch) -> None:
    """Postfix gave up waiting and comes again, in the same handler or at another one: 451, and nothing is doubled."""
    here = site(people=FIVE)
    inside, go_on = threading.Event(), threading.Event()
    submit = Connection.submit

    def wait(self: Connection, reverse_path: str, recipients: list[str], *more: Any) -> Outcome:
        inside.set()
        assert go_on.wait(10)
        return submit(self, reverse_path, recipients, *more)

    monkeypatch.setattr(Connection, "submit", wait)
    distributor, codes = here.distributor(), list[int]()
    first = threading.Thread(target=lambda: codes.append(here.post(distributor=distributor).code))
    first.start()
    assert inside.wait(10)
    assert here.post(distributor=distributor).code == 451
    assert here.post(distributor=here.distributor("there:/sockets")).code == 451
    go_on.set()
    first.join(10)
    assert codes == [250]
    assert here.got == FIVE


def test_many_handlers_race_for_one_post(site: Callable[..., Site]) -> None:
    """Eight attempts at once, at two handlers: one does it, the others are told to come again, and each recipient gets one copy."""
    people = [f"user{number:02}@example.net" for number in range(20)]
    here = site(people=people)
    handlers = [here.distributor("a:/x"), here.distributor("b:/x")]
    start, replies = threading.Barrier(8), list[int]()

    def attempt(number: int) -> None:
        start.wait()
        replies.append(here.post(distributor=handlers[number % 2]).code)

    threads = [threading.Thread(target=attempt, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(replies) == 8
    assert set(replies) <= {250, 451}
    assert 250 in replies
    assert here.got == people
    assert here.row.doubtful == 0


def test_another_handlers_work_is_free_when_it_is_dead_for_long(site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler on another host died for good: after a while another goes on; and if it was not dead, it stops at its next chunk."""
    here = site(people=FIVE)
    here.accept()
    with transaction():
        Post.update(worker="gone:/sockets", claimed=now()).execute()
    assert here.post().code == 451
    with transaction():
        Post.update(claimed=now() - STALE - 1).execute()
    assert here.post().code == 250
    assert here.got == FIVE


def test_a_handler_that_lost_its_post_stops(site: Callable[..., Site]) -> None:
    """What another handler took over is not sent on by the first."""
    here = site(people=FIVE)
    distributor = here.distributor()
    digest = here.accept()
    post = here.row
    with distributor._claim(post) as claimed:
        assert claimed
        with transaction():
            Post.update(worker="other:/sockets").execute()
        assert distributor._hand_over(here.list, Message.parse(CONTENT), post).code == 451
    assert here.got == []
    assert here.row.worker == "other:/sockets"
    assert digest == post.digest


def test_stopping(site: Callable[..., Site]) -> None:
    """Told to stop, the handler ends between two chunks, and the next goes on."""
    here = site(people=FIVE)
    distributor = here.distributor()
    distributor.stopping.set()
    assert here.post(distributor=distributor).code == 451
    assert here.got == []
    assert here.post().code == 250
    assert here.got == FIVE


def test_the_list_is_purged_meanwhile(site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows vanish under a distribution: nothing is left behind, and nothing breaks for good."""
    here = site(people=FIVE)
    submit = Connection.submit

    def purge(self: Connection, *given: Any) -> Outcome:
        outcome = submit(self, *given)
        with transaction():
            MailingList.delete().execute()
        return outcome

    monkeypatch.setattr(Connection, "submit", purge)
    assert here.post().code == 451
    assert here.got == FIVE[:2]
    with connection():
        assert Chunk.select().count() == Post.select().count() == 0


def test_lines_are_ended_on_the_wire(site: Callable[..., Site]) -> None:
    """A post of odd line ends and dots goes out as one message."""
    here = site(people=FIVE[:1])
    assert here.post(CONTENT + b".\r\na\n.\nMAIL FROM:<evil@example.org>\n").code == 250
    (letter,) = here.letters
    assert letter.content.endswith(b"Hello.\r\n..\r\na\r\n..\r\nMAIL FROM:<evil@example.org>\r\n")


def test_the_dns_of_the_author_s_domain_is_waited_for(site: Callable[..., Site]) -> None:
    """While it can not be found out whether From may stay, nothing goes out: 451. What is found out then holds for every copy, whatever changes."""
    with Server(ttl=0) as zone:
        zone.zone["_dmarc.example.org", "TXT"] = SERVFAIL
        here = site(people=FIVE, dot=["250 2.0.0 Ok", "451 4.3.0 Full"])
        here.config = Config(here.config.path, {**here.config.values, "dns.resolvers": (zone.endpoint,)})
        assert here.post().code == 451
        assert (here.letters, here.row.rewritten, here.row.state) == ([], None, "distributing")
        zone.text("_dmarc.example.org", "v=DMARC1; p=reject; adkim=s")
        assert here.post().code == 451
        assert here.row.rewritten is True
        zone.text("_dmarc.example.org", "v=DMARC1; p=none")
        here.list = replace(here.list, settings={**here.list.settings, "from_rewriting": "never"})
        here.peer.say(".", "250 2.0.0 Ok")
        assert here.post().code == 250
        assert here.got == FIVE
        assert {Message.parse(letter.content).text("from") for letter in here.letters} == {"Alice via amis <amis@lists.example.org>"}


def test_a_domain_that_never_answers_costs_no_post(site: Callable[..., Site]) -> None:
    """After a day it goes out in the list's name, long before Postfix would give it up."""
    with Server(ttl=0) as zone:
        zone.zone["_dmarc.example.org", "TXT"] = SERVFAIL
        here = site(people=FIVE)
        here.config = Config(here.config.path, {**here.config.values, "dns.resolvers": (zone.endpoint,)})
        assert here.post().code == 451
        with transaction():
            Post.update(received=now() - PATIENCE).execute()
        assert here.post().code == 250
        assert here.row.rewritten is True
