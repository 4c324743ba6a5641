"""The life of a list, `pending → open ↔ closed → purged`, and what is set for it: the verbs that every door uses.

Each verb opens its own transaction, checks who acts, writes the audit log and sends its notices after the commit. It raises a Refusal with a line
that says what to do. Doing a thing twice is no refusal: `changed` is False then.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from peewee import fn

from . import address, confirmation, directory, listtype, names, notice, people
from .audit import Actor, record
from .config import Config
from .database import connection, transaction
from .directory import ListView
from .i18n import N_, _
from .models import Account, Domain, ListSetting, MailingList, OldName, Role, Subscription, iso, now
from .refusal import BadData, CannotCreate, NotFound, NotPermitted
from .setting import LINE, TEXT, Kind, Setting, SettingError, choice, table
from .setting import find as find_setting

STATUSES = ("pending", "open", "closed")
REQUEST = 90 * 86400  # seconds that listmasters can answer the notice of a request
SUBJECT = 200  # characters: it stands in a header field and in tables


def _short(value: Any) -> str:
    text: str = LINE.read(value)
    if not 0 < len(text) <= SUBJECT:
        raise ValueError
    return text


# What a list has besides its settings, and every list has its own of.
PROPERTIES = table(
    [
        Setting("subject", Kind("line", N_("a line of 1 to 200 characters"), _short), "", N_("What the list is about, in a line.")),
        Setting("description", TEXT, "", N_("What the list is for, and whom.")),
        Setting(
            "organisation",
            Kind("line", N_("a line of at most 200 characters"), lambda text: _short(text) if text else ""),
            "",
            N_("Whose list it is."),
        ),
        Setting("type", choice(*listtype.TYPES), "", N_("The list's type, which sets what the list does not set itself.")),
    ]
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The list as it is now. `untold` are those whose notice Postfix did not take: the change stands, somebody should tell them."""

    list: ListView
    changed: bool = True
    advice: tuple[str, ...] = ()
    proposed: str = ""  # the name that the advice proposes
    untold: tuple[str, ...] = ()


# Finding.


def find_list(config: Config, text: str) -> ListView:
    """The list that `name` or `name@domain` names. Raises NotFound with the nearest name, BadData where the name alone says too little."""
    name, _at, given = text.strip().lower().partition("@")
    with connection():
        if given:
            found = [(name, _host(given))]
        else:
            found = list(_named(MailingList, MailingList.name == name))
            found = found or list(_named(OldName, (OldName.name == name) & (OldName.until > now())))
        if len(found) > 1:
            where = ", ".join(f"{name}@{domain}" for name, domain in found)
            raise BadData(_("{name} is the name of several lists; say which: {lists}").format(name=name, lists=where))
        view = directory.find(*found[0], config) if found else None
        if view is None:
            raise NotFound(_("there is no list {name}; {hint}").format(name=text.strip(), hint=_hint(name, given)))
        return view


def _named(model: Any, where: Any) -> Iterable[tuple[str, str]]:
    rows: Iterable[tuple[str, str]] = model.select(model.name, Domain.name).join(Domain).where(where).order_by(Domain.name).tuples()
    return rows


def _hint(name: str, domain: str) -> str:
    everything = [f"{found}@{where}" for found, where in _named(MailingList, MailingList.id.is_null(False))]
    near = difflib.get_close_matches(f"{name}@{domain}", everything, 1, 0.8) if domain else []
    if not near:
        local = difflib.get_close_matches(name, [address.partition("@")[0] for address in everything], 1, 0.6)
        near = [found for found in everything if local and found.partition("@")[0] == local[0]]
    return _("did you mean {name}?").format(name=near[0]) if near else _("kelou list list shows those there are")


def _host(domain: str) -> str:
    try:
        return address.host(domain)
    except address.AddressError:
        return domain


def _domain(name: str, domain: str) -> tuple[str, Domain]:
    """The name without a domain, and the row of the domain it names: in it, given, or the only one there is."""
    local, at, within = name.strip().partition("@")
    given = within if at else domain
    rows = list(Domain.select().order_by(Domain.name))
    if not rows:
        raise CannotCreate(_("there is no domain for lists yet; add one with: kelou domain add DOMAIN"))
    wanted = [row for row in rows if not given or row.name == _host(given.strip().lower())]
    served = ", ".join(row.name for row in rows)
    if not wanted:
        raise BadData(_("{domain} is not a domain of lists; those there are: {domains}").format(domain=given, domains=served))
    if len(wanted) > 1:
        raise BadData(_("say in which domain, as {name}@DOMAIN: {domains}").format(name=local, domains=served))
    return local, wanted[0]


