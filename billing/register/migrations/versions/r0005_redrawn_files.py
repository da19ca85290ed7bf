"""The PDFs that were drawn again with other bytes than those they were issued with, because a library is another.

What was issued stays recorded as it was (rule 19); what stands in its place is recorded beside it.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "5"
down_revision = "4"

TEXT = sa.String().with_variant(postgresql.VARCHAR(collation="C"), "postgresql")
LONG_TEXT = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
TABLE = "redrawn_files"
GUARDS = {f"{TABLE}_never_change": "UPDATE", f"{TABLE}_stay": "DELETE"}


def upgrade() -> None:
    op.create_table(
        TABLE,
        sa.Column("number", TEXT, sa.ForeignKey("documents.number", deferrable=True, initially="DEFERRED")),
        sa.Column("redrawn_sha256", TEXT, nullable=False),
        sa.Column("redrawn_on", sa.Date, nullable=False),
        sa.Column("sha256", TEXT, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("drawn_with", LONG_TEXT, nullable=False),
        sa.PrimaryKeyConstraint("number", "redrawn_sha256"),
    )
    is_sqlite = op.get_context().dialect.name == "sqlite"
    for name, change in GUARDS.items():
        what = (
            f"BEGIN SELECT RAISE(ABORT, '{TABLE}: what has been recorded stays'); END"
            if is_sqlite
            else "FOR EACH ROW EXECUTE FUNCTION all_of_it_stays()"
        )
        op.execute(f"CREATE TRIGGER {name} BEFORE {change} ON {TABLE} {what}")
    if not is_sqlite:
        op.execute(
            f"CREATE TRIGGER {TABLE}_all_stay BEFORE TRUNCATE ON {TABLE} "
            "FOR EACH STATEMENT EXECUTE FUNCTION all_of_it_stays()"
        )
