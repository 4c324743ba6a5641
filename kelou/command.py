"""One command by mail: a line of text → what it asks for. The words are in kelou.verb, which lines of a mail count is kelou.mailcommand's.

People paste links, leave percent-encoding in, add dots and brackets and small words; what they meant is read where it can mean nothing else.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import unquote

from .address import AddressError
from .address import parse as parse_address
from .i18n import N_
from .verb import FIELDS, OPTIONS, QUIET, VERBS, Verb

LINE = 2_000  # characters of a line that are looked at
SHOWN = 200  # characters of a line that are shown to people

Lists = Callable[[str], bool] | None  # whether there is a list of that name, `name` or `name@domain`; None: not known here

NO_LIST = N_("The name of a list is missing.")
BAD_LIST = N_("This is not the name of a list.")
NOT_ALL = N_("This can not be done for all lists at once.")
NO_ADDRESS = N_("An address is missing.")
BAD_ADDRESS = N_("This is not an address.")
NO_TOKEN = N_("The token is missing.")
BAD_TOKEN = N_("This is not a token.")
NO_SETTING = N_("What to set is missing.")


@dataclass(frozen=True, slots=True)
class Command:
    """One command. What its verb does not take is empty. Where `problem` is set it can not be done; the text, marked for translation, says why."""

    verb: str
    line: str = ""  # as it was written, at most SHOWN characters
    list: str = ""  # `name`, `name@domain` or `*`; of a list request the name that is wished for
    email: str = ""
    name: str = ""  # a person's
    option: str = ""  # of set: a key of OPTIONS
    key: str = ""  # of set, for owners
    value: str | None = None  # of set, for owners; None if there is none. Of the option suspend: its dates
    token: str = ""
    text: str = ""  # a reason, a file's name, words too many
    fields: Mapping[str, str] = field(default_factory=dict)  # of a list request: by keys of FIELDS, without the name
    batch: bytes = b""  # of add: people for kelou.batch, one a line; then `email` is empty
    quiet: bool = False
    problem: str = ""


def read(line: str, lists: Lists = None) -> Command | None:
    """The command that a line is; None if it is none. Never raises."""
    line = clean(line[:LINE])
    for meant in _readings(line):
        words = _words(meant)
        quiet = False
        while words and _bare_verb(words[0]) in _QUIET:
            quiet, words = True, words[1:]
        verb, rest = _verb(words)
        if verb:
            command = _SHAPES[verb.shape](Command(verb.name, line=line[:SHOWN], quiet=quiet), rest, lists)
            return None if _prose(command, lists) else command
    return None


def extra(command: Command) -> bool:
    """Whether there are words that the command has no use for."""
    return bool(command.text.strip(_AROUND)) and _TABLE[command.verb].shape in ("none", "list", "leaver", "request") and command.verb != "get"


def clean(line: str) -> str:
    """The line with single blanks, for no-break ones and controls too, and without characters that nobody sees."""
    return " ".join(line.translate(_CLEAN).split())


def form_line(line: str) -> tuple[str, str] | None:
    """Field and value of a line `field: value` of the form for a list request. What stands in brackets only says what is wanted."""
    match = _FORM.match(clean(line[:LINE]))
    if not match:
        return None
    value = _bare(match[2])
    hint = value and value[0] + value[-1] in ("()", "[]")
    return _FIELDS[_fold(match[1])], "" if hint else value


def _prose(command: Command, lists: Lists) -> bool:
    """Whether this is rather a sentence: "Info on the meeting", "Stop this", "Demande de renseignements"."""
    if not extra(command):
        return False
    if command.verb in ("quit", "request"):
        return not command.fields
    return bool(command.list and command.list != "*" and lists and not lists(command.list))


_INVISIBLE = [0xAD, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x206A), 0xFEFF]
_CONTROLS = [*range(9), *range(14, 32), 127]
_CLEAN: dict[int, str | None] = {**dict.fromkeys(_CONTROLS, " "), **dict.fromkeys(_INVISIBLE)}
_APOSTROPHES: dict[int, str] = {ord(c): "'" for c in "’‘ʼ´`"}
_QUOTES = {'"': '"', "'": "'", "“": "”", "«": "»", "‘": "’", "`": "`"}
_AROUND = ".,;:!?…\"'“”«»()[]<>‘’`"


def _fold(text: str) -> str:
    """A text to compare by: without case and accents, with one kind of apostrophe."""
    plain = text if text.isascii() else "".join(c for c in unicodedata.normalize("NFKD", text.translate(_APOSTROPHES)) if not unicodedata.combining(c))
    return plain.casefold().translate(_APOSTROPHES)


_ELISION = re.compile(r"([sm])['’‘ʼ´`](.*)", re.IGNORECASE)


def _words(line: str) -> list[str]:
    """The words of a line. `s'` is a word of its own; a link that a mail program put behind an address is none."""
    words: list[str] = []
    for word in line.split():
        before, link, linked = word.partition("<mailto:")
        if link and (before or (words and linked.rstrip(">").lower() == words[-1].lower())):
            word = before
        if elided := _ELISION.match(word) if len(words) < _LONGEST else None:
            words.append(f"{elided[1]}'")
            word = elided[2]
        if word:
            words.append(word)
    return words


def _phrases(words: str) -> Iterator[tuple[str, ...]]:
    for word in words.split():
        yield tuple(_words(_fold(word).replace("_", " ")))


_LONGEST = 4  # words of a verb
_TABLE = {verb.name: verb for verb in VERBS}
_VERBS = {phrase: verb for verb in VERBS for phrase in _phrases(f"{verb.name} {verb.english} {verb.french}")}
_FIRST = frozenset(phrase[0] for phrase in _VERBS)
_QUIET = frozenset(QUIET.split())
_OPTIONS = {" ".join(phrase): option for option, words in OPTIONS.items() for phrase in _phrases(f"{option} {words}")}
_FIELDS = {_fold(word).replace("_", " "): name for name, words in FIELDS.items() for word in f"{name} {words}".split()}
_MAILTO = re.compile(r"(?:list-(?:un)?subscribe\s?:\s?)?<?mailto:[^\s?<>]*\?([^\s<>]*)", re.IGNORECASE)


def _readings(line: str) -> Iterator[str]:
    """The line as it may have been meant: as it is, without quotes around it, from a link, with its encoding undone."""
    yield line
    if len(line) > 2 and _QUOTES.get(line[0]) == line[-1]:
        yield line[1:-1]
    if link := _MAILTO.match(line):  # RFC 6068 section 2
        query = dict(pair.partition("=")[::2] for pair in re.split("&(?:amp;)?", link[1]))
        yield clean(unquote(query.get("subject") or query.get("body") or ""))
    word = line.partition(" ")[0]
    if "%" in word:
        yield clean(unquote(line))
    if "+" in word:
        yield clean(unquote(line.replace("+", " ")))


def _bare_verb(word: str) -> str:
    folded = _fold(word[:40])
    return folded if folded.endswith("'") else folded.strip(_AROUND) or folded


def _verb(words: list[str]) -> tuple[Verb | None, list[str]]:
    """The verb that a line begins with, and the words behind it."""
    if not words or _bare_verb(words[0]) not in _FIRST:
        return None, []
    folded = tuple(_bare_verb(word) for word in words[:_LONGEST])
    if folded == ("qui",):
        return _TABLE["quit"], []  # Sympa's QUI is short for QUIT; with a list behind it, it is French for who
    for length in range(len(folded), 0, -1):
        if verb := _VERBS.get(folded[:length]):
            return verb, words[length:]
    return None, []


# What follows a verb. Each reader fills in a command from the words behind it.
_LIST = re.compile(r"[^\W_][\w.+-]{0,99}(?:@[\w.-]{1,255})?")
_TOKEN = re.compile(r"[\w-]{1,128}")
_ISSUED = re.compile(r"[a-z2-7]{26}|[0-9a-f]{32}", re.IGNORECASE)  # what ours look like (kelou.confirmation), and Sympa's
_BRACKETS = re.compile(r"<([^<>]{1,330})>")
_FILLERS = frozenset({"me", "moi", "from", "to", "of", "for", "the", "de", "du", "a", "la", "sur", "pour"})
_LIST_WORDS = frozenset({"list", "liste"})
_FOR_ALL = frozenset({"unsubscribe", "set", "remind"})


def _none(command: Command, words: list[str], _lists: Lists) -> Command:
    return replace(command, text=" ".join(words))


def _list(command: Command, words: list[str], lists: Lists) -> Command:
    found, rest = _take_list(command, words, lists)
    return replace(found, text=" ".join(rest))


def _subscriber(command: Command, words: list[str], lists: Lists) -> Command:
    found, rest = _take_list(command, words, lists)
    email, name = _person(rest)
    return _with_address(replace(found, name=name), email)


def _leaver(command: Command, words: list[str], lists: Lists) -> Command:
    found, rest = _take_list(command, words, lists)
    email, text = _person(rest)
    return _with_address(replace(found, text=text), email)


def _other(command: Command, words: list[str], lists: Lists) -> Command:
    """LIST EMAIL [NAME]. A word without @ where the address belongs is kept as one that is wrong."""
    found, rest = _take_list(command, words, lists)
    email, name = _person(rest)
    if email or found.problem:
        return _with_address(replace(found, name=name), email)
    return replace(found, email=rest[0] if rest else "", name=" ".join(rest[1:]), problem=BAD_ADDRESS if rest else NO_ADDRESS)


def _token(command: Command, words: list[str], lists: Lists) -> Command:
    """[LIST] TOKEN [TEXT]. Behind Sympa's AUTH TOKEN stands a command, which the token knows better."""
    bare = [word.strip(_AROUND) for word in words[:2]]
    if len(bare) == 2 and _ISSUED.fullmatch(bare[1]) and not _ISSUED.fullmatch(bare[0]):
        return _post(command, words, lists)
    quiet = command.quiet or (len(words) > 1 and _bare_verb(words[1]) in _QUIET)
    return _with_token(replace(command, text=" ".join(words[1:]), quiet=quiet), bare[0] if bare else "")


