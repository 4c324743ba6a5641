"""The text of a notice: templates/LANGUAGE/NAME.txt, or what the list or the site has instead of it, in that order.

A template's first line is `Subject: …`; a blank line, then the text. What a site or a list writes is somebody's program, run for everybody: it
may do what our own templates do, print values, choose, repeat, and nothing that could take long, grow without bounds or look behind a value. Each
such text is checked when it is set, and if it fails all the same, the notice is sent with the next text; ours is the last.
"""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, lru_cache
from pathlib import Path
from types import FunctionType, MethodType
from typing import Any

from babel.dates import format_date
from jinja2 import StrictUndefined, TemplateSyntaxError, nodes
from jinja2 import Template as Compiled
from jinja2.sandbox import ImmutableSandboxedEnvironment

from .database import connection
from .directory import ListView
from .i18n import LANGUAGES, _, language, speaking
from .maillog import problem
from .models import Template
from .refusal import BadData

_FOLDER = Path(__file__).with_name("templates")
_SUBJECT = "Subject: "
SIZE = 20_000  # characters of a template
LONGEST = 4_000_000  # characters of what it makes
EXPRESSION = 60  # parts of one expression: a thousand long values joined in one would be held at once

# What could be put in a row of a template that makes it long or slow is left out: arithmetic, assignments, macros, loops in loops.
_ALLOWED = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.If, nodes.For, nodes.Name, nodes.Const, nodes.Getattr, nodes.Getitem, nodes.Slice,
    nodes.Filter, nodes.Test, nodes.Call, nodes.Concat, nodes.CondExpr, nodes.And, nodes.Or, nodes.Not, nodes.Compare, nodes.Operand, nodes.Dict,
    nodes.Pair, nodes.Tuple, nodes.List,
)  # fmt: skip
# What could otherwise take orders for terminals and programs; a name or description came from somebody.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_LINK = re.compile(r"\b(?:mailto:|https?://)")


@dataclass(frozen=True, slots=True)
class Text:
    """A template and whose it is: `list`, `site`, or `default`, ours."""

    origin: str
    source: str

    @property
    def links(self) -> bool:
        """Whether there is something to click."""
        return bool(_LINK.search(self.source))


@dataclass(frozen=True, slots=True)
class Written:
    """What a template made."""

    subject: str
    text: str
    links: bool


class TooLong(Exception):
    """A template makes more than a notice may be."""


@cache
def names() -> tuple[str, ...]:
    """The names of all the notices."""
    return tuple(sorted(path.stem for path in (_FOLDER / LANGUAGES[0]).glob("*.txt")))


@cache
def default(name: str, code: str) -> Text:
    """Our own text of a notice."""
    return Text("default", (_FOLDER / code / f"{name}.txt").read_text("utf-8"))


def texts(name: str, code: str, list_id: int | None) -> Iterator[Text]:
    """The texts that there are of a notice, the one that counts first. Needs a connection."""
    where = Template.list.is_null() | (Template.list == list_id) if list_id else Template.list.is_null()
    rows = Template.select(Template.list, Template.text).where(Template.name == name, Template.language == code, where).tuples()
    own = {"list" if row[0] else "site": row[1] for row in rows}
    yield from (Text(origin, own[origin]) for origin in ("list", "site") if origin in own)
    yield default(name, code)


def render(name: str, code: str, the_list: Any, values: Mapping[str, Any]) -> Written:
    """The subject and the text of a notice about a list, or about a desk."""
    with connection():
        own = list(texts(name, code, the_list.id if isinstance(the_list, ListView) else None))
    for text in own:
        if text.origin == "default":
            break
        try:
            return written(text, code, {"list": the_list, **values})
        except Exception as error:  # whatever somebody's text may raise: the notice goes out, with the next one
            problem("template-failed", template=name, language=code, origin=text.origin, list=the_list.address, why=f"{type(error).__name__}: {error}")
    return written(default(name, code), code, {"list": the_list, **values})


def written(text: Text, code: str, values: Mapping[str, Any]) -> Written:
    """What one text makes of the values. Subject and text are rendered apart, so that no value can end the subject and go on in the text."""
    subject, body = _compiled(text.source)
    room = sys.maxsize if text.origin == "default" else LONGEST
    with speaking(code):
        return Written(" ".join(_made(subject, values, room).split("\n")), _made(body, values, room), text.links)


def _made(template: Compiled, values: Mapping[str, Any], room: int) -> str:
    pieces: list[str] = []
    for piece in template.generate(values):
        room -= len(piece)
        if room < 0:
            raise TooLong(_("it makes too long a text"))
        pieces.append(piece)
    text = "".join(pieces).replace("\r\n", "\n").replace("\r", "\n")
    return _CONTROL.sub(" ", text).encode("utf-8", "replace").decode("utf-8")


class _Environment(ImmutableSandboxedEnvironment):
    """Values can be shown and not changed, and of what they can do only our own functions are there (`list.sub("owner")`)."""

    def is_safe_callable(self, obj: Any) -> bool:
        return isinstance(obj, (FunctionType, MethodType)) and super().is_safe_callable(obj)


