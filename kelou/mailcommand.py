"""The commands in a mail: Sympa's grammar, and what people make of it (docs/mail-commands.md).

The subject is read first, as one command; if it is none, the body, one command a line, as far as the author's own text goes: to a signature, to
what is quoted or forwarded, to QUIT, to the first line that is no command. Nothing here looks into the database, nothing raises, and the time taken
is in proportion to the mail.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from . import htmltext, mime
from .command import BAD_ADDRESS, LINE, NO_ADDRESS, SHOWN, Command, Lists, clean, extra, form_line
from .command import read as read_command
from .message import Message

LIMIT = 50  # commands taken from one mail; adds to one list in a row are one
SIZE = 5_000_000  # octets of a text or an attached file; larger ones are not read, because half a batch is worse than none
PAGE = 1_000_000  # octets of an HTML text

_NEVER_A_BATCH = frozenset({"text/calendar", "text/html", "text/rtf", "text/vcard", "text/x-vcard"})


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a mail asks for. `end` says where reading stopped: quit, signature, quoted, unknown, limit; empty at the end of the text."""

    commands: tuple[Command, ...] = ()
    end: str = ""
    unknown: tuple[str, ...] = ()  # lines that were not understood: the one that reading stopped at, and the subject if there is no command at all
    left: int = 0  # lines that were not read because there were too many; a text that is too large, and not read at all, counts as one


def from_function(function: str, list: str, token: str = "") -> Command | None:
    """The command that a list's own address is, whatever the mail says: LIST-subscribe@, LIST-unsubscribe+TOKEN@, LIST-confirm+TOKEN@.

    None where the mail has to be parsed; so it is for a confirmation whose token is not in the address.
    """
    if function in ("subscribe", "unsubscribe") or (function == "confirm" and token):
        return Command(function, line=f"{function} {list}"[:SHOWN], list=list, token=token)
    return None


def parse(message: Message, *, lists: Lists = None) -> Parsed:
    """The commands in a mail to the command address.

    `lists` says whether there is a list of that name. With it, words of a sentence are not taken for lists, and a subject that names no list there is
    gives way to commands in the body.
    """
    text, files, unread = _texts(message)
    found = _parse(message, text, files, lists)
    return replace(found, end="limit", left=found.left + unread) if unread else found


def _parse(message: Message, text: str, files: bytes, lists: Lists) -> Parsed:
    subject, forwarded = _subject(message)
    found = read_command(subject, lists) if subject and not forwarded else None
    if found and _certain(found, lists):
        if found.verb == "quit":
            return Parsed(end="quit")
        if found.problem == NO_ADDRESS:
            return _read(_lines(text), files, lists, quotes=True, first=found)
        return Parsed((_answered(found, text) if found.verb == "request" else found,))
    body = _read(_lines(text), files, lists, quotes=not forwarded)
    if body.commands or body.end == "quit":
        return body
    if found:
        return Parsed((found,), body.end)
    return replace(body, unknown=(*([subject[:SHOWN]] if subject else []), *body.unknown))


def _certain(command: Command, lists: Lists) -> bool:
    """Whether a subject is so surely a command that the body does not count."""
    if command.verb == "request":
        return bool(command.fields) or not command.list
    if extra(command) or (command.problem and not (command.problem == NO_ADDRESS and command.verb == "add")):
        return False
    return lists is None or command.list in ("", "*") or lists(command.list)


# RE, RÉ, RÉP, RÉF, with a number; and the tags in brackets that lists and gateways put there.
_ANSWER = re.compile(r"\s?(?:(?:re|ré|rép|rep|réf|ref|aw|sv)\s?(?:\[\d{1,4}\]|\^\d{1,4})?\s?:|\[[^\[\]]{1,60}\])", re.IGNORECASE)
_FORWARD = re.compile(r"\s?(?:fwd?|tr|wg|transféré|transfert)\s?:", re.IGNORECASE)


def _subject(message: Message) -> tuple[str, bool]:
    """The subject without marks of an answer, and whether it is that of another, forwarded mail."""
    line = clean(message.text("subject")[:LINE])
    at = 0
    while match := _ANSWER.match(line, at):
        at = match.end()
    return line[at:].lstrip(), bool(_FORWARD.match(line, at))


