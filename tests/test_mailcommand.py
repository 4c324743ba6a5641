"""Commands by mail: every verb in English and French, in the subject and in the body; what people get wrong; what strangers try."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kelou import command as grammar
from kelou import htmltext
from kelou.command import BAD_ADDRESS, BAD_LIST, BAD_TOKEN, NO_ADDRESS, NO_LIST, NO_SETTING, NO_TOKEN, NOT_ALL, Command, read
from kelou.mailcommand import LIMIT, PAGE, SIZE, Parsed, from_function, parse
from kelou.message import Message, field
from kelou.verb import FIELDS, OPTIONS, QUIET, VERBS

DOCS = Path(__file__).parent.parent / "docs"
TOKEN = "abcdefghijklmnopqrstuvwxyz"
SYMPAS = "0123456789abcdef0123456789abcdef"


def mail(body: str | bytes = "", subject: str | None = None, **fields: str) -> Message:
    header = [field("From", "Jane <jane@example.org>"), field("To", "sympa@lists.example.org")]
    if subject is not None:
        header.append(field("Subject", subject))
    header += [field(name.replace("_", "-"), value) for name, value in fields.items()]
    return Message(tuple(header), b"\r\n", body if isinstance(body, bytes) else body.replace("\n", "\r\n").encode())


def multipart(kind: str, *parts: tuple[str, str | bytes]) -> Message:
    body = b""
    for header, content in parts:
        body += b"--=-x\r\n" + header.replace("\n", "\r\n").encode() + b"\r\n\r\n" + (content if isinstance(content, bytes) else content.encode()) + b"\r\n"
    return mail(body + b"--=-x--\r\n", Content_Type=f'multipart/{kind}; boundary="=-x"')


def with_subject(message: Message, subject: str) -> Message:
    return message.with_field(field("Subject", subject))


def only(parsed: Parsed) -> Command:
    assert len(parsed.commands) == 1, parsed
    return parsed.commands[0]


def meant(command: Command | None) -> dict[str, Any]:
    """What a command says, without how it was written."""
    assert command
    names = ("verb", "list", "email", "name", "option", "key", "value", "token", "text", "fields", "batch", "quiet", "problem")
    return {name: value for name in names if (value := getattr(command, name))}


def here(*names: str) -> Callable[[str], bool]:
    known = {*names, *(f"{name}@lists.example.org" for name in names)}
    return lambda name: name in known


# Every row of Sympa's table, and ours: verb, words, what follows, what that means.
ROWS: list[tuple[str, str, str, dict[str, Any]]] = [
    ("help", "help HELP hel sos aide Aide ?", "", {}),
    ("lists", "lists lis list LIST listes liste", "", {}),
    ("info", "info inf infos information", "ca", {"list": "ca"}),
    ("which", "which whi status lesquelles mes_listes Mes_Listes mes_abonnements", "", {}),
    ("review", "review rev who qui abonnés abonnes membres", "ca", {"list": "ca"}),
    ("stats", "stats sta statistiques", "ca", {"list": "ca"}),
    ("subscribe", "subscribe sub join abonner s'abonner S’abonner m'abonner abonnez-moi abonnement inscription s'inscrire", "ca",
     {"list": "ca"}),
    ("subscribe", "subscribe sub s'abonner abonner", "ca Jane Doe", {"list": "ca", "name": "Jane Doe"}),
    ("unsubscribe", "unsubscribe unsub uns signoff sig leave désabonner desabonner DÉSABONNER se_désabonner me_désabonner désabonnement désabonnez-moi "
     "désinscrire se_désinscrire désinscription", "ca", {"list": "ca"}),
    ("unsubscribe", "unsubscribe signoff sig uns désabonner", "ca@lists.example.org", {"list": "ca@lists.example.org"}),
    ("unsubscribe", "unsubscribe signoff désabonner", "*", {"list": "*"}),
    ("unsubscribe", "unsubscribe signoff désabonner", "ca jean@example.org", {"list": "ca", "email": "jean@example.org"}),
    ("unsubscribe", "unsubscribe signoff désabonner", "* jean@example.org", {"list": "*", "email": "jean@example.org"}),
    ("set", "set régler regler", "ca nomail", {"list": "ca", "option": "nomail"}),
    ("set", "set régler", "* digest", {"list": "*", "option": "digest"}),
    ("set", "set régler", "ca post moderators", {"list": "ca", "key": "post", "value": "moderators"}),
    ("invite", "invite inv inviter", "ca jean@example.org Jean Le Goff", {"list": "ca", "email": "jean@example.org", "name": "Jean Le Goff"}),
    ("add", "add ajouter Ajouter", "ca jean@example.org Jean Le Goff", {"list": "ca", "email": "jean@example.org", "name": "Jean Le Goff"}),
    ("del", "del delete supprimer retirer enlever", "ca jean@example.org", {"list": "ca", "email": "jean@example.org"}),
    ("remind", "remind rem rappel rappeler", "ca", {"list": "ca"}),
    ("remind", "remind rem rappel", "*", {"list": "*"}),
    ("modindex", "modindex mod modind à_modérer a_moderer À_modérer modérer", "ca", {"list": "ca"}),
    ("distribute", "distribute dis approve distribuer approuver", f"ca {TOKEN}", {"list": "ca", "token": TOKEN}),
    ("reject", "reject rej rejeter", f"ca {TOKEN}", {"list": "ca", "token": TOKEN}),
    ("reject", "reject rejeter", f"ca {TOKEN} hors sujet", {"list": "ca", "token": TOKEN, "text": "hors sujet"}),
    ("confirm", "confirm con auth confirmer", TOKEN, {"token": TOKEN}),
    ("confirm", "auth", f"{SYMPAS} subscribe ca", {"token": SYMPAS, "text": "subscribe ca"}),
    ("verify", "verify ver vérifier", "ca", {"list": "ca"}),
    ("index", "index ind sommaire", "ca", {"list": "ca"}),
    ("get", "get obtenir", "ca 2024-03/7", {"list": "ca", "text": "2024-03/7"}),
    ("last", "last las dernier", "ca", {"list": "ca"}),
    ("request", "request demander demande demande_de_liste list_request", 'ca type=newsletter subject="La lettre"',
     {"list": "ca", "fields": {"type": "newsletter", "subject": "La lettre"}}),
    ("request", "request demander Demander_une_liste demande_de_liste request_a_list", "", {}),
    ("activate", "activate activer", TOKEN, {"token": TOKEN}),
    ("refuse", "refuse refuser", f"{TOKEN} trop vague", {"token": TOKEN, "text": "trop vague"}),
]  # fmt: skip
EACH = [
    pytest.param(verb, f"{word.replace('_', ' ')} {arguments}".strip(), expected, id=f"{word} {arguments}".strip().encode("ascii", "replace").decode())
    for verb, words, arguments, expected in ROWS
    for word in words.split()
]


def test_every_verb_is_in_the_table_of_tests() -> None:
    """No verb is without a row here."""
    assert {verb for verb, *_rest in ROWS} | {"quit"} == {verb.name for verb in VERBS}


@pytest.mark.parametrize(("verb", "line", "expected"), EACH)
def test_each_command_in_the_subject(verb: str, line: str, expected: dict[str, Any]) -> None:
    """A subject that is a command is the one command of the mail, whatever stands in the body."""
    assert meant(only(parse(mail("del ca everybody@example.org\n", line)))) == {"verb": verb, **expected}


@pytest.mark.parametrize(("verb", "line", "expected"), EACH)
def test_each_command_in_the_body(verb: str, line: str, expected: dict[str, Any]) -> None:
    """Without a subject that is one, the body is read, one command a line."""
    found = parse(mail(f"{line}\nverify cb\n", "Bonjour"))
    assert [meant(command) for command in found.commands] == [{"verb": verb, **expected}, {"verb": "verify", "list": "cb"}]
    assert found.end == ""
    assert found.commands[0].line == line


@pytest.mark.parametrize(("verb", "line", "expected"), EACH)
def test_each_command_may_be_quiet(verb: str, line: str, expected: dict[str, Any]) -> None:
    """QUIET, or silencieux, may stand before any command."""
    assert [meant(read(f"{word} {line}")) for word in ("QUIET", "silencieux")] == [{"verb": verb, **expected, "quiet": True}] * 2


@pytest.mark.parametrize("word", ["quit", "QUIT", "qui", "end", "stop", "-", "fin", "Fin.", "quitter"])
def test_quit_ends_the_commands(word: str) -> None:
    """Nothing below QUIT is read; in the subject it says that there is nothing to do."""
    assert parse(mail(f"help\n{word}\nwhich\n")) == Parsed((Command("help", "help"),), "quit")
    assert parse(mail("which\n", word)) == Parsed((), "quit")


def test_who_is_there_and_quit_share_a_word() -> None:
    """QUI alone is Sympa's QUIT; with a list behind it, it is French for who."""
    assert parse(mail("qui ca\nqui\nwhich")).commands == (Command("review", "qui ca", "ca"),)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("unsubscribe  ca ", {"list": "ca"}),
        ("\tunsubscribe\tca", {"list": "ca"}),
        ("unsubscribe\u00a0ca\u202f!", {"list": "ca", "text": "!"}),
        ("un\u00adsubscribe\u200b ca\ufeff", {"list": "ca"}),
        ("unsubscribe ca.", {"list": "ca"}),
        ("Unsubscribe: CA;", {"list": "ca"}),
        ('"unsubscribe ca"', {"list": "ca"}),
        ("« désabonner ca »", {"list": "ca"}),
        ("unsubscribe%20ca", {"list": "ca"}),
        ("d%C3%A9sabonner%20ca", {"list": "ca"}),
        ("unsubscribe%20ca%40lists.example.org", {"list": "ca@lists.example.org"}),
        ("unsubscribe ca%40lists.example.org", {"list": "ca@lists.example.org"}),
        ("unsubscribe+ca", {"list": "ca"}),
        ("mailto:sympa@lists.example.org?subject=unsubscribe%20ca", {"list": "ca"}),
        ("MAILTO:sympa@lists.example.org?SUBJECT=unsubscribe%20ca", None),
        ("<mailto:sympa@lists.example.org?subject=SIG%20ca>", {"list": "ca"}),
        ("mailto:sympa@lists.example.org?body=x&subject=signoff%20ca", {"list": "ca"}),
        ("List-Unsubscribe: <mailto:sympa@lists.example.org?subject=unsubscribe%20ca>, <https://x.example>", {"list": "ca"}),
        ("unsubscribe <ca>", {"list": "ca"}),
        ("unsubscribe <ca@lists.example.org>", {"list": "ca@lists.example.org"}),
        ("unsubscribe mailto:ca@lists.example.org", {"list": "ca@lists.example.org"}),
        ("unsubscribe ca@lists.example.org<mailto:ca@lists.example.org>", {"list": "ca@lists.example.org"}),
        ("unsubscribe ca@lists.example.org <mailto:ca@lists.example.org>", {"list": "ca@lists.example.org"}),
        ("unsubscribe me from the list ca", {"list": "ca"}),
        ("se désabonner de la liste ca", {"list": "ca"}),
        ("unsubscribe ca <jean@example.org>", {"list": "ca", "email": "jean@example.org"}),
        ("unsubscribe ca jean.example.org", {"list": "ca", "text": "jean.example.org"}),
        ("unsubscribe ca jean@", {"list": "ca", "email": "jean@", "problem": BAD_ADDRESS}),
        ("unsubscribe", {"problem": NO_LIST}),
        ("unsubscribe !", {"problem": NO_LIST}),
        ("unsubscribe ../../etc/passwd", {"list": "/../etc/passwd", "problem": BAD_LIST}),
        ("unsubscribe ca'--", {"list": "ca'--", "problem": BAD_LIST}),
        ("unsubscribe\0ca\x1b[31m", {"list": "ca", "text": "[31m"}),
    ],
    ids=lambda value: ascii(value)[:60] if isinstance(value, str) else "",
)  # fmt: skip
def test_what_people_make_of_one_line(line: str, expected: dict[str, Any] | None) -> None:
    """Blanks, dots, brackets, links and encodings around what is meant do not matter."""
    found = read(line)
    assert (meant(found) if found else None) == ({"verb": "unsubscribe", **expected} if expected is not None else None)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("add ca Jean Le Goff <jean@example.org>", {"email": "jean@example.org", "name": "Jean Le Goff"}),
        ('add ca "Le Goff, Jean" <jean@example.org>', {"email": "jean@example.org", "name": "Le Goff, Jean"}),
        ("add ca jean@example.org, Jean", {"email": "jean@example.org", "name": "Jean"}),
        ("add ca Jean jean@example.org", {"email": "jean@example.org", "name": "Jean"}),
        ("add ca <jean+tag@EXAMPLE.org>;", {"email": "jean+tag@EXAMPLE.org"}),
        ("add ca jean.example.org Jean", {"email": "jean.example.org", "name": "Jean", "problem": BAD_ADDRESS}),
        ("add ca a@b@c", {"email": "a@b@c", "problem": BAD_ADDRESS}),
        ("add ca", {"problem": NO_ADDRESS}),
    ],
)
def test_a_person_is_written_in_some_ways(line: str, expected: dict[str, str]) -> None:
    """`a@b Name`, `Name <a@b>` and `Name a@b` are one person."""
    assert meant(read(line)) == {"verb": "add", "list": "ca", **expected}


