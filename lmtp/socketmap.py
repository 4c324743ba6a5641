"""The socketmap server: which addresses take mail now, asked by Postfix at each RCPT, and answered from the database at that moment.

A request is the netstring of `MAP KEY`, a reply the netstring of `OK VALUE`, `NOTFOUND `, `TEMP REASON` or `PERM REASON` (socketmap_table(5)); many
requests come on one connection. The maps:

    recipient   OK for exactly the addresses that take mail (relay_recipient_maps)
    reason      OK and a refusal, for recipients in list domains that do not (an access table, see postfix-conf/)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor

from kelou import maillog
from kelou.config import Config
from kelou.database import connection
from kelou.destination import ours, refusal, resolve
from kelou.i18n import speaking

LONGEST = 10_000  # octets of a request; Postfix asks for addresses of up to 2,048

NOT_FOUND = "NOTFOUND "
_TEMPORARY = "TEMP the list server has a problem"


def recipient(key: str, config: Config) -> str:
    """Whether an address takes mail now."""
    destination = resolve(key, config)
    return "OK x" if destination and destination.open else NOT_FOUND


def reason(key: str, config: Config) -> str:
    """Why an address of ours takes none."""
    if not ours(key):
        return NOT_FOUND
    with speaking(config["site.language"]):
        no = refusal(resolve(key, config), key, config)
    return f"OK {no.wire}" if no else NOT_FOUND


MAPS: dict[str, Callable[[str, Config], str]] = {"recipient": recipient, "reason": reason}


def look_up(request: bytes, config: Config) -> str:
    """The answer to one request. Never raises: our own fault is TEMP, which Postfix turns into 451."""
    name, _blank, key = request.partition(b" ")
    lookup = MAPS.get(name.decode("ascii", "replace"))
    if lookup is None:
        return "PERM there is no such map"
    try:
        address = key.decode("utf-8")
    except UnicodeDecodeError:
        return NOT_FOUND
    try:
        with connection():
            return lookup(address, config)
    except Exception:
        maillog.fault("socketmap-fault", map=name.decode("ascii"), key=address)
        return _TEMPORARY


class Server:
    """Serves the maps; lookups run in `executor`, for they ask the database."""

    def __init__(self, config: Config, executor: Executor) -> None:
        self.config = config
        self._executor = executor

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until the client goes, or says what is no request."""
        loop = asyncio.get_running_loop()
        try:
            while (request := await _netstring(reader)) is not None:
                answer = await loop.run_in_executor(self._executor, look_up, request, self.config)
                data = answer.encode("ascii", "replace")
                writer.write(b"%d:%b," % (len(data), data))
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()


async def _netstring(reader: asyncio.StreamReader) -> bytes | None:
    """The next netstring; None where there is none, or one of a length nobody needs."""
    digits = (await reader.readuntil(b":"))[:-1]
    if not digits.isdigit() or len(digits) > 5 or int(digits) > LONGEST:
        return None
    data = await reader.readexactly(int(digits) + 1)
    return data[:-1] if data.endswith(b",") else None
