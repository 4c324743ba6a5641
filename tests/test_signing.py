"""DKIM: keys on disk, and signatures that others can verify."""

from __future__ import annotations

import base64
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import dkim
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, generate_private_key
from cryptography.hazmat.primitives.serialization import load_der_public_key
from dnsserver import Server
from hypothesis import given, settings
from hypothesis import strategies as st

from kelou import signing
from kelou.message import Field, Message
from kelou.refusal import BadConfiguration, BadData, CannotCreate, NotFound

DOMAIN = "lists.example.org"
MAIL = (
    b"Received: from a.example by b.example\r\nFrom: Jane <jane@example.net>\r\nTo: ca@lists.example.org\r\nSubject:  A   letter\r\n\twith a fold \t\r\n"
    b"Date: Mon, 23 Nov 2026 12:00:00 +0000\r\nMessage-ID: <1@example.net>\r\nList-Id: CA <ca.lists.example.org>\r\n"
    b"List-Unsubscribe: <https://lists.example.org/u/1>, <mailto:ca-leave+1@lists.example.org>\r\n"
    b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n\r\nHello  there \r\n\r\nJane\r\n\r\n\r\n"
)
Verify = Callable[[bytes], str]


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> signing.Key:
    directory = tmp_path_factory.mktemp("dkim")
    signing.create(directory, DOMAIN, "k1")
    found = signing.active(directory, DOMAIN)
    assert found
    return found


def by_dkimpy(key: signing.Key) -> Verify:
    def verify(raw: bytes) -> str:
        return "pass" if dkim.verify(raw, dnsfunc=lambda name, **_: signing.record(key).encode() if name == f"{key.name}.".encode() else None) else "fail"

    return verify


def by_mail_dkim(key: signing.Key) -> Verify:
    assert shutil.which("perl")

    def verify(raw: bytes) -> str:
        with Server() as server:
            server.text(key.name, signing.record(key))
            command = ["perl", str(Path(__file__).with_name("dkimverify.pl")), str(server.port)]
            done = subprocess.run(command, input=raw, capture_output=True, check=True, timeout=30)
        return done.stdout.decode().split()[2]

    return verify


VERIFIERS = pytest.mark.parametrize("verifier", [pytest.param(by_dkimpy, id="dkimpy"), pytest.param(by_mail_dkim, id="Mail::DKIM")])


def signed(raw: bytes, key: signing.Key) -> bytes:
    """What a receiver gets: SMTP ends the last line where nobody else did."""
    field = signing.sign(Message.parse(raw), key, int(time.time()))
    return field.raw + raw + (b"" if raw.endswith(b"\r\n") else b"\r\n")


def tags(field: Field) -> dict[str, str]:
    parts = (part.partition("=") for part in "".join(field.value.decode().split()).split(";"))
    return {name: value for name, _equals, value in parts}


# --- Signatures ---


@VERIFIERS
@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(MAIL, id="a letter"),
        pytest.param(b"From: a@example.net\r\n\r\n", id="an empty body"),
        pytest.param(b"From: a@example.net\r\n\r\n\r\n\r\n\r\n", id="only empty lines"),
        pytest.param(b"From: a@example.net\r\n\r\nno line end", id="no line end at the end"),
        pytest.param(b"From: a@example.net\r\nTo: b@example.net\r\nTo: c@example.net\r\n\r\nx\r\n", id="a field twice"),
        pytest.param("From: Zoé <zoe@example.net>\r\nSubject: été\r\n\r\nà demain\r\n".encode(), id="UTF-8"),
        pytest.param("Subject: été\r\nFrom: a@example.net\r\n\r\nà demain\r\n".encode("latin-1"), id="8-bit of another kind"),
        pytest.param(b"From:   a@example.net\r\nSubject:\r\nCc:   \r\n\r\n  \r\n\t\r\n x \r\n", id="blanks"),
        pytest.param(b"From: a@example.net\r\nSubject: " + b"word " * 4000 + b"\r\n\r\n" + b"x" * 20000 + b"\r\n", id="long lines"),
        pytest.param(b"From: a@example.net\r\nList-Odd: 1\r\nX-b: b=1; bh=2\r\n\r\nb=1\r\n", id="a list field of no standard"),
    ],
)
def test_others_verify_it(key: signing.Key, verifier: Callable[[signing.Key], Verify], raw: bytes) -> None:
    """What we sign, dkimpy and Mail::DKIM find good."""
    assert verifier(key)(signed(raw, key)) == "pass"


