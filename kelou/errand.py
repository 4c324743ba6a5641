"""Commands done for one person, whose address is proved: a command → what is said of it. The verbs of everybody; owners' are in `office`.

A verb returns a `Done`, or raises a Refusal with the line to say. Which rights somebody has is asked when the command is done, never when it was sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from . import consent, directory, i18n, lifecycle, listtype, membership, people, standing
from .address import Address
from .address import parse as parse_address
from .audit import Actor
from .command import Command
from .config import Config
from .database import connection
from .directory import ListView
from .i18n import N_, _, ngettext
from .models import Account, Domain, MailingList, Role
from .notice import Desk
from .refusal import BadData, NotFound, NotPermitted
from .standing import Standing
from .verb import VERBS, Verb


@dataclass(frozen=True, slots=True)
class Errand:
    """For whom commands are done. `proof` says by what the address is theirs; `confirmed`, by a key that went to it."""

    config: Config
    desk: Desk
    address: Address
    proof: str
    confirmed: bool = False
    client: str = ""
    answers: str = ""  # the Message-ID of their mail

    @property
    def actor(self) -> Actor:
        """They, as the audit log names them."""
        return Actor(str(self.address), self.address.key)

    def standing(self, the_list: ListView) -> Standing:
        """What they are to a list."""
        with connection():
            return standing.of(the_list.id, self.address.key)

    def listmaster(self) -> bool:
        """Whether they run the site."""
        with connection():
            return standing.is_listmaster(self.address.key)

    def owns(self, the_list: ListView) -> bool:
        """Whether they may do what owners may."""
        return self.standing(the_list).owner or self.listmaster()

    def find(self, name: str) -> ListView:
        """The list of that name, here or in another domain, if it is open or they have to do with it. Raises NotFound."""
        found = named(self.config, name, self.desk.domain)
        if found is None or (found.status != "open" and not self._concerned(found)):
            raise NotFound(_("There is no list {name} here.").format(name=name))
        return found

    def _concerned(self, the_list: ListView) -> bool:
        known = self.standing(the_list)
        return known.owner or known.moderator or known.subscriber or self.listmaster()


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a command, in the person's language. `told`: a notice of its own says it, no answer has to. `again`: nothing was decided, the
    same key serves once more."""

    text: str
    told: bool = False
    again: bool = False


def named(config: Config, name: str, domain: str) -> ListView | None:
    """The list that `name` or `name@domain` names to somebody who wrote to that domain; one in another domain if it is the only one."""
    local, _at, given = name.lower().partition("@")
    with connection():
        found = directory.find(local, given or domain, config)
        if found or given:
            return found
        rows = list(MailingList.select(MailingList, Domain).join(Domain).where(MailingList.name == local).limit(2))
        return directory.view(rows[0], config) if len(rows) == 1 else None


# Coming and leaving.


def subscribe(errand: Errand, command: Command) -> Done:
    the_list = errand.find(command.list)
    if command.email and parse_address(command.email).key != errand.address.key:
        return _ask_other(errand, the_list, replace(command, list=the_list.address))
    result = membership.join(
        errand.config, the_list, errand.address, command.name, proof=errand.proof, confirmed=errand.confirmed, quiet=command.quiet,
        client=errand.client, answers=errand.answers,
    )  # fmt: skip
    told = result.result == "added" and result.told and not command.quiet
    return Done(membership.words(result, the_list), told)


def unsubscribe(errand: Errand, command: Command) -> Done:
    if command.email and parse_address(command.email).key != errand.address.key:
        the_list = None if command.list == "*" else errand.find(command.list)
        return _ask_other(errand, the_list, replace(command, list=the_list.address if the_list else "*"))
    if command.list != "*":
        return _leave(errand, errand.find(command.list), command.quiet)
    lists = membership.subscriptions(errand.config, errand.address.key)
    if not lists:
        return Done(_("{address} is subscribed to no list.").format(address=errand.address))
    return Done("\n".join(_leave(errand, the_list, True).text for the_list in lists))  # one answer says it all


def _leave(errand: Errand, the_list: ListView, quiet: bool) -> Done:
    result = membership.leave(
        errand.config, the_list, errand.address, confirmed=errand.confirmed, quiet=quiet, client=errand.client, answers=errand.answers
    )
    held = errand.standing(the_list)
    text = membership.words(result, the_list)
    if result.result == "absent":
        text += " " + _("If its posts come to another address of yours, write from there, or: unsubscribe {name} THAT-ADDRESS").format(name=the_list.name)
    if held.owner or held.moderator:
        text += " " + _("You are still its owner or moderator; an owner or a listmaster can change that.")
    told = result.result == "removed" and result.told and not quiet and the_list.status == "open" and not (held.owner or held.moderator)
    return Done(text, told)


