"""Rule 32: minimum spend, what a cycle has to come to before coupons."""

from typing import Final

import polars as pl

from billing.model.catalogue import Catalogue, terms_periods
from billing.model.codes import LineKind, Term
from billing.model.columns import MONEY, PRICE
from billing.model.money import round_fraction, scaled_to_decimal
from billing.rules.billing_dates import Grid
from billing.rules.due_items import whole_kind
from billing.rules.own_documents import shown_subscription_id
from billing.rules.terms import PRICE_SCALE, TermsFrames, with_terms

COUNTED: Final = (
    *(LineKind.PACKAGE_FEE, LineKind.PRORATION, LineKind.OVERAGE),
    *(LineKind.ADD_ON, LineKind.SEATS),
)
"""Kinds of dues that a minimum can count."""
_TERMS: Final = ["terms_key", "package", "since"]
_CYCLE: Final = ["subscription_id", "billing_date"]
_PRICE_UNIT: Final = pl.lit(PRICE_SCALE, pl.Int128)


def has_minimum_spend(catalogue: Catalogue) -> bool:
    """Whether any terms have a minimum."""
    return not _minimums(catalogue).is_empty()


def cycles_with_minimum(
    cycles: pl.DataFrame,
    packages: pl.DataFrame,
    spans: pl.DataFrame,
    subscriptions: pl.DataFrame,
    terms: TermsFrames,
    catalogue: Catalogue,
) -> pl.DataFrame:
    """The cycles that close in a month and have a minimum spend: that of the package that rates them.

    A cycle that is cut short counts the amount by its days with access; a package change at its end does not.

    Parameters
    ----------
    cycles, packages
        The tables CYCLES and PACKAGES of the month.
    spans
        As `MonthCycles.spans`.
    subscriptions
        As `Lives.subscriptions`.

    Returns
    -------
    polars.DataFrame
        account_id, subscription_id, billing_date, cycle_start, cycle_end, term, package, whole (PRICE: the minimum of a
        whole cycle), days, of_days, minimum (MONEY), counts (kinds), grid_start, closing_index (k of the cycle's first
        date) and elsewhere (MONEY: the fee of the cycle that another system billed, else 0).
    """
    minimums = _minimums(catalogue)
    closing = cycles.filter(pl.col("cycle_start").is_not_null()).join(
        packages.select("subscription_id", package="closing_package"), on="subscription_id", maintain_order="left"
    )
    found = (
        with_terms(closing, terms, on="cycle_start", or_first=True)
        .join(minimums, on=_TERMS, maintain_order="left")
        .join(_days_with_access(spans, catalogue.time_zone), on="subscription_id", maintain_order="left")
        .join(
            subscriptions.select("subscription_id", "grid_start", "billed_through"),
            on="subscription_id",
            maintain_order="left",
        )
        .join(terms.packages.select(*_TERMS, "monthly", "yearly"), on=_TERMS, maintain_order="left")
    )
    start = pl.col("cycle_start")
    whole_days = (
        start.dt.month_end().dt.day().cast(pl.Int32)
        if Grid.of(catalogue.policy).first_of_month
        else (pl.col("cycle_end") - start).dt.total_days().cast(pl.Int32)
    )
    found = found.with_columns(of_days=whole_days, closing_index=pl.col("billing_index") - 1)
    numerator = pl.col("whole").to_physical().cast(pl.Int128) * pl.col("days").cast(pl.Int128)
    minimum = round_fraction(numerator, pl.col("of_days").cast(pl.Int128) * _PRICE_UNIT, catalogue.minor_units)
    return found.with_columns(minimum=minimum.cast(MONEY), elsewhere=_billed_elsewhere(catalogue)).select(
        *("account_id", "subscription_id", "billing_date", "cycle_start", "cycle_end", "term", "package"),
        *("whole", "days", "of_days", "minimum", "counts", "grid_start", "closing_index", "elsewhere"),
    )


def minimum_spend_dues(due: pl.DataFrame, dues: pl.DataFrame, catalogue: Catalogue) -> pl.DataFrame:
    """The difference to the minimum where what was due for a cycle is below it: rows of DUES.

    Parameters
    ----------
    due
        As `cycles_with_minimum`.
    dues
        DUES of those subscriptions, of kinds in COUNTED, of the month and the twelve before it.
    """
    counted = (
        counted_shares(due, dues, catalogue)
        .group_by("subscription_id", billing_date="billing_date_closing")
        .agg(pl.col("share").sum())
    )
    lacking = (
        due.join(counted, on=_CYCLE, how="left", maintain_order="left")
        .with_columns(counted=(pl.col("share").fill_null(0) + pl.col("elsewhere")).cast(MONEY))
        .filter(pl.col("counted") < pl.col("minimum"))
    )
    titles = {package.name: package.title for package in catalogue.packages}
    return lacking.select(
        "account_id",
        "subscription_id",
        "billing_date",
        "package",
        "cycle_start",
        "cycle_end",
        kind=pl.lit(LineKind.MINIMUM_SPEND),
        metric=pl.lit(None, pl.String),
        amount=(pl.col("minimum") - pl.col("counted")).cast(MONEY),
        whole_fee="whole",
        replaced_fee=pl.col("counted").cast(PRICE),
        fee_part="days",
        fee_parts="of_days",
        description=pl.format("Minimum spend of {}", pl.col("package").replace(titles)),
    )