def _again(config: Config, list_id: int) -> ListView:
    """The list as it is now. Raises NotFound for one that somebody purged."""
    row = directory.by_id(list_id)
    if row is None:
        raise NotFound(_("the list is gone: somebody purged it"))
    return directory.view(row, config)


# Coming into being.


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
    with transaction():
        row = _add(config, actor, name, domain, type, subject, owner, owner_name, description, organisation, language)
        view = _again(config, row.id)
        advice = names.advice(view.name, view.domain, row.organisation, config)
        told = [person["email"] for person in people.listmasters()]
        keys = {to: confirmation.make("request", view.id, people.read_address(to).key, "", REQUEST) for to in told}
        words = _advice(view, advice)
    proposed = advice.name if advice else ""
    untold = notice.send_all(
        config,
        "request",
        told,
        view,
        requester=row.requested_by,
        owners=_owners(view),
        organisation=row.organisation,
        description=row.description,
        general=advice is not None,
        proposed=proposed,
        each=lambda to: {"reply_to": f"confirm+{keys[to]}@{view.domain}"},  # the list's own addresses take no mail yet
    )
    if not told:
        words = (*words, _("nobody is told of it: there is no listmaster; add one with: kelou listmaster add EMAIL"))
    return Outcome(view, advice=words, proposed=proposed, untold=untold)


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
    with transaction():
        actor.require_listmaster()
        row = _add(config, actor, name, domain, type, subject, owner, owner_name, description, organisation, language)
        outcome = _activate(config, actor, row.id, None)
        advice = names.advice(row.name, outcome.list.domain, row.organisation, config)
        words = _advice(outcome.list, advice)
    untold = notice.send_all(config, "activated", _concerned(outcome.list), outcome.list, asked="")
    return replace(outcome, advice=words, proposed=advice.name if advice else "", untold=untold)


def _add(
    config: Config,
    actor: Actor,
    name: str,
    domain: str,
    type: str,
    subject: str,
    owner: str,
    owner_name: str,
    description: str,
    organisation: str,
    language: str | None,
) -> MailingList:
    """A pending list, with its first owner."""
    local, where = _domain(name, domain)
    local = names.check(local, where.name, config)
    properties = _read({"type": type, "subject": subject, "description": description, "organisation": organisation})
    settings = _read({"language": language} if language else {})
    address = people.read_address(owner)
    person = people.account(address, owner_name)
    row: MailingList = MailingList.create(
        domain=where,
        name=local,
        list_id=_new_list_id(local, where.name),
        requested_by=actor.name if actor.key else person.address,
        **properties,
    )
    for key, value in settings.items():
        ListSetting.create(list=row, key=key, value=listtype.SETTINGS[key].show(value))
    view = _again(config, row.id)
    misfit = people.unfit(view, address, directory.domains(), config)
    if misfit:
        raise BadData(f"{address}: {misfit}")
    Role.create(list=row, account=person, role="owner")
    record(actor, "list request", view.address, after={**properties, "owner": person.address})
    return row


def _advice(view: ListView, advice: names.Advice | None) -> tuple[str, ...]:
    return tuple(text for text in (advice.text if advice else "", people.few_owners(view)) if text)


def _owners(view: ListView) -> list[str]:
    return [person["email"] for person in people.holders(view, "owner")]


def _concerned(view: ListView) -> list[str]:
    """Who is told of a decision: the requester and the owners, each once."""
    with connection():
        row = directory.by_id(view.id)
    found = {person.casefold(): person for person in [row.requested_by if row else "", *_owners(view)] if person}
    return list(found.values())


def _new_list_id(name: str, domain: str) -> str:
    """A List-Id that no list has: a renamed one keeps its own, which may be the one that this name would give."""
    number = 1
    while True:
        found = f"{name}{'' if number == 1 else f'-{number}'}.{domain}"
        if not MailingList.select().where(MailingList.list_id == found).exists():
            return found
        number += 1


# Decisions. Each is one guarded UPDATE: of two who decide at once, the second sees what the first did.


