"""kelou/spfcheck.py: the mechanisms of RFC 7208, its limits, and what strangers publish."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from dnsserver import SERVFAIL, TIMEOUT, Server
from hypothesis import given, settings
from hypothesis import strategies as st

from kelou import spfcheck
from kelou.resolver import Resolver

ZONE: dict[tuple[str, str], list[str] | str] = {
    ("example.org", "A"): ["192.0.2.10"],
    ("example.org", "AAAA"): ["2001:db8::10"],
    ("example.org", "MX"): ["10 mx1.example.org.", "20 mx2.example.org."],
    ("mx1.example.org", "A"): ["192.0.2.21"],
    ("mx2.example.org", "A"): ["192.0.2.22"],
    ("mx2.example.org", "AAAA"): ["2001:db8::22"],
    ("host.example.org", "A"): ["192.0.2.30"],
    ("30.2.0.192.in-addr.arpa", "PTR"): ["host.example.org."],
    ("192.0.2.40.jane._spf.example.org", "A"): ["127.0.0.2"],
    ("40.2.0.192.in-addr._spf.example.org", "A"): ["127.0.0.2"],
    ("servfail.test", "*"): SERVFAIL,
    ("timeout.test", "*"): TIMEOUT,
}
RECORDS = {
    "pass.test": "v=spf1 ip4:192.0.2.1 -all",
    "fail.test": "v=spf1 -all",
    "soft.test": "v=spf1 ~all",
    "neutral.test": "v=spf1 ?all",
    "empty.test": "v=spf1",
    "wrong.test": "v=spf1 ipv4:192.0.2.1 -all",
    "loop-a.test": "v=spf1 include:loop-b.test -all",
    "loop-b.test": "v=spf1 include:loop-a.test -all",
    "turn.test": "v=spf1 redirect=turn.test",
    "turn-a.test": "v=spf1 redirect=turn-b.test",
    "turn-b.test": "v=spf1 redirect=turn-a.test",
    "deep.test": "v=spf1 " + "".join(f"a:a{i}.test " for i in range(11)) + "ip4:192.0.2.1 -all",
    "ten.test": "v=spf1 " + "a:example.org " * 10 + "ip4:192.0.2.1 -all",
    "void.test": "v=spf1 a:v1.test a:v2.test a:v3.test ip4:192.0.2.1 -all",
    "many-mx.test": "v=spf1 mx -all",
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(ZONE) as running:
        for name, text in RECORDS.items():
            running.text(name, text)
        for i in range(11):
            running.zone[f"a{i}.test", "A"] = ["192.0.2.99"]
        running.zone["many-mx.test", "MX"] = [f"{i} mx{i}.test." for i in range(12)]
        yield running


def check(server: Server, ip: str, sender: str, helo: str = "mail.example.org") -> str:
    return spfcheck.check(ip, sender, helo, Resolver([server.endpoint], 0.4))


@pytest.mark.parametrize(
    ("record", "ip", "result"),
    [
        ("v=spf1 ip4:192.0.2.1 -all", "192.0.2.1", "pass"),
        ("v=spf1 ip4:192.0.2.0/28 -all", "192.0.2.15", "pass"),
        ("v=spf1 ip4:192.0.2.0/28 -all", "192.0.2.16", "fail"),
        ("v=spf1 ip6:2001:db8::/32 -all", "2001:db8:1::1", "pass"),
        ("v=spf1 ip6:2001:db8::/32 -all", "IPv6:2001:db8:1::1", "pass"),
        ("v=spf1 ip6:2001:db8::/32 -all", "192.0.2.1", "fail"),
        ("v=spf1 ip4:192.0.2.1 -all", "::ffff:192.0.2.1", "pass"),
        ("v=spf1 a -all", "192.0.2.10", "pass"),
        ("v=spf1 a -all", "2001:db8::10", "pass"),
        ("v=spf1 a:host.example.org/30 -all", "192.0.2.29", "pass"),
        ("v=spf1 a -all", "192.0.2.11", "fail"),
        ("v=spf1 mx -all", "192.0.2.22", "pass"),
        ("v=spf1 mx -all", "2001:db8::22", "pass"),
        ("v=spf1 mx//64 -all", "2001:db8::99", "pass"),
        ("v=spf1 ptr:example.org -all", "192.0.2.30", "pass"),
        ("v=spf1 include:pass.test -all", "192.0.2.1", "pass"),
        ("v=spf1 include:fail.test ~all", "192.0.2.1", "softfail"),
        ("v=spf1 include:none.test -all", "192.0.2.1", "permerror"),
        ("v=spf1 redirect=pass.test", "192.0.2.1", "pass"),
        ("v=spf1 redirect=none.test", "192.0.2.1", "permerror"),
        ("v=spf1 exists:%{i}.%{l}._spf.%{d} -all", "192.0.2.40", "pass"),
        ("v=spf1 exists:%{ir}.%{v}._spf.%{d2} -all", "192.0.2.40", "pass"),
        ("v=spf1 exists:%{i}.%{l}._spf.%{d} -all", "192.0.2.41", "fail"),
        ("v=spf1 exists:%{x}.example.org -all", "192.0.2.41", "permerror"),
        ("v=spf1 ?ip4:192.0.2.1 -all", "192.0.2.1", "neutral"),
        ("v=spf1 moo -all", "192.0.2.1", "permerror"),
        ("v=spf1 ip4:192.0.2.1 exp=explain.example.org -all", "192.0.2.9", "fail"),
        ("V=SPF1 IP4:192.0.2.1 -ALL", "192.0.2.1", "pass"),
        ("v=spf10 ip4:192.0.2.1", "192.0.2.1", "none"),
        ("v=spf1 ip4:192.0.2.1/" + "9" * 500, "192.0.2.1", "permerror"),
        ("v=spf1 a:" + "a" * 600 + ".example.org -all", "192.0.2.1", "permerror"),
        ("v=spf1 " + "ip4:192.0.2.9 " * 400 + "ip4:192.0.2.1", "192.0.2.1", "permerror"),
        ("v=spf1 \xe9:x -all", "192.0.2.1", "permerror"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_mechanisms(server: Server, record: str, ip: str, result: str) -> None:
    """A client is what the sender's domain says of it (RFC 7208 sections 4 to 7)."""
    server.text("example.org", record)
    server.ttl = 0
    assert check(server, ip, "jane@example.org") == result


