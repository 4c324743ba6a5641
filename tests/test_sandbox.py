"""A sandbox: everything runs, privately; two do not meet; what `up` started `down` ends; and the host's Postfix never notices."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Sandbox, kelou, submit

from kelou import i18n
from kelou.admin import cli
from kelou.admin import sandbox as sandbox_module
from kelou.admin.sandbox import PROCESSES, Process

KEYS = {"config", "domain", "smtp", "untrusted_smtp", "dns", "zone", "delivered", "pids", "log"}
POST = (
    b"From: author@example.com\r\nTo: reader@example.net\r\nSubject: x\r\nDate: Mon, 23 Nov 2026 07:00:00 +0000\r\n"
    b"Message-ID: <1@example.com>\r\n\r\n.body\r\n"
)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A folder for a sandbox of this test's own, which is down in the end."""
    yield tmp_path / "sandbox"
    kelou("sandbox", "down", str(tmp_path / "sandbox"))


def up(directory: Path) -> dict[str, Any]:
    done = kelou("sandbox", "up", str(directory), "--json")
    assert done.returncode == 0, done.stderr
    state: dict[str, Any] = json.loads(done.stdout)
    return state


def running(state: dict[str, Any]) -> set[str]:
    return {name for name, pid in state["pids"].items() if Process.of(pid)}


def of_directory(directory: Path) -> list[str]:
    """The command lines of all processes that have to do with a folder: in their arguments, or as where they work."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            said = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            if str(directory) in said + str((process / "cwd").readlink()) and process.name != str(os.getpid()):
                found.append(said)
        except OSError:
            continue
    return found


def test_keys(sandbox: Sandbox) -> None:
    """sandbox.json tells what cli.md fixes, and `up` and `status` print the same."""
    state = json.loads((sandbox.directory / "sandbox.json").read_text())
    assert set(state) >= KEYS
    assert set(state["pids"]) == set(PROCESSES) == running(state)
    assert state == sandbox.info
    status = kelou("sandbox", "status", str(sandbox.directory), "--json")
    assert status.returncode == 0
    assert json.loads(status.stdout).items() >= state.items()
    for key in ("config", "zone", "delivered", "log"):
        assert Path(state[key]).exists()


def test_world(sandbox: Sandbox) -> None:
    """What leaves ends in `delivered`, one file for each recipient."""
    sandbox.clear()
    readers = ["reader@example.net", "other@example.edu"]
    dialogue = sandbox.submit("author@example.com", readers, POST)
    assert dialogue.accepted, dialogue
    copies = sandbox.wait_delivered(2)
    assert sorted(copy.delivered_to for copy in copies) == sorted(readers)
    for copy in copies:
        assert copy.return_path == "author@example.com"
        assert copy.content.endswith(POST)


def test_sendmail(sandbox: Sandbox) -> None:
    """sendmail(1) works with the sandbox's configuration."""
    sandbox.clear()
    etc = sandbox.directory / "postfix/etc"
    subprocess.run(["/usr/sbin/sendmail", "-C", str(etc), "-f", "author@example.com", "reader@example.net"], input=POST, check=True)
    assert sandbox.wait_delivered(1)[0].delivered_to == "reader@example.net"


def test_untrusted(sandbox: Sandbox) -> None:
    """The port of the Internet relays nothing."""
    assert sandbox.untrusted("author@example.com", "reader@example.net", POST).recipients[0].startswith("554 5.7.1")


def test_records(sandbox: Sandbox) -> None:
    """The zone has what a list domain publishes, key and all."""
    host, _colon, port = sandbox.info["dns"].rpartition(":")
    resolver = dns_resolver(host, int(port))
    assert "v=DKIM1" in str(resolver.resolve("kelou._domainkey.lists.example.org", "TXT")[0])
    assert "v=spf1" in str(resolver.resolve("lists.example.org", "TXT")[0])
    assert "v=DMARC1" in str(resolver.resolve("_dmarc.lists.example.org", "TXT")[0])
    mail = resolver.resolve("lists.example.org", "MX")[0].exchange
    address = str(resolver.resolve(mail, "A")[0])
    assert resolver.resolve_address(address)[0].target == mail


