"""People: accounts, roles and subscriptions, and the verbs on them. An account is an address as first spelled, and gives no right of itself.

Each verb opens its own transaction, checks who acts, writes the audit log and sends its notices after the commit. It raises a Refusal with a line
that says what to do; doing a thing twice is a Result like any other.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from peewee import SQL, fn

from . import destination, directory, notice, standing
from .address import Address, AddressError, parse
from .audit import Actor, record
from .config import Config
from .database import connection, transaction
from .directory import ListView
from .i18n import N_, _
from .message import decode
from .models import Account, Bounce, Domain, Listmaster, MailingList, PendingSubscription, Role, Subscription, iso, now
from .reception import DAYS, DIGESTS, MODE, RECEIVED, days
from .refusal import BadData, NotFound, NotPermitted
from .setting import BOOL, LINE, Setting, SettingError, choice, table
from .setting import find as find_setting

ROLES = ("owner", "moderator")
NAME = 150  # characters of a display name, as Sympa's gecos

# What can be changed of a subscription; `owner` says that the subscribers themselves may not.
FIELDS = table(
    [
        Setting(
            "mode",
            MODE,
            "mail",
            N_("How posts are received: mail, digest (together, each whole), digestplain (together, as one text), nomail (not at all)."),
            owner=False,
        ),
        Setting("suspended", DAYS, (), N_("From which day to which they receive nothing."), owner=False),
        Setting("own_posts", BOOL, True, N_("Whether they receive their own posts."), owner=False),
        Setting(
            "posting", choice("default", "hold", "accept", "refuse"), "default", N_("What happens to their posts, over the list's policy.")
        ),
        Setting("concealed", BOOL, False, N_("Whether other subscribers do not see them."), owner=False),
        Setting("name", LINE, "", N_("Their display name."), owner=False),
    ]
)


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


# Accounts.


def read_address(text: str) -> Address:
    """The address that somebody typed. Raises BadData with the reason."""
    try:
        return parse(text)
    except AddressError as error:
        raise BadData(_("{address!r} is not an address: {reason}").format(address=text[:254], reason=_(str(error)))) from error


def clean_name(text: str) -> str:
    """A display name as it is kept: one line, no control or direction characters, no quotes around, at most 150 characters."""
    if "=?" in text:
        text = decode(text.encode("utf-8", "replace"))
    text = " ".join(_UNSEEN.sub("", text.translate(_BLANKS)).split())
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1].replace('\\"', '"').strip()
    return text[:NAME].rstrip()


_BLANKS = dict.fromkeys([*range(32), 127, *range(0x80, 0xA0), 0x2028, 0x2029], " ")
# Zero-width and direction characters, which address books put around what is copied from them, and lone surrogates.
_UNSEEN = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


def account(address: Address | str, name: str = "", language: str = "") -> Account:
    """The account of that address, made if there is none. Spelling and name first given stay; an empty name or language is filled in. Raises BadData."""
    if isinstance(address, str):
        address = read_address(address)
    name = clean_name(name)
    with transaction():
        Account.insert(
            address=str(address), key=address.key, domain=address.host, name=name, language=language
        ).on_conflict(action="nothing").execute()
        row: Account = Account.get(Account.key == address.key)
        if (name and not row.name) or (language and not row.language):
            row.name, row.language = row.name or name, row.language or language
            row.save(only=[Account.name, Account.language])
    return row


# Roles.


def add_role(config: Config, actor: Actor, the_list: ListView, role: str, address: str, name: str = "") -> Result:
    """Make somebody owner or moderator; `already` if they are. `detail` advises a second owner where there is one only."""
    parsed = read_address(address)
    with transaction():
        actor.require_owner(the_list.id)
        misfit = unfit(the_list, parsed, directory.domains(), config)
        if misfit:
            raise BadData(f"{parsed}: {misfit}")
        row = account(parsed, name)
        added = _insert(Role, list=the_list.id, account=row, role=role)
        if added:
            record(actor, f"{role} add", the_list.address, row.address)
        return Result(row.address, "added" if added else "already", few_owners(the_list) if role == "owner" else "")


def remove_role(config: Config, actor: Actor, the_list: ListView, role: str, address: str) -> Result:
    """Take a role away. Raises NotPermitted for the last owner; `absent` if they do not hold it."""
    parsed = read_address(address)
    with transaction():
        actor.require_owner(the_list.id)
        held = (
            Role.select(Role, Account).join(Account).where(Role.list == the_list.id, Role.role == role, Account.key == parsed.key).first()
        )
        if held is None:
            return Result(str(parsed), "absent")
        other = Role.alias()
        others = other.select(SQL("1")).where(other.list == the_list.id, other.role == "owner", other.id != held.id)
        spared = fn.EXISTS(others) if role == "owner" else SQL("1 = 1")
        if not Role.delete().where(Role.id == held.id, spared).execute():
            raise NotPermitted(
                _("{address} is the last owner of {list}; make somebody else owner first").format(
                    address=held.account.address, list=the_list.address
                )
            )
        record(actor, f"{role} remove", the_list.address, held.account.address)
        return Result(held.account.address, "removed", few_owners(the_list) if role == "owner" else "")


def holders(the_list: ListView, role: str) -> list[dict[str, Any]]:
    """Who holds a role, as `--json` shows it: email, name, since."""
    query = Role.select(Account.address, Account.name, Role.since).join(Account).where(Role.list == the_list.id, Role.role == role)
    with connection():
        return [_holder(*row) for row in query.order_by(Role.id).tuples()]


def answerable(list_id: int | None, role: str) -> list[str]:
    """The addresses of those who answer for a list: its moderators (if `role` asks for them), else its owners, else the listmasters."""
    found: list[str] = []
    for one in ("moderator", "owner") if role == "moderator" else ("owner",):
        if list_id and not found:
            rows = Role.select(Account.address).join(Account).where(Role.list == list_id, Role.role == one).order_by(Role.id)
            found = [address for (address,) in rows.tuples()]
    return found or [row["email"] for row in listmasters()]


def few_owners(the_list: ListView) -> str:
    """Advice where a list has fewer than two owners; else empty. Needs a connection."""
    if Role.select().where(Role.list == the_list.id, Role.role == "owner").count() >= 2:
        return ""
    return _("{list} has only one owner; with two, it is never without").format(list=the_list.address)


def add_listmaster(config: Config, actor: Actor, address: str, name: str = "") -> Result:
    """Make somebody a site administrator."""
    with transaction():
        actor.require_listmaster()
        row = account(address, name)
        added = _insert(Listmaster, account=row)
        if added:
            record(actor, "listmaster add", object=row.address)
        return Result(row.address, "added" if added else "already")


def remove_listmaster(config: Config, actor: Actor, address: str) -> Result:
    """Take that away; NotPermitted for the last one unless the shell's user asks."""
    parsed = read_address(address)
    with transaction():
        actor.require_listmaster()
        held = Listmaster.select(Listmaster, Account).join(Account).where(Account.key == parsed.key).first()
        if held is None:
            return Result(str(parsed), "absent")
        if not actor.trusted and Listmaster.select().count() < 2:
            raise NotPermitted(_("{address} is the last listmaster; name another one first").format(address=held.account.address))
        Listmaster.delete().where(Listmaster.id == held.id).execute()
        record(actor, "listmaster remove", object=held.account.address)
        return Result(held.account.address, "removed")


