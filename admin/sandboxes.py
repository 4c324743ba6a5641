"""`kelou sandbox`: a private Postfix with everything of Kelou, on loopback, for a try-out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from kelou.i18n import _
from kelou.refusal import BadData

from . import sandbox
from .command import Noun
from .run import Run

sandboxes = Noun("sandbox")
COMMANDS = (sandboxes,)

def _named(ctx: click.Context, parameter: click.Parameter, value: str) -> Path:
    """The folder. An empty argument is a variable that is not set in somebody's script, and never the folder at hand. Raises BadData."""
    if not value.strip():
        raise BadData(_("the name of the folder is empty"))
    return Path(value)


DIRECTORY = click.argument("directory", metavar=_("DIR"), type=click.Path(file_okay=False), callback=_named)


def _tell(run: Run, state: dict[str, Any]) -> None:
    titles = {"smtp": "smtp", "untrusted_smtp": "untrusted smtp", "dns": "dns", "domain": _("domain"), "config": _("configuration")}
    titles |= {"zone": _("zone"), "delivered": _("delivered"), "log": _("log"), "pids": _("processes"), "running": _("running")}
    run.record(titles, state)


@sandboxes.command("up", dry_run="own", help=_("Start one in that directory, or what of it does not run."))
@DIRECTORY
@click.pass_obj
def up(run: Run, directory: Path) -> None:
    run.require_shell()
    sandbox.require_place(directory)
    if run.dry_run:
        run.say(_("A sandbox would be started in {path}.").format(path=directory))
        return
    sandbox.as_root()
    state = sandbox.up(directory)
    _tell(run, state)
    run.say(_("Use it with: kelou -c {path} …").format(path=state["config"]))


@sandboxes.command("down", dry_run="own", help=_("End what `up` started; the files stay."))
@DIRECTORY
@click.pass_obj
def down(run: Run, directory: Path) -> None:
    run.require_shell()
    if run.dry_run:
        run.say(_("The sandbox in {path} would be ended.").format(path=directory))
        return
    sandbox.as_root()
    run.done(sandbox.down(directory), _("The sandbox in {path} is down.").format(path=directory))


@sandboxes.command("status", help=_("Whether it runs; 1 where something of it does not."))
@DIRECTORY
@click.pass_context
def status(ctx: click.Context, directory: Path) -> None:
    run: Run = ctx.obj
    state, running = sandbox.status(directory)
    _tell(run, state | {"running": running})
    if not all(running.values()):
        ctx.exit(1)
