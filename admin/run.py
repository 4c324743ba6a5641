"""One call of `kelou`: its common options, the configuration and database behind them, and who acts."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from kelou import config as configuration
from kelou import database
from kelou.address import AddressError, parse
from kelou.audit import Actor
from kelou.config import Config
from kelou.directory import ListView
from kelou.i18n import _
from kelou.refusal import BadConfiguration, BadData, Down, NotPermitted
from kelou.setting import SettingError

from . import output


def user() -> str:
    """Who is at the shell, for the audit log: before sudo, if it was used."""
    try:
        return os.environ.get("SUDO_USER") or pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


@dataclass
class Run:
    """What was asked of this call; `config`, `actor` and the database are made when first needed."""

    config_file: str | None = None
    json: bool = False
    quiet: bool = False
    yes: bool = False
    dry_run: bool = False
    by: str | None = None
    _open: bool = field(default=False, repr=False)

    @property
    def path(self) -> Path:
        """The configuration file."""
        return configuration.locate(self.config_file)

    @cached_property
    def config(self) -> Config:
        """The configuration. Raises BadConfiguration."""
        try:
            return configuration.load(self.path)
        except SettingError as error:
            raise BadConfiguration(str(error)) from error

    @cached_property
    def actor(self) -> Actor:
        """Who acts: the shell's user, or the address of --by, which verbs check."""
        if self.by is None:
            return Actor(user())
        try:
            address = parse(self.by)
        except AddressError as error:
            raise BadData(_("--by {address}: {reason}").format(address=self.by, reason=_(str(error)))) from error
        return Actor(str(address), address.key)

    @contextmanager
    def database(self) -> Iterator[Config]:
        """The configuration, with a connection to a database that is up to date."""
        if not self._open:
            path = database.file(self.config)
            if path and not path.exists():
                raise Down(_("{path}: there is no database yet; make it with: kelou init").format(path=path))
            database.open_database(self.config)
            if database.pending():
                raise BadConfiguration(_("the database is of an earlier version; bring it up to date with: kelou init"))
            self._open = True
        with database.connection():
            yield self.config

    @contextmanager
    def list(self, text: str) -> Iterator[ListView]:
        """The list that a LIST argument names, with a connection. Raises NotFound."""
        from kelou import lifecycle

        with self.database() as config:
            yield lifecycle.find_list(config, text)

    @contextmanager
    def look(self, text: str) -> Iterator[ListView]:
        """The same list to be shown: an address that acts has to be its moderator or owner. Raises NotPermitted."""
        with self.list(text) as found:
            self.actor.require_moderator(found.id)
            yield found

    @contextmanager
    def site(self) -> Iterator[Config]:
        """What belongs to no list, or to all of them, to be shown or changed: an address that acts has to be a listmaster's. Raises NotPermitted."""
        with self.database() as config:
            self.actor.require_listmaster()
            yield config

    def require_shell(self) -> None:
        """For what lies outside the database, and needs the rights of a shell's user. Raises NotPermitted."""
        if not self.actor.trusted:
            raise NotPermitted(_("this can not be done by an address; leave --by out"))

    def sure(self, question: str) -> None:
        """Go on only if they are sure. Raises NotPermitted."""
        if not (self.yes or self.dry_run or output.confirm(question)):
            raise NotPermitted(_("not done: it was not confirmed (-y does without asking)"))

    # What a command has to say.

    def say(self, text: str) -> None:
        """A message to the person at the shell, unless they want none."""
        if text and not self.quiet:
            output.message(text)

    def done(self, row: Mapping[str, Any], text: str) -> None:
        """The outcome of a change: an object for programs, a sentence for people."""
        if self.json:
            output.data(output.to_json(row))
        else:
            self.say(text)

    def rows(self, columns: Mapping[str, str], rows: Iterable[Mapping[str, Any]], none: str) -> None:
        """Several things: an array for programs, a table for people; `none` is said where there are none."""
        listed = list(rows)
        if self.json:
            output.data(output.to_json(listed))
        elif listed:
            output.data(output.table(columns, listed, output.terminal_width()))
        else:
            self.say(none)

    def record(self, titles: Mapping[str, str], row: Mapping[str, Any]) -> None:
        """One thing: an object for programs, a line for each of its values for people."""
        output.data(output.to_json(row) if self.json else output.record(titles, row))
