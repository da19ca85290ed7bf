"""Dagster storage on PostgreSQL with connections that are kept, one a process.

Dagster's classes open a connection for every record that they write or read, and PostgreSQL starts a process for each:
with one that is kept, a small step takes 0.49 to 0.56 of the CPU time. Remove this once Dagster keeps connections.
"""

from functools import cache
from typing import Any

from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage
from dagster_postgres.utils import create_pg_engine, pg_url_from_config
from sqlalchemy import Engine


class PooledPostgresStorage(DagsterPostgresStorage):
    """Dagster's storage of runs, events and schedules; all instances of a process share its connections."""

    def __init__(
        self, postgres_url: str, inst_data: ConfigurableClassData | None = None, *, makes_tables: bool = True
    ) -> None:
        engine = _engine(postgres_url, makes_tables=makes_tables)
        super().__init__(postgres_url, should_autocreate_tables=False, inst_data=inst_data)
        for storage in (self._run_storage, self._event_log_storage, self._schedule_storage):
            storage._engine = engine

    @classmethod
    def from_config_value(  # type: ignore[override] # as Dagster writes it, too
        cls, inst_data: ConfigurableClassData | None, config_value: Any
    ) -> DagsterPostgresStorage:
        """Takes the settings of Dagster's class, which is made itself where connections need tokens."""
        if "auth_provider" in config_value:
            return super().from_config_value(inst_data, config_value)
        makes_tables = config_value.get("should_autocreate_tables", True)
        return cls(pg_url_from_config(config_value), inst_data, makes_tables=makes_tables)


@cache
def _engine(postgres_url: str, *, makes_tables: bool) -> Engine:
    """The engine of this process: keeps one connection, opens as many as are used at once."""
    if makes_tables:
        DagsterPostgresStorage(postgres_url)
    # Replace connections that the server has closed.
    return create_pg_engine(
        postgres_url, isolation_level="AUTOCOMMIT", pool_size=1, max_overflow=-1, pool_pre_ping=True
    )
