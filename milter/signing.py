"""The way out: what Kelou handed to the re-injection port is signed, and nothing that anybody else sends there."""

from __future__ import annotations

from kelou import maillog, signing
from kelou.message import Field, Message
from kelou.models import now
from kelou.secret import signature_asked

from .site import Site


def signature(message: Message, site: Site, queue_id: str) -> Field | None:
    """The signature that the message asks for with a seal of ours; None if it does not, or if its domain has no key."""
    domain = signature_asked(site.secret, message, now())
    if domain is None:
        maillog.problem("unsigned", why="nobody of ours asked for a signature", queue_id=queue_id)
        return None
    key = signing.active(site.keys, domain)
    if key is None:
        maillog.problem("unsigned", why="the domain has no active key", domain=domain, queue_id=queue_id)
        return None
    field = signing.sign(message, key, now())
    maillog.event("signed", domain=domain, selector=key.selector, message_id=message.text("message-id"), queue_id=queue_id)
    return field
