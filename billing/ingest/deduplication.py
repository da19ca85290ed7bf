"""Event deduplication: identity is (source, id) over all deliveries (rule 26)."""

from collections.abc import Sequence
from typing import Final

import polars as pl

from billing.model.codes import RejectReason
from billing.model.columns import INSTANT, Column, Table

FIRST: Final = "first"
DUPLICATE: Final = "duplicate"
CONFLICTING: Final = RejectReason.CONFLICTING.value

REPEATS = Table(
    "repeats",
    "Delivered rows whose event was delivered more than once; every other valid row is the only one of its event.",
    (
        Column("file", pl.String, "File within the delivery day"),
        Column("row", pl.Int64, "Row in the file, from 1"),
        Column("mark", pl.String, "first (it counts), duplicate (same content) or conflicting (other content)"),
        Column("repeats", pl.Int64, "Of a first row: its duplicates in all deliveries; else 0"),
        Column("account_id", pl.String, "The account that the row names"),
        Column("time", INSTANT, "The instant of the usage that the row tells of"),
        Column("metrics", pl.List(pl.String), "The metrics that measure the row"),
    ),
    ("file", "row"),
)

_SORTED_TOGETHER: Final = 4_000_000

CANDIDATE: Final[dict[str, pl.DataType | type[pl.DataType]]] = {
    "delivery_day": pl.Date,
    "file": pl.String,
    "row": pl.Int64,
    "source": pl.String,
    "id": pl.String,
    "content": pl.String,
    "account_id": pl.String,
    "type": pl.String,
    "time": INSTANT,
    "metrics": pl.List(pl.String),
}
"""Rows to deduplicate; `content` is equal when account, type, instant, measured values and dimensions are."""


def identity_hash() -> pl.Expr:
    """A 64-bit hash of (source, id): rows with a unique hash have no duplicate, rows that share one may have.

    A cache key only, never stored in a table or used to sort: it differs between versions of Polars.
    """
    return pl.col("source").hash(1) ^ (pl.col("id").hash(2) * 3)


def shared_hashes(hashes: Sequence[pl.Series]) -> pl.Series:
    """Hashes that occur more than once, distinct and sorted; nulls are ignored.

    Processes one partition of the hash space at a time to bound memory.
    """
    total = sum(len(series) for series in hashes)
    bits = max(0, (total // _SORTED_TOGETHER).bit_length())
    found = [_no_hashes()]
    for part in range(2**bits) if hashes else ():
        column = pl.concat([_partition(series, part, bits) for series in hashes]).drop_nulls().sort()
        # Equal hashes are adjacent after the sort.
        found.append(column.filter(column == column.shift(1)).unique(maintain_order=True))
    return pl.concat(found)


def _partition(hashes: pl.Series, part: int, bits: int) -> pl.Series:
    """The hashes whose highest bits are `part`, a partition of the hash space."""
    width = 2 ** (64 - bits)
    return hashes.filter(hashes.is_between(part * width, (part + 1) * width - 1)) if bits else hashes


def resolve(candidates: pl.DataFrame) -> pl.DataFrame:
    """Mark which of several deliveries of an event counts.

    Rule 26: the first by delivery day, file and row counts. A later row with the same content is a duplicate, with
    other content it is conflicting.

    Parameters
    ----------
    candidates
        CANDIDATE: every valid row of the events to resolve; where they were resolved before also `before`, their mark.
        A value or dimension that the catalogue reads since then makes no earlier pair conflicting.

    Returns
    -------
    polars.DataFrame
        delivery_day and the columns of REPEATS; events with a single row are left out.
    """
    event = ["source", "id"]
    ordered = candidates.sort(*event, "delivery_day", "file", "row")
    same = _is_as_first("content", event)
    if "before" in candidates.columns:
        was_pair = (pl.col("before") == DUPLICATE) & (pl.col("before").first().over(event) == FIRST)
        for name in ("account_id", "type", "time"):
            was_pair &= _is_as_first(name, event)
        same |= was_pair.fill_null(value=False)
    return (
        ordered.with_columns(
            is_first=pl.struct(event).is_first_distinct(),
            rows=pl.len().over(event),
            same=same,
        )
        .filter(pl.col("rows") > 1)
        .with_columns(duplicates=pl.col("same").cast(pl.Int64).sum().over(event) - 1)
        .select(
            "delivery_day",
            "file",
            "row",
            mark=pl.when("is_first")
            .then(pl.lit(FIRST))
            .when("same")
            .then(pl.lit(DUPLICATE))
            .otherwise(pl.lit(CONFLICTING)),
            repeats=pl.when("is_first").then("duplicates").otherwise(pl.lit(0, pl.Int64)),
            account_id="account_id",
            time="time",
            metrics="metrics",
        )
    )


def _is_as_first(column: str, event: Sequence[str]) -> pl.Expr:
    """Whether a column is what it is in the first row of the event."""
    return pl.col(column).eq_missing(pl.col(column).first().over(event))


def _no_hashes() -> pl.Series:
    return pl.Series(dtype=pl.UInt64)
