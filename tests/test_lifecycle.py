"""The life of a list: who may do what when, what is said of it, and what stays."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from database_fixture import DOMAIN, SHELL, audited, open_list, open_site, person
from smtppeer import Peer

from kelou import database, directory, lifecycle, people
from kelou.config import Config
from kelou.directory import ListView
from kelou.message import Message
from kelou.models import Domain, ListSetting, MailingList, OldName, Role, Subscription, now
from kelou.refusal import BadData, CannotCreate, NotFound, NotPermitted, Refusal

OWNER, MASTER, STRANGER = person("owner@example.org"), person("master@example.org"), person("stranger@example.net")


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    peer.close()


@pytest.fixture
def config(tmp_path: Path, peer: Peer) -> Iterator[Config]:
    config = open_site(tmp_path, peer.endpoint)
    people.add_listmaster(config, SHELL, "master@example.org")
    with database.connection():
        yield config


def ask(config: Config, name: str = "amis", **asked: Any) -> ListView:
    return lifecycle.request(
        config, OWNER, name, **{"type": "discussion", "subject": "Friends", "owner": "owner@example.org", **asked}
    ).list


def status(config: Config, name: str = "amis") -> str:
    return lifecycle.find_list(config, name).status


def subjects(peer: Peer) -> list[tuple[str, str]]:
    return [(letter.recipients[0], Message.parse(letter.content).text("Subject")) for letter in peer.letters]


def test_a_request_is_pending(config: Config, peer: Peer) -> None:
    """A request makes a pending list with its owner, tells the listmasters, and advises a second owner."""
    asked = {"type": "newsletter", "subject": " Friends ", "description": "All\nof us", "organisation": "Kaz", "language": "fr"}
    outcome = lifecycle.request(config, OWNER, "Amis", owner="Owner@Example.org", owner_name="Ada", **asked)
    assert (outcome.list.address, outcome.list.status, outcome.list.type, outcome.list.subject) == (
        "amis@lists.example.org",
        "pending",
        "newsletter",
        "Friends",
    )
    assert outcome.list.list_id == "amis.lists.example.org"
    assert (outcome.list["language"], outcome.list.origins["language"]) == ("fr", "list")
    assert people.holders(outcome.list, "owner")[0]["email"] == "Owner@Example.org"
    assert len(outcome.advice) == 1
    assert "only one owner" in outcome.advice[0]
    assert subjects(peer) == [("master@example.org", "Demande de liste : amis@lists.example.org")]
    assert ("owner@example.org", "list request", "amis@lists.example.org") in audited()


def test_a_general_name_is_proposed_another(config: Config, peer: Peer) -> None:
    """The requester and the listmasters are proposed a name with the organisation in it; `activate --rename` takes it in one step."""
    outcome = lifecycle.request(config, OWNER, "ca", type="discussion", subject="Board", owner="owner@example.org", organisation="Kaz")
    assert outcome.proposed == "kaz-ca"
    assert "kaz-ca" in outcome.advice[0]
    assert b"kelou list activate ca@lists.example.org --rename kaz-ca" in peer.letters[0].content
    active = lifecycle.activate(config, MASTER, outcome.list, outcome.proposed)
    assert (active.list.name, active.list.list_id, active.list.status) == ("kaz-ca", "kaz-ca.lists.example.org", "open")
    assert b'You asked for the name "ca"' in peer.letters[1].content
    with pytest.raises(NotFound):
        lifecycle.find_list(config, "ca")


def test_without_listmasters_a_request_says_so(tmp_path: Path) -> None:
    """A request that nobody is told of says how that is mended."""
    config = open_site(tmp_path)
    outcome = lifecycle.request(config, SHELL, "amis", type="discussion", subject="x", owner="a@example.org")
    assert "kelou listmaster add" in outcome.advice[-1]


@pytest.mark.parametrize(
    ("wrong", "refusal"),
    [
        pytest.param({"type": "letter"}, BadData, id="no such type"),
        pytest.param({"subject": " "}, BadData, id="no subject"),
        pytest.param({"subject": "a\nb"}, BadData, id="a subject of two lines"),
        pytest.param({"subject": "x" * 201}, BadData, id="a subject too long"),
        pytest.param({"owner": "owner"}, BadData, id="an owner without address"),
        pytest.param({"owner": "amis@lists.example.org"}, BadData, id="a list that owns itself"),
        pytest.param({"owner": "amis-request@lists.example.org"}, BadData, id="an owner's address that leads to the owner"),
        pytest.param({"language": "de"}, BadData, id="a language that is not spoken"),
        pytest.param({"domain": "example.com"}, BadData, id="a domain that is not served"),
        pytest.param({"description": "\x1b[2J"}, BadData, id="control characters"),
        pytest.param({"name": "sympa"}, CannotCreate, id="a reserved name"),
    ],
)
def test_a_wrong_request_leaves_nothing(config: Config, wrong: dict[str, Any], refusal: type[Refusal]) -> None:
    """A request that is refused makes no list, no account and no notice."""
    with pytest.raises(refusal):
        ask(config, **wrong)
    assert lifecycle.lists(config) == []
    with pytest.raises(NotFound):
        people.find(config, "owner@example.org")


def test_two_domains_need_a_name_with_one(config: Config) -> None:
    """Where several domains are served, a new list says in which; a name that is in both says which is meant."""
    Domain.create(name="listes.example.net")
    with pytest.raises(BadData, match=r"listes\.example\.net"):
        ask(config)
    ask(config, "amis@listes.example.net")
    assert lifecycle.find_list(config, "amis").domain == "listes.example.net"
    ask(config, "amis", domain=DOMAIN)
    with pytest.raises(BadData, match=r"amis@lists\.example\.org"):
        lifecycle.find_list(config, "amis")
    assert lifecycle.find_list(config, " Amis@Lists.Example.ORG ").domain == DOMAIN


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("amsi", "amis@lists.example.org"),
        ("amis@list.example.org", "amis@lists.example.org"),
        ("amis@", "amis@lists"),
        ("jardins", "kelou list list"),
        ("../x", "kelou list list"),
        ("", "kelou list list"),
    ],
)
def test_an_unknown_list_gets_a_hint(config: Config, given: str, hint: str) -> None:
    """A list that is not there is answered with the nearest one that is."""
    ask(config)
    if given == "amis@":
        assert lifecycle.find_list(config, given).name == "amis"
        return
    with pytest.raises(NotFound, match=hint):
        lifecycle.find_list(config, given)


def test_activating_twice_changes_nothing(config: Config, peer: Peer) -> None:
    """The second activation succeeds, changes nothing, and tells nobody again."""
    the_list = ask(config)
    first, second = lifecycle.activate(config, MASTER, the_list), lifecycle.activate(config, SHELL, the_list)
    assert (first.changed, second.changed, status(config)) == (True, False, "open")
    assert subjects(peer)[1:] == [("owner@example.org", "The list amis@lists.example.org is active")]
    assert [action for _who, action, _list in audited()].count("list activate") == 1


def test_requester_and_owners_are_told_why(config: Config, peer: Peer) -> None:
    """A refusal closes the list, and tells requester and owners the reason, each once."""
    the_list = lifecycle.request(
        config, person("asker@example.org"), "amis", type="discussion", subject="x", owner="owner@example.org"
    ).list
    people.add_role(config, SHELL, the_list, "owner", "asker@example.org")
    outcome = lifecycle.refuse(config, MASTER, the_list, "There is one already: copains")
    assert (outcome.changed, status(config)) == (True, "closed")
    assert [letter.recipients[0] for letter in peer.letters[1:]] == ["asker@example.org", "owner@example.org"]
    assert all(b"There is one already: copains" in letter.content for letter in peer.letters[1:])
    assert lifecycle.describe(config, the_list)["reason"] == "There is one already: copains"
    assert not lifecycle.refuse(config, MASTER, the_list, "again").changed


@pytest.mark.parametrize(
    ("before", "verb", "outcome"),
    [
        ("pending", "activate", "open"),
        ("pending", "refuse", "closed"),
        ("pending", "close", "refused"),
        ("pending", "reopen", "refused"),
        ("pending", "purge", "refused"),
        ("open", "activate", "unchanged"),
        ("open", "refuse", "refused"),
        ("open", "close", "closed"),
        ("open", "reopen", "unchanged"),
        ("open", "purge", "refused"),
        ("closed", "activate", "refused"),
        ("closed", "refuse", "unchanged"),
        ("closed", "close", "unchanged"),
        ("closed", "reopen", "open"),
        ("closed", "purge", "gone"),
    ],
)
def test_every_verb_in_every_status(config: Config, before: str, verb: str, outcome: str) -> None:
    """pending → open ↔ closed → purged, and no other way; what is so already stays so."""
    the_list = ask(config)
    if before != "pending":
        the_list = lifecycle.activate(config, SHELL, the_list).list
    if before == "closed":
        the_list = lifecycle.close(config, SHELL, the_list).list
    more = ("because",) if verb == "refuse" else ()
    if outcome == "refused":
        with pytest.raises(NotPermitted, match="kelou list"):
            getattr(lifecycle, verb)(config, SHELL, the_list, *more)
        assert status(config) == before
    elif outcome == "gone":
        lifecycle.purge(config, SHELL, the_list)
        assert lifecycle.lists(config) == []
    else:
        done = getattr(lifecycle, verb)(config, SHELL, the_list, *more)
        assert done.changed == (outcome != "unchanged")
        assert status(config) == (before if outcome == "unchanged" else outcome)


@pytest.mark.parametrize("verb", ["activate", "refuse", "reopen"])
def test_listmasters_alone_decide(config: Config, verb: str) -> None:
    """An owner opens no list; neither does a stranger."""
    the_list = ask(config)
    for actor in (OWNER, STRANGER):
        with pytest.raises(NotPermitted, match="not a listmaster"):
            getattr(lifecycle, verb)(config, actor, the_list, *(("because",) if verb == "refuse" else ()))
    assert status(config) == "pending"


def test_listmasters_alone_create(config: Config) -> None:
    """Who may only ask for a list leaves none behind by trying to create it."""
    with pytest.raises(NotPermitted, match="not a listmaster"):
        lifecycle.create(config, OWNER, "amis", type="discussion", subject="x", owner="owner@example.org")
    assert lifecycle.lists(config) == []


def test_owners_close_and_strangers_do_not(config: Config) -> None:
    """An owner may close, rename, set and purge a list of their own; another's owner may not."""
    the_list, other = open_list(config), open_list(config, "autre", "stranger@example.net")
    for verb, more in (
        (lifecycle.close, ()),
        (lifecycle.rename, ("copains",)),
        (lifecycle.set_values, ({"subject": "x"},)),
        (lifecycle.purge, ()),
    ):
        with pytest.raises(NotPermitted, match="not an owner"):
            verb(config, STRANGER, the_list, *more)
    renamed = lifecycle.rename(config, OWNER, the_list, "copains").list
    lifecycle.purge(config, OWNER, lifecycle.close(config, OWNER, renamed).list)
    assert [row["list"] for row in lifecycle.lists(config)] == [other.address]


