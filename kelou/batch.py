"""Subscribing many at once from a file (abonnements par lots): one person a line, bad lines reported, good ones in.

A line is `Email[space]Name`, as Sympa has it, or `Name <email>`, or CSV with commas, semicolons or tabs, with or without a line of column names.
`#` begins a comment, blank lines do not count. Files come from spreadsheets, address books and other list servers, in any encoding, and sometimes
in two of them.
"""

from __future__ import annotations

import codecs
import csv
import re
import unicodedata
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from peewee import Value

from . import database, directory, notice, people, standing
from .address import Address, AddressError
from .address import parse as parse_address
from .audit import Actor, record
from .config import Config
from .database import transaction
from .directory import ListView
from .i18n import _, ngettext
from .models import Account, Block, Subscription, now
from .people import clean_name
from .refusal import BadData, TryAgain

CHUNK = 500  # rows in one statement: SQLite takes 32,766 values in one
LONGEST = 2000  # characters of a line that can name somebody
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Line:
    """A line that names somebody, or fails to: then `address` is None, and `error` says why."""

    number: int
    input: str
    address: Address | None = None
    name: str = ""
    error: str = ""


@dataclass(slots=True)
class Report:
    """What became of each line. `lines` are objects {line, input, result, detail}; result: added, already, invalid, blocked, full, removed
    (whose `line` is null and `input` the address)."""

    added: int = 0
    already: int = 0
    invalid: int = 0
    blocked: int = 0
    full: int = 0
    removed: int = 0
    lines: list[dict[str, Any]] = field(default_factory=list)
    untold: int = 0  # welcomes and goodbyes that Postfix did not take

    @property
    def rejected(self) -> list[str]:
        """The lines that did not get in, as they were: for --reject-file."""
        return [line["input"] for line in self.lines if line["result"] in ("invalid", "blocked", "full")]

    @property
    def complete(self) -> bool:
        """Whether every line got in."""
        return not self.invalid and not self.blocked and not self.full

    @property
    def summary(self) -> str:
        """The numbers in a line, in the language in force."""
        counts = (
            (self.added, ngettext("{number} added", "{number} added", self.added)),
            (self.already, ngettext("{number} there already", "{number} there already", self.already)),
            (self.removed, ngettext("{number} removed", "{number} removed", self.removed)),
            (self.invalid, ngettext("{number} not valid", "{number} not valid", self.invalid)),
            (self.blocked, ngettext("{number} blocked", "{number} blocked", self.blocked)),
            (self.full, ngettext("{number} over the limit", "{number} over the limit", self.full)),
        )
        return ", ".join(text.format(number=number) for number, text in counts if number) or _("nothing to do")

    def note(self, number: int | None, given: str, result: str, detail: str = "") -> None:
        """Count a result and keep it."""
        setattr(self, result, getattr(self, result) + 1)
        self.lines.append({"line": number, "input": given, "result": result, "detail": detail})


# Reading.

