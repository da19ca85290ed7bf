"""When a document is due, and of each tax its category and why nothing is charged: what an e-invoice says (rule 40)."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "9"
down_revision = "8"

TEXT = sa.String().with_variant(postgresql.VARCHAR(collation="C"), "postgresql")
LONG_TEXT = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column("documents", sa.Column("due_on", sa.Date))
    op.add_column("taxes", sa.Column("category", TEXT))
    op.add_column("taxes", sa.Column("exemption_reason", LONG_TEXT))
    op.add_column("taxes", sa.Column("exemption_code", TEXT))
