"""`kelou block`: who may not post or subscribe."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from kelou import blocklist
from kelou.directory import ListView
from kelou.i18n import _
from kelou.models import iso

from .command import Noun
from .lists import LIST
from .run import Run

blocks = Noun("block")
COMMANDS = (blocks,)

PATTERN = _("PATTERN")


@contextmanager
def _scope(run: Run, name: str | None) -> Iterator[ListView | None]:
    with run.look(name) if name else run.site() as scope:
        yield scope if isinstance(scope, ListView) else None


@blocks.command("add", dry_run="rollback", help=_("Block an address, @domain or pattern with *, everywhere or on one list."))
@click.argument("pattern", metavar=PATTERN)
@click.option("--list", "name", metavar=LIST, help=_("On that list only."))
@click.option("--reason", default="", help=_("Why, for those who come after you."))
@click.pass_obj
def add(run: Run, pattern: str, name: str | None, reason: str) -> None:
    with _scope(run, name) as found:
        added = blocklist.add(run.actor, pattern, found, reason)
        row = {"pattern": blocklist.pattern(pattern), "list": found and found.address, "result": "added" if added else "already"}
        text = _("{pattern} is blocked.") if added else _("{pattern} is blocked already.")
        run.done(row, text.format(pattern=row["pattern"]))


@blocks.command("remove", dry_run="rollback", help=_("Block it no more."))
@click.argument("pattern", metavar=PATTERN)
@click.option("--list", "name", metavar=LIST, help=_("On that list only."))
@click.pass_obj
def remove(run: Run, pattern: str, name: str | None) -> None:
    with _scope(run, name) as found:
        removed = blocklist.remove(run.actor, pattern, found)
        row = {"pattern": blocklist.pattern(pattern), "list": found and found.address, "result": "removed" if removed else "absent"}
        text = _("{pattern} is blocked no more.") if removed else _("{pattern} was not blocked.")
        run.done(row, text.format(pattern=row["pattern"]))


@blocks.command("list", help=_("What is blocked."))
@click.option("--list", "name", metavar=LIST, help=_("What counts for that list."))
@click.pass_obj
def list_(run: Run, name: str | None) -> None:
    with _scope(run, name) as found:
        rows = [row | {"since": iso(row["since"])} for row in blocklist.entries(found)]
        columns = {"pattern": _("pattern"), "list": _("list"), "since": _("since"), "by": _("by"), "reason": _("reason")}
        run.rows(columns, rows, _("Nothing is blocked."))
