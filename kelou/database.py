"""The database: open it, migrate it, and one way to use it.

SQLite by default, with what a 250 to Postfix stands on: WAL, foreign keys, `synchronous=FULL`, and every transaction IMMEDIATE, because one
that reads and then writes would else fail at once when another writer was faster (busy_timeout does not help a snapshot that is stale).
Connections belong to a thread and are opened and closed by `connection()`; nothing opens one by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from urllib.parse import urlsplit

from peewee import Database, SqliteDatabase
from playhouse.db_url import connect
from playhouse.migrations import Runner

from .config import Config
from .models import db

BUSY = 10  # seconds that one writer waits for another

_rehearsing: ContextVar[bool] = ContextVar("rehearsing", default=False)
_MIGRATIONS = Path(__file__).with_name("migrations")
_PRAGMAS = {"journal_mode": "wal", "foreign_keys": 1, "synchronous": "full", "busy_timeout": BUSY * 1000}


def open_database(config: Config) -> Database:
    """Bind the models to the configured database. Opens no connection; see `connection`."""
    path = file(config)
    if path:
        database: Database = SqliteDatabase(str(path), pragmas=_PRAGMAS, autoconnect=False, lock_type="immediate", timeout=BUSY)
    else:
        database = connect(config["database.url"], autoconnect=False)
    db.initialize(database)
    return database


def file(config: Config) -> Path | None:
    """The file of a SQLite database; a relative path counts from the configuration file's folder. None: the database is another."""
    url = config["database.url"]
    return config.path.parent / urlsplit(url).path[1:] if url.startswith("sqlite:///") else None


@contextmanager
def connection() -> Iterator[None]:
    """A connection for this block, in this thread; inside another such block it is that one's."""
    opened = db.connect(reuse_if_open=True)
    try:
        yield
    finally:
        if opened:
            db.close()


@contextmanager
def transaction() -> Iterator[None]:
    """A connection with a transaction that is committed at the end of the block, or rolled back if it raises."""
    with connection(), db.atomic():
        yield


@contextmanager
def rehearsal() -> Iterator[None]:
    """A block that sees what it changes, and leaves no change behind: it is rolled back. Nothing is to be sent in it, see `rehearsing`."""
    token = _rehearsing.set(True)
    try:
        with connection(), db.atomic() as outer:
            yield
            outer.rollback()
    finally:
        _rehearsing.reset(token)


def rehearsing() -> bool:
    """Whether what is done now is rolled back."""
    return _rehearsing.get()


def migrate() -> list[str]:
    """Bring the schema up to date; returns the migrations that were applied."""
    with connection():
        return list(Runner(db.obj, str(_MIGRATIONS)).up())


def pending() -> list[str]:
    """Migrations that the database still lacks."""
    with connection():
        return [m.name for m in Runner(db.obj, str(_MIGRATIONS)).status() if m.applied is None]
