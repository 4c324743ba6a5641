"""Backscatter: nothing goes to an address that somebody only claimed to be, whatever becomes of the post."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from attack import AUTHOR, LISTS, Raw, Watch, alive, etc, fate, mail_to, make, post, queue, run, sendmail, settle, stranger, to, zone
from conftest import Sandbox
from lmtp_fixture import Client

from kelou.listtype import POST


@pytest.fixture(scope="module")
def lists(sandbox: Sandbox) -> dict[str, str]:
    """A list for each policy, and one that refuses and one that asks whoever is not certain."""
    run(sandbox, "listmaster", "add", "listmaster@example.net")
    found = {policy: make(sandbox, f"post={policy}", "no_subject=refuse", "max_size=20K") for policy in POST}
    found |= {wish: make(sandbox, "post=anyone", f"unauthenticated={wish}") for wish in ("refuse",)}
    return found


@pytest.fixture
def watch(sandbox: Sandbox) -> Iterator[Watch]:
    made = Watch(sandbox)
    yield made
    made.check()


def forged(name: str, victim: str) -> list[bytes]:
    """Posts in the name of a victim: plain, a command, without a subject, automatic, too large, no mail at all, from another list, looping."""
    good = post(name, victim)
    return [
        good,
        post(name, AUTHOR),
        post(name, victim, "unsubscribe", body=b"unsubscribe\r\n"),
        post(name, victim).replace(b"Subject: ", b"X-Subject: "),
        post(name, victim, extra=b"Auto-Submitted: auto-replied\r\n"),
        post(name, victim, extra=b"Disposition-Notification-To: " + victim.encode() + b"\r\nReturn-Receipt-To: " + victim.encode() + b"\r\n"),
        post(name, victim, extra=f"Reply-To: {victim}\r\nErrors-To: {victim}\r\nSender: {victim}\r\nResent-From: {victim}\r\n".encode()),
        post(name, victim, body=b"x" * 70 + b"\r\n" + b"large " * 8000 + b"\r\n"),
        post(name, victim, extra=b"X: a\0b\r\n"),
        post(name, victim, extra=f"List-Id: <{name}.{LISTS}>\r\n".encode()),
        post(name, victim, extra=b"List-Id: <another.list.example>\r\n"),
        b"no mail at all\r\n",
        f"From: {victim}\r\nFrom: {AUTHOR}\r\nTo: {to(name)}\r\nSubject: two\r\n\r\n".encode(),
    ]


def victims(sandbox: Sandbox, mark: str) -> list[str]:
    """Who of the forged was written to."""
    settle(sandbox)
    return sorted(copy.delivered_to for copy in mail_to(sandbox, mark))


def test_forged_posts_at_every_policy(sandbox: Sandbox, lists: dict[str, str], watch: Watch) -> None:
    """Thirteen kinds of forged posts to lists of every policy: refused in the dialogue or held, and no mail to the forged address."""
    mark = f"victim{uuid4().hex[:8]}"
    number = 0
    for name in lists.values():
        for content in forged(name, f"{mark}-0@forged.example"):
            number += 1
            victim = f"{mark}-{number}@forged.example"
            sandbox.untrusted(victim, to(name), content.replace(f"{mark}-0@".encode(), f"{mark}-{number}@".encode()))
    assert victims(sandbox, mark) == []


def test_forged_mail_to_other_addresses_of_a_list(sandbox: Sandbox, lists: dict[str, str], watch: Watch) -> None:
    """Owners, bounces, confirmations, no list at all, the postmaster: nobody forged is written to."""
    mark = f"victim{uuid4().hex[:8]}"
    name = lists["subscribers"]
    places = [f"{name}{end}" for end in ("-owner", "-moderators", "-editor", "-bounces", "-bounces+x=y", "-confirm+0123456789abcdef", "-nothing", "+x")]
    for number, local in enumerate([*places, "no-such-list", "postmaster", "abuse", "mailer-daemon", "listmaster", "kelou-distribute+1"]):
        victim = f"{mark}-{number}@forged.example"
        for sender in (victim, ""):
            sandbox.untrusted(sender, f"{local}@{LISTS}", post(name, victim))
    assert victims(sandbox, mark) == []


@pytest.mark.parametrize("way", ["sendmail", "reinjection"])
def test_forged_posts_past_the_milter(sandbox: Sandbox, lists: dict[str, str], watch: Watch, way: str) -> None:
    """By sendmail(1), and by the port whose milter only signs: held or let fall, and nobody forged gets a bounce."""
    mark = f"victim{uuid4().hex[:8]}"
    number = 0
    places = [f"{lists['subscribers']}{end}" for end in ("-confirm+0123456789abcdef", "-nothing", "-owner")] + ["no-such-list", "kelou-distribute+1"]
    for local in [*lists.values(), *places]:
        for content in forged(local, f"{mark}-0@forged.example")[:: 1 if local == lists["subscribers"] else 5]:
            number += 1
            victim = f"{mark}-{number}@forged.example"
            content = content.replace(f"{mark}-0@".encode(), f"{mark}-{number}@".encode())
            if way == "sendmail":
                sendmail(sandbox, victim, f"{local}@{LISTS}", content)
            else:
                stranger(sandbox, "reinjection", victim, f"{local}@{LISTS}", content)
    assert victims(sandbox, mark) == []
    assert all(not fate(sandbox, name).sent for name in lists.values())


def test_two_hundred_forged_posts(sandbox: Sandbox, lists: dict[str, str], watch: Watch) -> None:
    """A flood in other people's names: no mail to any of them, and few to the moderators."""
    mark = f"victim{uuid4().hex[:8]}"
    for number in range(200):
        name = lists[("moderated", "subscribers", "anyone", "owners")[number % 4]]
        victim = f"{mark}-{number}@forged.example"
        sandbox.untrusted(victim, to(name), post(name, victim))
    assert victims(sandbox, mark) == []


