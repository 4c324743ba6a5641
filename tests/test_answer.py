"""Commands by mail, from the bytes that Postfix hands over to what people get: each command, by who is certain and by who is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest
from database_fixture import DOMAIN, SHELL, open_list
from mail_fixture import COMMANDS, Sent, Site

from kelou import lifecycle, moderation, people, returnpath
from kelou.database import connection
from kelou.directory import ListView
from kelou.models import CommandMail, PendingSubscription, Subscription, Token, now

_number = count(1)


@dataclass
class Scene:
    """A list of the test's own, with somebody in each part. `{list}`, `{new}` and the like in a command are filled in."""

    site: Site
    list: ListView
    names: dict[str, str]

    def __getattr__(self, name: str) -> str:
        return self.names[name]

    def fill(self, text: str) -> str:
        return text.format(**self.names)

    def again(self) -> ListView:
        return lifecycle.find_list(self.site.config, self.names["list"])

    def subscribers(self) -> set[str]:
        with connection():
            return {row["email"] for row in people.subscribers(self.list)}

    def option(self, key: str) -> object:
        with connection():
            return next(row[key] for row in people.subscribers(self.list) if row["email"] == self.names["subscriber"])


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Site]]:
    made: dict[str, Site] = {}

    def site(language: str) -> Site:
        if language not in made:
            made[language] = Site(tmp_path_factory.mktemp(language), language)
            made[language].use()
            people.add_listmaster(made[language].config, SHELL, "chief@example.org")
        made[language].use()
        return made[language]

    yield site
    for one in made.values():
        one.peer.close()


def scene(site: Site, **settings: str) -> Scene:
    number = next(_number)
    names = {part: f"{part}{number}@example.org" for part in ("owner", "second", "moderator", "subscriber", "stranger", "new")}
    the_list = open_list(site.config, f"ca{number}", names["owner"], language=site.language)
    people.add_role(site.config, SHELL, the_list, "owner", names["second"])
    people.add_role(site.config, SHELL, the_list, "moderator", names["moderator"])
    people.subscribe(site.config, SHELL, the_list, names["subscriber"], "Susan", quiet=True)
    if settings:
        the_list = lifecycle.set_values(site.config, SHELL, the_list, settings).list
    site.peer.letters.clear()
    return Scene(site, the_list, names | {"list": the_list.name, "listmaster": "chief@example.org"})


@pytest.fixture(params=["en", "fr"])
def ca(request: pytest.FixtureRequest, sites: Callable[[str], Site]) -> Scene:
    return scene(sites(request.param))


@pytest.fixture
def en(sites: Callable[[str], Site]) -> Site:
    return sites("en")


@dataclass(frozen=True)
class Row:
    """A command: who gives it, in both languages; a word in what they get; what is so afterwards; whether who is not certain is asked to confirm."""

    who: str
    english: str
    french: str
    says: str
    so: Callable[[Scene], bool] = lambda scene: True
    asked: bool = False


