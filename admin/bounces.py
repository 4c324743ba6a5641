"""`kelou bounce`: what a delivery report means, and who fails."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from kelou import bounce, report
from kelou.directory import ListView
from kelou.i18n import N_, _
from kelou.refusal import BadData
from kelou.report import Report

from . import output
from .command import Noun
from .lists import LIST
from .members import EMAIL, read
from .run import Run

bounces = Noun("bounce")
COMMANDS = (bounces,)

# What each kind means, said to people.
MEANS: Mapping[str, str] = {
    "hard": N_("{recipient}: the mailbox is not there."),
    "soft": N_("{recipient}: the mailbox could not be reached, and the sender has given up."),
    "full": N_("{recipient}: the mailbox is full."),
    "policy": N_("{recipient}: the message, or its sender, was refused. This says nothing about the mailbox."),
    "delayed": N_("{recipient}: not delivered yet; it is still being tried."),
    "delivered": N_("{recipient}: delivered, or handed on."),
    "autoreply": N_("{recipient}: a program answers, or somebody who is away. It was delivered."),
    "complaint": N_("{recipient}: the reader calls this spam. They are to be unsubscribed."),
    "unknown": N_("{recipient}: not understood."),
}


def _columns() -> dict[str, str]:
    return {"email": _("address"), "list": _("list"), "score": _("score"), "state": _("state"), "why": _("why")}


@bounces.command("list", help=_("The subscribers whose mail comes back."))
@click.argument("name", metavar=LIST, required=False)
@click.pass_obj
def list_(run: Run, name: str | None) -> None:
    with run.look(name) if name else run.site() as scope:
        found = bounce.failing(scope if isinstance(scope, ListView) else None)
        run.rows(_columns(), found, _("Nobody's mail comes back."))


@bounces.command("show", help=_("One subscriber: why the score is what it is, on each list."))
@click.argument("email", metavar=EMAIL)
@click.pass_obj
def show(run: Run, email: str) -> None:
    with run.site():
        rows = bounce.show(email)
    if run.json or not rows:
        run.rows(_columns(), rows, _("No mail to {email} came back.").format(email=email))
        return
    columns = {"sent": _("sent"), "kind": _("kind"), "counts": _("counts"), "status": _("status"), "proof": _("proof"), "detail": _("reason")}
    for row in rows:
        run.record(_columns(), row)
        output.data(output.table(columns, row["failures"], output.terminal_width()))


@bounces.command("reset", dry_run="rollback", help=_("Forget a subscriber's failures; who was suspended receives again."))
@click.argument("email", metavar=EMAIL)
@click.pass_obj
def reset(run: Run, email: str) -> None:
    with run.database():
        rows = bounce.reset(run.actor, email)
        if run.json:
            output.data(output.to_json([row | {"score": None, "state": "", "why": ""} for row in rows]))
        elif rows:
            run.say(_("The failures of {email} are forgotten.").format(email=email))
        else:
            run.say(_("No mail to {email} came back.").format(email=email))


@bounces.command("explain", help=_("What reports of deliveries mean; - is the standard input. Needs neither configuration nor database."))
@click.argument("files", metavar=_("FILE…"), nargs=-1, required=True)
@click.pass_context
def explain(ctx: click.Context, files: tuple[str, ...]) -> None:
    run: Run = ctx.obj
    rows: list[dict[str, Any]] = []
    code = 0
    for file in files:
        try:
            content = read(file)
        except BadData as error:
            output.problem(str(error))
            code = error.exit
            continue
        found = report.read(content)
        rows.append(_row(file, found))
        if not run.json:
            _tell(file, found)
    if run.json:
        output.data(output.to_json(rows))
    ctx.exit(code)


def _row(file: str, found: Report) -> dict[str, Any]:
    """A report, for programs."""
    reports = [{"recipient": e.recipient, "status": e.status, "action": e.action, "kind": e.kind, "counts": e.counts} for e in found.entries]
    return {"file": file, "kind": found.kind, "reports": reports}


def _tell(file: str, found: Report) -> None:
    """A report, for people."""
    output.data(output.safe(f"{file}:"))
    if not found.entries:
        output.data("  " + _("Not understood; it counts nothing."))
    for entry in found.entries:
        said = _(MEANS[entry.kind]).format(recipient=entry.recipient or _("(address not given)"))
        counts = _("It counts.") if entry.counts else _("It does not count.")
        status = f" [{entry.status}]" if entry.status else ""
        output.data(output.safe(f"  {said} {counts}{status}"))
        if entry.diagnostic:
            output.data(output.safe(f"    {entry.diagnostic}"))