_LINE_END = re.compile(rb"\r\n|\r|\n")
_UNSEEN = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
_BLANKS = {
    ord(c): " "
    for c in "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000\x0b\x0c\x85\u2028\u2029"
}
_ODD = re.compile(f"[{''.join(map(chr, _BLANKS))}]|{_UNSEEN.pattern}")
_ANGLE = re.compile(r"(?P<name>[^<>]*)<\s*(?:mailto:)?(?P<email>[^<>]*?)\s*>[\s,;]*")
_FIRST = re.compile(r"""(["']?)(?P<email>[^\s"<>,;@]+@[^\s"<>,;]+?)\1(?P<rest>|[\s,;].*)""", re.DOTALL)
_COLUMNS = {
    **dict.fromkeys(("email", "emailaddress", "mail", "address", "adresse", "courriel", "adressemail", "adresseemail", "adresseelectronique", "mel"), "email"),
    **dict.fromkeys((
        "name", "nom", "prenom", "firstname", "lastname", "fullname", "displayname", "surname", "givenname", "nomprenom", "prenomnom", "nomcomplet",
        "nomaffiche", "nomdefamille", "gecos",
    ), "name"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Columns:
    """What a file's first line says of the others."""

    delimiter: str
    email: int  # -1: the address, a blank and the name, as without column names
    names: tuple[int, ...]


def parse(data: bytes) -> Iterator[Line]:
    """The people in a file of any of those forms, in any usual encoding. Never raises."""
    columns: _Columns | None = None
    first = True
    for number, given in enumerate(_lines(data), 1):
        text = _tidy(given)
        if not text or text.startswith("#"):
            continue
        if first:
            first = False
            columns = _header(text)
            if columns:
                continue
        yield _line(number, given, text, columns)


def _lines(data: bytes) -> Iterator[str]:
    """The lines as text. Each is decoded by itself: files that were put together from two have two encodings."""
    data = _narrow(data)
    at = len(codecs.BOM_UTF8) if data.startswith(codecs.BOM_UTF8) else 0
    while at < len(data):
        end = _LINE_END.search(data, at)
        yield _decode(data[at : end.start() if end else None])
        at = end.end() if end else len(data)


def _narrow(data: bytes) -> bytes:
    """UTF-16, which says so at its beginning, as UTF-8; all else as it is."""
    for mark, encoding in ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")):
        if data.startswith(mark):
            return data[2:].decode(encoding, "replace").encode("utf-8", "replace")
    return data


def _decode(line: bytes) -> str:
    for encoding in ("utf-8", "cp1252"):
        try:
            return line.decode(encoding)
        except UnicodeDecodeError:
            continue
    return line.decode("latin-1")


def _tidy(text: str) -> str:
    """The text without what one does not see: characters that spreadsheets and address books leave around what is copied from them."""
    if not text.isascii() and _ODD.search(text):
        text = _UNSEEN.sub("", text).translate(_BLANKS)
    return text.strip()


def _line(number: int, given: str, text: str, columns: _Columns | None) -> Line:
    if len(text) > LONGEST:
        return Line(number, given, error=_("longer than any line that names one person"))
    email, name, certain = (columns and _by_columns(text, columns)) or _cut(text)
    try:
        address = parse_address(email)
    except AddressError as error:
        return Line(number, given, error=_(str(error)))
    name = clean_name(name) if name else ""
    if "@" in name and not certain:
        if name.lower() == address.key:
            name = ""
        elif any(_is_address(word) for word in name.split()):
            return Line(number, given, error=_("more than one address"))
    return Line(number, given, address, name)


def _is_address(text: str) -> bool:
    try:
        parse_address(text.strip("<>,;()"))
    except AddressError:
        return False
    return True


def _cut(text: str) -> tuple[str, str, bool]:
    """The address and the name in a line, by its looks, and whether quotes say that the name is one, whatever stands in it."""
    angle = _ANGLE.fullmatch(text)
    if angle:
        return angle["email"], angle["name"], _quoted(angle["name"].strip()) and angle["name"].count('"') == 2
    first = _FIRST.fullmatch(text)
    if first:
        rest = first["rest"].strip()
        if rest.startswith((",", ";")):
            cells = _csv(rest[1:], rest[0])
            return first["email"], " ".join(cells), '"' in rest and not any(map(_is_address, cells))
        return first["email"], rest, _quoted(rest)
    for delimiter in ";\t,":  # the address in another column than the first
        cells = _csv(text, delimiter)
        places = [place for place, cell in enumerate(cells) if "@" in cell and " " not in cell]
        if len(places) == 1 and len(cells) > 1:
            return cells.pop(places[0]), " ".join(cells), False
    return (text if text.startswith('"') else text.split()[0]), "", False


def _quoted(name: str) -> bool:
    return len(name) > 1 and name[0] == name[-1] == '"'


def write(email: str, name: str) -> str:
    """A line that `parse` reads as this person: `Email Name`, with quotes around a name that would else be read as something more."""
    line = f"{email} {name}".strip()
    return line if [read.name for read in parse(line.encode("utf-8", "replace"))] == [name] else '{} "{}"'.format(email, name.replace('"', '\\"'))


def _csv(text: str, delimiter: str) -> list[str]:
    """The cells of a line of CSV (RFC 4180, and other delimiters), without blanks around them."""
    if '"' not in text:
        return [cell.strip() for cell in text.split(delimiter)]
    try:
        return [cell.strip() for cell in next(csv.reader([text], delimiter=delimiter, skipinitialspace=True), [])]
    except csv.Error:
        return [cell.strip() for cell in text.split(delimiter)]


def _header(text: str) -> _Columns | None:
    """The columns, if this is a line of column names, one of which is an address's."""
    if "@" in text:
        return None
    if all(_plain(word) in _COLUMNS for word in text.split()) and _COLUMNS[_plain(text.split()[0])] == "email":
        return _Columns(" ", -1, ())
    for delimiter in ";\t,":
        kinds = [_COLUMNS.get(_plain(cell)) for cell in _csv(text, delimiter)]
        if "email" in kinds and len(kinds) > 1:
            return _Columns(delimiter, kinds.index("email"), tuple(place for place, kind in enumerate(kinds) if kind == "name"))
    return None


def _plain(cell: str) -> str:
    """A column's name without accents, case, blanks and signs."""
    return re.sub(r"[^a-z]", "", unicodedata.normalize("NFKD", cell).lower())


def _by_columns(text: str, columns: _Columns) -> tuple[str, str, bool] | None:
    cells = _csv(text, columns.delimiter)
    if not 0 <= columns.email < len(cells) or "@" not in cells[columns.email] or "<" in cells[columns.email]:
        return None  # not a line as the first one announced: go by its looks
    return cells[columns.email], " ".join(cells[place] for place in columns.names if place < len(cells)), True


# Subscribing.


def apply(
    config: Config,
    actor: Actor,
    the_list: ListView,
    data: bytes,
    *,
    sync: bool = False,
    quiet: bool = False,
    dry_run: bool = False,
    force: bool = False,
    source: str = "import",
) -> Report:
    """Subscribe everybody in the file, in one transaction; with `sync` remove who is not in it. A file that is no text is refused, and one without a good
    line never syncs (BadData)."""
    if b"\0" in _narrow(data):  # in no text of any encoding that we read, and in every spreadsheet, archive and picture
        raise BadData(_("this is no text; save it as text or CSV first"))
    lines = list(parse(data))
    if sync and not any(line.address for line in lines):
        raise BadData(_("there is no address in it: nobody is removed on the word of an empty file"))
    report = Report()
    with database.rehearsal() if dry_run else transaction():
        people.require_open(config, actor, the_list, force)
        subscribed = _subscribed(the_list)
        gone = _remove_others(the_list, subscribed, lines, report) if sync else []
        new = _sort_out(config, the_list, subscribed.keys() - {key for key, _email in gone}, lines, report)
        for chunk in _chunks(new):
            _insert(actor, the_list, chunk, source)
        for chunk in _chunks([line for line in lines if line.address and line.name]):
            _name(chunk)
        if new or gone:
            removed = [email for _key, email in gone]
            record(actor, "member import", the_list.address, source, {"removed": removed} if removed else None, {"added": report.added})
    if not quiet and not dry_run and the_list.status == "open":
        by = actor.name if actor.key else ""
        report.untold = len(notice.send_all(config, "subscribed", [str(line.address) for line in new], the_list, actor=by, own=False))
        report.untold += len(notice.send_all(config, "unsubscribed", [email for _key, email in gone], the_list))
    return report


def _subscribed(the_list: ListView) -> dict[str, str]:
    """The list's subscribers: the address of each key."""
    query = Subscription.select(Account.key, Account.address).join(Account).where(Subscription.list == the_list.id)
    return dict(query.order_by(Account.key).tuples().iterator())


def _remove_others(the_list: ListView, subscribed: dict[str, str], lines: list[Line], report: Report) -> list[tuple[str, str]]:
    """Remove the subscribers that no line names; returns key and address of each."""
    wanted = {line.address.key for line in lines if line.address}
    gone = [(key, email) for key, email in subscribed.items() if key not in wanted]
    for chunk in _chunks(gone):
        accounts = Account.select(Account.id).where(Account.key << [key for key, _email in chunk])
        Subscription.delete().where(Subscription.list == the_list.id, Subscription.account << accounts).execute()
    for _key, email in gone:
        report.note(None, email, "removed")
    return gone


def _sort_out(config: Config, the_list: ListView, subscribed: Collection[str], lines: list[Line], report: Report) -> list[Line]:
    """Note what becomes of each line; returns those that are to be added."""
    domains = directory.domains()
    exact, patterns = _blocks(the_list)
    limit = the_list["max_subscribers"]
    seen: dict[str, int] = {}
    new: list[Line] = []
    for line in lines:
        if line.address is None:
            report.note(line.number, line.input, "invalid", line.error)
            continue
        key = line.address.key
        if key in seen:
            report.note(line.number, line.input, "already", _("the same address as in line {line}").format(line=seen[key]))
            continue
        seen[key] = line.number
        misfit = people.unfit(the_list, line.address, domains, config)
        pattern = key if key in exact else next((p for p in patterns if standing.matches(p, key)), "")
        if misfit:
            report.note(line.number, line.input, "invalid", misfit)
        elif key in subscribed:
            report.note(line.number, line.input, "already")
        elif pattern:
            report.note(line.number, line.input, "blocked", people.blocked_by(pattern))
        elif limit and len(subscribed) + len(new) >= limit:
            report.note(line.number, line.input, "full", people.full_at(limit))
        else:
            report.note(line.number, line.input, "added")
            new.append(line)
    return new


def _blocks(the_list: ListView) -> tuple[frozenset[str], list[str]]:
    """The block lists that matter here: whole addresses, to look up, and patterns, to try."""
    query = Block.select(Block.pattern).where(Block.list.is_null() | (Block.list == the_list.id)).order_by(Block.id)
    every = [pattern.lower() for (pattern,) in query.tuples()]
    exact = frozenset(p for p in every if "@" in p.lstrip("@") and "*" not in p and "?" not in p)
    return exact, [p for p in every if p not in exact]


def _insert(actor: Actor, the_list: ListView, lines: list[Line], source: str) -> None:
    """Subscribe these, who are not. Raises TryAgain if not every one of them is inserted."""
    at = now()
    addresses = [(line.address, line.name) for line in lines if line.address]
    rows = [(str(address), address.key, address.host, name, "", at) for address, name in addresses]
    fields = [Account.address, Account.key, Account.domain, Account.name, Account.language, Account.created]
    # DO NOTHING is of one who is there; INSERT OR IGNORE would let a row go that the schema does not take, and nobody would know.
    Account.insert_many(rows, fields).on_conflict(action="nothing").execute()
    # The defaults are the model's, not the database's.
    given = {"list": the_list.id, "own_posts": the_list["own_posts"], "since": at, "source": source, "added_by": actor.name}
    values = {getattr(Subscription, name): value for name, value in (Subscription._meta.get_default_dict() | given).items()}
    accounts = Account.select(Account.id, *(Value(value) for value in values.values())).where(
        Account.key << [a.key for a, _name in addresses]
    )
    inserted = Subscription.insert_from(accounts, [Subscription.account, *values]).on_conflict(action="nothing").as_rowcount().execute()
    if inserted != len(lines):  # what the report says of each line has to be so
        raise TryAgain(_("somebody else is adding subscribers to {list} at this moment: nothing is done; try again").format(list=the_list.address))


def _name(lines: list[Line]) -> None:
    """Fill in the names of accounts that have none."""
    names = {line.address.key: line.name for line in reversed(lines) if line.address}
    for (key,) in list(Account.select(Account.key).where(Account.key << list(names), Account.name == "").tuples()):
        Account.update(name=names[key]).where(Account.key == key, Account.name == "").execute()


def _chunks(items: list[T]) -> Iterator[list[T]]:
    for start in range(0, len(items), CHUNK):
        yield items[start : start + CHUNK]
