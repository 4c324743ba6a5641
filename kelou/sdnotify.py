"""sd_notify(3), sd_watchdog_enabled(3): a daemon tells systemd, or whoever set NOTIFY_SOCKET, that it is ready, and that it still lives."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping


def notify(state: str) -> None:
    """Send a state such as `READY=1`; nothing happens where nobody asked for it."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    if path.startswith("@"):  # Linux' abstract sockets
        path = "\0" + path[1:]
    # Whoever asked may have gone meanwhile; that is no reason to fail.
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.sendto(state.encode("utf-8"), path)


def reloading() -> None:
    """A reload begins; READY=1 ends it. The time is what systemd 253 and later tell it from an earlier one by."""
    notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")


def watchdog(environment: Mapping[str, str] = os.environ) -> float | None:
    """Seconds after which to say WATCHDOG=1 again: half of what systemd waits for it. None: nobody waits."""
    usec, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not usec.isdecimal() or int(usec) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(usec) / 2_000_000
