"""A sandbox: all of Kelou, with a Postfix of its own and a world around it, under one folder and on loopback. Nothing else on the host is touched.

    DIR/sandbox.json    what there is and where: ports, files, processes
    DIR/kelou.toml      the configuration; kelou.db, secret and dkim/ are beside it
    DIR/postfix/        etc, spool (the sockets are in spool/kelou) and data of the private Postfix, made from postfix-conf/
    DIR/zone            what the DNS server answers, a master file
    DIR/delivered/      the Maildir that all outgoing mail ends in (world.py)
    DIR/log             one log: Postfix', the daemons', the world's

A process is ours by its id and the time it started: an id alone may be somebody else's by now.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dns.exception
import dns.message
import dns.query

from kelou import config as configuration
from kelou import database, postfixconf, secret, signing
from kelou.i18n import _, language
from kelou.models import Domain
from kelou.refusal import BadData, Down, NotFound, NotPermitted

DOMAIN = "lists.example.org"
HOST = f"mail.{DOMAIN}"
SELECTOR = "kelou"
TRUSTED = "SUBMISSION"  # milter_macro_daemon_name of the port whose clients count as authenticated

PROCESSES = ("world", "lmtp", "milter", "postfix")  # in the order of starting
PATIENCE = 20  # seconds until what was started must answer

_LONGEST = 107 - len("/public/postlog")
_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
_PORTS = ("smtp", "untrusted_smtp", "dns", "reinjection", "personal", "capture")
# Below the ports that the kernel hands out by itself: they are likely to be free again after a while.
_RANGE = range(20000, 32000)
# What stands in main.cf and in a URL without quoting.
_PLAIN = re.compile(r"[\w/.+:@=~-]+")

_ZONE = """\
; The DNS of this sandbox: a master file, reread when it changes. Names of any domain; each ends in a dot.
; A TXT record "kelou-servfail" at a name makes every question for it SERVFAIL, "kelou-timeout" leaves it without an answer.
$TTL 0
.  SOA world.invalid. nobody.world.invalid. 1 3600 600 86400 0
{domain}.  MX 10 {host}.
{domain}.  TXT "v=spf1 mx -all"
_dmarc.{domain}.  TXT "v=DMARC1; p=none"
{selector}._domainkey.{domain}.  TXT "{key}"
{host}.  A 127.0.0.1
{host}.  TXT "v=spf1 a -all"
1.0.0.127.in-addr.arpa.  PTR {host}.
"""


@dataclass(frozen=True, slots=True)
class Process:
    """A process, for certain: its id and when it started, in ticks since the machine did."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """The process of that id, if it runs."""
        found = _stat(pid)
        return cls(pid, int(found[19])) if found else None

    @property
    def running(self) -> bool:
        return Process.of(self.pid) == self

    def signal(self, number: int) -> None:
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def children(self) -> list[Process]:
        """The processes that it started itself, and that run."""
        numbers = (int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal())
        children = (Process.of(number) for number in numbers if (_stat(number) or ["", ""])[1] == str(self.pid))
        return [child for child in children if child]


def _stat(pid: int) -> list[str] | None:
    """/proc/PID/stat from the state on (proc(5)); None for a process that has ended, reaped or not."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)  # if it was started by this very process
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else fields


