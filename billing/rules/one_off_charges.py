"""One-off charges: on which document each is billed (rule 30)."""

from typing import Final

import polars as pl

from billing.model.calendar import month_of
from billing.model.catalogue import Catalogue
from billing.model.codes import LineKind, TaxCategory
from billing.model.columns import PRICE, QUANTITY
from billing.rules.billing_dates import Grid
from billing.rules.own_documents import charge_id_alone, charges_id

ONE_OFF: Final = ["charge_id", "account_id", "on"]
REMINDER: Final = "reminder/"
"""How the charge_id of a reminder's fee begins."""


def fee_charges(fees: pl.DataFrame) -> pl.DataFrame:
    """The fees of reminders as one-off charges: no coupon lowers them (rule 41).

    Parameters
    ----------
    fees
        reminder_id, account_id, currency, amount, charged_on.

    Returns
    -------
    polars.DataFrame
        As `read_one_off_charges`.
    """
    return fees.select(
        "account_id",
        "amount",
        "currency",
        charge_id=pl.concat_str(pl.lit(REMINDER), "reminder_id"),
        on="charged_on",
        description=pl.lit("Reminder fee"),
        quantity=pl.lit(None, QUANTITY),
        unit_price=pl.lit(None, PRICE),
        tax_category=pl.lit(None, pl.String),
        coupon_allowed=pl.lit(value=False),
        at_once=pl.lit(value=False),
        reason=pl.lit(None, pl.String),
    )


def charge_dues(
    month: str,
    charges: pl.DataFrame,
    subscriptions: pl.DataFrame,
    packages: pl.DataFrame,
    catalogue: Catalogue,
) -> pl.DataFrame:
    """What one-off charges add to the table DUES of a month.

    Each is due on the first billing date on or after its day of the subscription that is live then. Without one, or
    with at_once, it is due on its day, on a document that the account's charges of that day share; of category O
    (outside the scope of tax) always on a document of its own.

    Parameters
    ----------
    charges
        As `read_one_off_charges`.
    subscriptions
        As `Lives.subscriptions`.
    packages
        The table PACKAGES of the month.

    Returns
    -------
    polars.DataFrame
        Columns of DUES, and coupon_allowed. `package` is the one whose fee the document has.
    """
    dated = with_billing_dates(charges, subscriptions, catalogue)
    of_month = dated.filter(month_of(pl.col("billing_date")) == month)
    opening = packages.select(
        "subscription_id", "billing_date", package=pl.coalesce("opening_package", "closing_package")
    )
    own = pl.col("at_once") | pl.col("subscription_id").is_null()
    alone = pl.col("tax_category") == TaxCategory.OUTSIDE
    return (
        of_month.join(opening, on=["subscription_id", "billing_date"], how="left", maintain_order="left")
        .with_columns(
            subscription_id=pl.when(alone.fill_null(value=False))
            .then(charge_id_alone())
            .when(own)
            .then(charges_id())
            .otherwise("subscription_id"),
        )
        .select(
            "account_id",
            "subscription_id",
            "billing_date",
            "charge_id",
            "package",
            "amount",
            "description",
            "tax_category",
            "coupon_allowed",
            kind=pl.lit(LineKind.CHARGE),
            due_item="charge_id",
            quantity=pl.col("quantity").cast(QUANTITY),
            billed_units=pl.when(pl.col("unit_price").is_not_null())
            .then(pl.col("quantity").fill_null(1))
            .cast(QUANTITY),
            unit_price="unit_price",
        )
    )


def with_billing_dates(charges: pl.DataFrame, subscriptions: pl.DataFrame, catalogue: Catalogue) -> pl.DataFrame:
    """`charges` with billing_date, and subscription_id where a live subscription has that date.

    Parameters
    ----------
    charges
        As `read_one_off_charges`.
    subscriptions
        As `Lives.subscriptions`.
    """
    grid, on = Grid.of(catalogue.policy), pl.col("on")
    # A subscription on hold is live.
    ends = pl.when(pl.col("end").is_not_null()).then(pl.max_horizontal("ended_on", "access_last"))
    dated = (
        charges.filter(~pl.col("at_once"))
        .select(*ONE_OFF)
        .join(
            subscriptions.select(
                "account_id",
                "subscription_id",
                "started_on",
                "grid_start",
                "first_billing_date",
                "last_billing_date",
                ends=ends,
            ),
            on="account_id",
        )
        .filter((pl.col("started_on") <= on) & (pl.col("ends").is_null() | (on <= pl.col("ends"))))
        .with_columns(billing_date=grid.first_date(pl.col("grid_start"), pl.max_horizontal(on, "first_billing_date")))
        .filter(pl.col("last_billing_date").is_null() | (pl.col("billing_date") <= pl.col("last_billing_date")))
        # The day that an old subscription ends may be the day that the next one starts.
        .sort("charge_id", "billing_date", "subscription_id")
        .unique("charge_id", keep="first", maintain_order=True)
        .select("charge_id", "subscription_id", "billing_date")
    )
    return charges.join(dated, on="charge_id", how="left", maintain_order="left").with_columns(
        pl.coalesce("billing_date", "on")
    )
