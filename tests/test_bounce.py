"""Bounces that come in: whose a report is, how far it is believed, and what becomes of those whose mail comes back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from database_fixture import SHELL, open_list, open_site
from smtppeer import Peer

from kelou import bounce, failing, lifecycle, people, returnpath, secret
from kelou.audit import Actor
from kelou.database import connection, transaction
from kelou.directory import ListView
from kelou.distribution import Distributor
from kelou.lmtp.delivery import Door, Envelope, deliver
from kelou.message import Message
from kelou.models import Account, Bounce, MailingList, Post, Subscription
from kelou.refusal import NotPermitted
from kelou.returnpath import BOUNCES, LEAVE
from kelou.score import DAY

CORPUS = Path(__file__).parent / "messages" / "bounces"
START = int(time.time()) // DAY * DAY + 36_000 - 500 * DAY  # past: the audit log has a clock of its own
LUC, ANNE, OWNER = "luc@example.net", "anne@example.net", "owner@example.org"


class Clock:
    """The time, for all modules that tell it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = START
        for module in ("bounce", "failing", "people", "models", "notice", "audit"):
            if hasattr(__import__(f"kelou.{module}", fromlist=["now"]), "now"):
                monkeypatch.setattr(f"kelou.{module}.now", lambda: self.now)


    def later(self, days: float) -> None:
        self.now += int(days * DAY)


class Site:
    """A list with two subscribers, and a Postfix that remembers."""

    def __init__(self, directory: Path, clock: Clock) -> None:
        self.peer, self.clock = Peer(), clock
        self.config = open_site(directory, self.peer.endpoint)
        self.secret = secret.load(self.config)
        self.list: ListView = open_list(self.config)
        for address in (LUC, ANNE):
            people.subscribe(self.config, SHELL, self.list, address, quiet=True)
        with transaction():
            Subscription.update(since=START - 400 * DAY).execute()
        self.door = Door(self.config, self.secret, Distributor(self.config, self.secret, "this"))
        self.peer.letters.clear()

    def close(self) -> None:
        self.door.distributor.close()
        self.peer.close()

    def set(self, **values: str) -> None:
        self.list = lifecycle.set_values(self.config, SHELL, self.list, values).list

    def post(self, number: int = 1) -> str:
        """The list sends a post now; its Message-ID."""
        with transaction():
            Post.create(list=self.list.id, digest=f"{number}", message_id=f"<{number}@example.org>", state="sent", received=self.clock.now)
        return f"<{number}@example.org>"

    def subscription(self, address: str = LUC) -> Any:
        with connection():
            return Subscription.select().join(Account).where(Account.key == address, Subscription.list == self.list.id).first()

    def token(self, address: str = LUC, purpose: str = BOUNCES) -> str:
        return returnpath.make(self.secret, purpose, self.list.id, self.subscription(address).id, self.clock.now)

    def report(self, recipient: str = "amis-bounces@lists.example.org", kind: str = "5.1.1", of: str = LUC, message_id: str = "<1@example.org>") -> None:
        """A report comes in."""
        self.take(recipient, report(kind, of, message_id))

    def take(self, recipient: str, content: bytes) -> None:
        assert deliver(self.door, Envelope("", recipient, "Q"), content).code == 250

    def fail(self, number: int, *addresses: str, kind: str = "5.1.1") -> None:
        """A post that comes back, from these by their tokens."""
        message_id = self.post(number)
        for address in addresses or (LUC,):
            self.report(f"amis-bounces+{self.token(address)}@lists.example.org", kind, address, message_id)

    def notes(self, address: str = LUC) -> list[tuple[str, str, str]]:
        with connection():
            rows = Bounce.select(Bounce.kind, Bounce.status, Bounce.proof).join(Account).where(Account.key == address).order_by(Bounce.id)
            return list(rows.tuples())

    def maintain(self) -> dict[str, int]:
        """What is due; only what was done."""
        return {name.removeprefix("bounces_"): number for name, number in failing.maintain(self.config).items() if number}

    def state(self, address: str = LUC) -> str:
        with connection():
            return next((row["state"] for row in bounce.failing(self.list) if row["email"] == address), "")

    def told(self) -> list[tuple[str, str]]:
        """The notices since the last look: to whom, and the subject."""
        letters, self.peer.letters[:] = list(self.peer.letters), []
        return [(letter.recipients[0], Message.parse(letter.content).text("subject")) for letter in letters]


