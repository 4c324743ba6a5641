"""Header rules of a list: one a line, `ACTION FIELD: PATTERN`, where ACTION is refuse, hold or accept.

A PATTERN between slashes is a regular expression, matched by RE2 in linear time whatever an admin writes; any other is a text that the field
contains, without regard to case. `*` as a PATTERN means that the field is there. Examples:

    refuse Subject: /^\\s*(viagra|casino)/
    hold X-Mailer: BulkMaster
    hold List-Unsubscribe: *
"""

from __future__ import annotations

import re as _re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import re2

from .message import Field

LIMIT = 10_000  # characters of a field that a pattern sees

_LINE = _re.compile(r"(refuse|hold|accept)\s+([!-9;-~]+)\s*:\s*(\S.*)", _re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class HeaderRule:
    """One rule; `text` is its line."""

    text: str
    action: str
    name: str
    matches: Callable[[str], bool] = field(compare=False)


def parse(text: str) -> tuple[HeaderRule, ...]:
    """The rules of a setting's text. Raises ValueError."""
    return tuple(_rule(line) for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#"))


def _rule(line: str) -> HeaderRule:
    match = _LINE.fullmatch(line.strip())
    if not match:
        raise ValueError(line)
    return HeaderRule(line.strip(), match[1].lower(), match[2].lower(), _matcher(match[3].strip()))


def _matcher(pattern: str) -> Callable[[str], bool]:
    if pattern == "*":
        return lambda _value: True
    if len(pattern) > 1 and pattern.startswith("/") and pattern.endswith("/"):
        options = re2.Options()
        options.case_sensitive = False
        options.log_errors = False
        options.max_mem = 1 << 20
        try:
            compiled: Any = re2.compile(pattern[1:-1], options)
        except re2.error as error:
            raise ValueError(pattern) from error
        return lambda value: compiled.search(value) is not None
    folded = pattern.casefold()
    return lambda value: folded in value.casefold()


def first(rules: Sequence[HeaderRule], fields: Sequence[Field]) -> HeaderRule | None:
    """The first rule that a field of the header matches."""
    for rule in rules:
        for header_field in fields:
            if header_field.name == rule.name and rule.matches(header_field.text[:LIMIT]):
                return rule
    return None


def show(rules: Sequence[HeaderRule]) -> str:
    """The rules as the admin writes them."""
    return "\n".join(rule.text for rule in rules)
