"""The tables, through Peewee. Nothing here that PostgreSQL could not do; every change of state is one guarded UPDATE.

Times are whole seconds since 1970, UTC. Addresses are kept as spelled, and compared by their key (`kelou.address`).
The schema itself is made by migrations/, never from these classes.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

from peewee import (
    SQL,
    BigIntegerField,
    BlobField,
    BooleanField,
    CharField,
    DatabaseProxy,
    ForeignKeyField,
    IntegerField,
    Model,
    TextField,
)

from .columns import LastingIdField

db = DatabaseProxy()


def now() -> int:
    """The time, in seconds."""
    return int(time.time())


def iso(seconds: int | None) -> str | None:
    """A time of ours as ISO 8601, UTC."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Base(Model):
    class Meta:
        database = db
        legacy_table_names = False


class Domain(Base):
    """A domain that lists live in."""

    name = CharField(unique=True)  # A-labels, lower case
    created = BigIntegerField(default=now)


class MailingList(Base):
    """A list. `list_id` is its List-Id for ever (RFC 2919 section 3): filters of subscribers stand on it."""

    id = LastingIdField()
    domain = ForeignKeyField(Domain, backref="lists")
    name = CharField()
    list_id = CharField(unique=True)
    status = CharField(default="pending", index=True)  # pending, open, closed
    type = CharField()
    subject = CharField()
    description = TextField(default="")
    organisation = CharField(default="")
    requested_by = CharField(default="")
    created = BigIntegerField(default=now)
    decided = BigIntegerField(null=True)  # when it was last activated, refused, closed or reopened
    decided_by = CharField(default="")
    reason = TextField(default="")
    bounces_checked = BigIntegerField(null=True)  # when its bounces were last looked through

    class Meta:
        table_name = "mailing_list"
        indexes = ((("domain", "name"), True),)


class ListSetting(Base):
    """A setting of a list's own, over its type's, as the admin writes it."""

    list = ForeignKeyField(MailingList, backref="settings", on_delete="CASCADE")
    key = CharField()
    value = TextField()

    class Meta:
        table_name = "list_setting"
        indexes = ((("list", "key"), True),)


class OldName(Base):
    """A name that a list had: its address goes on taking mail until then."""

    list = ForeignKeyField(MailingList, backref="old_names", on_delete="CASCADE")
    domain = ForeignKeyField(Domain)
    name = CharField()
    until = BigIntegerField()

    class Meta:
        table_name = "old_name"
        indexes = ((("domain", "name"), True),)


class Account(Base):
    """An address, a display name, a language: a person as far as we know. It gives no right of itself."""

    address = CharField()
    key = CharField(unique=True)
    domain = CharField(index=True)  # of the key: distribution goes out by domain
    name = CharField(default="")
    language = CharField(default="")
    created = BigIntegerField(default=now)


class Listmaster(Base):
    """A site administrator."""

    account = ForeignKeyField(Account, unique=True, on_delete="CASCADE")
    since = BigIntegerField(default=now)


class Role(Base):
    """An owner or a moderator of a list."""

    list = ForeignKeyField(MailingList, backref="roles", on_delete="CASCADE")
    account = ForeignKeyField(Account, backref="roles", on_delete="CASCADE")
    role = CharField()  # owner, moderator
    since = BigIntegerField(default=now)

    class Meta:
        indexes = ((("list", "account", "role"), True),)


