"""A post as it goes out (kelou/outgoing.py)."""

from __future__ import annotations

import dkim
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st
from samples import NAMES, leaves, load, shown
from test_listfields import CONFIG, a_list
from test_mime import BODIES

from kelou.encoding import within_line_length
from kelou.listtype import TYPES
from kelou.message import Message
from kelou.outgoing import fill, prepare

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PEM = KEY.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
PUBLIC = KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
RECORD = b"v=DKIM1; k=rsa; p=" + b"".join(PUBLIC.splitlines()[1:-1])


def signed(name: str, canonicalization: tuple[bytes, bytes]) -> bytes:
    message, raw = load(name), bytes(load(name))
    headers = [field.name.encode() for field in message.fields if field.name != "received"]
    return bytes(dkim.sign(raw, b"s", b"asso.example", PEM, canonicalize=canonicalization, include_headers=headers)) + raw


def verifies(message: Message) -> bool:
    return bool(dkim.verify(bytes(message), dnsfunc=lambda _name, timeout=5: RECORD))


@pytest.mark.parametrize("canonicalization", [(b"simple", b"simple"), (b"relaxed", b"relaxed")], ids=["simple", "relaxed"])
@pytest.mark.parametrize("name", ["plain-ascii", "plain-8bit-utf8", "html-outlook", "html-apple-mail-related", "mixed-text-attachment", "signed-pgp-mime",
                                  "missing-close-boundary", "header-8bit-utf8", "boundary-blanks-and-epilogue", "calendar-invite"])  # fmt: skip
def test_the_author_s_signature_survives_a_discussion(name: str, canonicalization: tuple[bytes, bytes]) -> None:
    """With neither tag nor footer the author's DKIM signature still verifies, as it came."""
    message = Message.parse(signed(name, canonicalization))
    assert verifies(message)
    sent = prepare(message, a_list(), CONFIG)
    assert sent.text("list-id") == "Board of the association <board.lists.example>"
    assert verifies(sent)


@pytest.mark.parametrize("own", [{"footer": "x"}, {"subject_tag": "x"}], ids=["footer", "tag"])
def test_tag_and_footer_cost_the_signature(own: dict[str, str]) -> None:
    """As their help texts say: this is what the test above would show if prepare changed anything."""
    assert not verifies(prepare(Message.parse(signed("plain-ascii", (b"relaxed", b"relaxed"))), a_list(**own), CONFIG))


@pytest.mark.parametrize("name", NAMES)
def test_a_discussion_changes_no_body(name: str) -> None:
    """Body and separator stay; of the header only what lists drop is gone."""
    message = load(name)
    sent = prepare(message, a_list(), CONFIG)
    assert sent.body == message.body
    assert [f.raw for f in sent.fields if f in message.fields] == [f.raw for f in message.fields if f in sent.fields]


@given(BODIES, st.binary(max_size=60))
def test_no_bytes_raise(body: bytes, head: bytes) -> None:
    """Whatever is accepted goes out, for every type of list; without tag and footer no byte of the body changes, and a retry sends the same."""
    for raw in (head + b"\r\n\r\n" + body, b"Subject: x\r\nContent-Type: multipart/mixed; boundary=a\r\n" + head.replace(b"\n", b" ") + b"\r\n\r\n" + body):
        message = Message.parse(raw)
        for kind in TYPES:
            sent = prepare(message, a_list(type=kind), CONFIG)
            assert bytes(sent) == bytes(prepare(Message.parse(raw), a_list(type=kind), CONFIG))
            assert len(Message.parse(bytes(sent)).all("list-id")) == 1
        assert prepare(message, a_list(), CONFIG).body == message.body


def test_a_newsletter() -> None:
    """Its footer is there in the list's language, filled in, once per alternative, and its subject is as it was."""
    sent = prepare(load("html-outlook"), a_list(type="newsletter", subject="Nouvelles d'ici", language="en"), CONFIG)
    plain, html = map(shown, leaves(sent))
    assert plain.endswith("\n\n-- \nNouvelles d'ici\nTo unsubscribe: mailto:sympa@lists.example?subject=unsubscribe%20board\n")
    assert html.count("subject=unsubscribe%20board</a>") == 1
    assert sent.text("subject") == "Minutes"
    assert sent.text("list-post") == "NO"


def test_a_working_group() -> None:
    """Tag, footer and replies to the list."""
    sent = prepare(load("plain-ascii"), a_list(type="working-group"), CONFIG)
    assert sent.text("subject") == "[board] Minutes"
    assert sent.text("reply-to") == "board@lists.example"
    assert b"unsubscribe%20board" in sent.body


def test_the_preset_footer_is_translated(monkeypatch: pytest.MonkeyPatch) -> None:
    """The footer that comes with a type is in the list's language; an owner's own is as written."""
    from kelou import outgoing
    from kelou.i18n import language

    monkeypatch.setattr(outgoing, "_", lambda text: f"{language()}: {text}")
    assert b"fr: -- " in prepare(load("plain-ascii"), a_list(type="newsletter", language="fr"), CONFIG).body
    assert b"fr: " not in prepare(load("plain-ascii"), a_list(footer="own", language="fr"), CONFIG).body


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("{list} {address} {unsubscribe}", "board board@lists.example mailto:x"),
        ("{subject}", "{list} {0}"),
        ("{0} {} {list.__class__} {unknown} {", "{0} {} {list.__class__} {unknown} {"),
        ("{{list}}", "{board}"),
    ],
)
def test_placeholders(text: str, filled: str) -> None:
    """Four names are filled in, once; other braces stay as they are, whatever they would mean to Python."""
    assert fill(text, {"list": "board", "address": "board@lists.example", "subject": "{list} {0}", "unsubscribe": "mailto:x"}) == filled


def test_a_post_without_message_id_gets_one() -> None:
    """The same one each time: a retry must not look like another post."""
    message = Message.parse(b"From: a@asso.example\r\n\r\nbody")
    found = prepare(message, a_list(), CONFIG).text("message-id")
    assert found == prepare(message, a_list(), CONFIG).text("message-id")
    assert found.endswith("@lists.example>")
    assert prepare(load("plain-ascii"), a_list(), CONFIG).text("message-id") == "<1@asso.example>"


def test_long_lines_are_gone_before_signing() -> None:
    """A post with a line of a megabyte goes out in short ones."""
    sent = prepare(Message.parse(b"From: a@asso.example\r\n\r\n" + b"x" * 1_000_000), a_list(type="working-group"), CONFIG)
    assert within_line_length(sent) is sent
