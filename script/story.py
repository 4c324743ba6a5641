#!/usr/bin/env python3
"""The story that script/demo tells: each command with its output, then what was delivered to whom, checked by two DKIM verifiers."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import dkim
import dns.message
import dns.query
import dns.rdatatype

KELOU = [str(Path(sys.executable).with_name("kelou"))]
LIST = "les-amis-jardin"
ADDRESS = f"{LIST}@lists.example.org"
AUTHOR = "jeanne@example.com"
BATCH = """\
# Jardin partagé, saison 2026
anne.leroux@example.net Anne Le Roux
yann@example.net\tYann Guéguen
"Fañch, trésorier" <fanch@example.com>
nolwenn@example.com
not an address
Anne.LeRoux@EXAMPLE.NET Anne, once more
"""

failures: list[str] = []


def check(fact: str, true: bool) -> None:
    """Note whether something is as it should be."""
    print(f"  {'ok' if true else 'NOT SO'}: {fact}", flush=True)
    if not true:
        failures.append(fact)


def chapter(text: str) -> None:
    print(f"\n== {text}", flush=True)


def run(*command: str, shown: str = "", stdin: str = "", code: int = 0) -> str:
    """Show a command, run it, show its output; returns the output."""
    print(f"$ {shown or shlex.join(['kelou' if part == KELOU[0] else part for part in command])}", flush=True)
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    output = done.stdout + done.stderr
    print("".join(f"  {line}\n" for line in output.splitlines()), end="", flush=True)
    if done.returncode != code:
        check(f"exit status {code}, not {done.returncode}", False)
    return output


def post(server: str, to: str, subject: str, body: str, taken: bool = True) -> str:
    """Post to a list with swaks, and show the end of the dialogue."""
    command = ["swaks", "--server", server, "--from", AUTHOR, "--to", to, "--header", f"Subject: {subject}", "--body", body]
    print(f"$ {shlex.join(command)}", flush=True)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    replies = [line for line in done.stdout.splitlines() if re.match(r"<[-*~]", line)]
    print("".join(f"  {line}\n" for line in replies[-3:]), end="", flush=True)
    check("the server took it" if taken else "the server refused it", (done.returncode == 0) == taken)
    return done.stdout


def wait(folder: Path, number: int, seconds: float = 20) -> list[Path]:
    """The delivered files, once there are so many."""
    end = time.monotonic() + seconds
    while len(found := sorted((folder / "new").iterdir())) < number and time.monotonic() < end:
        time.sleep(0.1)
    return found


def txt(server: str) -> Callable[..., bytes]:
    """A lookup of TXT records at that server, as dkimpy wants one."""
    host, _colon, port = server.rpartition(":")

    def lookup(name: bytes, timeout: int = 5) -> bytes:
        answer = dns.query.udp(dns.message.make_query(name.decode(), "TXT"), host, timeout, int(port))
        return b"".join(part for rrset in answer.answer if rrset.rdtype == dns.rdatatype.TXT for rdata in rrset for part in rdata.strings)

    return lookup


PERL = r"""
use Mail::DKIM::Verifier; use Net::DNS::Resolver; use Mail::DKIM::DNS;
my ($server) = @ARGV; my ($host, $port) = split /:/, $server;
Mail::DKIM::DNS::resolver(Net::DNS::Resolver->new(nameservers => [$host], port => $port, recurse => 0));
my $dkim = Mail::DKIM::Verifier->new(); local $/; my $mail = <STDIN>; $dkim->PRINT($mail); $dkim->CLOSE; print $dkim->result;
"""


def verdicts(content: bytes, server: str) -> str:
    """What dkimpy and Debian's Mail::DKIM say of the topmost signature."""
    ours = "pass" if dkim.DKIM(content).verify(0, dnsfunc=txt(server)) else "fail"
    perl = subprocess.run(["perl", "-e", PERL, server], input=content, capture_output=True, check=False)
    return f"dkimpy {ours}, Mail::DKIM {perl.stdout.decode() or 'error'}"


