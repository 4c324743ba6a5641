"""The database: its schema is what migrations make, and its promises hold."""

from __future__ import annotations

import sqlite3
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
