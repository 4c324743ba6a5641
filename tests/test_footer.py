"""The footer (kelou/footer.py), looked at as a mail client does: with another parser."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import NAMES, leaves, load, shown
from test_mime import BODIES, nested

from kelou import mime
from kelou.footer import with_footer
from kelou.message import Message

FOOTER = "-- \nConseil d'école <&> CA\nSe désabonner : mailto:sympa@lists.example?subject=unsubscribe%20board."
ASCII = "-- \nBoard\nTo unsubscribe: mailto:sympa@lists.example?subject=unsubscribe%20board"
LINK = '<a href="mailto:sympa@lists.example?subject=unsubscribe%20board">mailto:sympa@lists.example?subject=unsubscribe%20board</a>'

# Which leaves show the footer, in the order of the message; the rest must not.
SHOWN = {
    "plain-ascii": [0],
    "plain-8bit-utf8": [0],
    "plain-quoted-printable-iso-8859-15": [0],
    "plain-base64-utf8": [0],
    "plain-iso-2022-jp": [0],
    "plain-utf-16-base64": [0],
    "plain-format-flowed": [0],
    "html-outlook": [0, 1],
    "html-apple-mail-related": [0, 1],
    "html-only-no-body-end": [0],
    "mixed-text-attachment": [0],
    "calendar-invite": [0, 1],
    "missing-close-boundary": [0, 1],
    "boundary-blanks-and-epilogue": [0],
    "bare-line-feeds": [0, 1],
    "forwarded-as-attachment": [0],
    "two-from": [0],
}
SEALED = [name for name in NAMES if name.startswith(("signed-", "opaque-", "encrypted-"))]


def has(text: str, footer: str) -> bool:
    """Whether a leaf that reads `text` shows the footer, as plain text or as HTML does."""
    lines = [line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") if "</div>" in text else line for line in footer.split("\n")]
    flat = text.replace("&#233;", "é")
    return all(line.rstrip(".") in flat or "mailto:" in line for line in lines) and "mailto:sympa@lists.example?subject=unsubscribe%20board" in flat


@pytest.mark.parametrize("footer", [FOOTER, ASCII], ids=["accents", "ascii"])
@pytest.mark.parametrize("name", SHOWN)
def test_clients_show_it_in_the_text(name: str, footer: str) -> None:
    """Each alternative ends with the footer; no part is added, no type or disposition changes, and the text before is what it was."""
    message = load(name)
    before, after = leaves(message), leaves(with_footer(message, footer))
    assert [(p.get_content_type(), p.get_content_disposition(), p.get_filename()) for p in before] == [
        (p.get_content_type(), p.get_content_disposition(), p.get_filename()) for p in after
    ]
    for index, (old, new) in enumerate(zip(before, after, strict=True)):
        if index not in SHOWN[name]:
            assert old.as_bytes() == new.as_bytes()
            continue
        was, text = shown(old), shown(new)
        assert has(text, footer), text
        if new.get_content_type() == "text/html":
            assert LINK in text
            assert text.lower().rstrip().endswith(was[was.lower().rfind("</body") :].lower().rstrip() if "</body" in was.lower() else "</div>")
        else:
            assert text.startswith(was.rstrip("\n"))
            assert text.rstrip("\n").endswith("\n\n" + footer)


@pytest.mark.parametrize("name", NAMES)
def test_twice_is_once(name: str) -> None:
    """A post that comes with its footer gets no second one, and keeps its bytes."""
    once = with_footer(load(name), FOOTER)
    assert bytes(with_footer(once, FOOTER)) == bytes(once)


@pytest.mark.parametrize("name", SEALED)
def test_sealed_posts_stay(name: str) -> None:
    """What is signed or encrypted is not touched: the same object comes back."""
    message = load(name)
    assert with_footer(message, FOOTER) is message


def test_a_quoted_pgp_line_seals_nothing() -> None:
    """An answer that quotes a signed post is no signed post."""
    message = Message.parse(b"Subject: x\r\n\r\n> -----BEGIN PGP SIGNED MESSAGE-----\r\n> Hello\r\n\r\nYes.\r\n")
    assert with_footer(message, ASCII) is not message


@pytest.mark.parametrize("name", ["image-only", "mixed-attachments-only", "calendar-only"])
def test_posts_without_text_get_one(name: str) -> None:
    """A scan or a file gets the footer as its text, first and inline, and is itself unchanged behind it."""
    message = load(name)
    (old,) = leaves(message)
    text, file = leaves(with_footer(message, FOOTER))
    assert (text.get_content_type(), text.get_content_disposition(), text.get_filename()) == ("text/plain", "inline", None)
    assert shown(text).rstrip("\n") == FOOTER
    assert file.get_payload(decode=True) == old.get_payload(decode=True)
    assert (file["content-type"], file["content-disposition"]) == (old["content-type"], old["content-disposition"])


def test_a_bare_invitation_stays_one() -> None:
    """Calendars take an invitation that is an alternative to text; as an attachment Outlook would not."""
    assert with_footer(load("calendar-only"), FOOTER).text("content-type").startswith("multipart/alternative")


@pytest.mark.parametrize(
    ("head", "body", "footer", "charset", "encoding"),
    [
        ("text/plain", "Hello\r\n", ASCII, None, None),
        ("text/plain; charset=us-ascii", "Hello\r\n", "é", "utf-8", "quoted-printable"),
        ("text/plain; charset=iso-8859-1", "Hello\r\n", "é", "iso-8859-1", "quoted-printable"),
        ("text/plain; charset=iso-8859-1", "Hello\r\n", "œ", "utf-8", "quoted-printable"),
        ("text/plain; charset=UTF-8\r\nContent-Transfer-Encoding: 8bit", "é\r\n", "é", "utf-8", "8bit"),
        ("text/plain; charset=windows-1252\r\nContent-Transfer-Encoding: quoted-printable", "=80\r\n", "œ", "windows-1252", "quoted-printable"),
        ("text/plain; charset=windows-1252\r\nContent-Transfer-Encoding: base64", "gA0K", "œ", "windows-1252", "base64"),
        ("text/plain; charset=\"big5\"; format=flowed", "Hello\r\n", "é", "utf-8", "quoted-printable"),
        ("text/html; charset=us-ascii", "<p>Hello</p>\r\n", "é", "us-ascii", None),
        ("text/plain", "", "é", "utf-8", "quoted-printable"),
    ],
)
def test_charset_and_encoding_change_only_where_they_must(head: str, body: str, footer: str, charset: str | None, encoding: str | None) -> None:
    """The part's own charset and transfer encoding hold the footer wherever they can."""
    message = Message.parse(f"MIME-Version: 1.0\r\nContent-Type: {head}\r\n\r\n".encode() + body.encode())
    (leaf,) = leaves(with_footer(message, footer))
    assert leaf.get_content_charset() == charset
    assert leaf["content-transfer-encoding"] == encoding
    assert footer in shown(leaf) or "&#233;" in shown(leaf)


