"""Guards: the database itself refuses what would change, delete, reorder or add to what was issued (rule 19).

A document's lines and taxes are written before it, and it must agree with them; once it is there, it gets no more.
"""

from collections.abc import Iterator
from typing import NamedTuple

from alembic import op

revision = "2"
down_revision = "1"

KEPT = ("documents", "lines", "taxes", "closed_dates", "closed_decisions", "files")
NUMBER = {
    "sqlite": "printf('%s-%d-%06d', NEW.series, NEW.year, NEW.sequence)",
    "postgresql": "NEW.series || '-' || NEW.year || '-' || "
    "lpad(NEW.sequence::text, GREATEST(6, length(NEW.sequence::text)), '0')",
}


class Guard(NamedTuple):
    name: str
    change: str
    table: str
    condition: str
    message: str


def upgrade() -> None:
    dialect = op.get_context().dialect.name
    # the day of the last document is looked up before every document
    op.create_index("ix_documents_issued_on", "documents", ["issued_on"], if_not_exists=True)
    for guard in guards(dialect):
        if dialect == "sqlite":
            op.execute(
                f"CREATE TRIGGER IF NOT EXISTS {guard.name} BEFORE {guard.change} ON {guard.table} "
                f"WHEN {guard.condition} BEGIN SELECT RAISE(ABORT, '{guard.table}: {guard.message}'); END"
            )
        else:
            row = "OLD" if guard.change == "DELETE" else "NEW"
            op.execute(
                f"CREATE FUNCTION {guard.name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                f"IF {guard.condition} THEN RAISE EXCEPTION '{guard.table}: {guard.message}' "
                f"USING ERRCODE = 'integrity_constraint_violation'; END IF; RETURN {row}; END $$"
            )
            op.execute(
                f"CREATE TRIGGER {guard.name} BEFORE {guard.change} ON {guard.table} "
                f"FOR EACH ROW EXECUTE FUNCTION {guard.name}()"
            )
    if dialect == "postgresql":
        op.execute(
            "CREATE FUNCTION all_of_it_stays() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "RAISE EXCEPTION '%: what has been issued stays', TG_TABLE_NAME "
            "USING ERRCODE = 'integrity_constraint_violation'; END $$"
        )
        for table in (*KEPT, "issued_months"):
            op.execute(
                f"CREATE TRIGGER {table}_all_stay BEFORE TRUNCATE ON {table} "
                "FOR EACH STATEMENT EXECUTE FUNCTION all_of_it_stays()"
            )


def guards(dialect: str) -> Iterator[Guard]:
    always = "1 = 1"
    for table in KEPT:
        yield Guard(f"{table}_never_change", "UPDATE", table, always, "what has been issued never changes")
        yield Guard(f"{table}_stay", "DELETE", table, always, "what has been issued stays")
    yield Guard(
        "documents_have_no_gap",
        "INSERT",
        "documents",
        "NEW.sequence <> (SELECT COALESCE(MAX(sequence), 0) + 1 FROM documents"
        " WHERE series = NEW.series AND year = NEW.year)",
        "the next number of its series was expected",
    )
    yield Guard(
        "documents_bear_their_number",
        "INSERT",
        "documents",
        f"NEW.number <> {NUMBER[dialect]}",
        "its number is not that of its series, year and sequence",
    )
    yield Guard(
        "documents_follow_in_time",
        "INSERT",
        "documents",
        "NEW.issued_on < (SELECT MAX(issued_on) FROM documents)",
        "a later day has documents already",
    )
    for table, column in (("lines", "net"), ("taxes", "tax")):
        yield Guard(
            f"documents_agree_with_{table}",
            "INSERT",
            "documents",
            f"NEW.{column} <> (SELECT COALESCE(SUM(amount), 0) FROM {table} WHERE number = NEW.number)",  # noqa: S608
            f"its {table} do not add up to it",
        )
        yield Guard(
            f"{table}_come_before_their_document",
            "INSERT",
            table,
            "EXISTS (SELECT 1 FROM documents WHERE number = NEW.number)",
            "its document has been issued",
        )
    yield Guard(
        "issued_months_go_forward",
        "UPDATE",
        "issued_months",
        "NEW.billing_month <> OLD.billing_month OR NEW.closed_through < OLD.closed_through",
        "a day that was closed stays closed",
    )
    yield Guard("issued_months_stay", "DELETE", "issued_months", always, "a day that was closed stays closed")
