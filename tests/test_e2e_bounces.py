"""Bounces on the whole way: a letter with return-paths of its own goes out through Postfix, and what comes back is noted."""

from __future__ import annotations

import re
import time
from uuid import uuid4

import pytest
from conftest import Sandbox
from test_bounce import report

OWNER, LUC = "owner@example.org", "luc@example.net"


def letter(sandbox: Sandbox, delivery: str) -> tuple[str, str]:
    """A list whose only subscriber has got one post; its name, and the return-path of the copy."""
    name = f"b{uuid4().hex[:12]}"
    sandbox.clear()
    sandbox.json("list", "create", name, "--owner", OWNER, "--type", "newsletter", "--subject", "News")
    sandbox.json("list", "set", name, f"delivery={delivery}", "language=en", "unauthenticated=hold")
    sandbox.json("member", "add", name, LUC, "--quiet")
    sandbox.clear()
    message = f"From: {OWNER}\r\nTo: {name}@lists.example.org\r\nSubject: News\r\nMessage-ID: <{name}@example.org>\r\n\r\nHello.\r\n"
    assert sandbox.submit(OWNER, f"{name}@lists.example.org", message.encode()).accepted
    sandbox.wait_delivered(1)
    copies = [copy for copy in sandbox.delivered() if copy.delivered_to == LUC]
    if not copies:  # held, where the sandbox does not know its clients by name
        (held,) = sandbox.json("mod", "list", name)
        sandbox.json("mod", "approve", str(held["id"]))
        deadline = time.monotonic() + 30
        while not (copies := [copy for copy in sandbox.delivered() if copy.delivered_to == LUC]):
            assert time.monotonic() < deadline
            time.sleep(0.1)
    return name, copies[0].return_path


@pytest.mark.parametrize(
    ("delivery", "proof"),
    [("personal", "token"), ("verp", "quoted"), ("shared", "quoted")],
)
def test_what_comes_back_is_noted(sandbox: Sandbox, delivery: str, proof: str) -> None:
    """In each delivery mode a report that comes to the copy's own return-path, from the Internet, is noted with its proof; a made-up one is refused."""
    name, back = letter(sandbox, delivery)
    assert back.startswith(f"{name}-bounces")
    dialogue = sandbox.untrusted("", back, report("5.1.1", LUC, f"<{name}@example.org>"))
    assert dialogue.accepted, dialogue
    deadline = time.monotonic() + 30
    while not (rows := sandbox.json("bounce", "list", name)):
        assert time.monotonic() < deadline, sandbox.log()[-3000:]
        time.sleep(0.2)
    assert (rows[0]["email"], rows[0]["score"], rows[0]["state"]) == (LUC, None, "watched")
    shown = next(row for row in sandbox.json("bounce", "show", LUC) if row["list"].startswith(f"{name}@"))
    assert [(failure["kind"], failure["proof"]) for failure in shown["failures"]] == [("hard", proof)]
    forged = re.sub(r"-bounces.*@", f"-bounces+{'a' * 28}@", back)
    refused = sandbox.untrusted("", forged, report("5.1.1", LUC, f"<{name}@example.org>"))
    assert [reply[:9] for reply in refused.recipients] == ["550 5.1.1"], refused
