"""Verify prepaid credits: uses add up to documents, and to what grants have paid (rule 33)."""

from collections.abc import Callable, Iterator
from decimal import Decimal

import polars as pl

from billing.model.columns import MONEY
from billing.rules.prepaid_credits import uses_left

_ZERO = pl.lit(0).cast(MONEY)


def credit_disagreements(
    documents: pl.DataFrame, uses: pl.DataFrame, credits: pl.DataFrame, amount: Callable[[Decimal], str]
) -> Iterator[str]:
    """Where credits do not add up, in words.

    Parameters
    ----------
    documents, uses
        As `Register.documents` and `Register.credit_uses`.
    credits
        The table CREDITS.
    amount
        An amount as text.
    """
    sums = uses.group_by("number").agg(uses=pl.col("amount").sum())
    both = documents.join(sums, on="number", how="left").with_columns(pl.col("uses").fill_null(_ZERO)).sort("number")
    for number, used, applied in (
        both.filter(pl.col("uses") != pl.col("credits_applied")).select("number", "uses", "credits_applied").iter_rows()
    ):
        yield f"{number}: its credits add up to {amount(used)}, it says {amount(applied)}"
    for number in uses.join(documents, on="number", how="anti")["number"].unique().sort():
        yield f"{number}: the register has credits of it and no such document"
    over = both.filter(pl.col("credits_applied").abs() > pl.col("total").abs())
    for number, applied, total in over.select("number", "credits_applied", "total").iter_rows():
        yield f"{number}: its credits of {amount(applied)} are more than its total {amount(total)}"
    too_much = uses_left(uses).filter(pl.col("amount") < 0).sort("number", "grant_id")
    for number, grant, left in too_much.select("number", "grant_id", "amount").iter_rows():
        yield f"{number}: credit notes gave {amount(-left)} more back to the grant {grant} than it paid"
    parts = pl.col("used") + pl.col("left") + pl.col("expired")
    wrong = credits.filter((parts != pl.col("amount")) | (pl.min_horizontal("used", "left", "expired") < 0))
    for grant, used, left, expired, granted in wrong.select(
        "grant_id", "used", "left", "expired", "amount"
    ).iter_rows():
        yield (
            f"credits: of {grant} {amount(used)} used, {amount(left)} left and {amount(expired)} expired are not "
            f"the {amount(granted)} granted"
        )
