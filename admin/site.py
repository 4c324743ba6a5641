"""`kelou init`, `serve`, `status`, `config`: the site as a whole."""

from __future__ import annotations

import grp
import os
import pwd
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
from peewee import PeeweeException, fn

import kelou
from kelou import config as configuration
from kelou import database, secret
from kelou.i18n import _
from kelou.models import Domain, HeldPost, MailingList, Post, Subscription
from kelou.refusal import Refusal
from kelou.setting import find

from . import output
from .command import Noun, Verb
from .run import Run

ACCOUNT = "_kelou"  # the system account of the daemons
SOCKETS = {"milter": "milter.sock", "lmtp": "lmtp.sock", "map": "map.sock"}


@click.command("init", cls=Verb, dry_run="own")
@click.pass_obj
def init(run: Run) -> None:
    run.require_shell()
    os.umask(0o027)  # members' addresses are nobody else's business
    steps: list[dict[str, Any]] = []

    def step(what: str, path: Path, missing: bool, make: Callable[[], object], group: str = ACCOUNT) -> None:
        if missing and not run.dry_run:
            make()
            _give(path, group)
        steps.append({"what": what, "path": str(path), "changed": missing})

    step("config", run.path, not run.path.exists(), lambda: _write(run.path, configuration.sample()))
    if run.dry_run and not run.path.exists():
        config = configuration.Config(run.path, {})
    else:
        config = run.config
    folders = {config.directory("secret.file").parent, config.directory("dkim.directory"), *_database_folder(config)}
    for folder in sorted(folders):
        step("directory", folder, not folder.is_dir(), partial(_folder, folder))
    sockets = config.directory("postfix.sockets")
    if sockets.parent.is_dir():
        step("sockets", sockets, not sockets.is_dir(), lambda: _folder(sockets, 0o2750), "postfix")
    else:
        run.say(_("{path} is not there: install Postfix, then run this again").format(path=sockets.parent))
    key = config.directory("secret.file")
    step("secret", key, not key.exists(), lambda: secret.create(key))
    if not run.dry_run:
        secret.load(config)  # one that is no secret is told of now, not by a daemon later
    database.open_database(config)
    file = database.file(config)
    missing = ["*"] if run.dry_run and file and not file.exists() else database.pending()
    step("database", file or Path("-"), bool(missing), database.migrate)
    if run.json:
        output.data(output.to_json({"config": str(run.path), "steps": steps}))
        return
    titles = {"config": _("configuration"), "directory": _("directory"), "sockets": _("directory of sockets"), "secret": _("secret"), "database": _("database")}
    for taken in steps:
        state = _("is there") if not taken["changed"] else _("to be made") if run.dry_run else _("made")
        run.say(f"{titles[taken['what']]}: {taken['path']}: {state}")


def _database_folder(config: configuration.Config) -> list[Path]:
    file = database.file(config)
    return [file.parent] if file else []


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def _folder(path: Path, mode: int = 0o750) -> None:
    path.mkdir(mode, parents=True)
    path.chmod(mode)


def _give(path: Path, group: str) -> None:
    """What root makes is for the daemons, if their account is there."""
    try:
        if os.geteuid() == 0 and path.exists():
            os.chown(path, pwd.getpwnam(ACCOUNT).pw_uid, grp.getgrnam(group).gr_gid)
    except KeyError:
        return


@click.command("serve", cls=Verb, dry_run="own")
@click.argument("door", type=click.Choice(["lmtp", "milter"]))
@click.pass_obj
def serve(run: Run, door: str) -> None:
    run.require_shell()
    # Doors do not import each other: the daemon is a program of its own that takes this one's place.
    arguments = [sys.executable, "-m", f"kelou.{door}.main", "-c", str(run.config.path)]
    if run.dry_run:
        output.data(" ".join(arguments))
        return
    os.execv(sys.executable, arguments)


