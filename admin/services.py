"""`kelou service`: the daemons as services of systemd, with their account and their folders."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

from kelou import config as configuration
from kelou import unit
from kelou.config import Config
from kelou.i18n import _
from kelou.refusal import BadConfiguration, Down, NotPermitted

from . import output
from .command import Noun
from .run import Run

services = Noun("service")
COMMANDS = (services,)

ETC = Path("/etc")
# What ProtectHome= hides from a service.
_HIDDEN = (Path("/home"), Path("/root"), Path("/run/user"))


def _config(run: Run) -> Config:
    """The configuration; the defaults, where there is none yet: `kelou init` needs the account that is made here."""
    return run.config if run.path.exists() else Config(run.path, {})


def _program(given: str | None) -> Path:
    """The path of `kelou` itself. Raises BadConfiguration for one that no service can see."""
    beside = Path(sys.executable).with_name("kelou")
    path = Path(given) if given else beside if beside.exists() else Path(shutil.which("kelou") or beside)
    home = next((folder for folder in _HIDDEN if folder in path.absolute().parents), None)
    if home:
        text = _("{path} is in {folder}, which services do not see; install Kelou elsewhere, in /opt/kelou for example")
        raise BadConfiguration(text.format(path=path.absolute(), folder=home))
    return path.absolute()


def _changes(etc: Path, files: dict[Path, str]) -> dict[Path, str]:
    """The files that are not there as they should be: `made` or `changed`."""
    states = {etc / path: "changed" if (etc / path).exists() else "made" for path in files}
    return {path: state for path, state in states.items() if state == "made" or path.read_text("utf-8", "replace") != files[path.relative_to(etc)]}


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.new")
    draft.write_text(text, "utf-8")
    draft.chmod(0o644)
    draft.replace(path)


def _call(*command: str) -> None:
    """Run one of systemd's programs. Raises Down with what it said."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, errors="replace")
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split()) or _("no reason given")
        raise Down(_("{command} failed: {reason}").format(command=" ".join(command), reason=said))


def _running() -> bool:
    """Whether systemd runs this host (sd_booted(3))."""
    return Path("/run/systemd/system").is_dir()


def _require_root() -> None:
    if os.geteuid() != 0:
        raise NotPermitted(_("services are root's to set up; run this as root"))


@services.command("install", dry_run="own", help=_("Make account, folders and units, and start the daemons; what is there already stays."))
@click.option("--root", metavar=_("DIR"), type=click.Path(file_okay=False, path_type=Path), help=_("Only write the files below DIR/etc, and start nothing."))
@click.option("--program", metavar=_("FILE"), help=_("The path of kelou that the units name."))
@click.pass_obj
def install(run: Run, root: Path | None, program: str | None) -> None:
    run.require_shell()
    config = _config(run)
    files = unit.files(config, _program(program))
    etc = (root or Path("/")) / ETC.relative_to("/")
    changes = _changes(etc, files)
    if not run.dry_run:
        if root is None:
            _require_root()
        for path in changes:
            _write(path, files[path.relative_to(etc)])
        if root is None:
            _start(config, bool(changes))
    rows = [{"file": str(etc / path), "state": changes.get(etc / path, "kept")} for path in files]
    if run.json:
        output.data(output.to_json({"files": rows, "started": root is None and not run.dry_run and _running()}))
        return
    words = {"made": _("to be made") if run.dry_run else _("made"), "changed": _("to be changed") if run.dry_run else _("changed"), "kept": _("is there")}
    for row in rows:
        run.say(f"{row['file']}: {words[row['state']]}")
    if run.dry_run or root:
        return
    if _running():
        run.say(_("The services run: {names}.").format(names=", ".join((*unit.SERVICES, *unit.TIMERS))))
    else:
        run.say(_("systemd does not run here: start the daemons yourself, with kelou serve milter and kelou serve lmtp, as the user _kelou."))


def _start(config: Config, changed: bool) -> None:
    """Account, folders, what `kelou init` makes, and the services. Raises Down."""
    _call("systemd-sysusers", str(ETC / "sysusers.d/kelou.conf"))
    _call("systemd-tmpfiles", "--create", str(ETC / "tmpfiles.d/kelou.conf"))
    _call(sys.executable, "-m", "kelou.admin.cli", "-c", str(config.path), "-q", "init")
    if not _running():
        return
    if changed:
        _call("systemctl", "daemon-reload")
    _call("systemctl", "enable", "--quiet", *unit.SERVICES, *unit.TIMERS)
    _call("systemctl", "restart" if changed else "start", *unit.SERVICES, *unit.TIMERS)


@services.command("uninstall", dry_run="own", help=_("Stop the daemons and remove their units; account, database and configuration stay."))
@click.pass_obj
def uninstall(run: Run) -> None:
    run.require_shell()
    files = [ETC / path for path in unit.files(_config(run), Path("/")) if (ETC / path).exists()]
    if not run.dry_run:
        _require_root()
        units = [path.name for path in files if path.suffix in (".service", ".timer")]
        if units and _running():
            _call("systemctl", "disable", "--quiet", "--now", *units)
        for path in files:
            path.unlink()
        if units and _running():
            _call("systemctl", "daemon-reload")
    if run.json:
        output.data(output.to_json({"files": [{"file": str(path), "state": "removed"} for path in files]}))
        return
    for path in files:
        run.say(f"{path}: " + (_("to be removed") if run.dry_run else _("removed")))
    if not files:
        run.say(_("There are no services of Kelou here."))


@services.command("show", help=_("The units as they would be written."))
@click.option("--program", metavar=_("FILE"), help=_("The path of kelou that the units name."))
@click.pass_obj
def show(run: Run, program: str | None) -> None:
    rows: list[dict[str, Any]] = [{"file": str(ETC / path), "text": text} for path, text in unit.files(_config(run), _program(program)).items()]
    output.data(output.to_json(rows) if run.json else "\n".join(f"# {row['file']}\n{row['text']}" for row in rows).rstrip("\n"))


@services.command("reload", dry_run="own", help=_("Have the daemons read the configuration again; nothing under way is lost."))
@click.pass_obj
def reload(run: Run) -> None:
    run.require_shell()
    configuration.load(run.path)  # one that is wrong is told of here, not in the log
    if not run.dry_run:
        _require_root()
        _call("systemctl", "reload", *unit.SERVICES)
    run.done({"reloaded": list(unit.SERVICES)}, _("The daemons read {path} again.").format(path=run.path))