def listmasters() -> list[dict[str, Any]]:
    """The site administrators, as `--json` shows them: email, name, since."""
    query = Listmaster.select(Account.address, Account.name, Listmaster.since).join(Account).order_by(Listmaster.id)
    with connection():
        return [_holder(*row) for row in query.tuples()]


# Subscriptions.


def require_open(config: Config, actor: Actor, the_list: ListView, force: bool) -> None:
    """Raises NotPermitted unless they may add subscribers to that list now. Needs a connection."""
    actor.require_owner(the_list.id)
    if force:
        actor.require_listmaster()
    elif the_list.status == "pending" and not config["lists.pending_subscribers"]:
        raise NotPermitted(
            _("{list} is not active yet: subscribers can be added once a listmaster has activated it").format(list=the_list.address)
        )
    elif the_list.status == "closed":
        raise NotPermitted(_("{list} is closed: nobody can be added until a listmaster reopens it").format(list=the_list.address))


def unfit(the_list: ListView, address: Address, domains: Collection[str], config: Config) -> str:
    """Why an address can not be a subscriber's or an owner's: mail for it would come back to the list for ever. Empty if it can."""
    if address.host not in domains:
        return ""
    own = destination.resolve(address.key, config)
    if own is None or (own.function == "post" and own.list and own.list.id != the_list.id):
        return ""  # another list may well be a subscriber
    return _("that is an address of the list service itself")


