"""Time: what one message costs, others do not wait for. The budget is measured from outside: meanwhile another list's post goes through."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import signer
from attack import AUTHOR, LISTS, Raw, Watch, alive, fate, make, post, settle, to, trusted, zone
from conftest import Dialogue, Sandbox

BUDGET = 10.0  # seconds for another list's post; on a machine that does nothing else it takes some tenths
MB = 1024 * 1024


@pytest.fixture(scope="module")
def watch(sandbox: Sandbox) -> Iterator[Watch]:
    made = Watch(sandbox)
    yield made
    made.check()


@pytest.fixture(scope="module")
def target(sandbox: Sandbox) -> str:
    return make(
        sandbox, "post=anyone", "max_size=10M", "no_subject=accept", "blind_copies=accept", "too_many_recipients=accept", "subject_tag={list}", "footer=-- \n{subject}",
        "header_rules=hold X-Nothing: /(a+)+$/\nhold Subject: /((a|aa|a?)+)+[^a]$/\nhold X-A: /(.*)*=(.*)*=(.*)*!/",
    )  # fmt: skip


@pytest.fixture(scope="module")
def other(sandbox: Sandbox) -> str:
    return make(sandbox)


class Meanwhile:
    """Something that is done in threads of its own while others post."""

    def __init__(self, *doings: object) -> None:
        self.answers: list[Dialogue] = []
        self._threads = [threading.Thread(target=self._do, args=(doing,), daemon=True) for doing in doings]

    def _do(self, doing: object) -> None:
        self.answers.append(doing())  # type: ignore[operator]

    def __enter__(self) -> list[Dialogue]:
        for thread in self._threads:
            thread.start()
        time.sleep(0.5)
        return self.answers

    def __exit__(self, *_what: object) -> None:
        for thread in self._threads:
            thread.join(120)
            assert not thread.is_alive(), "it hangs"


SLOW: dict[str, tuple[bytes, bytes]] = {
    "a subject of blanks": (b"Subject: " + b" " * 58_000 + b"x\r\n", b"x\r\n"),
    "a subject of tabs in folds": (b"Subject: x" + b"\r\n\t \t" * 10_000 + b"x\r\n", b"x\r\n"),
    "a subject of Re:": (b"Subject: " + b"Re: " * 14_000 + b"\r\n", b"x\r\n"),
    "a subject for a pattern": (b"Subject: " + b"a" * 50_000 + b"!\r\nX-Nothing: " + b"a" * 9_000 + b"!\r\nX-A: " + b"x=x=" * 200 + b"\r\n", b"x\r\n"),
    "a body of 1 MB of blanks": (b"", b"x" + b" " * (MB - 100_000) + b"x\r\n"),
    "a body of 4 MB of blanks in lines": (b"", (b" " * 990 + b"x\r\n") * 4000),
    "a body of 4 MB of blanks and line ends": (b"", b" \r\n" * (4 * MB // 3) + b"x\r\n"),
    "8-bit letters without a blank": (b"X-A: " + "é".encode() * 28_000 + b"\r\n", b"x\r\n"),
    "many at signs": (b"X-A: " + b"@a" * 28_000 + b"\r\n", b"x\r\n"),
    "many fields of 8-bit letters": ((b"X-A: " + "é".encode() * 25_000 + b"\r\n") * 40, b"x\r\n"),
    "recipients for a pattern": (b"Cc: " + b"a@a" * 19_000 + b"\r\n", b"x\r\n"),
    "a DKIM-Signature of blanks": (b"DKIM-Signature: v=1; a=rsa-sha256; d=example.net; s=s; h=from; bh=x; b=" + b"\r\n " * 15_000 + b"x\r\n", b"x\r\n"),
    "a DKIM-Signature of semicolons": (b"DKIM-Signature: " + b"v=1;" * 14_000 + b"\r\n", b"x\r\n"),
    "a hundred DKIM-Signatures": (b"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.net; s=s; h=from; bh=x; b=x\r\n" * 100, b" " * 900 + b"x\r\n"),
    "HTML in pieces": (b"MIME-Version: 1.0\r\nContent-Type: text/html\r\n", b"<p <p" * 150_000 + b"\r\n"),
    "links": (b"", b"http://" * 120_000 + b"\r\n"),
    "signatures of PGP": (b"", b"-----BEGIN PGP \r\n" * 100_000),
    "parameters of quotes": (b"MIME-Version: 1.0\r\nContent-Type: text/plain; a=" + b'"\\' * 20_000 + b"\r\n", b"x\r\n"),
    "Authentication-Results of parentheses": (b"Authentication-Results: " + b"(" * 25_000 + b")" * 25_000 + b"\r\n", b"x\r\n"),
}


def slow(name: str, shape: str, author: str) -> bytes:
    extra, body = SLOW[shape]
    content = post(name, author, f"slow {shape}", extra, body)
    return content.replace(f"Subject: slow {shape}\r\n".encode(), b"") if extra.startswith(b"Subject:") else content


@pytest.mark.parametrize("shape", SLOW)
def test_slow_posts(sandbox: Sandbox, watch: Watch, target: str, other: str, shape: str) -> None:
    """Six at once, to a list with a pattern, a tag and a footer, to its owners and past the author's proof: another list's post goes through."""
    doings = [
        *[lambda: trusted(sandbox, target, slow(target, shape, AUTHOR))] * 2,
        *[lambda: sandbox.untrusted("a@plain.example", to(target), slow(target, shape, "a@plain.example"))] * 2,
        *[lambda: sandbox.untrusted("a@plain.example", f"{target}-owner@{LISTS}", slow(target, shape, "a@plain.example"))] * 2,
    ]
    with Meanwhile(*doings) as answers:
        took = [alive(sandbox, other, BUDGET) for _post in range(3)]
    settle(sandbox, 30)
    assert {answer.data[:3] for answer in answers} <= {"250", "550", "552"}, answers
    assert max(took) < BUDGET


@pytest.mark.parametrize("number", [2_000, 300_000, 2_300_000])
def test_header_fields_by_the_million(sandbox: Sandbox, watch: Watch, target: str, other: str, number: int) -> None:
    """To a list and to its owners: refused as soon as there are more than any mail has, and others' posts do not wait."""
    content = post(target, extra=b"X:\r\n" * number)
    begin = time.monotonic()
    doings = [lambda: trusted(sandbox, target, content), lambda: sandbox.untrusted("a@plain.example", f"{target}-owner@{LISTS}", content)] * 4
    with Meanwhile(*doings) as answers:
        took = alive(sandbox, other, BUDGET)
    assert {answer.data[:3] for answer in answers} <= {"550", "552"}, answers
    assert max(took, time.monotonic() - begin) < BUDGET


