"""`kelou`, the command line: the tree of commands, the language they speak, and what a failure looks like.

A failure is one line on standard error, and an exit code of sysexits.h; a traceback only with KELOU_DEBUG=1.
"""

from __future__ import annotations

import errno
import gettext
import logging
import os
import re
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path

import click

import kelou
from kelou import i18n
from kelou.i18n import N_, _, ngettext
from kelou.refusal import BadConfiguration, BadData, Down, NotPermitted, Refusal, TryAgain
from kelou.setting import SettingError

from . import output
from .command import Noun, common
from .run import Run

FAULT = 70  # EX_SOFTWARE: our own
UNWRITTEN = 74  # EX_IOERR: the outcome of what was done could not be written

# What Click itself says, for our catalogue: Click asks the process's own gettext domain, which `speak` makes ours.
CLICK = (
    N_("Usage:"), N_("Options"), N_("Commands"), N_("Positional arguments"), N_("Show this message and exit."), N_("Show the version and exit."),
    N_("default: {default}"), N_("required"), N_("file"), N_("directory"), N_("path"),
    N_("Missing argument"), N_("Missing option"), N_("Missing parameter"), N_("Missing command."), N_("Missing {param_type}"),
    N_("Choose from:\n\t{choices}"), N_("No such option {name!r}."), N_("No such option: {name}"), N_("Option {name!r} does not take a value."),
    N_("Argument {name!r} takes {nargs} values."), N_("Invalid value: {message}"), N_("Invalid value for {param_hint}: {message}"),
    N_("{value!r} is not a valid {number_type}."), N_("{value} is not in the range {range}."),
    N_("{name} {filename!r} does not exist."), N_("{name} {filename!r} is a file."), N_("{name} {filename!r} is a directory."),
    N_("{name} {filename!r} is not readable."), N_("{name} {filename!r} is not writable."),
    ngettext("Did you mean {possibility}?", "(Did you mean one of: {possibilities}?)", 1),
    ngettext("Option {name!r} requires an argument.", "Option {name!r} requires {nargs} arguments.", 1),
    ngettext("{value!r} is not {choice}.", "{value!r} is not one of {choices}.", 1),
    ngettext("Got unexpected extra argument ({args})", "Got unexpected extra arguments ({args})", 1),
)  # fmt: skip


def language(arguments: Sequence[str], environment: str) -> str:
    """The language that --lang names, wherever it stands, else that of the environment."""
    for at, argument in enumerate(arguments):
        if argument == "--":
            break
        option, equals, value = argument.partition("=")
        if option == "--lang":
            return value if equals else next(iter(arguments[at + 1 :]), environment)
    return environment


def speak(code: str) -> None:
    """Put a language in force, for Click too."""
    i18n.use(code)
    os.environ["LANGUAGE"] = i18n.language()
    gettext.bindtextdomain("kelou", str(Path(i18n.__file__).with_name("locale")))
    gettext.textdomain("kelou")


def nouns() -> dict[str, tuple[str, str]]:
    """The commands: the module that declares each (imported when it is asked for), and what it is for."""
    return {
        "init":       ("site",     _("Make what is missing: configuration, directories, secret, database.")),
        "status":     ("site",     _("What runs, and how much there is.")),
        "doctor":     ("doctor",   _("What is wrong, and how to mend it.")),
        "config":     ("site",     _("The site's configuration.")),
        "serve":      ("site",     _("Run a daemon in the foreground.")),
        "service":    ("services", _("The daemons as services of systemd.")),
        "sandbox":    ("sandboxes", _("A private Postfix with everything of Kelou, to try it out.")),
        "domain":     ("domains",  _("Domains that lists live in.")),
        "dkim":       ("domains",  _("Keys that the lists' mail is signed with.")),
        "dns":        ("domains",  _("DNS records to publish.")),
        "list":       ("lists",    _("Mailing lists: request, activate, set up, close.")),
        "member":     ("members",  _("Subscribers of a list.")),
        "owner":      ("roles",    _("Owners of a list: they have all rights on it.")),
        "moderator":  ("roles",    _("Moderators of a list: they decide on held posts.")),
        "listmaster": ("roles",    _("Listmasters: they run the site and decide on requests.")),
        "block":      ("blocks",   _("The block list: who may not post or subscribe.")),
        "sub":        ("subs",     _("People who wait for an owner's approval: approve, refuse.")),
        "template":   ("templates", _("What notices say: look, change, preview.")),
        "mod":        ("held",     _("Held posts: approve, reject, discard.")),
        "bounce":     ("bounces",  _("Delivery reports: what they mean, and whose mailbox fails.")),
        "post":       ("posts",    _("Posts that lists distributed.")),
        "trace":      ("posts",    _("One message through it all: held, decided, distributed.")),
        "audit":      ("audits",   _("Who did what, and when.")),
        "maintain":   ("held",     _("Do what is due: late notices, reminders, expiries.")),
        "completion": ("completions", _("Completion of commands and options in a shell.")),
        "backup":     ("backup",   _("Everything in one file: database, secret, keys, configuration.")),
    }  # fmt: skip


