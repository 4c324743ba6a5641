"""`kelou bounce` at the shell: what a report means, without a site; and who fails, with one."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from test_cli import PROGRAM, Kelou, bare, garden, site

from kelou import database
from kelou.models import Account, Bounce, MailingList, Post, Subscription, now
from kelou.score import DAY

__all__ = ["bare", "garden", "site"]  # fixtures

CORPUS = Path(__file__).parent / "messages" / "bounces"


def explain(*arguments: str, input: bytes = b"", lang: str = "C.UTF-8") -> subprocess.CompletedProcess[bytes]:
    """Run `kelou bounce explain` where there is neither configuration nor database."""
    environment = {"PATH": os.environ["PATH"], "LC_ALL": lang, "KELOU_CONFIG": "/nowhere/kelou.toml", "PYTHONPATH": str(Path(__file__).parent.parent)}
    return subprocess.run([*PROGRAM, "bounce", "explain", *arguments], input=input, capture_output=True, check=False, env=environment, timeout=60)


def test_explain_needs_no_site() -> None:
    """With --json, an array with an object for each file; `-` is the standard input."""
    names = ["postfix-three-recipients", "vacation-en", "empty"]
    done = explain("--json", *(str(CORPUS / f"{name}.eml") for name in names), "-", input=(CORPUS / "gmail-dmarc.eml").read_bytes())
    assert done.returncode == 0, done.stderr
    first, second, third, fourth = json.loads(done.stdout)
    assert first == {
        "file": str(CORPUS / "postfix-three-recipients.eml"),
        "kind": "hard",
        "reports": [
            {"recipient": "full@refuse.example", "status": "5.2.2", "action": "failed", "kind": "full", "counts": True},
            {"recipient": "spam@refuse.example", "status": "5.7.1", "action": "failed", "kind": "policy", "counts": False},
            {"recipient": "jean+news@example.org", "status": "5.1.1", "action": "failed", "kind": "hard", "counts": True},
        ],
    }
    assert (second["kind"], second["reports"][0]["counts"]) == ("autoreply", False)
    assert (third["kind"], third["reports"]) == ("unknown", [])
    assert (fourth["file"], fourth["kind"]) == ("-", "policy")


def test_a_file_that_can_not_be_read_is_said(tmp_path: Path) -> None:
    """The others are explained; the exit code is 65."""
    done = explain("--json", str(tmp_path / "none.eml"), str(tmp_path), str(CORPUS / "moved.eml"))
    assert done.returncode == 65
    assert [row["kind"] for row in json.loads(done.stdout)] == ["hard"]
    assert len(done.stderr.splitlines()) == 2


def test_people_get_a_sentence() -> None:
    """For people: who, what, and whether it counts."""
    done = explain(str(CORPUS / "bbox-full.eml"))
    assert "luc@bbox.example: the mailbox is full. It counts. [5.2.2]" in done.stdout.decode()


def test_nothing_of_a_report_reaches_the_terminal_unescaped(tmp_path: Path) -> None:
    """Escapes, bells and direction marks in addresses, statuses, texts and file names are shown as what they are."""
    evil = "\x1b]0;pwned\x07\u202e"
    raw = (CORPUS / "moved.eml").read_text("utf-8").replace("551 5.1.6", f"551 5.1.6 {evil}").replace("luc@example.net", f"l{evil}uc@example.net")
    path = tmp_path / f"a{evil}.eml"
    path.write_bytes(raw.encode())
    for arguments in ((str(path),), ("--json", str(path)), (str(path) + "x",)):
        done = explain(*arguments)
        shown = (done.stdout + done.stderr).decode()
        assert not set(evil) & {"\x1b", "\x07", "\u202e"} & set(shown)


def fail(garden: Kelou, number: int = 5, every: int = 7, kind: str = "hard") -> None:
    """A weekly list whose last posts to luc came back."""
    garden.good("member", "add", "garden", "luc@example.net", "--quiet")
    with database.transaction():
        the_list, luc = MailingList.get(), Account.get(Account.key == "luc@example.net")
        Subscription.update(since=0).execute()
        for place in range(number):
            at = now() - every * DAY * (number - 1 - place)
            post = Post.create(list=the_list, digest=str(place), received=at, state="sent")
            Bounce.create(list=the_list, account=luc, post=post, kind=kind, status="5.1.1", detail="\x1b[31mUser unknown", sent=at, proof="token")


def test_who_fails_is_listed(garden: Kelou) -> None:
    """list, show and reset: email, list, score, state, why; maintain brings the score into the list of subscribers."""
    fail(garden)
    (row,) = garden.good("bounce", "list", "garden")
    why = row.pop("why")
    assert row == {"email": "luc@example.net", "list": "garden@lists.example.org", "score": 93, "state": "watched"}
    assert why == "5 of 5 posts came back, on 5 days within 28 days."
    assert len(garden.good("bounce", "show", "luc@example.net")[0]["failures"]) == 5
    assert "\x1b" not in garden("bounce", "show", "luc@example.net").out
    garden.good("maintain")
    assert [entry["bounce_score"] for entry in garden.good("member", "list", "garden")] == [93]
    garden("bounce", "reset", "luc@example.net", "-n")
    assert garden.good("bounce", "list") != []
    garden.good("bounce", "reset", "luc@example.net")
    assert garden.good("bounce", "list") == []
    assert [entry["bounce_score"] for entry in garden.good("member", "list", "garden")] == [None]
    assert "bounce reset" in [entry["action"] for entry in garden.good("audit", "list")]


def test_too_few_failures_make_no_score(garden: Kelou) -> None:
    """The score is null, and why it is is said, in French too."""
    fail(garden, number=2)
    (row,) = garden.good("bounce", "list")
    assert row["score"] is None
    assert row["why"].endswith("No score before 3 days with failures and 10 days from the first to the last.")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["show", "nobody@example.net"], 67), (["reset", "nobody@example.net"], 67), (["show", "nobody"], 65), (["list", "gardens"], 67), (["explain"], 2)],
)
def test_exit_codes(garden: Kelou, arguments: list[str], code: int) -> None:
    """No such person or list, no address, no file."""
    assert garden("bounce", *arguments).code == code


def test_only_owners_reset(garden: Kelou) -> None:
    """Somebody else's address may not forget failures, nor see them."""
    fail(garden)
    assert garden("--by", "luc@example.net", "bounce", "reset", "luc@example.net").code == 77
    assert garden("--by", "luc@example.net", "bounce", "list", "garden").code == 77
    assert garden("--by", "olga@example.org", "bounce", "reset", "luc@example.net").code == 0
