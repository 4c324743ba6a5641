"""Column types that Peewee lacks. Migrations use them too."""

from __future__ import annotations

from typing import Any

from peewee import SQL, AutoField, NodeList, SqliteDatabase


class LastingIdField(AutoField):
    """A number that is never given again, as PostgreSQL's sequences do by themselves. SQLite else gives the largest one anew once its row is gone,
    and what names a row by its number, as a chunk or a key in a mail does, would mean somebody else.
    """

    def ddl(self, ctx: Any) -> Any:
        """The column's definition."""
        database = self.model._meta.database
        sqlite = isinstance(getattr(database, "obj", database), SqliteDatabase)
        made = super().ddl(ctx)
        return NodeList((made, SQL("AUTOINCREMENT"))) if sqlite else made