def tell(folder: Path) -> None:
    chapter("A private Postfix on loopback, with everything of Kelou")
    run(*KELOU, "sandbox", "up", str(folder))
    if failures:
        return
    info = json.loads((folder / "sandbox.json").read_text())
    os.environ["KELOU_CONFIG"] = info["config"]
    delivered = Path(info["delivered"])

    chapter("Jeanne asks for a list; the listmaster gets a notice of it")
    run(*KELOU, "listmaster", "add", "postmaster@example.org")
    run(*KELOU, "list", "request", "jardin", "--owner", AUTHOR, "--type", "discussion", "--subject", "Le jardin partagé", "--organisation", "Les Amis")
    notices = wait(delivered, 1)
    check("one notice, to the listmaster", [_to(path) for path in notices] == ["postmaster@example.org"])

    chapter("Until it is activated it takes no mail: refused in the dialogue")
    run(*KELOU, "list", "requests")
    said = post(info["untrusted_smtp"], "jardin@lists.example.org", "Trop tôt", "Bonjour !", taken=False)
    check("with a plain reason", "550 5.7.1" in said)

    chapter("The listmaster activates it, with the organisation in its name")
    run(*KELOU, "list", "activate", "jardin", "--rename", LIST)
    run(*KELOU, "list", "set", LIST, "subject_tag={list}", "footer=Se désabonner : {unsubscribe}")

    chapter("Jeanne adds people by batch: a report for each line, the good ones are in")
    print("".join(f"  | {line}\n" for line in BATCH.splitlines()), end="")
    run(*KELOU, "member", "import", LIST, "-", "--quiet", shown=f"kelou member import {LIST} - --quiet", stdin=BATCH, code=1)
    run(*KELOU, "member", "add", LIST, AUTHOR, "Jeanne", "--quiet")
    run(*KELOU, "member", "list", LIST)

    chapter("She posts with a mail program, and every subscriber receives one signed copy")
    time.sleep(0.5)
    for path in (delivered / "new").iterdir():
        path.unlink()
    post(info["smtp"], ADDRESS, "Réunion samedi à l’abri de jardin", "Bonjour à tous,\n\nrendez-vous samedi à 10 h.\n\nJeanne\n")
    people = ["anne.leroux@example.net", "fanch@example.com", AUTHOR, "nolwenn@example.com", "yann@example.net"]
    copies = wait(delivered, len(people))
    run(*KELOU, "post", "list")

    chapter("What was delivered to whom")
    for path in copies:
        content = path.read_bytes().split(b"\n", 2)[2]
        said = verdicts(content, info["dns"])
        print(f"  {_to(path):28} {said}")
        check("both verifiers say pass", said == "dkimpy pass, Mail::DKIM pass")
        check("To is unchanged and no other subscriber is named", _discreet(content, _to(path), people))
    check("each subscriber got one copy", sorted(map(_to, copies)) == sorted(people))
    print("\n  One of them:")
    shown = [line for line in copies[0].read_text("utf-8", "replace").splitlines() if not line.startswith((" ", "\t", "DKIM-Signature", "Received"))]
    print("".join(f"  | {line}\n" for line in shown), end="")


def _to(path: Path) -> str:
    match = re.search(rb"^Delivered-To: (\S+)", path.read_bytes(), re.MULTILINE)
    return match[1].decode() if match else ""


def _discreet(content: bytes, to: str, people: list[str]) -> bool:
    named = {person for person in people if person.encode() in content} - {AUTHOR}
    return not named and f"\nTo: {ADDRESS}\r\n".encode() in b"\n" + content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def end(folder: Path) -> None:
    chapter("The end: nothing is left running")
    pids = json.loads((folder / "sandbox.json").read_text())["pids"] if (folder / "sandbox.json").exists() else {}
    run(*KELOU, "sandbox", "down", str(folder))
    check("no process is left", not any(map(_alive, pids.values())))


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # ended, and not yet noted by its parent


def main() -> int:
    folder = Path(tempfile.mkdtemp(prefix="kelou-demo-"))
    try:
        tell(folder)
    finally:
        end(folder)
        if not failures:
            shutil.rmtree(folder)
    if failures:
        print(f"\nNot as it should be: {len(failures)}. The sandbox's files are in {folder}.", *failures, sep="\n- ")
        return 1
    print("\nAll as it should be.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
