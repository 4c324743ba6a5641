"""A setting: its key, type, default and a sentence for the admin, once, for the configuration file and for lists alike.

A type is a `Kind`: how a text is read, what would be right when it can not be, and how a value is shown.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from . import address
from .i18n import N_, _


class SettingError(ValueError):
    """A key or value that can not be; the message names the key and says what would be right."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of setting. `read` takes a text or a TOML value and raises ValueError; `says` completes "must be …"."""

    name: str
    says: str
    read: Callable[[Any], Any]
    show: Callable[[Any], str] = str
    values: tuple[str, ...] = ()  # of a choice

    @property
    def right(self) -> str:
        """What would be right, in the language in force."""
        return _(self.says).format(values=", ".join(self.values))


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting. `help` is a sentence for the admin, `owner` says whether an owner may change it (else only a listmaster)."""

    key: str
    kind: Kind
    default: Any
    help: str
    owner: bool = True

    def read(self, value: Any) -> Any:
        """The value of this setting from a text or a TOML value. Raises SettingError."""
        try:
            return self.kind.read(value)
        except (ValueError, TypeError, AttributeError) as error:
            raise SettingError(
                _("{key}: {value!r} is not right; it must be {says}").format(key=self.key, value=value, says=self.kind.right)
            ) from error

    def show(self, value: Any) -> str:
        """The value as the admin writes it."""
        return self.kind.show(value)


def find(table: Mapping[str, Setting], key: str) -> Setting:
    """The setting of that key. Raises SettingError with the nearest key there is."""
    if key in table:
        return table[key]
    near = difflib.get_close_matches(key, table, 1, 0.5)
    hint = _("did you mean {key}?").format(key=near[0]) if near else _("the keys are: {keys}").format(keys=", ".join(table))
    raise SettingError(_("{key}: there is no such setting; {hint}").format(key=key, hint=hint))


def table(settings: Iterable[Setting]) -> dict[str, Setting]:
    """Settings by key, in their order."""
    return {setting.key: setting for setting in settings}


_UNITS = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
_TIMES = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_WORDS = {
    "yes": True,
    "true": True,
    "on": True,
    "1": True,
    "oui": True,
    "no": False,
    "false": False,
    "off": False,
    "0": False,
    "non": False,
}


def _bool(value: Any) -> bool:
    return value if isinstance(value, bool) else _WORDS[str(value).strip().lower()] if str(value).strip().lower() in _WORDS else _refuse()


def _refuse() -> Any:
    raise ValueError


def _int(value: Any) -> int:
    number = int(str(value).strip()) if not isinstance(value, bool) else _refuse()
    return number if number >= 0 else _refuse()


def _measure(units: Mapping[str, int], value: Any) -> int:
    match = re.fullmatch(r"\s*([0-9]{1,15})\s*([a-zA-Z]?)[bBoO]?\s*", str(value)) if not isinstance(value, bool) else None
    if not match or match[2].lower() not in units:
        raise ValueError
    return int(match[1]) * units[match[2].lower()]


def _show_measure(units: Mapping[str, int], value: int) -> str:
    for unit, size in sorted(units.items(), key=lambda pair: (-pair[1], not pair[0])):
        if value and value % size == 0 and (unit or size == 1):
            return f"{value // size}{unit}"
    return str(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or any(ord(c) < 32 and c not in "\n\t" for c in value):
        raise ValueError
    return value


def _line(value: Any) -> str:
    text = _text(value).strip()
    return text if "\n" not in text else _refuse()


def _list(item: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    def read(value: Any) -> tuple[Any, ...]:
        parts = value if isinstance(value, (list, tuple)) else [p.strip() for p in _text(value).split(",")]
        return tuple(item(part) for part in parts if part != "")

    return read


def _endpoint(value: Any) -> str:
    host, colon, port = _line(value).rpartition(":")
    if not colon or not host or not 0 < int(port) < 65536:
        raise ValueError
    return f"{host}:{int(port)}"


def _show_list(value: Iterable[Any]) -> str:
    return ", ".join(str(part) for part in value)


BOOL = Kind("bool", N_("yes or no"), _bool, lambda value: "yes" if value else "no")
INT = Kind("number", N_("a whole number, 0 or more"), _int)
COUNT = Kind("count", N_("a whole number, 1 or more"), lambda value: _int(value) or _refuse())
SIZE = Kind("size", N_("a size such as 300K or 5M"), lambda v: _measure(_UNITS, v), lambda v: _show_measure(_UNITS, v).upper())
DURATION = Kind("duration", N_("a time such as 30s, 10m, 12h, 14d or 2w"), lambda v: _measure(_TIMES, v), lambda v: _show_measure(_TIMES, v))
LINE = Kind("line", N_("a line of text"), _line)
TEXT = Kind("text", N_("a text"), _text)
LINES = Kind("list", N_("a list of words"), _list(_line), _show_list)
ENDPOINT = Kind("endpoint", N_("HOST:PORT"), _endpoint)
ENDPOINTS = Kind("endpoints", N_("a list of HOST:PORT"), _list(_endpoint), _show_list)
ADDRESS = Kind("address", N_("an address, local@domain"), lambda v: str(address.parse(v)) if v else "")


def choice(*values: str) -> Kind:
    """One of these words."""

    def read(value: Any) -> str:
        word = str(value).strip().lower() if not isinstance(value, bool) else ("on" if value else "off")
        return word if word in values else _refuse()

    return Kind("choice", N_("one of: {values}"), read, values=values)
