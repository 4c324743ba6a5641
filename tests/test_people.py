"""People: accounts, roles, subscriptions; who may change them, and what a second time does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from database_fixture import DOMAIN, SHELL, audited, open_list, open_site, person
from hypothesis import given
from hypothesis import strategies as st
from smtppeer import Peer

from kelou import database, lifecycle, people
from kelou.config import Config
from kelou.directory import ListView
from kelou.models import Account, Block, Bounce, Listmaster, MailingList, Role, Subscription
from kelou.refusal import BadData, NotFound, NotPermitted

OWNER, STRANGER = person("owner@example.org"), person("stranger@example.net")


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Config]:
    config = open_site(tmp_path)
    with database.connection():
        yield config


@pytest.fixture
def amis(config: Config) -> ListView:
    return open_list(config)


def emails(the_list: ListView) -> list[str]:
    return [row["email"] for row in people.subscribers(the_list)]


def test_an_account_keeps_its_first_spelling(config: Config) -> None:
    """One account an address, whatever its case; spelling and name first given stay, an empty name is filled in."""
    first = people.account("Jane.Doe@Example.ORG")
    again = people.account("jane.doe@example.org", "Jane")
    third = people.account("JANE.DOE@example.org", "Other", "fr")
    assert (first.id, again.id) == (third.id, third.id)
    assert (third.address, third.key, third.name, third.language) == ("Jane.Doe@Example.ORG", "jane.doe@example.org", "Jane", "fr")


@pytest.mark.parametrize(
    "address",
    [
        "",
        "jane",
        "jane@",
        "@example.org",
        "jane@example",
        "a b@example.org",
        "a@exa\0mple.org",
        "<a@example.org>",
        "a@b.org,c@d.org",
    ],
)
def test_a_broken_address_is_bad_data(config: Config, amis: ListView, address: str) -> None:
    """What is no address makes no account, with a line that shows it."""
    with pytest.raises(BadData, match="is not an address"):
        people.subscribe(config, SHELL, amis, address)
    assert emails(amis) == []


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("  Jane   Doe ", "Jane Doe"),
        ('"Doe, Jane"', "Doe, Jane"),
        ("Jane\r\nBcc: x@y", "Jane Bcc: x@y"),
        ("Jane\x1b[2J\x00\x7f\x9b", "Jane [2J"),
        ("\u202eenaJ\u200b\ufeff", "enaJ"),
        ("=?utf-8?q?J=C3=A9r=C3=B4me?=", "Jérôme"),
        ("Jérôme\u00a0Dupont", "Jérôme Dupont"),
        ("x" * 500, "x" * 150),
        ('"', '"'),
    ],
)
def test_a_name_is_one_plain_line(given: str, name: str) -> None:
    """Names lose line ends, what one does not see, and quotes around them."""
    assert people.clean_name(given) == name


@given(st.text())
def test_cleaning_a_name_twice_changes_nothing_unseen(text: str) -> None:
    """Whatever is given, a name is printable, one line and at most 150 characters long."""
    name = people.clean_name(text)
    assert len(name) <= 150
    assert len(name.splitlines()) <= 1
    assert name == name.strip()
    name.encode("utf-8")


def test_subscribing_twice(config: Config, amis: ListView) -> None:
    """The second time is no failure, and changes nothing."""
    first = people.subscribe(config, OWNER, amis, "Jane@Example.org", "Jane", quiet=True)
    second = people.subscribe(config, OWNER, amis, "jane@example.org", quiet=True)
    assert (first.result, first.email, second.result, second.done) == ("added", "Jane@Example.org", "already", True)
    [row] = people.subscribers(amis)
    assert (row["email"], row["name"], row["mode"], row["source"], row["posting"], row["bounce_score"]) == (
        "Jane@Example.org",
        "Jane",
        "mail",
        "add",
        "default",
        None,
    )
    assert row["since"].endswith("Z")
    held = Subscription.get()
    assert (held.added_by, held.own_posts) == ("owner@example.org", True)
    assert [entry for entry in audited() if entry[1] == "member add"] == [("owner@example.org", "member add", amis.address)]


def test_nobody_is_added_to_a_list_that_is_not_open(config: Config) -> None:
    """A pending or closed list takes no subscribers, unless a listmaster forces it."""
    pending = lifecycle.request(config, SHELL, "attente", type="discussion", subject="x", owner="owner@example.org").list
    closed = lifecycle.close(config, SHELL, open_list(config, "fermee")).list
    for the_list, word in ((pending, "activated"), (closed, "reopens")):
        with pytest.raises(NotPermitted, match=word):
            people.subscribe(config, SHELL, the_list, "a@example.org")
        with pytest.raises(NotPermitted, match="not a listmaster"):
            people.subscribe(config, OWNER, the_list, "a@example.org", force=True)
        assert people.subscribe(config, SHELL, the_list, "a@example.org", force=True).result == "added"


def test_a_site_may_let_pending_lists_take_subscribers(tmp_path: Path) -> None:
    """With lists.pending_subscribers owners can prepare those, too."""
    config = open_site(tmp_path, lists__pending_subscribers=True)
    pending = lifecycle.request(config, SHELL, "attente", type="discussion", subject="x", owner="owner@example.org").list
    assert people.subscribe(config, OWNER, pending, "a@example.org").result == "added"


def test_blocked_and_full(config: Config, amis: ListView) -> None:
    """Who is on the block list is not added, nor anybody to a full list; who is subscribed stays so."""
    Block.create(pattern="@spam.example")
    Block.create(list=amis.id, pattern="troll@example.org")
    assert [people.subscribe(config, SHELL, amis, address).result for address in ("x@mail.spam.example", "Troll@example.org")] == [
        "blocked"
    ] * 2
    full = lifecycle.set_values(config, SHELL, amis, {"max_subscribers": "1"}).list
    assert [people.subscribe(config, SHELL, full, address).result for address in ("a@example.org", "b@example.org", "a@example.org")] == [
        "added",
        "full",
        "already",
    ]
    assert emails(amis) == ["a@example.org"]


@pytest.mark.parametrize(
    "address", [f"amis@{DOMAIN}", f"amis-bounces@{DOMAIN}", f"amis-request@{DOMAIN}", f"sympa@{DOMAIN}", f"postmaster@{DOMAIN}"]
)
def test_the_services_own_addresses_do_not_subscribe(config: Config, amis: ListView, address: str) -> None:
    """What would send a list's posts back to it is refused."""
    with pytest.raises(BadData, match="of the list service itself"):
        people.subscribe(config, SHELL, amis, address)
    assert people.subscribe(config, SHELL, amis, open_list(config, "toutes").address).result == "added"


