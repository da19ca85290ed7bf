"""What coupons take off what is learnt later: they are taken again over their document as known now (rule 29)."""

from typing import Final

import polars as pl

from billing.model.codes import LineKind
from billing.model.columns import MONEY
from billing.rules.due_items import IDENTITY, due_key, lowered_line
from billing.rules.largest_remainder import spread

_DOCUMENT: Final = ["account_id", "subscription_id", "billing_date"]


def with_coupons_on_what_moved(differences: pl.DataFrame, decimals: int) -> pl.DataFrame:
    """`differences` with what a coupon takes off a document now, less what it took off, on the lines that moved.

    Another spread of the same amount settles nothing. Where no line that the coupon lowers moved (it was revoked, or
    redeemed late), each line has its own difference.

    Parameters
    ----------
    differences
        As `open_differences`.
    decimals
        Of the minor unit.
    """
    is_coupon = pl.col("kind") == LineKind.COUPON
    coupons = differences.filter(is_coupon)
    if coupons.is_empty():
        return differences
    others = differences.filter(~is_coupon)
    unit = 10 ** (MONEY.scale - decimals)
    difference = (pl.col("due") - pl.col("issued")).cast(MONEY).to_physical().cast(pl.Int128) // unit
    of_document = (
        coupons.with_columns(_difference=difference, _lowers=lowered_line())
        .with_columns(_whole=pl.col("_difference").sum().over(*_DOCUMENT, "coupon"))
        .filter(pl.col("_whole") != 0)
    )
    moved = others.select(
        *_DOCUMENT,
        _lowers=due_key(),
        _weight=difference.abs(),
    )
    placed = of_document.join(moved, on=[*_DOCUMENT, "_lowers"], how="left", maintain_order="left").with_columns(
        _sum=pl.col("_weight").sum().over(*_DOCUMENT, "coupon")
    )
    moving = placed.filter((pl.col("_sum") > 0) & pl.col("_weight").is_not_null())
    parts = spread(
        moving.with_columns(_size=pl.col("_whole").abs()), whole="_size", weight="_weight", over=[*_DOCUMENT, "coupon"]
    ).with_columns(part=pl.col("part") * pl.col("_whole").sign())
    money = (pl.col("part") * unit).reinterpret(dtype=pl.Decimal(38, MONEY.scale)).cast(MONEY)
    moved_coupons = parts.with_columns(due=(pl.col("issued") + money).cast(MONEY)).filter(pl.col("part") != 0)
    unmoved = placed.filter(pl.col("_sum") == 0)
    columns = differences.columns
    return pl.concat([others, moved_coupons.select(columns), unmoved.select(columns)]).sort(*_DOCUMENT, *IDENTITY)
