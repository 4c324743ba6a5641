"""kelou/published.py and the commands on it: what is not published as it should be is found, with how to mend it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Sandbox, kelou
from database_fixture import DOMAIN
from dnsserver import SERVFAIL, TIMEOUT, Server, txt

from kelou import published, signing
from kelou.config import Config
from kelou.finding import Finding
from kelou.resolver import Resolver

HOST = "mail.example.org"
ADDRESS = "9.9.9.9"  # one that is global; nothing is sent there


@pytest.fixture
def config(tmp_path: Path) -> Config:
    signing.create(tmp_path / "dkim", DOMAIN, "s1")
    return Config(tmp_path / "kelou.toml", {"dkim.directory": "dkim"})


@pytest.fixture
def server(config: Config) -> Iterator[Server]:
    with Server(ttl=0) as running:
        (key,) = signing.keys(config.directory("dkim.directory"))
        running.zone[DOMAIN, "MX"] = [f"10 {HOST}."]
        running.text(DOMAIN, "google-site-verification=x", "v=spf1 mx -all")
        running.text(f"s1._domainkey.{DOMAIN}", signing.record(key))
        running.text(f"_dmarc.{DOMAIN}", "v=DMARC1; p=quarantine; rua=mailto:postmaster@example.org")
        running.text(f"_mta-sts.{DOMAIN}", "v=STSv1; id=20261122")
        running.zone[f"mta-sts.{DOMAIN}", "CNAME"] = [f"{HOST}."]
        running.text(f"_smtp._tls.{DOMAIN}", "v=TLSRPTv1; rua=mailto:postmaster@example.org")
        running.zone[HOST, "A"] = [ADDRESS]
        running.zone["9.9.9.9.in-addr.arpa", "PTR"] = [f"{HOST}."]
        yield running


def look(config: Config, server: Server) -> dict[str, Finding]:
    return {found.check: found for found in published.check(config, DOMAIN, HOST, Resolver([server.endpoint], 0.4))}


def test_what_is_right_is_ok(config: Config, server: Server) -> None:
    """Every record as it should be: nothing to do."""
    found = look(config, server)
    assert {one.state for one in found.values()} == {"ok"}
    assert {one.fix for one in found.values()} == {""}
    assert list(found) == ["mx", "spf", "dkim s1", "dmarc", f"ptr {ADDRESS}", "mta-sts", "tls-rpt"]


OTHER_KEY = "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A"
BROKEN: dict[str, tuple[tuple[str, str], list[str] | str, str, str, str, str]] = {
    "no MX": ((DOMAIN, "MX"), [], "mx", "error", "no MX record", f"publish: {DOMAIN}. 3600 IN MX 10 {HOST}."),
    "MX elsewhere": ((DOMAIN, "MX"), ["10 mx.hoster.example."], "mx", "error", "goes to mx.hoster.example, not to mail.example.org", "IN MX 10 mail"),
    "no address": ((HOST, "A"), [], "host", "error", "has no address", "publish its A"),
    "no SPF": ((DOMAIN, "TXT"), [txt(b"something else")], "spf", "error", "no SPF record", '"v=spf1 mx -all"'),
    "two SPF": ((DOMAIN, "TXT"), [txt(b"v=spf1 mx -all"), txt(b"v=spf1 a ~all")], "spf", "error", "2 SPF records", "delete the others"),
    "SPF without us": ((DOMAIN, "TXT"), [txt(b"v=spf1 ip4:192.0.2.1 -all")], "spf", "error", f"does not allow {ADDRESS}", "allow it there"),
    "SPF with an error": ((DOMAIN, "TXT"), [txt(b"v=spf1 ipv4:192.0.2.1 -all")], "spf", "error", "permerror", "allow it there"),
    "no DKIM": ((f"s1._domainkey.{DOMAIN}", "TXT"), [], "dkim s1", "error", "there is no TXT record", f"publish: s1._domainkey.{DOMAIN}. 3600 IN TXT"),
    "another key": ((f"s1._domainkey.{DOMAIN}", "TXT"), [txt(f"v=DKIM1; k=rsa; p={OTHER_KEY}".encode())], "dkim s1", "error", "another key", "p=MIIB"),
    "a revoked key": ((f"s1._domainkey.{DOMAIN}", "TXT"), [txt(b"v=DKIM1; p=")], "dkim s1", "error", "has no key", "publish: s1"),
    "two keys": ((f"s1._domainkey.{DOMAIN}", "TXT"), [txt(b"v=DKIM1; p=A"), txt(b"p=B")], "dkim s1", "error", "2 TXT records", "publish: s1"),
    "no DMARC": ((f"_dmarc.{DOMAIN}", "TXT"), [], "dmarc", "error", "there is no DMARC record", '"v=DMARC1; p=quarantine'),
    "two DMARC": ((f"_dmarc.{DOMAIN}", "TXT"), [txt(b"v=DMARC1; p=none"), txt(b"v=DMARC1; p=reject")], "dmarc", "error", "2 DMARC records", "keep one"),
    "a policy that is none": ((f"_dmarc.{DOMAIN}", "TXT"), [txt(b"v=DMARC1; p=quarentine")], "dmarc", "error", "p=quarentine", "publish: _dmarc"),
    "no p": ((f"_dmarc.{DOMAIN}", "TXT"), [txt(b"v=DMARC1; rua=mailto:a@b.example")], "dmarc", "error", "error in p", "publish: _dmarc"),
    "rua without mailto": ((f"_dmarc.{DOMAIN}", "TXT"), [txt(b"v=DMARC1; p=none; rua=a@b.example")], "dmarc", "error", "rua=a@b.example", "publish: _dmarc"),
    "no version": ((f"_dmarc.{DOMAIN}", "TXT"), [txt(b"p=none")], "dmarc", "error", "is no DMARC record: p=none", "publish: _dmarc"),
    "no PTR": (("9.9.9.9.in-addr.arpa", "PTR"), [], f"ptr {ADDRESS}", "error", "has no name", f"to {HOST}"),
    "another PTR": (("9.9.9.9.in-addr.arpa", "PTR"), ["vps7.hoster.example."], f"ptr {ADDRESS}", "error", "is called vps7.hoster.example", f"to {HOST}"),
    "no MTA-STS": ((f"_mta-sts.{DOMAIN}", "TXT"), [], "mta-sts", "warning", "recommended", "publish: _mta-sts"),
    "a bad MTA-STS": ((f"_mta-sts.{DOMAIN}", "TXT"), [txt(b"v=STSv1; id=2026-11-22")], "mta-sts", "error", "is not right", "publish: _mta-sts"),
    "nobody serves it": ((f"mta-sts.{DOMAIN}", "CNAME"), ["nowhere.example."], "mta-sts file", "error", "nobody can get", "IN CNAME"),
    "no TLS-RPT": ((f"_smtp._tls.{DOMAIN}", "TXT"), [], "tls-rpt", "warning", "recommended", "publish: _smtp"),
    "a bad TLS-RPT": ((f"_smtp._tls.{DOMAIN}", "TXT"), [txt(b"v=TLSRPTv1; rua=a@b")], "tls-rpt", "error", "is not right", "publish: _smtp"),
    "the DNS fails": ((DOMAIN, "MX"), SERVFAIL, "mx", "unknown", "does not answer", "dns.resolvers"),
    "the DNS is silent": ((f"_dmarc.{DOMAIN}", "TXT"), TIMEOUT, "dmarc", "unknown", "does not answer", "dns.resolvers"),
}


@pytest.mark.parametrize(("where", "what", "check", "state", "detail", "fix"), BROKEN.values(), ids=BROKEN)
def test_what_is_broken_is_told(
    config: Config, server: Server, where: tuple[str, str], what: list[str] | str, check: str, state: str, detail: str, fix: str
) -> None:
    """Each fault has a finding of its own, in plain words, with what to do; the rest stays as it is."""
    server.zone[where] = what
    found = look(config, server)
    assert found[check].state == state
    assert detail in found[check].detail
    assert fix in found[check].fix
    knock_on = {"no address": {"mta-sts file"}, "no MX": {"spf"}, "MX elsewhere": {"spf"}, "the DNS fails": {"spf"}}
    name = next(name for name, row in BROKEN.items() if row[0] == where and row[1] == what)
    assert {key for key, one in found.items() if one.state != "ok"} - knock_on.get(name, set()) == {check}


def test_a_dmarc_record_above_serves(config: Config, server: Server) -> None:
    """The organisation's record holds for the lists' domain (RFC 9989 section 4.10)."""
    server.zone[f"_dmarc.{DOMAIN}", "TXT"] = []
    server.text("_dmarc.example.org", "v=DMARC1; p=none")
    assert look(config, server)["dmarc"] == Finding("dmarc", "ok", "by the record of example.org")


def test_without_a_key(config: Config, server: Server) -> None:
    """A domain that nothing signs for is told how to get a key."""
    shutil.rmtree(config.directory("dkim.directory"))
    assert look(config, server)["dkim"].fix == f"kelou dkim new {DOMAIN}"


def test_whose_record_stays_and_whose_goes(config: Config, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new key is to be published, a retired one to stay for as long as its mail is under way, and not longer."""
    directory = config.directory("dkim.directory")
    signing.create(directory, DOMAIN, "s2")
    found = look(config, server)
    assert (found["dkim s1"].state, found["dkim s2"].state) == ("ok", "warning")
    server.text(f"s2._domainkey.{DOMAIN}", signing.record(signing.find(directory, DOMAIN, "s2")))
    assert look(config, server)["dkim s2"].fix == f"kelou dkim activate {DOMAIN} s2"
    signing.activate(directory, DOMAIN, "s2")
    server.zone[f"s1._domainkey.{DOMAIN}", "TXT"] = []
    assert look(config, server)["dkim s1"].state == "error"
    later = time.time() + 12 * 86400 + 60
    monkeypatch.setattr(published, "now", lambda: int(later))
    assert "dkim s1" not in look(config, server)
    monkeypatch.setattr("kelou.zone.now", lambda: int(later))
    assert f"s1._domainkey.{DOMAIN}" not in [record.name for record in published.zone.records(config, DOMAIN, HOST)]


