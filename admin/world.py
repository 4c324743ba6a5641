"""The world around a sandbox, in one process: an SMTP server that takes every mail, and a DNS server that answers from a master file.

    python -m kelou.admin.world --smtp 127.0.0.1:PORT --dns 127.0.0.1:PORT --zone FILE --maildir DIR

**The capture server** (RFC 5321) writes one file for each recipient into the Maildir, in `new/`: the lines `Return-Path: <…>` and
`Delivered-To: …`, then exactly the octets received (with the dots of transparency taken off). Lines end in CRLF, all of them, as on the wire:
a DKIM signature verifies on what stands below the first two lines.

**The DNS server** (RFC 1034, 1035; UDP and TCP on one port) serves a master file with names of any domain, reread when it changes; one that
can not be read is logged, and the one before goes on serving. CNAME, wildcards (RFC 4592) and EDNS (RFC 6891) as they should be; in a quoted
string of the file, more than 255 octets are split into several strings, as a TXT record needs them. To see what happens when the DNS fails:
a TXT record "kelou-servfail" at a name makes every question for that name SERVFAIL, "kelou-timeout" leaves it without an answer.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdataset
import dns.rdatatype
import dns.rrset
import dns.zone
from aiosmtpd.smtp import SMTP, Envelope, Session

from kelou import maillog

SERVFAIL = b"kelou-servfail"
TIMEOUT = b"kelou-timeout"

_LARGEST = 1 << 30  # octets of a message
_CHAIN = 16  # CNAMEs that are followed
_LONG_STRING = re.compile(r'"([^"\\\n]{256,})"')
_PATH = re.compile(r'<((?:"(?:[^"\\]|\\.)*"|[^"<>])*)>(.*)', re.DOTALL)


class Maildir:
    """A Maildir that mails are only ever put into. A file appears in `new` when it is complete."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._numbers = itertools.count(1)
        for folder in ("tmp", "new", "cur"):
            (path / folder).mkdir(parents=True, exist_ok=True)

    def add(self, reverse_path: str, recipient: str, content: bytes) -> None:
        """One recipient's copy."""
        name = f"{time.time_ns()}.P{os.getpid()}Q{next(self._numbers)}.world"
        top = f"Return-Path: <{reverse_path}>\r\nDelivered-To: {recipient}\r\n".encode("utf-8", "surrogateescape")
        (self.path / "tmp" / name).write_bytes(top + content)
        (self.path / "tmp" / name).rename(self.path / "new" / name)


class _Smtp(SMTP):
    """aiosmtpd, with lines of any length, and with paths taken as they are written: the world has stranger addresses than RFC 5321."""

    line_length_limit = 1 << 26

    def _getaddr(self, arg: str) -> tuple[str | None, str | None]:
        match = _PATH.match(arg.strip())
        return (match[1] or "<>", match[2]) if match else (None, None)


class _Capture:
    """aiosmtpd's handler."""

    def __init__(self, maildir: Maildir) -> None:
        self._maildir = maildir

    async def handle_EHLO(self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]) -> list[str]:
        session.host_name = hostname
        return [*responses[:-1], "250-PIPELINING", responses[-1]]

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        content = envelope.original_content or b""
        reverse_path = (envelope.mail_from or "").removeprefix("<>")
        try:
            for recipient in envelope.rcpt_tos:
                self._maildir.add(reverse_path, recipient, content)
        except OSError:
            maillog.fault("capture-failed", maildir=self._maildir.path)
            return "451 4.3.1 The capture server can not write"
        maillog.event("captured", return_path=f"<{reverse_path}>", recipients=len(envelope.rcpt_tos), size=len(content))
        return "250 2.0.0 OK"


