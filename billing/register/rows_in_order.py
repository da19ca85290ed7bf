"""Rows of a large table, some at a time: those of the next documents, in the order of the table."""

from collections.abc import Callable
from typing import Final

import polars as pl

_READ_TOGETHER: Final = 1_000


class RowsInOrder:
    """Reads a table once, in its order: by billing date, account and subscription.

    Parameters
    ----------
    rows
        Sorted by these columns.
    """

    def __init__(self, rows: pl.LazyFrame) -> None:
        self._batches = rows.collect_batches(chunk_size=_READ_TOGETHER, maintain_order=True, lazy=True)
        self._held = rows.collect_schema().to_frame()

    def next(self, count: int) -> pl.DataFrame:
        """The next rows that were not read yet."""
        return self._take(lambda held, taken: min(held.height, count - taken), until=count)

    def through(self, documents: pl.DataFrame) -> pl.DataFrame:
        """The rows that were not read yet, up to those of the last of some documents."""
        last = documents.select("billing_date", "account_id", "subscription_id").row(-1)
        return self._take(lambda held, _: int(held.select(_is_up_to(last)).to_series().sum()))

    def _take(self, fitting: Callable[[pl.DataFrame, int], int], until: int | None = None) -> pl.DataFrame:
        """Take rows while all that are held fit."""
        found, taken = [self._held.clear()], 0
        while True:
            count = fitting(self._held, taken)
            found.append(self._held[:count])
            taken += count
            self._held = self._held[count:]
            if not self._held.is_empty() or taken == until:
                return pl.concat(found)
            following = next(self._batches, None)
            if following is None:
                return pl.concat(found)
            self._held = following


def _is_up_to(document: tuple[object, ...]) -> pl.Expr:
    """Whether a row is of a document, or of one before it."""
    day, account, subscription = (pl.lit(value) for value in document)
    same_account = (pl.col("account_id") < account) | (
        (pl.col("account_id") == account) & (pl.col("subscription_id") <= subscription)
    )
    return (pl.col("billing_date") < day) | ((pl.col("billing_date") == day) & same_account)
