"""`kelou audit`: who did what."""

from __future__ import annotations

import json
from typing import Any

import click

from kelou.directory import ListView
from kelou.i18n import _
from kelou.models import Audit, iso

from .command import Noun
from .lists import LIST
from .run import Run

audits = Noun("audit")
COMMANDS = (audits,)


def row(at: int, who: str, action: str, name: str, thing: str, before: str, after: str) -> dict[str, Any]:
    """One entry, for programs."""
    shown = {"at": iso(at), "who": who, "action": action, "list": name or None, "object": thing or None}
    return shown | {"before": json.loads(before) if before else None, "after": json.loads(after) if after else None}


def columns() -> dict[str, str]:
    """Titles of an entry."""
    return {
        "at": _("when"),
        "who": _("who"),
        "action": _("action"),
        "list": _("list"),
        "object": _("what"),
        "before": _("before"),
        "after": _("after"),
    }


@audits.command("list", help=_("The last entries, the newest first."))
@click.option("--list", "name", metavar=LIST, help=_("About that list only."))
@click.option("--who", help=_("By them only."))
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help=_("So many."))
@click.pass_obj
def list_(run: Run, name: str | None, who: str | None, limit: int) -> None:
    with run.look(name) if name else run.site() as scope:
        rows = Audit.select(Audit.at, Audit.who, Audit.action, Audit.list, Audit.object, Audit.before, Audit.after).order_by(Audit.id.desc()).limit(limit)
        if isinstance(scope, ListView):
            rows = rows.where(Audit.list == scope.address)
        if who:
            rows = rows.where(Audit.who == who)
        run.rows(columns(), [row(*entry) for entry in rows.tuples()], _("Nothing was done yet."))
