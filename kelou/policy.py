"""One decision: what becomes of a post. `decide(facts)` is pure: no query, no clock, no DNS.

RULES is the order, with the answers of each rule; the first that answers wins. The answer's name is what logs, the held list and docs/rules.md
say, and TEXTS has what people are told of it. The milter asks at RCPT, when `reading` is still None, and at end of message; the LMTP handler asks
again and is the authority.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from . import headerrule, maillog
from .directory import ListView
from .i18n import N_, _
from .reading import Reading
from .reply import Reply
from .setting import SIZE
from .standing import Standing

HOPS = 40  # RFC 5321 section 6.3. Postfix takes 50 (hopcount_limit), and the copies have some to go; what it refused then would be tried for days


class Action(enum.Enum):
    ACCEPT = "accept"
    HOLD = "hold"
    REJECT = "reject"
    DISCARD = "discard"
    DEFER = "defer"


@dataclass(frozen=True, slots=True)
class Author:
    """Who wrote, as the milter found it: `address` is the key of the one address that is proved, empty if none is; `why` says by what.

    `trouble`: it could not be found out now (DNS). `forbidden`: the domain in From: asks to refuse what fails DMARC, and this failed.
    """

    address: str = ""
    why: str = "not checked"
    trouble: bool = False
    forbidden: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a rule may know."""

    list: ListView
    reverse_path: str
    size: int = 0  # octets, as far as known
    reading: Reading | None = None  # the message; None at RCPT
    author: Author = field(default_factory=Author)
    standing: Standing = field(default_factory=Standing)  # of the address in From:, proved or not
    from_fails: bool | None = False  # the list would have to rewrite From, and refuses such posts; None: not to be known now
    lately: int = 0  # posts that the list distributed in the last hour, where it matters
    watched: bool = False  # it is among the first posts of a list with many subscribers
    twin: str = ""  # a post with this Message-ID was distributed: "same" content, or "other"

    @property
    def proved(self) -> bool:
        """Whether the address in From: is the authenticated author's."""
        return bool(self.author.address) and self.reading is not None and self.reading.author_key == self.author.address


@dataclass(frozen=True, slots=True)
class Decision:
    """What happens and by which rule. `detail` is what the rule saw; `confirm` asks the author to confirm a held post."""

    action: Action
    rule: str
    reply: Reply | None = None
    detail: str = ""
    confirm: bool = False


FOR_LISTMASTERS = frozenset({"first_posts"})  # the answers by which a post is held for them, and not for the list's moderators

Rule = Callable[[Facts], Decision | None]

