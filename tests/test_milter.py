"""The milter, as a process of its own, spoken to over its socket."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import dkim
import pytest
from dnsserver import Server
from mta import Mta

from kelou import authorseal, database, secret, signing
from kelou.config import Config
from kelou.message import Message
from kelou.milter.verdict import for_all
from kelou.models import Block, Domain, ListSetting, MailingList
from kelou.policy import Action, Author, Decision
from kelou.postfixconf import REINJECTION
from kelou.secret import AUTHOR, SIGN, Secret

POST = b"From: Ann <ann@example.net>\r\nTo: open@lists.example.org\r\nSubject: hello\r\n you\r\nMessage-ID: <1@example.net>\r\n\r\nText\r\n"
HUGE = b"x" * 78 + b"\r\n"


@dataclass
class Running:
    """A milter at work, and what it works with."""

    folder: Path
    process: subprocess.Popen[bytes]
    secret: Secret
    record: str

    @property
    def socket(self) -> Path:
        return self.folder / "sockets/milter.sock"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def mta(self, daemon: str = "INTERNET") -> Mta:
        return Mta(self.socket, daemon)


def start(folder: Path) -> subprocess.Popen[bytes]:
    """Start a milter on this folder and wait until it listens."""
    with (folder / "log").open("ab") as log:
        command = [sys.executable, "-m", "kelou.milter.main", "-c", str(folder / "kelou.toml")]
        process = subprocess.Popen(command, stderr=log, cwd=Path(__file__).parent.parent)
    deadline = time.monotonic() + 20
    while process.poll() is None and "started" not in (folder / "log").read_text():
        assert time.monotonic() < deadline, (folder / "log").read_text()
        time.sleep(0.02)
    return process


@cache
def nameserver() -> str:
    """A name server that knows of nothing, so that no question leaves this machine."""
    return f"127.0.0.1:{Server().port}"


def prepare(folder: Path) -> Config:
    """A site with some lists: open, small, busy, pending and closed."""
    (folder / "sockets").mkdir()
    (folder / "kelou.toml").write_text(
        '[site]\nlanguage = "en"\n[database]\nurl = "sqlite:///kelou.db"\n[secret]\nfile = "secret"\n[postfix]\nsockets = "sockets"\n[dkim]\ndirectory = "dkim"\n'
        f'[dns]\nresolvers = ["{nameserver()}"]\n'
    )
    config = Config(folder / "kelou.toml", {"database.url": "sqlite:///kelou.db"})
    database.open_database(config)
    database.migrate()
    secret.create(folder / "secret")
    with database.transaction():
        domain = Domain.create(name="lists.example.org")
        for name, status, settings in (
            ("open", "open", {"post": "anyone", "blind_copies": "accept", "max_size": "3M"}),
            ("small", "open", {"post": "anyone", "blind_copies": "accept", "max_size": "300K"}),
            ("members", "open", {"post": "subscribers", "blind_copies": "accept"}),
            ("soon", "pending", {}),
            ("past", "closed", {}),
        ):
            row = MailingList.create(domain=domain, name=name, list_id=f"{name}.lists.example.org", status=status, type="discussion", subject=name)
            for key, value in ({"language": "en"} | settings).items():
                ListSetting.create(list=row, key=key, value=value)
        Block.create(pattern="@bad.example")
    return config


@pytest.fixture(scope="module")
def milter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("milter")
    config = prepare(folder)
    record = signing.create(folder / "dkim", "lists.example.org", "test")
    running = Running(folder, start(folder), secret.load(Config(config.path, {"secret.file": "secret"})), record)
    yield running
    running.process.kill()
    running.process.wait()
    assert "Traceback" not in running.log


def author(verdict_fields: list[tuple[str, str]], milter: Running, post: bytes = POST) -> Author:
    """What the LMTP handler would read."""
    sealed = b"".join(f"{name}:{value}\r\n".encode().replace(b"\n ", b"\r\n ") for name, value in verdict_fields)
    return authorseal.open(milter.secret, Message.parse(sealed + post), "QUEUEID1", int(time.time()))


# --- At RCPT ---


@pytest.mark.parametrize(
    ("recipient", "answer"),
    [
        pytest.param("open@lists.example.org", "CONTINUE", id="an open list takes mail"),
        pytest.param("OPEN@Lists.Example.ORG", "CONTINUE", id="in whatever case"),
        pytest.param("open-owner@lists.example.org", "CONTINUE", id="so do its owners"),
        pytest.param("past-bounces+abc=example.net@lists.example.org", "CONTINUE", id="reports on a closed list still come in"),
        pytest.param("postmaster@lists.example.org", "CONTINUE", id="the postmaster is there"),
        pytest.param("someone@elsewhere.example", "CONTINUE", id="other domains are not ours to judge"),
        pytest.param("postmaster", "CONTINUE", id="nor is an address without a domain"),
        pytest.param("nothing@lists.example.org", "550 5.1.1 There is no list", id="an unknown list"),
        pytest.param("open-foo@lists.example.org", "550 5.1.1 There is no list", id="an unknown sub-address"),
        pytest.param("open+foo@lists.example.org", "550 5.1.1 There is no list", id="an extension"),
        pytest.param("soon@lists.example.org", "550 5.7.1 The list soon@lists.example.org is not active yet", id="a pending list"),
        pytest.param("soon-owner@lists.example.org", "550 5.7.1 The list soon@lists.example.org is not active yet", id="its sub-addresses"),
        pytest.param("past@lists.example.org", "550 5.7.1 The list past@lists.example.org is closed", id="a closed list"),
        pytest.param("a%b%%c@lists.example.org", "550 5.1.1 There is no list with the address a%", id="percent signs"),
        pytest.param(b"caf\xe9@lists.example.org", "550 5.1.1 There is no list with the address caf?@", id="bytes that are no text"),
        pytest.param(b'"a b@lists.example.org', "550 5.1.1 There is no list", id="no address at all"),
    ],
)
def test_at_rcpt(milter: Running, recipient: str | bytes, answer: str) -> None:
    """What no list takes is refused at RCPT with the reason; the rest is none of the milter's business."""
    with milter.mta() as mta:
        assert mta.mail() == "CONTINUE"
        assert mta.rcpt(recipient).startswith(answer)


