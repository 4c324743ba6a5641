"""The bounce score of a subscriber, 0 to 100 or none, and what it leads to: pure functions of failures, distributions and the time.

    score = 100 × share × number × period        share   of the posts since the first failure that came back, each by the weight of its kind
                                                 number  of days with a failure: five are enough
                                                 period  from the first failure to the last: thirty days are enough

A mailbox that is gone scores 80 or more after five weekly posts, after four monthly ones, after 24 days of a daily list. There is no score ("indéfini")
before three days with failures and ten days between the first and the last, so that an outage says nothing; three posts in a row that came through end
the story. A full mailbox and one that can not be reached weigh half; if nothing comes through at all, that grows, within half a year, to the whole.

    "" → told → probed → suspended → leaving → removed         nobody is suspended or removed before a mail of its own to them came back,
          ↓       ↓          ↓          ↓                      by a return-path that nobody can forge
          "" ←────┴──────────┴──────────┘
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from .i18n import _, ngettext

DAY = 86400
FEWEST = 3  # days with a failure, below which there is no score
SHORTEST = 10 * DAY  # between the first failure and the last, below which there is no score
ENOUGH = 5  # days with a failure
LONG = 30 * DAY
OLD = 180 * DAY  # of nothing but failures, until half a weight has become a whole one
WEIGHT = {"hard": 1.0, "soft": 0.5, "full": 0.5}
SETTLED = 7 * DAY  # after which no report of a post is to be expected: Postfix gives up after five days
WELL = 3  # posts in a row that came through, after which earlier failures are forgotten
MEMORY = 400 * DAY

PEOPLE = 5  # of a list, or 3 of a receiver: fewer that fail at once are no sign of anything
NEIGHBOURS = 3
PATIENCE = 60 * DAY  # with a receiver that refuses most of its people


@dataclass(frozen=True, slots=True)
class Failure:
    """A post that came back. `at` is when it was sent; hard, soft or full is why."""

    at: int
    kind: str


@dataclass(frozen=True, slots=True)
class Score:
    """The score, and what it was made of."""

    value: int | None
    days: int = 0  # with a failure
    first: int = 0
    last: int = 0
    sent: int = 0  # posts since the first failure
    failed: int = 0  # of those, how many came back

    @property
    def why(self) -> str:
        """The reason in words, in the language in force."""
        if not self.days:
            return _("No failures that count.")
        span = (self.last - self.first) // DAY
        text = ngettext("{failed} of {sent} post came back", "{failed} of {sent} posts came back", self.sent).format(failed=self.failed, sent=self.sent)
        text += ngettext(", on {days} day", ", on {days} days", self.days).format(days=self.days)
        text += ngettext(" within {span} day.", " within {span} days.", span).format(span=span)
        if self.value is not None:
            return text
        return text + " " + _("No score before {days} days with failures and {span} days from the first to the last.").format(days=FEWEST, span=SHORTEST // DAY)


def score(failures: Collection[Failure], distributions: Sequence[int], now: int) -> Score:
    """The score of a subscriber whose posts came back so, on a list that sent posts at these times (in order, those since they can receive)."""
    recent = sorted((f for f in failures if f.kind in WEIGHT and f.at > now - MEMORY), key=lambda f: f.at)
    posts = [at for at in distributions if at > now - MEMORY]
    run = _run(recent, posts, now)
    if not run:
        return Score(None)
    first, last = run[0].at, run[-1].at
    kinds: dict[int, set[str]] = {}
    for failure in run:
        kinds.setdefault(_place(posts, failure.at), set()).add(failure.kind)
    # Of posts that are not settled yet only those count that came back: the others may still.
    begin = _place(posts, first)
    sent = kinds.keys() | {place for place, at in enumerate(posts) if place >= begin and at <= now - SETTLED}
    days = len({failure.at // DAY for failure in run})
    found = Score(None, days, first, last, len(sent), len(kinds))
    if days < FEWEST or last - first < SHORTEST:
        return found
    grown = min(1.0, (last - first) / OLD) if len(kinds) == len(sent) else 0.0
    weights = [max(WEIGHT[kind] + (1 - WEIGHT[kind]) * grown for kind in some) for some in kinds.values()]
    share, number, period = sum(weights) / len(sent), min(1.0, days / ENOUGH), min(1.0, (last - first) / LONG)
    return replace(found, value=round(100 * share * number * period))


def _place(posts: Sequence[int], at: int) -> int:
    """The post that a failure is of: the last one sent by then. Several reports of one post are one failure."""
    return max(0, bisect_right(posts, at) - 1)


def _run(failures: Sequence[Failure], posts: Sequence[int], now: int) -> list[Failure]:
    """The failures since the mailbox was last known to be well: three posts in a row, settled, that did not come back."""
    run: list[Failure] = []
    for failure in failures:
        if run and _came_through(posts, run[-1].at, failure.at, now):
            run = []
        run.append(failure)
    return [] if run and _came_through(posts, run[-1].at, now, now) else run


def _came_through(posts: Sequence[int], after: int, before: int, now: int) -> bool:
    between = posts[bisect_right(posts, after) : max(0, bisect_right(posts, before) - (before < now))]
    return sum(at <= now - SETTLED for at in between) >= WELL


# What a score leads to.


@dataclass(frozen=True, slots=True)
class Limits:
    """What a list has set. `action` is tell, suspend or remove."""

    tell: int
    stop: int
    action: str
    keep: int  # seconds that somebody stays suspended; 0: for ever


def step(state: str, since: int, score: Score, answered: bool, limits: Limits, now: int) -> str:
    """What is due for a subscriber in this state, since then: tell, forget, probe, suspend, remove, resume; or nothing.

    `answered`: a mail to them came back by a return-path that nobody can forge, since they were probed.
    """
    if state in ("probed", "leaving"):
        if answered:
            return "remove" if state == "leaving" or limits.action == "remove" else "suspend"
        return "resume" if now - since >= SETTLED else ""
    if state == "suspended":
        return "probe" if limits.keep and now - since >= limits.keep else ""
    value = score.value or 0
    if limits.stop and limits.action != "tell" and value >= limits.stop:
        return "probe"
    if state == "" and limits.tell and value >= limits.tell:
        return "tell"
    return "forget" if state == "told" and value < limits.tell // 2 else ""


def brake(failing: Mapping[int, tuple[str, int]], subscribers: Mapping[str, int], percent: int) -> set[int]:
    """Of those who are to be probed (a number each, with the receiver's domain and their first failure's age), those who are not, because too many fail.

    Most people of one receiver who fail at once fail because of the receiver, for sixty days; a large share of a list, because of us.
    """
    by_domain = Counter(domain for domain, _age in failing.values())
    held = {
        number
        for number, (domain, age) in failing.items()
        if by_domain[domain] >= NEIGHBOURS and by_domain[domain] * 2 > subscribers.get(domain, 0) and age < PATIENCE
    }
    left = failing.keys() - held
    if len(left) > PEOPLE and len(left) * 100 > percent * sum(subscribers.values()):
        return set(failing)
    return held
