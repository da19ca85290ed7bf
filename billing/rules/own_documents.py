"""Documents of their own: one-off charges, prepayments and upgrades at once (rules 30, 33 and 37).

They belong to no billing date of a subscription. Within the pipeline their dues stand under an id of their own in the
column subscription_id, with the day as billing date; tables for readers show null, or the subscription of an upgrade.
"""

from typing import Final

import polars as pl

CHARGES: Final = "/charges"
CHARGE: Final = "/charge"
PREPAYMENT: Final = "/prepayment"
UPGRADE: Final = "/upgrade"
_SUBSCRIPTION: Final = r"/[0-9]{4}-[0-9]{2}-[0-9]{2}$"
_OF_UPGRADE: Final = r"^(.*/[0-9]{4}-[0-9]{2}-[0-9]{2})/.*/upgrade$"


def charges_id() -> pl.Expr:
    """The id under which the one-off charges of an account that share a document stand."""
    return pl.format("{}" + CHARGES, "account_id")


def charge_id_alone() -> pl.Expr:
    """The id of a charge that always has a document of its own."""
    return pl.format("{}/{}" + CHARGE, "account_id", "charge_id")


def prepayment_id() -> pl.Expr:
    """The id of the document of a purchased grant."""
    return pl.format("{}/{}" + PREPAYMENT, "account_id", "grant_id")


def upgrade_id() -> pl.Expr:
    """The id of the document of an upgrade at once."""
    return pl.format("{}/{}" + UPGRADE, "subscription_id", "request_id")


def is_own_document(name: str = "subscription_id") -> pl.Expr:
    """Whether a subscription_id is one of these, and no subscription."""
    return ~pl.col(name).str.contains(_SUBSCRIPTION)


def shown_subscription_id() -> pl.Expr:
    """subscription_id as readers see it: null of a document of its own, the subscription of an upgrade."""
    found = pl.col("subscription_id")
    return pl.when(~is_own_document()).then(found).otherwise(found.str.extract(_OF_UPGRADE, 1)).alias("subscription_id")
