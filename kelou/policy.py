"""One decision: what becomes of a post. `decide(facts)` is pure: no query, no clock, no DNS.

RULES is the order; the first rule that answers wins, and its name is what logs, the held list and docs/rules.md say. The milter asks at RCPT,
when `reading` is still None, and at end of message; the LMTP handler asks again and is the authority.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field

from .directory import ListView
from .i18n import N_, _
from .reading import Reading
from .reply import Reply
from .setting import SIZE
from .standing import Standing


class Action(enum.Enum):
    ACCEPT = "accept"
    HOLD = "hold"
    REJECT = "reject"
    DISCARD = "discard"
    DEFER = "defer"


@dataclass(frozen=True, slots=True)
class Author:
    """Who wrote, as the milter found it: `address` is the key of the one address that is proved, empty if none is; `why` says by what."""

    address: str = ""
    why: str = "not checked"


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a rule may know."""

    list: ListView
    reverse_path: str
    size: int = 0  # octets, as far as known
    reading: Reading | None = None  # the message; None at RCPT
    author: Author = field(default_factory=Author)
    standing: Standing = field(default_factory=Standing)

    @property
    def proved(self) -> bool:
        """Whether the address in From: is the authenticated author's."""
        return bool(self.author.address) and self.reading is not None and self.reading.author_key == self.author.address


@dataclass(frozen=True, slots=True)
class Decision:
    """What happens, by which rule, and what the client is told."""

    action: Action
    rule: str
    reply: Reply | None = None


Rule = Callable[[Facts], Decision | None]


def pending(facts: Facts) -> Decision | None:
    """The list is not active yet."""
    if facts.list.status == "pending":
        return _reject(
            "pending",
            "5.7.1",
            N_("The list {list} is not active yet; write to its owners, or try again once they tell you that it is."),
            facts,
        )
    return None


def closed(facts: Facts) -> Decision | None:
    """The list is closed, for good or for a while."""
    if facts.list.status == "closed":
        return _reject("closed", "5.7.1", N_("The list {list} is closed and takes no mail any more."), facts)
    return None


def too_large(facts: Facts) -> Decision | None:
    """The post is larger than the list takes."""
    if facts.size > facts.list["max_size"]:
        text = N_(
            "The list {list} takes posts of up to {limit}; yours is larger. Send a smaller one, or put the file elsewhere and send a link."
        )
        return _reject("too_large", "5.3.4", text, facts)
    return None


def loop(facts: Facts) -> Decision | None:
    """The post has passed this list before, or another list that sends to it."""
    reading = facts.reading
    if reading and facts.list.list_id in reading.list_ids:
        return _reject("loop", "5.4.6", N_("This message comes from the list {list} itself and is not sent through it again."), facts)
    if reading and reading.list_ids:
        return _reject("loop", "5.4.6", N_("This message comes from another list; the list {list} does not take it."), facts)
    return None


def automatic(facts: Facts) -> Decision | None:
    """A program wrote it: an absence notice, a report, a robot (RFC 3834 section 2, RFC 5321 section 4.5.5)."""
    if facts.list["automatic"] == "accept" and facts.reverse_path:
        return None
    if not facts.reverse_path or (facts.reading and facts.reading.automatic):
        return _reject(
            "automatic", "5.7.1", N_("The list {list} takes no automatic messages. People reach it from an ordinary mail program."), facts
        )
    return None


def malformed(facts: Facts) -> Decision | None:
    """It is no proper message: its header can not be read, or its parts are nested beyond measure."""
    if facts.reading and facts.reading.problem:
        return _reject(
            "malformed",
            "5.6.0",
            N_("The list {list} can not take this message: {problem}. Send it again from an ordinary mail program."),
            facts,
        )
    return None


def no_author(facts: Facts) -> Decision | None:
    """From: is missing, there are several, or it does not name exactly one address (RFC 5322 section 3.6.2)."""
    if facts.reading and not facts.reading.author_key:
        return _reject(
            "no_author", "5.6.0", N_("The From field of your message does not name one author; the list {list} needs exactly one."), facts
        )
    return None


def blocked(facts: Facts) -> Decision | None:
    """The author or the reverse-path is on a block list."""
    if facts.standing.blocked:
        return _reject("blocked", "5.7.1", N_("You may not post to the list {list}. Its owners can tell you why: {owner}"), facts)
    return None


def not_allowed(facts: Facts) -> Decision | None:
    """The list's `post` setting does not let this author post, or holds the post."""
    policy, who = facts.list["post"], facts.standing
    if policy == "closed":
        return _reject("not_allowed", "5.7.1", N_("Nobody can post to the list {list}."), facts)
    if facts.reading is None:
        return None
    staff = who.owner or who.moderator
    if (staff and policy != "owners") or who.owner:
        if facts.list["moderators_held"]:
            return Decision(Action.HOLD, "moderators_held")
        return None
    if who.posting == "refuse":
        return _reject(
            "not_allowed", "5.7.1", N_("Your posts to the list {list} are not accepted. Its owners can tell you why: {owner}"), facts
        )
    if who.posting == "hold":
        return Decision(Action.HOLD, "always_held")
    if who.posting == "accept":
        return None
    if policy == "moderated" or (policy == "subscribers-held" and who.subscriber):
        return Decision(Action.HOLD, "moderated")
    if policy == "subscribers-others-held" and not who.subscriber:
        return Decision(Action.HOLD, "not_subscribed")
    if policy in ("subscribers", "subscribers-held") and not who.subscriber:
        text = N_(
            "Only subscribers post to the list {list}. Subscribe first, write from the address you subscribed with, or write to {owner}"
        )
        return _reject("not_allowed", "5.7.1", text, facts)
    if policy == "moderators":
        return _reject(
            "not_allowed", "5.7.1", N_("Only its owners and moderators post to the list {list}. Write to them at {owner}"), facts
        )
    if policy == "owners":
        return _reject("not_allowed", "5.7.1", N_("Only its owners post to the list {list}. Write to them at {owner}"), facts)
    return None


RULES: tuple[Rule, ...] = (pending, closed, too_large, loop, automatic, malformed, no_author, blocked, not_allowed)


def decide(facts: Facts) -> Decision:
    """What becomes of the post: the first rule that answers, else ACCEPT."""
    return next((decision for rule in RULES if (decision := rule(facts))), Decision(Action.ACCEPT, "accepted"))


def _reject(rule: str, status: str, text: str, facts: Facts) -> Decision:
    shown = _(text).format(
        list=facts.list.address,
        owner=facts.list.sub("owner"),
        limit=SIZE.show(facts.list["max_size"]),
        problem=_(facts.reading.problem) if facts.reading else "",
    )
    return Decision(Action.REJECT, rule, Reply(552 if rule == "too_large" else 550, status, shown))
