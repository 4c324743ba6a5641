"""Consent: the confirmation that commands need where their sender is not certain, or where they are about another address than the sender's.

It goes to the address concerned and nowhere else, and says nothing that a stranger could have put there but which lists it is about. Whoever asks
for it chose who gets mail from us: so each address gets a few a day, over all lists, each domain, client and list some an hour, and the same thing
is asked once. What is over that is a line in the log, and nobody is told.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from . import confirmation, maillog, notice
from .address import Address
from .command import Command
from .config import Config
from .database import transaction
from .directory import ListView
from .i18n import _
from .models import Token, now
from .notice import Desk

HOUR, DAY = 3600, 86400
LIFETIME = 3 * DAY
# Confirmations in a day to one address, over all lists. Leaving counts apart: nobody can keep others from it by asking for other things.
ADDRESS = 2
# In an hour: to the addresses of one domain, about one list, had sent by one client.
DOMAIN, LIST, CLIENT = 100, 50, 30
SIZE = 200_000  # octets of the commands that one confirmation keeps

JOIN, LEAVE, INVITE = "commands", "leave", "invite"
ACTIONS = (JOIN, LEAVE, INVITE)


def ask(config: Config, about: ListView | Desk, to: Address, commands: Sequence[Command], *, client: str = "", answers: str = "") -> bool:
    """Ask an address to confirm commands that are about it; False if it is not asked (again), which is for the log only."""
    action = LEAVE if all(command.verb == "unsubscribe" for command in commands) else JOIN
    token = _token(action, about, to, pack(commands), client)
    if not token:
        return False
    values = {
        "reply_to": reply_address(about, token),
        "address": str(to),
        "wishes": [_described(command, to) for command in commands],
        "expires": now() + LIFETIME,
        "answers": answers,
        "replied": True,
    }
    return notice.send(config, "confirm", str(to), about, **values)


def invite(config: Config, the_list: ListView, to: Address, name: str, by: str, *, sure: bool, client: str = "") -> bool:
    """Ask somebody whether they want to be subscribed. `sure`: an owner wants them, nobody else has to approve."""
    token = _token(INVITE, the_list, to, json.dumps({"name": name, "by": by, "sure": sure}), client)
    values = {"reply_to": reply_address(the_list, token), "by": by, "expires": now() + LIFETIME}
    return bool(token) and notice.send(config, "invitation", str(to), the_list, **values)


def reply_address(about: ListView | Desk, token: str) -> str:
    """Where the answer to a notice goes. The address of a list that takes no mail now would not take it."""
    if isinstance(about, ListView) and about.status == "open":
        return about.sub("confirm", token)
    return f"confirm+{token}@{about.domain}"


def _token(action: str, about: ListView | Desk, to: Address, object: str, client: str) -> str:
    """The token, unless something caps it; then empty."""
    list_id = about.id if isinstance(about, ListView) else None
    with transaction():
        why = "size" if len(object) > SIZE else _cap(action, list_id, to, object, client)
        if not why:
            return confirmation.make(action, list_id, to.key, object, LIFETIME, client)
    maillog.event("not-asked", why=why, to=to.key, list=about.name, client=client)
    return ""


def _cap(action: str, list_id: int | None, to: Address, object: str, client: str) -> str:
    """The name of the cap that is reached; empty if there is none."""
    asked = Token.select().where(Token.action << ACTIONS)
    mine = asked.where(Token.address == to.key, (Token.action == LEAVE) if action == LEAVE else (Token.action != LEAVE))
    # Asked already: as long as that is new, or that key is good. Somebody whose confirmation got lost can have another one tomorrow.
    if mine.where(Token.object == object, Token.list == list_id if list_id else Token.list.is_null(), Token.created > now() - DAY, Token.used.is_null()).exists():
        return "pending"
    if mine.where(Token.created > now() - DAY).count() >= ADDRESS:
        return "address"
    lately = asked.where(Token.created > now() - HOUR)
    if lately.where(Token.address.endswith(f"@{to.host}")).count() >= DOMAIN:
        return "domain"
    if list_id and lately.where(Token.list == list_id).count() >= LIST:
        return "list"
    if client and lately.where(Token.client == client).count() >= CLIENT:
        return "client"
    confirmation.withdraw_from(action, to.key, object)
    return ""


# What a token keeps.


def pack(commands: Sequence[Command]) -> str:
    """Commands as text, without what they lack."""
    return json.dumps([_packed(command) for command in commands], ensure_ascii=False, sort_keys=True)


def _packed(command: Command) -> dict[str, Any]:
    plain = {one.name: getattr(command, one.name) for one in fields(Command) if one.name != "line"}
    plain["batch"] = base64.b64encode(command.batch).decode("ascii")
    return {name: dict(value) if name == "fields" else value for name, value in plain.items() if value not in ("", False, None, {})}


def unpack(text: str) -> list[Command]:
    """The commands that `pack` made a text of."""
    commands = [Command(**{**one, "batch": base64.b64decode(one.get("batch", ""))}) for one in json.loads(text)]
    return [replace(command, line=line(command)) for command in commands]


def line(command: Command) -> str:
    """A command as one writes it, without free text."""
    setting = f"{command.key} {command.value}"[:80] if command.key and command.value is not None else command.key
    return " ".join(filter(None, (command.verb, command.list, command.email, command.option, setting)))


def _described(command: Command, to: Address) -> Any:
    """What they confirm, said when the notice's language is known."""
    values = {"address": command.email or str(to), "list": command.list}
    if command.verb == "subscribe":
        return lambda: _("Subscribe {address} to {list}.").format(**values)
    if command.verb == "unsubscribe" and command.list == "*":
        return lambda: _("Unsubscribe {address} from all lists.").format(**values)
    if command.verb == "unsubscribe":
        return lambda: _("Unsubscribe {address} from {list}.").format(**values)
    return lambda: line(command)
