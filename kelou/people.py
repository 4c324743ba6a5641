"""People: accounts, roles and subscriptions, and the verbs on them. An account is an address as first spelled, and gives no right of itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .address import Address
from .audit import Actor
from .config import Config
from .directory import ListView
from .models import Account

ROLES = ("owner", "moderator")


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one person. `result` is a word for programs: added, already, blocked, full, removed, absent, moved, merged; `detail` a line for people."""

    email: str
    result: str
    detail: str = ""
    told: bool = True  # False: Postfix did not take the notice

    @property
    def done(self) -> bool:
        """Whether things are now as they were to be (also when they were so already)."""
        return self.result in ("added", "already", "removed", "absent", "moved", "merged")


def account(address: Address | str, name: str = "", language: str = "") -> Account:
    """The account of that address, made if there is none. Spelling and name first given stay; an empty name or language is filled in. Raises BadData."""
    raise NotImplementedError


def add_role(config: Config, actor: Actor, the_list: ListView, role: str, address: str, name: str = "") -> Result:
    """Make somebody owner or moderator; `already` if they are. `detail` advises a second owner where there is one only."""
    raise NotImplementedError


def remove_role(config: Config, actor: Actor, the_list: ListView, role: str, address: str) -> Result:
    """Take a role away. Raises NotPermitted for the last owner; `absent` if they do not hold it."""
    raise NotImplementedError


def holders(the_list: ListView, role: str) -> list[dict[str, Any]]:
    """Who holds a role, as `--json` shows it: email, name, since."""
    raise NotImplementedError


def add_listmaster(config: Config, actor: Actor, address: str, name: str = "") -> Result:
    """Make somebody a site administrator."""
    raise NotImplementedError


def remove_listmaster(config: Config, actor: Actor, address: str) -> Result:
    """Take that away; NotPermitted for the last one unless the shell's user asks."""
    raise NotImplementedError


def listmasters() -> list[dict[str, Any]]:
    """The site administrators, as `--json` shows them: email, name, since."""
    raise NotImplementedError


def subscribe(
    config: Config, actor: Actor, the_list: ListView, address: str, name: str = "", source: str = "add", *, force: bool = False, quiet: bool = False
) -> Result:
    """Add a subscriber: added, already, blocked or full. They get a welcome unless `quiet`. `force`, for listmasters, adds to a pending list too.
    Raises BadData for a broken address, NotPermitted while the list is pending or closed."""
    raise NotImplementedError


def unsubscribe(config: Config, actor: Actor, the_list: ListView, address: str, *, quiet: bool = False) -> Result:
    """Remove a subscriber: removed or absent. Owners may, and everyone for themselves, whatever the list's state."""
    raise NotImplementedError


def update(config: Config, actor: Actor, the_list: ListView, address: str, values: Mapping[str, str]) -> dict[str, Any]:
    """Change a subscriber's mode (mail, nomail), own_posts (yes, no), posting (default, hold, accept, refuse) or name; all or none.
    Returns their row as `subscribers` shows it. Raises BadData, NotFound."""
    raise NotImplementedError


def subscribers(the_list: ListView) -> Iterator[dict[str, Any]]:
    """The subscribers by address, as `--json` shows them: email, name, mode, own_posts, posting, since, source, bounce_score."""
    raise NotImplementedError


def find(config: Config, address: str) -> list[dict[str, Any]]:
    """Where an address is on this site: list, roles, and its subscription's fields (null if not subscribed). Raises NotFound, BadData."""
    raise NotImplementedError


def move(config: Config, actor: Actor, old: str, new: str) -> Result:
    """Give a person another address, on all lists at once: moved, or merged with the account that has it. Raises NotFound, BadData."""
    raise NotImplementedError