@dataclass(frozen=True)
class Sandbox:
    """The folder, and the state that sandbox.json keeps."""

    directory: Path
    state: dict[str, Any]

    @property
    def etc(self) -> Path:
        return self.directory / "postfix/etc"

    @property
    def spool(self) -> Path:
        return self.directory / "postfix/spool"

    @property
    def queue(self) -> Path:
        """The spool by a name that Postfix can take: it connects to spool/public/postlog, and the path of a socket has at most 107 octets."""
        if len(os.fsencode(self.spool)) <= _LONGEST:
            return self.spool
        return Path("/run/kelou-" + hashlib.sha256(os.fsencode(self.spool)).hexdigest()[:16])

    @property
    def sockets(self) -> Path:
        return self.spool / "kelou"

    @property
    def config(self) -> Path:
        return self.directory / "kelou.toml"

    @property
    def log(self) -> Path:
        return self.directory / "log"

    def endpoint(self, name: str) -> tuple[str, int]:
        host, _colon, port = self.state[name].rpartition(":")
        return host, int(port)

    def process(self, name: str) -> Process | None:
        """The process that plays this part, if it runs."""
        if name not in self.state["pids"]:
            return None
        process = Process(self.state["pids"][name], self.state["started"][name])
        return process if process.running else None

    def note(self, name: str, pid: int) -> None:
        """Keep the id of a process that was started just now."""
        process = Process.of(pid)
        self.state["pids"][name] = pid
        self.state["started"][name] = process.started if process else 0
        self.save()

    def save(self) -> None:
        fresh = self.directory / ".sandbox.json"
        fresh.write_text(json.dumps(self.state, indent=2) + "\n", "utf-8")
        fresh.rename(self.directory / "sandbox.json")


def up(directory: Path) -> dict[str, Any]:
    """Start what does not run yet; make what there is not yet. Returns what sandbox.json says. Raises Refusal, with nothing new left running."""
    directory = directory.absolute()
    require_place(directory)
    _require()
    os.umask(0o022)  # Postfix's processes, as another user, go through folders that are made here
    directory.mkdir(parents=True, exist_ok=True)
    with _lock(directory), contextlib.ExitStack() as ports:
        sandbox = _read(directory) or _new(directory, ports)
        _prepare(sandbox)
        before = {name for name in PROCESSES if sandbox.process(name)}
        try:
            ports.close()  # as late as can be
            for name in PROCESSES:
                if name not in before:
                    sandbox.note(name, _START[name](sandbox))
            for name in PROCESSES:
                _wait(sandbox, name)
        except BaseException:
            _stop(sandbox, [name for name in PROCESSES if name not in before])
            raise
    return sandbox.state


def down(directory: Path) -> dict[str, Any]:
    """End what `up` started, and nothing else; the files stay. Returns what sandbox.json says."""
    sandbox = _find(directory)
    _require()
    with _lock(sandbox.directory):
        _stop(sandbox, PROCESSES)
    return sandbox.state


def status(directory: Path) -> tuple[dict[str, Any], dict[str, bool]]:
    """What sandbox.json says, and for each of PROCESSES whether it runs."""
    sandbox = _find(directory)
    return sandbox.state, {name: sandbox.process(name) is not None for name in PROCESSES}


def require_place(directory: Path) -> None:
    """Raises BadData unless there is a sandbox in that folder, or room for one: a folder of something else is never filled."""
    directory = directory.absolute()
    if not _PLAIN.fullmatch(str(directory)):
        raise BadData(_("{directory}: Postfix wants a path without blanks and special characters").format(directory=directory))
    there = {path.name for path in directory.iterdir()} if directory.exists() else set()
    # The other two are there for a moment before it, and stay where that moment was the last.
    if "sandbox.json" not in there and there - {".lock", ".sandbox.json"}:
        raise BadData(_("{directory}: there is something else in it; name a new folder, or an empty one").format(directory=directory))


def as_root() -> None:
    """Let the command at hand go on as root and in this language (sudo may not keep the locale), through sudo, where that takes no password or
    somebody is there to type it. Raises NotPermitted."""
    if os.geteuid() == 0:
        return
    sudo = shutil.which("sudo")
    if not sudo or not (sys.stdin.isatty() or subprocess.run([sudo, "-n", "true"], capture_output=True, check=False).returncode == 0):
        raise NotPermitted(_("a sandbox has a Postfix of its own, which root must start: run this as root, or as a user who may use sudo"))
    os.execv(sudo, [sudo, "--", sys.executable, "-m", "kelou.admin.cli", "--lang", language(), *sys.argv[1:]])