def test_leaving(config: Config, amis: ListView) -> None:
    """Owners remove people, and everyone themselves, also from a closed list; nobody else does."""
    for address in ("a@example.org", "b@example.org", "stranger@example.net"):
        people.subscribe(config, SHELL, amis, address)
    with pytest.raises(NotPermitted, match="not an owner"):
        people.unsubscribe(config, STRANGER, amis, "a@example.org")
    assert people.unsubscribe(config, OWNER, amis, "A@example.org").result == "removed"
    closed = lifecycle.close(config, SHELL, amis).list
    assert people.unsubscribe(config, STRANGER, closed, "stranger@example.net").result == "removed"
    assert people.unsubscribe(config, SHELL, closed, "a@example.org") == people.Result("a@example.org", "absent")
    assert emails(amis) == ["b@example.org"]


def test_adding_needs_an_owner(config: Config, amis: ListView) -> None:
    """A stranger adds nobody, not even themselves."""
    with pytest.raises(NotPermitted, match="not an owner"):
        people.subscribe(config, STRANGER, amis, "stranger@example.net")


def test_changing_a_subscription(config: Config, amis: ListView) -> None:
    """Mode, own posts, posting and name change, all or none; the subscribers themselves change all but their posting right."""
    people.subscribe(config, SHELL, amis, "jane@example.org")
    jane = person("jane@example.org")
    assert (
        people.update(config, jane, amis, "Jane@example.org", {"mode": "nomail", "own_posts": "no", "name": " Jane  Doe "})["name"]
        == "Jane Doe"
    )
    with pytest.raises(NotPermitted):
        people.update(config, jane, amis, "jane@example.org", {"posting": "accept", "name": "x"})
    row = people.update(config, OWNER, amis, "jane@example.org", {"posting": "hold"})
    assert (row["mode"], row["own_posts"], row["posting"], row["name"]) == ("nomail", False, "hold", "Jane Doe")
    assert people.update(config, OWNER, amis, "jane@example.org", {"posting": "default"})["posting"] == "default"
    for wrong in ({"mode": "digestive"}, {"mood": "mail"}, {"mode": "mail", "posting": "x"}):
        with pytest.raises(BadData):
            people.update(config, SHELL, amis, "jane@example.org", wrong)
    assert Subscription.get().mode == "nomail"
    with pytest.raises(NotFound, match="not subscribed"):
        people.update(config, SHELL, amis, "john@example.org", {"mode": "mail"})


