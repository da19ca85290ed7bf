"""What every issue records beside its documents, so that nothing that goes missing later is taken for an answer.

Lines and taxes name the document whose billing they give back (rule 24). The register knows the request that began each
subscription, the billing dates that passed while an account was parked, the deliveries that usage was measured from,
and the deliveries whose loss was accepted (rules 22 and 28).
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "4"
down_revision = "3"

TEXT = sa.String().with_variant(postgresql.VARCHAR(collation="C"), "postgresql")
LONG_TEXT = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
KEPT = ("begun_subscriptions", "passed_dates", "measured_deliveries", "accepted_losses")


def upgrade() -> None:
    op.add_column("lines", sa.Column("gives_back", TEXT))
    op.add_column("taxes", sa.Column("taxed_as", TEXT))
    op.create_table(
        "begun_subscriptions",
        sa.Column("subscription_id", TEXT, primary_key=True),
        sa.Column("account_id", TEXT, nullable=False),
        sa.Column("request_id", TEXT, nullable=False),
    )
    op.create_table(
        "passed_dates",
        sa.Column("account_id", TEXT, primary_key=True),
        sa.Column("billing_month", TEXT, primary_key=True),
        sa.Column("passed_through", sa.Date, primary_key=True),
    )
    op.create_table(
        "measured_deliveries",
        sa.Column("delivery_day", sa.Date, primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("digest", TEXT, nullable=False),
        sa.Column("files", LONG_TEXT, nullable=False),
    )
    op.create_table(
        "accepted_losses",
        sa.Column("delivery_day", sa.Date, primary_key=True),
        sa.Column("file", TEXT, primary_key=True),
        sa.Column("sha256", TEXT, primary_key=True),
        sa.Column("first_day", sa.Date, nullable=False),
        sa.Column("last_day", sa.Date, nullable=False),
        sa.Column("accepted_on", sa.Date, nullable=False),
        sa.Column("reason", LONG_TEXT, nullable=False),
    )
    dialect = op.get_context().dialect.name
    for table in KEPT:
        for change, name in (("UPDATE", "never_change"), ("DELETE", "stay")):
            op.execute(_guard(dialect, table, change, f"{table}_{name}"))
    if dialect == "postgresql":
        for table in KEPT:
            op.execute(
                f"CREATE TRIGGER {table}_all_stay BEFORE TRUNCATE ON {table} "
                "FOR EACH STATEMENT EXECUTE FUNCTION all_of_it_stays()"
            )


def _guard(dialect: str, table: str, change: str, name: str) -> str:
    if dialect == "sqlite":
        return (
            f"CREATE TRIGGER {name} BEFORE {change} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{table}: what has been recorded stays'); END"
        )
    return f"CREATE TRIGGER {name} BEFORE {change} ON {table} FOR EACH ROW EXECUTE FUNCTION all_of_it_stays()"