TABLE = {
    "help": Row("stranger", "help", "aide", "subscribe|abonner"),
    "lists": Row("stranger", "lists", "listes", "{list}@"),
    "info": Row("stranger", "info {list}", "informations {list}", "Friends"),
    "which": Row("subscriber", "which", "mes abonnements", "{list}@"),
    "subscribe": Row("stranger", "subscribe {list} Jo", "abonner {list} Jo", "{list}-unsubscribe@", lambda s: s.stranger in s.subscribers(), asked=True),
    "subscribe twice": Row("subscriber", "subscribe {list}", "m'abonner {list}", "{list}@", lambda s: s.subscriber in s.subscribers(), asked=True),
    "unsubscribe": Row("subscriber", "unsubscribe {list}", "se désabonner de {list}", "{list}-owner@", lambda s: s.subscriber not in s.subscribers(), asked=True),
    "signoff": Row("subscriber", "signoff {list}", "désabonnement {list}", "{list}-owner@", lambda s: s.subscriber not in s.subscribers(), asked=True),
    "unsubscribe from all": Row("subscriber", "unsubscribe *", "désabonner *", "{list}@", lambda s: s.subscriber not in s.subscribers(), asked=True),
    "unsubscribe who is not": Row("stranger", "unsubscribe {list}", "désabonner {list}", "{stranger}", asked=True),
    "nomail": Row("subscriber", "set {list} nomail", "régler {list} ne pas recevoir", "nomail", lambda s: s.option("mode") == "nomail", asked=True),
    "nomail for all": Row("subscriber", "set * nomail", "régler * nomail", "nomail", lambda s: s.option("mode") == "nomail", asked=True),
    "digest": Row("subscriber", "set {list} digest", "régler {list} compilation", "digest", lambda s: s.option("mode") == "digest", asked=True),
    "plain digest for all": Row("subscriber", "set * digestplain", "régler * compilation texte", "digestplain", lambda s: s.option("mode") == "digestplain", asked=True),
    "holidays": Row(
        "subscriber", "set {list} suspend 2090-07-01 2090-08-31", "régler * vacances du 2090-07-01 au 2090-08-31", "suspend 2090-07-01 2090-08-31",
        lambda s: s.option("suspended") == "2090-07-01..2090-08-31", asked=True),
    "not_me": Row("subscriber", "set {list} not_me", "régler {list} sauf moi", "not_me", lambda s: s.option("own_posts") is False, asked=True),
    "conceal": Row("subscriber", "set {list} conceal", "régler {list} masquer", "conceal", lambda s: s.option("concealed") is True, asked=True),
    "an option that is not here": Row("subscriber", "set {list} urlize", "régler {list} urlize", "urlize", asked=True),
    "review": Row("owner", "review {list}", "abonnés {list}", "{subscriber}", asked=True),
    "review by who may not": Row("subscriber", "review {list}", "membres {list}", "{list}@"),
    "stats": Row("owner", "stats {list}", "statistiques {list}", "     1 ", asked=True),
    "verify": Row("stranger", "verify {list}", "vérifier {list}", "test"),
    "index": Row("subscriber", "index {list}", "sommaire {list}", "{list}-owner@"),
    "get": Row("subscriber", "get {list} log", "obtenir {list} log", "{list}-owner@"),
    "last": Row("subscriber", "last {list}", "dernier {list}", "{list}-owner@"),
    "invite": Row("subscriber", "invite {list} {new}", "inviter {list} {new}", "{new}", lambda s: s.new not in s.subscribers(), asked=True),
    "add": Row("owner", "add {list} {new} Neo", "ajouter {list} {new} Neo", "{new}", lambda s: s.new in s.subscribers(), asked=True),
    "add by who may not": Row("subscriber", "add {list} {new}", "ajouter {list} {new}", "{subscriber}", lambda s: s.new not in s.subscribers()),
    "del": Row("owner", "del {list} {subscriber}", "supprimer {list} {subscriber}", "{subscriber}", lambda s: s.subscriber not in s.subscribers(), asked=True),
    "del by who may not": Row("stranger", "del {list} {subscriber}", "retirer {list} {subscriber}", "{stranger}", lambda s: s.subscriber in s.subscribers()),
    "set a setting": Row(
        "owner", "set {list} subscribe closed", "régler {list} subscribe closed", "closed", lambda s: s.again()["subscribe"] == "closed", asked=True),
    "set by who may not": Row("subscriber", "set {list} subscribe closed", "régler {list} subscribe closed", "{subscriber}", lambda s: s.again()["subscribe"] == "open"),
    "set what is listmasters'": Row(
        "owner", "set {list} max_subscribers 9", "régler {list} max_subscribers 9", "{owner}", lambda s: s.again()["max_subscribers"] == 0, asked=True),
    "remind": Row("owner", "remind {list}", "rappel {list}", "1", asked=True),
    "modindex": Row("moderator", "modindex {list}", "modération {list}", "{list}@", asked=True),
    "request a form": Row("stranger", "request", "demande", "name:|nom"),
    "quit": Row("stranger", "quit", "fin", ""),
    "no such list": Row("stranger", "subscribe nonsense-{list}", "abonner nonsense-{list}", "nonsense-{list}"),
    "a word nobody knows": Row("stranger", "Bonjour tout le monde", "Bonjour tout le monde", "Bonjour"),
}  # fmt: skip


def words(row: Row, ca: Scene) -> str:
    return ca.fill(row.french if ca.site.language == "fr" else row.english)


def for_(sent: list[Sent], to: str) -> list[Sent]:
    return [one for one in sent if one.to == to]


def encoded(subject: str) -> str:
    from kelou.message import field

    return field("Subject", subject).raw.decode("ascii").partition(": ")[2].rstrip("\r\n")


