"""Rows of a large table, some at a time: those of the next documents, in the order of the table."""

from typing import Final

import polars as pl

_READ_TOGETHER: Final = 10_000
_DOCUMENT: Final = ("billing_date", "account_id", "subscription_id")


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

    def through(self, document: tuple[object, ...]) -> pl.DataFrame:
        """The rows that were not read yet, up to those of a document, which is given by the three columns."""
        found = []
        while True:
            reached = self._held.select(_is_up_to(document)).to_series().sum()
            found.append(self._held[:reached])
            self._held = self._held[reached:]
            if not self._held.is_empty():
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