def _require() -> None:
    """Raises Refusal if this host or this user can not have a sandbox."""
    if not shutil.which("postfix", path=_PATH):
        raise Down(_("there is no Postfix on this host; install it with: apt-get install postfix"))
    if os.geteuid() != 0:
        raise NotPermitted(_("only root can start and stop the Postfix of a sandbox"))


@contextlib.contextmanager
def _lock(directory: Path) -> Iterator[None]:
    """One `up` or `down` at a time for a folder."""
    with (directory / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _read(directory: Path) -> Sandbox | None:
    try:
        return Sandbox(directory, json.loads((directory / "sandbox.json").read_text("utf-8")))
    except FileNotFoundError:
        return None


def _find(directory: Path) -> Sandbox:
    sandbox = _read(directory.absolute())
    if not sandbox:
        raise NotFound(_("{directory}: there is no sandbox; make one with: kelou sandbox up {directory}").format(directory=directory))
    return sandbox


# Making it.


def _new(directory: Path, ports: contextlib.ExitStack) -> Sandbox:
    """A sandbox with ports of its own, which are kept from others until `ports` is closed."""
    state: dict[str, Any] = {"config": str(directory / "kelou.toml"), "domain": DOMAIN}
    state |= {name: f"127.0.0.1:{ports.enter_context(_reserve()).getsockname()[1]}" for name in _PORTS}
    state |= {"zone": str(directory / "zone"), "delivered": str(directory / "delivered"), "log": str(directory / "log")}
    sandbox = Sandbox(directory, {**state, "pids": {}, "started": {}})
    sandbox.save()
    return sandbox


def _reserve() -> socket.socket:
    """A socket bound to a free port. Until it is closed no other reservation gets that port, while a server may listen there already."""
    while True:
        holder = socket.socket()
        try:
            holder.bind(("127.0.0.1", random.choice(_RANGE)))
        except OSError:
            holder.close()
            continue
        # Set only now: bound without it, we know that the port is free; set, a server that sets it too can bind.
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return holder


def _prepare(sandbox: Sandbox) -> None:
    """Folders, configuration, database, key and zone. What is there already stays as it is: it may have been edited."""
    for folder in (sandbox.etc, sandbox.spool, sandbox.spool.with_name("data"), sandbox.sockets):
        folder.mkdir(parents=True, exist_ok=True, mode=0o755)
    shutil.chown(sandbox.spool.with_name("data"), "postfix")
    if sandbox.queue != sandbox.spool and not sandbox.queue.exists():
        sandbox.queue.unlink(missing_ok=True)
        sandbox.queue.symlink_to(sandbox.spool)
    # Setgid: the sockets made in it belong to group postfix, whose processes connect to them.
    shutil.chown(sandbox.sockets, group="postfix")
    sandbox.sockets.chmod(0o2750)
    _write(sandbox.config, _config(sandbox))
    _write(sandbox.etc / "main.cf", _main(sandbox) + postfixconf.main([DOMAIN], "kelou"))
    _write(sandbox.etc / "master.cf", _master(sandbox) + postfixconf.master(sandbox.state["reinjection"], sandbox.state["personal"], "kelou"))
    config = configuration.load(sandbox.config)
    secret.create(config.directory("secret.file"))
    database.open_database(config)
    database.migrate()
    with database.transaction():
        Domain.get_or_create(name=DOMAIN)
    keys = config.directory("dkim.directory")
    if not any(key.domain == DOMAIN for key in signing.keys(keys)):
        record = signing.create(keys, DOMAIN, SELECTOR)
        _write(Path(sandbox.state["zone"]), _ZONE.format(domain=DOMAIN, host=HOST, selector=SELECTOR, key=record))
    _give(sandbox)


def _write(path: Path, text: str) -> None:
    if not path.exists():
        path.write_text(text, "utf-8")


def _config(sandbox: Sandbox) -> str:
    directory = sandbox.directory
    tables: dict[str, dict[str, Any]] = {
        "site": {"language": language()},
        "database": {"url": f"sqlite:///{directory}/kelou.db"},
        "secret": {"file": directory / "secret"},
        "postfix": {
            "sockets": sandbox.sockets,
            "reinjection": sandbox.state["reinjection"],
            "personal": sandbox.state["personal"],
            "config_directory": sandbox.etc,
        },
        "authors": {"trusted_daemons": [TRUSTED]},
        "dns": {"resolvers": [sandbox.state["dns"]]},
        "dkim": {"directory": directory / "dkim"},
        "log": {"file": sandbox.log},
    }
    return "\n".join(
        f"[{table}]\n" + "".join(f"{name} = {configuration.to_toml(value)}\n" for name, value in values.items())
        for table, values in tables.items()
    )


def _main(sandbox: Sandbox) -> str:
    return postfixconf.render(
        "sandbox-main.cf",
        etc=sandbox.etc,
        spool=sandbox.queue,
        directory=sandbox.directory,
        log=sandbox.log,
        host=HOST,
        capture=sandbox.endpoint("capture")[1],
    )


def _master(sandbox: Sandbox) -> str:
    return postfixconf.render(
        "sandbox-master.cf", smtp=sandbox.endpoint("smtp")[1], untrusted=sandbox.endpoint("untrusted_smtp")[1], trusted=TRUSTED
    )


def _owner() -> tuple[int, int] | None:
    """The user and group before sudo: what is Kelou's is theirs, so that they go on without it. None where they can not run this program."""
    user, group = os.environ.get("SUDO_UID", ""), os.environ.get("SUDO_GID", "")
    if not (user.isdecimal() and group.isdecimal() and user != "0"):
        return None
    try:
        probe = subprocess.run([sys.executable, "-c", "import kelou"], user=int(user), group=int(group), cwd="/", capture_output=True, check=False)
    except OSError:
        return None
    return (int(user), int(group)) if probe.returncode == 0 else None


def _give(sandbox: Sandbox) -> None:
    """Let the user before sudo own what is not Postfix'."""
    owner = _owner()
    if not owner:
        return
    for path in (sandbox.directory, *sandbox.directory.rglob("*")):
        if sandbox.spool.parent not in (path, *path.parents):
            os.chown(path, *owner)
    os.chown(sandbox.sockets, owner[0], -1)
    sandbox.sockets.chmod(0o2750)  # a change of owner may take the setgid bit away


# Starting.


def _spawn(sandbox: Sandbox, module: str, *arguments: str) -> int:
    """Start a module detached from this process, logging to the sandbox's log; its process id."""
    command = [sys.executable, "-m", module, *arguments]
    owner = _owner()
    if owner:
        command = ["setpriv", f"--reuid={owner[0]}", f"--regid={owner[1]}", "--init-groups", "--", *command]
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    actions: list[Any] = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, sandbox.log, append, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    environment = {key: value for key, value in os.environ.items() if key not in ("KELOU_CONFIG", "NOTIFY_SOCKET")}
    return os.posix_spawnp(command[0], command, environment, file_actions=actions, setsid=True)


def _start_world(sandbox: Sandbox) -> int:
    state = sandbox.state
    return _spawn(
        sandbox, "kelou.admin.world",
        "--smtp", state["capture"], "--dns", state["dns"], "--zone", state["zone"], "--maildir", state["delivered"],
    )  # fmt: skip


def _postfix(sandbox: Sandbox, verb: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAIL_")} | {"PATH": _PATH}
    return subprocess.run(
        ["postfix", "-c", str(sandbox.etc), verb], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


def _start_postfix(sandbox: Sandbox) -> int:
    done = _postfix(sandbox, "start")
    try:
        return int((sandbox.spool / "pid/master.pid").read_text("ascii"))
    except (FileNotFoundError, ValueError):
        said = " ".join(done.stderr.split()) or _("no reason given")
        raise Down(_("Postfix did not start: {reason}; its log is {log}").format(reason=said, log=sandbox.log)) from None


_START: Mapping[str, Callable[[Sandbox], int]] = {
    "world": _start_world,
    "postfix": _start_postfix,
    "lmtp": lambda sandbox: _spawn(sandbox, "kelou.lmtp.main", "-c", str(sandbox.config)),
    "milter": lambda sandbox: _spawn(sandbox, "kelou.milter.main", "-c", str(sandbox.config)),
}


def _wait(sandbox: Sandbox, name: str) -> None:
    """Wait until it answers. Raises Down if it has ended, or is too slow."""
    deadline = time.monotonic() + PATIENCE
    while not _answers(sandbox, name):
        running = sandbox.process(name)
        if not running or time.monotonic() > deadline:
            text = _("{name} does not answer; the log is {log}") if running else _("{name} has ended right away; the log is {log}")
            raise Down(text.format(name=name, log=sandbox.log))
        time.sleep(0.05)


def _answers(sandbox: Sandbox, name: str) -> bool:
    """Whether it really does what it is there for."""
    try:
        match name:
            case "world":
                query = dns.message.make_query(f"{DOMAIN}.", "MX")
                host, port = sandbox.endpoint("dns")
                dns.query.udp(query, host, 1, port)
                return _said(socket.create_connection(sandbox.endpoint("capture"), 1), b"", b"220")
            case "postfix":
                ports = (sandbox.endpoint(port) for port in ("smtp", "untrusted_smtp", "reinjection", "personal"))
                return all(_said(socket.create_connection(port, 5), b"", b"220") for port in ports)
            case "lmtp":
                question = b"recipient nobody@invalid"  # in a netstring, as socketmap_table(5) says
                return _said(_unix(sandbox.sockets, "lmtp.sock"), b"", b"220") and _said(
                    _unix(sandbox.sockets, "map.sock"), b"%d:%s," % (len(question), question), b""
                )
            case _:
                # The first word of the milter protocol: what versions and actions the mail server offers.
                offer = struct.pack("!IcIII", 13, b"O", 6, 0x1FF, 0x1FFFFF)
                return _said(_unix(sandbox.sockets, "milter.sock"), offer, b"\0\0\0")
    except (OSError, dns.exception.DNSException):
        return False


def _said(connection: socket.socket, words: bytes, answer: bytes) -> bool:
    with connection:
        connection.sendall(words)
        heard = connection.recv(1024)
        return bool(heard) and heard.startswith(answer)


def _unix(folder: Path, name: str) -> socket.socket:
    """A connection to a socket however long its path is: the system takes no more than 107 octets."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(2)
    try:
        connection.connect(f"/proc/self/fd/{descriptor}/{name}")
    except OSError:
        connection.close()
        raise
    finally:
        os.close(descriptor)
    return connection


# Stopping.


def _stop(sandbox: Sandbox, names: tuple[str, ...] | list[str]) -> None:
    """End these, all at once, and wait for them."""
    processes = {name: process for name in names if (process := sandbox.process(name))}
    ending = [process for name, process in processes.items() if name != "postfix"]
    for process in ending:
        process.signal(signal.SIGTERM)
    master = processes.get("postfix")
    if master:
        ending += [master, *master.children()]
        _postfix(sandbox, "stop")
    deadline = time.monotonic() + PATIENCE
    while any(process.running for process in ending):
        if time.monotonic() > deadline:
            for process in ending:
                process.signal(signal.SIGKILL)
        time.sleep(0.02)
    if sandbox.queue != sandbox.spool and "postfix" in names:
        sandbox.queue.unlink(missing_ok=True)
    for name in names:
        sandbox.state["pids"].pop(name, None)
        sandbox.state["started"].pop(name, None)
    sandbox.save()