@pytest.mark.parametrize("place", ["subject", "body"])
@pytest.mark.parametrize("row", TABLE.values(), ids=TABLE)
def test_who_is_certain_gets_it_done(ca: Scene, row: Row, place: str) -> None:
    """Each command, in each language, in the subject or in the text: done at once, and told in one mail below theirs, which no program answers."""
    who, command = ca.names[row.who], words(row, ca)
    if place == "subject":
        sent = ca.site.write(who, encoded(command))
    else:
        sent = ca.site.write(who, "", f"{command}\n", extra="Content-Type: text/plain; charset=utf-8\r\n")
    mine = for_(sent, who)
    if not row.says:
        assert sent == []
        return
    answers = [one for one in mine if one.message.text("auto-submitted") == "auto-replied"]
    assert len(answers) == 1
    wanted = [ca.fill(one) for one in row.says.split("|")]
    assert any(one in answers[0].text for one in wanted), answers[0].text
    assert answers[0].message.text("in-reply-to").endswith("@example.org>")
    assert answers[0].message.text("content-language") == ca.site.language
    assert row.so(ca)


@pytest.mark.parametrize("row", TABLE.values(), ids=TABLE)
def test_who_is_not_certain_is_asked_at_most(ca: Scene, row: Row) -> None:
    """A forged From does nothing and brings nobody an answer; what is worth it is confirmed by the address concerned, by a reply, and done then."""
    who, command = ca.names[row.who], words(row, ca)
    before = ca.subscribers(), ca.option("mode"), dict(ca.again().settings)
    sent = ca.site.write(who, encoded(command), sure=False)
    assert (ca.subscribers(), ca.option("mode"), dict(ca.again().settings)) == before
    if not row.asked:
        assert sent == []
        return
    assert [one.to for one in sent] == [who]
    assert ca.site.write(who, encoded(command), sure=False) == [], "it was asked already"
    mine = for_(ca.site.write(who, "Re: confirm", "", sent[0].answer_to, sure=False), who)
    assert row.so(ca)
    wanted = [ca.fill(one) for one in row.says.split("|")]
    assert any(one in letter.text for one in wanted for letter in mine), mine
    assert ca.site.write(who, "Re: confirm", "", sent[0].answer_to, sure=False) == [], "a key serves once"


# Who may be asked what.


def test_nobody_unsubscribes_somebody_else(en: Site) -> None:
    """Not with their From, not as an authenticated stranger, not as another subscriber: the address itself is asked."""
    ca = scene(en)
    sent = en.write(ca.stranger, ca.fill("unsubscribe {list} {subscriber}"))
    assert sorted(one.to for one in sent) == sorted([ca.stranger, ca.subscriber])
    assert ca.subscriber in ca.subscribers()
    en.write(ca.subscriber, "Re: confirm", "", for_(sent, ca.subscriber)[0].answer_to, sure=False)
    assert ca.subscriber not in ca.subscribers()


@pytest.mark.parametrize("command", ["unsubscribe {list} {other}", "subscribe {list} {other}", "invite {list} {other}"])
def test_an_answer_tells_nobody_who_is_subscribed(en: Site, command: str) -> None:
    """The answer about somebody's address is the same whether they are subscribed or not."""
    ca = scene(en)
    people.subscribe(en.config, SHELL, ca.list, ca.stranger, quiet=True)
    answers = []
    for other in (ca.subscriber, ca.new):
        sent = for_(en.write(ca.stranger, "", command.format(list=ca.names["list"], other=other)), ca.stranger)
        answers.append(sent[0].text.replace(other, "X"))
    assert answers[0] == answers[1]


def test_who_is_not_certain_learns_nothing(en: Site) -> None:
    """The confirmation of leaving is the same for who is subscribed and who is not, and holds no word of the stranger's."""
    ca = scene(en)
    texts = []
    for who in (ca.subscriber, ca.stranger):
        (sent,) = en.write(who, ca.fill("unsubscribe {list} buy-my-pills.example Evil Words"), sure=False)
        texts.append(sent.text.replace(who, "X").replace(sent.key, "K"))
    assert texts[0] == texts[1]
    assert "pills" not in texts[0]


@pytest.mark.parametrize("function", ["unsubscribe", "leave"])
def test_an_empty_mail_to_the_lists_own_address_leaves(en: Site, function: str) -> None:
    """Whatever it says: at once if certain, else after a confirmation; and the address with the key is one too."""
    ca = scene(en)
    (goodbye,) = en.write(ca.subscriber, "help", "subscribe other", f"{ca.list.name}-{function}@{DOMAIN}")
    assert "no longer subscribed" in goodbye.text
    assert ca.subscribers() == set()
    people.subscribe(en.config, SHELL, ca.list, ca.subscriber, quiet=True)
    (asked,) = en.write(ca.subscriber, "", "", f"{ca.list.name}-{function}@{DOMAIN}", sure=False)
    assert ca.subscribers() == {ca.subscriber}
    en.write(ca.new, "", "", f"{ca.list.name}-{function}+{asked.key}@{DOMAIN}", sure=False)
    assert ca.subscribers() == set()


