"""Which lists there are and what is set for them: read-only views for the doors and for rules, fetched with as little SQL as possible."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import listtype
from .config import Config
from .database import Prepared
from .models import Domain, ListSetting, MailingList, OldName, now
from .setting import SettingError

TRIGGER = "kelou-distribute"  # with a held post's id behind a +, the local part of the address that starts the distribution of an approved post


@dataclass(frozen=True, slots=True)
class ListView:
    """A list as it stands now. `list["post"]` is the value of a setting, whoever set it."""

    id: int
    name: str
    domain: str
    list_id: str
    status: str
    type: str
    subject: str
    settings: Mapping[str, Any]
    origins: Mapping[str, str]
    old_addresses: tuple[str, ...] = ()
    commands: str = ""  # the address that takes mail commands

    def __getitem__(self, key: str) -> Any:
        return self.settings[key]

    @property
    def address(self) -> str:
        return f"{self.name}@{self.domain}"

    def sub(self, function: str, token: str = "") -> str:
        """The list's address for a function: `LIST-bounces@domain`, `LIST-confirm+TOKEN@domain`.

        Where that would be longer than a local part may be (RFC 5321 section 4.5.3.1.1), `confirm+TOKEN@domain`: the token knows its list.
        """
        local = f"{self.name}-{function}{'+' + token if token else ''}"
        return f"{local if len(local) <= 64 or not token else function + '+' + token}@{self.domain}"


def view(row: MailingList, config: Config) -> ListView:
    """The view of a row of the table."""
    own: dict[str, Any] = {}
    for key, text in _SETTINGS(row.id):
        if key in listtype.SETTINGS:  # a setting of a later version is kept, and not looked at
            try:
                own[key] = listtype.SETTINGS[key].read(text)
            except SettingError:
                continue  # its type was narrowed since: the default serves
    old = _OLD_NAMES(row.id, now())
    resolved = listtype.resolve(row.type, own, config)
    return ListView(
        id=row.id,
        name=row.name,
        domain=row.domain.name,
        list_id=row.list_id,
        status=row.status,
        type=row.type,
        subject=row.subject,
        settings={key: value for key, (value, _origin) in resolved.items()},
        origins={key: origin for key, (_value, origin) in resolved.items()},
        commands="".join(f"{local}@{row.domain.name}" for local in config["site.command_addresses"][:1]),
        old_addresses=tuple(f"{name}@{domain}" for name, domain in old),
    )


def find(name: str, domain: str, config: Config) -> ListView | None:
    """The list of that name, or of that old name for as long as it answers. Names and domains are in lower case."""
    found = _BY_NAME(name, domain) or _BY_OLD_NAME(name, domain, now())
    row = by_id(found[0][0]) if found else None
    return view(row, config) if row else None


def by_id(list_id: int) -> MailingList | None:
    """The row of that number, with its domain."""
    row: MailingList | None = MailingList.select(MailingList, Domain).join(Domain).where(MailingList.id == list_id).first()
    return row


def domains() -> frozenset[str]:
    """The domains that lists live in."""
    return frozenset(name for (name,) in _DOMAINS())


_DOMAINS = Prepared(lambda: Domain.select(Domain.name))
_SETTINGS = Prepared(lambda list_id: ListSetting.select(ListSetting.key, ListSetting.value).where(ListSetting.list == list_id))
_OLD_NAMES = Prepared(
    lambda list_id, time: OldName.select(OldName.name, Domain.name).join(Domain).where(OldName.list == list_id, OldName.until > time)
)
_BY_NAME = Prepared(lambda name, domain: MailingList.select(MailingList.id).join(Domain).where(Domain.name == domain, MailingList.name == name))
_BY_OLD_NAME = Prepared(
    lambda name, domain, time: OldName.select(OldName.list).join(Domain).where(Domain.name == domain, OldName.name == name, OldName.until > time)
)