def _ask_other(errand: Errand, the_list: ListView | None, command: Command) -> Done:
    """The address that it is about is asked; the answer is the same whether it is subscribed or not, and whether it was asked too often."""
    other = parse_address(command.email)
    if the_list and command.verb == "subscribe" and the_list["subscribe"] == "closed":
        raise NotPermitted(_("{list} is closed to new subscribers; its owners add people: {owners}").format(list=the_list.address, owners=the_list.sub("owner")))
    if worth_asking(errand.config, the_list, other, command.verb):
        consent.ask(errand.config, the_list or errand.desk, other, [replace(command, email="")], client=errand.client)
    said = _("{address} is asked to confirm it, if there is anything to confirm.").format(address=other)
    if the_list and errand.owns(the_list):
        said += " " + _("As an owner you need not ask: {command}").format(
            command=f"{'add' if command.verb == 'subscribe' else 'del'} {the_list.name} {other}")  # fmt: skip
    return Done(said)


def worth_asking(config: Config, the_list: ListView | None, other: Address, verb: str) -> bool:
    """Whether somebody else's wish about an address is worth a mail to it."""
    if the_list is None:
        return bool(membership.subscriptions(config, other.key))
    with connection():
        known = standing.of(the_list.id, other.key)
    return known.subscriber if verb == "unsubscribe" else not known.subscriber and not known.blocked


# Options of a subscription: what each changes, or why it is not there.
OPTIONS: Mapping[str, Mapping[str, str]] = {
    "mail": {"mode": "mail", "suspended": "no"},
    "digest": {"mode": "digest", "suspended": "no"},
    "digestplain": {"mode": "digestplain", "suspended": "no"},
    "nomail": {"mode": "nomail"},
    "suspend": {"mode": "nomail"},  # without dates
    "me": {"own_posts": "yes"},
    "not_me": {"own_posts": "no"},
    "conceal": {"concealed": "yes"},
    "noconceal": {"concealed": "no"},
}


def set_(errand: Errand, command: Command) -> Done:
    if command.list == "*":
        lists = membership.subscriptions(errand.config, errand.address.key)
    else:
        lists = [errand.find(command.list)]
    values = OPTIONS.get(command.option)
    if values is None:
        raise BadData(_("{option} is not offered here; there are: {options}").format(option=command.option, options=", ".join(OPTIONS)))
    if command.value:
        values = {"suspended": command.value}
    if not lists:
        return Done(_("{address} is subscribed to no list.").format(address=errand.address))
    if command.list != "*":
        return Done(f"{lists[0].address}: {_set_for(errand, lists[0], values)}")
    said = []
    for the_list in lists:
        try:
            said.append(f"{the_list.address}: {_set_for(errand, the_list, values)}")
        except NotPermitted as no:  # one that has no digests, say
            said.append(str(no))
    return Done("\n".join(said))


def _set_for(errand: Errand, the_list: ListView, values: Mapping[str, str]) -> str:
    return _options(people.update(errand.config, errand.actor, the_list, str(errand.address), values))


def _options(row: Mapping[str, Any]) -> str:
    """A subscription's options, as one sets them."""
    shown = [row["mode"], "me" if row["own_posts"] else "not_me", *(["conceal"] if row["concealed"] else [])]
    shown += [f"suspend {row['suspended'].replace('..', ' ')}"] if row["suspended"] else []
    return ", ".join(shown)


def invite(errand: Errand, command: Command) -> Done:
    the_list, other = errand.find(command.list), parse_address(command.email)
    owner, allowed = errand.owns(the_list), the_list["invite"]
    if not owner and not (allowed == "subscribers" and errand.standing(the_list).subscriber):
        raise NotPermitted(_("Only {who} may invite people to {list}.").format(
            who=_("its subscribers") if allowed == "subscribers" else _("its owners"), list=the_list.address))  # fmt: skip
    if the_list.status != "open":
        raise NotPermitted(_("{list} is not open.").format(list=the_list.address))
    if worth_asking(errand.config, the_list, other, "subscribe"):
        consent.invite(errand.config, the_list, other, command.name, str(errand.address), sure=owner, client=errand.client)
    return Done(_("{address} is invited, unless that was done lately or there is no need to.").format(address=other))


# Questions.


def lists(errand: Errand, _command: Command) -> Done:
    with connection():
        rows = MailingList.select(MailingList, Domain).join(Domain).where(MailingList.status == "open").order_by(MailingList.name, Domain.name)
        views = [directory.view(row, errand.config) for row in rows]
        seen = [view for view in views if view["visible"] or errand._concerned(view)]
    return Done("\n".join(f"{view.address}: {view.subject}" for view in seen) or _("There is no list that you may see."))