def test_a_readers_own_link(en: Site) -> None:
    """The link of a personal copy leaves at once, though a program sent it for a click; with another From the reader is asked; once more, nothing."""
    ca, other = scene(en), scene(en)
    with connection():
        number = Subscription.get(Subscription.list == ca.list.id).id
    link = ca.list.sub("leave", returnpath.make(en.secret, returnpath.LEAVE, ca.list.id, number, now()))
    (asked,) = en.write(ca.stranger, "", "", link)
    assert (asked.to, ca.subscribers()) == (ca.subscriber, {ca.subscriber})
    elsewhere = link.replace(ca.list.name, other.list.name)
    assert en.write(ca.subscriber, "", "", elsewhere, sure=False) == []
    assert en.write(ca.subscriber, "", "", link, sure=False, extra="Auto-Submitted: auto-replied\r\n") == []
    assert ca.subscribers() == {ca.subscriber}
    (goodbye,) = en.write(ca.subscriber, "", "", link, sure=False, extra="Auto-Submitted: auto-generated\r\n")
    assert "no longer subscribed" in goodbye.text
    assert ca.subscribers() == set()
    (answer,) = en.write(ca.subscriber, "", "", link)
    assert "is not subscribed" in answer.text


def test_the_lists_own_address_subscribes(en: Site) -> None:
    """LIST-subscribe@ and LIST-join@ are a command, whatever the mail says."""
    ca = scene(en)
    en.write(ca.stranger, "", "", f"{ca.list.name}-subscribe@{DOMAIN}")
    en.write(ca.new, "", "", f"{ca.list.name}-join@{DOMAIN}")
    assert {ca.stranger, ca.new} <= ca.subscribers()


def test_consent_is_kept(en: Site) -> None:
    """Each subscription says who asked for it, when and how it was confirmed."""
    ca = scene(en)
    en.write(ca.stranger, ca.fill("subscribe {list}"))
    (asked,) = en.write(ca.new, ca.fill("subscribe {list}"), sure=False)
    en.write(ca.new, "yes", "", asked.answer_to)
    with connection():
        kept = {row["email"]: (row["source"], row["consent"]) for row in people.subscribers(ca.list)}
    assert kept[ca.stranger][0] == "mail"
    assert kept[ca.stranger][1].startswith("mail 20")
    assert "@example.org>" in kept[ca.stranger][1]
    assert "a key sent there 20" in kept[ca.new][1]


@pytest.mark.parametrize(
    ("way", "sure", "steps"),
    [
        ("open", True, []),
        ("open", False, ["confirm"]),
        ("confirm", True, ["confirm"]),
        ("confirm", False, ["confirm"]),
        ("owner", True, ["owner"]),
        ("owner", False, ["confirm", "owner"]),
        ("confirm-owner", True, ["confirm", "owner"]),
        ("confirm-owner", False, ["confirm", "owner"]),
    ],
)
def test_each_way_to_subscribe(en: Site, way: str, sure: bool, steps: list[str]) -> None:
    """Open, confirmed, approved by an owner, or both; who is not certain always confirms."""
    ca = scene(en, subscribe=way)
    sent = en.write(ca.stranger, ca.fill("subscribe {list} Jo Le Goff"), sure=sure)
    for step in steps:
        assert ca.stranger not in ca.subscribers()
        key = next(one for one in sent if one.message.text("reply-to") and one.to == (ca.stranger if step == "confirm" else ca.second))
        sent = en.write(key.to, "Re: x", "approve\n" if step == "owner" else "", key.answer_to, sure=False)
    assert ca.stranger in ca.subscribers()
    assert any("Hello Jo Le Goff" in one.text for one in sent if one.to == ca.stranger)


def test_a_closed_list_takes_nobody(en: Site) -> None:
    """Who is certain is told so; who is not gets nothing. An owner's invitation opens it."""
    ca = scene(en, subscribe="closed")
    assert en.write(ca.stranger, ca.fill("subscribe {list}"), sure=False) == []
    (answer,) = en.write(ca.stranger, ca.fill("subscribe {list}"))
    assert "closed" in answer.text
    (invitation,) = for_(en.write(ca.owner, ca.fill("invite {list} {new} Neo")), ca.new)
    en.write(ca.new, "Re: x", "", invitation.answer_to, sure=False)
    assert ca.new in ca.subscribers()


