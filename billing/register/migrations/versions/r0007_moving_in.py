"""What a business that moves in brings along: opening balances as they were used, and the numbers it goes on with.

A series of numbers has a row per year in which it is not the usual one: what stands before and after the sequence, the
least digits of the sequence, and its first number. The guards of documents read it.
"""

from collections.abc import Iterator

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from billing.register.migrations.versions.r0002_guards import NUMBER, Guard

revision = "7"
down_revision = "6"

TEXT = sa.String().with_variant(postgresql.VARCHAR(collation="C"), "postgresql")
KEPT = ("opening_balances", "numberings")
_OF_SERIES = "FROM numberings WHERE series = NEW.series AND year = NEW.year"  # our own names
_WRITTEN = {
    "sqlite": "prefix || printf('%0' || width || 'd', NEW.sequence) || suffix",
    "postgresql": "prefix || lpad(NEW.sequence::text, GREATEST(width, length(NEW.sequence::text)), '0') || suffix",
}


def upgrade() -> None:
    op.create_table(
        "opening_balances",
        sa.Column("account_id", TEXT, primary_key=True),
        sa.Column("currency", TEXT, primary_key=True),
        sa.Column("reference", TEXT, primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("on", sa.Date, nullable=False),
        sa.Column("posted_on", sa.Date, nullable=False),
        if_not_exists=True,
    )
    op.create_table(
        "numberings",
        sa.Column("series", TEXT, primary_key=True),
        sa.Column("year", sa.Integer, primary_key=True),
        sa.Column("format", TEXT, nullable=False),
        sa.Column("prefix", TEXT, nullable=False),
        sa.Column("suffix", TEXT, nullable=False),
        sa.Column("width", sa.Integer, nullable=False),
        sa.Column("first", sa.Integer, nullable=False),
        if_not_exists=True,
    )
    dialect = op.get_context().dialect.name
    for guard in guards(dialect):
        if dialect == "sqlite":
            op.execute(f"DROP TRIGGER IF EXISTS {guard.name}")
            op.execute(
                f"CREATE TRIGGER {guard.name} BEFORE {guard.change} ON {guard.table} "
                f"WHEN {guard.condition} BEGIN SELECT RAISE(ABORT, '{guard.table}: {guard.message}'); END"
            )
        else:
            row = "OLD" if guard.change == "DELETE" else "NEW"
            op.execute(
                f"CREATE OR REPLACE FUNCTION {guard.name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                f"IF {guard.condition} THEN RAISE EXCEPTION '{guard.table}: {guard.message}' "
                f"USING ERRCODE = 'integrity_constraint_violation'; END IF; RETURN {row}; END $$"
            )
            op.execute(f"DROP TRIGGER IF EXISTS {guard.name} ON {guard.table}")
            op.execute(
                f"CREATE TRIGGER {guard.name} BEFORE {guard.change} ON {guard.table} "
                f"FOR EACH ROW EXECUTE FUNCTION {guard.name}()"
            )
    if dialect == "postgresql":
        for table in KEPT:
            op.execute(
                f"CREATE TRIGGER {table}_all_stay BEFORE TRUNCATE ON {table} "
                "FOR EACH STATEMENT EXECUTE FUNCTION all_of_it_stays()"
            )


def guards(dialect: str) -> Iterator[Guard]:
    """The guards of the new tables, and those of documents that know of numberings."""
    for table in KEPT:
        yield Guard(f"{table}_never_change", "UPDATE", table, "1 = 1", "what has been recorded never changes")
        yield Guard(f"{table}_stay", "DELETE", table, "1 = 1", "what has been recorded stays")
    yield Guard(
        "documents_have_no_gap",
        "INSERT",
        "documents",
        "NEW.sequence <> COALESCE((SELECT MAX(sequence) FROM documents"
        " WHERE series = NEW.series AND year = NEW.year), (SELECT first - 1 FROM numberings"
        " WHERE series = NEW.series AND year = NEW.year), 0) + 1",
        "the next number of its series was expected",
    )
    yield Guard(
        "documents_bear_their_number",
        "INSERT",
        "documents",
        f"NEW.number <> COALESCE((SELECT {_WRITTEN[dialect]} {_OF_SERIES}), {NUMBER[dialect]})",
        "its number is not that of its series, year and sequence",
    )
