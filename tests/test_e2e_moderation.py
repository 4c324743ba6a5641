"""A held post on the whole way, through a real Postfix: approved at the shell, by mail, by two at once, by two handlers, over crashes: out once."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import pytest
from conftest import Delivered, Sandbox, kelou
from lmtp_fixture import Client

from kelou.message import Message

LISTS = "lists.example.org"
MOIRA, MAX, OWNER = "moira@example.org", "max@example.org", "owner@example.org"
ALICE = "alice@example.org"
T = TypeVar("T")
PEOPLE = {ALICE, "bob@example.net", "carol@example.com"}


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A sandbox of its own: what is killed here serves nobody else."""
    directory = tmp_path_factory.mktemp("moderation")
    done = kelou("sandbox", "up", str(directory), "--json")
    assert done.returncode == 0, done.stderr
    yield Sandbox(directory, json.loads(done.stdout))
    kelou("sandbox", "down", str(directory))


class List:
    """A moderated list of a test's own."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.name = f"m{uuid4().hex[:12]}"
        self.address = f"{self.name}@{LISTS}"
        self.message_id = f"<{uuid4()}@example.org>"
        for arguments in (
            ("list", "create", self.name, "--owner", OWNER, "--type", "moderated", "--subject", "Test"),
            ("list", "set", self.name, "language=en"),
            *(("moderator", "add", self.name, address) for address in (MOIRA, MAX)),
            *(("member", "add", self.name, address, "--quiet") for address in sorted(PEOPLE)),
        ):
            done = sandbox.kelou(*arguments)
            assert done.returncode == 0, done.stderr

    def post(self, body: str = "Hello.") -> bytes:
        header = f"From: Alice <{ALICE}>\r\nTo: {self.address}\r\nSubject: News\r\nMessage-ID: {self.message_id}\r\nDate: Mon, 23 Nov 2026 12:00:00 +0000\r\n"
        return f"{header}\r\n{body}\r\n".encode()

    def held(self, send: Callable[[], object] | None = None) -> int:
        """Post, and wait until it is held; its number."""
        if send:
            send()
        else:
            assert self.sandbox.submit(ALICE, self.address, self.post()).accepted
        return int(wait(lambda: self.sandbox.json("mod", "list", self.name))[0]["id"])

    def key(self, moderator: str) -> str:
        """The key in the notice that a moderator got."""
        pattern = re.compile(rb"%s-confirm\+([a-z2-7]{26})@" % self.name.encode())

        def find() -> str:
            found = [pattern.search(copy.content) for copy in self.sandbox.delivered() if copy.delivered_to == moderator]
            return next((match[1].decode() for match in found if match), "")

        return wait(find)

    def answer(self, moderator: str, word: str = "approve") -> bytes:
        return f"From: {moderator}\r\nTo: {self.address}\r\nSubject: Re: Post to approve\r\nMessage-ID: <{uuid4()}@x>\r\n\r\n{word}\r\n".encode()

    def confirm(self, key: str) -> str:
        return f"{self.name}-confirm+{key}@{LISTS}"

    def copies(self) -> list[Delivered]:
        """What the world got of the post itself."""
        return [copy for copy in self.sandbox.delivered() if Message.parse(copy.content).text("message-id") == self.message_id]

    def once(self, doubtful: bool = False) -> None:
        """Everybody gets the post, nobody else does, and nothing more comes; where there may be doubt, only what is counted as doubtful comes twice."""
        wait(lambda: len(self.copies()) >= len(PEOPLE))
        time.sleep(3)  # longer than Postfix waits before it tries again
        found = Counter(copy.delivered_to for copy in self.copies())
        (post,) = self.sandbox.json("post", "list", self.name)
        assert set(found) == set(PEOPLE)
        assert found.total() - len(PEOPLE) <= (post["doubtful"] if doubtful else 0)
        assert self.sandbox.json("mod", "list", self.name) == []

    def decided(self) -> list[str]:
        return [row["who"] for row in self.sandbox.json("audit", "list", "--list", self.name) if row["action"] == "mod approved"]


@pytest.fixture
def moderated(sandbox: Sandbox) -> List:
    return List(sandbox)


def wait(look: Callable[[], T], seconds: float = 40) -> T:
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


@pytest.fixture
def second(sandbox: Sandbox, tmp_path: Path) -> Iterator[Path]:
    """Another LMTP handler on the same database, as on a second host; the folder of its sockets."""
    folder = tmp_path / "s"
    folder.mkdir()
    text = Path(sandbox.info["config"]).read_text("utf-8")
    config = tmp_path / "other.toml"
    config.write_text(re.sub(r'^sockets = .*$', f'sockets = "{folder}"', text, flags=re.MULTILINE), "utf-8")
    with Path(sandbox.info["log"]).open("ab") as log:
        process = subprocess.Popen([sys.executable, "-m", "kelou.lmtp.main", "-c", str(config)], stderr=log)
    wait(lambda: (folder / "lmtp.sock").exists())
    yield folder
    process.terminate()
    assert process.wait(30) == 0


def together(*acts: Callable[[], object]) -> None:
    """Do these in the same moment, each in its thread; what one raises is raised."""
    gate = threading.Barrier(len(acts))
    failed: list[BaseException] = []

    def run(act: Callable[[], object]) -> None:
        gate.wait()
        try:
            act()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


def test_approved_at_the_shell(sandbox: Sandbox, moderated: List) -> None:
    """`kelou mod approve`, twice: everybody has the post once, signed by the list."""
    number = moderated.held()
    assert moderated.copies() == []
    assert sandbox.kelou("mod", "approve", str(number)).returncode == 0
    assert sandbox.kelou("mod", "approve", str(number)).returncode == 0
    moderated.once()
    assert all(f"d={LISTS};".encode() in copy.content for copy in moderated.copies())


def test_approved_by_mail(sandbox: Sandbox, moderated: List) -> None:
    """A moderator answers the notice with a word; everybody has the post once, the other moderator is told, the key serves no more."""
    moderated.held()
    to = moderated.confirm(moderated.key(MOIRA))
    assert sandbox.untrusted(MOIRA, to, moderated.answer(MOIRA)).accepted
    moderated.once()
    told = {copy.delivered_to for copy in sandbox.delivered() if f"[{moderated.name}] Approved: News".encode() in copy.content}
    assert told == {MOIRA, MAX}
    assert sandbox.untrusted(MOIRA, to, moderated.answer(MOIRA)).recipients[0].startswith("550 5.1.1 ")


def test_raced_by_two_moderators(sandbox: Sandbox, moderated: List) -> None:
    """One at the shell, one by mail, in the same moment: one decides, and everybody has the post once."""
    number = moderated.held()
    to = moderated.confirm(moderated.key(MAX))
    together(
        lambda: sandbox.json("mod", "approve", str(number), "--by", MOIRA),
        lambda: sandbox.submit(MAX, to, moderated.answer(MAX)),
    )
    moderated.once()
    assert len(moderated.decided()) == 1


def test_rejected_by_mail(sandbox: Sandbox, moderated: List) -> None:
    """The author, who was certain, gets the reason; nobody gets the post."""
    moderated.held()
    to = moderated.confirm(moderated.key(MOIRA))
    assert sandbox.submit(MOIRA, to, moderated.answer(MOIRA, "reject Off topic.")).accepted
    wait(lambda: [copy for copy in sandbox.delivered() if copy.delivered_to == ALICE and b"Off topic." in copy.content])
    assert moderated.copies() == []


def test_a_forged_trigger(sandbox: Sandbox, moderated: List) -> None:
    """From outside its address takes no mail; from this host it starts nothing that was not approved."""
    number = moderated.held()
    trigger = f"kelou-distribute+{number}@{LISTS}"
    assert sandbox.untrusted("", trigger, moderated.post()).recipients[0].startswith("550 5.1.1 ")
    assert sandbox.submit(MOIRA, trigger, moderated.post()).recipients[0].startswith("550 5.1.1 ")
    time.sleep(1)
    assert moderated.copies() == []


def test_without_the_milter(sandbox: Sandbox, moderated: List) -> None:
    """A post that comes while the milter is away is held, and so is one who claims to be the owner. Approved then, it is 75; it goes out, once, later."""
    os.kill(sandbox.info["pids"]["milter"], signal.SIGTERM)
    try:
        wait(lambda: not (Path(sandbox.info["config"]).parent / "postfix/spool/kelou/milter.sock").exists())
        number = moderated.held(lambda: sandbox.untrusted(OWNER, moderated.address, moderated.post().replace(ALICE.encode(), OWNER.encode())))
        done = sandbox.kelou("mod", "approve", str(number))
        assert done.returncode == 75, done.stderr
        assert sandbox.json("mod", "show", str(number))["state"] == "approved"
        assert moderated.copies() == []
    finally:
        sandbox.up()
    assert sandbox.kelou("mod", "approve", str(number)).returncode == 0
    assert sandbox.kelou("maintain").returncode == 0
    moderated.once()


def test_held_without_the_milter_approved_with_it(sandbox: Sandbox, moderated: List) -> None:
    """The moderators learn of it from `kelou maintain`, and one approves by mail."""
    os.kill(sandbox.info["pids"]["milter"], signal.SIGTERM)
    try:
        wait(lambda: not (Path(sandbox.info["config"]).parent / "postfix/spool/kelou/milter.sock").exists())
        moderated.held()
    finally:
        sandbox.up()
    assert sandbox.json("maintain")["held_told"] >= 1
    assert sandbox.submit(MOIRA, moderated.confirm(moderated.key(MOIRA)), moderated.answer(MOIRA)).accepted
    moderated.once()


def test_two_handlers_on_one_database(sandbox: Sandbox, moderated: List, second: Path) -> None:
    """Two moderators answer in the same moment, each to another handler: one decides, and both handlers start one distribution together."""
    first = Path(sandbox.info["config"]).parent / "postfix/spool/kelou"
    number = moderated.held()
    keys = moderated.key(MOIRA), moderated.key(MAX)

    def answer(folder: Path, moderator: str, key: str) -> None:
        with Client(folder / "lmtp.sock") as client:
            assert client.hello().deliver(moderated.confirm(key), moderated.answer(moderator), moderator).startswith("250 ")

    together(lambda: answer(first, MOIRA, keys[0]), lambda: answer(second, MAX, keys[1]))
    assert len(moderated.decided()) == 1
    with Client(first / "lmtp.sock") as one, Client(second / "lmtp.sock") as other:
        one.hello()
        other.hello()
        trigger = f"kelou-distribute+{number}@{LISTS}"
        together(*(partial(client.deliver, trigger, b"Subject: x\r\n\r\n", "") for client in (one, other)))
    moderated.once()


def test_held_by_two_handlers(sandbox: Sandbox, moderated: List, second: Path) -> None:
    """The same delivery at both handlers in one moment is held once, and approved once goes out once."""
    first = Path(sandbox.info["config"]).parent / "postfix/spool/kelou"

    def deliver(folder: Path) -> None:
        with Client(folder / "lmtp.sock") as client:
            assert client.hello().deliver(moderated.address, moderated.post(), ALICE).startswith("250 2.6.0")

    number = moderated.held(lambda: together(lambda: deliver(first), lambda: deliver(second)))
    assert len(sandbox.json("mod", "list", moderated.name)) == 1
    together(*(partial(sandbox.kelou, "mod", "approve", str(number), "--by", who) for who in (MOIRA, MAX)))
    moderated.once()
    assert len(moderated.decided()) == 1


@pytest.mark.parametrize("stopped", [False, True], ids=["as it comes", "before it could begin"])
def test_killed_after_an_approval(sandbox: Sandbox, moderated: List, stopped: bool) -> None:
    """kill -9 of the LMTP handler right after the approval: when it is back, Postfix brings the trigger again, and everybody has the post.

    Once, but for the one doubt there is: where the handler died between Postfix's 250 and noting it, the chunk goes out again and is counted.
    """
    number = moderated.held()
    handler = sandbox.info["pids"]["lmtp"]
    if stopped:
        os.kill(handler, signal.SIGSTOP)
    try:
        assert sandbox.kelou("mod", "approve", str(number)).returncode == 0
        time.sleep(0.5 * stopped)
        os.kill(handler, signal.SIGKILL)
    finally:
        sandbox.up()
    moderated.once(doubtful=not stopped)


def test_one_message_through_both_doors(sandbox: Sandbox, moderated: List) -> None:
    """`kelou trace` follows it: received and queued by Postfix, held, told of, approved, distributed, signed, sent to the world."""
    number = moderated.held()
    moderated.key(MAX)
    assert sandbox.kelou("mod", "approve", str(number)).returncode == 0
    moderated.once()
    events = sandbox.json("trace", moderated.message_id)
    assert sandbox.json("trace", moderated.message_id.strip("<>")) == events
    assert [event["time"] for event in events] == sorted(event["time"] for event in events)
    assert {"time", "event", "list", "detail", "program", "queue_id"} <= set(events[0])
    names = [event["event"] for event in events]
    assert {"received", "queued", "held", "notice", "approved", "accepted", "distributed", "signed", "sent", "removed"} <= set(names)
    for once in ("held", "approved", "accepted", "distributed"):
        assert names.count(once) == 1, once
    assert names.index("received") < names.index("held") < names.index("approved") < names.index("distributed")
    programs = {event["program"] for event in events}
    assert {"kelou/lmtp", "kelou/milter", "postfix/submission/smtpd", "postfix/kelou-out/smtpd"} <= programs
    held = events[names.index("held")]
    assert (held["list"], held["id"], bool(held["queue_id"])) == (moderated.address, number, True)
    shown = sandbox.kelou("trace", moderated.message_id)
    assert moderated.address in shown.stdout


def test_a_refused_message_is_followed_too(sandbox: Sandbox, moderated: List) -> None:
    """What the milter refused at the end of DATA is in no table; the log tells the list, the rule and the queue id."""
    assert sandbox.kelou("list", "set", moderated.name, "post=subscribers").returncode == 0
    stranger = moderated.post().replace(ALICE.encode(), b"eve@example.org")
    assert sandbox.submit("eve@example.org", moderated.address, stranger).data.startswith("550 5.7.1 ")
    events = sandbox.json("trace", moderated.message_id)
    refused = next(event for event in events if event["program"] == "kelou/milter")
    assert (refused["event"], refused["list"]) == ("refused", moderated.address)
    assert "rule=subscribers_only" in refused["detail"]
    assert refused["queue_id"]
    assert sandbox.kelou("trace", "<nothing@example.org>").returncode == 67
