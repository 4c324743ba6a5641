"""`kelou domain`, `dkim`, `dns`: the list domains, their keys and their records."""

from __future__ import annotations

import time
from typing import Any

import click

from kelou import audit, domains, published, resolver, signing, zone
from kelou.config import Config
from kelou.database import transaction
from kelou.i18n import _
from kelou.models import iso, now
from kelou.refusal import NotFound, NotPermitted, TryAgain

from . import output
from .command import Noun
from .run import Run
from .site import hostname

domain = Noun("domain")
dkim = Noun("dkim")
dns = Noun("dns")
COMMANDS = (domain, dkim, dns)

DOMAIN = _("DOMAIN")
HOST = _("The mail host's name; else Postfix' myhostname.")


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


KEY = {"domain": _("domain"), "selector": _("selector"), "state": _("state"), "until": _("published until"), "name": _("publish as"), "record": _("TXT record")}
SELECTOR = click.argument("selector", metavar=_("SELECTOR"))


@dkim.command("new", dry_run="own", help=_("Make a key; the first one of a domain signs at once."))
@click.argument("name", metavar=DOMAIN)
@click.option("--selector", help=_("Its name in the DNS; else kelou and the month."))
@click.pass_obj
def new(run: Run, name: str, selector: str | None) -> None:
    with run.site() as config:
        _make(run, config, domains.find(name).name, selector or time.strftime("kelou%Y%m", time.gmtime()), "dkim new")


@dkim.command("rotate", dry_run="own", help=_("Make the key that is to follow the one that signs: publish it, then activate it."))
@click.argument("name", metavar=DOMAIN)
@click.pass_obj
def rotate(run: Run, name: str) -> None:
    with run.site() as config:
        found = domains.find(name).name
        taken = {key.selector for key in signing.keys(config.directory("dkim.directory")) if key.domain == found}
        if not taken:
            raise NotFound(_("{domain} has no key yet; make one with: kelou dkim new {domain}").format(domain=found))
        month, day = (time.strftime(form, time.gmtime()) for form in ("kelou%Y%m", "kelou%Y%m%d"))
        names = (month, day, *(f"{day}-{number}" for number in range(2, 100)))
        selector = next(name for name in names if name not in taken)
        _make(run, config, found, selector, "dkim rotate")
        run.say(_("Publish it, and when it is: kelou dkim activate {domain} {selector}").format(domain=found, selector=selector))


def _make(run: Run, config: Config, domain: str, selector: str, action: str) -> None:
    if run.dry_run:
        run.say(_("A key {selector} would be made for {domain}.").format(selector=selector, domain=domain))
        return
    directory = config.directory("dkim.directory")
    signing.create(directory, domain, selector)
    _changed(run, signing.find(directory, domain, selector), action)


def _changed(run: Run, key: signing.Key, action: str, text: str = "") -> None:
    with transaction():
        audit.record(run.actor, action, object=key.name)
    row = {"domain": key.domain, "selector": key.selector, "state": key.state, "name": key.name, "record": signing.record(key)}
    until = {"until": iso(signing.until(key) if key.since else now())} if key.state == "retired" else {}
    if text and not run.json:
        run.say(text)
    else:
        run.record(KEY, row | until)


@dkim.command("activate", dry_run="own", help=_("Sign with this key from now on, once it is published; the one that signed is retired."))
@click.argument("name", metavar=DOMAIN)
@SELECTOR
@click.option("--force", is_flag=True, help=_("Whether it is published or not."))
@click.pass_obj
def activate(run: Run, name: str, selector: str, force: bool) -> None:
    with run.site() as config:
        directory = config.directory("dkim.directory")
        key = signing.find(directory, domains.find(name).name, selector)
        if key.state != "active" and not (force or run.yes):
            _require_published(config, key)
        if run.dry_run:
            run.say(_("{selector} would sign for {domain}.").format(selector=key.selector, domain=key.domain))
            return
        before = [one for one in signing.keys(directory) if one.domain == key.domain and one.state == "active" and one != key]
        signing.activate(directory, key.domain, key.selector)
        _changed(run, signing.find(directory, key.domain, key.selector), "dkim activate", _("{selector} signs for {domain} now.").format(
            selector=key.selector, domain=key.domain))  # fmt: skip
        for old in before:
            run.say(_keep(signing.find(directory, old.domain, old.selector)))


def _require_published(config: Config, key: signing.Key) -> None:
    """Raises NotPermitted or TryAgain: what is signed with a key that nobody finds is thrown away."""
    try:
        problem = published.key_problem(key, resolver.from_config(config))
    except resolver.Trouble as trouble:
        raise TryAgain(_("the DNS does not say now whether {name} is published ({reason}); --force does without").format(name=key.name, reason=trouble)) from trouble
    if problem:
        text = _("{problem}. Publish this TXT record there, wait until it can be seen, and activate then (--force does at once): {record}")
        raise NotPermitted(text.format(problem=problem, record=signing.record(key)))


def _keep(key: signing.Key) -> str:
    if not key.since:
        return _("{selector} has signed nothing: its record need not be published.").format(selector=key.selector)
    text = _("Keep the record of {selector} published until {until}: what it signed is still under way.")
    return text.format(selector=key.selector, until=iso(signing.until(key)))


@dkim.command("retire", dry_run="own", help=_("Never sign with this key again; says how long its record has to stay published."))
@click.argument("name", metavar=DOMAIN)
@SELECTOR
@click.pass_obj
def retire(run: Run, name: str, selector: str) -> None:
    with run.site() as config:
        directory = config.directory("dkim.directory")
        key = signing.find(directory, domains.find(name).name, selector)
        if run.dry_run and key.state != "active":
            run.say(_("{selector} would be retired.").format(selector=key.selector))
            return
        signing.retire(directory, key.domain, key.selector)
        key = signing.find(directory, key.domain, key.selector)
        _changed(run, key, "dkim retire", _keep(key))


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
@click.option("--host", help=HOST)
@click.pass_obj
def records(run: Run, name: str, as_zone: bool, host: str | None) -> None:
    with run.site() as config:
        found = domains.find(name).name
        mail_host = host or hostname(config)
        try:
            known = published.addresses(mail_host, resolver.from_config(config))
        except resolver.Trouble:
            known = []
        wanted = zone.records(config, found, mail_host, known)
    rows: list[dict[str, Any]] = [record.row() for record in wanted]
    if as_zone and not run.json:
        output.data("\n".join(record.line for record in wanted))
    else:
        run.rows({"name": _("name"), "type": _("type"), "data": _("value"), "why": _("what it is")}, rows, "")


@dns.command("check", help=_("Whether every record is published as it should be, and what to do where it is not."))
@click.argument("name", metavar=DOMAIN)
@click.option("--host", help=HOST)
@click.pass_context
def check(ctx: click.Context, name: str, host: str | None) -> None:
    run: Run = ctx.obj
    with run.site() as config:
        found = published.check(config, domains.find(name).name, host or hostname(config), resolver.from_config(config))
    output.findings(found, run.json)
    if any(finding.state in ("error", "unknown") for finding in found):
        ctx.exit(1)
