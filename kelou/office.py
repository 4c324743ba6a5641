"""Commands for those who hold an office: owners, moderators, listmasters; and the list request, which makes an owner. With `errand`'s, all the verbs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from . import batch, errand, lifecycle, listtype, moderation, notice, people
from .audit import record
from .command import Command
from .database import connection, transaction
from .directory import ListView
from .errand import Done, Errand
from .i18n import N_, _, ngettext
from .models import Audit, HeldPost, Post, Subscription, now
from .refusal import BadData, NotPermitted

DAY = 86400
LINES = 200  # of a batch's report that one answer holds


# Owners.


def add(who: Errand, command: Command) -> Done:
    the_list = who.find(command.list)
    if command.batch:
        report = batch.apply(who.config, who.actor, the_list, command.batch, quiet=command.quiet, source="mail")
        return Done(_join(_report(report), _advice(the_list)))
    result = people.subscribe(who.config, who.actor, the_list, command.email, command.name, "mail", quiet=command.quiet)
    return Done(_join(_person(result), _advice(the_list)))


def remove(who: Errand, command: Command) -> Done:
    the_list = who.find(command.list)
    return Done(_person(people.unsubscribe(who.config, who.actor, the_list, command.email, quiet=command.quiet)))


_PERSON = {
    "added": N_("{email} is added."),
    "already": N_("{email} is there already."),
    "blocked": N_("{email} is not added:"),  # and the detail says why
    "full": N_("{email} is not added:"),
    "removed": N_("{email} is removed."),
    "absent": N_("{email} is not there."),
}


def _person(result: people.Result) -> str:
    told = "" if result.told else _("The notice could not be sent: please tell them.")
    return " ".join(filter(None, [_(_PERSON[result.result]).format(email=result.email), result.detail, told]))


def _report(report: batch.Report) -> str:
    """The report of a batch, as the shell gives it: what did not get in line by line, then the numbers."""
    words = {"already": _("there already"), "invalid": _("not valid"), "blocked": _("blocked"), "full": _("the list is full")}
    wrong = [line for line in report.lines if line["result"] in words]
    lines = [
        _("line {number}: {input}: {result}").format(number=line["line"], input=line["input"][:200].strip(), result=words[line["result"]])
        + (f" ({line['detail']})" if line["detail"] else "")
        for line in wrong[:LINES]
    ]
    if len(wrong) > LINES:
        rest = len(wrong) - LINES
        lines.append(ngettext("… and {number} more line", "… and {number} more lines", rest).format(number=rest))
    lines.append(report.summary)
    if report.untold:
        lines.append(ngettext("{number} welcome could not be sent.", "{number} welcomes could not be sent.", report.untold).format(number=report.untold))
    return "\n".join(lines)


def _advice(the_list: ListView) -> str:
    with connection():
        return people.few_owners(the_list)


def _join(*texts: str) -> str:
    return "\n".join(filter(None, texts))


def set_(who: Errand, command: Command) -> Done:
    if not command.key:
        return errand.set_(who, command)
    the_list = who.find(command.list)
    with connection():
        who.actor.require_owner(the_list.id)
    if command.value is None:
        value, origin = lifecycle.value(who.config, the_list, command.key)
        shown = listtype.SETTINGS[command.key].show(value) if command.key in listtype.SETTINGS else value
        return Done(f"{command.key}: {shown} ({_(_ORIGINS[origin])})")
    outcome = lifecycle.set_values(who.config, who.actor, the_list, {command.key: command.value})
    shown = lifecycle.value(who.config, outcome.list, command.key)[0]
    text = listtype.SETTINGS[command.key].show(shown) if command.key in listtype.SETTINGS else str(shown)
    return Done(_join(f"{outcome.list.address}: {command.key} = {text}", "" if outcome.changed else _("It was so before.")))


_ORIGINS = {"list": N_("set for the list"), "type": N_("the list type's"), "site": N_("the site's"), "default": N_("the default")}


def stats(who: Errand, command: Command) -> Done:
    the_list = who.find(command.list)
    with connection():
        who.actor.require_owner(the_list.id)
        subscribed = Subscription.select().where(Subscription.list == the_list.id)
        posts = Post.select().where(Post.list == the_list.id)
        numbers = [
            (subscribed.count(), _("subscribers")),
            (subscribed.where(Subscription.mode == "nomail").count(), _("of them without mail (nomail)")),
            (posts.count(), _("posts")),
            (posts.where(Post.received > now() - 30 * DAY).count(), _("of them in the last 30 days")),
            (HeldPost.select().where(HeldPost.list == the_list.id, HeldPost.state == "held").count(), _("posts wait for a moderator")),
        ]
    return Done(_join(*(f"{number:6} {what}" for number, what in numbers), _advice(the_list)))


def remind(who: Errand, command: Command) -> Done:
    if command.list == "*":
        with connection():
            who.actor.require_listmaster()
        every = [who.find(row["list"]) for row in lifecycle.lists(who.config, status="open")]
        return Done("\n".join(_remind(who, the_list) for the_list in every) or _("There is no open list."))
    the_list = who.find(command.list)
    with connection():
        who.actor.require_owner(the_list.id)
    if the_list.status != "open":
        raise NotPermitted(_("{list} is not open.").format(list=the_list.address))
    return Done(_remind(who, the_list))


def _remind(who: Errand, the_list: ListView) -> str:
    with transaction():
        lately = Audit.select().where(Audit.action == "list remind", Audit.list == the_list.address, Audit.at > now() - DAY).exists()
        if lately:
            return _("{list}: the subscribers were reminded less than a day ago.").format(list=the_list.address)
        record(who.actor, "list remind", the_list.address)
    everybody = [row["email"] for row in people.subscribers(the_list)]
    untold = notice.send_all(who.config, "reminder", everybody, the_list, each=lambda to: {"address": to})
    number = len(everybody) - len(untold)
    return ngettext("{list}: {number} subscriber was reminded.", "{list}: {number} subscribers were reminded.", number).format(list=the_list.address, number=number)


# Moderators.


def modindex(who: Errand, command: Command) -> Done:
    the_list = who.find(command.list)
    posts = moderation.index(who.actor, the_list, str(who.address))
    if not posts:
        return Done(_("No post to {list} waits for a moderator.").format(list=the_list.address))
    values = {"posts": posts, "again": False, "answers": who.answers, "replied": True}
    told = notice.send(who.config, "held_several", str(who.address), the_list, **values)
    return Done(_("The posts that wait are in a notice of their own."), told)


# A new list.

FORM = ("name", "type", "subject", "description", "organisation", "language")


def request(who: Errand, command: Command) -> Done:
    asked = {key: command.fields.get(key, "") for key in FORM} | {"name": command.list}
    if not (asked["name"] and asked["type"] and asked["subject"]):
        values = {"given": asked, "types": [(name, text) for name, text in listtype.TITLES.items()], "answers": who.answers, "replied": True}
        told = notice.send(who.config, "request_form", str(who.address), who.desk, **values)
        return Done(_("To ask for a list, give its name, type and subject."), told)
    if len(command.list) > 100:
        raise BadData(_("That name is too long."))
    outcome = lifecycle.request(
        who.config, who.actor, asked["name"], "" if "@" in asked["name"] else who.desk.domain, type=asked["type"], subject=asked["subject"],
        owner=str(who.address), description=asked["description"], organisation=asked["organisation"], language=asked["language"] or None,
    )  # fmt: skip
    said = _("{list} is requested. The listmasters decide, and you are told; until then you can set it up, and add owners.").format(list=outcome.list.address)
    return Done(_join(said, *outcome.advice))


VERBS: Mapping[str, Callable[[Errand, Command], Done]] = {
    **errand.EVERYBODY,
    "set": set_,
    "add": add,
    "del": remove,
    "stats": stats,
    "remind": remind,
    "modindex": modindex,
    "request": request,
}