def _post(command: Command, words: list[str], lists: Lists) -> Command:
    """LIST TOKEN [TEXT], or TOKEN [TEXT]."""
    if len(words) < 2 or _ISSUED.fullmatch(words[0].strip(_AROUND)):
        return _with_token(replace(command, text=" ".join(words[1:])), words[0].strip(_AROUND) if words else "")
    found, rest = _take_list(command, words, lists)
    return _with_token(replace(found, text=" ".join(rest[1:])), rest[0].strip(_AROUND) if rest else "")


_PAIR = re.compile(r"([^\s=:]{1,100})(?:\s?[=:]\s?|\s)(.*)")


def _set(command: Command, words: list[str], lists: Lists) -> Command:
    """LIST OPTION for a subscriber; LIST KEY VALUE or KEY=VALUE for an owner."""
    found, rest = _take_list(command, words, lists)
    text = " ".join(rest)
    if found.problem or not text:
        return replace(found, text=text, problem=found.problem or NO_SETTING)
    option = _OPTIONS.get(_bare_verb(text.replace("_", " "))) if len(text) < 40 else None
    if option:
        return replace(found, option=option)
    pair = _PAIR.match(text)
    key, value = (pair[1], _bare(pair[2])) if pair else (text[:100], None)
    if _OPTIONS.get(_fold(key)) == "suspend":
        return replace(found, option="suspend", value=value)
    if found.list == "*":
        return replace(found, text=text, problem=NOT_ALL)
    return replace(found, key=key.lower().replace("-", "_"), value=value)