@pytest.mark.parametrize(
    ("words", "option"),
    [
        *((option, option) for option in OPTIONS),
        ("normal", "mail"), ("each", "mail"), ("eachmail", "mail"), ("nodigest", "mail"), ("MAIL", "mail"), ("Réception directe", "mail"),
        ("ne pas recevoir", "nomail"), ("compilation", "digest"), ("not me", "not_me"), ("sauf mes messages", "not_me"), ("masquer", "conceal"),
        ("afficher", "noconceal"), ("résumé", "summary"), ("resume.", "summary"), ("suspendre", "suspend"),
    ],
)  # fmt: skip
def test_each_option_of_a_subscription(words: str, option: str) -> None:
    """Sympa's options, and French words for them."""
    assert meant(read(f"set ca {words}")) == {"verb": "set", "list": "ca", "option": option}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("set ca subject Les nouvelles du port !", {"list": "ca", "key": "subject", "value": "Les nouvelles du port !"}),
        ("set ca subject=Les nouvelles", {"list": "ca", "key": "subject", "value": "Les nouvelles"}),
        ('set ca Subject = "Les nouvelles"', {"list": "ca", "key": "subject", "value": "Les nouvelles"}),
        ("set ca reply-to: list", {"list": "ca", "key": "reply_to", "value": "list"}),
        ("set ca digest 1,4 13:26", {"list": "ca", "key": "digest", "value": "1,4 13:26"}),
        ("set ca footer=", {"list": "ca", "key": "footer"}),
        ("set ca suspend 2026-07-01 2026-08-31", {"list": "ca", "option": "suspend", "value": "2026-07-01 2026-08-31"}),
        ("régler * vacances du 2026-07-01 au 2026-08-31", {"list": "*", "option": "suspend", "value": "du 2026-07-01 au 2026-08-31"}),
        ("set * post anyone", {"list": "*", "text": "post anyone", "problem": NOT_ALL}),
        ("set ca", {"list": "ca", "problem": NO_SETTING}),
        ("set", {"problem": NO_LIST}),
    ],
)  # fmt: skip
def test_settings_of_a_list(line: str, expected: dict[str, str]) -> None:
    """What is no option is a setting of the list and its value."""
    assert meant(read(line)) == {"verb": "set", **expected}


