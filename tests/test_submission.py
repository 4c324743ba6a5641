"""Submission: what goes to Postfix, byte for byte, and what becomes of each of its answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from smtppeer import DEFAULT, HANG_UP, Peer

from kelou import submission
from kelou.submission import Connection, Pool, Unavailable, wire

MESSAGE = b"From: a@example.org\r\n\r\nHello\r\n"
TWO = ["x@example.org", "y@example.net"]


@pytest.fixture
def peer() -> Iterator[Callable[..., Peer]]:
    peers: list[Peer] = []

    def make(**replies: str | list[str]) -> Peer:
        peers.append(Peer({"." if key == "dot" else key: value for key, value in replies.items()}))
        return peers[-1]

    yield make
    for one in peers:
        one.close()


@pytest.mark.parametrize(
    ("content", "on_the_wire"),
    [
        pytest.param(b"A: b\r\n\r\nc\r\n", b"A: b\r\n\r\nc\r\n.\r\n", id="an ordinary message is not touched"),
        pytest.param(b"A: b\r\n\r\nc", b"A: b\r\n\r\nc\r\n.\r\n", id="the last line is ended"),
        pytest.param(b"", b"\r\n.\r\n", id="nothing at all"),
        pytest.param(b".\r\n", b"..\r\n.\r\n", id="a lone dot first"),
        pytest.param(b"a\r\n.\r\n..b\r\n", b"a\r\n..\r\n...b\r\n.\r\n", id="dots that begin lines are doubled"),
        pytest.param(b"a\n.\nMAIL FROM:<x>\n", b"a\r\n..\r\nMAIL FROM:<x>\r\n.\r\n", id="smuggling with bare LF"),
        pytest.param(b"a\r\n.\rb\r.\r\n", b"a\r\n.. b .\r\n.\r\n", id="smuggling with bare CR"),
        pytest.param(b"a\n\r.\r\n", b"a\r\n .\r\n.\r\n", id="LF CR"),
        pytest.param(b"a\r\r\n", b"a \r\n.\r\n", id="CR CR LF"),
        pytest.param(b"\0\xff\r\n", b"\0\xff\r\n.\r\n", id="NUL and 8-bit bytes pass"),
    ],
)  # fmt: skip
def test_the_message_on_the_wire(content: bytes, on_the_wire: bytes) -> None:
    """Line ends are CRLF, dots are doubled, and the end is there once."""
    assert wire(content) == on_the_wire


@given(st.binary() | st.text("\r\n.a").map(str.encode))
def test_whatever_is_sent_ends_once(content: bytes) -> None:
    """No content holds the end of data but at its end, in any line ending a lenient server might take; and a server gets one message."""
    sent = wire(content)
    assert (b"\r\n" + sent).count(b"\r\n.\r\n") == 1
    assert sent.count(b"\r") == sent.count(b"\n") == sent.count(b"\r\n")
    lines = sent.removesuffix(b".\r\n").split(b"\r\n")
    back = b"\r\n".join(line.removeprefix(b".") for line in lines)
    assert back.replace(b"\r\n", b"").replace(b" ", b"") == content.replace(b"\r", b"").replace(b"\n", b"").replace(b" ", b"")


def test_one_message_to_two(peer: Callable[..., Peer]) -> None:
    """Both recipients are taken, and the server got what was given."""
    server = peer()
    with Connection(server.endpoint) as connection:
        outcome = connection.submit("ca-bounces@lists.example.org", TWO, MESSAGE)
    assert outcome.taken
    assert (outcome.refused, outcome.deferred) == ({}, {})
    assert [(letter.mail, letter.recipients, letter.content) for letter in server.letters] == [
        ("MAIL FROM:<ca-bounces@lists.example.org>", TWO, MESSAGE)
    ]


def test_a_connection_serves_message_after_message(peer: Callable[..., Peer]) -> None:
    """EHLO is said once."""
    server = peer()
    with Connection(server.endpoint) as connection:
        for _ in range(3):
            assert connection.submit("", TWO, MESSAGE).taken
    assert [command for command in server.commands if command.startswith("EHLO")] == [server.commands[0]]
    assert len(server.letters) == 3


@pytest.mark.parametrize("pipelining", [True, False], ids=["pipelining", "one by one"])
def test_a_great_many_recipients(peer: Callable[..., Peer], pipelining: bool) -> None:
    """More recipients than one write holds, in the order given; a server without PIPELINING gets one command at a time."""
    server = peer() if pipelining else peer(EHLO="250 peer")
    many = [f"user{number}@example.org" for number in range(submission.TURN * 2 + 3)]
    with Connection(server.endpoint) as connection:
        assert connection.submit("", many, MESSAGE).taken
    assert server.recipients == many


def test_each_recipient_has_its_own_reply(peer: Callable[..., Peer]) -> None:
    """One refused and one deferred recipient do not keep the third from its copy."""
    server = peer(**{"RCPT TO:<r@example.org>": "550 5.1.1 No such user", "RCPT TO:<d@example.org>": "450 4.2.0 Later"})
    with Connection(server.endpoint) as connection:
        outcome = connection.submit("", ["r@example.org", "ok@example.org", "d@example.org"], MESSAGE)
    assert outcome.taken
    assert {place: str(reply) for place, reply in outcome.refused.items()} == {0: "550 5.1.1 No such user"}
    assert {place: str(reply) for place, reply in outcome.deferred.items()} == {2: "450 4.2.0 Later"}
    assert server.recipients == ["ok@example.org"]


@pytest.mark.parametrize("go", ["354 Go on", "554 5.5.1 No valid recipients"], ids=["DATA accepted all the same", "DATA refused"])
def test_nobody_is_left(peer: Callable[..., Peer], go: str) -> None:
    """Where every recipient is refused no content is sent, and the connection serves the next message."""
    server = peer(RCPT="550 5.1.1 No", DATA=[go, DEFAULT_GO])
    with Connection(server.endpoint) as connection:
        outcome = connection.submit("", TWO, MESSAGE)
        assert not outcome.taken
        assert sorted(outcome.refused) == [0, 1]
        server.say("RCPT", "250 Ok")
        assert connection.submit("", TWO, MESSAGE).taken
    assert [letter.content for letter in server.letters] == [MESSAGE]


DEFAULT_GO = "354 Go on"


@pytest.mark.parametrize(
    ("replies", "final"),
    [
        pytest.param({"MAIL": ["451 4.3.0 Disk full", "250 Ok"], "RCPT": ["503 5.5.1 MAIL first", "503 5.5.1 MAIL first", "250 Ok"],
                      "DATA": ["503 5.5.1 MAIL first", DEFAULT_GO]}, 451, id="MAIL deferred"),
        pytest.param({"MAIL": ["451 4.3.0 Disk full", "250 Ok"]}, 451, id="MAIL deferred, and 354 all the same"),
        pytest.param({"DATA": ["451 4.3.0 Queue file", DEFAULT_GO]}, 451, id="DATA deferred"),
        pytest.param({"dot": ["552 5.3.4 Too large", "250 Ok"]}, 552, id="content refused"),
        pytest.param({"dot": ["451 4.7.1 Milter", "250 Ok"]}, 451, id="content deferred"),
    ],
)  # fmt: skip
def test_the_message_is_not_taken(peer: Callable[..., Peer], replies: dict[str, list[str]], final: int) -> None:
    """A reply to the whole message is no reply to a recipient, and the next message goes through."""
    server = peer(**replies)
    with Connection(server.endpoint) as connection:
        outcome = connection.submit("", TWO, MESSAGE)
        assert (outcome.taken, outcome.final.code, outcome.refused, outcome.deferred) == (False, final, {}, {})
        assert connection.submit("", TWO, MESSAGE).taken
    assert len(server.letters) == 1


@pytest.mark.parametrize(
    ("replies", "doubtful"),
    [
        pytest.param({"MAIL": HANG_UP}, False, id="hangs up at MAIL"),
        pytest.param({"RCPT": "421 4.3.2 Shutting down"}, False, id="goes away at RCPT"),
        pytest.param({"DATA": HANG_UP}, False, id="hangs up at DATA"),
        pytest.param({"dot": "421 4.3.2 Shutting down"}, False, id="goes away instead of taking it"),
        pytest.param({"dot": HANG_UP}, True, id="hangs up after the final dot"),
        pytest.param({"dot": "what?"}, True, id="talks nonsense after the final dot"),
    ],
)  # fmt: skip
def test_postfix_leaves(peer: Callable[..., Peer], replies: dict[str, str], doubtful: bool) -> None:
    """Trouble is Unavailable; it is doubtful only where Postfix may have taken the message."""
    server = peer(**replies)
    with Connection(server.endpoint) as connection, pytest.raises(Unavailable) as caught:
        connection.submit("", TWO, MESSAGE)
    assert caught.value.doubtful is doubtful


@pytest.mark.parametrize("replies", [{"greeting": "554 No"}, {"EHLO": "502 What?"}, {"greeting": HANG_UP}], ids=["turned away", "no EHLO", "no greeting"])
def test_no_service(peer: Callable[..., Peer], replies: dict[str, str]) -> None:
    """A server that does not want us is Unavailable."""
    with pytest.raises(Unavailable):
        Connection(peer(**replies).endpoint)


def test_nobody_listens(peer: Callable[..., Peer]) -> None:
    """Postfix down is Unavailable, and not doubtful."""
    server = peer()
    server.close()
    with pytest.raises(Unavailable) as caught:
        Connection(server.endpoint)
    assert not caught.value.doubtful


@pytest.mark.parametrize(
    ("content", "recipient", "options"),
    [
        pytest.param(MESSAGE, "x@example.org", "", id="ASCII"),
        pytest.param(MESSAGE + "é".encode(), "x@example.org", " BODY=8BITMIME", id="8-bit body"),
        pytest.param("Subject: é\r\n\r\n".encode(), "x@example.org", " BODY=8BITMIME", id="8-bit subject needs no SMTPUTF8"),
        pytest.param("From: é <é@example.org>\r\n\r\n".encode(), "x@example.org", " BODY=8BITMIME SMTPUTF8", id="internationalised author"),
        pytest.param(MESSAGE + "é@é".encode(), "x@example.org", " BODY=8BITMIME", id="such an address in the body is no matter"),
        pytest.param(MESSAGE, "é@example.org", " SMTPUTF8", id="internationalised recipient"),
    ],
)  # fmt: skip
def test_what_is_asked_for(peer: Callable[..., Peer], content: bytes, recipient: str, options: str) -> None:
    """8BITMIME and SMTPUTF8 are asked for where they are needed, because SMTPUTF8 keeps a message from many servers."""
    server = peer()
    with Connection(server.endpoint) as connection:
        assert connection.submit("", [recipient], content).taken
    assert [letter.mail for letter in server.letters] == [f"MAIL FROM:<>{options}"]
    assert server.recipients == [recipient]


def test_a_server_without_smtputf8(peer: Callable[..., Peer]) -> None:
    """The recipient that can not be written to is refused, the other gets the message."""
    server = peer(EHLO="250 peer")
    with Connection(server.endpoint) as connection:
        outcome = connection.submit("", ["é@example.org", "x@example.org"], MESSAGE + b"\xff")
    assert {place: reply.status for place, reply in outcome.refused.items()} == {0: "5.6.7"}
    assert server.recipients == ["x@example.org"]
    assert server.letters[0].mail == "MAIL FROM:<>"


def test_the_pool_keeps_connections(peer: Callable[..., Peer]) -> None:
    """One after the other use one connection, two at a time use two."""
    server = peer()
    pool = Pool(server.endpoint)
    for _ in range(3):
        with pool.connection() as connection:
            assert connection.submit("", TWO, MESSAGE).taken
    assert server.connections == 1
    with pool.connection(), pool.connection():
        pass
    assert server.connections == 2
    pool.close()


@pytest.mark.parametrize("command", ["MAIL", "DATA", "."])
def test_the_pool_drops_what_put_a_message_off(peer: Callable[..., Peer], command: str) -> None:
    """An smtpd that has lost its milter stays so for as long as the connection lasts: the next message gets another one."""
    server = peer(**{command: ["451 4.7.1 Service unavailable - try again later", DEFAULT[command]]})
    pool = Pool(server.endpoint)
    for code in (451, 250):
        with pool.connection() as connection:
            assert connection.submit("a@example.org", ["b@example.org"], b"Subject: x\r\n\r\n").final.code == code
    assert server.connections == 2


def test_the_pool_drops_what_is_dead(peer: Callable[..., Peer]) -> None:
    """A connection that the server closed meanwhile, or that went wrong, is not used again."""
    server = peer(dot=[HANG_UP, "250 Ok"])
    pool = Pool(server.endpoint)
    with pytest.raises(Unavailable), pool.connection() as connection:
        connection.submit("", TWO, MESSAGE)
    with pool.connection() as connection:
        assert connection.submit("", TWO, MESSAGE).taken
    for one in server._open:
        one.close() if one.fileno() < 0 else one.shutdown(2)
    with pool.connection() as connection:
        assert connection.submit("", TWO, MESSAGE).taken
    assert server.connections == 3
    pool.close()