def report(status: str, of: str, message_id: str, action: str = "failed", text: str = "550 said so") -> bytes:
    return (
        "From: MAILER-DAEMON@mx.example.net\r\nTo: amis-bounces@lists.example.org\r\nSubject: Undelivered Mail\r\nMIME-Version: 1.0\r\n"
        'Content-Type: multipart/report; report-type=delivery-status; boundary="b"\r\n\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\n'
        f"Reporting-MTA: dns; mx.example.net\r\n\r\nFinal-Recipient: rfc822; {of}\r\nAction: {action}\r\nStatus: {status}\r\n"
        f"Diagnostic-Code: smtp; {text}\r\n\r\n--b\r\nContent-Type: text/rfc822-headers\r\n\r\nMessage-ID: {message_id}\r\nSubject: News\r\n\r\n--b--\r\n"
    ).encode()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    made = Site(tmp_path, Clock(monkeypatch))
    yield made
    made.close()


def test_a_token_says_whose_it_is_whatever_the_report_says(site: Site) -> None:
    """A report at Luc's return-path is Luc's, even if it names an address that his mail was forwarded to."""
    message_id = site.post()
    site.report(f"amis-bounces+{site.token()}@lists.example.org", of="somewhere@else.example", message_id=message_id)
    assert site.notes() == [("hard", "5.1.1", "token")]


@pytest.mark.parametrize("function", ["token", "verp", "plain"])
def test_a_report_counts_once_however_often_it_comes(site: Site, function: str) -> None:
    """A replayed report is no second failure, neither today nor three weeks later."""
    message_id = site.post()
    local = {"token": f"amis-bounces+{site.token()}", "verp": "amis-bounces+luc=example.net", "plain": "amis-bounces"}[function]
    for days in (0, 0, 1, 20):
        site.clock.later(days)
        site.report(f"{local}@lists.example.org", message_id=message_id)
    assert len(site.notes()) == 1


def test_a_token_replayed_with_new_message_ids_stays_one_failure(site: Site) -> None:
    """The token holds the day it was made: who keeps it can not say with it that later posts came back."""
    token = site.token()
    for number in range(6):
        site.report(f"amis-bounces+{token}@lists.example.org", message_id=site.post(number))
        site.clock.later(7)
    with connection():
        assert all(found.days <= 1 for found in bounce.scores(site.list.id).values())


FORGED = {
    "no post of ours is quoted": {"recipient": "amis-bounces@lists.example.org", "message_id": "<none@example.org>"},
    "nothing is quoted": {"recipient": "amis-bounces@lists.example.org", "message_id": ""},
    "it names nobody who is subscribed": {"recipient": "amis-bounces@lists.example.org", "of": "nobody@example.net"},
    "a return-path in plain form names nobody who is subscribed": {"recipient": "amis-bounces+nobody=example.net@lists.example.org"},
    "it is a delay": {"kind": "4.4.1", "recipient": "amis-bounces@lists.example.org"},
}


@pytest.mark.parametrize("values", FORGED.values(), ids=FORGED)
def test_a_forged_report_counts_nothing(site: Site, values: dict[str, str]) -> None:
    """What is not proved to be about a post of ours to a subscriber leaves no trace but in the log."""
    site.post()
    content = report(values.get("kind", "5.1.1"), values.get("of", LUC), values.get("message_id", "<1@example.org>"), "delayed" if "kind" in values else "failed")
    site.take(values["recipient"], content)
    with connection():
        assert Bounce.select().count() == 0


def test_a_leave_token_is_no_bounce_token(site: Site) -> None:
    """Tokens of one purpose do not serve another, nor does one that is made up."""
    bounce.take(site.config, site.secret, site.list, site.token(purpose=LEAVE), report("5.1.1", LUC, site.post()), "Q")
    bounce.take(site.config, site.secret, site.list, "a" * 28, report("5.1.1", LUC, "<1@example.org>"), "Q")
    assert site.notes() == []