def dns_resolver(host: str, port: int) -> Any:
    import dns.resolver

    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers, resolver.port = [host], port
    return resolver


def test_again(place: Path) -> None:
    """`up` on one that runs changes nothing; a process that was killed is started again, on the same ports, with the data kept."""
    first = up(place)
    assert up(place) == first
    os.kill(first["pids"]["lmtp"], signal.SIGKILL)
    status = kelou("sandbox", "status", str(place), "--json")
    assert status.returncode == 1
    assert json.loads(status.stdout)["running"] == {name: name != "lmtp" for name in PROCESSES}
    second = up(place)
    assert second["pids"].pop("lmtp") != first["pids"].pop("lmtp")
    assert second["pids"] == first["pids"]
    assert {key: value for key, value in second.items() if key not in ("pids", "started")}.items() <= first.items()


def test_down(place: Path) -> None:
    """`down` leaves the files and no process; after it `up` goes on with the same ports; twice is no harm."""
    first = up(place)
    assert len(of_directory(place)) >= len(PROCESSES)
    for _time in range(2):
        assert kelou("sandbox", "down", str(place)).returncode == 0
        assert not of_directory(place)
    assert (place / "kelou.db").exists()
    second = up(place)
    assert (second["smtp"], second["dns"]) == (first["smtp"], first["dns"])


def test_side_by_side(tmp_path: Path) -> None:
    """Two that start at the same moment have ports of their own, and one's end is not the other's."""
    places = [tmp_path / "one", tmp_path / "two"]
    command = ["-m", "kelou.admin.cli", "sandbox", "up", "--json"]
    started = [subprocess.Popen([sys.executable, *command, str(place)], stdout=subprocess.PIPE) for place in places]
    one, two = (json.loads(process.communicate(timeout=60)[0]) for process in started)
    try:
        ports = [state[key] for state in (one, two) for key in ("smtp", "untrusted_smtp", "dns", "reinjection", "personal", "capture")]
        assert len(set(ports)) == 12
        assert kelou("sandbox", "down", str(places[0])).returncode == 0
        assert not of_directory(places[0])
        assert running(two) == set(PROCESSES)
        box = Sandbox(places[1], two)
        assert box.submit("author@example.com", "reader@example.net", POST).accepted
        assert len(box.wait_delivered(1)) == 1
    finally:
        for place in places:
            kelou("sandbox", "down", str(place))


def test_long_path(tmp_path: Path) -> None:
    """A folder whose path is longer than a socket's may be (107 octets) is no trouble."""
    place = tmp_path / ("long" * 30) / "sandbox"
    try:
        assert running(up(place)) == set(PROCESSES)
    finally:
        kelou("sandbox", "down", str(place))
    assert not of_directory(place)


def test_private_folder(place: Path) -> None:
    """A folder that only its owner may enter, as mktemp makes them, is no trouble: Postfix' own user need not walk down to it."""
    place.mkdir(mode=0o700)
    box = Sandbox(place, up(place))
    assert box.submit("author@example.com", "reader@example.net", POST).accepted
    assert len(box.wait_delivered(1)) == 1


def test_failure(place: Path) -> None:
    """If something does not start, one line says what, and nothing is left running."""
    state = up(place)
    kelou("sandbox", "down", str(place))
    host, _colon, port = state["capture"].rpartition(":")
    with socket.create_server((host, int(port))):
        done = kelou("sandbox", "up", str(place))
    assert done.returncode == 69
    assert len(done.stderr.splitlines()) == 1
    assert "world" in done.stderr
    assert state["log"] in done.stderr
    assert not of_directory(place)


def test_nothing_there(tmp_path: Path) -> None:
    """`down` and `status` of a folder without a sandbox say so."""
    for verb in ("down", "status"):
        done = kelou("sandbox", verb, str(tmp_path))
        assert done.returncode == 67
        assert "kelou sandbox up" in done.stderr