def test_a_setting_without_value_differs_from_an_empty_one() -> None:
    """`set ca footer` has no value, `set ca footer=` an empty one."""
    assert [c.value for line in ("set ca footer", "set ca footer=") if (c := read(line))] == [None, ""]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (f"distribute {TOKEN}", {"verb": "distribute", "token": TOKEN}),
        (f"distribute ca <{TOKEN}>.", {"verb": "distribute", "list": "ca", "token": TOKEN}),
        ("distribute ca 42", {"verb": "distribute", "list": "ca", "token": "42"}),
        (f"reject {TOKEN} ca", {"verb": "reject", "token": TOKEN, "text": "ca"}),
        ("distribute", {"verb": "distribute", "problem": NO_TOKEN}),
        ("confirm", {"verb": "confirm", "problem": NO_TOKEN}),
        ("confirm a/b", {"verb": "confirm", "token": "a/b", "problem": BAD_TOKEN}),
        (f"confirm ca {TOKEN}", {"verb": "confirm", "list": "ca", "token": TOKEN}),
        (f"activate ca {TOKEN}", {"verb": "activate", "list": "ca", "token": TOKEN}),
        (f"auth {SYMPAS} QUIET ADD ca jean@example.org", {"verb": "confirm", "token": SYMPAS, "text": "QUIET ADD ca jean@example.org", "quiet": True}),
        (f"quiet reject ca {TOKEN}", {"verb": "reject", "list": "ca", "token": TOKEN, "quiet": True}),
        ("review *", {"verb": "review", "list": "*", "problem": NOT_ALL}),
    ],
)  # fmt: skip
def test_tokens(line: str, expected: dict[str, Any]) -> None:
    """A token stands behind its list or alone."""
    assert meant(read(line)) == expected


