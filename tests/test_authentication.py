"""kelou/authentication.py: who wrote, by each way that proves it, and everything that must not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from dnsserver import SERVFAIL, TIMEOUT, Server
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from signer import MAIL, record, sign

from kelou.authentication import Result, Verdict, authenticate
from kelou.config import Config
from kelou.message import Message
from kelou.resolver import Resolver

JANE = "jane@example.org"


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(ttl=0) as running:
        running.text("s1._domainkey.example.org", record())
        running.text("s1._domainkey.news.example.org", record())
        running.text("s1._domainkey.evil.example", record())
        running.text("_dmarc.example.org", "v=DMARC1; p=reject")
        running.text("example.org", "v=spf1 ip4:192.0.2.1 -all")
        running.text("bounce.example.org", "v=spf1 ip4:192.0.2.1 -all")
        running.text("evil.example", "v=spf1 +all")
        yield running


def ask(
    server: Server, mail: bytes, *, reverse_path: str = "", client_ip: str = "203.0.113.9", login: str = "", daemon: str = "smtpd", **values: object
) -> Result:
    config = Config(Path("x"), {f"authors.{key}": value for key, value in values.items()})
    return authenticate(
        Message.parse(mail), reverse_path=reverse_path, client_ip=client_ip, helo="mail.example", sasl_login=login, daemon_name=daemon, config=config,
        resolver=Resolver([server.endpoint], 0.4),
    )


def author(result: Result) -> tuple[str, str]:
    return result.author.address, result.author.why


def test_a_signed_letter_is_its_authors(server: Server) -> None:
    """Signed by the author's domain: authenticated, and DMARC passes."""
    result = ask(server, sign())
    assert author(result) == (JANE, "dkim example.org")
    assert result.dmarc == Verdict("pass", "reject", "example.org")
    assert not result.temporary


def test_a_plain_letter_is_nobodys(server: Server) -> None:
    """No signature, a client that may not send: nobody, DMARC fails, and the domain asks for rejection."""
    result = ask(server, MAIL, reverse_path=JANE)
    assert author(result) == ("", "spf=fail example.org")
    assert result.dmarc == Verdict("fail", "reject", "example.org")
    assert result.author.forbidden
    assert not result.temporary
    assert author(ask(server, MAIL)) == ("", "nothing to prove it by")


def test_spf_proves_the_domain(server: Server) -> None:
    """A client that may send for the author's domain, or for one of the same organisation."""
    assert author(ask(server, MAIL, reverse_path="x@example.org", client_ip="192.0.2.1")) == (JANE, "spf example.org")
    assert author(ask(server, MAIL, reverse_path="x@bounce.example.org", client_ip="192.0.2.1")) == (JANE, "spf bounce.example.org")


@pytest.mark.parametrize(
    ("mail", "reverse_path"),
    [
        pytest.param(sign(domain="evil.example"), "", id="a stranger's signature"),
        pytest.param(MAIL, "x@evil.example", id="a stranger's SPF"),
        pytest.param(sign(domain="evil.example"), "x@evil.example", id="both"),
        pytest.param(sign(domain="notexample.org"), "x@notexample.org", id="a domain that ends alike"),
        pytest.param(sign(domain="org"), "x@org", id="the top"),
        pytest.param(sign() + b"P.S.\r\n", "", id="changed"),
        pytest.param(MAIL.replace(b"<jane@example.org>", b"<x@evil.example>"), JANE, id="another From"),
        pytest.param(b"Sender: jane@example.org\r\nReply-To: jane@example.org\r\n" + MAIL.replace(b"jane@", b"june@"), "", id="other fields"),
    ],
)
def test_strangers_prove_nothing(server: Server, mail: bytes, reverse_path: str) -> None:
    """What others sign, or may send, says nothing of example.org."""
    result = ask(server, mail, reverse_path=reverse_path)
    assert result.author.address == ""
    assert not result.temporary


def test_alignment_is_as_the_owner_says(server: Server) -> None:
    """adkim=s and aspf=s: the domain itself, and no other of its organisation."""
    below = sign(domain="news.example.org")
    assert author(ask(server, below)) == (JANE, "dkim news.example.org")
    server.text("_dmarc.example.org", "v=DMARC1; p=reject; adkim=s; aspf=s")
    assert ask(server, below).author.address == ""
    assert ask(server, MAIL, reverse_path="x@bounce.example.org", client_ip="192.0.2.1").author.address == ""
    assert ask(server, sign()).author.address == JANE


