"""Mails that carried documents and reminders, attempt by attempt, and the reminders with their fees (rule 41).

An attempt is recorded before the mail is sent and its outcome after: one without an outcome may have arrived.
"""

from collections.abc import Iterator

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from billing.register.migrations.versions.r0002_guards import Guard

revision = "11"
down_revision = "10"

TEXT = sa.String().with_variant(postgresql.VARCHAR(collation="C"), "postgresql")
LONG_TEXT = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
KEPT = ("mail_attempts", "mail_outcomes", "reminders", "reminder_fees", "mails_to_send")


def upgrade() -> None:
    op.create_table(
        "mail_attempts",
        sa.Column("mail_id", TEXT, primary_key=True),
        sa.Column("attempt", sa.Integer, primary_key=True),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("account_id", TEXT, nullable=False),
        sa.Column("recipient", TEXT),
        sa.Column("message_id", TEXT, nullable=False),
        sa.Column("started_at", TEXT, nullable=False),
    )
    op.create_table(
        "mail_outcomes",
        sa.Column("mail_id", TEXT, primary_key=True),
        sa.Column("attempt", sa.Integer, primary_key=True),
        sa.Column("outcome", TEXT, nullable=False),
        sa.Column("ended_at", TEXT, nullable=False),
        sa.Column("error", LONG_TEXT),
    )
    op.create_table(
        "reminders",
        sa.Column("reminder_id", TEXT, primary_key=True),
        sa.Column("account_id", TEXT, nullable=False),
        sa.Column("reminded_on", sa.Date, nullable=False),
        sa.Column("level", sa.Integer, nullable=False),
        sa.Column("oldest_document", TEXT, nullable=False),
        sa.Column("documents", LONG_TEXT, nullable=False),
        sa.Column("currency", TEXT, nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("content", LONG_TEXT, nullable=False),
        sa.UniqueConstraint("account_id", "oldest_document", "level"),
    )
    op.create_table(
        "reminder_fees",
        sa.Column("reminder_id", TEXT, primary_key=True),
        sa.Column("account_id", TEXT, nullable=False),
        sa.Column("currency", TEXT, nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("charged_on", sa.Date, nullable=False),
    )
    op.create_table("mails_to_send", sa.Column("number", TEXT, primary_key=True))
    dialect = op.get_context().dialect.name
    for guard in guards():
        if dialect == "sqlite":
            op.execute(
                f"CREATE TRIGGER {guard.name} BEFORE {guard.change} ON {guard.table} "
                f"BEGIN SELECT RAISE(ABORT, '{guard.table}: {guard.message}'); END"
            )
        else:
            op.execute(
                f"CREATE TRIGGER {guard.name} BEFORE {guard.change} ON {guard.table} "
                "FOR EACH ROW EXECUTE FUNCTION all_of_it_stays()"
            )
    if dialect == "postgresql":
        for table in KEPT:
            op.execute(
                f"CREATE TRIGGER {table}_all_stay BEFORE TRUNCATE ON {table} "
                "FOR EACH STATEMENT EXECUTE FUNCTION all_of_it_stays()"
            )


def guards() -> Iterator[Guard]:
    """What has been recorded is neither changed nor deleted."""
    for table in KEPT:
        for change, name in (("UPDATE", "never_change"), ("DELETE", "stay")):
            yield Guard(f"{table}_{name}", change, table, "1 = 1", "what has been recorded stays")
