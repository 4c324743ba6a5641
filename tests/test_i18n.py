"""French and English are equals: every text has its French, complete, well set, with nothing left in English; and the help and the refusals show it."""

from __future__ import annotations

import ast
import io
import json
import re
import string
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract_from_file
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po
from jinja2 import Environment, meta, nodes

from kelou import config, i18n, lifecycle, listtype, notice, people, policy, verb
from kelou.directory import ListView
from kelou.i18n import ngettext, speaking
from kelou.reply import Reply, to_ascii

ROOT = Path(__file__).parent.parent
CATALOGUE = ROOT / "kelou" / "locale" / "fr" / "LC_MESSAGES" / "kelou.po"
SOURCES = [path for folder in ("kelou", "milter", "lmtp", "admin") for path in sorted((ROOT / folder).glob("*.py"))]
TEMPLATES = Path(notice.__file__).with_name("templates")
# What marks a text, and the arguments of it that are texts; script/translate has the same.
MARKS: dict[str, tuple[int, ...] | None] = {"_": None, "N_": None, "ngettext": (1, 2)}

# The same in both languages: names of fields, of units and of things that have one name only.
SAME = {
    "OPTIONS", "SYNOPSIS", "DESCRIPTION",
    "({type} {name}, {size} octets)", "Configuration", "Types", "absent", "action", "active", "code", "configuration", "description", "organisation",
    "secret", "site", "type", "version", "zone",
}  # fmt: skip
# Texts whose French has no use for a placeholder: Click's name for a type is English always.
DROPPED = {"{value!r} is not a valid {number_type}.": {"number_type"}}

NBSP = "\u00a0"
# Common in English texts, and no words of French.
ENGLISH = """
    about account accounts address addresses advice after again all already also and another any anybody anyone are asked at attached author
    authors be because been before below block blocked both but by can close closed command commands could daemon database day days decided
    default delivered directory discard do does domain domains done else empty end every everybody everything expired files first for from given
    go goes had has have held hold how if in into is it its kept key keys know last line lines list lists made mailing make many may missing
    moderators must need never new newest no nobody not nothing number of old oldest once only open other over own owner owners password pending
    people person post posts put queue read reason recipient recipients refused reject removed reports request requested required right said same
    say see send sender set setting settings shared show since size so some somebody state status still stop subject subscribe subscribed
    subscriber subscribers subscription such than that the their them then there these they this those time to token told too tried unknown
    unsubscribe until used value wait waits was were what when where whether which who whose why will with without word words write written wrong
    yes you your
"""
# A French text may name what is typed in: a command line, a setting, a value, a header field.
TYPED = re.compile(
    r"`[^`]*`|\bkelou [a-z-]+(?: (?:list|show|types|request|activate|refuse|close|reopen|rename|set|add|new|records|up|restore|sample)\b)?|"
    r"\{[^{}]*\}|--?[a-z][a-z-]*|\S*(?:[/_@=|]|\w\.\w)\S*"
)


def texts(path: Path) -> Iterator[str | tuple[str, ...]]:
    """What the extraction finds in a source."""
    for _line, found, _comments, _context in extract_from_file("python", path, keywords=MARKS):
        yield tuple(found) if isinstance(found, (tuple, list)) else found


IN_CODE = {found for path in SOURCES for found in texts(path)}


@pytest.fixture(scope="module")
def catalogue() -> Catalog:
    with CATALOGUE.open("rb") as file:
        return read_po(file, locale="fr")


with CATALOGUE.open("rb") as _file:
    MESSAGES: list[Message] = [message for message in read_po(_file, locale="fr") if message.id]


def forms(message: Message) -> list[tuple[str, str]]:
    """Each French form with the English that it stands for."""
    if isinstance(message.id, tuple):
        return list(zip(message.id, message.string, strict=True))
    return [(message.id, message.string)]


PAIRS = [pair for message in MESSAGES for pair in forms(message)]


