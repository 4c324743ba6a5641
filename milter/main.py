"""kelou-milter: the process that Postfix asks about mail to lists, and that signs what they send."""

from __future__ import annotations

import argparse
import fcntl
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import Milter

from kelou import config as configuration
from kelou import maillog, resolver, secret
from kelou.database import open_database
from kelou.i18n import _, from_environment, use
from kelou.sdnotify import notify
from kelou.setting import SettingError

from .session import Session
from .site import Site

SOCKET = "milter.sock"
LOCK = "milter.lock"


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGTERM. Returns an exit code of sysexits.h where there is nothing to serve with."""
    use(from_environment())
    parser = argparse.ArgumentParser(prog="kelou-milter", description=__doc__)
    parser.add_argument("-c", "--config", metavar="FILE")
    options = parser.parse_args(argv)
    try:
        config = configuration.load(configuration.locate(options.config))
        site = Site(config, secret.load(config), config.directory("dkim.directory"), resolver.from_config(config))
        sockets = config.directory("postfix.sockets")
        os.chdir(sockets)  # a socket's path has room for some 100 octets, a relative name is short
    except SettingError as error:
        return _no(str(error), os.EX_CONFIG)
    except OSError as error:
        return _no(f"postfix.sockets: {error}", os.EX_CONFIG)
    maillog.start("milter", config["log.level"])
    os.umask(0o007)  # the socket is for its group: Postfix
    lock = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return _no(_("another milter runs in {folder}").format(folder=sockets), os.EX_TEMPFAIL)
    open_database(config)
    try:
        site.domains.refresh()
    except Exception:
        maillog.fault("database")
        return _no(_("the database can not be read; kelou doctor says why"), os.EX_TEMPFAIL)
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


def _no(reason: str, code: int) -> int:
    print(f"kelou-milter: {reason}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