def test_confirmations_of_forged_posts_are_few(sandbox: Sandbox, watch: Watch) -> None:
    """Where authors are asked to confirm, a victim is asked three times a day on all lists, and not for what they could not post anyway."""
    names = [make(sandbox, "post=anyone", "unauthenticated=confirm") for _number in range(3)]
    victim = f"victim{uuid4().hex[:8]}@forged.example"
    for number in range(30):
        assert sandbox.untrusted(victim, to(names[number % 3]), post(names[number % 3], victim)).accepted
    told = mail_to(sandbox, victim)
    assert 0 < len(told) <= 3
    assert all(copy.return_path == "" for copy in told)
    shown = [copy.content.partition(b"\r\n\r\n")[0] for copy in told]
    assert all(b"Auto-Submitted: auto-" in content for content in shown)


def test_a_held_post_is_decided_in_silence(sandbox: Sandbox, watch: Watch) -> None:
    """Rejected with a reason, discarded or approved: a forged author is told nothing of it."""
    name = make(sandbox, "post=moderated")
    mark = f"victim{uuid4().hex[:8]}"
    for number in range(3):
        victim = f"{mark}-{number}@forged.example"
        assert sandbox.untrusted(victim, to(name), post(name, victim)).accepted
    settle(sandbox)
    first, second, third = (str(row["id"]) for row in sandbox.json("mod", "list", name))
    run(sandbox, "mod", "reject", first, "--reason", "no")
    run(sandbox, "mod", "discard", second)
    run(sandbox, "mod", "approve", third)
    settle(sandbox)
    told = [copy for copy in mail_to(sandbox, mark) if f"<{name}.{LISTS}>".encode() not in copy.content]
    assert told == []


def test_the_list_closes_while_the_post_is_queued(sandbox: Sandbox, watch: Watch) -> None:
    """Taken while the list was open, delivered when it is closed: what a stranger wrote is kept for the moderators, and nobody gets a bounce."""
    name = make(sandbox, "post=anyone")
    victim = f"victim{uuid4().hex[:8]}@forged.example"
    lmtp = sandbox.info["pids"]["lmtp"]
    with Raw(sandbox.info["untrusted_smtp"]) as client:
        assert client.envelope(victim, to(name), f"{name}-owner@{LISTS}")[-1].startswith("354")
        os.kill(lmtp, signal.SIGSTOP)
        try:
            client.send(post(name, victim) + b".\r\n")
            assert client.reply().startswith("250")
            run(sandbox, "list", "close", name)
        finally:
            os.kill(lmtp, signal.SIGCONT)
    assert mail_to(sandbox, victim) == []
    assert [rule for _subject, rule in fate(sandbox, name).held] == ["closed"]
    assert fate(sandbox, name).sent == []


