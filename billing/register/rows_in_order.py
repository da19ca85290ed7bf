"""Rows of a large table, some at a time, in its order."""

from typing import Final

import polars as pl

_READ_TOGETHER: Final = 1_000


class RowsInOrder:
    """Reads a table once."""

    def __init__(self, rows: pl.LazyFrame) -> None:
        self._batches = rows.collect_batches(chunk_size=_READ_TOGETHER, maintain_order=True, lazy=True)
        self._held = rows.collect_schema().to_frame()

    def next(self, count: int) -> pl.DataFrame:
        """So many of the rows that were not read yet; fewer at the end."""
        found, missing = [self._held[:count]], count - self._held.height
        self._held = self._held[count:]
        while missing > 0 and (following := next(self._batches, None)) is not None:
            found.append(following[:missing])
            self._held = following[missing:]
            missing -= following.height
        return pl.concat(found)
