"""kelou/fromfield.py: From: stays as long as receivers believe it, and becomes the list's where they would not."""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from dnsserver import SERVFAIL, TIMEOUT, Server
from hypothesis import given
from hypothesis import strategies as st
from signer import ed25519_record, record, sign
from test_listfields import CONFIG, a_list

from kelou.message import Message
from kelou.outgoing import in_own_name, prepare, unwanted
from kelou.resolver import Resolver, Trouble

LETTER = (
    b"Received: from a by b; Sun, 22 Nov 2026 12:00:00 +0000\r\nFrom: Jane Doe <jane@strict.example>\r\nTo: board@lists.example\r\n"
    b"Subject: A  letter\r\n\twith a fold\r\nDate: Sun, 22 Nov 2026 12:00:00 +0000\r\nMessage-ID: <1@strict.example>\r\n"
    b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nHello  there \r\n\r\nJ\xc3\xa9\r\n\r\n\r\n"
)
BASIC = ("from", "to", "subject", "date", "message-id")
MIME = ("mime-version", "content-type", "content-transfer-encoding")
LISTS = ("list-id", "list-help", "list-unsubscribe", "list-subscribe", "list-post", "list-owner", "list-archive")
FOOTER = {"footer": "{unsubscribe}"}


@pytest.fixture
def zone() -> Iterator[Server]:
    with Server(ttl=0) as running:
        for domain in ("strict.example", "mail.strict.example", "aside.example", "testing.example", "plain.example", "none.example", "lists.example"):
            running.text(f"s1._domainkey.{domain}", record())
        running.text("ed._domainkey.strict.example", ed25519_record())
        running.text("s1._domainkey.esp.example", record())
        running.text("_dmarc.strict.example", "v=DMARC1; p=reject")
        running.text("_dmarc.aside.example", "v=DMARC1; p=quarantine")
        running.text("_dmarc.testing.example", "v=DMARC1; p=reject; t=y")
        running.text("_dmarc.none.example", "v=DMARC1; p=none; rua=mailto:x@none.example")
        running.text("_dmarc.exact.example", "v=DMARC1; p=reject; adkim=s")
        running.text("_dmarc.sub.example", "v=DMARC1; p=none; sp=reject")
        running.text("_dmarc.lists.example", "v=DMARC1; p=reject")
        running.zone["_dmarc.broken.example", "TXT"] = SERVFAIL
        running.zone["s1._domainkey.silent.example", "TXT"] = SERVFAIL
        running.text("_dmarc.silent.example", "v=DMARC1; p=reject")
        running.zone["_dmarc.slow.example", "TXT"] = TIMEOUT
        yield running


def of(domain: str, mail: bytes = LETTER) -> bytes:
    return mail.replace(b"strict.example", domain.encode())


def asked(zone: Server, raw: bytes, **own: object) -> bool:
    return in_own_name(Message.parse(raw), a_list(**own), CONFIG, Resolver([zone.endpoint], 0.4))


STYLES: dict[str, Callable[[bytes], bytes]] = {
    "relaxed/relaxed": lambda m: sign(m, "strict.example", c="relaxed/relaxed", headers=(*BASIC, *MIME)),
    "simple/simple": lambda m: sign(m, "strict.example", c="simple/simple", headers=(*BASIC, *MIME)),
    "relaxed/simple": lambda m: sign(m, "strict.example", c="relaxed/simple", headers=BASIC),
    "simple/relaxed": lambda m: sign(m, "strict.example", c="simple/relaxed", headers=BASIC),
    "From alone": lambda m: sign(m, "strict.example", headers=("from",)),
    "oversigned": lambda m: sign(m, "strict.example", headers=(*BASIC, *MIME, *BASIC, *MIME, "cc", "cc", "sender")),
    "Gmail": lambda m: sign(
        m,
        "strict.example",
        c="relaxed/relaxed",
        headers=("to", "subject", "message-id", "date", "from", "mime-version"),
        extra=b"dara=google.com;x=9999999999",
    ),
    "Outlook": lambda m: sign(
        m,
        "strict.example",
        c="relaxed/relaxed",
        headers=("from", "date", "subject", "message-id", "content-type", "mime-version", "x-ms-exchange-senderadcheck"),
    ),
    "Ed25519 and RSA": lambda m: sign(sign(m, "strict.example", headers=BASIC), "strict.example", "ed", algorithm="ed25519-sha256", headers=BASIC),
    "a subdomain": lambda m: sign(m, "mail.strict.example", headers=BASIC),
    "a mail house, then the author": lambda m: sign(sign(m, "strict.example", headers=BASIC), "esp.example", headers=(*BASIC, "feedback-id")),
}
# Signers that cover fields which every list writes: nothing a list does can leave them whole (rspamd's and Exim's defaults).
BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "rspamd signs List-* that are not there": lambda m: sign(m, "strict.example", headers=(*BASIC, *MIME, *LISTS)),
    "Exim signs List-* twice over": lambda m: sign(m, "strict.example", c="relaxed/relaxed", headers=(*BASIC, "reply-to", *LISTS, "=mime-version")),
    "Precedence is signed": lambda m: sign(m, "strict.example", headers=(*BASIC, "precedence")),
    "only a mail house signs": lambda m: sign(m, "esp.example", headers=BASIC),
    "nobody signs": lambda m: m,
}


