"""A daemon's start, the same for both: options, configuration, secret, socket folder, log, the lock of the only one, and the database.

The caller stands in the socket folder afterwards: a socket's path has room for some 100 octets, a relative name is short.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import config as configuration
from . import database, maillog, secret
from .config import Config
from .i18n import _, from_environment, use
from .secret import Secret
from .setting import SettingError


class NoStart(Exception):
    """Why a daemon can not serve, and its exit code (sysexits.h)."""

    def __init__(self, reason: str, code: int) -> None:
        super().__init__(reason)
        self.code = code


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