def activate(config: Config, actor: Actor, the_list: ListView, rename: str | None = None) -> Outcome:
    """Open a pending list, under another name if one is given. An open one stays as it is; a closed one is for `reopen`."""
    with transaction():
        actor.require_listmaster()
        before = _again(config, the_list.id)
        outcome = _activate(config, actor, the_list.id, rename)
        words = _advice(outcome.list, None)
    if not outcome.changed:
        return outcome
    asked = before.name if before.name != outcome.list.name else ""
    untold = notice.send_all(config, "activated", _concerned(outcome.list), outcome.list, asked=asked)
    return replace(outcome, advice=words, untold=untold)


def _activate(config: Config, actor: Actor, list_id: int, rename: str | None) -> Outcome:
    before = _again(config, list_id)
    new = _new_name(config, before, rename) if rename else before.name
    name = {} if new == before.name else {"name": new, "list_id": _new_list_id(new, before.domain)}  # nobody has seen its List-Id yet
    changed = _turn(actor, before, "list activate", "pending", "open", **(name if before.status == "pending" else {}))
    view = _again(config, list_id)
    if view.status != "open":
        raise NotPermitted(
            _("{list} is closed, by {who}; it opens again with: kelou list reopen {list}").format(list=view.address, who=_decider(view))
        )
    if new != view.name:
        raise NotPermitted(
            _("{list} is open already; another name is for: kelou list rename {list} {new}").format(list=view.address, new=new)
        )
    return Outcome(view, changed)


def refuse(config: Config, actor: Actor, the_list: ListView, reason: str) -> Outcome:
    """Refuse a request: the list is closed, with the reason that requester and owners are told."""
    if not reason.strip():
        raise BadData(_("give a reason: who asked for the list is told it"))
    with transaction():
        actor.require_listmaster()
        changed = _turn(actor, the_list, "list refuse", "pending", "closed", reason=reason.strip())
        view = _again(config, the_list.id)
        if view.status == "open":
            raise NotPermitted(
                _("{list} is open already, by {who}; it closes with: kelou list close {list}").format(list=view.address, who=_decider(view))
            )
    return _told(config, "refused", view, changed, reason=reason.strip())


def close(config: Config, actor: Actor, the_list: ListView, reason: str = "") -> Outcome:
    """Close an open list (its owner may): it takes no mail, and keeps its subscribers and settings."""
    with transaction():
        actor.require_owner(the_list.id)
        changed = _turn(actor, the_list, "list close", "open", "closed", reason=reason.strip())
        view = _again(config, the_list.id)
        if view.status == "pending":
            raise NotPermitted(
                _("{list} is not active yet; a listmaster ends the request with: kelou list refuse {list} --reason REASON").format(
                    list=view.address
                )
            )
    return _told(config, "closed", view, changed, reason=reason.strip())


def reopen(config: Config, actor: Actor, the_list: ListView) -> Outcome:
    """Open a closed list again (also one whose request was refused)."""
    with transaction():
        actor.require_listmaster()
        changed = _turn(actor, the_list, "list reopen", "closed", "open")
        view = _again(config, the_list.id)
        if view.status == "pending":
            raise NotPermitted(_("{list} was never open; it opens with: kelou list activate {list}").format(list=view.address))
    return _told(config, "reopened", view, changed)


def rename(config: Config, actor: Actor, the_list: ListView, new: str) -> Outcome:
    """Give a list another name in its domain; the old address goes on taking mail for `lists.renamed`. Its List-Id stays, if anybody has seen it."""
    with transaction():
        actor.require_owner(the_list.id)
        before = _again(config, the_list.id)
        new = _new_name(config, before, new)
        if new == before.name:
            return Outcome(before, changed=False)
        domain = Domain.get(Domain.name == before.domain)
        OldName.delete().where(OldName.domain == domain, OldName.name << [before.name, new]).execute()  # those that expired, or its own
        seen = before.status != "pending"
        until = now() + config["lists.renamed"]
        if seen:
            OldName.create(list=before.id, domain=domain, name=before.name, until=until)
        changes = {"name": new} if seen else {"name": new, "list_id": _new_list_id(new, before.domain)}
        if not MailingList.update(**changes).where(MailingList.id == before.id, MailingList.name == before.name).execute():
            raise NotPermitted(_("somebody else has just renamed {list}; look again").format(list=before.address))
        view = _again(config, before.id)
        record(actor, "list rename", view.address, before=before.address, after=view.address)
        told = _owners(view) + [person["email"] for person in people.listmasters() if not actor.trusted]
    untold = notice.send_all(config, "renamed", told, view, old=before.address, until=until if seen else None)
    return Outcome(view, untold=untold)


