"""Loops: mail that comes back ends, by itself, after few steps."""

from __future__ import annotations

import time
from collections.abc import Iterator
from uuid import uuid4

import pytest
from attack import AUTHOR, LISTS, OWNER, Watch, copies, database, fate, mail_to, make, post, run, settle, to, trusted
from conftest import Delivered, Sandbox


@pytest.fixture(autouse=True)
def watch(sandbox: Sandbox) -> Iterator[Watch]:
    made = Watch(sandbox)
    yield made
    made.check()


@pytest.fixture(scope="module")
def name(sandbox: Sandbox) -> str:
    return make(sandbox, "post=anyone")


def one(sandbox: Sandbox, name: str) -> Delivered:
    """The one copy of a post that was distributed."""
    assert trusted(sandbox, name, post(name)).accepted
    return copies(sandbox, name)[-1]


def subscribe(sandbox: Sandbox, name: str, address: str) -> None:
    """Subscribe one of our own addresses, as if it were a forwarder outside that leads there."""
    alias = f"forward-{uuid4().hex[:8]}@example.net"
    run(sandbox, "member", "add", name, alias, "--quiet")
    with database(sandbox) as connection:
        connection.execute("UPDATE account SET address = ?, key = ?, domain = ? WHERE key = ?", [address, address, LISTS, alias])


def reply_of(dialogue: object) -> str:
    return str(dialogue.data)  # type: ignore[attr-defined]


def test_two_lists_subscribed_to_each_other(sandbox: Sandbox) -> None:
    """Each sends the post to its people once; what comes from the other list is held, and not sent on."""
    first, second = make(sandbox, "post=anyone"), make(sandbox, "post=anyone")
    subscribe(sandbox, first, to(second))
    subscribe(sandbox, second, to(first))
    for name in (first, second):
        subject = f"round-{uuid4().hex[:8]}"
        assert trusted(sandbox, name, post(name, subject=subject)).accepted
        settle(sandbox)
        time.sleep(2)
        settle(sandbox)
        seen = [(the_list, fate(sandbox, the_list)) for the_list in (first, second)]
        assert [the_list for the_list, found in seen if subject in found.sent] == [name]
        assert [(the_list, rule) for the_list, found in seen for held, rule in found.held if held == subject] == [
            (second if name == first else first, "list_in_list")
        ]
    assert len([copy for copy in sandbox.delivered() if copy.delivered_to == AUTHOR and b"Subject: round-" in copy.content]) == 2


def test_a_list_subscribed_to_itself(sandbox: Sandbox) -> None:
    """Its own List-Id ends it: one copy for each real subscriber."""
    name = make(sandbox, "post=anyone")
    subscribe(sandbox, name, to(name))
    assert trusted(sandbox, name, post(name)).accepted
    assert len([copy for copy in copies(sandbox, name) if copy.delivered_to == AUTHOR]) == 1
    assert [rule for _subject, rule in fate(sandbox, name).held] == ["loop"]
    assert len(fate(sandbox, name).sent) == 1


@pytest.mark.parametrize(
    "extra",
    [
        b"Auto-Submitted: auto-replied\r\n", b"Auto-Submitted: auto-generated; x=y\r\n", b"auto-submitted:AUTO-NOTIFIED\r\n", b"Precedence: bulk\r\n",
        b"Precedence: junk\r\n", b"Precedence: auto_reply\r\n", b"X-Autoreply: yes\r\n", b"X-Autorespond: x\r\n", b"Auto-Submitted:\r\n auto-replied\r\n",
        b"Auto-Submitted: (a comment) auto-replied\r\n", b"X-Auto-Response-Suppress: All\r\nAuto-Submitted: auto-generated\r\n",
    ],
)  # fmt: skip
def test_an_absence_notice_to_the_list(sandbox: Sandbox, name: str, extra: bytes) -> None:
    """A program's answer to a post is refused in the dialogue, however it says that it is one."""
    answer = trusted(sandbox, name, post(name, subject="Re: I am away", extra=extra))
    assert reply_of(answer).startswith("550 5.7.1")


def test_a_report_to_the_post_address(sandbox: Sandbox, name: str) -> None:
    """The null reverse-path is refused at RCPT for posts: a bot that answers to the list's address does no harm."""
    answer = sandbox.untrusted("", to(name), post(name, "MAILER-DAEMON@example.net"))
    assert answer.recipients[0].startswith("550 5.7.1")


