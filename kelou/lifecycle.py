"""The life of a list, `pending → open ↔ closed → purged`, and what is set for it: the verbs that every door uses.

Each verb opens its own transaction, checks who acts, writes the audit log and sends its notices after the commit. It raises a Refusal with a line
that says what to do. Doing a thing twice is no refusal: `changed` is False then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .audit import Actor
from .config import Config
from .directory import ListView


@dataclass(frozen=True, slots=True)
class Outcome:
    """The list as it is now. `untold` are those whose notice Postfix did not take: the change stands, somebody should tell them."""

    list: ListView
    changed: bool = True
    advice: tuple[str, ...] = ()
    proposed: str = ""  # the name that the advice proposes
    untold: tuple[str, ...] = ()


def find_list(config: Config, text: str) -> ListView:
    """The list that `name` or `name@domain` names. Raises NotFound with the nearest name, BadData where the name alone says too little."""
    raise NotImplementedError


def request(
    config: Config,
    actor: Actor,
    name: str,
    domain: str = "",
    *,
    type: str,
    subject: str,
    owner: str,
    owner_name: str = "",
    description: str = "",
    organisation: str = "",
    language: str | None = None,
) -> Outcome:
    """Ask for a list: it is pending, with its owner, and the listmasters get a notice. Domain: empty where one is served, or in the name."""
    raise NotImplementedError


def create(
    config: Config,
    actor: Actor,
    name: str,
    domain: str = "",
    *,
    type: str,
    subject: str,
    owner: str,
    owner_name: str = "",
    description: str = "",
    organisation: str = "",
    language: str | None = None,
) -> Outcome:
    """Request and activate in one, for listmasters."""
    raise NotImplementedError


def activate(config: Config, actor: Actor, the_list: ListView, rename: str | None = None) -> Outcome:
    """Open a pending list, under another name if one is given. An open one stays as it is; a closed one is for `reopen`."""
    raise NotImplementedError


def refuse(config: Config, actor: Actor, the_list: ListView, reason: str) -> Outcome:
    """Refuse a request: the list is closed, with the reason that requester and owners are told."""
    raise NotImplementedError


def close(config: Config, actor: Actor, the_list: ListView, reason: str = "") -> Outcome:
    """Close an open list (its owner may): it takes no mail, and keeps its subscribers and settings."""
    raise NotImplementedError


def reopen(config: Config, actor: Actor, the_list: ListView) -> Outcome:
    """Open a closed list again (also one whose request was refused)."""
    raise NotImplementedError


def rename(config: Config, actor: Actor, the_list: ListView, new: str) -> Outcome:
    """Give a list another name in its domain; the old address goes on taking mail for `lists.renamed`."""
    raise NotImplementedError


def purge(config: Config, actor: Actor, the_list: ListView) -> None:
    """Delete a closed list and all that hangs on it. Raises NotPermitted while it is not closed."""
    raise NotImplementedError


def set_values(config: Config, actor: Actor, the_list: ListView, values: Mapping[str, str]) -> Outcome:
    """Set several things of a list, all or none: settings, and its subject, description, organisation and type. Raises BadData."""
    raise NotImplementedError


def unset_values(config: Config, actor: Actor, the_list: ListView, keys: Iterable[str]) -> Outcome:
    """Drop the list's own values of these settings: its type's come back."""
    raise NotImplementedError


def value(config: Config, the_list: ListView, key: str) -> tuple[Any, str]:
    """The value of a setting or property and where it comes from (list, type, site, default). Raises BadData for an unknown key."""
    raise NotImplementedError


def lists(config: Config, status: str | None = None, owner: str | None = None) -> list[dict[str, Any]]:
    """One object a list, as `--json` shows it: list, status, type, subject, owners, subscribers, created."""
    raise NotImplementedError


def describe(config: Config, the_list: ListView) -> dict[str, Any]:
    """All about one list, as `--json` shows it: what `lists` says, and description, organisation, requested_by, decided, decided_by, reason, moderators,
    old_names, settings: {key: {value, origin}}, advice."""
    raise NotImplementedError
