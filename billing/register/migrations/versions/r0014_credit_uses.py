"""Which grants paid which documents, and what credit notes gave back to them (rule 33).

Uses are inserted before their document, which must agree with them; once it is there, it gets no more.
"""

from collections.abc import Iterator

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from billing.register.migrations.versions.r0002_guards import Guard

revision = "14"
down_revision = "13"

TEXT = sa.String().with_variant(postgresql.VARCHAR(collation="C"), "postgresql")


def upgrade() -> None:
    document = sa.ForeignKey("documents.number", deferrable=True, initially="DEFERRED")
    op.create_table(
        "credit_uses",
        sa.Column("number", TEXT, document, primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("grant_id", TEXT, nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("gives_back", TEXT),
    )
    op.create_index("ix_credit_uses_grant_id", "credit_uses", ["grant_id"])
    dialect = op.get_context().dialect.name
    for guard in guards():
        if dialect == "sqlite":
            op.execute(
                f"CREATE TRIGGER {guard.name} BEFORE {guard.change} ON {guard.table} "
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
            "CREATE TRIGGER credit_uses_all_stay BEFORE TRUNCATE ON credit_uses "
            "FOR EACH STATEMENT EXECUTE FUNCTION all_of_it_stays()"
        )


def guards() -> Iterator[Guard]:
    """Uses never change, and add up to what their document says."""
    for change, name in (("UPDATE", "never_change"), ("DELETE", "stay")):
        yield Guard(f"credit_uses_{name}", change, "credit_uses", "1 = 1", "what has been recorded stays")
    yield Guard(
        "documents_agree_with_credit_uses",
        "INSERT",
        "documents",
        # Most documents use none: look nothing up for them.
        "COALESCE(NEW.credits_applied, 0) <> 0 AND NEW.credits_applied <> (SELECT COALESCE(SUM(amount), 0)"
        " FROM credit_uses WHERE number = NEW.number)",
        "its credits do not add up to it",
    )
    yield Guard(
        "credit_uses_come_before_their_document",
        "INSERT",
        "credit_uses",
        "EXISTS (SELECT 1 FROM documents WHERE number = NEW.number)",
        "its document has been issued",
    )