class Root(Noun):
    """`kelou` itself."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(nouns())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in nouns():
            return None
        module, help = nouns()[cmd_name]
        declared = {command.name: command for command in import_module(f".{module}", __package__).COMMANDS}
        command: click.Command = declared[cmd_name]
        command.help = command.help or help
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section(gettext.gettext("Commands")):
            formatter.write_dl([(name, help) for name, (_module, help) in nouns().items()])


def tree() -> Root:
    """The commands, in the language in force: their modules translate what they declare, so they are imported after `speak`."""
    root = Root("kelou", help=_("Mailing lists on the Postfix that is already here."), params=common(hidden=False), context_settings={"obj": Run()})
    shown = _("Show the version and exit.")
    click.version_option(kelou.__version__, message="kelou %(version)s", help=shown)(root)
    return root


def refusals(error: BaseException) -> Refusal | None:
    """What a person can act on, of what the ground, the database and the system raise."""
    from peewee import DatabaseError, InterfaceError

    text = str(error)
    match error:
        case Refusal():
            return error
        case SettingError():
            return BadData(text)
        case DatabaseError() | InterfaceError():
            return _of_database(text)
        case OSError(errno=errno.ENOSPC):
            return TryAgain(_("there is no space left on the disk"))
        case PermissionError():
            return NotPermitted(_("{path}: permission denied; run this as root, or as the user of Kelou's daemons").format(path=error.filename))
        case OSError(filename=filename) if filename:
            return BadData(f"{filename}: {error.strerror}")
    return None


def _of_database(text: str) -> Refusal | None:
    if "no such table" in text or "no such column" in text or "does not exist" in text:
        return BadConfiguration(_("the database is of another version than this program ({reason}); bring it up to date with: kelou init").format(reason=text))
    if "locked" in text:
        return TryAgain(_("the database is busy; try again in a moment"))
    if "disk is full" in text:
        return TryAgain(_("there is no space left for the database"))
    if "readonly" in text or "unable to open" in text:
        return NotPermitted(_("the database can not be opened for writing; run this as root, or as the user of Kelou's daemons"))
    if "not a database" in text or "malformed" in text:
        return Down(_("the database is damaged ({reason}); bring a backup back with: kelou backup restore").format(reason=text))
    if "connect" in text or "server" in text:
        return Down(_("the database does not answer: {reason}").format(reason=" ".join(text.split())))
    return None


def call(arguments: Sequence[str]) -> int:
    """Do what the arguments say; the exit code."""
    # What the ground logs is for the daemons' log; the shell is told by what it returns.
    logging.getLogger("kelou").addHandler(logging.NullHandler())
    speak(language(arguments, i18n.from_environment()))
    try:
        result = tree().main(list(arguments), prog_name="kelou", standalone_mode=False)
        output.flush()
        return result if isinstance(result, int) else 0
    except click.ClickException as error:
        help = f" ({error.ctx.command_path} --help)" if isinstance(error, click.UsageError) and error.ctx else ""
        output.problem(re.sub(r"[ \t\n]+", " ", error.format_message()) + help)  # no-break spaces stay
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return 128 + signal.SIGINT
    except BrokenPipeError:
        _abandon()  # who read us has gone
        return 128 + signal.SIGPIPE
    except Exception as error:
        if isinstance(error, OSError) and (reason := _unwritten(error)):
            output.problem(_("the output could not be written: {reason}").format(reason=reason))
            return UNWRITTEN
        if os.environ.get("KELOU_DEBUG") == "1":
            traceback.print_exc()
        refusal = refusals(error)
        said = str(refusal) if refusal else _("a fault of Kelou's own: {kind}: {text}; KELOU_DEBUG=1 shows where").format(
            kind=type(error).__name__, text=error
        )
        output.problem(said)
        return refusal.exit if refusal else FAULT


def _unwritten(error: OSError) -> str:
    """Why standard output takes nothing (a full disk), if that is what went wrong."""
    try:
        output.flush()
    except output.Unwritten as again:  # Click wrote it: our own help
        error = again
    if not isinstance(error, output.Unwritten):
        return ""
    _abandon()
    return error.strerror or str(error)


def _abandon() -> None:
    """Python flushes standard output once more when it ends: let that go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def commands(group: click.Group, *above: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command below a group with its path, groups before what is in them."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command and not command.hidden:
            yield (*above, name), command
        if isinstance(command, click.Group):
            yield from commands(command, *above, name)


def main() -> None:
    """The program."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal that has no accents still shows the rest
    sys.exit(call(sys.argv[1:]))


if __name__ == "__main__":
    main()
