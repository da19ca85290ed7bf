"""What falls due on the billing dates of a month, in the order of calculation: fees, charges, then coupons."""

import polars as pl

from billing.model.codes import LineKind
from billing.model.tables import DUES
from billing.month.business import Business
from billing.month.context import without_parked
from billing.month.held_offers import coupon_holdings
from billing.rules.charges import month_dues
from billing.rules.coupons import counted_documents, coupon_dues
from billing.rules.one_off_charges import charge_dues
from billing.rules.prepaid_credits import prepayment_dues


def dues_of_month(
    business: Business,
    month: str,
    *,
    cycles: pl.DataFrame,
    packages: pl.DataFrame,
    first_packages: pl.DataFrame,
    rated: pl.DataFrame,
    parked: pl.DataFrame,
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
    charges = without_parked(business.inputs.one_off_charges.filter(pl.col("on") <= business.as_of), parked)
    if not charges.is_empty():
        dues = _added(dues, charge_dues(month, charges, business.lives.subscriptions, packages, catalogue))
    grants = without_parked(business.credit_grants, parked)
    if not grants.is_empty():
        dues = _added(dues, prepayment_dues(month, grants))
    redeemed = coupon_holdings(business) if catalogue.coupons else None
    if redeemed is not None and not redeemed.is_empty():
        before = [each for each in business.home.months(DUES) if each < month]
        counted = counted_documents(business.scan_months(DUES, before).filter(pl.col("kind") == LineKind.COUPON))
        dues = _added(dues, coupon_dues(_with_permission(dues), redeemed, counted, cycles, catalogue))
    return DUES.conform(dues.with_columns(billing_month=pl.lit(month)))


def _added(dues: pl.DataFrame, others: pl.DataFrame) -> pl.DataFrame:
    return pl.concat([dues, others], how="diagonal_relaxed")


def _with_permission(dues: pl.DataFrame) -> pl.DataFrame:
    """`dues` with coupon_allowed."""
    return dues if "coupon_allowed" in dues.columns else dues.with_columns(coupon_allowed=pl.lit(None, pl.Boolean))
