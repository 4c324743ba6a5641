"""Pages made from the code say what the code says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from kelou import command, destination, errand, lifecycle, listtype

ROOT = Path(__file__).parent.parent
PAGES = (
    "cli.md", "configuration.md", "list-settings.md", "rules.md", "kelou.toml.sample", "man/kelou.8", "man/kelou.toml.5", "man/fr/kelou.8", "man/fr/kelou.toml.5",
    "completion/kelou.bash", "completion/_kelou", "completion/kelou.fish",
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    for language in ([], ["fr"]):
        subprocess.run([sys.executable, "-m", "kelou.admin.manual", str(folder), *language], check=True, cwd=ROOT)
    return folder


def test_every_page_is_compared(made: Path) -> None:
    """script/docs makes exactly the pages that are looked at here."""
    assert {str(path.relative_to(made)) for path in made.rglob("*") if path.is_file()} == set(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_as_the_code_says(made: Path, page: str) -> None:
    """A command, option or setting that changed without script/docs fails here."""
    assert (ROOT / "docs" / page).read_text("utf-8") == (made / page).read_text("utf-8")


@pytest.mark.parametrize("needle", ["kelou list request", "kelou member import", "--reject-file", "kelou backup restore", "--dry-run"])
def test_the_command_line_is_described(needle: str) -> None:
    """What cli.md promises is in the page, so that an empty tree can not pass for one."""
    assert needle in (ROOT / "docs" / "cli.md").read_text("utf-8")


@pytest.mark.parametrize("key", [*listtype.SETTINGS, *lifecycle.PROPERTIES])
def test_all_that_can_be_set_is_in_the_page(key: str) -> None:
    """docs/list-settings.md has a row for each word that `kelou list set` takes."""
    assert f"\n| `{key}` |" in (ROOT / "docs" / "list-settings.md").read_text("utf-8")


def test_every_rule_is_in_the_table_in_order() -> None:
    """docs/rules.md has each rule once, in the order in which they are asked, and each answer with its action and its text in both languages."""
    from kelou import policy

    rows = [line.split(" | ") for line in (ROOT / "docs" / "rules.md").read_text("utf-8").splitlines() if line.startswith("|") and "`" in line]
    numbered = [row[1] for row in rows if row[0].lstrip("| ").isdecimal()]
    assert numbered == [rule.__name__.replace("_", " ") for rule in policy.RULES]
    answers = [cell.strip("`| ") for row in rows for cell in row if cell.lstrip("| ").startswith("`")]
    assert sorted(answers) == sorted(policy.TEXTS)
    assert all(row[-1] and row[-2] for row in rows)


def test_the_sample_is_a_configuration(made: Path) -> None:
    """The sample file is read, with every comment taken away, as the defaults."""
    from kelou import config

    text = (made / "kelou.toml.sample").read_text("utf-8")
    whole = made.parent / "whole.toml"
    whole.write_text("".join(line.removeprefix("#") if not line.startswith("# ") else "" for line in text.splitlines(True)), "utf-8")
    loaded = config.load(whole)
    assert {key: loaded[key] for key in config.SETTINGS} == {key: setting.default for key, setting in config.SETTINGS.items()}
    assert set(loaded.values) == set(config.SETTINGS)


@pytest.mark.parametrize(("page", "mark"), [("mail-commands.md", "*Not offered yet.*"), ("commandes.md", "*Pas encore proposé.*")])
def test_commands_that_do_nothing_yet_are_marked(page: str, mark: str) -> None:
    """A command that is understood, and answered that there is no such thing, is not promised; one that works is not marked."""
    rows = [row for row in (ROOT / "docs" / page).read_text("utf-8").splitlines() if row.startswith("| `")]
    for name, does in errand.EVERYBODY.items():
        (row,) = (row for row in rows if any(f"`{name}`" in cell for cell in row.split("|")[1:3]))
        assert (mark in row) == (does is errand.archive), row


GUIDES = ("owners.md", "proprietaires.md")


@pytest.mark.parametrize("guide", GUIDES)
def test_commands_in_a_guide_are_understood(guide: str) -> None:
    """Each command shown to owners is one, whole, and what it sets can be set by an owner to that value."""
    blocks = re.findall(r"(?ms)^```(\w*)\n(.*?)^```$", (ROOT / "docs" / guide).read_text("utf-8"))
    lines = [line for kind, block in blocks if not kind for line in block.splitlines()]
    assert len(lines) >= 10
    for line in lines:
        found = command.read(line, lambda name: name == "ca")
        assert found, line
        assert found.problem == "", line
        assert found.text == "", line
        if found.key:
            setting = listtype.SETTINGS[found.key]
            assert setting.owner, line
            assert setting.show(setting.read(found.value)) == found.value, line


def _guide(guide: str) -> tuple[list[str], set[str], list[list[str]]]:
    """What a guide names in code, whatever its language: settings; addresses; and its table of types."""
    text = (ROOT / "docs" / guide).read_text("utf-8")
    coded = re.findall(r"`([^`\n]+)`", text)
    settings = [word for word in coded if word in listtype.SETTINGS]
    return settings, {word for word in coded if word.endswith("@")}, [re.findall(r"`([^`]+)`", row) for row in re.findall(r"(?m)^\|.*\|$", text)]


def test_the_guides_say_the_same() -> None:
    """The French page and the English one name the same settings, types and addresses."""
    french, english = _guide("proprietaires.md"), _guide("owners.md")
    assert french[:2] == english[:2]
    assert [row[:1] for row in french[2] if row and row[0] in listtype.TYPES] == [[name] for name in listtype.TYPES]
    assert [row for row in french[2] if row and row[0] in listtype.TYPES] == [row for row in english[2] if row and row[0] in listtype.TYPES]


@pytest.mark.parametrize("guide", GUIDES)
def test_addresses_in_a_guide(guide: str) -> None:
    """Every address that the guides name is one of a list, and means what they say."""
    named = {word.removeprefix("ca-").removesuffix("@") for word in _guide(guide)[1] - {"sympa@", "ca@"}}
    assert {name: destination.FUNCTIONS[name] for name in named} == {
        "owner": "owner", "request": "owner", "moderators": "moderators", "subscribe": "subscribe", "unsubscribe": "unsubscribe",
    }  # fmt: skip


# What the guides' tables of types say, in the order of their columns: who posts, where replies go, what is changed, how one subscribes.
SAID = {
    "newsletter": ("moderators", "author", {"footer"}, "open"),
    "discussion": ("subscribers", "author", set(), "open"),
    "working-group": ("subscribers-others-held", "list", {"subject_tag", "footer"}, "owner"),
    "moderated": ("moderated", "author", set(), "open"),
    "hotline": ("anyone", "both", {"subject_tag"}, "owner"),
    "confidential": ("subscribers", "list", {"subject_tag"}, "closed"),
}


@pytest.mark.parametrize("name", listtype.TYPES)
def test_types_are_as_the_guides_say(name: str) -> None:
    """A type that sets something else than docs/owners.md and docs/proprietaires.md say fails here: correct them too."""
    values = {key: setting.default for key, setting in listtype.SETTINGS.items()} | dict(listtype.TYPES[name])
    changed = {key for key in ("subject_tag", "footer") if values[key]}
    assert (values["post"], values["reply_to"], changed, values["subscribe"]) == SAID[name]
    assert (values["moderators_held"], values["held_for"], values["unauthenticated"]) == (False, 15 * 86400, "hold")