def test_unsubscribing_can_be_confirmed(en: Site) -> None:
    """A list may want a confirmation of who is certain too; no list can keep anybody."""
    ca = scene(en, unsubscribe="confirm")
    sent = en.write(ca.subscriber, ca.fill("unsubscribe {list}"))
    assert ca.subscriber in ca.subscribers()
    key = next(one for one in sent if one.message.text("reply-to"))
    en.write(ca.subscriber, f"confirm {key.key}")
    assert ca.subscribers() == set()


def test_an_owner_refuses_a_subscription(en: Site) -> None:
    """Who asked is told why; the other owner, too late, that it is decided."""
    ca = scene(en, subscribe="owner")
    sent = en.write(ca.stranger, ca.fill("subscribe {list}"))
    keys = {one.to: one.answer_to for one in sent if one.message.text("reply-to")}
    assert set(keys) == {ca.owner, ca.second}
    (unclear,) = en.write(ca.owner, "Re: x", "Who is that?", keys[ca.owner])
    assert "not understood" in unclear.text
    sent = en.write(ca.owner, "Re: x", "refuse Friends only.", keys[ca.owner])
    assert "Friends only." in for_(sent, ca.stranger)[0].text
    (late,) = en.write(ca.second, "Re: x", "approve", keys[ca.second])
    assert "another owner" in late.text
    assert ca.stranger not in ca.subscribers()
    with connection():
        assert PendingSubscription.select().where(PendingSubscription.list == ca.list.id).count() == 0


def test_a_key_of_who_is_no_owner_any_more_decides_nothing(en: Site) -> None:
    """The right is asked when the key is used."""
    ca = scene(en, subscribe="owner")
    key = next(one for one in en.write(ca.stranger, ca.fill("subscribe {list}")) if one.to == ca.second)
    people.remove_role(en.config, SHELL, ca.list, "owner", ca.second)
    (no,) = en.write(ca.second, "Re: x", "approve", key.answer_to)
    assert "not an owner" in no.text
    assert ca.stranger not in ca.subscribers()


# Owners.


def test_a_batch_is_reported_line_by_line(en: Site) -> None:
    """Good lines get in, the others are named with the reason; as text or as an attachment."""
    ca = scene(en)
    (report,) = for_(en.write(ca.owner, ca.fill("quiet add {list}"), ca.fill("{new} Neo\n\nbroken\n{subscriber}\na@b@c\n")), ca.owner)
    assert "line 2: broken: not valid (" in report.text
    assert f"line 3: {ca.subscriber}: there already" in report.text
    assert "1 added, 1 there already, 2 not valid" in report.text
    assert ca.subscribers() == {ca.subscriber, ca.new}
    attached = (
        "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n",
        "--b\nContent-Type: text/plain\n\nHere they are.\n--b\nContent-Type: text/csv\nContent-Disposition: attachment; filename=x.csv\n\n"
        "Email;Nom\nz@example.org;Zoé\n--b--\n",
    )
    en.write(ca.owner, ca.fill("add {list}"), attached[1], extra=attached[0])
    assert "z@example.org" in ca.subscribers()


def test_an_only_owner_is_advised(en: Site) -> None:
    """Two owners are advised; and who owns a list that they leave is told that they still do."""
    ca = scene(en)
    people.remove_role(en.config, SHELL, ca.list, "owner", ca.second)
    people.subscribe(en.config, SHELL, ca.list, ca.owner, quiet=True)
    (answer,) = for_(en.write(ca.owner, ca.fill("add {list} {new}")), ca.owner)
    assert "only one owner" in answer.text
    sent = for_(en.write(ca.owner, ca.fill("unsubscribe {list}")), ca.owner)
    assert any("still its owner" in one.text for one in sent)
    assert ca.owner not in ca.subscribers()


def test_reminders_go_out_once_a_day(en: Site) -> None:
    """Each subscriber is reminded, and an owner can not do it all day long."""
    ca = scene(en)
    assert len(for_(en.write(ca.owner, ca.fill("remind {list}")), ca.subscriber)) == 1
    assert len(for_(en.write(ca.owner, ca.fill("remind {list}")), ca.subscriber)) == 0


