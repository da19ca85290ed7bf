"""The connection to a register: SQLite in the home, or a PostgreSQL server by URL."""

import copy
import time
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import date
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final, Self
from weakref import finalize
from zlib import crc32

import polars as pl
import sqlalchemy as sa

from billing.model.buckets import BucketRange
from billing.model.calendar import first_day
from billing.model.errors import InterruptedRunError, RefusedError
from billing.register import schema as stored
from billing.register.address import read_address, shown
from billing.register.migrations import migrate
from billing.register.remembered import Remembered, remembered
from billing.register.reopened import Reopened
from billing.store.home import Home
from billing.store.lock import HEAD_IS_GONE

_BULK = 10_000


# Keys of PostgreSQL advisory locks: of a run, of the transaction that assigns numbers, of a run's steps elsewhere.
_RUN_LOCK: Final = 7_281_002
_ISSUE_LOCK: Final = 7_281_003
_STEPS_LOCK: Final = 7_281_004
_ONE_STEP_LOCK: Final = 7_281_005
# The server ends the session, and so the lock, of a machine that is gone: after two minutes, not after two hours.
_KEEP_ALIVE: Final = {"tcp_keepalives_idle": "60", "tcp_keepalives_interval": "20", "tcp_keepalives_count": "3"}
_held: set[str] = set()


class _InUse:
    """What all views of a register share: it is gone when none is left."""


