"""Who wrote, on the whole way: a real Postfix, authors judged by DKIM, SPF and DMARC in the sandbox's DNS. A forged From opens nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import dns.message
import dns.query
import dns.rcode
import pytest
import signer
from conftest import Dialogue, Sandbox
from test_e2e_milter import LISTS, copies

from kelou.listtype import POST

ROLES = ("owner", "moderator", "subscriber")


@pytest.fixture(scope="module")
def zone(sandbox: Sandbox) -> Iterator[str]:
    """Domains of authors: one that signs and asks to refuse the rest, one that has SPF, one with nothing, one whose DNS is broken."""
    path = Path(sandbox.info["zone"])
    before = path.read_text()
    key = signer.record().decode()
    path.write_text(
        before
        + f"""
s1._domainkey.strict.example.  60 IN TXT "{key}"
_dmarc.strict.example.         60 IN TXT "v=DMARC1; p=reject"
strict.example.                60 IN TXT "v=spf1 -all"
s1._domainkey.signed.example.  60 IN TXT "{key}"
signed.example.                60 IN A 192.0.2.1
spf.example.                   60 IN TXT "v=spf1 ip4:192.0.2.7 -all"
plain.example.                 60 IN A 192.0.2.1
broken.example.                60 IN TXT "v=spf1 -all"
_dmarc.broken.example.         60 IN TXT "kelou-servfail"
"""
    )
    host, _colon, port = str(sandbox.info["dns"]).rpartition(":")
    deadline = time.monotonic() + 10
    question = dns.message.make_query("_dmarc.broken.example", "TXT")
    while dns.query.udp(question, host, 5, int(port)).rcode() != dns.rcode.SERVFAIL:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    yield key
    path.write_text(before)


def a_list(sandbox: Sandbox, *settings: str, domain: str = "signed.example") -> str:
    """A list whose owner, moderator and subscriber are called so, at that domain."""
    name = f"a{uuid4().hex[:12]}"
    commands = [
        ("list", "create", name, "--owner", f"owner@{domain}", "--type", "discussion", "--subject", "Test"),
        ("list", "set", name, "language=en", *settings),
        ("moderator", "add", name, f"moderator@{domain}"),
        ("member", "add", name, f"subscriber@{domain}", "--quiet"),
    ]
    for command in commands:
        done = sandbox.kelou(*command)
        assert done.returncode == 0, done.stderr
    return name


def mail(name: str, author: str) -> bytes:
    return (
        f"From: Somebody <{author}>\r\nTo: {name}@{LISTS}\r\nSubject: Hello\r\nDate: Mon, 23 Nov 2026 12:00:00 +0000\r\n"
        f"Message-ID: <{uuid4()}@example.net>\r\n\r\nHello all\r\n"
    ).encode()


def signed(content: bytes, domain: str = "signed.example", **more: str) -> bytes:
    return signer.sign(content, domain=domain, **more)


def send(sandbox: Sandbox, name: str, content: bytes, reverse_path: str = "bounce@elsewhere.example", **client: str) -> Dialogue:
    return sandbox.untrusted(reverse_path, f"{name}@{LISTS}", content, **client)


def held(sandbox: Sandbox, name: str) -> list[str]:
    """The rules that posts of this list are held by, once Postfix has delivered all."""
    return [row["rule"] for row in sandbox.json("mod", "list", name)]


def wait_held(sandbox: Sandbox, name: str, number: int) -> list[str]:
    deadline = time.monotonic() + 20
    while len(found := held(sandbox, name)) < number:
        assert time.monotonic() < deadline, sandbox.log()[-3000:]
        time.sleep(0.1)
    return found


@pytest.mark.parametrize("policy", POST)
@pytest.mark.parametrize("wish", ["hold", "refuse"])
def test_writing_as_somebody_opens_nothing(sandbox: Sandbox, zone: str, policy: str, wish: str) -> None:
    """An unauthenticated author in the name of a subscriber, a moderator or an owner gets nowhere, whatever the policy."""
    name = a_list(sandbox, f"post={policy}", f"unauthenticated={wish}")
    replies = [send(sandbox, name, mail(name, f"{role}@signed.example")) for role in ROLES]
    accepted = [reply for reply in replies if reply.accepted]
    assert wish == "hold" or not accepted
    assert set(wait_held(sandbox, name, len(accepted))) <= {"unauthenticated_held"}
    assert sandbox.json("post", "list", name) == []


@pytest.mark.parametrize(
    ("policy", "outcome"),
    [
        ("anyone", {"owner": "out", "moderator": "out", "subscriber": "out", "stranger": "out"}),
        ("subscribers", {"owner": "out", "moderator": "out", "subscriber": "out", "stranger": "refused"}),
        ("subscribers-others-held", {"owner": "out", "moderator": "out", "subscriber": "out", "stranger": "held"}),
        ("subscribers-held", {"owner": "out", "moderator": "out", "subscriber": "held", "stranger": "refused"}),
        ("moderators", {"owner": "out", "moderator": "out", "subscriber": "refused", "stranger": "refused"}),
        ("moderated", {"owner": "out", "moderator": "out", "subscriber": "held", "stranger": "held"}),
        ("owners", {"owner": "out", "moderator": "refused", "subscriber": "refused", "stranger": "refused"}),
        ("closed", {"owner": "refused", "moderator": "refused", "subscriber": "refused", "stranger": "refused"}),
    ],
)
def test_the_same_message_signed_and_aligned_passes(sandbox: Sandbox, zone: str, policy: str, outcome: dict[str, str]) -> None:
    """Signed by a key in the zone, each author gets what the policy says: distributed, held, or refused in the dialogue."""
    name = a_list(sandbox, f"post={policy}")
    found = {}
    for role in outcome:
        found[role] = "taken" if send(sandbox, name, signed(mail(name, f"{role}@signed.example"))).accepted else "refused"
    assert {role: "refused" if what == "refused" else "taken" for role, what in outcome.items()} == found
    assert len(wait_held(sandbox, name, list(outcome.values()).count("held"))) == list(outcome.values()).count("held")
    out = {role for role, what in outcome.items() if what == "out"}
    deadline = time.monotonic() + 20
    while {row["author"].partition("@")[0] for row in sandbox.json("post", "list", name)} != out:
        assert time.monotonic() < deadline, sandbox.log()[-3000:]
        time.sleep(0.1)


def test_a_stranger_is_refused_by_the_name_of_the_rule(sandbox: Sandbox, zone: str) -> None:
    """A non-member's post is refused in the dialogue with what the list asks for, and nothing of it is stored."""
    name = a_list(sandbox)
    for content in (mail(name, "eve@plain.example"), signed(mail(name, "eve@signed.example"))):
        reply = send(sandbox, name, content)
        assert reply.data.startswith("550 5.7.1")
        assert f"Only subscribers post to the list {name}@{LISTS}" in reply.data
    assert held(sandbox, name) == []


