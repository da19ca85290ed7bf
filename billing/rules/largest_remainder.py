"""Spread a whole amount over parts in proportion, so that they add up to it to the smallest unit."""

from collections.abc import Sequence

import polars as pl

from billing.model.quantities import INTEGER


def spread(frame: pl.DataFrame, *, whole: str, weight: str, over: Sequence[str]) -> pl.DataFrame:
    """`frame` with `part` (Int128): the share of each row in the whole of its group, by the largest remainder.

    Of equal remainders the earlier row takes the unit. No step overflows below 10^18 units.

    Parameters
    ----------
    whole
        Int128, not below 0, the same in all rows of a group.
    weight
        Int128, not below 0; their sum in a group is above 0.
    over
        Columns of a group.
    """
    total = pl.col(weight).sum().over(over)
    shared = frame.with_columns(
        part=pl.col(whole) * pl.col(weight) // total,
        _rest=(pl.col(whole) * pl.col(weight) % total).cast(pl.Int64),
        _place=pl.int_range(pl.len()),
    ).with_columns(_left=pl.col(whole) - pl.col("part").sum().over(over))
    if not shared.select((pl.col("_left") > 0).any()).item():
        return shared.drop("_rest", "_place", "_left")
    ranked = (
        shared.sort("_rest", "_place", descending=[True, False])
        .with_columns(_rank=pl.int_range(pl.len()).over(over))
        .sort("_place")
    )
    more = (pl.col("_rank") < pl.col("_left")).cast(INTEGER)
    return ranked.with_columns(part=pl.col("part") + more).drop("_rest", "_place", "_left", "_rank")