# What people are told, by the name of the answer: the enhanced status code of a refusal, and the text that says what to do.
TEXTS: dict[str, tuple[str, str]] = {
    "pending": ("5.7.1", N_("The list {list} is not active yet. Try again once its owners tell you that it is.")),
    "closed": ("5.7.1", N_("The list {list} is closed and takes no mail.")),
    "loop": ("5.4.6", N_("This message has been through the list {list} already and is not sent again.")),
    "hops": ("5.4.6", N_("This message has passed too many servers on its way to {list}, most likely in a circle.")),
    "list_in_list": ("5.4.6", N_("This message comes from another list; the list {list} does not take it. Write to it directly.")),
    "automatic": ("5.7.1", N_("The list {list} takes no automatic messages. Write to it from an ordinary mail program.")),
    "malformed": ("5.6.0", N_("The list {list} can not take this message: {detail}. Send it again from an ordinary mail program.")),
    "no_author": ("5.6.0", N_("The From field of your message must name exactly one author. Correct it and send again to {list}.")),
    "forbidden": ("5.7.1", N_("The domain in the From field asks to refuse mail that it did not sign, and this is not signed by it. "
                              "Send through your own provider's server.")),
    "trouble": ("4.7.0", N_("It can not be checked now who wrote this message to {list}; it will be tried again.")),
    "blocked": ("5.7.1", N_("You may not post to the list {list}. Its owners can tell you why: {owner}")),
    "emergency": ("", N_("The list {list} holds every post for now.")),
    "header_refused": ("5.7.1", N_("A header field of your message is not accepted by the list {list} ({detail}). Its owners can tell you why: {owner}")),
    "header_held": ("", N_("A header field matches a rule of the list {list} ({detail}).")),
    "spam_refused": ("5.7.1", N_("Your message to {list} looks like spam. If it is not, write it differently or write to {owner}")),
    "spam_held": ("", N_("A spam filter marked the message.")),
    "too_large": ("5.3.4", N_("The list {list} takes posts of up to {limit}; yours is larger. Send a smaller one, or a link instead of the file.")),
    "too_many": ("5.7.1", N_("Your message is addressed to too many people for the list {list}. Send it to the list alone.")),
    "too_many_held": ("", N_("The message is addressed to more people than the list {list} allows.")),
    "hidden": ("5.7.1", N_("The address {list} is in neither To nor Cc of your message. Put it there and send again.")),
    "hidden_held": ("", N_("The address {list} is in neither To nor Cc.")),
    "no_subject": ("5.7.1", N_("Your message to {list} has no subject. Give it one and send again.")),
    "no_subject_held": ("", N_("The message has no subject.")),
    "command": ("5.7.1", N_("This looks like a command, which would have gone to everybody on {list}. Send it to {command} instead, with this subject: {detail}")),
    "password": ("5.7.1", N_("There is an Approved: line in your message, as for a password, and everybody on {list} would have read it. "
                             "No password is needed here: take the line out and send again.")),
    "duplicate": ("", N_("The list {list} has distributed this very message already.")),
    "twin": ("", N_("Another message with the same Message-ID was distributed on {list} already.")),
    "attachment": ("5.7.1", N_("The list {list} takes no attachments. Send a link instead of the file.")),
    "attachment_held": ("", N_("The message has attachments.")),
    "file_type": ("5.7.1", N_("The list {list} does not take files of this type: {detail}. Send a link, or another format.")),
    "protected": ("5.7.1", N_("The domain of your address has mail refused that others pass on changed, and the list {list} changes it. "
                              "Write from another address, or to {owner}")),
    "unasked": ("4.7.0", N_("The domain of your address does not say now whether the list {list} may pass its mail on changed; it will be tried again.")),
    "nobody": ("5.7.1", N_("Nobody can post to the list {list}.")),
    "member_refused": ("5.7.1", N_("Your posts to the list {list} are not accepted. Its owners can tell you why: {owner}")),
    "member_held": ("", N_("The posts of this subscriber are always held.")),
    "unauthenticated": ("5.7.1", N_("It is not certain who wrote this message. Send it through your own provider's server, which signs it, "
                                    "from the address that may post to {list}.")),
    "unauthenticated_held": ("", N_("It is not certain that the address in From is the author's.")),
    "subscribers_only": ("5.7.1", N_("Only subscribers post to the list {list}. Subscribe first, or write from the address you subscribed with, "
                                     "or write to {owner}")),
    "moderators_only": ("5.7.1", N_("Only its owners and moderators post to the list {list}. Write to them at {owner}")),
    "owners_only": ("5.7.1", N_("Only its owners post to the list {list}. Write to them at {owner}")),
    "staff_held": ("", N_("On this list, the posts of owners and moderators are held too.")),
    "moderated": ("", N_("The list {list} is moderated.")),
    "not_subscribed": ("", N_("The author is not subscribed to {list}.")),
    "too_often": ("", N_("More posts than the list {list} distributes in an hour have come.")),
    "first_posts": ("", N_("The first posts of a list with many subscribers are for the listmasters to decide on.")),
    "accepted": ("", N_("The post is distributed.")),
    "fault": ("", N_("A fault in the list server kept this post from being judged; its log says more.")),
}  # fmt: skip


def state(facts: Facts) -> Decision | None:
    """A pending or closed list takes no post."""
    return _reject(facts.list.status, facts) if facts.list.status in ("pending", "closed") else None


def looping(facts: Facts) -> Decision | None:
    """What has passed this list, or comes from another one, is not sent on: List-Id (RFC 2919) tells. Nor what wanders from server to server."""
    if facts.reading and facts.reading.hops > HOPS:
        return _reject("hops", facts)
    if not facts.reading or not facts.reading.list_ids:
        return None
    return _reject("loop" if facts.list.list_id in facts.reading.list_ids else "list_in_list", facts)


def written_by_a_program(facts: Facts) -> Decision | None:
    """Absence notices, reports and robots stay out (RFC 3834 section 2), reports from the null reverse-path always (RFC 5321 section 4.5.5)."""
    if not facts.reverse_path:
        return _reject("automatic", facts)
    robot = facts.reading is not None and facts.reading.automatic
    return _reject("automatic", facts) if robot and facts.list["automatic"] == "refuse" else None


def unreadable(facts: Facts) -> Decision | None:
    """A message that is none: no header, foreign bytes in it, parts nested beyond measure."""
    return _reject("malformed", facts, _(facts.reading.problem)) if facts.reading and facts.reading.problem else None


def anonymous(facts: Facts) -> Decision | None:
    """From: is missing, there are two, or it does not name exactly one address (RFC 5322 section 3.6.2)."""
    return _reject("no_author", facts) if facts.reading and not facts.reading.author_key else None


