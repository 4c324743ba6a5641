"""The list's header fields (kelou/listfields.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import load

from kelou import listtype
from kelou.config import Config
from kelou.directory import ListView
from kelou.listfields import list_fields, mailto, with_list_fields
from kelou.message import Message

CONFIG = Config(Path("/none"), {"site.language": "en"})


def a_list(subject: str = "Board of the association", type: str = "discussion", name: str = "board", **own: Any) -> ListView:
    """A list as the database would give it."""
    resolved = listtype.resolve(type, own, CONFIG)
    return ListView(
        id=1,
        name=name,
        domain="lists.example",
        list_id=f"{name}.lists.example",
        status="open",
        type=type,
        subject=subject,
        settings={key: value for key, (value, _origin) in resolved.items()},
        origins={key: origin for key, (_value, origin) in resolved.items()},
    )


def post(*fields: str) -> Message:
    return Message.parse("\r\n".join(["From: Alice Martin <alice@asso.example>", *fields, "", "body"]).encode())


def test_the_fields_of_a_list() -> None:
    """RFC 2369 and RFC 2919 to the letter, above all else."""
    message = with_list_fields(post("To: board@lists.example"), a_list(), CONFIG)
    assert bytes(message).decode().split("\r\n") == [
        "List-Id: Board of the association <board.lists.example>",
        "List-Post: <mailto:board@lists.example>",
        "List-Help: <mailto:sympa@lists.example?subject=help>",
        "List-Subscribe: <mailto:sympa@lists.example?subject=subscribe%20board>",
        "List-Unsubscribe: <mailto:sympa@lists.example?subject=unsubscribe%20board>",
        "List-Owner: <mailto:board-owner@lists.example>",
        "Precedence: list",
        "From: Alice Martin <alice@asso.example>",
        "To: board@lists.example",
        "",
        "body",
    ]


def test_an_announcement_list_says_no() -> None:
    """Where subscribers can not post, List-Post is NO (RFC 2369 section 3.4)."""
    assert with_list_fields(post(), a_list(announce=True), CONFIG).text("list-post") == "NO"


def test_without_a_command_address() -> None:
    """A site without one has the list's own addresses."""
    message = with_list_fields(post(), a_list(), Config(Path("/none"), {"site.command_addresses": ()}))
    assert message.text("list-unsubscribe") == "<mailto:board-unsubscribe@lists.example>"
    assert message.text("list-subscribe") == "<mailto:board-subscribe@lists.example>"
    assert message.text("list-help") == "<mailto:board-request@lists.example?subject=help>"


def test_what_others_wrote_is_dropped() -> None:
    """A forged way out, receipts of thousands, passwords and another list's marks do not go out under our signature."""
    before = load("from-another-list")
    after = with_list_fields(before, a_list(), CONFIG)
    ours = [f.name for f in after.fields[:7]]
    assert [f.name for f in after.fields[7:]] == ["reply-to", "received", "x-priority", "from", "to", "cc", "subject", "date", "message-id"]
    assert all(ours.count(name) == 1 for name in ours)
    assert b"evil.example" not in bytes(after)
    assert b"secret" not in bytes(after)


@pytest.mark.parametrize(
    "name",
    ["List-Unsubscribe-Post", "LIST-ARCHIVE", "List-Id ", "Precedence", "X-Loop", "Feedback-ID", "CFBL-Address", "CFBL-Feedback-ID", "Approved", "Approve",
     "X-Approved", "X-Approve", "Kelou-Secret", "Return-Path", "Delivered-To", "Errors-To", "Return-Receipt-To", "Disposition-Notification-To",
     "X-Confirm-Reading-To", "Bcc", "Resent-Bcc"],
)  # fmt: skip
def test_dropped(name: str) -> None:
    """However it is spelled and however often."""
    assert b"forged" not in bytes(with_list_fields(post(f"{name}: forged", "To: x@asso.example", f"{name}:forged\r\n forged"), a_list(), CONFIG))


@pytest.mark.parametrize(
    "field",
    ["Received: by x", "DKIM-Signature: v=1", "Authentication-Results: x; dkim=pass", "ARC-Seal: i=1", "To: b@asso.example", "Cc: c@asso.example",
     "Sender: s@asso.example",
     "In-Reply-To: <1@x>", "References: <1@x>\r\n\t<2@x>", "X-Mailer: y", "Listing: z", "Importance: high", "Auto-Submitted: no", "X-BeenThere: other@x", "Autocrypt: a"],
)  # fmt: skip
def test_kept(field: str) -> None:
    """Everything else stays, byte for byte."""
    assert field.encode() + b"\r\n" in bytes(with_list_fields(post(field), a_list(), CONFIG))