@pytest.mark.parametrize("way", ["to the list", "to Return-Path", "to the owner"])
def test_a_post_that_was_distributed_comes_back(sandbox: Sandbox, way: str) -> None:
    """A subscriber's program that sends each post back, as it is: refused, noted, or brought to the owners once."""
    name = make(sandbox, "post=anyone")
    copy = one(sandbox, name)
    place = {"to the list": to(name), "to Return-Path": copy.return_path, "to the owner": f"{name}-owner@{LISTS}"}[way]
    answers = [sandbox.untrusted(sender, place, copy.content) for sender in (AUTHOR, AUTHOR, copy.return_path)]
    settle(sandbox)
    if way == "to the list":
        assert [answer.data[:9] for answer in answers] == ["550 5.4.6"] * 3
    assert len(fate(sandbox, name).sent) == 1
    assert len([copy for copy in copies(sandbox, name) if copy.delivered_to == AUTHOR]) == 1


def test_owners_who_are_the_list(sandbox: Sandbox) -> None:
    """A list whose owner is the list itself, its owner address, or another list whose owner is this one: mail to the owners ends."""
    first, second = make(sandbox, "post=subscribers"), make(sandbox, "post=subscribers")
    for the_list, owners in ((first, (to(first), f"{first}-owner@{LISTS}", f"{second}-owner@{LISTS}")), (second, (f"{first}-owner@{LISTS}",))):
        for owner in owners:
            sandbox.kelou("owner", "add", the_list, owner)  # which may be refused
            sandbox.kelou("moderator", "add", the_list, owner)
    sandbox.clear()
    assert sandbox.untrusted("a@plain.example", f"{first}-owner@{LISTS}", post(first, "a@plain.example")).accepted
    assert sandbox.untrusted(AUTHOR, to(first), post(first, AUTHOR)).accepted  # held, with a notice
    settle(sandbox, 60)
    time.sleep(2)
    settle(sandbox, 60)
    assert 0 < len([copy for copy in sandbox.delivered() if copy.delivered_to == OWNER]) <= 8
    assert fate(sandbox, first).sent == []


def test_owners_who_forward_back(sandbox: Sandbox) -> None:
    """An owner's forwarder that sends all back to the owner address: each message is brought once."""
    name = make(sandbox)
    sandbox.clear()
    assert sandbox.untrusted("a@plain.example", f"{name}-owner@{LISTS}", post(name, "a@plain.example")).accepted
    (copy,) = mail_to(sandbox, OWNER)
    for _again in range(3):
        assert sandbox.untrusted("a@plain.example", f"{name}-owner@{LISTS}", copy.content).accepted
        assert sandbox.untrusted("", f"{name}-owner@{LISTS}", copy.content).accepted
    assert len(mail_to(sandbox, OWNER)) == 1


def test_notices_that_come_back(sandbox: Sandbox) -> None:
    """A notice sent back to the list, to its owners, to its key or to the postmaster is answered by nobody."""
    name = make(sandbox, "post=moderated")
    assert sandbox.untrusted("a@plain.example", to(name), post(name, "a@plain.example")).accepted
    (notice,) = [copy for copy in mail_to(sandbox, OWNER) if name.encode() in copy.content and b"message/rfc822" in copy.content]
    key = next(line for line in notice.content.decode("latin-1").split("\r\n") if line.startswith("Reply-To: ")).removeprefix("Reply-To: ")
    before = len(sandbox.delivered())
    for place in (to(name), key, f"{name}-bounces@{LISTS}", f"mailer-daemon@{LISTS}"):
        for sender in ("", OWNER):
            sandbox.submit(sender, place, notice.content)
    settle(sandbox)
    assert len(sandbox.delivered()) == before
    assert [row["id"] for row in sandbox.json("mod", "list", name)], "and decides nothing"


@pytest.mark.parametrize("hops", [20, 40, 47, 48, 49, 50, 51, 60, 200])
def test_a_message_that_came_a_long_way(sandbox: Sandbox, hops: int) -> None:
    """However many Received fields a post has: it is distributed, or its proved author is told, in the dialogue or once by mail; it is never stuck."""
    name = make(sandbox, "post=anyone")
    extra = b"".join(b"Received: from a%d by b%d; Mon, 23 Nov 2026 12:00:00 +0000\r\n" % (hop, hop) for hop in range(hops))
    answer = trusted(sandbox, name, post(name, extra=extra))
    settle(sandbox)
    found = fate(sandbox, name)
    bounced = [copy for copy in mail_to(sandbox, AUTHOR) if copy.return_path == "" and f"{name}@{LISTS}".encode() in copy.content]
    assert len(found.sent) + len(bounced) == answer.accepted  # the handler counts one more than the milter: the host's own
    assert answer.accepted or answer.data.startswith("5")
    assert len([copy for copy in copies(sandbox, name) if copy.delivered_to == AUTHOR]) == len(found.sent)
    # By the owner address, and nobody is told where Postfix does not take it.
    back = sandbox.untrusted("a@plain.example", f"{name}-owner@{LISTS}", post(name, "a@plain.example", extra=extra))
    assert back.accepted or back.data.startswith("5")
    assert mail_to(sandbox, "a@plain.example") == []
