"""kelou/dkimverify.py and kelou/dkimworker.py: what dkimpy signed verifies, and what strangers make of signatures proves nothing."""

from __future__ import annotations

import base64
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from dnsserver import SERVFAIL, TIMEOUT, Server
from hypothesis import given, settings
from hypothesis import strategies as st
from signer import MAIL, ed25519_record, record, rsa_key, sign

from kelou import dkimverify
from kelou.dkimverify import Verdict
from kelou.dkimworker import Busy, Job, TookTooLong, Workers
from kelou.message import Message
from kelou.resolver import Resolver, Trouble


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(ttl=0) as running:
        running.text("s1._domainkey.example.org", record())
        running.text("ed._domainkey.example.org", ed25519_record())
        yield running


def verdicts(server: Server, mail: bytes, wanted: str = "", now: float | None = None) -> list[Verdict]:
    asked = Resolver([server.endpoint], 0.5)
    clock = time.time if now is None else lambda: now
    return dkimverify.verify(Message.parse(mail), asked, lambda domain: not wanted or domain == wanted, clock)


def results(server: Server, mail: bytes, wanted: str = "", now: float | None = None) -> list[str]:
    return [verdict.result for verdict in verdicts(server, mail, wanted, now)]


@pytest.mark.parametrize("c", ["simple/simple", "simple/relaxed", "relaxed/simple", "relaxed/relaxed"])
@pytest.mark.parametrize(
    "mail",
    [
        pytest.param(MAIL, id="letter"),
        pytest.param(b"From: jane@example.org\r\n\r\n", id="no body"),
        pytest.param(b"From: jane@example.org\r\n\r\n\r\n \r\n\t\r\n\r\n", id="only blanks"),
        pytest.param(b"From:jane@example.org\r\nSubject:\r\n\r\na  b \t\r\nno end", id="no end"),
        pytest.param("From: Jané <jane@example.org>\r\nSubject: é\r\n\r\né\r\n".encode(), id="utf-8"),
        pytest.param(b"From: jane@example.org\r\nTo: a\r\nTo: b\r\nReceived: x\r\n\r\n" + b"\0\xff\r\n" * 9, id="bytes"),
    ],
)
def test_what_dkimpy_signed_verifies(server: Server, mail: bytes, c: str) -> None:
    """Every canonical form, of every kind of message; and one octet more in the body, or another author, does not."""
    signed = sign(mail, c=c)
    assert verdicts(server, signed) == [Verdict("example.org", "pass")]
    assert results(server, signed + b"x\r\n") == ["fail"]
    assert results(server, signed.replace(b"jane@", b"june@")) == ["fail"]


def test_ed25519_verifies(server: Server) -> None:
    """Ed25519 (RFC 8463), by cryptography, without PyNaCl."""
    signed = sign(selector="ed", algorithm="ed25519-sha256")
    assert results(server, signed) == ["pass"]
    assert results(server, signed + b"x\r\n") == ["fail"]
    assert results(server, signed.replace(b"jane@", b"june@")) == ["fail"]