class Subscription(Base):
    """A subscriber of a list, with the consent it stands on: since when, how it came about and who did it."""

    id = LastingIdField()
    list = ForeignKeyField(MailingList, backref="subscriptions", on_delete="CASCADE")
    account = ForeignKeyField(Account, backref="subscriptions", on_delete="CASCADE")
    mode = CharField(default="mail")  # mail, digest, digestplain, nomail, suspended (for bounces)
    suspended_from = BigIntegerField(null=True)  # holidays: nothing is sent from then
    suspended_until = BigIntegerField(null=True)  # to then
    own_posts = BooleanField(default=True)
    posting = CharField(default="")  # "", hold, accept, refuse: over the list's policy
    since = BigIntegerField(default=now)
    source = CharField(default="")  # add, import, mail, …
    added_by = CharField(default="")
    consent = TextField(default="")  # how the subscriber asked for it and confirmed, for who has to show it
    concealed = BooleanField(default=False)  # not shown to other subscribers
    bounce_score = IntegerField(null=True)
    failing = CharField(default="")  # how far it has come with their bounces: told, probed (see kelou.score)
    failing_since = BigIntegerField(default=0)
    reachable = BigIntegerField(default=0)  # when the mailbox was last known to be well: earlier bounces say nothing any more

    class Meta:
        indexes = ((("list", "account"), True),)


class PendingSubscription(Base):
    """Somebody who asked to be subscribed, with proof of the address, and waits for an owner. Deciding removes the row; the audit log keeps who did."""

    id = LastingIdField()
    list = ForeignKeyField(MailingList, backref="pending", on_delete="CASCADE")
    address = CharField()
    key = CharField()
    name = CharField(default="")
    asked = BigIntegerField(default=now)
    consent = TextField(default="")

    class Meta:
        table_name = "pending_subscription"
        indexes = ((("list", "key"), True),)


class Guest(Base):
    """Somebody who may post to a list without being subscribed: a moderator said so when approving a post."""

    list = ForeignKeyField(MailingList, backref="guests", on_delete="CASCADE")
    account = ForeignKeyField(Account, on_delete="CASCADE")
    since = BigIntegerField(default=now)
    added_by = CharField(default="")

    class Meta:
        indexes = ((("list", "account"), True),)


class Block(Base):
    """An address, `@domain` or glob that may not post or subscribe; for all lists where `list` is null."""

    list = ForeignKeyField(MailingList, null=True, on_delete="CASCADE")
    pattern = CharField()
    since = BigIntegerField(default=now)
    added_by = CharField(default="")
    reason = TextField(default="")


class Post(Base):
    """A post that was accepted, and how far its distribution is. The digest is of the bytes Postfix gave us: its retry brings the same."""

    list = ForeignKeyField(MailingList, backref="posts", on_delete="CASCADE")
    digest = CharField()
    message_id = TextField(default="", index=True)
    fingerprint = CharField(default="")  # of what the author wrote: tells a second copy from a twin with the same Message-ID
    queue_id = CharField(default="")
    author = TextField(default="")
    subject = TextField(default="")
    size = IntegerField(default=0)
    state = CharField(default="distributing", index=True)  # distributing, sent
    worker = CharField(default="")  # the LMTP handler at work on it; empty: none
    claimed = BigIntegerField(default=0)  # when that handler last gave a sign of life
    received = BigIntegerField(default=now)
    finished = BigIntegerField(null=True)
    recipients = IntegerField(default=0)
    handed_over = IntegerField(default=0)
    doubtful = IntegerField(default=0)  # recipients of chunks that were in flight when a handler died
    rewritten = BooleanField(null=True)  # whether From names the list; null: not found out yet

    class Meta:
        indexes = ((("list", "digest"), True),)


class Chunk(Base):
    """The distribution's cursor: subscriptions that get a post in one transaction with Postfix, fixed when the post was accepted."""

    post = ForeignKeyField(Post, backref="chunks", on_delete="CASCADE")
    number = IntegerField()
    subscriptions = TextField()  # ids, with commas; those that Postfix has not taken yet
    state = CharField(default="waiting")  # waiting, flying (handed to Postfix, answer not noted yet), done

    class Meta:
        indexes = ((("post", "number"), True),)


class DigestPost(Base):
    """A post that waits for its list's next digest, as it came but for what is the list's own to say."""

    list = ForeignKeyField(MailingList, backref="digest_posts", on_delete="CASCADE")
    post = ForeignKeyField(Post, unique=True, on_delete="CASCADE")
    content = BlobField()

    class Meta:
        table_name = "digest_post"


