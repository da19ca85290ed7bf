"""Dagster storage on SQLite with pooled connections, for commands.

Dagster's classes open an engine and a connection per event, recompile every statement, inspect the tables and sync
every event to disk: a third of the CPU time of a run with little to do (docs/performance.md). These write the same rows
to the same files, several events at once, so servers and the daemon keep Dagster's own. Remove them once Dagster pools
SQLite connections.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import dagster as dg
from dagster._core.events.log import EventLogEntry
from dagster._core.instance.ref import InstanceRef
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._core.storage.noop_compute_log_manager import NoOpComputeLogManager
from dagster._core.storage.runs import SqliteRunStorage
from dagster._core.storage.schedules import SqliteScheduleStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS, create_db_conn_string
from dagster._serdes import ConfigurableClassData
from sqlalchemy import Connection, Engine, create_engine, event

from assets.environment import set_default
from pipeline.ready_databases import is_made_for_this_dagster, make_database_of_a_run, needs_no_migration

_DAGSTERS_OWN: Final = (
    SqliteEventLogStorage.__name__,
    SqliteRunStorage.__name__,
    SqliteScheduleStorage.__name__,
)
_NO_CAPTURE: Final = ConfigurableClassData(NoOpComputeLogManager.__module__, NoOpComputeLogManager.__name__, "{}\n")
_MOST_EVENTS_AT_ONCE: Final = "1000"
_SECONDS_UNTIL_WRITTEN: Final = 1.0
"""How long an event may wait to be written with others: whoever looks at a run at work sees it then."""


def open_instance(folder: Path) -> dg.DagsterInstance:
    """The instance in a folder, with pooled connections if it is stored in SQLite.

    Does not capture the output of steps: a command prints to its own terminal. Dagster would start two processes per
    step to copy it, which print tracebacks on Ctrl-C.
    """
    found = InstanceRef.from_dir(str(folder))
    if found.compute_logs_data.class_name == LocalComputeLogManager.__name__:
        found = found._replace(compute_logs_data=_NO_CAPTURE)
    events, runs, schedules = found.event_storage_data, found.run_storage_data, found.schedule_storage_data
    if not (events and runs and schedules):
        return dg.DagsterInstance.from_ref(found)
    if (events.class_name, runs.class_name, schedules.class_name) != _DAGSTERS_OWN:
        return dg.DagsterInstance.from_ref(found)
    # Write the planned events of all steps of a run in one transaction.
    set_default("DAGSTER_EVENT_BATCH_SIZE", _MOST_EVENTS_AT_ONCE)
    ours = found._replace(
        storage_data=None,
        event_storage_data=ConfigurableClassData(__name__, PooledEventLogStorage.__name__, events.config_yaml),
        run_storage_data=ConfigurableClassData(__name__, PooledRunStorage.__name__, runs.config_yaml),
        schedule_storage_data=ConfigurableClassData(__name__, ReadyScheduleStorage.__name__, schedules.config_yaml),
    )
    return dg.DagsterInstance.from_ref(ours)


def _engine(address: str) -> Engine:
    engine = create_engine(address, connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS})

    @event.listens_for(engine, "connect")
    def sync_at_checkpoints_only(connection: Any, _: object) -> None:
        # A power cut may cost the last records of Dagster, and damages none. The register syncs every commit.
        connection.execute("PRAGMA synchronous=NORMAL")

    return engine


def _address_of_current(base_dir: str, name: str) -> str | None:
    """Address of a database that needs no migration."""
    is_current = needs_no_migration(Path(base_dir) / f"{name}.db")
    return create_db_conn_string(base_dir, name) if is_current else None


class PooledRunStorage(SqliteRunStorage):
    """Run storage with pooled connections."""

    def __init__(self, conn_string: str, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(conn_string, inst_data)
        self._engine = _engine(conn_string)

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> "PooledRunStorage":
        """As in Dagster's class, which loads all migrations to see that none is needed."""
        address = _address_of_current(config_value["base_dir"], "runs")
        return cls.from_local(inst_data=inst_data, **config_value) if address is None else cls(address, inst_data)

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """Open a transaction."""
        with self._engine.begin() as connection:
            yield connection

    def dispose(self) -> None:
        """Close the connections."""
        self._engine.dispose()
        super().dispose()


