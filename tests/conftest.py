"""What tests share: a sandbox with a real Postfix, for the whole run."""

from __future__ import annotations

import json
import smtplib
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pytest


class Delivered(NamedTuple):
    """One recipient's copy in the world; `content` is what was received, octet by octet."""

    return_path: str
    delivered_to: str
    content: bytes


@dataclass
class Dialogue:
    """The replies of one SMTP transaction: `250 2.1.0 Ok`; `data` is empty where it did not come to that."""

    mail: str = ""
    recipients: list[str] = field(default_factory=list)
    data: str = ""

    @property
    def accepted(self) -> bool:
        return self.data.startswith("250")


@dataclass
class Sandbox:
    """A sandbox that runs. `info` is what sandbox.json says."""

    directory: Path
    info: dict[str, Any]

    def kelou(self, *arguments: str, input: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run the command line with this sandbox's configuration."""
        return kelou("-c", self.info["config"], *arguments, input=input)

    def json(self, *arguments: str, input: str | None = None) -> Any:
        """What the command line prints with --json; it must succeed."""
        done = self.kelou(*arguments, "--json", input=input)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def up(self) -> None:
        """Start again what was killed."""
        done = kelou("sandbox", "up", str(self.directory), "--json")
        assert done.returncode == 0, done.stderr
        self.info = json.loads(done.stdout)

    def submit(self, reverse_path: str, recipients: str | Sequence[str], message: bytes) -> Dialogue:
        """Hand a message in at the port whose clients count as authenticated."""
        return submit(self.info["smtp"], reverse_path, recipients, message)

    def untrusted(self, reverse_path: str, recipients: str | Sequence[str], message: bytes, **xclient: str) -> Dialogue:
        """Hand a message in where the Internet does, as a client that XCLIENT describes: ADDR="192.0.2.1", NAME="mx.example", HELO="…"."""
        return submit(self.info["untrusted_smtp"], reverse_path, recipients, message, **xclient)

    def delivered(self) -> list[Delivered]:
        """What has reached the world since the last `clear`, in no order that means anything."""
        return [read_delivered(path) for path in sorted(Path(self.info["delivered"], "new").iterdir())]

    def wait_delivered(self, number: int, timeout: float = 30) -> list[Delivered]:
        """Wait until at least so many copies have reached the world; all of them."""
        deadline = time.monotonic() + timeout
        new = Path(self.info["delivered"], "new")
        while (found := sum(1 for _path in new.iterdir())) < number:
            assert time.monotonic() < deadline, f"{found} of {number} copies after {timeout} s; the log is {self.info['log']}"
            time.sleep(0.05)
        return self.delivered()

    def clear(self) -> None:
        """Forget what was delivered."""
        for path in Path(self.info["delivered"], "new").iterdir():
            path.unlink()

    def log(self) -> str:
        return Path(self.info["log"]).read_text("utf-8", "replace")


def kelou(*arguments: str, input: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line."""
    command = [sys.executable, "-m", "kelou.admin.cli", *arguments]
    return subprocess.run(command, input=input, capture_output=True, text=True, check=False, timeout=120)


def read_delivered(path: Path) -> Delivered:
    """One file of the Maildir."""
    first, second, content = path.read_bytes().split(b"\r\n", 2)
    return Delivered(
        first.removeprefix(b"Return-Path: <").removesuffix(b">").decode(), second.removeprefix(b"Delivered-To: ").decode(), content
    )


def submit(endpoint: str, reverse_path: str, recipients: str | Sequence[str], message: bytes, **xclient: str) -> Dialogue:
    """One SMTP transaction; the octets of the message go out as they are, but for the dots of transparency."""
    dialogue = Dialogue()
    host, _colon, port = endpoint.rpartition(":")
    addresses = [recipients] if isinstance(recipients, str) else list(recipients)
    with smtplib.SMTP(host, int(port), local_hostname="client.example", timeout=60) as client:
        client.ehlo()
        if xclient:
            code, text = client.docmd("XCLIENT", " ".join(f"{name}={value}" for name, value in xclient.items()))
            assert code == 220, text
            client.ehlo()
        utf8 = "" if "".join([reverse_path, *addresses]).isascii() else " SMTPUTF8"
        client.command_encoding = "utf-8"
        dialogue.mail = _reply(client.docmd("MAIL", f"FROM:<{reverse_path}> BODY=8BITMIME SIZE={len(message)}{utf8}"))
        if dialogue.mail.startswith("250"):
            dialogue.recipients = [_reply(client.docmd("RCPT", f"TO:<{address}>")) for address in addresses]
        if any(reply.startswith("25") for reply in dialogue.recipients):
            try:
                dialogue.data = _reply(client.data(message))
            except smtplib.SMTPDataError as error:  # refused before the message
                dialogue.data = _reply((error.smtp_code, error.smtp_error))
    return dialogue


def _reply(reply: tuple[int, bytes | str]) -> str:
    code, text = reply
    return f"{code} {text.decode('utf-8', 'replace') if isinstance(text, bytes) else text}"


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A sandbox for the whole run. Tests share it: each makes lists of its own, and looks at its own mail."""
    directory = tmp_path_factory.mktemp("sandbox")
    done = kelou("sandbox", "up", str(directory), "--json")
    assert done.returncode == 0, done.stderr
    yield Sandbox(directory, json.loads(done.stdout))
    kelou("sandbox", "down", str(directory))