def test_text_that_is_not_what_it_says_stays() -> None:
    """Where the text is not in its charset, not one byte of it changes: the footer's accents give way."""
    message = load("plain-wrong-charset")
    new = with_footer(message, "Se désabonner, l’été")
    assert new.fields == message.fields
    assert new.body.startswith(message.body)
    assert "Se désabonner".encode() in new.body  # in the charset that the part names
    ascii_only = Message.parse(b"Content-Type: text/plain; charset=us-ascii\r\n\r\nVoil\xe0\r\n")
    assert with_footer(ascii_only, "Se désabonner, l’été").body == b"Voil\xe0\r\n\r\nSe desabonner, l'ete\r\n"


def test_appended_text_leaves_the_bytes_before_it() -> None:
    """7bit and 8bit text is a prefix of what goes out."""
    for name in ("plain-ascii", "plain-8bit-utf8", "plain-iso-2022-jp", "plain-unknown-charset"):
        assert with_footer(load(name), ASCII).body.startswith(load(name).body)


def test_flowed_text_flows_nowhere_into_the_footer() -> None:
    """Our lines are stuffed and end in no blank, but for the signature's (RFC 3676)."""
    message = Message.parse(b"Content-Type: text/plain; format=flowed; delsp=yes\r\n\r\nends \r\n")
    body = with_footer(message, "-- \nFrom here \n> x\n y").body
    assert body == b"ends \r\n\r\n-- \r\n From here\r\n > x\r\n  y\r\n"


