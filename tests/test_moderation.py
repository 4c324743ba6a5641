"""Moderation: what is held is distributed once, as it came, or not at all; who may decide; who is told, and who never is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from database_fixture import SHELL, audited, person
from moderation_fixture import ALICE, BOB, CAROL, LIST, MAX, MOIRA, OWNER, QUEUE_ID, STRANGER, Moderated, post, text
from samples import FOLDER, NAMES

from kelou import blocklist, lifecycle, moderation, people, policy, standing
from kelou.audit import Actor
from kelou.database import connection, rehearsal, transaction
from kelou.distribution import digest_of
from kelou.message import Message
from kelou.models import Audit, Guest, HeldPost, Token
from kelou.moderation import Outcome
from kelou.policy import Facts
from kelou.refusal import BadData, NotFound, NotPermitted, TryAgain
from kelou.reply import DISCARDED, OK
from kelou.submission import wire

DAY = 86400
ME = person(MOIRA)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Moderated]:
    made = Moderated(tmp_path)
    yield made
    made.close()


def approve(site: Moderated, number: int, actor: Actor = ME, **more: bool) -> Outcome:
    return moderation.approve(site.config, actor, number, **more)


# Holding.


def test_holding_twice_holds_once(site: Moderated) -> None:
    """A delivery that comes again, because our answer was lost, is held once and told once."""
    content = post()
    assert [site.deliver(content).status for _ in range(3)] == ["2.6.0"] * 3
    assert site.count() == 1
    assert len(site.mails(MOIRA)) == 1


def test_what_was_decided_is_not_held_again(site: Moderated) -> None:
    """A delivery that comes again after the decision changes nothing."""
    content = post()
    number = site.hold(content, author="")
    moderation.discard(site.config, ME, number)
    assert site.deliver(content).status == "2.6.0"
    assert (site.count(), site.row(number).state) == (1, "discarded")


@pytest.mark.parametrize("name", NAMES)
def test_what_is_held_are_the_exact_bytes(site: Moderated, name: str) -> None:
    """Any message is held as it came, octet by octet, and its moderators are told of it."""
    content = (FOLDER / f"{name}.eml").read_bytes()
    number = site.hold(content, author="")
    assert bytes(site.row(number).content) == content
    assert site.row(number).digest == digest_of(content)
    assert len(site.mails(MOIRA)) == 1
    with connection():
        assert moderation.describe(number)["size"] == len(content)


def test_a_notice_carries_the_post(site: Moderated) -> None:
    """Each moderator gets the post attached, with its own key, and without what our milter wrote into it."""
    site.hold(post(body="To be seen"))
    first, second = site.mails(MOIRA), site.mails(MAX)
    assert len(first) == len(second) == 1
    attached = next(part for part in first[0].walk() if part.get_content_type() == "message/rfc822")
    assert b"To be seen" in bytes(attached)
    assert b"Kelou-Author" not in bytes(attached)
    assert site.key(MOIRA) != site.key(MAX)
    assert str(first[0]["Reply-To"]) == f"amis-confirm+{site.key(MOIRA)}@lists.example.org"


def test_a_large_post_is_not_attached(site: Moderated, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a post over a megabyte its header goes with the notice, and a word that the rest is elsewhere."""
    monkeypatch.setattr(moderation, "ATTACHED", 1000)
    site.hold(post(body="x" * 900 + "\r\n" + "y" * 900, subject="Large"))
    attached = next(part for part in site.mails(MOIRA)[0].walk() if part.get_content_type() == "message/rfc822").as_bytes()
    assert b"Subject: Large" in attached
    assert b"kelou mod show" in attached
    assert b"yyy" not in attached


@pytest.mark.parametrize(
    ("staff", "told"),
    [((MOIRA, MAX), [MOIRA, MAX]), ((), [OWNER])],
    ids=["its moderators", "its owners where there is no moderator"],
)
def test_who_is_asked(site: Moderated, staff: tuple[str, ...], told: list[str]) -> None:
    """A held post is for the moderators, else for the owners."""
    for address in {MOIRA, MAX} - set(staff):
        people.remove_role(site.config, SHELL, site.list, "moderator", address)
    site.hold(author="")
    assert [str(mail["To"]) for mail in site.mails()] == told


