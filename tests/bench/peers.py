"""Peers on the same machine, the same Postfix and the same recipients: mlmmj from Debian, Mailman 3 from PyPI, installed on the spot."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .lab import HERE, Lab, free_port, wait_for

ROOT = HERE.parents[1]
DOMAIN = "peers.example"
OWNER = "owner@example.org"
MAILMAN = "mailman==3.3.10"


def run(lab: Lab, rounds: int, numbers: list[int], say: Callable[[str], None]) -> list[tuple[str, str, str]]:
    """Measure them; the lines of the table that they make: work, case, the case it is compared with."""
    lines: list[tuple[str, str, str]] = []
    lab.main(
        transport_maps=f"$kelou_transports, texthash:{lab.directory}/transport",
        recipient_delimiter="+",
        peer_destination_recipient_limit="1",
        lmtp_destination_recipient_limit="1",
    )
    (lab.directory / "transport").write_text("")
    for name, prepare in (("mlmmj", mlmmj), ("Mailman 3", mailman)):
        with prepare(lab, numbers, say) as ready:
            for number in numbers if ready else ():
                people = lab.people(number)
                case = f"{name} shared {number:,} × 3 KB"
                alone = f"{case} alone"
                post = lab.inject("other", lab.to(f"{name.partition(' ')[0].lower()}{number}@{DOMAIN}"), 3000)
                limit = lab.inject("alone", people, 3000, 4, 500, sender=f"bounces@{DOMAIN}")
                measures = {case: (post, number), alone: (limit, number)}
                lab.in_turns({key: _timed(lab, *what) for key, what in measures.items()}, rounds, say)
                lines.append((f"{case}, against Postfix alone", case, alone))
    return lines


def _timed(lab: Lab, submit: Callable[[], tuple[int, int]], number: int) -> Callable[[], float]:
    return lambda: lab.measure(submit, number)


@contextmanager
def mlmmj(lab: Lab, numbers: list[int], say: Callable[[str], None]) -> Iterator[bool]:
    """mlmmj, in groups of 500 and without VERP. As it is shipped each copy waits 44 ms on loopback, for it writes in small pieces."""
    if not shutil.which("mlmmj-receive"):
        done = subprocess.run([ROOT / "script/install-packages", "mlmmj"], capture_output=True, text=True, check=False)
        if done.returncode:
            say(f"mlmmj can not be installed: {done.stderr.strip()[-200:]}")
            yield False
            return
    spool = lab.directory / "mlmmj"
    shutil.rmtree(spool, ignore_errors=True)
    routes = []
    folders = "incoming queue queue/discarded archive text subconf unsubconf bounce control moderation subscribers.d digesters.d requeue nomailsubs.d"
    for number in numbers:
        place = spool / f"mlmmj{number}"
        for folder in folders.split():
            (place / folder).mkdir(parents=True)
        shutil.copytree("/usr/share/mlmmj/text.skel/en", place / "text", dirs_exist_ok=True)
        address = f"mlmmj{number}@{DOMAIN}"
        control = {"listaddress": address, "owner": OWNER, "relayhost": "127.0.0.1", "smtpport": str(lab.ports["alone"]), "noarchive": "",
                   "verp": "", "maxverprecips": "500"}  # fmt: skip
        for key, value in control.items():
            (place / "control" / key).write_text(f"{value}\n" if value else "")
        (place / "subscribers.d" / "u").write_text(lab.people(number).read_text())
        (place / "index").write_text("0\n")
        routes.append(f"{address} peer:mlmmj{number}\n")
    for path in (spool, *spool.rglob("*")):
        shutil.chown(path, "nobody", "nogroup")
    for parent in (lab.directory, *lab.directory.parents):
        if parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o011)
    lab.service("peer", "unix", f"- n n - - pipe flags=ORhu user=nobody argv=/usr/bin/mlmmj-receive -F -L {spool}/$nexthop")
    (lab.directory / "transport").write_text("".join(routes))
    lab.postfix("reload")
    time.sleep(1)
    yield True


@contextmanager
def mailman(lab: Lab, numbers: list[int], say: Callable[[str], None]) -> Iterator[bool]:
    """Mailman 3's core, with max_recipients at its own default for big lists (500), and runners that look often."""
    place = lab.directory / "mailman"
    python = place / "bin/python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        done = subprocess.run([python, "-m", "pip", "install", "--quiet", MAILMAN], capture_output=True, text=True, check=False)
        if done.returncode:
            say(f"Mailman 3 can not be installed: {done.stderr.strip()[-200:]}")
            yield False
            return
    ports = [free_port() for _port in range(2)]
    runners = "".join(f"[runner.{runner}]\nsleep_time: 0.05s\n" for runner in ("in", "pipeline", "out"))
    settings = place / "mailman.cfg"
    settings.write_text(
        f"[mailman]\nlayout: bench\nsite_owner: {OWNER}\n[paths.bench]\nvar_dir: {place}/var\n"
        f"[database]\nclass: mailman.database.sqlite.SQLiteDatabase\nurl: sqlite:///{place}/mailman.db\n"
        f"[webservice]\nhostname: 127.0.0.1\nport: {ports[0]}\n"
        f"[mta]\nincoming: mailman.mta.null.NullMTA\noutgoing: mailman.mta.deliver.deliver\nsmtp_host: 127.0.0.1\n"
        f"smtp_port: {lab.ports['alone']}\nlmtp_host: 127.0.0.1\nlmtp_port: {ports[1]}\nmax_recipients: 500\n{runners}"
    )
    environment = {**os.environ, "MAILMAN_CONFIG_FILE": str(settings)}
    lists = [f"{number}={lab.people(number)}" for number in numbers]
    subprocess.run([python, HERE / "mailman_lists.py", DOMAIN, *lists], env=environment, check=True, stdout=subprocess.DEVNULL)
    lab.service("lmtp", "unix", "- - n - - lmtp")
    (lab.directory / "transport").write_text(f"{DOMAIN} lmtp:[127.0.0.1]:{ports[1]}\n")
    lab.postfix("reload")
    master = subprocess.Popen(
        [place / "bin/master", "-C", settings, "--force"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for(ports[1])
        time.sleep(3)
        yield True
    finally:
        master.terminate()
        master.wait()