def answers(path: Path) -> str:
    """What a unix socket does: `up`, `down` (nobody listens), `missing`, or `denied`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(2)
        try:
            client.connect(str(path))
        except FileNotFoundError:
            return "missing"
        except PermissionError:
            return "denied"
        except OSError:
            return "down"
    return "up"


def hostname(config: configuration.Config) -> str:
    """What Postfix calls itself, else what the system does."""
    command = config.directory("postfix.command_directory") / "postconf"
    try:
        arguments = [str(command), "-c", str(config.directory("postfix.config_directory")), "-hx", "myhostname"]
        said = subprocess.run(arguments, capture_output=True, text=True, timeout=30, check=True, errors="replace").stdout.strip()
    except (OSError, subprocess.SubprocessError):
        said = ""
    return said if re.fullmatch(r"[A-Za-z0-9.-]+\.[A-Za-z0-9-]+", said) else socket.getfqdn()


@click.command("status", cls=Verb)
@click.pass_context
def status(ctx: click.Context) -> None:
    run: Run = ctx.obj
    folder = run.config.directory("postfix.sockets")
    row: dict[str, Any] = {"version": kelou.__version__, "config": str(run.config.path)}
    row |= {name: answers(folder / file) for name, file in SOCKETS.items()}
    try:
        with run.database():
            row |= {"database": "up"} | counts()
    except (Refusal, PeeweeException) as error:
        row |= {"database": "down", "detail": str(error)}
    titles = {"version": _("version"), "config": _("configuration"), "milter": "milter", "lmtp": "lmtp", "map": "map", "database": _("database")}
    titles |= {"detail": _("reason"), "domains": _("domains"), "open": _("open lists"), "pending": _("pending lists"), "closed": _("closed lists")}
    titles |= {"subscriptions": _("subscriptions"), "held": _("held posts"), "distributing": _("posts on their way")}
    run.record(titles, row)
    if not all(row[name] == "up" for name in (*SOCKETS, "database")):
        ctx.exit(1)


def counts() -> dict[str, int]:
    """How much there is of everything."""
    lists = dict(MailingList.select(MailingList.status, fn.COUNT(MailingList.id)).group_by(MailingList.status).tuples())
    return {
        "domains": Domain.select().count(),
        "open": lists.get("open", 0),
        "pending": lists.get("pending", 0),
        "closed": lists.get("closed", 0),
        "subscriptions": Subscription.select().count(),
        "held": HeldPost.select().where(HeldPost.state == "held").count(),
        "distributing": Post.select().where(Post.state == "distributing").count(),
    }


config = Noun("config")
COMMANDS = (init, serve, status, config)


@config.command("show", help=_("Every setting: value, default, where it comes from, what it is for."))
@click.pass_obj
def show(run: Run) -> None:
    rows = []
    for setting in configuration.SETTINGS.values():
        value = run.config[setting.key]
        shown = (value, setting.default) if run.json else (setting.show(value), setting.show(setting.default))
        row = {"key": setting.key, "value": shown[0], "default": shown[1], "origin": run.config.origin(setting.key)}
        rows.append(row | {"type": setting.kind.name, "help": _(setting.help)})
    run.rows({"key": _("setting"), "value": _("value"), "origin": _("from"), "help": _("what it is")}, rows, "")


@config.command("get", help=_("One setting."))
@click.argument("key", metavar=_("KEY"))
@click.pass_obj
def get(run: Run, key: str) -> None:
    setting = find(configuration.SETTINGS, key)
    value = run.config[key]
    if run.json:
        output.data(output.to_json({"key": key, "value": value, "default": setting.default, "origin": run.config.origin(key), "type": setting.kind.name}))
    else:
        output.data(output.safe(setting.show(value)))


@config.command("path", help=_("The configuration file that is read."))
@click.pass_obj
def path(run: Run) -> None:
    output.data(output.to_json({"path": str(run.path)}) if run.json else str(run.path))


@config.command("sample", help=_("A configuration file with every setting and its default."))
def sample() -> None:
    output.data(configuration.sample().removesuffix("\n"))