@pytest.mark.parametrize("name", ["two words", "a,b", "a$b", "a#b", "a%b"])
def test_odd_path(tmp_path: Path, name: str) -> None:
    """A path that can not stand in main.cf is refused, not half used."""
    done = kelou("sandbox", "up", str(tmp_path / name))
    assert done.returncode == 65
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("verb", ["up", "down", "status"])
@pytest.mark.parametrize("name", ["", "  "])
def test_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str, name: str) -> None:
    """An empty argument (a variable that is not set) is not the folder at hand."""
    monkeypatch.chdir(tmp_path)
    done = kelou("sandbox", verb, name)
    assert (done.returncode, len(done.stderr.splitlines())) == (65, 1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", [(), ("-n",)])
def test_a_folder_of_something_else(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """A folder that has files and no sandbox (/etc/postfix, a checkout) is refused in one line, and stays as it is."""
    (tmp_path / "main.cf").write_text("")
    done = kelou("sandbox", "up", str(tmp_path), *arguments)
    assert (done.returncode, len(done.stderr.splitlines())) == (65, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["main.cf"]


@pytest.mark.parametrize("verb", ["up", "down"])
def test_through_sudo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    """Who is not root goes on through sudo, in their language; a folder that can not be one is refused before a password is asked for."""
    went: list[list[str]] = []

    def execute(path: str, arguments: list[str]) -> None:
        went.append(arguments)
        raise SystemExit(0)

    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "execv", execute)
    monkeypatch.setattr(sandbox_module.shutil, "which", lambda name, **more: f"/usr/bin/{name}")
    monkeypatch.setattr(sandbox_module.subprocess, "run", lambda *arguments, **more: subprocess.CompletedProcess(arguments, 0))
    said = ["sandbox", verb, str(tmp_path / "new"), "--lang", "fr"]
    monkeypatch.setattr(sys, "argv", ["kelou", *said])
    monkeypatch.setenv("LANGUAGE", "en")
    with i18n.speaking("en"), pytest.raises(SystemExit):
        cli.call(said)
    assert went == [["/usr/bin/sudo", "--", sys.executable, "-m", "kelou.admin.cli", "--lang", "fr", *said]]
    (tmp_path / "file").touch()
    assert cli.call(["sandbox", "up", str(tmp_path)]) == 65
    assert len(went) == 1


@pytest.mark.parametrize(("said", "locale", "language"), [((), "fr_FR.UTF-8", "fr"), ((), "C", "en"), (("--lang", "en"), "fr_FR.UTF-8", "en")])
def test_language(place: Path, monkeypatch: pytest.MonkeyPatch, said: tuple[str, ...], locale: str, language: str) -> None:
    """The site of a sandbox speaks the language of who starts it."""
    monkeypatch.setenv("LC_ALL", locale)
    assert kelou("sandbox", "up", str(place), *said).returncode == 0
    done = kelou("-c", str(place / "kelou.toml"), "config", "get", "site.language", "--json")
    assert json.loads(done.stdout)["value"] == language


def test_pid_of_another(place: Path) -> None:
    """A process that has the id of ours, but is not ours, is left alone."""
    state = up(place)
    kelou("sandbox", "down", str(place))
    with subprocess.Popen(["sleep", "60"]) as stranger:
        state["pids"]["lmtp"] = stranger.pid  # with the start time of what is gone
        (place / "sandbox.json").write_text(json.dumps(state))
        kelou("sandbox", "down", str(place))
        assert stranger.poll() is None
        stranger.kill()


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A folder that any user can walk down to: pytest keeps its own for root alone."""
    with tempfile.TemporaryDirectory(prefix="kelou-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder, "sandbox")
        kelou("sandbox", "down", str(Path(folder, "sandbox")))


def test_sudo(open_place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Started through sudo, what is Kelou's belongs to the user before it, who goes on without; Postfix' is root's.

    Where that user can not even read the program, as in a checkout below /root, it is root's all the same.
    """
    nobody = 65534
    monkeypatch.setenv("SUDO_UID", str(nobody))
    monkeypatch.setenv("SUDO_GID", str(nobody))
    if subprocess.run(["test", "-r", sandbox_module.__file__], user=nobody, group=nobody, check=False).returncode:
        nobody = 0
    state = up(open_place)
    users = {name: Path(f"/proc/{pid}").stat().st_uid for name, pid in state["pids"].items()}
    assert users == {"world": nobody, "lmtp": nobody, "milter": nobody, "postfix": 0}
    assert {(open_place / name).stat().st_uid for name in ("kelou.db", "kelou.toml", "secret", "zone", "delivered", "dkim")} == {nobody}
    assert (open_place / "postfix/etc/main.cf").stat().st_uid == 0
    box = Sandbox(open_place, state)
    assert box.submit("author@example.com", "reader@example.net", POST).accepted
    assert len(box.wait_delivered(1)) == 1


def test_host_untouched(place: Path) -> None:
    """The host's own Postfix, its configuration and its queue stay as they are."""

    def look() -> dict[str, str]:
        files = [path for folder in ("/etc/postfix", "/var/spool/postfix", "/var/lib/postfix") for path in sorted(Path(folder).rglob("*"))]
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else str(path.lstat().st_mode) for path in files}

    before = look()
    box = Sandbox(place, up(place))
    box.submit("author@example.com", "reader@example.net", POST)
    box.wait_delivered(1)
    kelou("sandbox", "down", str(place))
    assert look() == before


# What postfix-conf/ promises.


def test_reasons(sandbox: Sandbox) -> None:
    """RCPT tells in plain words why a list takes no mail, whoever asks."""
    sandbox.json("list", "request", "waiting", "--owner", "owner@example.com", "--type", "discussion", "--subject", "Waiting")
    for dialogue in (
        sandbox.submit("author@example.com", ["waiting@lists.example.org", "no-such-list@lists.example.org"], POST),
        sandbox.untrusted("author@example.com", ["waiting@lists.example.org", "no-such-list@lists.example.org"], POST),
    ):
        pending, unknown = dialogue.recipients
        assert pending.startswith("550 5.7.1")
        assert unknown.startswith("550 5.1.1")
        assert "User unknown" not in pending + unknown


def test_kelou_down(place: Path) -> None:
    """With all of Kelou dead, mail for lists waits (451), and everybody else's flows."""
    state = up(place)
    for name in ("lmtp", "milter"):
        os.kill(state["pids"][name], signal.SIGKILL)
    time.sleep(0.2)
    box = Sandbox(place, state)
    dialogue = box.submit("author@example.com", ["ca@lists.example.org", "reader@example.net"], POST)
    assert dialogue.recipients[0].startswith("451 ")
    assert dialogue.recipients[1].startswith("250 ")
    assert dialogue.accepted
    assert [copy.delivered_to for copy in box.wait_delivered(1)] == ["reader@example.net"]


def test_nothing_unsigned(place: Path) -> None:
    """With the milter dead the re-injection port takes nothing: no copy leaves without its signature."""
    state = up(place)
    os.kill(state["pids"]["milter"], signal.SIGKILL)
    time.sleep(0.2)
    dialogue = submit(state["reinjection"], "ca-bounces@lists.example.org", "reader@example.net", POST)
    assert all(reply.startswith("4") for reply in dialogue.recipients)
    assert not dialogue.data


def test_umask(tmp_path: Path) -> None:
    """A shell whose new files are nobody else's business starts a sandbox all the same."""
    command = [sys.executable, "-m", "kelou.admin.cli", "sandbox", "up", str(tmp_path / "sb")]
    try:
        done = subprocess.run(["sh", "-c", 'umask 077; exec "$@"', "sh", *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    finally:
        kelou("sandbox", "down", str(tmp_path / "sb"))
