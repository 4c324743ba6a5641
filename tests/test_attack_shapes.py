"""Mail that is no mail: whatever its shape, it is refused or held with a reason, or goes out; nothing crashes, nothing is lost, nobody else waits."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from attack import AUTHOR, Raw, Watch, alive, etc, fate, make, post, run, settle, to, trusted
from conftest import Sandbox
from mta import Mta

MESSAGES = Path(__file__).with_name("messages")
MB = 1024 * 1024


@pytest.fixture(scope="module")
def watch(sandbox: Sandbox) -> Iterator[Watch]:
    """One for the whole module: what one message does to the daemons shows in the next test, too."""
    made = Watch(sandbox)
    yield made
    made.check()


@pytest.fixture(scope="module")
def plain(sandbox: Sandbox) -> str:
    """A list that changes nothing."""
    return make(sandbox, "post=anyone", "max_size=10M", "blind_copies=accept", "no_subject=accept", "automatic=accept")


@pytest.fixture(scope="module")
def busy(sandbox: Sandbox) -> str:
    """A list that changes all that it can: tag, footer, header rules, reply-to."""
    rules = "header_rules=hold X-Nothing: /(a+)+$/\nhold Subject: /(x+x+)+y/"
    return make(
        sandbox, "post=anyone", "max_size=10M", "blind_copies=accept", "no_subject=accept", "automatic=accept", "subject_tag={list}",
        "footer=-- \n{subject} é\n{unsubscribe}", "reply_to=both", "refused_types=.exe", rules,
    )  # fmt: skip


@pytest.fixture(scope="module")
def other(sandbox: Sandbox) -> str:
    return make(sandbox)


def nested(depth: int) -> bytes:
    """Multiparts in multiparts, none of them closed."""
    parts = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (level, level) for level in range(depth))
    return parts + b"Content-Type: text/plain\r\n\r\nin the middle\r\n"


def forwarded(depth: int) -> bytes:
    """Messages in messages."""
    inner = b"Subject: the innermost\r\n\r\ntext\r\n"
    for _level in range(depth):
        inner = b"MIME-Version: 1.0\r\nContent-Type: message/rfc822\r\n\r\n" + inner
    return inner


def typed(value: bytes, body: bytes = b"text\r\n", extra: bytes = b"") -> bytes:
    return b"MIME-Version: 1.0\r\n" + extra + b"Content-Type: " + value + b"\r\n\r\n" + body


# The rest of a message, behind From, To, Subject and so on; or all of it, where it begins with `=`.
SHAPES: dict[str, bytes] = {
    "1,200 nested parts": nested(1200),
    "50 nested parts": nested(50),
    "100,000 parts": typed(b"multipart/mixed; boundary=b", b"--b\r\n\r\nx\r\n" * 100_000 + b"--b--\r\n"),
    "499 parts": typed(b"multipart/mixed; boundary=b", b"--b\r\n\r\nx\r\n" * 499 + b"--b--\r\n"),
    "no closing boundary": typed(b"multipart/alternative; boundary=b", b"--b\r\n\r\nx\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>x"),
    "no boundary": typed(b"multipart/mixed"),
    "an empty boundary": typed(b'multipart/mixed; boundary=""', b"--\r\n\r\nx\r\n----\r\n"),
    "a boundary of blanks": typed(b'multipart/mixed; boundary="   "', b"--   \r\n\r\nx\r\n--   --\r\n"),
    "a boundary of 5,000": typed(b'multipart/mixed; boundary="' + b"b" * 900 + b'"', b"--" + b"b" * 900 + b"\r\n\r\nx\r\n"),
    "the same boundary twice": typed(b"multipart/mixed; boundary=b", b"--b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n--b--\r\n"),
    "only delimiters": typed(b"multipart/mixed; boundary=b", b"--b\r\n" * 400),
    "dashes without end": typed(b"multipart/mixed; boundary=b", b"-" * 900_000),
    "lines of dashes": typed(b"multipart/mixed; boundary=b", b"--\r\n" * 200_000),
    "500 messages in messages": forwarded(500),
    "8 messages in messages with a long line": forwarded(8) + b"z" * 5000 + b"\r\n",
    "a message in a message in base64": typed(b"message/rfc822", b"U3ViamVjdDogeA0KDQp4DQo=\r\n", b"Content-Transfer-Encoding: base64\r\n"),
    "a line of 1 MB": b"\r\n" + b"x" * MB + b"\r\n",
    "a line of 999,000": b"\r\n" + b"x" * 999_000 + b"\r\n",
    "a line of 900,000 8-bit octets": b"\r\n" + "é".encode() * 450_000 + b"\r\n",
    "4 MB of short lines": b"\r\n" + b"x\r\n" * (4 * MB // 3),
    "4 MB of empty lines": b"\r\n" + b"\r\n" * (2 * MB),
    "4 MB of empty lines and a dot": b"\r\n" + b"\r\n" * (2 * MB) + b"..\r\n",
    "a header field of 70 kB": b"X-Large: " + b"y" * 70_000 + b"\r\n\r\nx\r\n",
    "a header field of 70 kB in folds": b"X-Large: " + b"y" * 60 + b"\r\n y" * 20_000 + b"\r\n\r\nx\r\n",
    "1,001 header fields": b"X-More: y\r\n" * 1001 + b"\r\nx\r\n",
    "100,000 header fields": b"X:\r\n" * 100_000 + b"\r\nx\r\n",
    "a field of blanks": b"X-Blank: " + b" \r\n" * 5 + b"\r\nx\r\n",
    "a field without a value": b"X-Empty:\r\nReply-To:\r\nSender:\r\nReferences:\r\n\r\nx\r\n",
    "blanks before the colon": b"X-Odd \t : y\r\nSender : z\r\n\r\nx\r\n",
    "a field name of 900 letters": b"X" * 900 + b": y\r\n\r\nx\r\n",
    "an 8-bit field name": b"X-\xff\xfe: y\r\n\r\nx\r\n",
    "an 8-bit field": b"X-Eight: \xff\xfe\xe9\r\n\r\nx\r\n",
    "a colon alone": b": y\r\n\r\nx\r\n",
    "a line that is no field": b"no field at all\r\nX: y\r\n\r\nx\r\n",
    "a fold with nothing in it": b"X-Fold: a\r\n \r\n\t\r\n b\r\n\r\nx\r\n",
    "a bare CR in a field": b"X-Bare: a\rBcc: victim@example.net\r\n\r\nx\r\n",
    "a bare LF in a field": b"X-Bare: a\nX-Second: b\r\n\r\nx\r\n",
    "NUL in a field": b"X-Nul: a\0b\r\n\r\nx\r\n",
    "NUL in the text": b"\r\na\0b\r\n",
    "no body": b"",
    "no end of the header": b"X: y",
    "nothing at all": b"=",
    "only a line end": b"=\r\n",
    "only line ends": b"=" + b"\r\n" * 2000,
    "no header": b"=Bonjour,\r\nvoici une lettre.\r\n",
    "only a colon": b"=:\r\n",
    "a fold at the start": b"= folded\r\nFrom: ann@example.net\r\nSubject: x\r\n\r\nx\r\n",
    "From of mbox": b"=From ann@example.net Mon Nov 23 12:00:00 2026\r\nFrom: ann@example.net\r\nSubject: x\r\n\r\nx\r\n",
    "a body of dots": b"\r\n" + b"..\r\n" * 1000,
    "ends without a line end": b"\r\nthe end",
    "ends in CR": b"\r\nthe end\r",
    # Charsets that are none, or that take long.
    **{
        f"charset {name} in the text": typed(b"text/plain; charset=" + name.encode(), b"caf\xe9 =?x?= &AOk- \\u00e9\r\n" * 200)
        for name in (
            "idna", "punycode", "zlib", "unicode-escape", "raw-unicode-escape", "hex", "rot13", "bz2", "undefined", "utf-16", "utf-7", "mbcs", "x" * 300,
            "../../etc", "\0",
        )
    },
    **{
        f"encoded words in {name}": b"Subject: =?" + name + b"?q?" + b"=41=c3=28" * 30 + b"?= =?" + name + b"?b?" + b"QUJD" * 30 + b"?=\r\n\r\nx\r\n"
        for name in (b"idna", b"punycode", b"zlib", b"unicode-escape", b"unicode_escape", b"hex", b"utf-16", b"utf-7", b"x-none", b"utf-8*fr", b"*", b"a" * 60)
    },
    "encoded words without end": b"Subject: " + b"=?utf-8?q?a" * 4000 + b"\r\n\r\nx\r\n",
    "encoded words and no blank": b"Subject: " + b"=?utf-8?q?a?=" * 4000 + b"\r\n\r\nx\r\n",
    "base64 that is none": typed(b"text/plain; charset=utf-8", b"=\x00!!!" + b"A" * 77 + b"\r\n", b"Content-Transfer-Encoding: base64\r\n"),
    "quoted-printable that is none": typed(b"text/plain; charset=utf-8", b"=\r\n=G1=4\r\n=", b"Content-Transfer-Encoding: quoted-printable\r\n"),
    "an encoding that is none": typed(b"text/plain", b"x\r\n", b"Content-Transfer-Encoding: x-uuencode; y\r\n"),
    "two encodings": typed(b"text/plain", b"x\r\n", b"Content-Transfer-Encoding: base64\r\nContent-Transfer-Encoding: 7bit\r\n"),
    "two Content-Types": typed(b"text/plain", b"--b\r\n\r\nx\r\n--b--\r\n", b"Content-Type: multipart/mixed; boundary=b\r\n"),
    "a multipart in base64": typed(b"multipart/mixed; boundary=b", b"LS1iDQoNCng=\r\n", b"Content-Transfer-Encoding: base64\r\n"),
    # What crashes Python's own parser (standards.md, row 13).
    "Message-ID of Exchange": b"Message-ID: <[x].y@[z]>\r\n\r\nx\r\n",
    "name* without a value": typed(b"text/plain; name*"),
    "a comment alone in To": b"To: (c):\r\n\r\nx\r\n",
    "a line end in an encoded word": b"Sender: =?UTF-8?Q?=0AMy?= <x@example.net>\r\n\r\nx\r\n",
    "dots for an address": b"Sender: ....\r\nReply-To: ....\r\nCc: ....\r\n\r\nx\r\n",
    # RFC 2231.
    "sections out of order": typed(b"text/plain; name*1=b; name*0*=utf-8''a; name*99999999999999999999=c; name*-1=d"),
    "a section of another charset": typed(b"text/plain; name*=idna''%ff%fe; charset*=utf-8'fr'us%2Dascii"),
    "a section without quotes": typed(b"text/plain; name*0*=utf-8'a; name*1*='; name**=x; *=y; =z; ;;;"),
    "10,000 parameters": typed(b"text/plain" + b";\r\n p=1" * 5000),
    "a quoted string without end": typed(b'text/plain; name="' + b'\\"' * 3000),
    "an attachment with a strange name": typed(b"application/x", b"x\r\n", b'Content-Disposition: attachment; filename="../../\x1b]0;pwn\x07\xe2\x80\xae.exe"\r\n'),
    # Dates.
    "a date of no calendar": b"Date: Mon, 99 Foo 99999 99:99:99 +9999\r\n\r\nx\r\n",
    "a date of 5,000 digits": b"Date: " + b"9" * 5000 + b"\r\n\r\nx\r\n",
    "a date before time": b"Date: Mon, 1 Jan 0000 00:00:00 -9999\r\n\r\nx\r\n",
    "an empty date": b"Date:\r\n\r\nx\r\n",
    "no date, no Message-ID": b"",
    # Addresses.
    "5,000 recipients": b"Cc: " + b",\r\n ".join(b"a%d@example.net" % n for n in range(2500)) + b"\r\n\r\nx\r\n",
    "50 kB of parentheses": b"Cc: " + b"(" * 50_000 + b"\r\n\r\nx\r\n",
    "50 kB of comments": b"Cc: " + b"()" * 25_000 + b"\r\n\r\nx\r\n",
    "50 kB of at signs": b"Cc: " + b"@" * 50_000 + b"\r\n\r\nx\r\n",
    "50 kB of quotes": b"Cc: " + b'"' * 50_001 + b"\r\n\r\nx\r\n",
    "50 kB of commas": b"Cc: " + b"," * 50_000 + b"\r\n\r\nx\r\n",
    "groups": b"Cc: undisclosed-recipients:;, a: b@example.net, c@example.net;\r\n\r\nx\r\n",
    "List-Id of brackets": b"List-Id: " + b"<" * 50_000 + b"\r\n\r\nx\r\n",
    "Auto-Submitted of blanks": b"Auto-Submitted: " + b" \t" * 20_000 + b"x\r\n\r\nx\r\n",
    # HTML.
    "HTML of brackets": typed(b"text/html", b"<" * 900_000 + b"\r\n"),
    "HTML of comments": typed(b"text/html", b"<!--" * 200_000 + b"\r\n"),
    "HTML of ends": typed(b"text/html", b"</body" * 100_000 + b"\r\n"),
    "HTML of entities": typed(b"text/html", b"&#x" + b"9" * 10_000 + b";" + b"&" * 100_000 + b"\r\n"),
    "HTML in UTF-16": typed(b"text/html; charset=utf-16", "<p>é</p></body>".encode("utf-16")),
}


def message(name: str, rest: bytes, subject: str) -> bytes:
    """The whole of it. What is given in `rest` stands once only."""
    if rest.startswith(b"="):
        return rest[1:]
    given = {line.partition(b":")[0].strip().lower() for line in rest.partition(b"\r\n\r\n")[0].split(b"\r\n")}
    fields = {b"from": f"Ann <{AUTHOR}>", b"to": to(name), b"subject": subject, b"date": "Mon, 23 Nov 2026 12:00:00 +0000", b"message-id": f"<{uuid4()}@x.example>"}
    top = b"".join(key.title() + b": " + value.encode() + b"\r\n" for key, value in fields.items() if key not in given)
    return top + rest


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape(sandbox: Sandbox, watch: Watch, other: str, plain: str, busy: str, shape: str) -> None:
    """To a list that changes nothing and to one that changes all: refused with a reason, held or distributed, soon; and another list's post goes through."""
    before, count = becomings(sandbox, plain, busy), 0
    for name in (plain, busy):
        answer = trusted(sandbox, name, message(name, SHAPES[shape], f"shape {shape}"))
        assert answer.accepted or answer.data[:5] in ("550 5", "552 5"), answer
        assert "Error" not in answer.data
        count += answer.accepted
    alive(sandbox, other, 20)
    deadline = time.monotonic() + 30
    while becomings(sandbox, plain, busy) - before < count:
        assert time.monotonic() < deadline, sandbox.log()[-3000:]
        time.sleep(0.02)
    assert becomings(sandbox, plain, busy) - before == count