_NAMES = "|".join(sorted({re.escape(n).replace("\\ ", " ") for n in (*_FIELDS, *" ".join(FIELDS.values()).split())}, key=len, reverse=True))
_KEY = re.compile(rf"(?:^|(?<=\s))({_NAMES})\s?=\s?", re.IGNORECASE)
_FORM = re.compile(rf"({_NAMES})\s?[:=]\s?(.*)", re.IGNORECASE)
_QUOTED_VALUE = re.compile(r"\"[^\"]*\"|“[^”]*”|«[^»]*»|'[^']*'(?=\s|$)")


def _request(command: Command, words: list[str], _lists: Lists) -> Command:
    """[NAME] and KEY=VALUE, where a value stands in quotes or goes to the next key."""
    text = " ".join(words)
    fields: dict[str, str] = {}
    match = _KEY.search(text)
    name = text[: match.start()] if match else text
    while match:
        key, at = _FIELDS[_fold(match[1])], match.end()
        quoted = _QUOTED_VALUE.match(text, at)
        following = _KEY.search(text, quoted.end() if quoted else at)
        value = _bare(quoted[0] if quoted else text[at : following.start() if following else len(text)])
        if value:
            fields.setdefault(key, value)
        match = following
    name = fields.pop("name", "") or name.strip(_AROUND + " ")
    wordy = not fields and name and not _LIST.fullmatch(name)
    return replace(command, list=name, fields=fields, text=name if wordy else "")