def _environment() -> _Environment:
    made = _Environment(undefined=StrictUndefined, autoescape=False, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    made.globals.clear()
    made.filters = {name: made.filters[name] for name in ("capitalize", "first", "length", "lower", "trim", "upper")}
    made.filters |= {"date": _date, "indent": _indent, "join": _join}
    made.tests = {name: made.tests[name] for name in ("none", "defined")}
    return made


def _date(seconds: int) -> str:
    shown = language()
    return format_date(datetime.fromtimestamp(seconds, UTC), "long", locale="en_GB" if shown == "en" else shown)


def _indent(text: str, columns: int = 4) -> str:
    """All lines but the first, so far in."""
    return _bounded(text, "\n", "\n" + " " * min(columns, 40))


def _join(values: Any, between: str = "") -> str:
    parts = [str(value) for value in values]
    if sum(map(len, parts)) + len(parts) * len(between) > LONGEST:
        raise TooLong(_("it makes too long a text"))
    return between.join(parts)


def _bounded(text: str, old: str, new: str) -> str:
    if len(text) + text.count(old) * len(new) > LONGEST:
        raise TooLong(_("it makes too long a text"))
    return text.replace(old, new)


_ENVIRONMENT = _environment()


def _split(source: str) -> tuple[str, str]:
    """The subject and the text of a template. Raises ValueError with the reason."""
    head, blank, text = source.partition("\n\n")
    if not blank or not head.startswith(_SUBJECT) or "\n" in head:
        raise ValueError(_("a template begins with a line {line} and a blank one").format(line=f"{_SUBJECT}…"))
    return head.removeprefix(_SUBJECT), text


@lru_cache(512)
def _compiled(source: str) -> tuple[Compiled, Compiled]:
    head, text = _split(source)
    return _ENVIRONMENT.from_string(head), _ENVIRONMENT.from_string(text)


# Checking.


def check(source: str, known: frozenset[str]) -> None:
    """Look whether somebody's text is a template in which nothing is unknown or not allowed. Raises BadData with the line and the reason."""
    if len(source) > SIZE:
        raise BadData(_("a template has at most {limit} characters; this one has {size}").format(limit=SIZE, size=len(source)))
    try:
        head, text = _split(source)
    except ValueError as error:
        raise at(1, str(error)) from error
    for part, above in ((head, 0), (text, 2)):
        try:
            for line, reason in _faults(_ENVIRONMENT.parse(part), known, False):
                raise at(above + line, reason)
            _ENVIRONMENT.from_string(part)
        except TemplateSyntaxError as error:
            raise at(above + error.lineno, error.message or "") from error
        except (RecursionError, MemoryError, SyntaxError) as error:  # Python's own limits: a hundred conditions in each other
            raise at(above + 1, _("too much in one expression")) from error


def at(line: int, reason: str) -> BadData:
    """The refusal of a template, for what stands in that line."""
    return BadData(_("line {line}: {reason}").format(line=line, reason=reason))


def rehearse(source: str, code: str, values: Mapping[str, Any]) -> None:
    """Render somebody's text with sample values. Raises BadData with the line and the reason."""
    try:
        written(Text("list", source), code, values)
    except Exception as error:  # whatever it raises is a reason not to have it
        lines = [frame.lineno or 1 for frame in traceback.extract_tb(error.__traceback__) if frame.filename == "<template>"]
        head = _ENVIRONMENT.from_string(_split(source)[0])
        raise at((lines or [1])[-1] + (2 if _renders(head, code, values) else 0), str(error) or type(error).__name__) from error


def _renders(template: Compiled, code: str, values: Mapping[str, Any]) -> bool:
    try:
        with speaking(code):
            _made(template, values, LONGEST)
    except Exception:  # then it is the subject that fails
        return False
    return True


def _faults(node: nodes.Node, known: frozenset[str], looping: bool) -> Iterator[tuple[int, str]]:
    """What a template may not have, each with its line."""
    line = node.lineno
    match node:
        case nodes.For():
            if looping or node.recursive:
                yield line, _("a loop in a loop is not allowed in a template")
            if not isinstance(node.iter, (nodes.Name, nodes.Getattr)):
                yield line, _("a loop goes through a value, and through nothing else")
            targets = [node.target] if isinstance(node.target, nodes.Name) else node.target.find_all(nodes.Name)
            yield from _faults(node.iter, known, looping)
            inside = known | {name.name for name in targets} | {"loop"}
            for child in (*node.body, *([node.test] if node.test else [])):
                yield from _faults(child, inside, True)
            for child in node.else_:
                yield from _faults(child, known, looping)
            return
        case nodes.Name() if node.name not in known:
            names = ", ".join(sorted(known - {"loop"}))
            yield line, _("there is no value {name} in this notice; there are: {names}").format(name=node.name, names=names)
        case nodes.Getattr() if node.attr.startswith("_"):
            yield line, _("{name} can not be used in a template").format(name=node.attr)
        case nodes.Getitem() if isinstance(node.arg, nodes.Const) and str(node.arg.value).startswith("_"):
            yield line, _("{name} can not be used in a template").format(name=node.arg.value)
        case nodes.Call() if node.kwargs or node.dyn_args or node.dyn_kwargs or not all(isinstance(arg, nodes.Const) for arg in node.args):
            yield line, _("a call takes words in quotes only, as in {call}").format(call='list.sub("owner")')
        case nodes.Filter() if node.kwargs or not all(isinstance(arg, nodes.Const) and len(str(arg.value)) <= 40 for arg in node.args):
            yield line, _("a filter takes a short word in quotes or a number")
        case _ if not isinstance(node, _ALLOWED):
            yield line, _("{kind} can not be used in a template").format(kind=type(node).__name__)
    for child in node.iter_child_nodes():
        if isinstance(child, nodes.Expr) and not isinstance(node, nodes.Expr) and sum(1 for _part in child.find_all(nodes.Node)) > EXPRESSION:
            yield child.lineno, _("too much in one expression")
            return
        yield from _faults(child, known, looping)
