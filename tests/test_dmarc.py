"""kelou/dmarc.py: the tree walk, with the examples of RFC 9989, against a real DNS server on loopback."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from dnsserver import GARBAGE, SERVFAIL, TIMEOUT, Server
from hypothesis import given
from hypothesis import strategies as st

from kelou import dmarc
from kelou.dmarc import Policy
from kelou.resolver import Resolver, Trouble

PLAIN = "v=DMARC1; p=reject"
NONE = "v=DMARC1; p=none"


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


def asking(server: Server, zone: dict[str, str | list[str]]) -> Resolver:
    for name, texts in zone.items():
        server.text(f"_dmarc.{name}", *([texts] if isinstance(texts, str) else texts))
    return Resolver([server.endpoint], 0.5)


@pytest.mark.parametrize(
    ("domain", "names"),
    [
        pytest.param(
            "a.b.c.d.e.f.g.h.i.j.mail.example.com",
            ["a.b.c.d.e.f.g.h.i.j.mail.example.com", "g.h.i.j.mail.example.com", "h.i.j.mail.example.com", "i.j.mail.example.com",
             "j.mail.example.com", "mail.example.com", "example.com", "com"],
            id="section 4.10: thirteen labels, eight questions",
        ),
        pytest.param(
            "mail.a.b.c.d.e.f.g.example.com",
            ["mail.a.b.c.d.e.f.g.example.com", "c.d.e.f.g.example.com", "d.e.f.g.example.com", "e.f.g.example.com", "f.g.example.com",
             "g.example.com", "example.com", "com"],
            id="section 5.1.7: the zone cut is skipped",
        ),
        pytest.param(
            "a.b.c.d.e.f.example.com",
            ["a.b.c.d.e.f.example.com", "b.c.d.e.f.example.com", "c.d.e.f.example.com", "d.e.f.example.com", "e.f.example.com",
             "f.example.com", "example.com", "com"],
            id="eight labels: none is skipped",
        ),
        pytest.param("a.mail.example.com", ["a.mail.example.com", "mail.example.com", "example.com", "com"], id="four labels"),
        pytest.param("localhost", ["localhost"], id="one label"),
    ],
)
def test_which_names_are_asked(server: Server, domain: str, names: list[str]) -> None:
    """The walk goes from the domain to the top in at most eight questions, for an organisation as for a policy."""
    asked = asking(server, {})
    assert dmarc.organisation(domain, asked) == domain
    assert server.asked == [(f"_dmarc.{name}", "TXT") for name in names]
    assert dmarc.policy(domain, asked) == Policy(domain)
    assert len(server.asked) == len(names)


@pytest.mark.parametrize(
    ("zone", "domain", "expected"),
    [
        pytest.param({"mail.example.com": PLAIN, "example.com": PLAIN}, "a.mail.example.com", "example.com", id="the shortest name (4.10.2)"),
        pytest.param({"mail.example.com": PLAIN + "; psd=n", "example.com": PLAIN}, "a.mail.example.com", "mail.example.com", id="psd=n (4.10.2)"),
        pytest.param({"com": NONE + "; psd=y"}, "a.mail.example.com", "example.com", id="below psd=y (4.10.2)"),
        pytest.param({"example.com": PLAIN + "; psd=y"}, "mail.example.com", "mail.example.com", id="below psd=y, not at the top (4.10.2)"),
        pytest.param({"example.com": PLAIN + "; psd=y"}, "example.com", "example.com", id="psd=y where the walk starts"),
        pytest.param({"bank.example": PLAIN + "; psd=y", "example": NONE}, "mail.mega.bank.example", "mega.bank.example", id="psd=y ends the walk (B.4.3)"),
        pytest.param({}, "mail.example.com", "mail.example.com", id="nothing published"),
        pytest.param({"com": NONE}, "mail.example.com", "example.com", id="a top-level domain is nobody's organisation"),
        pytest.param({"com": NONE, "example.com": NONE}, "mail.example.com", "example.com", id="nor over a record of its own"),
        pytest.param({"example.com": [PLAIN, NONE]}, "mail.example.com", "mail.example.com", id="several records are none"),
        pytest.param({"example.com": ["v=spf1 -all", PLAIN]}, "mail.example.com", "example.com", id="other records do not count"),
        pytest.param({"example.com": PLAIN + "; psd=u"}, "mail.example.com", "example.com", id="psd=u is the default"),
    ],
)
def test_organisations(server: Server, zone: dict[str, str | list[str]], domain: str, expected: str) -> None:
    """The organisational domain (section 4.10.2)."""
    assert dmarc.organisation(domain, asking(server, zone)) == expected


def test_psd_ends_the_walk(server: Server) -> None:
    """Above a public suffix nothing is asked."""
    dmarc.organisation("mail.giant.bank.example", asking(server, {"bank.example": PLAIN + "; psd=y"}))
    assert [name for name, _type in server.asked] == ["_dmarc.mail.giant.bank.example", "_dmarc.giant.bank.example", "_dmarc.bank.example"]


@pytest.mark.parametrize(
    ("zone", "domain", "expected"),
    [
        pytest.param({"example.com": PLAIN}, "example.com", ("example.com", "reject"), id="its own record"),
        pytest.param({"example.com": PLAIN}, "mail.example.com", ("example.com", "reject"), id="p serves subdomains"),
        pytest.param({"example.com": PLAIN + "; sp=quarantine"}, "mail.example.com", ("example.com", "quarantine"), id="sp for one that exists"),
        pytest.param({"example.com": NONE + "; np=reject"}, "mail.example.com", ("example.com", "none"), id="np is not for one that exists"),
        pytest.param({"example.com": NONE + "; np=reject"}, "no.example.com", ("example.com", "reject"), id="np for one that does not exist"),
        pytest.param({"example.com": NONE + "; sp=quarantine; np=reject"}, "no.example.com", ("example.com", "reject"), id="np before sp"),
        pytest.param({"example.com": NONE + "; sp=quarantine"}, "no.example.com", ("example.com", "quarantine"), id="sp where np is missing"),
        pytest.param({"example.com": NONE + "; sp=reject; np=reject"}, "example.com", ("example.com", "none"), id="neither for the domain itself"),
        pytest.param(
            {"mail.example.com": NONE, "example.com": PLAIN}, "a.mail.example.com", ("example.com", "reject"), id="the organisation's, not the nearest"
        ),
        pytest.param({"mail.example.com": NONE, "example.com": PLAIN}, "mail.example.com", ("mail.example.com", "none"), id="its own before it"),
        pytest.param(
            {"bank.example": PLAIN + "; psd=y", "giant.bank.example": "v=DMARC1; p=quarantine"},
            "giant.bank.example", ("giant.bank.example", "quarantine"), id="B.4.3",
        ),
        pytest.param({"bank.example": PLAIN + "; psd=y"}, "mail.mega.bank.example", ("bank.example", "reject"), id="the public suffix's as a last"),
        pytest.param({"example.com": PLAIN}, "a.b.c.d.e.f.g.h.i.j.k.example.com", ("example.com", "reject"), id="B.4.2"),
        pytest.param({"example.com": [PLAIN, NONE]}, "example.com", ("", "none"), id="several records are none"),
        pytest.param({"other.example": PLAIN}, "example.com", ("", "none"), id="nothing"),
        pytest.param({"example.com": "v=DMARC1"}, "example.com", ("example.com", "none"), id="without p"),
        pytest.param({"example.com": "v=DMARC1; p=bounce"}, "example.com", ("", "none"), id="a p that is none"),
        pytest.param({"example.com": "v=DMARC1; p=bounce; rua=mailto:a@example.com"}, "example.com", ("example.com", "none"), id="and reports"),
        pytest.param({"example.com": PLAIN + "; sp=x; rua=none"}, "example.com", ("", "none"), id="an sp that is none, no URI"),
        pytest.param({"example.com": "p=reject; v=DMARC1"}, "example.com", ("", "none"), id="v is not first"),
        pytest.param({"example.com": "v=dmarc1; p=reject"}, "example.com", ("", "none"), id="v in lower case"),
        pytest.param({"example.com": "v=DMARC10; p=reject"}, "example.com", ("", "none"), id="version 10"),
        pytest.param({"example.com": "v = DMARC1 ;p= REJECT ;x;;=;p=none; pct=0"}, "example.com", ("example.com", "reject"), id="untidy"),
    ],
)
def test_policies(server: Server, zone: dict[str, str | list[str]], domain: str, expected: tuple[str, str]) -> None:
    """Whose record applies, and what it asks for (section 4.10.1)."""
    server.zone["mail.example.com", "MX"] = ["10 mx.example.com."]
    found = dmarc.policy(domain, asking(server, zone))
    assert (found.found, found.p) == expected


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        pytest.param("p=reject; t=y", "quarantine", id="reject, tested"),
        pytest.param("p=quarantine; t=y", "none", id="quarantine, tested"),
        pytest.param("p=none; t=y", "none", id="none, tested"),
        pytest.param("p=reject; t=n", "reject", id="not tested"),
        pytest.param("p=reject; t=yes", "reject", id="not a value of t"),
    ],
)
def test_testing_makes_it_milder(server: Server, record: str, expected: str) -> None:
    """t=y asks for one step less (section 4.7, appendix A.6); the declared policy stays known."""
    found = dmarc.policy("example.com", asking(server, {"example.com": f"v=DMARC1; {record}"}))
    assert found.disposition == expected
    assert record.startswith(f"p={found.p}")


@pytest.mark.parametrize(
    ("author", "other", "relaxed", "strict"),
    [
        pytest.param("example.com", "example.com", True, True, id="B.1: the same"),
        pytest.param("example.com", "child.example.com", True, False, id="B.1: a child"),
        pytest.param("child.example.com", "example.com", True, False, id="B.1: a parent"),
        pytest.param("a.example.com", "b.example.com", True, False, id="brothers"),
        pytest.param("child.example.com", "example.net", False, False, id="B.1: unrelated"),
        pytest.param("giant.bank.example", "mail.giant.bank.example", True, False, id="B.4.3: a child"),
        pytest.param("giant.bank.example", "mail.mega.bank.example", False, False, id="B.4.3: another customer"),
        pytest.param("giant.bank.example", "bank.example", False, False, id="the public suffix itself"),
        pytest.param("example.com", "own.example.com", False, False, id="psd=n below"),
        pytest.param("plain.test", "mail.plain.test", False, False, id="nothing published: only itself"),
        pytest.param("example.com", "com", False, False, id="the top"),
        pytest.param("example.com", "notexample.com", False, False, id="ends alike"),
    ],
)
def test_alignment(server: Server, author: str, other: str, relaxed: bool, strict: bool) -> None:
    """Relaxed is the same organisation, strict the same domain (section 4.4)."""
    zone: dict[str, str | list[str]] = {
        "example.com": PLAIN, "bank.example": PLAIN + "; psd=y", "giant.bank.example": NONE, "own.example.com": PLAIN + "; psd=n",
    }
    asked = asking(server, zone)
    assert dmarc.aligned(author, other, "r", asked) is relaxed
    assert dmarc.aligned(author, other, "s", asked) is strict


def test_a_strangers_domain_is_not_asked_for(server: Server) -> None:
    """What can not be of the author's organisation costs no question."""
    assert not dmarc.aligned("example.com", "stranger.example", "r", asking(server, {"example.com": PLAIN}))
    assert server.asked == []


