"""The LMTP handler as a process of its own, and a client that speaks to it octet by octet."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from database_fixture import open_list, open_site
from smtppeer import Peer

from kelou import authorseal, people, secret
from kelou.audit import Actor
from kelou.config import Config, to_toml
from kelou.directory import ListView
from kelou.message import Message
from kelou.models import now
from kelou.policy import Author

AUTHOR = "alice@example.org"
QUEUE_ID = "4XyZ1234abc"


@dataclass
class Host:
    """A site on a database, a Postfix that takes what it is given, and the handler between them."""

    directory: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.peer = Peer()
        (self.directory / "sockets").mkdir()
        self.log = self.directory / "log"
        self.config = open_site(self.directory, self.peer.endpoint)
        self.set_up(**{"postfix.sockets": str(self.directory / "sockets")})

    def set_up(self, **values: object) -> None:
        """Configure; what runs already goes on with what it has."""
        self.config = Config(self.config.path, {**self.config.values, **values})
        self.config.path.write_text("".join(f"{key} = {to_toml(value)}\n" for key, value in self.config.values.items()), "utf-8")

    def list(self, name: str = "amis", *subscribers: str, **asked: str) -> ListView:
        """An open list, with these people and the author."""
        the_list = open_list(self.config, name, **asked)
        for address in (AUTHOR, *subscribers):
            people.subscribe(self.config, Actor("root"), the_list, address, quiet=True)
        self.peer.letters.clear()
        return the_list

    def start(self) -> subprocess.Popen[bytes]:
        """Start the handler, and wait until it says that it is ready (sd_notify)."""
        notify = self.directory / "notify"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            notify.unlink(missing_ok=True)
            ready.bind(str(notify))
            ready.settimeout(20)
            with self.log.open("ab") as log:
                command = [sys.executable, "-m", "kelou.lmtp.main", "-c", str(self.config.path)]
                process = subprocess.Popen(command, stderr=log, env={**os.environ, "NOTIFY_SOCKET": str(notify), "LC_ALL": "C"})
            self.processes.append(process)
            assert ready.recv(100) == b"READY=1"
        return process

    def stop(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.wait()
        self.peer.close()

    def client(self) -> Client:
        return Client(self.directory / "sockets" / "lmtp.sock")

    def sealed(self, content: bytes, author: str = AUTHOR, queue_id: str = QUEUE_ID) -> bytes:
        """The message as it is when the milter knew who wrote it."""
        mark = authorseal.seal(secret.load(self.config), Author(author, "test"), queue_id, Message.parse(content), now())
        return mark.raw + content


class Client:
    """One LMTP connection. `ask` sends octets as they are and returns one reply, which may have several lines."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(30)
        self.socket.connect(str(path))
        self._lines = self.socket.makefile("rb")
        self.greeting = self.reply()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._lines.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def reply(self) -> str:
        lines = []
        while True:
            line = self._lines.readline().decode("ascii").rstrip("\r\n")
            lines.append(line)
            if line[3:4] != "-":
                return "\n".join(lines)

    def ask(self, line: bytes | str) -> str:
        self.send((line.encode() if isinstance(line, str) else line) + b"\r\n")
        return self.reply()

    def hello(self) -> Self:
        assert self.ask("LHLO test").startswith("250-")
        return self

    def deliver(self, recipient: str, content: bytes, reverse_path: str = AUTHOR, queue_id: str = QUEUE_ID) -> str:
        """One transaction as Postfix makes it; the reply to the message, or the first that is not what was wanted."""
        turn = [f"XFORWARD NAME=[UNAVAILABLE] IDENT={queue_id}", f"MAIL FROM:<{reverse_path}> BODY=8BITMIME", f"RCPT TO:<{recipient}>", "DATA"]
        self.send("".join(f"{line}\r\n" for line in turn).encode())
        replies = [self.reply() for _line in turn]
        if not replies[-1].startswith("354"):
            return next(reply for reply in replies if not reply.startswith("2"))
        stuffed = content.replace(b"\r\n.", b"\r\n..")
        self.send((b"." if stuffed.startswith(b".") else b"") + stuffed + b".\r\n")
        return self.reply()
