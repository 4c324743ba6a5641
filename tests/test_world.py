"""The world around a sandbox: what it is sent it keeps octet by octet, and its DNS answers as a name server does."""

from __future__ import annotations

import os
import signal
import smtplib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.resolver
import pytest
from conftest import Delivered, read_delivered, submit

KEY = "v=DKIM1; k=rsa; p=" + "A" * 700
ZONE = f"""\
$TTL 60
. SOA world.invalid. nobody.world.invalid. 1 3600 600 86400 5
example.org. MX 10 mail.example.org.
example.org. TXT "v=spf1 mx -all"
mail.example.org. A 192.0.2.1
mail.example.org. AAAA 2001:db8::1
key._domainkey.example.org. TXT "{KEY}"
alias.example.org. CNAME mail.example.org.
far.example.org. CNAME alias.example.org.
nowhere.example.org. CNAME missing.example.org.
round.example.org. CNAME round.example.org.
*.wild.example.org. TXT "any"
here.wild.example.org. A 192.0.2.9
a.b.c.example.org. A 192.0.2.3
broken.example.org. TXT "kelou-servfail"
slow.example.org. TXT "kelou-timeout"
1.2.0.192.in-addr.arpa. PTR mail.example.org.
$ORIGIN example.net.
@ TXT "relative"
www A 192.0.2.4
"""


@dataclass
class World:
    smtp: str
    port: int  # of the DNS
    zone: Path
    maildir: Path
    log: Path

    def ask(self, name: str, kind: str, *, tcp: bool = False, **options: object) -> dns.message.Message:
        query = dns.message.make_query(name, kind, **options)
        return (dns.query.tcp if tcp else dns.query.udp)(query, "127.0.0.1", timeout=2, port=self.port)

    def delivered(self) -> list[Delivered]:
        return [read_delivered(path) for path in sorted((self.maildir / "new").iterdir())]