class Connection:
    """Connection and locks of a register: one run at a time."""

    def __init__(self, engine: sa.Engine) -> None:
        self._opened = engine
        # Connections that nobody has closed end with the last view.
        self._in_use = _InUse()
        finalize(self._in_use, engine.dispose).atexit = False
        self._buckets: BucketRange | None = None
        self._reopened: Reopened | None = None
        file = engine.url.database if engine.dialect.name == "sqlite" else None
        self._memory = Remembered(Path(file)) if file else None

    def of(self, buckets: BucketRange) -> Self:
        """The same register, which reads the rows of accounts in some buckets only: of a shard.

        What is asked of the register as a whole stays whole: state, counts, numbers, months and settings.
        """
        _ = self._engine
        view = copy.copy(self)
        view._buckets = None if buckets.is_whole else buckets
        return view

    def reopened(self, reopened: Reopened) -> Self:
        """The same register, which reads some closed billing dates as open ones; everything else as it is."""
        _ = self._engine
        view = copy.copy(self)
        view._reopened = reopened
        return view

    @property
    def memory(self) -> tuple[Remembered, Hashable] | None:
        """What this register remembers, and as which view of it; None of a server, and where dates are reopened."""
        if self._memory is None or self._reopened is not None:
            return None
        return self._memory, self._buckets

    @property
    def reopened_from(self) -> date | None:
        """The first day whose closed billing dates are read as open ones; None where all are read as they are."""
        return None if self._reopened is None else first_day(self._reopened.since)

    def _own(self, table: sa.Table) -> list[sa.ColumnElement[bool]]:
        """The conditions on a table with a column `bucket`: none where all of its rows are read."""
        if (own := self._buckets) is None:
            return []
        first, last = own.first // stored.BUCKETS_OF_A_GROUP, own.last // stored.BUCKETS_OF_A_GROUP
        return [stored.group_of_bucket(table).between(first, last), table.c.bucket.between(own.first, own.last)]

    @classmethod
    def open(cls, home: Home, url: str | None = None) -> Self:
        """Open the register. One that does not exist yet is created by the first issue, and reads as empty until then.

        Raises
        ------
        RefusedError
            When it cannot be reached or written.
        """
        try:
            address = read_address(url) if url else sa.URL.create("sqlite", database=str(home.register_path))
            # Others wait for the one transaction of an issuing run.
            patience = {"timeout": 60} if address.drivername.startswith("sqlite") else {}
            engine = sa.create_engine(address, connect_args=patience)
        except (sa.exc.ArgumentError, ModuleNotFoundError) as error:
            raise RefusedError(
                f"OVERAGE_REGISTER_URL: this register cannot be used ({error}): expected the URL of a database such as "
                "postgresql+psycopg://user@host/name, and its driver installed"
            ) from error
        if engine.dialect.name not in ("sqlite", "postgresql"):
            raise RefusedError(
                f"OVERAGE_REGISTER_URL: found a database of kind {engine.dialect.name}, expected postgresql or sqlite"
            )
        if engine.dialect.name == "sqlite":
            _use_immediate_transactions(engine)
        _name_lost_registers(engine)
        register = cls(engine)
        if url or home.register_path.exists():
            # Fail before anything is computed if the register cannot be reached or written.
            _ = register._made
        return register

    @property
    def writable(self) -> sa.Engine:
        """The engine for writing all of it: for a copy of the register."""
        return self._made

    @property
    def _engine(self) -> sa.Engine:
        """The engine for reading: it creates no register that does not exist yet."""
        file = self._opened.url.database
        is_there = self._opened.dialect.name != "sqlite" or (file is not None and Path(file).exists())
        return self._made if is_there else self._empty

    @cached_property
    def _made(self) -> sa.Engine:
        """The engine for writing: it creates the register if needed."""
        self._make()
        return self._opened

    @cached_property
    def _empty(self) -> sa.Engine:
        engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool)
        stored.metadata.create_all(engine)
        return engine

    def _make(self) -> None:
        try:
            migrate(self._opened)
        except (sa.exc.SQLAlchemyError, InterruptedRunError) as error:
            name, cause = shown(self._opened.url), _cause(error.__cause__ or error)
            raise RefusedError(
                f"{name}: the register cannot be opened ({cause}): expected a database that can be reached and written"
            ) from error

    def close(self) -> None:
        """Close the connections."""
        if self._memory is not None:
            self._memory.close()
        self._opened.dispose()

    def state(self) -> str:
        """A state that changes whenever something is issued or closed; the register only grows."""
        with self._engine.connect() as connection:
            return state_of(connection)

    @property
    def is_on_server(self) -> bool:
        """Whether the register is on a server, which processes on other machines can reach."""
        return self._opened.dialect.name == "postgresql"

    @contextmanager
    def alone(self, patience: float = 0, holder: str = "") -> Iterator[None]:
        """Lock the register on a server against runs of other homes; the home's own lock covers a register in the home.

        A session-level advisory lock: it ends with the connection, and is reentrant within the process. Waits for steps
        of a killed run that are still at work in other processes (`step_of`).

        Parameters
        ----------
        patience
            Seconds to wait for another run to end.
        holder
            Name of a run whose steps other processes execute.

        Raises
        ------
        RefusedError
            When another run holds the lock, or the server cannot be reached.
        """
        name = shown(self._opened.url)
        if not self.is_on_server or name in _held:
            yield
            return
        with self._made.connect() as connection:
            deadline = time.monotonic() + patience
            for key in (_RUN_LOCK, _STEPS_LOCK):
                while not connection.execute(sa.select(sa.func.pg_try_advisory_lock(key))).scalar():
                    if time.monotonic() >= deadline:
                        connection.invalidate()
                        raise RefusedError(
                            f"{name}: another run is at work with this register: wait for it to end, then run again"
                        )
                    time.sleep(0.2)
            connection.execute(sa.select(sa.func.pg_advisory_unlock(_STEPS_LOCK)))
            _set_in_session(connection, _KEEP_ALIVE | ({"application_name": holder} if holder else {}))
            # Session-level lock: a transaction would stay open for the whole run.
            connection.commit()
            _held.add(name)
            try:
                yield
            finally:
                _held.discard(name)
                # Unlock first: the server notices a closed connection a moment later, too late for the next run.
                with suppress(sa.exc.SQLAlchemyError, InterruptedRunError):
                    connection.execute(sa.select(sa.func.pg_advisory_unlock(_RUN_LOCK)))
                # Close instead of returning to the pool: the lock ends with the connection.
                connection.invalidate()

    @contextmanager
    def step_of(self, holder: str) -> Iterator[None]:
        """Be a step of the run whose head holds the lock in another process; steps do not exclude each other.

        Raises
        ------
        InterruptedRunError
            When the head does not hold the lock (any more): another run may be at work.
        """
        # First the lock, then the look: the next run waits for it before it begins.
        with self._session(sa.func.pg_advisory_lock_shared(_STEPS_LOCK)):
            if not self.is_held_by(holder):
                raise InterruptedRunError(HEAD_IS_GONE)
            yield

    @contextmanager
    def one_at_a_time(self, step: str) -> Iterator[None]:
        """Wait for another process that executes the same step, delivered twice, to end."""
        with self._session(sa.func.pg_advisory_lock(_ONE_STEP_LOCK, crc32(step.encode()) - 2**31)):
            yield

    @contextmanager
    def _session(self, lock: sa.Function[Any]) -> Iterator[None]:
        """Hold an advisory lock in a session of its own."""
        with self._made.connect() as connection:
            connection.execute(sa.select(lock))
            _set_in_session(connection, _KEEP_ALIVE)
            connection.commit()
            try:
                yield
            finally:
                # As in `alone`.
                with suppress(sa.exc.SQLAlchemyError, InterruptedRunError):
                    connection.execute(sa.select(sa.func.pg_advisory_unlock_all()))
                connection.invalidate()

    def is_held_by(self, holder: str) -> bool:
        """Whether a run of this name holds the lock, in any process."""
        held = sa.text(
            "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory' AND granted "
            "AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
            "AND classid = 0 AND objid = :key AND objsubid = 1 AND application_name = :holder"
        )
        with self._engine.connect() as connection:
            return bool(connection.execute(held, {"key": _RUN_LOCK, "holder": holder}).scalar())

    def _wait_for_others(self, connection: sa.Connection) -> None:
        """Serialize the transactions that assign numbers; SQLite does so when a transaction begins."""
        if connection.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ISSUE_LOCK)))
        else:
            # Constraints of registers of earlier versions are not deferred: they check a line's document at once.
            connection.exec_driver_sql("PRAGMA defer_foreign_keys = ON")

    @remembered
    def revision(self) -> tuple[object, ...]:
        """Counts that change whenever something is recorded that tables of a month depend on."""
        tables = (stored.documents, stored.closed_dates, stored.passed_dates, stored.accepted_losses)
        counts = [sa.select(sa.func.count()).select_from(table).scalar_subquery() for table in tables]
        months = stored.issued_months.c
        through = sa.select(months.billing_month, months.closed_through).order_by(months.billing_month)
        with self._engine.connect() as connection:
            return (*connection.execute(sa.select(*counts)).one(), *map(tuple, connection.execute(through)))

    def _frame(self, query: sa.Select[Any] | sa.CompoundSelect[Any], schema: Mapping[str, Any]) -> pl.DataFrame:
        """Read a query into a frame from the driver's tuples: a row object costs more than the query."""
        with self._engine.connect() as connection:
            dates_are_text = connection.dialect.name == "sqlite"
            dates = [name for name, dtype in schema.items() if dtype == pl.Date] if dates_are_text else []
            driver_types = {name: pl.String if name in dates else dtype for name, dtype in schema.items()}
            truths = [name for name, dtype in schema.items() if dtype == pl.Boolean] if dates_are_text else []
            driver_types |= dict.fromkeys(truths, pl.Int64)
            cursor: Any = connection.execute(query).cursor
            # Fetch in chunks: rows as objects take several times the memory of columns.
            parts = [
                pl.DataFrame(dict(zip(driver_types, zip(*rows, strict=True), strict=True)), schema=driver_types)
                for rows in iter(partial(cursor.fetchmany, _BULK), [])
            ]
        if not parts:
            return pl.DataFrame(schema=schema)
        frame = parts[0] if len(parts) == 1 else pl.concat(parts, rechunk=True)
        if not dates and not truths:
            return frame
        return frame.with_columns(pl.col(dates).str.to_date("%Y-%m-%d"), pl.col(truths).cast(pl.Boolean))


