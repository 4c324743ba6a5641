"""`kelou doctor`: what is wrong on this host, and how to mend it."""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import click
from peewee import PeeweeException

from kelou import database, domains, people, secret, signing
from kelou.config import Config
from kelou.i18n import _
from kelou.refusal import Refusal
from kelou.setting import SettingError

from . import output
from .command import Verb
from .run import Run
from .site import SOCKETS, answers

LEAST = 500 * 1024**2  # octets free under which Postfix and the database are soon in trouble


@dataclass(frozen=True, slots=True)
class Finding:
    """One check. `state` is ok, warning or error; `fix` says what to do."""

    check: str
    state: str
    detail: str = ""
    fix: str = ""


@click.command("doctor", cls=Verb)
@click.pass_context
def doctor(ctx: click.Context) -> None:
    run: Run = ctx.obj
    found = list(examine(run))
    if run.json:
        output.data(output.to_json([asdict(finding) for finding in found]))
    else:
        colours = {"ok": ("32", _("ok")), "warning": ("33", _("warning")), "error": ("31", _("error"))}
        for finding in found:
            colour, word = colours[finding.state]
            output.data(f"{output.coloured(word, colour)}  {finding.check}  {output.safe(finding.detail)}".rstrip())
            if finding.fix:
                output.data(f"    → {output.safe(finding.fix)}")
    if any(finding.state == "error" for finding in found):
        ctx.exit(1)


COMMANDS = (doctor,)


def examine(run: Run) -> Iterator[Finding]:
    """Every check, those first that others stand on."""
    try:
        config = run.config
    except Refusal as error:
        yield Finding("config", "error", str(error), _("mend the file; kelou config sample shows every setting"))
        return
    yield Finding("config", "ok", str(config.path))
    yield _secret(config)
    served: list[str] = []
    try:
        with run.database():
            served = [row["domain"] for row in domains.domains()]
            listmasters = people.listmasters()
    except (Refusal, PeeweeException, OSError) as error:
        yield Finding("database", "error", str(error), _("kelou init makes it or brings it up to date"))
    else:
        yield Finding("database", "ok", _("up to date"))
        if listmasters:
            yield Finding("listmasters", "ok")
        else:
            yield Finding("listmasters", "warning", _("nobody is told of requests for lists"), "kelou listmaster add EMAIL")
        yield from _keys(config, served)
    yield from _sockets(config)
    yield from _postfix(config, served)
    yield from _space(config)


def _secret(config: Config) -> Finding:
    path = config.directory("secret.file")
    try:
        secret.load(config)
    except SettingError as error:
        return Finding("secret", "error", str(error), _("kelou init makes one"))
    if path.stat().st_mode & (stat.S_IRWXO | stat.S_IWGRP):
        return Finding("secret", "error", _("{path} can be read or written by others").format(path=path), f"chmod 600 {path}")
    return Finding("secret", "ok", str(path))


def _keys(config: Config, served: list[str]) -> Iterator[Finding]:
    if not served:
        yield Finding("domains", "warning", _("no domain is served"), "kelou domain add DOMAIN")
    for domain in served:
        name = f"dkim {domain}"
        try:
            key = signing.active(config.directory("dkim.directory"), domain)
        except (Refusal, OSError) as error:
            yield Finding(name, "error", str(error), _("let the milter's user read it, or put it back from a backup"))
            continue
        if key:
            yield Finding(name, "ok", key.selector)
        else:
            yield Finding(name, "error", _("what its lists send is not signed"), f"kelou dkim new {domain}")


def _sockets(config: Config) -> Iterator[Finding]:
    folder = config.directory("postfix.sockets")
    for name, file in SOCKETS.items():
        path = folder / file
        state = answers(path)
        door = "milter" if name == "milter" else "lmtp"
        if state == "up":
            # Postfix connects as its own user: the socket's group, or everybody, needs to write.
            mode = path.stat().st_mode
            if mode & stat.S_IWGRP or mode & stat.S_IWOTH:
                yield Finding(f"socket {name}", "ok", str(path))
            else:
                yield Finding(f"socket {name}", "error", _("{path} can not be written by Postfix").format(path=path), f"chmod g+w {path}")
        else:
            fix = f"kelou sandbox up {config.path.parent}" if (config.path.parent / "sandbox.json").exists() else f"kelou serve {door}"
            yield Finding(f"socket {name}", "error", f"{path}: {_(state)}", fix)


def _postfix(config: Config, served: list[str]) -> Iterator[Finding]:
    """Whether what has to be in main.cf is there: for each parameter, the words that tell."""
    wanted = {"relay_domains": served, "relay_recipient_maps": [SOCKETS["map"]], "smtpd_milters": [SOCKETS["milter"]]}
    command = config.directory("postfix.command_directory") / "postconf"
    if not command.exists():
        yield Finding("postfix", "error", _("{path} is not there").format(path=command), _("install Postfix, or set postfix.command_directory"))
        return
    arguments = [str(command), "-c", str(config.directory("postfix.config_directory")), "-x", *wanted]
    try:
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=30, check=False, errors="replace")
    except (OSError, subprocess.TimeoutExpired) as error:
        yield Finding("postfix", "error", str(error), _("see whether postconf works"))
        return
    if done.returncode:
        yield Finding("postfix", "error", (done.stderr.strip().splitlines() or [""])[0], _("see postfix.config_directory"))
        return
    values = {name.strip(): value.strip() for name, _equals, value in (line.partition("=") for line in done.stdout.splitlines())}
    for name, words in wanted.items():
        value = values.get(name, "")
        if all(word in re.split(r"[\s,/:]+", value) for word in words):
            yield Finding(f"postfix {name}", "ok")
        else:
            yield Finding(f"postfix {name}", "error", value or _("empty"), _("put in what postfix-conf/main.cf says"))


def _space(config: Config) -> Iterator[Finding]:
    file = database.file(config)
    for path in filter(None, (file and file.parent, config.directory("postfix.sockets").parent)):
        if path.is_dir():
            free = shutil.disk_usage(path).free
            detail = _("{path}: {size} MB free").format(path=path, size=free // 1024**2)
            yield Finding("disk", "ok" if free > LEAST else "error", detail, "" if free > LEAST else _("make room"))