@pytest.mark.parametrize(
    ("mail", "result", "why"),
    [
        pytest.param(lambda: sign(headers=("to", "subject")), "permerror", "From is not signed", id="h without From"),
        pytest.param(lambda: sign(length=True) + b"Buy!\r\n", "permerror", "a part of the body", id="l, and text after it"),
        pytest.param(lambda: sign(extra=b"l=5;"), "permerror", "a part of the body", id="l=5"),
        pytest.param(lambda: sign(algorithm="rsa-sha1"), "permerror", "rsa-sha1", id="rsa-sha1"),
        pytest.param(lambda: sign(extra=b"i=example.org;"), "permerror", "i=", id="i is d, without @"),
        pytest.param(lambda: sign(extra=b"i=@notexample.org;"), "permerror", "i=", id="i ends in d, no subdomain"),
        pytest.param(lambda: sign(extra=b"i=@org;"), "permerror", "domain", id="i above d"),
        pytest.param(lambda: sign(extra=b"x=" + b"9" * 5000 + b";"), "permerror", "no time", id="x of 5,000 digits"),
        pytest.param(lambda: sign(extra=b"t=" + b"9" * 5000 + b";"), "permerror", "no time", id="t of 5,000 digits"),
        pytest.param(lambda: sign(extra=b"t=-1;"), "permerror", "no time", id="t below nought"),
        pytest.param(lambda: sign(extra=b"t=%d;" % (time.time() + 9999)), "permerror", "future", id="of the future"),
        pytest.param(lambda: sign(extra=b"t=1;x=2;"), "permerror", "expired", id="expired"),
        pytest.param(lambda: sign(extra=b"x=%d;" % (time.time() - 60)), "permerror", "expired", id="expired a minute ago"),
        pytest.param(lambda: sign(extra=b"v=2;"), "permerror", "version", id="version 2"),
        pytest.param(lambda: sign(extra=b"q=http;"), "permerror", "get the key", id="q"),
        pytest.param(lambda: sign(extra=b"c=nowsp/simple;"), "permerror", "canonicalisation", id="c"),
        pytest.param(lambda: sign(extra=b"bh=;"), "permerror", "no bh=", id="no bh"),
        pytest.param(lambda: sign(extra=b"bh=%%%%;"), "permerror", "base64", id="bh no base64"),
        pytest.param(lambda: sign(extra=b"bh=" + base64.b64encode(b"x" * 32) + b";"), "fail", "body hash", id="bh wrong"),
        pytest.param(lambda: sign().replace(b"; d=", b"; d=example.org; d=", 1), "permerror", "list of tags", id="d twice"),
        pytest.param(lambda: sign().replace(b"b=", b"b=" + b"\r\n " * 17_000, 1), "permerror", "too long", id="b and 50 kB of line ends"),
        pytest.param(lambda: sign().replace(b"h=", b"h=" + b"\r\n " * 100, 1), "permerror", "blanks", id="300 blanks in h"),
        pytest.param(lambda: sign().replace(b" d=", b" \xff=", 1), "permerror", "ASCII", id="FF in a tag"),
        pytest.param(lambda: sign(extra=b"s=../../x;"), "permerror", "selector", id="selector is a path"),
        pytest.param(lambda: sign(selector="n" * 64), "permerror", "selector", id="selector of 64 octets"),
        pytest.param(lambda: b"From: june@example.org\r\n" + sign(), "permerror", "exactly one From", id="a second From above"),
        pytest.param(lambda: sign(b"From: june@example.org\r\n" + MAIL), "permerror", "exactly one From", id="two From, signed"),
        pytest.param(lambda: sign(MAIL.replace(b"From:", b"From :")), "permerror", "exactly one From", id="blank before the colon"),
        pytest.param(lambda: sign() + b" " * 1_000_000 + b"\r\n", "permerror", "line is too long", id="a million blanks"),
        pytest.param(lambda: sign() + b"x" * 1_000_000, "permerror", "line is too long", id="a line without end"),
        pytest.param(lambda: b"X-A: " + b"a" * 66_000 + b"\r\n" + sign(), "permerror", "header is too large", id="header"),
    ],
)
def test_hostile_signatures_prove_nothing(server: Server, mail: Callable[[], bytes], result: str, why: str) -> None:
    """Each is told from a good one, at once, with the reason, and raises nothing."""
    raw = mail()
    start = time.monotonic()
    found = verdicts(server, raw)
    assert [(verdict.result, why in verdict.why) for verdict in found] == [(result, True)], found
    assert time.monotonic() - start < 2


def test_a_signature_that_expires_later_verifies(server: Server) -> None:
    """x= in the future is good until then, and not a second longer."""
    until = int(time.time()) + 600
    signed = sign(extra=b"x=%d;" % until)
    assert results(server, signed) == ["pass"]
    assert results(server, signed, now=until + 1) == ["permerror"]


@pytest.mark.parametrize("mail", [b" From: jane@example.org\r\n\r\n", b"\r\nFrom: a@b.c\r\n", b"", b"\0", b"DKIM-Signature:", b"DKIM-Signature: ;;;\r\n\r\n"])
def test_what_is_no_message_proves_nothing(server: Server, mail: bytes) -> None:
    """A message that starts with a space, is empty, or has an empty signature: no verdict, or permerror."""
    assert "pass" not in results(server, mail)


def publish(server: Server, *texts: bytes) -> bytes:
    server.text("k._domainkey.example.org", *texts)
    return sign(selector="k")


