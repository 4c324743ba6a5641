"""Notices: what Kelou writes itself is well-formed, in the reader's language, and no value in it can become anything else."""

from __future__ import annotations

import email
import email.policy
import html
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from database_fixture import SHELL, open_list, open_site
from hypothesis import given
from hypothesis import strategies as st
from smtppeer import Peer

from kelou import database, htmltext, notice, people, sample, secret, template
from kelou.config import Config
from kelou.directory import ListView
from kelou.message import Message
from kelou.models import now

TEMPLATES = Path(notice.__file__).with_name("templates")


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    peer.close()


@pytest.fixture
def config(tmp_path: Path, peer: Peer) -> Iterator[Config]:
    config = open_site(tmp_path, peer.endpoint, site__name="Kaz – listes")
    with database.connection():
        yield config


@pytest.fixture
def amis(config: Config, peer: Peer) -> ListView:
    amis = open_list(config)
    peer.letters.clear()
    return amis


def body(content: bytes) -> str:
    """The text, as Python's email, which did not write it, reads it."""
    part = email.message_from_bytes(content, policy=email.policy.default).get_body(("plain",))
    assert part is not None
    text: str = part.get_content()
    return text.replace("\r\n", "\n")


def test_the_templates_are_all_there() -> None:
    """English and French have the same notices, and these are all of them."""
    for language in ("en", "fr"):
        assert {path.stem for path in (TEMPLATES / language).iterdir()} == set(sample.VALUES)


@pytest.mark.parametrize("language", ["en", "fr"])
@pytest.mark.parametrize("kind", sample.VALUES)
@pytest.mark.parametrize("optional", [True, False], ids=["everything given", "only what must be"])
def test_every_notice(config: Config, amis: ListView, kind: str, language: str, optional: bool) -> None:
    """Every notice is whole in both languages: 7-bit, short lines, each field once, answered by nobody, signed on the way."""
    values = sample.VALUES[kind] if optional else sample.least(kind)
    content = notice.write(
        config, secret.load(config), kind, "jane@example.org", amis, language, name="Jérôme" if optional else "", **values
    )
    assert content.isascii()
    assert content.count(b"\n") == content.count(b"\r\n") == content.count(b"\r")
    assert max(map(len, content.split(b"\r\n"))) <= 998
    message = Message.parse(content)
    names = [field.name for field in message.fields]
    assert sorted(names) == sorted({*names})
    assert message.text("Auto-Submitted") == "auto-generated"
    assert message.text("Content-Language") == language
    assert message.text("From") == "Kaz – listes <amis-owner@lists.example.org>"
    assert message.text("To") in ("Jérôme <jane@example.org>", "jane@example.org")
    assert message.text("Message-ID").endswith("@lists.example.org>")
    assert secret.signature_asked(secret.load(config), message, now()) == "lists.example.org"
    text = body(content)
    assert "amis@lists.example.org" in message.text("Subject") + text
    assert "{{" not in text
    assert "{%" not in text
    assert "\n\n\n" not in text
    assert text.endswith("-- \nKaz – listes\n")


@pytest.mark.parametrize("path", sorted((TEMPLATES / "fr").iterdir()), ids=lambda path: path.stem)
def test_french_typography(path: Path) -> None:
    """In French a no-break space stands before : ; ? ! and inside « », and the apostrophe is ’."""
    text = re.sub(r"\{[{%].*?[%}]\}", "x", path.read_text("utf-8").removeprefix("Subject: "))
    text = re.sub(r"<mailto:\S+>", "<>", text)
    assert not re.findall(r"[^\u00a0\u202f][;?!»]|«[^\u00a0]|[^\u00a0]:(?=\s)|[a-zé]'", text)


def test_everybody_in_their_own_language(config: Config, amis: ListView, peer: Peer) -> None:
    """A person's language comes first, then the list's."""
    people.account("fr@example.org", language="fr")
    people.account("de@example.org", language="de")
    assert notice.send_all(config, "unsubscribed", ["fr@example.org", "new@example.org", "de@example.org"], amis) == ()
    french = replace(amis, settings={**amis.settings, "language": "fr"})
    assert notice.send(config, "unsubscribed", "new@example.org", french)
    assert [Message.parse(letter.content).text("Content-Language") for letter in peer.letters] == ["fr", "en", "en", "fr"]
    assert [letter.mail.split(" BODY")[0] for letter in peer.letters] == ["MAIL FROM:<>"] * 4
    assert "désabonné(e)" in body(peer.letters[0].content)


