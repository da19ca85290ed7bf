"""Coupons that are held on a day, and how many documents each is still for (rule 29)."""

from collections.abc import Sequence
from datetime import date

import polars as pl

from billing.model.offers import Coupon


def held_coupons(redeemed: pl.DataFrame, counted: pl.DataFrame, coupons: Sequence[Coupon], as_of: date) -> pl.DataFrame:
    """What is held of coupons after a day.

    Parameters
    ----------
    redeemed
        HOLDING_SCHEMA of `billing.rules.redemptions`.
    counted
        COUNTED_SCHEMA of `billing.rules.coupons`, of billing dates up to the day.

    Returns
    -------
    polars.DataFrame
        subscription_id, coupon, documents_left (null: for ever; those of which none is left have no row); sorted.
    """
    terms = pl.DataFrame(
        [(coupon.name, coupon.documents) for coupon in coupons],
        schema={"coupon": pl.String, "documents": pl.Int64},
        orient="row",
    )
    keys = ["subscription_id", "coupon"]
    held = (
        redeemed.filter(pl.col("revoked_on").is_null() | (pl.col("revoked_on") > as_of))
        .group_by(keys)
        .agg(times=pl.len().cast(pl.Int64), since=pl.col("effective_on").min())
        .join(terms, on="coupon")
    )
    used = (
        counted.join(held.select(*keys, "since"), on=keys)
        .filter(pl.col("billing_date") >= pl.col("since"))
        .group_by(keys)
        .agg(used=pl.len().cast(pl.Int64))
    )
    left = pl.col("documents") * pl.col("times") - pl.col("used").fill_null(0)
    return (
        held.join(used, on=keys, how="left")
        .select(*keys, documents_left=left)
        .filter(pl.col("documents_left").is_null() | (pl.col("documents_left") > 0))
        .sort(keys)
    )