@pytest.mark.parametrize(
    ("sender", "result"),
    [
        ("a@pass.test", "pass"),
        ("A@PASS.TEST", "pass"),
        ("a@fail.test", "fail"),
        ("a@soft.test", "softfail"),
        ("a@neutral.test", "neutral"),
        ("a@empty.test", "neutral"),
        ("a@none.test", "none"),
        ("a@wrong.test", "permerror"),
        ("a@loop-a.test", "permerror"),
        ("a@turn.test", "permerror"),
        ("a@turn-a.test", "permerror"),
        ("a@deep.test", "permerror"),
        ("a@ten.test", "pass"),
        ("a@void.test", "permerror"),
        ("a@many-mx.test", "permerror"),
        ("a@servfail.test", "temperror"),
        ("a@timeout.test", "temperror"),
        ("", "none"),
        ("pass.test", "none"),
        ("a@@pass.test", "none"),
        ("a@" + "b" * 300, "none"),
        ("@pass.test", "none"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_domains(server: Server, sender: str, result: str) -> None:
    """Loops, too many lookups or voids are permanent errors; a DNS that does not answer is a temporary one; no sender is none."""
    assert check(server, "192.0.2.1", sender) == result


@pytest.mark.parametrize("ip", ["", "unix:/x", "999.1.1.1", "list", "list6", "localhost", "192.0.2.1 "])
def test_no_address_is_none(server: Server, ip: str) -> None:
    """A client without an IP address is nobody's; pyspf's own words for an address mean nothing."""
    assert check(server, ip, "a@pass.test") == "none"


def test_two_records_are_an_error(server: Server) -> None:
    """Several SPF records are a permanent error (section 4.5); other texts beside one are not."""
    server.text("two.test", "v=spf1 +all", "v=spf1 -all")
    server.text("beside.test", "v=spf1 ip4:192.0.2.1 -all", "verification=" + "x" * 5000, b"\xff\xfe")
    assert check(server, "192.0.2.1", "a@two.test") == "permerror"
    assert check(server, "192.0.2.1", "a@beside.test") == "pass"


@pytest.mark.parametrize("helo", ["\xff\xfe", "", "a b", "x" * 5000, "%{i}", "[192.0.2.1]"])
def test_any_helo(server: Server, helo: str) -> None:
    """What a client calls itself changes nothing here."""
    assert check(server, "192.0.2.1", "a@pass.test", helo) == "pass"


@pytest.mark.parametrize(
    "record",
    [
        "v=spf1 " + ("exists:%{i}" + ".a" * 240 + ".x ") * 8,
        "v=spf1 a:" + "." + "a" * 400 + "!" + " -all",
        "v=spf1 " + "include:slow.test " * 200,
        "v=spf1 " + "%{s}" * 120 + ".x -all",
    ],
    ids=["many dots", "a long label", "itself, often", "macros"],
)
def test_time_is_bounded(server: Server, record: str) -> None:
    """Nothing that fits into a record takes long."""
    server.text("slow.test", record)
    server.ttl = 0
    start = time.process_time()
    assert check(server, "192.0.2.1", "a@slow.test") in ("permerror", "fail", "neutral")
    assert time.process_time() - start < 2


def test_threads_do_not_mix(server: Server) -> None:
    """Each thread asks the resolver it was given."""
    with Server() as other, ThreadPoolExecutor(8) as pool:
        other.text("pass.test", "v=spf1 -all")
        one, two = Resolver([server.endpoint], 3), Resolver([other.endpoint], 3)
        found = list(pool.map(lambda i: spfcheck.check("192.0.2.1", "a@pass.test", "x", two if i % 2 else one), range(100)))
    assert found == ["fail" if i % 2 else "pass" for i in range(100)]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60), st.text("amxp:/%{}ildvrh=.-+~?all1 ", max_size=80))
def test_garbage_never_raises(noise: bytes, record: str) -> None:
    """Whatever a domain publishes, SPF has a result."""

    class Record:
        strings = (b"v=spf1 " + record.encode() + noise,)
        address = "192.0.2.2"
        preference = 1

    class Anywhere:
        def lookup(self, name: str, rdtype: str) -> tuple[Record, ...]:
            return (Record(),) if rdtype in ("TXT", "A") else ()

    assert spfcheck.check("192.0.2.1", "a@example.org", "h", Anywhere()) in {
        "pass", "fail", "softfail", "neutral", "none", "permerror", "temperror",
    }