def info(errand: Errand, command: Command) -> Done:
    the_list = errand.find(command.list)
    allowed, known = the_list["info"], errand.standing(the_list)
    if not (allowed == "anyone" or errand.owns(the_list) or known.moderator or (allowed == "subscribers" and known.subscriber)):
        raise NotPermitted(_("Who is not on {list} is told nothing of it.").format(list=the_list.address))
    description = lifecycle.value(errand.config, the_list, "description")[0]
    ways = {
        "open": N_("Everybody can subscribe."),
        "confirm": N_("Everybody can subscribe, with a confirmation."),
        "owner": N_("Its owners approve new subscribers."),
        "confirm-owner": N_("Its owners approve new subscribers."),
        "closed": N_("Its owners add people."),
    }
    parts = [
        f"{the_list.address}: {the_list.subject}",
        str(description).strip(),
        _(listtype.TITLES[the_list.type]) if the_list.type in listtype.TITLES else "",
        _(ways[the_list["subscribe"]]),
        _("Its owners read what is sent to {owners}.").format(owners=the_list.sub("owner")),
    ]
    return Done("\n".join(filter(None, parts)))


def which(errand: Errand, _command: Command) -> Done:
    try:
        found = people.find(errand.config, str(errand.address))
    except NotFound:
        return Done(_("{address} is subscribed to no list.").format(address=errand.address))
    shown = []
    for entry in found:
        roles = [_(ROLES[role]) for role in entry["roles"]]
        if entry["mode"]:
            roles.append(_("subscriber ({options})").format(options=_options(entry)))
        shown.append(f"{entry['list']}: {', '.join(roles)}")
    return Done("\n".join(shown))


ROLES = {"owner": N_("owner"), "moderator": N_("moderator")}


def review(errand: Errand, command: Command) -> Done:
    the_list = errand.find(command.list)
    allowed, owner, known = the_list["review"], errand.owns(the_list), errand.standing(the_list)
    if not (owner or allowed == "anyone" or (allowed == "subscribers" and (known.subscriber or known.moderator))):
        raise NotPermitted(_("The subscribers of {list} are not shown to you.").format(list=the_list.address))
    every = list(people.subscribers(the_list))
    shown = [row for row in every if owner or not row["concealed"]]
    lines = [f"  {row['email']} {row['name']}".rstrip() + (f" ({_options(row)})" if owner and (row["mode"] != "mail" or row["suspended"]) else "") for row in shown]
    head = ngettext("{list} has {number} subscriber.", "{list} has {number} subscribers.", len(every))
    return Done("\n".join([head.format(list=the_list.address, number=len(every)), *lines]))


def verify(errand: Errand, _command: Command) -> Done:
    return Done(_("Your mail is authenticated: {proof}.").format(proof=errand.proof))


def archive(errand: Errand, command: Command) -> Done:
    the_list = errand.find(command.list)
    return Done(_("No archive is kept here. Ask the owners of {list}, who may have its posts: {owners}").format(
        list=the_list.address, owners=the_list.sub("owner")))  # fmt: skip


def help_(errand: Errand, _command: Command) -> Done:
    """The commands that they may give, with a word for each in their language."""
    may = {"all", "subscriber", *_roles(errand)}
    shown = [f"  {word(verb)} {_(verb.arguments)}".rstrip() + f"\n      {_(verb.help)}" for verb in VERBS if verb.who in may]
    head = _("Write to {commands}, one command in the subject or one a line in the text:").format(commands=errand.desk.address)
    return Done("\n".join([head, "", *shown]))


def _roles(errand: Errand) -> set[str]:
    """The roles that they have on any list, with those that these include."""
    with connection():
        roles = {role for (role,) in Role.select(Role.role).join(Account).where(Account.key == errand.address.key).tuples()}
        if standing.is_listmaster(errand.address.key):
            roles |= {"listmaster", "owner"}
    return roles | {"moderator"} if "owner" in roles else roles


def word(verb: Verb) -> str:
    """A verb's word in the language in force."""
    return (verb.french.split() or [verb.name])[0].replace("_", " ") if i18n.language() == "fr" else verb.name


EVERYBODY: Mapping[str, Callable[[Errand, Command], Done]] = {
    "help": help_,
    "lists": lists,
    "info": info,
    "which": which,
    "subscribe": subscribe,
    "unsubscribe": unsubscribe,
    "set": set_,
    "verify": verify,
    "review": review,
    "invite": invite,
    "index": archive,
    "get": archive,
    "last": archive,
}