def test_an_old_report_says_nothing(site: Site) -> None:
    """After thirty days neither a token nor a quotation is believed."""
    message_id, token = site.post(), site.token()
    site.clock.later(31)
    site.report(f"amis-bounces+{token}@lists.example.org", message_id=message_id)
    site.report(message_id=message_id)
    assert site.notes() == []


def test_a_refused_post_is_noted_and_does_not_count(site: Site) -> None:
    """A DMARC refusal is shown with the subscriber, and makes no score."""
    for number in range(8):
        site.fail(number, kind="5.7.26")
        site.clock.later(7)
    assert site.notes()[0] == ("policy", "5.7.26", "token")
    assert site.subscription().bounce_score is None
    assert site.maintain() == {}


def test_every_message_of_the_corpus_is_taken(site: Site) -> None:
    """Whatever comes to a bounce address is answered with 250, with a token and without."""
    site.post()
    token = site.token()
    for path in sorted(CORPUS.glob("*.eml")):
        site.take("amis-bounces@lists.example.org", path.read_bytes())
        site.take(f"amis-bounces+{token}@lists.example.org", path.read_bytes().replace(b"<cr-12@example.org>", b"<1@example.org>"))


def weekly(site: Site, address: str = LUC, number: int = 5) -> None:
    for week in range(number):
        if week:
            site.clock.later(7)
        site.fail(week, address)


def test_a_dead_mailbox_is_told_of_then_probed_then_suspended(site: Site) -> None:
    """Owners are told of it; a last mail goes out; when that comes back the subscriber is suspended, and the owners told."""
    weekly(site, number=4)
    assert site.maintain() == {"told": 1}
    assert site.told() == [(OWNER, "[amis] Subscribers whose mail comes back")]
    site.clock.later(7)
    site.fail(9)
    assert site.subscription().bounce_score == 93
    assert site.maintain() == {"probed": 1}
    (probe,) = site.peer.letters
    assert probe.recipients == [LUC]
    site.told()
    site.clock.later(1)
    assert site.maintain() == {}
    site.take(probe.mail.partition("<")[2].partition(">")[0], report("5.1.1", LUC, "<probe@lists.example.org>"))
    site.clock.later(1)
    assert site.maintain() == {"suspended": 1}
    assert (site.subscription().mode, site.state()) == ("suspended", "suspended")
    assert site.told() == [(OWNER, "[amis] Subscribers whose mail comes back")]


def probe(site: Site, back: bool) -> None:
    """The probe goes out; it comes back, or a week passes."""
    assert site.maintain() == {"probed": 1}
    letter = next(letter for letter in site.peer.letters if letter.recipients == [LUC])
    site.told()
    site.clock.later(1)
    if back:
        site.take(letter.mail.partition("<")[2].partition(">")[0], report("5.1.1", LUC, "<probe@lists.example.org>"))
    else:
        site.clock.later(7)


def test_a_probe_that_arrives_ends_the_story(site: Site) -> None:
    """A mailbox that takes the probe is well: its failures are forgotten, and it goes on receiving."""
    weekly(site)
    probe(site, back=False)
    assert site.maintain() == {"resumed": 1}
    assert (site.subscription().mode, site.state(), site.subscription().bounce_score) == ("mail", "", None)
    site.clock.later(1)
    assert site.maintain() == {}


def test_forged_reports_suspend_nobody(site: Site) -> None:
    """Reports that only quote a post, which any subscriber can forge, bring a subscriber one mail to see, and no more."""
    for week in range(9):
        site.report(message_id=site.post(week))
        site.clock.later(7)
    assert {proof for _kind, _status, proof in site.notes()} == {"quoted"}
    done: dict[str, int] = {}
    for day in range(30):
        for name, number in site.maintain().items():
            done[name] = done.get(name, 0) + number
        site.clock.later(1)
        if day % 7 == 0:
            site.report(message_id=site.post(100 + day))
    assert "suspended" not in done
    assert done["resumed"] == 1
    assert site.subscription().mode == "mail"