class ReadyScheduleStorage(SqliteScheduleStorage):
    """Schedule storage that is only looked at where a migration may be needed: commands have no schedules."""

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> "ReadyScheduleStorage":
        """As in Dagster's class."""
        address = _address_of_current(config_value["base_dir"], "schedules")
        # Dagster's class makes one of the class that is asked.
        made: Any = cls.from_local(inst_data=inst_data, **config_value) if address is None else cls(address, inst_data)
        return made  # type: ignore[no-any-return]


class PooledEventLogStorage(SqliteEventLogStorage):
    """Event log storage with pooled connections: one file per run, and an index of asset events.

    Events wait for others, and are written together before anything is read.
    """

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._engines: dict[str, Engine] = {}
        self._begun: dict[str, Connection] = {}
        self._known: set[str] = set()
        self._waiting: list[EventLogEntry] = []
        self._waiting_since = 0.0
        self._in_turn = threading.RLock()
        super().__init__(base_dir, inst_data)

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> "PooledEventLogStorage":
        """As in Dagster's class."""
        return cls(inst_data=inst_data, **config_value)

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        with self._in_turn:
            if shard in self._begun:
                yield self._begun[shard]
                return
            self._write_waiting()
            with self._engine_of(shard).begin() as connection:
                self._begun[shard] = connection
                try:
                    yield connection
                finally:
                    del self._begun[shard]

    def _engine_of(self, shard: str) -> Engine:
        if shard not in self._engines:
            # Close other runs' files: a command executes one run after the other.
            for other in [each for each in self._engines if INDEX_SHARD_NAME not in (shard, each)]:
                self._engines.pop(other).dispose()
            self._engines[shard] = _engine(self.conn_string_for_shard(shard))
        if shard not in self._initialized_dbs:
            path = Path(self.path_for_shard(shard))
            if not path.exists() and shard != INDEX_SHARD_NAME and is_made_for_this_dagster():
                make_database_of_a_run(path)
            elif not needs_no_migration(path):
                self._initdb(self._engines[shard])
            self._initialized_dbs.add(shard)
        return self._engines[shard]

    def store_event(self, event: EventLogEntry) -> None:
        """Write an event with those that follow at once: before the next look at any, or after a second."""
        with self._in_turn:
            if not self._waiting:
                self._waiting_since = time.monotonic()
            self._waiting.append(event)
            if time.monotonic() - self._waiting_since > _SECONDS_UNTIL_WRITTEN:
                self._write_waiting()

    def _write_waiting(self) -> None:
        """Write the events that wait, run by run in their order."""
        while self._waiting:
            run = self._waiting[0].run_id
            first = [event for event in self._waiting if event.run_id == run]
            self._waiting = [event for event in self._waiting if event.run_id != run]
            self.store_event_batch(first)

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Write events of one run in one transaction."""
        with self.index_connection(), self.run_connection(events[0].run_id):
            for event in events:
                super().store_event(event)

    def has_table(self, table_name: str) -> bool:
        """Whether a table exists; cached once it does."""
        look = super().has_table
        return self._cached_once_true(f"table {table_name}", lambda: look(table_name))

    def has_secondary_index(self, name: str) -> bool:
        """Whether a secondary index has been built; cached once it is."""
        look = super().has_secondary_index
        return self._cached_once_true(f"index {name}", lambda: look(name))

    def _has_asset_key_col_on_connection(self, conn: Connection, column_name: str) -> bool:
        look = super()._has_asset_key_col_on_connection
        return self._cached_once_true(f"column {column_name}", lambda: look(conn, column_name))

    def _cached_once_true(self, what: str, look: Callable[[], bool]) -> bool:
        """Look something up until it exists, and cache that it does."""
        if what not in self._known and look():
            self._known.add(what)
        return what in self._known

    def dispose(self) -> None:
        """Write what waits, and close the connections."""
        with self._in_turn:
            self._write_waiting()
        super().dispose()
        for engine in self._engines.values():
            engine.dispose()
        self._engines.clear()
