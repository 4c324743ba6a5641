"""A scripted SMTP server on loopback: a mapping command → reply, and a memory of what came in."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

HANG_UP = "hang up"  # as a reply: close the connection instead
SILENT = "silent"  # as a reply: say nothing, and wait for the client to go

DEFAULT = {
    "greeting": "220 peer ESMTP",
    "EHLO": "250-peer\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 ENHANCEDSTATUSCODES",
    "MAIL": "250 2.1.0 Ok",
    "RCPT": "250 2.1.5 Ok",
    "DATA": "354 End data with <CR><LF>.<CR><LF>",
    "RSET": "250 2.0.0 Ok",
    ".": "250 2.0.0 Ok: queued",
}


@dataclass
class Letter:
    """One transaction that was taken."""

    mail: str
    recipients: list[str]
    content: bytes  # as it stood on the wire, without the final dot


@dataclass
class Peer:
    """Replies are looked up by the whole command (`RCPT TO:<a@b>`), else by its verb; a list of replies is used up in turn, its last one stays."""

    replies: Mapping[str, str | list[str]] = field(default_factory=dict)
    letters: list[Letter] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    connections: int = 0
    before: dict[str, Callable[[], object]] = field(default_factory=dict)  # what happens before a command is answered

    def __post_init__(self) -> None:
        self._script = {key: list(value) if isinstance(value, list) else [value] for key, value in {**DEFAULT, **self.replies}.items()}
        self._server = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"127.0.0.1:{self._server.getsockname()[1]}"
        self._open: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def say(self, key: str, *replies: str) -> None:
        """Answer this from now on."""
        self._script[key] = list(replies)

    def close(self) -> None:
        for one in (self._server, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    @property
    def recipients(self) -> list[str]:
        """Everybody that got something, in order."""
        return [recipient for letter in self.letters for recipient in letter.recipients]

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _address = self._server.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.connections += 1
                self._open.append(client)
                threading.Thread(target=self._talk, args=(client,), daemon=True).start()

    def _reply(self, *keys: str) -> str:
        self.before.get(keys[-1], bool)()
        script = next(self._script[key] for key in keys if key in self._script)
        return script.pop(0) if len(script) > 1 else script[0]

    def _talk(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), client, client.makefile("rb") as lines:
            mail, taken = "", list[str]()
            client.sendall(self._reply("greeting").encode() + b"\r\n")
            for raw in lines:
                command = raw.decode("utf-8", "replace").rstrip("\r\n")
                self.commands.append(command)
                verb = command.split(" ")[0].upper()
                reply = self._reply(command.split(" BODY=")[0].split(" SMTPUTF8")[0], verb)
                if reply == SILENT:
                    client.recv(1)
                if reply in (HANG_UP, SILENT):
                    return
                client.sendall(reply.encode() + b"\r\n")
                if verb == "MAIL":
                    mail, taken = command if reply.startswith("2") else "", []
                elif verb == "RCPT" and mail and reply.startswith("2"):
                    taken.append(command.partition("<")[2].rpartition(">")[0])
                elif verb == "DATA" and reply.startswith("3"):
                    content = bytearray()
                    while not content.endswith(b"\r\n.\r\n") and content != b".\r\n":
                        line = lines.readline()
                        if not line:
                            return
                        content += line
                    final = self._reply(".") if mail and taken else "554 5.5.1 No valid recipients"
                    if final.startswith("2") or final in (HANG_UP, SILENT):
                        self.letters.append(Letter(mail, taken, bytes(content[:-3])))
                    if final == SILENT:
                        client.recv(1)
                    if final in (HANG_UP, SILENT):
                        return
                    client.sendall(final.encode() + b"\r\n")
