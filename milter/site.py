"""What all sessions of the milter share: the configuration, the secret, and which domains are ours."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from kelou import directory, maillog
from kelou.address import AddressError, host
from kelou.config import Config
from kelou.database import connection
from kelou.secret import Secret


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
    domains: Domains = field(default_factory=Domains)
