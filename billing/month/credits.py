"""Prepaid credits of a business: the grants, what is left of them, and what documents are paid by (rule 33)."""

from datetime import date
from typing import Final

import polars as pl

from billing.model.account_tables import CREDITS
from billing.model.codes import GrantKind
from billing.model.columns import MONEY
from billing.model.tables import DRAFTS
from billing.month.business import Business
from billing.rules.allocations import covered_amounts, with_open_amounts
from billing.rules.credit_balances import credit_balances, expired_credits, not_covered
from billing.rules.own_documents import prepayment_id
from billing.rules.prepaid_credits import CreditsInOrder, is_prepayment

_MOVED: Final = ["grant_id", "account_id", "day", "amount"]
_ZERO = pl.lit(0).cast(MONEY)


def credits(business: Business) -> pl.DataFrame:
    """The table CREDITS, as of the business's day."""
    grants, uses = business.credit_grants, business.register.credit_uses()
    return CREDITS.empty() if grants.is_empty() and uses.is_empty() else credit_balances(grants, uses, business.as_of)


def credits_in_order(business: Business, drafted: pl.Expr) -> CreditsInOrder | None:
    """What grants can pay of documents that are drafted now; None where there are none.

    Parameters
    ----------
    drafted
        Of which rows of DRAFTS the credits count as used: they come first, and are not issued yet.
    """
    grants, uses = business.credit_grants, business.register.credit_uses()
    if grants.is_empty() and uses.is_empty():
        return None
    waiting = (
        business.scan_months(DRAFTS, business.home.months(DRAFTS))
        .filter(drafted)
        .select(credit=pl.col("credits").explode())
        .unnest("credit")
        .drop_nulls("grant_id")
        .group_by("grant_id")
        .agg(waiting=pl.col("amount").sum())
        .collect()
    )
    used = uses.group_by("grant_id").agg(used=pl.col("amount").sum())
    accounts = pl.concat([grants.select("account_id"), uses.select("account_id")]).unique()
    receivables = business.receivables.join(accounts, on="account_id", how="semi", maintain_order="left")
    payments = business.payments.join(accounts, on="account_id", how="semi", maintain_order="left")
    is_bought = pl.col("kind") == GrantKind.PURCHASED
    usable_from = pl.when(is_bought).then(pl.max_horizontal("granted_on", "paid_on")).otherwise("granted_on")
    left = (
        grants.with_columns(subscription_id=prepayment_id())
        .join(_paid_on(receivables, payments), on="subscription_id", how="left", maintain_order="left")
        .join(used, on="grant_id", how="left", maintain_order="left")
        .join(waiting, on="grant_id", how="left", maintain_order="left")
        .with_columns(
            left=(pl.col("amount") - pl.col("used").fill_null(_ZERO) - pl.col("waiting").fill_null(_ZERO)).cast(MONEY),
            usable_from=pl.when(~is_bought | pl.col("paid_on").is_not_null()).then(usable_from),
        )
    )
    return CreditsInOrder(left, uses, with_open_amounts(receivables, payments))


def month_credits(business: Business, since: date, until: date) -> pl.DataFrame:
    """What was granted, used and expired from a day to another, and what was left then: drafts included.

    Returns
    -------
    polars.DataFrame
        kind (granted or purchased; empty where the row is gone), granted, used, expired, left (MONEY); sorted.
    """
    grants, uses = business.credit_grants, business.register.credit_uses()
    if business.whole is not None:
        uses = uses.filter(pl.col("currency") == business.catalogue.currency)
    if grants.is_empty() and uses.is_empty():
        return pl.DataFrame(schema={"kind": pl.String, **dict.fromkeys(("granted", "used", "expired", "left"), MONEY)})
    added = grants.rename({"granted_on": "day"}).select(_MOVED)
    # A note uses and gives back credits on the day it is issued.
    day = pl.when("is_scheduled").then("billing_date").otherwise("issued_on")
    drafted = (
        business.scan_months(DRAFTS, business.home.months(DRAFTS))
        .select("account_id", "credits", day="billing_date")
        .explode("credits")
        .unnest("credits")
        .drop_nulls("grant_id")
        .select(_MOVED)
        .collect()
    )
    used = pl.concat([uses.with_columns(day=day).select(_MOVED), drafted])
    added = pl.concat([added, not_covered(added, used)])
    expired = expired_credits([added], used, grants.select("grant_id", "expires_on"))
    kinds = grants.select("grant_id", "kind")
    moved = [
        frame.filter(pl.col("day") <= until)
        .join(kinds, on="grant_id", how="left", maintain_order="left")
        .group_by(kind=pl.col("kind").fill_null(""))
        .agg(
            pl.col("amount").filter(pl.col("day") >= since).sum().cast(MONEY).alias(name),
            pl.col("amount").sum().cast(MONEY).alias(f"{name}_ever"),
        )
        for name, frame in (("granted", added), ("used", used), ("expired", expired))
    ]
    sums = moved[0]
    for each in moved[1:]:
        sums = sums.join(each, on="kind", how="full", coalesce=True)
    return (
        sums.with_columns(pl.exclude("kind").fill_null(_ZERO))
        .with_columns(left=pl.col("granted_ever") - pl.col("used_ever") - pl.col("expired_ever"))
        .select("kind", "granted", "used", "expired", pl.col("left").cast(MONEY))
        .sort("kind")
    )


def _paid_on(receivables: pl.DataFrame, payments: pl.DataFrame) -> pl.DataFrame:
    """subscription_id, paid_on: of the documents of purchased grants that are paid, the day on which they were."""
    bought = receivables.filter(is_prepayment() & (pl.col("due") > 0)).select("subscription_id", "number", "due")
    return (
        bought.join(covered_amounts(receivables, payments), on="number", how="left")
        .group_by("subscription_id")
        .agg(is_paid=(pl.col("covered").fill_null(_ZERO) >= pl.col("due")).all(), paid_on=pl.col("on").max())
        .filter("is_paid")
        .select("subscription_id", "paid_on")
    )