def test_refusing_needs_a_reason(config: Config) -> None:
    """Who asked is owed one."""
    with pytest.raises(BadData, match="reason"):
        lifecycle.refuse(config, SHELL, ask(config), "  ")
    assert status(config) == "pending"


def test_an_old_address_goes_on_answering(config: Config) -> None:
    """A renamed list is found under its old name until that expires, and keeps its List-Id, which filters stand on."""
    the_list = lifecycle.rename(config, SHELL, open_list(config), "copains").list
    assert (the_list.name, the_list.list_id, the_list.old_addresses) == ("copains", "amis.lists.example.org", ("amis@lists.example.org",))
    assert lifecycle.find_list(config, "amis").id == the_list.id
    until = OldName.get().until
    assert 179 * 86400 < until - now() <= 180 * 86400
    OldName.update(until=1).execute()
    with pytest.raises(NotFound):
        lifecycle.find_list(config, "amis")


def test_renaming_there_and_back(config: Config) -> None:
    """A list can take its own old name again, and then answers for the other."""
    the_list = lifecycle.rename(config, SHELL, open_list(config), "copains").list
    the_list = lifecycle.rename(config, SHELL, the_list, "amis@lists.example.org").list
    assert (the_list.address, the_list.old_addresses) == ("amis@lists.example.org", ("copains@lists.example.org",))
    assert not lifecycle.rename(config, SHELL, the_list, "Amis").changed


