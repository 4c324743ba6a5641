"""What the attacks share: a raw SMTP client, lists, what became of posts, and a watch that says whether anything was harmed."""

from __future__ import annotations

import json
import re
import socket
import sqlite3
import subprocess
import time
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import dns.message
import dns.query
from conftest import Delivered, Dialogue, Sandbox, submit

LISTS = "lists.example.org"
AUTHOR = "ann@example.net"  # subscribes to every list that is made here
OWNER = "owner@example.net"

# What must not be in the log after an attack: our own faults, daemons that died, milters that broke off.
_HARM = re.compile(r"Traceback|panic:|fatal:|warning: milter|untrapped|process .* killed|Segmentation|MemoryError")


class Raw:
    """An SMTP client that sends octets as they are."""

    def __init__(self, endpoint: str, hello: bytes = b"EHLO client.example") -> None:
        host, _colon, port = endpoint.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), 60)
        self._lines = self.socket.makefile("rb")
        assert self.reply().startswith("220")
        self.hello = self.ask(hello)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._lines.close()
        self.socket.close()

    def reply(self) -> str:
        """The last line of the next reply; empty when the server has gone."""
        while True:
            line = self._lines.readline().decode("utf-8", "replace").rstrip("\r\n")
            if line[3:4] != "-":
                return line

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def ask(self, line: bytes | str) -> str:
        self.send((line.encode() if isinstance(line, str) else line) + b"\r\n")
        return self.reply()

    def envelope(self, sender: str, *recipients: str) -> list[str]:
        """MAIL, each RCPT, DATA."""
        return [self.ask(line) for line in (f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{one}>" for one in recipients), "DATA")]

    def rest(self, seconds: float = 2) -> str:
        """All that is said until there is silence."""
        said = b""
        self.socket.settimeout(seconds)
        try:
            while chunk := self._lines.raw.read(65536):  # type: ignore[attr-defined]
                said += chunk
        except OSError:
            pass
        return said.decode("utf-8", "replace")


@dataclass
class Fate:
    """What became of the posts to a list: subjects that were distributed, and (subject, rule) of what is held."""

    sent: list[str] = field(default_factory=list)
    held: list[tuple[str, str]] = field(default_factory=list)


def make(sandbox: Sandbox, *settings: str, subscribers: Sequence[str] = (AUTHOR,), type: str = "discussion", owner: str = OWNER) -> str:
    """An open list of the test's own; its name."""
    name = f"k{uuid4().hex[:12]}"
    commands: list[tuple[str, ...]] = [("list", "create", name, "--owner", owner, "--type", type, "--subject", "Test")]
    commands += [("list", "set", name, "language=en", *settings)]
    for command in commands:
        run(sandbox, *command)
    if subscribers:
        run(sandbox, "member", "import", name, "-", "--quiet", input="".join(f"{one}\n" for one in subscribers))
    return name


def run(sandbox: Sandbox, *arguments: str, input: str | None = None) -> str:
    """The command line; it must succeed."""
    done = sandbox.kelou(*arguments, input=input)
    assert done.returncode == 0, (arguments, done.stdout, done.stderr)
    return done.stdout


def post(name: str, author: str = AUTHOR, subject: str = "", extra: bytes = b"", body: bytes = b"Bonjour\r\n") -> bytes:
    """A post that nothing is wrong with but what is given."""
    subject = subject or f"s{uuid4().hex[:12]}"
    return (
        f"From: {author if '<' in author else f'Ann <{author}>'}\r\nTo: {name}@{LISTS}\r\nSubject: {subject}\r\nMessage-ID: <{uuid4()}@example.net>\r\n"
        "Date: Mon, 23 Nov 2026 12:00:00 +0000\r\n"
    ).encode() + extra + b"\r\n" + body  # fmt: skip


def to(name: str) -> str:
    return f"{name}@{LISTS}"


@contextmanager
def database(sandbox: Sandbox) -> Iterator[sqlite3.Connection]:
    """The sandbox's own database."""
    with closing(sqlite3.connect(sandbox.directory / "kelou.db", timeout=30, isolation_level=None)) as connection:
        yield connection


def fate(sandbox: Sandbox, name: str) -> Fate:
    """What became of the posts to this list so far."""
    with database(sandbox) as connection:
        of = "FROM {} p JOIN mailing_list l ON p.list_id = l.id WHERE l.name = ?"
        sent = connection.execute(f"SELECT p.subject {of.format('post')} AND p.state = 'sent' ORDER BY p.id", [name]).fetchall()
        held = connection.execute(f"SELECT p.subject, p.rule {of.format('held_post')} AND p.state = 'held' ORDER BY p.id", [name]).fetchall()
    return Fate([subject for (subject,) in sent], held)


def etc(sandbox: Sandbox) -> str:
    """The folder of the private Postfix' configuration."""
    return str(tomllib.loads(Path(sandbox.info["config"]).read_text("utf-8"))["postfix"]["config_directory"])


def queue(sandbox: Sandbox) -> list[Any]:
    """What Postfix still has to deliver."""
    done = subprocess.run(["/usr/sbin/postqueue", "-c", etc(sandbox), "-j"], capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def flush(sandbox: Sandbox) -> None:
    """Have Postfix try again now what it put off."""
    subprocess.run(["/usr/sbin/postqueue", "-c", etc(sandbox), "-f"], check=True)


def settle(sandbox: Sandbox, timeout: float = 30) -> None:
    """Wait until all mail has arrived where it belongs: nothing is left in Postfix' queue."""
    deadline, quiet = time.monotonic() + timeout, 0
    while quiet < 4:  # postqueue(1) overlooks what changes folders while it looks
        quiet = 0 if queue(sandbox) else quiet + 1
        assert time.monotonic() < deadline, (queue(sandbox)[:5], sandbox.log()[-4000:])
        time.sleep(0.1)


def copies(sandbox: Sandbox, name: str) -> list[Delivered]:
    """What this list has distributed, once all mail has arrived."""
    settle(sandbox)
    marker = f"<{name}.{LISTS}>".encode()
    return [copy for copy in sandbox.delivered() if marker in copy.content.partition(b"\r\n\r\n")[0]]


def mail_to(sandbox: Sandbox, *places: str) -> list[Delivered]:
    """What went to addresses that contain one of these, once all mail has arrived."""
    settle(sandbox)
    return [copy for copy in sandbox.delivered() if any(place in copy.delivered_to for place in places)]


def header(content: bytes) -> list[tuple[str, str]]:
    """The fields as any receiver sees them: cut at line ends that no blank follows."""
    lines = content.partition(b"\r\n\r\n")[0].replace(b"\r\n ", b" ").replace(b"\r\n\t", b" ").split(b"\r\n")
    return [(name.decode("latin-1").lower(), value.decode("latin-1").strip()) for name, _colon, value in (line.partition(b":") for line in lines)]


def names(content: bytes) -> set[str]:
    return {name for name, _value in header(content)}


@dataclass
class Watch:
    """What was there before an attack. `faults` is set by an attack whose faults are expected in the log."""

    sandbox: Sandbox
    faults: bool = False
    started: dict[str, tuple[int, str]] = field(default_factory=dict)
    offset: int = 0

    def __post_init__(self) -> None:
        self.started = self._started()
        self.offset = len(self._log())

    def _log(self) -> bytes:
        return Path(self.sandbox.info["log"]).read_bytes()

    def log(self) -> str:
        """What was logged since."""
        return self._log()[self.offset :].decode("utf-8", "replace")

    def _started(self) -> dict[str, tuple[int, str]]:
        found = {}
        for name in ("lmtp", "milter", "postfix"):
            pid = self.sandbox.info["pids"][name]
            try:
                found[name] = pid, Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[19]
            except FileNotFoundError:
                found[name] = pid, "gone"
        return found

    def check(self) -> None:
        """The three daemons still run, nothing waits in the queue, and no fault of ours is in the log."""
        settle(self.sandbox)
        assert self._started() == self.started
        harm = [line for line in self.log().splitlines() if _HARM.search(line)]
        assert self.faults or not harm, self.log()[-6000:]


@contextmanager
def zone(sandbox: Sandbox, records: str) -> Iterator[None]:
    """These records in the DNS, for as long as the block lasts."""
    path, probe = Path(sandbox.info["zone"]), f"probe-{uuid4().hex}.example"
    before = path.read_text("utf-8")
    path.write_text(f'{before}\n{records}\n{probe}. 60 IN TXT "here"\n', "utf-8")
    host, _colon, port = str(sandbox.info["dns"]).rpartition(":")
    deadline = time.monotonic() + 10
    while not dns.query.udp(dns.message.make_query(probe, "TXT"), host, 5, int(port)).answer:
        assert time.monotonic() < deadline, sandbox.log()[-2000:]
        time.sleep(0.1)
    try:
        yield
    finally:
        path.write_text(before, "utf-8")


def trusted(sandbox: Sandbox, name: str, content: bytes, reverse_path: str = AUTHOR) -> Dialogue:
    """Hand a post in where clients count as authenticated."""
    return sandbox.submit(reverse_path, to(name), content)


def alive(sandbox: Sandbox, name: str, within: float = 10) -> float:
    """Post to a list and wait for it to be distributed; the seconds that it took."""
    subject, begin = f"alive-{uuid4().hex[:12]}", time.monotonic()
    assert trusted(sandbox, name, post(name, subject=subject)).accepted
    while subject not in fate(sandbox, name).sent:
        assert time.monotonic() < begin + within, f"another list's post waits: {sandbox.log()[-3000:]}"
        time.sleep(0.02)
    return time.monotonic() - begin


def sendmail(sandbox: Sandbox, sender: str, recipient: str, content: bytes) -> None:
    """sendmail(1): mail that no smtpd and so no milter sees."""
    command = ["/usr/sbin/sendmail", "-C", etc(sandbox), "-i", "-f", sender, "--", recipient]
    subprocess.run(command, input=content.replace(b"\r\n", b"\n"), check=True, capture_output=True, timeout=30)


def stranger(sandbox: Sandbox, endpoint: str, sender: str, recipient: str, content: bytes) -> Dialogue:
    """Hand mail in at any port."""
    return submit(sandbox.info[endpoint], sender, recipient, content)
