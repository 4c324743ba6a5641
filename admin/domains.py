"""`kelou domain`, `dkim`, `dns`: the list domains, their keys and their records."""

from __future__ import annotations

import re
import socket
import subprocess
import time
from typing import Any

import click

from kelou import audit, domains, signing, zone
from kelou.config import Config
from kelou.database import transaction
from kelou.i18n import _
from kelou.models import iso

from . import output
from .command import Noun
from .run import Run

domain = Noun("domain")
dkim = Noun("dkim")
dns = Noun("dns")
COMMANDS = (domain, dkim, dns)

DOMAIN = _("DOMAIN")


@domain.command("add", dry_run="rollback", help=_("Serve a domain."))
@click.argument("name", metavar=DOMAIN)
@click.pass_obj
def add(run: Run, name: str) -> None:
    with run.database():
        added = domains.add(run.actor, name)
        found = domains.name_of(name)
        run.done({"domain": found, "result": "added" if added else "already"}, _added(found) if added else _("{name} is served already.").format(name=found))


def _added(name: str) -> str:
    return _("{name} is served. Next: kelou dkim new {name}; kelou dns records {name}").format(name=name)


@domain.command("list", help=_("The domains served."))
@click.pass_obj
def list_(run: Run) -> None:
    with run.site():
        rows = [row | {"since": iso(row["since"])} for row in domains.domains()]
        run.rows({"domain": _("domain"), "lists": _("lists"), "since": _("since")}, rows, _("No domain is served: kelou domain add DOMAIN"))


@domain.command("show", help=_("A domain: its lists and its key."))
@click.argument("name", metavar=DOMAIN)
@click.pass_obj
def show(run: Run, name: str) -> None:
    with run.site() as config:
        found = domains.find(name)
        key = signing.active(config.directory("dkim.directory"), found.name)
        row = next(row for row in domains.domains() if row["domain"] == found.name)
        row |= {"since": iso(row["since"]), "selector": key.selector if key else None}
        run.record({"domain": _("domain"), "lists": _("lists"), "since": _("since"), "selector": _("DKIM selector")}, row)


@domain.command("remove", dry_run="rollback", help=_("Serve a domain no more; it has to be without lists."))
@click.argument("name", metavar=DOMAIN)
@click.pass_obj
def remove(run: Run, name: str) -> None:
    with run.database():
        removed = domains.remove(run.actor, name)
        found = domains.name_of(name)
        text = _("{name} is served no more.") if removed else _("{name} is not served.")
        run.done({"domain": found, "result": "removed" if removed else "absent"}, text.format(name=found))


@dkim.command("new", dry_run="own", help=_("Make a key; the first one of a domain signs at once."))
@click.argument("name", metavar=DOMAIN)
@click.option("--selector", help=_("Its name in the DNS; else kelou and the month."))
@click.pass_obj
def new(run: Run, name: str, selector: str | None) -> None:
    with run.site() as config:
        found = domains.find(name).name
        chosen = selector or time.strftime("kelou%Y%m", time.gmtime())
        if run.dry_run:
            run.say(_("A key {selector} would be made for {domain}.").format(selector=chosen, domain=found))
            return
        record = signing.create(config.directory("dkim.directory"), found, chosen)
        with transaction():
            audit.record(run.actor, "dkim new", object=f"{chosen}._domainkey.{found}")
        key = next(key for key in signing.keys(config.directory("dkim.directory")) if (key.domain, key.selector) == (found, chosen.lower()))
        row = {"domain": found, "selector": key.selector, "state": key.state, "name": key.name, "record": record}
        run.record({"domain": _("domain"), "selector": _("selector"), "state": _("state"), "name": _("publish as"), "record": _("TXT record")}, row)


@dkim.command("list", help=_("The keys there are."))
@click.pass_obj
def keys(run: Run) -> None:
    rows = [
        {"domain": key.domain, "selector": key.selector, "state": key.state, "since": iso(key.since or None), "name": key.name}
        | ({"record": signing.record(key)} if run.json else {})
        for key in signing.keys(run.config.directory("dkim.directory"))
    ]
    columns = {"domain": _("domain"), "selector": _("selector"), "state": _("state"), "since": _("since"), "name": _("published as")}
    run.rows(columns, rows, _("There is no key: kelou dkim new DOMAIN"))


@dns.command("records", help=_("Every record to publish for a domain."))
@click.argument("name", metavar=DOMAIN)
@click.option("--zone", "as_zone", is_flag=True, help=_("As lines of a zone file."))
@click.option("--host", help=_("The mail host's name; else Postfix' myhostname."))
@click.pass_obj
def records(run: Run, name: str, as_zone: bool, host: str | None) -> None:
    with run.site() as config:
        found = zone.records(config, domains.find(name).name, host or hostname(config))
    rows: list[dict[str, Any]] = [record.row() for record in found]
    if as_zone and not run.json:
        output.data("\n".join(record.line for record in found))
    else:
        run.rows({"name": _("name"), "type": _("type"), "data": _("value"), "why": _("what it is")}, rows, "")


def hostname(config: Config) -> str:
    """What Postfix calls itself, else what the system does."""
    command = config.directory("postfix.command_directory") / "postconf"
    try:
        arguments = [str(command), "-c", str(config.directory("postfix.config_directory")), "-hx", "myhostname"]
        said = subprocess.run(arguments, capture_output=True, text=True, timeout=30, check=True, errors="replace").stdout.strip()
    except (OSError, subprocess.SubprocessError):
        said = ""
    return said if re.fullmatch(r"[A-Za-z0-9.-]+\.[A-Za-z0-9-]+", said) else socket.getfqdn()
