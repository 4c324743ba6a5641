"""`kelou sub`: people who wait for an owner's approval of their subscription."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import click

from kelou import membership
from kelou.directory import ListView
from kelou.i18n import _
from kelou.people import Result
from kelou.refusal import BadData, Refusal

from . import output
from .command import Noun
from .lists import LIST
from .run import Run

subs = Noun("sub")
COMMANDS = (subs,)

IDS = "ID..."


@subs.command("list", help=_("Who waits for an owner's approval, the longest first."))
@click.argument("name", metavar=LIST, required=False)
@click.pass_obj
def list_(run: Run, name: str | None) -> None:
    columns = {"id": "id", "asked": _("asked"), "list": _("list"), "email": _("address"), "name": _("name"), "expires": _("expires")}
    with run.look(name) if name else run.site() as scope:
        found = membership.waiting(scope if isinstance(scope, ListView) else None)
        run.rows(columns, found, _("Nobody waits to be subscribed."))


def _decide(ctx: click.Context, numbers: Sequence[int], verb: Callable[[int], Result], text: str) -> None:
    """Decide on several, each on its own: one that can not be is said, and the others go on. Exits with 1 where one came out otherwise."""
    run: Run = ctx.obj
    rows: list[dict[str, object]] = []
    refusals: list[Refusal] = []
    with run.database():
        for number in dict.fromkeys(numbers):
            try:
                result = verb(number)
            except Refusal as refusal:
                refusals.append(refusal)
                rows.append({"id": number, "email": None, "result": None, "detail": str(refusal), "told": None})
                if len(numbers) > 1:
                    output.message(str(refusal))
                continue
            rows.append({"id": number, "email": result.email, "result": result.result, "detail": result.detail, "told": result.told})
            run.say(text.format(email=result.email))
            if not result.told:
                run.say(_("Postfix did not take the notice to {people}: please tell them.").format(people=result.email))
    if run.json:
        output.data(output.to_json(rows))
    if refusals and len(rows) == 1:
        raise refusals[0]
    if refusals:
        ctx.exit(1)


@subs.command("approve", dry_run="rollback", help=_("Subscribe people who wait; they get a welcome."))
@click.argument("numbers", metavar=IDS, nargs=-1, type=int, required=True)
@click.option("--quiet", "silent", is_flag=True, help=_("Without a welcome."))
@click.pass_context
def approve(ctx: click.Context, numbers: tuple[int, ...], silent: bool) -> None:
    run: Run = ctx.obj
    _decide(ctx, numbers, lambda number: membership.approve(run.config, run.actor, number, quiet=silent), _("{email} is added."))


@subs.command("refuse", dry_run="rollback", help=_("Refuse people who wait; they are told why."))
@click.argument("numbers", metavar=IDS, nargs=-1, type=int, required=True)
@click.option("--reason", metavar=_("REASON"), default="", help=_("What they are told."))
@click.option("--quiet", "silent", is_flag=True, help=_("Tell them nothing."))
@click.pass_context
def refuse(ctx: click.Context, numbers: tuple[int, ...], reason: str, silent: bool) -> None:
    run: Run = ctx.obj
    if len(reason) > 2000:
        raise BadData(_("a reason has at most 2000 characters"))
    _decide(ctx, numbers, lambda number: membership.refuse(run.config, run.actor, number, reason.strip(), quiet=silent), _("{email} is refused."))