def _set_in_session(connection: sa.Connection, settings: Mapping[str, str]) -> None:
    for name, value in settings.items():
        connection.execute(sa.select(sa.func.set_config(name, value, False)))  # noqa: FBT003


def state_of(connection: sa.Connection) -> str:
    documents, dates = (
        connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
        for table in (stored.documents, stored.closed_dates)
    )
    return f"{documents} documents, {dates} closed dates"


def _name_lost_registers(engine: sa.Engine) -> None:
    """Name the register in errors of the database: lost, full or locked."""
    # Do not capture the engine: SQLAlchemy caches dialects with their listeners, and would keep its statements.
    name = shown(engine.url)

    @sa.event.listens_for(engine, "handle_error")
    def on_error(context: sa.engine.ExceptionContext) -> None:
        error = context.sqlalchemy_exception
        # A damaged file raises the general DatabaseError, not a subclass.
        is_damaged = type(error) is sa.exc.DatabaseError
        if context.is_disconnect or is_damaged or isinstance(error, (sa.exc.OperationalError, sa.exc.InterfaceError)):
            raise InterruptedRunError(
                f"{name}: the register cannot be used any more ({_cause(error or context)})"
            ) from error


def _use_immediate_transactions(engine: sa.Engine) -> None:
    """SQLite: take the write lock when a transaction begins, so that two runs cannot read the same last number."""

    @sa.event.listens_for(engine, "connect")
    def on_connect(connection: Any, _: object) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA foreign_keys = ON")
        # Triggers keep a statement journal per row: hold it in memory, not in a temporary file.
        connection.execute("PRAGMA temp_store = MEMORY")
        # Page size of a new register: 4096 bytes would hold two documents and waste the rest.
        connection.execute("PRAGMA page_size = 8192")

    @sa.event.listens_for(engine, "begin")
    def on_begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _cause(error: object) -> str:
    return str(getattr(error, "orig", None) or error).splitlines()[0]