class HeldPost(Base):
    """A post that waits for a moderator, with its exact bytes."""

    list = ForeignKeyField(MailingList, backref="held", on_delete="CASCADE")
    digest = CharField()
    content = BlobField(null=True)  # dropped once decided and done
    reverse_path = TextField(default="")
    message_id = TextField(default="", index=True)
    queue_id = CharField(default="")
    author = TextField(default="")  # as From: says
    authenticated = TextField(default="")  # the authenticated author's address, if any
    subject = TextField(default="")
    size = IntegerField(default=0)
    rule = CharField(default="")
    detail = TextField(default="")
    received = BigIntegerField(default=now)
    expires = BigIntegerField(null=True)
    state = CharField(default="held", index=True)  # held, approved, rejected, discarded, expired
    noticed = BigIntegerField(null=True)  # when the moderators were told
    reminded = BigIntegerField(null=True)
    decided = BigIntegerField(null=True)
    decided_by = CharField(default="")
    reason = TextField(default="")

    class Meta:
        table_name = "held_post"
        indexes = ((("list", "digest"), True),)


class Token(Base):
    """A single-use key that went out by mail; only its hash is kept."""

    digest = CharField(unique=True)
    action = CharField()
    list = ForeignKeyField(MailingList, null=True, on_delete="CASCADE")
    address = CharField(default="", index=True)
    object = TextField(default="")
    client = CharField(default="")  # who it was that had it sent, as far as Postfix knows: an IP address
    created = BigIntegerField(default=now)
    expires = BigIntegerField()
    used = BigIntegerField(null=True)


class CommandMail(Base):
    """A mail with commands that was done: a retry of its delivery does nothing, and nobody is answered for ever."""

    digest = CharField(unique=True)
    address = CharField(index=True)
    kind = CharField()  # answered, unknown, silent
    received = BigIntegerField(default=now)

    class Meta:
        table_name = "command_mail"


class Bounce(Base):
    """One failure of one delivery."""

    list = ForeignKeyField(MailingList, backref="bounces", on_delete="CASCADE")
    account = ForeignKeyField(Account, backref="bounces", on_delete="CASCADE")
    post = ForeignKeyField(Post, null=True, on_delete="SET NULL")
    kind = CharField()  # hard, soft, full, policy, unknown (see kelou.report)
    status = CharField(default="")
    detail = TextField(default="")
    proof = CharField(default="submission")  # how it is known whose it is: submission, token, quoted (see kelou.bounce)
    sent = BigIntegerField(default=now)  # when the mail was sent that came back
    received = BigIntegerField(default=now)

    class Meta:
        indexes = ((("list", "account", "sent"), False),)


class Template(Base):
    """The text of a notice in a language that the site, or a list, has instead of the one that Kelou comes with."""

    list = ForeignKeyField(MailingList, backref="templates", null=True, on_delete="CASCADE")
    name = CharField()
    language = CharField()
    text = TextField()
    changed = BigIntegerField(default=now)
    changed_by = CharField()

    class Meta:
        indexes = ((("name", "language", "list"), False),)


class Audit(Base):
    """Who did what, when, to what, and what was there before and after (JSON)."""

    at = BigIntegerField(default=now, index=True)
    who = CharField()
    action = CharField()
    list = CharField(default="")
    object = TextField(default="")
    before = TextField(default="")
    after = TextField(default="")


TABLES = (
    Domain,
    MailingList,
    ListSetting,
    OldName,
    Account,
    Listmaster,
    Role,
    Subscription,
    PendingSubscription,
    Guest,
    Block,
    Post,
    Chunk,
    DigestPost,
    HeldPost,
    Token,
    CommandMail,
    Bounce,
    Template,
    Audit,
)
__all__ = [*(t.__name__ for t in TABLES), "SQL", "TABLES", "Base", "db", "iso", "now"]
