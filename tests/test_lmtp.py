"""The LMTP door, over its socket, octet by octet: every transaction has one right reply, whatever is sent and whatever breaks."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lmtp_fixture import AUTHOR, Host
from smtppeer import SILENT

from kelou import database, lifecycle, people
from kelou.audit import Actor
from kelou.database import connection, transaction
from kelou.models import HeldPost, Post

SHELL = Actor("root")
LIST = "amis@lists.example.org"
POST = b"From: Alice <alice@example.org>\r\nTo: amis@lists.example.org\r\nSubject: News\r\nMessage-ID: <1@example.org>\r\n\r\nHello.\r\n"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path)
    yield made
    made.stop()


@pytest.fixture
def open_host(host: Host) -> Host:
    """With a list of three, and the handler running."""
    host.list("amis", "bob@example.net", "carol@example.net")
    host.start()
    return host


@pytest.fixture(scope="module")
def long_lived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    made = Host(tmp_path_factory.mktemp("host"))
    made.list("amis", "bob@example.net", "carol@example.net")
    made.start()
    yield made
    made.stop()


@pytest.fixture
def shared(long_lived: Host) -> Host:
    """As `open_host`, but the handler runs for many tests: posts are forgotten before each."""
    database.open_database(long_lived.config)
    with transaction():
        Post.delete().execute()
        HeldPost.delete().execute()
    long_lived.peer.letters.clear()
    return long_lived


def post(number: int = 1, body: bytes = b"Hello.\r\n") -> bytes:
    return POST.replace(b"<1@", b"<%d@" % number).replace(b"Hello.\r\n", body)


# A post's way.


def test_an_authors_post_is_distributed(shared: Host) -> None:
    """250 is said when Postfix has every copy, and the mark of the milter does not go out."""
    with shared.client() as client:
        assert client.hello().deliver(LIST, shared.sealed(POST)) == "250 2.0.0 OK"
    (letter,) = shared.peer.letters
    assert sorted(letter.recipients) == [AUTHOR, "bob@example.net", "carol@example.net"]
    assert b"Kelou-Author" not in letter.content
    assert letter.content.endswith(b"\r\n\r\nHello.\r\n")
    with connection():
        assert [(row.state, row.queue_id, row.author) for row in Post.select()] == [("sent", "4XyZ1234abc", AUTHOR)]


def test_an_uncertain_authors_post_is_held(open_host: Host) -> None:
    """A forged From opens nothing: the post is held with its exact bytes, and doing so twice holds it once."""
    forged = open_host.sealed(POST, queue_id="another")
    with open_host.client() as client:
        client.hello()
        assert [client.deliver(LIST, forged).split(" ")[0] for _ in range(2)] == ["250", "250"]
    assert set(open_host.peer.recipients) <= {"owner@example.org"}, "its moderators may be told, nobody else"
    with connection():
        held = [(bytes(row.content), row.author, row.authenticated, row.reverse_path, row.rule, row.state) for row in HeldPost.select()]
    assert held == [(forged, AUTHOR, "", AUTHOR, "unauthenticated_held", "held")]


def test_a_refusal_goes_to_certain_authors_only(open_host: Host) -> None:
    """What the list refuses bounces to a proved author at their own reverse-path, and is held for anybody else: no backscatter."""
    stranger = POST.replace(b"alice@", b"mallory@")
    with open_host.client() as client:
        client.hello()
        assert client.deliver(LIST, open_host.sealed(stranger, "mallory@example.org"), "mallory@example.org").startswith("550 5.7.1 ")
        assert client.deliver(LIST, open_host.sealed(stranger, "mallory@example.org"), "victim@example.com").startswith("250 2.6.0 ")
        assert client.deliver(LIST, stranger.replace(b"<1@", b"<2@"), "mallory@example.org").startswith("250 2.6.0 ")
    with connection():
        assert [row.rule for row in HeldPost.select()] == ["subscribers_only", "subscribers_only"]


def test_a_retry_of_an_accepted_post_asks_no_rule_again(open_host: Host) -> None:
    """What was accepted goes on to everybody, though its author may not post any more."""
    open_host.peer.say(".", "451 4.3.0 Later", "250 Ok")
    sealed = open_host.sealed(POST)
    with open_host.client() as client:
        assert client.hello().deliver(LIST, sealed).startswith("451 4.3.0 ")
        people.unsubscribe(open_host.config, SHELL, lifecycle.find_list(open_host.config, "amis"), AUTHOR, quiet=True)
        assert client.deliver(LIST, sealed) == "250 2.0.0 OK"
    assert open_host.peer.recipients == ["bob@example.net", "carol@example.net"]


@pytest.mark.parametrize(
    ("recipient", "reply"),
    [
        ("nobody@lists.example.org", "550 5.1.1 "),
        ("amis@elsewhere.example", "550 5.1.1 "),
        ("amis-nonsense@lists.example.org", "550 5.1.1 "),
        ("pending-owner@lists.example.org", "550 5.7.1 "),
        ("a b@lists.example.org", "550 5.1.1 "),
        ("é@lists.example.org", "550 5.1.1 "),
        ('"amis"@lists.example.org', "250 2.0.0 "),
        ("AMIS@Lists.Example.ORG", "250 2.0.0 "),
    ],
)
def test_addresses(open_host: Host, recipient: str, reply: str) -> None:
    """An address that is none here is unknown, in words a person understands, and never a syntax error."""
    lifecycle.request(open_host.config, SHELL, "pending", type="discussion", subject="x", owner="owner@example.org")
    with open_host.client() as client:
        assert client.hello().deliver(recipient, open_host.sealed(POST)).startswith(reply)


@pytest.mark.parametrize("reverse_path", ["", "foo..bar@example.org", '"odd one"@example.org', "no-domain", "é@example.org"])
def test_reverse_paths(shared: Host, reverse_path: str) -> None:
    """Whatever reverse-path Postfix took, we take: no 5xx of our own making. (From the null one no post comes, and nobody gets a bounce.)"""
    with shared.client() as client:
        reply = client.hello().deliver(LIST, shared.sealed(POST), reverse_path)
    assert reply.startswith("250" if reverse_path else "550 5.7.1 ")


# What is no proper mail.


HOSTILE = {
    "no header": b"Hello\r\n",
    "nothing": b"",
    "an empty line": b"\r\n",
    "NUL in a field": POST.replace(b"News", b"Ne\0ws"),
    "NUL in the body": post(body=b"a\0b\r\n"),
    "8-bit header": POST.replace(b"News", b"N\xe9ws"),
    "1,200 nested parts": b"From: alice@example.org\r\nSubject: x\r\nContent-Type: multipart/mixed; boundary=0\r\n\r\n"
    + b"".join(b"--%d\r\nContent-Type: multipart/mixed; boundary=%d\r\n\r\n" % (n, n + 1) for n in range(1200)),
    "a 1 MB line": post(body=b"x" * 1_000_001 + b"\r\n"),
    "a header of 70 kB": b"X: " + b"y" * 70_000 + b"\r\n" + POST,
    "no From": POST.replace(b"From", b"Form"),
    "two From": b"From: alice@example.org\r\n" + POST,
    "bare CR and LF": post(body=b"a\rb\nc\n\r\r\n"),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_mail(shared: Host, content: bytes) -> None:
    """It is held, or goes out; the connection lives on, and nothing is lost."""
    with shared.client() as client:
        assert client.hello().deliver(LIST, content).startswith("250 ")
        assert client.deliver(LIST, shared.sealed(post(99))) == "250 2.0.0 OK"
    with connection():
        held = [bytes(row.content) for row in HeldPost.select()]
    wanted = content if content.endswith(b"\r\n") or not content else content + b"\r\n"
    assert held == [wanted]


@pytest.mark.parametrize("smuggled", [b"\n.\n", b"\n.\r\n", b"\r.\r", b"\r\n.\n", b"\n\r.\r\n", b"\0\r\n.\r"])
def test_data_ends_at_crlf_dot_crlf_only(shared: Host, smuggled: bytes) -> None:
    """No other line end ends a message: one transaction, one message, these very bytes."""
    body = b"a" + smuggled + b"MAIL FROM:<evil@example.org>\r\n"
    with shared.client() as client:
        assert client.hello().deliver(LIST, post(body=body)).startswith("250 ")
        assert client.ask("NOOP") == "250 2.0.0 OK"
    with connection():
        assert [bytes(row.content) for row in HeldPost.select()] == [post(body=body)]


def test_a_line_of_a_megabyte_goes_out_whole(shared: Host) -> None:
    """There is no limit on lines here; what comes in comes in whole."""
    body = b"x" * 900_000 + b"\r\n"
    with shared.client() as client:
        assert client.hello().deliver(LIST, shared.sealed(post(body=body))) == "250 2.0.0 OK"
    (letter,) = shared.peer.letters
    assert len(letter.content) > 900_000


def test_a_large_post_is_taken_when_its_list_takes_it(open_host: Host) -> None:
    """Sizes are the list's affair: 2 MB pass, and there is no 552 of the server's own."""
    with open_host.client() as client:
        assert client.hello().deliver(LIST, open_host.sealed(post(body=b"0123456789abcdef" * 4 + b"\r\n") + b"y\r\n" * 700_000)) == "250 2.0.0 OK"


# The protocol.


def test_lhlo_offers_what_postfix_uses(shared: Host) -> None:
    """RFC 2033 section 4: PIPELINING and ENHANCEDSTATUSCODES, and what mail and Postfix need besides; no size limit of ours."""
    with shared.client() as client:
        assert client.greeting.startswith("220 ")
        lines = client.ask("LHLO client").split("\n")
    assert [line[4:] for line in lines[1:]] == [
        "PIPELINING",
        "ENHANCEDSTATUSCODES",
        "8BITMIME",
        "SMTPUTF8",
        "XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE",
    ]
    assert [line[3] for line in lines] == ["-"] * 5 + [" "]


def test_a_second_recipient_is_for_another_transaction(shared: Host) -> None:
    """One recipient, one reply: the second is told 452, and the first gets its mail."""
    sealed = shared.sealed(POST)
    with shared.client() as client:
        client.hello()
        client.ask("XFORWARD IDENT=4XyZ1234abc")
        client.ask(f"MAIL FROM:<{AUTHOR}>")
        assert client.ask(f"RCPT TO:<{LIST}>") == "250 2.1.5 OK"
        assert client.ask("RCPT TO:<amis-owner@lists.example.org>").startswith("452 4.5.3 ")
        assert client.ask("DATA").startswith("354 ")
        assert client.ask(sealed + b".") == "250 2.0.0 OK"
        assert client.ask("NOOP") == "250 2.0.0 OK"
    assert len(shared.peer.letters) == 1


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        ("HELO x", "500 5.5.2 "),
        ("EHLO x", "500 5.5.2 "),
        ("LHLO", "501 5.5.4 "),
        ("NONSENSE", "500 5.5.2 "),
        ("", "500 5.5.2 "),
        (b"\xff\xfe", "500 5.5.2 "),
        (b"\0", "500 5.5.2 "),
        ("X" * 9000, "500 5.5.2 "),
        ("DATA", "503 5.5.1 "),
        (f"RCPT TO:<{LIST}>", "503 5.5.1 "),
        ("MAIL FROM:alice@example.org", "553 5.1.3 "),
        ("MAIL FROM:<a@example.org> NONSENSE=1", "555 5.5.4 "),
        ("MAIL FROM:<a@example.org> BODY=8BITMIME SMTPUTF8 SIZE=99999999999", "250 2.0.0 "),
        ("XFORWARD", "501 5.5.4 "),
        ("XFORWARD NAME", "501 5.5.4 "),
        ("XFORWARD NAME=[UNAVAILABLE] ADDR=IPv6:::1 HELO=a+20b SOURCE=REMOTE", "250 2.0.0 "),
        ("RSET", "250 2.0.0 "),
        ("NOOP", "250 2.0.0 "),
        ("QUIT", "221 2.0.0 "),
    ],
)
def test_commands(shared: Host, line: bytes | str, reply: str) -> None:
    """Each command has its reply with an enhanced status code (RFC 2034), in and out of order."""
    with shared.client() as client:
        assert client.hello().ask(line).startswith(reply)


def test_everything_in_one_write(shared: Host) -> None:
    """PIPELINING over several transactions: every reply comes, in order."""
    transactions = 5
    envelope = b"XFORWARD IDENT=4XyZ1234abc\r\nMAIL FROM:<alice@example.org>\r\nRCPT TO:<%s>\r\nDATA\r\n" % LIST.encode()
    with shared.client() as client:
        client.hello()
        client.send(b"".join(envelope + shared.sealed(post(number)) + b".\r\n" for number in range(transactions)) + b"QUIT\r\n")
        replies = [client.reply()[:3] for _ in range(5 * transactions + 1)]
    assert replies == ["250", "250", "250", "354", "250"] * transactions + ["221"]
    assert len(shared.peer.letters) == transactions


def test_rset_forgets(shared: Host) -> None:
    """After RSET there is no recipient, and no queue id that would prove another message's author."""
    with shared.client() as client:
        client.hello()
        client.ask("XFORWARD IDENT=4XyZ1234abc")
        client.ask(f"MAIL FROM:<{AUTHOR}>")
        client.ask(f"RCPT TO:<{LIST}>")
        assert client.ask("RSET") == "250 2.0.0 OK"
        assert client.ask("DATA").startswith("503 5.5.1 ")
        client.ask(f"MAIL FROM:<{AUTHOR}>")
        client.ask(f"RCPT TO:<{LIST}>")
        client.ask("DATA")
        assert client.ask(shared.sealed(POST) + b".").startswith("250 2.6.0 ")