def test_a_list_activated_now_takes_mail_now(milter: Running) -> None:
    """Activation needs no reload: the same connection sees it."""
    with milter.mta() as mta:
        mta.mail()
        assert mta.rcpt("soon@lists.example.org").startswith("550")
        with sqlite3.connect(milter.folder / "kelou.db") as db:
            db.execute("UPDATE mailing_list SET status = 'open' WHERE name = 'soon'")
        assert mta.rcpt("soon@lists.example.org") == "CONTINUE"
        with sqlite3.connect(milter.folder / "kelou.db") as db:
            db.execute("UPDATE mailing_list SET status = 'pending' WHERE name = 'soon'")
        assert mta.rcpt("soon@lists.example.org").startswith("550")


@pytest.mark.parametrize(
    ("sender", "parameters", "answer"),
    [
        pytest.param("a@example.net", ["SIZE=1000000"], "552 5.3.4", id="an announced size over the limit"),
        pytest.param("a@example.net", ["SIZE=9"], "CONTINUE", id="a small one"),
        pytest.param("a@example.net", ["SIZE=nonsense", "BODY=8BITMIME"], "CONTINUE", id="a size that is none"),
        pytest.param("a@example.net", ["SIZE=" + "9" * 300], "CONTINUE", id="a size beyond measure"),
        pytest.param("", [], "550 5.7.1", id="the null reverse-path"),
        pytest.param("x@bad.example", [], "550 5.7.1", id="a blocked reverse-path"),
    ],
)
def test_what_the_envelope_tells(milter: Running, sender: str, parameters: list[str], answer: str) -> None:
    """Size, reports and blocked senders are refused before the message is sent."""
    with milter.mta() as mta:
        mta.mail(sender, *parameters)
        assert mta.rcpt("small@lists.example.org").startswith(answer)


def test_a_report_reaches_the_bounce_address(milter: Running) -> None:
    """The null reverse-path is refused for posts, not for LIST-bounces."""
    with milter.mta() as mta:
        mta.mail("")
        assert mta.rcpt("small-bounces+x=example.net@lists.example.org") == "CONTINUE"


