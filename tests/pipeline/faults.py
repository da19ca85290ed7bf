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
from sqlalchemy.engine.default import DefaultDialect

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
