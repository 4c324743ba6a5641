"""Batches: every form that people's files have, a report of each line, and nothing half done."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from database_fixture import DOMAIN, SHELL, audited, open_list, open_site, person
from hypothesis import example, given
from hypothesis import strategies as st
from peewee import IntegrityError
from smtppeer import Peer

from kelou import batch, database, lifecycle, people
from kelou.batch import parse
from kelou.config import Config
from kelou.directory import ListView
from kelou.models import Account, Block, Subscription
from kelou.refusal import BadData, NotPermitted, TryAgain


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


JANE = ("jane@example.org", "Jane Doe")


@pytest.mark.parametrize(
    ("line", "person"),
    [
        pytest.param("jane@example.org Jane Doe", JANE, id="the classic form"),
        pytest.param("jane@example.org", ("jane@example.org", ""), id="an address alone"),
        pytest.param("  jane@example.org \t Jane   Doe  ", JANE, id="blanks everywhere"),
        pytest.param("jane@example.org\tJane\tDoe", JANE, id="tabs"),
        pytest.param("jane@example.org\u00a0Jane\u202fDoe", JANE, id="no-break spaces"),
        pytest.param("\u200bjane@example.org\u200e Jane Doe\ufeff", JANE, id="what one does not see"),
        pytest.param("Jane Doe <jane@example.org>", JANE, id="name and angle brackets"),
        pytest.param('"Doe, Jane" <jane@example.org>', ("jane@example.org", "Doe, Jane"), id="a quoted name with a comma"),
        pytest.param("Doe, Jane <jane@example.org>", ("jane@example.org", "Doe, Jane"), id="a comma without quotes"),
        pytest.param("'Jane Doe' <jane@example.org>,", JANE, id="as an address line is copied"),
        pytest.param("<jane@example.org>", ("jane@example.org", ""), id="angle brackets alone"),
        pytest.param("<mailto:jane@example.org>", ("jane@example.org", ""), id="a link"),
        pytest.param("jane@example.org <jane@example.org>", ("jane@example.org", ""), id="the address as its name"),
        pytest.param("=?utf-8?Q?Jane_Doe?= <jane@example.org>", JANE, id="an encoded name"),
        pytest.param("jane@example.org,Jane Doe", JANE, id="commas"),
        pytest.param("jane@example.org;Jane;Doe", JANE, id="semicolons"),
        pytest.param("jane@example.org ; Jane Doe ;;", JANE, id="empty cells"),
        pytest.param('"jane@example.org","Jane Doe"', JANE, id="quoted cells"),
        pytest.param('"jane@example.org";"Doe; Jane ""JD"""', ("jane@example.org", 'Doe; Jane "JD"'), id="quotes in quotes"),
        pytest.param('jane@example.org "Jane Doe"', JANE, id="a quoted name after a blank"),
        pytest.param("Jane;Doe;jane@example.org", JANE, id="the address last"),
        pytest.param("Jane Doe,jane@example.org", JANE, id="name first, comma"),
        pytest.param("jane@example.org Doe, Jane", ("jane@example.org", "Doe, Jane"), id="a comma in the name"),
        pytest.param('jane@example.org "Jane (jane@work.example)"', ("jane@example.org", "Jane (jane@work.example)"), id="an address in a quoted name"),
        pytest.param('jane@example.org,"Jane, jane@work.example"', ("jane@example.org", "Jane, jane@work.example"), id="an address in a quoted cell"),
        pytest.param('"Jane jane@work.example" <jane@example.org>', ("jane@example.org", "Jane jane@work.example"), id="and before angle brackets"),
        pytest.param("jane@example.org,", ("jane@example.org", ""), id="a comma at the end"),
        pytest.param("Jane.Doe+Tag@Example.ORG Jane Doe", ("Jane.Doe+Tag@Example.ORG", "Jane Doe"), id="the spelling stays"),
        pytest.param('"jane doe"@example.org', ('"jane doe"@example.org', ""), id="a quoted local part"),
        pytest.param("o'neil@example.org Shaun O'Neil", ("o'neil@example.org", "Shaun O'Neil"), id="apostrophes"),
        pytest.param("jérôme@exämple.org Jérôme", ("jérôme@exämple.org", "Jérôme"), id="an address beyond ASCII"),
        pytest.param(
            "jane@example.org Jane Doe # treasurer",
            ("jane@example.org", "Jane Doe # treasurer"),
            id="# begins a comment at the line's start only",
        ),
    ],
)
def test_a_line(line: str, person: tuple[str, str]) -> None:
    """Each of these names one person."""
    [read] = parse(line.encode())
    assert (str(read.address), read.name, read.error, read.input) == (*person, "", line.removeprefix("\ufeff"))