class Zone:
    """A master file, reread when it changes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp: tuple[int, ...] = ()
        self._nodes: dict[dns.name.Name, list[dns.rdataset.Rdataset]] = {}
        self._names: frozenset[dns.name.Name] = frozenset()

    def refresh(self) -> None:
        """Read the file again if it is not the one that was read."""
        try:
            status = self.path.stat()
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
            if stamp == self._stamp:
                return
            self._stamp = stamp
            self._read(self.path.read_text("utf-8"))
            maillog.event("zone-read", file=self.path, names=len(self._nodes))
        except (OSError, UnicodeDecodeError, dns.exception.DNSException, ValueError) as error:
            maillog.problem("zone-kept", file=self.path, reason=f"{type(error).__name__}: {error}")

    def _read(self, text: str) -> None:
        split = _LONG_STRING.sub(lambda found: " ".join(f'"{part}"' for part in re.findall(".{1,255}", found[1])), text)
        zone = dns.zone.from_text(split, origin=dns.name.root, relativize=False, check_origin=False)
        self._nodes = {name: list(node.rdatasets) for name, node in zone.nodes.items()}
        # A name below which there are names exists too, without records of its own (RFC 8020).
        self._names = frozenset(parent for name in self._nodes for parent in _up(name))

    def records(self, name: dns.name.Name) -> list[dns.rdataset.Rdataset] | None:
        """The records at a name, by way of a wildcard too (RFC 4592 section 3.3.1); None if the name does not exist."""
        if name in self._names:
            return self._nodes.get(name, [])
        closest = next((parent for parent in _up(name) if parent in self._names), dns.name.root)
        return self._nodes.get(dns.name.Name((b"*", *closest.labels)))

    def answer(self, query: dns.message.Message) -> dns.message.Message | None:
        """The response to a query; None where there is to be none."""
        self.refresh()
        response = dns.message.make_response(query, recursion_available=True, our_payload=4096)
        if query.opcode() != dns.opcode.QUERY or len(query.question) != 1:
            response.set_rcode(dns.rcode.NOTIMP)
            return response
        question = query.question[0]
        if question.rdclass not in (dns.rdataclass.IN, dns.rdataclass.ANY):
            response.set_rcode(dns.rcode.REFUSED)
            return response
        response.flags |= dns.flags.AA
        name, kind = question.name, question.rdtype
        for _step in range(_CHAIN):
            records = self.records(name)
            words = {b"".join(r.strings) for rdataset in _of(dns.rdatatype.TXT, records) for r in rdataset}
            if TIMEOUT in words:
                return None
            if SERVFAIL in words:
                response.set_rcode(dns.rcode.SERVFAIL)
                return response
            if records is None:
                response.set_rcode(dns.rcode.NXDOMAIN)
            found = _of(kind, records)
            alias = None if found else next(iter(_of(dns.rdatatype.CNAME, records)), None)
            if alias is None:
                response.answer += [dns.rrset.from_rdata_list(name, rdataset.ttl, list(rdataset)) for rdataset in found]
                break
            response.answer.append(dns.rrset.from_rdata_list(name, alias.ttl, list(alias)))
            name = alias[0].target
        if not response.answer or response.answer[-1].rdtype == dns.rdatatype.CNAME:
            self._deny(name, response)
        return response

    def _deny(self, name: dns.name.Name, response: dns.message.Message) -> None:
        """The SOA that tells how long a negative answer holds (RFC 2308 section 3), if the file has one."""
        for parent in _up(name):
            for soa in _of(dns.rdatatype.SOA, self._nodes.get(parent)):
                response.authority.append(dns.rrset.from_rdata_list(parent, soa.ttl, list(soa)))
                return

    def respond(self, packet: bytes, limit: int | None = None) -> bytes | None:
        """The octets to send back for a query; `limit` is what UDP carries for a client that does not say (RFC 6891 section 6.2.5)."""
        try:
            query = dns.message.from_wire(packet)
        except dns.exception.DNSException:
            return None
        if query.flags & dns.flags.QR:
            return None
        response = self.answer(query)
        if response is None:
            return None
        size = 65535 if limit is None else max(limit, query.payload if query.edns >= 0 else 0)
        try:
            return response.to_wire(max_size=size)
        except dns.exception.TooBig:
            response.answer, response.authority = [], []
            response.flags |= dns.flags.TC
            return response.to_wire()


def _up(name: dns.name.Name) -> Iterator[dns.name.Name]:
    """The name and all above it."""
    for start in range(len(name.labels)):
        yield dns.name.Name(name.labels[start:])


def _of(kind: dns.rdatatype.RdataType, records: list[dns.rdataset.Rdataset] | None) -> list[dns.rdataset.Rdataset]:
    """Those of a type."""
    return [rdataset for rdataset in records or () if kind in (rdataset.rdtype, dns.rdatatype.ANY)]


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, zone: Zone) -> None:
        self._zone = zone
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        response = self._zone.respond(data, 512)
        if response and self._transport:
            self._transport.sendto(response, addr)


async def _tcp(zone: Zone, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            query = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
            response = zone.respond(query)
            if response:
                writer.write(len(response).to_bytes(2, "big") + response)
                await writer.drain()
    writer.close()


async def run(smtp: tuple[str, int], dns_at: tuple[str, int], zone_file: Path, maildir: Path) -> None:
    """Serve until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    zone = Zone(zone_file)
    zone.refresh()
    capture = _Capture(Maildir(maildir))

    def serve() -> SMTP:
        return _Smtp(capture, data_size_limit=_LARGEST, enable_SMTPUTF8=True, hostname="world.invalid", ident="ESMTP world", loop=loop)

    await loop.create_server(serve, *smtp, backlog=512)
    await asyncio.start_server(lambda reader, writer: _tcp(zone, reader, writer), *dns_at)
    await loop.create_datagram_endpoint(lambda: _Udp(zone), local_addr=dns_at, family=socket.AF_INET)
    maillog.event("ready", smtp=smtp[1], dns=dns_at[1], zone=zone_file, maildir=maildir)
    await stop.wait()
    maillog.event("stopped")


def _endpoint(text: str) -> tuple[str, int]:
    host, _colon, port = text.rpartition(":")
    return host, int(port)


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(prog="python -m kelou.admin.world", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--smtp", type=_endpoint, required=True, metavar="HOST:PORT")
    parser.add_argument("--dns", type=_endpoint, required=True, metavar="HOST:PORT")
    parser.add_argument("--zone", type=Path, required=True, metavar="FILE")
    parser.add_argument("--maildir", type=Path, required=True, metavar="DIR")
    options = parser.parse_args()
    maillog.start("world")
    asyncio.run(run(options.smtp, options.dns, options.zone.absolute(), options.maildir.absolute()))


if __name__ == "__main__":
    main()
