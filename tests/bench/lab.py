"""The laboratory: a sandbox whose world is a counting sink, ports of the same Postfix without Kelou, and stopwatches."""

from __future__ import annotations

import atexit
import contextlib
import json
import mmap
import os
import random
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kelou import config as configuration
from kelou import database
from kelou.models import Account, MailingList, Subscription, now

HERE = Path(__file__).parent
DOMAIN = "lists.example.org"
OWNER = "owner@example.org"
SMALL = "small.example"  # the sink counts its recipients apart
PATIENCE = 120  # seconds for one measurement


def message(size: int) -> bytes:
    """A post of about that size, less its Message-ID and To."""
    head = (
        f"From: Owner <{OWNER}>\r\nSubject: A post about nothing in particular\r\nDate: Mon, 23 Nov 2026 12:00:00 +0000\r\n"
        "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
    )
    line = "The quick brown fox jumps over the lazy dog, and then does it again; {:04d}.\r\n"
    return (head + "".join(map(line.format, range((size - len(head) - 80) // len(line.format(0)))))).encode()


class Sink:
    """The world. It shares its counters with us, so that looking at them costs it nothing."""

    def __init__(self, program: Path, directory: Path, port: int) -> None:
        self._file = directory / "counters"
        self._file.write_bytes(bytes(4096))
        self._process = subprocess.Popen([program, self._file, str(port)])
        with self._file.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), 40)

    def count(self, small: bool = False) -> int:
        return int(struct.unpack("5Q", self._shared[:40])[small])

    def last(self, small: bool = False) -> int:
        """When the last one was acknowledged, on the monotonic clock, in nanoseconds."""
        return int(struct.unpack("5Q", self._shared[:40])[2 + small])

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()


@dataclass
class Lab:
    """All of it. `up` starts it, `down` ends what `up` started."""

    directory: Path
    info: dict[str, Any] = field(default_factory=dict)
    results: dict[str, list[float]] = field(default_factory=dict)

    def up(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        for name, flags in (("sink", []), ("inject", ["-pthread"])):
            subprocess.run(["cc", "-O2", "-w", *flags, "-o", self.directory / name, HERE / f"{name}.c"], check=True)
        done = subprocess.run([*KELOU, "sandbox", "up", str(self.directory / "sandbox"), "--json"], capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stderr.strip() or "bench: the sandbox does not start")
        self.info = json.loads(done.stdout)
        atexit.register(self.down)
        self.config = configuration.load(Path(self.info["config"]))
        database.open_database(self.config)
        self.etc = Path(self.config["postfix.config_directory"])
        self.spool = self.etc.parent / "spool"
        self.ports = {name: int(self.info[name].rpartition(":")[2]) for name in ("smtp", "untrusted_smtp", "reinjection", "personal")}
        self.ports |= {name: free_port() for name in ("sink", "alone", "other")}
        self.sink = Sink(self.directory / "sink", self.directory, self.ports["sink"])
        (self.directory / "aliases").touch()
        self.main(
            relayhost=f"[127.0.0.1]:{self.ports['sink']}",
            mydestination="alias.example",
            alias_maps=f"texthash:{self.directory}/aliases",
            local_recipient_maps="",
        )
        # Postfix alone: the port that personal copies take, less everything of Kelou's, and one as the host's own with the milter taken out.
        self.service("local", "unix", "- n n - - local")
        self.service(f"127.0.0.1:{self.ports['alone']}", "inet", "n - n - - smtpd", **ALONE)
        self.service(f"127.0.0.1:{self.ports['other']}", "inet", "n - n - - smtpd", **OTHER)
        self.postfix("reload")
        for port in self.ports.values():
            wait_for(port)

    def down(self) -> None:
        atexit.unregister(self.down)
        subprocess.run([*KELOU, "sandbox", "down", str(self.directory / "sandbox")], capture_output=True, check=False)
        self.sink.close()

    def kelou(self, *arguments: str) -> str:
        done = subprocess.run([*KELOU, "-c", self.info["config"], *arguments], capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"bench: kelou {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def main(self, **values: str) -> None:
        subprocess.run(["/usr/sbin/postconf", "-c", self.etc, *(f"{key}={value}" for key, value in values.items())], check=True)

    def service(self, name: str, kind: str, entry: str, **options: str) -> None:
        subprocess.run(["/usr/sbin/postconf", "-c", self.etc, "-M", f"{name}/{kind}={name} {kind} {entry}"], check=True)
        settings = [f"{name}/{kind}/{key}={value}" for key, value in options.items()]
        if settings:
            subprocess.run(["/usr/sbin/postconf", "-c", self.etc, "-P", *settings], check=True)

    def postfix(self, verb: str) -> None:
        environment = {"PATH": f"{os.environ['PATH']}:/usr/sbin"}
        subprocess.run(["/usr/sbin/postfix", "-c", self.etc, verb], check=True, capture_output=True, env=environment)

    # Lists and people.

    def people(self, number: int, domains: int = 1, first: int = 0, domain: str = "") -> Path:
        """A file of addresses."""
        path = self.directory / f"people-{number}-{domains}-{first}{domain}"
        if not path.exists():
            names = (f"user{place:06}@{domain or f'd{place % domains:03}.example'}\n" for place in range(first, first + number))
            path.write_text("".join(names))
        return path

    def list(self, name: str, people: Path, **settings: str) -> str:
        """A list with these subscribers; its address."""
        self.kelou("list", "create", name, "--type", settings.pop("type", "discussion"), "--subject", name, "--owner", OWNER)
        if settings:
            self.kelou("list", "set", name, *(f"{key}={value}" for key, value in settings.items()))
        addresses = people.read_text().split()
        with database.transaction():
            the_list = MailingList.get(MailingList.name == name)
            rows = [(one, one, one.rpartition("@")[2], now()) for one in addresses]
            for start in range(0, len(rows), 5000):
                fields = [Account.address, Account.key, Account.domain, Account.created]
                Account.insert_many(rows[start : start + 5000], fields=fields).on_conflict_ignore().execute()
            accounts = dict(Account.select(Account.key, Account.id).tuples())
            rows = [(the_list.id, accounts[one], now(), "bench") for one in addresses]
            for start in range(0, len(rows), 5000):
                fields = [Subscription.list, Subscription.account, Subscription.since, Subscription.source]
                Subscription.insert_many(rows[start : start + 5000], fields=fields).execute()
        return f"{name}@{DOMAIN}"

    # Handing in.

    def inject(
        self, port: str, recipients: Path, size: int, connections: int = 1, per: int = 1, parameters: str = "", sender: str = OWNER
    ) -> Callable[[], tuple[int, int]]:
        """What hands messages in, and says when it began and ended."""
        content = self.directory / f"message-{size}"
        if not content.exists():
            content.write_bytes(message(size))
        command = [self.directory / "inject", str(self.ports[port]), str(connections), str(per), sender, recipients, content]

        def go() -> tuple[int, int]:
            done = subprocess.run([*command, *([parameters] if parameters else [])], capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(done.stderr)
            begin, end = map(int, done.stdout.split())
            return begin, end

        return go

    def to(self, *addresses: str) -> Path:
        path = self.directory / f"to-{len(addresses)}-{addresses[0]}"
        path.write_text("".join(f"{one}\n" for one in addresses))
        return path

    # Stopwatches.

    def measure(self, submit: Callable[[], tuple[int, int]], copies: int, small: bool = False) -> float:
        """Seconds from the beginning of the submission until the sink has acknowledged the last of so many copies."""
        wanted = self.sink.count(small) + copies
        begin, _end = submit()
        deadline = time.monotonic() + PATIENCE
        while self.sink.count(small) < wanted:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.sink.count(small) - wanted + copies} of {copies} copies after {PATIENCE} s")
            time.sleep(0.001)
        return (self.sink.last(small) - begin) / 1e9

    def in_turns(self, cases: dict[str, Callable[[], float]], rounds: int, say: Callable[[str], None]) -> None:
        """Every case once a round, in shuffled order: what a machine does between the hours falls out of the ratios within a round."""
        for turn in range(rounds):
            for name in random.Random(turn).sample(sorted(cases), len(cases)):
                self.drain()
                seconds = cases[name]()
                self.results.setdefault(name, []).append(seconds)
                say(f"{turn + 1}/{rounds} {name}: {seconds:.4g}")

    def drain(self) -> None:
        """Wait until Postfix has nothing to do."""
        deadline = time.monotonic() + PATIENCE
        while any(files for queue in ("maildrop", "incoming", "active") for _path, _folders, files in os.walk(self.spool / queue)):
            if time.monotonic() > deadline:
                raise RuntimeError("Postfix' queue does not run empty")
            time.sleep(0.02)
        time.sleep(0.1)

    def resident(self) -> float:
        """Megabytes of resident memory of all of Kelou's processes."""
        return sum(_resident(pid) for name in ("lmtp", "milter") for pid in _family(self.info["pids"][name])) / 1e6

    @contextlib.contextmanager
    def watching(self) -> Iterator[list[float]]:
        """The resident memory, several times a second, while the block runs."""
        samples, stop = [self.resident()], threading.Event()

        def watch() -> None:
            while not stop.wait(0.1):
                samples.append(self.resident())

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield samples
        finally:
            stop.set()
            thread.join()

    def ratio(self, one: str, other: str) -> float:
        """The median of the ratios within a round."""
        return statistics.median(a / b for a, b in zip(self.results[one], self.results[other], strict=True))


KELOU = [sys.executable, "-m", "kelou.admin.cli"]
ALONE = {
    "cleanup_service_name": "kelou-cleanup",
    "smtpd_milters": "",
    "receive_override_options": "no_address_mappings,no_unknown_recipient_checks,no_header_body_checks,no_milters",
    "smtpd_recipient_restrictions": "",
    "smtpd_relay_restrictions": "permit_mynetworks,reject",
    "smtpd_authorized_verp_clients": "127.0.0.0/8",
    "smtpd_recipient_limit": "100000",
}
OTHER = {"milter_macro_daemon_name": "SUBMISSION", "smtpd_milters": "", "smtpd_relay_restrictions": "permit_mynetworks,reject"}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 20
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as one:
            one.recv(100)
            return
        if time.monotonic() > deadline:
            sys.exit(f"bench: nothing answers at port {port}")
        time.sleep(0.05)


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def _family(pid: int) -> list[int]:
    """A process and those that it started."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        children = []
    return [pid, *(member for child in children for member in _family(int(child)))]


def machine() -> dict[str, str]:
    """What it was measured on."""
    facts = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in facts if line.startswith("model name")), "unknown")
    postfix = subprocess.run(["/usr/sbin/postconf", "-dh", "mail_version"], capture_output=True, text=True, check=False).stdout.strip()
    memory = f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9:.0f} GB"
    disk = shutil.disk_usage("/").total // 10**9
    return {
        "processors": f"{os.cpu_count()} × {model}", "memory": memory, "disk": f"{disk} GB", "system": os.uname().release,
        "postfix": postfix, "python": sys.version.split()[0], "load": f"{os.getloadavg()[0]:.1f}",
    }  # fmt: skip
