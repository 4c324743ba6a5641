"""Guards of the host's reputation: a list's posts an hour, and its first posts to many, which the listmasters see first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from database_fixture import SHELL, person
from moderation_fixture import ALICE, MOIRA, Moderated, post

from kelou import moderation, people
from kelou.database import transaction
from kelou.models import Post
from kelou.refusal import NotPermitted

MASTER = "master@example.com"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Moderated]:
    made = Moderated(tmp_path, type="discussion")
    people.add_listmaster(made.config, SHELL, MASTER)
    made.peer.letters.clear()
    yield made
    made.close()


def test_a_flood_is_held(site: Moderated) -> None:
    """From the hour's last post on, posts wait for a moderator; an hour later the list is as before."""
    site.set(hourly_posts="2")
    assert [site.deliver(post(number), author=ALICE).status for number in (1, 2)] == ["2.0.0"] * 2
    number = site.hold(post(3))
    assert site.row(number).rule == "too_often"
    assert len(site.mails(MOIRA)) == 1
    with transaction():
        Post.update(received=Post.received - 3700).execute()
    assert site.deliver(post(4), author=ALICE).status == "2.0.0"


def test_the_first_posts_are_the_listmasters(site: Moderated) -> None:
    """They are told, and they alone decide; what they let out counts, and then the list is on its own."""
    site.set(watched_posts="1", watched_from="3")
    number = site.hold(post(1))
    assert site.row(number).rule == "first_posts"
    assert (len(site.mails(MASTER)), len(site.mails(MOIRA))) == (1, 0)
    with pytest.raises(NotPermitted):
        moderation.approve(site.config, person(MOIRA), number)
    assert moderation.approve(site.config, person(MASTER), number).changed
    assert site.run() == [250]
    assert site.deliver(post(2), author=ALICE).status == "2.0.0"


def test_a_key_of_a_listmaster_decides(site: Moderated) -> None:
    """By mail too."""
    site.set(watched_posts="1", watched_from="3")
    number = site.hold(post(1))
    site.answer(site.key(MASTER), "approve", reverse_path=MASTER)
    assert site.row(number).state == "approved"


def test_small_lists_are_not_watched(site: Moderated) -> None:
    """Below the number of subscribers nobody is bothered; and by default no list is."""
    assert site.deliver(post(1), author=ALICE).status == "2.0.0"
    site.set(watched_posts="5", watched_from="4")
    assert site.deliver(post(2), author=ALICE).status == "2.0.0"


def test_posts_of_both_kinds_are_told_apart(site: Moderated) -> None:
    """A daily notice goes to the moderators with theirs, and to the listmasters with theirs."""
    site.set(held_notices="daily", watched_posts="9", watched_from="3")
    first = site.hold(post(1))
    site.set(watched_posts="0", post="moderated")
    second = site.hold(post(2))
    site.later(2 * 86400)
    moderation.maintain(site.config)
    assert [len(site.mails(to)) for to in (MASTER, MOIRA)] == [1, 1]
    assert (site.row(first).rule, site.row(second).rule) == ("first_posts", "moderated")
