"""The house itself: what would break it unnoticed, and the direction of its imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOORS = ("milter", "lmtp", "admin")


def modules() -> dict[str, Path]:
    """Every module of ours by its full name; the doors through their links, each file once."""
    found: dict[str, Path] = {}
    for folder, prefix in (("kelou", "kelou"), *((door, f"kelou.{door}") for door in DOORS)):
        for path in sorted((ROOT / folder).glob("*.py")):
            name = prefix if path.stem == "__init__" else f"{prefix}.{path.stem}"
            found[name] = path
    return found


def imports(name: str, path: Path, known: dict[str, Path]) -> set[str]:
    """The modules of ours that a module imports, wherever in the file."""
    package = name if path.stem == "__init__" else name.rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            base = ".".join([*parts[: len(parts) - node.level + 1], *([node.module] if node.module else [])]) if node.level else str(node.module)
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return (found & set(known)) - {name, "kelou"}


def arrows() -> dict[str, set[str]]:
    known = modules()
    return {name: imports(name, path, known) for name, path in known.items()}


@pytest.mark.parametrize("door", DOORS)
def test_a_door_is_no_package_of_its_own(door: str) -> None:
    """A door's folder has no __init__.py (pymilter's C module is called milter), and kelou/ links to it."""
    assert not (ROOT / door / "__init__.py").exists()
    link = ROOT / "kelou" / door
    assert link.is_symlink()
    assert link.readlink() == Path("..") / door


def test_pymilter_is_not_hidden_at_the_root() -> None:
    """Standing in the checkout, `import Milter` finds pymilter and `kelou.milter` finds ours."""
    done = subprocess.run(
        [sys.executable, "-c", "import Milter, milter, kelou.milter.main; print(milter.__file__)"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "site-packages" in done.stdout


def test_doors_never_import_each_other() -> None:
    """A door imports the ground and itself."""
    wrong = []
    for name, targets in arrows().items():
        door = name.split(".")[1] if name.count(".") == 2 else None
        if door:
            wrong += [f"{name} -> {t}" for t in targets if t.count(".") == 2 and t.split(".")[1] != door]
    assert wrong == []


def test_the_ground_imports_no_door() -> None:
    """Nothing in kelou/ knows the doors."""
    wrong = [f"{name} -> {t}" for name, targets in arrows().items() if name.count(".") == 1 for t in targets if t.count(".") == 2]
    assert wrong == []


def test_imports_make_no_circle() -> None:
    """Imports point down: the modules can be put in an order in which each imports earlier ones only."""
    left = arrows()
    while free := [name for name, targets in left.items() if not targets & set(left)]:
        for name in free:
            del left[name]
    assert left == {}


def test_every_module_says_what_it_is() -> None:
    """Each file opens with a docstring."""
    assert [name for name, path in modules().items() if not ast.get_docstring(ast.parse(path.read_text("utf-8")))] == []


def test_scripts_can_be_run() -> None:
    """Everything in script/ is executable, and so is .ci/run."""
    assert [str(p) for p in (*(ROOT / "script").iterdir(), ROOT / ".ci" / "run") if not p.stat().st_mode & 0o100] == []


def test_each_dependency_is_explained() -> None:
    """docs/dependencies.md has a line for each dependency in setup.cfg."""
    import configparser
    import re

    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    names = parser["options"]["install_requires"].split("\n") + "\n".join(parser["options.extras_require"].values()).split("\n")
    wanted = {re.split(r"[ >=<\[;]", n.strip())[0].lower() for n in names if n.strip()}
    text = (ROOT / "docs" / "dependencies.md").read_text("utf-8").lower()
    assert {n for n in wanted if f"| {n} |" not in text} == set()
