"""The billing home: one folder per business, and the only way anything is written into it.

A file is written under a scratch name in its own folder, flushed to disk and renamed into place, so a reader sees
the old bytes or the new ones and never a part. Equal content is not written again.
"""

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import IO

import polars as pl
from polars.exceptions import PolarsError
from polars.io.plugins import register_io_source

from billing.errors import RefusedError
from billing.tables import Table

SCRATCH_PREFIX = ".writing-"


@dataclass(frozen=True)
class Home:
    """Where a business keeps what goes in and what comes out."""

    root: Path

    @property
    def landing(self) -> Path:
        """What others write; the pipeline only reads it."""
        return self.root / "landing"

    @property
    def lake(self) -> Path:
        """Parquet tables, one folder each."""
        return self.root / "lake"

    @property
    def documents(self) -> Path:
        """The issued PDFs, by billing month."""
        return self.root / "documents"

    @property
    def profiles(self) -> Path:
        """One page per account."""
        return self.root / "profiles"

    @property
    def reports(self) -> Path:
        """A page and a PDF per billing month."""
        return self.root / "reports"

    @property
    def register_path(self) -> Path:
        """The register of issued documents, when it is not a server."""
        return self.root / "register.db"

    def partition(self, table: Table, month: str) -> Path:
        """The file of a monthly table for one billing month."""
        return self.lake / table.name / f"billing_month={month}" / f"{table.name}.parquet"

    def whole(self, table: Table) -> Path:
        """The file of a table that is not partitioned."""
        return self.lake / table.name / f"{table.name}.parquet"

    def delivery(self, table: Table, day: date) -> Path:
        """The file of a table by day of delivery (rejects, ingest)."""
        return self.lake / table.name / f"delivery_day={day.isoformat()}" / f"{table.name}.parquet"

    def document_file(self, month: str, number: str) -> Path:
        """Where the PDF of an issued document stands."""
        return self.documents / month / f"{number}.pdf"


def write_file(path: Path, write: Callable[[Path], None]) -> bool:
    """Let `write` fill a scratch file, then put it in place of `path` at once.

    Returns
    -------
    bool
        Whether `path` changed: a scratch file equal to what stands there is thrown away.

    Raises
    ------
    OSError, polars.exceptions.ComputeError
        Whatever `write` raises (disk full, read-only folder); `path` is as it was and no scratch file remains.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f"{SCRATCH_PREFIX}{os.getpid()}-{path.name}")
    try:
        write(scratch)
        if path.exists() and _same_bytes(scratch, path):
            return False
        with scratch.open("rb") as file:
            os.fsync(file.fileno())
        scratch.replace(path)
        _sync_folder(path.parent)
    finally:
        scratch.unlink(missing_ok=True)
    return True


def write_bytes(path: Path, content: bytes) -> bool:
    """Put `content` in place of `path` at once; see `write_file`."""

    def write(scratch: Path) -> None:
        scratch.write_bytes(content)

    return write_file(path, write)


def write_frame(path: Path, frame: pl.DataFrame, table: Table, in_order: bool = False) -> bool:
    """Write a frame as the table's Parquet file: its columns, sorted by its key, with descriptions and statistics.

    Equal frames give equal bytes. See `write_file`.

    Parameters
    ----------
    in_order
        The frame is sorted by the table's key already.
    """
    conformed = table.fit(frame) if in_order else table.conform(frame)

    def write(scratch: Path) -> None:
        conformed.write_parquet(
            scratch,
            compression="zstd",
            compression_level=1,
            statistics=True,
            metadata=descriptions(table),
            row_group_size=table.rows_at_once,
        )

    return write_file(path, write)


def write_frames(path: Path, frames: Iterator[pl.DataFrame], table: Table) -> bool:
    """As `write_frame`, of frames that follow each other in the order of the table's key: one at a time is held.

    However the rows are parted among the frames, the bytes are the same.
    """
    failed: list[BaseException] = []

    def source(*_: object) -> Iterator[pl.DataFrame]:
        # what comes out of Polars again would be another error
        try:
            yield from (table.conform(frame) for frame in frames)
        except BaseException as error:
            failed.append(error)
            raise

    def write(scratch: Path) -> None:
        try:
            write_rows(scratch, register_io_source(source, schema=table.schema), table)
        except PolarsError:
            if failed:
                raise failed[0] from None
            raise

    return write_file(path, write)


def write_rows(path: Path, rows: pl.LazyFrame, table: Table) -> None:
    """Write rows that have the table's columns and order as its Parquet file, some at a time; see `write_file`."""
    rows.sink_parquet(
        path,
        compression="zstd",
        compression_level=1,
        statistics=True,
        metadata=descriptions(table),
        row_group_size=table.rows_at_once,
    )


def descriptions(table: Table) -> dict[str, str]:
    """What a table and its columns hold, as it stands in the metadata of its files."""
    columns = {f"column:{column.name}": column.description for column in table.columns}
    return {"table": table.name, "description": table.description} | columns


def remove_file(path: Path) -> None:
    """Remove a file that may be missing, and make that last."""
    if path.exists():
        path.unlink()
        _sync_folder(path.parent)


def read_frame(path: Path, table: Table, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """A table's file, or some of its columns; no rows where it was never written.

    A column that a file of an earlier version lacks is null.
    """
    wanted = columns or table.column_names
    if not path.exists():
        return table.empty().select(wanted)
    there = pl.scan_parquet(path, hive_partitioning=False, glob=False).collect_schema()
    found = pl.read_parquet(
        path, columns=[name for name in wanted if name in there], hive_partitioning=False, glob=False
    )
    lacking = [pl.lit(None, table.schema[name]).alias(name) for name in wanted if name not in there]
    return found.with_columns(lacking).select(wanted) if lacking else found


def scan_frames(paths: list[Path], table: Table) -> pl.LazyFrame:
    """Several files of one table as one lazy frame; no rows when there are none.

    A column that files of earlier versions lack is null there.
    """
    if not paths:
        return table.empty().lazy()
    return pl.scan_parquet(paths, hive_partitioning=False, glob=False, schema=table.schema, missing_columns="insert")


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove_scratch_files(folder: Path) -> list[Path]:
    """Remove what a killed run left under a scratch name."""
    left = sorted(folder.rglob(f"{SCRATCH_PREFIX}*")) if folder.exists() else []
    for path in left:
        path.unlink(missing_ok=True)
    return left


@contextmanager
def lock(home: Home, patience: float = 0) -> Iterator[None]:
    """Hold the home's lock: one run at a time, from the command line and Dagster alike.

    The lock is the operating system's, so a killed run gives it back. A process that holds it may take it again.

    Parameters
    ----------
    patience
        Seconds to wait for another run to end.

    Raises
    ------
    RefusedError
        When the home cannot be written, or another run holds the lock.
    """
    path = home.root / ".lock"
    if path in _held:
        yield
        return
    try:
        file = path.open("a")
    except OSError as error:
        raise RefusedError(
            f"{home.root}: this billing home cannot be written ({error.strerror}): expected a writable folder"
        ) from error
    with file:
        _take(file, path, patience)
        _held.add(path)
        try:
            yield
        finally:
            _held.discard(path)


_held: set[Path] = set()


def _take(file: IO[str], path: Path, patience: float) -> None:
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() >= deadline:
                raise RefusedError(
                    f"{path.parent}: another run is at work in this billing home: wait for it to end, then run again"
                ) from error
        time.sleep(0.2)


def _same_bytes(one: Path, other: Path) -> bool:
    return one.stat().st_size == other.stat().st_size and file_hash(one) == file_hash(other)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
