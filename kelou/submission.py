"""Submission: hand a message to Postfix's re-injection smtpd, by SMTP (RFC 5321), with the envelope in few turns (PIPELINING, RFC 2920).

A turn is one write, then its replies: what waits for nothing is written at once, and nothing is written behind the final dot before its reply
is there, because a second small write stalls 40 ms when Nagle's algorithm meets a delayed acknowledgement (TCP_NODELAY alone does not save
the server's side). Blocking, for threads: distribution has some, and no loop.
"""

from __future__ import annotations

import re
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from .message import CRLF
from .reply import Reply

CONNECT = 10  # seconds
PATIENCE = 600  # seconds for one reply (RFC 5321 section 4.5.3.2.6: ten minutes for the one after the final dot)
TURN = 500  # commands in one write: their replies must fit into our receive buffer, or both sides would wait (RFC 2920 section 3.1)
IDLE = 60  # seconds that a connection is kept for the next post
KEPT = 8  # connections that are kept

# The words of a header: one with an @ and a letter that is not ASCII is an address that needs SMTPUTF8. Other 8-bit text has always travelled without.
_WORD = re.compile(rb"[^\s<>,;]+")
_NOBODY = Reply(554, "5.5.1", "No valid recipients")
_STATUS = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})\s*")


class Unavailable(Exception):
    """Postfix could not be reached, or left in the middle. `doubtful`: it may have taken the message all the same."""

    def __init__(self, reason: str, doubtful: bool = False) -> None:
        super().__init__(reason)
        self.doubtful = doubtful


@dataclass(frozen=True, slots=True)
class Outcome:
    """What Postfix said. Recipients are named by their place among those given; who is in neither table was taken if `taken`."""

    final: Reply  # to the message; or to MAIL, if that was not taken
    refused: dict[int, Reply] = field(default_factory=dict)
    deferred: dict[int, Reply] = field(default_factory=dict)
    lost: Unavailable | None = None  # what broke off a row of transactions; how far they came is in the tables
    doubtful: int = 0  # recipients that may have got theirs all the same, though they are among the deferred

    @property
    def taken(self) -> bool:
        """Whether Postfix took the message, for those recipients that it took."""
        return self.final.code < 300


def lines(content: bytes) -> bytes:
    """The message in lines that end in CRLF, and nothing else in it that could be taken for a line end (RFC 5321 section 2.3.8).

    A stray LF is a line end, as in `message`; a stray CR is a blank, as Postfix has it, so that it starts no field that we did not see.
    """
    ends = content.count(CRLF)
    if ends != content.count(b"\n") or ends != content.count(b"\r"):
        content = re.sub(rb"\r(?!\n)", b" ", content)
        content = re.sub(rb"(?<!\r)\n", CRLF, content)
    return content if content.endswith(CRLF) else content + CRLF


def wire(content: bytes) -> bytes:
    """The message as it goes behind DATA: in lines, dots doubled, the final dot (RFC 5321 section 4.5.2)."""
    stuffed = lines(content).replace(b"\r\n.", b"\r\n..")
    return (b"." if stuffed.startswith(b".") else b"") + stuffed + b".\r\n"


def _utf8_address(header: bytes) -> bool:
    return not header.isascii() and any(b"@" in word and not word.isascii() for word in _WORD.findall(header))


