"""Who acts, what they may, and the audit log that every change is written to.

An `Actor` is the shell's user, who may do everything, or an address acting as owner, moderator or listmaster, which is checked.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from . import standing
from .i18n import _
from .models import Audit
from .refusal import NotPermitted


@dataclass(frozen=True, slots=True)
class Actor:
    """`name` is what the audit log says; `key` is the address to check, empty for the shell's user."""

    name: str
    key: str = ""

    @property
    def trusted(self) -> bool:
        """Whether this is the shell's user, who could write the database anyway."""
        return not self.key

    def require_listmaster(self) -> None:
        """Raises NotPermitted unless they are a site administrator."""
        if not self.trusted and not standing.is_listmaster(self.key):
            raise NotPermitted(_("{who} is not a listmaster").format(who=self.name))

    def require_owner(self, list_id: int) -> None:
        """Raises NotPermitted unless they own that list, or are a listmaster."""
        if not self.trusted and not standing.of(list_id, self.key).owner and not standing.is_listmaster(self.key):
            raise NotPermitted(_("{who} is not an owner of this list").format(who=self.name))

    def require_moderator(self, list_id: int) -> None:
        """Raises NotPermitted unless they moderate or own that list, or are a listmaster."""
        held = standing.of(list_id, self.key) if self.key else None
        if held and not held.moderator and not held.owner and not standing.is_listmaster(self.key):
            raise NotPermitted(_("{who} is not a moderator of this list").format(who=self.name))


def record(actor: Actor, action: str, the_list: str = "", object: str = "", before: Any = None, after: Any = None) -> None:
    """Write one row of the audit log, in the transaction at hand."""
    shown = ["" if value is None else json.dumps(value, ensure_ascii=False, sort_keys=True) for value in (before, after)]
    Audit.create(who=actor.name, action=action, list=the_list, object=object, before=shown[0], after=shown[1])
