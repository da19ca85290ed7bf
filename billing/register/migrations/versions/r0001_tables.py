"""The tables. A register made before there were steps has them already."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "1"
down_revision = None

TEXT = sa.String().with_variant(postgresql.VARCHAR(collation="C"), "postgresql")
LONG_TEXT = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "documents",
        sa.Column("number", TEXT, primary_key=True),
        sa.Column("series", TEXT, nullable=False),
        sa.Column("year", sa.Integer, nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("is_scheduled", sa.Boolean, nullable=False),
        sa.Column("account_id", TEXT, nullable=False),
        sa.Column("subscription_id", TEXT, nullable=False),
        sa.Column("billing_month", TEXT, nullable=False),
        sa.Column("billing_date", sa.Date, nullable=False),
        sa.Column("issued_on", sa.Date, nullable=False),
        sa.Column("currency", TEXT, nullable=False),
        sa.Column("net", sa.BigInteger, nullable=False),
        sa.Column("tax", sa.BigInteger, nullable=False),
        sa.Column("total", sa.BigInteger, nullable=False),
        sa.Column("corrects", TEXT, a_document()),
        sa.Column("content", LONG_TEXT, nullable=False),
        sa.Column("content_hash", TEXT, nullable=False),
        sa.UniqueConstraint("series", "year", "sequence"),
        sa.CheckConstraint("total = net + tax", name="total_is_net_and_tax"),
        sa.CheckConstraint("sequence > 0", name="sequence_counts_from_one"),
        if_not_exists=True,
    )
    index("documents", "account_id")
    index("documents", "billing_month")
    op.create_index(
        "one_scheduled_document",
        "documents",
        ["subscription_id", "billing_date"],
        unique=True,
        sqlite_where=sa.text("is_scheduled"),
        postgresql_where=sa.text("is_scheduled"),
        if_not_exists=True,
    )
    op.create_table(
        "lines",
        sa.Column("number", TEXT, a_document(), primary_key=True),
        sa.Column("line", sa.Integer, primary_key=True),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("due_on", sa.Date, nullable=False),
        sa.Column("due_kind", TEXT, nullable=False),
        sa.Column("metric", TEXT),
        sa.Column("package", TEXT),
        sa.Column("cycle_start", sa.Date),
        sa.Column("cycle_end", sa.Date),
        sa.Column("quantity", TEXT),
        sa.Column("allowance", TEXT),
        sa.Column("excess", TEXT),
        sa.Column("billed_units", TEXT),
        sa.Column("unit_price", TEXT),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("description", LONG_TEXT, nullable=False),
        if_not_exists=True,
    )
    index("lines", "due_on")
    op.create_table(
        "taxes",
        sa.Column("number", TEXT, a_document(), primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("country", TEXT, nullable=False),
        sa.Column("region", TEXT),
        sa.Column("rate", TEXT, nullable=False),
        sa.Column("taxable", sa.BigInteger, nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "closed_dates",
        sa.Column("subscription_id", TEXT, primary_key=True),
        sa.Column("billing_date", sa.Date, primary_key=True),
        sa.Column("account_id", TEXT, nullable=False),
        sa.Column("billing_month", TEXT, nullable=False),
        sa.Column("closing_package", TEXT),
        sa.Column("opening_package", TEXT),
        sa.Column("change_reason", TEXT),
        sa.Column("waiting_package", TEXT),
        sa.Column("closed_on", sa.Date, nullable=False),
        if_not_exists=True,
    )
    index("closed_dates", "billing_month")
    op.create_table(
        "closed_decisions",
        sa.Column("decision_id", TEXT, primary_key=True),
        sa.Column("billing_month", TEXT, nullable=False),
        sa.Column("decision", LONG_TEXT, nullable=False),
        if_not_exists=True,
    )
    index("closed_decisions", "billing_month")
    op.create_table(
        "issued_months",
        sa.Column("billing_month", TEXT, primary_key=True),
        sa.Column("closed_through", sa.Date, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "files",
        sa.Column("number", TEXT, a_document(), primary_key=True),
        sa.Column("sha256", TEXT, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        if_not_exists=True,
    )


def a_document() -> sa.ForeignKey:
    return sa.ForeignKey("documents.number", deferrable=True, initially="DEFERRED")


def index(table: str, column: str) -> None:
    op.create_index(f"ix_{table}_{column}", table, [column], if_not_exists=True)
