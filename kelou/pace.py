"""Pace: personal copies go to Postfix no faster than it gets rid of them.

Postfix would slow its senders down itself (in_flow_delay), but by a second a message and whoever they are. We ask now and then how much is under way
in its queue, and send at most what was missing to the limit: so another list's post, or anybody's mail, never finds thousands before it.
"""

from __future__ import annotations

import threading

from . import maillog, postqueue
from .config import Config

REST = 0.5  # seconds between two looks at a queue that is full


class Pace:
    """One for all posts. `stopping` ends every wait."""

    def __init__(self, config: Config, stopping: threading.Event) -> None:
        self._config = config
        self._stopping = stopping
        self._limit: int = max(1, config["distribution.backlog"])
        self._room = 0
        self._lock = threading.Lock()

    def wait(self, number: int) -> None:
        """Wait until there is room for so many more."""
        with self._lock:
            while self._room <= 0 and not self._stopping.is_set():
                self._room = self._look()
                if self._room <= 0:
                    self._stopping.wait(REST)
            self._room -= number

    def _look(self) -> int:
        try:
            return self._limit - postqueue.under_way(self._config, self._limit)
        except postqueue.Unknown as error:
            maillog.problem("queue-unknown", reason=error)
            return self._limit  # sent unpaced, as everybody else's mail is