@VERIFIERS
@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(b"Jane <jane@", b"Jane <june@", id="another author"),
        pytest.param(b"To: ca@", b"To: cb@", id="another recipient"),
        pytest.param(b"A   letter", b"A litter", id="another subject"),
        pytest.param(b"u/1", b"u/2", id="another way out"),
        pytest.param(b"=One-Click", b"=Two-Click", id="another click"),
        pytest.param(b"Hello", b"Hallo", id="another body"),
        pytest.param(b"Jane\r\n\r\n\r\n", b"Jane\r\n\r\n\r\nBuy!\r\n", id="a body with more"),
        pytest.param(b"Hello  there", b"Hello there", id="a blank less in the body"),
        pytest.param(b"From:", b"Subject: Buy!\r\nFrom:", id="a second subject"),
        pytest.param(b"From:", b"Reply-To: a@bad.example\r\nFrom:", id="a reply address"),
        pytest.param(b"From:", b"Sender: a@bad.example\r\nFrom:", id="a sender"),
        pytest.param(b"From:", b"Content-Type: text/html\r\nFrom:", id="a type"),
        pytest.param(b"From:", b"List-Unsubscribe: <mailto:a@bad.example>\r\nFrom:", id="a second way out"),
        pytest.param(b"From:", b"List-Unsubscribe-Post: x\r\nFrom:", id="a second click"),
        pytest.param(b"From:", b"From: a@bad.example\r\nFrom:", id="a second author"),
    ],
)
def test_what_is_changed_or_added_breaks_it(key: signing.Key, verifier: Callable[[signing.Key], Verify], old: bytes, new: bytes) -> None:
    """Every field that matters is covered, and so is its absence."""
    good = signed(MAIL, key)
    header, _blank, rest = good.partition(b"\r\nReceived:")
    changed = header + b"\r\nReceived:" + rest.replace(old, new, 1)
    assert changed != good
    assert verifier(key)(changed) == "fail"


@VERIFIERS
def test_what_happens_on_the_way_does_not(key: signing.Key, verifier: Callable[[signing.Key], Verify]) -> None:
    """Trace fields on top, other folding and other blanks leave a signature good (relaxed)."""
    good = b"Received: by c.example\r\n" + signed(MAIL, key).replace(b"letter\r\n\twith a fold \t\r\n", b"letter with\r\n a fold\r\n").replace(b"To: ca", b"TO:\tca")
    assert verifier(key)(good) == "pass"


def test_what_a_signature_says(key: signing.Key) -> None:
    """Relaxed and simple, no length, an end after Postfix has given up on the queue; no line over 78 octets."""
    field = signing.sign(Message.parse(MAIL), key, 1_800_000_000)
    found = tags(field)
    wanted = {"v": "1", "a": "rsa-sha256", "c": "relaxed/simple", "d": DOMAIN, "s": "k1", "t": "1800000000", "x": "1800604800"}
    assert {name: found[name] for name in wanted} == wanted
    assert "l" not in found
    assert signing.LIFETIME > 5 * 86400
    assert max(map(len, field.raw.split(b"\r\n"))) <= 78
    assert field.raw.endswith(b"\r\n")
    assert len(Message.parse(field.raw).fields) == 1


