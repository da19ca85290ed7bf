"""Streaming Parquet writer: holds one row group at a time, with an encoding per column."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Final

import polars as pl
import pyarrow.parquet as pq

from billing.model.columns import Table
from billing.store.files import write_file
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
    others = [name for name in first.columns if name not in _ENCODINGS]
    with pq.ParquetWriter(
        path,
        first.to_arrow(compat_level=_NEWEST).schema,
        compression="zstd",
        compression_level=1,
        use_dictionary=others,
        column_encoding={name: _ENCODINGS[name] for name in first.columns if name in _ENCODINGS},
        write_statistics=others if statistics else False,
        store_schema=False,
    ) as writer:
        for frame in chain([first], groups):
            if len(frame):
                writer.write_table(frame.to_arrow(compat_level=_NEWEST))
            del frame  # Free it before the next is made.
        writer.add_key_value_metadata(dict(metadata))


def write_table(path: Path, frames: Iterable[pl.DataFrame], table: Table) -> bool:
    """As `frames.write_frame`, for frames sorted by the table's key one after the other; holds one row group in memory.

    The bytes do not depend on how the rows are split into frames.
    """
    fitting = (table.fit(frame) for frame in frames)
    groups = _rebatch(fitting, table.rows_at_once)
    return write_file(path, lambda scratch: write_row_groups(scratch, groups, descriptions(table), statistics=True))


def row_groups(path: Path) -> list[int]:
    """Row count of each row group of a Parquet file."""
    metadata = pq.read_metadata(path)
    return [metadata.row_group(place).num_rows for place in range(metadata.num_row_groups)]


def _rebatch(frames: Iterable[pl.DataFrame], rows: int) -> Iterator[pl.DataFrame]:
    """Rebatch frames to frames of `rows` rows, the last one aside."""
    held: list[pl.DataFrame] = []
    for frame in frames:
        held.append(frame)
        while sum(map(len, held)) >= rows:
            whole = pl.concat(held)
            held = [whole[rows:]]
            yield whole[:rows]
    yield pl.concat(held)
