"""A recipient address → the list and the function it names.

`LIST@`, `LIST-request@`, `LIST-bounces+TOKEN@`, …, the site's command address, postmaster and the like. What there is no such thing for is None:
unknown. A name that is a list's as a whole is that list's post address, even if it ends like a function.
"""

from __future__ import annotations

from dataclasses import dataclass

from . import confirmation, directory, policy, returnpath, secret
from .address import AddressError, host, parse
from .config import Config
from .directory import TRIGGER, ListView
from .i18n import N_, _, speaking
from .reply import Reply

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
# Functions that are for our own messages: no door takes mail for them from outside.
INTERNAL = frozenset({"distribute"})
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
        if self.function in INTERNAL:
            return False
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
    written = address.local.partition("+")[2]
    if not plus:
        if local in SITE:
            return Destination(SITE[local], None, domain)
        if local in config["site.command_addresses"]:
            return Destination("command", None, domain)
        found = directory.find(local, domain, config)
        if found:
            return Destination("post", found, domain)
    elif base == TRIGGER:
        return Destination("distribute", None, domain, token) if token.isdecimal() and token.isascii() and len(token) < 19 else None
    name, dash, suffix = base.rpartition("-")
    function = FUNCTIONS.get(suffix)
    if function == "bounces" and token and not _sent(token, config):
        return None
    if function in WITH_TOKEN and token and not dash:  # where the name of the list would not fit before it, see ListView.sub
        return Destination(function, None, domain, written)
    if not dash or not function or (plus and (not token or function not in WITH_TOKEN)):
        return None
    found = directory.find(name, domain, config)
    return Destination(function, found, domain, written) if found else None


def _sent(token: str, config: Config) -> bool:
    """Whether a return-path may be one of ours: a token that we made, or an address in Postfix's plain form (XVERP), which anybody can make."""
    return "=" in token or returnpath.read(secret.load(config), returnpath.BOUNCES, token) is not None


def ours(recipient: str) -> bool:
    """Whether `recipient` is in a domain that lists live in, known or not. Needs a connection to the database."""
    _local, at, domain = recipient.rpartition("@")
    try:
        return bool(at) and host(domain) in directory.domains()
    except AddressError:
        return False


def refusal(destination: Destination | None, recipient: str, config: Config) -> Reply | None:
    """Why an address in a list domain takes no mail now, as both doors say it; None if it does. `destination` is what it resolved to."""
    if destination is None:
        return Reply(550, "5.1.1", _(_UNKNOWN).format(recipient=recipient))
    key = destination.function == "confirm" or (destination.function == "unsubscribe" and destination.token)
    if destination.open and key and not _good(destination, config):
        return Reply(550, "5.1.1", _(_BAD_KEY))
    if destination.open:
        return None
    if destination.list is None:
        return Reply(550, "5.1.1", _(_NO_MAIL).format(recipient=recipient))
    with speaking(destination.list["language"]):
        facts = policy.Facts(destination.list, "")
        decision = policy.state(facts)
        return decision.reply if decision else Reply(550, "5.1.1", _(_NO_MAIL).format(recipient=recipient))


def _good(destination: Destination, config: Config) -> bool:
    """Whether the key in an address is good: one that went out to confirm something, or a subscriber's own for leaving."""
    if confirmation.find(destination.token):
        return True
    return destination.function == "unsubscribe" and returnpath.read(secret.load(config), returnpath.LEAVE, destination.token) is not None


_UNKNOWN = N_("There is no list with the address {recipient}. Check how it is spelled.")
_BAD_KEY = N_("This key is not good (any more): it was used, it expired, or it is misspelt.")
_NO_MAIL = N_("The address {recipient} takes no mail.")