@pytest.mark.parametrize("last", [b"QUIT\r\n", b"", b"half a line"], ids=["QUIT", "nothing", "half a line"])
def test_a_client_that_goes_in_the_middle_of_data(shared: Host, last: bytes) -> None:
    """A message without its end is none, and the next client is served."""
    with shared.client() as client:
        client.hello()
        for line in (f"MAIL FROM:<{AUTHOR}>", f"RCPT TO:<{LIST}>", "DATA"):
            client.ask(line)
        client.send(POST + last)
    with shared.client() as client:
        assert client.hello().deliver(LIST, shared.sealed(post(2))) == "250 2.0.0 OK"
    with connection():
        assert (Post.select().count(), HeldPost.select().count()) == (1, 0)


def test_a_client_that_gives_up_waiting(open_host: Host) -> None:
    """Postfix goes away while we distribute, and comes again: 451 as long as the first attempt is at work, then 250; one copy each."""
    sealed = open_host.sealed(POST)
    inside, go_on = threading.Event(), threading.Event()
    open_host.peer.before["."] = lambda: (inside.set(), go_on.wait(20))
    first = open_host.client().hello()
    for line in ("XFORWARD IDENT=4XyZ1234abc", f"MAIL FROM:<{AUTHOR}>", f"RCPT TO:<{LIST}>", "DATA"):
        first.ask(line)
    first.send(sealed + b".\r\n")
    assert inside.wait(10)
    first.close()
    with open_host.client() as second:
        assert second.hello().deliver(LIST, sealed).startswith("451 4.3.0 ")
        go_on.set()
        deadline = time.monotonic() + 10
        while (reply := second.deliver(LIST, sealed)) != "250 2.0.0 OK":
            assert time.monotonic() < deadline, reply
    assert len(open_host.peer.letters) == 1


