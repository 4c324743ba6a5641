"""The decision, as a table: what a post is, what a list sets, what becomes of it."""

from __future__ import annotations

import inspect
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kelou import listtype, policy
from kelou.config import Config
from kelou.directory import ListView
from kelou.message import Message
from kelou.policy import RULES, TEXTS, Action, Author, Decision, Facts, Rule, action, decide, explain
from kelou.reading import read
from kelou.standing import Standing

SITE = Config(Path("kelou.toml"), {})
HEADER = b"From: Jane <jane@example.org>\r\nTo: ca@lists.example.org\r\nSubject: Hello\r\nMessage-ID: <1@example.org>\r\n"
PLAIN = HEADER + b"\r\nHello all,\r\n"
OWNER, MODERATOR, SUBSCRIBER, NOBODY = Standing(owner=True), Standing(moderator=True), Standing(subscriber=True), Standing()
JANE = Author("jane@example.org", "dkim")
ALL = ("owner", "moderator", "subscriber", "stranger")


def a_list(status: str = "open", **own: Any) -> ListView:
    read_own = {key: listtype.SETTINGS[key].read(value) for key, value in own.items()}
    resolved = listtype.resolve("discussion", read_own, SITE)
    return ListView(1, "ca", "lists.example.org", "ca.lists.example.org", status, "discussion", "The board", {k: v for k, (v, _o) in resolved.items()}, {})


def facts(raw: bytes = PLAIN, standing: Standing = SUBSCRIBER, author: Author = JANE, reverse_path: str = "jane@example.org", **own: Any) -> Facts:
    status = own.pop("status", "open")
    return Facts(a_list(status, **own), reverse_path, len(raw), read(Message.parse(raw)), author, standing)


def outcome(decision: Decision) -> str:
    assert decision.action is action(decision.rule), "the table of answers says what each does"
    return f"{decision.action.value} {decision.rule}"


@pytest.mark.parametrize(
    ("post", "staff_held", "owner", "moderator", "subscriber", "stranger"),
    [
        ("anyone", "no", "accept accepted", "accept accepted", "accept accepted", "accept accepted"),
        ("subscribers", "no", "accept accepted", "accept accepted", "accept accepted", "reject subscribers_only"),
        ("subscribers-others-held", "no", "accept accepted", "accept accepted", "accept accepted", "hold not_subscribed"),
        ("subscribers-held", "no", "accept accepted", "accept accepted", "hold moderated", "reject subscribers_only"),
        ("moderators", "no", "accept accepted", "accept accepted", "reject moderators_only", "reject moderators_only"),
        ("moderated", "no", "accept accepted", "accept accepted", "hold moderated", "hold moderated"),
        ("owners", "no", "accept accepted", "reject owners_only", "reject owners_only", "reject owners_only"),
        ("closed", "no", "reject nobody", "reject nobody", "reject nobody", "reject nobody"),
        ("anyone", "yes", "hold staff_held", "hold staff_held", "accept accepted", "accept accepted"),
        ("moderated", "yes", "hold staff_held", "hold staff_held", "hold moderated", "hold moderated"),
        ("moderators", "yes", "hold staff_held", "hold staff_held", "reject moderators_only", "reject moderators_only"),
        ("owners", "yes", "hold staff_held", "reject owners_only", "reject owners_only", "reject owners_only"),
    ],
)
def test_each_policy_for_each_standing(post: str, staff_held: str, owner: str, moderator: str, subscriber: str, stranger: str) -> None:
    """The `post` setting says what an authenticated owner, moderator, subscriber and stranger may do."""
    expected = dict(zip(ALL, (owner, moderator, subscriber, stranger), strict=True))
    found = {
        who: outcome(decide(facts(standing=standing, post=post, moderators_held=staff_held)))
        for who, standing in zip(ALL, (OWNER, MODERATOR, SUBSCRIBER, NOBODY), strict=True)
    }
    assert found == expected