def test_no_value_can_do_harm(config: Config) -> None:
    """Whatever stands in a list's subject, a name or a reason: the same fields, one body, nothing that a terminal could obey."""
    given(st.text(), st.text(), st.text())(harmless)()


def harmless(subject: str, name: str, reason: str) -> None:
    the_list = ListView(1, "amis", "lists.example.org", "amis.lists.example.org", "closed", "discussion", subject, {"language": "fr"}, {})
    content = notice.write(CONFIG, SECRET, "refused", "a@example.org", the_list, "fr", name=name, reason=reason)
    message = Message.parse(content)
    assert [field.name for field in message.fields] == FIELDS
    assert content.isascii()
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", content)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", body(content))


CONFIG = Config(Path("/nowhere"), {"site.name": "K"})
SECRET = secret.Secret(b"s" * 32)
FIELDS = [
    "kelou-sign", "from", "to", "subject", "date", "message-id", "auto-submitted", "mime-version", "content-language", "content-type", "content-transfer-encoding",
]  # fmt: skip


def test_a_value_is_no_template(config: Config, amis: ListView) -> None:
    """What a person wrote is shown, not run."""
    content = notice.write(config, secret.load(config), "refused", "a@example.org", amis, "en", reason="{{ 7 * 7 }}{% raw %}")
    assert "{{ 7 * 7 }}{% raw %}" in body(content)


def test_nobody_answers_for_a_list_that_takes_no_mail(config: Config, amis: ListView) -> None:
    """A notice about a pending or closed list comes from the listmasters, whose address answers."""
    content = notice.write(config, secret.load(config), "reopened", "a@example.org", replace(amis, status="closed"), "en")
    assert Message.parse(content).text("From").endswith("<listmaster@lists.example.org>")


@pytest.mark.parametrize("state", ["held", "approved", "rejected", "discarded", "expired"])
@pytest.mark.parametrize("language", ["en", "fr"])
@pytest.mark.parametrize("changed", [True, False])
def test_each_answer_to_a_moderator(config: Config, amis: ListView, state: str, language: str, changed: bool) -> None:
    """Whatever became of a held post, the moderator who answered is told in a whole notice."""
    values = {"post": sample.POST, "by": "joe@example.org", "state": state, "changed": changed, "reason": ""}
    text = body(notice.write(config, secret.load(config), "answered", "a@example.org", amis, language, **values))
    assert "Séance" in text
    assert "\n\n\n" not in text


def test_a_message_goes_with_a_notice_as_it_is(config: Config, amis: ListView) -> None:
    """A held post is attached, byte for byte, below a text that mail programs show; the notice is threaded to it."""
    post = "From: a@example.org\r\nSubject: =?x?=\r\n\r\n--x\r\né\r\n".encode()
    content = notice.write(
        config, secret.load(config), "held", "a@example.org", amis, "en", posts=[sample.POST], again=False,
        attached=post, answers="<1@example.org>", reply_to="r@example.org"
    )
    assert post in content
    parsed = email.message_from_bytes(content)
    assert [part.get_content_type() for part in parsed.walk()] == [
        "multipart/mixed", "multipart/alternative", "text/plain", "text/html", "message/rfc822", "text/plain",
    ]  # fmt: skip
    assert (parsed["In-Reply-To"], parsed["Reply-To"]) == ("<1@example.org>", "r@example.org")


def test_an_address_beyond_ascii(config: Config, amis: ListView, peer: Peer) -> None:
    """A domain is written as DNS has it; a local part that has no such form stands in no field."""
    assert notice.send_all(config, "reopened", ["jane@exämple.org", "jérôme@example.org"], amis) == ()
    assert [Message.parse(letter.content).text("To") for letter in peer.letters] == ["jane@xn--exmple-cua.org", "undisclosed-recipients:;"]
    assert peer.recipients == ["jane@exämple.org", "jérôme@example.org"]


