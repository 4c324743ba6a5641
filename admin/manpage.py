"""The man pages kelou(8) and kelou.toml(5), made from the code (man-pages(7), groff_man(7)), and the files for completion in shells."""

from __future__ import annotations

import os
import re

import click
from click.shell_completion import get_completion_class

import kelou
from kelou import config
from kelou.i18n import N_, _, language

from . import cli

SHELLS = {"bash": "kelou.bash", "zsh": "_kelou", "fish": "kelou.fish"}

# sysexits.h, and what is before it.
_STATUS = (
    (0, N_("Done; also where there was nothing to do.")),
    (1, N_("Partly done, or a negative answer.")),
    (2, N_("The command line is wrong.")),
    (os.EX_DATAERR, N_("What was given is wrong: an address, a name, a setting.")),
    (os.EX_NOUSER, N_("There is no such list, person or post.")),
    (os.EX_UNAVAILABLE, N_("Something that is needed does not run.")),
    (os.EX_SOFTWARE, N_("A fault of Kelou's own.")),
    (os.EX_CANTCREAT, N_("There is one already, or it can not be made.")),
    (os.EX_IOERR, N_("The output could not be written.")),
    (os.EX_TEMPFAIL, N_("Busy: try again.")),
    (os.EX_NOPERM, N_("Not permitted, or not confirmed.")),
    (os.EX_CONFIG, N_("The configuration is wrong, or the database of another version.")),
)
_FILES = (
    ("/etc/kelou/kelou.toml", N_("The configuration, see kelou.toml(5).")),
    ("/etc/kelou/dkim", N_("The keys that the lists' mail is signed with.")),
    ("/var/lib/kelou", N_("The database, and the site's secret.")),
    ("/var/spool/postfix/kelou", N_("The sockets for Postfix.")),
)


def pages() -> dict[str, str]:
    """Each page's file name and text, in the language in force."""
    return {"kelou.8": commands(), "kelou.toml.5": settings()}


def commands() -> str:
    """kelou(8)."""
    root = cli.tree()
    intro = _(
        "Kelou is a mailing-list service for the Postfix that a host already runs. Two daemons take mail for lists and judge it; this program does "
        "everything else: it sets the site up, holds its lists, their owners, moderators and subscribers, and shows what became of each message."
    )
    lines = [*_head("kelou", "8", _("mailing lists on the Postfix that is already here"))]
    lines += [".SH " + _("SYNOPSIS"), r".B kelou", _roff(" ".join(root.collect_usage_pieces(click.Context(root, info_name="kelou"))))]
    lines += [".SH " + _("DESCRIPTION"), _roff(intro), ".SH " + _("OPTIONS"), *_options(root, "kelou"), ".SH " + _("COMMANDS")]
    for path, command in cli.commands(root):
        name = " ".join(("kelou", *path))
        if isinstance(command, click.Group):
            continue
        usage = " ".join(command.collect_usage_pieces(click.Context(command, info_name=name)))
        lines += [".TP", rf".B {_roff(name)}", *([".I " + _roff(usage)] if usage else []), ".br", _roff(command.help or ""), *_options(command, name)]
    lines += [".SH " + _("EXIT STATUS")]
    for code, text in _STATUS:
        lines += [".TP", rf".B {code}", _roff(_(text))]
    lines += [".SH " + _("ENVIRONMENT"), ".TP", ".B KELOU_CONFIG", _roff(_("The configuration file, where -c does not name it.")), ".TP", ".B NO_COLOR"]
    lines += [_roff(_("Where it is set, there are no colours.")), ".SH " + _("FILES")]
    for name, text in _FILES:
        lines += [".TP", rf".I {_roff(name)}", _roff(_(text))]
    return "\n".join([*lines, ".SH " + _("SEE ALSO"), r".BR kelou.toml (5),", r".BR postfix (1),", r".BR milter (5)"]) + "\n"


def settings() -> str:
    """kelou.toml(5)."""
    intro = _("The site's configuration, in TOML. A key table.name stands there as name under [table]. What is not set has its default.")
    lines = [*_head("kelou.toml", "5", _("the configuration of Kelou")), ".SH " + _("DESCRIPTION"), _roff(intro), ".SH " + _("SETTINGS")]
    for setting in config.SETTINGS.values():
        default = setting.show(setting.default) or '""'
        shown = _("{kind}; default: {value}").format(kind=setting.kind.right, value=default)
        lines += [".TP", rf".B {_roff(setting.key)}", _roff(_(setting.help)), ".br", _roff(shown[0].upper() + shown[1:])]
    example = '[site]\nname = "Les listes"\nlanguage = "fr"\n\n[dns]\nresolvers = ["127.0.0.1:53"]'
    lines += [".SH " + _("EXAMPLES"), ".nf", *(_roff(line) for line in example.split("\n")), ".fi", ".SH " + _("SEE ALSO"), r".BR kelou (8)"]
    return "\n".join(lines) + "\n"


def completion(shell: str) -> str:
    """The script that makes a shell complete Kelou's commands and options. Raises KeyError for a shell that is none of SHELLS."""
    SHELLS[shell]
    made = get_completion_class(shell)
    assert made is not None
    return str(made(cli.tree(), {}, "kelou", "_KELOU_COMPLETE").source()).strip("\n") + "\n"


def _head(name: str, section: str, what: str) -> list[str]:
    title = f'.TH {_roff(name.upper())} {section} "" "Kelou {kelou.__version__}"'
    return [title, ".SH " + _("NAME"), rf"{_roff(name)} \- {_roff(what)}"]


def _options(command: click.Command, name: str) -> list[str]:
    context = click.Context(command, info_name=name)
    records = [record for parameter in command.get_params(context) if isinstance(parameter, click.Option) and (record := parameter.get_help_record(context))]
    shown = [(names, text) for names, text in records if name == "kelou" or "--help" not in names]
    if not shown:
        return []
    lines = [piece for names, text in shown for piece in (".TP", rf".B {_roff(names)}", _roff(text))]
    return lines if name == "kelou" else [".RS", *lines, ".RE"]


def _roff(text: str) -> str:
    """Text as roff has it: nothing in it is a request, hyphens can be copied, other than ASCII is what it is (groff -k reads UTF-8)."""
    flat = " ".join(text.split(" ")).replace("\n", " ").replace("\\", r"\e").replace("-", r"\-")
    flat = re.sub(r" {2,}", " ", flat)
    if language() == "fr":
        flat = flat.replace("\N{NARROW NO-BREAK SPACE}", "\N{NO-BREAK SPACE}")
    return rf"\&{flat}" if flat.startswith((".", "'")) else flat