def subscribe(
    config: Config,
    actor: Actor,
    the_list: ListView,
    address: str,
    name: str = "",
    source: str = "add",
    *,
    force: bool = False,
    quiet: bool = False,
    consent: str = "",
    answers: str = "",
) -> Result:
    """Add a subscriber: added, already, blocked or full. They get a welcome unless `quiet`. `force`, for listmasters, adds to a pending list too.
    Raises BadData for a broken address, NotPermitted while the list is pending or closed.

    `consent` is how the subscribers themselves asked for it; then no owner has to act. `answers` is the Message-ID that the welcome answers."""
    parsed = read_address(address)
    own = bool(consent)
    with transaction():
        require_open(config, Actor(actor.name) if own else actor, the_list, force)
        misfit = unfit(the_list, parsed, directory.domains(), config)
        if misfit:
            raise BadData(f"{parsed}: {misfit}")
        if standing.of(the_list.id, parsed.key).subscriber:
            return Result(account(parsed, name).address, "already")
        pattern = standing.blocked(the_list.id, parsed.key)
        if pattern:
            return Result(str(parsed), "blocked", blocked_by(pattern))
        limit = the_list["max_subscribers"]
        if limit and Subscription.select().where(Subscription.list == the_list.id).count() >= limit:
            return Result(str(parsed), "full", full_at(limit))
        row = account(parsed, name)
        if not _insert(Subscription, list=the_list.id, account=row, own_posts=the_list["own_posts"], source=source, added_by=actor.name, consent=consent):
            return Result(row.address, "already")
        PendingSubscription.delete().where(PendingSubscription.list == the_list.id, PendingSubscription.key == parsed.key).execute()
        record(actor, "member add", the_list.address, row.address, after={"source": source, **({"consent": consent} if own else {})})
    if quiet or the_list.status != "open":
        return Result(row.address, "added")
    values = {"actor": actor.key and actor.name, "own": own, "answers": answers, "replied": bool(answers)}
    return Result(row.address, "added", told=notice.send(config, "subscribed", row.address, the_list, **values))


def blocked_by(pattern: str) -> str:
    """The line for somebody on the block list."""
    return _("on the block list: {pattern}").format(pattern=pattern)


def full_at(limit: int) -> str:
    """The line for a list that has all the subscribers it may have."""
    return _("the list has the {limit} subscribers it may have; a listmaster can raise max_subscribers").format(limit=limit)


def unsubscribe(config: Config, actor: Actor, the_list: ListView, address: str, *, quiet: bool = False, answers: str = "") -> Result:
    """Remove a subscriber: removed or absent. Owners may, and everyone for themselves, whatever the list's state."""
    parsed = read_address(address)
    with transaction():
        if actor.key != parsed.key:
            actor.require_owner(the_list.id)
        held = _subscription(the_list, parsed)
        if held is None or not Subscription.delete().where(Subscription.id == held.id).execute():
            return Result(str(parsed), "absent")
        record(actor, "member remove", the_list.address, held.account.address, before=_row(held))
    if quiet or the_list.status != "open":
        return Result(held.account.address, "removed")
    values = {"answers": answers, "replied": bool(answers)}
    return Result(held.account.address, "removed", told=notice.send(config, "unsubscribed", held.account.address, the_list, **values))


