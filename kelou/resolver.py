"""DNS: the answers that authentication stands on (RFC 1035, RFC 2308).

An answer is a tuple of records, and an empty one is an answer too: there is no such name, or nothing of that type under it. Whatever keeps us
from knowing raises `Trouble`: it means "try later", and must never be read as "there is no policy".
"""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import dns.exception
import dns.message
import dns.name
import dns.nameserver
import dns.rdata
import dns.rdatatype
import dns.resolver
import dns.ttl

from .config import Config

CACHED = 10_000  # answers
LONGEST = 86_400  # seconds that an answer is kept, whatever its TTL
LONGEST_NONE = 3_600  # the same for "none" (RFC 2308 section 5)

Records = tuple[Any, ...]


class Trouble(Exception):
    """The answer can not be known now: no answer in time, SERVFAIL, a loop, garbage."""


class Dns(Protocol):
    """Who answers questions: a `Resolver`, or an `Inquiry` of one."""

    def lookup(self, name: str, rdtype: str) -> Records:
        """The records of that name and type; empty if there is none. Raises Trouble."""


class Resolver:
    """The configured name servers, else the system's, with a small cache. Safe to share between threads."""

    def __init__(self, servers: Sequence[str] = (), timeout: float = 5, clock: Callable[[], float] = time.monotonic) -> None:
        self.timeout = timeout
        self._clock = clock
        self._cache: OrderedDict[tuple[str, str], tuple[float, Records]] = OrderedDict()
        self._lock = threading.Lock()
        self._resolver = dns.resolver.Resolver(configure=not servers)
        if servers:
            self._resolver.nameservers = [_server(endpoint) for endpoint in servers]
        self._resolver.use_edns(0, 0, 1232)

    def lookup(self, name: str, rdtype: str) -> Records:
        """The records of that name and type; empty if there is none. Raises Trouble."""
        key = (name.lower().rstrip("."), rdtype)
        with self._lock:
            cached = self._cache.get(key)
            if cached and cached[0] > self._clock():
                self._cache.move_to_end(key)
                return cached[1]
        ttl, records = self._ask(*key)
        if ttl > 0:
            with self._lock:
                self._cache[key] = (self._clock() + ttl, records)
                self._cache.move_to_end(key)
                while len(self._cache) > CACHED:
                    self._cache.popitem(last=False)
        return records

    def _ask(self, name: str, rdtype: str) -> tuple[int, Records]:
        try:
            question = dns.name.from_text(name)
        except (dns.exception.DNSException, UnicodeError):
            return 0, ()  # no name that could be in the DNS
        try:
            answer = self._resolver.resolve(question, rdtype, raise_on_no_answer=False, lifetime=self.timeout, search=False)
        except dns.resolver.NXDOMAIN as error:
            return min((_kept(response, LONGEST_NONE) for response in error.kwargs["responses"].values()), default=0), ()
        except (dns.exception.DNSException, OSError, ValueError) as error:
            raise Trouble(f"{rdtype} {name}: {type(error).__name__}") from error
        if answer.rrset is None:
            return _kept(answer.response, LONGEST_NONE), ()
        return _kept(answer.response, LONGEST), tuple(answer.rrset)


class Inquiry:
    """What one message may ask: so many questions in so many seconds, because a stranger decides what has to be asked."""

    def __init__(self, resolver: Dns, questions: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._resolver = resolver
        self._left = questions
        self._clock = clock
        self._until = clock() + seconds

    def lookup(self, name: str, rdtype: str) -> Records:
        """The records of that name and type; empty if there is none. Raises Trouble."""
        self._left -= 1
        if self._left < 0:
            raise Trouble("too many questions")
        if self._clock() > self._until:
            raise Trouble("the questions took too long")
        return self._resolver.lookup(name, rdtype)


def from_config(config: Config) -> Resolver:
    """The resolver that the configuration asks for."""
    return Resolver(config["dns.resolvers"], config["dns.timeout"])


def texts(asked: Dns, name: str) -> list[bytes]:
    """The TXT records of a name, each in one piece (RFC 7208 section 3.3, RFC 6376 section 3.6.2.2). Raises Trouble."""
    return [b"".join(record.strings) for record in asked.lookup(name, "TXT")]


def _server(endpoint: str) -> dns.nameserver.Do53Nameserver:
    host, _colon, port = endpoint.rpartition(":")
    return dns.nameserver.Do53Nameserver(str(ipaddress.ip_address(host.strip("[]"))), int(port))


def _kept(response: dns.message.Message, longest: int) -> int:
    """How long an answer may be kept: the least TTL in it. A "none" without an SOA record is not kept (RFC 2308 section 5)."""
    try:
        ttl = response.resolve_chaining().minimum_ttl if isinstance(response, dns.message.QueryMessage) else 0
    except dns.exception.DNSException:
        return 0
    return 0 if ttl >= dns.ttl.MAX_TTL else min(ttl, longest)
