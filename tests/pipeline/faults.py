"""Disks and databases that fail at the n-th call: what a run asks of them is counted, and one call is refused."""

import errno
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import polars as pl
import psycopg
import sqlalchemy as sa
from sqlalchemy.engine.default import DefaultDialect

from billing.ingest import state as ingest_state
from billing.month.recorded_inputs import months as month_inputs

_ERRORS = (errno.EIO, errno.ENOSPC, errno.EINTR)


@dataclass
class Calls:
    """What was asked so far, in words, and which call fails (None: none does)."""

    fails: int | None = None
    made: list[str] = field(default_factory=list)

    def call(self, what: str, is_database: bool = False) -> None:
        """Count a call, and refuse the one that fails."""
        self.made.append(what)
        if len(self.made) != self.fails:
            return
        code = _ERRORS[self.fails % len(_ERRORS)]
        if is_database:
            lost = ("disk I/O error", "database or disk is full", "server closed the connection unexpectedly")
            raise sqlite3.OperationalError(lost[self.fails % len(lost)])
        raise OSError(code, os.strerror(code), what)


@contextmanager
def counted_calls(home: Path, fails: int | None = None) -> Iterator[Calls]:
    """Count what is asked of the store and the register of a home; landing is read by others' rules."""
    # a process that has read a file before would ask less of the disk
    ingest_state._read_state.cache_clear()
    month_inputs._hash_once.cache_clear()
    calls = Calls(fails)
    with ExitStack() as stack:
        for owner, name, path_of in (
            (Path, "open", lambda given: given[0]),
            (Path, "replace", lambda given: given[0]),
            (Path, "unlink", lambda given: given[0]),
            (os, "fsync", lambda _: home / "lake"),
            (pl.DataFrame, "write_parquet", lambda given: given[1]),
            (pl.LazyFrame, "sink_parquet", lambda given: given[1]),
            (pl, "read_parquet", lambda given: given[0]),
        ):
            real = getattr(owner, name)
            stack.enter_context(mock.patch.object(owner, name, _counting(real, name, path_of, home, calls)))
        # where the driver is called, so that SQLAlchemy treats it as the driver's own error
        for name in ("do_execute", "do_executemany", "do_commit"):
            real = getattr(DefaultDialect, name)
            stack.enter_context(mock.patch.object(DefaultDialect, name, _counting_database(real, name, calls)))
        yield calls


def _counting(
    real: Callable[..., Any], name: str, path_of: Callable[[Any], object], home: Path, calls: Calls
) -> Callable[..., Any]:
    def asked(*given: Any, **named: Any) -> Any:
        path = path_of(given)
        # a file in memory is no disk's
        inside = Path(path) if isinstance(path, str | Path) else None
        if inside is not None and inside.is_relative_to(home) and not inside.is_relative_to(home / "landing"):
            calls.call(f"{name} {inside.relative_to(home)}")
        return real(*given, **named)

    return asked


def _counting_database(real: Callable[..., Any], name: str, calls: Calls) -> Callable[..., Any]:
    def asked(dialect: Any, connection: Any, *given: Any, **named: Any) -> Any:
        statement = next((each for each in given if isinstance(each, str)), "")
        calls.call(f"{name} {' '.join(statement.split())[:60]}".strip(), is_database=True)
        return real(dialect, connection, *given, **named)

    return asked


@contextmanager
def lost_connections(url: str, fails: int | None = None, answers: bool = True) -> Iterator[Calls]:
    """Count what a server's register is asked, and let the server end the connection at one call.

    Parameters
    ----------
    answers
        False: what is asked is done, and the connection is lost before the answer comes.
    """
    calls = Calls()
    server = sa.make_url(url).set(drivername="postgresql", database="postgres").render_as_string(hide_password=False)

    def end(connection: Any) -> None:
        own = getattr(connection, "driver_connection", connection)
        with psycopg.connect(server, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s, 10000)", [own.info.backend_pid])

    def losing(real: Callable[..., Any], name: str) -> Callable[..., Any]:
        def asked(dialect: Any, first: Any, *given: Any, **named: Any) -> Any:
            statement = next((each for each in given if isinstance(each, str)), "")
            calls.call(f"{name} {' '.join(statement.split())[:60]}".strip())
            connection = first if name == "do_commit" else first.connection
            is_lost = len(calls.made) == fails
            if is_lost and answers:
                end(connection)
            done = real(dialect, first, *given, **named)
            if is_lost:
                end(connection)
                # any answer is one too many: the driver asks once more and finds nobody
                (connection if name == "do_commit" else first).cursor().execute("SELECT 1")
            return done

        return asked

    with ExitStack() as stack:
        for name in ("do_execute", "do_executemany", "do_commit"):
            stack.enter_context(mock.patch.object(DefaultDialect, name, losing(getattr(DefaultDialect, name), name)))
        yield calls