def test_replies_speak_the_lists_language(milter: Running) -> None:
    """A reply is ASCII and one line, whatever the language."""
    with sqlite3.connect(milter.folder / "kelou.db") as db:
        db.execute("UPDATE list_setting SET value = 'fr' WHERE key = 'language' AND list_id = (SELECT id FROM mailing_list WHERE name = 'past')")
    with milter.mta() as mta:
        mta.mail()
        reply = mta.rcpt("past@lists.example.org")
    assert reply.startswith("550 5.7.1")
    assert reply.isascii()


# --- At the end ---


def test_other_mail_is_let_go_at_data(milter: Running) -> None:
    """A message without a recipient of ours costs no more than its envelope."""
    with milter.mta() as mta:
        mta.mail()
        mta.rcpt("someone@elsewhere.example")
        verdict = mta.content(POST + HUGE * 10_000)
        assert (verdict.word, verdict.inserted) == ("ACCEPT", [])
        assert verdict.events == 4  # connect, MAIL, RCPT, DATA


def test_so_is_mail_whose_list_was_refused(milter: Running) -> None:
    """A refused recipient is none."""
    with milter.mta() as mta:
        mta.mail()
        mta.rcpt("soon@lists.example.org")
        mta.rcpt("someone@elsewhere.example")
        assert mta.content(POST).word == "ACCEPT"


def test_a_post_goes_on_with_its_author_sealed(milter: Running) -> None:
    """The seal says that nobody is proved, where nobody is."""
    with milter.mta() as mta:
        mta.mail()
        mta.rcpt("open@lists.example.org")
        verdict = mta.content(POST)
    assert verdict.word == "CONTINUE"
    assert [name for name, _value in verdict.inserted] == [AUTHOR]
    found = author(verdict.inserted, milter)
    assert (found.address, found.why != "its seal is not ours") == ("", True)


@pytest.mark.parametrize(
    ("daemon", "login", "address"),
    [
        pytest.param("SUBMISSION", "", "ann@example.net", id="a trusted service"),
        pytest.param("INTERNET", "ann@example.net", "ann@example.net", id="the author's own login"),
        pytest.param("INTERNET", "bob@example.net", "", id="another's login"),
        pytest.param("INTERNET", "ann", "", id="a login that is no address"),
        pytest.param("INTERNET", "", "", id="nothing"),
    ],
)
def test_who_wrote(milter: Running, daemon: str, login: str, address: str) -> None:
    """What proves the author without asking the DNS."""
    with milter.mta(daemon) as mta:
        mta.mail(login=login)
        mta.rcpt("open@lists.example.org")
        assert author(mta.content(POST).inserted, milter).address == address


def test_a_forged_author_field_is_taken_off(milter: Running) -> None:
    """All fields of that name from outside go, whatever their case."""
    forged = b"Kelou-Author: a=boss@example.net\r\nKELOU-AUTHOR: a=boss@example.net\r\n" + POST
    with milter.mta() as mta:
        mta.mail()
        mta.rcpt("open@lists.example.org")
        verdict = mta.content(forged)
    assert verdict.removed == [(AUTHOR, 2), (AUTHOR, 1)]
    assert author(verdict.inserted, milter).address == ""


def test_a_program_is_refused_at_the_end(milter: Running) -> None:
    """What only the message tells is refused at its end."""
    with milter.mta() as mta:
        mta.mail()
        mta.rcpt("open@lists.example.org")
        assert mta.content(b"Auto-Submitted: auto-replied\r\n" + POST).word.startswith("550 5.7.1")


@pytest.mark.parametrize(
    ("recipients", "answer"),
    [
        pytest.param(["members@lists.example.org"], "550", id="the only list refuses"),
        pytest.param(["members@lists.example.org", "members@lists.example.org"], "550", id="all refuse"),
        pytest.param(["members@lists.example.org", "open@lists.example.org"], "CONTINUE", id="one takes it"),
        pytest.param(["open@lists.example.org", "members@lists.example.org"], "CONTINUE", id="in whatever order"),
        pytest.param(["members@lists.example.org", "members-owner@lists.example.org"], "CONTINUE", id="the owners take it"),
        pytest.param(["members@lists.example.org", "someone@elsewhere.example"], "CONTINUE", id="somebody else may"),
    ],
)
def test_one_answer_for_all_recipients(milter: Running, recipients: list[str], answer: str) -> None:
    """A message is refused only if nobody takes it."""
    with milter.mta("SUBMISSION") as mta:
        mta.mail()
        for recipient in recipients:
            assert mta.rcpt(recipient) == "CONTINUE"
        assert mta.content(POST).word.startswith(answer)