@pytest.mark.parametrize(
    "line",
    [
        "", " ", ">", "Bonjour,", "I would like to unsubscribe", "Stop this please", "End of file", "Demande de renseignements", "Demande d'information",
        "informatique", "helpless", "addition ca", "https://lists.example.org/unsubscribe/ca", "To unsubscribe: mailto:sympa@x?subject=sig%20ca",
        "From: jane@example.org", "%", "+", "mailto:", "mailto:x?subject=", "'", "s'", "s' ca", "\u0301",
    ],
)  # fmt: skip
def test_what_is_no_command(line: str) -> None:
    """A sentence is no command, even if one of its words is."""
    assert read(line) is None


def test_with_the_lists_at_hand_a_sentence_is_no_command() -> None:
    """Where the lists are known, "Info on the meeting" asks for no list called `on`; a command with a wrong name stays one."""
    lists = here("ca", "the")
    assert read("Info sur la réunion de demain", lists) is None
    assert read("unsubscribe from your stupid list", lists) is None
    assert meant(read("info cax", lists)) == {"verb": "info", "list": "cax"}
    assert meant(read("unsubscribe list ca", lists)) == {"verb": "unsubscribe", "list": "ca"}
    assert meant(read("unsubscribe the", lists)) == {"verb": "unsubscribe", "list": "the"}
    assert meant(read("subscribe the Jane", lists)) == {"verb": "subscribe", "list": "the", "name": "Jane"}


# The subject.


@pytest.mark.parametrize("prefix", ["Re: ", "RE : ", "re:", "Ré: ", "RÉP : ", "Réf. ", "Re[2]: ", "Re: RE: Re: ", "[ca] ", "Re: [ca] ", "AW: "])
def test_marks_of_an_answer_are_no_part_of_the_command(prefix: str) -> None:
    """RE, RÉ, RÉP and the list's own tag before the command do not matter."""
    found = parse(mail("", f"{prefix}unsubscribe ca"))
    assert meant(only(found)) == {"verb": "unsubscribe", "list": "ca"} if prefix != "Réf. " else not found.commands


@pytest.mark.parametrize("prefix", ["Fwd: ", "FW: ", "TR : ", "Re: Fwd: ", "Transféré : "])
def test_the_subject_of_a_forwarded_mail_is_no_command(prefix: str) -> None:
    """What was forwarded is another's mail: neither its subject nor its quoted lines run."""
    assert parse(mail("> unsubscribe ca\n", f"{prefix}unsubscribe ca")).commands == ()
    assert meant(only(parse(mail("verify ca\n> unsubscribe ca\n", f"{prefix}x")))) == {"verb": "verify", "list": "ca"}


@pytest.mark.parametrize(
    "raw",
    [
        b"Subject: =?utf-8?q?d=C3=A9sabonner_ca?=",
        b"Subject: =?iso-8859-1?Q?D=E9sabonner?= ca",
        b"Subject: =?UTF-8?B?ZMOpc2Fib25uZXIgY2E=?=",
        "Subject: désabonner ca".encode(),
        b"Subject: unsubscribe\r\n ca",
        b"Subject: =?utf-8?q?s=C3=A9_unsubscribe?=\r\nsubject: unsubscribe%20ca",
    ],
)
def test_a_subject_in_any_coding(raw: bytes) -> None:
    """Encoded words, raw UTF-8 and folding are undone; of two subjects the topmost counts."""
    found = parse(Message.parse(raw + b"\r\n\r\n"))
    assert [c.verb for c in found.commands] == ([] if b"=C3=A9_" in raw else ["unsubscribe"])


def test_a_subject_that_lacks_something_gives_way_to_the_body() -> None:
    """"Désabonnement" as a title over the command itself is a title; over nothing it is a command that lacks a list."""
    assert meant(only(parse(mail("désabonner ca\n", "Désabonnement")))) == {"verb": "unsubscribe", "list": "ca"}
    assert meant(only(parse(mail("", "Désabonnement")))) == {"verb": "unsubscribe", "problem": NO_LIST}
    assert meant(only(parse(mail("Merci\n", "unsubscribe cax"), lists=here("ca")))) == {"verb": "unsubscribe", "list": "cax"}
    assert meant(only(parse(mail("unsubscribe ca\n", "unsubscribe cax"), lists=here("ca")))) == {"verb": "unsubscribe", "list": "ca"}
    assert meant(only(parse(mail("unsubscribe ca\n", "Aide pour me désabonner"), lists=here("ca")))) == {"verb": "unsubscribe", "list": "ca"}


