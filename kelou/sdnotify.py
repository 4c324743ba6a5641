"""sd_notify(3): a daemon tells systemd, or whoever set NOTIFY_SOCKET, that it is ready."""

from __future__ import annotations

import contextlib
import os
import socket


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
