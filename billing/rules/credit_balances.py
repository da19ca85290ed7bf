"""What is left of prepaid credits, and how they come, go and expire day by day (rule 33)."""

from collections.abc import Iterable
from datetime import date

import polars as pl

from billing.model.account_tables import CREDITS
from billing.model.columns import MONEY

_ZERO = pl.lit(0).cast(MONEY)
_MOVED = ["grant_id", "account_id", "day", "amount"]


def credit_balances(grants: pl.DataFrame, uses: pl.DataFrame, as_of: date) -> pl.DataFrame:
    """The table CREDITS as of a day.

    What was used stands: a grant whose row is gone, or grants less now, counts as what was used of it.

    Parameters
    ----------
    grants
        As `read_credit_grants`, up to the day.
    uses
        As `USES` of `billing.rules.prepaid_credits`.
    """
    used = uses.group_by("grant_id").agg(
        pl.col("account_id", "currency").first(), used=pl.col("amount").sum().cast(MONEY)
    )
    known = (
        grants.select("grant_id", "account_id", "currency", "amount", "kind", "granted_on", "expires_on")
        .join(used, on="grant_id", how="full", coalesce=True, suffix="_used")
        .with_columns(pl.coalesce(name, f"{name}_used").alias(name) for name in ("account_id", "currency"))
        .with_columns(pl.col("amount", "used").fill_null(_ZERO))
        .with_columns(amount=pl.max_horizontal("amount", "used"))
    )
    rest, is_over = (pl.col("amount") - pl.col("used")).cast(MONEY), pl.col("expires_on") <= as_of
    is_over = is_over.fill_null(value=False)
    return CREDITS.conform(
        known.with_columns(
            expired=pl.when(is_over).then(rest).otherwise(_ZERO), left=pl.when(is_over).then(_ZERO).otherwise(rest)
        )
    )


def next_expiries(credits: pl.DataFrame) -> pl.DataFrame:
    """account_id, currency, credits_left, credits_expire_on, credits_expiring: what is left, and what expires next.

    Parameters
    ----------
    credits
        The table CREDITS.
    """
    left = credits.filter(pl.col("left") > 0)
    first = pl.col("expires_on").min().over("account_id", "currency")
    return (
        left.with_columns(_first=first)
        .group_by("account_id", "currency")
        .agg(
            credits_left=pl.col("left").sum().cast(MONEY),
            credits_expire_on=pl.col("_first").first(),
            credits_expiring=pl.col("left").filter(pl.col("expires_on") == pl.col("_first")).sum().cast(MONEY),
        )
        .with_columns(credits_expiring=pl.when(pl.col("credits_expire_on").is_not_null()).then("credits_expiring"))
    )


def not_covered(added: pl.DataFrame, used: pl.DataFrame) -> pl.DataFrame:
    """What was used of grants beyond what was added, on the day of the last use: rows that were lowered or are gone.

    Parameters
    ----------
    added, used
        grant_id, account_id, day, amount (MONEY).
    """
    sums = added.group_by("grant_id").agg(_added=pl.col("amount").sum())
    return (
        used.group_by("grant_id", maintain_order=True)
        .agg(pl.col("account_id").first(), pl.col("day").max(), pl.col("amount").sum())
        .join(sums, on="grant_id", how="left", maintain_order="left")
        .with_columns(amount=(pl.col("amount") - pl.col("_added").fill_null(_ZERO)).cast(MONEY))
        .filter(pl.col("amount") > 0)
        .select(_MOVED)
    )


def expired_credits(added: Iterable[pl.DataFrame], used: pl.DataFrame, expiry: pl.DataFrame) -> pl.DataFrame:
    """What expires of grants, by day: on the day of expiry what was left then, and later what changes that.

    What a credit note gives back to a grant that has expired expires at once; a document of an earlier billing date
    that is issued later takes its part back.

    Parameters
    ----------
    added, used
        grant_id, account_id, day, amount (MONEY).
    expiry
        grant_id, expires_on (null: never).
    """
    moved = pl.concat([*(each.select(_MOVED) for each in added), used.select(*_MOVED[:3], amount=-pl.col("amount"))])
    return (
        moved.join(expiry.filter(pl.col("expires_on").is_not_null()), on="grant_id")
        .with_columns(day=pl.max_horizontal("day", "expires_on"))
        .group_by("grant_id", "account_id", "day")
        .agg(pl.col("amount").sum().cast(MONEY))
        .filter(pl.col("amount") != 0)
        .select(_MOVED)
        .sort("grant_id", "day")
    )


def lowered_grants(grants: pl.DataFrame, uses: pl.DataFrame) -> list[str]:
    """Warnings about grants whose rows grant less than was used, or are gone.

    Parameters
    ----------
    grants, uses
        As in `credit_balances`.
    """
    if uses.is_empty():
        return []
    found = (
        uses.group_by("grant_id")
        .agg(used=pl.col("amount").sum().cast(MONEY), of=pl.col("account_id").first())
        .filter(pl.col("used") > 0)
        .join(grants.select("grant_id", "account_id", "amount"), on="grant_id", how="left")
        .filter(
            pl.col("amount").is_null() | (pl.col("amount") < pl.col("used")) | (pl.col("account_id") != pl.col("of"))
        )
        .sort("grant_id")
    )
    warnings = []
    for row in found.iter_rows(named=True):
        name, used = f"credit_grants: {row['grant_id']}", f"{row['used'].normalize():f} of it was used"
        if row["amount"] is None:
            warnings.append(f"{name}: the row is gone, and {used} by {row['of']}: that stands, the rest is void")
        elif row["account_id"] != row["of"]:
            warnings.append(
                f"{name}: found account {row['account_id']}, and {used} by {row['of']}: that stands; expected a row of "
                "its own for another account"
            )
        else:
            now = f"{row['amount'].normalize():f}"
            warnings.append(
                f"{name}: found an amount of {now}, and {used} by {row['of']}: that stands, nothing is left"
            )
    return warnings
