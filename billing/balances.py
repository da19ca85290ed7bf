"""Money owed: what was paid on each document, what that makes of it, and what is to be collected (rules 15, 16, 25)."""

import hashlib
from datetime import date
from typing import Final

import polars as pl

from billing.tables import BALANCES, COLLECTIONS, INSTANT, MONEY

_DEBITS: Final = ["invoice", "debit_note"]


def paid_amounts(payments: pl.DataFrame) -> pl.DataFrame:
    """number, paid (succeeded), returned (refunded or disputed), last_attempt (status of the latest attempt)."""
    amount, status = pl.col("amount"), pl.col("status")
    return (
        payments.sort("at", "payment_id")
        .group_by(pl.col("document").alias("number"), maintain_order=True)
        .agg(
            paid=amount.filter(status == "succeeded").sum().cast(MONEY),
            returned=amount.filter(status.is_in(["refunded", "disputed"])).sum().cast(MONEY),
            last_attempt=status.filter(status.is_in(["succeeded", "failed"])).last(),
        )
    )


def with_status(documents: pl.DataFrame, payments: pl.DataFrame) -> pl.DataFrame:
    """`documents` with `status`: open, paid or refunded, as the payments say now.

    A document is paid when what was paid and not returned covers its total; refunded when everything paid went back.
    """
    settled = documents.join(paid_amounts(payments), on="number", how="left", maintain_order="left").with_columns(
        pl.col("paid", "returned").fill_null(0).cast(MONEY)
    )
    kept = pl.col("paid") - pl.col("returned")
    status = (
        pl.when((pl.col("returned") > 0) & (kept <= 0))
        .then(pl.lit("refunded"))
        .when((pl.col("total") >= 0) & (kept >= pl.col("total")))
        .then(pl.lit("paid"))
        .otherwise(pl.lit("open"))
    )
    return settled.with_columns(status=status).drop("paid", "returned", "last_attempt")


def suspensions(payments: pl.DataFrame, documents: pl.DataFrame) -> pl.DataFrame:
    """When access was suspended.

    Rule 16: from the instant of a failed payment until no document whose latest attempt failed is unpaid.

    Parameters
    ----------
    payments
        Of known documents, as in `Inputs`.
    documents
        number, total.

    Returns
    -------
    polars.DataFrame
        account_id, suspended_from, suspended_until (UTC; null is open), sorted.
    """
    amount, status = pl.col("amount"), pl.col("status")
    kept = (
        pl.when(status == "succeeded")
        .then(amount)
        .when(status.is_in(["refunded", "disputed"]))
        .then(-amount)
        .otherwise(pl.lit(0).cast(MONEY))
    )
    attempt = pl.when(status.is_in(["succeeded", "failed"])).then(status)
    moments = (
        payments.join(documents.select("number", "total"), left_on="document", right_on="number")
        .sort("document", "at", "payment_id")
        .with_columns(kept=kept.cum_sum().over("document"), latest=attempt.forward_fill().over("document"))
        .group_by("account_id", "document", "at", maintain_order=True)
        .last()
        .with_columns(blocks=((pl.col("latest") == "failed") & (pl.col("kept") < pl.col("total"))).fill_null(False))
        .with_columns(
            change=pl.col("blocks").cast(pl.Int32)
            - pl.col("blocks").shift(1).over("document").fill_null(False).cast(pl.Int32)
        )
    )
    counted = (
        moments.group_by("account_id", "at")
        .agg(pl.col("change").sum())
        .sort("account_id", "at")
        .with_columns(blocking=pl.col("change").cum_sum().over("account_id"))
        .with_columns(is_suspended=pl.col("blocking") > 0)
        .filter(pl.col("is_suspended") != pl.col("is_suspended").shift(1).over("account_id").fill_null(False))
        .with_columns(until=pl.col("at").shift(-1).over("account_id"))
    )
    return counted.filter("is_suspended").select(
        "account_id", suspended_from=pl.col("at").cast(INSTANT), suspended_until=pl.col("until").cast(INSTANT)
    )


