"""True-ups: amounts due minus amounts issued, for closed billing dates (rule 20)."""

import polars as pl

from billing.model.calendar import month_of
from billing.model.catalogue import Catalogue
from billing.model.codes import LineKind
from billing.model.columns import MONEY
from billing.model.empty_frames import skip_if_empty
from billing.model.quantities import INTEGER
from billing.model.tables import DUES, PART_OF_A_FEE
from billing.rules.dimensions import with_rule_words
from billing.rules.due_items import IDENTITY, is_refunded

_KEYS = ["account_id", "subscription_id", "billing_date", *IDENTITY]
# Words of the register where nothing is due any more.
_NAMED = ("package", "rule", "add_on", "charge_id", "coupon", "tax_category", "cycle_start", "cycle_end")


def open_differences(
    dues: pl.LazyFrame, parked: pl.LazyFrame, closed: pl.DataFrame, amounts: pl.DataFrame
) -> pl.DataFrame:
    """Where what is due now differs from what has been issued, per billing date and metric.

    Rule 20: due less issued is settled, however old the cycle.

    Compare rounded amounts, so that unchanged input gives no difference. Skip what was refunded of a first cycle, and
    accounts that are parked in the month.

    Parameters
    ----------
    dues, parked
        The tables DUES and PARKED of the months that are looked at.
    closed
        subscription_id, billing_date of the closed dates.
    amounts
        As `Register.issued_amounts` of the same months.

    Returns
    -------
    polars.DataFrame
        account_id, subscription_id, billing_date, IDENTITY, due, issued, package, rule, add_on, charge_id, coupon,
        tax_category, cycle_start, cycle_end, and as due: quantity, allowance, excess, billed_units, unit_price,
        description and PART_OF_A_FEE; sorted.
    """
    due = dues.join(closed.lazy(), on=["subscription_id", "billing_date"], how="semi").select(DUES.column_names)
    of_a_fee = [column.name for column in PART_OF_A_FEE]
    measured = ("quantity", "allowance", "excess", "billed_units", "unit_price", "description", *of_a_fee)
    details = (*_NAMED, *measured)
    due_sum = (
        due.group_by(_KEYS, maintain_order=True)
        .agg(pl.col("amount").sum().alias("due"), *(pl.col(name).first() for name in details))
        .collect()
    )
    is_refund = pl.col("kind") == LineKind.REFUND
    refunded = amounts.filter(is_refund).select("subscription_id", "billing_date", is_refunded=pl.lit(True)).unique()
    nothing = pl.lit(0).cast(MONEY)
    both = (
        due_sum.join(
            amounts.filter(~is_refund), on=_KEYS, how="full", coalesce=True, nulls_equal=True, suffix="_issued"
        )
        .with_columns(pl.col("due", "issued").fill_null(nothing))
        .filter(pl.col("due") != pl.col("issued"))
        .select(*_KEYS, "due", "issued", *(pl.coalesce(name, f"{name}_issued") for name in _NAMED), *measured)
    )
    return _to_settle(both, refunded, parked)


def accounts_with_differences(dues: pl.LazyFrame, closed: pl.DataFrame, issued: pl.DataFrame) -> list[str]:
    """Accounts, sorted, of which `open_differences` may find any: most have none, and then need no description.

    Parameters
    ----------
    dues, closed
        As in `open_differences`.
    issued
        As `Register.issued_sums` of the same months.
    """
    amount = pl.col("amount").cast(MONEY).to_physical().cast(INTEGER)
    due = dues.join(closed.lazy(), on=["subscription_id", "billing_date"], how="semi").select(*_KEYS, left=amount)
    billed = issued.lazy().filter(pl.col("kind") != LineKind.REFUND)
    differing = (
        pl.concat([due, billed.select(*_KEYS, left=(-pl.col("issued")).cast(INTEGER))])
        .group_by(_KEYS)
        .agg(pl.col("left").sum())
        .filter(pl.col("left") != 0)
    )
    return differing.select("account_id").unique().sort("account_id").collect()["account_id"].to_list()


@skip_if_empty("differences")
def _to_settle(differences: pl.DataFrame, refunded: pl.DataFrame, parked: pl.LazyFrame) -> pl.DataFrame:
    """`differences` without those of fees that were refunded and of accounts that are parked in the month."""
    is_parked = parked.select("account_id", "billing_month").collect()
    return (
        differences.join(refunded, on=["subscription_id", "billing_date"], how="left", maintain_order="left")
        .filter(pl.col("is_refunded").is_null() | ~is_refunded())
        .with_columns(billing_month=month_of(pl.col("billing_date")))
        .join(is_parked, on=["account_id", "billing_month"], how="anti", maintain_order="left")
        .select(differences.columns)
        .sort(_KEYS)
    )


def in_words(catalogue: Catalogue, where: str = "") -> pl.Expr:
    """An open difference in words: "Emails: 39.00 due, 36.00 billed before"; `where` follows the name."""
    return pl.format(
        "{}{}: {} due, {} billed before",
        what_is_due(catalogue),
        pl.lit(where),
        _amount_text("due", catalogue),
        _amount_text("issued", catalogue),
    )


def what_is_due(catalogue: Catalogue) -> pl.Expr:
    """The subject of a difference: titles (names, where they were removed), or what kind of fee it is."""
    titles = {metric.name: metric.title for metric in catalogue.metrics}
    metric, kind = pl.col("metric").replace(titles), pl.col("kind")
    named = {
        LineKind.OVERAGE: with_rule_words(metric, catalogue),
        LineKind.SEATS: pl.format("{} in advance", metric),
        LineKind.ADD_ON: pl.col("add_on").replace({each.name: each.title for each in catalogue.add_ons}),
        LineKind.COUPON: pl.col("coupon").replace({each.name: each.title for each in catalogue.coupons}),
        LineKind.CHARGE: pl.format("Charge {}", "charge_id"),
        LineKind.HOLD_FEE: pl.lit("Hold fee"),
        LineKind.PRORATION: pl.coalesce(pl.format("{} added within the cycle", metric), pl.lit("Upgrade")),
        LineKind.MINIMUM_SPEND: pl.lit("Minimum spend"),
        LineKind.PREPAYMENT: pl.lit("Prepayment"),
    }
    of_kind = [pl.when(kind == each).then(words) for each, words in named.items()]
    return pl.coalesce(*of_kind, pl.lit("Package fee"))


def _amount_text(column: str, catalogue: Catalogue) -> pl.Expr:
    return pl.col(column).cast(pl.Decimal(38, catalogue.minor_units)).cast(pl.String)
