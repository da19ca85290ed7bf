"""True-up lines: the details of a line that settles an earlier cycle. They answer "why am I billed this now?".

Rules 20 and 23: what is due now and its calculation, what was billed before and for how much, and what changed.
"""

from typing import Final

import polars as pl

from billing.documents.content_lists import SETTLES, plain_text, tariffs
from billing.model.catalogue import Catalogue
from billing.model.codes import FeeReason, LineKind
from billing.model.columns import PRICE
from billing.rules.terms import TermsFrames, with_terms

_KEYS: Final = ["subscription_id", "billing_date", "kind", "metric"]
_MEASURED: Final = ("package", "cycle_start", "cycle_end", "quantity", "allowance", "excess")
_NO_FEE: Final = {
    FeeReason.TERM: "No fee falls due on this date: it lies inside a term that is paid.",
    FeeReason.CANCELLED: "No fee is due on this date: the subscription is cancelled.",
    FeeReason.HELD: "No fee is due on this date: the subscription is on hold.",
    FeeReason.REFUNDED: "No fee is due on this date: the subscription ended with a refund.",
    FeeReason.SUSPENDED: "No fee is due on this date: access was suspended.",
}


def with_settlements(
    differences: pl.DataFrame,
    charges: pl.LazyFrame,
    cycles: pl.LazyFrame,
    billed: pl.DataFrame,
    terms: TermsFrames,
    catalogue: Catalogue,
) -> pl.DataFrame:
    """Add the details of their lines to `differences`.

    Parameters
    ----------
    differences
        As `open_differences`.
    charges, cycles
        The tables CHARGES and CYCLES of their months.
    billed
        As `Register.lines_of_accounts`, of their accounts and dates.

    Returns
    -------
    polars.DataFrame
        In the order of `differences`; package, cycle, quantity, allowance and excess also where nothing is due any
        more; tariff (as a page shows it; null on a fee, and where nothing is charged for what is over) and settles
        (SETTLES).
    """
    if differences.is_empty():
        return differences.with_columns(
            tariff=pl.lit(None, tariffs(catalogue).schema["tariff"]), settles=pl.lit(None, SETTLES)
        )
    measured = (
        charges.select(
            "subscription_id",
            "metric",
            *_MEASURED,
            billing_date="cycle_end",
            kind=pl.lit(LineKind.OVERAGE),
            _closed=True,
        )
        .join(differences.lazy().select(_KEYS), on=_KEYS, how="semi")
        .collect()
    )
    dates = (
        cycles.select("subscription_id", "billing_date", "fee_reason", _is_date=True)
        .join(differences.lazy().select("subscription_id", "billing_date"), on=["subscription_id", "billing_date"])
        .unique()
        .collect()
    )
    before = _billed_before(differences, billed, catalogue)
    known = (
        differences.join(measured, on=_KEYS, how="left", suffix="_measured", maintain_order="left")
        .with_columns(pl.coalesce(name, f"{name}_measured") for name in _MEASURED)
        .join(dates, on=["subscription_id", "billing_date"], how="left", maintain_order="left")
        .join(before, on=_KEYS, how="left", nulls_equal=True, maintain_order="left")
    )
    used = known.with_columns(_usage=pl.when(pl.col("kind") == LineKind.OVERAGE).then("cycle_start"))
    rated = with_terms(used, terms, on="_usage", or_first=True).join(
        tariffs(catalogue), on=["terms_key", "package", "since", "metric"], how="left", maintain_order="left"
    )
    settles = pl.struct(
        due=_amount("due", catalogue),
        billed=_amount("issued", catalogue),
        fee=pl.when(pl.col("kind") != LineKind.OVERAGE).then("description"),
        why=_why(catalogue),
        minimum="minimum",
        maximum="maximum",
        documents=pl.col("documents").fill_null([]),
    )
    return rated.select(*differences.columns, "tariff", settles=settles)


