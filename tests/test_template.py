"""Templates: a list or a site words its notices its own way; what could harm is refused at its line, and no notice is lost by one."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from database_fixture import SHELL, audited, open_list, open_site, person
from smtppeer import Peer
from test_cli import Kelou, bare, garden, site

from kelou import database, lifecycle, notice, sample, template, wording
from kelou.config import Config
from kelou.directory import ListView
from kelou.i18n import LANGUAGES
from kelou.models import Template
from kelou.refusal import BadData, NotFound, NotPermitted

__all__ = ["bare", "garden", "site"]  # fixtures

OWN = "Subject: Goodbye from {{ list.address }}\n\nYou left{{ ', ' ~ name if name }}.\n"


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    peer.close()


@pytest.fixture
def config(tmp_path: Path, peer: Peer) -> Iterator[Config]:
    config = open_site(tmp_path, peer.endpoint, site__name="Kaz")
    with database.connection():
        yield config


@pytest.fixture
def amis(config: Config, peer: Peer) -> ListView:
    amis = open_list(config)
    peer.letters.clear()
    return amis


def made(amis: ListView, language: str = "en", name: str = "unsubscribed") -> template.Written:
    return template.render(name, language, amis, {"site": "Kaz", "name": "Jane", "reply_to": "", **sample.VALUES[name]})


def own(text: str) -> str:
    return f"Subject: {text}\n\n{text}\n"


def test_the_nearest_text_counts(config: Config, amis: ListView) -> None:
    """The list's text, else the site's, else ours; each language has its own, and another list goes on with the site's."""
    other = open_list(config, "autres")
    assert made(amis).subject == "You are no longer subscribed to amis@lists.example.org"
    assert wording.edit(config, SHELL, "unsubscribed", "en", own("site"))
    assert made(amis).subject == "site"
    assert wording.edit(config, SHELL, "unsubscribed", "en", own("list {{ list.name }}"), amis)
    assert not wording.edit(config, SHELL, "unsubscribed", "en", own("list {{ list.name }}"), amis)
    assert [made(one).subject for one in (amis, other)] == ["list amis", "site"]
    assert made(amis, "fr").subject.startswith("Vous êtes désabonné")
    assert wording.reset(SHELL, "unsubscribed", "en", amis)
    assert not wording.reset(SHELL, "unsubscribed", "en", amis)
    assert made(amis).subject == "site"
    assert Template.select().count() == 1
    assert [row for row in audited() if row[1].startswith("template")] == [
        ("root", "template edit", ""), ("root", "template edit", amis.address), ("root", "template reset", amis.address),
    ]  # fmt: skip


def test_who_may_change_what(config: Config, amis: ListView) -> None:
    """Owners have their list's notices, listmasters the site's; what goes to the listmasters or is about no list is the site's."""
    owner = person("owner@example.org")
    other = person("else@example.org")
    assert wording.edit(config, owner, "unsubscribed", "en", OWN, amis)
    with pytest.raises(NotPermitted):
        wording.edit(config, owner, "unsubscribed", "en", OWN)
    with pytest.raises(NotPermitted):
        wording.edit(config, other, "unsubscribed", "en", OWN, amis)
    with pytest.raises(NotPermitted):
        wording.reset(other, "unsubscribed", "en", amis)
    with pytest.raises(BadData):
        wording.edit(config, owner, "bounces_held", "en", own("x"), amis)
    with pytest.raises(NotFound, match="unsubscribed"):
        wording.edit(config, owner, "unsubscribe", "en", OWN, amis)


def test_a_purged_list_leaves_no_text(config: Config, amis: ListView) -> None:
    """What a list had is gone with it."""
    wording.edit(config, SHELL, "unsubscribed", "en", OWN, amis)
    lifecycle.close(config, SHELL, amis)
    lifecycle.purge(config, SHELL, lifecycle.find_list(config, "amis"))
    assert Template.select().count() == 0


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", template.names())
def test_ours_pass_too(config: Config, name: str, language: str) -> None:
    """Each of our own texts may be set: what a template may do is what ours do, and changing a word of one is no refusal."""
    source = template.default(name, language).source
    assert wording.edit(config, SHELL, name, language, source)
    assert wording.current(name, language).origin == "site"