# The body.


@pytest.mark.parametrize(
    ("body", "verbs", "end"),
    [
        ("help\nwhich\n", "help which", ""),
        ("\n\n# a comment\nhelp\n", "help", ""),
        ("help\r\rwhich\r", "help which", ""),
        ("help\n-- \nwhich\n", "help", "signature"),
        ("help\n--\nwhich\n", "help", "signature"),
        ("help\nMerci d'avance\nwhich\n", "help", "signature"),
        ("help\nSent from my phone\nwhich\n", "help", "signature"),
        ("help\nBonjour\nwhich\n", "help", "unknown"),
        ("Bonjour\nwhich\n", "", "unknown"),
        ("> help\n>which\n", "help which", ""),
        (">> help\n", "", "unknown"),
        ("> help\n> -- \n> which\n", "help", "signature"),
        ("> > help\n", "", "unknown"),
        ("verify ca\n> which\n", "verify", "quoted"),
        ("verify ca\n-----Original Message-----\nwhich\n", "verify", "quoted"),
        ("-----Message d'origine-----\nwhich\n", "", "quoted"),
        ("---------- Forwarded message ---------\nwhich\n", "", "quoted"),
        ("Begin forwarded message:\nwhich\n", "", "quoted"),
        ("Début du message réexpédié :\nwhich\n", "", "quoted"),
        ("________________________________\nwhich\n", "", "quoted"),
        ("De : Jeanne <jeanne@example.org>\nwhich\n", "", "quoted"),
        ("From: Jeanne\nwhich\n", "", "quoted"),
        ("On Mon, 3 Mar 2025 at 10:12, Jeanne <jeanne@example.org> wrote:\n> which\n", "", "quoted"),
        ("Le lun. 3 mars 2025 à 10:12, Jeanne <jeanne@example.org> a écrit :\n> which\n", "", "quoted"),
        ("Le lun. 3 mars 2025 à 10h12, Jeanne\n<jeanne@example.org> a écrit\u00a0:\n> which\n", "", "quoted"),
        ("Jeanne a écrit :\n> which\n", "", "quoted"),
        ("> Jeanne wrote:\n> which\n", "", "quoted"),
        ("help\n-----BEGIN PGP SIGNATURE-----\nwhich\n", "help", "quoted"),
        ("-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nhelp\n-----BEGIN PGP SIGNATURE-----\n", "help", "quoted"),
        ("", "", ""),
    ],
)  # fmt: skip
def test_where_the_authors_own_text_ends(body: str, verbs: str, end: str) -> None:
    """Commands run down to a signature, to what is quoted or forwarded, to a line that is none."""
    found = parse(mail(body, "Bonjour"))
    assert ([c.verb for c in found.commands], found.end) == (verbs.split(), end)


def test_what_was_not_understood_is_named() -> None:
    """The line that reading stopped at, and the subject if there was no command at all; both cut short."""
    assert parse(mail("help\nplease do\nwhich", "Hello")).unknown == ("please do",)
    assert parse(mail("please do", "Hello")).unknown == ("Hello", "please do")
    assert parse(mail("x" * 10_000, "y" * 900)).unknown == ("y" * 200, "x" * 200)
    assert parse(mail()) == Parsed()


def test_format_flowed_lines_are_joined() -> None:
    """A line that a mail program folded is one (RFC 3676); the signature's separator, which ends in a blank, is not folded."""
    message = mail("request ca type=newsletter subject=La lettre de \nl'association\n-- \nhelp\n", Content_Type="text/plain; format=flowed")
    assert meant(only(parse(message))) == {
        "verb": "request", "list": "ca", "fields": {"type": "newsletter", "subject": "La lettre de l'association"}}  # fmt: skip


@pytest.mark.parametrize(
    ("charset", "body"),
    [
        ("utf-8", "désabonner ca".encode()),
        ("iso-8859-1", "désabonner ca".encode("latin-1")),
        ("", "désabonner ca".encode()),
        ("", "désabonner ca".encode("latin-1")),
        ("no-such", "désabonner ca".encode()),
    ],
)
def test_a_body_in_any_charset(charset: str, body: bytes) -> None:
    """Accents arrive as they were written, also where the charset is not said."""
    fields = {"Content_Type": f"text/plain; charset={charset}"} if charset else {}
    assert meant(only(parse(mail(body, **fields)))) == {"verb": "unsubscribe", "list": "ca"}


def test_mail_of_several_parts() -> None:
    """Plain text counts before HTML; HTML where the plain text is empty; an attached mail is not looked into."""
    both = multipart("alternative", ("Content-Type: text/plain", "verify ca"), ("Content-Type: text/html", "<p>verify cb</p>"))
    assert only(parse(both)).list == "ca"
    empty = multipart("alternative", ("Content-Type: text/plain", " \r\n"), ("Content-Type: text/html", "<p>verify cb</p>"))
    assert only(parse(empty)).list == "cb"
    forwarded = multipart("mixed", ("Content-Type: text/plain", ""), ("Content-Type: message/rfc822", "Subject: verify ca\r\n\r\nverify ca\r\n"))
    assert parse(forwarded).commands == ()


