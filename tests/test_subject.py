"""The subject tag (kelou/subject.py)."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kelou.message import Message
from kelou.subject import tagged


def tag(subject: str | bytes, word: str = "board") -> str:
    raw = subject.encode() if isinstance(subject, str) else subject
    return tagged(Message.parse(b"Subject: " + raw + b"\r\n\r\nbody"), word).text("subject")


@pytest.mark.parametrize(
    ("subject", "result"),
    [
        ("Minutes", "[board] Minutes"),
        ("", "[board]"),
        ("   ", "[board]"),
        ("[board] Minutes", "[board] Minutes"),
        ("[BOARD] Minutes", "[board] Minutes"),
        ("[board]Minutes", "[board] Minutes"),
        ("[board] [board] Minutes", "[board] Minutes"),
        ("[other] Minutes", "[board] [other] Minutes"),
        ("[boarding] Minutes", "[board] [boarding] Minutes"),
        ("Minutes of [board] people", "[board] Minutes of [board] people"),
        ("Re: Minutes", "Re: [board] Minutes"),
        ("Re:", "Re: [board]"),
        ("Re: [board] Minutes", "Re: [board] Minutes"),
        ("[board] Re: Minutes", "Re: [board] Minutes"),
        ("[board] Re: [board] Re: Minutes", "Re: [board] Minutes"),
        ("Re: Re: RE: Minutes", "Re: [board] Minutes"),
        ("Re: AW: SV: Minutes", "Re: [board] Minutes"),
        ("RE : Minutes", "RE : [board] Minutes"),
        ("RE\u00a0: Minutes", "RE : [board] Minutes"),
        ("Réf: Minutes", "Réf: [board] Minutes"),
        ("Réf. : Minutes", "Réf. : [board] Minutes"),
        ("Rép: Minutes", "Rép: [board] Minutes"),
        ("RÉF : Minutes", "RÉF : [board] Minutes"),
        ("TR: Minutes", "TR: [board] Minutes"),
        ("Tr : Minutes", "Tr : [board] Minutes"),
        ("Fwd: Minutes", "Fwd: [board] Minutes"),
        ("AW: Minutes", "AW: [board] Minutes"),
        ("SV: Minutes", "SV: [board] Minutes"),
        ("Re[2]: Minutes", "Re[2]: [board] Minutes"),
        ("Re(3): Minutes", "Re(3): [board] Minutes"),
        ("Re: Fwd: Minutes", "Re: Fwd: [board] Minutes"),
        ("TR: RE: [board] Minutes", "TR: RE: [board] Minutes"),
        ("回复：Minutes", "回复： [board] Minutes"),
        ("Odgovor: [board] Minutes", "Odgovor: [board] Minutes"),
        ("Note: Minutes", "[board] Note: Minutes"),
        ("Project: Re: Minutes", "[board] Project: Re: Minutes"),
        ("Reply: to all", "[board] Reply: to all"),
        ("Research: Minutes", "[board] Research: Minutes"),
        ("Trip: Minutes", "[board] Trip: Minutes"),
        ("=?utf-8?q?R=C3=A9union?=", "[board] Réunion"),
        ("=?utf-8?q?R=C3=A9f=3A_R=C3=A9union?=", "Réf: [board] Réunion"),
        ("=?iso-8859-1?q?Re=3A_=5Bboard=5D_?= =?iso-8859-1?b?6XTp?=", "Re: [board] été"),
        ("Réunion à midi", "[board] Réunion à midi"),
        ("Re:\r\n [board]\r\n\tfolded  twice", "Re: [board] folded twice"),
    ],
)
def test_the_tag_stands_once_behind_the_prefixes(subject: str, result: str) -> None:
    """`Re:` and its likes stay in front, one of a kind in a row; the tag follows, once; and a second pass changes nothing."""
    assert tag(subject) == result
    assert tag(result) == result


def test_a_missing_subject_gets_one() -> None:
    """Without a subject the tag is the subject."""
    assert bytes(tagged(Message.parse(b"To: a@b.example\r\n\r\nbody"), "board")) == b"To: a@b.example\r\nSubject: [board]\r\n\r\nbody"


def test_a_tagged_subject_keeps_its_bytes() -> None:
    """Where nothing changes the same object comes back, folding, encoding and all, and the author's signature with it."""
    for raw in (b"Subject:   =?utf-8?q?=5Bboard=5D_R=C3=A9union?=\r\n\r\n", b"subject:Re: [board] Minutes\r\n\r\n"):
        message = Message.parse(raw)
        assert tagged(message, "board") is message


@pytest.mark.parametrize("word", ["", " ", "\n"])
def test_no_tag_is_no_change(word: str) -> None:
    """An empty tag gives the same object."""
    message = Message.parse(b"Subject: x\r\n\r\n")
    assert tagged(message, word) is message


def test_only_ascii_goes_out() -> None:
    """Raw UTF-8 becomes encoded words (RFC 2047): not every host on the way takes SMTPUTF8."""
    message = tagged(Message.parse("Subject: Réunion du comité\r\n\r\n".encode()), "école")
    assert message.fields[0].raw.isascii()
    assert message.text("subject") == "[école] Réunion du comité"


def test_the_subject_keeps_its_place_and_is_one() -> None:
    """The field stays where it was; a second Subject goes (RFC 5322 section 3.6)."""
    message = tagged(Message.parse(b"From: a\r\nSubject: x\r\nTo: b\r\nSUBJECT: y\r\n\r\n"), "board")
    assert bytes(message) == b"From: a\r\nSubject: [board] x\r\nTo: b\r\n\r\n"


def test_tags_with_brackets_and_patterns() -> None:
    """A tag is a text, and no pattern."""
    assert tag("Re: [a.*(b] x", "a.*(b") == "Re: [a.*(b] x"


@given(st.binary(), st.text(max_size=20))
def test_no_subject_raises(subject: bytes, word: str) -> None:
    """Whatever the subject, the body stays and the header is as many fields as before."""
    message = Message.parse(b"From: a\r\nSubject: " + subject.replace(b"\r", b" ").replace(b"\n", b" ") + b"\r\n\r\nbody")
    new = Message.parse(bytes(tagged(message, word)))
    assert new.body == b"body"
    assert [f.name for f in new.fields] == ["from", "subject"]


@pytest.mark.parametrize("piece", ["Re: ", "Re:", "[board] ", "x", "Xyz: ", "Re[2", "R", " ", ":", "[", "é", "=?utf-8?q?a?= ", "İ"])
def test_a_hundred_kilobytes_take_no_time(piece: str) -> None:
    """A subject of 100 kB, of whatever, is tagged in a moment."""
    message = Message.parse(b"Subject: " + (piece * (100_000 // len(piece.encode()))).encode() + b" [board]\r\n\r\n")
    start = time.monotonic()
    tagged(message, "board")
    assert time.monotonic() - start < 2
