"""The pages of docs/ that are made from the code, so that they can not tell anything else: script/docs writes them, a test compares.

docs/cli.md from the Click tree, docs/configuration.md and docs/kelou.toml.sample from the site's settings, docs/list-settings.md from the lists',
docs/rules.md from the rules of `kelou.policy`, docs/man and docs/completion by `manpage`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import click

from kelou import config, lifecycle, listtype, policy
from kelou.i18n import LANGUAGES, N_, _, speaking
from kelou.policy import Action
from kelou.setting import Setting

from . import cli, manpage

MADE = "<!-- Made by script/docs from the code: change it there. -->"


def pages() -> dict[str, str]:
    """Each page's file name and text, in the language in force."""
    return {
        "cli.md": commands(),
        "configuration.md": configuration(),
        "list-settings.md": list_settings(),
        "rules.md": rules(),
        "kelou.toml.sample": config.sample(),
        **{f"man/{name}": text for name, text in manpage.pages().items()},
        **{f"completion/{name}": manpage.completion(shell) for shell, name in manpage.SHELLS.items()},
    }


def commands() -> str:
    """The command line."""
    root = cli.tree()
    lines = [MADE, "", "# kelou", "", _usage(root, ()), "", *_options(root, ()), ""]
    for path, command in cli.commands(root):
        lines += [f"{'#' * (len(path) + 1)} kelou {' '.join(path)}", "", command.help or "", ""]
        if not isinstance(command, click.Group):
            lines += [_usage(command, path), "", *_options(command, path)]
            lines += [""] if lines[-1] else []
    return "\n".join(lines).rstrip("\n") + "\n"


def _context(command: click.Command, path: tuple[str, ...]) -> click.Context:
    return click.Context(command, info_name=" ".join(("kelou", *path)))


def _usage(command: click.Command, path: tuple[str, ...]) -> str:
    pieces = command.collect_usage_pieces(_context(command, path))
    return f"    {' '.join(('kelou', *path, *pieces))}"


def _options(command: click.Command, path: tuple[str, ...]) -> list[str]:
    context = _context(command, path)
    records = [record for parameter in command.get_params(context) if isinstance(parameter, click.Option) and (record := parameter.get_help_record(context))]
    # Every command has --help; once is enough.
    return [f"- `{names}`: {help}" for names, help in records if not path or "--help" not in names]


def configuration() -> str:
    """The site's settings."""
    intro = _("`/etc/kelou/kelou.toml`, or the file that `-c` or `KELOU_CONFIG` names. A key `table.name` stands there as `name` under `[table]`.")
    return "\n".join([MADE, "", "# " + _("Configuration"), "", intro, "", *_table(config.SETTINGS.values())]) + "\n"


def list_settings() -> str:
    """The lists' settings, and the types."""
    intro = _("Set with `kelou list set LIST KEY=VALUE`. A list's value is its own, else its type's, else the default.")
    lines = [MADE, "", "# " + _("Settings of a list"), "", intro, "", *_table(listtype.SETTINGS.values()), ""]
    lines += ["## " + _("What each list has of its own"), "", _("Set in the same way. No type sets these, and `kelou list unset` does not take them away."), ""]
    lines += [*_table(lifecycle.PROPERTIES.values()), "", "## " + _("Types"), ""]
    lines += _head(_("type"), _("meant for"), _("sets"))
    for name, preset in listtype.TYPES.items():
        lines.append(f"| {name} | {_(listtype.TITLES[name])} | {_preset(preset)} |")
    return "\n".join(lines) + "\n"


def _preset(preset: Mapping[str, object]) -> str:
    return ", ".join(f"`{key}` = {_code(listtype.SETTINGS[key].show(value))}" for key, value in preset.items())


_ACTIONS = {
    Action.ACCEPT: N_("distribute"), Action.HOLD: N_("hold"), Action.REJECT: N_("refuse"), Action.DISCARD: N_("let fall"), Action.DEFER: N_("try later"),
}  # fmt: skip


def rules() -> str:
    """The rules for posts, in their order, with what people are told in each language."""
    intro = _(
        "Each post is put to these rules in this order, and the first that has an answer decides. Refusals are said in the SMTP dialogue, with an enhanced "
        "status code; `kelou mod list`, logs and `kelou trace` name the answer. A post that no rule answers is distributed."
    )
    lines = [MADE, "", "# " + _("Rules for posts"), "", intro, ""]
    lines += _head("", _("rule"), _("looks at"), _("answer"), _("action"), _("code"), *LANGUAGES)
    for number, (rule, answers) in enumerate(policy.RULES.items(), 1):
        looks = " ".join((rule.__doc__ or "").split()).replace("|", "\\|")
        heads = [f"| {number} | {rule.__name__.replace('_', ' ')} | {looks} |", *["| | | |"] * (len(answers) - 1)]
        lines += [f"{head} {_answer(name)}" for head, name in zip(heads, answers, strict=True)]
    lines += ["", _("Beside these:"), "", *_head(_("answer"), _("action"), _("code"), *LANGUAGES)]
    lines += [f"| {_answer(name)}" for name in policy.TEXTS if not any(name in answers for answers in policy.RULES.values())]
    return "\n".join(lines) + "\n"


def _answer(name: str) -> str:
    status, text = policy.TEXTS[name]
    told = []
    for language in LANGUAGES:
        with speaking(language):
            told.append(_(text).replace("|", "\\|"))
    return f"`{name}` | {_(_ACTIONS[policy.action(name)])} | {status} | {' | '.join(told)} |"


def _table(settings: Iterable[Setting]) -> list[str]:
    lines = _head(_("setting"), _("default"), _("must be"), _("what it is"))
    only = " " + _("Listmasters only.")
    for setting in settings:
        help = _(setting.help) + ("" if setting.owner else only)
        lines.append(f"| `{setting.key}` | {_code(setting.show(setting.default))} | {setting.kind.right} | {help} |")
    return lines


def _head(*titles: str) -> list[str]:
    return ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]


def _code(text: str) -> str:
    return "`" + text.replace("\n", "\\n").replace("|", "\\|") + "`" if text else ""


def main() -> None:
    """Write the pages into the folder that is named; with a language behind it, the man pages in that."""
    folder, *code = sys.argv[1:]
    cli.speak(next(iter(code), "en"))
    for name, text in ({f"man/{code[0]}/{page}": text for page, text in manpage.pages().items()} if code else pages()).items():
        path = Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