@pytest.mark.parametrize(
    ("texts", "result"),
    [
        pytest.param((), "permerror", id="none"),
        pytest.param((b"",), "permerror", id="empty"),
        pytest.param((b"v=DKIM1; p=",), "permerror", id="revoked"),
        pytest.param((b"\xff\xfe",), "permerror", id="FF FE"),
        pytest.param((b"v=DKIM1; p=AAAA",), "permerror", id="no key"),
        pytest.param((b"v=DKIM1; p=%%%",), "permerror", id="no base64"),
        pytest.param((b"v=DKIM1; k=ed25519; p=AAAA",), "permerror", id="other kind"),
        pytest.param((b"v=DKIM2; " + record()[9:],), "permerror", id="version 2"),
        pytest.param((record() + b"; h=sha1",), "permerror", id="for SHA-1 only"),
        pytest.param((record() + b"; s=tlsrpt",), "permerror", id="for reports only"),
        pytest.param((record() + b"; n=" + b"a" * 9000,), "permerror", id="too long"),
        pytest.param((record()[9:],), "pass", id="without version"),
        pytest.param((record() + b"; t=y; s=email; n=note",), "pass", id="testing"),
        pytest.param((record() + b"; t=s; h=sha1:sha256; s=*;",), "pass", id="strict"),
        pytest.param((b"v=spf1 -all", record()), "pass", id="another text beside it"),
        pytest.param((record(2048, 1),), "fail", id="somebody else's"),
    ],
)
def test_keys(server: Server, texts: tuple[bytes, ...], result: str) -> None:
    """A key record is read as RFC 6376 section 3.6.1 has it, whatever bytes it is."""
    if texts:
        mail = publish(server, *texts)
    else:
        server.zone.pop(("k._domainkey.example.org", "TXT"), None)
        mail = sign(selector="k")
    assert results(server, mail) == [result]


def test_small_and_monstrous_keys_are_refused(server: Server) -> None:
    """1024 bits is the least (RFC 8301 section 3.2); a huge exponent, or an elliptic curve in an RSA record, is no key."""
    server.text("small._domainkey.example.org", b"v=DKIM1; p=" + base64.b64encode(SMALL))
    assert results(server, sign(selector="small")) == ["permerror"]
    publish(server, record(1024))
    assert results(server, sign(selector="k", bits=1024)) == ["pass"]
    curve = ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert results(server, publish(server, b"p=" + base64.b64encode(curve))) == ["permerror"]
    numbers = rsa_key().public_key().public_numbers()
    assert results(server, publish(server, b"p=" + base64.b64encode(_der_rsa(numbers.n, numbers.n - 2)))) == ["permerror"]
    assert results(server, publish(server, b"p=" + base64.b64encode(_der_rsa((1 << 20_000) + 1, 65537)))) == ["permerror"]