def forged(facts: Facts) -> Decision | None:
    """The author's domain asks to refuse what fails DMARC, and this did (RFC 9989)."""
    return _reject("forbidden", facts) if facts.author.forbidden else None


def on_block_list(facts: Facts) -> Decision | None:
    """The author or the reverse-path is on the block list of the list or the site."""
    return _reject("blocked", facts) if facts.standing.blocked else None


def emergency(facts: Facts) -> Decision | None:
    """While `emergency` is on, every post is held."""
    return _hold("emergency") if facts.list["emergency"] and facts.reading else None


def header(facts: Facts) -> Decision | None:
    """The list's header rules, then the verdict of a spam filter."""
    if not facts.reading:
        return None
    found = headerrule.first(facts.list["header_rules"], facts.reading.fields)
    if found and found.action != "accept":
        return _reject("header_refused", facts, found.text) if found.action == "refuse" else _hold("header_held", found.text)
    if found or not facts.reading.spam:
        return None
    return _either(facts.list["spam"], "spam_refused", "spam_held", facts)


def large(facts: Facts) -> Decision | None:
    """The post is larger than `max_size`."""
    return _reject("too_large", facts) if facts.size > facts.list["max_size"] else None


def crowded(facts: Facts) -> Decision | None:
    """To: and Cc: name more addresses than `max_recipients`."""
    limit = facts.list["max_recipients"]
    if not facts.reading or not limit or len(facts.reading.recipients) <= limit:
        return None
    return _either(facts.list["too_many_recipients"], "too_many", "too_many_held", facts)


def hidden(facts: Facts) -> Decision | None:
    """The list is in neither To: nor Cc:, as in spam and blind copies."""
    if not facts.reading or set(facts.reading.recipients) & {facts.list.address, *facts.list.old_addresses}:
        return None
    return _either(facts.list["blind_copies"], "hidden", "hidden_held", facts)


def without_subject(facts: Facts) -> Decision | None:
    """The post has no subject."""
    return _either(facts.list["no_subject"], "no_subject", "no_subject_held", facts) if facts.reading and not facts.reading.subject else None


def misdirected_command(facts: Facts) -> Decision | None:
    """A short mail that says "unsubscribe" and the like was meant for the command address."""
    return _reject("command", facts, facts.reading.command) if facts.reading and facts.reading.command else None


def with_password(facts: Facts) -> Decision | None:
    """An "Approved:" line, in the header or as the first of the text: a password of some list manager, that everybody would read."""
    return _reject("password", facts) if facts.reading and facts.reading.password else None


def seen_before(facts: Facts) -> Decision | None:
    """A post with this Message-ID has been distributed: the same one again is let fall, another one is held."""
    if facts.twin == "same":
        return Decision(Action.DISCARD, "duplicate")
    return _hold("twin") if facts.twin else None


def attached(facts: Facts) -> Decision | None:
    """Attachments, and files of types the list does not take."""
    if not facts.reading:
        return None
    refused = next((name for name in facts.reading.files if any(_is_type(name, pattern) for pattern in facts.list["refused_types"])), "")
    if refused:
        return _reject("file_type", facts, refused.rpartition("/")[2][:80])
    return _either(facts.list["attachments"], "attachment", "attachment_held", facts) if facts.reading.files else None


def protected(facts: Facts) -> Decision | None:
    """The author's domain has changed mail refused (DMARC), and the list neither keeps to what it signed nor rewrites From."""
    if facts.from_fails is None:
        return Decision(Action.DEFER, "unasked", _reply("unasked", facts))
    return _reject("protected", facts) if facts.from_fails else None


def may_post(facts: Facts) -> Decision | None:
    """The list's `post` setting, a subscriber's own standing, and whether the author is certain."""
    policy, who = facts.list["post"], facts.standing
    if policy == "closed":
        return _reject("nobody", facts)
    if facts.reading is None:
        return None
    answer = _policy(policy, who, facts)
    if facts.proved or (answer and answer.action is Action.REJECT):
        return answer
    # What only a certain author may do, an uncertain one may not (design: a forged From opens nothing).
    if facts.author.trouble:
        return Decision(Action.DEFER, "trouble", _reply("trouble", facts))
    wish = facts.list["unauthenticated"]
    if wish == "refuse":
        return _reject("unauthenticated", facts)
    return _hold("unauthenticated_held", facts.author.why, confirm=wish == "confirm" and answer is None)


