"""Streaming Parquet writer: holds one row group at a time, with an encoding per column."""

import os
from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Final, Self

import polars as pl
import pyarrow.parquet as pq

from billing.model.columns import Table
from billing.store.files import scratch_path, write_file
from billing.store.frames import descriptions

_NEWEST: Final = pl.CompatLevel.newest()
"""Hand texts over in the layout of Polars, zero-copy."""

_ENCODINGS: Final = {"row": "DELTA_BINARY_PACKED", "time": "DELTA_BINARY_PACKED", "id": "DELTA_LENGTH_BYTE_ARRAY"}
"""Columns of mostly distinct values: write no dictionary and no statistics."""


def write_row_groups(
    path: Path, frames: Iterable[pl.DataFrame], metadata: Mapping[str, str], *, statistics: bool = False
) -> None:
    """Write frames of one schema as a Parquet file, one row group each; empty frames are left out.

    Parameters
    ----------
    frames
        At least one.
    """
    groups = iter(frames)
    first = next(groups)
    with _writer(path, first, statistics=statistics) as writer:
        for frame in chain([first], groups):
            if len(frame):
                writer.write_table(frame.to_arrow(compat_level=_NEWEST))
            del frame  # Free it before the next is made.
        writer.add_key_value_metadata(dict(metadata))


class TableFile:
    """A table's Parquet file that is written bit by bit: it stands under its path when it is closed, whole.

    Used in a `with`: what is not closed there is thrown away.
    """

    def __init__(self, path: Path, table: Table) -> None:
        self.path = path
        self._table = table
        path.parent.mkdir(parents=True, exist_ok=True)
        self._scratch = scratch_path(path.with_name(f"rows-{path.name}"), os.getpid())
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        self._scratch.unlink(missing_ok=True)

    def add(self, rows: pl.DataFrame) -> None:
        """Write rows with the table's columns, sorted by its key after those before them, as a row group."""
        if self._writer is None:
            self._writer = _writer(self._scratch, rows, statistics=True)
        self._writer.write_table(rows.to_arrow(compat_level=_NEWEST))

    def close(self) -> bool:
        """Put the file in place; see `write_file`."""
        if self._writer is not None:
            self._writer.add_key_value_metadata(descriptions(self._table))
        self._end()

        def move(scratch: Path) -> None:
            self._scratch.replace(scratch)

        return write_file(self.path, move)

    def _end(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def row_groups(path: Path) -> list[int]:
    """Row count of each row group of a Parquet file."""
    metadata = pq.read_metadata(path)
    return [metadata.row_group(place).num_rows for place in range(metadata.num_row_groups)]


def _writer(path: Path, first: pl.DataFrame, *, statistics: bool) -> pq.ParquetWriter:
    others = [name for name in first.columns if name not in _ENCODINGS]
    return pq.ParquetWriter(
        path,
        first.to_arrow(compat_level=_NEWEST).schema,
        compression="zstd",
        compression_level=1,
        use_dictionary=others,
        column_encoding={name: _ENCODINGS[name] for name in first.columns if name in _ENCODINGS},
        write_statistics=others if statistics else False,
        store_schema=False,
    )