def test_without_a_policy_the_very_domain_counts(server: Server) -> None:
    """A domain without DMARC authenticates its own authors by its own signature; a subdomain's is another's."""
    del server.zone["_dmarc.example.org", "TXT"]
    result = ask(server, sign())
    assert author(result) == (JANE, "dkim example.org")
    assert result.dmarc == Verdict("none", "none", "example.org")
    assert ask(server, sign(domain="news.example.org")).author.address == ""


@pytest.mark.parametrize(
    ("login", "sasl", "proved"),
    [
        ("jane@example.org", "same", True),
        ("Jane@Example.org", "same", True),
        ("june@example.org", "same", False),
        ("jane", "same", False),
        ("jane@example.org@x", "same", False),
        ("anybody", "any", True),
        ("jane@example.org", "no", False),
        ("", "any", False),
    ],
)
def test_logins(server: Server, login: str, sasl: str, proved: bool) -> None:
    """A login proves the author that the configuration says it does, and asks the DNS nothing then."""
    result = ask(server, MAIL, login=login, sasl=sasl)
    assert author(result)[0] == (JANE if proved else "")
    assert (server.asked == []) is proved


def test_a_trusted_service_is_trusted(server: Server) -> None:
    """The submission service's clients were checked by it; another service's were not, nor is one without a name trusted."""
    assert author(ask(server, MAIL, daemon="SUBMISSION")) == (JANE, "trusted daemon SUBMISSION")
    assert ask(server, MAIL, daemon="submission", login="").author.address == ""
    assert ask(server, MAIL, daemon="", trusted_daemons=("",)).author.address == ""


@pytest.mark.parametrize(
    ("text", "reverse_path", "proved"),
    [
        pytest.param("mx; dkim=pass header.d=example.org", "", True, id="dkim"),
        pytest.param("mx; dkim=pass header.d=news.example.org", "", True, id="dkim of the same organisation"),
        pytest.param("mx; dkim=pass header.d=evil.example", "", False, id="dkim of a stranger"),
        pytest.param("mx; dkim=fail header.d=example.org", "", False, id="dkim that failed"),
        pytest.param("mx; dkim=pass header.i=@example.org", "", False, id="dkim without a domain"),
        pytest.param("mx; dmarc=pass header.from=example.org", "", True, id="dmarc"),
        pytest.param("mx; dmarc=pass header.from=evil.example", "", False, id="dmarc of another From"),
        pytest.param("mx; spf=pass smtp.mailfrom=bounce.example.org", "x@bounce.example.org", True, id="spf"),
        pytest.param("mx; spf=pass smtp.mailfrom=x@bounce.example.org", "x@bounce.example.org", True, id="spf of an address"),
        pytest.param("mx; spf=pass smtp.mailfrom=example.org", "x@evil.example", False, id="spf of another envelope"),
        pytest.param("other; dkim=pass header.d=example.org", "", False, id="of another host"),
        pytest.param("mx; dkim=fail header.d=a.b\r\nAuthentication-Results: mx; dkim=pass header.d=example.org", "", False, id="forged below"),
        pytest.param("mx; arc=pass; auth=pass smtp.auth=jane@example.org", "", False, id="other methods"),
    ],
)
def test_the_hosts_verifier(server: Server, text: str, reverse_path: str, proved: bool) -> None:
    """A verifier that the configuration names is believed, aligned as DMARC has it."""
    mail = b"Authentication-Results: " + text.encode() + b"\r\n" + MAIL
    assert ask(server, mail, reverse_path=reverse_path, authserv_ids=("mx",)).author.address == (JANE if proved else "")
    assert ask(server, mail, reverse_path=reverse_path).author.address == ""


@pytest.mark.parametrize(
    "value",
    [
        "jane@example.org)bob@example.com", '"jane@example.org" <evil@x.example>', "jane@example.org <evil@x.example>",
        "jane@example.org,<evil@x.example>", "a@mal.example@example.org", "=?utf-8?q?jane=40example.org=3E?= <evil@x.example>",
        "<jane@example.org>evil@x.example", "evil@x.example (jane@example.org)", "<@a,@b:jane@example.org>", "", "jane@example.org, june@example.org",
        "undisclosed:;", "jane@[192.0.2.1]",
    ],
)
def test_ambiguous_authors_are_nobody(server: Server, value: str) -> None:
    """The strings that other parsers read as somebody's address: never jane's, even in a message that her domain signed."""
    mail = sign(f"From: {value}\r\n\r\nx\r\n".encode())
    assert ask(server, mail, reverse_path=JANE, client_ip="192.0.2.1").author.address == ""
    assert ask(server, mail, daemon="SUBMISSION").author.address in ("", "evil@x.example")


