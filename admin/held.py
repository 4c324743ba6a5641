"""`kelou mod` and `kelou maintain`: held posts, shown safely and decided on; and what is due, which the admin's cron or timer runs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import click

from kelou import digest, directory, failing, membership, moderation, plaintext, policy
from kelou.directory import ListView
from kelou.i18n import _
from kelou.message import Message
from kelou.models import iso
from kelou.refusal import BadData, NotFound, NotPermitted, Refusal, TryAgain

from . import output
from .command import Noun, Verb
from .lists import LIST
from .run import Run

held = Noun("mod")

TEXT = 100_000  # characters of a part that are shown
IDS = "ID..."


def _columns() -> dict[str, str]:
    return {
        "id": "id",
        "received": _("received"),
        "list": _("list"),
        "author": _("author"),
        "subject": _("subject"),
        "rule": _("rule"),
        "expires": _("expires"),
        "size": _("size"),
    }


@held.command("list", help=_("The posts that wait for a moderator, the oldest first."))
@click.argument("name", metavar=LIST, required=False)
@click.pass_obj
def list_(run: Run, name: str | None) -> None:
    with run.look(name) if name else run.site() as scope:
        found = moderation.waiting(scope if isinstance(scope, ListView) else None)
        run.rows(_columns(), found, _("No post waits for a moderator."))


@held.command("show", help=_("One held post: why it is held, its header and its text."))
@click.argument("number", metavar="ID", type=int)
@click.option("--raw", is_flag=True, help=_("Its exact bytes, to a file or a program."))
@click.pass_obj
def show(run: Run, number: int, raw: bool) -> None:
    with run.database() as config:
        post = moderation.find(number)
        run.actor.require_moderator(post.list_id)
        the_list = directory.view(post.list, config)
        record = moderation.describe(number)
        content = bytes(post.content) if post.content is not None else b""
    if raw:
        if sys.stdout.isatty():  # a stranger wrote it, and a terminal obeys some bytes
            raise NotPermitted(_("raw bytes are not for a terminal; send them to a file or to less"))
        if not content:
            raise NotFound(_("post {number} is {state}; its bytes are kept no more").format(number=number, state=_(moderation.WORDS[post.state])))
        sys.stdout.buffer.write(content)
        return
    why = policy.explain(post.rule, the_list, post.detail)
    message = Message.parse(content).without(("kelou-",))
    if run.json:
        fields = [{"name": field.raw.partition(b":")[0].decode("ascii"), "value": field.text} for field in message.fields]
        output.data(output.to_json(record | {"why": why, "header": fields, "text": plaintext.read(message, TEXT)}))
        return
    titles = _columns() | {"authenticated": _("author is certain"), "why": _("why"), "state": _("state"), "message_id": "Message-ID"}
    titles |= {"reverse_path": _("reverse-path"), "decided": _("decided"), "decided_by": _("decided by"), "reason": _("reason")}
    run.record(titles, {key: value for key, value in (record | {"why": why}).items() if value not in (None, "")})
    for field in message.fields:
        name = field.raw.partition(b":")[0].decode("ascii")
        output.data(output.safe(f"{name}: {field.text[:2000]}"))
    output.data("")
    output.data(output.safe(plaintext.read(message, TEXT), keep="\n\t"))


def _decide(ctx: click.Context, numbers: Sequence[int], verb: Callable[[int], moderation.Outcome], wanted: str) -> None:
    """Decide on several, each on its own: one that can not be is said, and the others go on.

    Exits with 0 if all are as wanted, whoever decided it; with a refusal's code if all were refused so; else with 1.
    """
    run: Run = ctx.obj
    rows: list[dict[str, Any]] = []
    codes: set[int] = set()
    with run.database():
        for number in dict.fromkeys(numbers):
            try:
                outcome = verb(number)
            except Refusal as refusal:
                codes.add(refusal.exit)
                # Approved all the same, where it is Postfix that does not answer.
                state = wanted if isinstance(refusal, TryAgain) else None
                rows.append({"id": number, "state": state, "by": None, "at": None, "changed": False, "detail": str(refusal)})
                output.problem(str(refusal))
                continue
            codes.add(0 if outcome.state == wanted else 1)
            rows.append({"id": number, "state": outcome.state, "by": outcome.by, "at": iso(outcome.at), "changed": outcome.changed, "detail": ""})
            run.say(_line(outcome))
    if run.json:
        output.data(output.to_json(rows))
    if codes != {0}:
        ctx.exit(codes.pop() if len(codes) == 1 else 1)


def _line(outcome: moderation.Outcome) -> str:
    text = _("{number} is {state}.") if outcome.changed else _("{number} was {state} already by {by}, {at}.")
    return text.format(number=outcome.number, state=_(moderation.WORDS[outcome.state]), by=outcome.by or "kelou", at=iso(outcome.at))


@held.command("approve", dry_run="rollback", help=_("Distribute held posts, exactly as they were received."))
@click.argument("numbers", metavar=IDS, nargs=-1, type=int, required=True)
@click.option("--allow-author", is_flag=True, help=_("From now on, what their authors write to that list is not held."))
@click.pass_context
def approve(ctx: click.Context, numbers: tuple[int, ...], allow_author: bool) -> None:
    run: Run = ctx.obj
    _decide(ctx, numbers, lambda number: moderation.approve(run.config, run.actor, number, allow_author=allow_author), "approved")


@held.command("reject", dry_run="rollback", help=_("Refuse held posts; an authenticated author is told why."))
@click.argument("numbers", metavar=IDS, nargs=-1, type=int, required=True)
@click.option("--reason", metavar=_("REASON"), default="", help=_("What the author is told."))
@click.pass_context
def reject(ctx: click.Context, numbers: tuple[int, ...], reason: str) -> None:
    run: Run = ctx.obj
    if len(reason) > 2000:
        raise BadData(_("a reason has at most 2000 characters"))
    _decide(ctx, numbers, lambda number: moderation.reject(run.config, run.actor, number, reason.strip()), "rejected")


@held.command("discard", dry_run="rollback", help=_("Drop held posts and tell nobody."))
@click.argument("numbers", metavar=IDS, nargs=-1, type=int, required=True)
@click.option("--block-author", is_flag=True, help=_("Put their authors on the block list of that list."))
@click.pass_context
def discard(ctx: click.Context, numbers: tuple[int, ...], block_author: bool) -> None:
    run: Run = ctx.obj
    _decide(ctx, numbers, lambda number: moderation.discard(run.config, run.actor, number, block_author=block_author), "discarded")


@click.command("maintain", cls=Verb, help=_("Do what is due: late notices, reminders, expiries. Have cron or a timer of yours run it every hour."))
@click.pass_obj
def maintain(run: Run) -> None:
    run.require_shell()
    with run.database() as config:
        counts = moderation.maintain(config) | membership.maintain(config) | failing.maintain(config) | digest.maintain(config)
        run.done(counts, ", ".join(f"{name}={count}" for name, count in counts.items() if count) or _("Nothing was due."))


COMMANDS = (held, maintain)
