"""What all sessions of the milter share: the configuration, the secret, which domains are ours, and threads to work in."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import ParamSpec, TypeVar

from kelou import directory, maillog
from kelou.address import AddressError, host
from kelou.config import Config
from kelou.database import connection, keep
from kelou.resolver import Dns
from kelou.secret import Secret

SESSIONS = 100  # that work at a time: as many as Postfix runs processes of a service (default_process_limit)

P = ParamSpec("P")
R = TypeVar("R")


class Domains:
    """The list domains, as of a second ago. Asking costs no query: other mail pays nothing, and does not suffer when the database is gone."""

    def __init__(self) -> None:
        self._known: frozenset[str] = frozenset()

    def refresh(self) -> None:
        """Look them up."""
        with connection():
            self._known = directory.domains()

    def watch(self) -> None:
        """Look them up each second, for ever."""
        failing = False
        while True:
            try:
                self.refresh()
                failing = False
            except Exception:
                if not failing:
                    maillog.fault("domains")
                failing = True
            time.sleep(1)

    def __contains__(self, recipient: str) -> bool:
        """Whether a recipient address is in one of them."""
        try:
            return host(recipient.rpartition("@")[2]) in self._known
        except AddressError:
            return False


@dataclass(frozen=True, slots=True)
class Site:
    """Made once; sessions only read it."""

    config: Config
    secret: Secret
    keys: Path
    dns: Dns
    domains: Domains = field(default_factory=Domains)
    threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(SESSIONS, "session", keep))

    def apart(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Do this in a thread of Python's own, and wait for it: all that leads to SQLite or cryptography.

        libmilter serves one session from several threads, which Python does not know; pymilter gives them Python's state in turn. C code that asks
        for its thread's own state (PyGILState_Ensure), as sqlite3 does when it closes a connection, finds one that was freed, and the process dies.
        """
        return self.threads.submit(work, *args, **kwargs).result()
