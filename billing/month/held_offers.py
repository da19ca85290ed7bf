"""What accounts hold beside their packages in a month: coupons that they redeemed, and add-ons (rules 29 and 31)."""

import polars as pl

from billing.model.calendar import month_of, months_after
from billing.model.codes import ADD_ON_CHANGES, DecisionKind, Outcome
from billing.model.empty_frames import skip_if_empty
from billing.model.tables import ADD_ONS, DECISIONS, PACKAGES
from billing.month.business import Business
from billing.month.computed import file_stamp
from billing.rules.add_on_changes import decide_add_ons
from billing.rules.add_ons import AddOnFrames, HeldAddOns, add_on_holdings, approved_changes
from billing.rules.package_changes import PackageMonth
from billing.rules.redemptions import Redemptions, redemptions
from billing.rules.refusals import is_at_once


def add_on_changes(business: Business, through: str) -> pl.DataFrame:
    """ADD_ONS of the months up to one."""
    months = [each for each in business.home.months(ADD_ONS) if each <= through]
    return business.scan_months(ADD_ONS, months).collect() if months else ADD_ONS.empty()


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
    business: Business,
    month: str,
    *,
    cycles: pl.DataFrame,
    previous: pl.DataFrame,
    decided: PackageMonth,
    final: pl.DataFrame | None = None,
) -> PackageMonth:
    """`decided`, with the changes of add-ons at the billing dates of a month.

    `previous` is PACKAGES of the month before, `final` the month's closed decisions if they are known already.
    """
    asked = business.asked_add_ons
    changes = add_on_changes(business, months_after(month, -1))
    has_any = business.catalogue.add_ons or business.home.parts(ADD_ONS, month)
    if asked.is_empty() and changes.is_empty() and not has_any:
        return decided
    final = business.register.closed_decisions(month) if final is None else final
    closed = final.filter(pl.col("kind").is_in(ADD_ON_CHANGES))
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


def coupon_holdings(business: Business, month: str = "", decided: pl.DataFrame | None = None) -> pl.DataFrame:
    """HOLDING_SCHEMA: who holds which coupon from when on, of all billing dates up to the last month with PACKAGES.

    Those of a billing date are right once PACKAGES of its month is written: a coupon may be for some packages only.
    `month` and `decided` are as in `coupon_redemptions`.
    """
    return coupon_redemptions(business, month, decided).holdings


def coupon_redemptions(business: Business, month: str = "", decided: pl.DataFrame | None = None) -> Redemptions:
    """Holdings of coupons, and the answers to requests about them.

    Parameters
    ----------
    month, decided
        A month whose DECISIONS is not written yet, and its decisions on packages.
    """
    home, upgrades = business.home, _upgrades_at_once(business, month, decided)
    key: tuple[object, ...] | None = None
    if not _tested(business.asked_coupons).is_empty():
        # Other coupons do not depend on packages.
        tables = [part for each in home.months(PACKAGES) for part in home.parts(PACKAGES, each)]
        key = (business.register.revision(), *map(file_stamp, tables))
    return business.computed.once(
        "redemptions", (key, tuple(upgrades.iter_rows())), lambda: _redemptions(business, upgrades)
    )


def _redemptions(business: Business, upgrades: pl.DataFrame) -> Redemptions:
    asked = business.asked_coupons
    packages = pl.concat([_packages_of_redemptions(business, asked), upgrades])
    # An upgrade on a billing date comes after the cycle's first package.
    in_force = packages.unique(["subscription_id", "billing_date"], keep="last", maintain_order=True)
    return redemptions(asked, in_force, business.exhausted_redemptions)


def packages_of_redemptions(business: Business, asked: pl.DataFrame, before: str) -> pl.DataFrame:
    """subscription_id, billing_date, package: what is in force where a coupon for some packages only is redeemed.

    Parameters
    ----------
    asked
        As `asked_coupons`.
    before
        Of months before this one.
    """
    return pl.concat([_packages_of_redemptions(business, asked, before), _upgrades_at_once(business, before=before)])


def _upgrades_at_once(
    business: Business, month: str = "", decided: pl.DataFrame | None = None, before: str | None = None
) -> pl.DataFrame:
    """subscription_id, billing_date, package: upgrades at once where a coupon for some packages only is redeemed.

    The billing date is their day; later ones of a day stand last. `month` and `decided` are as in
    `coupon_redemptions`, `before` as in `packages_of_redemptions`.
    """
    tested = _tested(business.asked_coupons)
    asked = pl.DataFrame()
    if not tested.is_empty():
        asked = business.lives.answers.filter(is_at_once()).join(tested, on="subscription_id", how="semi")
    approved = [] if decided is None else [decided.lazy()]
    months = [each for each in business.home.months(DECISIONS) if each != month and (before is None or each < before)]
    if asked.is_empty() or not (approved or months):
        return PACKAGES.empty().select("subscription_id", "billing_date", package="opening_package")
    approved += [business.scan_months(DECISIONS, months)] if months else []
    effective = (
        pl.concat(each.select("request_id", "kind", "outcome", effective="effective_on") for each in approved)
        .filter((pl.col("kind") == DecisionKind.UPGRADE) & (pl.col("outcome") == Outcome.APPROVED))
        .collect()
    )
    return (
        asked.sort("at", "request_id")
        .join(effective.select("request_id", "effective"), on="request_id", maintain_order="left")
        .select("subscription_id", billing_date="effective", package="package")
        .unique(maintain_order=True)
    )


@skip_if_empty("asked")
def _tested(asked: pl.DataFrame) -> pl.DataFrame:
    """subscription_id: where a coupon for some packages only is redeemed; `asked` is as `asked_coupons`."""
    tested = asked.filter((pl.col("kind") == DecisionKind.REDEEM) & pl.col("packages").is_not_null())
    return tested.select("subscription_id").unique()


def _packages_of_redemptions(business: Business, asked: pl.DataFrame, before: str | None = None) -> pl.DataFrame:
    """As `packages_of_redemptions`, of the cycles that start, sorted; without `before` of all months."""
    tested = _tested(asked)
    months = [each for each in business.home.months(PACKAGES) if before is None or each < before]
    if tested.is_empty() or not months:
        return PACKAGES.empty().select("subscription_id", "billing_date", package="opening_package")
    return (
        business.scan_months(PACKAGES, months)
        .join(tested.lazy(), on="subscription_id", how="semi")
        .filter(pl.col("opening_package").is_not_null())
        .select("subscription_id", "billing_date", package="opening_package")
        .collect()
        .sort("subscription_id", "billing_date")
    )
