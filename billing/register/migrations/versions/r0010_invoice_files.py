"""The e-invoices that stand beside PDFs, as they were written: their hash and size (rule 19)."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "10"
down_revision = "9"

TEXT = sa.String().with_variant(postgresql.VARCHAR(collation="C"), "postgresql")
TABLE = "invoice_files"
GUARDS = {f"{TABLE}_never_change": "UPDATE", f"{TABLE}_stay": "DELETE"}


def upgrade() -> None:
    op.create_table(
        TABLE,
        sa.Column(
            "number",
            TEXT,
            sa.ForeignKey("documents.number", deferrable=True, initially="DEFERRED"),
            primary_key=True,
        ),
        sa.Column("sha256", TEXT, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
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
