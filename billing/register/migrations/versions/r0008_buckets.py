"""The bucket of the account of every document and closed date: shards of a month read their own rows only."""

import polars as pl
import sqlalchemy as sa
from alembic import op

from billing.model.buckets import buckets_of

revision = "8"
down_revision = "7"

TABLES = ("documents", "closed_dates")


def upgrade() -> None:
    dialect = op.get_context().dialect.name
    connection = op.get_bind()
    for table in TABLES:
        op.add_column(table, sa.Column("bucket", sa.SmallInteger, nullable=False, server_default="-1"))
        found = connection.exec_driver_sql(f"SELECT DISTINCT account_id FROM {table}").scalars()  # noqa: S608
        accounts = pl.DataFrame({"account": list(found)}, schema={"account": pl.String})
        if not accounts.is_empty():
            _fill(connection, dialect, table, accounts.with_columns(buckets_of(accounts["account"]).alias("bucket")))


def _fill(connection: sa.Connection, dialect: str, table: str, buckets: pl.DataFrame) -> None:
    """Write the buckets of rows that never change otherwise: their guard is back before the transaction ends."""
    guard = f"{table}_never_change"
    connection.exec_driver_sql("CREATE TEMPORARY TABLE account_buckets (account VARCHAR PRIMARY KEY, bucket INTEGER)")
    connection.execute(sa.text("INSERT INTO account_buckets VALUES (:account, :bucket)"), buckets.to_dicts())
    if dialect == "sqlite":
        made_by = "SELECT sql FROM sqlite_master WHERE type = 'trigger' AND name = ?"
        statement = connection.exec_driver_sql(made_by, (guard,)).scalar()
        op.execute(f"DROP TRIGGER IF EXISTS {guard}")
    else:
        op.execute(f"ALTER TABLE {table} DISABLE TRIGGER {guard}")
    connection.exec_driver_sql(
        f"UPDATE {table} SET bucket = (SELECT bucket FROM account_buckets WHERE account = {table}.account_id)"  # noqa: S608
    )
    if dialect == "postgresql":
        op.execute(f"ALTER TABLE {table} ENABLE TRIGGER {guard}")
    elif statement:
        op.execute(statement)
    connection.exec_driver_sql("DROP TABLE account_buckets")