def test_many_at_once(shared: Host) -> None:
    """Thirty connections with a post each: all are distributed, once."""
    replies: list[str] = []

    def one(number: int) -> None:
        with shared.client() as client:
            replies.append(client.hello().deliver(LIST, shared.sealed(post(number))))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert replies == ["250 2.0.0 OK"] * 30
    assert len(shared.peer.letters) == 30


# People.


def test_mail_to_the_owners_is_passed_on(open_host: Host) -> None:
    """It comes as it was, with a mark against loops above; failures go to the list's own address."""
    with open_host.client() as client:
        assert client.hello().deliver("amis-owner@lists.example.org", POST, "stranger@example.com") == "250 2.0.0 OK"
    (letter,) = open_host.peer.letters
    assert letter.content == b"Delivered-To: amis-owner@lists.example.org\r\n" + POST
    assert (letter.mail, letter.recipients) == ("MAIL FROM:<amis-bounces@lists.example.org>", ["owner@example.org"])


@pytest.mark.parametrize(
    ("recipient", "reverse_path", "to", "sender"),
    [
        ("amis-request@lists.example.org", "x@example.com", ["owner@example.org"], "amis-bounces@lists.example.org"),
        ("amis-editor@lists.example.org", "x@example.com", ["owner@example.org"], "amis-bounces@lists.example.org"),
        ("amis-owner@lists.example.org", "", ["owner@example.org"], ""),
        ("postmaster@lists.example.org", "x@example.com", ["admin@example.org"], "mailer-daemon@lists.example.org"),
        ("Abuse@lists.example.org", "", ["admin@example.org"], ""),
    ],
)
def test_people_behind_an_address(open_host: Host, recipient: str, reverse_path: str, to: list[str], sender: str) -> None:
    """Each function reaches those who answer for it; the null reverse-path stays null, so that no bounce bounces."""
    people.add_listmaster(open_host.config, SHELL, "admin@example.org")
    with open_host.client() as client:
        assert client.hello().deliver(recipient, POST, reverse_path) == "250 2.0.0 OK"
    assert [(letter.mail, letter.recipients) for letter in open_host.peer.letters] == [(f"MAIL FROM:<{sender}>", to)]