def _policy(policy: str, who: Standing, facts: Facts) -> Decision | None:
    """What the setting says of an author with this standing, taken at their word."""
    staff = who.owner or (who.moderator and policy != "owners")
    if staff:
        return _hold("staff_held") if facts.list["moderators_held"] else None
    if who.posting:
        return {"refuse": _reject("member_refused", facts), "hold": _hold("member_held")}.get(who.posting)
    match policy:
        case "moderated":
            return _hold("moderated")
        case "subscribers-held" if who.subscriber:
            return _hold("moderated")
        case "subscribers-others-held" if not who.subscriber:
            return _hold("not_subscribed")
        case "subscribers" | "subscribers-held" if not who.subscriber:
            return _reject("subscribers_only", facts)
        case "moderators":
            return _reject("moderators_only", facts)
        case "owners":
            return _reject("owners_only", facts)
    return None


def too_often(facts: Facts) -> Decision | None:
    """More posts in an hour than `hourly_posts`: a loop, or a list that was taken over."""
    limit = facts.list["hourly_posts"]
    return _hold("too_often") if facts.reading and limit and facts.lately >= limit else None


def first_posts(facts: Facts) -> Decision | None:
    """The first posts of a list with many subscribers are shown to the listmasters, because one abused list costs everybody their delivery."""
    return _hold("first_posts") if facts.reading and facts.watched else None


RULES: Mapping[Rule, tuple[str, ...]] = {
    state: ("pending", "closed"),
    looping: ("hops", "loop", "list_in_list"),
    written_by_a_program: ("automatic",),
    unreadable: ("malformed",),
    anonymous: ("no_author",),
    forged: ("forbidden",),
    on_block_list: ("blocked",),
    emergency: ("emergency",),
    header: ("header_refused", "header_held", "spam_refused", "spam_held"),
    large: ("too_large",),
    crowded: ("too_many", "too_many_held"),
    hidden: ("hidden", "hidden_held"),
    without_subject: ("no_subject", "no_subject_held"),
    misdirected_command: ("command",),
    with_password: ("password",),
    seen_before: ("duplicate", "twin"),
    attached: ("file_type", "attachment", "attachment_held"),
    protected: ("protected", "unasked"),
    may_post: (
        "nobody", "staff_held", "member_refused", "member_held", "moderated", "not_subscribed", "subscribers_only", "moderators_only", "owners_only",
        "trouble", "unauthenticated", "unauthenticated_held",
    ),
    too_often: ("too_often",),
    first_posts: ("first_posts",),
}  # fmt: skip


def decide(facts: Facts) -> Decision:
    """What becomes of the post: the first rule that answers, else ACCEPT. A post that a rule breaks on is held, with the traceback in the log."""
    for rule in RULES:
        try:
            decision = rule(facts)
        except Exception:
            message_id = facts.reading.message_id if facts.reading else ""
            maillog.fault("rule", rule=rule.__name__, list=facts.list.address, message_id=message_id)
            return _hold("fault", rule.__name__)
        if decision:
            return decision
    return Decision(Action.ACCEPT, "accepted")


def action(name: str) -> Action:
    """What an answer of that name does: a status code is a refusal's."""
    special = {"accepted": Action.ACCEPT, "duplicate": Action.DISCARD, "trouble": Action.DEFER, "unasked": Action.DEFER}
    return special.get(name, Action.REJECT if TEXTS[name][0] else Action.HOLD)


def explain(name: str, the_list: ListView, detail: str = "") -> str:
    """What people are told of an answer of that name, in the language in force."""
    if name not in TEXTS:  # of another version, that held the post
        return name
    return _(TEXTS[name][1]).format(
        list=the_list.address,
        owner=the_list.sub("owner"),
        command=the_list.commands or the_list.sub("unsubscribe"),
        limit=SIZE.show(the_list["max_size"]),
        detail=detail,
    )


def _reply(name: str, facts: Facts, detail: str = "") -> Reply:
    status = TEXTS[name][0]
    code = {"too_large": 552, "trouble": 451, "unasked": 451}.get(name, 550)
    return Reply(code, status, explain(name, facts.list, detail))


def _reject(name: str, facts: Facts, detail: str = "") -> Decision:
    return Decision(Action.REJECT, name, _reply(name, facts, detail), detail)


def _hold(name: str, detail: str = "", confirm: bool = False) -> Decision:
    return Decision(Action.HOLD, name, detail=detail, confirm=confirm)


def _either(wish: str, refusal: str, held: str, facts: Facts) -> Decision | None:
    """A rule whose setting chooses between refuse, hold and accept."""
    return {"refuse": _reject(refusal, facts), "hold": _hold(held)}.get(wish)


def _is_type(name: str, pattern: str) -> bool:
    """`type/subtype`, `type/*` or `.ext` against a part's `type/subtype/filename`."""
    name, pattern = name.lower(), pattern.lower()
    if pattern.startswith("."):
        return name.endswith(pattern)
    kind = "/".join(name.split("/")[:2])
    return kind == pattern or (pattern.endswith("/*") and kind.startswith(pattern[:-1]))