def test_roles(config: Config, amis: ListView) -> None:
    """Owners and moderators come and go; one owner is advised against, the last one stays."""
    assert people.add_role(config, OWNER, amis, "moderator", "mod@example.org", "Mo").detail == ""
    assert "only one owner" in people.add_role(config, OWNER, amis, "owner", "OWNER@example.org").detail
    assert people.add_role(config, OWNER, amis, "owner", "two@example.org").detail == ""
    assert "only one owner" in people.remove_role(config, OWNER, amis, "owner", "two@example.org").detail
    with pytest.raises(NotPermitted, match="last owner"):
        people.remove_role(config, SHELL, amis, "owner", "owner@example.org")
    assert people.remove_role(config, SHELL, amis, "owner", "two@example.org").result == "absent"
    assert [(row["email"], row["name"]) for row in people.holders(amis, "moderator")] == [("mod@example.org", "Mo")]
    assert people.remove_role(config, SHELL, amis, "moderator", "mod@example.org").result == "removed"
    assert [row["email"] for row in people.holders(amis, "owner")] == ["owner@example.org"]


@pytest.mark.parametrize(
    "verb",
    [
        pytest.param(lambda c, on: people.add_role(c, STRANGER, on, "owner", "stranger@example.net"), id="become owner"),
        pytest.param(lambda c, on: people.remove_role(c, STRANGER, on, "moderator", "mod@example.org"), id="remove a moderator"),
        pytest.param(lambda c, on: people.add_listmaster(c, OWNER, "owner@example.org"), id="become listmaster"),
        pytest.param(lambda c, on: people.remove_listmaster(c, OWNER, "master@example.org"), id="remove a listmaster"),
        pytest.param(lambda c, on: people.move(c, OWNER, "mod@example.org", "owner@example.org"), id="take another's subscriptions"),
    ],
)  # fmt: skip
def test_nobody_raises_themselves(config: Config, amis: ListView, verb: Callable[[Config, ListView], object]) -> None:
    """Roles are given by owners, the listmasters' by listmasters, and addresses moved by these."""
    people.add_listmaster(config, SHELL, "master@example.org")
    people.add_role(config, SHELL, amis, "moderator", "mod@example.org")
    with pytest.raises(NotPermitted, match="is not"):
        verb(config, amis)
    assert (Role.select().count(), Listmaster.select().count()) == (2, 1)


def test_listmasters(config: Config) -> None:
    """The last listmaster can only be removed from the shell."""
    master = person("master@example.org")
    assert [people.add_listmaster(config, SHELL, "Master@example.org").result for _time in (1, 2)] == ["added", "already"]
    with pytest.raises(NotPermitted, match="last listmaster"):
        people.remove_listmaster(config, master, "master@example.org")
    people.add_listmaster(config, master, "two@example.org", "Two")
    assert [row["email"] for row in people.listmasters()] == ["Master@example.org", "two@example.org"]
    assert [people.remove_listmaster(config, SHELL, "two@example.org").result for _time in (1, 2)] == ["removed", "absent"]


