"""`kelou post` and `kelou trace`: what was distributed, how far, and one message through it all."""

from __future__ import annotations

from typing import Any

import click

from kelou import logfile
from kelou.directory import ListView
from kelou.i18n import _
from kelou.models import Domain, HeldPost, MailingList, Post, iso
from kelou.refusal import NotFound

from . import output
from .command import Noun, Verb
from .lists import LIST
from .run import Run

posts = Noun("post")


def _select() -> Any:
    return Post.select(Post, MailingList, Domain).join(MailingList).join(Domain)


def _row(post: Post) -> dict[str, Any]:
    row = {"id": post.id, "list": f"{post.list.name}@{post.list.domain.name}", "message_id": post.message_id, "state": post.state}
    row |= {"recipients": post.recipients, "handed_over": post.handed_over, "doubtful": post.doubtful, "author": post.author, "subject": post.subject}
    return row | {"size": post.size, "queue_id": post.queue_id, "received": iso(post.received), "finished": iso(post.finished)}


def _columns() -> dict[str, str]:
    return {
        "id": "id",
        "received": _("received"),
        "list": _("list"),
        "author": _("author"),
        "subject": _("subject"),
        "state": _("state"),
        "handed_over": _("handed over"),
        "recipients": _("recipients"),
    }


@posts.command("list", help=_("The last posts, the newest first."))
@click.argument("name", metavar=LIST, required=False)
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help=_("So many."))
@click.pass_obj
def list_(run: Run, name: str | None, limit: int) -> None:
    with run.look(name) if name else run.site() as scope:
        rows = _select().order_by(Post.id.desc()).limit(limit)
        if isinstance(scope, ListView):
            rows = rows.where(Post.list == scope.id)
        run.rows(_columns(), [_row(post) for post in rows], _("No post was distributed yet."))


@posts.command("show", help=_("One post."))
@click.argument("number", metavar="ID", type=int)
@click.pass_obj
def show(run: Run, number: int) -> None:
    with run.site():
        post = _select().where(Post.id == number).first()
        if post is None:
            raise NotFound(_("there is no post {number}; kelou post list shows those there are").format(number=number))
        titles = _columns() | {"doubtful": _("doubtful"), "size": _("size"), "message_id": "Message-ID", "queue_id": _("queue id")}
        run.record(titles | {"finished": _("finished")}, _row(post))


@click.command("trace", cls=Verb)
@click.argument("message_id", metavar="MESSAGE-ID")
@click.pass_obj
def trace(run: Run, message_id: str) -> None:
    with run.site() as config:
        bare = message_id.strip().strip("<>")
        known = _events((bare, f"<{bare}>"))
    logged: list[dict[str, Any]] = []
    try:
        logged = [_logged(event) for event in logfile.trace(config, bare)]
    except OSError as error:
        output.message(_("{path} can not be read: {reason}; this is what the database knows").format(path=config["log.file"], reason=error.strerror))
    events = _merged(known, logged)
    if not events:
        raise NotFound(_("no list has seen a message with the Message-ID {id}").format(id=message_id))
    columns = {"time": _("when"), "event": _("event"), "list": _("list"), "detail": _("detail"), "program": _("program"), "queue_id": _("queue id")}
    run.rows(columns, events, "")


def _logged(event: logfile.Event) -> dict[str, Any]:
    """An event of the log, for people and programs."""
    rest = {key: value for key, value in event.values.items() if key not in ("list", "message-id", "queue-id")}
    detail = event.text if event.text else " ".join(f"{key}={value}" for key, value in rest.items())
    shown = {"time": iso(event.time), "event": event.name, "list": event.values.get("list"), "detail": detail, "program": event.program}
    return shown | {"queue_id": event.queue_id or None}


def _merged(known: list[dict[str, Any]], logged: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Both, in order of time. What both know once, at its place in the log; what was done at the shell is in the tables only, and comes behind what
    the tables have before it."""
    merged = list(logged)
    at = 0
    for row in sorted(known, key=lambda row: str(row["time"])):
        same = next((place for place, event in enumerate(merged) if not event.get("id") and (event["event"], event["list"]) == (row["event"], row["list"])), None)
        if same is None:
            at = max(at, next((place for place, event in enumerate(merged) if str(event["time"]) >= str(row["time"])), len(merged)))
            merged.insert(at, row)
        else:
            at = same
            merged[at] |= {key: value for key, value in row.items() if value}
        at += 1
    return sorted(merged, key=lambda event: str(event["time"]))


def _events(ids: tuple[str, str]) -> list[dict[str, Any]]:
    """What the tables know of a message."""
    found: list[dict[str, Any]] = []

    def event(at: int | None, name: str, where: str, detail: str, queue_id: str = "", **more: Any) -> None:
        found.append({"time": iso(at), "event": name, "list": where, "detail": detail, "program": None, "queue_id": queue_id or None} | more)

    fields = (HeldPost.id, HeldPost.received, HeldPost.rule, HeldPost.author, HeldPost.subject, HeldPost.queue_id)
    decision = (HeldPost.decided, HeldPost.state, HeldPost.decided_by, HeldPost.reason)
    for row in HeldPost.select(*fields, *decision, MailingList, Domain).join(MailingList).join(Domain).where(HeldPost.message_id.in_(ids)):
        where = f"{row.list.name}@{row.list.domain.name}"
        event(row.received, "held", where, row.rule, row.queue_id, id=row.id, author=row.author, subject=row.subject)
        if row.decided:
            event(row.decided, row.state, where, " ".join(filter(None, (row.decided_by, row.reason))), row.queue_id, id=row.id)
    for post in _select().where(Post.message_id.in_(ids)):
        row = _row(post)
        event(post.received, "accepted", row["list"], f"{post.author}: {post.subject}", post.queue_id, id=post.id)
        progress = _("{handed} of {all} recipients").format(handed=post.handed_over, all=post.recipients)
        event(post.finished or post.received, "distributed" if post.finished else post.state, row["list"], progress, post.queue_id, id=post.id)
    return found


COMMANDS = (posts, trace)
