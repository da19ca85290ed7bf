"""What accounts hold beside their packages in a month: coupons that they redeemed, and add-ons (rules 29 and 31)."""

import polars as pl

from billing.model.codes import DecisionKind
from billing.model.tables import PACKAGES
from billing.month.business import Business
from billing.month.computed import file_stamp
from billing.rules.redemptions import Redemptions, redemptions


def coupon_holdings(business: Business) -> pl.DataFrame:
    """HOLDING_SCHEMA: who holds which coupon from when on, of all billing dates up to the last month with PACKAGES.

    Those of a billing date are right once PACKAGES of its month is written: a coupon may be for some packages only.
    """
    return coupon_redemptions(business).holdings


def coupon_redemptions(business: Business) -> Redemptions:
    """Holdings of coupons, and the answers to requests about them."""
    tables = [part for each in business.home.months(PACKAGES) for part in business.home.parts(PACKAGES, each)]
    key = (business.register.revision(), *map(file_stamp, tables)) if business.catalogue.coupons else None
    return business.computed.once("redemptions", key, lambda: _redemptions(business))


def _redemptions(business: Business) -> Redemptions:
    asked = business.asked_coupons
    return redemptions(asked, packages_of_redemptions(business, asked), business.exhausted_redemptions)


def packages_of_redemptions(business: Business, asked: pl.DataFrame, before: str | None = None) -> pl.DataFrame:
    """subscription_id, billing_date, package, sorted: of subscriptions that redeem a coupon for some packages only.

    Parameters
    ----------
    asked
        As `asked_coupons`.
    before
        Of months before this one; by default all that were computed.
    """
    tested = asked.filter((pl.col("kind") == DecisionKind.REDEEM) & pl.col("packages").is_not_null())
    months = [each for each in business.home.months(PACKAGES) if before is None or each < before]
    if tested.is_empty() or not months:
        return PACKAGES.empty().select("subscription_id", "billing_date", package="opening_package")
    return (
        business.scan_months(PACKAGES, months)
        .join(tested.lazy().select("subscription_id").unique(), on="subscription_id", how="semi")
        .filter(pl.col("opening_package").is_not_null())
        .select("subscription_id", "billing_date", package="opening_package")
        .collect()
        .sort("subscription_id", "billing_date")
    )