@pytest.mark.parametrize(
    ("settings", "wrote", "expected"),
    [
        ({"reply_to": "author"}, None, None),
        ({"reply_to": "author"}, "me@home.example", "me@home.example"),
        ({"reply_to": "author", "reply_to_force": True}, "me@home.example", "Alice Martin <alice@asso.example>"),
        ({"reply_to": "author", "reply_to_force": True}, None, "Alice Martin <alice@asso.example>"),
        ({"reply_to": "list"}, None, "board@lists.example"),
        ({"reply_to": "list"}, "", "board@lists.example"),
        ({"reply_to": "list"}, "me@home.example", "me@home.example"),
        ({"reply_to": "list", "reply_to_force": True}, "me@home.example", "board@lists.example"),
        ({"reply_to": "both"}, None, "board@lists.example, Alice Martin <alice@asso.example>"),
        ({"reply_to": "both"}, "me@home.example", "me@home.example"),
        ({"reply_to": "both", "reply_to_force": True}, "me@home.example", "board@lists.example, Alice Martin <alice@asso.example>"),
        ({"reply_to": "address", "reply_to_address": "bureau@asso.example"}, None, "bureau@asso.example"),
        ({"reply_to": "address", "reply_to_address": "bureau@asso.example"}, "me@home.example", "me@home.example"),
        ({"reply_to": "address", "reply_to_address": "bureau@asso.example", "reply_to_force": True}, "me@home.example", "bureau@asso.example"),
        ({"reply_to": "address", "reply_to_force": True}, "me@home.example", "me@home.example"),
    ],
)
def test_where_a_reply_goes(settings: dict[str, Any], wrote: str | None, expected: str | None) -> None:
    """The list's policy, by respect or by force."""
    message = post(*([] if wrote is None else [f"Reply-To: {wrote}"]))
    found = with_list_fields(message, a_list(**settings), CONFIG).all("reply-to")
    assert [f.text for f in found] == ([] if expected is None else [expected])


@pytest.mark.parametrize(
    ("author", "expected"),
    [
        ("=?utf-8?q?=C3=89lise?= <e@asso.example>", "board@lists.example, Élise <e@asso.example>"),
        ('"Martin, \\"A\\"" <a@asso.example>', 'board@lists.example, "Martin, \\"A\\"" <a@asso.example>'),
        ("a@exämple.org", "board@lists.example, a@xn--exmple-cua.org"),
        ("élise@asso.example", "board@lists.example"),
        ("a@asso.example, b@asso.example", "board@lists.example"),
        ("alice@list.org <evil@x.example>", "board@lists.example"),
    ],
)
def test_the_author_in_a_reply(author: str, expected: str) -> None:
    """The author's address is written anew; one that can not be read with certainty is left out."""
    message = Message.parse(f"From: {author}\r\n\r\n".encode())
    field = with_list_fields(message, a_list(reply_to="both"), CONFIG).first("reply-to")
    assert field
    assert field.text == expected
    assert field.raw.isascii()


@given(st.text(), st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20))
def test_no_list_makes_fields_of_its_own(subject: str, name: str) -> None:
    """A list's subject or a name of any characters makes no other field, and its List-Id ends in its identifier."""
    message = with_list_fields(post(), a_list(subject), CONFIG)
    again = Message.parse(bytes(message))
    assert [f.name for f in again.fields] == ["list-id", "list-post", "list-help", "list-subscribe", "list-unsubscribe", "list-owner", "precedence", "from"]
    assert again.fields[0].raw.endswith(b"<board.lists.example>\r\n")
    url = mailto(f"{name}@lists.example", name)
    assert url.isascii()
    assert not set(url) & set('<>" ,;\\')


def test_a_plus_in_a_name_stays_a_plus() -> None:
    """Programs that decode `+` as a blank do not lose the list."""
    message = with_list_fields(post(), a_list(name="a+b"), CONFIG)
    assert message.text("list-unsubscribe") == "<mailto:sympa@lists.example?subject=unsubscribe%20a%2Bb>"
    assert message.text("list-post") == "<mailto:a%2Bb@lists.example>"


def test_fields_for_complaints() -> None:
    """None unless the site asks for them; then Gmail's four words, and RFC 9477's address."""
    names = [one.name for one in list_fields(a_list(), CONFIG)]
    assert not {"feedback-id", "cfbl-address"} & set(names)
    site = Config(Path("/none"), {"feedback.sender": "kelou:asso", "feedback.address": True})
    found = {one.name: one.text for one in list_fields(a_list(), site)}
    assert found["feedback-id"] == "board:lists.example:discussion:kelou-asso"
    assert found["cfbl-address"] == "board-bounces@lists.example; report=arf"
