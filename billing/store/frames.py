"""Parquet files of the lake's tables: writers and readers."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

import polars as pl
from polars.exceptions import ColumnNotFoundError, PolarsError
from polars.io.plugins import register_io_source

from billing.model.columns import Table
from billing.store.files import write_file

_SMALL: Final = 16_384
"""Bytes of a file that is kept in memory, as of a few hundred accounts."""


def write_frame(
    path: Path, frame: pl.DataFrame, table: Table, *, in_order: bool = False, rows_at_once: int | None = None
) -> bool:
    """Write a frame as the table's Parquet file: its columns, sorted by its key, with descriptions and statistics.

    Equal frames give equal bytes. See `write_file`.

    Parameters
    ----------
    in_order
        The frame is already sorted by the table's key.
    rows_at_once
        Rows of a row group, the table's unless given.
    """
    conformed = table.fit(frame) if in_order else table.conform(frame)

    def write(scratch: Path) -> None:
        conformed.write_parquet(
            scratch,
            compression="zstd",
            compression_level=1,
            statistics=True,
            metadata=descriptions(table),
            row_group_size=rows_at_once or table.rows_at_once,
        )

    return write_file(path, write)


def write_frames(path: Path, frames: Iterator[pl.DataFrame], table: Table, rows_at_once: int | None = None) -> bool:
    """As `write_frame`, for frames sorted by the table's key one after the other; holds one in memory.

    The bytes do not depend on how the rows are split into frames.
    """
    failed: list[BaseException] = []

    def source(*_: object) -> Iterator[pl.DataFrame]:
        # Keep the original exception: Polars would wrap it in another one.
        try:
            yield from (table.conform(frame) for frame in frames)
        except BaseException as error:
            failed.append(error)
            raise

    def write(scratch: Path) -> None:
        try:
            write_rows(scratch, register_io_source(source, schema=table.schema), table, rows_at_once)
        except PolarsError:
            if failed:
                raise failed[0] from None
            raise

    return write_file(path, write)


def write_rows(path: Path, rows: pl.LazyFrame, table: Table, rows_at_once: int | None = None) -> None:
    """Stream rows with the table's columns and order into its Parquet file; see `write_file`.

    Parameters
    ----------
    rows_at_once
        Rows of a row group, the table's unless given.
    """
    rows.sink_parquet(
        path,
        compression="zstd",
        compression_level=1,
        statistics=True,
        metadata=descriptions(table),
        row_group_size=rows_at_once or table.rows_at_once,
    )


def descriptions(table: Table) -> dict[str, str]:
    """Descriptions of a table and its columns, for the metadata of its files."""
    columns = {f"column:{column.name}": column.description for column in table.columns}
    return {"table": table.name, "description": table.description} | columns


def read_frame(path: Path, table: Table, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """Read a table's file, or some of its columns; empty when the file does not exist.

    A column missing from a file of an earlier version is null.
    """
    wanted = list(columns or table.column_names)
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return table.empty().select(wanted)
    try:
        if status.st_size > _SMALL:
            return _read(path, wanted)
        changed = (status.st_mtime_ns, status.st_ctime_ns)
        return _read_once(path, tuple(wanted), status.st_ino, status.st_size, *changed).clone()
    except ColumnNotFoundError:
        return _read_earlier(path, table, wanted)


def _read(path: Path, wanted: Sequence[str]) -> pl.DataFrame:
    return pl.read_parquet(path, columns=list(wanted), hive_partitioning=False, glob=False)


@lru_cache(maxsize=64)
def _read_once(path: Path, wanted: tuple[str, ...], *_: int) -> pl.DataFrame:
    """Cached rows of a small file by its metadata: files are only ever replaced, and a month reads each twice."""
    return _read(path, wanted)


def _read_earlier(path: Path, table: Table, wanted: Sequence[str]) -> pl.DataFrame:
    there = pl.scan_parquet(path, hive_partitioning=False, glob=False).collect_schema()
    found = pl.read_parquet(
        path, columns=[name for name in wanted if name in there], hive_partitioning=False, glob=False
    )
    lacking = [pl.lit(None, table.schema[name]).alias(name) for name in wanted if name not in there]
    return found.with_columns(lacking).select(wanted)


def scan_frames(paths: list[Path], table: Table) -> pl.LazyFrame:
    """Scan several files of one table as one lazy frame; empty when there are none.

    A column missing from files of earlier versions is null.
    """
    if not paths:
        return table.empty().lazy()
    return pl.scan_parquet(paths, hive_partitioning=False, glob=False, schema=table.schema, missing_columns="insert")
