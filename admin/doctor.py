"""`kelou doctor`: what is wrong on this host, and how to mend it."""

from __future__ import annotations

import re
import shutil
import socket
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import replace

import click
from peewee import PeeweeException, fn

from kelou import database, domains, people, published, resolver, secret, signing
from kelou.config import SETTINGS, Config
from kelou.finding import Finding
from kelou.i18n import _
from kelou.models import Audit, iso, now
from kelou.refusal import Refusal
from kelou.setting import ENDPOINT, SettingError

from . import output
from .command import Verb
from .run import Run
from .site import SOCKETS, answers, hostname

AHEAD = 300  # seconds that the clock may be put back by
LEAST = 500 * 1024**2  # octets free under which Postfix and the database are soon in trouble


@click.command("doctor", cls=Verb)
@click.pass_context
def doctor(ctx: click.Context) -> None:
    run: Run = ctx.obj
    found = list(examine(run))
    output.findings(found, run.json)
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
        yield from _dns(config, served)
        with run.database():
            yield _clock()
    yield from _sockets(config)
    yield from _postfix(config, served)
    yield from _reinjection(config)
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
            path = config.directory("dkim.directory") / domain / f"{key.selector if key else ''}.pem"
            open_to_others = key is not None and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)
        except (Refusal, OSError) as error:
            yield Finding(name, "error", str(error), _("let the milter's user read it, or put it back from a backup"))
            continue
        if open_to_others:
            yield Finding(name, "error", _("{path} can be read or written by others").format(path=path), f"chmod 600 {path}")
        elif key:
            yield Finding(name, "ok", key.selector)
        else:
            yield Finding(name, "error", _("what its lists send is not signed"), f"kelou dkim new {domain}")


def _dns(config: Config, served: list[str]) -> Iterator[Finding]:
    """What of each domain's records is published. A DNS that does not answer is no fault of this host's: a warning."""
    asked = resolver.from_config(config)
    host = hostname(config)
    for domain in served:
        try:
            asked.lookup(domain, "SOA")
            found = published.check(config, domain, host, asked)
        except (Refusal, OSError):
            continue  # of its keys, which was told
        except resolver.Trouble as trouble:
            yield Finding(f"dns {domain}", "warning", str(trouble), _("see that the name servers of {domain} answer, and those in dns.resolvers").format(domain=domain))
            continue
        yield from (replace(one, check=f"dns {domain} {one.check}", state="warning" if one.state == "unknown" else one.state) for one in found)


def _clock() -> Finding:
    """Signatures, tokens and scores stand on the time. What the database remembers lies before now."""
    last = Audit.select(fn.MAX(Audit.at)).scalar() or 0
    if last > now() + AHEAD:
        text = _("the clock says {now}, but something was done at {last}")
        return Finding("clock", "error", text.format(now=iso(now()), last=iso(last)), "timedatectl set-ntp true")
    return Finding("clock", "ok", iso(now()) or "")


def _reinjection(config: Config) -> Iterator[Finding]:
    """Whether Postfix takes what lists send."""
    for key in (setting.key for setting in SETTINGS.values() if setting.key.startswith("postfix.") and setting.kind is ENDPOINT):
        host, _colon, port = config[key].rpartition(":")
        try:
            with socket.create_connection((host.strip("[]"), int(port)), 5):
                yield Finding(key, "ok", config[key])
        except OSError as error:
            fix = _("start Postfix (postfix start), with the service of that port from postfix-conf/master.cf")
            yield Finding(key, "error", f"{config[key]}: {error.strerror or error}", fix)


def _sockets(config: Config) -> Iterator[Finding]:
    folder = config.directory("postfix.sockets")
    if folder.is_dir() and not folder.stat().st_mode & (stat.S_IXGRP | stat.S_IXOTH):
        yield Finding("sockets", "error", _("{path} can not be entered by Postfix").format(path=folder), f"chmod g+x {folder}")
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
