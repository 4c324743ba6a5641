"""Digests: whoever wants posts together gets each of them, in one mail, once; and holidays."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from database_fixture import SHELL
from moderation_fixture import ALICE, BOB, CAROL, Moderated, post

from kelou import digest, people
from kelou.config import Config
from kelou.database import connection
from kelou.distribution import Distributor
from kelou.lmtp.delivery import Door
from kelou.models import DigestPost, Post, Subscription, now
from kelou.refusal import BadData, NotPermitted

DAY = 86400
PAGE = "<html><body><p>Caf\u00e9 <b>at</b> five</p></body></html>"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Moderated]:
    made = Moderated(tmp_path, type="discussion")
    made.config = Config(made.config.path, {**made.config.values, "postfix.copies": made.peer.endpoint})
    made.door = Door(made.config, made.secret, Distributor(made.config, made.secret, "this"))
    made.set(language="en", delivery="shared")
    yield made
    made.close()


def mode(site: Moderated, address: str, **values: str) -> dict[str, Any]:
    return people.update(site.config, SHELL, site.list, address, values)


def maintain(site: Moderated) -> int:
    """What the timer does, and what Postfix then brings of it; how many digests there were."""
    site.peer.letters.clear()
    count = digest.maintain(site.config)["digests"]
    for letter in list(site.peer.letters):
        if letter.recipients[0].startswith("kelou-distribute+"):
            assert site.deliver(letter.content, letter.recipients[0], "").code == 250
    return count


def sent(site: Moderated, address: str) -> list[EmailMessage]:
    return [email.message_from_bytes(one.content, policy=email.policy.default) for one in site.peer.letters if address in one.recipients]


def test_a_mime_digest_holds_each_post(site: Moderated) -> None:
    """Who reads digests gets no post, and later one mail with an index and each post as it came; the others get each post."""
    mode(site, BOB, mode="digest")
    for number in (1, 2):
        assert site.deliver(post(number, subject=f"News {number}", body=f"Text {number}"), author=ALICE).code == 250
    assert (len(sent(site, CAROL)), sent(site, BOB)) == (2, [])
    site.set(digest="0s")
    assert maintain(site) == 1
    (got,) = sent(site, BOB)
    assert sent(site, CAROL) == []
    index, holder = got.iter_parts()
    assert "News 1" in index.get_content()
    assert "News 2" in index.get_content()
    assert holder.get_content_type() == "multipart/digest"
    posts = [part.get_payload(0) for part in holder.iter_parts()]
    assert [(one["Subject"], one["Message-ID"], one.get_content().strip()) for one in posts] == [
        ("News 1", "<1@example.org>", "Text 1"), ("News 2", "<2@example.org>", "Text 2")]  # fmt: skip
    assert got["List-Id"]
    assert got["List-Unsubscribe"]
    assert got["Message-ID"] not in ("<1@example.org>", "<2@example.org>")
    assert maintain(site) == 0


def test_a_plain_digest_is_one_text(site: Moderated) -> None:
    """RFC 1153: 70 hyphens below the index, 30 between posts, which no post can write itself; HTML is shown as text."""
    mode(site, BOB, mode="digestplain")
    site.deliver(post(1, subject="Lines", body="-" * 40), author=ALICE)
    page = post(2, body=PAGE, extra="MIME-Version: 1.0\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n")
    site.deliver(page, author=ALICE)
    site.set(digest="0s")
    maintain(site)
    (got,) = sent(site, BOB)
    text = got.get_content().replace("\r\n", "\n")
    assert got.get_content_type() == "text/plain"
    assert text.count("\n\n" + "-" * 70 + "\n\n") == 1
    assert text.count("\n\n" + "-" * 30 + "\n") == 2
    assert "\n " + "-" * 40 + "\n" in text
    assert "Caf\u00e9 at five" in text
    assert "<b>" not in text


@pytest.mark.parametrize("form", ["digest", "digestplain"])
def test_encrypted_posts_are_left_out(site: Moderated, form: str) -> None:
    """The index names them; what is in them is for their readers one by one."""
    mode(site, BOB, mode=form)
    site.deliver(post(1, subject="Secret", body="-----BEGIN PGP MESSAGE-----\r\n\r\nhQEMA\r\n-----END PGP MESSAGE-----"), author=ALICE)
    site.set(digest="0s")
    maintain(site)
    (got,) = sent(site, BOB)
    assert "Secret" in got.as_string()
    assert "encrypted" in got.as_string()
    assert b"hQEMA" not in got.as_bytes()


def test_a_digest_waits_for_its_day_or_its_size(site: Moderated) -> None:
    """Nothing goes out before the oldest post is a day old, unless there is enough of it."""
    mode(site, BOB, mode="digest")
    site.deliver(post(1), author=ALICE)
    assert maintain(site) == 0
    with connection():
        Post.update(received=now() - DAY).execute()
    assert maintain(site) == 1
    site.set(digest_size="1K")
    for number in (2, 3, 4):
        site.deliver(post(number, body="x" * 70 + "\r\n" + "y" * 500), author=ALICE)
    assert maintain(site) == 3
    assert len(sent(site, BOB)) == 3


def test_a_retried_post_is_in_the_digest_once(site: Moderated) -> None:
    """Postfix brings a post again: it is kept for the digest once."""
    mode(site, BOB, mode="digest")
    for _time in range(2):
        site.deliver(post(1), author=ALICE)
    with connection():
        assert DigestPost.select().count() == 1


def test_a_digest_that_was_made_goes_out_whatever_dies(site: Moderated) -> None:
    """Postfix does not answer: the digest is kept like an approved post, tried again, and its readers get it once."""
    mode(site, BOB, mode="digest")
    site.deliver(post(1), author=ALICE)
    site.set(digest="0s")
    maintain(site)
    triggers = [one for one in site.peer.letters if one.recipients[0].startswith("kelou-distribute+")]
    for _time in range(2):
        assert site.deliver(triggers[0].content, triggers[0].recipients[0], "").code == 250
    assert len(sent(site, BOB)) == 1
    with connection():
        assert DigestPost.select().count() == 0


def test_without_digests_their_readers_get_each_post(site: Moderated) -> None:
    """A list that has none can not be read so, and who did before is not forgotten."""
    mode(site, BOB, mode="digest")
    site.set(digest="0s")
    with pytest.raises(NotPermitted):
        mode(site, CAROL, mode="digest")
    site.deliver(post(1), author=ALICE)
    assert len(sent(site, BOB)) == 1


def test_on_holiday_nothing_comes(site: Moderated) -> None:
    """From the first day to the end of the last; then it ends by itself."""
    row = mode(site, BOB, suspended="2020-01-01..2100-02-01")
    assert (row["suspended"], row["mode"]) == ("2020-01-01..2100-02-01", "mail")
    site.deliver(post(1), author=ALICE)
    assert sent(site, BOB) == []
    with connection():
        Subscription.update(suspended_until=now()).where(Subscription.suspended_until.is_null(False)).execute()
    site.deliver(post(2), author=ALICE)
    assert len(sent(site, BOB)) == 1
    assert next(one for one in people.subscribers(site.list) if one["email"] == BOB)["suspended"] is None


@pytest.mark.parametrize("days", ["2027-02-01..2027-01-01", "2027-01-01", "soon", "2027-02-30..2027-03-01", "2020-01-01..2020-02-01"])
def test_holidays_that_can_not_be(site: Moderated, days: str) -> None:
    """Two days, the first one first, and not over."""
    with pytest.raises(BadData):
        mode(site, BOB, suspended=days)
