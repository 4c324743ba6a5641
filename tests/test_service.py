"""The units: what systemd itself says of them, and how they come to a host."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_cli import Kelou, bare, site

from kelou import unit
from kelou.config import Config

__all__ = ["bare", "site"]  # fixtures

ROOT = Path(__file__).parent.parent
PROGRAM = Path(sys.executable).with_name("kelou")


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """The units for the program of this environment, in a folder."""
    folder = tmp_path / "units"
    folder.mkdir()
    for path, text in unit.files(Config(Path("/etc/kelou/kelou.toml"), {}), PROGRAM).items():
        (folder / path.name).write_text(text)
    return folder


@pytest.mark.parametrize("name", [name for name in unit.UNITS if name.endswith(".service")])
def test_each_service_is_hardened(name: str, written: Path) -> None:
    """systemd-analyze rates its exposure at 2.0 of 10 or less."""
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(written / name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"Overall exposure level for \S+: [01]\.\d", done.stdout), done.stdout[-300:]


def test_the_units_say_nothing_that_systemd_does_not_know(written: Path) -> None:
    """systemd-analyze verify has nothing to say: it would only warn of an unknown key."""
    units = [str(written / name) for name in unit.UNITS]
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("door", ["lmtp", "milter"])
def test_a_daemon_tells_systemd_of_itself(door: str, written: Path) -> None:
    """Type=notify with a watchdog, a reload that loses nothing, and no restart where the configuration is wrong."""
    text = (written / f"kelou-{door}.service").read_text()
    for line in ("Type=notify", "WatchdogSec=60", "ExecReload=/bin/kill -HUP $MAINPID", "RestartPreventExitStatus=78", "User=_kelou", "SyslogFacility=mail"):
        assert f"\n{line}\n" in text


def test_what_the_files_name_is_what_is_set(tmp_path: Path) -> None:
    """Program, configuration, secret and sockets may be anywhere: the units follow, and nothing of the usual places is left in them."""
    values = {"postfix.sockets": "/var/spool/postfix-lists/kelou", "secret.file": "/srv/kelou/secret"}
    text = "".join(unit.files(Config(Path("/opt/kelou/etc/site.toml"), values), Path("/opt/kelou/bin/kelou")).values())
    assert "ExecStart=/opt/kelou/bin/kelou -c /opt/kelou/etc/site.toml serve lmtp" in text
    assert "ReadWritePaths=/srv/kelou -/var/spool/postfix-lists/kelou" in text
    assert "d /var/spool/postfix-lists/kelou 2750 _kelou postfix -" in text
    assert "d /opt/kelou/etc/dkim 0700 _kelou _kelou -" in text
    assert not re.search(r"/usr/bin/kelou|/etc/kelou|/var/lib/kelou|/var/spool/postfix/", text)


def test_sysusers_and_tmpfiles_take_their_files(tmp_path: Path) -> None:
    """systemd's own programs make the account and the folders of them, in a root of their own."""
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "var/spool/postfix").mkdir(parents=True)
    (root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\npostfix:x:105:\npostdrop:x:106:\n")
    for name in ("sysusers.d", "tmpfiles.d"):
        (root / "etc" / name).mkdir()
    for path, text in unit.files(Config(Path("/etc/kelou/kelou.toml"), {}), PROGRAM).items():
        if path.parent.name in ("sysusers.d", "tmpfiles.d"):
            (root / "etc" / path).write_text(text)
    subprocess.run(["systemd-sysusers", f"--root={root}"], check=True, capture_output=True, timeout=60)
    subprocess.run(["systemd-tmpfiles", "--create", f"--root={root}", str(root / "etc/tmpfiles.d/kelou.conf")], check=True, capture_output=True, timeout=60)
    user = re.search(r"^_kelou:x:(\d+):(\d+):Kelou mailing lists:/var/lib/kelou:/usr/sbin/nologin$", (root / "etc/passwd").read_text(), re.MULTILINE)
    assert user
    assert _owner(root / "var/spool/postfix/kelou") == (0o2750, int(user[1]), 105)
    assert _owner(root / "var/lib/kelou") == (0o750, int(user[1]), int(user[2]))
    assert _owner(root / "etc/kelou/dkim") == (0o700, int(user[1]), int(user[2]))


def _owner(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_mode & 0o7777, status.st_uid, status.st_gid


def test_install_below_another_root(bare: Kelou, tmp_path: Path) -> None:
    """For packages and images: the files are written and nothing is started; twice changes nothing, -n writes nothing."""
    root = tmp_path / "image"
    arguments = ("service", "install", "--root", str(root), "--program", "/usr/bin/kelou")
    assert bare(*arguments, "-n").code == 0
    assert not root.exists()
    assert bare(*arguments).code == 0
    found = {path.relative_to(root / "etc"): path.read_text() for path in root.rglob("*") if path.is_file()}
    assert {path.name for path in found} == {"kelou.conf", *unit.UNITS}
    assert bare(*arguments, "--json").code == 0
    said = json.loads(bare.out)
    assert ({row["state"] for row in said["files"]}, said["started"]) == ({"kept"}, False)
    changed = root / "etc/systemd/system/kelou-lmtp.service"
    changed.write_text("something else")
    assert bare(*arguments).code == 0
    assert f"{changed}: changed" in bare.err
    assert changed.read_text() == found[changed.relative_to(root / "etc")]


def test_a_program_that_services_do_not_see(bare: Kelou, tmp_path: Path) -> None:
    """ProtectHome hides /home and /root: an environment there is refused with the word to install it elsewhere."""
    assert bare("service", "install", "--root", str(tmp_path / "image"), "--program", "/root/venv/bin/kelou").code == 78
    assert bare.err.count("\n") == 1
    assert "/opt/kelou" in bare.err


def test_without_root_nothing_is_installed(bare: Kelou, monkeypatch: pytest.MonkeyPatch) -> None:
    """77, and a word what to do."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert bare("service", "install", "--program", "/usr/bin/kelou").code == 77
    assert bare.err.count("\n") == 1


def test_the_files_are_in_the_wheel() -> None:
    """systemd/ is a folder at the root, and package data through kelou/systemd."""
    link = ROOT / "kelou/systemd"
    assert link.is_symlink()
    assert link.readlink() == Path("../systemd")
    assert shutil.which("systemd-analyze")