def test_who_was_not_told_is_known(config: Config, amis: ListView, peer: Peer) -> None:
    """Postfix refuses one, and hangs up on another: these and those after them are returned."""
    people_ = [f"p{number}@example.org" for number in range(4)]
    peer.say("RCPT TO:<p1@example.org>", "550 5.1.1 Unknown")
    peer.say("RCPT TO:<p2@example.org>", "hang up")
    assert notice.send_all(config, "reopened", [*people_, "p0@example.org"], amis) == ("p1@example.org", "p2@example.org", "p3@example.org")
    assert peer.recipients == ["p0@example.org"]


def test_without_a_secret_nothing_is_sent(config: Config, amis: ListView, peer: Peer) -> None:
    """A notice that could not be signed is not sent."""
    config.directory("secret.file").unlink()
    assert notice.send(config, "reopened", "a@example.org", amis) is False
    assert peer.letters == []


def test_a_rehearsal_sends_nothing(config: Config, amis: ListView, peer: Peer) -> None:
    """What is rolled back is told to nobody."""
    with database.rehearsal():
        assert notice.send(config, "reopened", "a@example.org", amis)
        people.subscribe(config, SHELL, amis, "a@example.org")
    assert peer.letters == []


@pytest.mark.parametrize("name", [name for name in template.names() if template.default(name, "en").links])
@pytest.mark.parametrize("language", ["en", "fr"])
def test_what_is_to_be_clicked_has_a_page(config: Config, amis: ListView, name: str, language: str) -> None:
    """Beside the text stands the same as HTML, in its language, with each link to click and nothing to fetch; all of it in ASCII."""
    content = notice.write(config, secret.load(config), name, "jane@example.org", amis, language, name="<b>Jérôme & Cie", **sample.VALUES[name])
    assert content.isascii()
    parsed = email.message_from_bytes(content, policy=email.policy.default)
    assert [part.get_content_type() for part in parsed.walk()] == ["multipart/alternative", "text/plain", "text/html"]
    page = parsed.get_body(("html",)).get_content().replace("\r\n", "\n")
    text = body(content)
    assert set(re.findall(r"<(mailto:[^>]+)>", text)) == set(map(html.unescape, re.findall(r'<a href="([^"]+)">', page)))
    assert f'<html lang="{language}">' in page
    assert not re.search(r"<(?!/?(?:!DOCTYPE|html|head|meta|title|body|p|br|a)\b)|\b(?:src|style|class|onclick)=", page)
    assert htmltext.read(page).split() == re.sub(r"<(mailto:[^>]+)>", r"\1", text).split()


def test_which_notices_have_something_to_click() -> None:
    """The same in both languages, and those where a click is an answer are among them."""
    clicked = [{name for name in template.names() if template.default(name, language).links} for language in ("en", "fr")]
    assert clicked[0] == clicked[1]
    assert clicked[0] >= {"held", "held_several", "confirm", "invitation", "subscribed", "subscription", "request", "reminder"}


@pytest.mark.parametrize("replied", [True, False])
def test_a_notice_is_threaded_and_answered_by_nobody(config: Config, amis: ListView, peer: Peer, replied: bool) -> None:
    """It hangs below what it is about, says that a program wrote it (RFC 3834 section 5), and nothing is returned to its sender."""
    assert notice.send(config, "rejected", "a@example.org", amis, post=sample.POST, reason="", answers="<1@example.org>", replied=replied)
    letter = peer.letters[0]
    message = Message.parse(letter.content)
    assert letter.mail.startswith("MAIL FROM:<> ") or letter.mail == "MAIL FROM:<>"
    assert message.text("Auto-Submitted") == ("auto-replied" if replied else "auto-generated")
    assert (message.text("In-Reply-To"), message.text("References")) == ("<1@example.org>", "<1@example.org>")


@pytest.mark.parametrize("answers", ["", "no id", "<a@b>\r\nBcc: x@example.org", "<é@b>", f"<{'a' * 300}@b>"])
def test_what_is_no_message_id_threads_nothing(config: Config, amis: ListView, answers: str) -> None:
    """What a stranger wrote for a Message-ID gets into no field unless it is one."""
    content = notice.write(config, secret.load(config), "expired", "a@example.org", amis, "en", post=sample.POST, answers=answers)
    assert not {"in-reply-to", "references", "bcc"} & {field.name for field in Message.parse(content).fields}
