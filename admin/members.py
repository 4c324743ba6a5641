"""`kelou member`: the subscribers of a list, one by one and many at once."""

from __future__ import annotations

import contextlib
import csv
import io
import sys
from pathlib import Path
from typing import Any, TextIO

import click

from kelou import batch, membership, people
from kelou.i18n import _, ngettext
from kelou.people import Result
from kelou.refusal import BadData, CannotCreate

from . import output
from .command import Noun
from .lists import LIST, pairs
from .run import Run

members = Noun("member")
COMMANDS = (members,)

EMAIL = _("EMAIL")


def _columns() -> dict[str, str]:
    return {
        "email": _("address"),
        "name": _("name"),
        "mode": _("mode"),
        "since": _("since"),
        "source": _("source"),
        "bounce_score": _("bounce score"),
        "suspended": _("suspended"),
    }


def words() -> dict[str, str]:
    """What became of a person, in words for people."""
    return {
        "added": _("{email} is added."),
        "already": _("{email} is there already."),
        "blocked": _("{email} is not added:"),  # and the detail says why
        "full": _("{email} is not added:"),
        "removed": _("{email} is removed."),
        "absent": _("{email} is not there."),
        "moved": _("The address is now {email}."),
        "merged": _("The two accounts are now one: {email}."),
        "invited": _("{email} is invited."),
        "not-asked": _("{email} is not invited:"),
    }


def tell(run: Run, result: Result) -> None:
    """What became of a person."""
    if run.json:
        output.data(output.to_json(row(result)))
        return
    run.say(" ".join(filter(None, [words().get(result.result, result.result + ": {email}").format(email=result.email), result.detail])))
    if not result.told:
        run.say(_("Postfix did not take the notice to {people}: please tell them.").format(people=result.email))


def row(result: Result) -> dict[str, Any]:
    """What became of a person, for programs."""
    return {"email": result.email, "result": result.result, "detail": result.detail, "told": result.told}


def finish(ctx: click.Context, run: Run, results: list[Result]) -> None:
    """Tell of several; exit with 1 where one is not as it was to be."""
    if run.json:
        output.data(output.to_json([row(result) for result in results]))
    else:
        for result in results:
            tell(run, result)
    if not all(result.done for result in results):
        ctx.exit(1)


@members.command("add", dry_run="rollback", help=_("Subscribe somebody; they get a welcome."))
@click.argument("name", metavar=LIST)
@click.argument("email", metavar=EMAIL)
@click.argument("person", metavar=_("[NAME]"), nargs=-1)
@click.option("--quiet", "silent", is_flag=True, help=_("Without a welcome."))
@click.option("--invite", is_flag=True, help=_("Ask them whether they want to; they are subscribed once they say so."))
@click.option("--force", is_flag=True, help=_("To a pending list too (listmasters)."))
@click.pass_context
def add(ctx: click.Context, name: str, email: str, person: tuple[str, ...], silent: bool, invite: bool, force: bool) -> None:
    run: Run = ctx.obj
    with run.list(name) as found:
        if invite:
            result = membership.invite(run.config, run.actor, found, email, " ".join(person))
        else:
            result = people.subscribe(run.config, run.actor, found, email, " ".join(person), force=force, quiet=silent)
        tell(run, result)
        if not result.done and result.result != "invited":
            ctx.exit(1)


@members.command("import", dry_run="rollback", help=_("Subscribe everybody in a file: `Email Name` a line, `Name <email>`, or CSV; - is the standard input."))
@click.argument("name", metavar=LIST)
@click.argument("file", metavar=_("FILE"))
@click.option("--sync", is_flag=True, help=_("Remove who is not in the file."))
@click.option("--quiet", "silent", is_flag=True, help=_("Without a welcome."))
@click.option("--force", is_flag=True, help=_("To a pending list too (listmasters)."))
@click.option("--reject-file", metavar=_("FILE"), type=click.Path(readable=False, path_type=Path), help=_("Write the lines that did not get in there."))
@click.pass_context
def import_(ctx: click.Context, name: str, file: str, sync: bool, silent: bool, force: bool, reject_file: Path | None) -> None:
    run: Run = ctx.obj
    data = read(file)
    with run.list(name) as found, contextlib.ExitStack() as stack:
        if sync:
            run.sure(_("Remove the subscribers of {list} that are not in {file}?").format(list=found.address, file=file))
        rejects = stack.enter_context(_create(reject_file)) if reject_file and not run.dry_run else None
        report = batch.apply(run.config, run.actor, found, data, sync=sync, quiet=silent, dry_run=run.dry_run, force=force)
        if rejects:
            rejects.writelines(line + "\n" for line in report.rejected)
    if run.json:
        counts = {key: getattr(report, key) for key in ("added", "already", "invalid", "blocked", "removed", "untold")}
        output.data(output.to_json(counts | {"lines": report.lines}))
    else:
        _summary(run, report)
    if not report.complete:
        ctx.exit(1)