def test_a_suspended_subscriber_is_tried_once_more_and_removed(site: Site) -> None:
    """After ninety days of suspension a last mail decides between the list and the door."""
    weekly(site)
    probe(site, back=True)
    site.clock.later(1)
    assert site.maintain() == {"suspended": 1}
    site.clock.later(89)
    assert site.maintain() == {}
    site.clock.later(2)
    probe(site, back=True)
    site.clock.later(1)
    assert site.maintain() == {"removed": 1}
    assert site.subscription() is None


def test_a_suspended_subscriber_comes_back_when_the_mailbox_does(site: Site) -> None:
    """If that last mail arrives, they receive again."""
    weekly(site)
    probe(site, back=True)
    site.clock.later(1)
    site.maintain()
    site.clock.later(91)
    probe(site, back=False)
    assert site.maintain() == {"resumed": 1}
    assert site.subscription().mode == "mail"


def test_the_list_can_remove_at_once(site: Site) -> None:
    """With bounce_action remove, the probe that comes back removes."""
    site.set(bounce_action="remove")
    weekly(site)
    probe(site, back=True)
    site.clock.later(1)
    assert site.maintain() == {"removed": 1}


@pytest.mark.parametrize("values", [{"bounce_action": "tell"}, {"bounce_stop": "0"}])
def test_the_list_can_only_be_told(site: Site, values: dict[str, str]) -> None:
    """With bounce_action tell, or no score to stop at, nothing happens but a notice."""
    site.set(**values)
    weekly(site, number=8)
    assert site.maintain() == {"told": 1}
    site.clock.later(1)
    assert site.maintain() == {}


def crowd(site: Site, number: int, domain: str) -> list[str]:
    addresses = [f"p{n}@{domain.format(n)}" for n in range(number)]
    for address in addresses:
        people.subscribe(site.config, SHELL, site.list, address, quiet=True)
    with transaction():
        Subscription.update(since=START - 400 * DAY).execute()
    site.told()
    return addresses


@pytest.mark.parametrize("domain", ["{}.example", "one.example"], ids=["of many receivers", "of one receiver"])
def test_when_many_fail_at_once_nobody_is_touched(site: Site, domain: str) -> None:
    """A large share of the list, or most people of one receiver: the listmasters are told, once a week, and nobody is probed, suspended or removed."""
    people.add_listmaster(site.config, SHELL, "master@example.org")
    addresses = crowd(site, 10, domain)
    for week in range(6):
        site.clock.later(7)
        site.fail(week, *addresses)
    assert site.maintain() == {"held_back": 10}
    assert ("master@example.org", "[amis] Many subscribers fail at once: 10") in site.told()
    site.clock.later(1)
    assert site.maintain() == {"held_back": 10}
    assert site.told() == []


def test_few_that_fail_are_no_outage(site: Site) -> None:
    """Three dead mailboxes among forty are three dead mailboxes."""
    addresses = crowd(site, 40, "{}.example")[:3]
    for week in range(5):
        site.clock.later(7)
        site.fail(week, *addresses)
    assert site.maintain() == {"probed": 3}


def complaint(message_id: str = "<1@example.org>", of: str = LUC, back: str = "amis-bounces@lists.example.org") -> bytes:
    raw = (CORPUS / "arf-yahoo.eml").read_bytes().replace(b"luc@yahoo.example", of.encode()).replace(b"<cr-12@example.org>", message_id.encode())
    return raw.replace(b"amis-bounces+token@lists.example.org", back.encode())


@pytest.mark.parametrize("where", ["return-path of the report", "return-path of the copy"])
def test_a_complaint_unsubscribes_and_tells_the_owner(site: Site, where: str) -> None:
    """A reader who calls a post spam is unsubscribed at once, known by a token, though the provider hides the address."""
    site.post()
    path = f"amis-bounces+{site.token()}@lists.example.org"
    if where == "return-path of the report":
        site.take(path, complaint(of="redacted"))
    else:
        site.take("amis-bounces@lists.example.org", complaint(of="redacted", back=path))
    assert site.subscription() is None
    assert site.told() == [(OWNER, "[amis] A subscriber calls a post spam")]
    assert site.subscription(ANNE) is not None


