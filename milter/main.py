"""kelou-milter: the process that Postfix asks about mail to lists, and that signs what they send.

One process serves as many connections as come, in threads, and Python lets one thread work at a time: where that is not enough, `milter.processes`
share the socket, and the first one looks after them.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import struct
import sys
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

import Milter

from kelou import daemon, maillog, resolver
from kelou.daemon import Signals
from kelou.sdnotify import notify, watchdog

from .session import Session
from .site import Site

SOCKET = "milter.sock"
BACKLOG = 128
PATIENCE = 5  # seconds in which a living milter answers
BEAT = 1  # seconds between the signs of life of one of several processes
PAUSE = 1  # seconds before one that ended is started anew

_STOP = frozenset({signal.SIGTERM, signal.SIGINT})
# The first word of the milter protocol: what versions and actions the mail server offers.
_OFFER = struct.pack("!IcIII", 13, b"O", 6, 0x1FF, 0x1FFFFF)


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGTERM. Returns an exit code of sysexits.h where there is nothing to serve with."""
    return daemon.run("milter", _run, argv, __doc__)


def _run(base: daemon.Site) -> int:
    Path(SOCKET).unlink(missing_ok=True)  # of one that was killed; the lock says that none lives
    number = base.config["milter.processes"]
    return _several(base, number) if number > 1 else _alone(base)


# One process.


class _Server:
    """libmilter in a thread of its own: while it serves, the thread that called it runs no Python, and so hears no signal."""

    def __init__(self, base: daemon.Site, listens: str, signals: Signals) -> None:
        self.base = base
        self.site = Site(base.config, base.secret, base.config.directory("dkim.directory"), resolver.from_config(base.config))
        self.site.domains.refresh()
        self.failed = False
        Milter.factory = lambda: Session(self.site)
        # What pymilter itself can not pass to us, a field name that is no UTF-8, is nothing to refuse a message for.
        Milter.set_exception_policy(Milter.CONTINUE)
        threading.Thread(target=self.site.domains.watch, daemon=True).start()
        threading.Thread(target=self._serve, args=(listens, signals), daemon=True).start()

    def _serve(self, listens: str, signals: Signals) -> None:
        try:
            Milter.runmilter("kelou", listens)
        except Exception:
            maillog.fault("milter")
            self.failed = True
        signals.tell(signal.SIGTERM)

    def reload(self) -> None:
        """Sessions from now on see the configuration as it is now."""
        self.base = base = daemon.reload(self.base)
        self.site = replace(self.site, config=base.config, secret=base.secret, keys=base.config.directory("dkim.directory"), dns=resolver.from_config(base.config))

    def end(self) -> int:
        """Leave. libmilter looks only every five seconds whether it is to stop, and its sessions end when their clients do. Nothing is lost with them:
        to Postfix a milter that goes away is one that is down."""
        sys.stderr.flush()
        os._exit(os.EX_TEMPFAIL if self.failed else os.EX_OK)


def _alone(base: daemon.Site) -> int:
    signals = Signals({*_STOP, signal.SIGHUP})
    server = _Server(base, f"unix:{SOCKET}", signals)
    while not (heard := signals.wait(0.01)) and not _listens():
        pass
    if heard not in _STOP:
        _started(1)
    pause = watchdog()
    while heard not in _STOP:
        if heard == signal.SIGHUP:
            server.reload()
        elif pause and answers(SOCKET):
            notify("WATCHDOG=1")
        heard = signals.wait(pause)
    _stopped()
    return server.end()


def _started(processes: int) -> None:
    maillog.event("started", socket=Path(SOCKET).absolute(), processes=processes if processes > 1 else "")
    notify("READY=1")


def _stopped() -> None:
    notify("STOPPING=1")
    maillog.event("stopped")
    Path(SOCKET).unlink(missing_ok=True)


def _listens() -> bool:
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(SOCKET)
    except OSError:
        return False
    return True


def answers(path: str) -> bool:
    """Whether a milter behind that socket really speaks: that it takes a connection says no more than that the kernel does."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(PATIENCE)
        probe.connect(path)
        probe.sendall(_OFFER)
        return probe.recv(5)[4:] == b"O"
    return False


# Several.


@dataclass
class _Child:
    """One of several processes, and when it last gave a sign of life through its pipe."""

    pid: int
    pipe: int
    seen: float


def _several(base: daemon.Site, number: int) -> int:
    """Processes that share one socket; whoever ends is replaced. The watchdog of all is that each gives signs of life."""
    with socket.socket(socket.AF_UNIX) as shared:
        shared.bind(SOCKET)
        shared.listen(BACKLOG)
        signals = Signals({*_STOP, signal.SIGHUP, signal.SIGCHLD})
        children = [_child(base, shared) for _one in range(number)]
        _started(number)
        pause = watchdog()
        while (heard := signals.wait(min(pause or PAUSE, PAUSE))) not in _STOP:
            if heard == signal.SIGHUP:
                base = daemon.reload(base)
                for child in children:
                    os.kill(child.pid, signal.SIGHUP)
            _look_after(base, shared, children)
            if pause and all(time.monotonic() - child.seen < max(pause, PATIENCE) for child in children):
                notify("WATCHDOG=1")
        for child in children:
            os.kill(child.pid, signal.SIGTERM)
        for child in children:
            os.waitpid(child.pid, 0)
    _stopped()
    return os.EX_OK


def _look_after(base: daemon.Site, shared: socket.socket, children: list[_Child]) -> None:
    """Note who lives, and start anew who does not."""
    heard = select.select([child.pipe for child in children], [], [], 0)[0]
    for child in children:
        if child.pipe in heard and os.read(child.pipe, 4096):
            child.seen = time.monotonic()
    for place, child in enumerate(children):
        pid, status = os.waitpid(child.pid, os.WNOHANG)
        if pid:
            maillog.problem("process-ended", pid=pid, status=os.waitstatus_to_exitcode(status))
            os.close(child.pipe)
            time.sleep(PAUSE)  # else one that can not live would be started thousands of times
            children[place] = _child(base, shared)


def _child(base: daemon.Site, shared: socket.socket) -> _Child:
    heard, told = os.pipe()
    pid = os.fork()
    if pid:
        os.close(told)
        return _Child(pid, heard, time.monotonic())
    os.close(heard)
    try:
        _serve(base, shared, told)
    except BaseException:
        maillog.fault("milter")
    os._exit(os.EX_TEMPFAIL)


def _serve(base: daemon.Site, shared: socket.socket, told: int) -> None:
    """One of several processes."""
    os.environ.pop("NOTIFY_SOCKET", None)  # the first one speaks for all
    signals = Signals({*_STOP, signal.SIGHUP})
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    server = _Server(base, f"fd:{shared.fileno()}", signals)
    with contextlib.suppress(BrokenPipeError):  # the first one was killed: this one ends too
        while (heard := signals.wait(BEAT)) not in _STOP:
            if heard == signal.SIGHUP:
                server.reload()
            os.write(told, b".")
    server.end()


if __name__ == "__main__":
    sys.exit(main())