def _texts(message: Message) -> tuple[str, bytes, int]:
    """The author's text, from plain text or else from HTML; attached text files, joined; and how many of all these are too large to be read."""
    try:
        parts = mime.parts(message)
    except mime.TooComplex:
        return "", b"", 0
    attached = [part for part in parts if _attached(part) and _batch(part)]
    inline = [part for part in parts if not _attached(part) and part.type in ("text/plain", "text/html")]
    short = [part for part in inline if part.end - part.start <= (PAGE if part.type == "text/html" else SIZE)]
    text = next((text for part in short if part.type == "text/plain" and (text := _plain(message, part)).strip()), "")
    if not text:
        pages = (htmltext.read(mime.text(message, part, PAGE)) for part in short if part.type == "text/html")
        text = next((page for page in pages if page.strip()), "")
    unread = len(inline) - len(short) if not text else 0
    if sum(part.end - part.start for part in attached) > SIZE:
        return text, b"", unread + len(attached)
    return text, b"\n".join(_file(message, part) for part in attached), unread


def _attached(part: mime.Part) -> bool:
    return part.disposition == "attachment" or bool(part.filename)


def _plain(message: Message, part: mime.Part) -> str:
    text = mime.text(message, part, SIZE)
    if part.parameters.get("format", "").lower() == "flowed":
        # RFC 3676 section 4.1: a line that ends in a blank goes on below; not so a signature's separator (4.3) and quoted lines.
        text = re.sub(r"(?<!^--) \n(?=[^>\n])", " ", text, flags=re.MULTILINE)
    return text


def _batch(part: mime.Part) -> bool:
    """Whether an attachment can be a batch: text, or what some systems take for a spreadsheet or for nothing, with a name that says text."""
    if part.type.startswith("text/"):
        return part.type not in _NEVER_A_BATCH
    return part.type.startswith("application/") and part.filename.lower().endswith((".csv", ".tsv", ".txt"))


def _file(message: Message, part: mime.Part) -> bytes:
    """A text file in UTF-8 where its charset is known, else as it is: kelou.batch finds out."""
    if part.parameters.get("charset"):
        return mime.text(message, part, SIZE).encode("utf-8", "replace")
    return mime.content(message, part)


def _lines(text: str) -> Iterator[str]:
    for line in io.StringIO(text, newline=None):
        yield line.rstrip("\n")


# Where an author's own text ends. Nothing of a forwarded thread is read below its first mark.
_SIGNATURES = frozenset({"--", "—", "–"})
_POLITE = re.compile(
    r"(?:(?:un grand |mille )?merci|(?:bien |très )?cordialement|salutations|bonne (?:journée|soirée)|à bientôt|thanks|thank you|cheers"
    r"|(?:kind |best )?regards|envoyé (?:de|depuis|à partir de)|sent (?:from|with)|get outlook|télécharger outlook)\b",
    re.IGNORECASE,
)
_QUOTED = re.compile(
    r"[-_=*~]{3,}"  # -----Original Message-----, ---------- Forwarded message, a ruler
    r"|(?:le|on)\s.{0,300}\d\s?[:h]\s?\d\d"  # Le lun. 3 mars 2025 à 10:12, Jeanne <…> a écrit :
    r"|.{0,300}\b(?:a écrit|wrote)\s?:$"
    r"|(?:begin forwarded message|début du message|message (?:transféré|d'origine)|(?:original|forwarded) message)\b"
    r"|(?:de|from|expéditeur)\s?:\s",
    re.IGNORECASE,
)
_COMMENT = re.compile(r"#|-----BEGIN PGP SIGNED MESSAGE-----|Hash: ")  # RFC 9580 section 7


def _read(lines: Iterator[str], files: bytes, lists: Lists, *, quotes: bool, first: Command | None = None) -> Parsed:
    """Read commands to the end of the author's own text. `first` stands above the lines; `quotes` says whether quoted lines may be the author's."""
    commands = _Commands(files)
    own = first is not None  # what is quoted below a line of the author's own is no longer the author's
    if first:
        commands.take(first)
    for raw in lines:
        line, quoted = _unquote(raw)
        if not line or _COMMENT.match(line):
            continue
        if end := _end(line, foreign=quoted and (own or not quotes)):
            return Parsed(commands.done(), end)
        own = own or not quoted
        if commands.rows is not None and not _ends_batch(line):
            commands.rows.append(raw if not quoted else line)
            continue
        if commands.form is not None and (found := form_line(line)):
            _note(commands.form, found)
            continue
        command = read_command(line, lists)
        if not command:
            return Parsed(commands.done(), "unknown", (line[:SHOWN],))
        if command.verb == "quit":
            return Parsed(commands.done(), "quit")
        if not commands.take(command):
            left = 1 + sum(1 for line in lines if line.strip())
            return Parsed(commands.done(), "limit", left=left)
    return Parsed(commands.done())