@pytest.mark.parametrize(
    "line",
    [
        "Jane Doe", "jane", "jane@", "@example.org", "jane@example", "jane@@example.org", "jane doe@example.org", "<jane>", "<>", "a@b.org, c@d.org",
        "Jane <a@b.org>, John <c@d.org>", "a@b.org c@d.org", "a@b.org <c@d.org>", '"a@b.org","c@d.org"', '"A" <a@b.org>, "B" <c@d.org>',
        ";;;", ",", '"', "jane@exa\0mple.org", "jane@example.org" + "x" * 3000, "\x1b[2J",
    ],
)  # fmt: skip
def test_a_broken_line(line: str) -> None:
    """What names nobody, or two, is an error with a reason, and the line as it was."""
    [read] = parse(line.encode())
    assert read.address is None
    assert read.error
    assert read.input == line


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\xef\xbb\xbf# People\r\n\r\na@b.org J\xc3\xa9r\xc3\xb4me\r\n  # more\r\nc@d.org\r\n", id="UTF-8 with BOM, CRLF"),
        pytest.param(b"# People\n\na@b.org J\xe9r\xf4me\n\t\nc@d.org", id="Latin-1, no end to the last line"),
        pytest.param(b"# People\r\ra@b.org J\xc3\xa9r\xc3\xb4me\r#\rc@d.org\r", id="CR"),
        pytest.param("\ufeff#\n\na@b.org Jérôme\n\nc@d.org\n".encode("utf-16-le"), id="UTF-16, little end first"),
        pytest.param("\ufeff#\r\n\r\na@b.org Jérôme\r\n\r\nc@d.org\r\n".encode("utf-16-be"), id="UTF-16, big end first"),
    ],
)
def test_a_file(data: bytes) -> None:
    """Comments and blank lines do not count but are counted; encodings and line ends are what they are."""
    assert [(line.number, str(line.address), line.name) for line in parse(data)] == [(3, "a@b.org", "Jérôme"), (5, "c@d.org", "")]


def test_two_encodings_in_one_file() -> None:
    """Files put together from two are read line by line."""
    names = [line.name for line in parse("a@b.org Jérôme\n".encode() + "c@d.org Zoë – “Z”\n".encode("cp1252") + b"e@f.org \x81\xe9\n")]
    assert names == ["Jérôme", "Zoë – “Z”", "é"]


@pytest.mark.parametrize(
    ("data", "people"),
    [
        pytest.param("email,name\njane@example.org,Jane Doe\n", [JANE], id="email,name"),
        pytest.param(
            "Nom;Prénom;Adresse e-mail;Ville\nDoe;Jane;jane@example.org;Brest\n",
            [("jane@example.org", "Doe Jane")],
            id="other columns do not count",
        ),
        pytest.param('"E-Mail"\t"Full name"\njane@example.org\tJane Doe\n', [JANE], id="tabs and quotes"),
        pytest.param("# export\n\nCourriel;Tél\njane@example.org;0612\n", [("jane@example.org", "")], id="after a comment"),
        pytest.param("Email Nom Prénom\njane@example.org Jane Doe\n", [JANE], id="the classic form"),
        pytest.param("email\njane@example.org\n", [("jane@example.org", "")], id="one column"),
        pytest.param(
            "email,name\njane@example.org,Jane jane@work.example\n", [("jane@example.org", "Jane jane@work.example")], id="an address in the column of names"
        ),
        pytest.param("email,name\nJane Doe <jane@example.org>\n", [JANE], id="a line that keeps to nothing"),
    ],
)
def test_column_names(data: str, people: list[tuple[str, str]]) -> None:
    """A first line of column names is nobody, and says which cells matter."""
    assert [(str(line.address), line.name) for line in parse(data.encode())] == people


@given(st.text(st.sampled_from("ab \"'\\@.<>,;()#é") | st.characters(codec="utf-8"), max_size=200))
@example("Ann ann@work.example")
@example("Ann <ann@work.example>")
@example("ann@work.example")
@example(", Ann")
def test_what_is_written_is_read_back(text: str) -> None:
    """A line that export writes is read as the person it is of, whatever their name."""
    name = people.clean_name(text)
    if name == people.clean_name(f'"{name}"') and "\\" not in name:
        assert [(str(line.address), line.name, line.error) for line in parse(batch.write("jane@example.org", name).encode())] == [("jane@example.org", name, "")]


@given(st.binary(max_size=300))
def test_any_bytes_are_read(data: bytes) -> None:
    """No file makes the reader fail: each line is somebody or has an error."""
    for line in parse(data):
        assert bool(line.address) != bool(line.error)


@given(
    st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=60), max_size=8),
    st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_good_lines_survive_bad_ones(others: list[str], end: str) -> None:
    """Whatever stands in the other lines, a good one is read."""
    data = end.join([*others, "jane@example.org Jane Doe"]).encode()
    last = list(parse(data))[-1]
    assert (last.number, str(last.address)) == (len(others) + 1, "jane@example.org")