NO_POLICY = '_dmarc.hostile.example. 60 IN TXT "v=DMARC1; p=none"'
HOSTILE = {
    "timeout": '*.hostile.example. 60 IN TXT "kelou-timeout"\nhostile.example. 60 IN TXT "kelou-timeout"',
    "servfail": '*.hostile.example. 60 IN TXT "kelou-servfail"\nhostile.example. 60 IN TXT "kelou-servfail"',
    "a loop of aliases": "_dmarc.hostile.example. 60 IN CNAME a.hostile.example.\na.hostile.example. 60 IN CNAME b.hostile.example.\n"
    "b.hostile.example. 60 IN CNAME a.hostile.example.\n*._domainkey.hostile.example. 60 IN CNAME a.hostile.example.\nhostile.example. 60 IN CNAME b.hostile.example.",
    "keys of garbage": '*._domainkey.hostile.example. 60 IN TXT "\\255\\254\\000"\n_dmarc.hostile.example. 60 IN TXT "v=DMARC1; p=\\255; rua=;;;=;"\n'
    'hostile.example. 60 IN TXT "v=spf1 \\255"',
    "a key of 20,000": '*._domainkey.hostile.example. 60 IN TXT "v=DKIM1; k=rsa; p=' + "A" * 20_000 + '"\n_dmarc.hostile.example. 60 IN TXT "v=DMARC1; p=reject"',
    "revoked": '*._domainkey.hostile.example. 60 IN TXT "v=DKIM1; p="\n_dmarc.hostile.example. 60 IN TXT "v=DMARC1; p=none"',
    "SPF that includes itself": 'hostile.example. 60 IN TXT "v=spf1 include:hostile.example redirect=hostile.example"\n' + NO_POLICY,
    "SPF of macros": 'hostile.example. 60 IN TXT "v=spf1 exists:%{l}%{l}%{l}%{s}%{p}.hostile.example ptr mx a:%{h} ?all"\n' + NO_POLICY,
    "many policies": "\n".join(f'_dmarc.hostile.example. 60 IN TXT "v=DMARC1; p={word}"' for word in ("none", "reject", "quarantine")),
}


