"""`kelou list`: requests, decisions, the life of a list and what is set for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from kelou import lifecycle, listtype
from kelou.i18n import LANGUAGES, _
from kelou.lifecycle import Outcome
from kelou.refusal import BadData, NotPermitted

from . import output
from .command import Noun
from .run import Run

lists = Noun("list")
COMMANDS = (lists,)

LIST = _("LIST")
STATUSES = ("pending", "open", "closed")
SHOWN = 60  # columns of a value that was set: a footer is long


def _columns() -> dict[str, str]:
    return {
        "list": _("list"),
        "status": _("status"),
        "type": _("type"),
        "subscribers": _("subscribers"),
        "owners": _("owners"),
        "subject": _("subject"),
    }


def _row(outcome: Outcome) -> dict[str, Any]:
    row = {"list": outcome.list.address, "status": outcome.list.status, "type": outcome.list.type, "changed": outcome.changed}
    return row | {"advice": list(outcome.advice), "proposed": outcome.proposed, "untold": list(outcome.untold)}


def _tell(run: Run, outcome: Outcome, text: str) -> None:
    """What was done, with what the person should know beside it."""
    if not outcome.changed:
        text = _("Nothing to do: {text}").format(text=text)
    run.done(_row(outcome), text)
    for line in outcome.advice:
        run.say(_("Advice: {text}").format(text=line))
    if outcome.untold:
        run.say(_("Postfix did not take the notice to {people}: please tell them.").format(people=", ".join(outcome.untold)))


def _asked(function: Any) -> Any:
    """The options that a request and a creation share."""
    decorators: tuple[Callable[[Any], Any], ...] = (
        click.option("--language", type=click.Choice(LANGUAGES), help=_("The language of its notices; else the site's.")),
        click.option("--organisation", default="", help=_("Whose list it is.")),
        click.option("--description", default="", help=_("What it is for, in full.")),
        click.option("--subject", required=True, help=_("What it is about, in a line.")),
        click.option("--type", "type", required=True, type=click.Choice(list(listtype.TYPES)), help=_("Its type; see: kelou list types")),
        click.option("--owner-name", default="", help=_("The owner's name.")),
        click.option("--owner", required=True, metavar=_("ADDRESS"), help=_("Who will own it.")),
        click.argument("name", metavar=_("NAME")),
    )
    for decorate in decorators:
        function = decorate(function)
    return function


@lists.command("request", dry_run="rollback", help=_("Ask for a list: it is pending until a listmaster decides."))
@_asked
@click.pass_obj
def request(run: Run, /, name: str, **asked: Any) -> None:
    with run.database() as config:
        outcome = lifecycle.request(config, run.actor, name, **asked)
        _tell(run, outcome, _("{list} is requested; a listmaster decides (kelou list activate).").format(list=outcome.list.address))


@lists.command("create", dry_run="rollback", help=_("Request and activate a list in one."))
@_asked
@click.pass_obj
def create(run: Run, /, name: str, **asked: Any) -> None:
    with run.database() as config:
        outcome = lifecycle.create(config, run.actor, name, **asked)
        _tell(run, outcome, _("{list} is open.").format(list=outcome.list.address))


@lists.command("requests", help=_("The lists that wait for a decision."))
@click.pass_obj
def requests(run: Run) -> None:
    with run.site() as config:
        rows = [lifecycle.describe(config, lifecycle.find_list(config, row["list"])) for row in lifecycle.lists(config, "pending")]
        columns = {"list": _("list"), "type": _("type"), "subject": _("subject"), "organisation": _("organisation")}
        columns |= {"requested_by": _("requested by"), "created": _("since"), "advice": _("advice")}
        run.rows(columns, rows, _("No list waits for a decision."))


@lists.command("activate", dry_run="rollback", help=_("Open a pending list."))
@click.argument("name", metavar=LIST)
@click.option("--rename", metavar=_("NEW"), help=_("Open it under this name."))
@click.pass_obj
def activate(run: Run, name: str, rename: str | None) -> None:
    with run.list(name) as found:
        outcome = lifecycle.activate(run.config, run.actor, found, rename)
        _tell(run, outcome, _("{list} is open.").format(list=outcome.list.address))


@lists.command("refuse", dry_run="rollback", help=_("Refuse a request; requester and owners are told why."))
@click.argument("name", metavar=LIST)
@click.option("--reason", required=True, help=_("Why, in a sentence for them."))
@click.pass_obj
def refuse(run: Run, name: str, reason: str) -> None:
    with run.list(name) as found:
        outcome = lifecycle.refuse(run.config, run.actor, found, reason)
        _tell(run, outcome, _("The request for {list} is refused.").format(list=outcome.list.address))


@lists.command("list", help=_("All lists."))
@click.option("--status", type=click.Choice(STATUSES), help=_("Only those."))
@click.option("--owner", metavar=_("ADDRESS"), help=_("Only those that they own."))
@click.pass_obj
def list_(run: Run, status: str | None, owner: str | None) -> None:
    with run.site() as config:
        run.rows(_columns(), lifecycle.lists(config, status, owner), _("There is no such list."))


@lists.command("show", help=_("All about a list, and where each of its settings comes from."))
@click.argument("name", metavar=LIST)
@click.pass_obj
def show(run: Run, name: str) -> None:
    with run.look(name) as found:
        row = lifecycle.describe(run.config, found)
        titles = _columns() | {"moderators": _("moderators"), "description": _("description"), "organisation": _("organisation")}
        titles |= {"requested_by": _("requested by"), "created": _("since"), "decided": _("decided"), "decided_by": _("decided by")}
        titles |= {"reason": _("reason"), "old_addresses": _("old addresses"), "advice": _("advice")}
        run.record(titles, row)
        if not run.json:
            settings = [
                {"key": key, "value": listtype.SETTINGS[key].show(held["value"]), "origin": held["origin"]}
                for key, held in row["settings"].items()
            ]
            columns = {"key": _("setting"), "value": _("value"), "origin": _("from")}
            output.data("\n" + output.table(columns, settings, output.terminal_width()))


@lists.command("types", help=_("The list types and what each sets."))
@click.pass_obj
def types(run: Run) -> None:
    rows: list[dict[str, Any]] = []
    for name, preset in listtype.TYPES.items():
        # A footer is too long for a table.
        short = {key: listtype.SETTINGS[key].show(value) for key, value in preset.items() if key != "footer"}
        rows.append({"type": name, "title": _(listtype.TITLES[name]), "settings": dict(preset) if run.json else short})
    run.rows({"type": _("type"), "title": _("meant for"), "settings": _("sets")}, rows, "")


@lists.command("set", dry_run="rollback", help=_("Set something for a list; its keys are in: kelou list show LIST"))
@click.argument("name", metavar=LIST)
@click.argument("values", metavar=_("KEY=VALUE…"), nargs=-1, required=True)
@click.pass_obj
def set_(run: Run, name: str, values: tuple[str, ...]) -> None:
    with run.list(name) as found:
        given = pairs(values)
        outcome = lifecycle.set_values(run.config, run.actor, found, given)
        shown = ", ".join(f"{key}={output.clip(' '.join(text.split()), SHOWN)}" for key, text in given.items())
        _tell(run, outcome, _("{list} has {values}").format(list=outcome.list.address, values=shown))


@lists.command("get", help=_("What one setting of a list is."))
@click.argument("name", metavar=LIST)
@click.argument("key", metavar=_("KEY"))
@click.pass_obj
def get(run: Run, name: str, key: str) -> None:
    with run.look(name) as found:
        value, origin = lifecycle.value(run.config, found, key)
        if run.json:
            output.data(output.to_json({"key": key, "value": value, "origin": origin}))
        else:
            setting = listtype.SETTINGS.get(key)
            output.data(output.safe(setting.show(value) if setting else str(value), keep="\n\t"))


@lists.command("unset", dry_run="rollback", help=_("Go back to what the list's type says."))
@click.argument("name", metavar=LIST)
@click.argument("keys", metavar=_("KEY…"), nargs=-1, required=True)
@click.pass_obj
def unset(run: Run, name: str, keys: tuple[str, ...]) -> None:
    with run.list(name) as found:
        outcome = lifecycle.unset_values(run.config, run.actor, found, keys)
        _tell(run, outcome, _("{list} has no {keys} of its own.").format(list=outcome.list.address, keys=", ".join(keys)))


@lists.command("close", dry_run="rollback", help=_("Close a list: it takes no mail, and keeps its subscribers."))
@click.argument("name", metavar=LIST)
@click.option("--reason", default="", help=_("Why, in a sentence for the owners."))
@click.pass_obj
def close(run: Run, name: str, reason: str) -> None:
    with run.list(name) as found:
        outcome = lifecycle.close(run.config, run.actor, found, reason)
        _tell(run, outcome, _("{list} is closed.").format(list=outcome.list.address))


@lists.command("reopen", dry_run="rollback", help=_("Open a closed list again."))
@click.argument("name", metavar=LIST)
@click.pass_obj
def reopen(run: Run, name: str) -> None:
    with run.list(name) as found:
        outcome = lifecycle.reopen(run.config, run.actor, found)
        _tell(run, outcome, _("{list} is open.").format(list=outcome.list.address))


@lists.command("rename", dry_run="rollback", help=_("Give a list another name; its old address goes on taking mail for a while."))
@click.argument("name", metavar=LIST)
@click.argument("new", metavar=_("NEW"))
@click.pass_obj
def rename(run: Run, name: str, new: str) -> None:
    with run.list(name) as found:
        outcome = lifecycle.rename(run.config, run.actor, found, new)
        _tell(run, outcome, _("{old} is now {list}.").format(old=found.address, list=outcome.list.address))


@lists.command("purge", dry_run="rollback", help=_("Delete a closed list with all that hangs on it; a script says -y."))
@click.argument("name", metavar=LIST)
@click.pass_obj
def purge(run: Run, name: str) -> None:
    with run.list(name) as found:
        if not (run.yes or run.dry_run):
            typed = output.ask(_("This deletes {list}, its subscribers and posts for ever. Type the list's name:").format(list=found.address))
            if typed not in (found.name, found.address):
                raise NotPermitted(_("not done: it was not confirmed (-y does without asking)"))
        lifecycle.purge(run.config, run.actor, found)
        run.done({"list": found.address, "status": "purged", "changed": True}, _("{list} is deleted.").format(list=found.address))


def pairs(values: tuple[str, ...]) -> dict[str, str]:
    """KEY=VALUE arguments by key. Raises BadData."""
    found: dict[str, str] = {}
    for value in values:
        key, equals, text = value.partition("=")
        if not equals or not key.strip():
            raise BadData(_("{text}: this is not KEY=VALUE").format(text=value))
        found[key.strip()] = text
    return found
