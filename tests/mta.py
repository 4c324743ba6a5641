"""The mail server's side of the milter protocol, in bytes: what Postfix would say, and what it never would."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from miltertest import MilterConnection

Answer = tuple[str, dict[str, object]]


@dataclass
class Verdict:
    """What a milter made of a message: its last word, and what it changed."""

    word: str = ""  # CONTINUE, ACCEPT, TEMPFAIL, or a reply to the client
    inserted: list[tuple[str, str]] = field(default_factory=list)
    removed: list[tuple[str, int]] = field(default_factory=list)
    events: int = 0  # round trips that it took


_WORDS = {"c": "CONTINUE", "a": "ACCEPT", "t": "TEMPFAIL", "r": "REJECT", "s": "SKIP"}


class Mta:
    """One connection to a milter, as an smtpd with that daemon name opens it."""

    def __init__(self, path: Path, daemon: str = "INTERNET") -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(20)
        self.socket.connect(str(path))
        self.connection = MilterConnection(self.socket)
        self.connection.optneg_mta()
        self.events = 0
        self.macro(b"C", b"{daemon_name}", daemon.encode())
        self.say(b"C", b"client.example\0004\x10\x0010.0.0.1\0")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.socket.close()

    def packet(self, command: bytes, content: bytes = b"") -> None:
        self.socket.sendall(struct.pack("!I", len(content) + 1) + command + content)

    def macro(self, command: bytes, *pairs: bytes) -> None:
        self.packet(b"D", command + b"".join(part + b"\0" for part in pairs))

    def say(self, command: bytes, content: bytes = b"") -> str:
        """Send one event; the milter's answer in a word, or the reply it wants given."""
        self.packet(command, content)
        self.events += 1
        return self.word(self.connection.recv())

    @staticmethod
    def word(answer: Answer) -> str:
        kind, content = answer
        return f"{content['smtpcode']} {content['text']}" if kind == "y" else _WORDS[kind]

    def mail(self, sender: str = "author@example.net", *parameters: str, login: str = "") -> str:
        self.macro(b"M", b"i", b"QUEUEID1", *([b"{auth_authen}", login.encode()] if login else []))
        return self.say(b"M", b"".join(part.encode() + b"\0" for part in (f"<{sender}>", *parameters)))

    def rcpt(self, recipient: str | bytes) -> str:
        raw = recipient if isinstance(recipient, bytes) else recipient.encode()
        return self.say(b"R", b"<" + raw + b">\0")

    def content(self, message: bytes) -> Verdict:
        """DATA to the end, as far as the milter wants to see it."""
        header, _blank, body = message.partition(b"\r\n\r\n")
        word = self.say(b"T")
        fields = [line.replace(b"\0fold", b"\n").partition(b":") for line in header.replace(b"\r\n ", b"\0fold ").split(b"\r\n")] if header else []
        for name, _colon, value in fields:
            if word == "CONTINUE":
                word = self.say(b"L", name + b"\0" + value + b"\0")
        if word == "CONTINUE":
            word = self.say(b"N")
        for start in range(0, len(body), 65_000):
            if word == "CONTINUE":
                word = self.say(b"B", body[start : start + 65_000])
        if word not in ("CONTINUE", "SKIP"):
            return Verdict(word, events=self.events)
        return self.end()

    def end(self) -> Verdict:
        self.macro(b"E", b"i", b"QUEUEID1")
        verdict = Verdict()
        self.packet(b"E")
        while not verdict.word:
            kind, content = self.connection.recv()
            if kind == "i":
                verdict.inserted.append((str(content["name"]), str(content["value"])))
            elif kind == "m" and not content["value"]:
                verdict.removed.append((str(content["name"]), int(str(content["index"]))))
            else:
                verdict.word = self.word((kind, content))
        verdict.events = self.events
        return verdict