def named(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """The entries as lines, for a failure that is to be read."""
    return [f"{english!r} -> {french!r}" for english, french in pairs]


def placeholders(text: str) -> set[str]:
    return {name for _before, name, _spec, _conversion in string.Formatter().parse(text) if name is not None}


# The catalogue.


def test_the_catalogue_is_of_this_code() -> None:
    """The catalogue has every text of the code, and nothing that is no more in it. If this fails, run script/translate, and translate."""
    held = {message.id for message in MESSAGES}
    assert {"missing": IN_CODE - held, "gone": held - IN_CODE} == {"missing": set(), "gone": set()}
    assert len(held) > 600


def test_no_text_hides_from_the_extraction() -> None:
    """Whatever is called as a text is found as one: an f-string hides what is in it, and can be no text itself."""
    known = {text for found in IN_CODE for text in ([found] if isinstance(found, str) else found)}
    hidden = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in MARKS:
                for argument in node.args[: len(MARKS[node.func.id] or (1,))]:
                    wrong = isinstance(argument, ast.JoinedStr) or (isinstance(argument, ast.Constant) and argument.value and argument.value not in known)
                    hidden += [f"{path.name}:{node.lineno}"] if wrong else []
    assert hidden == []


def test_everything_is_translated(catalogue: Catalog) -> None:
    """No entry is empty, fuzzy or left over from an earlier text."""
    assert [message.id for message in MESSAGES if not all(french for _english, french in forms(message))] == []
    assert [message.id for message in MESSAGES if message.fuzzy] == []
    assert list(catalogue.obsolete) == []
    assert "#~" not in CATALOGUE.read_text("utf-8")


def test_the_header_names_the_project_and_nobody() -> None:
    """The file says what it is of and under which licence, and has no person's name or address."""
    head = CATALOGUE.read_text("utf-8").partition("\n\n")[0]
    assert "Project-Id-Version: kelou" in head
    assert "GNU General Public License" in head
    assert not re.search(r"[\w.]+@[\w.]+|FULL NAME|ORGANIZATION", head)


def test_the_binary_catalogue_is_compiled_from_it(catalogue: Catalog) -> None:
    """kelou.mo, which the programs read, is what kelou.po says."""
    compiled = io.BytesIO()
    write_mo(compiled, catalogue)
    assert CATALOGUE.with_suffix(".mo").read_bytes() == compiled.getvalue()


def test_translating_again_changes_nothing(catalogue: Catalog) -> None:
    """Merging the code's texts into a catalogue that has them all writes the same file: no dates, no other order."""
    template = Catalog()
    for found in sorted(IN_CODE, key=str):
        template.add(found)
    catalogue.update(template, no_fuzzy_matching=True, update_creation_date=False)
    written = io.BytesIO()
    write_po(written, catalogue, width=140, ignore_obsolete=True)

    def lines(text: str) -> list[str]:  # the version of Babel is said in the file, and is no business of ours
        return sorted(line for line in text.splitlines() if line and not line.startswith(('"Generated-By', "#,")))

    assert lines(written.getvalue().decode("utf-8")) == lines(CATALOGUE.read_text("utf-8"))


def test_placeholders_stay() -> None:
    """A text has the same placeholders in both languages, and its French can be filled in."""
    wrong = [pair for pair in PAIRS if placeholders(pair[0]) - DROPPED.get(pair[0], set()) != placeholders(pair[1])]
    assert named(wrong) == []


def test_plural_forms() -> None:
    """In French none is singular, as one is."""
    assert all(len(message.string) == 2 for message in MESSAGES if isinstance(message.id, tuple))
    with speaking("fr"):
        said = [ngettext("{number} added", "{number} added", number).format(number=number) for number in (0, 1, 2)]
    assert said == ["0 ajouté", "1 ajouté", "2 ajoutés"]


# The language.

_COLON = ("CHAMP: MOTIF", "X-Mailer: BulkMaster")  # as they are typed into a setting


def badly_set(text: str) -> list[str]:
    """Where a text is not set as French is: no-break spaces before : ; ? ! and inside « », the apostrophe ’, one ellipsis."""
    for typed in _COLON:
        text = text.replace(typed, "x")
    text = re.sub(r"`[^`]*`|\{[^{}]*\}|https?://\S+", "x", text)
    return re.findall(rf"[^{NBSP}\u202f][;?!»]|«[^{NBSP}]|[^{NBSP}]:(?=\s|$)|\w'\w|[\"“”]|(?<![A-Z\]])\.\.\.|[ \t][;:?!»]", text)


def test_typography() -> None:
    """French texts are set as French is."""
    assert {french: wrong for _english, french in PAIRS if (wrong := badly_set(french))} == {}


@pytest.mark.parametrize("text", ["Non ?", "l'auteur", "« ici »", "Fin :", 'le "mot"', "etc..."])
def test_typography_can_fail(text: str) -> None:
    """What is wrong is found."""
    assert badly_set(text)


def test_nothing_is_left_in_english() -> None:
    """No French is its own English, but for words that both languages have."""
    assert {english for english, french in PAIRS if english == french} <= SAME
    assert {english for english in SAME if dict(PAIRS).get(english, english) != english} == set()


def vocabulary() -> set[str]:
    """Words that people type in, in English always: settings, their values, types, commands by mail."""
    words: set[str] = set()
    for table in (config.SETTINGS, listtype.SETTINGS, people.FIELDS, lifecycle.PROPERTIES):
        for key, setting in table.items():
            words |= {key, *setting.kind.values}
    words |= {*listtype.TYPES, "refuse", "hold", "accept", "yes", "no", "same", "any", "shared", "import", "up", "default", *verb.OPTIONS}
    return words


def english_in(text: str) -> set[str]:
    """English words in a French text, without what is typed in."""
    found = re.findall(r"[^\W\d_]+(?:[-’'][^\W\d_]+)*", TYPED.sub(" ", text))
    return ({word for word in found if word.islower()} & {*ENGLISH.split()}) - vocabulary()


def test_no_english_in_french() -> None:
    """No common English word stands in a French text, but what is typed in."""
    assert {french: words for _english, french in PAIRS if (words := english_in(french))} == {}


@pytest.mark.parametrize("text", ["Le message is held", "kelou list show : the list", "Ne jamais send"])
def test_english_is_found(text: str) -> None:
    """English words are found in a French text."""
    assert english_in(text)


def test_people_are_addressed_politely() -> None:
    """Texts say vous, never tu."""
    assert [french for _english, french in PAIRS if re.search(r"\b(?:tu|toi|ton|tes|te)\b", french, re.IGNORECASE)] == []


# Words of the glossary, and words that it puts in their place.
AVOIDED = {
    r"désinscri": "désabonner", r"\binscri(?!ption)": "abonner", r"\bmail": "message, courrier", r"\bemail|e-mail|courriel": "message, adresse",
    r"\bbounce": "erreur", r"\bspool": "file d’attente", r"\bpréfixe": "marquage du sujet", r"\bgestionnaire": "propriétaire",
    r"\bmembre": "abonné", r"\bsouscri": "s’abonner", r"\btoken|\bjeton": "clé", r"\bdigest": "compilation", r"\bmodér(?:er|ation) en attente": "à modérer",
}  # fmt: skip


@pytest.mark.parametrize("pattern", AVOIDED)
def test_words_of_the_glossary(pattern: str) -> None:
    """One French word per thing: those of the glossary, as Sympa's users know them."""
    values = "|".join(sorted(vocabulary(), key=len, reverse=True))
    plain = {french: re.sub(rf"\b(?:{values})\b", " ", TYPED.sub(" ", french)) for _english, french in PAIRS}
    assert [french for french, text in plain.items() if re.search(pattern, text)] == []


# What people see.

SHOW = """
import json, sys
import click
from kelou.admin import cli
cli.speak(sys.argv[1])
root = cli.tree()
shown = {}
for path, command in [((), root), *cli.commands(root)]:
    name = " ".join(("kelou", *path))
    prose = [command.help, *(getattr(parameter, "help", "") for parameter in command.params)]
    shown[name] = command.get_help(click.Context(command, info_name=name)), " ".join(filter(None, prose))
json.dump(shown, sys.stdout)
"""


@pytest.fixture(scope="module")
def helps() -> dict[str, dict[str, tuple[str, str]]]:
    """The help of every command as it is shown, and the sentences in it, by language: each in a process of its own, as commands are declared in the language in force."""
    said = {code: subprocess.run([sys.executable, "-c", SHOW, code], check=True, capture_output=True, cwd=ROOT).stdout for code in i18n.LANGUAGES}
    return {code: json.loads(text) for code, text in said.items()}


def test_help_is_in_french(helps: dict[str, dict[str, tuple[str, str]]]) -> None:
    """`kelou COMMAND --help` has no line of its English in French, nor an English word."""
    assert helps["fr"].keys() == helps["en"].keys() >= {"kelou", "kelou list request", "kelou member import", "kelou mod approve"}
    same, words = {}, {}
    for name, (text, prose) in helps["fr"].items():
        lines = {line.strip() for line in text.splitlines() if re.search(r"[a-z]{3}", TYPED.sub(" ", line))}
        same[name] = lines & {line.strip() for line in helps["en"][name][0].splitlines()}
        words[name] = english_in(prose)
    assert {name: lines for name, lines in same.items() if lines} == {}
    assert {name: found for name, found in words.items() if found} == {}


def test_the_program_speaks_french() -> None:
    """`kelou --lang fr --help` is French from its first word, Click's own words too; without --lang the locale chooses."""

    def kelou(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "kelou.admin.cli", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env={"PATH": "/usr/bin", "PYTHONUTF8": "1", **environment})

    asked = kelou("--lang", "fr", "--help").stdout
    assert asked.startswith(f"Utilisation{NBSP}: kelou [OPTIONS] COMMANDE [ARGUMENTS]...\n")
    assert f"Commandes{NBSP}:" in asked
    assert "Afficher cette aide et quitter." in asked
    assert kelou("--help", LANG="fr_FR.UTF-8").stdout == asked
    assert kelou("--help", LANG="C").stdout.startswith("Usage:")
    assert kelou("--lang", "fr", "list", "shaw").stderr == (
        f"kelou: il n’y a pas de commande kelou list shaw{NBSP}; vouliez-vous dire show{NBSP}? (kelou list --help)\n"
    )
    assert kelou("--lang", "fr", "post", "show").stderr == "kelou: Argument manquant 'ID'. (kelou post show --help)\n"
    assert kelou("--lang", "fr", "post", "show", "1", "2", "3").stderr == "kelou: Arguments en trop (2 3) (kelou post show --help)\n"


THE_LIST = ListView(
    1, "amis", "lists.example.org", "amis.lists.example.org", "open", "discussion", "Les amis", {key: s.default for key, s in listtype.SETTINGS.items()}, {}
)


@pytest.mark.parametrize("name", policy.TEXTS)
def test_every_refusal_in_both_languages(name: str) -> None:
    """What the policy says is another text in French, filled in, and reads as a reply of SMTP: ASCII, nothing lost, on one line that fits."""
    said = {}
    for code in i18n.LANGUAGES:
        with speaking(code):
            said[code] = policy.explain(name, THE_LIST, "x-spam")
        assert "{" not in said[code]
        assert to_ascii(said[code]).count("?") == said[code].count("?")
        assert "  " not in to_ascii(said[code])
        wire = Reply(550, "5.7.1", said[code]).wire
        assert wire.endswith(to_ascii(said[code])[-20:])
    assert said["fr"] != said["en"]
    assert not english_in(said["fr"])


# Templates of notices.


def used(path: Path) -> set[str]:
    """The values that a template uses, with their attributes."""
    environment = Environment(autoescape=True)
    environment.filters["date"] = str
    tree = environment.parse(path.read_text("utf-8"))
    found = {f"{node.node.name}.{node.attr}" for node in tree.find_all(nodes.Getattr) if isinstance(node.node, nodes.Name)}
    return found | meta.find_undeclared_variables(tree) | {node.name for node in tree.find_all(nodes.Filter)}


def test_notices_in_both_languages() -> None:
    """English and French have the same notices, which use the same values."""
    notices = {code: {path.name: used(path) for path in (TEMPLATES / code).iterdir()} for code in i18n.LANGUAGES}
    assert notices["fr"] == notices["en"]


@pytest.mark.parametrize("path", sorted((TEMPLATES / "fr").iterdir()), ids=lambda path: path.stem)
def test_no_english_in_french_notices(path: Path) -> None:
    """No common English word stands in a French notice, but what is typed in."""
    text = re.sub(r"\{[{%].*?[%}]\}|<mailto:\S+>", " ", path.read_text("utf-8").removeprefix("Subject: "))
    assert english_in(text) == set()
