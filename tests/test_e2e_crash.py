"""Kelou is killed while it distributes to 5,000, on a real Postfix: each of them gets the post, once but for one chunk at most."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Sandbox, kelou

PEOPLE = 5000
CHUNK = 500
POST = (
    b"From: Owner <owner@example.org>\r\nTo: gazette@lists.example.org\r\nSubject: The letter\r\nMessage-ID: <letter@example.org>\r\n"
    b"Date: Mon, 23 Nov 2026 12:00:00 +0000\r\n\r\nGood news.\r\n"
)


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    """A sandbox of its own: what is killed here serves nobody else."""
    done = kelou("sandbox", "up", str(tmp_path), "--json")
    assert done.returncode == 0, done.stderr
    yield Sandbox(tmp_path, json.loads(done.stdout))
    kelou("sandbox", "down", str(tmp_path))


def progress(sandbox: Sandbox) -> tuple[str, int, int]:
    """How far the post is: its state, how many were handed over, how many are doubtful."""
    with sqlite3.connect(sandbox.directory / "kelou.db") as database:
        rows = database.execute("SELECT state, handed_over, doubtful FROM post").fetchall()
    return rows[0] if rows else ("", 0, 0)


def wait_for_chunks(sandbox: Sandbox, number: float) -> None:
    deadline = time.monotonic() + 60
    while progress(sandbox)[1] < number * CHUNK:
        assert time.monotonic() < deadline, sandbox.log()[-4000:]
        time.sleep(0.001)


def wait_for(there: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not there():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def put_off(sandbox: Sandbox) -> int:
    """How often Postfix tried the other mail, and put it off."""
    return sum("to=<a@dead.example>" in line and "status=deferred" in line for line in sandbox.log().splitlines())


def retry(sandbox: Sandbox) -> None:
    """Have Postfix try again what it put off, as it would by itself after a while."""
    settings = tomllib.loads(Path(sandbox.info["config"]).read_text("utf-8"))
    subprocess.run(["/usr/sbin/postqueue", "-c", settings["postfix"]["config_directory"], "-f"], check=True)


@pytest.mark.parametrize("chunks", [1, 4, 8])
def test_killed_while_it_distributes(sandbox: Sandbox, chunks: int) -> None:
    """kill -9 after some chunks; after a restart and Postfix's retry all 5,000 have it, and who has it twice was of one chunk, and is counted."""
    assert sandbox.kelou("list", "create", "gazette", "--type", "newsletter", "--subject", "x", "--owner", "owner@example.org").returncode == 0
    everybody = {f"user{number}@domain{number % 50:02}.example" for number in range(PEOPLE)}
    assert sandbox.kelou("member", "import", "gazette", "-", "--quiet", input="".join(f"{one}\n" for one in sorted(everybody))).returncode == 0
    assert sandbox.submit("owner@example.org", "gazette@lists.example.org", POST).accepted
    wait_for_chunks(sandbox, chunks)
    os.kill(sandbox.info["pids"]["lmtp"], signal.SIGKILL)
    state, handed_over, _doubtful = progress(sandbox)
    assert (state, chunks * CHUNK <= handed_over < PEOPLE) == ("distributing", True), "killed in the middle"
    sandbox.up()
    deadline = time.monotonic() + 120
    while progress(sandbox)[0] != "sent":
        assert time.monotonic() < deadline, sandbox.log()[-4000:]
        retry(sandbox)
        time.sleep(0.5)
    sandbox.wait_delivered(PEOPLE, 120)
    time.sleep(2)  # for what should not come
    copies = [copy for copy in sandbox.delivered() if b"Message-ID: <letter@example.org>" in copy.content]
    counted = Counter(copy.delivered_to for copy in copies)
    twice = {one for one, number in counted.items() if number > 1}
    _state, handed_over, doubtful = progress(sandbox)
    assert set(counted) == everybody, "nobody is left out, and nobody else has it"
    assert max(counted.values()) <= 2
    assert len(twice) <= doubtful <= CHUNK
    assert handed_over == PEOPLE


def test_goes_on_at_once(sandbox: Sandbox) -> None:
    """After a restart a post goes on without Postfix' backoff, and other mail that Postfix put off stays put off."""
    etc = Path(tomllib.loads(Path(sandbox.info["config"]).read_text("utf-8"))["postfix"]["config_directory"])
    slow = {"queue_run_delay": "300s", "minimal_backoff_time": "300s", "maximal_backoff_time": "600s", "transport_retry_time": "300s"}
    slow["transport_maps"] = "$kelou_transports, inline:{{dead.example = smtp:[127.0.0.1]:1}}"
    postfix = {"PATH": os.environ["PATH"] + ":/usr/sbin"}
    subprocess.run(["/usr/sbin/postconf", "-c", str(etc), *(f"{key}={value}" for key, value in slow.items())], check=True)
    subprocess.run(["/usr/sbin/postfix", "-c", str(etc), "reload"], check=True, capture_output=True, env=postfix)
    assert sandbox.submit("a@example.org", "a@dead.example", POST).accepted
    wait_for(lambda: put_off(sandbox) == 1)
    assert sandbox.kelou("list", "create", "gazette", "--type", "newsletter", "--subject", "x", "--owner", "owner@example.org").returncode == 0
    everybody = {f"user{number}@example.net" for number in range(1000)}
    assert sandbox.kelou("member", "import", "gazette", "-", "--quiet", input="".join(f"{one}\n" for one in sorted(everybody))).returncode == 0
    assert sandbox.submit("owner@example.org", "gazette@lists.example.org", POST).accepted
    wait_for_chunks(sandbox, 0.2)
    os.kill(sandbox.info["pids"]["lmtp"], signal.SIGKILL)
    assert progress(sandbox)[0] == "distributing"
    wait_for(lambda: "lost connection with" in sandbox.log())
    before = time.monotonic()
    sandbox.up()
    while progress(sandbox)[0] != "sent":
        assert time.monotonic() - before < 30, sandbox.log()[-4000:]
        time.sleep(0.05)
    sandbox.wait_delivered(len(everybody), 60)
    assert "resumed" in sandbox.log()
    assert put_off(sandbox) == 1, "the other mail was not tried again"