class Connection:
    """One SMTP connection, for message after message. `spent`: it is not to be used for another. `kept`: it was idle since an earlier post, and what it
    says may be of then."""

    def __init__(self, endpoint: str) -> None:
        host, _colon, port = endpoint.rpartition(":")
        try:
            self._socket = socket.create_connection((host.strip("[]"), int(port)), CONNECT)
        except OSError as error:
            raise Unavailable(f"{endpoint}: {error}") from error
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.settimeout(PATIENCE)
        self._replies = self._socket.makefile("rb")
        self._offers: frozenset[str] = frozenset()
        self.spent = self.kept = False
        try:
            self._greet()
        except Unavailable:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Leave, without ceremony: between messages Postfix needs none."""
        self._replies.close()
        self._socket.close()

    @property
    def quiet(self) -> bool:
        """Whether nothing came in while nobody asked: else Postfix said goodbye, or hung up."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return not poll.poll(0)

    def submit(
        self, reverse_path: str, recipients: Sequence[str], content: bytes, parameters: str = "", ready: Callable[[], object] = bool
    ) -> Outcome:
        """Hand over one message in one transaction. Raises Unavailable; what Postfix refuses or defers is in the Outcome.

        `parameters` are more of MAIL's. `ready` is called when Postfix has the envelope and waits for the message: before that, nothing is in doubt.
        """
        outcome = self._transaction(reverse_path, recipients, content, parameters, ready)
        # Before 3.11, an smtpd that lost its milter defers all that comes on the same connection, however soon the milter is back.
        self.spent = self.spent or 400 <= outcome.final.code < 500
        return outcome

    def _transaction(
        self, reverse_path: str, recipients: Sequence[str], content: bytes, parameters: str, ready: Callable[[], object]
    ) -> Outcome:
        utf8, strangers = self._utf8(reverse_path, recipients, content)
        eight = "8BITMIME" in self._offers and not content.isascii()
        mail = f"MAIL FROM:<{reverse_path}>{' BODY=8BITMIME' if eight else ''}{' SMTPUTF8' if utf8 else ''}{parameters and ' ' + parameters}"
        places = [place for place in range(len(recipients)) if place not in strangers]
        if not places:
            return Outcome(_NOBODY, strangers)
        opened, *answers, go = self._commands([mail, *(f"RCPT TO:<{recipients[place]}>" for place in places), "DATA"])
        outcome = Outcome(opened if opened.code >= 400 else go, strangers)
        if opened.code < 400:  # else what was said to the commands behind MAIL says nothing of the recipients
            for place, reply in zip(places, answers, strict=True):
                if reply.code >= 400:
                    (outcome.refused if reply.permanent else outcome.deferred)[place] = reply
        if go.code != 354:
            self._commands(["RSET"])
            return outcome
        if opened.code >= 400 or len(outcome.refused) + len(outcome.deferred) == len(recipients):
            self._content(b".\r\n", False)  # RFC 2920 section 3.1: a server may say 354 with no recipient; an empty message ends that
            return outcome if opened.code >= 400 else Outcome(_NOBODY, outcome.refused, outcome.deferred)
        ready()
        return Outcome(self._content(wire(content), True), outcome.refused, outcome.deferred)

    def _greet(self) -> None:
        greeting, _lines = self._reply()
        self._write(f"EHLO {socket.gethostname()}\r\n".encode("ascii", "replace"))
        reply, lines = self._reply()
        if greeting.code != 220 or reply.code != 250:
            raise Unavailable(str(greeting if greeting.code != 220 else reply))
        self._offers = frozenset(line.split()[0].upper() for line in lines[1:] if line.split())

    def _utf8(self, reverse_path: str, recipients: Sequence[str], content: bytes) -> tuple[bool, dict[int, Reply]]:
        """Whether SMTPUTF8 (RFC 6531) is asked for, and the recipients that can not be written to without it."""
        strange = [place for place, recipient in enumerate(recipients) if not recipient.isascii()]
        if "SMTPUTF8" not in self._offers:
            return False, dict.fromkeys(strange, Reply(553, "5.6.7", "The mail server does not take addresses that are not ASCII"))
        header = content[: content.find(b"\r\n\r\n") + 1 or len(content)]
        return bool(strange or not reverse_path.isascii() or _utf8_address(header)), {}

    def _commands(self, commands: Sequence[str]) -> list[Reply]:
        """Their replies; written a turn at a time, or one by one to a server that wants it so."""
        size = TURN if "PIPELINING" in self._offers else 1
        replies: list[Reply] = []
        for start in range(0, len(commands), size):
            turn = commands[start : start + size]
            self._write(b"".join(command.encode("utf-8", "surrogateescape") + CRLF for command in turn))
            replies += [self._reply()[0] for _command in turn]
            if replies[0].code >= 400 and len(replies) < len(commands):  # MAIL was refused: the rest would be, too
                return replies + [replies[0]] * (len(commands) - len(replies))
        return replies

    def _content(self, lines: bytes, matters: bool) -> Reply:
        self._write(lines)
        return self._reply(doubtful=matters)[0]

    def _write(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise Unavailable(f"connection to Postfix lost: {error}") from error

    def _reply(self, doubtful: bool = False) -> tuple[Reply, list[str]]:
        """One reply, which may have several lines (RFC 5321 section 4.2.1)."""
        lines: list[str] = []
        while True:
            try:
                raw = self._replies.readline(4096)
            except OSError as error:
                raise Unavailable(f"no reply from Postfix: {error}", doubtful) from error
            text = raw.decode("utf-8", "replace").rstrip("\r\n")
            if not re.match(r"[2-5][0-9][0-9](?:[ -]|$)", text):
                raise Unavailable(f"Postfix hung up, or is no mail server: {text!r}", doubtful)
            lines.append(text[4:])
            if text[3:4] != "-":
                break
        code, status = int(text[:3]), _STATUS.match(lines[0])
        if code == 421:  # RFC 5321 section 3.8: the server is going away
            raise Unavailable(text)
        return Reply(code, status[1] if status else f"{code // 100}.0.0", _STATUS.sub("", " ".join(lines), count=1)), lines


class Pool:
    """Connections to one endpoint, kept for the next post. Threads share it."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._idle: list[tuple[float, Connection]] = []
        self._lock = threading.Lock()

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A connection that nobody else uses; it goes back afterwards, unless something went wrong or was put off."""
        connection = self._take() or Connection(self._endpoint)
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        self._give(connection)

    def close(self) -> None:
        """Close what is idle."""
        with self._lock:
            idle, self._idle = self._idle, []
        for _since, connection in idle:
            connection.close()

    def _take(self) -> Connection | None:
        while True:
            with self._lock:
                if not self._idle:
                    return None
                since, connection = self._idle.pop()
            if time.monotonic() - since < IDLE and connection.quiet:
                connection.kept = True
                return connection
            connection.close()

    def _give(self, connection: Connection) -> None:
        with self._lock:
            if len(self._idle) < KEPT and not connection.spent:
                self._idle.append((time.monotonic(), connection))
                return
        connection.close()
        if connection.spent:
            self.close()  # what was idle beside it has most likely lost the same milter