def test_without_the_milter(sandbox: Sandbox, lists: dict[str, str]) -> None:
    """The milter is down: posts are taken, and held, and the forged get no mail; nothing is distributed that was not before."""
    mark = f"victim{uuid4().hex[:8]}"
    before = {name: fate(sandbox, name).sent for name in lists.values()}
    os.kill(sandbox.info["pids"]["milter"], signal.SIGTERM)
    try:
        while Path(etc(sandbox)).parent.joinpath("spool/kelou/milter.sock").exists():
            time.sleep(0.05)
        number = 0
        for name in lists.values():
            for content in forged(name, f"{mark}-0@forged.example"):
                number += 1
                victim = f"{mark}-{number}@forged.example"
                sandbox.untrusted(victim, to(name), content.replace(f"{mark}-0@".encode(), f"{mark}-{number}@".encode()))
        deadline = time.monotonic() + 60
        while [row for row in queue(sandbox) if mark in row["sender"]]:
            assert time.monotonic() < deadline, queue(sandbox)
            time.sleep(0.2)
    finally:
        sandbox.up()
    assert victims(sandbox, mark) == []
    assert {name: fate(sandbox, name).sent for name in lists.values()} == before
    alive(sandbox, lists["anyone"])  # which ends the connections to Postfix that have lost their milter, and say so in the log


def test_a_bounce_address_answers_nobody(sandbox: Sandbox, lists: dict[str, str], watch: Watch) -> None:
    """Reports, forged or not, with the null reverse-path or without, are taken and cause no mail."""
    mark = f"victim{uuid4().hex[:8]}"
    report = (
        f"From: MAILER-DAEMON@forged.example\r\nTo: {lists['anyone']}-bounces@{LISTS}\r\nSubject: Undelivered\r\nMIME-Version: 1.0\r\n"
        "Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\n"
        f"Reporting-MTA: dns; x\r\n\r\nFinal-Recipient: rfc822; {mark}@forged.example\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\n--b--\r\n"
    ).encode()
    for sender in ("", f"{mark}@forged.example"):
        for place in (f"{lists['anyone']}-bounces@{LISTS}", to(lists["anyone"])):
            sandbox.untrusted(sender, place, report)
    assert mail_to(sandbox, mark) == []


def test_straight_to_the_handler_nothing_bounces(sandbox: Sandbox, lists: dict[str, str], watch: Watch) -> None:
    """What the handler answers to mail that no milter saw is never a 5xx: Postfix would make a bounce of it."""
    with Client(Path(etc(sandbox)).parent / "spool/kelou/lmtp.sock") as client:
        client.hello()
        for name in lists.values():
            for content in forged(name, "victim@forged.example"):
                assert client.deliver(to(name), content, "victim@forged.example")[:1] == "2"
        for local in ("no-such-list", f"{name}-confirm+0123456789abcdef", f"{name}-nothing", f"{name}+x", "kelou-distribute+1"):
            assert client.deliver(f"{local}@{LISTS}", post(name), "victim@forged.example")[:1] == "2"
    assert mail_to(sandbox, "victim@forged.example") == []


def test_an_author_who_can_not_be_checked_gets_no_bounce_in_the_end(sandbox: Sandbox, watch: Watch) -> None:
    """DNS trouble, and a second recipient that takes the mail: it is held at once, rather than put off for days and then sent back."""
    name, victim = make(sandbox, "post=anyone"), f"victim{uuid4().hex[:8]}@trouble.example"
    with zone(sandbox, '_dmarc.trouble.example. 60 IN TXT "kelou-servfail"\ntrouble.example. 60 IN TXT "kelou-servfail"'):
        assert sandbox.untrusted(victim, to(name), post(name, victim)).data.startswith("451 4.7.0")
        assert sandbox.untrusted(victim, [to(name), f"{name}-bounces@{LISTS}"], post(name, victim)).accepted
    assert mail_to(sandbox, victim) == []
    assert [rule for _subject, rule in fate(sandbox, name).held] == ["unauthenticated_held"]
