"""Writing Parquet of which only a piece is held at a time, each column as what it holds is kept best."""

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
"""Texts are handed over as Polars holds them, and not copied."""

_ENCODINGS: Final = {"row": "DELTA_BINARY_PACKED", "time": "DELTA_BINARY_PACKED", "id": "DELTA_LENGTH_BYTE_ARRAY"}
"""Columns of which no two rows need hold the same: no dictionary is tried for them, and no extremes are kept."""


def write_pieces(
    path: Path, frames: Iterable[pl.DataFrame], metadata: Mapping[str, str], *, statistics: bool = False
) -> None:
    """Write frames of one schema as a Parquet file, a row group each; those without rows are left out.

    Parameters
    ----------
    frames
        One at least.
    """
    pieces = iter(frames)
    first = next(pieces)
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
        for frame in chain([first], pieces):
            if len(frame):
                writer.write_table(frame.to_arrow(compat_level=_NEWEST))
            del frame  # before the next is made
        writer.add_key_value_metadata(dict(metadata))


def write_table(path: Path, frames: Iterable[pl.DataFrame], table: Table) -> bool:
    """As `home.write_frame`, of frames that follow each other in the order of the table's key; a row group is held.

    However the rows are parted among the frames, the bytes are the same.
    """
    fitting = (table.fit(frame) for frame in frames)
    groups = _of_length(fitting, table.rows_at_once)
    return write_file(path, lambda scratch: write_pieces(scratch, groups, descriptions(table), statistics=True))


def row_groups(path: Path) -> list[int]:
    """How many rows each row group of a Parquet file has."""
    metadata = pq.read_metadata(path)
    return [metadata.row_group(place).num_rows for place in range(metadata.num_row_groups)]


def _of_length(frames: Iterable[pl.DataFrame], rows: int) -> Iterator[pl.DataFrame]:
    """The rows of frames in frames of so many rows, the last one aside."""
    held: list[pl.DataFrame] = []
    for frame in frames:
        held.append(frame)
        while sum(map(len, held)) >= rows:
            whole = pl.concat(held)
            held = [whole[rows:]]
            yield whole[:rows]
    yield pl.concat(held)