@pytest.mark.parametrize("post", listtype.POST)
@pytest.mark.parametrize("standing", [OWNER, MODERATOR, SUBSCRIBER, Standing(subscriber=True, posting="accept"), NOBODY], ids=[*ALL[:3], "always accepted", "stranger"])
@pytest.mark.parametrize("wish", ["hold", "confirm", "refuse"])
def test_an_uncertain_author_posts_nowhere(post: str, standing: Standing, wish: str) -> None:
    """Whatever the policy and whoever From: names, a post whose author is not authenticated is not distributed."""
    decision = decide(facts(standing=standing, author=Author("", "no signature"), post=post, unauthenticated=wish))
    assert decision.action in (Action.HOLD, Action.REJECT)
    assert wish != "refuse" or decision.action is Action.REJECT


def test_an_author_proved_for_another_address_is_uncertain() -> None:
    """It is the address in From: that must be the authenticated one."""
    assert outcome(decide(facts(standing=OWNER, author=Author("eve@example.org", "dkim")))) == "hold unauthenticated_held"


def test_trouble_in_dns_is_try_later_where_it_matters() -> None:
    """While it can not be known who wrote, the post is deferred; what anybody would be refused is refused at once."""
    trouble = Author("", "dns", trouble=True)
    assert outcome(decide(facts(author=trouble))) == "defer trouble"
    assert outcome(decide(facts(author=trouble, standing=NOBODY))) == "reject subscribers_only"


ATTACHED = HEADER + (
    b'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nHello all, see the file.\r\n'
    b'--b\r\nContent-Type: application/x-msdownload; name="a.EXE"\r\nContent-Disposition: attachment; filename="a.EXE"\r\n\r\nMZ\r\n--b--\r\n'
)


