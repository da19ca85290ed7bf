"""The connection to a register: SQLite in the home, or a PostgreSQL server by URL."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final, Self

import polars as pl
import sqlalchemy as sa

from billing.model.errors import InterruptedRunError, RefusedError
from billing.register import schema as stored
from billing.register.address import read_address, shown
from billing.register.migrations import migrate
from billing.store.home import Home

_BULK = 10_000


# keys of the server's locks: one for a run, one for the transaction that gives numbers
_RUN_LOCK: Final = 7_281_002
_ISSUE_LOCK: Final = 7_281_003
_held: set[str] = set()


class Connection:
    """How a register is reached, and by whom: one run at a time."""

    def __init__(self, engine: sa.Engine) -> None:
        self._opened = engine

    @classmethod
    def open(cls, home: Home, url: str | None = None) -> Self:
        """The register; where there is none yet, it is made when something is first issued, and read as an empty one.

        Raises
        ------
        RefusedError
            When it cannot be reached or written.
        """
        try:
            address = read_address(url) if url else sa.URL.create("sqlite", database=str(home.register_path))
            # a run that issues keeps others waiting for as long as its one transaction takes
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
            # what cannot be reached or written is refused before anything is computed
            _ = register._made
        return register

    @property
    def _engine(self) -> sa.Engine:
        """What is read: looking at a register that is not there yet makes none."""
        file = self._opened.url.database
        is_there = self._opened.dialect.name != "sqlite" or (file is not None and Path(file).exists())
        return self._made if is_there else self._empty

    @cached_property
    def _made(self) -> sa.Engine:
        """What is written, made where it is not there yet."""
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
        """Give back the connections."""
        self._opened.dispose()

    def state(self) -> str:
        """What tells whether anything was issued or closed since: nothing is ever taken away."""
        with self._engine.connect() as connection:
            return state_of(connection)

    @contextmanager
    def alone(self, patience: float = 0) -> Iterator[None]:
        """Keep runs of other homes on the same server waiting; a register in the home is kept by the home's lock.

        The lock is the server's and ends with the connection. A process that holds it may take it again.

        Parameters
        ----------
        patience
            Seconds to wait for another run to end.

        Raises
        ------
        RefusedError
            When another run holds the lock, or the server cannot be reached.
        """
        name = shown(self._opened.url)
        if self._opened.dialect.name != "postgresql" or name in _held:
            yield
            return
        with self._made.connect() as connection:
            deadline = time.monotonic() + patience
            while not connection.execute(sa.select(sa.func.pg_try_advisory_lock(_RUN_LOCK))).scalar():
                if time.monotonic() >= deadline:
                    raise RefusedError(
                        f"{name}: another run is at work with this register: wait for it to end, then run again"
                    )
                time.sleep(0.2)
            # the lock belongs to the session, not to a transaction that would stay open for the whole run
            connection.commit()
            _held.add(name)
            try:
                yield
            finally:
                _held.discard(name)
                # not back into the pool: the lock ends with the connection
                connection.invalidate()

    def _wait_for_others(self, connection: sa.Connection) -> None:
        """One transaction at a time gives numbers: SQLite sees to it when a transaction begins."""
        if connection.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ISSUE_LOCK)))
        else:
            # registers of earlier versions look for a line's document at once
            connection.exec_driver_sql("PRAGMA defer_foreign_keys = ON")

    def revision(self) -> tuple[object, ...]:
        """Moves whenever something is recorded that the tables of a month depend on; rows are never taken away."""
        tables = (stored.documents, stored.closed_dates, stored.passed_dates, stored.accepted_losses)
        counts = [sa.select(sa.func.count()).select_from(table).scalar_subquery() for table in tables]
        months = stored.issued_months.c
        through = sa.select(months.billing_month, months.closed_through).order_by(months.billing_month)
        with self._engine.connect() as connection:
            return (*connection.execute(sa.select(*counts)).one(), *map(tuple, connection.execute(through)))

    def _frame(self, query: sa.Select[Any] | sa.CompoundSelect[Any], schema: Mapping[str, Any]) -> pl.DataFrame:
        """What a query finds, of the rows that the driver gives: an object a row costs more than to find it."""
        with self._engine.connect() as connection:
            dates_are_text = connection.dialect.name == "sqlite"
            dates = [name for name, dtype in schema.items() if dtype == pl.Date] if dates_are_text else []
            given = {name: pl.String if name in dates else dtype for name, dtype in schema.items()}
            cursor: Any = connection.execute(query).cursor
            # some at a time: as objects the rows of a month take several times their columns
            parts = [
                pl.DataFrame(rows, schema=given, orient="row") for rows in iter(partial(cursor.fetchmany, _BULK), [])
            ]
        frame = pl.concat([pl.DataFrame(schema=given), *parts], rechunk=True)
        return frame.with_columns(pl.col(dates).str.to_date("%Y-%m-%d")) if dates else frame


def state_of(connection: sa.Connection) -> str:
    documents, dates = (
        connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
        for table in (stored.documents, stored.closed_dates)
    )
    return f"{documents} documents, {dates} closed dates"


def _name_lost_registers(engine: sa.Engine) -> None:
    """Say which register was lost, full or locked, where the database only says what happened to it."""

    @sa.event.listens_for(engine, "handle_error")
    def on_error(context: sa.engine.ExceptionContext) -> None:
        error = context.sqlalchemy_exception
        # a database whose file is damaged says so by the general error, not by one of its kinds
        is_damaged = type(error) is sa.exc.DatabaseError
        if context.is_disconnect or is_damaged or isinstance(error, (sa.exc.OperationalError, sa.exc.InterfaceError)):
            raise InterruptedRunError(
                f"{shown(engine.url)}: the register cannot be used any more ({_cause(error or context)})"
            ) from error


def _use_immediate_transactions(engine: sa.Engine) -> None:
    """SQLite: take the write lock when a transaction begins, so that two runs cannot read the same last number."""

    @sa.event.listens_for(engine, "connect")
    def on_connect(connection: Any, _: object) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA foreign_keys = ON")
        # what a guard could still take back is noted for every row: not in a file
        connection.execute("PRAGMA temp_store = MEMORY")
        # of a register that is made here: pages of 4096 bytes would hold two documents and a gap each
        connection.execute("PRAGMA page_size = 8192")

    @sa.event.listens_for(engine, "begin")
    def on_begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _cause(error: object) -> str:
    return str(getattr(error, "orig", None) or error).splitlines()[0]