def update(config: Config, actor: Actor, the_list: ListView, address: str, values: Mapping[str, str]) -> dict[str, Any]:
    """Change a subscriber's mode (mail, digest, digestplain, nomail), suspended (FROM..UNTIL, no), own_posts (yes, no), posting (default, hold,
    accept, refuse), concealed or name; all or none. Returns their row as `subscribers` shows it. Raises BadData, NotFound."""
    parsed = read_address(address)
    try:
        read = {key: find_setting(FIELDS, key).read(text) for key, text in values.items()}
    except SettingError as error:
        raise BadData(str(error)) from error
    with transaction():
        if actor.key != parsed.key or any(FIELDS[key].owner for key in read):
            actor.require_owner(the_list.id)
        held = _subscription(the_list, parsed)
        if held is None:
            raise NotFound(_("{address} is not subscribed to {list}").format(address=parsed, list=the_list.address))
        if read.get("mode") in DIGESTS and not the_list["digest"]:
            raise NotPermitted(_("{list} has no digests").format(list=the_list.address))
        before = _row(held)
        if "name" in read:
            held.account.name = clean_name(read.pop("name"))
            held.account.save(only=[Account.name])
        if "suspended" in read:
            held.suspended_from, held.suspended_until = read.pop("suspended") or (None, None)
            if held.suspended_until and held.suspended_until <= now():
                raise BadData(_("{days} is over already").format(days=values["suspended"]))
        for key, value in read.items():
            setattr(held, key, "" if value == "default" else value)
        if read.get("mode") in RECEIVED and before["mode"] == "suspended":  # what came back before says nothing any more
            held.failing, held.reachable, held.bounce_score = "", now(), None
        held.save(only=[getattr(Subscription, key) for key in _CHANGED])
        after = _row(held)
        if after != before:
            record(actor, "member set", the_list.address, held.account.address, before, after)
    return after


_CHANGED = ("mode", "suspended_from", "suspended_until", "own_posts", "posting", "concealed", "failing", "reachable", "bounce_score")


def subscribers(the_list: ListView) -> Iterator[dict[str, Any]]:
    """The subscribers by address, as `--json` shows them: email, name, mode, suspended, own_posts, posting, since,
    source, concealed, consent, bounce_score."""
    query = Subscription.select(*_COLUMNS).join(Account).where(Subscription.list == the_list.id).order_by(Account.key).tuples()
    with connection():
        for row in query.iterator():
            yield _fields(*row)


def find(config: Config, address: str) -> list[dict[str, Any]]:
    """Where an address is on this site: list, roles, and its subscription's fields (null if not subscribed). Raises NotFound, BadData."""
    parsed = read_address(address)
    found: dict[str, dict[str, Any]] = {}
    with connection():
        on_list = [Domain.name, MailingList.name]
        roles = Role.select(*on_list, Account.address, Account.name, Role.role).join(Account).switch(Role).join(MailingList).join(Domain)
        for domain, name, email, shown, role in roles.where(Account.key == parsed.key).order_by(Role.id).tuples():
            entry = found.setdefault(f"{name}@{domain}", _nowhere(email, shown))
            entry["roles"].append(role)
        query = Subscription.select(*on_list, *_COLUMNS).join(Account).switch(Subscription).join(MailingList).join(Domain)
        for domain, name, *row in query.where(Account.key == parsed.key).tuples():
            fields = _fields(*row)
            found.setdefault(f"{name}@{domain}", _nowhere(fields["email"], fields["name"])).update(fields)
    if not found:
        raise NotFound(_("{address} is on no list").format(address=parsed))
    return [{"list": name, **found[name]} for name in sorted(found)]


