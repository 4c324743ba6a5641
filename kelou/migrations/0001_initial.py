"""Initial. Tables as they were then: frozen, the models go on changing."""

from typing import Any

from peewee import BigIntegerField, BlobField, BooleanField, CharField, ForeignKeyField, IntegerField, Model, TextField

from kelou.columns import LastingIdField


def up(migrator: Any, db: Any) -> None:
    class Account(Model):
        address = CharField()
        key = CharField(unique=True)
        domain = CharField(index=True)
        name = CharField(default="")
        language = CharField(default="")
        created = BigIntegerField()

        class Meta:
            database = db
            legacy_table_names = False
            table_name = "account"

    db.create_tables([Account])

    class Audit(Model):
        at = BigIntegerField(index=True)
        who = CharField()
        action = CharField()
        list = CharField(default="")
        object = TextField(default="")
        before = TextField(default="")
        after = TextField(default="")

        class Meta:
            database = db
            legacy_table_names = False
            table_name = "audit"

    db.create_tables([Audit])

    class Domain(Model):
        name = CharField(unique=True)
        created = BigIntegerField()

        class Meta:
            database = db
            legacy_table_names = False
            table_name = "domain"

    db.create_tables([Domain])

    class MailingList(Model):
        id = LastingIdField()
        domain = ForeignKeyField(Domain)
        name = CharField()
        list_id = CharField(unique=True)
        status = CharField(index=True, default="pending")
        type = CharField()
        subject = CharField()
        description = TextField(default="")
        organisation = CharField(default="")
        requested_by = CharField(default="")
        created = BigIntegerField()
        decided = BigIntegerField(null=True)
        decided_by = CharField(default="")
        reason = TextField(default="")
        bounces_checked = BigIntegerField(null=True)

        class Meta:
            database = db
            legacy_table_names = False
            table_name = "mailing_list"
            indexes = ((("domain", "name"), True),)

    db.create_tables([MailingList])

    class Block(Model):
        list = ForeignKeyField(MailingList, null=True, on_delete="CASCADE")
        pattern = CharField()
        since = BigIntegerField()
        added_by = CharField(default="")
        reason = TextField(default="")

        class Meta:
            database = db
            legacy_table_names = False
            table_name = "block"

    db.create_tables([Block])

    class Post(Model):
        list = ForeignKeyField(MailingList, on_delete="CASCADE")
        digest = CharField()
        message_id = TextField(index=True, default="")
        fingerprint = CharField(default="")
        queue_id = CharField(default="")
        author = TextField(default="")
        subject = TextField(default="")
        size = IntegerField(default=0)
        state = CharField(index=True, default="distributing")
        worker = CharField(default="")
        claimed = BigIntegerField(default=0)
        received = BigIntegerField()
        finished = BigIntegerField(null=True)
        recipients = IntegerField(default=0)
        handed_over = IntegerField(default=0)
        doubtful = IntegerField(default=0)
        rewritten = BooleanField(null=True)

        class Meta:
            database = db
            legacy_table_names = False
            table_name = "post"
            indexes = ((("list", "digest"), True),)

    db.create_tables([Post])

    class Bounce(Model):
        list = ForeignKeyField(MailingList, on_delete="CASCADE")
        account = ForeignKeyField(Account, on_delete="CASCADE")
        post = ForeignKeyField(Post, null=True, on_delete="SET NULL")
        kind = CharField()
        status = CharField(default="")
        detail = TextField(default="")
        proof = CharField(default="submission")
        sent = BigIntegerField()
        received = BigIntegerField()

        class Meta:
            database = db
            legacy_table_names = False
            table_name = "bounce"
            indexes = ((("list", "account", "sent"), False),)

    db.create_tables([Bounce])

    class Chunk(Model):
        post = ForeignKeyField(Post, on_delete="CASCADE")
        number = IntegerField()
        subscriptions = TextField()
        state = CharField(default="waiting")

        class Meta:
            database = db
            legacy_table_names = False
            table_name = "chunk"
            indexes = ((("post", "number"), True),)

    db.create_tables([Chunk])

    class CommandMail(Model):
        digest = CharField(unique=True)
        address = CharField(index=True)
        kind = CharField()
        received = BigIntegerField()

        class Meta:
            database = db
            legacy_table_names = False
            table_name = "command_mail"

    db.create_tables([CommandMail])

    class DigestPost(Model):
        list = ForeignKeyField(MailingList, on_delete="CASCADE")
        post = ForeignKeyField(Post, unique=True, on_delete="CASCADE")
        content = BlobField()

        class Meta:
            database = db
            legacy_table_names = False
            table_name = "digest_post"

    db.create_tables([DigestPost])

    class Guest(Model):
        list = ForeignKeyField(MailingList, on_delete="CASCADE")
        account = ForeignKeyField(Account, on_delete="CASCADE")
        since = BigIntegerField()
        added_by = CharField(default="")

        class Meta:
            database = db
            legacy_table_names = False
            table_name = "guest"
            indexes = ((("list", "account"), True),)

    db.create_tables([Guest])

    class HeldPost(Model):
        list = ForeignKeyField(MailingList, on_delete="CASCADE")
        digest = CharField()
        content = BlobField(null=True)
        reverse_path = TextField(default="")
        message_id = TextField(index=True, default="")
        queue_id = CharField(default="")
        author = TextField(default="")
        authenticated = TextField(default="")
        subject = TextField(default="")
        size = IntegerField(default=0)
        rule = CharField(default="")
        detail = TextField(default="")
        received = BigIntegerField()
        expires = BigIntegerField(null=True)
        state = CharField(index=True, default="held")
        noticed = BigIntegerField(null=True)
        reminded = BigIntegerField(null=True)
        decided = BigIntegerField(null=True)
        decided_by = CharField(default="")
        reason = TextField(default="")

        class Meta:
            database = db
            legacy_table_names = False
            table_name = "held_post"
            indexes = ((("list", "digest"), True),)

    db.create_tables([HeldPost])

    class Listmaster(Model):
        account = ForeignKeyField(Account, unique=True, on_delete="CASCADE")
        since = BigIntegerField()

        class Meta:
            database = db
            legacy_table_names = False
            table_name = "listmaster"

    db.create_tables([Listmaster])

    class ListSetting(Model):
        list = ForeignKeyField(MailingList, on_delete="CASCADE")
        key = CharField()
        value = TextField()

        class Meta:
            database = db
            legacy_table_names = False
            table_name = "list_setting"
            indexes = ((("list", "key"), True),)

    db.create_tables([ListSetting])

    class OldName(Model):
        list = ForeignKeyField(MailingList, on_delete="CASCADE")
        domain = ForeignKeyField(Domain)
        name = CharField()
        until = BigIntegerField()

        class Meta:
            database = db
            legacy_table_names = False
            table_name = "old_name"
            indexes = ((("domain", "name"), True),)

    db.create_tables([OldName])

    class PendingSubscription(Model):
        id = LastingIdField()
        list = ForeignKeyField(MailingList, on_delete="CASCADE")
        address = CharField()
        key = CharField()
        name = CharField(default="")
        asked = BigIntegerField()
        consent = TextField(default="")

        class Meta:
            database = db
            legacy_table_names = False
            table_name = "pending_subscription"
            indexes = ((("list", "key"), True),)

    db.create_tables([PendingSubscription])

    class Role(Model):
        list = ForeignKeyField(MailingList, on_delete="CASCADE")
        account = ForeignKeyField(Account, on_delete="CASCADE")
        role = CharField()
        since = BigIntegerField()

        class Meta:
            database = db
            legacy_table_names = False
            table_name = "role"
            indexes = ((("list", "account", "role"), True),)

    db.create_tables([Role])

    class Subscription(Model):
        id = LastingIdField()
        list = ForeignKeyField(MailingList, on_delete="CASCADE")
        account = ForeignKeyField(Account, on_delete="CASCADE")
        mode = CharField(default="mail")
        suspended_from = BigIntegerField(null=True)
        suspended_until = BigIntegerField(null=True)
        own_posts = BooleanField(default=True)
        posting = CharField(default="")
        since = BigIntegerField()
        source = CharField(default="")
        added_by = CharField(default="")
        consent = TextField(default="")
        concealed = BooleanField(default=False)
        bounce_score = IntegerField(null=True)
        failing = CharField(default="")
        failing_since = BigIntegerField(default=0)
        reachable = BigIntegerField(default=0)

        class Meta:
            database = db
            legacy_table_names = False
            table_name = "subscription"
            indexes = ((("list", "account"), True),)

    db.create_tables([Subscription])

    class Template(Model):
        list = ForeignKeyField(MailingList, null=True, on_delete="CASCADE")
        name = CharField()
        language = CharField()
        text = TextField()
        changed = BigIntegerField()
        changed_by = CharField()

        class Meta:
            database = db
            legacy_table_names = False
            table_name = "template"
            indexes = ((("name", "language", "list"), False),)

    db.create_tables([Template])

    class Token(Model):
        digest = CharField(unique=True)
        action = CharField()
        list = ForeignKeyField(MailingList, null=True, on_delete="CASCADE")
        address = CharField(index=True, default="")
        object = TextField(default="")
        client = CharField(default="")
        created = BigIntegerField()
        expires = BigIntegerField()
        used = BigIntegerField(null=True)

        class Meta:
            database = db
            legacy_table_names = False
            table_name = "token"

    db.create_tables([Token])


def down(migrator: Any, db: Any) -> None:
    migrator.migrate(migrator.drop_table("token"))
    migrator.migrate(migrator.drop_table("template"))
    migrator.migrate(migrator.drop_table("subscription"))
    migrator.migrate(migrator.drop_table("role"))
    migrator.migrate(migrator.drop_table("pending_subscription"))
    migrator.migrate(migrator.drop_table("old_name"))
    migrator.migrate(migrator.drop_table("list_setting"))
    migrator.migrate(migrator.drop_table("listmaster"))
    migrator.migrate(migrator.drop_table("held_post"))
    migrator.migrate(migrator.drop_table("guest"))
    migrator.migrate(migrator.drop_table("digest_post"))
    migrator.migrate(migrator.drop_table("command_mail"))
    migrator.migrate(migrator.drop_table("chunk"))
    migrator.migrate(migrator.drop_table("bounce"))
    migrator.migrate(migrator.drop_table("post"))
    migrator.migrate(migrator.drop_table("block"))
    migrator.migrate(migrator.drop_table("mailing_list"))
    migrator.migrate(migrator.drop_table("domain"))
    migrator.migrate(migrator.drop_table("audit"))
    migrator.migrate(migrator.drop_table("account"))
