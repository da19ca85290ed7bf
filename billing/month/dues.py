"""What falls due on the billing dates of a month, in the order of calculation: fees, charges, minimums, coupons."""

import polars as pl

from billing.ingest import accounts_of_events, scan_events
from billing.model.calendar import months_after, months_between
from billing.model.codes import LineKind
from billing.model.tables import CYCLES, DUES, LEVELS, PACKAGES
from billing.month.business import Business
from billing.month.context import required_table, without_parked
from billing.month.held_offers import coupon_holdings, held_add_ons
from billing.rules.add_on_fees import add_on_fees
from billing.rules.charges import month_dues, with_packages
from billing.rules.coupons import counted_documents, coupon_dues
from billing.rules.cycles import closing_spans, month_cycles
from billing.rules.minimum_spend import (
    COUNTED,
    counted_shares,
    cycles_with_minimum,
    has_minimum_spend,
    minimum_spend_dues,
)
from billing.rules.one_off_charges import charge_dues
from billing.rules.prepaid_credits import prepayment_dues
from billing.rules.seats import SeatLevels, seat_dues, seat_levels
from billing.rules.upgrades_at_once import upgrade_dues


def dues_of_month(
    business: Business,
    month: str,
    *,
    cycles: pl.DataFrame,
    packages: pl.DataFrame,
    first_packages: pl.DataFrame,
    rated: pl.DataFrame,
    parked: pl.DataFrame,
    decisions: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """The table DUES of a month.

    Parameters
    ----------
    cycles, rated
        The table CYCLES, and as `rated_usage`, both without parked accounts.
    packages
        The table PACKAGES.
    first_packages
        As in `month_dues`.
    parked
        The table PARKED.
    decisions
        Those of the table DECISIONS that change packages; None where no upgrade holds at once.
    """
    catalogue = business.catalogue
    dues = month_dues(
        month,
        cycles=cycles,
        packages=packages,
        first_packages=first_packages,
        rated=rated,
        terms=business.terms,
        catalogue=catalogue,
    )
    if any(metric.is_in_advance for metric in catalogue.metrics):
        levels = seat_levels_of_month(business, month, cycles)
        dues = _added(dues, seat_dues(seat_cycles(business, cycles, packages), levels, business.terms, catalogue))
    held = held_add_ons(business, month)
    if held is not None:
        dues = _added(dues, add_on_fees(with_packages(cycles, packages), held, catalogue))
    if decisions is not None:
        decided = without_parked(decisions, parked)
        upgrades = upgrade_dues(decided, business.lives, cycles, business.suspensions, business.terms, catalogue)
        dues = _added(dues, upgrades)
    charges = without_parked(business.one_off_charges, parked)
    if not charges.is_empty():
        dues = _added(dues, charge_dues(month, charges, business.lives.subscriptions, packages, catalogue))
    grants = without_parked(business.credit_grants, parked)
    if not grants.is_empty():
        dues = _added(dues, prepayment_dues(month, grants))
    dues = _added(dues, _minimum_spends(business, month, dues, cycles=cycles, packages=packages))
    redeemed = coupon_holdings(business, month, decisions) if catalogue.coupons else None
    if redeemed is not None and not redeemed.is_empty():
        before = [each for each in business.home.months(DUES) if each < month]
        counted = counted_documents(business.scan_months(DUES, before).filter(pl.col("kind") == LineKind.COUPON))
        dues = _added(dues, coupon_dues(_with_permission(dues), redeemed, counted, cycles, catalogue))
    return DUES.conform(dues.with_columns(billing_month=pl.lit(month)))


def seat_cycles(business: Business, cycles: pl.DataFrame, packages: pl.DataFrame) -> pl.DataFrame:
    """As `with_packages`, with is_resumed: whether the subscription goes on with one that was held."""
    resumed = business.lives.subscriptions.filter(pl.col("resumed_from").is_not_null())["subscription_id"]
    is_resumed = pl.col("subscription_id").is_in(resumed.implode())
    return with_packages(cycles, packages).with_columns(is_resumed=is_resumed)


def seat_levels_of_month(business: Business, month: str, cycles: pl.DataFrame) -> SeatLevels:
    """As `seat_levels`, of some billing dates of a month."""
    spans = month_cycles(month, business.lives.subscriptions, business.suspensions, business.catalogue).spans
    return seat_levels(
        cycles,
        spans.join(cycles, on="subscription_id", how="semi", maintain_order="left"),
        required_table(business, LEVELS, month),
        scan_events(
            business.home,
            [months_after(month, -1), month],
            business.as_of,
            metrics=[metric.name for metric in business.catalogue.metrics if metric.is_in_advance],
        ),
        accounts_of_events(business.home),
        business.catalogue,
    )


def _minimum_spends(
    business: Business, month: str, dues: pl.DataFrame, *, cycles: pl.DataFrame, packages: pl.DataFrame
) -> pl.DataFrame:
    """What cycles lack of their minimum spend: rows of DUES."""
    if not has_minimum_spend(business.catalogue):
        return dues.clear()
    due = _cycles_with_minimum(business, month, cycles, packages)
    if due.is_empty():
        return dues.clear()
    return minimum_spend_dues(due, _countable(business, month, due, dues), business.catalogue)


def counted_for_minimum(business: Business, month: str, subscription_id: str) -> pl.DataFrame:
    """As `counted_shares`: what is known now to count towards the minimum spend of a subscription's closing cycle."""
    of_one = pl.col("subscription_id") == subscription_id
    cycles, packages = (required_table(business, table, month, of_one) for table in (CYCLES, PACKAGES))
    due = _cycles_with_minimum(business, month, cycles, packages)
    dues = required_table(business, DUES, month, pl.col("account_id").is_in(due["account_id"].implode()))
    return counted_shares(due, _countable(business, month, due, dues), business.catalogue)


def _cycles_with_minimum(business: Business, month: str, cycles: pl.DataFrame, packages: pl.DataFrame) -> pl.DataFrame:
    lives, catalogue = business.lives, business.catalogue
    spans = closing_spans(month, lives.subscriptions, business.suspensions, catalogue)
    return cycles_with_minimum(cycles, packages, spans, lives.subscriptions, business.terms, catalogue)


def _countable(business: Business, month: str, due: pl.DataFrame, dues: pl.DataFrame) -> pl.DataFrame:
    """DUES of the accounts with a minimum that may count towards it, of the month and the twelve before it."""
    whose = due.select("account_id").unique()
    months = months_between(months_after(month, -12), months_after(month, -1))
    earlier = (
        business.scan_months(DUES, [each for each in months if each in business.home.months(DUES)])
        .filter(pl.col("kind").is_in(COUNTED))
        .join(whose.lazy(), on="account_id", how="semi")
        .collect()
    )
    columns = [
        *("subscription_id", "billing_date", "kind", "metric", "cycle_start", "cycle_end", "amount", "description"),
    ]
    return pl.concat([earlier.select(columns), dues.filter(pl.col("kind").is_in(COUNTED)).select(columns)])


def _added(dues: pl.DataFrame, others: pl.DataFrame) -> pl.DataFrame:
    return pl.concat([dues, others], how="diagonal_relaxed")


def _with_permission(dues: pl.DataFrame) -> pl.DataFrame:
    """`dues` with coupon_allowed."""
    return dues if "coupon_allowed" in dues.columns else dues.with_columns(coupon_allowed=pl.lit(None, pl.Boolean))