def move(config: Config, actor: Actor, old: str, new: str) -> Result:
    """Give a person another address, on all lists at once: moved, or merged with the account that has it. Raises NotFound, BadData."""
    source, target = read_address(old), read_address(new)
    with transaction():
        actor.require_listmaster()
        held = Account.get_or_none(Account.key == source.key)
        if held is None:
            raise NotFound(_("nobody has the address {address}").format(address=source))
        pattern = standing.blocked(None, target.key)
        if pattern:
            raise NotPermitted(f"{target}: {blocked_by(pattern)}")
        other = Account.get_or_none(Account.key == target.key, Account.id != held.id)
        before = held.address
        if source.key != target.key:
            Bounce.delete().where(Bounce.account == held).execute()  # they say nothing of the new address
            Subscription.update(failing="", bounce_score=None).where(Subscription.account == held).execute()
            Subscription.update(mode="mail").where(Subscription.account == held, Subscription.mode == "suspended").execute()
        if other is None:
            held.address, held.key, held.domain = str(target), target.key, target.host
            held.save(only=[Account.address, Account.key, Account.domain])
        else:
            _merge(held, other)
        record(actor, "member move", object=before, before=before, after=str(target))
    return Result(str(target), "merged" if other else "moved")


def merges(old: str, new: str) -> bool:
    """Whether `move` would make one of two people whom we know."""
    keys = {read_address(old).key, read_address(new).key}
    with connection():
        return len(keys) == 2 and Account.select().where(Account.key << keys).count() == 2


def _merge(old: Account, new: Account) -> None:
    """Everything of one account goes to the other, which keeps what it has: its own subscription says how it wants its mail."""
    for model, unique in ((Subscription, ("list",)), (Role, ("list", "role")), (Listmaster, ())):
        has = {tuple(row.__data__[key] for key in unique) for row in model.select().where(model.account == new)}
        for row in model.select().where(model.account == old):
            if tuple(row.__data__[key] for key in unique) not in has:
                model.update(account=new).where(model.id == row.id).execute()
    if old.name and not new.name:
        new.name = old.name
        new.save(only=[Account.name])
    Account.delete().where(Account.id == old.id).execute()  # what it still has goes with it


_COLUMNS = (
    Account.address,
    Account.name,
    Subscription.mode,
    Subscription.suspended_from,
    Subscription.suspended_until,
    Subscription.own_posts,
    Subscription.posting,
    Subscription.since,
    Subscription.source,
    Subscription.concealed,
    Subscription.consent,
    Subscription.bounce_score,
)


def _fields(
    email: str,
    name: str,
    mode: str,
    first: int | None,
    last: int | None,
    own_posts: bool,
    posting: str,
    since: int,
    source: str,
    concealed: bool,
    consent: str,
    bounce_score: int | None,
) -> dict[str, Any]:
    return {
        "email": email,
        "name": name,
        "mode": mode,
        "suspended": days((first, last)) if first is not None and last is not None and last > now() else None,
        "own_posts": bool(own_posts),
        "posting": posting or "default",
        "since": iso(since),
        "source": source,
        "concealed": bool(concealed),
        "consent": consent,
        "bounce_score": bounce_score,
    }


def _row(held: Subscription) -> dict[str, Any]:
    who = held.account
    wanted = (held.mode, held.suspended_from, held.suspended_until, held.own_posts, held.posting)
    return _fields(who.address, who.name, *wanted, held.since, held.source, held.concealed, held.consent, held.bounce_score)


def _nowhere(email: str, name: str) -> dict[str, Any]:
    """The row of somebody who is not subscribed."""
    fields = ("mode", "suspended", "own_posts", "posting", "since", "source", "concealed", "consent", "bounce_score")
    return {"roles": [], "email": email, "name": name, **dict.fromkeys(fields)}


def _holder(email: str, name: str, since: int) -> dict[str, Any]:
    return {"email": email, "name": name, "since": iso(since)}


def _subscription(the_list: ListView, address: Address) -> Subscription | None:
    query = Subscription.select(Subscription, Account).join(Account)
    found: Subscription | None = query.where(Subscription.list == the_list.id, Account.key == address.key).first()
    return found


def _insert(model: Any, **values: Any) -> bool:
    """Insert a row; False if its like is there already, also if somebody put it there this moment."""
    return bool(model.insert(**values).on_conflict(action="nothing").as_rowcount().execute())
