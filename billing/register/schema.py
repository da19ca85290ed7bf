"""The tables of the register, as of the latest migration (rule 19)."""

from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

REVISION: Final = "14"
"""The last of the migrations in `billing.register.migrations`."""

# Sort text by code points everywhere, not by the collation of the server's locale.
_TEXT: Final = sa.String().with_variant(postgresql.VARCHAR(collation="C"), "postgresql")
_LONG_TEXT: Final = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def _a_document() -> sa.ForeignKey:
    """A deferred foreign key to documents: lines are inserted before their document."""
    return sa.ForeignKey("documents.number", deferrable=True, initially="DEFERRED")


metadata = sa.MetaData()
documents = sa.Table(
    "documents",
    metadata,
    sa.Column("number", _TEXT, primary_key=True),
    sa.Column("series", _TEXT, nullable=False),
    sa.Column("year", sa.Integer, nullable=False),
    sa.Column("sequence", sa.Integer, nullable=False),
    sa.Column("kind", _TEXT, nullable=False),
    sa.Column("is_scheduled", sa.Boolean, nullable=False),
    sa.Column("account_id", _TEXT, nullable=False, index=True),
    sa.Column("subscription_id", _TEXT, nullable=False),
    sa.Column("billing_month", _TEXT, nullable=False, index=True),
    sa.Column("billing_date", sa.Date, nullable=False),
    sa.Column("issued_on", sa.Date, nullable=False, index=True),
    sa.Column("currency", _TEXT, nullable=False),
    sa.Column("net", sa.BigInteger, nullable=False),
    sa.Column("tax", sa.BigInteger, nullable=False),
    sa.Column("total", sa.BigInteger, nullable=False),
    sa.Column("corrects", _TEXT, _a_document(), index=True),
    sa.Column("content", _LONG_TEXT, nullable=False),
    sa.Column("content_hash", _TEXT, nullable=False),
    # The bucket of the account: a shard reads some of them.
    sa.Column("bucket", sa.SmallInteger, nullable=False),
    # Null on documents of earlier versions, which were due on issue.
    sa.Column("due_on", sa.Date),
    # What prepaid credits paid; null on documents of earlier versions, which knew none.
    sa.Column("credits_applied", sa.BigInteger),
    sa.UniqueConstraint("series", "year", "sequence"),
    sa.CheckConstraint("total = net + tax", name="total_is_net_and_tax"),
    sa.CheckConstraint("sequence > 0", name="sequence_counts_from_one"),
)
# One scheduled document per subscription and billing date.
sa.Index(
    "one_scheduled_document",
    documents.c.subscription_id,
    documents.c.billing_date,
    unique=True,
    sqlite_where=documents.c.is_scheduled,
    postgresql_where=documents.c.is_scheduled,
)
lines = sa.Table(
    "lines",
    metadata,
    sa.Column("number", _TEXT, _a_document(), primary_key=True),
    sa.Column("line", sa.Integer, primary_key=True),
    sa.Column("kind", _TEXT, nullable=False),
    sa.Column("due_on", sa.Date, nullable=False, index=True),
    sa.Column("due_kind", _TEXT, nullable=False),
    sa.Column("metric", _TEXT),
    sa.Column("package", _TEXT),
    sa.Column("cycle_start", sa.Date),
    sa.Column("cycle_end", sa.Date),
    sa.Column("quantity", _TEXT),
    sa.Column("allowance", _TEXT),
    sa.Column("excess", _TEXT),
    sa.Column("billed_units", _TEXT),
    sa.Column("unit_price", _TEXT),
    sa.Column("amount", sa.BigInteger, nullable=False),
    sa.Column("description", _LONG_TEXT, nullable=False),
    # The document whose billing the line gives back.
    sa.Column("gives_back", _TEXT),
    # What is null on lines of earlier versions, which billed one of each kind and metric.
    sa.Column("due_item", _TEXT),
    sa.Column("rule", _TEXT),
    sa.Column("add_on", _TEXT),
    sa.Column("charge_id", _TEXT),
    sa.Column("coupon", _TEXT),
    sa.Column("applies_to_line", sa.Integer),
    sa.Column("tax_category", _TEXT),
)
# Most registers have none.
sa.Index(
    "lines_with_items",
    lines.c.due_on,
    sqlite_where=lines.c.due_item.is_not(None),
    postgresql_where=lines.c.due_item.is_not(None),
)
taxes = sa.Table(
    "taxes",
    metadata,
    sa.Column("number", _TEXT, _a_document(), primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("name", _TEXT, nullable=False),
    sa.Column("country", _TEXT, nullable=False),
    sa.Column("region", _TEXT),
    sa.Column("rate", _TEXT, nullable=False),
    sa.Column("taxable", sa.BigInteger, nullable=False),
    sa.Column("amount", sa.BigInteger, nullable=False),
    sa.Column("reason", _TEXT, nullable=False),
    # The document whose taxes are given back.
    sa.Column("taxed_as", _TEXT),
    # Null on documents of earlier versions.
    sa.Column("category", _TEXT),
    sa.Column("exemption_reason", _LONG_TEXT),
    sa.Column("exemption_code", _TEXT),
)
# What grants paid of a document; below 0 what a credit note gave back of the document in gives_back.
credit_uses = sa.Table(
    "credit_uses",
    metadata,
    sa.Column("number", _TEXT, _a_document(), primary_key=True),
    sa.Column("position", sa.Integer, primary_key=True),
    sa.Column("grant_id", _TEXT, nullable=False, index=True),
    sa.Column("amount", sa.BigInteger, nullable=False),
    sa.Column("gives_back", _TEXT),
)
closed_dates = sa.Table(
    "closed_dates",
    metadata,
    sa.Column("subscription_id", _TEXT, primary_key=True),
    sa.Column("billing_date", sa.Date, primary_key=True),
    sa.Column("account_id", _TEXT, nullable=False),
    sa.Column("billing_month", _TEXT, nullable=False, index=True),
    sa.Column("closing_package", _TEXT),
    sa.Column("opening_package", _TEXT),
    sa.Column("change_reason", _TEXT),
    sa.Column("waiting_package", _TEXT),
    sa.Column("closed_on", sa.Date, nullable=False),
    sa.Column("bucket", sa.SmallInteger, nullable=False),
)
closed_decisions = sa.Table(
    "closed_decisions",
    metadata,
    sa.Column("decision_id", _TEXT, primary_key=True),
    sa.Column("billing_month", _TEXT, nullable=False, index=True),
    sa.Column("decision", _LONG_TEXT, nullable=False),
)
issued_months = sa.Table(
    "issued_months",
    metadata,
    sa.Column("billing_month", _TEXT, primary_key=True),
    sa.Column("closed_through", sa.Date, nullable=False),
)
files = sa.Table(
    "files",
    metadata,
    sa.Column("number", _TEXT, _a_document(), primary_key=True),
    sa.Column("sha256", _TEXT, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
)
invoice_files = sa.Table(
    "invoice_files",
    metadata,
    sa.Column("number", _TEXT, _a_document(), primary_key=True),
    sa.Column("sha256", _TEXT, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
)
settings = sa.Table(
    "settings",
    metadata,
    sa.Column("name", _TEXT, primary_key=True),
    sa.Column("value", _TEXT, nullable=False),
)
redrawn_files = sa.Table(
    "redrawn_files",
    metadata,
    sa.Column("number", _TEXT, _a_document(), primary_key=True),
    sa.Column("redrawn_sha256", _TEXT, primary_key=True),
    sa.Column("redrawn_on", sa.Date, nullable=False),
    sa.Column("sha256", _TEXT, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("drawn_with", _LONG_TEXT, nullable=False),
)
begun_subscriptions = sa.Table(
    "begun_subscriptions",
    metadata,
    sa.Column("subscription_id", _TEXT, primary_key=True),
    sa.Column("account_id", _TEXT, nullable=False),
    sa.Column("request_id", _TEXT, nullable=False),
)
passed_dates = sa.Table(
    "passed_dates",
    metadata,
    sa.Column("account_id", _TEXT, primary_key=True),
    sa.Column("billing_month", _TEXT, primary_key=True),
    sa.Column("passed_through", sa.Date, primary_key=True),
)
measured_deliveries = sa.Table(
    "measured_deliveries",
    metadata,
    sa.Column("delivery_day", sa.Date, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("digest", _TEXT, nullable=False),
    sa.Column("files", _LONG_TEXT, nullable=False),
)
accepted_losses = sa.Table(
    "accepted_losses",
    metadata,
    sa.Column("delivery_day", sa.Date, primary_key=True),
    sa.Column("file", _TEXT, primary_key=True),
    sa.Column("sha256", _TEXT, primary_key=True),
    sa.Column("first_day", sa.Date, nullable=False),
    sa.Column("last_day", sa.Date, nullable=False),
    sa.Column("accepted_on", sa.Date, nullable=False),
    sa.Column("reason", _LONG_TEXT, nullable=False),
)
opening_balances = sa.Table(
    "opening_balances",
    metadata,
    sa.Column("account_id", _TEXT, primary_key=True),
    sa.Column("currency", _TEXT, primary_key=True),
    sa.Column("reference", _TEXT, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("amount", sa.BigInteger, nullable=False),
    sa.Column("on", sa.Date, nullable=False),
    sa.Column("posted_on", sa.Date, nullable=False),
)
numberings = sa.Table(
    "numberings",
    metadata,
    sa.Column("series", _TEXT, primary_key=True),
    sa.Column("year", sa.Integer, primary_key=True),
    sa.Column("format", _TEXT, nullable=False),
    sa.Column("prefix", _TEXT, nullable=False),
    sa.Column("suffix", _TEXT, nullable=False),
    sa.Column("width", sa.Integer, nullable=False),
    sa.Column("first", sa.Integer, nullable=False),
)
mail_attempts = sa.Table(
    "mail_attempts",
    metadata,
    sa.Column("mail_id", _TEXT, primary_key=True),
    sa.Column("attempt", sa.Integer, primary_key=True),
    sa.Column("kind", _TEXT, nullable=False),
    sa.Column("account_id", _TEXT, nullable=False),
    sa.Column("recipient", _TEXT),
    sa.Column("message_id", _TEXT, nullable=False),
    sa.Column("started_at", _TEXT, nullable=False),
)
mail_outcomes = sa.Table(
    "mail_outcomes",
    metadata,
    sa.Column("mail_id", _TEXT, primary_key=True),
    sa.Column("attempt", sa.Integer, primary_key=True),
    sa.Column("outcome", _TEXT, nullable=False),
    sa.Column("ended_at", _TEXT, nullable=False),
    sa.Column("error", _LONG_TEXT),
)
reminders = sa.Table(
    "reminders",
    metadata,
    sa.Column("reminder_id", _TEXT, primary_key=True),
    sa.Column("account_id", _TEXT, nullable=False),
    sa.Column("reminded_on", sa.Date, nullable=False),
    sa.Column("level", sa.Integer, nullable=False),
    sa.Column("oldest_document", _TEXT, nullable=False),
    sa.Column("documents", _LONG_TEXT, nullable=False),
    sa.Column("currency", _TEXT, nullable=False),
    sa.Column("amount", sa.BigInteger, nullable=False),
    sa.Column("content", _LONG_TEXT, nullable=False),
    sa.UniqueConstraint("account_id", "oldest_document", "level"),
)
# A one-off charge of the account on that day, to be billed with its next document.
reminder_fees = sa.Table(
    "reminder_fees",
    metadata,
    sa.Column("reminder_id", _TEXT, primary_key=True),
    sa.Column("account_id", _TEXT, nullable=False),
    sa.Column("currency", _TEXT, nullable=False),
    sa.Column("amount", sa.BigInteger, nullable=False),
    sa.Column("charged_on", sa.Date, nullable=False),
)
# Documents that were issued under the policy `send: after_issue`.
mails_to_send = sa.Table("mails_to_send", metadata, sa.Column("number", _TEXT, primary_key=True))
profile_links = sa.Table(
    "profile_links",
    metadata,
    sa.Column("account_id", _TEXT, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("token", _TEXT, nullable=False, unique=True),
)

BUCKETS_OF_A_GROUP: Final = 64


def group_of_bucket(table: sa.Table) -> sa.ColumnElement[int]:
    """The group of a row's bucket, as it stands in the indexes."""
    return sa.literal_column(f"{table.name}.bucket / {BUCKETS_OF_A_GROUP}", sa.Integer)


# By these a shard finds its rows; in SQLite they replace the index by month once several shards are issued.
# They are ordered by groups of buckets: ordered by all 1,024 buckets, a document costs 8 us more.
BUCKET_INDEXES: Final = (
    (
        "ix_documents_month_bucket",
        f"documents (billing_month, (bucket / {BUCKETS_OF_A_GROUP}), number, bucket)",
        "ix_documents_billing_month",
    ),
    (
        "ix_closed_dates_month_bucket",
        f"closed_dates (billing_month, (bucket / {BUCKETS_OF_A_GROUP}), bucket)",
        "ix_closed_dates_billing_month",
    ),
)