@pytest.mark.parametrize("records", HOSTILE)
def test_hostile_dns(sandbox: Sandbox, watch: Watch, target: str, other: str, records: str) -> None:
    """Whatever the DNS of the author's domain says, or does not say: nothing is distributed in its name, and others' posts do not wait."""
    author = "a@hostile.example"

    def attack() -> Dialogue:
        signed = signer.sign(post(target, author, f"hostile {records}"), domain="hostile.example")
        return sandbox.untrusted(author, to(target), signed, ADDR="192.0.2.66")

    with zone(sandbox, HOSTILE[records]):
        with Meanwhile(*[attack] * 12) as answers:
            took = [alive(sandbox, other, BUDGET) for _post in range(3)]
        settle(sandbox)
        assert {answer.data[:3] for answer in answers} <= {"250", "451", "550"}, answers
    assert f"hostile {records}" not in fate(sandbox, target).sent
    assert max(took) < BUDGET


@pytest.mark.parametrize(
    "tags",
    [
        b"l=5;", b"x=" + b"9" * 5000 + b";", b"t=" + b"9" * 5000 + b";", b"i=@hostile.example;", b"i=hostile.example;", b"c=x/y;", b"q=dns/txt;" * 500,
        b"z=" + b"x" * 7000 + b";", b"bh=;", b"a=rsa-sha1;", b"a=ed25519-sha256;", b"d=" + b"d" * 80 + b".hostile.example;", b"s=;", b"h=;",
    ],
    ids=lambda tags: tags[:12].decode(),
)  # fmt: skip
def test_monstrous_signatures(sandbox: Sandbox, watch: Watch, target: str, other: str, tags: bytes) -> None:
    """A signature with a good key behind it and a monster in it proves nothing, and harms nobody."""
    author, key = "a@hostile.example", signer.record().decode()
    with zone(sandbox, f'*._domainkey.hostile.example. 60 IN TXT "{key}"\n_dmarc.hostile.example. 60 IN TXT "v=DMARC1; p=none"'):
        good = signer.sign(post(target, author, "monstrous"), domain="hostile.example")
        found = good.replace(b"DKIM-Signature: v=1;", b"DKIM-Signature: v=1; " + b"\r\n ".join(tags[at : at + 70] for at in range(0, len(tags), 70)), 1)
        answer = sandbox.untrusted(author, to(target), found, ADDR="192.0.2.66")
        assert answer.data[:3] in ("250", "550"), answer
        alive(sandbox, other, BUDGET)
    settle(sandbox)
    assert "monstrous" not in fate(sandbox, target).sent


def test_clients_that_say_nothing(sandbox: Sandbox, watch: Watch, other: str, target: str) -> None:
    """Thirty that stop in the middle of a message keep nobody else waiting."""
    clients = [Raw(sandbox.info["untrusted_smtp"]) for _client in range(30)]
    try:
        for client in clients:
            assert client.envelope("a@plain.example", to(target))[-1].startswith("354")
            client.send(b"From: a@plain.example\r\nX: ")
        alive(sandbox, other, BUDGET)
    finally:
        for client in clients:
            client.socket.close()
    alive(sandbox, other, BUDGET)