@pytest.mark.parametrize(
    ("page", "lines"),
    [
        ("<div dir=ltr>unsubscribe&nbsp;ca<br></div><div>--&nbsp;<br>Jane</div>", ["unsubscribe ca", "--", "Jane"]),
        ("<html><head><title>x</title><style>p{}</style></head><body><p>d&eacute;sabonner\r\n <b>ca</b></p></body></html>", ["désabonner ca"]),
        ("<!-- help --><p>which</p><!-- > <p>help</p> -->", ["which"]),
        ("<script>if (a<b) help</script>which", ["which"]),
        ("<head><title>x<body>which", ["which"]),
        ("<script>x<body>which", []),
        ("<head><meta x><body>which", ["which"]),
        ("<p>which</p><blockquote type=cite><p>help</p></blockquote><p>lists</p>", ["which", "> help", "lists"]),
        ("<pre>help\nwhich</pre>", ["help", "which"]),
        ("a < b > c", ["a < b > c"]),
        ("add ca Jean <jean@example.org>", ["add ca Jean <jean@example.org>"]),
        ("add ca Jean &lt;jean@example.org&gt;", ["add ca Jean <jean@example.org>"]),
        ("&#" + "9" * 10_000 + ";&#xD800;&#0;", ["\ufffd\ufffd\ufffd"]),
        ("<", ["<"]),
        ("", []),
    ],
)  # fmt: skip
def test_html_is_read_as_lines(page: str, lines: list[str]) -> None:
    """Blocks and breaks make lines; what is quoted is marked; what is not shown is not read."""
    assert [line for raw in htmltext.read(page).split("\n") if (line := grammar.clean(raw)).strip(">")] == lines


def test_mail_in_html_only() -> None:
    """A command in an HTML mail is a command; what it quotes is not."""
    page = "<html><body><div>Verify ca</div><blockquote>unsubscribe ca</blockquote></body></html>"
    found = parse(mail(page, Content_Type="text/html"))
    assert (meant(only(found)), found.end) == ({"verb": "verify", "list": "ca"}, "quoted")


# Batches.

TWO = b"jean@example.org Jean Le Goff\nlena@example.org\n"


def test_adds_in_a_row_are_one_batch() -> None:
    """Lines of add for one list become one command with a batch; a wrong address is left for its report."""
    found = parse(mail("add ca jean@example.org Jean Le Goff\nadd ca lena@example.org\nadd cb x@example.org\nquiet add cb y@example.org\nhelp\nadd cb nobody\n"))
    assert [meant(c) for c in found.commands] == [
        {"verb": "add", "list": "ca", "batch": TWO},
        {"verb": "add", "list": "cb", "email": "x@example.org"},
        {"verb": "add", "list": "cb", "email": "y@example.org", "quiet": True},
        {"verb": "help"},
        {"verb": "add", "list": "cb", "email": "nobody", "problem": BAD_ADDRESS},
    ]
    assert meant(only(parse(mail("add ca nobody\nadd ca lena@example.org\n")))) == {
        "verb": "add", "list": "ca", "batch": b"nobody\nlena@example.org\n"}  # fmt: skip


@pytest.mark.parametrize("subject", ["add ca", "ajouter ca@lists.example.org", "Re: add ca"])
def test_the_body_below_a_subject_is_the_batch(subject: str) -> None:
    """With `add LIST` as the subject the body is the batch, to its signature."""
    found = only(parse(mail(TWO.decode() + "-- \nJane\njane@example.org\n", subject)))
    assert (found.verb, found.list.partition("@")[0], found.batch, found.problem) == ("add", "ca", TWO, "")


def test_the_lines_below_add_are_the_batch() -> None:
    """`add LIST` alone takes the lines below it; another add, or QUIT, ends it. A name is no command there, and Le Goff no quotation."""
    rows = "jean@example.org Jean\nLe Goff Yann <yann2004@example.org>\nDel Piero <add@example.org>\nMerci Dupont <m@example.org>\nadd+1@example.org\n"
    found = parse(mail(f"silencieux ajouter ca\n{rows}add cb\nx@example.org\nquit\ny@example.org\n"))
    assert [meant(c) for c in found.commands] == [
        {"verb": "add", "list": "ca", "batch": rows.encode(), "quiet": True},
        {"verb": "add", "list": "cb", "batch": b"x@example.org\n"},
    ]


@pytest.mark.parametrize(
    "header",
    [
        "Content-Type: text/plain; name=membres.txt\nContent-Disposition: attachment",
        "Content-Type: text/csv; charset=utf-8\nContent-Disposition: attachment; filename=m.csv",
        "Content-Type: application/octet-stream; name=m.csv",
        "Content-Type: application/vnd.ms-excel\nContent-Disposition: attachment; filename=M.CSV",
    ],
)
def test_a_text_attachment_is_the_batch(header: str) -> None:
    """With a text file attached that is the batch, and what stands below the command is read as commands."""
    message = multipart("mixed", ("Content-Type: text/plain", "Bonjour, voici la liste.\r\nJane\r\njane@example.org"), (header, TWO))
    found = only(parse(with_subject(message, "add ca")))
    assert (found.batch.strip(), found.problem) == (TWO.strip(), "")
    message = multipart("mixed", ("Content-Type: text/plain", "add ca\r\nverify ca"), (header, TWO))
    assert [c.verb for c in parse(message).commands] == ["add", "verify"]


