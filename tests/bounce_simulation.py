"""Two years of three lists, with mailboxes that die, waver, fill up and recover, and with receivers that have a bad day: who is told, suspended, removed.

    script/simulate-bounces [--plot docs/bounces.png]

Nothing here but `kelou.score`: the same functions that `kelou maintain` calls, day by day.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from kelou.score import DAY, SETTLED, Failure, Limits, Score, brake, score, step

YEARS = 730
LISTS = {"daily": 1, "weekly": 7, "monthly": 30}
LIMITS = Limits(tell=45, stop=75, action="suspend", keep=90 * DAY)
BRAKE = 20  # percent
CROWD = 1_000  # other subscribers of each list, at other receivers
FIRST = 60  # the day on which things begin to go wrong

Fate = Callable[[int, random.Random], str]  # what becomes of a mail sent that day: a kind, or nothing where it arrives
DELAY = {"soft": 5, "hard": 0, "full": 0, "policy": 0}  # days until it comes back


def during(kind: str, first: int, last: int = YEARS) -> Fate:
    """That kind, from a day to another."""
    return lambda day, _random: kind if first <= day < last else ""


def flaky(share: float) -> Fate:
    """So large a share comes back, at random: of three, two could not be reached and one is refused as unknown."""
    return lambda day, dice: dice.choice(["soft", "soft", "hard"]) if day >= FIRST and dice.random() < share else ""


# Mailboxes, and how many there are of each at one receiver.
FATES: dict[str, tuple[int, Fate]] = {
    "well": (1, during("", 0)),
    "dead": (1, during("hard", FIRST)),
    "unreachable": (1, during("soft", FIRST)),
    "flaky, one in five": (1, flaky(0.2)),
    "flaky, one in two": (1, flaky(0.5)),
    "full for ever": (1, during("full", FIRST)),
    "full for a month": (1, during("full", FIRST, FIRST + 30)),
    "gone for a fortnight": (1, during("hard", FIRST, FIRST + 14)),
    "gone for half a year": (1, during("hard", FIRST, FIRST + 182)),
    "refused for DMARC": (1, during("policy", FIRST)),
    "a receiver down for three days": (300, during("soft", 300, 303)),
    "a receiver that knows nobody for three days": (300, during("hard", 300, 303)),
    "a receiver that knows nobody for five weeks": (300, during("hard", 300, 335)),
}


@dataclass
class Mailbox:
    """One subscriber, or many who share a fate."""

    name: str
    number: int
    fate: Fate
    failures: list[tuple[int, Failure]] = field(default_factory=list)  # with the day on which it is known
    posts: list[int] = field(default_factory=list)
    state: str = ""
    since: int = 0
    reachable: int = 0
    probed: int = -1  # the day of the probe
    history: list[tuple[int, str]] = field(default_factory=list)  # days, and what was done
    scores: list[int | None] = field(default_factory=list)

    def send(self, day: int, dice: random.Random) -> None:
        """A mail goes out."""
        kind = self.fate(day, dice)
        if kind in ("hard", "soft", "full"):
            self.failures.append((day + DELAY[kind], Failure(at(day), kind)))

    def known(self, day: int) -> list[Failure]:
        return [failure for known, failure in self.failures if known <= day and failure.at >= self.reachable]

    def score(self, day: int) -> Score:
        return score(self.known(day), [post for post in self.posts if post >= self.reachable], at(day))

    def answered(self, day: int) -> bool:
        """Whether a mail of the day of the probe, or later, came back by now."""
        return any(known <= day and failure.at >= at(self.probed) for known, failure in self.failures)

    def days(self, what: str) -> list[int]:
        return [day for day, done in self.history if done == what]


def at(day: int) -> int:
    return day * DAY + 36_000


def simulate(every: int, seed: int = 1) -> list[Mailbox]:
    """One list that posts every so many days, for two years."""
    dice = random.Random(seed)
    boxes = [Mailbox(name, number, fate) for name, (number, fate) in FATES.items()]
    subscribers = {box.name: box.number for box in boxes} | {"elsewhere.example": CROWD}
    for day in range(YEARS):
        if day % every == 0:
            for box in boxes:
                if box.state in ("", "told", "probed"):
                    box.posts.append(at(day))
                    box.send(day, dice)
        maintain(boxes, subscribers, day, dice)
    return boxes


def maintain(boxes: list[Mailbox], subscribers: dict[str, int], day: int, dice: random.Random) -> None:
    """What `kelou.failing` does, without its database and mail."""
    due: dict[int, str] = {}
    scores = [box.score(day) if box.failures and box.state != "removed" else Score(None) for box in boxes]
    for place, box in enumerate(boxes):
        box.scores.append(scores[place].value)
        if box.state != "removed" and (box.failures or box.state):
            answered = box.state in ("probed", "leaving") and box.answered(day)
            due[place] = step(box.state, box.since, scores[place], answered, LIMITS, at(day))
    failing: dict[int, tuple[str, int]] = {}
    for place, verb in due.items():
        box = boxes[place]
        if verb == "probe" or (box.state in ("probed", "suspended") and at(day) - box.since < 60 * DAY):
            failing |= {place * 1_000 + one: (box.name, at(day) - scores[place].first) for one in range(box.number)}
    held = {number // 1_000 for number in brake(failing, subscribers, BRAKE)}
    for place, verb in due.items():
        if not verb or (place in held and verb in ("probe", "suspend", "remove") and boxes[place].state in ("", "told", "probed")):
            if place in held and not boxes[place].days("held back"):
                boxes[place].history.append((day, "held back"))
            continue
        do(boxes[place], verb, day, dice)


def do(box: Mailbox, verb: str, day: int, dice: random.Random) -> None:
    """One step."""
    states = {"tell": "told", "forget": "", "probe": "leaving" if box.state == "suspended" else "probed", "suspend": "suspended", "remove": "removed", "resume": ""}
    box.state, box.since = states[verb], at(day)
    box.history.append((day, verb))
    if verb == "probe":
        box.probed = day
        box.send(day, dice)
    if verb == "resume":
        box.reachable = at(day)


def table(results: dict[str, list[Mailbox]]) -> str:
    """Who was told of, suspended, removed, on which day after the trouble began."""
    columns = ("held back", "tell", "probe", "suspend", "resume", "remove")
    lines = [f"{'list':<8} {'mailbox':<44} " + " ".join(f"{name:>9}" for name in columns)]
    for name, boxes in results.items():
        for box in boxes:
            begin = 300 if "receiver" in box.name else FIRST
            shown = []
            for what in columns:
                days = [day - begin for day in box.days(what)]
                more = f" ×{len(days)}" if len(days) > 1 else ""
                shown.append(f"{f'{days[0]}{more}' if days else '-':>9}")
            lines.append(f"{name:<8} {box.name + (f' ({box.number})' if box.number > 1 else ''):<44} " + " ".join(shown))
    return "\n".join(lines)


def draw(results: dict[str, list[Mailbox]], path: Path) -> None:
    """The scores over time, a panel for each list (PNG)."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    shown = ("dead", "unreachable", "full for ever", "flaky, one in two", "gone for a fortnight", "a receiver down for three days")
    figure, panels = pyplot.subplots(len(results), 1, figsize=(9, 2.6 * len(results)), sharex=True)
    for axes, (name, boxes) in zip(panels, results.items(), strict=True):
        for box in boxes:
            if box.name in shown:
                begin = 300 if "receiver" in box.name else FIRST
                values = [float("nan") if value is None else value for value in box.scores[begin : begin + 200]]
                (line,) = axes.plot(range(len(values)), values, label=box.name, drawstyle="steps-post")
                for day in (day for day in box.days("suspend") if day - begin < 200):
                    axes.plot([day - begin], [box.scores[day] or 0], "s", color=line.get_color())
        axes.axhline(LIMITS.tell, color="grey", linewidth=0.7, linestyle=":")
        axes.axhline(LIMITS.stop, color="grey", linewidth=0.7, linestyle="--")
        axes.set_title(f"{name} list", loc="left", fontsize=10)
        axes.set_ylim(-3, 103)
        axes.set_ylabel("score")
    panels[-1].set_xlabel("days after the first failure (■ suspended; dotted: told; dashed: probed)")
    panels[0].legend(fontsize=7, loc="lower right")
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plot", type=Path, help="draw it (PNG)")
    options = parser.parse_args()
    results = {name: simulate(every) for name, every in LISTS.items()}
    print(table(results))
    print(f"\nDays after the trouble began. A report of a soft failure comes after 5 days; a probe that does not come back within {SETTLED // DAY} arrived.")
    if options.plot:
        draw(results, options.plot)


if __name__ == "__main__":
    main()