def test_a_complaint_that_is_not_proved_only_tells_the_owner(site: Site) -> None:
    """Without a token anybody could have written it: the owners are told once, and nobody is unsubscribed."""
    site.post()
    for _time in range(2):
        site.take("amis-bounces@lists.example.org", complaint())
    assert site.subscription() is not None
    assert site.told() == [(OWNER, "[amis] A subscriber calls a post spam")]


def test_a_subscriber_may_come_back_by_themselves(site: Site) -> None:
    """Whoever sets mode to mail receives again, and old failures say nothing any more."""
    weekly(site)
    probe(site, back=True)
    site.clock.later(1)
    site.maintain()
    people.update(site.config, Actor(LUC, LUC), site.list, LUC, {"mode": "mail"})
    assert (site.subscription().mode, site.state()) == ("mail", "")
    site.clock.later(1)
    assert site.maintain() == {}


def test_reset_forgets_and_is_for_owners(site: Site) -> None:
    """An owner may forget a subscriber's failures; another subscriber may not."""
    weekly(site)
    with pytest.raises(NotPermitted):
        bounce.reset(Actor(ANNE, ANNE), LUC)
    (row,) = bounce.reset(Actor(OWNER, OWNER), LUC)
    assert row["score"] == 93
    assert (site.notes(), site.state(), site.subscription().bounce_score) == ([], "", None)


def test_show_tells_why(site: Site) -> None:
    """Each failure is there with its proof, and the reason of the score in words."""
    weekly(site, number=2)
    (row,) = bounce.show(LUC)
    assert row["score"] is None
    assert row["why"] == (
        "2 of 2 posts came back, on 2 days within 7 days. No score before 3 days with failures and 10 days from the first to the last."
    )
    assert [failure["proof"] for failure in row["failures"]] == ["token", "token"]


def test_a_new_subscription_begins_anew(site: Site) -> None:
    """Who left and came back is not measured by what came back before."""
    weekly(site)
    people.unsubscribe(site.config, SHELL, site.list, LUC, quiet=True)
    site.clock.later(1)
    people.subscribe(site.config, SHELL, site.list, LUC, quiet=True)
    with transaction():
        Subscription.update(since=site.clock.now).where(Subscription.id == site.subscription().id).execute()
    assert site.state() == ""
    assert site.maintain() == {}


def test_a_list_is_looked_through_once_a_day(site: Site) -> None:
    """However often the timer runs, owners get one notice a day."""
    weekly(site, number=4)
    assert site.maintain() == {"told": 1}
    site.fail(20, ANNE)
    assert site.maintain() == {}
    with connection():
        assert MailingList.get().bounces_checked == site.clock.now


@pytest.mark.parametrize(("token", "code"), [("{token}", 250), ("{TOKEN}", 250), ("luc=example.net", 250), ("{leave}", 550), ("a" * 28, 550), ("x", 550)])
def test_a_return_path_that_is_none_of_ours_does_not_exist(site: Site, token: str, code: int) -> None:
    """A made-up token is refused, as both doors and the socketmap do it, before a report is sent; one whose case was changed is ours."""
    made = site.token()
    recipient = f"amis-bounces+{token.format(token=made, TOKEN=made.upper(), leave=site.token(purpose=LEAVE))}@lists.example.org"
    assert deliver(site.door, Envelope("", recipient, "Q"), report("5.1.1", LUC, "<1@example.org>")).code == code


def test_without_postfix_nobody_is_probed_and_it_is_tried_again(site: Site) -> None:
    """Where Postfix does not answer, the states stay as they are, and the next look goes on."""
    weekly(site)
    endpoint = site.peer.endpoint
    site.peer.close()
    assert site.maintain() == {}
    assert site.state() == "watched"
    site.peer = Peer()
    site.config = type(site.config)(site.config.path, {**site.config.values, "postfix.reinjection": site.peer.endpoint})
    assert endpoint != site.peer.endpoint
    assert site.maintain() == {"probed": 1}