def test_two_from_are_nobody(server: Server) -> None:
    """Several From fields: nobody, by whatever way."""
    for mail in (b"From: june@example.org\r\n" + sign(), sign(b"From: jane@example.org\r\n" + MAIL)):
        assert author(ask(server, mail, daemon="SUBMISSION", login=JANE)) == ("", "no single author in From")


@pytest.mark.parametrize("fault", [SERVFAIL, TIMEOUT])
@pytest.mark.parametrize(
    ("name", "mail", "reverse_path", "expected", "dmarc"),
    [
        pytest.param("s1._domainkey.example.org", sign(), "", "", "temperror", id="the key"),
        pytest.param("_dmarc.example.org", MAIL, "", "", "temperror", id="the policy"),
        pytest.param("_dmarc.example.org", sign(), "", JANE, "none", id="the policy, but it is signed"),
        pytest.param("_dmarc.example.org", sign(domain="news.example.org"), "", "", "temperror", id="the policy, and alignment needs it"),
        pytest.param("example.org", MAIL, JANE, "", "temperror", id="the SPF record"),
        pytest.param("example.org", sign(), JANE, JANE, "pass", id="the SPF record, but it is signed"),
        pytest.param("evil.example", MAIL, "x@evil.example", "", "fail", id="a stranger's SPF record"),
        pytest.param("s1._domainkey.evil.example", sign(domain="evil.example"), "", "", "fail", id="a stranger's key"),
    ],
)
def test_dns_trouble_is_temporary_where_it_matters(
    server: Server, name: str, mail: bytes, reverse_path: str, expected: str, dmarc: str, fault: str
) -> None:
    """What can not be known now is temporary, unless something else proves it, or it could prove nothing anyway."""
    server.zone[name, "TXT"] = fault
    result = ask(server, mail, reverse_path=reverse_path)
    assert result.author.address == expected
    assert result.dmarc.result == dmarc
    assert result.temporary is (dmarc == "temperror")
    assert result.author.forbidden is (dmarc == "fail")


def test_a_tested_policy_is_milder(server: Server) -> None:
    """t=y: a domain that asks for rejection, as a test, gets quarantine."""
    server.text("_dmarc.example.org", "v=DMARC1; p=reject; t=y")
    assert ask(server, MAIL).dmarc == Verdict("fail", "quarantine", "example.org")
    assert not ask(server, MAIL).author.forbidden


def test_a_strangers_questions_are_counted(server: Server) -> None:
    """A message with every provocation at once costs a bounded number of questions and little time."""
    hosts = " ".join(f"mx:h{i}.example.org" for i in range(10))
    server.text("bounce.example.org", f"v=spf1 {hosts} -all")
    for i in range(10):
        server.zone[f"h{i}.example.org", "MX"] = [f"{j} m{i}x{j}.example.org." for j in range(10)]
        for j in range(10):
            server.zone[f"m{i}x{j}.example.org", "A"] = ["192.0.2.77"]
    signatures = b"".join(sign(domain=f"a.b.c.d.e.f.g.h.i.j{i}.example.org", headers=("from",))[: -len(MAIL)] for i in range(30))
    start = time.monotonic()
    assert ask(server, signatures + MAIL, reverse_path="x@bounce.example.org").author.address == ""
    assert len(server.asked) <= 200
    assert time.monotonic() - start < 10


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=400), st.text(max_size=40), st.text(max_size=20), st.text(max_size=20), st.text(max_size=20))
def test_arbitrary_input_never_raises(mail: bytes, reverse_path: str, ip: str, helo: str, login: str) -> None:
    """Whatever is sent, from wherever: a result, and nobody authenticated."""

    class Nobody:
        def lookup(self, name: str, rdtype: str) -> tuple[object, ...]:
            return ()

    config = Config(Path("x"), {"authors.authserv_ids": ("mx",)})
    for raw in (mail, b"From: jane@example.org\r\nDKIM-Signature: " + mail, b"Authentication-Results: mx;" + mail + b"\r\nFrom: jane@example.org\r\n\r\n"):
        result = authenticate(
            Message.parse(raw), reverse_path=reverse_path, client_ip=ip, helo=helo, sasl_login=login, daemon_name="", config=config, resolver=Nobody()
        )
        assert result.author.address == ""