def _billed_before(differences: pl.DataFrame, billed: pl.DataFrame, catalogue: Catalogue) -> pl.DataFrame:
    """_KEYS, documents (what billed it, in the order of issue); the last one's quantity, allowance, price, words."""
    entry = pl.struct(
        number="number",
        line="line",
        amount=_amount("amount", catalogue),
        quantity=plain_text(pl.col("quantity")),
        allowance=plain_text(pl.col("allowance")),
        description="description",
    )
    lines = (
        billed.with_columns(settles=pl.col("kind") != pl.col("due_kind"))
        .drop("kind")
        .rename({"due_on": "billing_date", "due_kind": "kind"})
    )
    return (
        lines.join(differences.select(_KEYS), on=_KEYS, how="semi", nulls_equal=True, maintain_order="left")
        .group_by(_KEYS, maintain_order=True)
        .agg(
            documents=entry,
            last_quantity=pl.col("quantity").last(),
            last_allowance=pl.col("allowance").last(),
            last_unit_price=pl.col("unit_price").last(),
            own_description=pl.col("description").filter(~pl.col("settles")).last(),
        )
    )


def _why(catalogue: Catalogue) -> pl.Expr:
    """What changed, in words a customer understands; null where the amounts explain themselves."""
    is_metric = pl.col("metric").is_in([metric.name for metric in catalogue.metrics])
    fee, was_billed = pl.col("kind") != LineKind.OVERAGE, pl.col("documents").is_not_null()
    gone = pl.col("description").is_null()
    return (
        pl.when(pl.col("_is_date").is_null())
        .then(pl.lit("This date is none of the subscription's billing dates any more: nothing is due on it."))
        .when(fee & gone & (pl.col("kind") == LineKind.PACKAGE_FEE))
        .then(
            pl.col("fee_reason").replace_strict(_NO_FEE, default="No fee is due on this date.", return_dtype=pl.String)
        )
        .when(fee & gone)
        .then(pl.lit("No hold fee is due on this date."))
        .when(fee & ~was_billed)
        .then(pl.lit("It was not billed when it fell due."))
        .when(fee & (pl.col("issued") == 0))
        .then(pl.lit("It is due after all: what was billed for it had been given back."))
        .when(fee & (pl.col("description") == pl.col("own_description")))
        .then(pl.lit("The same fee has another price now."))
        .when(fee)
        .then(pl.lit("Another fee is due now than was billed."))
        .when(~is_metric)
        .then(pl.format("The catalogue in force has no {} any more: nothing is due for it.", "metric"))
        .when(pl.col("_closed").is_null())
        .then(pl.lit("This cycle is none of the subscription's any more: nothing is due for it."))
        .when(~was_billed)
        .then(pl.lit("It cost nothing by what was known when the cycle was billed."))
        .when(pl.col("last_quantity").is_null())
        .then(None)
        .otherwise(_what_moved())
    )


def _what_moved() -> pl.Expr:
    """Which of usage, allowance and price changed since the cycle was billed last."""
    quantity, last = pl.col("quantity"), pl.col("last_quantity")
    usage = (
        pl.when(quantity > last)
        .then(pl.lit("More usage of the cycle counts now than when it was billed"))
        .when(quantity < last)
        .then(pl.lit("Less usage of the cycle counts now than when it was billed"))
        .otherwise(pl.lit("The usage is the same"))
    )
    is_same, allowance = quantity == last, pl.col("allowance").ne_missing(pl.col("last_allowance"))
    tariff = pl.col("tariff")
    model, unit_price = tariff.struct.field("model"), tariff.struct.field("tiers").list.first()
    # Lines of other tariff models store the price of the tier that was reached, or none.
    is_other = (
        pl.when(model.is_null())
        .then(pl.lit(True))
        .when(model == "block")
        .then(unit_price.struct.field("unit_price").cast(PRICE) != pl.col("last_unit_price"))
    )
    price = (is_other & (pl.col("excess") > 0)).fill_null(value=False) | (is_same & ~allowance)
    moved = (
        pl.when(allowance & price)
        .then(pl.lit("allowance and price are others now"))
        .when(allowance)
        .then(pl.lit("the allowance is another now"))
        .when(price)
        .then(pl.lit("its price is another now"))
    )
    joint = pl.when(is_same).then(pl.lit(", ")).otherwise(pl.lit(", and "))
    return pl.when(moved.is_null()).then(pl.format("{}.", usage)).otherwise(pl.format("{}{}{}.", usage, joint, moved))


def _amount(column: str, catalogue: Catalogue) -> pl.Expr:
    return pl.col(column).cast(pl.Decimal(38, catalogue.minor_units)).cast(pl.String)
