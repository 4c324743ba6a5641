"""The daemons as services: what systemd is told, what a reload changes and what it leaves, several milters behind one socket."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from lmtp_fixture import Client
from mta import Mta
from test_milter import POST, prepare

from kelou import sdnotify

SIZE = "[lists]\nrenamed = 1\n"


class Service:
    """A daemon as systemd would start it, and what it says to it."""

    def __init__(self, door: str, folder: Path, watchdog: float) -> None:
        self.folder = folder
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.listener.bind(str(folder / "notify"))
        self.listener.settimeout(20)
        environment = os.environ | {"NOTIFY_SOCKET": str(folder / "notify"), "WATCHDOG_USEC": str(int(watchdog * 1_000_000)), "LC_ALL": "C"}
        self.log = (folder / "log").open("w+b")
        command = [sys.executable, "-m", f"kelou.{door}.main", "-c", str(folder / "kelou.toml")]
        self.process = subprocess.Popen(command, env=environment, stderr=self.log, cwd=Path(__file__).parent.parent)
        self.hear("READY=1")

    def hear(self, wanted: str) -> None:
        """Wait until it says that."""
        while self.listener.recv(200).decode().partition("\n")[0] != wanted:
            pass

    def silent(self, seconds: float) -> bool:
        """Whether it says nothing for so long."""
        self.listener.settimeout(seconds)
        try:
            for _what in range(100):
                self.listener.recv(200)
        except TimeoutError:
            return True
        finally:
            self.listener.settimeout(20)
        return False

    def logged(self, text: str) -> None:
        """Wait until that stands in the log."""
        wait(lambda: text in (self.folder / "log").read_text())

    def reload(self, more: str) -> None:
        """Put more into the configuration and have it read."""
        path = self.folder / "kelou.toml"
        path.write_text(path.read_text() + more)
        self.process.send_signal(signal.SIGHUP)
        self.hear("RELOADING=1")
        self.hear("READY=1")


def wait(until: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@contextmanager
def service(door: str, folder: Path, more: str = "", watchdog: float = 600) -> Iterator[Service]:
    prepare(folder)
    path = folder / "kelou.toml"
    path.write_text(path.read_text() + more)
    running = Service(door, folder, watchdog)
    try:
        yield running
    finally:
        running.process.terminate()
        assert running.process.wait(20) == 0
        running.listener.close()
        running.log.close()


def children(pid: int) -> list[int]:
    return [int(number) for number in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize("door", ["milter", "lmtp"])
def test_it_tells_systemd_that_it_lives(door: str, tmp_path: Path) -> None:
    """WATCHDOG=1 comes again and again, twice in the time that systemd waits for it."""
    with service(door, tmp_path, watchdog=0.4) as running:
        for _again in range(3):
            running.hear("WATCHDOG=1")


@pytest.mark.parametrize("door", ["milter", "lmtp"])
def test_one_that_hangs_says_so_by_silence(door: str, tmp_path: Path) -> None:
    """A daemon that is stopped gives no sign of life, and goes on once it can."""
    with service(door, tmp_path, watchdog=0.4) as running:
        running.hear("WATCHDOG=1")
        running.process.send_signal(signal.SIGSTOP)
        assert running.silent(1)
        running.process.send_signal(signal.SIGCONT)
        running.hear("WATCHDOG=1")


def test_the_milter_reads_its_configuration_again(tmp_path: Path) -> None:
    """A session that is open goes on as it began; the next one goes by what is set now, and no mail was refused for it."""
    with service("milter", tmp_path) as running, Mta(tmp_path / "sockets/milter.sock") as before:
        assert before.mail() == "CONTINUE"
        assert before.rcpt("nobody@lists.example.org") == "550 5.1.1 There is no list with the address nobody@lists.example.org. Check how it is spelled."
        path = tmp_path / "kelou.toml"
        path.write_text(path.read_text().replace('language = "en"', 'language = "fr"'))
        running.reload("")
        assert before.rcpt("open@lists.example.org") == "CONTINUE"
        assert before.content(POST).word == "CONTINUE"
        with Mta(tmp_path / "sockets/milter.sock") as after:
            after.mail()
            assert after.rcpt("nobody@lists.example.org").startswith("550 5.1.1 Il n'y a pas de liste")


def test_the_handler_reads_its_configuration_again(tmp_path: Path) -> None:
    """On a connection that is open, too: the next message goes by what is set now."""
    with service("lmtp", tmp_path) as running, Client(tmp_path / "sockets/lmtp.sock") as client:
        client.hello()
        assert client.deliver("robot@lists.example.org", POST, "")[:1] == "5"
        path = tmp_path / "kelou.toml"
        path.write_text(path.read_text().replace("[site]\n", '[site]\ncommand_addresses = ["robot"]\n'))
        running.reload("")
        assert client.deliver("robot@lists.example.org", POST, "")[:1] == "2"


@pytest.mark.parametrize("door", ["milter", "lmtp"])
def test_a_wrong_configuration_changes_nothing(door: str, tmp_path: Path) -> None:
    """The reason is in the log, and the daemon goes on with what it had."""
    with service(door, tmp_path) as running:
        running.reload("[distribution]\nchunk = 0\n")
        running.logged("not-reloaded reason=\"distribution.chunk: 0 is not right")
        assert running.process.poll() is None


@pytest.mark.parametrize("door", ["milter", "lmtp"])
def test_what_only_a_restart_changes_is_named(door: str, tmp_path: Path) -> None:
    """A daemon stands on its database and its sockets: other ones are for the next start, and the log says so."""
    with service(door, tmp_path) as running:
        running.reload("[milter]\nprocesses = 3\n[distribution]\nconnections = 2\n")
        running.logged('restart-needed settings="milter.processes, distribution.connections"')


def test_several_milters_share_a_socket(tmp_path: Path) -> None:
    """Each of them serves; one that is killed is replaced, and they all go with the first."""
    with service("milter", tmp_path, "[milter]\nprocesses = 2\n", watchdog=2) as running:
        first = children(running.process.pid)
        assert len(first) == 2
        sessions = [Mta(tmp_path / "sockets/milter.sock") for _one in range(12)]
        assert [mta.mail() for mta in sessions] == ["CONTINUE"] * 12
        os.kill(first[0], signal.SIGKILL)
        wait(lambda: len(children(running.process.pid)) == 2 and first[0] not in children(running.process.pid))
        running.logged(f"process-ended pid={first[0]} status=-9")
        with Mta(tmp_path / "sockets/milter.sock") as mta:
            mta.mail()
            assert mta.rcpt("open@lists.example.org") == "CONTINUE"
            assert mta.content(POST).word == "CONTINUE"
        running.hear("WATCHDOG=1")
        path = tmp_path / "kelou.toml"
        path.write_text(path.read_text().replace('language = "en"', 'language = "fr"'))
        running.reload("")
        wait(lambda: (tmp_path / "log").read_text().count("reloaded config=") == 3)
        for mta in sessions:
            mta.socket.close()
        last = children(running.process.pid)
    assert not any(Path(f"/proc/{pid}").exists() for pid in last)
    assert not (tmp_path / "sockets/milter.sock").exists()


def test_a_milter_of_several_that_hangs_is_noticed(tmp_path: Path) -> None:
    """The watchdog is fed only while each of them gives signs of life."""
    with service("milter", tmp_path, "[milter]\nprocesses = 2\n", watchdog=1) as running:
        hanging = children(running.process.pid)[0]
        running.hear("WATCHDOG=1")
        os.kill(hanging, signal.SIGSTOP)
        try:
            assert running.silent(3)
        finally:
            os.kill(hanging, signal.SIGCONT)


def test_several_milters_end_with_one_that_is_killed(tmp_path: Path) -> None:
    """kill -9 of the first one leaves nobody behind who would hold the socket."""
    prepare(tmp_path)
    path = tmp_path / "kelou.toml"
    path.write_text(path.read_text() + "[milter]\nprocesses = 2\n")
    running = Service("milter", tmp_path, 600)
    others = children(running.process.pid)
    running.process.kill()
    running.process.wait()
    wait(lambda: not any(Path(f"/proc/{pid}").exists() for pid in others))
    running.listener.close()
    running.log.close()


@pytest.mark.parametrize(
    ("environment", "pause"),
    [
        pytest.param({}, None, id="nobody waits"),
        pytest.param({"WATCHDOG_USEC": "30000000"}, 15.0, id="half of what systemd waits"),
        pytest.param({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0, id="for us"),
        pytest.param({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None, id="for another process"),
        pytest.param({"WATCHDOG_USEC": "0"}, None, id="0"),
        pytest.param({"WATCHDOG_USEC": "soon"}, None, id="no number"),
    ],
)
def test_watchdog(environment: dict[str, str], pause: float | None) -> None:
    """sd_watchdog_enabled(3)."""
    assert sdnotify.watchdog(environment) == pause


def test_to_the_journal_lines_have_priorities(tmp_path: Path) -> None:
    """Where standard error is the journal's, lines have a priority, a traceback in all of them, and no time and name, which the journal has itself."""
    script = (
        "import os; s = os.fstat(2); os.environ['JOURNAL_STREAM'] = f'{s.st_dev}:{s.st_ino}'\n"
        "from kelou import maillog; maillog.start('lmtp')\n"
        "maillog.event('held', id=1); maillog.problem('unsigned')\n"
        "try: 1 / 0\nexcept Exception: maillog.fault('fault')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent)
    lines = done.stderr.splitlines()
    assert lines[:3] == ["<6>held id=1", "<4>unsigned", "<3>fault"]
    assert all(line.startswith("<3>") for line in lines[2:])
    assert lines[-1] == "<3>ZeroDivisionError: division by zero"