def becomings(sandbox: Sandbox, *lists: str) -> int:
    """How many posts to these lists were distributed or held."""
    return sum(len(found.sent) + len(found.held) for found in (fate(sandbox, name) for name in lists))


def test_held_shapes_can_be_shown(sandbox: Sandbox, watch: Watch) -> None:
    """What a stranger sends in any shape to a moderated list is held or refused; it can be shown on a terminal, approved and discarded."""
    name = make(sandbox, "post=moderated", "max_size=10M", "blind_copies=accept", "no_subject=accept", "automatic=accept")
    for shape, rest in SHAPES.items():
        sandbox.untrusted("a@plain.example", to(name), message(name, rest, f"shape {shape}"))
    settle(sandbox)
    rows = sandbox.json("mod", "list", name)
    assert len(rows) > len(SHAPES) // 2
    for row in rows:
        shown = sandbox.kelou("mod", "show", str(row["id"]))
        assert (shown.returncode, shown.stderr) == (0, ""), row
        assert not any((ord(c) < 32 and c not in "\n\t") or 127 <= ord(c) < 160 or c in "\u202a\u202b\u202d\u202e\u2066\u2067\u2068" for c in shown.stdout), row
    half = len(rows) // 2
    run(sandbox, "mod", "approve", *(str(row["id"]) for row in rows[:half]))
    run(sandbox, "mod", "discard", *(str(row["id"]) for row in rows[half:]))
    settle(sandbox, 60)
    assert len(fate(sandbox, name).sent) == half


