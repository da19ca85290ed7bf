"""Money owed: what was paid on each document, and what that makes of its status (rules 15, 16 and 25)."""

import polars as pl

from billing.tables import MONEY


def paid_amounts(payments: pl.DataFrame) -> pl.DataFrame:
    """number, paid (succeeded), returned (refunded or disputed), last_attempt (status of the latest attempt)."""
    amount, status = pl.col("amount"), pl.col("status")
    return (
        payments.sort("at", "payment_id")
        .group_by(pl.col("document").alias("number"), maintain_order=True)
        .agg(
            paid=amount.filter(status == "succeeded").sum().cast(MONEY),
            returned=amount.filter(status.is_in(["refunded", "disputed"])).sum().cast(MONEY),
            last_attempt=status.filter(status.is_in(["succeeded", "failed"])).last(),
        )
    )


def with_status(documents: pl.DataFrame, payments: pl.DataFrame) -> pl.DataFrame:
    """`documents` with `status`: open, paid or refunded, as the payments say now.

    A document is paid when what was paid and not returned covers its total; refunded when everything paid went back.
    """
    settled = documents.join(paid_amounts(payments), on="number", how="left", maintain_order="left").with_columns(
        pl.col("paid", "returned").fill_null(0).cast(MONEY)
    )
    kept = pl.col("paid") - pl.col("returned")
    status = (
        pl.when((pl.col("returned") > 0) & (kept <= 0))
        .then(pl.lit("refunded"))
        .when((pl.col("total") >= 0) & (kept >= pl.col("total")))
        .then(pl.lit("paid"))
        .otherwise(pl.lit("open"))
    )
    return settled.with_columns(status=status).drop("paid", "returned", "last_attempt")