def account_balances(documents: pl.DataFrame, payments: pl.DataFrame, currency: str) -> pl.DataFrame:
    """What every account with a document owes: the table BALANCES.

    Rule 15: debts survive cancelling, so nothing here asks whether the account is still a customer.

    Parameters
    ----------
    documents
        Issued documents with `status`, see `with_status`.
    payments
        Of known documents.
    """
    total, is_debit = pl.col("total"), pl.col("kind").is_in(_DEBITS)
    billed = documents.group_by("account_id").agg(
        invoiced=total.filter(is_debit).sum().cast(MONEY),
        credited=-total.filter(~is_debit).sum().cast(MONEY),
        oldest_unpaid_on=pl.col("issued_on").filter(is_debit & (pl.col("status") == "open") & (total > 0)).min(),
    )
    amount, status = pl.col("amount"), pl.col("status")
    moved = payments.group_by("account_id").agg(
        paid=amount.filter(status == "succeeded").sum().cast(MONEY),
        refunded=amount.filter(status.is_in(["refunded", "disputed"])).sum().cast(MONEY),
    )
    balances = billed.join(moved, on="account_id", how="left").with_columns(
        pl.col("paid", "refunded").fill_null(0).cast(MONEY)
    )
    outstanding = pl.col("invoiced") - pl.col("credited") - (pl.col("paid") - pl.col("refunded"))
    return BALANCES.conform(
        balances.with_columns(currency=pl.lit(currency), outstanding=outstanding).with_columns(
            status=pl.when(pl.col("outstanding") > 0)
            .then(pl.lit("owing"))
            .when(pl.col("outstanding") < 0)
            .then(pl.lit("in_credit"))
            .otherwise(pl.lit("settled"))
        )
    )


def amounts_to_collect(
    documents: pl.DataFrame, payments: pl.DataFrame, card_changes: pl.DataFrame, as_of: date
) -> pl.DataFrame:
    """What to charge to which card: a row per unpaid document, the table COLLECTIONS.

    Credit notes are taken off the document they correct. The idempotency key stays the same as long as the amount
    does, so that a payment provider can be asked twice and charges once.

    Parameters
    ----------
    card_changes
        account_id, at, brand, last4: approved changes of card.
    """
    paid = paid_amounts(payments)
    credited = (
        documents.filter(pl.col("corrects").is_not_null() & ~pl.col("kind").is_in(_DEBITS))
        .group_by(pl.col("corrects").alias("number"))
        .agg(correction=pl.col("total").sum())
    )
    zero = pl.lit(0).cast(MONEY)
    due = (
        documents.filter(pl.col("kind").is_in(_DEBITS))
        .join(paid, on="number", how="left")
        .join(credited, on="number", how="left")
        .with_columns(
            amount_due=pl.col("total")
            + pl.col("correction").fill_null(zero)
            - pl.col("paid").fill_null(zero)
            + pl.col("returned").fill_null(zero)
        )
        .filter(pl.col("amount_due") > 0)
    )
    used = payments.filter(pl.col("card_last4").is_not_null()).select(
        "account_id", "at", brand="card_brand", last4="card_last4"
    )
    cards = (
        pl.concat([used, card_changes.select("account_id", "at", "brand", "last4")])
        .sort("at")
        .group_by("account_id", maintain_order=True)
        .last()
        .select("account_id", card_brand="brand", card_last4="last4")
    )
    days = (pl.lit(as_of) - pl.col("issued_on")).dt.total_days()
    age = (
        pl.when(days <= 0)
        .then(pl.lit("not_due"))
        .when(days <= 30)
        .then(pl.lit("1_to_30"))
        .when(days <= 60)
        .then(pl.lit("31_to_60"))
        .when(days <= 90)
        .then(pl.lit("61_to_90"))
        .otherwise(pl.lit("over_90"))
    )
    rows = due.join(cards, on="account_id", how="left").with_columns(
        due_on="issued_on", days_overdue=days, age=age, attempts_failed=pl.col("last_attempt") == "failed"
    )
    keys = [
        hashlib.sha256(f"{number}/{amount}".encode()).hexdigest()[:32]
        for number, amount in rows.select("number", "amount_due").iter_rows()
    ]
    return COLLECTIONS.conform(rows.with_columns(pl.Series("idempotency_key", keys, pl.String)))