def test_a_list_id_is_never_given_twice(config: Config) -> None:
    """A new list under a name that another had gets a List-Id of its own."""
    lifecycle.rename(config, SHELL, open_list(config), "copains")
    OldName.update(until=1).execute()
    assert open_list(config).list_id == "amis-2.lists.example.org"


def test_renaming_obeys_the_rules_for_names(config: Config) -> None:
    """A name that can not be asked for can not be taken by renaming either."""
    the_list = open_list(config)
    for new, refusal in (("amis-request", CannotCreate), ("../x", BadData), ("copains@example.com", BadData)):
        with pytest.raises(refusal):
            lifecycle.rename(config, SHELL, the_list, new)
        with pytest.raises(refusal):
            lifecycle.activate(config, SHELL, ask(config, f"n{len(new)}"), new)


def test_purging_takes_everything_along(config: Config) -> None:
    """Settings, roles, subscriptions and old names go with the list; its name is free again."""
    the_list = lifecycle.rename(config, SHELL, open_list(config), "copains").list
    lifecycle.set_values(config, SHELL, the_list, {"post": "owners"})
    people.subscribe(config, SHELL, the_list, "a@example.org")
    lifecycle.purge(config, SHELL, lifecycle.close(config, SHELL, the_list).list)
    assert [model.select().count() for model in (MailingList, ListSetting, OldName, Role, Subscription)] == [0] * 5
    assert open_list(config).list_id == "amis.lists.example.org"