def test_moderation_by_mail(en: Site) -> None:
    """modindex brings keys; distribute and reject use them; a key that is spent, or of another list, does nothing."""
    ca, other = scene(en, post="moderated"), scene(en)
    for number in range(2):
        post = f"From: <{ca.stranger}>\r\nTo: {ca.list.address}\r\nSubject: Post {number}\r\nMessage-ID: <p{number}{ca.list.name}@x.org>\r\n\r\nHello\r\n"
        en.deliver(post.encode(), ca.list.address, ca.stranger)
    (index,) = en.write(ca.moderator, ca.fill("modindex {list}"))
    keys = [part.partition("@")[0] for part in index.text.split("confirm+")[1:]][::3]
    assert len(keys) == 2
    (no,) = en.write(ca.moderator, f"distribute {other.list.name} {keys[0]}")
    assert "not good" in no.text
    en.write(ca.moderator, ca.fill("distribute {list} ") + keys[0])
    en.write(ca.moderator, ca.fill("quiet reject {list} ") + keys[1], sure=False)
    with connection():
        assert [row["id"] for row in moderation.waiting(ca.list)] == []
    (spent,) = en.write(ca.moderator, ca.fill("reject {list} ") + keys[0])
    assert "not good" in spent.text


# A list, by mail alone.


@pytest.mark.parametrize("language", ["en", "fr"])
def test_a_list_is_requested_and_activated(sites: Callable[[str], Site], language: str) -> None:
    """An empty request brings a form; sent back, the listmaster gets a notice; answered, the list is active and its owner told."""
    site, number = sites(language), next(_number)
    asker, name = f"asker{number}@example.org", f"gardens{number}"
    (form,) = site.write(asker, "request" if language == "en" else "demande")
    answers = {"name": name, "nom": name, "type": "newsletter", "subject": "Gardens", "objet": "Gardens"}
    lines = []
    for line in form.text.splitlines():
        field, colon, _hint = line.partition(":")
        value = answers.get(field.strip())
        lines.append(f"> {field.strip()}: {value}" if colon and value else f"> {line}")
    sent = site.write(asker, f"Re: {form.message.text('subject')}", "\n".join(lines), extra="Content-Type: text/plain; charset=utf-8\r\n")
    assert sorted(one.to for one in sent) == [asker, "chief@example.org"]
    notice = for_(sent, "chief@example.org")[0]
    with connection():
        assert lifecycle.find_list(site.config, name).status == "pending"
    site.write("chief@example.org", "Re: x", "Activate.\n\n> x", notice.answer_to, sure=False)
    assert lifecycle.find_list(site.config, name).status == "open"


def test_a_request_is_confirmed_and_refused(en: Site) -> None:
    """Who is not certain confirms first. A refusal needs a reason, which the asker is told; by command as by reply."""
    number = next(_number)
    asker, name = f"asker{number}@example.org", f"roofs{number}"
    (asked,) = en.write(asker, f'request {name} type=discussion subject="Green roofs"', sure=False)
    sent = en.write(asker, "Re: x", "", asked.answer_to, sure=False)
    notice = for_(sent, "chief@example.org")[0]
    (unclear,) = en.write("chief@example.org", f"refuse {notice.key}")
    assert "not understood" in unclear.text
    sent = en.write("chief@example.org", f"refuse {notice.key} We have one already.")
    assert "We have one already." in for_(sent, asker)[0].text
    assert lifecycle.find_list(en.config, name).status == "closed"


def test_nobody_but_a_listmaster_activates(en: Site) -> None:
    """A key of who is a listmaster no more decides nothing."""
    number = next(_number)
    people.add_listmaster(en.config, SHELL, "former@example.org")
    sent = en.write(f"asker{number}@example.org", f"request walls{number} type=discussion subject=Walls")
    people.remove_listmaster(en.config, SHELL, "former@example.org")
    key = for_(sent, "former@example.org")[0]
    (no,) = en.write("former@example.org", "Re: x", "activate", key.answer_to)
    assert "not a listmaster" in no.text
    assert lifecycle.find_list(en.config, f"walls{number}").status == "pending"


# Abuse.


def test_ten_thousand_requests_for_one_victim(en: Site) -> None:
    """However many lists and clients are used, fewer than five mails reach the victim; nobody is told that a cap was reached."""
    scenes = [scene(en) for _ in range(8)]
    got: list[Sent] = []
    for round_ in range(25):
        for at, ca in enumerate(scenes):
            for command in ("subscribe {list} Name" + str(round_), "unsubscribe {list}", "subscribe {list}"):
                got += en.write("victim@example.net", ca.fill(command), sure=False, client=f"192.0.2.{at}")
        got += en.write(f"mallory{round_}@example.org", scenes[0].fill("invite {list} victim@example.net\nsubscribe {list} victim@example.net"), sure=True)
    mails = for_(got, "victim@example.net")
    assert 0 < len(mails) < 5
    assert len({one.to for one in got} - {"victim@example.net"} - {f"mallory{n}@example.org" for n in range(25)}) == 0