def test_every_name_once_more_than_it_is_there(key: signing.Key) -> None:
    """Oversigned: nothing of what is signed can be added."""
    names = tags(signing.sign(Message.parse(MAIL), key, 0))["h"].split(":")
    message = Message.parse(MAIL)
    for name in signing.SIGNED:
        assert names.count(name) == len(message.all(name)) + 1, name
    assert "received" not in names


def test_the_body_is_hashed_once_for_all_copies(key: signing.Key) -> None:
    """A copy that differs in its header alone needs the body's hash, not the body."""
    message = Message.parse(MAIL)
    body = signing.body_hash(message.body)
    copy = message.with_top([Field(b"Sender: ca-bounces@lists.example.org\r\n")])
    field = signing.sign_fields(copy.fields, body, key, int(time.time()))
    assert by_dkimpy(key)(field.raw + bytes(copy)) == "pass"


def test_the_longest_domain_is_verified(tmp_path: Path) -> None:
    """60 octets are not folded in the middle; 61 are refused."""
    domain = ("a" * 30 + "." + "b" * 25 + ".org")[: signing.LONGEST_DOMAIN]
    assert len(domain) == signing.LONGEST_DOMAIN
    signing.create(tmp_path, domain, "s" * 32)
    found = signing.active(tmp_path, domain)
    assert found
    assert by_dkimpy(found)(signed(MAIL, found)) == by_mail_dkim(found)(signed(MAIL, found)) == "pass"
    with pytest.raises(BadData):
        signing.create(tmp_path, "a" + domain, "k1")


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"From: a@b.org\r\n\r\n" + b"\r\n" * 500_000 + b"x", id="empty lines before a letter"),
        pytest.param(b"From: a@b.org\r\n\r\nx" + b"\r\n" * 500_000, id="empty lines behind one"),
        pytest.param(b"From: a@b.org\r\n\r\n" + b" " * 1_000_000, id="a line of blanks"),
        pytest.param(b"From: a@b.org\r\n\r\n" + b"\r" * 1_000_000, id="carriage returns"),
        pytest.param(b"From: a@b.org\r\n\r\n" + b"\n\r" * 500_000, id="line ends the wrong way"),
        pytest.param(b"From: a@b.org\r\nSubject:" + b" " * 60_000 + b"x" + b"\t" * 60_000 + b"\r\n\r\n", id="a field of blanks"),
        pytest.param(b"From: a@b.org\r\nSubject:" + b"\r\n " * 20_000 + b"x\r\n\r\n", id="a field of folds"),
        pytest.param(b"To: a@b.org\r\n" * 1_000 + b"\r\n", id="a thousand fields"),
    ],
)
def test_hostile_messages_are_signed_at_once(key: signing.Key, raw: bytes) -> None:
    """Time grows with the size and no faster; by dkimpy's own forms some of these take minutes."""
    message = Message.parse(raw)
    began = time.process_time()
    signing.sign(message, key, 0)
    assert time.process_time() - began < 0.5


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["From", "Subject", "to", "List-X"]), st.binary(max_size=30)), max_size=6), st.binary(max_size=60))
def test_any_bytes_can_be_signed(header: list[tuple[str, bytes]], body: bytes) -> None:
    """Signing never raises, and gives one field of ASCII."""
    raw = b"".join(name.encode() + b":" + value + b"\r\n" for name, value in header) + b"\r\n" + body
    field = signing.sign(Message.parse(raw), KEY, 0)
    assert field.raw.isascii()
    assert len(Message.parse(field.raw).fields) == 1


KEY = signing.Key(DOMAIN, "k", "active", 0, generate_private_key(65537, 2048))


# --- Keys ---


def test_the_first_key_is_active(tmp_path: Path) -> None:
    """A domain's first key signs at once; the next ones wait."""
    signing.create(tmp_path, DOMAIN, "one")
    signing.create(tmp_path, DOMAIN, "two")
    assert [(key.selector, key.state) for key in signing.keys(tmp_path)] == [("one", "active"), ("two", "new")]