@pytest.mark.parametrize("hello", [b"EHLO \xff\xfe", b"HELO \xff\xfe", b"EHLO " + b"x" * 1000, b"EHLO \x1b]0;pwn\x07", b"EHLO [127.0.0.1]", b"HELO a b c"])
def test_an_odd_hello(sandbox: Sandbox, watch: Watch, plain: str, hello: bytes) -> None:
    """Whatever the client calls itself, its post is judged like any other's."""
    subject = f"hello-{uuid4().hex[:8]}"
    with Raw(sandbox.info["smtp"], hello) as client:
        if not client.hello.startswith("250"):
            assert client.hello[:3] in ("501", "500")
            return
        assert client.envelope(AUTHOR, to(plain))[-1].startswith("354")
        client.send(post(plain, subject=subject) + b".\r\n")
        assert client.reply().startswith("250")
    settle(sandbox)
    assert subject in fate(sandbox, plain).sent


def test_octets_that_no_postfix_sends(sandbox: Sandbox, watch: Watch, other: str) -> None:
    """Straight to the milter: 8-bit HELO, field names and addresses, a field of 65 kB, packets cut short. It lives, and serves the next."""
    path = Path(etc(sandbox)).parent / "spool/kelou/milter.sock"
    for mischief in range(6):
        with Mta(path) as mta:
            mta.say(b"H", b"\xff\xfe\0")
            if mischief == 1:
                mta.say(b"M", b"<\xff\xfe@example.net>\0")
                mta.rcpt(b"\xff\xfe@lists.example.org")
                mta.rcpt(to(other))
            else:
                mta.mail(AUTHOR)
                mta.rcpt(to(other))
            mta.say(b"T")
            if mischief == 2:
                mta.packet(b"L", b"X-\xff\0y\0")
            elif mischief == 3:
                mta.packet(b"L", b"X-Large\0" + b"y" * 65_000 + b"\0")
            elif mischief == 4:
                mta.packet(b"L", b"no value at all")
            elif mischief == 5:
                mta.socket.sendall(b"\0\0\0\x50Lcut")
                mta.socket.shutdown(socket.SHUT_WR)
            if mischief < 4:
                mta.packet(b"N")
                mta.packet(b"B", b"\xff\0\xfe")
                mta.packet(b"E")
                mta.socket.recv(65_536)
    alive(sandbox, other)


def test_messages_of_the_folder(sandbox: Sandbox, watch: Watch, busy: str, other: str) -> None:
    """Each of the messages that other tests read as files goes the whole way, in the name of its author and past it."""
    number = 0
    for path in sorted(MESSAGES.rglob("*.eml")):
        content = path.read_bytes().replace(b"ca@lists.example.org", to(busy).encode())
        for answer in (sandbox.submit(AUTHOR, to(busy), content), sandbox.untrusted("a@plain.example", to(busy), content)):
            assert answer.data[:3] in ("250", "550", "552"), (path.name, answer)
            number += answer.accepted
    alive(sandbox, other)
    assert number
