"""Moderation: posts that wait for a person, as rows with their exact bytes. What is approved is what was held, found by our own id."""

from __future__ import annotations

from . import maillog
from .database import transaction
from .models import HeldPost
from .policy import Decision, Facts


def known(list_id: int, digest: str) -> bool:
    """Whether this delivery was held before, whatever became of it. Needs a connection."""
    return bool(HeldPost.select(HeldPost.id).where(HeldPost.list == list_id, HeldPost.digest == digest).exists())


def hold(facts: Facts, decision: Decision, content: bytes, digest: str, queue_id: str) -> int:
    """Keep a post for the moderators, committed when this returns; its id. Doing it twice does it once."""
    reading = facts.reading
    with transaction():
        HeldPost.insert(
            list=facts.list.id,
            digest=digest,
            content=content,
            reverse_path=facts.reverse_path,
            message_id=reading.message_id if reading else "",
            queue_id=queue_id,
            author=reading.author_key if reading else "",
            authenticated=facts.author.address,
            subject=reading.subject if reading else "",
            size=len(content),
            rule=decision.rule,
            detail=decision.detail,
        ).on_conflict_ignore().execute()
        number: int = HeldPost.get(HeldPost.list == facts.list.id, HeldPost.digest == digest).id
    maillog.event("held", list=facts.list.address, id=number, rule=decision.rule, message_id=reading.message_id if reading else "")
    return number
