"""The milter behind a real Postfix: what posters are told, and what the world receives."""

from __future__ import annotations

import os
import signal
import smtplib
import subprocess
import time
from pathlib import Path
from uuid import uuid4

import dns.message
import dns.query
import pytest
from conftest import Delivered, Sandbox, submit

LISTS = "lists.example.org"


def post(name: str, author: str = "ann@example.net", extra: bytes = b"", body: bytes = b"Bonjour\r\n") -> bytes:
    """A post to a list, with a Message-ID of its own."""
    return (
        f"From: Ann <{author}>\r\nTo: {name}@{LISTS}\r\nSubject: A letter\r\n\tfolded  here \r\nMessage-ID: <{uuid4()}@example.net>\r\n"
        "Date: Mon, 23 Nov 2026 12:00:00 +0000\r\n"
    ).encode() + extra + b"\r\n" + body  # fmt: skip


def make(sandbox: Sandbox, *settings: str) -> str:
    """A list of the test's own, with Ann as its subscriber; notices of it are out of the way when this returns."""
    name = f"l{uuid4().hex[:12]}"
    for arguments in (
        ("list", "create", name, "--owner", "owner@example.net", "--type", "discussion", "--subject", "Test"),
        ("list", "set", name, "language=en", *settings),
        ("member", "add", name, "ann@example.net", "--quiet"),
    ):
        done = sandbox.kelou(*arguments)
        assert done.returncode == 0, done.stderr
    return name


def copies(sandbox: Sandbox, name: str, number: int) -> list[Delivered]:
    """Wait for what a list has distributed."""
    deadline = time.monotonic() + 30
    marker = f"<{name}.{LISTS}>".encode()
    while len(found := [copy for copy in sandbox.delivered() if marker in copy.content]) < number:
        assert time.monotonic() < deadline, sandbox.log()[-4000:]
        time.sleep(0.1)
    return found


def verdicts(sandbox: Sandbox, content: bytes) -> list[str]:
    """What Mail::DKIM finds, asking the sandbox's name server."""
    port = str(sandbox.info["dns"]).rpartition(":")[2]
    script = Path(__file__).with_name("dkimverify.pl")
    done = subprocess.run(["perl", str(script), port], input=content, capture_output=True, check=True, timeout=30)
    return done.stdout.decode().splitlines()


def test_every_copy_is_signed(sandbox: Sandbox) -> None:
    """8-bit text, odd folding, long lines of blanks and empty lines at the end: what subscribers receive verifies."""
    name = make(sandbox)
    body = "Bonjour à tous\r\n.\r\n..\r\n".encode() + b" " * 900 + b"\r\n\r\n\r\n"
    assert sandbox.submit("ann@example.net", f"{name}@{LISTS}", post(name, extra=b"X-Odd : 1\r\n", body=body)).accepted
    (copy,) = copies(sandbox, name, 1)
    assert verdicts(sandbox, copy.content) == [f"{LISTS} kelou pass"]
    assert b"kelou-sign" not in copy.content.lower()
    assert b"kelou-author" not in copy.content.lower()


def test_the_key_is_in_the_dns(sandbox: Sandbox) -> None:
    """The sandbox publishes the record of the key that signs."""
    host, _colon, port = str(sandbox.info["dns"]).rpartition(":")
    answer = dns.query.tcp(dns.message.make_query(f"kelou._domainkey.{LISTS}", "TXT"), host, 5, int(port)).answer
    assert "v=DKIM1; k=rsa; p=" in str(answer[0])


def test_nobody_else_is_signed_for(sandbox: Sandbox) -> None:
    """What another local user hands to the re-injection port leaves as it came."""
    to = f"{uuid4().hex}@elsewhere.example"
    assert submit(sandbox.info["reinjection"], f"x@{LISTS}", to, post("x", f"x@{LISTS}", b"Kelou-Sign: d=lists.example.org; t=1; s=0\r\n")).accepted
    deadline = time.monotonic() + 30
    while not (found := [copy for copy in sandbox.delivered() if copy.delivered_to == to]):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert verdicts(sandbox, found[0].content) == []
    assert b"Kelou-Sign" not in found[0].content


def test_who_may_not_post_is_told_in_the_dialogue(sandbox: Sandbox) -> None:
    """An authenticated author who is no subscriber gets the reason at the end of DATA, and no mail is made of it."""
    name = make(sandbox, "post=subscribers")
    dialogue = sandbox.submit("bob@example.net", f"{name}@{LISTS}", post(name, "bob@example.net"))
    assert dialogue.data.startswith("550 5.7.1 Only subscribers post")
    assert f"{name}-owner@{LISTS}" in dialogue.data


