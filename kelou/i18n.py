"""Languages: French and English are equals, the source is English (gettext).

`_` marks a text and translates it into the language in force; `speaking("fr")` puts another in force for a block. The language lives in a
context variable, so threads and tasks do not disturb each other.
"""

from __future__ import annotations

import gettext as _gettext
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path

LANGUAGES = ("en", "fr")
_language: ContextVar[str] = ContextVar("language", default="en")


@cache
def _catalogue(language: str) -> _gettext.NullTranslations:
    return _gettext.translation("kelou", Path(__file__).with_name("locale"), [language], fallback=True)


def _(text: str) -> str:
    """The text in the language in force."""
    return _catalogue(_language.get()).gettext(text) if text else ""


def ngettext(one: str, many: str, number: int) -> str:
    """The singular or plural form for that number, in the language in force."""
    return _catalogue(_language.get()).ngettext(one, many, number)


def N_(text: str) -> str:
    """Marks a text that is translated later, when the language is known."""
    return text


def language() -> str:
    """The language in force."""
    return _language.get()


def use(code: str) -> None:
    """Put a language in force for the rest of this context; what we do not speak is English."""
    _language.set(known(code))


@contextmanager
def speaking(code: str) -> Iterator[None]:
    """Put a language in force for a block."""
    token = _language.set(known(code))
    try:
        yield
    finally:
        _language.reset(token)


def known(code: str) -> str:
    """`fr`, `fr_FR.UTF-8`, `FR-ca` are `fr`; what we do not speak is `en`."""
    short = code.replace("-", "_").partition("_")[0].partition(".")[0].lower()
    return short if short in LANGUAGES else "en"


def from_environment(environment: Mapping[str, str] = os.environ) -> str:
    """The language of the shell's locale (POSIX: LC_ALL, LC_MESSAGES, LANG, in this order)."""
    return known(next((environment[k] for k in ("LC_ALL", "LC_MESSAGES", "LANG") if environment.get(k)), "en"))
