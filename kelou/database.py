"""The database: open it, migrate it, and one way to use it.

SQLite by default, with what a 250 to Postfix stands on: WAL, foreign keys, `synchronous=FULL`, and every transaction IMMEDIATE, because one
that reads and then writes would else fail at once when another writer was faster (busy_timeout does not help a snapshot that is stale).
Connections belong to a thread and are opened and closed by `connection()`; nothing opens one by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from peewee import Database, SqliteDatabase
from playhouse.db_url import connect
from playhouse.migrations import Runner

from .config import Config
from .models import db

BUSY = 10  # seconds that one writer waits for another

_MIGRATIONS = Path(__file__).with_name("migrations")
_PRAGMAS = {"journal_mode": "wal", "foreign_keys": 1, "synchronous": "full", "busy_timeout": BUSY * 1000}


def open_database(config: Config) -> Database:
    """Bind the models to the configured database. Opens no connection; see `connection`."""
    url = config["database.url"]
    if url.startswith("sqlite:///"):
        path = config.path.parent / urlsplit(url).path[1:]
        database: Database = SqliteDatabase(str(path), pragmas=_PRAGMAS, autoconnect=False, lock_type="immediate", timeout=BUSY)
    else:
        database = connect(url, autoconnect=False)
    db.initialize(database)
    return database


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


def migrate() -> list[str]:
    """Bring the schema up to date; returns the migrations that were applied."""
    with connection():
        return list(Runner(db.obj, str(_MIGRATIONS)).up())


def pending() -> list[str]:
    """Migrations that the database still lacks."""
    with connection():
        return [m.name for m in Runner(db.obj, str(_MIGRATIONS)).status() if m.applied is None]
