"""The unguessable path of each account's own page, kept so that a link never changes (rule 25).

A renewed link is a further version: the latest one holds.
"""

from collections.abc import Iterator

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from billing.register.migrations.versions.r0002_guards import Guard

revision = "12"
down_revision = "11"

TEXT = sa.String().with_variant(postgresql.VARCHAR(collation="C"), "postgresql")
TABLE = "profile_links"


def upgrade() -> None:
    op.create_table(
        TABLE,
        sa.Column("account_id", TEXT, primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("token", TEXT, nullable=False, unique=True),
    )
    is_server = op.get_context().dialect.name == "postgresql"
    for guard in guards():
        if is_server:
            op.execute(
                f"CREATE TRIGGER {guard.name} BEFORE {guard.change} ON {TABLE} "
                "FOR EACH ROW EXECUTE FUNCTION all_of_it_stays()"
            )
        else:
            op.execute(
                f"CREATE TRIGGER {guard.name} BEFORE {guard.change} ON {TABLE} "
                f"BEGIN SELECT RAISE(ABORT, '{TABLE}: {guard.message}'); END"
            )
    if is_server:
        op.execute(
            f"CREATE TRIGGER {TABLE}_all_stay BEFORE TRUNCATE ON {TABLE} "
            "FOR EACH STATEMENT EXECUTE FUNCTION all_of_it_stays()"
        )


def guards() -> Iterator[Guard]:
    """What keeps the links as they were drawn."""
    message = "what has been recorded stays"
    yield Guard(f"{TABLE}_never_change", "UPDATE", TABLE, "1 = 1", message)
    yield Guard(f"{TABLE}_stay", "DELETE", TABLE, "1 = 1", message)