def purge(config: Config, actor: Actor, the_list: ListView) -> None:
    """Delete a closed list and all that hangs on it. Raises NotPermitted while it is not closed."""
    with transaction():
        actor.require_owner(the_list.id)
        view = _again(config, the_list.id)
        gone = {"owners": _owners(view), "subscribers": Subscription.select().where(Subscription.list == view.id).count()}
        if not MailingList.delete().where(MailingList.id == view.id, MailingList.status == "closed").execute():
            raise NotPermitted(_("{list} is not closed; only closed lists are purged: kelou list close {list}").format(list=view.address))
        record(actor, "list purge", view.address, before=gone)


def _turn(actor: Actor, the_list: ListView, action: str, since: str, to: str, reason: str = "", **more: str) -> bool:
    """Bring a list from one status to another; False if it is not in the first."""
    changes = {"status": to, "decided": now(), "decided_by": actor.name, "reason": reason, **more}
    turned = MailingList.update(**changes).where(MailingList.id == the_list.id, MailingList.status == since).execute()
    if turned:
        record(actor, action, the_list.address, before=since, after={"status": to, **({"reason": reason} if reason else {}), **more})
    return bool(turned)


def _told(config: Config, template: str, view: ListView, changed: bool, **values: Any) -> Outcome:
    """The outcome of a decision, once those it concerns have been told."""
    return Outcome(view, changed, untold=notice.send_all(config, template, _concerned(view), view, **values) if changed else ())


def _decider(view: ListView) -> str:
    row = directory.by_id(view.id)
    return row.decided_by if row else ""


def _new_name(config: Config, view: ListView, text: str) -> str:
    local, at, domain = text.strip().partition("@")
    if at and _host(domain) != view.domain:
        raise BadData(_("a list stays in its domain: give a name in {domain}").format(domain=view.domain))
    return names.check(local, view.domain, config, besides=view.id)


# What is set.


def set_values(config: Config, actor: Actor, the_list: ListView, values: Mapping[str, str]) -> Outcome:
    """Set several things of a list, all or none: settings, and its subject, description, organisation and type. Raises BadData."""
    read = _read(values)
    with transaction():
        was = _before(config, actor, the_list, read)
        properties = {key: value for key, value in read.items() if key in PROPERTIES}
        if properties:
            MailingList.update(**properties).where(MailingList.id == the_list.id).execute()
        for key in read.keys() - properties.keys():
            text = listtype.SETTINGS[key].show(read[key])
            ListSetting.insert(list=the_list.id, key=key, value=text).on_conflict(
                conflict_target=[ListSetting.list, ListSetting.key], update={ListSetting.value: text}
            ).execute()
        return _after(config, actor, the_list, "list set", was)


def unset_values(config: Config, actor: Actor, the_list: ListView, keys: Iterable[str]) -> Outcome:
    """Drop the list's own values of these settings: its type's come back."""
    wanted = [_setting(key).key for key in dict.fromkeys(keys)]
    for key in wanted:
        if key in PROPERTIES:
            raise BadData(_("{key}: each list has its own; change it with kelou list set").format(key=key))
    with transaction():
        was = _before(config, actor, the_list, wanted)
        ListSetting.delete().where(ListSetting.list == the_list.id, ListSetting.key << wanted).execute()
        return _after(config, actor, the_list, "list unset", was)


def value(config: Config, the_list: ListView, key: str) -> tuple[Any, str]:
    """The value of a setting or property and where it comes from (list, type, site, default). Raises BadData for an unknown key."""
    _setting(key)
    if key not in PROPERTIES:
        return the_list[key], the_list.origins[key]
    with connection():
        return getattr(directory.by_id(the_list.id), key), "list"


def _setting(key: str) -> Setting:
    try:
        return find_setting({**PROPERTIES, **listtype.SETTINGS}, key)
    except SettingError as error:
        raise BadData(str(error)) from error


