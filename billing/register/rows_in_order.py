"""Rows of large tables of shards, some at a time, in one order."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import polars as pl

Key = tuple[Any, ...]

_READ_TOGETHER: Final = 1_000
"""At least so many rows are read at once."""


class RowsInOrder:
    """Reads once a table that is sorted by columns of which none is null."""

    def __init__(
        self, rows: pl.LazyFrame, key: Sequence[str], together: int = _READ_TOGETHER, *, by_slices: bool = False
    ) -> None:
        """Begin to read.

        Parameters
        ----------
        by_slices
            Ask for each batch by itself, of rows that are nothing but files: Polars reads a dozen batches ahead
            otherwise, which of the documents of eight shards takes 200 MB.
        """
        together = max(together, _READ_TOGETHER)
        self._batches = (
            _slices(rows, together)
            if by_slices
            else rows.collect_batches(chunk_size=together, maintain_order=True, lazy=True)
        )
        self._key = list(key)
        self._held = rows.collect_schema().to_frame()

    def last_of(self, count: int) -> Key | None:
        """The key of the last row that is held when so many are, or all that are left; None: none is left."""
        while self._held.height < count and self._read():
            pass
        return self._last()

    def through(self, key: Key) -> pl.DataFrame:
        """The rows up to a key that were not returned yet."""
        while ((last := self._last()) is None or last <= key) and self._read():
            pass
        if last is None or last <= key:
            found, self._held = self._held, self._held.clear()
            return found
        count = self._held.select(_is_through(self._key, key).sum()).item()
        found, self._held = self._held[:count], self._held[count:]
        return found

    def _read(self) -> bool:
        following = next(self._batches, None)
        if following is not None:
            self._held = pl.concat([self._held, following]) if self._held.height else following
        return following is not None

    def _last(self) -> Key | None:
        return self._held.select(self._key).row(-1) if self._held.height else None


def _slices(rows: pl.LazyFrame, together: int) -> Iterator[pl.DataFrame]:
    place = 0
    while (found := rows.slice(place, together).collect()).height:
        yield found
        place += together


def ends_of_batches(parts: Sequence[RowsInOrder], count: int) -> Iterator[Key]:
    """Keys that divide the rows of several tables into batches of some `count` rows: read each batch by `through`."""
    of_each = max(1, count // len(parts))
    while ends := [end for part in parts if (end := part.last_of(of_each)) is not None]:
        yield min(ends)


def _is_through(columns: Sequence[str], key: Key) -> pl.Expr:
    """Whether a row is up to a key, column by column."""
    column, value = pl.col(columns[0]), pl.lit(key[0])
    if len(columns) == 1:
        return column <= value
    return (column < value) | ((column == value) & _is_through(columns[1:], key[1:]))
