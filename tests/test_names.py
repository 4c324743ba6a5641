"""Names of lists: what one may be, and what is said of those that say too little."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from database_fixture import DOMAIN, SHELL, open_list, open_site
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kelou import database, destination, lifecycle, names
from kelou.config import Config
from kelou.models import OldName
from kelou.refusal import BadData, CannotCreate, Refusal


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Config]:
    config = open_site(tmp_path, site__command_addresses=("sympa", "Commandes"))
    with database.connection():
        yield config


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("formation", "formation"),
        ("CA-Amis.2026", "ca-amis.2026"),
        (" formation ", "formation"),
        ("a", "a"),
        ("7e_ciel", "7e_ciel"),
        ("x" * 50, "x" * 50),
        ("sympa-users", "sympa-users"),
        ("request-for-comments", "request-for-comments"),
        ("homeowners", "homeowners"),
    ],
)
def test_names_that_can_be(config: Config, given: str, name: str) -> None:
    """Letters, digits, and - _ . between them, up to 50 of them, in lower case."""
    assert names.check(given, DOMAIN, config) == name


@pytest.mark.parametrize(
    "name",
    [
        "", ".", "..", "../../x", "/etc/passwd", "a/b", "a\\b", "-request", "-a", "a-", ".a", "a.", "a..b", "_a", "a b", "a\tb", "a\nb", "a\0b", "a+b",
        "a@b", "a;b", "$(id)", "`id`", "a'b", 'a"b', "été", "a\u3002b", "a\uff0eb", "a\u2024b", "\u212aelvin", "a\u200bb", "%41", "x" * 51, "a" * 5000,
    ],
)  # fmt: skip
def test_names_that_can_not_be(config: Config, name: str) -> None:
    """What could be a path, a word of a shell, another address or another name on another screen is refused as bad data."""
    with pytest.raises(BadData):
        names.check(name, DOMAIN, config)


@pytest.mark.parametrize("suffix", destination.FUNCTIONS)
def test_the_suffixes_of_addresses_are_reserved(config: Config, suffix: str) -> None:
    """No list ends as a list's own other addresses do, in any case."""
    for name in (f"amis-{suffix}", f"AMIS-{suffix.upper()}"):
        with pytest.raises(CannotCreate, match=f"-{suffix}"):
            names.check(name, DOMAIN, config)


@pytest.mark.parametrize(
    "name",
    [
        "sympa",
        "SYMPA",
        "commandes",
        "listmaster",
        "bounce",
        "bounces",
        "postmaster",
        "abuse",
        "mailer-daemon",
        "root",
        "hostmaster",
        "webmaster",
    ],
)
def test_names_of_the_host_are_reserved(config: Config, name: str) -> None:
    """The addresses that a mail host must have, and the command addresses, are no lists."""
    with pytest.raises(CannotCreate, match="reserved"):
        names.check(name, DOMAIN, config)


def test_a_name_is_given_once(config: Config) -> None:
    """A list's name is taken, in whatever case, also while it is pending."""
    lifecycle.request(config, SHELL, "amis", type="discussion", subject="x", owner="a@example.org")
    with pytest.raises(CannotCreate, match=r"amis@lists\.example\.org already"):
        names.check("Amis", DOMAIN, config)


def test_an_old_name_is_taken_for_as_long_as_it_answers(config: Config) -> None:
    """A name that a renamed list had can be given again when its address answers no more."""
    lifecycle.rename(config, SHELL, open_list(config), "copains")
    with pytest.raises(CannotCreate, match="copains"):
        names.check("amis", DOMAIN, config)
    OldName.update(until=1).execute()
    assert names.check("amis", DOMAIN, config) == "amis"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=60) | st.text("ab-._+/@ \0é", max_size=60))
def test_any_text_is_a_name_or_refused(config: Config, text: str) -> None:
    """Whatever is given, the answer is a name that is one plain local part, or a refusal."""
    try:
        name = names.check(text, DOMAIN, config)
    except Refusal:
        return
    assert re.fullmatch(r"[a-z0-9]+([a-z0-9._-]*[a-z0-9])?", name)
    assert ".." not in name


@pytest.mark.parametrize(
    ("name", "organisation", "proposed"),
    [
        pytest.param("ca", "Kaz", "kaz-ca", id="a short name goes in front"),
        pytest.param("ca", "Les Amis du Vieux Port", "amis-vieux-port-ca", id="small words go, if that makes it short"),
        pytest.param(
            "bureau", "Association pour la promotion de l'éducation populaire en Bretagne", "apepb-bureau", id="initials, if it is long"
        ),
        pytest.param("info", "L’Œuvre", "l-oeuvre-info", id="ligatures and apostrophes"),
        pytest.param("les-membres", "Kaz", "kaz-les-membres", id="small words do not make it telling"),
        pytest.param("news2026", "Kaz", "kaz-news2026", id="nor does a year"),
        pytest.param("contact", "", "", id="no organisation, no proposal"),
        pytest.param("contact", "Контакт", "", id="an organisation without a Latin letter"),
        pytest.param("info", "Info", "", id="an organisation that says as little"),
    ],
)
def test_general_names_get_advice(config: Config, name: str, organisation: str, proposed: str) -> None:
    """A name that many organisations could want is accepted with advice, and a proposal that says whose list it is."""
    advice = names.advice(name, DOMAIN, organisation, config)
    assert advice is not None
    assert advice.name == proposed
    assert name in advice.text


@pytest.mark.parametrize("name", ["contact", "info", "ca", "bureau", "news", "newsletter", "lettre", "adherents", "membres", "conseil", "board", "team",
                                  "liste", "test", "all", "tous"])  # fmt: skip
def test_which_names_are_general(config: Config, name: str) -> None:
    """These say nothing of whose list it is."""
    assert names.advice(name, DOMAIN, "Kaz", config) == names.Advice(
        f"{name} is too general a name where many organisations have lists; kaz-{name} would say whose it is", f"kaz-{name}"
    )


@pytest.mark.parametrize("name", ["amis", "kaz-ca", "ca-vieux-port", "jardins", "catalogue"])
def test_telling_names_get_none(config: Config, name: str) -> None:
    """A name with one word of its own is fine."""
    assert names.advice(name, DOMAIN, "Kaz", config) is None


def test_the_proposal_is_free(config: Config) -> None:
    """What is proposed is not taken, reserved or too long: the next form is."""
    open_list(config, "vieux-port-ca")
    advice = names.advice("ca", DOMAIN, "Vieux Port", config)
    assert advice is not None
    assert advice.name == "vp-ca"