@pytest.mark.parametrize(
    ("expected", "given"),
    [
        pytest.param("reject pending", {"status": "pending"}, id="the list is pending"),
        pytest.param("reject closed", {"status": "closed"}, id="the list is closed"),
        pytest.param("reject loop", {"raw": b"List-Id: The board <ca.lists.example.org>\r\n" + PLAIN}, id="it has been through this list"),
        pytest.param("reject list_in_list", {"raw": b"List-Id: <other.example.net>\r\n" + PLAIN}, id="it comes from another list"),
        pytest.param("reject hops", {"raw": b"Received: from a by b; x\r\n" * 41 + PLAIN}, id="41 servers"),
        pytest.param("accept accepted", {"raw": b"Received: from a by b; x\r\n" * 40 + PLAIN}, id="40 servers"),
        pytest.param("reject password", {"raw": b"Approved: secret\r\n" + PLAIN}, id="a password in the header"),
        pytest.param("reject password", {"raw": HEADER + b"\r\n\r\n x-approve : secret\r\nHello,\r\n"}, id="a password in the first line"),
        pytest.param("accept accepted", {"raw": HEADER + b"\r\nApproved: the budget of the year\r\n"}, id="more words than a password"),
        pytest.param("reject automatic", {"reverse_path": ""}, id="null reverse-path"),
        pytest.param("reject automatic", {"reverse_path": "", "automatic": "accept"}, id="null reverse-path where programs may write"),
        pytest.param("reject automatic", {"raw": b"Auto-Submitted: auto-replied (vacation)\r\n" + PLAIN}, id="an absence notice"),
        pytest.param("accept accepted", {"raw": b"Auto-Submitted: auto-generated\r\n" + PLAIN, "automatic": "accept"}, id="a program where programs may write"),
        pytest.param("accept accepted", {"raw": b"Auto-Submitted: no\r\n" + PLAIN}, id="Auto-Submitted: no"),
        pytest.param("reject automatic", {"raw": b"Precedence: bulk\r\n" + PLAIN}, id="Precedence: bulk"),
        pytest.param("reject malformed", {"raw": b"\r\nno header\r\n"}, id="no header"),
        pytest.param("reject malformed", {"raw": HEADER + b"X: \xff\xfe\r\n\r\nx\r\n"}, id="foreign bytes in the header"),
        pytest.param("accept accepted", {"raw": HEADER + "X: é\r\n\r\nx\r\n".encode()}, id="UTF-8 in the header"),
        pytest.param("reject malformed", {"raw": PLAIN + b"a\0b\r\n"}, id="NUL"),
        pytest.param("reject malformed", {"raw": PLAIN + b"x" * 1_048_576 + b"\r\n"}, id="a line of 1 MB"),
        pytest.param("reject malformed", {"raw": HEADER + b"X: " + b"y" * 70_000 + b"\r\n\r\nx\r\n"}, id="a header of 70 kB"),
        pytest.param("reject no_author", {"raw": PLAIN.replace(b"From: Jane <jane@example.org>\r\n", b"")}, id="no From"),
        pytest.param("reject no_author", {"raw": b"From: eve@example.org\r\n" + PLAIN}, id="two From"),
        pytest.param("reject no_author", {"raw": PLAIN.replace(b"Jane <jane", b"jane@example.org <eve")}, id="an address as display name"),
        pytest.param("reject forbidden", {"author": Author("", "dmarc", forbidden=True)}, id="the domain asks for rejection"),
        pytest.param("reject blocked", {"standing": Standing(subscriber=True, blocked="*@example.org")}, id="blocked"),
        pytest.param("hold emergency", {"emergency": "yes", "standing": OWNER}, id="emergency, even an owner"),
        pytest.param("reject header_refused", {"header_rules": "refuse Subject: /^hel+o$/"}, id="a header rule refuses"),
        pytest.param("hold header_held", {"header_rules": "hold subject: HELLO"}, id="a header rule holds"),
        pytest.param("hold spam_held", {"raw": b"X-Spam-Flag: YES\r\n" + PLAIN}, id="SpamAssassin"),
        pytest.param("reject spam_refused", {"raw": b"X-Spamd-Result: default: True [9.1 / 7]\r\n" + PLAIN, "spam": "refuse"}, id="rspamd, refused"),
        pytest.param("accept accepted", {"raw": b"X-Spam-Status: No, score=1\r\n" + PLAIN}, id="no spam"),
        pytest.param("accept accepted", {"raw": b"X-Spam-Flag: YES\r\n" + PLAIN, "header_rules": "accept X-Spam-Flag: *"}, id="a header rule lets spam pass"),
        pytest.param("reject too_large", {"max_size": "50"}, id="too large"),
        pytest.param("hold too_many_held", {"raw": b"Cc: a@b.org, c@d.org\r\n" + PLAIN, "max_recipients": "2"}, id="too many recipients"),
        pytest.param("accept accepted", {"raw": b"Cc: a@b.org, c@d.org\r\n" + PLAIN, "max_recipients": "0"}, id="any number of recipients"),
        pytest.param("hold hidden_held", {"raw": PLAIN.replace(b"ca@lists", b"x@lists")}, id="the list in neither To nor Cc"),
        pytest.param("reject no_subject", {"raw": PLAIN.replace(b"Subject: Hello\r\n", b"")}, id="no subject"),
        pytest.param("reject no_subject", {"raw": PLAIN.replace(b"Hello\r\n", b"\r\n", 1)}, id="an empty subject"),
        pytest.param("reject command", {"raw": PLAIN.replace(b"Subject: Hello", b"Subject: unsubscribe ca")}, id="a command as subject"),
        pytest.param("reject command", {"raw": HEADER + "\r\n\r\nDésabonner\r\n\r\nMerci\r\n".encode()}, id="a French command in a short mail"),
        pytest.param("accept accepted", {"raw": HEADER + b"\r\n" + b"How does one\r\n" * 6 + b"unsubscribe\r\n"}, id="a long mail about unsubscribing"),
        pytest.param("hold attachment_held", {"raw": ATTACHED, "attachments": "hold"}, id="attachments held"),
        pytest.param("reject file_type", {"raw": ATTACHED, "refused_types": ".exe, video/*"}, id="a file type refused"),
        pytest.param("accept accepted", {"raw": ATTACHED}, id="attachments accepted"),
        pytest.param("reject member_refused", {"standing": Standing(subscriber=True, posting="refuse")}, id="a subscriber who may not post"),
        pytest.param("hold member_held", {"standing": Standing(subscriber=True, posting="hold")}, id="a subscriber always held"),
        pytest.param("accept accepted", {"standing": Standing(subscriber=True, posting="accept"), "post": "moderated"}, id="a subscriber always accepted"),
    ],
)
def test_each_rule(expected: str, given: dict[str, Any]) -> None:
    """Each rule answers what the table says; everything else about the post is in order."""
    assert outcome(decide(facts(**given))) == expected


