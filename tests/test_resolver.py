"""kelou/resolver.py against a real DNS server on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from dnsserver import GARBAGE, REFUSED, SERVFAIL, TIMEOUT, Server

from kelou import resolver
from kelou.config import Config
from kelou.resolver import Inquiry, Resolver, Trouble, texts


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


def asking(server: Server, timeout: float = 0.5, clock: Clock | None = None) -> Resolver:
    return Resolver([server.endpoint], timeout, clock or Clock())


def test_a_text_comes_in_one_piece(server: Server) -> None:
    """The strings of a TXT record are joined, whatever bytes are in them; a long one comes over TCP."""
    long = bytes(range(256)) * 20
    server.text("long.example.org", long)
    server.text("odd.example.org", b"\xff\xfe", b"two")
    assert texts(asking(server), "long.example.org") == [long]
    assert sorted(texts(asking(server), "odd.example.org")) == [b"two", b"\xff\xfe"]


@pytest.mark.parametrize("name", ["no.example.org", "example.org", "..", "a..b", "x" * 64 + ".org", "a." * 130 + "org", "", "\udcff.org"])
def test_none_is_an_answer(server: Server, name: str) -> None:
    """No such name, nothing of that type, and what can be no name: all are an empty answer, and no trouble."""
    server.zone["a.example.org", "A"] = ["192.0.2.1"]
    assert asking(server).lookup(name, "TXT") == ()


@pytest.mark.parametrize("fault", [SERVFAIL, REFUSED, TIMEOUT, GARBAGE])
def test_trouble_is_no_answer(server: Server, fault: str) -> None:
    """What keeps us from knowing raises Trouble, is never "none", and is asked again the next time."""
    server.zone["example.org", "TXT"] = fault
    asked = asking(server, 0.3)
    with pytest.raises(Trouble):
        asked.lookup("example.org", "TXT")
    server.text("example.org", "well again")
    assert texts(asked, "example.org") == [b"well again"]


def test_a_loop_of_aliases_is_trouble(server: Server) -> None:
    """a is b and b is a: nobody knows."""
    server.zone |= {("a.example.org", "CNAME"): ["b.example.org."], ("b.example.org", "CNAME"): ["a.example.org."]}
    with pytest.raises(Trouble):
        asking(server).lookup("a.example.org", "TXT")


def test_nobody_there_is_trouble() -> None:
    """A server that is not there is trouble too."""
    with Server() as gone:
        endpoint = gone.endpoint
    with pytest.raises(Trouble):
        Resolver([endpoint], 0.3).lookup("example.org", "TXT")


def test_aliases_are_followed(server: Server) -> None:
    """An alias leads to the records of its target."""
    server.zone |= {("a.example.org", "CNAME"): ["b.example.org."], ("b.example.org", "A"): ["192.0.2.7"]}
    assert [record.address for record in asking(server).lookup("A.example.org.", "A")] == ["192.0.2.7"]


def test_an_answer_is_kept_for_its_ttl(server: Server) -> None:
    """Within its TTL an answer, even "none", is not asked for again; after it, it is."""
    clock = Clock()
    asked = asking(server, clock=clock)
    server.text("example.org", "one")
    for _ in range(3):
        assert texts(asked, "example.org") == [b"one"]
        assert asked.lookup("none.example.org", "A") == ()
    assert server.asked == [("example.org", "TXT"), ("none.example.org", "A")]
    clock.now += server.ttl + 1
    server.text("example.org", "two")
    assert texts(asked, "EXAMPLE.org") == [b"two"]


def test_a_ttl_of_nought_is_not_kept(server: Server) -> None:
    """TTL 0 means: ask again."""
    server.ttl = 0
    asked = asking(server)
    server.text("example.org", "one")
    assert texts(asked, "example.org") == [b"one"]
    server.text("example.org", "two")
    assert texts(asked, "example.org") == [b"two"]


def test_the_cache_is_bounded(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stranger who makes us ask for ever new names fills no memory: the oldest go."""
    monkeypatch.setattr(resolver, "CACHED", 5)
    asked = asking(server)
    for i in range(20):
        asked.lookup(f"n{i}.example.org", "A")
    assert len(asked._cache) == 5
    asked.lookup("n19.example.org", "A")
    assert len(server.asked) == 20


def test_threads_share_a_resolver(server: Server) -> None:
    """Many threads ask one resolver and each gets its own answer."""
    for i in range(20):
        server.text(f"n{i}.example.org", f"text {i}")
    asked = asking(server, 5)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: texts(asked, f"n{i % 20}.example.org"), range(200)))
    assert found == [[f"text {i % 20}".encode()] for i in range(200)]


def test_an_inquiry_ends(server: Server) -> None:
    """One message may ask so many questions, in so many seconds; beyond, it is told to come again."""
    clock = Clock()
    server.text("example.org", "one")
    inquiry = Inquiry(asking(server), 3, 60, clock)
    for _ in range(3):
        assert texts(inquiry, "example.org") == [b"one"]
    with pytest.raises(Trouble):
        inquiry.lookup("example.org", "TXT")
    slow = Inquiry(asking(server), 3, 60, clock)
    clock.now += 61
    with pytest.raises(Trouble):
        slow.lookup("example.org", "TXT")


def test_the_configuration_names_the_servers(server: Server) -> None:
    """dns.resolvers and dns.timeout are what is used."""
    server.text("example.org", "here")
    asked = resolver.from_config(Config(Path("x"), {"dns.resolvers": (server.endpoint,), "dns.timeout": 2}))
    assert asked.timeout == 2
    assert texts(asked, "example.org") == [b"here"]