# A line of a template, and what is said of it.
REFUSED = {
    "a class": ("{{ ''.__class__ }}", "__class__"),
    "a class by its name": ("{{ list['__class__'] }}", "__class__"),
    "the globals of a function": ("{{ list.sub.__globals__ }}", "__globals__"),
    "by a filter": ("{{ list | attr('settings') }}", "attr"),
    "a value that is not there": ("{{ nmae }}", "nmae"),
    "a field that is not there": ("{{ list.nmae }}", "nmae"),
    "a field that is not there, in the smaller case": ("{{ 'x' if name else list.nmae }}{{ list.settings.nope }}", "nope"),
    "a value of another notice": ("{{ posts }}", "posts"),
    "a loop variable after its loop": ("{% for a in list.old_addresses %}{% endfor %}{{ a }}", "a"),
    "no end": ("{% if name %}", ""),
    "no end of a value": ("{{ name", ""),
    "no such filter": ("{{ name | shout }}", "shout"),
    "another file": ("{% include '/etc/passwd' %}", "Include"),
    "another template": ("{% extends 'x' %}", "Extends"),
    "a macro": ("{% macro x() %}{% endmacro %}", "Macro"),
    "an assignment": ("{% set a = 'x' %}", "Assign"),
    "a long text": ("{{ 'x' * 1000000000 }}", "Mul"),
    "a large number": ("{{ 9 ** 999999999 }}", "Pow"),
    "a padded text": ("{{ '%999999999d' % 1 }}", "Mod"),
    "a padded text, by a filter": ("{{ 'x' | center(999999999) }}", "center"),
    "a padded text, by a method": ("{{ name.ljust(999999999) }}", ""),
    "a long joint": ("{{ name | join('" + "x" * 50 + "') }}", ""),
    "a range": ("{% for a in range(99999) %}{% endfor %}", "loop"),
    "a loop in a loop": ("{% for a in list.settings %}{% for b in list.settings %}{% endfor %}{% endfor %}", "loop"),
    "a loop in a loop's condition": ("{% for a in list.settings if a in list.nope %}{{ a }}{% endfor %}", ""),
    "a recursive loop": ("{% for a in list.settings recursive %}{{ loop(list.settings) }}{% endfor %}", "loop"),
    "an endless expression": ("{{ " + " ~ ".join(["name"] * 100) + " }}", "expression"),
    "a change of a value": ("{{ list.settings.clear() }}", ""),
    "a format": ("{{ '{0.__class__}'.format(list) }}", ""),
    "a function of ours": ("{{ list.__init__() }}", "__init__"),
    "lorem ipsum": ("{{ lipsum(1000) }}", "lipsum"),
}


@pytest.mark.parametrize(("text", "said"), REFUSED.values(), ids=REFUSED)
def test_what_could_fail_or_harm_is_refused_with_its_line(config: Config, amis: ListView, text: str, said: str) -> None:
    """The third line of the text is the fifth of the template; nothing is kept, at once, and nothing of the text runs."""
    start = time.monotonic()
    with pytest.raises(BadData) as refused:
        wording.edit(config, SHELL, "unsubscribed", "en", f"Subject: x\n\nHello\n\n{text}\n", amis)
    assert time.monotonic() - start < 2
    assert str(refused.value).startswith("line 5: " if text != "{% if name %}" else "line ")
    assert said in str(refused.value)
    assert Template.select().count() == 0


SHAPES = {
    "no subject": "Hello\n\nYou left.\n",
    "no blank line": "Subject: x\nYou left.\n",
    "nothing": "",
    "a field of its own": "Subject: x\nBcc: all@example.org\n\nx\n",
    "a subject over two lines": "Subject: {% if name\n\n%}x{% endif %}\n",
    "too long": "Subject: x\n\n" + "x" * template.SIZE,
    "deep brackets": own("{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}"),
    "deep conditions": own("{% if name %}" * 130 + "{% endif %}" * 130),
    "deeper conditions": own("{% if name %}" * 400 + "{% endif %}" * 400),
}


@pytest.mark.parametrize("text", SHAPES.values(), ids=SHAPES)
def test_what_is_no_template_is_refused(config: Config, text: str) -> None:
    """A subject, a blank line, a text, and not without end."""
    with pytest.raises(BadData):
        wording.edit(config, SHELL, "unsubscribed", "en", text)


def test_a_fault_in_the_subject_is_in_line_1(config: Config) -> None:
    """Lines are counted as an editor counts them."""
    for subject in ("{{ nope }}", "{{ list.nope }}", "{{ name"):
        with pytest.raises(BadData, match=r"^line 1: "):
            wording.edit(config, SHELL, "unsubscribed", "en", f"Subject: {subject}\n\nx\n")


FAILING = {
    "a field that is gone": "{{ list.gone }}",
    "no template any more": "{{ list",
    "a division": "{{ 1 / 0 }}",
    "too long": "{{ reason * 5000000 }}",
    "no subject": None,
}


@pytest.mark.parametrize("text", FAILING.values(), ids=FAILING)
def test_a_notice_is_never_lost(config: Config, amis: ListView, peer: Peer, caplog: pytest.LogCaptureFixture, text: str | None) -> None:
    """A text that was good once and fails now (of an older version, say) gives way to the next one, and the log says so."""
    source = "nothing" if text is None else f"Subject: x\n\n{text}\n"
    Template.create(list=amis.id, name="refused", language="en", text=source, changed_by="root")
    with caplog.at_level(logging.WARNING, "kelou"):
        assert notice.send(config, "refused", "a@example.org", amis, reason="xx")
    assert b"Subject: The request for the list" in peer.letters[0].content
    assert "template-failed template=refused language=en origin=list list=amis@lists.example.org" in caplog.text


