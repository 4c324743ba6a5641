"""kelou-milter: the process that Postfix asks about mail to lists, and that signs what they send."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import Milter

from kelou import daemon, maillog, resolver
from kelou.sdnotify import notify

from .session import Session
from .site import Site

SOCKET = "milter.sock"


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGTERM. Returns an exit code of sysexits.h where there is nothing to serve with."""
    return daemon.run("milter", _run, argv, __doc__)


def _run(base: daemon.Site) -> int:
    site = Site(base.config, base.secret, base.config.directory("dkim.directory"), resolver.from_config(base.config))
    site.domains.refresh()
    return _serve(site)


def _serve(site: Site) -> int:
    ended = threading.Event()
    failed = []

    def run() -> None:
        # In a thread of its own: while libmilter serves, the thread that called it runs no Python, and so no signal handler.
        try:
            Milter.runmilter("kelou", f"unix:{SOCKET}")
        except Exception:
            maillog.fault("milter")
            failed.append(True)
        ended.set()

    Milter.factory = lambda: Session(site)
    # What pymilter itself can not pass to us, a field name that is no UTF-8, is nothing to refuse a message for.
    Milter.set_exception_policy(Milter.CONTINUE)
    Path(SOCKET).unlink(missing_ok=True)  # of one that was killed; the lock says that none lives
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    threading.Thread(target=site.domains.watch, daemon=True).start()
    threading.Thread(target=run, daemon=True).start()
    while not ended.is_set() and not _listens():
        time.sleep(0.01)
    if not ended.is_set():
        maillog.event("started", socket=Path(SOCKET).absolute())
        notify("READY=1")
    ended.wait()
    notify("STOPPING=1")
    maillog.event("stopped")
    Path(SOCKET).unlink(missing_ok=True)
    sys.stderr.flush()
    # libmilter looks only every five seconds whether it is to stop, and its sessions end when their clients do. Nothing is lost with them: to
    # Postfix a milter that goes away is one that is down.
    os._exit(os.EX_TEMPFAIL if failed else os.EX_OK)


def _listens() -> bool:
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(SOCKET)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