def test_finding_somebody(config: Config, amis: ListView) -> None:
    """One look tells every list that somebody is on, as what."""
    people.subscribe(config, SHELL, amis, "owner@example.org")
    people.subscribe(config, SHELL, open_list(config, "autre", "b@example.org"), "owner@example.org")
    lists = [(row["list"], row["roles"], row["mode"]) for row in people.find(config, "Owner@Example.org")]
    assert lists == [("amis@lists.example.org", ["owner"], "mail"), ("autre@lists.example.org", [], "mail")]
    [row] = people.find(config, "b@example.org")
    assert (row["list"], row["roles"], row["mode"], row["since"]) == ("autre@lists.example.org", ["owner"], None, None)
    with pytest.raises(NotFound):
        people.find(config, "nobody@example.org")


def test_moving_keeps_everything(config: Config, amis: ListView) -> None:
    """A new address takes over roles and subscriptions as they are; failures of the old one do not count for it."""
    people.subscribe(config, SHELL, amis, "owner@example.org", "Ada")
    people.update(config, SHELL, amis, "owner@example.org", {"mode": "nomail"})
    Bounce.create(list=amis.id, account=people.account("owner@example.org"), kind="hard")
    assert people.move(config, SHELL, "Owner@example.org", "Ada@Example.net").result == "moved"
    [row] = people.find(config, "ada@example.net")
    assert (row["email"], row["name"], row["mode"], row["roles"]) == ("Ada@Example.net", "Ada", "nomail", ["owner"])
    assert (Account.select().count(), Bounce.select().count()) == (1, 0)
    assert Account.get().domain == "example.net"
    with pytest.raises(NotFound):
        people.move(config, SHELL, "owner@example.org", "x@example.org")


def test_moving_onto_an_account_merges(config: Config, amis: ListView) -> None:
    """Where both addresses are known, the new one keeps its own subscription, and gets the other's besides."""
    autre = open_list(config, "autre", "old@example.org")
    people.add_listmaster(config, SHELL, "old@example.org")
    people.subscribe(config, SHELL, amis, "old@example.org", "Ada")
    people.subscribe(config, SHELL, autre, "old@example.org")
    people.subscribe(config, SHELL, amis, "new@example.org")
    people.update(config, SHELL, amis, "new@example.org", {"mode": "nomail"})
    assert people.move(config, SHELL, "old@example.org", "new@example.org").result == "merged"
    assert [(row["list"], row["roles"], row["mode"], row["name"]) for row in people.find(config, "new@example.org")] == [
        ("amis@lists.example.org", [], "nomail", "Ada"),
        ("autre@lists.example.org", ["owner"], "mail", "Ada"),
    ]
    assert [row["email"] for row in people.listmasters()] == ["new@example.org"]
    assert not Account.select().where(Account.key == "old@example.org").exists()
    assert MailingList.select().count() == 2


def test_moving_respells(config: Config, amis: ListView) -> None:
    """An address is moved onto another spelling of itself."""
    people.subscribe(config, SHELL, amis, "jane@example.org")
    assert people.move(config, SHELL, "jane@example.org", "Jane@Example.org").result == "moved"
    assert emails(amis) == ["Jane@Example.org"]


def test_nobody_moves_onto_a_blocked_address(config: Config, amis: ListView) -> None:
    """The block list holds for new addresses, too."""
    Block.create(pattern="@spam.example")
    with pytest.raises(NotPermitted, match="block list"):
        people.move(config, SHELL, "owner@example.org", "x@spam.example")


def test_people_are_told(tmp_path: Path) -> None:
    """Who is added gets a welcome, who is removed a goodbye; neither if it is done quietly, or Postfix is down: that is said."""
    peer = Peer()
    config = open_site(tmp_path, peer.endpoint)
    the_list = open_list(config)
    peer.letters.clear()
    people.subscribe(config, OWNER, the_list, "a@example.org")
    people.subscribe(config, OWNER, the_list, "b@example.org", quiet=True)
    people.unsubscribe(config, OWNER, the_list, "a@example.org")
    people.unsubscribe(config, OWNER, the_list, "b@example.org", quiet=True)
    assert peer.recipients == ["a@example.org", "a@example.org"]
    assert b"owner@example.org subscribed you" in peer.letters[0].content
    peer.close()
    assert people.subscribe(config, OWNER, the_list, "a@example.org") == people.Result("a@example.org", "added", told=False)
