"""True-up lines: the details of a line that settles an earlier cycle. They answer "why am I billed this now?".

Rules 20 and 23: what is due now and its calculation, what was billed before and for how much, and what changed.
"""

from typing import Final

import polars as pl

from billing.documents.content_lists import SETTLES
from billing.documents.field_texts import money_text, plain_text
from billing.documents.tariffs import TARIFF, tariffs, with_events
from billing.documents.titles import package_title
from billing.model.catalogue import Catalogue
from billing.model.codes import FEES, FeeReason, LineKind, WhySettled
from billing.model.columns import PRICE
from billing.rules.due_items import IDENTITY
from billing.rules.terms import TermsFrames, with_terms

_KEYS: Final = ["subscription_id", "billing_date", *IDENTITY]
_MEASURED: Final = ("package", "cycle_start", "cycle_end", "quantity", "allowance", "excess")
_NO_FEE: Final[dict[str, str]] = {
    FeeReason.TERM.value: WhySettled.NO_FEE_TERM.value,
    FeeReason.CANCELLED.value: WhySettled.NO_FEE_CANCELLED.value,
    FeeReason.HELD.value: WhySettled.NO_FEE_HELD.value,
    FeeReason.REFUNDED.value: WhySettled.NO_FEE_REFUNDED.value,
    FeeReason.SUSPENDED.value: WhySettled.NO_FEE_SUSPENDED.value,
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
        return differences.with_columns(tariff=pl.lit(None, TARIFF), settles=pl.lit(None, SETTLES))
    measured = (
        charges.select(
            "subscription_id",
            "metric",
            *_MEASURED,
            "events",
            billing_date="cycle_end",
            kind=pl.lit(LineKind.OVERAGE),
            due_item="rule",
            _closed=True,
        )
        .join(differences.lazy().select(_KEYS), on=_KEYS, how="semi", nulls_equal=True)
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
        differences.join(measured, on=_KEYS, how="left", suffix="_measured", nulls_equal=True, maintain_order="left")
        .with_columns(pl.coalesce(name, f"{name}_measured") for name in _MEASURED)
        .join(dates, on=["subscription_id", "billing_date"], how="left", maintain_order="left")
        .join(before, on=_KEYS, how="left", nulls_equal=True, maintain_order="left")
    )
    used = known.with_columns(_usage=pl.when(pl.col("kind") == LineKind.OVERAGE).then("cycle_start"))
    rated = with_terms(used, terms, on="_usage", or_first=True).join(
        tariffs(catalogue),
        on=["terms_key", "package", "since", "metric", "rule"],
        how="left",
        nulls_equal=True,
        maintain_order="left",
    )
    rated = rated.with_columns(tariff=with_events("tariff", "events"))
    settles = pl.struct(
        due=money_text("due", catalogue),
        billed=money_text("issued", catalogue),
        why=_why(catalogue),
        minimum="minimum",
        maximum="maximum",
        fee=pl.when(pl.col("kind").is_in(FEES) & pl.col("description").is_not_null()).then(
            pl.struct(kind="kind", package_title=package_title("package", catalogue), description="description")
        ),
        documents=pl.col("documents").fill_null([]),
    )
    return rated.select(*differences.columns, "tariff", settles=settles)


def _billed_before(differences: pl.DataFrame, billed: pl.DataFrame, catalogue: Catalogue) -> pl.DataFrame:
    """_KEYS, documents (what billed it, in the order of issue); the last one's quantity, allowance, price, words."""
    entry = pl.struct(
        number="number",
        line="line",
        amount=money_text("amount", catalogue),
        quantity=plain_text(pl.col("quantity")),
        allowance=plain_text(pl.col("allowance")),
        kind="kind",
        package_title=package_title("package", catalogue),
        description="description",
    )
    lines = (
        billed.with_columns(language=pl.lit(None, pl.String), settles=pl.col("kind") != pl.col("due_kind"))
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
    """The code of what changed (WhySettled); null where the amounts explain themselves."""
    is_metric = pl.col("metric").is_in([metric.name for metric in catalogue.metrics])
    fee, was_billed = pl.col("kind") != LineKind.OVERAGE, pl.col("documents").is_not_null()
    gone = pl.col("description").is_null()
    return (
        pl.when(pl.col("_is_date").is_null())
        .then(pl.lit(WhySettled.NO_BILLING_DATE))
        .when(fee & gone & (pl.col("kind") == LineKind.PACKAGE_FEE))
        .then(pl.col("fee_reason").replace_strict(_NO_FEE, default=WhySettled.NO_FEE.value, return_dtype=pl.String))
        .when(fee & gone & (pl.col("kind") == LineKind.HOLD_FEE))
        .then(pl.lit(WhySettled.NO_HOLD_FEE))
        .when(fee & gone)
        .then(pl.lit(WhySettled.NO_FEE))
        .when(fee & ~was_billed)
        .then(pl.lit(WhySettled.NOT_BILLED_WHEN_DUE))
        .when(fee & (pl.col("issued") == 0))
        .then(pl.lit(WhySettled.DUE_AFTER_ALL))
        .when(fee & (pl.col("description") == pl.col("own_description")))
        .then(pl.lit(WhySettled.SAME_FEE_OTHER_PRICE))
        .when(fee)
        .then(pl.lit(WhySettled.ANOTHER_FEE))
        .when(~is_metric)
        .then(pl.lit(WhySettled.METRIC_REMOVED))
        .when(pl.col("_closed").is_null())
        .then(pl.lit(WhySettled.NO_CYCLE))
        .when(~was_billed)
        .then(pl.lit(WhySettled.COST_NOTHING_BEFORE))
        .when(pl.col("last_quantity").is_null())
        .then(None)
        .otherwise(_what_moved())
    )


def _what_moved() -> pl.Expr:
    """Which of usage, allowance and price changed since the cycle was billed last, as one code."""
    quantity, last = pl.col("quantity"), pl.col("last_quantity")
    usage = (
        pl.when(quantity > last)
        .then(pl.lit(WhySettled.MORE_USAGE))
        .when(quantity < last)
        .then(pl.lit(WhySettled.LESS_USAGE))
        .otherwise(pl.lit(WhySettled.SAME_USAGE))
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
    # Events may have moved where the amount of a percentage has not: then the amounts explain themselves.
    is_percentage = (model == "percentage").fill_null(value=False)
    price = (is_other & (pl.col("excess") > 0)).fill_null(value=False) | (is_same & ~allowance & ~is_percentage)
    moved = (
        pl.when(allowance & price)
        .then(pl.lit("_other_allowance_and_price"))
        .when(allowance)
        .then(pl.lit("_other_allowance"))
        .when(price)
        .then(pl.lit("_other_price"))
        .otherwise(pl.lit(""))
    )
    unknown = is_percentage & is_same & ~allowance
    return pl.when(~unknown).then(pl.concat_str(usage, moved))
