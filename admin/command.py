"""Nouns and verbs: Click groups and commands with what all of ours share.

The common options stand before or after the verb. `ls` and `rm` stand for `list` and `remove`. `-n` runs a change for real and rolls it back.
"""

from __future__ import annotations

import difflib
from typing import Any

import click

from kelou import database
from kelou.i18n import LANGUAGES, N_, _

from . import output
from .run import Run

ALIASES = {"ls": "list", "rm": "remove"}

# How a verb takes -n: `none`, it changes nothing anyway; `rollback`, only the database, so that it is run and rolled back; `own`, it looks itself.
DRY_RUNS = ("none", "rollback", "own")

# What Click calls the values of its types; it does not translate these.
VALUES = {"text": N_("TEXT"), "integer": N_("NUMBER"), "integer range": N_("NUMBER")}


def _note(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value not in (None, False) and parameter.name:
        setattr(ctx.ensure_object(Run), parameter.name, value)


def common(hidden: bool) -> list[click.Parameter]:
    """The options of every command; shown in the help of `kelou` only, where they are not hidden."""

    def option(*names: str, **more: Any) -> click.Option:
        return click.Option(names, callback=_note, expose_value=False, hidden=hidden, **more)

    return [
        option("-c", "--config", "config_file", metavar=_("FILE"), help=_("The configuration; else KELOU_CONFIG, else /etc/kelou/kelou.toml.")),
        option("--json", is_flag=True, help=_("Print one JSON object or array.")),
        # Read already, before the commands were declared in that language (cli.py); here it is checked.
        option("--lang", "_lang", type=click.Choice(LANGUAGES), help=_("The language; else the locale's.")),
        option("-q", "quiet", is_flag=True, help=_("No messages but errors.")),
        option("-y", "--yes", is_flag=True, help=_("Do not ask.")),
        option("-n", "--dry-run", is_flag=True, help=_("Tell what would be done, and do nothing.")),
        option("--by", metavar=_("ADDRESS"), help=_("Act as this owner, moderator or listmaster, with their rights only.")),
    ]


class Verb(click.Command):
    """A command."""

    def __init__(self, *args: Any, dry_run: str = "none", **more: Any) -> None:
        super().__init__(*args, **more)
        assert dry_run in DRY_RUNS
        self.dry_run = dry_run
        self.params += common(hidden=True)
        for parameter in self.params:
            parameter.metavar = parameter.metavar or (_(VALUES[parameter.type.name]) if parameter.type.name in VALUES else None)

    def invoke(self, ctx: click.Context) -> Any:
        run = ctx.ensure_object(Run)
        if not run.dry_run or self.dry_run != "rollback":
            return super().invoke(ctx)
        with run.database(), database.rehearsal():
            result = super().invoke(ctx)
            run.say(_("Nothing was changed (-n)."))
            return result


class Noun(click.Group):
    """A group of commands."""

    command_class = Verb
    group_class = type  # a noun in a noun is one of the same kind

    def __init__(self, *args: Any, params: list[click.Parameter] | None = None, **more: Any) -> None:
        params = common(hidden=True) if params is None else params
        more.setdefault("subcommand_metavar", _("COMMAND [ARGS]..."))
        super().__init__(*args, params=params, **more)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:  # a shell that completes asks with none
            output.message(ctx.get_help())
            ctx.exit(2)
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)  # as they are declared: in the order in which one needs them

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, cmd_name) or super().get_command(ctx, ALIASES.get(cmd_name, ""))

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            near = difflib.get_close_matches(name, self.list_commands(ctx), 1, 0.5)
            hint = _("did you mean {name}?") if near else _("there are: {names}")
            hint = hint.format(name=near[0] if near else "", names=", ".join(self.list_commands(ctx)))
            ctx.fail(_("there is no command {path} {name}; {hint}").format(path=ctx.command_path, name=name, hint=hint))
        return super().resolve_command(ctx, args)