@pytest.mark.parametrize("fault", [SERVFAIL, TIMEOUT, GARBAGE])
@pytest.mark.parametrize("name", ["_dmarc.mail.example.com", "_dmarc.example.com", "_dmarc.com"])
def test_trouble_is_never_no_policy(server: Server, name: str, fault: str) -> None:
    """An answer that does not come, anywhere on the walk, is Trouble."""
    server.zone[name, "TXT"] = fault
    with pytest.raises(Trouble):
        dmarc.policy("mail.example.com", asking(server, {}))
    with pytest.raises(Trouble):
        dmarc.organisation("mail.example.com", asking(server, {}))


def test_trouble_with_the_question_whether_it_exists(server: Server) -> None:
    """np is decided by addresses: if they can not be known, neither can the policy."""
    server.zone["sub.example.com", "AAAA"] = SERVFAIL
    with pytest.raises(Trouble):
        dmarc.policy("sub.example.com", asking(server, {"example.com": NONE + "; np=reject"}))


@given(st.binary(max_size=80) | st.text("vDMARC1;=p reject;spnpadkimrsaufmtyqun", max_size=60).map(lambda t: b"v=DMARC1;" + t.encode()))
def test_garbage_in_a_record_never_raises(text: bytes) -> None:
    """Whatever bytes are published, there is a policy, of a kind that exists."""

    class Record:
        strings = (text,)

    class Anywhere:
        def lookup(self, name: str, rdtype: str) -> tuple[Record, ...]:
            return (Record(),)

    found = dmarc.policy("mail.example.com", Anywhere())
    assert found.disposition in ("none", "quarantine", "reject")
    assert dmarc.organisation("mail.example.com", Anywhere()) in ("mail.example.com", "example.com")