def _unquote(raw: str) -> tuple[str, bool]:
    """A clean line, less one mark of quotation; and whether it had one."""
    line = clean(raw[:LINE])
    return (line[1:].lstrip(), True) if line.startswith(">") else (line, False)


def _end(line: str, *, foreign: bool) -> str:
    """Why the author's own text ends at this line; empty if it does not."""
    if line in _SIGNATURES or (_POLITE.match(line) and "@" not in line):
        return "signature"
    return "quoted" if foreign or _QUOTED.match(line) else ""


def _ends_batch(line: str) -> bool:
    """Whether a line below `add LIST` is no longer one of the people: the next `add`, or QUIT."""
    command = read_command(line) if "@" not in line.partition(" ")[0] else None
    return command is not None and (command.verb == "quit" or (command.verb == "add" and command.problem in ("", NO_ADDRESS)))


class _Commands:
    """Commands as they are read: adds to one list in a row become one with a batch, and there are at most LIMIT."""

    def __init__(self, files: bytes) -> None:
        self.files = files
        self.taken: list[Command] = []
        self.rows: list[str] | None = None  # the lines below `add LIST`, while they are read
        self.form: dict[str, str] | None = None  # of the list request that stands last
        self.people: list[str] = []  # of the adds at the end of `taken`

    def take(self, command: Command) -> bool:
        """Take one more; False if there are too many."""
        self._close()
        person = f"{command.email} {command.name}".strip() if command.verb == "add" else ""
        if person and self.people and (self.taken[-1].list, self.taken[-1].quiet) == (command.list, command.quiet):
            self.people.append(person)
            return True
        self._join_people()
        if len(self.taken) >= LIMIT:
            return False
        self.people = [person] if person else []
        if command.verb == "add" and command.problem == NO_ADDRESS:
            if self.files:
                command = replace(command, batch=self.files, problem="")
            else:
                self.rows = []
        if command.verb == "request":
            self.form = {}
        self.taken.append(command)
        return True

    def done(self) -> tuple[Command, ...]:
        """All of them."""
        self._close()
        self._join_people()
        return tuple(self.taken)

    def _close(self) -> None:
        """What stands below the last command ends here."""
        if self.form:
            self.taken[-1] = _filled(self.taken[-1], self.form)
        if self.rows:
            self.taken[-1] = replace(self.taken[-1], batch=_encode(self.rows), problem="")
        self.rows = self.form = None  # without any line the command stays as it is, lacking something

    def _join_people(self) -> None:
        if len(self.people) > 1:
            first = self.taken[-1]  # a wrong address is for the batch's report to name
            problem = "" if first.problem == BAD_ADDRESS else first.problem
            self.taken[-1] = replace(first, email="", name="", batch=_encode(self.people), problem=problem)
        self.people = []


def _encode(rows: list[str]) -> bytes:
    return "".join(f"{row}\n" for row in rows).encode("utf-8", "replace")


# The form of a list request: a line `field: value` each.
def _note(form: dict[str, str], found: tuple[str, str]) -> None:
    """Of a field that is there twice, the first value counts that is one."""
    if found[1]:
        form.setdefault(*found)


def _answered(command: Command, text: str) -> Command:
    """The request with the form of an answer to our notice: quoted, below a line that says whom, filled in there or written anew."""
    form: dict[str, str] = {}
    for raw in _lines(text):
        if found := form_line(raw[:LINE].lstrip("> \t\xa0")):
            _note(form, found)
    return _filled(command, form)


def _filled(command: Command, form: Mapping[str, str]) -> Command:
    fields = {**form, **command.fields}
    name = fields.pop("name", "")
    return replace(command, list=command.list or name, fields=fields)