def test_other_attachments_are_no_batch() -> None:
    """A visiting card or a spreadsheet is not read; `add LIST` without anybody lacks an address."""
    for header in ("Content-Type: text/vcard; name=jane.vcf", "Content-Type: application/zip; name=x.zip", "Content-Type: text/html; name=x.html"):
        message = multipart("mixed", ("Content-Type: text/plain", "add ca"), (header, TWO))
        assert meant(only(parse(message))) == {"verb": "add", "list": "ca", "problem": NO_ADDRESS}


def test_a_batch_in_latin_1_is_handed_on_in_utf_8_where_that_is_known() -> None:
    """A file that names its charset is decoded by it; one that does not is handed on as it is."""
    data = "léna@example.org Léna".encode("latin-1")
    for header, expected in (("; charset=iso-8859-1", "léna@example.org Léna".encode()), ("", data)):
        message = multipart("mixed", ("Content-Type: text/plain", "add ca"), (f"Content-Type: text/plain; name=a.txt{header}", data))
        assert only(parse(message)).batch == expected


# List requests.

FILLED = {"verb": "request", "list": "ca-asso", "fields": {"type": "newsletter", "subject": "La lettre", "language": "fr"}}


@pytest.mark.parametrize(
    "line",
    [
        "request ca-asso type=newsletter subject=La lettre language=fr",
        'request ca-asso type="newsletter" subject = "La lettre" language=fr',
        "request ca-asso subject='La lettre' type=newsletter language=fr",
        "demander ca-asso type=newsletter objet=« La lettre » langue=fr",
        "demander nom=ca-asso modele=newsletter sujet=“La lettre” langue=fr",
        "request type=newsletter subject=La lettre name=ca-asso language=fr language=en",
    ],
)
def test_a_list_request_in_one_line(line: str) -> None:
    """Values stand in quotes or go to the next key; keys have French names too."""
    assert meant(read(line)) == FILLED


def test_quotes_keep_keys_out_and_apostrophes_stay() -> None:
    """A quoted value may hold what looks like a key; an apostrophe is no quote."""
    assert meant(read("""request x subject="a type=b" description=L'asso d'ici"""))["fields"] == {"subject": "a type=b", "description": "L'asso d'ici"}


@pytest.mark.parametrize(
    ("subject", "body"),
    [
        ("Bonjour", "request\nname: ca-asso\ntype: newsletter\nsubject: La lettre\ndescription:\nlanguage: fr\n"),
        ("", "demander\nNom de la liste : ca-asso\nModèle : newsletter\nObjet : La lettre\n\nLangue : fr\n-- \nJane"),
        ("", "request ca-asso\ntype: newsletter\nsubject: La lettre\nlanguage: fr\n"),
        ("", "> request\n> name: ca-asso\n> type: newsletter\n> subject: La lettre\n> language: fr\n"),
        ("request", "name: ca-asso\ntype: newsletter\nsubject: La lettre\nlanguage: fr\n"),
        ("Re: request", "Le 3 mars 2025 à 10:12, sympa@lists.example.org a écrit :\n> name: ca-asso\n> type: newsletter\n> subject: La lettre\n> language: fr\n"),
        ("Re: request", "name: ca-asso\ntype: newsletter\nsubject: La lettre\nlanguage: fr\n\nOn x, y wrote:\n> name: \n> type: (newsletter, …)\n> subject:\n"),
        ("Re: Demande de liste", "Voici :\n>> nom : ca-asso\n>> type : newsletter\n>> objet : La lettre\n>> langue : fr\n"),
    ],
)  # fmt: skip
def test_the_form_of_a_list_request(subject: str, body: str) -> None:
    """An empty request and the form below it, or the form in an answer, quoted or not, make a request."""
    assert meant(only(parse(mail(body, subject)))) == FILLED


def test_an_empty_request() -> None:
    """`request` alone is a request without anything, which is answered with the form; hints in brackets are no values."""
    assert only(parse(mail("", "request"))) == Command("request", "request")
    assert meant(only(parse(mail("name: (the name)\ntype: [newsletter, …]\n", "Re: request")))) == {"verb": "request"}
    assert [c.verb for c in parse(mail("request\nname: ca\n\nhelp\n")).commands] == ["request", "help"]


# Addresses that are commands.


def test_a_lists_own_addresses_are_commands() -> None:
    """LIST-subscribe@ and the like say all themselves; a confirmation without a token in its address is in the mail."""
    assert from_function("subscribe", "ca") == Command("subscribe", "subscribe ca", "ca")
    assert from_function("unsubscribe", "ca", TOKEN) == Command("unsubscribe", "unsubscribe ca", "ca", token=TOKEN)
    assert from_function("confirm", "ca", TOKEN) == Command("confirm", "confirm ca", "ca", token=TOKEN)
    assert [from_function(function, "ca") for function in ("confirm", "command", "post", "owner")] == [None] * 4


# Strangers.


def seconds(message: Message) -> float:
    start = time.process_time()
    parse(message, lists=here("ca"))
    return time.process_time() - start


def test_at_most_some_commands_run() -> None:
    """Of 100,000 command lines the first fifty run, and the rest is counted."""
    found = parse(mail("which\n" * 100_000))
    assert (len(found.commands), found.end, found.left) == (LIMIT, "limit", 100_000 - LIMIT)
    found = parse(mail("add ca a@example.org\nadd cb b@example.org\n" * 1_000))
    assert (len(found.commands), found.end) == (LIMIT, "limit")