_SHAPES: Mapping[str, Callable[[Command, list[str], Lists], Command]] = {
    "none": _none,
    "list": _list,
    "subscriber": _subscriber,
    "leaver": _leaver,
    "person": _other,
    "token": _token,
    "post": _post,
    "set": _set,
    "request": _request,
}


def _take_list(command: Command, words: list[str], lists: Lists) -> tuple[Command, list[str]]:
    """The command with its list, and the words behind that. "From the list LIST" says no more than LIST."""
    if not words:
        return replace(command, problem=NO_LIST), []
    at = 0
    while at + 1 < len(words) and _filler(words[at], at > 0, lists):
        at += 1
    name, rest = _bare_word(words[at]), words[at + 1 :]
    if name == "*":
        return replace(command, list=name, problem="" if command.verb in _FOR_ALL else NOT_ALL), rest
    return replace(command, list=name.lower()[:SHOWN], problem="" if _LIST.fullmatch(name) else BAD_LIST if name else NO_LIST), rest


def _filler(word: str, inside: bool, lists: Lists) -> bool:
    folded = _fold(word[:10])
    if folded not in _FILLERS and not (folded in _LIST_WORDS and (inside or lists)):
        return False
    return not (lists and lists(folded))


def _bare_word(word: str) -> str:
    """A list's name or an address without what people and programs put around it."""
    word = word.strip(_AROUND)
    if word[:7].lower() == "mailto:":
        word = word[7:].partition("?")[0]
    return clean(unquote(word)) if "%" in word else word


def _bare(text: str) -> str:
    """A text without the quotes that enclose it."""
    text = text.strip()
    return text[1:-1].strip() if len(text) > 1 and _QUOTES.get(text[0]) == text[-1] else text


def _person(words: list[str]) -> tuple[str, str]:
    """An address and a name, from `a@b Name`, `Name <a@b>` or `Name a@b`; the address is empty if there is none."""
    text = " ".join(words)
    bracketed = _BRACKETS.search(text)
    if bracketed and "@" in bracketed[1]:
        return _bare_word(bracketed[1].strip()), _bare(f"{text[: bracketed.start()]} {text[bracketed.end() :]}".strip(" ,;"))
    for at in (0, -1) if words else ():
        address = _bare_word(words[at])
        if "@" in address:
            rest = words[1:] if at == 0 else words[:-1]
            return address, _bare(" ".join(rest).strip(" ,;"))
    return "", _bare(text)


def _with_address(command: Command, email: str) -> Command:
    try:
        return replace(command, email=str(parse_address(email)) if email else "")
    except AddressError:
        return replace(command, email=email, problem=command.problem or BAD_ADDRESS)


def _with_token(command: Command, token: str) -> Command:
    problem = NO_TOKEN if not token else "" if _TOKEN.fullmatch(token) else BAD_TOKEN
    return replace(command, token=token, problem=command.problem or problem)