@pytest.mark.parametrize("function", ["-nothing", "+x"])
def test_what_is_no_address_is_refused_at_rcpt(sandbox: Sandbox, function: str) -> None:
    """Nothing of the message is taken."""
    name = make(sandbox)
    dialogue = sandbox.untrusted("ann@example.net", f"{name}{function}@{LISTS}", post(name))
    assert dialogue.recipients[0].startswith("550 5.1.1")
    assert dialogue.data == ""


def test_a_percent_sign_arrives_as_one(sandbox: Sandbox) -> None:
    """A reason with odd signs reaches the poster as it is."""
    name = make(sandbox, "header_rules=refuse X-Score: 100%")
    dialogue = sandbox.submit("ann@example.net", f"{name}@{LISTS}", post(name, extra=b"X-Score: 100%\r\n"))
    assert dialogue.data.startswith("550 5.7.1")
    assert "100%" in dialogue.data
    assert "100%%" not in dialogue.data


def test_one_list_refuses_and_one_takes_it(sandbox: Sandbox) -> None:
    """Two lists in one transaction: the answer is 250, and the one that takes it distributes it."""
    taking, refusing = make(sandbox, "blind_copies=accept"), make(sandbox, "blind_copies=refuse")
    dialogue = sandbox.submit("ann@example.net", [f"{refusing}@{LISTS}", f"{taking}@{LISTS}"], post(taking))
    assert dialogue.accepted
    assert len(copies(sandbox, taking, 1)) == 1
    dialogue = sandbox.submit("ann@example.net", [f"{refusing}@{LISTS}"], post(taking))
    assert dialogue.data.startswith("550 5.7.1")


def test_a_forged_author_opens_nothing(sandbox: Sandbox) -> None:
    """From the Internet, a From that nothing proves and a field like ours: the post is held, not distributed."""
    name = make(sandbox, "post=subscribers")
    forged = b"Kelou-Author: q=X; t=1; a=ann@example.net; w=dkim; f=; m=0; s=0\r\n"
    assert sandbox.untrusted("ann@example.net", f"{name}@{LISTS}", post(name, extra=forged)).accepted
    deadline = time.monotonic() + 30
    while not (held := sandbox.json("mod", "list", name)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert [row["rule"] for row in held] == ["unauthenticated_held"]
    assert sandbox.json("post", "list", name) == []


def test_without_the_milter_other_mail_flows_and_nothing_leaves_unsigned(sandbox: Sandbox) -> None:
    """kill -9 of the milter: other mail goes out; a post that was taken waits in Postfix's queue, and leaves signed, once, when it is back."""
    name, other = make(sandbox), f"{uuid4().hex}@elsewhere.example"
    host, _colon, port = str(sandbox.info["smtp"]).rpartition(":")
    lmtp = sandbox.info["pids"]["lmtp"]
    with smtplib.SMTP(host, int(port), timeout=30) as client:
        client.ehlo()
        client.mail("ann@example.net")
        assert client.rcpt(f"{name}@{LISTS}")[0] == 250
        os.kill(lmtp, signal.SIGSTOP)  # so that it distributes only when the milter is gone
        try:
            assert client.data(post(name))[0] == 250
            os.kill(sandbox.info["pids"]["milter"], signal.SIGKILL)
        finally:
            os.kill(lmtp, signal.SIGCONT)
    try:
        assert sandbox.submit("ann@example.net", other, post("x")).accepted
        deadline = time.monotonic() + 30
        while not any(copy.delivered_to == other for copy in sandbox.delivered()) or "451" not in sandbox.log().partition(f"list={name}@")[2]:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert not [copy for copy in sandbox.delivered() if f"<{name}.".encode() in copy.content]
    finally:
        sandbox.up()
    (copy,) = copies(sandbox, name, 1)
    assert verdicts(sandbox, copy.content) == [f"{LISTS} kelou pass"]
    time.sleep(3)  # the next run of the queue
    assert len(copies(sandbox, name, 1)) == 1


def test_after_a_restart_of_the_milter_posts_go_out_at_the_first_try(sandbox: Sandbox) -> None:
    """Connections to Postfix that were kept from before the restart have lost their milter: a post is handed over on new ones, and not put off."""
    name = make(sandbox)
    for number in (1, 2):
        assert sandbox.submit("ann@example.net", f"{name}@{LISTS}", post(name)).accepted
        assert len(copies(sandbox, name, number)) == number
        if number == 1:
            os.kill(sandbox.info["pids"]["milter"], signal.SIGKILL)
            sandbox.up()
    said = [line for line in sandbox.log().splitlines() if f"to=<{name}@{LISTS}>" in line]
    assert [line.partition("status=")[2][:4] for line in said] == ["sent", "sent"]
