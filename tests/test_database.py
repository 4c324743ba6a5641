"""The database: its schema is what migrations make, and its promises hold."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from peewee import SqliteDatabase

from kelou import database
from kelou.config import Config
from kelou.models import TABLES, Account, Chunk, Domain, MailingList, Post, db


@pytest.fixture
def config(tmp_path: Path) -> Config:
    config = Config(tmp_path / "kelou.toml", {"database.url": "sqlite:///kelou.db"})
    database.open_database(config)
    return config


def schema(path: Path) -> set[str]:
    """The statements that made the tables and indexes, less the migrations' own."""
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND tbl_name NOT LIKE 'schema_migration'")
        return {sql for (sql,) in rows}


def test_a_migrated_database_is_what_the_models_say(config: Config, tmp_path: Path) -> None:
    """Migrations make exactly the tables and indexes of the models; if not: script/new-migration."""
    database.migrate()
    with SqliteDatabase(str(tmp_path / "models.db")).bind_ctx(TABLES) as _:
        TABLES[0]._meta.database.create_tables(TABLES)
        TABLES[0]._meta.database.close()
    assert schema(tmp_path / "kelou.db") == schema(tmp_path / "models.db")


def test_migrating_twice_does_nothing(config: Config) -> None:
    """A database that is up to date has nothing pending."""
    assert database.pending() == database.migrate()
    assert database.migrate() == []
    assert database.pending() == []


def test_what_a_250_stands_on(config: Config) -> None:
    """SQLite writes ahead, syncs fully and keeps foreign keys."""
    with database.connection():
        wanted = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 10_000}
        assert {key: db.execute_sql(f"PRAGMA {key}").fetchone()[0] for key in wanted} == wanted


def test_a_transaction_that_raises_leaves_nothing(config: Config) -> None:
    """A transaction is whole or not at all, and its connection is closed."""
    database.migrate()

    def fail() -> None:
        with database.transaction():
            Account.create(address="a@example.org", key="a@example.org", domain="example.org")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert db.is_closed()
    with database.connection():
        assert Account.select().count() == 0


def test_a_connection_inside_another_is_the_same(config: Config) -> None:
    """The inner block does not close what the outer one uses."""
    with database.connection():
        with database.connection():
            pass
        assert not db.is_closed()
    assert db.is_closed()


def test_nothing_opens_a_connection_by_itself(config: Config) -> None:
    """A query outside of a connection block is a bug that shows at once."""
    database.migrate()
    with pytest.raises(Exception, match="connection not opened"):
        Account.select().count()


def test_a_purged_list_takes_its_posts_along(config: Config) -> None:
    """Foreign keys cascade: no orphans are left."""
    database.migrate()
    with database.transaction():
        domain = Domain.create(name="lists.example.org")
        the_list = MailingList.create(domain=domain, name="ca", list_id="ca.lists.example.org", type="discussion", subject="CA")
        Chunk.create(post=Post.create(list=the_list, digest="d"), number=0, subscriptions="1")
        the_list.delete_instance()
        assert Post.select().count() == Chunk.select().count() == 0


def kept(do: Callable[[], object]) -> object:
    """What that gives in a thread that keeps its connection."""
    with ThreadPoolExecutor(1, initializer=database.keep) as threads:
        return threads.submit(do).result()


def test_a_kept_connection_is_the_same_next_time(config: Config) -> None:
    """A daemon's thread opens one connection, and uses it block after block."""
    database.migrate()

    def look() -> bool:
        with database.connection():
            first = db.connection()
        with database.connection():
            return db.connection() is first

    assert kept(look) is True


def test_a_kept_connection_ends_with_what_goes_wrong(config: Config) -> None:
    """After an exception the next block has a fresh connection."""
    database.migrate()

    def look() -> bool:
        with pytest.raises(ZeroDivisionError), database.connection():
            raise ZeroDivisionError
        return bool(db.is_closed())

    assert kept(look) is True


def test_a_database_that_was_restored_is_seen(config: Config, tmp_path: Path) -> None:
    """A file put in the place of the database is used from the next block on: nothing is written into one that is gone."""
    database.migrate()
    copy = tmp_path / "copy.db"
    copy.write_bytes((tmp_path / "kelou.db").read_bytes())

    def restore() -> int:
        with database.transaction():
            Domain.create(name="old.example")
        with database.connection():
            db.execute_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        copy.rename(tmp_path / "kelou.db")
        with database.transaction():
            Domain.create(name="new.example")
            return int(Domain.select().count())

    assert kept(restore) == 1
    with sqlite3.connect(tmp_path / "kelou.db") as connection:
        assert connection.execute("SELECT name FROM domain").fetchall() == [("new.example",)]


def test_a_prepared_query_takes_its_values(config: Config) -> None:
    """Its SQL is made once; values go in where they belong, and rows come out as tuples."""
    database.migrate()
    find = database.Prepared(
        lambda key, domain: Account.select(Account.id, Account.key).where(Account.key == key, Account.domain == domain, Account.name == "")
    )
    rename = database.Prepared(lambda name, key: Account.update(name=name).where(Account.key == key))
    with database.transaction():
        for key in ("a@x.example", "b@x.example"):
            Account.create(address=key, key=key, domain="x.example")
    with database.transaction():
        assert [find(key, "x.example") for key in ("b@x.example", "c@x.example", "' OR 1=1")] == [[(2, "b@x.example")], [], []]
        assert rename.count("Bob", "b@x.example") == 1
        assert find("b@x.example", "x.example") == []
