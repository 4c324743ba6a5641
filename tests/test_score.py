"""The bounce score, and two years of it."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path

import pytest
from bounce_simulation import FATES, LISTS, Mailbox, simulate, table
from hypothesis import given
from hypothesis import strategies as st

from kelou.score import DAY, FEWEST, LONG, SHORTEST, WEIGHT, Failure, Limits, Score, brake, score, step

NOW = 20_000 * DAY
LIMITS = Limits(45, 75, "suspend", 90 * DAY)


def of(every: int, fates: str, days_ago: int = 0) -> Score:
    """The score of a list that posts every so many days, the last time so many days ago; a letter of `fates` is a post: h, s, f, or . if it arrived."""
    kinds = {"h": "hard", "s": "soft", "f": "full"}
    posts = [NOW - (days_ago + every * (len(fates) - 1 - place)) * DAY for place in range(len(fates))]
    return score([Failure(at, kinds[fate]) for at, fate in zip(posts, fates, strict=True) if fate != "."], posts, NOW)


SCORES = [
    # every, fates, days ago, score
    ("nothing came back", 7, "......", 0, None),
    ("two failures of a weekly list are too few", 7, "hh", 0, None),
    ("three of a weekly list", 7, "hhh", 0, 28),
    ("five of a weekly list", 7, "hhhhh", 0, 93),
    ("a year of a weekly list", 7, "h" * 52, 0, 100),
    ("nine days of a daily list are too short", 1, "h" * 10, 0, None),
    ("a fortnight of a daily list", 1, "h" * 15, 0, 47),
    ("two months of a monthly letter are too few", 30, "hh", 0, None),
    ("four posts of a monthly letter", 30, "hhhh", 0, 80),
    ("five posts of a quarterly letter", 91, "hhhhh", 0, 100),
    ("full for five weeks", 7, "fffff", 0, 54),
    ("full for half a year", 7, "f" * 27, 0, 100),
    ("half a year of which one post arrived", 7, "f" * 20 + "." + "f" * 10, 0, 48),
    ("every other post", 7, "h.h.h.h.h.h.h.h.h", 0, 53),
    ("an old failure and a new one", 7, "h............h", 0, None),
    ("a dead spell that ended three posts ago", 7, "hhhhhh...", 8, None),
    ("a dead spell that ended three posts ago, of which one may still come back", 7, "hhhhhh...", 0, 75),
    ("a dead spell, a good one, a new failure", 7, "hhhhhhhh....h", 0, None),
    ("fifty posts on one day", 0, "h" * 50, 0, None),
]


@pytest.mark.parametrize(("every", "fates", "days_ago", "expected"), [row[1:] for row in SCORES], ids=[row[0] for row in SCORES])
def test_the_score(every: int, fates: str, days_ago: int, expected: int | None) -> None:
    """Number, share and period make the score; without enough of them there is none."""
    assert of(every, fates, days_ago).value == expected


def test_several_reports_of_one_post_are_one_failure() -> None:
    """Two servers that report the same post, days apart, count once."""
    posts = [NOW - 7 * DAY * place for place in reversed(range(5))]
    once = score([Failure(at, "hard") for at in posts], posts, NOW)
    assert score([Failure(at, kind) for at in posts for kind in ("hard", "soft", "full")], posts, NOW) == once


FAILURES = st.lists(st.builds(Failure, st.integers(NOW - 500 * DAY, NOW + DAY), st.sampled_from([*WEIGHT, "policy", "unknown"])), max_size=60)
POSTS = st.lists(st.integers(NOW - 500 * DAY, NOW), max_size=60).map(sorted)


@given(FAILURES, POSTS)
def test_a_score_is_between_0_and_100_or_none(failures: list[Failure], posts: list[int]) -> None:
    """Whatever came back whenever: a score has three days with failures and ten days between the first and the last behind it."""
    found = score(failures, posts, NOW)
    assert found.failed <= found.sent
    if found.value is not None:
        assert 0 <= found.value <= 100
        assert found.days >= FEWEST
        assert found.last - found.first >= SHORTEST


@given(FAILURES, POSTS)
def test_refusals_of_the_mail_change_nothing(failures: list[Failure], posts: list[int]) -> None:
    """What is no fault of the mailbox has no weight."""
    assert score(failures, posts, NOW) == score([failure for failure in failures if failure.kind in WEIGHT], posts, NOW)


@given(FAILURES, POSTS, st.randoms())
def test_the_order_of_reports_does_not_matter(failures: list[Failure], posts: list[int], dice: random.Random) -> None:
    """Reports come as they like."""
    mixed = list(failures)
    dice.shuffle(mixed)
    assert score(mixed, posts, NOW) == score(failures, posts, NOW)


BAD, GOOD = Score(90), Score(None)
STEPS = [
    ("a good score", "", 0, GOOD, False, ""),
    ("a middling score", "", 0, Score(50), False, "tell"),
    ("a middling score that was told", "told", 0, Score(50), False, ""),
    ("a score that fell", "told", 0, Score(20), False, "forget"),
    ("a bad score", "", 0, BAD, False, "probe"),
    ("a bad score that was told", "told", 0, BAD, False, "probe"),
    ("a probe under way", "probed", 6, BAD, False, ""),
    ("a probe that came back", "probed", 1, BAD, True, "suspend"),
    ("a probe that did not come back", "probed", 7, BAD, False, "resume"),
    ("suspended", "suspended", 89, BAD, False, ""),
    ("suspended for long", "suspended", 90, GOOD, False, "probe"),
    ("the last probe came back", "leaving", 1, GOOD, True, "remove"),
    ("the last probe did not come back", "leaving", 7, GOOD, False, "resume"),
]


@pytest.mark.parametrize(("state", "days", "found", "answered", "expected"), [row[1:] for row in STEPS], ids=[row[0] for row in STEPS])
def test_the_steps(state: str, days: int, found: Score, answered: bool, expected: str) -> None:
    """From a state, since so many days, with that score: what is due."""
    assert step(state, NOW - days * DAY, found, answered, LIMITS, NOW) == expected


def test_nobody_goes_without_a_probe_that_came_back() -> None:
    """In no state does a score alone suspend or remove."""
    for state in ("", "told", "probed", "suspended", "leaving"):
        for value in (None, *range(101)):
            for days in (0, 7, 1_000):
                for action in ("tell", "suspend", "remove"):
                    assert step(state, NOW - days * DAY, Score(value), False, Limits(45, 75, action, 90 * DAY), NOW) not in ("suspend", "remove")


BRAKES = [
    ("a few", {n: (f"{n}.example", 0) for n in range(5)}, {f"{n}.example": 1 for n in range(10)}, 0),
    ("a large share", {n: (f"{n}.example", 0) for n in range(6)}, {f"{n}.example": 1 for n in range(10)}, 6),
    ("many of a large list", {n: (f"{n}.example", 0) for n in range(30)}, {f"{n}.example": 1 for n in range(1_000)}, 0),
    ("most of one receiver", dict.fromkeys(range(30), ("one.example", 0)), {"one.example": 40, "x.example": 1_000}, 30),
    ("most of one receiver, for two months", dict.fromkeys(range(30), ("one.example", LONG * 2)), {"one.example": 40, "x.example": 1_000}, 0),
    ("few of one receiver", dict.fromkeys(range(30), ("one.example", 0)), {"one.example": 400, "x.example": 1_000}, 0),
    ("two people of a small receiver", dict.fromkeys(range(2), ("one.example", 0)), {"one.example": 2, "x.example": 1_000}, 0),
]


@pytest.mark.parametrize(("failing", "subscribers", "held"), [row[1:] for row in BRAKES], ids=[row[0] for row in BRAKES])
def test_the_brake(failing: dict[int, tuple[str, int]], subscribers: dict[str, int], held: int) -> None:
    """Who is held back of those who fail at once."""
    assert len(brake(failing, subscribers, 20)) == held


# Two years.


@cache
def two_years(name: str, seed: int = 1) -> dict[str, Mailbox]:
    return {box.name: box for box in simulate(LISTS[name], seed)}


@pytest.mark.parametrize("name", LISTS)
def test_a_dead_mailbox_leaves_every_list(name: str) -> None:
    """Suspended within a month of a daily or weekly list and a hundred days of a monthly one, removed three months later, told of before."""
    box = two_years(name)["dead"]
    (suspended,), (removed,) = box.days("suspend"), box.days("remove")
    assert suspended - 60 <= {"daily": 31, "weekly": 35, "monthly": 100}[name]
    assert 90 <= removed - suspended <= 100
    assert box.days("tell")[0] < suspended


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("fate", ["well", "flaky, one in five", "full for a month", "gone for a fortnight", "refused for DMARC"])
@pytest.mark.parametrize("seed", range(1, 6))
def test_who_receives_stays(name: str, fate: str, seed: int) -> None:
    """A mailbox that works, wavers, was full or was gone for a while, or that our mail was refused for, is never suspended."""
    box = two_years(name, seed)[fate]
    assert (box.days("suspend"), box.days("remove"), box.state) == ([], [], box.state if box.state == "told" else "")


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("fate", [fate for fate in FATES if fate.startswith("a receiver")])
def test_an_outage_of_a_receiver_removes_nobody(name: str, fate: str) -> None:
    """Three days down, three days or five weeks of "user unknown" for everybody: three hundred people stay."""
    box = two_years(name)[fate]
    assert (box.days("probe"), box.days("suspend"), box.days("remove")) == ([], [], [])


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("fate", ["full for ever", "unreachable"])
def test_what_never_comes_back_goes_in_the_end(name: str, fate: str) -> None:
    """A mailbox that is full for ever, and one that can not be reached, are suspended after three to five months."""
    (suspended,) = two_years(name)[fate].days("suspend")
    assert 80 <= suspended - 60 <= 150


def test_the_documentation_shows_these_years() -> None:
    """The table in docs/bounces.md is the simulation's."""
    text = (Path(__file__).parent.parent / "docs" / "bounces.md").read_text("utf-8")
    assert table({name: list(two_years(name).values()) for name in LISTS}) in text
