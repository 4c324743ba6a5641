"""kelou-lmtp: the process that takes mail for lists from Postfix, and tells it which addresses there are."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from kelou import daemon, database, maillog, postqueue
from kelou.config import Config
from kelou.distribution import Distributor
from kelou.sdnotify import notify, watchdog

from . import socketmap
from .delivery import Door, deliver
from .server import BUSY, Handler, Server

LMTP = "lmtp.sock"
MAP = "map.sock"
GRACE = 15  # seconds for what is under way when we are to stop; what is cut off goes on when Postfix comes again
RESUME = (0, 1, 3, 10)  # seconds after which Postfix is asked for the posts that were cut off; the first time it may not have put them off yet
LOOKUPS = 4  # threads that answer the socketmap; of its own, so that no distribution keeps RCPT waiting


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGTERM. Returns an exit code of sysexits.h where there is nothing to serve with."""
    return daemon.run("lmtp", _run, argv, __doc__)


def _run(site: daemon.Site) -> int:
    # Nobody else has this name while we hold the lock: what bears it in the database is ours, or of one of us that died.
    distributor = Distributor(site.config, site.secret, f"{socket.gethostname()}:{site.sockets.resolve()}")
    asyncio.run(_serve(site, distributor))
    distributor.close()
    sys.stderr.flush()
    # A thread that still waits for Postfix would be waited for. To be cut off there is nothing worse than being killed.
    os._exit(os.EX_OK)


async def _serve(site: daemon.Site, distributor: Distributor) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    handler = Handler(partial(deliver, Door(site.config, site.secret, distributor)), ThreadPoolExecutor(BUSY, "delivery", database.keep))
    maps = socketmap.Server(site.config, ThreadPoolExecutor(LOOKUPS, "socketmap", database.keep))

    def reload() -> None:
        nonlocal site
        site = daemon.reload(site)
        distributor.configure(site.config, site.secret)
        handler.deliver = partial(deliver, Door(site.config, site.secret, distributor))
        maps.config = site.config

    loop.add_signal_handler(signal.SIGHUP, reload)
    host = socket.gethostname()
    for name in (LMTP, MAP):
        Path(name).unlink(missing_ok=True)  # of one that was killed; the lock says that none lives
    mail = await loop.create_unix_server(lambda: Server(handler, host, loop), LMTP, backlog=128)
    questions = await asyncio.start_unix_server(maps.serve, MAP, backlog=128, limit=socketmap.LONGEST)
    maillog.event("started", sockets=Path.cwd())
    notify("READY=1")
    tasks = [loop.create_task(_resume(site.config, distributor)), loop.create_task(_live())]
    await stop.wait()
    for task in tasks:
        task.cancel()
    notify("STOPPING=1")
    distributor.stopping.set()
    mail.close()
    questions.close()
    if handler.running:
        await asyncio.wait(handler.running, timeout=GRACE)
        await asyncio.sleep(0.1)  # for the last replies to get out
    for name in (LMTP, MAP):
        Path(name).unlink(missing_ok=True)
    maillog.event("stopped", cut_off=len(handler.running) or "")


async def _live() -> None:
    """Tell systemd that the loop turns."""
    while pause := watchdog():
        notify("WATCHDOG=1")
        await asyncio.sleep(pause)


async def _resume(config: Config, distributor: Distributor) -> None:
    """Have Postfix bring the posts again that were under way when a handler died here: now, not after its backoff, and no other mail."""
    loop = asyncio.get_running_loop()
    for pause in RESUME:
        await asyncio.sleep(pause)
        try:
            unfinished = await loop.run_in_executor(None, distributor.unfinished)
            for queue_id in unfinished:
                asked = await loop.run_in_executor(None, postqueue.try_now, config, queue_id)
                maillog.event("resumed" if asked else "not-resumed", queue_id=queue_id)
            if not unfinished:
                return
        except Exception:
            maillog.fault("resume")


if __name__ == "__main__":
    sys.exit(main())