def test_settings_all_or_none(config: Config) -> None:
    """One wrong value, and none of them is set."""
    the_list = open_list(config)
    for wrong in ({"max_size": "much"}, {"nonsense": "1"}, {"reply_to": "address"}, {"type": "x"}, {"subject": ""}):
        with pytest.raises(BadData):
            lifecycle.set_values(config, SHELL, the_list, {"post": "owners", "subject": "Other", **wrong})
        again = lifecycle.find_list(config, "amis")
        assert (again["post"], again.subject) == ("subscribers", "Friends")


def test_a_tag_has_one_pair_of_brackets(config: Config) -> None:
    """Those around the whole tag are the ones that the subject gets anyway."""
    tags = {"[{list}]": "{list}", "[ Les Amis ]": "Les Amis", "[a] [b]": "[a] [b]", "{list}": "{list}", "[]": "", "[x": "[x"}
    for given, kept in tags.items():
        assert lifecycle.set_values(config, SHELL, open_list(config) if given == "[{list}]" else _found(config), {"subject_tag": given}).list["subject_tag"] == kept


def _found(config: Config) -> ListView:
    return lifecycle.find_list(config, "amis")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        pytest.param({"footer": "Leave: {unsubcribe}"}, "{unsubcribe} is not filled in; did you mean {unsubscribe}?", id="misspelt"),
        pytest.param({"subject_tag": "[{List}]"}, "did you mean {list}?", id="in capitals"),
        pytest.param({"footer": "{foo} {list}"}, "{foo} is not filled in; those that are: {list}, {address},", id="nothing like it"),
    ],
)
def test_a_word_in_braces_that_is_not_filled_in(config: Config, values: dict[str, str], said: str) -> None:
    """It would go out as it is, to everybody: it is refused, with the nearest there is; other braces are the owner's own."""
    the_list = open_list(config)
    with pytest.raises(BadData, match=re.escape(said)):
        lifecycle.set_values(config, SHELL, the_list, values)
    kept = "{} { x } {{list}} {name}"
    assert lifecycle.set_values(config, SHELL, the_list, {"footer": kept}).list["footer"] == kept


def test_settings_over_the_types(config: Config) -> None:
    """A list's own value counts over its type's, is kept as the admin writes it, and gone when it is unset."""
    the_list = lifecycle.set_values(
        config, OWNER, open_list(config, type="newsletter"), {"post": "OWNERS", "max_size": "300k", "own_posts": "non"}
    ).list
    assert [(the_list[key], the_list.origins[key]) for key in ("post", "max_size", "own_posts")] == [
        ("owners", "list"),
        (307200, "list"),
        (False, "list"),
    ]
    assert dict(ListSetting.select(ListSetting.key, ListSetting.value).tuples()) == {
        "post": "owners",
        "max_size": "300K",
        "own_posts": "no",
    }
    assert not lifecycle.set_values(config, OWNER, the_list, {"post": "owners"}).changed
    back = lifecycle.unset_values(config, OWNER, the_list, ["post", "own_posts"]).list
    assert [(back[key], back.origins[key]) for key in ("post", "own_posts")] == [("moderators", "type"), (True, "type")]
    assert lifecycle.value(config, back, "max_size") == (307200, "list")


def test_what_a_list_is_can_be_changed(config: Config) -> None:
    """Subject, description, organisation and type are set like settings, and can not be unset."""
    the_list = lifecycle.set_values(
        config, OWNER, ask(config), {"subject": "S", "description": "a\nb", "organisation": "", "type": "hotline"}
    ).list
    assert [lifecycle.value(config, the_list, key) for key in lifecycle.PROPERTIES] == [
        ("S", "list"),
        ("a\nb", "list"),
        ("", "list"),
        ("hotline", "list"),
    ]
    assert the_list["post"] == "anyone"
    with pytest.raises(BadData, match="kelou list set"):
        lifecycle.unset_values(config, OWNER, the_list, ["type"])


