"""A daemon's start, the same for both: options, configuration, secret, socket folder, log, the lock of the only one, and the database; and its reload.

The caller stands in the socket folder afterwards: a socket's path has room for some 100 octets, a relative name is short.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import select
import signal
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from . import config as configuration
from . import database, maillog, secret
from .config import Config
from .i18n import _, from_environment, use
from .sdnotify import notify, reloading
from .secret import Secret
from .setting import SettingError

# What a daemon stands on from its start to its end.
LASTING = ("database.url", "postfix.sockets", "milter.processes", "distribution.connections")


class NoStart(Exception):
    """Why a daemon can not serve, and its exit code (sysexits.h)."""

    def __init__(self, reason: str, code: int) -> None:
        super().__init__(reason)
        self.code = code


class Signals:
    """The signals of a daemon, to wait for in its main thread. A handler that did more than note them could meet a lock that its own thread holds."""

    def __init__(self, numbers: Collection[int]) -> None:
        self._heard, self._told = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._told, warn_on_full_buffer=False)
        for number in numbers:
            signal.signal(number, lambda *_: None)

    def wait(self, seconds: float | None = None) -> int:
        """The next signal; 0 if there was none within that time."""
        ready = select.select([self._heard], [], [], seconds)[0]
        return os.read(self._heard, 1)[0] if ready else 0

    def tell(self, number: int) -> None:
        """As if this signal had come; from any thread."""
        with contextlib.suppress(BlockingIOError):  # so many wait that it is among them
            os.write(self._told, bytes([number]))


@dataclass(frozen=True, slots=True)
class Site:
    """What a daemon serves with."""

    config: Config
    secret: Secret
    sockets: Path


def run(door: str, serve: Callable[[Site], int], argv: list[str] | None, description: str | None) -> int:
    """Start a daemon and let it serve; returns its exit code, or that of why it could not."""
    use(from_environment())
    parser = argparse.ArgumentParser(prog=f"kelou-{door}", description=description)
    parser.add_argument("-c", "--config", metavar="FILE")
    options = parser.parse_args(argv)
    try:
        return serve(_start(door, options.config))
    except NoStart as reason:
        print(f"kelou-{door}: {reason}", file=sys.stderr)
        return reason.code


def reload(site: Site) -> Site:
    """The site as its configuration is now; as it was, with a line in the log, where that is wrong. Work under way goes on with what it began with."""
    reloading()
    try:
        config = configuration.load(site.config.path)
        fresh = Site(_lasting(site.config, config), secret.load(config), site.sockets)
        maillog.set_level(config["log.level"])
        maillog.event("reloaded", config=config.path)
    except SettingError as error:
        maillog.problem("not-reloaded", reason=error)
        fresh = site
    notify("READY=1")
    return fresh


def _lasting(old: Config, new: Config) -> Config:
    """The new configuration, with the old values of what only a restart changes."""
    changed = [key for key in LASTING if old[key] != new[key]]
    if changed:
        maillog.problem("restart-needed", settings=", ".join(changed))
    return Config(new.path, {**new.values, **{key: old[key] for key in changed}})


def _start(door: str, file: str | None) -> Site:
    try:
        config = configuration.load(configuration.locate(file))
        site_secret = secret.load(config)
        sockets = config.directory("postfix.sockets")
        os.chdir(sockets)
    except SettingError as error:
        raise NoStart(str(error), os.EX_CONFIG) from error
    except OSError as error:
        raise NoStart(f"postfix.sockets: {error}", os.EX_CONFIG) from error
    maillog.start(door, config["log.level"])
    os.umask(0o007)  # the sockets are for their group: Postfix
    _lock(door, sockets)
    _database(config)
    return Site(config, site_secret, sockets)


def _lock(door: str, sockets: Path) -> None:
    """Held by this process until it ends, however it ends."""
    lock = os.open(f"{door}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise NoStart(_("another kelou-{door} runs in {folder}").format(door=door, folder=sockets), os.EX_TEMPFAIL) from error


def _database(config: Config) -> None:
    path = database.file(config)
    try:
        database.open_database(config)
        ready = (path is None or path.exists()) and not database.pending()
    except Exception as error:
        maillog.fault("database")
        raise NoStart(_("the database can not be read; kelou doctor says why"), os.EX_TEMPFAIL) from error
    if not ready:
        raise NoStart(_("the database is missing or not up to date; run: kelou init"), os.EX_TEMPFAIL)