def test_spf_of_an_aligned_reverse_path_proves_the_author(sandbox: Sandbox, zone: str) -> None:
    """The same message passes from the address that the domain names, and is held from any other."""
    name = a_list(sandbox, domain="spf.example")
    content = mail(name, "subscriber@spf.example")
    assert send(sandbox, name, content, "subscriber@spf.example", ADDR="192.0.2.8").accepted
    assert wait_held(sandbox, name, 1) == ["unauthenticated_held"]
    assert send(sandbox, name, mail(name, "subscriber@spf.example"), "subscriber@spf.example", ADDR="192.0.2.7").accepted
    copies(sandbox, name, 1)
    assert send(sandbox, name, mail(name, "subscriber@spf.example"), "x@plain.example", ADDR="192.0.2.7").accepted
    assert wait_held(sandbox, name, 2) == ["unauthenticated_held"] * 2


def test_a_domain_that_asks_for_refusal_gets_it(sandbox: Sandbox, zone: str) -> None:
    """Where DMARC says reject and the message fails, it is refused at the end of DATA; signed, it passes."""
    name = a_list(sandbox, domain="strict.example")
    reply = send(sandbox, name, mail(name, "subscriber@strict.example"))
    assert reply.data.startswith("550 5.7.1")
    assert "asks to refuse" in reply.data
    assert send(sandbox, name, signed(mail(name, "subscriber@strict.example"), "strict.example")).accepted
    copies(sandbox, name, 1)


def test_trouble_in_the_dns_is_try_later(sandbox: Sandbox, zone: str) -> None:
    """SERVFAIL is never taken for "no policy": 451, and nothing is stored."""
    name = a_list(sandbox, domain="broken.example")
    reply = send(sandbox, name, mail(name, "subscriber@broken.example"))
    assert reply.data.startswith("451 4.7.0")
    assert held(sandbox, name) == []


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda m: m.replace(b"Hello all", b"Buy now!!"), id="another body"),
        pytest.param(lambda m: m.replace(b"subscriber@", b"owner@", 1), id="another From"),
        pytest.param(lambda m: b"From: owner@signed.example\r\n" + m, id="a second From"),
        pytest.param(lambda m: m.replace(b"d=signed.example", b"d=strict.example"), id="another domain's signature"),
        pytest.param(lambda m: m.replace(b"Subject: Hello", b"Subject: Hell"), id="another subject"),
    ],
)
def test_a_signature_proves_what_it_covers(sandbox: Sandbox, zone: str, change: Callable[[bytes], bytes]) -> None:
    """What was changed after signing is not the author's any more."""
    name = a_list(sandbox, "post=subscribers")
    content = change(signed(mail(name, "subscriber@signed.example")))
    assert send(sandbox, name, content).accepted is False or wait_held(sandbox, name, 1) == ["unauthenticated_held"]
    assert sandbox.json("post", "list", name) == []


def test_a_seal_of_our_own_is_not_believed_from_outside(sandbox: Sandbox, zone: str) -> None:
    """The field in which the milter tells who wrote is taken off what comes in, true or false, and another message's opens nothing."""
    name = a_list(sandbox)
    assert send(sandbox, name, signed(mail(name, "subscriber@signed.example"))).accepted
    copies(sandbox, name, 1)
    seals = b"Kelou-Author: q=X; t=1; a=owner@signed.example; w=dkim; f=; m=0; s=0\r\n"
    assert send(sandbox, name, seals + mail(name, "owner@signed.example")).accepted
    assert wait_held(sandbox, name, 1) == ["unauthenticated_held"]


def test_a_thousand_forged_posts_cause_no_mail_to_the_forged(sandbox: Sandbox, zone: str) -> None:
    """Held or refused, nothing goes to an address that proved nothing; the moderators are not flooded either."""
    name = a_list(sandbox, "post=moderated")
    sandbox.clear()
    for number in range(1000):
        assert send(sandbox, name, mail(name, f"victim{number}@plain.example"), f"victim{number}@plain.example").accepted
    deadline = time.monotonic() + 120
    while len(held(sandbox, name)) < 1000:
        assert time.monotonic() < deadline
        time.sleep(1)
    time.sleep(1)
    told = [copy.delivered_to for copy in sandbox.delivered()]
    assert [to for to in told if "victim" in to] == []
    assert 0 < told.count("moderator@signed.example") <= 20
