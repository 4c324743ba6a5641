"""The database: open it, migrate it, and one way to use it.

SQLite by default, with what a 250 to Postfix stands on: WAL, foreign keys, `synchronous=FULL`, and every transaction IMMEDIATE, because one
that reads and then writes would else fail at once when another writer was faster (busy_timeout does not help a snapshot that is stale).
Connections belong to a thread and are opened and closed by `connection()`; nothing opens one by itself. The threads of a daemon keep theirs from one
block to the next (`keep`), because opening one costs more than most of what is asked.

What is asked for every mail is `Prepared`: Peewee needs ten times as long to write a query as SQLite to answer it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from peewee import Database, SqliteDatabase, Value
from playhouse.db_url import connect
from playhouse.migrations import Runner

from .config import Config
from .models import db

CACHE = 256  # kilobytes of pages that a kept connection holds; there are as many as mails at a time
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


class _Thread(threading.local):
    """Of each thread: whether it keeps its connection, the file that this is of, and how many blocks it is in."""

    keeps = False
    file: tuple[int, int] | None = None
    depth = 0


_thread = _Thread()


def keep() -> None:
    """From now on, this thread keeps its connection between blocks. For threads that live as long as a daemon."""
    _thread.keeps = isinstance(db.obj, SqliteDatabase)


@contextmanager
def connection() -> Iterator[None]:
    """A connection for this block, in this thread; inside another such block it is that one's."""
    outermost = not _thread.depth
    if _thread.keeps and outermost and not db.is_closed() and _thread.file != _identity():
        db.close()  # the file was put in place anew, from a backup: what is written to the old one is lost
    opened = db.connect(reuse_if_open=True)
    if opened and _thread.keeps:
        db.execute_sql(f"PRAGMA cache_size = -{CACHE}")
        _thread.file = _identity()
    _thread.depth += 1
    fine = False
    try:
        yield
        fine = True
    finally:
        _thread.depth -= 1
        if (outermost and not fine) if _thread.keeps else opened:
            db.close()


def _identity() -> tuple[int, int] | None:
    """Which file the database is now."""
    try:
        status = Path(db.obj.database).stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


class _Slot(NamedTuple):
    place: int


class Prepared:
    """A query that is asked again and again: its SQL is made once. `make` is given a stand-in for each value.

    The rows are what the database gives: tuples, and no model.
    """

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make
        self._sql: dict[type, tuple[str, list[Any]]] = {}

    def __call__(self, *values: Any) -> list[tuple[Any, ...]]:
        """The rows for these values."""
        rows: list[tuple[Any, ...]] = self._run(values).fetchall()
        return rows

    def count(self, *values: Any) -> int:
        """Change rows; how many."""
        changed: int = self._run(values).rowcount
        return changed

    def _run(self, values: tuple[Any, ...]) -> Any:
        kind = type(db.obj)
        if kind not in self._sql:
            slots = (Value(_Slot(place), converter=_as_it_is, unpack=False) for place in range(self._make.__code__.co_argcount))
            self._sql[kind] = self._make(*slots).sql()
        sql, parameters = self._sql[kind]
        return db.execute_sql(sql, [values[one.place] if isinstance(one, _Slot) else one for one in parameters])


def _as_it_is(value: Any) -> Any:
    return value


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