def _read(values: Mapping[str, str]) -> dict[str, Any]:
    """The values of settings and properties, read and checked. Raises BadData."""
    try:
        read = {key: _setting(key).read(text) for key, text in values.items()}
        for key, found in read.items():
            listtype.require_placeholders(key, found)
        return read
    except SettingError as error:
        raise BadData(str(error)) from error


def _before(config: Config, actor: Actor, the_list: ListView, keys: Iterable[str]) -> dict[str, Any]:
    """What these are now. Raises NotPermitted unless the actor may change all of them."""
    actor.require_owner(the_list.id)
    if not all(_setting(key).owner for key in keys):
        actor.require_listmaster()
    view = _again(config, the_list.id)
    return {key: _plain(key, value(config, view, key)[0]) for key in keys}


def _after(config: Config, actor: Actor, the_list: ListView, action: str, was: dict[str, Any]) -> Outcome:
    """Check what is set now as a whole, and write what changed to the audit log."""
    view = _again(config, the_list.id)
    if view["reply_to"] == "address" and not view["reply_to_address"]:
        raise BadData(_("reply_to: address needs a reply_to_address; set both at once"))
    now_is = {key: _plain(key, value(config, view, key)[0]) for key in was}
    if was != now_is:
        record(actor, action, view.address, before=was, after=now_is)
    return Outcome(view, changed=was != now_is)


def _plain(key: str, value: Any) -> Any:
    """A value as JSON has it: what is no truth, number or text is as the admin writes it."""
    return value if isinstance(value, (bool, int, str)) else _setting(key).show(value)


# Views.


def lists(config: Config, status: str | None = None, owner: str | None = None) -> list[dict[str, Any]]:
    """One object a list, as `--json` shows it: list, status, type, subject, owners, subscribers, created. Raises BadData."""
    if status is not None and status not in STATUSES:
        raise BadData(_("{status} is no status; it is one of: {statuses}").format(status=status, statuses=", ".join(STATUSES)))
    rows = MailingList.select(MailingList, Domain).join(Domain).order_by(Domain.name, MailingList.name)
    if status:
        rows = rows.where(MailingList.status == status)
    if owner:
        owned = Role.select(Role.list).join(Account).where(Role.role == "owner", Account.key == people.read_address(owner).key)
        rows = rows.where(MailingList.id << owned)
    with connection():
        counted = Subscription.select(Subscription.list, fn.COUNT(Subscription.id)).group_by(Subscription.list).tuples()
        subscribers = dict(counted)
        owners: dict[int, list[str]] = {}
        roles = Role.select(Role.list, Account.address).join(Account).where(Role.role == "owner").order_by(Role.id)
        for list_id, email in roles.tuples():
            owners.setdefault(list_id, []).append(email)
        return [_summary(row, owners.get(row.id, []), subscribers.get(row.id, 0)) for row in rows]


def _summary(row: MailingList, owners: list[str], subscribers: int) -> dict[str, Any]:
    return {
        "list": f"{row.name}@{row.domain.name}",
        "status": row.status,
        "type": row.type,
        "subject": row.subject,
        "owners": owners,
        "subscribers": subscribers,
        "created": iso(row.created),
    }


def describe(config: Config, the_list: ListView) -> dict[str, Any]:
    """All about one list, as `--json` shows it: what `lists` says, and description, organisation, requested_by, decided, decided_by, reason,
    moderators, old_addresses, list_id, settings: {key: {value, origin}}, advice."""
    with connection():
        view = _again(config, the_list.id)
        row = directory.by_id(the_list.id)
        assert row is not None
        advice = names.advice(view.name, view.domain, row.organisation, config) if view.status == "pending" else None
        return {
            **_summary(row, _owners(view), Subscription.select().where(Subscription.list == row).count()),
            "list_id": view.list_id,
            "description": row.description,
            "organisation": row.organisation,
            "requested_by": row.requested_by,
            "decided": iso(row.decided),
            "decided_by": row.decided_by,
            "reason": row.reason,
            "moderators": [person["email"] for person in people.holders(view, "moderator")],
            "old_addresses": list(view.old_addresses),
            "settings": {key: {"value": _plain(key, view[key]), "origin": view.origins[key]} for key in listtype.SETTINGS},
            "advice": list(_advice(view, advice)),
            "proposed": advice.name if advice else "",
        }