def test_a_rule_that_breaks_holds_the_post(site: Moderated, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A post that crashes a rule is held, the traceback is in the log, and it can be approved."""

    def broken(facts: Facts) -> None:
        raise ZeroDivisionError("boom")

    monkeypatch.setattr(policy, "RULES", {broken: ("x",), **policy.RULES})
    number = site.hold()
    assert (site.row(number).rule, site.row(number).detail) == ("fault", "broken")
    assert "ZeroDivisionError" in caplog.text
    assert "server" in text(site.mails(MOIRA)[0])
    approve(site, number)
    assert site.run() == [250]
    assert len(site.copies()) == 1


# Deciding.


def test_an_approval_distributes_what_was_held(site: Moderated) -> None:
    """The author's bytes go to everybody, once, and are kept no longer than that."""
    number = site.hold(post(body="Exactly  this.\t"))
    outcome = approve(site, number)
    assert (outcome.state, outcome.by, outcome.changed) == ("approved", MOIRA, True)
    assert bytes(site.row(number).content).endswith(b"Exactly  this.\t\r\n")
    assert site.run() == [250]
    (copy,) = site.copies()
    assert sorted(copy.recipients) == [ALICE, BOB, CAROL]
    assert copy.content.endswith(b"\r\n\r\nExactly  this.\t\r\n")
    assert site.row(number).content is None


def test_a_trigger_is_ours(site: Moderated) -> None:
    """It goes out signed from the null reverse-path to an address of our own, so that no failure of it ever goes to anybody."""
    number = site.hold()
    approve(site, number)
    (trigger,) = site.triggers()
    assert trigger.mail.startswith("MAIL FROM:<>")
    assert trigger.recipients == [f"kelou-distribute+{number}@lists.example.org"]
    assert Message.parse(trigger.content).text("auto-submitted") == "auto-generated"
    assert Message.parse(trigger.content).first("kelou-sign")


@pytest.mark.parametrize("state", ["held", "rejected", "discarded", "expired"])
def test_a_trigger_of_anybody_starts_nothing(site: Moderated, state: str) -> None:
    """A forged trigger distributes nothing that was not approved, and is taken, so that nobody gets a bounce."""
    number = site.hold()
    with transaction():
        HeldPost.update(state=state).where(HeldPost.id == number).execute()
    for recipient in (number, number + 1, 10**18 - 1):
        assert site.deliver(post(9), f"kelou-distribute+{recipient}@lists.example.org").code == 250
    assert site.copies() == []


def test_approving_again_distributes_nothing(site: Moderated) -> None:
    """An approval, however often repeated, before and after the distribution, and its trigger, however often sent, make one distribution."""
    number = site.hold()
    approve(site, number)
    assert not approve(site, number, person(MAX)).changed
    assert site.run() == [250, 250]
    assert approve(site, number).by == MOIRA
    assert site.triggers() == [], "what is out needs no trigger"
    assert site.deliver(post(9), f"kelou-distribute+{number}@lists.example.org", "").code == 250
    assert len(site.copies()) == 1


VERBS: dict[str, Callable[[Moderated, int, Actor], Outcome]] = {
    "approved": lambda site, number, actor: moderation.approve(site.config, actor, number),
    "rejected": lambda site, number, actor: moderation.reject(site.config, actor, number, "No"),
    "discarded": lambda site, number, actor: moderation.discard(site.config, actor, number),
}


@pytest.mark.parametrize("first", VERBS)
@pytest.mark.parametrize("second", VERBS)
def test_the_first_decision_stands(site: Moderated, first: str, second: str) -> None:
    """Whoever decides second learns how it was decided, and by whom."""
    number = site.hold()
    assert VERBS[first](site, number, ME).changed
    outcome = VERBS[second](site, number, person(MAX))
    assert (outcome.state, outcome.by, outcome.changed) == (first, MOIRA, False)
    assert [entry for entry in audited() if entry[1].startswith("mod ")] == [(MOIRA, f"mod {first}", LIST)]


@pytest.mark.parametrize("second", VERBS)
def test_of_two_in_the_same_second_one_decides(site: Moderated, second: str) -> None:
    """Two moderators at once: one decides, the other is told who did, and one distribution at most comes of it."""
    for turn in range(5):
        number = site.hold(post(turn + 100))
        gate = threading.Barrier(2)
        outcomes: list[Outcome] = []

        def act(state: str, who: str, number: int = number, gate: threading.Barrier = gate, into: list[Outcome] = outcomes) -> None:
            gate.wait()
            into.append(VERBS[state](site, number, person(who)))

        threads = [threading.Thread(target=act, args=one) for one in (("approved", MOIRA), (second, MAX))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(outcome.changed for outcome in outcomes) == [False, True]
        assert len({(outcome.state, outcome.by) for outcome in outcomes}) == 1
        site.run()
        assert len(site.copies()) == (outcomes[0].state == "approved")
        site.peer.letters.clear()


def test_with_postfix_down_the_decision_stands(site: Moderated) -> None:
    """Approving while Postfix is away is 75, the post is approved all the same, and goes out at the next `kelou maintain`."""
    number = site.hold()
    site.peer.say("greeting", "421 4.3.2 Not now")
    with pytest.raises(TryAgain) as refused:
        approve(site, number)
    assert refused.value.exit == 75
    assert site.row(number).state == "approved"
    site.later(61)
    assert moderation.maintain(site.config)["held_triggered"] == 0
    site.peer.say("greeting", "220 peer")
    assert moderation.maintain(site.config)["held_triggered"] == 1
    assert site.run() == [250]
    assert len(site.copies()) == 1
    assert moderation.maintain(site.config)["held_triggered"] == 0


def test_maintain_leaves_to_postfix_what_it_holds(site: Moderated) -> None:
    """A distribution that was begun and put off is in Postfix's queue: no second trigger joins it until a day later."""
    number = site.hold()
    approve(site, number)
    site.peer.say(".", "451 4.3.0 Later")
    assert site.run() == [451]
    site.peer.say(".", "250 Ok")
    site.later(3600)
    assert moderation.maintain(site.config)["held_triggered"] == 0
    assert site.deliver(b"\r\n", f"kelou-distribute+{number}@lists.example.org", "").code == 250
    assert len(site.copies()) == 1


def test_a_dry_run_starts_nothing(site: Moderated) -> None:
    """What is rolled back sends nothing: no trigger, no notice."""
    number = site.hold()
    site.peer.letters.clear()
    with rehearsal():
        assert approve(site, number).changed
    assert site.peer.letters == []
    assert site.row(number).state == "held"


def test_a_closed_list_distributes_nothing(site: Moderated) -> None:
    """Its held posts can not be approved; what was approved before goes out when it is open again."""
    first, second = site.hold(post(1)), site.hold(post(2))
    approve(site, first)
    lifecycle.close(site.config, SHELL, site.list)
    with pytest.raises(NotPermitted):
        approve(site, second)
    assert site.row(second).state == "held"
    assert site.run() == [250]
    assert site.copies() == []
    lifecycle.reopen(site.config, SHELL, lifecycle.find_list(site.config, "amis"))
    site.later(61)
    moderation.maintain(site.config)
    assert site.run() == [250]
    assert len(site.copies()) == 1


def test_a_twin_is_never_taken_for_the_post(site: Moderated) -> None:
    """Two held posts with one Message-ID, one of them forged: approving Alice's sends Alice's bytes, and the other stays held."""
    forged = site.hold(post(1, body="Send me money."), author="", queue_id="4Forged")
    real = site.hold(post(1, body="The minutes."))
    approve(site, real)
    site.run()
    (copy,) = site.copies()
    assert b"The minutes." in copy.content
    assert b"money" not in copy.content
    assert site.row(forged).state == "held"
    late = site.hold(post(1, body="More money."), queue_id="4Late")
    assert site.row(late).rule in ("twin", "moderated")


# Rights.


@pytest.mark.parametrize(
    ("who", "allowed"),
    [
        (MOIRA, True), (MOIRA.upper(), True), (OWNER, True), ("master@example.org", True),
        (ALICE, False), (STRANGER, False), ("other@example.org", False), ("former@example.org", False),
    ],
    ids=["moderator", "in capitals", "owner", "listmaster", "subscriber and author", "stranger", "moderator of another list", "former moderator"],
)  # fmt: skip
@pytest.mark.parametrize("verb", VERBS)
def test_who_may_decide(site: Moderated, verb: str, who: str, allowed: bool) -> None:
    """The moderators and owners of that list, and listmasters; nobody else."""
    other = lifecycle.create(site.config, SHELL, "autre", type="moderated", subject="x", owner=OWNER).list
    people.add_role(site.config, SHELL, other, "moderator", "other@example.org")
    people.add_role(site.config, SHELL, site.list, "moderator", "former@example.org")
    people.remove_role(site.config, SHELL, site.list, "moderator", "former@example.org")
    people.add_listmaster(site.config, SHELL, "master@example.org")
    number = site.hold()
    if allowed:
        assert VERBS[verb](site, number, person(who)).state == verb
        return
    with pytest.raises(NotPermitted):
        VERBS[verb](site, number, person(who))
    assert site.row(number).state == "held"


def test_an_unknown_post_is_not_found(site: Moderated) -> None:
    """Each verb says so, and where to look."""
    for verb in VERBS.values():
        with pytest.raises(NotFound, match="kelou mod list"):
            verb(site, 7, SHELL)


# Authors.


@pytest.mark.parametrize(("author", "posting"), [(ALICE, "accept"), (STRANGER, "accept")], ids=["a subscriber", "a stranger"])
def test_allow_author(site: Moderated, author: str, posting: str) -> None:
    """From then on what they write is distributed at once: a subscriber's flag, a stranger as guest. Forging them opens nothing."""
    number = site.hold(post(1, author), author=author, reverse_path=author)
    assert approve(site, number, allow_author=True).changed
    site.run()
    with connection():
        assert standing.of(site.list.id, author).posting == posting
        assert Guest.select().count() == (author == STRANGER)
    assert site.deliver(post(2, author), author=author, reverse_path=author).status == "2.0.0"
    assert len(site.copies()) == 2
    site.hold(post(3, author), author="")
    assert (MOIRA, "mod allow", LIST) in audited()


def test_allow_author_later(site: Moderated) -> None:
    """Somebody who approves again allows the author, though the post was approved already; doing it twice does it once."""
    number = site.hold()
    approve(site, number)
    for _ in range(2):
        assert not approve(site, number, allow_author=True).changed
    with connection():
        assert standing.of(site.list.id, ALICE).posting == "accept"
    assert audited().count((MOIRA, "mod allow", LIST)) == 1


def test_block_author(site: Moderated) -> None:
    """The author is on the list's block list, once, and what they write next is refused or held."""
    for turn in range(2):
        moderation.discard(site.config, ME, site.hold(post(turn, STRANGER), author=STRANGER, reverse_path=STRANGER), block_author=True)
        if not turn:
            blocklist.remove(SHELL, STRANGER, site.list)
    with connection():
        assert [(row["pattern"], row["list"]) for row in blocklist.entries(site.list)] == [(STRANGER, LIST)]
    assert site.deliver(post(5, STRANGER), author=STRANGER, reverse_path=STRANGER).status == "5.7.1"
    assert audited().count((MOIRA, "block add", LIST)) == 2


@pytest.mark.parametrize(
    "verb",
    [
        lambda site, number: approve(site, number, allow_author=True),
        lambda site, number: moderation.discard(site.config, ME, number, block_author=True),
    ],
    ids=["approve", "discard"],
)
def test_nobody_can_not_be_allowed_or_blocked(site: Moderated, verb: Callable[[Moderated, int], Outcome]) -> None:
    """A post without one author: the decision is not made either, so that nothing is half done."""
    number = site.hold(b"Subject: x\r\n\r\nHello\r\n", author="")
    with pytest.raises(BadData):
        verb(site, number)
    assert site.row(number).state == "held"


# Answers by mail.


HTML = "MIME-Version: 1.0\r\nContent-Type: text/html; charset=utf-8\r\n"
QUOTE = "\n\nLe lun. 3 nov. 2026 à 10:00, Kelou\n<amis-owner@lists.example.org> a écrit :\n\n> approve              the post is distributed\n"
ANSWERS: dict[str, tuple[dict[str, str], str, str]] = {
    "approve in the first line": ({"body": "approve"}, "approved", ""),
    "approve in the subject": ({"subject": "approve"}, "approved", ""),
    "in capitals, with a full stop": ({"body": "APPROVE."}, "approved", ""),
    "after empty lines": ({"body": "\n\n  Ok!  \n" + QUOTE}, "approved", ""),
    "distribuer": ({"body": "distribuer" + QUOTE}, "approved", ""),
    "oui": ({"body": "Oui\n\nMerci\n"}, "approved", ""),
    "approve above a signature": ({"body": "approve\n-- \nMoira\n"}, "approved", ""),
    "approve in HTML": ({"body": "<html><body><div>approve</div><blockquote>reject</blockquote></body></html>", "extra": HTML}, "approved", ""),
    "reject": ({"body": "reject" + QUOTE}, "rejected", ""),
    "reject with a reason": ({"body": "reject Off topic." + QUOTE}, "rejected", "Off topic."),
    "a reason below": ({"body": "Reject:\nOff topic.\nTwice." + QUOTE}, "rejected", "Off topic.\nTwice."),
    "a reason in the subject": ({"subject": "reject Off topic"}, "rejected", "Off topic"),
    "a reason below the subject": ({"subject": "reject", "body": "Off topic" + QUOTE}, "rejected", "Off topic"),
    "a reason above Outlook's header": (
        {"body": "reject Hors sujet\n\n________________________________\nDe : Kelou\nEnvoyé : lundi\n\nBonjour,\n"}, "rejected", "Hors sujet"),
    "a reason above another Outlook's header": ({"body": "reject Hors sujet\n\nFrom: Kelou\nSent: Monday\n\nHello,\n"}, "rejected", "Hors sujet"),
    "a reason above one line of introduction": ({"body": "reject No.\n\nOn Monday, Kelou wrote:\n> x"}, "rejected", "No."),
    "a reason with a colon": ({"body": "reject Two things:\n- one\n- two\n\n> x"}, "rejected", "Two things:\n- one\n- two"),
    "rejeter": ({"body": "rejeter hors sujet"}, "rejected", "hors sujet"),
    "non": ({"body": "non\nhors sujet"}, "rejected", "hors sujet"),
    "discard": ({"body": "discard"}, "discarded", ""),
    "ignorer in the subject": ({"subject": "ignorer"}, "discarded", ""),
    "nothing": ({"body": ""}, "held", ""),
    "the quotation only": ({"body": "> approve\n> approve\n"}, "held", ""),
    "an introduction and the quotation only": ({"body": QUOTE}, "held", ""),
    "the quotation in HTML only": ({"body": "<blockquote>approve</blockquote>", "extra": HTML}, "held", ""),
    "approve, but": ({"body": "approve it if you must"}, "held", ""),
    "no problem": ({"body": "No problem, send it"}, "held", ""),
    "something else": ({"body": "What is this?\napprove"}, "held", ""),
    "no text at all": ({"extra": "Content-Type: image/png\r\n", "body": "x"}, "held", ""),
}  # fmt: skip


@pytest.mark.parametrize(("sent", "state", "reason"), ANSWERS.values(), ids=ANSWERS)
def test_a_moderators_answer(site: Moderated, sent: dict[str, str], state: str, reason: str) -> None:
    """One word decides; what is quoted does not; who can not be understood is told how, and their key stays good."""
    number = site.hold()
    key = site.key(MOIRA)
    site.peer.letters.clear()
    assert site.answer(key, **sent).code == 250
    assert (site.row(number).state, site.row(number).reason) == (state, reason)
    (told,) = site.mails(MOIRA)
    assert told["In-Reply-To"] == "<answer@example.org>"
    assert (", with one of the words" in text(told)) == (state == "held")
    assert site.answer(key, "approve") == (OK if state == "held" else DISCARDED)
    assert len(site.triggers()) == (state in ("approved", "held"))


@pytest.mark.parametrize(
    "sent",
    [
        {"extra": "Auto-Submitted: auto-replied\r\n"}, {"extra": "Precedence: bulk\r\n"}, {"extra": "X-Autoreply: yes\r\n"},
        {"extra": "Precedence: auto_reply\r\n"}, {"reverse_path": ""},
    ],
    ids=["Auto-Submitted", "Precedence", "X-Autoreply", "auto_reply", "null reverse-path"],
)  # fmt: skip
def test_a_programs_answer_decides_nothing(site: Moderated, sent: dict[str, str]) -> None:
    """An absence notice that says "approve" is ignored, and nobody is answered."""
    number = site.hold()
    key = site.key(MOIRA)
    site.peer.letters.clear()
    assert site.answer(key, "approve", subject="approve", **sent).code == 250
    assert site.row(number).state == "held"
    assert site.peer.letters == []


def test_a_key_serves_once(site: Moderated) -> None:
    """A used key does nothing more, nor does a wrong one; Postfix and the milter refuse both at RCPT, and here nobody gets a bounce."""
    number = site.hold()
    key = site.key(MOIRA)
    assert site.answer(key, "approve") == OK
    for bad in (key, "a" * 26):
        assert site.answer(bad, "approve") == DISCARDED
    assert site.row(number).decided_by == MOIRA


def test_an_expired_key(site: Moderated) -> None:
    """After the post has expired its key decides nothing."""
    number = site.hold()
    key = site.key(MOIRA)
    site.later(16 * DAY)
    assert site.answer(key, "approve") == DISCARDED
    assert site.row(number).state == "held"


def test_a_key_in_capitals(site: Moderated) -> None:
    """Mail programs fold the case of local parts; the key is good all the same."""
    number = site.hold()
    assert site.answer(site.key(MOIRA).upper(), "approve").code == 250
    assert site.row(number).state == "approved"


def test_a_key_is_for_its_post(site: Moderated) -> None:
    """The key of one post, or one for something else, decides on no other."""
    first, second = site.hold(post(1)), site.hold(post(2))
    assert site.answer(site.key(MOIRA, 0), "approve").code == 250
    assert [site.row(number).state for number in (first, second)] == ["approved", "held"]
    key = site.key(MOIRA, 1)
    with transaction():
        Token.update(action="subscribe").where(Token.used.is_null()).execute()
    assert site.answer(key, "approve").code == 250
    assert site.row(second).state == "held"


def test_a_good_key_of_a_former_moderator(site: Moderated) -> None:
    """Whether its holder still moderates is asked when it comes back."""
    number = site.hold()
    key = site.key(MOIRA)
    people.remove_role(site.config, SHELL, site.list, "moderator", MOIRA)
    site.peer.letters.clear()
    assert site.answer(key, "approve").code == 250
    assert site.row(number).state == "held"
    assert site.peer.letters == []


def test_the_second_answer_is_told_who_was_faster(site: Moderated) -> None:
    """Two moderators answer by mail: one distribution, and the second learns who decided."""
    number = site.hold()
    keys = site.key(MOIRA), site.key(MAX)
    assert site.answer(keys[0], "approve").code == 250
    site.peer.letters[:] = site.triggers()
    assert site.answer(keys[1], "reject", reverse_path=MAX).code == 250
    assert (site.row(number).state, site.row(number).decided_by) == ("approved", MOIRA)
    assert MOIRA in text(site.mails(MAX)[0])
    assert "changed nothing" in text(site.mails(MAX)[0])
    assert site.run() == [250]
    assert len(site.copies()) == 1


def test_an_answer_while_postfix_is_down(site: Moderated) -> None:
    """The approval is taken, nothing bounces, and maintain distributes it later."""
    number = site.hold()
    key = site.key(MOIRA)
    site.peer.say("greeting", "421 4.3.2 Not now")
    assert site.answer(key, "approve").code == 250
    assert site.row(number).state == "approved"
    site.peer.say("greeting", "220 peer")
    site.later(61)
    moderation.maintain(site.config)
    assert site.run() == [250]
    assert len(site.copies()) == 1


# Who learns of it.


def test_the_other_moderators_learn_the_decision(site: Moderated) -> None:
    """Who was asked is told that there is nothing left to do; who decided knows."""
    number = site.hold(author="")
    site.peer.letters.clear()
    moderation.reject(site.config, ME, number, "Off topic")
    (mail,) = site.mails()
    assert (str(mail["To"]), str(mail["Subject"])) == (MAX, "[amis] Rejected: News")
    assert "moira@example.org has rejected" in text(mail)


def test_a_moderators_own_post(site: Moderated) -> None:
    """A moderator who approves their own held post is told to the others."""
    site.set(moderators_held="yes")
    number = site.hold(post(1, MOIRA), author=MOIRA, reverse_path=MOIRA)
    site.peer.letters.clear()
    approve(site, number)
    assert [str(mail["To"]) for mail in site.mails()] == [MAX]


def test_clearing_up_after_a_flood_makes_no_flood(site: Moderated, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a hundred decisions the other moderators are told the first; the rest is in the log and the audit."""
    monkeypatch.setattr(moderation, "BUSY", 5)
    numbers = [site.hold(post(turn), author="") for turn in range(12)]
    moderation.maintain(site.config)
    with transaction():
        HeldPost.update(noticed=1).execute()
    site.peer.letters.clear()
    for number in numbers:
        moderation.discard(site.config, ME, number)
    assert len(site.mails(MAX)) == 5


def test_what_a_certain_author_is_told(site: Moderated) -> None:
    """Held, rejected with the reason, expired: one notice each. Of an approval the copy tells, of a discarded post nothing."""
    first, second, third, fourth = (site.hold(post(turn), queue_id=f"4Q{turn}") for turn in range(4))
    assert [str(mail["Subject"]) for mail in site.mails(ALICE)] == ["Your post to amis@lists.example.org waits for a moderator"] * 4
    assert {mail["In-Reply-To"] for mail in site.mails(ALICE)} == {f"<{turn}@example.org>" for turn in range(4)}
    site.peer.letters.clear()
    moderation.reject(site.config, ME, first, "Too long.\nSorry.")
    assert "Too long.\n    Sorry." in text(site.mails(ALICE)[0])
    approve(site, second)
    moderation.discard(site.config, ME, third)
    site.later(16 * DAY)
    assert moderation.maintain(site.config)["held_expired"] == 1
    assert [str(mail["Subject"]) for mail in site.mails(ALICE)] == [
        "Your post to amis@lists.example.org was rejected",
        "Your post to amis@lists.example.org was not distributed",
    ]
    assert (site.row(fourth).state, site.row(fourth).content) == ("expired", None)


@pytest.mark.parametrize("type", ["moderated", "discussion", "working-group", "newsletter", "confidential", "hotline"])
def test_an_uncertain_author_is_told_nothing(tmp_path: Path, type: str) -> None:
    """Forged posts cause no mail to the forged address, whatever becomes of them: held, approved, rejected, discarded, expired."""
    site = Moderated(tmp_path, type=type)
    try:
        for turn, forged in enumerate((ALICE, MOIRA, OWNER, STRANGER, "Victim@example.com") * 3):
            site.hold(post(turn, forged), author="", reverse_path=forged)
        told = {ALICE, STRANGER, "Victim@example.com", "victim@example.com"}
        with connection():
            numbers = [row.id for row in HeldPost.select(HeldPost.id).order_by(HeldPost.id)]
        for number, verb in zip(numbers, [*VERBS.values()] * 4, strict=False):
            verb(site, number, ME)
        site.later(16 * DAY)
        assert moderation.maintain(site.config)["held_expired"] == 3
        assert {str(mail["To"]) for mail in site.mails()} & told == set()
    finally:
        site.close()


def test_a_thousand_forged_posts_cause_no_mail_to_the_forged(site: Moderated) -> None:
    """And no more than twenty notices to each moderator in that hour, then one of them all."""
    for turn in range(1000):
        assert site.deliver(post(turn, f"victim{turn % 7}@example.com"), reverse_path=f"victim{turn % 7}@example.com").status == "2.6.0"
    assert site.count() == 1000
    assert {str(mail["To"]) for mail in site.mails()} == {MOIRA, MAX}
    assert len(site.mails(MOIRA)) == moderation.BUSY
    assert moderation.maintain(site.config)["held_told"] == 0, "they have had their notices for this hour"
    site.later(3601)
    site.peer.letters.clear()
    assert moderation.maintain(site.config)["held_told"] == 100
    assert [str(mail["Subject"]) for mail in site.mails(MOIRA)] == ["[amis] Posts to approve: 100"]
    assert moderation.maintain(site.config)["held_told"] == 0


def test_a_key_in_a_grouped_notice(site: Moderated) -> None:
    """Each post of a grouped notice has its own address to answer to."""
    site.set(held_notices="daily")
    first, second = site.hold(post(1, subject="First")), site.hold(post(2, subject="Second"))
    assert site.mails(MOIRA) == []
    assert moderation.maintain(site.config)["held_told"] == 2
    shown = text(site.mails(MOIRA)[0])
    key = shown.partition("2. Second")[2].partition("amis-confirm+")[2].partition("@")[0]
    assert site.answer(key, subject="reject").code == 250
    assert [site.row(number).state for number in (first, second)] == ["held", "rejected"]


def test_daily_notices(site: Moderated) -> None:
    """Where the list wants it, its moderators are told once a day of all."""
    site.set(held_notices="daily")
    site.hold(post(1), author="")
    assert site.peer.letters == []
    assert moderation.maintain(site.config)["held_told"] == 1
    site.hold(post(2), author="")
    site.hold(post(3), author="")
    site.later(DAY - 60)
    assert moderation.maintain(site.config)["held_told"] == 0
    site.later(120)
    assert moderation.maintain(site.config)["held_told"] == 2
    assert len(site.mails(MOIRA)) == 2


def test_a_notice_that_postfix_did_not_take(site: Moderated) -> None:
    """Holding succeeds all the same, and maintain tells the moderators, with the post."""
    site.peer.say("greeting", "421 4.3.2 Not now")
    number = site.hold()
    site.peer.say("greeting", "220 peer")
    assert moderation.maintain(site.config)["held_told"] == 1
    assert site.row(number).noticed
    assert any(part.get_content_type() == "message/rfc822" for part in site.mails(MOIRA)[0].walk())


def test_two_who_tell_at_once_tell_once(site: Moderated) -> None:
    """`kelou maintain` on two hosts in the same second: one notice."""
    site.set(held_notices="daily")
    site.hold(author="")
    gate = threading.Barrier(4)

    def act() -> None:
        gate.wait()
        moderation.maintain(site.config)

    threads = [threading.Thread(target=act) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(site.mails(MOIRA)) == 1


def test_a_reminder_before_it_expires(site: Moderated) -> None:
    """Three days before, once, with a good key."""
    number = site.hold(author="")
    site.peer.letters.clear()
    site.later(12 * DAY - 60)
    assert moderation.maintain(site.config)["held_reminded"] == 0
    site.later(120)
    assert moderation.maintain(site.config)["held_reminded"] == 1
    assert moderation.maintain(site.config)["held_reminded"] == 0
    (mail,) = site.mails(MOIRA)
    assert str(mail["Subject"]) == "[amis] Reminder: post to approve: News"
    assert site.answer(site.key(MOIRA), "approve").code == 250
    assert site.row(number).state == "approved"


def test_what_has_expired_is_not_reminded_of(site: Moderated) -> None:
    """A site whose timer stood still for weeks tells nobody of posts that it drops."""
    site.hold(author="")
    site.peer.letters.clear()
    site.later(20 * DAY)
    counts = moderation.maintain(site.config)
    assert (counts["held_expired"], counts["held_reminded"]) == (1, 0)
    assert site.mails(MOIRA) == []
    assert ("kelou maintain", "mod expired", LIST) in audited()


# Confirmation by the author.


@pytest.fixture
def confirming(site: Moderated) -> Moderated:
    site.set(post="subscribers", unauthenticated="confirm")
    return site


def test_an_author_confirms(confirming: Moderated) -> None:
    """A post without proof: its author is asked, answers anything, and it is distributed. No moderator is bothered."""
    number = confirming.hold(author="")
    (mail,) = confirming.mails()
    assert (str(mail["To"]), str(mail["Subject"])) == (ALICE, "Did you write to amis@lists.example.org?")
    assert moderation.maintain(confirming.config)["held_told"] == 0
    assert confirming.answer(confirming.key(ALICE), "", reverse_path=ALICE).code == 250
    assert (confirming.row(number).state, confirming.row(number).decided_by) == ("approved", ALICE)
    assert confirming.run() == [250]
    assert len(confirming.copies()) == 1


def test_a_confirmation_serves_once(confirming: Moderated) -> None:
    """The key is used up, and a program's answer does not confirm."""
    number = confirming.hold(author="")
    key = confirming.key(ALICE)
    assert confirming.answer(key, "I am away", reverse_path=ALICE, extra="Auto-Submitted: auto-replied\r\n").code == 250
    assert confirming.row(number).state == "held"
    assert confirming.answer(key, reverse_path=ALICE).code == 250
    assert confirming.answer(key, reverse_path=ALICE) == DISCARDED
    assert confirming.run() == [250]


def test_who_was_decided_on_confirms_nothing(confirming: Moderated) -> None:
    """A post that a moderator discarded stays so."""
    number = confirming.hold(author="")
    key = confirming.key(ALICE)
    moderation.discard(confirming.config, ME, number)
    assert confirming.answer(key, reverse_path=ALICE).code == 250
    assert confirming.row(number).state == "discarded"
    assert confirming.triggers() == []


@pytest.mark.parametrize("change", ["left", "emergency", "blocked"])
def test_a_confirmed_post_is_judged_by_what_the_list_says_now(confirming: Moderated, change: str) -> None:
    """Since the post was held its author left, or was blocked, or the list holds everything: it stays held, and the moderators are told."""
    number = confirming.hold(author="")
    key = confirming.key(ALICE)
    if change == "left":
        people.unsubscribe(confirming.config, SHELL, confirming.list, ALICE, quiet=True)
    elif change == "blocked":
        blocklist.add(SHELL, ALICE, confirming.list)
    else:
        confirming.set(emergency="yes")
    confirming.peer.letters.clear()
    assert confirming.answer(key, reverse_path=ALICE).code == 250
    assert confirming.row(number).state == "held"
    assert confirming.row(number).rule == {"left": "subscribers_only", "emergency": "emergency", "blocked": "blocked"}[change]
    assert {str(mail["To"]) for mail in confirming.mails()} == {MOIRA, MAX}
    assert confirming.triggers() == []


def test_forged_posts_ask_an_address_three_times_a_day(confirming: Moderated) -> None:
    """Whoever forges a hundred posts of Alice's makes her three mails; the moderators see the rest."""
    for turn in range(100):
        confirming.hold(post(turn), author="")
    assert len(confirming.mails(ALICE)) == moderation.ASKED
    assert len(confirming.mails(MOIRA)) == moderation.BUSY
    confirming.later(DAY + 1)
    confirming.hold(post(1000), author="")
    assert len(confirming.mails(ALICE)) == moderation.ASKED + 1


def test_forged_posts_ask_so_many_for_a_list_in_an_hour(confirming: Moderated) -> None:
    """A flood in the names of all subscribers asks twenty of them in an hour."""
    authors = [f"member{turn}@example.org" for turn in range(moderation.BUSY + 5)]
    for author in authors:
        people.subscribe(confirming.config, SHELL, confirming.list, author, quiet=True)
    for turn, author in enumerate(authors):
        confirming.hold(post(turn, author), author="", reverse_path=author)
    assert len([mail for mail in confirming.mails() if str(mail["To"]) in authors]) == moderation.BUSY


def test_who_can_not_be_asked_is_the_moderators(confirming: Moderated) -> None:
    """Postfix did not take the question: the moderators are told by maintain."""
    confirming.peer.say("greeting", "421 4.3.2 Not now")
    confirming.hold(author="")
    confirming.peer.say("greeting", "220 peer")
    assert moderation.maintain(confirming.config)["held_told"] == 1


def test_a_stranger_is_not_asked(confirming: Moderated) -> None:
    """Only who could post is asked to confirm: what is refused anyway goes to the moderators."""
    confirming.hold(post(1, STRANGER), author="", reverse_path=STRANGER)
    assert {str(mail["To"]) for mail in confirming.mails()} == {MOIRA, MAX}


# The record.


def test_each_decision_is_one_line_in_the_log(site: Moderated, caplog: pytest.LogCaptureFixture) -> None:
    """With list, rule, Message-ID and queue id, so that one message can be followed."""
    caplog.set_level("INFO", "kelou")
    first, second, third = site.hold(post(1)), site.hold(post(2)), site.hold(post(3))
    approve(site, first)
    site.run()
    moderation.reject(site.config, ME, second)
    moderation.discard(site.config, ME, third)
    assert site.deliver(post(4, STRANGER, extra="Auto-Submitted: auto-replied\r\n"), author=STRANGER, reverse_path=STRANGER).code == 550
    lines = [record.getMessage() for record in caplog.records]
    for name, number in (("held", 1), ("approved", 1), ("rejected", 2), ("discarded", 3), ("refused", 4)):
        (line,) = [line for line in lines if line.startswith(f"{name} ") and f"<{number}@" in line]
        for wanted in (f"list={LIST}", "rule=", f"queue-id={QUEUE_ID}"):
            assert wanted in line


def test_each_decision_is_audited(site: Moderated) -> None:
    """Who, what and why, with what was there before."""
    number = site.hold()
    moderation.reject(site.config, ME, number, "Off topic")
    with connection():
        row = Audit.select().where(Audit.action == "mod rejected").get()
    assert (row.who, row.list, row.object, row.before, row.after) == (MOIRA, LIST, str(number), '"held"', '{"reason": "Off topic", "state": "rejected"}')


def test_the_bytes_of_a_post_go_when_they_are_needed_no_more(site: Moderated) -> None:
    """A rejected, discarded or expired post keeps no bytes."""
    numbers = [site.hold(post(turn)) for turn in range(2)]
    moderation.reject(site.config, ME, numbers[0])
    moderation.discard(site.config, ME, numbers[1])
    assert [site.row(number).content for number in numbers] == [None, None]


def test_what_is_approved_is_what_was_held(site: Moderated) -> None:
    """For each message of the collection: what goes out ends with the body that came in, as Postfix is given it."""
    site.set(post="moderated")
    for name in ("plain-8bit-utf8", "signed-smime", "encrypted-pgp-mime", "html-outlook", "mixed-text-attachment"):
        content = (FOLDER / f"{name}.eml").read_bytes()
        number = site.hold(content, author="")
        site.peer.letters.clear()
        approve(site, number)
        site.run()
        (copy,) = site.copies()
        body = wire(Message.parse(content).body).removesuffix(b".\r\n")
        assert copy.content.endswith(body), name
