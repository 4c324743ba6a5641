"""What can be set for a list, and the list types: presets over those defaults, in one table.

A list's value of a setting is its own, else its type's, else the default here. docs/list-settings.md is made from both tables.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any

from . import headerrule
from .config import Config
from .i18n import LANGUAGES, N_, _
from .setting import ADDRESS, BOOL, DURATION, INT, LINE, LINES, SIZE, TEXT, Kind, Setting, SettingError, choice, table

WISH = choice("refuse", "hold", "accept")
HEADER_RULES = Kind("header rules", N_("lines such as: hold X-Mailer: BulkMaster"), lambda v: v if isinstance(v, tuple) else headerrule.parse(v), headerrule.show)
POST = ("anyone", "subscribers", "subscribers-others-held", "subscribers-held", "moderators", "moderated", "owners", "closed")
DELIVERY = ("shared", "verp", "personal")

PLACEHOLDERS = ("list", "address", "subject", "unsubscribe", "email", "name")  # what is filled in, in the tag and the footer


def _tag(value: Any) -> str:
    """A tag without the brackets that people write around it: the subject gets them anyway."""
    text: str = LINE.read(value)
    inner = text[1:-1]
    return inner.strip() if text == f"[{inner}]" and not {"[", "]"} & set(inner) else text


def _hours(value: Any) -> int:
    seconds: int = DURATION.read(value)
    if seconds < 3600:
        raise ValueError
    return seconds


TAG = Kind("line", LINE.says, _tag)
HOURS = Kind("duration", N_("a time of at least an hour, such as 12h, 14d or 2w"), _hours, DURATION.show)

FOOTER = N_("-- \n{subject}\nTo unsubscribe: {unsubscribe}")

SETTINGS = table([
    Setting("post", choice(*POST), "subscribers", N_(
        "Who may post: anyone; subscribers (the rest is refused); subscribers-others-held; subscribers-held (theirs are held, the rest is refused); "
        "moderators (and owners, the rest is refused); moderated (the rest is held); owners (the rest is refused); closed (nobody).")),
    Setting("moderators_held", BOOL, False, N_("Whether the posts of moderators and owners are held too.")),
    Setting("unauthenticated", choice("hold", "confirm", "refuse"), "hold", N_(
        "What happens to a post by somebody who could post but is not certain to have written it: hold, confirm (held, and the author is asked), refuse.")),
    Setting("subscribe", choice("open", "confirm", "owner", "confirm-owner", "closed"), "open", N_(
        "How people subscribe: open (at once; who is not certain confirms by mail), confirm (everybody does), owner (an owner approves), "
        "confirm-owner (both), closed (owners add people).")),
    Setting("unsubscribe", choice("open", "confirm"), "open", N_(
        "How people unsubscribe: open (at once; who is not certain confirms by mail), confirm (everybody does). Nobody can be kept.")),
    Setting("invite", choice("subscribers", "owner", "closed"), "subscribers", N_("Who may invite people to subscribe.")),
    Setting("review", choice("owner", "subscribers", "anyone", "closed"), "owner", N_("Who may see the subscribers by mail.")),
    Setting("info", choice("anyone", "subscribers", "owner"), "anyone", N_("Who is told what the list is for.")),
    Setting("visible", BOOL, False, N_("Whether people who are not subscribed see the list among the site's lists.")),
    Setting("emergency", BOOL, False, N_("Whether every post is held, whoever wrote it, until this is off again.")),
    Setting("header_rules", HEADER_RULES, (), N_(
        "Rules on header fields, one a line: refuse, hold or accept, then FIELD: PATTERN, where PATTERN is a text, /a regular expression/ or *.")),
    Setting("spam", WISH, "hold", N_("What happens to a post that a spam filter (SpamAssassin, rspamd) marked.")),
    Setting("held_notices", choice("each", "daily"), "each", N_("Whether moderators are told of each held post, or once a day of all.")),
    Setting("held_for", HOURS, 15 * 86400, N_("How long a held post waits for a moderator; then it is dropped, and an authenticated author told.")),
    Setting("automatic", choice("refuse", "accept"), "refuse", N_("What happens to mail that a program wrote.")),
    Setting("max_recipients", INT, 10, N_("How many addresses To and Cc may name together; 0: any number.")),
    Setting("too_many_recipients", WISH, "hold", N_("What happens to a post that names more.")),
    Setting("blind_copies", WISH, "hold", N_("What happens to a post that has the list's address in neither To nor Cc.")),
    Setting("no_subject", WISH, "refuse", N_("What happens to a post without a subject.")),
    Setting("attachments", WISH, "accept", N_("What happens to a post with attachments.")),
    Setting("refused_types", LINES, (), N_("Files that are refused, by type or ending: application/zip, video/*, .exe.")),
    Setting("max_size", SIZE, 5 * 1024**2, N_("The largest post, with its header.")),
    Setting("subject_tag", TAG, "", N_("Put before the subject in brackets; {list} is the list's name. Empty: the subject stays, and the author's signature with it.")),
    Setting("footer", TEXT, "", N_(
        "Put below each post; {list}, {address}, {subject} and {unsubscribe} are filled in, and {email} and {name} where delivery is personal. "
        "Empty: the post stays, and the author's signature with it.")),
    Setting("reply_to", choice("author", "list", "both", "address"), "author", N_("Where a reply goes.")),
    Setting("reply_to_address", ADDRESS, "", N_("The address that replies go to where reply_to is address.")),
    Setting("reply_to_force", BOOL, False, N_("Whether a Reply-To that the author wrote is overridden.")),
    Setting("from_rewriting", choice("needed", "always", "never", "refuse"), "needed", N_(
        "Whether posts go out with the list in From, and their author in Reply-To: needed (where the author's domain would have them refused otherwise), "
        "always, never, refuse (such posts are not taken).")),
    Setting("own_posts", BOOL, True, N_("Whether new subscribers receive their own posts.")),
    Setting("digest", DURATION, 86400, N_("How often those who read digests get one, if there were posts; 0: there are no digests, and they get each post.")),
    Setting("digest_size", SIZE, 300 * 1024, N_("The size of the posts together from which on a digest goes out before its time.")),
    Setting("delivery", choice(*DELIVERY), "shared", N_(
        "How copies are made: shared (one for all), verp (the same, with a return-path for each subscriber, so that bounces say whose they are), "
        "personal (one for each, with a link of their own to unsubscribe)."), owner=False),
    Setting("to_subscriber", BOOL, False, N_("Whether To names the subscriber instead of what the author wrote there, where delivery is personal.")),
    Setting("announce", BOOL, False, N_("Whether subscribers are told in List-Post that they can not post.")),
    Setting("language", choice(*LANGUAGES), "fr", N_("The language of the list's notices and refusals.")),
    Setting("bounce_tell", INT, 45, N_("The bounce score, of 100, from which on the owners are told of a subscriber; 0: never.")),
    Setting("bounce_stop", INT, 75, N_("The bounce score from which on bounce_action follows, after a last mail to the subscriber came back too; 0: never.")),
    Setting("bounce_action", choice("tell", "suspend", "remove"), "suspend", N_(
        "What happens to a subscriber whose mailbox fails: tell (the owners only), suspend (no more posts), remove.")),
    Setting("bounce_keep", DURATION, 90 * 86400, N_("How long a suspended subscriber stays; then one more mail is tried, and they are removed or back. 0: for ever.")),
    Setting("bounce_brake", INT, 20, N_(
        "The share of the subscribers, in percent, from which on nobody is suspended or removed: so many fail because of the list or the host."), owner=False),
    Setting("hourly_posts", INT, 0, N_("How many posts are distributed in an hour; more are held. 0: any number."), owner=False),
    Setting("watched_posts", INT, 0, N_(
        "How many of the list's first posts the listmasters decide on, where it has at least watched_from subscribers; 0: none."), owner=False),
    Setting("watched_from", INT, 500, N_("From how many subscribers on the first posts are watched."), owner=False),
    Setting("max_subscribers", INT, 0, N_("The most subscribers the list may have; 0: no limit."), owner=False),
])

# What each type sets over the defaults. Sympa's models are the source, but for two of their choices: its newsletter lets everybody's post
# through to the moderators, spam included, where ours refuses; its confidential list can not be left, where every list of ours can.
TYPES: Mapping[str, Mapping[str, Any]] = {
    "newsletter":    {"post": "moderators", "announce": True, "footer": FOOTER, "own_posts": True, "visible": True, "delivery": "personal"},
    "discussion":    {"post": "subscribers", "visible": True},
    "working-group": {
        "post": "subscribers-others-held", "reply_to": "list", "subject_tag": "{list}", "footer": FOOTER, "subscribe": "owner", "review": "subscribers"},
    "moderated":     {"post": "moderated", "visible": True},
    "hotline":       {
        "post": "anyone", "automatic": "accept", "subject_tag": "{list}", "reply_to": "both", "subscribe": "owner", "review": "subscribers", "visible": True},
    "confidential":  {
        "post": "subscribers", "reply_to": "list", "subject_tag": "{list}", "subscribe": "closed", "invite": "owner", "review": "subscribers",
        "info": "subscribers"},
}  # fmt: skip

TITLES: Mapping[str, str] = {
    "newsletter": N_("A letter: owners and moderators write, subscribers read."),
    "discussion": N_("Subscribers write to each other; posts are not changed."),
    "working-group": N_("A board or a team: replies go to the list, posts of others are held."),
    "moderated": N_("Anybody's post is held until a moderator approves it."),
    "hotline": N_("Anyone may write, programs too; a team receives."),
    "confidential": N_("Only subscribers write; the rest is refused."),
}


def require_placeholders(key: str, value: Any) -> None:
    """Raises SettingError for a word in braces that would not be filled in, and go out as it is to everybody."""
    if key not in ("subject_tag", "footer"):
        return
    for word in re.findall(r"\{(\w+)\}", value):
        if word not in PLACEHOLDERS:
            near = difflib.get_close_matches(word.lower(), PLACEHOLDERS, 1, 0.5)
            hint = _("did you mean {key}?").format(key=f"{{{near[0]}}}") + " " if near else ""
            known = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
            raise SettingError(_("{key}: {word} is not filled in; {hint}those that are: {known}").format(key=key, word=f"{{{word}}}", hint=hint, known=known))


# Settings whose default is the site's to choose.
OF_SITE = {"language": "site.language", "unauthenticated": "authors.unauthenticated", "watched_posts": "lists.watched_posts", "watched_from": "lists.watched_from"}


def resolve(type_name: str, own: Mapping[str, Any], config: Config) -> dict[str, tuple[Any, str]]:
    """Every setting's value and where it comes from: `list`, `type`, `site` or `default`."""
    preset = TYPES.get(type_name, {})
    values: dict[str, tuple[Any, str]] = {}
    for key, setting in SETTINGS.items():
        if key in own:
            values[key] = own[key], "list"
        elif key in preset:
            values[key] = preset[key], "type"
        elif key in OF_SITE:
            values[key] = config[OF_SITE[key]], "site"
        else:
            values[key] = setting.default, "default"
    return values