@pytest.mark.parametrize("style", STYLES)
def test_what_is_not_touched_keeps_its_author(zone: Server, style: str) -> None:
    """Without footer and tag, the signature of whatever signer still holds, and From stays."""
    assert asked(zone, STYLES[style](LETTER)) is False


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("own", [FOOTER, {"subject_tag": "{list}"}], ids=["footer", "tag"])
def test_what_is_touched_does_not(zone: Server, style: str, own: dict[str, object]) -> None:
    """A footer costs any signature, a tag each that covers the subject."""
    assert asked(zone, STYLES[style](LETTER), **own) is (own is FOOTER or style != "From alone")


@pytest.mark.parametrize("style", BROKEN)
def test_signers_that_leave_lists_no_way(zone: Server, style: str) -> None:
    """What can not verify on the outgoing post is found out on it, though nothing was touched."""
    assert asked(zone, BROKEN[style](LETTER)) is True


@pytest.mark.parametrize(
    ("domain", "rewritten"),
    [
        pytest.param("strict.example", True, id="reject"),
        pytest.param("aside.example", True, id="quarantine"),
        pytest.param("testing.example", True, id="reject, in test"),
        pytest.param("none.example", False, id="none"),
        pytest.param("plain.example", False, id="no policy"),
        pytest.param("unknown.example", False, id="no such domain"),
        pytest.param("sub.example", False, id="none for itself"),
        pytest.param("x.sub.example", True, id="reject for what is under it"),
        pytest.param("deep.under.strict.example", True, id="found by the tree walk"),
        pytest.param("lists.example", False, id="the list's own domain"),
        pytest.param("example", False, id="not a domain at all"),
    ],
)
def test_the_policy_of_the_author_s_domain_decides(zone: Server, domain: str, rewritten: bool) -> None:
    """Of posts that nobody signed, those are rewritten whose author's domain asks for quarantine or reject."""
    assert asked(zone, of(domain)) is rewritten


def test_our_own_signature_may_speak_for_the_author(zone: Server) -> None:
    """An author of the organisation that the list's domain belongs to passes by the list's signature, unless the policy is exact."""
    zone.text("_dmarc.asso.example", "v=DMARC1; p=reject")
    raw = of("asso.example")
    the_list = a_list()
    inside = replace(the_list, domain="listes.asso.example")
    asked_of = Resolver([zone.endpoint], 0.4)
    assert in_own_name(Message.parse(raw), inside, CONFIG, asked_of) is False
    assert in_own_name(Message.parse(raw), the_list, CONFIG, asked_of) is True
    zone.text("_dmarc.asso.example", "v=DMARC1; p=reject; adkim=s")
    assert in_own_name(Message.parse(raw), inside, CONFIG, asked_of) is True


