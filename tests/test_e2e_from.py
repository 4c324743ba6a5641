"""From: on the whole way: what a receiver in the world gets, judged by Mail::DKIM with keys from the sandbox's DNS."""

from __future__ import annotations

import pytest
from conftest import Sandbox
from test_e2e_authors import LISTS, a_list, held, mail, send, signed, zone
from test_e2e_milter import copies, verdicts

from kelou.message import Message

__all__ = ["zone"]

AUTHOR = "subscriber@strict.example"
pytestmark = pytest.mark.usefixtures("zone")


def through(sandbox: Sandbox, *settings: str, delivery: str = "shared") -> tuple[Message, list[str]]:
    """What becomes of a post signed by a domain that asks for rejection: the copy, and whose signatures on it hold."""
    name = a_list(sandbox, f"delivery={delivery}", *settings, domain="strict.example")
    assert send(sandbox, name, signed(mail(name, AUTHOR), "strict.example")).accepted
    copy = copies(sandbox, name, 1)[0]
    return Message.parse(copy.content), sorted(line for line in verdicts(sandbox, copy.content) if line.endswith(" pass"))


@pytest.mark.parametrize("delivery", ["shared", "verp", "personal"])
def test_an_untouched_post_keeps_its_author(sandbox: Sandbox, delivery: str) -> None:
    """In each mode of delivery both signatures hold, and From is the author's."""
    copy, passing = through(sandbox, delivery=delivery)
    assert copy.text("from") == f"Somebody <{AUTHOR}>"
    assert passing == [f"{LISTS} kelou pass", "strict.example s1 pass"]
    assert copy.first("x-original-from") is None


@pytest.mark.parametrize("delivery", ["shared", "verp", "personal"])
def test_a_touched_post_goes_out_in_the_list_s_name(sandbox: Sandbox, delivery: str) -> None:
    """From is aligned with the signature that holds, which covers where the author went."""
    copy, passing = through(sandbox, "footer=see {unsubscribe}", delivery=delivery)
    name = copy.text("list-id").strip("<>").partition(" <")[2].partition(".")[0]
    assert copy.text("from") == f"Somebody via {name} <{name}@{LISTS}>"
    assert copy.text("reply-to") == copy.text("x-original-from") == f"Somebody <{AUTHOR}>"
    assert passing == [f"{LISTS} kelou pass"]
    own = next(one for one in copy.all("dkim-signature") if f"d={LISTS}".encode() in one.value)
    words = own.value.split(b"h=")[1].split(b";")[0].replace(b"\r\n", b"").replace(b" ", b"").lower().split(b":")
    assert [words.count(field) for field in (b"x-original-from", b"reply-to", b"from")] == [2, 2, 2]


@pytest.mark.parametrize(("mode", "rewritten"), [("always", True), ("never", False)])
def test_a_list_that_always_or_never_does(sandbox: Sandbox, mode: str, rewritten: bool) -> None:
    """The setting overrides what the copy would prove."""
    copy, _passing = through(sandbox, f"from_rewriting={mode}", *(["footer=x"] if mode == "never" else []))
    assert (copy.text("x-original-from") != "") is rewritten


def test_a_list_that_refuses(sandbox: Sandbox) -> None:
    """The post of such a domain is refused in the dialogue where the list would change it, and nothing is held; others pass."""
    name = a_list(sandbox, "from_rewriting=refuse", "footer=x", domain="strict.example")
    reply = send(sandbox, name, signed(mail(name, AUTHOR), "strict.example"))
    assert reply.data.startswith("550 5.7.1 The domain of your address")
    assert held(sandbox, name) == []
    name = a_list(sandbox, "from_rewriting=refuse", "footer=x", "post=anyone")
    assert send(sandbox, name, signed(mail(name, "subscriber@signed.example"))).accepted
    assert Message.parse(copies(sandbox, name, 1)[0].content).text("from") == "Somebody <subscriber@signed.example>"
    name = a_list(sandbox, "from_rewriting=refuse", domain="strict.example")
    assert send(sandbox, name, signed(mail(name, AUTHOR), "strict.example")).accepted
    assert Message.parse(copies(sandbox, name, 1)[0].content).text("from") == f"Somebody <{AUTHOR}>"
