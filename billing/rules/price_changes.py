"""What a change of prices does: every line that is due, before and after, and why it differs (what-if)."""

from collections.abc import Mapping
from typing import Final

import polars as pl

from billing.model.codes import DecisionKind, LineKind
from billing.model.columns import MONEY
from billing.rules.due_items import lowered_kind

LINE: Final = ["account_id", "subscription_id", "billing_date", "kind", "metric", "due_item"]
"""What tells the lines that are due apart; with the rule that is part of it."""
CAUSED: Final = "upgrade caused"
AVOIDED: Final = "upgrade avoided"
PACKAGE: Final = "package"
SUBSCRIPTION: Final = "subscription"
"""A billing date that only one of the two has."""
ALLOWANCE: Final = "allowance"
TARIFF: Final = "tariff"
_OF_KIND: Final[Mapping[LineKind, str]] = {
    LineKind.PACKAGE_FEE: "fee",
    LineKind.PRORATION: "proration",
    LineKind.OVERAGE: TARIFF,
    LineKind.SEATS: "seats",
    LineKind.ADD_ON: "add-on",
    LineKind.COUPON: "coupon",
    LineKind.MINIMUM_SPEND: "minimum spend",
    LineKind.HOLD_FEE: "hold fee",
    LineKind.REFUND: "refund",
    LineKind.CHARGE: "charge",
    LineKind.PREPAYMENT: "prepayment",
}
# Whatever the package: they are what they are.
_BY_THEMSELVES: Final = (LineKind.HOLD_FEE, LineKind.CHARGE, LineKind.PREPAYMENT)
_UPGRADE: Final = ["subscription_id", "to_package"]
UPGRADE_SCHEMA: Final = pl.Schema(
    {"account_id": pl.String(), "subscription_id": pl.String(), "to_package": pl.String(), "billing_date": pl.Date()}
)
"""An automatic upgrade, at the billing date from which it holds."""


def automatic_upgrades(packages: pl.DataFrame) -> pl.DataFrame:
    """UPGRADE_SCHEMA: of the table PACKAGES of a month."""
    is_one = pl.col("change_reason") == DecisionKind.AUTO_UPGRADE
    return packages.filter(is_one).select(
        "account_id", "subscription_id", to_package="opening_package", billing_date="billing_date"
    )


def caused_upgrades(before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
    """The upgrades of `after`, UPGRADE_SCHEMA, that `before` has not, whatever their dates."""
    return after.join(before, on=_UPGRADE, how="anti", maintain_order="left")


def line_changes(
    before: pl.DataFrame,
    after: pl.DataFrame,
    *,
    charges: tuple[pl.DataFrame, pl.DataFrame],
    packages: tuple[pl.DataFrame, pl.DataFrame],
    caused: pl.DataFrame,
    avoided: pl.DataFrame,
) -> pl.DataFrame:
    """Every line that is due for the billing dates of a month, before and after a change of prices.

    Parameters
    ----------
    before, after
        LINE, rule, package, add_on, term, amount.
    charges, packages
        The tables CHARGES and PACKAGES of the month, before and after.
    caused, avoided
        UPGRADE_SCHEMA: the upgrades up to this month that only one of the two has.

    Returns
    -------
    polars.DataFrame
        LINE, rule, package, add_on and term (after, or before where there is none), before, after (MONEY; 0 where there
        is no such line) and cause (null where nothing differs).
    """
    nothing = pl.lit(0).cast(MONEY)
    amount = pl.col("amount")
    sides = [
        before.with_columns(before=amount, after=nothing, _side=pl.lit(1)),
        after.with_columns(before=nothing, after=amount, _side=pl.lit(0)),
    ]
    lines = (
        pl.concat(sides)
        .sort("_side", maintain_order=True)
        .group_by([*LINE, "rule"], maintain_order=True)
        .agg(
            pl.col("package", "add_on", "term").drop_nulls().first(),
            pl.col("before", "after").sum().cast(MONEY),
        )
    )
    changed = lines.filter(pl.col("before") != pl.col("after")).select(*LINE, "rule", "before", "after")
    causes = _with_causes(changed, charges, packages, caused, avoided)
    return lines.join(causes, on=[*LINE, "rule"], how="left", nulls_equal=True, maintain_order="left")


def _with_causes(
    changed: pl.DataFrame,
    charges: tuple[pl.DataFrame, pl.DataFrame],
    packages: tuple[pl.DataFrame, pl.DataFrame],
    caused: pl.DataFrame,
    avoided: pl.DataFrame,
) -> pl.DataFrame:
    """LINE, rule and cause."""
    rows = changed.with_columns(_kind=lowered_kind())
    for place, (allowed, packaged) in enumerate(zip(charges, packages, strict=True)):
        limits = allowed.select(
            *("subscription_id", "metric", "rule"),
            pl.col("quantity").alias(f"quantity_{place}"),
            # Unlimited is told from a line that is not there.
            pl.col("allowance").cast(pl.String).fill_null("unlimited").alias(f"allowance_{place}"),
            pl.col("excess").alias(f"excess_{place}"),
        )
        dated = packaged.select(
            *("subscription_id", "billing_date"),
            pl.lit(value=True).alias(f"is_billed_{place}"),
            pl.col("closing_package").alias(f"closing_{place}"),
            pl.col("opening_package").alias(f"opening_{place}"),
        )
        rows = rows.join(
            limits, on=["subscription_id", "metric", "rule"], how="left", nulls_equal=True, maintain_order="left"
        ).join(dated, on=["subscription_id", "billing_date"], how="left", maintain_order="left")
    for name, upgrades in (("_caused", caused), ("_avoided", avoided)):
        whose = upgrades.select("subscription_id", pl.lit(value=True).alias(name)).unique()
        rows = rows.join(whose, on="subscription_id", how="left", maintain_order="left")
    of_cycle = pl.col("_kind").is_in([LineKind.OVERAGE, LineKind.MINIMUM_SPEND])
    moved = (
        pl.when(of_cycle)
        .then(pl.col("closing_0").ne_missing(pl.col("closing_1")))
        .otherwise(pl.col("opening_0").ne_missing(pl.col("opening_1")))
    )
    is_overage = pl.col("kind") == LineKind.OVERAGE
    # More over the allowance costs more: what costs less all the same has another tariff, too.
    is_its_way = (
        pl.when(pl.col("after") > pl.col("before"))
        .then(pl.col("excess_1") > pl.col("excess_0"))
        .otherwise(pl.col("excess_1") < pl.col("excess_0"))
    )
    return rows.select(
        *LINE,
        "rule",
        cause=pl.when(pl.col("kind").is_in(_BY_THEMSELVES))
        .then(pl.col("kind").replace_strict(dict(_OF_KIND), default=pl.col("kind"), return_dtype=pl.String))
        .when(pl.col("is_billed_0").is_null() != pl.col("is_billed_1").is_null())
        .then(pl.lit(SUBSCRIPTION))
        .when(moved & pl.col("_caused"))
        .then(pl.lit(CAUSED))
        .when(moved & pl.col("_avoided"))
        .then(pl.lit(AVOIDED))
        .when(moved)
        .then(pl.lit(PACKAGE))
        .when(is_overage & pl.col("quantity_0").ne_missing(pl.col("quantity_1")))
        .then(pl.lit("usage"))
        .when(is_overage & (pl.col("allowance_0") != pl.col("allowance_1")) & is_its_way)
        .then(pl.lit(ALLOWANCE))
        .otherwise(pl.col("kind").replace_strict(dict(_OF_KIND), default=pl.col("kind"), return_dtype=pl.String)),
    )
