"""The settings of the catalogue under which billing dates were first closed, kept like what was issued."""

from collections.abc import Iterator

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from billing.register.migrations.versions.r0002_guards import Guard

revision = "6"
down_revision = "5"

TEXT = sa.String().with_variant(postgresql.VARCHAR(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "settings",
        sa.Column("name", TEXT, primary_key=True),
        sa.Column("value", TEXT, nullable=False),
        if_not_exists=True,
    )
    is_server = op.get_context().dialect.name == "postgresql"
    for guard in guards():
        if is_server:
            op.execute(
                f"CREATE FUNCTION {guard.name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                f"IF {guard.condition} THEN RAISE EXCEPTION '{guard.table}: {guard.message}' "
                f"USING ERRCODE = 'integrity_constraint_violation'; END IF; "
                f"RETURN {'OLD' if guard.change == 'DELETE' else 'NEW'}; END $$"
            )
            op.execute(
                f"CREATE TRIGGER {guard.name} BEFORE {guard.change} ON {guard.table} "
                f"FOR EACH ROW EXECUTE FUNCTION {guard.name}()"
            )
        else:
            op.execute(
                f"CREATE TRIGGER IF NOT EXISTS {guard.name} BEFORE {guard.change} ON {guard.table} "
                f"WHEN {guard.condition} BEGIN SELECT RAISE(ABORT, '{guard.table}: {guard.message}'); END"
            )
    if is_server:
        op.execute(
            "CREATE TRIGGER settings_all_stay BEFORE TRUNCATE ON settings "
            "FOR EACH STATEMENT EXECUTE FUNCTION all_of_it_stays()"
        )


def guards() -> Iterator[Guard]:
    is_issued = "EXISTS (SELECT 1 FROM issued_months)"
    message = "the settings under which something was issued stay"
    yield Guard("settings_never_change", "UPDATE", "settings", is_issued, message)
    yield Guard("settings_stay", "DELETE", "settings", is_issued, message)
