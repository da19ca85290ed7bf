"""Dagster storage on SQLite with pooled connections, for commands.

Dagster's classes open an engine and a connection per event, recompile every statement and inspect the tables: a third
of the CPU time of a run with little to do (docs/performance.md). These write the same rows to the same files, so
servers and the daemon keep Dagster's own. Remove them once Dagster pools SQLite connections.
"""

import threading
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
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._serdes import ConfigurableClassData
from sqlalchemy import Connection, Engine, create_engine

from assets.environment import set_default
from billing.store.files import write_bytes

_DAGSTERS_OWN: Final = (SqliteEventLogStorage.__name__, SqliteRunStorage.__name__)
_NO_CAPTURE: Final = ConfigurableClassData(NoOpComputeLogManager.__module__, NoOpComputeLogManager.__name__, "{}\n")
_MOST_EVENTS_AT_ONCE: Final = "1000"


def open_instance(folder: Path) -> dg.DagsterInstance:
    """The instance in a folder, with pooled connections if it is stored in SQLite.

    Does not capture the output of steps: a command prints to its own terminal. Dagster would start two processes per
    step to copy it, which print tracebacks on Ctrl-C.
    """
    found = InstanceRef.from_dir(str(folder))
    if found.compute_logs_data.class_name == LocalComputeLogManager.__name__:
        found = found._replace(compute_logs_data=_NO_CAPTURE)
    events, runs = found.event_storage_data, found.run_storage_data
    if events is None or runs is None or (events.class_name, runs.class_name) != _DAGSTERS_OWN:
        return dg.DagsterInstance.from_ref(found)
    # Write the planned events of all steps of a run in one transaction.
    set_default("DAGSTER_EVENT_BATCH_SIZE", _MOST_EVENTS_AT_ONCE)
    ours = found._replace(
        storage_data=None,
        event_storage_data=ConfigurableClassData(__name__, PooledEventLogStorage.__name__, events.config_yaml),
        run_storage_data=ConfigurableClassData(__name__, PooledRunStorage.__name__, runs.config_yaml),
    )
    return dg.DagsterInstance.from_ref(ours)


def _engine(address: str) -> Engine:
    return create_engine(address, connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS})


class PooledRunStorage(SqliteRunStorage):
    """Run storage with pooled connections."""

    def __init__(self, conn_string: str, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(conn_string, inst_data)
        self._engine = _engine(conn_string)

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> "PooledRunStorage":
        """As in Dagster's class."""
        return cls.from_local(inst_data=inst_data, **config_value)

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """Open a transaction."""
        with self._engine.begin() as connection:
            yield connection

    def dispose(self) -> None:
        """Close the connections."""
        self._engine.dispose()
        super().dispose()


class PooledEventLogStorage(SqliteEventLogStorage):
    """Event log storage with pooled connections: one file per run, and an index of asset events."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._engines: dict[str, Engine] = {}
        self._begun: dict[str, Connection] = {}
        self._known: set[str] = set()
        self._empty: bytes | None = None
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
            self._initdb(self._engines[shard])
            self._initialized_dbs.add(shard)
        return self._engines[shard]

    def _initdb(self, engine: Engine, for_index_shard: bool = False) -> None:  # noqa: FBT001, FBT002 - Dagster's
        """Create missing tables; copies the empty database of the first run for later ones."""
        path = Path(str(engine.url.database))
        if self._empty is not None and not path.exists():
            write_bytes(path, self._empty)
            return
        is_new = not path.exists()
        super()._initdb(engine, for_index_shard)
        if is_new and path.stem != INDEX_SHARD_NAME:
            with engine.connect() as connection:
                made: Any = connection.connection.driver_connection
                self._empty = made.serialize()

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Write events of one run in one transaction."""
        with self.index_connection(), self.run_connection(events[0].run_id):
            super().store_event_batch(events)

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
        """Close the connections."""
        super().dispose()
        for engine in self._engines.values():
            engine.dispose()
        self._engines.clear()