def test_a_long_batch_is_one_command() -> None:
    """20,000 lines of add are one command, each line in it."""
    found = only(parse(mail("".join(f"add ca a{number}@example.org\n" for number in range(20_000)))))
    assert found.batch.count(b"\n") == 20_000


def test_what_is_too_large_is_not_read_in_half() -> None:
    """A text or a file over the limit is not read at all, and that is said; the subject still counts."""
    large = b"a@example.org\r\n" * (SIZE // 15 + 1)
    assert parse(mail(b"add ca\r\n" + large)) == Parsed((), "limit", left=1)
    assert parse(mail(large, "unsubscribe ca")) == Parsed((Command("unsubscribe", "unsubscribe ca", "ca"),), "limit", left=1)
    found = parse(multipart("mixed", ("Content-Type: text/plain", "add ca"), ("Content-Type: text/csv; name=m.csv", large)))
    assert (only(found).problem, found.end, found.left) == (NO_ADDRESS, "limit", 1)
    found = parse(multipart("mixed", ("Content-Type: text/plain", "verify ca"), ("Content-Type: image/png; name=i.png", large)))
    assert (only(found).verb, found.end) == ("verify", "")


PIECES = [
    "which\n", "x", " ", "\n", "\r", ">", "> ", "<", "<a", "<!--", "-->", "&", "&#", "&#9", "%", "%20", "+", "@", '"', "'", "s'", "=", " type=", "a@b ", "<a@b",
    "mailto:", "mailto:?", "re:", "Re:[", "[", "quiet ", "é", "\u0301", "\u00a0", "le 1", "wrote", "on ", "#", "--", "add ca\n", "request\n", "name: \n",
    "<mailto:", "<pre>", "<blockquote>", "</", "&#x", "request type='", "set ca a",
]  # fmt: skip


@pytest.mark.parametrize("piece", PIECES, ids=ascii)
@pytest.mark.parametrize("kind", ["text/plain", "text/plain; format=flowed", "text/html"])
def test_time_is_in_proportion_to_the_mail(piece: str, kind: str) -> None:
    """A megabyte of anything, in one line or in many, is read in a moment."""
    assert seconds(mail((piece * (PAGE // len(piece.encode()))).encode(), Content_Type=kind)) < 3


@pytest.mark.parametrize("verb", ["add ca ", "unsubscribe ", "request ", "set ca ", "quiet ", "mailto:x?"])
@pytest.mark.parametrize("piece", PIECES, ids=ascii)
def test_a_long_subject_is_read_in_a_moment(verb: str, piece: str) -> None:
    """So is a subject of 50,000 characters behind any verb."""
    assert seconds(mail("", verb + piece * (50_000 // len(piece)))) < 1


WORDS = st.sampled_from([*PIECES, *(verb.name + " " for verb in VERBS), "ca ", TOKEN, "jean@example.org", "\r\n", "-- \r\n", "Subject: ", "\0", "\ud800"])


@settings(max_examples=300, deadline=None)
@given(st.lists(WORDS | st.text(max_size=20), max_size=30).map("".join), st.lists(WORDS | st.text(max_size=20), max_size=60).map("".join), st.booleans())
def test_no_mail_makes_it_raise(subject: str, body: str, known: bool) -> None:
    """Whatever a mail says, commands come of it or none, bounded, on single lines that can be sent on."""
    raw = f"Subject: {subject}\r\n\r\n{body}".encode("utf-8", "replace")
    for message in (Message.parse(raw), Message.parse(b"Content-Type: text/html\r\n" + raw)):
        found = parse(message, lists=here("ca") if known else None)
        assert len(found.commands) <= LIMIT
        for text in (*found.unknown, *(t for c in found.commands for t in (c.line, c.list, c.email, c.name, c.token, c.text, c.key, c.value or ""))):
            assert not re.search(r"[\x00-\x1f\x7f]", text)
            text.encode()


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_make_it_raise(raw: bytes) -> None:
    """Any bytes are a mail."""
    parse(Message.parse(raw))
    parse(Message.parse(b"Subject: request\nContent-Type: text/html; charset=unicode_escape\n\n" + raw))


# The documentation.


@pytest.mark.parametrize(("page", "french"), [("mail-commands.md", False), ("commandes.md", True)])
def test_every_word_is_documented(page: str, french: bool) -> None:
    """Both pages name each verb, each synonym of their language, each option and each field."""
    text = (DOCS / page).read_text("utf-8")
    words = [word for verb in VERBS for word in f"{verb.name} {verb.english} {verb.french if french else ''}".split()]
    words += [word for table in (OPTIONS, FIELDS) for key, others in table.items() for word in (key, *(others.split() if french else ()))]
    words += QUIET.split() if french else QUIET.split()[:1]
    assert [word for word in words if f"`{word.replace('_', ' ')}`" not in text and f"`{word}`" not in text] == []


@pytest.mark.parametrize("page", ["mail-commands.md", "commandes.md"])
def test_every_line_in_the_documentation_is_a_command(page: str) -> None:
    """The examples in the pages are commands that can be given as they stand."""
    blocks = re.findall(r"^```\n(.*?)^```", (DOCS / page).read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert blocks
    for block in blocks:
        found = parse(mail(block), lists=here("ca", "jardins-lettre"))
        assert (found.end, [c.problem for c in found.commands if c.problem]) == ("", [])
