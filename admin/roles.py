"""`kelou owner`, `kelou moderator`, `kelou listmaster`: who runs a list, and who runs the site."""

from __future__ import annotations

import click

from kelou import people
from kelou.i18n import _

from .command import Noun
from .lists import LIST
from .members import EMAIL, tell
from .run import Run


def _columns() -> dict[str, str]:
    return {"email": _("address"), "name": _("name"), "since": _("since")}


def _noun(role: str, add_help: str, remove_help: str, list_help: str) -> Noun:
    """The same three verbs for a role on a list."""
    noun = Noun(role)

    @noun.command("add", dry_run="rollback", help=add_help)
    @click.argument("name", metavar=LIST)
    @click.argument("email", metavar=EMAIL)
    @click.argument("person", metavar=_("[NAME]"), nargs=-1)
    @click.pass_obj
    def add(run: Run, name: str, email: str, person: tuple[str, ...]) -> None:
        with run.list(name) as found:
            tell(run, people.add_role(run.config, run.actor, found, role, email, " ".join(person)))

    @noun.command("remove", dry_run="rollback", help=remove_help)
    @click.argument("name", metavar=LIST)
    @click.argument("email", metavar=EMAIL)
    @click.pass_obj
    def remove(run: Run, name: str, email: str) -> None:
        with run.list(name) as found:
            tell(run, people.remove_role(run.config, run.actor, found, role, email))

    @noun.command("list", help=list_help)
    @click.argument("name", metavar=LIST)
    @click.pass_obj
    def list_(run: Run, name: str) -> None:
        with run.look(name) as found:
            run.rows(_columns(), people.holders(found, role), _("There is nobody."))

    return noun


owners = _noun(
    "owner", _("Make somebody an owner."), _("Take that away; the last owner stays."), _("The owners of a list."),
)  # fmt: skip
moderators = _noun(
    "moderator", _("Make somebody a moderator."), _("Take that away."), _("The moderators of a list."),
)  # fmt: skip
listmasters = Noun("listmaster")
COMMANDS = (owners, moderators, listmasters)


@listmasters.command("add", dry_run="rollback", help=_("Make somebody a listmaster."))
@click.argument("email", metavar=EMAIL)
@click.argument("person", metavar=_("[NAME]"), nargs=-1)
@click.pass_obj
def add(run: Run, email: str, person: tuple[str, ...]) -> None:
    with run.database() as config:
        tell(run, people.add_listmaster(config, run.actor, email, " ".join(person)))


@listmasters.command("remove", dry_run="rollback", help=_("Take that away."))
@click.argument("email", metavar=EMAIL)
@click.pass_obj
def remove(run: Run, email: str) -> None:
    with run.database() as config:
        tell(run, people.remove_listmaster(config, run.actor, email))


@listmasters.command("list", help=_("The listmasters."))
@click.pass_obj
def list_(run: Run) -> None:
    with run.site():
        run.rows(_columns(), people.listmasters(), _("There is nobody."))
