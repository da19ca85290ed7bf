"""What a month billed by kind of line, where more is sold than packages and overage."""

from typing import Final

import polars as pl

from billing.model.codes import SCHEDULED, LineKind
from billing.model.columns import MONEY

_USUAL: Final = (LineKind.PACKAGE_FEE, LineKind.HOLD_FEE, LineKind.OVERAGE)
_TITLES: Final = {
    LineKind.PACKAGE_FEE: "package fees",
    LineKind.HOLD_FEE: "hold fees",
    LineKind.PRORATION: "changes within the cycle",
    LineKind.SEATS: "seats",
    LineKind.ADD_ON: "add-ons",
    LineKind.OVERAGE: "overage",
    LineKind.CHARGE: "one-off charges",
    LineKind.PREPAYMENT: "prepayments",
    LineKind.MINIMUM_SPEND: "minimum spends",
    LineKind.COUPON: "discounts",
}


def sums_by_kind(lines: pl.DataFrame) -> pl.DataFrame:
    """kind, documents, amount (MONEY): sums of a month's lines.

    Parameters
    ----------
    lines
        subscription_id, billing_date, number (null on a draft), kind, amount.
    """
    return (
        lines.with_columns(_document=pl.struct("subscription_id", "billing_date", "number"))
        .group_by("kind")
        .agg(documents=pl.col("_document").n_unique(), amount=pl.col("amount").sum().cast(MONEY))
    )


def billed_by_kind(sums: pl.DataFrame) -> pl.DataFrame:
    """Sums of a month's lines by kind, in the order of a page.

    Parameters
    ----------
    sums
        As `sums_by_kind`.

    Returns
    -------
    polars.DataFrame
        what (words), documents, amount (MONEY): they add up to the net of the month. Empty where there are only fees,
        overage and what settles earlier cycles.
    """
    places = {kind.value: place for place, kind in enumerate(SCHEDULED)}
    place = pl.col("kind").replace_strict(places, default=len(places), return_dtype=pl.Int32)
    sold = [kind for kind in SCHEDULED if kind not in (*_USUAL, LineKind.PRIOR_CYCLE)]
    found = sums.sort(place, "kind") if sums["kind"].is_in(sold).any() else sums.clear()
    words = pl.col("kind").replace({kind.value: title for kind, title in _TITLES.items()}).str.replace_all("_", " ")
    return found.select("documents", "amount", what=words).select("what", "documents", "amount")
