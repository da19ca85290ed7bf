"""Credited documents: which document billed the amount that a true-up gives back (rules 20 and 24).

The taxes of that document apply to what is given back."""

from typing import Final

import polars as pl

from billing.model.codes import LineKind
from billing.model.columns import MONEY
from billing.model.empty_frames import skip_if_empty
from billing.rules.due_items import IDENTITY, due_key, lowered_line

_KEYS: Final = ["subscription_id", "billing_date", *IDENTITY]
_NOTHING: Final = pl.lit(0).cast(MONEY)


@skip_if_empty("differences")
def by_billing_document(differences: pl.DataFrame, billed: pl.DataFrame) -> pl.DataFrame:
    """Split `differences` by the document that billed them: adds amount and gives_back.

    Last billed, first given back. Most differences concern one document. What a coupon takes off or no longer does goes
    with the line that it lowers.

    Parameters
    ----------
    differences
        As `open_differences`.
    billed
        As `Register.lines_of_accounts`, of their accounts and dates.

    Returns
    -------
    polars.DataFrame
        In the order of `differences`; amount (MONEY) is what is due less what was issued, or a part of that; gives_back
        is null where more is due than was issued.
    """
    numbered = differences.with_row_index("_place")
    is_coupon = pl.col("kind") == LineKind.COUPON
    coupons = numbered.filter(is_coupon)
    if coupons.is_empty():
        return _by_document(numbered, billed).drop("_place")
    others = _by_document(numbered.filter(~is_coupon), billed)
    with_coupons = _coupons_by_document(coupons, others, billed).select(others.columns)
    return pl.concat([others, with_coupons]).sort("_place", maintain_order=True).drop("_place")


@skip_if_empty("coupons")
def _coupons_by_document(coupons: pl.DataFrame, others: pl.DataFrame, billed: pl.DataFrame) -> pl.DataFrame:
    date = ["subscription_id", "billing_date"]
    document = pl.coalesce("gives_back", "corrects", "number")
    key = due_key()
    first = (
        billed.select(
            "subscription_id",
            "metric",
            "due_item",
            "amount",
            billing_date="due_on",
            kind="due_kind",
            document=document,
        )
        .select(*date, "document", key=key)
        .unique([*date, "key"], keep="first", maintain_order=True)
    )
    more = others.filter(pl.col("amount") > 0).select(*date, lowers=key, is_more=pl.lit(value=True)).unique()
    found = (
        coupons.with_columns(amount=(pl.col("due") - pl.col("issued")).cast(MONEY), own=key, lowers=lowered_line())
        .join(first.rename({"key": "own", "document": "took"}), on=[*date, "own"], how="left", maintain_order="left")
        .join(
            first.rename({"key": "lowers", "document": "billed_by"}),
            on=[*date, "lowers"],
            how="left",
            maintain_order="left",
        )
        .join(more, on=[*date, "lowers"], how="left", maintain_order="left")
    )
    of_less = pl.when(pl.col("is_more").is_null()).then("billed_by")
    return found.with_columns(gives_back=pl.when(pl.col("amount") > 0).then("took").otherwise(of_less))


@skip_if_empty("numbered")
def _by_document(numbered: pl.DataFrame, billed: pl.DataFrame) -> pl.DataFrame:
    """As `by_billing_document`, of `numbered` with `_place`, and without coupons."""
    whole = numbered.with_columns(amount=(pl.col("due") - pl.col("issued")).cast(MONEY))
    less = whole.filter(pl.col("amount") < 0).select("_place", *_KEYS, give=-pl.col("amount"))
    left = (
        billed.select(
            "subscription_id",
            "issued_on",
            "metric",
            "due_item",
            "amount",
            billing_date="due_on",
            kind="due_kind",
            gives_back=pl.coalesce("gives_back", "corrects", "number"),
        )
        .join(less, on=_KEYS, nulls_equal=True)
        .group_by("_place", "give", "gives_back")
        .agg(pl.col("amount").sum().cast(MONEY), pl.col("issued_on").min())
        .filter(pl.col("amount") > 0)
        .sort("_place", "issued_on", "gives_back", descending=[False, True, True])
    )
    taken = (
        left.with_columns(before=(pl.col("amount").cum_sum() - pl.col("amount")).over("_place"))
        .with_columns(part=pl.min_horizontal("amount", pl.col("give") - pl.col("before")).cast(MONEY))
        .filter(pl.col("part") > 0)
        .select("_place", "gives_back", "part")
    )
    # Amounts that no line of the register bills: the register was changed by hand.
    rest = (
        less.join(taken.group_by("_place").agg(pl.col("part").sum()), on="_place", how="left")
        .select("_place", gives_back=pl.lit(None, pl.String), part=pl.col("give") - pl.col("part").fill_null(_NOTHING))
        .filter(pl.col("part") > 0)
    )
    parts = pl.concat([taken, rest.select(taken.columns).cast(pl.Schema(taken.schema))])
    return (
        whole.join(parts, on="_place", how="left", maintain_order="left_right")
        .with_columns(amount=pl.coalesce(-pl.col("part"), "amount").cast(MONEY))
        .drop("part")
    )