def _create(path: Path) -> TextIO:
    """A file to write, before anything is done whose outcome would then be lost. Raises CannotCreate."""
    try:
        return path.open("w", encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise CannotCreate(f"{path}: {error.strerror}") from error


def _summary(run: Run, report: batch.Report) -> None:
    columns = {"line": _("line"), "input": _("input"), "result": _("result"), "detail": _("reason")}
    wrong = [line for line in report.lines if line["result"] not in ("added", "already", "removed")]
    if wrong:
        output.data(output.table(columns, wrong, output.terminal_width()))
    run.say(report.summary)
    if report.untold:
        run.say(ngettext("Postfix did not take {number} welcome.", "Postfix did not take {number} welcomes.", report.untold).format(number=report.untold))


@members.command("remove", dry_run="rollback", help=_("Unsubscribe people."))
@click.argument("name", metavar=LIST)
@click.argument("emails", metavar=_("EMAIL…"), nargs=-1, required=True)
@click.option("--quiet", "silent", is_flag=True, help=_("Without a farewell."))
@click.pass_context
def remove(ctx: click.Context, name: str, emails: tuple[str, ...], silent: bool) -> None:
    run: Run = ctx.obj
    with run.list(name) as found:
        finish(ctx, run, [people.unsubscribe(run.config, run.actor, found, email, quiet=silent) for email in emails])


@members.command("list", help=_("The subscribers of a list."))
@click.argument("name", metavar=LIST)
@click.pass_obj
def list_(run: Run, name: str) -> None:
    with run.look(name) as found:
        run.rows(_columns(), people.subscribers(found), _("{list} has no subscribers.").format(list=found.address))


@members.command("set", dry_run="rollback", help=_(
    "Change a subscriber: mode=mail|digest|digestplain|nomail, suspended=FROM..UNTIL, own_posts=yes|no, posting=default|hold|accept|refuse, name=…"))
@click.argument("name", metavar=LIST)
@click.argument("email", metavar=EMAIL)
@click.argument("values", metavar=_("KEY=VALUE…"), nargs=-1, required=True)
@click.pass_obj
def set_(run: Run, name: str, email: str, values: tuple[str, ...]) -> None:
    with run.list(name) as found:
        run.record(_columns() | {"own_posts": _("own posts"), "posting": _("posting")}, people.update(run.config, run.actor, found, email, pairs(values)))


@members.command("find", help=_("The lists where an address is subscribed, owner or moderator."))
@click.argument("email", metavar=EMAIL)
@click.pass_obj
def find(run: Run, email: str) -> None:
    with run.site() as config:
        columns = {"list": _("list"), "roles": _("roles"), "mode": _("mode"), "since": _("since"), "source": _("source")}
        run.rows(columns, people.find(config, email), _("{email} is on no list.").format(email=email))


@members.command("move", dry_run="rollback", help=_("Give a person another address, on all lists."))
@click.argument("old", metavar=_("OLD"))
@click.argument("new", metavar=_("NEW"))
@click.pass_obj
def move(run: Run, old: str, new: str) -> None:
    with run.site() as config:
        if people.merges(old, new):
            run.sure(_("There is somebody with the address {new} already. Make one person of the two? That can not be undone.").format(new=new))
        result = people.move(config, run.actor, old, new)
        tell(run, result)


@members.command("export", help=_("The subscribers as `Email Name` lines, that import reads, or as CSV."))
@click.argument("name", metavar=LIST)
@click.option("--csv", "as_csv", is_flag=True, help=_("As CSV, with all that is known."))
@click.pass_obj
def export(run: Run, name: str, as_csv: bool) -> None:
    with run.look(name) as found:
        rows = list(people.subscribers(found))
    if run.json:
        output.data(output.to_json(rows))
    elif as_csv:
        text = io.StringIO()
        writer = csv.DictWriter(text, list(_columns()), extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: output.safe(str(value)) for key, value in row.items() if value is not None} for row in rows)
        output.data(text.getvalue().removesuffix("\n"))
    else:
        output.data("\n".join(output.safe(batch.write(row["email"], row["name"])) for row in rows))


def read(file: str) -> bytes:
    """The bytes of a file, or of the standard input for `-`. Raises BadData."""
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise BadData(f"{file}: {error.strerror}") from error