def test_a_loop_to_the_owners_ends(shared: Host) -> None:
    """An owner's forwarding that comes back is let fall, once its first copy has reached the owners."""
    with shared.client() as client:
        client.hello().deliver("amis-owner@lists.example.org", POST)
        back = shared.peer.letters[0].content
        assert client.deliver("amis-owner@lists.example.org", b"Received: again\r\n" + back).startswith("250 ")
    assert len(shared.peer.letters) == 1


def test_nobody_reads_it_yet(open_host: Host) -> None:
    """With no listmaster, mail to the postmaster waits in Postfix's queue."""
    with open_host.client() as client:
        assert client.hello().deliver("postmaster@lists.example.org", POST).startswith("451 4.3.5 ")


@pytest.mark.parametrize("recipient", ["amis-bounces@lists.example.org", "amis-bounces+T0ken=x@lists.example.org", "mailer-daemon@lists.example.org"])
def test_reports_are_taken(shared: Host, recipient: str) -> None:
    """A bounce is taken, and goes nowhere."""
    with shared.client() as client:
        assert client.hello().deliver(recipient, POST, "").startswith("250 2.0.0 ")
    assert shared.peer.letters == []


@pytest.mark.parametrize("function", ["confirm", "confirm+x", "leave+x"])
def test_without_a_good_key_there_is_no_such_address(shared: Host, function: str) -> None:
    """An address with a key is known as long as its key is good. Whoever did not prove to be the sender gets no bounce of it."""
    with shared.client() as client:
        assert client.hello().deliver(f"amis-{function}@lists.example.org", shared.sealed(POST)).startswith("550 5.1.1 ")
        assert client.deliver(f"amis-{function}@lists.example.org", POST).startswith("250 2.0.0 ")