def test_a_footer_that_is_a_delimiter() -> None:
    """An author who takes a line of the footer for a boundary gains nothing."""
    message = Message.parse(b'Content-Type: multipart/mixed; boundary="--------"\r\n\r\n----------\r\n\r\nHello\r\n------------\r\n')
    (leaf,) = leaves(with_footer(message, "----------\nBoard"))
    assert shown(leaf) == "Hello\n\n----------\nBoard\n"
    for head in (b"Content-Type: application/x", b'Content-Type: multipart/mixed; boundary="--------"'):
        message = Message.parse(head + b"\r\n\r\n----------\r\nContent-Type: image/x\r\n\r\nHello\r\n------------\r\n")
        assert "----------\nBoard" in [shown(leaf).strip() for leaf in leaves(with_footer(message, "----------\nBoard")) if leaf.get_content_type() == "text/plain"]


def test_html_is_escaped_and_linked() -> None:
    """The footer is text: its angle brackets show, its links work, and what ends a sentence is not in them."""
    footer = '<script>alert("x")</script> & see https://asso.example/a?b=1&c="d" (http://x.example/y).'
    html = with_footer(Message.parse(b"Content-Type: text/html\r\n\r\n<BODY>x</BODY></HTML>"), footer).body.decode()
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert '<a href="https://asso.example/a?b=1&amp;c=">' in html
    assert '(<a href="http://x.example/y">http://x.example/y</a>).' in html
    assert html.endswith("</div>\r\n</BODY></HTML>")


@pytest.mark.parametrize("footer", ["", " ", "\n\n", "\n \n"])
def test_no_footer_is_no_change(footer: str) -> None:
    """An empty footer gives the same object."""
    message = load("html-outlook")
    assert with_footer(message, footer) is message


def test_control_characters_do_not_get_in() -> None:
    """Nothing of a list's subject makes a line end or a control character."""
    body = with_footer(load("plain-ascii"), "a\0\x1b[31m\rb\ud800").body
    assert not any(byte in body for byte in b"\0\x1b")
    assert body.count(b"\r") == body.count(b"\r\n")


@given(BODIES, st.sampled_from([FOOTER, ASCII]))
def test_no_bytes_raise(body: bytes, footer: str) -> None:
    """Whatever comes, it goes out, and once more the same."""
    for kind in (b"text/plain", b"text/html; charset=utf-16", b"image/png", *(b"multipart/%s; boundary=a" % k for k in (b"mixed", b"alternative"))):
        message = Message.parse(b"Content-Type: " + kind + b"\r\n\r\n" + body)
        new = with_footer(message, footer)
        again = Message.parse(bytes(new))
        assert bytes(with_footer(again, footer)) == bytes(new)
        try:
            mime.parts(again)
        except mime.TooComplex:
            assert new is message


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"--a\r\n--a--\r\n", id="no header, no body"),
        pytest.param(b"--a\r\nContent-Language: fr\r\n--a--\r\n", id="a header that a delimiter ends"),
        pytest.param(b"--a\r\nno header\r\n--a--\r\n", id="no header"),
        pytest.param(b"--a", id="broken off in the delimiter"),
        pytest.param(b"--a\r\nContent-Language: fr", id="broken off in the header"),
    ],
)
@pytest.mark.parametrize("footer", [FOOTER, ASCII], ids=["accents", "ascii"])
def test_broken_parts_show_it_too(body: bytes, footer: str) -> None:
    """A part that breaks off gets what it lacks, so that the footer is text and neither header nor delimiter."""
    (leaf, *_rest) = leaves(with_footer(Message.parse(b"Content-Type: multipart/mixed; boundary=a\r\n\r\n" + body), footer))
    assert shown(leaf).strip().endswith(footer)


def test_too_many_parts_stay() -> None:
    """What is nested beyond measure is not looked into."""
    message = nested(1_200)
    assert with_footer(message, FOOTER) is message


def test_large_posts_take_little_time() -> None:
    """Ten megabytes get their footer in a few seconds."""
    start = time.monotonic()
    for head in (b"Content-Type: text/html", b"Content-Type: text/plain\r\nContent-Transfer-Encoding: quoted-printable", b"Content-Transfer-Encoding: base64"):
        with_footer(Message.parse(head + b"\r\n\r\n" + b"</body </html -----BEGIN PGP QUJD=\r\n" * 280_000), FOOTER)
    assert time.monotonic() - start < 20
