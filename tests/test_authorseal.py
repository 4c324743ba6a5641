"""The author's seal: what the milter says, the LMTP handler believes, and nobody else can say it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kelou import authorseal
from kelou.message import Field, Message
from kelou.policy import Author
from kelou.secret import AUTHOR, Secret

SECRET = Secret(b"x" * 32)
NOW = 1_800_000_000
MESSAGE = Message.parse(
    b"From: Ann <ann@example.net>\r\nDate: Mon, 23 Nov 2026 12:00:00 +0000\r\nSubject: Hello\r\n you\r\nMessage-ID: <1@example.net>\r\n\r\nText\r\n"
)
ANN = Author("ann@example.net", "dkim example.net")


def sealed(author: Author = ANN, message: Message = MESSAGE, queue_id: str = "4abcDEF", secret: Secret = SECRET, now: int = NOW) -> Message:
    return message.with_top([authorseal.seal(secret, author, queue_id, message, now)])


def opened(message: Message, queue_id: str = "4abcDEF", now: int = NOW) -> Author:
    return authorseal.open(SECRET, message, queue_id, now)


@pytest.mark.parametrize(
    "author",
    [
        pytest.param(ANN, id="an author"),
        pytest.param(Author("", "no signature"), id="nobody, with the reason"),
        pytest.param(Author("", "SERVFAIL", trouble=True), id="not found out"),
        pytest.param(Author("", "dmarc fail", forbidden=True), id="forbidden"),
        pytest.param(Author('"a;b= c"@example.net', "100%; s=0"), id="an address of odd signs"),
        pytest.param(Author("zoé@été.example", "né"), id="UTF-8"),
        pytest.param(Author("a" * 60 + "@" + "b" * 60 + ".example", "why " * 60), id="a long one"),
    ],
)
def test_what_was_sealed_comes_out(author: Author) -> None:
    """Every part of it, whatever it holds."""
    assert opened(sealed(author)) == author


@given(st.text(max_size=80).filter(lambda t: not any(0xD800 <= ord(c) <= 0xDFFF for c in t)), st.text(alphabet="ab;=% \t\r\n,é", max_size=40))
def test_any_text_comes_out(address: str, why: str) -> None:
    """And is one field of ASCII."""
    message = sealed(Author(address, why))
    assert message.fields[0].raw.isascii()
    assert Message.parse(bytes(message)) == message
    assert opened(message) == Author(address, why)


def test_folding_on_the_way_does_no_harm() -> None:
    """Neither the seal's own nor that of the fields that it is bound to."""
    raw = bytes(sealed()).replace(b"Subject: Hello\r\n you", b"Subject:\tHello  you")
    first, rest = raw.split(b"From:", 1)
    assert opened(Message.parse(b" ".join(first.split()) + b"\r\nFrom:" + rest)) == ANN


def test_trace_fields_do_no_harm() -> None:
    """What Postfix adds on top."""
    assert opened(Message.parse(b"Received: by x\r\nReturn-Path: <a@b.org>\r\n" + bytes(sealed()))) == ANN


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(MESSAGE, id="no seal"),
        pytest.param(sealed(secret=Secret(b"y" * 32)), id="another site's"),
        pytest.param(sealed(queue_id="4other"), id="another message's"),
        pytest.param(Message.parse(bytes(sealed()).replace(b"a=ann", b"a=bob")), id="another address in it"),
        pytest.param(Message.parse(bytes(sealed(Author("", "x"))).replace(b"f=;", b"f=trouble;")), id="another flag in it"),
        pytest.param(Message.parse(bytes(sealed()).replace(b"From: Ann <ann", b"From: Ann <bob")), id="another author"),
        pytest.param(Message.parse(bytes(sealed()).replace(b"From:", b"From: x@example.net\r\nFrom:")), id="another From besides"),
        pytest.param(Message.parse(bytes(sealed()).replace(b"Hello", b"Hallo")), id="another subject"),
        pytest.param(Message.parse(bytes(sealed()).replace(b"<1@", b"<2@")), id="another Message-ID"),
        pytest.param(sealed(now=NOW - authorseal.LIFETIME - 1), id="an old one"),
        pytest.param(sealed(now=NOW + authorseal.LIFETIME + 1), id="one from the future"),
        *(
            pytest.param(MESSAGE.with_top([Field(b"Kelou-Author:" + value + b"\r\n")]), id=f"nonsense {number}")
            for number, value in enumerate((b"", b" ", b" ;;;=", b" q=4abcDEF; t=x; a=b; w=c; f=; m=d; s=e", b"\xff\xfe\0", b" s=1", b" q=%ff%fe;" * 99))
        ),
    ],
)
def test_nothing_else_is_believed(message: Message) -> None:
    """Nobody is proved by a seal that is missing, not ours, or another message's; the reason is told."""
    found = opened(message)
    assert (found.address, found.trouble, found.forbidden) == ("", False, False)
    assert found.why


def test_a_forgery_beside_the_seal_changes_nothing() -> None:
    """Where the milter was not asked to take it off, ours still counts, wherever it stands."""
    forged = Field(b"Kelou-Author: q=4abcDEF; t=1800000000; a=boss@example.net; w=x; f=; m=0; s=0\r\n")
    message = sealed()
    assert opened(message.with_top([forged])) == ANN
    assert opened(replace(message, fields=(*message.fields, forged))) == ANN


def test_it_outlives_the_queue() -> None:
    """A post that waited in Postfix's queue for as long as it may is still its author's."""
    assert opened(sealed(), now=NOW + 5 * 86400) == ANN
    assert sealed().fields[0].name == AUTHOR.lower()
