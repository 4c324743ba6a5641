"""SMTP smuggling (CVE-2023-51764): one message comes in as one, and goes out as one, whatever stands in it for a line end."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import attack
import pytest
from attack import AUTHOR, Raw, Watch, copies, fate, header, make, post, settle, to
from conftest import Sandbox
from lmtp_fixture import Client

ENDS = [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\r\n.\r\r\n", b"\n\r.\r\n", b"\r\n\0.\r\n", b"\0\n.\n", b"\r\n.\0\r\n", b"\x0b.\x0b", b"\xc2\x85.\xc2\x85"]


@pytest.fixture(autouse=True)
def watch(sandbox: Sandbox) -> Iterator[Watch]:
    made = Watch(sandbox)
    yield made
    made.check()


@pytest.fixture(scope="module")
def name(sandbox: Sandbox) -> str:
    return make(sandbox)


def smuggled(end: bytes, victim: str, recipient: str) -> bytes:
    """What would be a second message, for a server that takes `end` for the end of the first."""
    line = end[-1:]  # a line feed in place of CRLF, which would end the message in truth
    return b"a" + end + line.join([
        b"MAIL FROM:<smuggler@example.net>", b"RCPT TO:<" + recipient.encode() + b">", b"RCPT TO:<" + victim.encode() + b">", b"DATA",
        b"From: admin@example.net", b"Subject: smuggled", b"", b"evil", b".", b"",
    ])  # fmt: skip


@pytest.mark.parametrize("port", ["untrusted_smtp", "smtp"])
@pytest.mark.parametrize("end", ENDS, ids=repr)
def test_one_message_comes_out_of_one(sandbox: Sandbox, name: str, watch: Watch, end: bytes, port: str) -> None:
    """Whatever line ends surround a dot, only CRLF.CRLF ends a message: nothing that is hidden in one is a message of its own."""
    subject, victim = f"whole-{uuid4().hex[:12]}", f"{uuid4().hex}@victim.example"
    with Raw(sandbox.info[port]) as client:
        assert client.envelope(AUTHOR, to(name))[-1].startswith("354")
        client.send(post(name, subject=subject, body=smuggled(end, victim, to(name))) + b"\r\n.\r\n")
        first = client.reply()
        client.send(b"NOOP\r\n")
        assert client.rest(0.5).count("\r\n") <= 1, "one reply to NOOP and no more"
    settle(sandbox)
    found = fate(sandbox, name)
    if first.startswith("250"):
        assert [*found.sent, *(subject for subject, _rule in found.held)].count(subject) == 1
    assert "smuggled" not in [*found.sent, *(subject for subject, _rule in found.held)]
    assert [copy for copy in sandbox.delivered() if copy.delivered_to == victim] == []


@pytest.mark.parametrize("end", ENDS, ids=repr)
def test_what_goes_out_ends_once(sandbox: Sandbox, name: str, watch: Watch, end: bytes) -> None:
    """A post that gets as far as re-injection with such an end in it reaches the subscriber in one piece, with the fields of one message."""
    subject = f"out-{uuid4().hex[:12]}"
    with Raw(sandbox.info["smtp"]) as client:
        client.envelope(AUTHOR, to(name))
        client.send(post(name, subject=subject, body=b"begin" + end + b"From: evil@example.net\r\nSubject: smuggled\r\n\r\nend\r\n") + b".\r\n")
        accepted = client.reply().startswith("250")
    mine = [copy.content for copy in copies(sandbox, name) if ("subject", subject) in header(copy.content)]
    if not accepted:
        assert b"\0" in end  # what has NUL in it is no mail, and is told so
        return
    (copy,) = mine
    assert b"begin" in copy
    assert copy.endswith(b"end\r\n")
    assert copy.count(b"\n") == copy.count(b"\r\n")
    assert b"\r" not in copy.replace(b"\r\n", b"")


def test_commands_behind_the_end_are_no_message_of_another(sandbox: Sandbox, name: str, watch: Watch) -> None:
    """Commands that were sent before they were asked for are refused, or are the same client's: nothing is sent in another's name."""
    victim = f"{uuid4().hex}@victim.example"
    with Raw(sandbox.info["untrusted_smtp"]) as client:
        client.send(
            f"MAIL FROM:<{AUTHOR}>\r\nRCPT TO:<{to(name)}>\r\nDATA\r\n".encode() + post(name) + b".\r\n"
            + f"MAIL FROM:<{AUTHOR}>\r\nRCPT TO:<{victim}>\r\nDATA\r\nSubject: smuggled\r\n\r\n.\r\nQUIT\r\n".encode()
        )  # fmt: skip
        client.rest(1)
    settle(sandbox)
    assert [copy for copy in sandbox.delivered() if copy.delivered_to == victim] == []


@pytest.mark.parametrize("end", [end for end in ENDS if b"\0" not in end], ids=repr)
def test_straight_to_the_handler(sandbox: Sandbox, name: str, watch: Watch, end: bytes) -> None:
    """Over its own socket, too, only CRLF.CRLF ends a message; what comes without the milter's word is held, whole."""
    subject = f"lmtp-{uuid4().hex[:12]}"
    victim = f"{uuid4().hex}@victim.example"
    with Client(Path(attack.etc(sandbox)).parent / "spool/kelou/lmtp.sock") as client:
        client.hello()
        client.send(f"MAIL FROM:<{AUTHOR}>\r\nRCPT TO:<{to(name)}>\r\nDATA\r\n".encode())
        assert [client.reply()[:3] for _reply in range(3)] == ["250", "250", "354"]
        client.send(post(name, subject=subject, body=smuggled(end, victim, to(name))) + b"\r\n.\r\n")
        assert client.reply().startswith("250 2.6.0")
        client.socket.settimeout(0.3)
        with pytest.raises(socket.timeout):
            client.reply()
    assert [subject_ for subject_, _rule in fate(sandbox, name).held].count(subject) == 1
    assert "smuggled" not in [subject_ for subject_, _rule in fate(sandbox, name).held]
