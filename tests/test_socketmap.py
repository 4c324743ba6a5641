"""The socketmap: exactly the addresses that take mail now, live, and nothing a client sends takes it down."""

from __future__ import annotations

import socket
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lmtp_fixture import Host

from kelou import lifecycle
from kelou.audit import Actor

SHELL = Actor("root")
DOMAIN = "lists.example.org"


class Client:
    """A connection as Postfix makes it."""

    def __init__(self, host: Host) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(30)
        self.socket.connect(str(host.directory / "sockets" / "map.sock"))
        self._file = self.socket.makefile("rb")

    def answer(self) -> str:
        """The next reply; empty if the server has hung up."""
        digits = b""
        while (octet := self._file.read(1)) not in (b":", b""):
            digits += octet
        if not octet:
            return ""
        data = self._file.read(int(digits) + 1)
        assert data.endswith(b",")
        return data[:-1].decode("ascii")

    def ask(self, request: bytes | str) -> str:
        data = request.encode() if isinstance(request, str) else request
        self.socket.sendall(b"%d:%b," % (len(data), data))
        return self.answer()


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    made = Host(tmp_path_factory.mktemp("host"))
    made.list("amis")
    lifecycle.request(made.config, SHELL, "pending", type="discussion", subject="x", owner="owner@example.org")
    closed = made.list("closed")
    lifecycle.close(made.config, SHELL, closed)
    old = made.list("old")
    lifecycle.rename(made.config, SHELL, old, "new")
    made.start()
    yield made
    made.stop()


@contextmanager
def connected(host: Host) -> Iterator[Client]:
    client = Client(host)
    yield client
    client._file.close()
    client.socket.close()


YES, NO = "OK x", "NOTFOUND "


@pytest.mark.parametrize(
    ("address", "takes", "reason"),
    [
        ("amis@lists.example.org", YES, NO),
        ("AMIS@Lists.Example.Org", YES, NO),
        ("amis-owner@lists.example.org", YES, NO),
        ("amis-request@lists.example.org", YES, NO),
        ("amis-bounces@lists.example.org", YES, NO),
        ("amis-bounces+bob=example.net@lists.example.org", YES, NO),
        ("closed-bounces@lists.example.org", YES, NO),
        ("postmaster@lists.example.org", YES, NO),
        ("new@lists.example.org", YES, NO),
        ("old@lists.example.org", YES, NO),
        ("pending@lists.example.org", NO, "OK 550 5.7.1 "),
        ("pending-owner@lists.example.org", NO, "OK 550 5.7.1 "),
        ("closed@lists.example.org", NO, "OK 550 5.7.1 "),
        ("closed-owner@lists.example.org", NO, "OK 550 5.7.1 "),
        ("nobody@lists.example.org", NO, "OK 550 5.1.1 "),
        ("amis-nonsense@lists.example.org", NO, "OK 550 5.1.1 "),
        ("amis+extension@lists.example.org", NO, "OK 550 5.1.1 "),
        ("amis-owner+extension@lists.example.org", NO, "OK 550 5.1.1 "),
        ("@lists.example.org", NO, "OK 550 5.1.1 "),
        ("é@lists.example.org", NO, "OK 550 5.1.1 "),
        ("a b@lists.example.org", NO, "OK 550 5.1.1 "),
        ("amis@elsewhere.example", NO, NO),
        ("amis", NO, NO),
        ("lists.example.org", NO, NO),
        ("@", NO, NO),
        ("", NO, NO),
    ],
)
def test_addresses(host: Host, address: str, takes: str, reason: str) -> None:
    """`recipient` knows what takes mail; `reason` says why the rest of a list domain does not, and nothing of other domains."""
    with connected(host) as client:
        assert client.ask(f"recipient {address}") == takes
        assert client.ask(f"reason {address}").startswith(reason)


def test_a_reason_is_a_line_of_ascii(host: Host) -> None:
    """Postfix passes the reason on as it is: no accents, one line, of a length for a reply."""
    with connected(host) as client:
        said = client.ask("reason " + "é\n\r\0€" * 300 + "@lists.example.org")
    assert said.startswith("OK 550 5.1.1 ")
    assert said.isprintable()
    assert len(said) <= 512