@pytest.mark.parametrize(
    "raw", [of("broken.example"), of("slow.example"), sign(of("silent.example"), "silent.example")], ids=["policy", "timeout", "key"]
)
def test_trouble_is_never_an_answer(zone: Server, raw: bytes) -> None:
    """Where the DNS does not answer, nothing is decided, neither to trust nor to rewrite."""
    with pytest.raises(Trouble):
        asked(zone, raw)
    assert unwanted(Message.parse(raw), a_list(from_rewriting="refuse"), CONFIG, Resolver([zone.endpoint], 0.4)) is None


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (sign(LETTER, "strict.example", extra=b"x=1700000000"), "expired"),
        (sign(LETTER, "strict.example", length=True), "a part of the body"),
        (sign(LETTER, "strict.example", selector="s2"), "no key"),
        (sign(LETTER, "notstrict.example"), "another domain"),
        (b"From: x@strict.example\r\n" + sign(LETTER, "strict.example"), "two From: nothing to be done, and the rules refuse it"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_signatures_that_do_not_count(zone: Server, raw: bytes, why: str) -> None:
    """Receivers would not believe them, so neither do we."""
    assert asked(zone, raw) is (not why.startswith("two From"))


@pytest.mark.parametrize(("mode", "rewritten"), [("always", True), ("never", False)])
def test_a_list_may_decide_once_and_for_all(mode: str, rewritten: bool) -> None:
    """Then nobody is asked: no DNS is needed."""
    nobody = Resolver(["127.0.0.1:1"], 0.1)
    assert in_own_name(Message.parse(LETTER), a_list(from_rewriting=mode), CONFIG, nobody) is rewritten
    assert unwanted(Message.parse(LETTER), a_list(from_rewriting=mode), CONFIG, nobody) is False


def test_a_list_may_refuse(zone: Server) -> None:
    """What would be rewritten is unwanted there; what goes out in its author's name is not."""
    for raw, expected in ((LETTER, True), (STYLES["Gmail"](LETTER), False), (of("plain.example"), False)):
        assert unwanted(Message.parse(raw), a_list(from_rewriting="refuse"), CONFIG, Resolver([zone.endpoint], 0.4)) is expected


def test_naming_the_reader_in_to_counts(zone: Server) -> None:
    """Where To is changed for each copy, a signature over To does not hold."""
    own = {"delivery": "personal", "to_subscriber": True}
    assert asked(zone, STYLES["relaxed/relaxed"](LETTER), **own) is True
    assert asked(zone, STYLES["From alone"](LETTER), **own) is False


def rewritten(*fields: str, author: str = "Jane Doe <jane@strict.example>", **own: object) -> Message:
    raw = "\r\n".join([f"From: {author}", "To: board@lists.example", *fields, "Subject: x", "", "body"]).encode()
    return prepare(Message.parse(raw), a_list(**own), CONFIG, rewritten=True)


JANE = "Jane Doe <jane@strict.example>"
LIST = "board@lists.example"


@pytest.mark.parametrize(
    ("own", "reply_to", "replies", "copies"),
    [
        ({}, "", JANE, ""),
        ({}, "Office <office@x.example>", f"Office <office@x.example>, {JANE}", ""),
        ({}, "JANE@strict.example", "JANE@strict.example", ""),
        ({"reply_to_force": True}, "office@x.example", JANE, ""),
        ({"reply_to": "list"}, "", LIST, JANE),
        ({"reply_to": "list", "reply_to_force": True}, "office@x.example", LIST, JANE),
        ({"reply_to": "list"}, "office@x.example", f"office@x.example, {JANE}", ""),
        ({"reply_to": "both"}, "", f"{LIST}, {JANE}", ""),
        ({"reply_to": "address", "reply_to_address": "desk@x.example"}, "", "desk@x.example", JANE),
        ({"reply_to": "address"}, "", JANE, ""),
    ],
)
def test_a_reply_goes_where_the_policy_says(own: dict[str, object], reply_to: str, replies: str, copies: str) -> None:
    """The author is in Reply-To, or in Cc where replies are to go elsewhere; and in X-Original-From always."""
    post = rewritten(*([f"Reply-To: {reply_to}"] if reply_to else []), **own)
    assert post.text("from") == f"Jane Doe via board <{LIST}>"
    assert (post.text("reply-to"), post.text("cc")) == (replies, copies)
    assert post.text("x-original-from") == JANE
    assert [len(post.all(name)) for name in ("from", "x-original-from")] == [1, 1]


def test_the_author_joins_those_in_cc_once() -> None:
    """Who is in To or Cc already is not put there again, and who is there stays."""
    assert rewritten("Cc: Bob <bob@x.example>,", reply_to="list").text("cc") == f"Bob <bob@x.example>,, {JANE}"
    assert rewritten("Cc: jane@STRICT.example", reply_to="list").text("cc") == "jane@STRICT.example"


@pytest.mark.parametrize(
    ("author", "shown"),
    [
        ("jane@strict.example", "jane via board"),
        ('"Doe, Jane" <jane@strict.example>', '"Doe, Jane via board"'),
        ('"jane@strict.example" <jane@strict.example>', "jane via board"),
        ('"Jane (jane@strict.example)" <jane@strict.example>', "Jane via board"),
        ('"president@bank.example" <jane@strict.example>', "jane via board"),
        ("=?utf-8?q?J=C3=A9r=C3=B4me?= <jane@strict.example>", "Jérôme via board"),
        ("=?utf-8?q?Jane=0D=0ABcc=3A_x=40y?= <jane@strict.example>", "Jane Bcc: via board"),
        ("=?utf-8?b?4oCuRG9l4oCs?= <jane@strict.example>", "Doe via board"),
        ('"Jane Doe via friends" <jane@strict.example>', "Jane Doe via board"),
        ("=?utf-8?q?=EF=BC=A0?= <jane@strict.example>", "jane via board"),
        ('"" <"a b"@strict.example>', "a b via board"),
        (f'"{"x" * 300}" <jane@strict.example>', "x" * 60 + " via board"),
    ],
)
def test_the_name_that_is_shown(author: str, shown: str) -> None:
    """The author's, without addresses and tricks in it, and through which list it came, once."""
    field = rewritten(author=author).first("from")
    assert field is not None
    assert re.sub(r'"', "", field.text) == f"{shown.replace(chr(34), '')} <{LIST}>"
    assert b"\n" not in field.value.replace(b"\r\n ", b"")
    assert len(email.utils.getaddresses([field.value.decode()])) == 1


def test_through_two_lists_nothing_piles_up() -> None:
    """A post that another list rewrote, rewritten again: one via, one X-Original-From, and a reply goes to the author alone."""
    once = rewritten()
    again = prepare(once.without(["list-"]), a_list(name="second"), CONFIG, rewritten=True)
    assert again.text("from") == "Jane Doe via second <second@lists.example>"
    assert again.text("reply-to") == JANE
    assert len(again.all("x-original-from")) == 1
    third = prepare(again.without(["list-"]), a_list(name="second"), CONFIG, rewritten=True)
    assert (third.text("from"), third.text("reply-to")) == (again.text("from"), JANE), "its own address is nobody to rewrite"


def test_an_address_that_is_not_ascii() -> None:
    """RFC 6532: it goes into Reply-To in the bytes in which it stood in From."""
    post = rewritten(author="Zoé <zoé@strict.example>")
    assert post.text("reply-to") == "Zoé <zoé@strict.example>"
    assert "Reply-To: Zoé <zoé@strict.example>\r\n".encode() in bytes(post)
    assert post.text("from") == f"Zoé via board <{LIST}>"


def test_a_forged_trace_is_not_kept() -> None:
    """X-Original-From is what From said, whatever the author wrote there."""
    post = rewritten("X-Original-From: The President <president@bank.example>", "x-original-from: y")
    assert [field.text for field in post.all("x-original-from")] == [JANE]


def test_the_body_stays() -> None:
    """Rewriting From changes no byte of the body, and nothing but From, Reply-To and X-Original-From of the header."""
    plain, changed = (prepare(Message.parse(LETTER), a_list(), CONFIG, rewritten=flag) for flag in (False, True))
    assert changed.body == plain.body
    touched = ("from", "reply-to", "x-original-from")
    assert changed.without(touched).fields == plain.without(touched).fields


@given(st.binary(max_size=200), st.binary(max_size=80))
def test_no_bytes_raise(author: bytes, reply_to: bytes) -> None:
    """Whatever stands in From and Reply-To, there is one From after, and no field that was not there before."""
    raw = b"From: " + author.replace(b"\n", b" ") + b"\r\nReply-To: " + reply_to.replace(b"\n", b" ") + b"\r\nSubject: x\r\n\r\nbody"
    post = prepare(Message.parse(raw), a_list(reply_to="both"), CONFIG, rewritten=True)
    again = Message.parse(bytes(post))
    assert len(again.all("from")) == 1
    assert {field.name for field in again.fields} <= {
        "list-id", "list-post", "list-help", "list-subscribe", "list-unsubscribe", "list-owner", "precedence", "from", "reply-to", "subject", "message-id",
        "x-original-from",
    }  # fmt: skip


def test_it_is_quick() -> None:
    """Names made to be slow to read are read at once."""
    start = time.monotonic()
    rewritten(author='"' + "a@ via " * 5000 + '" <jane@strict.example>')
    assert time.monotonic() - start < 2