def test_a_message_without_a_header_is_refused(milter: Running) -> None:
    """It is no mail, and says so, rather than an error of ours."""
    with milter.mta() as mta:
        mta.mail()
        mta.rcpt("open@lists.example.org")
        assert mta.content(b"\r\n\r\nText\r\n").word.startswith("550 5.6.0")


@pytest.mark.parametrize(
    ("size", "answer"),
    [pytest.param(1_500_000, "552 5.3.4", id="over its list's limit"), pytest.param(200_000, "CONTINUE", id="200 kB")],
)
def test_size(milter: Running, size: int, answer: str) -> None:
    """What is larger than a list takes is refused, without being kept."""
    with milter.mta() as mta:
        mta.mail()
        mta.rcpt("small@lists.example.org")
        assert mta.content(POST + HUGE * (size // 80)).word.startswith(answer)


def test_a_large_message_for_two(milter: Running) -> None:
    """The larger of two limits counts: one list takes what the other does not."""
    with milter.mta() as mta:
        mta.mail()
        mta.rcpt("small@lists.example.org")
        mta.rcpt("open@lists.example.org")
        assert mta.content(POST + HUGE * (1_500_000 // 80)).word == "CONTINUE"


def test_what_is_too_large_for_all_is_not_read_on(milter: Running) -> None:
    """The body is skipped as soon as it is over the limit."""
    with milter.mta() as mta:
        mta.mail()
        mta.rcpt("small@lists.example.org")
        verdict = mta.content(POST + HUGE * 100_000)
    assert verdict.word.startswith("552 5.3.4")
    assert verdict.events < 40


# --- What Postfix never says ---


def test_hostile_bytes(milter: Running) -> None:
    """Bytes that are no text, everywhere: the message goes on, and so does the connection."""
    with milter.mta() as mta:
        assert mta.say(b"H", b"\xff\xfe\0") == "CONTINUE"
        assert mta.say(b"M", b"<\xff\xfe@example.net>\0\xff=\xfe\0") == "CONTINUE"
        assert mta.rcpt("open@lists.example.org") == "CONTINUE"
        assert mta.say(b"T") == "CONTINUE"
        for name, value in ((b"X\xff", b" a"), (b"X\xc3\xa9", b" a"), (b"From", b" Ann <ann@example.net>"), (b"Subject", b" caf\xe9"), (b"Long", b" " * 60_000)):
            assert mta.say(b"L", name + b"\0" + value + b"\0") == "CONTINUE"
        assert mta.say(b"N") == "CONTINUE"
        assert mta.say(b"B", b"\xff\0\xfe" * 10_000) == "CONTINUE"
        assert mta.end().word.startswith("550 5.6.0")
        assert mta.mail() == "CONTINUE"
        assert mta.rcpt("open@lists.example.org") == "CONTINUE"
        assert mta.content(POST).word == "CONTINUE"


def test_abort_forgets_the_message(milter: Running) -> None:
    """After RSET, recipients of before do not count."""
    with milter.mta() as mta:
        mta.mail()
        mta.rcpt("members@lists.example.org")
        mta.packet(b"A")
        mta.mail()
        mta.rcpt("someone@elsewhere.example")
        assert mta.content(POST).word == "ACCEPT"


# --- The way out ---


def asked(milter: Running, domain: str = "lists.example.org", before: int = 0) -> bytes:
    return secret.ask_signature(milter.secret, domain, int(time.time()) - before).raw


def test_what_kelou_sends_is_signed(milter: Running) -> None:
    """The signature verifies over what Postfix sends on: without the field that asked for it."""
    body = b"Text\r\n" * 40_000 + b"\r\n\r\n"
    post = POST.replace(b"hello", "été".encode()).replace(b"Text\r\n", body)
    with milter.mta(REINJECTION) as mta:
        mta.mail()
        mta.rcpt("someone@elsewhere.example")
        verdict = mta.content(asked(milter) + post)
    assert (verdict.word, verdict.removed) == ("CONTINUE", [(SIGN, 1)])
    ((name, value),) = verdict.inserted
    signed = f"{name}:{value}\r\n".encode().replace(b"\n ", b"\r\n ") + post
    assert dkim.verify(signed, dnsfunc=lambda *_a, **_k: milter.record.encode())
    assert not dkim.verify(signed.replace(b"Text", b"Test", 1), dnsfunc=lambda *_a, **_k: milter.record.encode())


@pytest.mark.parametrize("ask", ["nothing", "forged", "old", "another domain"])
def test_nothing_else_is(milter: Running, ask: str) -> None:
    """Without a seal of ours that is fresh and for a domain with a key, mail passes unsigned; the field goes in any case."""
    fields = {
        "nothing": b"",
        "forged": b"Kelou-Sign: d=lists.example.org; t=%d; s=%s\r\n" % (time.time(), b"0" * 32),
        "old": asked(milter, before=7200),
        "another domain": asked(milter, "other.example.org"),
    }
    with milter.mta(REINJECTION) as mta:
        mta.mail()
        mta.rcpt("someone@elsewhere.example")
        verdict = mta.content(fields[ask] + POST)
    assert verdict.inserted == []
    assert (verdict.word, verdict.removed) == (("ACCEPT", []) if ask == "nothing" else ("CONTINUE", [(SIGN, 1)]))


def test_nothing_is_signed_on_the_way_in(milter: Running) -> None:
    """The field works on the re-injection port alone."""
    with milter.mta() as mta:
        mta.mail()
        mta.rcpt("open@lists.example.org")
        assert [name for name, _value in mta.content(asked(milter) + POST).inserted] == [AUTHOR]


def test_a_key_that_can_not_be_read_lets_nothing_out(milter: Running, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A failure to sign is a failure: 451, and distribution tries again."""
    folder = tmp_path_factory.mktemp("badkey")
    config = prepare(folder)
    signing.create(folder / "dkim", "lists.example.org", "test")
    (folder / "dkim/lists.example.org/test.pem").write_text("nonsense")
    process = start(folder)
    ask = secret.ask_signature(secret.load(Config(config.path, {"secret.file": "secret"})), "lists.example.org", int(time.time())).raw
    with Mta(folder / "sockets/milter.sock", REINJECTION) as mta:
        mta.mail()
        mta.rcpt("someone@elsewhere.example")
        verdict = mta.content(ask + POST)
    process.terminate()
    assert verdict.word.startswith("451 4.3.0")
    assert (verdict.inserted, process.wait(10)) == ([], 0)


# --- The process ---


def test_many_sessions_at_once(milter: Running) -> None:
    """Sessions that come and go in any order do not disturb each other: libmilter serves each from several threads."""

    def session(number: int) -> list[str]:
        said = []
        with milter.mta(REINJECTION if number % 4 == 0 else "SUBMISSION") as mta:
            for _again in range(3):
                mta.mail()
                mta.rcpt("open@lists.example.org" if number % 2 else "someone@elsewhere.example")
                said.append(mta.content((asked(milter) if number % 4 == 0 else b"") + POST).word)
        return said

    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(session, range(200)))
    assert [said == ["ACCEPT" if number % 4 == 2 else "CONTINUE"] * 3 for number, said in enumerate(results)] == [True] * 200
    assert milter.process.poll() is None


def test_without_its_database_it_defers_mail_to_lists_alone(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Our own fault is 451 for lists, with the traceback in the log, and nothing for everybody else."""
    folder = tmp_path_factory.mktemp("nodb")
    prepare(folder)
    process = start(folder)
    with Mta(folder / "sockets/milter.sock") as mta:
        mta.mail()
        mta.rcpt("open@lists.example.org")
        for file in folder.glob("kelou.db*"):
            file.rename(folder / f"gone-{file.name}")
        assert mta.content(POST).word.startswith("451 4.3.0 The list server")
        mta.mail()
        assert mta.rcpt("open@lists.example.org").startswith("451 4.3.0")
        assert mta.rcpt("someone@elsewhere.example") == "CONTINUE"
        assert mta.content(POST).word == "ACCEPT"
    process.terminate()
    process.wait(10)
    assert "Traceback" in (folder / "log").read_text()


def test_sigterm_in_a_session_ends_it_at_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    """SIGTERM is obeyed within a second, the socket is gone, and another milter can start at once."""
    folder = tmp_path_factory.mktemp("term")
    prepare(folder)
    process = start(folder)
    with Mta(folder / "sockets/milter.sock") as mta:
        mta.mail()
        mta.rcpt("open@lists.example.org")
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0
        assert time.monotonic() - began < 1
        assert mta.socket.recv(1) == b""
    assert not (folder / "sockets/milter.sock").exists()
    (folder / "log").write_text("")
    again = start(folder)
    again.terminate()
    assert again.wait(5) == 0


def test_one_milter_only(milter: Running) -> None:
    """A second one refuses in a line, with EX_TEMPFAIL, and does not disturb the first."""
    command = [sys.executable, "-m", "kelou.milter.main", "-c", str(milter.folder / "kelou.toml")]
    second = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False, cwd=Path(__file__).parent.parent)
    assert (second.returncode, second.stderr.count("\n")) == (75, 1)
    with milter.mta() as mta:
        assert mta.mail() == "CONTINUE"


def test_a_socket_left_behind_is_removed(tmp_path_factory: pytest.TempPathFactory) -> None:
    """After kill -9 the next milter starts, and its socket is for the group too."""
    folder = tmp_path_factory.mktemp("stale")
    prepare(folder)
    killed = start(folder)
    killed.kill()
    killed.wait()
    assert (folder / "sockets/milter.sock").exists()
    (folder / "log").write_text("")
    process = start(folder)
    with Mta(folder / "sockets/milter.sock") as mta:
        assert mta.mail() == "CONTINUE"
    assert (folder / "sockets/milter.sock").stat().st_mode & 0o777 == 0o770
    process.terminate()
    process.wait(5)


def test_it_says_when_it_is_ready(tmp_path_factory: pytest.TempPathFactory) -> None:
    """READY=1 comes when the socket listens, STOPPING=1 at the end (sd_notify)."""
    folder = tmp_path_factory.mktemp("ready")
    prepare(folder)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(folder / "notify"))
        listener.settimeout(20)
        command = [sys.executable, "-m", "kelou.milter.main", "-c", str(folder / "kelou.toml")]
        environment = os.environ | {"NOTIFY_SOCKET": str(folder / "notify")}
        process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, cwd=Path(__file__).parent.parent)
        assert listener.recv(100) == b"READY=1"
        assert Mta(folder / "sockets/milter.sock").mail() == "CONTINUE"
        process.terminate()
        assert listener.recv(100) == b"STOPPING=1"
        assert process.wait(5) == 0


@pytest.mark.parametrize(
    ("content", "code"),
    [pytest.param("[site]\nnam = 1\n", 78, id="an unknown setting"), pytest.param("", 78, id="no secret"), pytest.param(None, 78, id="no file")],
)
def test_what_it_can_not_start_with(tmp_path: Path, content: str | None, code: int) -> None:
    """A wrong configuration is one line and EX_CONFIG."""
    path = tmp_path / "kelou.toml"
    if content is not None:
        path.write_text(f'{content}[secret]\nfile = "none"\n')
    command = [sys.executable, "-m", "kelou.milter.main", "-c", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False, cwd=Path(__file__).parent.parent)
    assert (done.returncode, done.stderr.count("\n")) == (code, 1)


# --- The one answer ---

TAKEN, HELD, LOST = (Decision(action, "x") for action in (Action.ACCEPT, Action.HOLD, Action.DISCARD))
NO, LATER = Decision(Action.REJECT, "no"), Decision(Action.DEFER, "later")


@pytest.mark.parametrize(
    ("decisions", "answer"),
    [
        pytest.param([NO], NO, id="refused"),
        pytest.param([LATER], LATER, id="deferred"),
        pytest.param([NO, LATER], LATER, id="deferred while one is not certain"),
        pytest.param([NO, TAKEN], None, id="one takes it"),
        pytest.param([NO, HELD], None, id="one holds it"),
        pytest.param([NO, LOST], None, id="one discards it"),
        pytest.param([NO, None], None, id="another address takes it"),
        pytest.param([LATER, TAKEN], None, id="one takes it, one says it again later"),
        pytest.param([], None, id="nobody is asked"),
    ],
)
def test_for_all(decisions: list[Decision | None], answer: Decision | None) -> None:
    """SMTP has one answer for all recipients."""
    assert for_all(decisions) == answer