def _der(tag: int, content: bytes) -> bytes:
    size = len(content)
    length = bytes([size]) if size < 128 else bytes([0x80 + (size.bit_length() + 7) // 8]) + size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag]) + length + content


def _der_rsa(modulus: int, exponent: int) -> bytes:
    """An RSAPublicKey (RFC 8017 appendix A.1.1)."""
    return _der(0x30, b"".join(_der(2, number.to_bytes(number.bit_length() // 8 + 1, "big")) for number in (modulus, exponent)))


SMALL = _der_rsa((1 << 511) + 111, 65537)


def test_a_strict_key_is_not_for_subdomains(server: Server) -> None:
    """t=s in the key: i= must be d= itself (RFC 6376 section 3.6.1)."""
    server.text("k._domainkey.example.org", record() + b"; t=s")
    assert results(server, sign(selector="k", identity="jane@example.org")) == ["pass"]
    assert results(server, sign(selector="k", identity="jane@sub.example.org")) == ["permerror"]


@pytest.mark.parametrize("fault", [SERVFAIL, TIMEOUT])
def test_dns_trouble_is_a_temporary_error(server: Server, fault: str) -> None:
    """A key that can not be asked for now is not "does not verify"."""
    server.zone["t._domainkey.example.org", "TXT"] = fault
    assert results(server, sign(selector="t")) == ["temperror"]


def test_trouble_in_the_question_who_is_wanted_is_temporary_too(server: Server) -> None:
    """`wanted` asks the DNS as well."""

    def wanted(_domain: str) -> bool:
        raise Trouble("no answer")

    found = dkimverify.verify(Message.parse(sign()), Resolver([server.endpoint], 0.5), wanted)
    assert found == [Verdict("example.org", "temperror", "no answer")]


def test_a_domain_of_80_characters(server: Server) -> None:
    """dkimpy folds so long a domain in two when it signs; such a signature is read, and one that is no domain proves nothing."""
    domain = "d" * 40 + "." + "e" * 34 + ".org"
    server.text(f"s1._domainkey.{domain}", record())
    assert [verdict.domain for verdict in verdicts(server, sign(MAIL, domain))] == [domain]


def test_every_signature_is_tried(server: Server) -> None:
    """The one that counts need not be on top: forged ones above it, and other domains' ones, hide nothing."""
    good = sign()
    others = b"".join(sign(domain=f"d{i}.example")[: -len(MAIL)] for i in range(8))
    bad = sign(MAIL + b"x\r\n")[: -len(MAIL) - 3]
    assert results(server, others + bad + good, wanted="example.org") == ["fail", "pass"]


def test_no_more_than_five_are_tried(server: Server) -> None:
    """A hundred signatures cost five questions, not a hundred."""
    mail = sign(MAIL + b"x\r\n")[: -len(MAIL) - 3] * 100 + MAIL
    del server.asked[:]
    assert results(server, mail) == ["fail"] * 5
    assert len(server.asked) == 5


def test_line_feeds_alone_are_line_ends(server: Server) -> None:
    """A message kept with line feeds only verifies: on the wire they were CRLF."""
    assert results(server, sign().replace(b"\r\n", b"\n")) == ["pass"]


def slow() -> Job:
    """A job that takes minutes with dkimpy: a modulus and an exponent of 60,000 bits."""
    monster = _der_rsa((1 << 60_000) + 1, (1 << 60_000) - 1)
    mail = sign()
    message = Message.parse(mail)
    fields = [(field.raw.partition(b":")[0], field.raw.partition(b":")[2]) for field in message.fields]
    return Job(fields, message.body, [(0, b"v=DKIM1; k=rsa; p=" + base64.b64encode(monster))])


def good() -> Job:
    message = Message.parse(sign())
    fields = [(field.raw.partition(b":")[0], field.raw.partition(b":")[2]) for field in message.fields]
    return Job(fields, message.body, [(0, record())])


def test_time_is_limited() -> None:
    """A job that would take minutes is killed at its limit, and the next one is done."""
    workers = Workers(1, 1.5)
    try:
        assert workers.run(good()) == ["pass"]
        start = time.monotonic()
        with pytest.raises(TookTooLong):
            workers.run(slow())
        assert time.monotonic() - start < 4
        assert workers.run(good()) == ["pass"]
    finally:
        workers.close()


def test_took_too_long_is_a_verdict(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """For the milter, too long means not authenticated, and no exception; busy means later."""
    for error, result in ((TookTooLong, "permerror"), (Busy, "temperror")):

        class Failing:
            def run(self, job: Job, error: type[Exception] = error) -> list[str]:
                raise error

        monkeypatch.setattr(dkimverify, "WORKERS", Failing())
        assert results(server, sign()) == [result]


def test_a_child_that_was_killed_is_replaced() -> None:
    """Killing the child between two jobs loses neither."""
    workers = Workers(1, 5)
    try:
        assert workers.run(good()) == ["pass"]
        (child,) = workers._idle
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        assert workers.run(good()) == ["pass"]
    finally:
        workers.close()


def test_a_child_that_dies_at_work_is_temporary() -> None:
    """A child that goes away in the middle says nothing of the message: try later."""
    workers = Workers(1, 20)
    try:
        workers.run(good())
        (child,) = workers._idle
        threading.Timer(0.7, child.kill).start()
        with pytest.raises(Busy):
            workers.run(slow())
        assert workers.run(good()) == ["pass"]
    finally:
        workers.close()


def test_threads_share_the_workers() -> None:
    """Many threads, as libmilter has, get each their own answer from two children."""
    workers = Workers(2, 10)
    wrong = good()
    wrong = Job(wrong.fields, b"other\r\n", wrong.signatures)
    try:
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda i: workers.run(wrong if i % 3 else good())[0] == "pass", range(60)))
        assert found == [not i % 3 for i in range(60)]
        assert len(workers._idle) <= 2
    finally:
        workers.close()


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300) | st.text("abdhiqstvxlcpfrom=;:@., \r\n1r-256", max_size=200).map(str.encode))
def test_arbitrary_signatures_never_raise(value: bytes) -> None:
    """Whatever stands in a DKIM-Signature, there is a verdict or none."""

    class Nobody:
        def lookup(self, name: str, rdtype: str) -> tuple[object, ...]:
            return ()

    mail = b"DKIM-Signature: " + value + b"\r\n" + MAIL
    assert "pass" not in [verdict.result for verdict in dkimverify.verify(Message.parse(mail), Nobody(), lambda domain: True)]