@pytest.mark.parametrize(("twin", "expected"), [("same", "discard duplicate"), ("other", "hold twin")])
def test_a_message_id_seen_before(twin: str, expected: str) -> None:
    """The same message again is let fall; another one under its Message-ID is held, never dropped for the first one's sake."""
    assert outcome(decide(replace(facts(), twin=twin))) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"status": "pending"}, "reject pending"),
        ({"reverse_path": ""}, "reject automatic"),
        ({"standing": Standing(blocked="x")}, "reject blocked"),
        ({"post": "closed"}, "reject nobody"),
        ({"post": "moderated"}, "accept accepted"),
        ({"emergency": "yes"}, "accept accepted"),
    ],
)
def test_the_envelope_decides_what_it_can(given: dict[str, Any], expected: str) -> None:
    """At RCPT, before there is a message, a rule answers what it knows and leaves the rest for later."""
    assert outcome(decide(replace(facts(**given), reading=None))) == expected


def test_every_answer_has_a_text_in_both_languages_and_a_status_code() -> None:
    """Nobody is refused without an enhanced status code and a text that fits its placeholders."""
    for name, (status, _text) in TEXTS.items():
        assert explain(name, a_list(), "detail")
        assert status == "" or status[0] in "45"


def test_a_refusal_is_one_line_of_ascii() -> None:
    """A reply fits the dialogue: ASCII, one line, at most 512 octets."""
    decision = decide(facts(standing=NOBODY))
    assert decision.reply is not None
    assert decision.reply.wire.startswith("550 5.7.1 Only subscribers post to the list ca@lists.example.org.")
    assert decision.reply.wire.isascii()
    assert len(decision.reply.wire) <= 510


def test_rules_are_named_and_explained() -> None:
    """Each rule's docstring says what it looks at; docs/rules.md is made from them."""
    assert all(rule.__doc__ for rule in RULES)
    assert len({rule.__name__ for rule in RULES}) == len(RULES)


def test_every_answer_belongs_to_one_rule() -> None:
    """Each answer that has a text is one rule's, but for those of `decide` itself: nothing objected, and a rule that broke."""
    named = [name for answers in RULES.values() for name in answers]
    assert len(named) == len(set(named))
    assert set(TEXTS) - set(named) == {"accepted", "fault"}
    assert set(named) <= set(TEXTS)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_rule_has_the_answers_that_the_table_says(rule: Rule) -> None:
    """The names of answers in a rule's own text are those that RULES has for it, so that docs/rules.md can not be wrong."""
    text = inspect.getsource(rule) + (inspect.getsource(policy._policy) if rule is policy.may_post else "")
    words = set(re.findall(r'"([a-z_]+)"', text)) & set(TEXTS)
    assert words - ({"closed"} if rule is policy.may_post else set()) == set(RULES[rule]), "`closed` is a value of the setting `post`, too"


@pytest.mark.parametrize(
    ("fails", "expected"),
    [(False, "accept accepted"), (True, "reject protected"), (None, "defer unasked")],
    ids=["it may", "it may not", "nobody knows"],
)
def test_a_list_that_does_not_rewrite_refuses(fails: bool | None, expected: str) -> None:
    """Where the author's domain would have the copies refused, a list that refuses such posts says so, or says later."""
    decision = decide(replace(facts(), from_fails=fails))
    assert outcome(decision) == expected
    assert decision.reply is None or decision.reply.code == (550 if fails else 451)


@pytest.mark.parametrize(
    ("known", "own", "expected"),
    [
        ({"lately": 9}, {"hourly_posts": "10"}, "accept accepted"),
        ({"lately": 10}, {"hourly_posts": "10"}, "hold too_often"),
        ({"lately": 1000}, {}, "accept accepted"),
        ({"watched": True}, {}, "hold first_posts"),
        ({"watched": True}, {"post": "closed"}, "reject nobody"),
        ({"lately": 10, "standing": NOBODY}, {"hourly_posts": "10"}, "reject subscribers_only"),
    ],
)
def test_guards_of_reputation(known: dict[str, Any], own: dict[str, Any], expected: str) -> None:
    """Too many posts in an hour, and the first ones to many, are held; who may not post anyway is told so."""
    assert outcome(decide(replace(facts(**own), **known))) == expected
