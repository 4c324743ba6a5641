"""A DNS server on loopback for tests: a zone in a dict, and the faults that the real one has."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Mapping

import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdatatype
import dns.rrset

SERVFAIL, TIMEOUT, GARBAGE, REFUSED = "SERVFAIL", "TIMEOUT", "GARBAGE", "REFUSED"


def txt(text: bytes) -> str:
    """A TXT record's data in presentation format, any bytes, cut in strings of 255."""
    parts = [text[i : i + 255] for i in range(0, len(text), 255)] or [b""]
    return " ".join('"' + "".join(f"\\{byte:03d}" for byte in part) + '"' for part in parts)


def _pair() -> tuple[socket.socket, socket.socket]:
    """A UDP and a TCP socket on one port; somebody else may be faster on the second."""
    while True:
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind(("127.0.0.1", 0))
        try:
            return udp, socket.create_server(udp.getsockname())
        except OSError:
            udp.close()


class Server:
    """Answers over UDP and TCP from `zone`: {(name, type): [data, …] or a fault}; a fault of a name is under (name, "*").

    `zone` may change at any time. `asked` has every question, in order.
    """

    def __init__(self, zone: Mapping[tuple[str, str], list[str] | str] | None = None, ttl: int = 60) -> None:
        self.zone: dict[tuple[str, str], list[str] | str] = dict(zone or {})
        self.ttl = ttl
        self.asked: list[tuple[str, str]] = []
        self._udp, self._tcp = _pair()
        self.port: int = self._udp.getsockname()[1]
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._serve_udp, self._serve_tcp)]
        for thread in self._threads:
            thread.start()

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    def text(self, name: str, *texts: bytes | str) -> None:
        """Publish TXT records."""
        self.zone[name, "TXT"] = [txt(text.encode() if isinstance(text, str) else text) for text in texts]

    def close(self) -> None:
        for sock, thread in zip((self._udp, self._tcp), self._threads, strict=True):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits in it, which close() does not
            thread.join(5)
            sock.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _serve_udp(self) -> None:
        while True:
            try:
                wire, client = self._udp.recvfrom(65535)
            except OSError:
                return
            if not wire:
                return
            reply = self._reply(wire, 1232)
            if reply is not None:
                self._udp.sendto(reply, client)

    def _serve_tcp(self) -> None:
        while True:
            try:
                client, _ = self._tcp.accept()
            except OSError:
                return
            with client:
                size = int.from_bytes(client.recv(2), "big")
                reply = self._reply(client.recv(size), 65535)
                if reply is not None:
                    client.sendall(len(reply).to_bytes(2, "big") + reply)

    def _reply(self, wire: bytes, limit: int) -> bytes | None:
        query = dns.message.from_wire(wire)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        rdtype = dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, rdtype))
        fault = self.zone.get((name, rdtype), self.zone.get((name, "*"), []))
        if fault == TIMEOUT:
            return None
        if fault == GARBAGE:
            return wire[:2] + b"\xff" * 9
        reply = dns.message.make_response(query, recursion_available=True)
        if fault in (SERVFAIL, REFUSED):
            reply.set_rcode(dns.rcode.from_text(str(fault)))
            return reply.to_wire()
        self._answer(reply, name, rdtype)
        if not reply.answer:
            reply.authority.append(dns.rrset.from_text(".", self.ttl, "IN", "SOA", f". . 1 1 1 1 {self.ttl}"))
            if not any(known == name or known.endswith("." + name) for known, _ in self.zone):
                reply.set_rcode(dns.rcode.NXDOMAIN)
        try:
            return reply.to_wire(max_size=limit)
        except dns.exception.TooBig:
            reply.answer.clear()
            reply.flags |= dns.flags.TC
            return reply.to_wire(max_size=limit)

    def _answer(self, reply: dns.message.Message, name: str, rdtype: str) -> None:
        seen: set[str] = set()
        while name not in seen:
            seen.add(name)
            data = self.zone.get((name, rdtype))
            if isinstance(data, list) and data:
                reply.answer.append(dns.rrset.from_text(name + ".", self.ttl, "IN", rdtype, *data))
                return
            alias = self.zone.get((name, "CNAME"))
            if not isinstance(alias, list):
                return
            reply.answer.append(dns.rrset.from_text(name + ".", self.ttl, "IN", "CNAME", *alias))
            name = alias[0].rstrip(".").lower()
