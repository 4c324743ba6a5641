"""A site on a database of its own, for tests of the ground: one domain, nobody, and a Postfix that is not there unless a test brings one."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from dnsserver import Server

from kelou import database, lifecycle, secret
from kelou.audit import Actor
from kelou.config import Config
from kelou.directory import ListView
from kelou.models import Audit, Domain

DOMAIN = "lists.example.org"
SHELL = Actor("root")
NOBODY = "127.0.0.1:1"  # a port where nothing listens


@cache
def nothing_published() -> Server:
    """A DNS in which no domain asks for anything."""
    return Server()


def open_site(directory: Path, postfix: str = NOBODY, **values: Any) -> Config:
    """A configuration with an empty database; values as `lists__renamed=60`."""
    given = {key.replace("__", "."): value for key, value in values.items()}
    settings: dict[str, Any] = {"database.url": "sqlite:///kelou.db", "secret.file": "secret", "postfix.reinjection": postfix, "site.language": "en"}
    settings["dns.resolvers"] = (nothing_published().endpoint,)
    config = Config(directory / "kelou.toml", {**settings, **given})
    secret.create(directory / "secret")
    database.open_database(config)
    database.migrate()
    with database.transaction():
        Domain.create(name=DOMAIN)
    return config


def person(address: str) -> Actor:
    """Somebody who acts by an address that is proved to be theirs."""
    return Actor(address, address.lower())


def open_list(config: Config, name: str = "amis", owner: str = "owner@example.org", type: str = "discussion", **asked: Any) -> ListView:
    """A list that is active."""
    return lifecycle.create(config, SHELL, name, type=type, subject="Friends", owner=owner, **asked).list


def audited() -> list[tuple[str, str, str]]:
    """Who did what to which list, in order."""
    with database.connection():
        return [(row.who, row.action, row.list) for row in Audit.select().order_by(Audit.id)]