def test_the_record_is_the_public_key(tmp_path: Path) -> None:
    """What is published is RSA with 2,048 bits, and the active key's."""
    record = signing.create(tmp_path, DOMAIN, "one")
    found = signing.active(tmp_path, DOMAIN)
    assert found
    assert signing.record(found) == record
    version, kind, public = record.split("; ")
    assert (version, kind) == ("v=DKIM1", "k=rsa")
    read = load_der_public_key(base64.b64decode(public.removeprefix("p=")))
    assert isinstance(read, RSAPublicKey)
    assert read.key_size == 2048
    assert read == found.private.public_key()


def test_activation_takes_effect_at_once(tmp_path: Path) -> None:
    """The next signature is the new key's; the old one is retired, and both are there."""
    for selector in ("one", "two"):
        signing.create(tmp_path, DOMAIN, selector)
    before = signing.active(tmp_path, DOMAIN)
    assert before is signing.active(tmp_path, DOMAIN)  # not read again
    signing.activate(tmp_path, DOMAIN, "two")
    after = signing.active(tmp_path, DOMAIN)
    assert before
    assert after
    assert (before.selector, after.selector, after.state) == ("one", "two", "active")
    assert [(key.selector, key.state) for key in signing.keys(tmp_path)] == [("one", "retired"), ("two", "active")]


def test_keys_are_for_their_owner_alone(tmp_path: Path) -> None:
    """Folders 0700, files 0600, and no draft is left behind."""
    directory = tmp_path / "dkim"
    signing.create(directory, DOMAIN, "one")
    modes = {str(path.relative_to(tmp_path)): path.stat().st_mode & 0o777 for path in [directory, *directory.rglob("*")]}
    folder = f"dkim/{DOMAIN}"
    assert modes == {"dkim": 0o700, folder: 0o700, f"{folder}/one.pem": 0o600, f"{folder}/selectors": 0o600}


def test_no_key_is_overwritten(tmp_path: Path) -> None:
    """The same selector twice is refused, and the first key stays."""
    record = signing.create(tmp_path, DOMAIN, "one")
    with pytest.raises(CannotCreate):
        signing.create(tmp_path, DOMAIN, "ONE")
    assert [signing.record(key) for key in signing.keys(tmp_path)] == [record]


@pytest.mark.parametrize(
    ("domain", "selector"),
    [
        pytest.param("../etc", "one", id="a path as domain"),
        pytest.param("", "one", id="no domain"),
        pytest.param("example", "one", id="half a domain"),
        pytest.param(DOMAIN, "../one", id="a path as selector"),
        pytest.param(DOMAIN, "", id="no selector"),
        pytest.param(DOMAIN, "a.b", id="a dot"),
        pytest.param(DOMAIN, "s" * 33, id="a long selector"),
        pytest.param(DOMAIN, "é", id="another alphabet"),
    ],
)
def test_names_that_can_not_be(tmp_path: Path, domain: str, selector: str) -> None:
    """They are refused before anything is written."""
    with pytest.raises(BadData):
        signing.create(tmp_path, domain, selector)
    assert list(tmp_path.iterdir()) == []


def test_a_domain_without_keys_has_none(tmp_path: Path) -> None:
    """None is an answer."""
    assert signing.active(tmp_path, DOMAIN) is None
    assert signing.keys(tmp_path) == []
    with pytest.raises(NotFound):
        signing.activate(tmp_path, DOMAIN, "one")


@pytest.mark.parametrize("file", ["one.pem", "selectors"])
def test_a_broken_key_is_named(tmp_path: Path, file: str) -> None:
    """What can not be read is named in one line."""
    signing.create(tmp_path, DOMAIN, "one")
    (tmp_path / DOMAIN / file).write_text("nonsense")
    with pytest.raises(BadConfiguration, match=file):
        signing.active(tmp_path, DOMAIN)