def test_the_report(config: Config, amis: ListView) -> None:
    """Every line is reported; the good ones are in, whatever the others are."""
    Block.create(pattern="@spam.example")
    people.subscribe(config, SHELL, amis, "here@example.org")
    data = (
        f"# batch\nA@example.org Ada\nHERE@example.org Hera\nbroken\n\na@Example.org Other\nx@spam.example\namis@{DOMAIN}\nb@example.org\n"
    )
    report = batch.apply(config, person("owner@example.org"), amis, data.encode())
    assert [(line["line"], line["result"]) for line in report.lines] == [
        (2, "added"), (3, "already"), (4, "invalid"), (6, "already"), (7, "blocked"), (8, "invalid"), (9, "added"),
    ]  # fmt: skip
    assert (report.added, report.already, report.invalid, report.blocked, report.full, report.removed) == (2, 2, 2, 1, 0, 0)
    assert report.lines[2]["detail"] == "no @ in it"
    assert report.lines[3]["detail"] == "the same address as in line 2"
    assert report.rejected == ["broken", "x@spam.example", f"amis@{DOMAIN}"]
    assert not report.complete
    assert [(row["email"], row["name"], row["source"]) for row in people.subscribers(amis)] == [
        ("A@example.org", "Ada", "import"), ("b@example.org", "", "import"), ("here@example.org", "Hera", "add"),
    ]  # fmt: skip
    assert Subscription.select().where(Subscription.added_by == "owner@example.org").count() == 2
    assert [entry for entry in audited() if entry[1] == "member import"] == [("owner@example.org", "member import", amis.address)]


@pytest.mark.parametrize("table", ["subscription", "account"])
def test_what_is_not_inserted_is_not_reported_as_added(config: Config, amis: ListView, table: str) -> None:
    """A row that the database refuses for another reason than being there fails the whole batch, loudly; nothing is half done."""
    database.db.execute_sql(f"CREATE TRIGGER odd BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'NOT NULL constraint failed'); END")
    with pytest.raises(IntegrityError):
        batch.apply(config, SHELL, amis, b"a@example.org\n")
    database.db.execute_sql("DROP TRIGGER odd")
    assert emails(amis) == []


def test_a_row_that_is_not_there_in_the_end(config: Config, amis: ListView) -> None:
    """What was let go in silence is found out by counting: the batch is not done, and says so."""
    database.db.execute_sql("CREATE TRIGGER odd BEFORE INSERT ON subscription BEGIN SELECT RAISE(IGNORE); END")
    with pytest.raises(TryAgain, match="nothing is done"):
        batch.apply(config, SHELL, amis, b"a@example.org\nb@example.org\n")
    assert Account.select().where(Account.key == "a@example.org").count() == 0


def test_a_not_null_failure_is_no_conflict(config: Config, amis: ListView, monkeypatch: pytest.MonkeyPatch) -> None:
    """A subscription that lacks what the schema wants is a failure, not somebody who is there already."""
    monkeypatch.setattr(Subscription._meta, "get_default_dict", lambda: {"mode": None})
    with pytest.raises(IntegrityError, match="NOT NULL"):
        batch.apply(config, SHELL, amis, b"a@example.org\n")
    assert emails(amis) == []


def test_importing_twice(config: Config, amis: ListView) -> None:
    """The second time changes nothing, and is complete."""
    data = b"a@example.org\nb@example.org\n"
    batch.apply(config, SHELL, amis, data)
    report = batch.apply(config, SHELL, amis, data)
    assert (report.added, report.already, report.complete) == (0, 2, True)
    assert Subscription.select().count() == 2


def test_sync_removes_who_is_not_in_the_file(config: Config, amis: ListView) -> None:
    """With sync the list is what the file says; who is in it twice or in another case stays, with what they chose."""
    batch.apply(config, SHELL, amis, b"a@example.org\nb@example.org\nc@example.org\n")
    people.update(config, SHELL, amis, "b@example.org", {"mode": "nomail"})
    report = batch.apply(config, SHELL, amis, b"B@example.org\nd@example.org\nbroken\n", sync=True)
    assert (report.added, report.already, report.removed, report.invalid) == (1, 1, 2, 1)
    assert [line for line in report.lines if line["result"] == "removed"] == [
        {"line": None, "input": "a@example.org", "result": "removed", "detail": ""},
        {"line": None, "input": "c@example.org", "result": "removed", "detail": ""},
    ]
    assert [(row["email"], row["mode"]) for row in people.subscribers(amis)] == [("b@example.org", "nomail"), ("d@example.org", "mail")]