# On a sandbox, with the commands.


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A sandbox of our own, to be broken."""
    directory = tmp_path_factory.mktemp("broken")
    done = kelou("sandbox", "up", str(directory), "--json")
    assert done.returncode == 0, done.stderr
    yield Sandbox(directory, json.loads(done.stdout))
    kelou("sandbox", "down", str(directory))


def findings(place: Sandbox, *command: str) -> dict[str, dict[str, Any]]:
    return {row["check"]: row for row in json.loads(place.kelou(*command, "--json").stdout)}


@pytest.fixture
def zone(place: Sandbox) -> Iterator[Callable[[Callable[[str], str]], None]]:
    """Edit the zone; it is as it was afterwards."""
    path = Path(place.info["zone"])
    before = path.read_text()

    def edit(change: Callable[[str], str]) -> None:
        path.write_text(change(path.read_text()))
        time.sleep(1.2)  # it is reread

    yield edit
    path.write_text(before)
    time.sleep(1.2)


def test_a_sandbox_is_in_order(place: Sandbox) -> None:
    """Nothing to mend: doctor and check succeed, and warn of what a sandbox does not have."""
    done = place.kelou("dns", "check", DOMAIN)
    assert done.returncode == 0, done.stdout
    assert place.kelou("doctor").returncode == 0
    assert {row["state"] for row in findings(place, "doctor").values()} <= {"ok", "warning"}


def test_doctor_finds_five_broken_things(place: Sandbox, zone: Callable[[Callable[[str], str]], None]) -> None:
    """A key that is not the one published, two SPF records, DMARC gone, the milter dead and a socket that Postfix may not write: each is told with its fix."""
    zone(
        lambda text: re.sub(r"(p=MIIB.{40})..", r"\1xx", text).replace(f"_dmarc.{DOMAIN}.", "_dmarc.nowhere.example.")
        + f'{DOMAIN}. TXT "v=spf1 a -all"\n'
    )
    os.kill(place.info["pids"]["milter"], signal.SIGKILL)
    config = Path(place.info["config"])
    sockets = Path(next(json.loads(place.kelou("config", "get", key, "--json").stdout)["value"] for key in ["postfix.sockets"]))
    path = config.parent / sockets / "lmtp.sock"
    mode = path.stat().st_mode
    path.chmod(0o700)
    try:
        found = findings(place, "doctor")
    finally:
        path.chmod(mode)
        place.up()
    wrong = {name: row for name, row in found.items() if row["state"] == "error"}
    assert set(wrong) == {f"dns {DOMAIN} dkim kelou", f"dns {DOMAIN} spf", f"dns {DOMAIN} dmarc", "socket milter", "socket lmtp"}
    assert all(row["fix"] and row["detail"] for row in wrong.values())
    assert "another key" in wrong[f"dns {DOMAIN} dkim kelou"]["detail"]
    assert "kelou sandbox up" in wrong["socket milter"]["fix"]
    assert wrong["socket lmtp"]["fix"] == f"chmod g+w {path}"


def test_check_finds_mail_that_goes_elsewhere(place: Sandbox, zone: Callable[[Callable[[str], str]], None]) -> None:
    """Exit 1, a table with the fix below, and the other records stay as they are."""
    zone(lambda text: text.replace(f"{DOMAIN}.  MX 10 ", f"{DOMAIN}.  MX 10 mx.hoster.example.\n; "))
    done = place.kelou("dns", "check", DOMAIN)
    assert done.returncode == 1
    assert re.search(r"error  mx  mail to lists.example.org goes to mx.hoster.example, not to .*\n    → publish: lists.example.org. 3600 IN MX 10", done.stdout)


def test_a_key_follows_another(place: Sandbox, zone: Callable[[Callable[[str], str]], None]) -> None:
    """Rotate, publish, activate, keep: no moment without a key that is published, and none that signs before it is."""
    made = place.json("dkim", "rotate", DOMAIN)
    selector = made["selector"]
    assert re.fullmatch(r"kelou20\d{4}", selector)
    assert (made["domain"], made["state"], made["record"][:8]) == (DOMAIN, "new", "v=DKIM1;")
    again = place.json("dkim", "rotate", DOMAIN)["selector"]
    assert re.fullmatch(r"kelou20\d{6}", again)
    refused = place.kelou("dkim", "activate", DOMAIN, selector)
    assert refused.returncode == 77
    assert made["record"] in refused.stderr
    assert place.json("domain", "show", DOMAIN)["selector"] == "kelou"
    zone(lambda text: text + f"{made['name']}. TXT {txt(made['record'].encode())}\n")
    assert place.kelou("dkim", "activate", DOMAIN, selector, "-n").returncode == 0
    assert place.json("domain", "show", DOMAIN)["selector"] == "kelou"
    done = place.kelou("dkim", "activate", DOMAIN, selector)
    assert done.returncode == 0
    assert re.search(r"Keep the record of kelou published until 20\d\d-", done.stderr)
    assert place.json("dkim", "activate", DOMAIN, selector)["state"] == "active"
    assert place.kelou("dkim", "retire", DOMAIN, selector).returncode == 77
    retired = place.json("dkim", "retire", DOMAIN, "kelou")
    assert (retired["domain"], retired["selector"], retired["state"]) == (DOMAIN, "kelou", "retired")
    assert retired["until"] > time.strftime("%Y-%m-%d")
    never = place.kelou("dkim", "retire", DOMAIN, again)
    assert "signed nothing" in never.stderr
    assert place.kelou("dkim", "retire", DOMAIN, "nope").returncode == 67
    assert place.kelou("dkim", "activate", DOMAIN, again, "-y").returncode == 0
    assert place.json("domain", "show", DOMAIN)["selector"] == again
    assert place.kelou("dkim", "activate", DOMAIN, "kelou").returncode == 0, "its record is still there"
    folder = Path(place.info["config"]).parent / "dkim" / DOMAIN
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert len(place.json("audit", "list")) > 0