@pytest.mark.parametrize("cap", ["domain", "client", "list"])
def test_many_victims(en: Site, cap: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Domains, clients and lists are capped too."""
    from kelou import consent

    monkeypatch.setattr(consent, cap.upper(), 3)
    ca = [scene(en) for _ in range(8)]
    got = []
    for n in range(8):
        place = ca[0] if cap == "list" else ca[n]
        client = "192.0.2.99" if cap == "client" else f"198.51.100.{n}{cap == 'list':d}"
        domain = "one.example" if cap == "domain" else f"{cap}{n}.example"
        got += en.write(f"victim{n}@{domain}", place.fill("subscribe {list}"), sure=False, client=client)
    assert len(got) == 3


ROBOTS = {
    "Auto-Submitted": ("Auto-Submitted: auto-replied\r\n", None),
    "auto-generated": ("Auto-Submitted: auto-generated\r\n", None),
    "Precedence": ("Precedence: bulk\r\n", None),
    "a list": ("List-Id: <x.example.org>\r\n", None),
    "null reverse-path": ("", ""),
}


@pytest.mark.parametrize(("extra", "reverse_path"), ROBOTS.values(), ids=ROBOTS)
@pytest.mark.parametrize("sure", [True, False])
def test_programs_get_silence(en: Site, extra: str, reverse_path: str | None, sure: bool) -> None:
    """Out-of-office notes, lists and bounces: nothing is done, nothing is said; not for a key either."""
    ca = scene(en)
    for subject in (ca.fill("unsubscribe {list}"), ca.fill("Re: subscribe {list}"), "help", "Out of office"):
        assert en.write(ca.subscriber, subject, sure=sure, extra=extra, reverse_path=reverse_path) == []
    (asked,) = en.write(ca.subscriber, ca.fill("unsubscribe {list}"), sure=False)
    assert en.write(ca.subscriber, "Re: confirm", "", asked.answer_to, extra=extra, reverse_path=reverse_path, sure=sure) == []
    assert ca.subscriber in ca.subscribers()


def test_an_absence_notice_confirms_nothing(en: Site) -> None:
    """Some programs do not say in the header what they are."""
    ca = scene(en)
    (asked,) = en.write(ca.stranger, ca.fill("subscribe {list}"), sure=False)
    for subject in ("Automatic reply: Please confirm", encoded("Réponse automatique : Confirmez")):
        en.write(ca.stranger, subject, "I am away.", asked.answer_to, sure=False)
    assert ca.stranger not in ca.subscribers()
    en.write(ca.stranger, "Re: Please confirm", "No!\n", asked.answer_to, sure=False)
    en.write(ca.stranger, "Re: Please confirm", "", asked.answer_to, sure=False)
    assert ca.stranger not in ca.subscribers(), "they declined"


def test_two_programs_that_hide_end_soon(en: Site) -> None:
    """Somebody who is certain and writes nonsense for ever is answered a few times a day."""
    got = [en.write("loop@example.org", f"Thanks for your mail {n}") for n in range(20)]
    assert 0 < sum(map(len, got)) <= 5


def test_a_retry_does_nothing_twice(en: Site) -> None:
    """Postfix brings the same mail again when it did not hear the answer."""
    ca = scene(en)
    content = en.sealed(ca.stranger, ca.fill("subscribe {list}"))
    assert len(en.deliver(content, COMMANDS, ca.stranger, "Q1")) == 1
    assert en.deliver(content, COMMANDS, ca.stranger, "Q1") == []


@pytest.mark.parametrize("wrong", ["another list", "expired", "misspelt", "leaving", "another action"])
def test_wrong_keys(en: Site, wrong: str) -> None:
    """A key is good for one action on one list by one address, until a time."""
    ca, other = scene(en), scene(en)
    (asked,) = en.write(ca.stranger, ca.fill("subscribe {list}"), sure=False)
    to, subject = asked.answer_to, "Re: x"
    if wrong == "another list":
        to = other.list.sub("confirm", asked.key)
    elif wrong == "expired":
        with connection():
            Token.update(expires=1).where(Token.address == ca.stranger).execute()
    elif wrong == "misspelt":
        to = ca.list.sub("confirm", asked.key[::-1])
    elif wrong == "leaving":
        to = ca.list.sub("unsubscribe", asked.key)
    elif wrong == "another action":
        to, subject = COMMANDS, f"distribute {ca.list.name} {asked.key}"
    en.write(ca.stranger, subject, "", to)
    assert ca.stranger not in ca.subscribers() | other.subscribers()


def test_a_forwarded_thread_holds_no_commands(en: Site) -> None:
    """Only what the author wrote counts."""
    ca = scene(en)
    body = f"See below.\n\n---------- Forwarded message ---------\nFrom: x\nSubject: unsubscribe {ca.list.name}\n\nunsubscribe {ca.list.name}\n"
    en.write(ca.subscriber, "Fwd: unsubscribe " + ca.list.name, body)
    assert ca.subscriber in ca.subscribers()


def test_a_hundred_thousand_lines(en: Site) -> None:
    """Fifty commands are done, and the answer says that there was more."""
    ca = scene(en)
    (answer,) = en.write(ca.stranger, "", ca.fill("info {list}\n") * 100_000)
    assert answer.text.count("Friends") == 50
    assert "the rest was not read" in answer.text


def test_no_field_is_smuggled(en: Site) -> None:
    """Names, subjects and reasons stay where they belong."""
    ca = scene(en)
    sent = en.write(ca.stranger, ca.fill("subscribe {list} =?utf-8?q?Eve=0D=0ABcc:_all?="))
    sent += en.write(ca.stranger, "=?utf-8?q?help=0D=0ABcc:_all@example.org?=")
    assert sent
    for one in sent:
        assert one.message.first("bcc") is None
        assert one.to == ca.stranger


def test_what_is_no_mail_is_let_go(en: Site) -> None:
    """No From, two From, nothing at all: 250, and silence."""
    for raw in (b"\r\n", b"Subject: help\r\n\r\n", b"From: a@x.org\r\nFrom: b@x.org\r\nSubject: help\r\n\r\n", b"From: \xff\xfe <a@\r\n\r\nhelp\r\n"):
        assert en.write("a@x.org", raw=raw) == []
        assert en.reply.code == 250


def test_hidden_lists_stay_hidden(en: Site) -> None:
    """A list that is not visible is named to its people only; one that waits for activation to nobody else."""
    ca = scene(en, visible="no", info="subscribers")
    assert ca.list.name + "@" not in en.write(ca.stranger, "lists")[0].text
    assert ca.list.name + "@" in en.write(ca.subscriber, "lists")[0].text
    assert "Friends" not in en.write(ca.stranger, ca.fill("info {list}"))[0].text
    lifecycle.request(en.config, SHELL, "soon", type="discussion", subject="Later", owner=ca.owner)
    assert "no list soon" in en.write(ca.stranger, "info soon")[0].text
    assert "Later" in en.write(ca.owner, "info soon")[0].text


def test_concealed_subscribers(en: Site) -> None:
    """Owners see everybody, subscribers those who want to be seen."""
    ca = scene(en, review="subscribers")
    people.subscribe(en.config, SHELL, ca.list, ca.new, quiet=True)
    en.write(ca.new, ca.fill("set {list} conceal"))
    assert ca.new not in en.write(ca.subscriber, ca.fill("review {list}"))[0].text
    assert ca.new in en.write(ca.owner, ca.fill("review {list}"))[0].text


def test_a_list_that_is_closed_can_be_left(en: Site) -> None:
    """By the command address; and the answer says so, as there is no list to send a goodbye."""
    ca = scene(en)
    lifecycle.close(en.config, SHELL, ca.list)
    en.peer.letters.clear()
    (asked,) = en.write(ca.subscriber, ca.fill("unsubscribe {list}"), sure=False)
    assert asked.answer_to.startswith("confirm+")
    sent = en.write(ca.subscriber, "", "", asked.answer_to, sure=False)
    assert "unsubscribed" in sent[0].text
    with connection():
        assert Subscription.select().where(Subscription.list == ca.list.id).count() == 0


def test_what_was_answered_is_remembered_for_a_while(en: Site) -> None:
    """Each mail is a row until maintain forgets it."""
    from kelou import membership

    with connection():
        CommandMail.update(received=1).execute()
    assert membership.maintain(en.config)["mails_forgotten"] > 0


def test_who_waits_too_long_is_told(en: Site) -> None:
    """A pending subscription ends after a month."""
    from kelou import membership

    ca = scene(en, subscribe="owner")
    en.write(ca.stranger, ca.fill("subscribe {list}"))
    with connection():
        PendingSubscription.update(asked=1).where(PendingSubscription.list == ca.list.id).execute()
    en.peer.letters.clear()
    assert membership.maintain(en.config)["subscriptions_expired"] == 1
    assert en.peer.recipients == [ca.stranger]
    assert Path(en.config.path).parent.is_dir()