def test_some_settings_are_the_listmasters(config: Config) -> None:
    """An owner does not raise the number of subscribers that the site allows."""
    the_list = open_list(config)
    with pytest.raises(NotPermitted, match="listmaster"):
        lifecycle.set_values(config, OWNER, the_list, {"max_subscribers": "9"})
    assert lifecycle.set_values(config, MASTER, the_list, {"max_subscribers": "9"}).list["max_subscribers"] == 9
    with pytest.raises(NotPermitted, match="listmaster"):
        lifecycle.unset_values(config, OWNER, the_list, ["max_subscribers"])


@pytest.mark.parametrize(
    "use",
    [
        pytest.param(lambda config, found: lifecycle.set_values(config, SHELL, found, {"subjct": "x"}), id="set"),
        pytest.param(lambda config, found: lifecycle.unset_values(config, SHELL, found, ["subjct"]), id="unset"),
        pytest.param(lambda config, found: lifecycle.value(config, found, "subjct"), id="get"),
    ],
)
def test_a_wrong_key_gets_a_suggestion(config: Config, use: Callable[[Config, ListView], object]) -> None:
    """A setting that is not there is answered with the one that was meant."""
    the_list = open_list(config)
    with pytest.raises(BadData, match="subject"):
        use(config, the_list)


def test_reply_to_an_address_needs_one(config: Config) -> None:
    """reply_to=address goes with reply_to_address, set at once, and keeps it."""
    the_list = lifecycle.set_values(config, SHELL, open_list(config), {"reply_to": "address", "reply_to_address": "team@example.org"}).list
    with pytest.raises(BadData, match="reply_to_address"):
        lifecycle.unset_values(config, SHELL, the_list, ["reply_to_address"])
    assert lifecycle.unset_values(config, SHELL, the_list, ["reply_to_address", "reply_to"]).changed


def test_what_is_shown(config: Config) -> None:
    """Lists are shown with owners, numbers and every setting with its origin."""
    the_list = open_list(config, organisation="Kaz")
    ask(config, "ca", owner="other@example.org", organisation="Kaz")
    people.subscribe(config, SHELL, the_list, "a@example.org", quiet=True)
    assert [(row["list"], row["status"], row["subscribers"], row["owners"]) for row in lifecycle.lists(config)] == [
        ("amis@lists.example.org", "open", 1, ["owner@example.org"]),
        ("ca@lists.example.org", "pending", 0, ["other@example.org"]),
    ]
    assert [row["list"] for row in lifecycle.lists(config, status="pending")] == ["ca@lists.example.org"]
    assert [row["list"] for row in lifecycle.lists(config, owner="Owner@Example.org")] == ["amis@lists.example.org"]
    with pytest.raises(BadData, match="pending, open, closed"):
        lifecycle.lists(config, status="purged")
    shown = lifecycle.describe(config, the_list)
    assert shown["settings"]["language"] == {"value": "en", "origin": "site"}
    assert shown["settings"]["max_size"] == {"value": 5242880, "origin": "default"}
    assert lifecycle.describe(config, lifecycle.find_list(config, "ca"))["proposed"] == "kaz-ca"


def test_a_rehearsal_changes_nothing_and_tells_nobody(config: Config, peer: Peer) -> None:
    """What is only tried out leaves neither list nor notice."""
    with database.rehearsal():
        open_list(config)
    assert (lifecycle.lists(config), peer.letters) == ([], [])


def test_a_decision_stands_without_postfix(config: Config, peer: Peer) -> None:
    """With Postfix down the list is active all the same, and the outcome says who was not told."""
    the_list = ask(config)
    peer.close()
    outcome = lifecycle.activate(config, SHELL, the_list)
    assert (outcome.changed, outcome.untold, status(config)) == (True, ("owner@example.org",), "open")


def test_a_purged_list_is_gone_for_who_still_holds_it(config: Config) -> None:
    """Of two who act at once, the second is told that the list is gone."""
    the_list = lifecycle.close(config, SHELL, open_list(config)).list
    lifecycle.purge(config, SHELL, the_list)
    for verb in (lifecycle.reopen, lifecycle.activate, lifecycle.purge):
        with pytest.raises(NotFound):
            verb(config, SHELL, the_list)
    assert directory.by_id(the_list.id) is None