def counted_shares(due: pl.DataFrame, dues: pl.DataFrame, catalogue: Catalogue) -> pl.DataFrame:
    """The rows of `dues` that count towards the minimum of a cycle, with share (MONEY): what this cycle counts of each.

    As `minimum_spend_dues`; billing_date_closing is the date on which the cycle closes.
    """
    rows = dues.with_columns(shown_subscription_id()).join(
        due.select(*_CYCLE, "grid_start", "closing_index", "counts"),
        on="subscription_id",
        suffix="_closing",
    )
    # What is charged for an upgrade at once belongs to the package fee, for seats added within the cycle to seats.
    kind = whole_kind()
    grid, one_day = Grid.of(catalogue.policy), pl.duration(days=1)
    first = grid.next_index(pl.col("grid_start"), pl.col("cycle_start")) - 1
    end = grid.next_index(pl.col("grid_start"), pl.col("cycle_end") - one_day)
    return (
        rows.filter(pl.col("counts").list.contains(kind) & (pl.col("billing_date") <= pl.col("billing_date_closing")))
        .with_columns(place=pl.col("closing_index") - first, parts=end - first)
        .filter((pl.col("place") >= 0) & (pl.col("place") < pl.col("parts")))
        .with_columns(share=_share(pl.col("amount"), pl.col("place"), pl.col("parts"), catalogue).cast(MONEY))
    )


def _minimums(catalogue: Catalogue) -> pl.DataFrame:
    """terms_key, package, since, whole, counts: of terms with a minimum."""
    return pl.DataFrame(
        [
            (
                *(period.account_id, period.package, period.since, period.terms.minimum_spend.amount),
                list(period.terms.minimum_spend.counts),
            )
            for period in terms_periods(catalogue)
            if period.terms.minimum_spend is not None and period.terms.minimum_spend.amount > 0
        ],
        schema={
            "terms_key": pl.String,
            "package": pl.String,
            "since": pl.Date,
            "whole": PRICE,
            "counts": pl.List(pl.String),
        },
        orient="row",
    )


def _days_with_access(spans: pl.DataFrame, time_zone: str) -> pl.DataFrame:
    """subscription_id, days (Int32): local days of the closing cycle on which there was access; none has no row."""
    last = pl.col("span_end") - pl.duration(nanoseconds=1)
    first_day, last_day = (
        instant.dt.convert_time_zone(time_zone).dt.date() for instant in (pl.col("span_start"), last)
    )
    return (
        spans.filter(pl.col("span_start") < pl.col("span_end"))
        .select("subscription_id", day=pl.date_ranges(first_day, last_day))
        .explode("day", empty_as_null=False)
        .group_by("subscription_id")
        .agg(days=pl.col("day").n_unique().cast(pl.Int32))
    )


def _share(amount: pl.Expr, place: pl.Expr, parts: pl.Expr, catalogue: Catalogue) -> pl.Expr:
    """What one of some cycles counts of an amount (MONEY), in their order: rounded half-up, the last one the rest."""
    scale = 10 ** (MONEY.scale - catalogue.minor_units)
    cents = amount.to_physical().cast(pl.Int128) // scale
    place, parts = place.cast(pl.Int128), parts.cast(pl.Int128)
    each = (cents * 2 + parts) // (parts * 2)
    share = pl.when(place == parts - 1).then(cents - each * (parts - 1)).otherwise(each)
    return scaled_to_decimal(share * scale, MONEY.scale)


def _billed_elsewhere(catalogue: Catalogue) -> pl.Expr:
    """The fee of the cycle, as its terms have it, where another system billed it before the move (rule 38)."""
    is_yearly, index = pl.col("term") == Term.YEARLY, pl.col("closing_index")
    parts = pl.when(is_yearly).then(12).otherwise(1)
    grid = Grid.of(catalogue.policy)
    fee_date = grid.date(pl.col("grid_start"), index // parts * parts)
    price = pl.when(is_yearly).then("yearly").otherwise("monthly").to_physical().cast(pl.Int128)
    fee = round_fraction(price, _PRICE_UNIT, catalogue.minor_units)
    is_elsewhere = (fee_date < pl.col("billed_through")).fill_null(value=False)
    counts_fees = pl.col("counts").list.contains(pl.lit(LineKind.PACKAGE_FEE.value))
    counted = pl.when(is_elsewhere & counts_fees).then(_share(fee, index % parts, parts, catalogue))
    return counted.otherwise(pl.lit(0)).fill_null(0).cast(MONEY)