def free_ports(number: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _number in range(number)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("world")
    smtp, port = free_ports(2)
    made = World(f"127.0.0.1:{smtp}", port, directory / "zone", directory / "delivered", directory / "log")
    made.zone.write_text(ZONE)
    command = [sys.executable, "-m", "kelou.admin.world", "--smtp", made.smtp, "--dns", f"127.0.0.1:{port}"]
    with made.log.open("w") as log:
        process = subprocess.Popen([*command, "--zone", str(made.zone), "--maildir", str(made.maildir)], stderr=log)
    wait_for(lambda: "ready" in made.log.read_text())
    yield made
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0


def wait_for(condition: Callable[[], bool], timeout: float = 10) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def maildir(world: World) -> World:
    for path in (world.maildir / "new").iterdir():
        path.unlink()
    return world


# The capture server.


@pytest.mark.parametrize(
    "content",
    [
        b"Subject: x\r\n\r\nbody\r\n",
        b"Subject: x\r\n\r\n.\r\n..\r\n.dots at the start of lines\r\n",
        b"no header field at all\r\n",
        b"\r\n",
        b"Subject: 8-bit \xe9\xff\r\n\r\n\x00NUL, \xc3\xa9t\xc3\xa9, bare \r and bare \n here\r\n",
        b"Subject: long\r\n\r\n" + b"x" * 1_000_000 + b"\r\n",
        b"Return-Path: <forged@example.org>\r\nDelivered-To: forged\r\n\r\n",
    ],
    ids=["plain", "dots", "no header", "empty", "8 bit, NUL, bare CR and LF", "a line of a million octets", "forged top"],
)
def test_bytes(maildir: World, content: bytes) -> None:
    """What is kept is exactly what was sent, below the two lines that tell the envelope."""
    assert submit(maildir.smtp, "author@example.org", "reader@example.net", content).accepted
    assert maildir.delivered() == [Delivered("author@example.org", "reader@example.net", content)]


def test_recipients(maildir: World) -> None:
    """Each recipient's copy is a file of its own."""
    readers = [f"reader{number}@example.net" for number in range(700)]
    assert submit(maildir.smtp, "author@example.org", readers, b"Subject: x\r\n\r\n").accepted
    assert sorted(copy.delivered_to for copy in maildir.delivered()) == sorted(readers)
    assert not list((maildir.maildir / "tmp").iterdir())


@pytest.mark.parametrize(
    ("reverse_path", "recipient"),
    [
        ("", "reader@example.net"),
        ("list-bounces+reader=example.net@lists.example.org", "reader@example.net"),
        ("été@example.org", "zoé@exämple.net"),
        ("author@example.org", '"two words>"@example.net'),
        ("author@example.org", "dots..and.@docomo.example"),
        ("x" * 64 + "@" + "y" * 180 + ".example", "reader@example.net"),
    ],
    ids=["null reverse-path", "verp", "UTF-8", "quoted", "dots where RFC 5321 has none", "long"],
)
def test_addresses(maildir: World, reverse_path: str, recipient: str) -> None:
    """Addresses are kept as they are written."""
    assert submit(maildir.smtp, reverse_path, recipient, b"Subject: x\r\n\r\n").accepted
    assert [(copy.return_path, copy.delivered_to) for copy in maildir.delivered()] == [(reverse_path, recipient)]


def test_extensions(world: World) -> None:
    """It announces what a mail host of today does."""
    host, _colon, port = world.smtp.rpartition(":")
    with smtplib.SMTP(host, int(port)) as client:
        client.ehlo()
        assert {"8bitmime", "smtputf8", "size", "pipelining"} <= set(client.esmtp_features)


def test_many_connections(maildir: World) -> None:
    """A hundred connections at once are served."""
    host, _colon, port = maildir.smtp.rpartition(":")
    clients = [smtplib.SMTP(host, int(port)) for _number in range(100)]
    for client in clients:
        client.sendmail("author@example.org", ["reader@example.net"], b"Subject: x\r\n\r\n")
    for client in clients:
        client.quit()
    assert len(maildir.delivered()) == 100


def test_disk_full(maildir: World) -> None:
    """What can not be written is not taken: the client is to try again."""
    folder = maildir.maildir / "tmp"
    folder.rename(maildir.maildir / "gone")
    try:
        assert submit(maildir.smtp, "author@example.org", "reader@example.net", b"Subject: x\r\n\r\n").data.startswith("451")
    finally:
        (maildir.maildir / "gone").rename(folder)


# The DNS server.


@pytest.mark.parametrize("tcp", [False, True], ids=["UDP", "TCP"])
@pytest.mark.parametrize(
    ("name", "kind", "rcode", "records"),
    [
        ("example.org", "MX", "NOERROR", ["10 mail.example.org."]),
        ("EXAMPLE.org", "TXT", "NOERROR", ['"v=spf1 mx -all"']),
        ("mail.example.org", "AAAA", "NOERROR", ["2001:db8::1"]),
        ("1.2.0.192.in-addr.arpa", "PTR", "NOERROR", ["mail.example.org."]),
        ("www.example.net", "A", "NOERROR", ["192.0.2.4"]),
        ("example.net", "TXT", "NOERROR", ['"relative"']),
        ("far.example.org", "A", "NOERROR", ["alias.example.org.", "mail.example.org.", "192.0.2.1"]),
        ("far.example.org", "CNAME", "NOERROR", ["alias.example.org."]),
        ("far.example.org", "MX", "NOERROR", ["alias.example.org.", "mail.example.org."]),
        ("nowhere.example.org", "A", "NXDOMAIN", ["missing.example.org."]),
        ("example.org", "A", "NOERROR", []),
        ("b.c.example.org", "A", "NOERROR", []),
        ("missing.example.org", "A", "NXDOMAIN", []),
        ("anything.example", "A", "NXDOMAIN", []),
        ("x.wild.example.org", "TXT", "NOERROR", ['"any"']),
        ("y.x.wild.example.org", "TXT", "NOERROR", ['"any"']),
        ("x.wild.example.org", "A", "NOERROR", []),
        ("here.wild.example.org", "TXT", "NOERROR", []),
        ("x.here.wild.example.org", "TXT", "NXDOMAIN", []),
        ("broken.example.org", "MX", "SERVFAIL", []),
    ],
)
def test_answers(world: World, tcp: bool, name: str, kind: str, rcode: str, records: list[str]) -> None:
    """Names with records, with others, with none, below a wildcard, and behind aliases are told apart."""
    response = world.ask(name, kind, tcp=tcp)
    assert dns.rcode.to_text(response.rcode()) == rcode
    assert [record.to_text() for rrset in response.answer for record in rrset] == records
    assert response.flags & dns.flags.RA


def test_negative(world: World) -> None:
    """A negative answer carries the SOA that says how long it holds (RFC 2308)."""
    assert [rrset.rdtype for rrset in world.ask("missing.example.org", "A").authority] == [dns.rdatatype.SOA]


def test_loop(world: World) -> None:
    """Aliases that go round end."""
    assert len(world.ask("round.example.org", "A").answer) < 20


def test_long_text(world: World) -> None:
    """A text of more than 255 octets goes out in strings that make it up together."""
    (record,) = world.ask("key._domainkey.example.org", "TXT", use_edns=0, payload=4096).answer[0]
    assert [len(part) for part in record.strings] == [255, 255, len(KEY) - 510]
    assert b"".join(record.strings).decode() == KEY


def test_truncation(world: World) -> None:
    """What does not fit is cut and says so, and TCP has all of it."""
    cut = world.ask("key._domainkey.example.org", "TXT")
    assert cut.flags & dns.flags.TC
    assert not cut.answer
    assert world.ask("key._domainkey.example.org", "TXT", tcp=True).answer


def test_resolver(world: World) -> None:
    """dnspython's resolver gets on with it, EDNS or not, TCP when needed."""
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers, resolver.port, resolver.lifetime = ["127.0.0.1"], world.port, 1
    assert b"".join(resolver.resolve("key._domainkey.example.org", "TXT")[0].strings).decode() == KEY
    assert resolver.resolve("far.example.org", "A").canonical_name == dns.name.from_text("mail.example.org")
    with pytest.raises(dns.resolver.NXDOMAIN):
        resolver.resolve("missing.example.org", "A")
    with pytest.raises(dns.resolver.NoAnswer):
        resolver.resolve("example.org", "A")
    with pytest.raises(dns.resolver.NoNameservers):
        resolver.resolve("broken.example.org", "A")
    with pytest.raises(dns.resolver.LifetimeTimeout):
        resolver.resolve("slow.example.org", "A")


@pytest.mark.parametrize(
    "packet", [b"", b"x", os.urandom(600), b"\0" * 12, b"\0\1\x80\0" + b"\0" * 8], ids=["empty", "short", "random", "zeros", "response"]
)
def test_hostile(world: World, packet: bytes) -> None:
    """What is no query does no harm."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(packet, ("127.0.0.1", world.port))
    assert world.ask("example.org", "MX").answer


def test_reread(world: World) -> None:
    """A changed file counts at the next question; a broken one is logged, and the one before serves on."""
    try:
        world.zone.write_text(ZONE + "new.example.org. A 192.0.2.77\n")
        assert world.ask("new.example.org", "A").answer
        world.zone.write_text(ZONE + "new.example.org. A not-an-address\n")
        assert world.ask("new.example.org", "A").answer
        assert "zone-kept" in world.log.read_text()
        world.zone.unlink()
        assert world.ask("new.example.org", "A").answer
    finally:
        world.zone.write_text(ZONE)
    assert not world.ask("new.example.org", "A").answer