def test_a_text_of_ones_own_is_sent(config: Config, amis: ListView, peer: Peer) -> None:
    """What a list says is what goes out, as our texts do; a link in it has its page."""
    wording.edit(config, SHELL, "unsubscribed", "en", "Subject: Bye\r\n\r\nSee <https://example.org/?a=1&b=2>.\r\n\r\n", amis)
    assert notice.send(config, "unsubscribed", "a@example.org", amis)
    content = peer.letters[0].content
    assert b"\r\nSubject: Bye\r\n" in content
    assert b'<a href="https://example.org/?a=1&amp;b=2">https://example.org/?a=1&amp;b=2</a>.' in content
    assert content.isascii()


# The command line.


def test_a_template_by_the_shell(garden: Kelou, tmp_path: Path) -> None:
    """Look, change, preview, go back: in JSON and for people."""
    file = tmp_path / "bye.txt"
    file.write_text(OWN)
    rows = garden.good("template", "list", "--list", "garden")
    assert {"name": "unsubscribed", "language": "fr", "origin": "default", "changed": None, "by": None} in rows
    assert len(garden.good("template", "list")) == 2 * len(template.names())
    changed = {"name": "unsubscribed", "list": "garden@lists.example.org", "language": "en", "changed": True}
    assert garden.good("template", "edit", "unsubscribed", file, "--list", "garden") == changed
    assert garden.good("template", "edit", "unsubscribed", file, "--list", "garden") == changed | {"changed": False}
    assert garden.good("template", "show", "unsubscribed", "--list", "garden")["text"] == OWN
    assert garden.good("template", "show", "unsubscribed")["origin"] == "default"
    shown = garden.good("template", "preview", "unsubscribed", "--list", "garden")
    assert (shown["subject"], shown["text"], shown["html"]) == ("Goodbye from garden@lists.example.org", "You left, Jane.\n", "")
    assert garden("template", "preview", "held", "--language", "fr").out.startswith("Subject: [amis] Rappel")
    assert garden.good("template", "reset", "unsubscribed", "--list", "garden") == changed
    assert garden.good("template", "show", "unsubscribed", "--list", "garden")["origin"] == "default"


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", template.names())
def test_every_notice_has_a_preview(garden: Kelou, name: str, language: str) -> None:
    """Each with its sample values, in each language."""
    shown = garden.good("template", "preview", name, "--language", language)
    assert shown["subject"]
    assert shown["text"].endswith("-- \n" + shown["text"].split("\n")[-2] + "\n")
    assert bool(shown["html"]) == template.default(name, language).links


CODES = {
    "a bad template": (["edit", "unsubscribed", "BAD"], 65),
    "no text": (["edit", "unsubscribed", "BYTES"], 65),
    "no file": (["edit", "unsubscribed", "/nowhere"], 65),
    "no editor": (["edit", "unsubscribed"], 65),
    "no such notice": (["show", "unsubscribe"], 67),
    "no such list": (["show", "unsubscribed", "--list", "nope"], 67),
    "not a list's": (["show", "answer", "--list", "garden"], 65),
    "no such language": (["show", "unsubscribed", "--language", "de"], 2),
}


@pytest.mark.parametrize(("arguments", "code"), CODES.values(), ids=CODES)
def test_what_is_refused_has_its_code(garden: Kelou, tmp_path: Path, arguments: list[str], code: int) -> None:
    """One line that says why, and a code for scripts."""
    (tmp_path / "BAD").write_text("Subject: x\n\n{{ ''.__class__ }}\n")
    (tmp_path / "BYTES").write_bytes(b"Subject: x\n\n\xff\n")
    garden("template", *(str(tmp_path / one) if one in ("BAD", "BYTES") else one for one in arguments))
    assert garden.code == code
    assert garden.err.count("\n") == 1


def test_a_dry_edit_changes_nothing(garden: Kelou, tmp_path: Path) -> None:
    """With -n the text is checked, and not kept."""
    file = tmp_path / "bye.txt"
    file.write_text(OWN)
    assert garden("-n", "template", "edit", "unsubscribed", str(file)).code == 0
    assert garden.good("template", "show", "unsubscribed")["origin"] == "default"


def test_a_preview_is_harmless(garden: Kelou, tmp_path: Path) -> None:
    """What stands in a template steers no terminal."""
    file = tmp_path / "bye.txt"
    file.write_text("Subject: \x1b[31mred\n\n\x1b]0;title\x07\u202etext\n")
    assert garden("template", "edit", "unsubscribed", str(file)).code == 0
    for verb in ("show", "preview"):
        shown = garden("template", verb, "unsubscribed").out
        assert not {"\x1b", "\x07", "\u202e"} & set(shown)
    assert "\x1b" not in json.dumps(garden.good("template", "preview", "unsubscribed")["text"], ensure_ascii=False)