# Faults of our own.


@pytest.fixture
def locked(open_host: Host) -> Iterator[Callable[[], None]]:
    writer = sqlite3.connect(open_host.directory / "kelou.db", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    yield writer.rollback
    writer.close()


def test_the_database_is_locked(open_host: Host, locked: Callable[[], None]) -> None:
    """Another writer does not end: 451 without a word of it, and the post arrives later, once."""
    with open_host.client() as client:
        client.hello()
        assert client.deliver(LIST, open_host.sealed(POST)) == "451 4.3.0 The list server has a problem; the message stays queued and is tried again"
        locked()
        assert client.deliver(LIST, open_host.sealed(POST)) == "250 2.0.0 OK"
    assert len(open_host.peer.letters) == 1
    assert "database is locked" in open_host.log.read_text()


def test_the_database_is_gone(open_host: Host) -> None:
    """Its tables are not there: 451, the traceback is in the log, and not in the reply."""
    with sqlite3.connect(open_host.directory / "kelou.db") as database:
        database.execute("ALTER TABLE domain RENAME TO was_domain")
    with open_host.client() as client:
        client.hello()
        assert client.deliver(LIST, open_host.sealed(POST)).startswith("451 4.3.0 The list server has a problem")
        with sqlite3.connect(open_host.directory / "kelou.db") as database:
            database.execute("ALTER TABLE was_domain RENAME TO domain")
        assert client.deliver(LIST, open_host.sealed(POST)) == "250 2.0.0 OK"
    log = open_host.log.read_text()
    assert "Traceback" in log
    assert "no such table" in log


def test_the_disk_is_full(open_host: Host) -> None:
    """The database can not grow: 451, and the post is held once there is room."""
    with sqlite3.connect(open_host.directory / "kelou.db") as database:
        database.execute("CREATE TRIGGER full BEFORE INSERT ON held_post BEGIN SELECT RAISE(FAIL, 'database or disk is full'); END")
    with open_host.client() as client:
        client.hello()
        assert client.deliver(LIST, POST).startswith("451 4.3.0 ")
        with sqlite3.connect(open_host.directory / "kelou.db") as database:
            database.execute("DROP TRIGGER full")
        assert client.deliver(LIST, POST).startswith("250 2.6.0 ")


def test_postfix_is_down(open_host: Host) -> None:
    """The re-injection port is closed: 451 for posts and for owners' mail."""
    open_host.peer.close()
    with open_host.client() as client:
        client.hello()
        assert client.deliver(LIST, open_host.sealed(POST)).startswith("451 4.3.0 ")
        assert client.deliver("amis-owner@lists.example.org", POST).startswith("451 4.3.0 ")


# The process.


def test_killed_in_the_middle(host: Host) -> None:
    """kill -9 while a chunk is with Postfix: the next process goes on, and one chunk is in doubt."""
    host.set_up(**{"distribution.chunk": 2})
    everybody = [f"user{number}@example.net" for number in range(7)]
    host.list("amis", *everybody)
    process = host.start()
    sealed = host.sealed(POST)
    host.peer.say(".", "250 Ok", SILENT)
    client = host.client().hello()
    for line in ("XFORWARD IDENT=4XyZ1234abc", f"MAIL FROM:<{AUTHOR}>", f"RCPT TO:<{LIST}>", "DATA"):
        client.ask(line)
    client.send(sealed + b".\r\n")
    deadline = time.monotonic() + 10
    while len(host.peer.letters) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    client.close()
    host.peer.say(".", "250 Ok")
    host.start()
    with host.client() as again:
        assert again.hello().deliver(LIST, sealed) == "250 2.0.0 OK"
    doubtful = host.peer.letters[1].recipients
    assert sorted(host.peer.recipients) == sorted([AUTHOR, *everybody, *doubtful])
    with connection():
        assert [(row.state, row.doubtful, row.handed_over) for row in Post.select()] == [("sent", 2, 8)]


def test_sigterm_ends_what_is_under_way(open_host: Host) -> None:
    """Told to stop, the handler answers what it is doing, removes its sockets and ends with 0."""
    inside = threading.Event()
    open_host.peer.before["."] = lambda: (inside.set(), time.sleep(0.5))
    replies: list[str] = []
    client = open_host.client().hello()
    worker = threading.Thread(target=lambda: replies.append(client.deliver(LIST, open_host.sealed(POST))))
    worker.start()
    assert inside.wait(10)
    (process,) = open_host.processes
    process.send_signal(signal.SIGTERM)
    worker.join(10)
    assert process.wait(10) == 0
    assert replies == ["250 2.0.0 OK"]
    assert not list((open_host.directory / "sockets").glob("*.sock"))
    client.close()


def test_sockets_are_for_their_group(open_host: Host) -> None:
    """Postfix, by its group, may connect; others not."""
    for name in ("lmtp.sock", "map.sock"):
        assert (open_host.directory / "sockets" / name).stat().st_mode & 0o777 == 0o770


def run(host: Host) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kelou.lmtp.main", "-c", str(host.config.path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, env={"LC_ALL": "C"})


def test_a_second_handler_is_one_too_many(open_host: Host) -> None:
    """Two in one folder would undo each other: the second says so in a line, and ends with 75."""
    second = run(open_host)
    assert (second.returncode, second.stderr.count("\n")) == (75, 1)
    assert "another kelou-lmtp runs" in second.stderr
    with open_host.client() as client:
        client.hello()


@pytest.mark.parametrize(
    ("damage", "code", "says"),
    [
        pytest.param(lambda host: host.config.path.unlink(), 78, "kelou init", id="no configuration"),
        pytest.param(lambda host: (host.directory / "secret").unlink(), 78, "kelou init", id="no secret"),
        pytest.param(lambda host: (host.directory / "sockets").rmdir(), 78, "postfix.sockets", id="no folder for sockets"),
        pytest.param(lambda host: (host.directory / "kelou.db").unlink(), 75, "kelou init", id="no database"),
        pytest.param(lambda host: (host.directory / "kelou.db").write_bytes(b"x" * 4096), 75, "kelou doctor", id="no database but a file"),
    ],
)
def test_nothing_to_serve_with(host: Host, damage: Callable[[Host], None], code: int, says: str) -> None:
    """What is missing is named in a line, and the exit code says what kind of thing it is."""
    damage(host)
    done = run(host)
    assert done.returncode == code, done.stderr
    assert says in done.stderr.splitlines()[-1]