@pytest.mark.parametrize("data", [b"", b"\n\n", b"# nobody\n", b"broken\nlines\n", b"\x80\xff"])
def test_sync_never_removes_everybody(config: Config, amis: ListView, data: bytes) -> None:
    """A file without one address is a mistake, not the wish to empty the list."""
    people.subscribe(config, SHELL, amis, "a@example.org")
    with pytest.raises(BadData, match="nobody is removed"):
        batch.apply(config, SHELL, amis, data, sync=True)
    assert emails(amis) == ["a@example.org"]


@pytest.mark.parametrize("data", [b"PK\3\4\0\0\n\n" * 1000, b"a@example.org\n\x89PNG\0", "a@example.org\n".encode("utf-16-le")], ids=["archive", "picture", "UTF-16"])
@pytest.mark.parametrize("dry_run", [False, True])
def test_what_is_no_text_is_refused(config: Config, amis: ListView, data: bytes, dry_run: bool) -> None:
    """A spreadsheet or an archive is one refusal, and not a thousand lines that name nobody."""
    with pytest.raises(BadData, match="no text"):
        batch.apply(config, SHELL, amis, data, dry_run=dry_run)
    assert emails(amis) == []


def test_a_dry_run_tells_all_and_does_nothing(tmp_path: Path) -> None:
    """What would happen is what happens, but nothing has: no subscriber, account, audit row or notice."""
    peer = Peer()
    config = open_site(tmp_path, peer.endpoint)
    amis = open_list(config)
    people.subscribe(config, SHELL, amis, "a@example.org", quiet=True)
    peer.letters.clear()
    before = audited()
    tried = batch.apply(config, SHELL, amis, b"b@example.org B\nbroken\n", sync=True, dry_run=True)
    with database.connection():
        assert (emails(amis), audited(), peer.letters, Account.select().count()) == (["a@example.org"], before, [], 2)
    done = batch.apply(config, SHELL, amis, b"b@example.org B\nbroken\n", sync=True, quiet=True)
    assert done.lines == tried.lines
    assert emails(amis) == ["b@example.org"]
    peer.close()


def test_a_full_list(config: Config, amis: ListView) -> None:
    """The most subscribers is kept to by a batch; sync makes room first."""
    amis = lifecycle.set_values(config, SHELL, amis, {"max_subscribers": "2"}).list
    report = batch.apply(config, SHELL, amis, b"a@example.org\nb@example.org\nc@example.org\n")
    assert (report.added, report.full, report.rejected) == (2, 1, ["c@example.org"])
    report = batch.apply(config, SHELL, amis, b"b@example.org\nc@example.org\n", sync=True)
    assert (report.added, report.already, report.removed, report.full) == (1, 1, 1, 0)


def test_a_pending_list_takes_no_batch(config: Config) -> None:
    """Nobody is imported to a list that is not active, unless a listmaster forces it."""
    pending = lifecycle.request(config, SHELL, "attente", type="discussion", subject="x", owner="owner@example.org").list
    with pytest.raises(NotPermitted, match="not active yet"):
        batch.apply(config, SHELL, pending, b"a@example.org")
    with pytest.raises(NotPermitted, match="not an owner"):
        batch.apply(config, person("a@example.org"), pending, b"a@example.org")
    assert batch.apply(config, SHELL, pending, b"a@example.org", force=True).added == 1


def test_everybody_is_welcomed_once(tmp_path: Path) -> None:
    """Who was added gets a welcome, who was removed a goodbye, in one connection; with quiet nobody gets anything."""
    peer = Peer()
    config = open_site(tmp_path, peer.endpoint)
    amis = open_list(config)
    batch.apply(config, SHELL, amis, b"z@example.org\n", quiet=True)
    peer.letters.clear()
    connections = peer.connections
    report = batch.apply(config, SHELL, amis, b"a@example.org\nb@example.org\na@example.org\n", sync=True)
    assert peer.recipients == ["a@example.org", "b@example.org", "z@example.org"]
    assert (peer.connections - connections, report.untold) == (2, 0)
    peer.close()
    assert batch.apply(config, SHELL, amis, b"c@example.org\n").untold == 1


def test_a_hundred_thousand_lines(config: Config, amis: ListView) -> None:
    """A large file takes seconds (measured: 4 on two slow cores, asserted with room)."""
    data = b"".join(b"Person%d@host%d.example.org Pr\xc3\xa9nom Nom %d\n" % (i, i % 977, i) for i in range(100_000)) + b"broken\n"
    started = time.monotonic()
    report = batch.apply(config, SHELL, amis, data, quiet=True)
    assert (report.added, report.invalid) == (100_000, 1)
    assert time.monotonic() - started < 60
    assert Subscription.select().where(Subscription.list == amis.id).count() == 100_000
