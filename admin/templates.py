"""`kelou template`: what notices say, for the site or for a list."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from kelou import template, wording
from kelou.directory import ListView
from kelou.i18n import LANGUAGES, _
from kelou.models import iso
from kelou.refusal import BadData

from . import output
from .command import Noun
from .lists import LIST
from .run import Run

templates = Noun("template")
COMMANDS = (templates,)

NOTICE = _("NOTICE")


@contextmanager
def _scope(run: Run, name: str | None) -> Iterator[ListView | None]:
    with run.look(name) if name else run.site() as scope:
        yield scope if isinstance(scope, ListView) else None


def _of(function: Any) -> Any:
    """The options that say which text is meant."""
    function = click.option("--language", "code", type=click.Choice(LANGUAGES), help=_("In that language; else the list's or the site's."))(function)
    function = click.option("--list", "of", metavar=LIST, help=_("That list's; else the site's."))(function)
    return click.argument("name", metavar=NOTICE)(function)


@templates.command("list", help=_("The notices, and whose text each has."))
@click.option("--list", "of", metavar=LIST, help=_("As that list has them."))
@click.pass_obj
def list_(run: Run, of: str | None) -> None:
    with _scope(run, of) as found:
        rows = [row | {"changed": iso(row["changed"])} for row in wording.entries(found)]
        columns = {"name": _("notice"), "language": _("language"), "origin": _("from"), "changed": _("changed"), "by": _("by")}
        run.rows(columns, rows, "")


@templates.command("show", help=_("The text of a notice, as it is written."))
@_of
@click.pass_obj
def show(run: Run, name: str, of: str | None, code: str | None) -> None:
    with _scope(run, of) as found:
        language = wording.language(run.config, code, found)
        text = wording.current(name, language, found)
        row = {"name": name, "list": found and found.address, "language": language, "origin": text.origin, "text": text.source}
        output.data(output.to_json(row) if run.json else output.safe(text.source.rstrip("\n"), keep="\n\t"))


@templates.command("edit", dry_run="rollback", help=_("Change the text of a notice; without a file, in your editor."))
@_of
@click.argument("file", metavar=_("[FILE|-]"), default="")
@click.pass_obj
def edit(run: Run, name: str, of: str | None, code: str | None, file: str) -> None:
    with _scope(run, of) as found:
        language = wording.language(run.config, code, found)
        source = _read(file) if file else _typed(wording.current(name, language, found).source)
        changed = source is not None and wording.edit(run.config, run.actor, name, language, source, found)
        row = {"name": name, "list": found and found.address, "language": language, "changed": changed}
        run.done(row, (_("The notice {name} has this text.") if changed else _("Nothing was changed.")).format(name=name))


@templates.command("reset", dry_run="rollback", help=_("Go back to the text of the site, or to Kelou's own."))
@_of
@click.pass_obj
def reset(run: Run, name: str, of: str | None, code: str | None) -> None:
    with _scope(run, of) as found:
        language = wording.language(run.config, code, found)
        changed = wording.reset(run.actor, name, language, found)
        row = {"name": name, "list": found and found.address, "language": language, "changed": changed}
        run.done(row, (_("The notice {name} has its former text again.") if changed else _("Nothing was changed.")).format(name=name))


@templates.command("preview", help=_("A notice as it goes out, with sample values."))
@_of
@click.pass_obj
def preview(run: Run, name: str, of: str | None, code: str | None) -> None:
    with _scope(run, of) as found:
        language = wording.language(run.config, code, found)
        text, made = wording.preview(run.config, name, language, found)
        row = {"name": name, "list": found and found.address, "language": language, "origin": text.origin}
        row |= {"subject": made.subject, "text": made.text, "html": wording.page(made, language)}
        shown = _("Subject: {subject}").format(subject=made.subject) + "\n\n" + made.text.rstrip("\n")
        output.data(output.to_json(row) if run.json else output.safe(shown, keep="\n\t"))


def _read(file: str) -> str:
    """A file, or standard input, up to what a template may be. Raises BadData for what is no UTF-8."""
    most = 4 * template.SIZE + 4  # octets that so many characters can take
    if file == "-":
        data = sys.stdin.buffer.read(most)
    else:
        with Path(file).open("rb") as opened:
            data = opened.read(most)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadData(_("{file}: this is no text in UTF-8").format(file=file)) from error


def _typed(source: str) -> str | None:
    """The text as it comes out of the person's editor; None if it was left as it was. Raises BadData without a terminal."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise BadData(_("give a file, or - for standard input: there is no terminal for an editor"))
    return click.edit(source, extension=".txt")
