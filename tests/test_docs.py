"""Pages made from the code say what the code says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = ("cli.md", "configuration.md", "list-settings.md", "rules.md", "kelou.toml.sample")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    subprocess.run([sys.executable, "-m", "kelou.admin.manual", str(folder)], check=True, cwd=ROOT)
    return folder


def test_every_page_is_compared(made: Path) -> None:
    """script/docs makes exactly the pages that are looked at here."""
    assert {path.name for path in made.iterdir()} == set(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_as_the_code_says(made: Path, page: str) -> None:
    """A command, option or setting that changed without script/docs fails here."""
    assert (ROOT / "docs" / page).read_text("utf-8") == (made / page).read_text("utf-8")


@pytest.mark.parametrize("needle", ["kelou list request", "kelou member import", "--reject-file", "kelou backup restore", "--dry-run"])
def test_the_command_line_is_described(needle: str) -> None:
    """What cli.md promises is in the page, so that an empty tree can not pass for one."""
    assert needle in (ROOT / "docs" / "cli.md").read_text("utf-8")


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
