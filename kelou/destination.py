"""A recipient address → the list and the function it names.

`LIST@`, `LIST-request@`, `LIST-bounces+TOKEN@`, …, the site's command address, postmaster and the like. What there is no such thing for is None:
unknown. A name that is a list's as a whole is that list's post address, even if it ends like a function.
"""

from __future__ import annotations

from dataclasses import dataclass

from . import directory
from .address import AddressError, parse
from .config import Config
from .directory import ListView

# Suffix → function. Where Sympa and Mailman mean different things by one suffix, Mailman's meaning was taken for `-owner`: it reaches
# people (Sympa: its bounce address).
FUNCTIONS = {
    "request": "owner",
    "owner": "owner",
    "editor": "moderators",
    "moderators": "moderators",
    "subscribe": "subscribe",
    "join": "subscribe",
    "unsubscribe": "unsubscribe",
    "leave": "unsubscribe",
    "confirm": "confirm",
    "bounces": "bounces",
}
WITH_TOKEN = frozenset({"unsubscribe", "confirm", "bounces"})
# Functions that a list offers while it is pending or closed: reports of what it sent earlier still come in.
ALWAYS = frozenset({"bounces"})
SITE = {"postmaster": "listmasters", "listmaster": "listmasters", "abuse": "listmasters", "mailer-daemon": "nobody"}


@dataclass(frozen=True, slots=True)
class Destination:
    """What a recipient address names. `function` is `post`, a value of FUNCTIONS, `command`, or a value of SITE; `list` is None for the last."""

    function: str
    list: ListView | None
    domain: str
    token: str = ""

    @property
    def open(self) -> bool:
        """Whether it takes mail now."""
        return self.list is None or self.list.status == "open" or self.function in ALWAYS


def resolve(recipient: str, config: Config) -> Destination | None:
    """What `recipient` (without angle brackets) names, or None. Needs a connection to the database."""
    try:
        address = parse(recipient)
    except AddressError:
        return None
    local, _at, domain = address.key.rpartition("@")
    if domain not in directory.domains():
        return None
    base, plus, token = local.partition("+")
    if not plus:
        if local in SITE:
            return Destination(SITE[local], None, domain)
        if local in config["site.command_addresses"]:
            return Destination("command", None, domain)
        found = directory.find(local, domain, config)
        if found:
            return Destination("post", found, domain)
    name, dash, suffix = base.rpartition("-")
    function = FUNCTIONS.get(suffix) if dash else None
    if not function or (plus and (not token or function not in WITH_TOKEN)):
        return None
    found = directory.find(name, domain, config)
    # Tokens are told apart by case: take them as they came.
    return Destination(function, found, domain, address.local.partition("+")[2]) if found else None