def test_a_list_activated_a_moment_ago_takes_mail(host: Host) -> None:
    """There is no map to rebuild: the next question has the new answer."""
    lifecycle.request(host.config, SHELL, "quick", type="discussion", subject="x", owner="owner@example.org")
    with connected(host) as client:
        assert client.ask("recipient quick@lists.example.org") == NO
        lifecycle.activate(host.config, SHELL, lifecycle.find_list(host.config, "quick"))
        assert client.ask("recipient quick@lists.example.org") == YES
        lifecycle.close(host.config, SHELL, lifecycle.find_list(host.config, "quick"))
        assert client.ask("recipient quick@lists.example.org") == NO


def test_a_map_there_is_not(host: Host) -> None:
    """That is an admin's mistake, and said so."""
    with connected(host) as client:
        assert client.ask("transport x@y").startswith("PERM ")
        assert client.ask("").startswith("PERM ")
        assert client.ask("recipient") == NO


def test_a_key_that_is_no_utf8(host: Host) -> None:
    """It names nothing, and the connection goes on."""
    with connected(host) as client:
        assert client.ask(b"recipient \xff\xfe@lists.example.org") == NO
        assert client.ask("recipient amis@lists.example.org") == YES


def test_requests_in_pieces_and_in_heaps(host: Host) -> None:
    """A request may come octet by octet, and many in one write."""
    request = b"32:recipient amis@lists.example.org,"
    with connected(host) as client:
        for octet in request:
            client.socket.sendall(bytes([octet]))
        assert client.answer() == YES
        client.socket.sendall(request * 50)
        assert [client.answer() for _ in range(50)] == [YES] * 50


@pytest.mark.parametrize(
    "garbage",
    [b"99999999999:x,", b"-1:x,", b"10001:", b"1e3:x,", b":x,", b"3:abcd,", b"x" * 200_000, b"\0" * 100, b"GET / HTTP/1.0\r\n\r\n", "²:x,".encode()],
)
def test_what_is_no_netstring(host: Host, garbage: bytes) -> None:
    """The client is hung up on, and the next one served."""
    with connected(host) as client:
        try:
            client.socket.sendall(garbage)
            client.socket.shutdown(socket.SHUT_WR)
            assert client.answer() == ""
        except (ConnectionError, BrokenPipeError):
            pass
    with connected(host) as client:
        assert client.ask("recipient amis@lists.example.org") == YES


@given(request=st.binary(max_size=300))
def test_any_request_has_an_answer(host: Host, request: bytes) -> None:
    """Whatever is asked, the answer is one of the five."""
    with connected(host) as client:
        assert client.ask(request).startswith(("OK ", "NOTFOUND ", "PERM "))
        assert client.ask(b"reason " + request).startswith(("OK 550 ", "NOTFOUND "))


def test_a_locked_database_can_be_read(host: Host) -> None:
    """Somebody writes for long: questions are answered all the same (WAL)."""
    writer = sqlite3.connect(host.directory / "kelou.db", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    with connected(host) as client:
        assert client.ask("recipient amis@lists.example.org") == YES
    writer.close()


def test_a_lost_database_is_a_fault_of_ours(host: Host) -> None:
    """TEMP makes Postfix say 451: nobody is told that a list does not exist."""
    with sqlite3.connect(host.directory / "kelou.db") as database:
        database.execute("ALTER TABLE domain RENAME TO was_domain")
    try:
        with connected(host) as client:
            assert client.ask("recipient amis@lists.example.org").startswith("TEMP ")
            assert client.ask("reason amis@lists.example.org").startswith("TEMP ")
    finally:
        with sqlite3.connect(host.directory / "kelou.db") as database:
            database.execute("ALTER TABLE was_domain RENAME TO domain")
    with connected(host) as client:
        assert client.ask("recipient amis@lists.example.org") == YES


def test_many_ask_at_once(host: Host) -> None:
    """As many connections as smtpd processes, each with its own answers."""
    answers: list[str] = []

    def one() -> None:
        with connected(host) as client:
            answers.extend(client.ask("recipient amis@lists.example.org") for _ in range(10))

    threads = [threading.Thread(target=one) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers == [YES] * 300
