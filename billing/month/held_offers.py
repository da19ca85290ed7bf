"""What accounts hold beside their packages in a month: coupons that they redeemed, and add-ons (rules 29 and 31)."""

import polars as pl

from billing.model.calendar import month_of, months_after
from billing.model.codes import ADD_ON_CHANGES, DecisionKind
from billing.model.tables import ADD_ONS, PACKAGES
from billing.month.business import Business
from billing.month.computed import file_stamp
from billing.rules.add_on_changes import decide_add_ons
from billing.rules.add_ons import AddOnFrames, HeldAddOns, add_on_holdings, approved_changes
from billing.rules.package_changes import PackageMonth
from billing.rules.redemptions import Redemptions, redemptions


def add_on_changes(business: Business, through: str) -> pl.DataFrame:
    """ADD_ONS of the months up to one."""
    months = [each for each in business.home.months(ADD_ONS) if each <= through]
    return business.scan_months(ADD_ONS, months).collect()


def held_add_ons(business: Business, month: str) -> HeldAddOns | None:
    """What is held of add-ons on the billing dates of a month, once its ADD_ONS is written; None where nothing is."""
    return _held(business, add_on_changes(business, month))


def held_before(business: Business, month: str, asked: pl.DataFrame) -> HeldAddOns | None:
    """What is held of add-ons in the cycles that close in a month; `asked` is as `asked_add_ons`.

    With what came with a subscription that moved in: it was held in the cycle before its first billing date here.
    """
    before = add_on_changes(business, months_after(month, -1))
    given = asked.filter(pl.col("request_id").is_null() & (month_of(pl.col("effective_on")) == month))
    coming = given.with_columns(billing_month=pl.lit(month), billing_date="effective_on", is_given=pl.lit(value=True))
    return _held(business, pl.concat([before, ADD_ONS.conform(coming)]))


def _held(business: Business, changes: pl.DataFrame) -> HeldAddOns | None:
    if changes.is_empty():
        return None
    return HeldAddOns(add_on_holdings(changes), AddOnFrames.of(business.catalogue))


def packages_with_add_ons(
    business: Business, month: str, *, cycles: pl.DataFrame, previous: pl.DataFrame, decided: PackageMonth
) -> PackageMonth:
    """`decided`, with the changes of add-ons at the billing dates of a month.

    `previous` is PACKAGES of the month before.
    """
    asked = business.asked_add_ons
    changes = add_on_changes(business, months_after(month, -1))
    has_any = business.catalogue.add_ons or business.home.parts(ADD_ONS, month)
    if asked.is_empty() and changes.is_empty() and not has_any:
        return decided
    closed = business.register.closed_decisions(month).filter(pl.col("kind").is_in(ADD_ON_CHANGES))
    decisions = decide_add_ons(
        month,
        cycles=cycles,
        packages=decided.packages,
        holdings=add_on_holdings(changes),
        asked=asked,
        previous=previous,
        add_ons=AddOnFrames.of(business.catalogue),
    )
    return PackageMonth(
        decided.packages,
        pl.concat([decided.decisions, decisions]),
        approved_changes(pl.concat([closed, decisions])),
    )


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
