"""Lines of coupons, add-ons, charges and rules of tariffs, and what credits paid (rules 29 to 37)."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "13"
down_revision = "12"

TEXT = sa.String().with_variant(postgresql.VARCHAR(collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column("documents", sa.Column("credits_applied", sa.BigInteger))
    for name in ("due_item", "rule", "add_on", "charge_id", "coupon"):
        op.add_column("lines", sa.Column(name, TEXT))
    op.add_column("lines", sa.Column("applies_to_line", sa.Integer))
    op.add_column("lines", sa.Column("tax_category", TEXT))
    has_item = sa.text("due_item IS NOT NULL")
    op.create_index("lines_with_items", "lines", ["due_on"], sqlite_where=has_item, postgresql_where=has_item)
