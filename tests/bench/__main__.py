"""script/bench: Postfix alone and Kelou in turns, on the same machine, with the same recipients.

    script/bench [--quick] [--rounds N] [--only WORD] [--peers] [--json FILE] [--plot FILE] [--directory DIR]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import smtplib
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import peers, plot
from .lab import DOMAIN, SMALL, Lab, machine


@dataclass(frozen=True)
class Goal:
    """A line of the table: one figure against another, or against a limit of its own."""

    work: str
    what: str
    against: str
    most: float
    unit: str = "×"


def main() -> int:
    parser = argparse.ArgumentParser(prog="script/bench", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer and smaller, within three minutes")
    parser.add_argument("--rounds", type=int, default=0, help="how often each case is run (5; 3 with --quick)")
    parser.add_argument("--only", default="", help="only what has this word in its name: shared, verp, personal, posts, beside, other, refuse")
    parser.add_argument("--peers", action="store_true", help="mlmmj and Mailman 3 too, installed on the spot")
    parser.add_argument("--json", type=Path, help="write what was measured")
    parser.add_argument("--plot", type=Path, help="draw it (PNG)")
    parser.add_argument("--directory", type=Path, help="where to work; it stays")
    options = parser.parse_args()
    directory = options.directory or Path(tempfile.mkdtemp(prefix="kelou-bench-"))
    with contextlib.suppress(PermissionError):
        os.nice(-15)  # what else this machine does shall not show
    lab = Lab(directory)
    say: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True)  # noqa: E731
    facts = machine()
    rounds = options.rounds or (3 if options.quick else 5)
    begin = time.monotonic()
    lab.up()
    try:
        goals = Bench(lab, options.quick, rounds, options.only, say).run()
        if options.peers:
            numbers = [100, 1000] if options.quick else [100, 1000, 5000, 20000]
            goals += [Goal(work, what, against, 0.0) for work, what, against in peers.run(lab, min(rounds, 3), numbers, say)]
    finally:
        lab.down()
        if not options.directory:
            shutil.rmtree(directory, ignore_errors=True)
    rows = [verdict(lab, goal) for goal in goals]
    report = {"machine": facts, "rounds": rounds, "seconds": round(time.monotonic() - begin), "table": rows, "results": lab.results}
    print(table(rows))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    if options.plot:
        plot.draw(report, options.plot)
    return 0 if all(row["verdict"] != "missed" for row in rows) else 1


class Bench:
    """The cases. Each is a name and what measures it; `N alone` is Postfix without Kelou on what `N` is with it."""

    def __init__(self, lab: Lab, quick: bool, rounds: int, only: str, say: Callable[[str], None]) -> None:
        self.lab, self.quick, self.rounds, self.only, self.say = lab, quick, rounds, only, say
        self._lists: set[str] = set()

    def run(self) -> list[Goal]:
        goals: list[Goal] = []
        for part in (self.copies, self.posts, self.other, self.refusals, self.beside):
            goals += part()
        return goals

    def wanted(self, name: str) -> bool:
        return self.only in name

    def copies(self) -> list[Goal]:
        """One post to many, in each mode."""
        lab, goals = self.lab, list[Goal]()
        plan = [
            # mode, people, domains, octets, at most
            ("shared", 100, 1, 3000, 0.0), ("shared", 1000, 1, 3000, 0.0), ("shared", 5000, 1, 3000, 1.15), ("verp", 1000, 1, 3000, 0.0),
            ("personal", 100, 1, 3000, 0.0), ("personal", 1000, 1, 3000, 0.0),
        ]  # fmt: skip
        if not self.quick:
            plan += [
                ("shared", 20000, 1, 3000, 1.15), ("shared", 20000, 500, 3000, 0.0), ("shared", 5000, 1, 100000, 0.0), ("shared", 100000, 1, 3000, 0.0),
                ("verp", 5000, 1, 3000, 1.10), ("verp", 5000, 500, 3000, 0.0), ("personal", 5000, 1, 3000, 1.25), ("personal", 5000, 500, 3000, 0.0),
                ("personal", 1000, 1, 100000, 0.0),
            ]  # fmt: skip
        for mode, number, domains, size, most in plan:
            name = f"{mode} {number:,} × {size // 1000} KB" + (f" in {domains} domains" if domains > 1 else "")
            if not self.wanted(name):
                continue
            people = lab.people(number, domains)
            address = f"{mode}{number}-{domains}@{DOMAIN}"
            if address not in self._lists:
                kind = {"type": "newsletter"} if mode == "personal" else {"delivery": mode}
                self._lists.add(lab.list(address.partition("@")[0], people, **kind))
            sorted_people = people.with_name(people.name + "-sorted")
            sorted_people.write_text("".join(sorted(people.read_text().splitlines(True), key=lambda one: one.rpartition("@")[2])))
            per, parameters = {"shared": (500, ""), "verp": (500, "XVERP=+="), "personal": (1, "")}[mode]
            alone = lab.inject("alone", sorted_people, size, 4, per, parameters, f"{mode}-bounces@{DOMAIN}")
            kelou = lab.inject("smtp", lab.to(address), size)
            cases = {name: _timed(lab, kelou, number), f"{name} alone": _timed(lab, alone, number)}
            lab.in_turns(cases, min(self.rounds, 3) if number > 20000 else self.rounds, self.say)
            goals.append(Goal(f"{name}, against Postfix alone", name, f"{name} alone", most))
        return goals

    def posts(self) -> list[Goal]:
        """A hundred posts to lists of ten, against Postfix expanding aliases of ten."""
        lab, goals = self.lab, list[Goal]()
        if not self.wanted("posts"):
            return []
        lists = [lab.list(f"ten{place}", lab.people(10, 1, place * 10)) for place in range(10)]
        texts = [", ".join(lab.people(10, 1, place * 10).read_text().split()) for place in range(10)]
        (lab.directory / "aliases").write_text("".join(f"ten{place} {text}\n" for place, text in enumerate(texts)))
        many = lab.to(*(lists * 10))
        aliases = lab.to(*([f"ten{place}@alias.example" for place in range(10)] * 10))
        for connections, most in ((1, 0.0), (10, 2.0), (50, 0.0)):
            name = f"posts 100 × 10 people, {connections} connections"
            cases = {
                name: _timed(lab, lab.inject("smtp", many, 3000, connections), 1000),
                f"{name} alone": _timed(lab, lab.inject("alone", aliases, 3000, connections), 1000),
            }
            lab.in_turns(cases, self.rounds, self.say)
            goals.append(Goal(f"{name}, against aliases", name, f"{name} alone", most))
        return goals

    def other(self) -> list[Goal]:
        """Mail that is no list's, with the milter and without."""
        lab, goals = self.lab, list[Goal]()
        if not self.wanted("other mail"):
            return []
        for connections, most in ((1, 0.0), (4, 1.15)):
            name = f"other mail, 1,000 messages, {connections} connections"
            people = lab.people(1000)
            cases = {
                name: _timed(lab, lab.inject("smtp", people, 3000, connections), 1000),
                f"{name} alone": _timed(lab, lab.inject("other", people, 3000, connections), 1000),
            }
            lab.in_turns(cases, self.rounds, self.say)
            goals.append(Goal(f"{name}, with the milter against without", name, f"{name} alone", most))
        return goals

    def refusals(self) -> list[Goal]:
        """How long it takes to hear no, at RCPT and at the end of the message."""
        lab = self.lab
        if not self.wanted("refuse"):
            return []
        address = lab.list("closed-shop", lab.people(100))
        lab.drain()
        times: dict[str, list[float]] = {"refuse unknown list at RCPT": [], "refuse a stranger at end of message": []}
        for turn in range(20 if self.quick else 100):
            with smtplib.SMTP("127.0.0.1", lab.ports["smtp"], local_hostname="bench.example") as client:
                client.ehlo()
                begin = time.monotonic()
                client.docmd("MAIL", "FROM:<stranger@example.net>")
                code, _text = client.docmd("RCPT", f"TO:<nobody@{DOMAIN}>")
                times["refuse unknown list at RCPT"].append((time.monotonic() - begin) * 1000)
                _expect(code, 550)
                client.rset()
                begin = time.monotonic()
                client.docmd("MAIL", "FROM:<stranger@example.net>")
                client.docmd("RCPT", f"TO:<{address}>")
                post = f"From: stranger@example.net\r\nTo: {address}\r\nSubject: x\r\nMessage-ID: <{turn}@x>\r\n\r\n" + "x" * 60 + "\r\n"
                code, _text = client.data(post)
                times["refuse a stranger at end of message"].append((time.monotonic() - begin) * 1000)
                _expect(code, 550)
        lab.results |= times
        return [Goal(name, name, "", 0.0, "ms") for name in times]

    def beside(self) -> list[Goal]:
        """A small list's post while a large letter goes out, and what memory that takes."""
        lab, goals = self.lab, list[Goal]()
        if not self.wanted("beside"):
            return []
        number = 2000 if self.quick else 20000
        small = lab.list("small", lab.people(10, domain=SMALL))
        letters = {
            "personal": lab.list("letter", lab.people(number), type="newsletter"),
            "shared": lab.list("circular", lab.people(number)),
        }
        post = lab.inject("smtp", lab.to(small), 3000)
        lab.drain()
        time.sleep(1)
        lab.results["memory idle"] = [lab.resident()]
        for mode, address in letters.items():
            name = f"beside a {mode} letter to {number:,}"
            idle, busy, peak = list[float](), list[float](), 0.0
            for _turn in range(self.rounds if mode == "shared" else max(1, self.rounds // 3)):
                for _again in range(5):
                    lab.drain()
                    idle.append(lab.measure(post, 10, small=True))
                letter = threading.Thread(target=lab.measure, args=(lab.inject("smtp", lab.to(address), 3000), number))
                before = lab.sink.count()
                with lab.watching() as samples:
                    letter.start()
                    while lab.sink.count() < before + number // 20:
                        time.sleep(0.01)
                    while lab.sink.count() < before + number * 0.8:
                        busy.append(lab.measure(post, 10, small=True))
                        time.sleep(0.2)
                    letter.join()
                peak = max(peak, *samples)
            lab.results[f"{name}, idle"], lab.results[name] = [statistics.median(idle)], [statistics.median(busy)]
            lab.results[f"memory while a {mode} letter goes out"] = [peak]
            self.say(f"{name}: {statistics.median(busy):.3f} s, idle {statistics.median(idle):.3f} s ({len(busy)} posts), {peak:.0f} MB")
            goals.append(Goal(f"a small list's post {name}, against the host idle", name, f"{name}, idle", 3.0))
        goals.append(Goal("resident memory of all of Kelou, idle", "memory idle", "", 120, "MB"))
        goals.append(Goal("the same while a personal letter goes out", "memory while a personal letter goes out", "", 180, "MB"))
        return goals


def _timed(lab: Lab, submit: Callable[[], tuple[int, int]], copies: int) -> Callable[[], float]:
    return lambda: lab.measure(submit, copies)


def _expect(code: int, wanted: int) -> None:
    if code != wanted:
        raise RuntimeError(f"{code} where {wanted} was to be said")


def verdict(lab: Lab, goal: Goal) -> dict[str, str]:
    """A line of the table."""
    measured = lab.results[goal.what]
    value = lab.ratio(goal.what, goal.against) if goal.against else statistics.median(measured)
    said = "" if not goal.most else "reached" if value <= goal.most else "missed"
    spread = f"{statistics.median(measured):.3g} [{min(measured):.3g}-{max(measured):.3g}]"
    other = lab.results.get(goal.against, [])
    return {
        "work": goal.work, "measured": spread, "against": f"{statistics.median(other):.3g} [{min(other):.3g}-{max(other):.3g}]" if other else "",
        "value": f"{value:.2f} {goal.unit}", "at most": f"{goal.most:g} {goal.unit}" if goal.most else "", "verdict": said,
    }  # fmt: skip


def table(rows: list[dict[str, str]]) -> str:
    """The rows as text."""
    heads = {"work": "work", "measured": "Kelou", "against": "against", "value": "result", "at most": "at most", "verdict": "verdict"}
    lines = [heads, *rows]
    widths = {key: max(len(line[key]) for line in lines) for key in heads}
    return "\n".join("  ".join(line[key].ljust(widths[key]) for key in heads).rstrip() for line in lines)


if __name__ == "__main__":
    sys.exit(main())
