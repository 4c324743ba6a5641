"""What Postfix is told of mail to lists: at RCPT for each recipient, at the end of the message once for all of them."""

from __future__ import annotations

from collections.abc import Sequence

from kelou import facts, outgoing
from kelou.config import Config
from kelou.destination import Destination
from kelou.i18n import speaking
from kelou.message import Message
from kelou.policy import Action, Author, Decision, decide
from kelou.resolver import Dns


def of_recipient(found: Destination, reverse_path: str, size: int) -> Decision | None:
    """What is to be said to a post at RCPT, where the address takes mail; None for addresses that are no post's. Needs a connection."""
    if found.function != "post" or found.list is None:
        return None
    with speaking(found.list["language"]):
        return decide(facts.of_envelope(found.list, reverse_path, size))


def of_message(found: Destination, reverse_path: str, message: Message | None, size: int, author: Author, config: Config, dns: Dns) -> Decision | None:
    """What is to be said to a post when it is there. `message` is None if it was too large to keep. Needs a connection."""
    if message is None:
        return of_recipient(found, reverse_path, size)
    if found.function != "post" or found.list is None:
        return None
    with speaking(found.list["language"]):
        fails = outgoing.unwanted(message, found.list, config, dns)
        return decide(facts.of_message(found.list, reverse_path, message, size, author, from_fails=fails))


def for_all(decisions: Sequence[Decision | None]) -> Decision | None:
    """The one answer that SMTP has for all recipients of a message: a decision that refuses or defers it, None where somebody takes it.

    One recipient that takes it is enough; what the others think of it they say again when the LMTP handler asks.
    """
    if any(decision is None or decision.action not in (Action.REJECT, Action.DEFER) for decision in decisions):
        return None
    return next((d for d in decisions if d and d.action is Action.DEFER), next(iter(decisions), None))
