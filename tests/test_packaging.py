"""The wheel: everything that a host needs is in it, and works from it alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from test_cli import CONFIG

from kelou import template, unit

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of a copy of what git knows: nothing that happens to lie about gets into it."""
    copy, made = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    git = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(git, cwd=ROOT, check=True, capture_output=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy / name, follow_symlinks=False)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(made), str(copy)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return next(made.iterdir())


def test_what_is_in_it(wheel: Path) -> None:
    """Doors, templates of notices in both languages, catalogue, migrations, Postfix's and systemd's files, man pages and completion."""
    with zipfile.ZipFile(wheel) as opened:
        names = set(opened.namelist())
    wanted = {f"kelou/{path}" for path in ("milter/main.py", "lmtp/main.py", "admin/cli.py", "locale/fr/LC_MESSAGES/kelou.mo", "migrations/0001_initial.py", "py.typed")}
    wanted |= {f"kelou/templates/{language}/{name}.txt" for language in ("en", "fr") for name in template.names()}
    wanted |= {f"kelou/postfix-conf/{path.name}" for path in (ROOT / "postfix-conf").iterdir() if path.is_file()}
    wanted |= {f"kelou/systemd/{name}" for name in (*unit.UNITS, "sysusers.conf", "tmpfiles.conf")}
    assert wanted - names == set()
    assert not [name for name in names if name.startswith(("tests/", "milter/", "lmtp/", "admin/"))]
    data = {name.partition(".data/data/")[2] for name in names if ".data/data/" in name}
    assert data >= {"share/man/man8/kelou.8", "share/man/man5/kelou.toml.5", "share/man/fr/man8/kelou.8", "share/bash-completion/completions/kelou.bash"}


def test_it_works_alone(wheel: Path, tmp_path: Path) -> None:
    """Installed in an environment of its own, away from the checkout, it makes a site, a list, and the units that start it."""
    venv.create(tmp_path / "venv", with_pip=False)
    # What it depends on is there already: this environment's.
    site = next((tmp_path / "venv/lib").glob("python*")) / "site-packages"
    ours = next(Path(entry) for entry in sys.path if entry.endswith("site-packages"))
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path / "kelou"), str(wheel)], check=True, timeout=300)
    (site / "all.pth").write_text(f"{tmp_path / 'kelou'}\n{ours}\n")
    (tmp_path / "kelou.toml").write_text(CONFIG)
    environment = {"PATH": os.defpath, "LC_ALL": "fr_FR.UTF-8", "KELOU_CONFIG": str(tmp_path / "kelou.toml")}

    def kelou(*arguments: str) -> str:
        command = [str(tmp_path / "venv/bin/python"), "-P", "-c", "from kelou.admin.cli import main; main()", *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    assert str(tmp_path / "kelou/kelou") in subprocess.run(
        [str(tmp_path / "venv/bin/python"), "-P", "-c", "import kelou; print(kelou.__file__)"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    ).stdout
    kelou("init")
    kelou("domain", "add", "lists.example.org")
    assert "est active" in kelou("list", "create", "jardin", "--owner", "a@example.org", "--type", "discussion", "--subject", "Le jardin")
    assert "ExecStart=/usr/bin/kelou" in kelou("service", "show", "--program", "/usr/bin/kelou")
    assert "_KELOU_COMPLETE" in kelou("completion", "bash")


def test_the_shell_completes() -> None:
    """Nouns, and the verbs behind them."""
    program = str(Path(sys.executable).with_name("kelou"))
    for words, wanted in (("kelou li", {"list", "listmaster"}), ("kelou list act", {"activate"})):
        environment = os.environ | {"_KELOU_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
        said = subprocess.run([program], env=environment, capture_output=True, text=True, check=False, timeout=60).stdout
        assert {line.partition(",")[2] for line in said.splitlines()} == wanted


@pytest.mark.parametrize("page", ["kelou.8", "kelou.toml.5", "fr/kelou.8", "fr/kelou.toml.5"])
def test_man_pages_are_set_without_a_warning(page: str) -> None:
    """groff has nothing to say of them."""
    done = subprocess.run(
        ["groff", "-man", "-k", "-Tutf8", "-ww", "-z", str(ROOT / "docs/man" / page)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
