"""The LMTP server (RFC 2033): aiosmtpd's, with what it lacks for Postfix's own client.

One recipient a transaction, so that one reply after DATA is the right number of them: a second RCPT is told 452, which makes any client open another
transaction (RFC 5321 section 4.5.3.1.10), and Postfix is configured to send one anyway. Lines may be of any length, addresses are taken as they
stand, and whatever goes wrong here is 451, without a word of what it was.
"""

from __future__ import annotations

import asyncio
import collections
import logging
import re
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, AnyStr

from aiosmtpd.lmtp import LMTP

from kelou import maillog, reply

from .delivery import Envelope

MESSAGE = 1 << 30  # octets of the largest line: Postfix's message_size_limit is what bounds a message
COMMAND = 8192  # octets; Postfix sends addresses of up to 2,048
PATIENCE = 86400  # seconds without a command: a distribution is one command, and Postfix closes what it does not need
BUSY = 20  # deliveries at a time, as many as Postfix makes (default_destination_concurrency_limit)

OFFERS = ("PIPELINING", "ENHANCEDSTATUSCODES", "8BITMIME", "SMTPUTF8", "XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE")
_PATH = re.compile(r"\s*<((?:\"(?:[^\"\\]|\\.)*\"|[^\">])*)>\s*(.*)", re.DOTALL)
# RFC 2034 section 4 wants an enhanced status code in every reply but the greeting's and LHLO's; aiosmtpd has none.
_STATUS = {"221 ": "2.0.0", "500 ": "5.5.2", "501 ": "5.5.4", "502 ": "5.5.1", "503 ": "5.5.1", "555 ": "5.5.4"}
_HAS_STATUS = re.compile(r"[245][0-9]{2} [245]\.")
_END = b"\r\n.\r\n"
_XTEXT = re.compile(r"\+([0-9A-F]{2})")

Deliver = Callable[[Envelope, bytes], reply.Reply]

# It logs what strangers send, unescaped; what happens here, we log.
logging.getLogger("mail.log").setLevel(logging.CRITICAL)


class Handler:
    """What aiosmtpd asks: its hooks, in the order of the dialogue. `deliver` may be another one from the next message on."""

    def __init__(self, deliver: Deliver, executor: Executor) -> None:
        self.deliver = deliver
        self._executor = executor
        self.running: set[asyncio.Future[reply.Reply]] = set()

    async def handle_EHLO(self, _server: Any, session: Any, _envelope: Any, hostname: str, responses: list[str]) -> list[str]:
        session.host_name = hostname
        lines = [responses[0][4:], *OFFERS]
        return [f"250{'-' if line != lines[-1] else ' '}{line}" for line in lines]

    async def handle_RCPT(self, _server: Any, _session: Any, envelope: Any, address: str, _options: list[str]) -> str:
        if envelope.rcpt_tos:
            return "452 4.5.3 One recipient at a time"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server: Any, _session: Any, envelope: Any) -> str:
        told: dict[str, str] = server.forwarded
        reverse_path = "" if envelope.mail_from == "<>" else envelope.mail_from
        its = Envelope(reverse_path, envelope.rcpt_tos[0], told.get("IDENT", ""), told.get("ADDR", "").removeprefix("IPV6:"))
        server.forwarded.clear()  # it was said of this message
        work = asyncio.get_running_loop().run_in_executor(self._executor, self._answer, its, envelope.content)
        self.running.add(work)
        work.add_done_callback(self.running.discard)
        return (await asyncio.shield(work)).wire  # it goes on to its end even when the client has gone

    async def handle_RSET(self, server: Any, _session: Any, _envelope: Any) -> str:
        server.forwarded.clear()
        return "250 2.0.0 OK"

    async def handle_exception(self, error: Exception) -> str:
        maillog.fault("lmtp-fault", error=type(error).__name__)
        return reply.OUR_FAULT.wire

    def _answer(self, envelope: Envelope, content: bytes) -> reply.Reply:
        try:
            return self.deliver(envelope, content)
        except Exception as error:
            maillog.fault("fault", recipient=envelope.recipient, queue_id=envelope.queue_id, error=type(error).__name__)
            return reply.OUR_FAULT


class Server(LMTP):
    """The protocol of one connection."""

    command_size_limit = COMMAND
    line_length_limit = MESSAGE

    def __init__(self, handler: Handler, hostname: str, loop: asyncio.AbstractEventLoop) -> None:
        self.forwarded: dict[str, str] = {}
        self.command_size_limits = collections.defaultdict(lambda: COMMAND)
        super().__init__(
            handler, data_size_limit=None, enable_SMTPUTF8=True, hostname=hostname, ident="LMTP Kelou", timeout=PATIENCE, loop=loop
        )

    async def smtp_XFORWARD(self, arg: str | None) -> None:
        """What Postfix knows of the client it had the message from (XFORWARD_README); IDENT is the queue id."""
        words = (arg or "").split()
        if not words or any("=" not in word for word in words):
            await self.push("501 5.5.4 Syntax: XFORWARD attribute=value ...")
            return
        for word in words:
            name, _equals, value = word.partition("=")
            if value.upper() not in ("[UNAVAILABLE]", "[TEMPUNAVAIL]"):
                self.forwarded[name.upper()] = unquote(value)
        await self.push("250 2.0.0 OK")

    async def smtp_DATA(self, arg: str | None) -> None:
        """As aiosmtpd's, but for the reading: that makes an object of every line, and a message of some megabytes may have millions."""
        if await self.check_helo_needed():
            return
        assert self.envelope is not None
        if not self.envelope.rcpt_tos:
            await self.push("503 Error: need RCPT command")
            return
        if arg:
            await self.push("501 Syntax: DATA")
            return
        await self.push("354 End data with <CR><LF>.<CR><LF>")
        data = bytearray(b"\r\n")  # for the first line is one, too
        while not data.endswith(_END):
            data += await self._reader.readuntil(_END[2:])
        # RFC 5321 section 4.5.2: a dot at the start of a line is not the message's.
        self.envelope.content = bytes(data[:-3].replace(b"\r\n.", b"\r\n")[2:])
        status = await self._call_handler_hook("DATA")
        self.envelope = self._create_envelope()
        await self.push(status)

    async def push(self, status: AnyStr) -> None:
        """Send a reply line, with an enhanced status code."""
        text = status if isinstance(status, str) else status.decode("ascii", "replace")
        if text == "250 OK":
            text = "250 2.0.0 OK"
        elif text[:4] in _STATUS and not _HAS_STATUS.match(text):
            text = f"{text[:4]}{_STATUS[text[:4]]} {text[4:]}"
        await super().push(text)

    def _getaddr(self, arg: str) -> tuple[str | None, str | None]:
        """The address between the brackets as it stands: what Postfix took, we look up, and an odd one is unknown, no syntax error."""
        match = _PATH.match(arg)
        if not match:
            return None, None
        return match[1] or "<>", match[2]


def unquote(xtext: str) -> str:
    """xtext (RFC 3461 section 4) as text."""
    return _XTEXT.sub(lambda match: chr(int(match[1], 16)), xtext)
