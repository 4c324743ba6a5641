"""Return-paths of one subscriber: a token says whose it is, and nobody else can make one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kelou import returnpath
from kelou.returnpath import BOUNCES, LEAVE, LENGTH, Mark
from kelou.secret import Secret

SECRET = Secret(b"x" * 32)
NOW = 20_000 * 86400 + 5


@given(st.integers(1, 2**24 - 1), st.integers(1, 2**32 - 1), st.integers(0, 65_535))
def test_what_was_made_is_read(list_id: int, subscription: int, day: int) -> None:
    """A token says list, subscription and day, in 28 lower-case letters and digits."""
    token = returnpath.make(SECRET, BOUNCES, list_id, subscription, day * 86400)
    assert returnpath.read(SECRET, BOUNCES, token) == Mark(list_id, subscription, day)
    assert len(token) == LENGTH
    assert token.isalnum()
    assert token == token.lower()


def test_case_is_folded_on_the_way() -> None:
    """Some mail systems write local parts in capitals."""
    token = returnpath.make(SECRET, LEAVE, 1, 2, NOW)
    assert returnpath.read(SECRET, LEAVE, token.upper()) == Mark(1, 2, 20_000)


def test_it_shows_nothing() -> None:
    """Neighbours' tokens have nothing in common, and a day's do not show each other's numbers."""
    tokens = [returnpath.make(SECRET, LEAVE, 1, number, NOW) for number in range(50)]
    for place in range(LENGTH - 1):  # the last character has bits to spare
        assert len({token[place] for token in tokens}) > 5


@pytest.mark.parametrize("place", range(LENGTH))
def test_a_changed_token_is_none(place: int) -> None:
    """Not one character can be another."""
    token = returnpath.make(SECRET, BOUNCES, 1, 2, NOW)
    others = (token[:place] + letter + token[place + 1 :] for letter in "abcdefghijklmnopqrstuvwxyz234567" if letter != token[place])
    assert not any(returnpath.read(SECRET, BOUNCES, other) for other in others)


def test_each_purpose_and_each_site_has_its_own() -> None:
    """Who sees a return-path in a report can not unsubscribe by it, and another site's token is none here."""
    token = returnpath.make(SECRET, BOUNCES, 1, 2, NOW)
    assert returnpath.read(SECRET, LEAVE, token) is None
    assert returnpath.read(Secret(b"y" * 32), BOUNCES, token) is None


@given(st.text(max_size=40))
def test_any_text_is_no_token(text: str) -> None:
    """What a stranger makes up is none, whatever it is."""
    assert returnpath.read(SECRET, BOUNCES, text) is None


@pytest.mark.parametrize("text", ["", "a" * 27, "a" * 28, "1" * 28, "é" * 28, "=" * 28, "a" * 29, "ａ" * 28, "\0" * 28])
def test_odd_texts(text: str) -> None:
    """Wrong lengths, letters that base32 has not, letters that are not ASCII."""
    assert returnpath.read(SECRET, BOUNCES, text) is None


def test_age() -> None:
    """Whether a token is too old is for who reads it to say."""
    assert Mark(1, 2, 20_000).age(NOW) == 0
    assert Mark(1, 2, 20_000).age(NOW + 3 * 86400) == 3
