"""The wording of notices: what a list or the site says instead of what Kelou says. Owners change their list's, listmasters the site's.

What is set is checked first with sample values, so that what can be known to fail is refused with its line; `kelou.template` sends the next text
where one fails all the same.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

from . import audit, notice, sample, template
from .audit import Actor
from .config import Config
from .database import connection, transaction
from .directory import ListView
from .i18n import LANGUAGES, _, known
from .models import Template, now
from .notice import Desk
from .refusal import BadData, NotFound
from .template import Text, Written

GIVEN = frozenset({"site", "list", "name", "reply_to"})  # what each template has


def find(name: str, the_list: ListView | None = None) -> str:
    """The name of a notice. Raises NotFound with the nearest one, BadData for one that no list has of its own."""
    if name not in template.names():
        near = difflib.get_close_matches(name, template.names(), 1, 0.5)
        hint = _("did you mean {name}?").format(name=near[0]) if near else _("kelou template list shows those there are")
        raise NotFound(_("there is no notice {name}; {hint}").format(name=name, hint=hint))
    if the_list and name in sample.OF_SITE:
        raise BadData(_("the notice {name} is the site's own; no list changes it").format(name=name))
    return name


def language(config: Config, code: str | None, the_list: ListView | None = None) -> str:
    """The language that was asked for, else the list's, else the site's."""
    return known(code or (the_list["language"] if the_list else config["site.language"]))


def entries(the_list: ListView | None = None) -> list[dict[str, Any]]:
    """Every notice that can be changed there, in each language: name, language, origin, changed (in seconds), by."""
    rows = []
    with connection():
        for name in template.names():
            if the_list and name in sample.OF_SITE:
                continue
            for code in LANGUAGES:
                text = current(name, code, the_list)
                row = Template.get_or_none(_where(name, code, the_list if text.origin == "list" else None))
                rows.append({"name": name, "language": code, "origin": text.origin, "changed": row and row.changed, "by": row and row.changed_by})
    return rows


def current(name: str, code: str, the_list: ListView | None = None) -> Text:
    """The text that counts."""
    with connection():
        return next(template.texts(find(name, the_list), code, the_list.id if the_list else None))


def edit(config: Config, actor: Actor, name: str, code: str, source: str, the_list: ListView | None = None) -> bool:
    """Set the text of a notice; False if it is that already. Raises BadData with the line of what is wrong in it."""
    source = source.removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}").replace("\r\n", "\n").rstrip() + "\n"
    with transaction():
        _require(actor, the_list)
        find(name, the_list)
        check(config, name, code, source, the_list)
        row = Template.get_or_none(_where(name, code, the_list))
        before = row and row.text
        if before == source:
            return False
        Template.delete().where(_where(name, code, the_list)).execute()
        Template.create(list=the_list and the_list.id, name=name, language=code, text=source, changed=now(), changed_by=actor.name)
        audit.record(actor, "template edit", the_list.address if the_list else "", f"{name} {code}", before=before, after=source)
        return True


def reset(actor: Actor, name: str, code: str, the_list: ListView | None = None) -> bool:
    """Go back to the text of the site, or of Kelou; False if there was no other."""
    with transaction():
        _require(actor, the_list)
        row = Template.get_or_none(_where(find(name, the_list), code, the_list))
        if row is None:
            return False
        Template.delete().where(_where(name, code, the_list)).execute()
        audit.record(actor, "template reset", the_list.address if the_list else "", f"{name} {code}", before=row.text)
        return True


def check(config: Config, name: str, code: str, source: str, the_list: ListView | None = None) -> None:
    """Look whether a text does for a notice, whatever it is about and whatever it is given. Raises BadData with the line of what is wrong."""
    template.check(source, GIVEN | {key for key in sample.VALUES[name] if key not in ("answers", "replied")})
    for about in _about(name, the_list):
        for values in (sample.VALUES[name], sample.least(name)):
            template.rehearse(source, code, _values(config, about, values))


def preview(config: Config, name: str, code: str, the_list: ListView | None = None) -> tuple[Text, Written]:
    """The text that counts, and what it makes of sample values."""
    text = current(name, code, the_list)
    about = next(_about(name, the_list))
    return text, template.written(text, code, _values(config, about, sample.VALUES[name]))


def page(made: Written, code: str) -> str:
    """The HTML alternative of a notice; empty where there is nothing to click."""
    return notice.alternative(made.subject, made.text, code) if made.links else ""


def _about(name: str, the_list: ListView | None) -> Iterator[ListView | Desk]:
    """What a notice may be about."""
    if name not in sample.OF_DESK:
        yield the_list or sample.LIST
    if name in sample.OF_DESK | sample.OF_BOTH:
        yield Desk(sample.LIST.commands, sample.LIST.domain, sample.LIST["language"])


def _values(config: Config, about: ListView | Desk, values: dict[str, Any]) -> dict[str, Any]:
    return {"site": config["site.name"], "list": about, "name": "Jane", "reply_to": "", **values}


def _where(name: str, code: str, the_list: ListView | None) -> Any:
    where = (Template.list == the_list.id) if the_list else Template.list.is_null()
    return where & (Template.name == name) & (Template.language == code)


def _require(actor: Actor, the_list: ListView | None) -> None:
    if the_list:
        actor.require_owner(the_list.id)
    else:
        actor.require_listmaster()
