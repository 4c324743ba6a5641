"""kelou/authres.py: what the host's verifiers say is read strictly, and what senders say in their name is told apart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kelou import authres
from kelou.authres import Result
from kelou.message import Message

OURS = ("mx.lists.example", "rspamd.lists.example")


def message(*values: str | tuple[str, str]) -> Message:
    fields = [value if isinstance(value, tuple) else ("Authentication-Results", value) for value in values]
    return Message.parse("".join(f"{name}: {value}\r\n" for name, value in fields).encode() + b"From: a@b.example\r\n\r\n")


@pytest.mark.parametrize(
    ("value", "results"),
    [
        pytest.param("mx; none", [], id="none"),
        pytest.param("mx 1;\r\n\tspf=pass smtp.mailfrom=example.net", [("spf", "pass", {"smtp.mailfrom": "example.net"})], id="version"),
        pytest.param(
            'mx;\r\n\tdkim=pass (2048-bit key; unprotected) header.d=Example.org header.i=@example.org header.a=rsa-sha256 header.b="Ab/c=="',
            [("dkim", "pass", {"header.d": "example.org", "header.i": "@example.org", "header.a": "rsa-sha256", "header.b": "ab/c=="})],
            id="opendkim",
        ),
        pytest.param("mx; dmarc=pass (p=none dis=none) header.from=gmail.com", [("dmarc", "pass", {"header.from": "gmail.com"})], id="opendmarc"),
        pytest.param(
            "mx;\r\n\tdkim=pass header.d=a.org header.s=s header.b=Ab+/=;\r\n\tdkim=fail (\"bad\") header.d=b.org;\r\n"
            "\tspf=pass (mx: domain of \"x@a.org\" designates 192.0.2.1) smtp.mailfrom=SRS0=ab=cd=b.org=x@a.org;\r\n\tdmarc=none",
            [("dkim", "pass", {"header.d": "a.org", "header.s": "s", "header.b": "ab+/="}), ("dkim", "fail", {"header.d": "b.org"}),
             ("spf", "pass", {"smtp.mailfrom": "srs0=ab=cd=b.org=x@a.org"}), ("dmarc", "none", {})],
            id="rspamd",
        ),
        pytest.param('mx; auth=pass (cram-md5) reason="x; y" smtp.auth=a@b', [("auth", "pass", {"reason": "x; y", "smtp.auth": "a@b"})], id="reason"),
        pytest.param('(c(d)\\)) mx (e); spf=pass smtp.mailfrom="a;b"@x.org;', [("spf", "pass", {"smtp.mailfrom": "a;b@x.org"})], id="comments, quotes"),
        pytest.param("mx; dkim/1=pass header.d=a.org", [("dkim", "pass", {"header.d": "a.org"})], id="method version"),
    ],
)
def test_what_verifiers_write_is_read(value: str, results: list[tuple[str, str, dict[str, str]]]) -> None:
    """The forms of RFC 8601 appendix B and of the verifiers that hosts have."""
    statement = authres.read(value.encode())
    assert statement is not None
    assert statement.authserv_id == "mx"
    assert list(statement.results) == [Result(*result) for result in results]


@pytest.mark.parametrize(
    "value",
    ["", ";", "mx x; none", "mx 2; none", "mx; dkim", "mx; =pass", "mx; dkim=", "mx; dkim=pass header.d=a header.d=b", "mx; dkim=pass (", "mx; dkim=pass )",
     'mx; dkim=pass header.d="a', "mx; dkim=pass d=a", "mx; dkim=pass x", "mx; dkim=pass header.d=a\\", "mx; dkim=pass\0", "mx; " + "spf=none; " * 100,
     "mx; spf=pass smtp.mailfrom=" + "a" * 9000],
    ids=lambda value: value[:30],
)
def test_what_can_not_be_read_says_nothing(value: str) -> None:
    """Not well-formed, of two minds, or endless: None."""
    assert authres.read(value.encode()) is None


PASS = "dkim=pass header.d=victim.example"
FAIL = "dkim=fail header.d=victim.example"


@pytest.mark.parametrize(
    ("fields", "believed", "forged"),
    [
        pytest.param([f"mx.lists.example; {PASS}"], ["dkim=pass"], [], id="ours"),
        pytest.param([f"MX.lists.EXAMPLE; {PASS}"], ["dkim=pass"], [], id="ours, in capitals"),
        pytest.param([f"mx.evil.example; {PASS}"], [], [], id="somebody else's"),
        pytest.param([f"mx.lists.example; {FAIL}", f"mx.lists.example; {PASS}"], ["dkim=fail"], [2], id="forged below ours"),
        pytest.param([f"mx.lists.example; {FAIL}", "x.example; none", f"mx.lists.example; {PASS}"], ["dkim=fail"], [3], id="with another between"),
        pytest.param([f"rspamd.lists.example; {FAIL}", f"mx.lists.example; {PASS}"], ["dkim=fail"], [2], id="forged in the name of our other"),
        pytest.param(
            ["mx.lists.example; dmarc=fail header.from=v.example", f"mx.lists.example; {FAIL}", f"mx.lists.example; {PASS}; dmarc=pass header.from=v.example"],
            ["dmarc=fail", "dkim=fail"], [3], id="two of our verifiers, one forged",
        ),
        pytest.param([("Received", "from x by y"), f"mx.lists.example; {PASS}"], [], [1], id="of an earlier life"),
        pytest.param(['mx.lists.example; spf=pass smtp.mailfrom="', f"mx.lists.example; {PASS}"], [], [1, 2], id="below what can not be read"),
        pytest.param([f"(;) mx.lists.example; {PASS} ("], [], [1], id="unreadable, perhaps ours"),
        pytest.param([f"mx.evil.example (mx.lists.example); {PASS}"], [], [], id="our name in a comment"),
        pytest.param(["mx.evil.example; spf=pass smtp.mailfrom=mx.lists.example"], [], [], id="our name in a value"),
        pytest.param(["mx.lists.example; none", f"mx.lists.example; {PASS}"], [], [2], id="none, and then something"),
    ],
)
def test_who_is_believed(fields: list[str | tuple[str, str]], believed: list[str], forged: list[int]) -> None:
    """Of each method the topmost field of our names counts, above the message's earlier life; all others in our name are to be removed."""
    found = message(*fields)
    assert [f"{result.method}={result.result}" for result in authres.believed(found, OURS)] == believed
    assert authres.forged(found, OURS) == forged


def test_without_names_nobody_is_believed() -> None:
    """A site that names no verifier believes none, and removes nothing."""
    found = message(f"mx.lists.example; {PASS}")
    assert authres.believed(found, ()) == []
    assert authres.forged(found, ()) == []


@given(st.binary(max_size=200) | st.text('mx.lists.example;dkim=pass "()\\ \t\r\n/1', max_size=80).map(str.encode))
def test_arbitrary_fields_never_raise(value: bytes) -> None:
    """Whatever stands in the field; and what is believed is never to be removed as well."""
    authres.read(value)
    found = Message.parse(b"Authentication-Results: " + value.replace(b"\n", b" ") + b"\r\nFrom: a@b.example\r\n\r\n")
    believed = authres.believed(found, OURS)
    assert not (believed and authres.forged(found, OURS))
