"""Accounts receivable: suspensions, refunds, balances and collections (rules 15, 16, 25)."""

import hashlib
from datetime import date
from typing import Final

import polars as pl

from billing.model.account_tables import BALANCES, COLLECTIONS
from billing.model.codes import ATTEMPTS, RETURNED, Age, BalanceStatus, DocumentKind, PaymentStatus, PostingKind
from billing.model.columns import INSTANT, MONEY
from billing.model.empty_frames import skip_if_empty
from billing.model.one_collect import collected
from billing.rules.allocations import DEBITS, open_at_moments, paid_amounts, with_open_amounts
from billing.rules.prepaid_credits import is_prepayment
from billing.rules.receivables import is_of_a_document, shown_number

SUSPENSION_SCHEMA: Final[dict[str, pl.DataType | type[pl.DataType]]] = {
    "account_id": pl.String,
    "suspended_from": INSTANT,
    "suspended_until": INSTANT,
}


@skip_if_empty("payments")
def suspensions(payments: pl.DataFrame, documents: pl.DataFrame) -> pl.DataFrame:
    """When access was suspended.

    Rule 16: from the instant of a failed payment until no document whose latest attempt failed is unpaid. What payments
    and credits cover is paid.

    Parameters
    ----------
    payments
        Of known documents, as in `Inputs`.
    documents
        number, account_id, subscription_id, kind, issued_on, due, corrects, credited_at (the start of issued_on, as an
        instant); opening balances, too.

    Returns
    -------
    polars.DataFrame
        account_id, suspended_from, suspended_until (UTC; null is open), sorted.
    """
    # A failed payment of an opening balance or a prepayment, or on account, suspends nobody.
    bought = documents.filter(is_prepayment())["number"]
    suspends = is_of_a_document("document") & ~pl.col("document").is_in(bought.implode())
    payments = payments.filter((pl.col("status") != PaymentStatus.FAILED) | suspends)
    failing = payments.filter(pl.col("status") == PaymentStatus.FAILED).select("account_id").unique()
    payments = payments.join(failing, on="account_id", how="semi")
    documents = documents.join(failing, on="account_id", how="semi")
    credited = documents.filter(pl.col("due") < 0).select("account_id", moment=pl.col("credited_at").cast(INSTANT))
    moments = (
        pl.concat([payments.select("account_id", moment=pl.col("at").cast(INSTANT)), credited])
        .unique()
        .sort("account_id", "moment")
    )
    attempts = (
        payments.filter(pl.col("status").is_in(ATTEMPTS))
        .sort("at", "payment_id")
        .group_by("document", "at", maintain_order=True)
        .agg(pl.col("status").last())
        .select(number="document", moment=pl.col("at").cast(INSTANT), latest="status")
    )
    blocking = (
        open_at_moments(moments, documents, payments)
        .filter(pl.col("open") > 0)
        .sort("moment")
        .join_asof(attempts.sort("moment"), on="moment", by="number", strategy="backward", check_sortedness=False)
        .filter(pl.col("latest") == PaymentStatus.FAILED)
        .select("account_id", "moment", blocks=pl.lit(True))
        .unique()
    )
    spans = (
        moments.join(blocking, on=["account_id", "moment"], how="left", maintain_order="left")
        .with_columns(is_suspended=pl.col("blocks").fill_null(value=False))
        .filter(pl.col("is_suspended") != pl.col("is_suspended").shift(1).over("account_id").fill_null(value=False))
        .with_columns(until=pl.col("moment").shift(-1).over("account_id"))
    )
    return spans.filter("is_suspended").select("account_id", suspended_from="moment", suspended_until="until")


@skip_if_empty("notes")
def money_sent_back(
    documents: pl.DataFrame, notes: pl.DataFrame, payments: pl.DataFrame, refunds: pl.DataFrame
) -> pl.DataFrame:
    """Money that approved refunds pay back.

    It is what was paid on the document by the day of approval (rule 14). A credit note reduces the unpaid part first,
    and gives prepaid credits back to their grants before money.

    Parameters
    ----------
    documents
        Issued documents of the refunded subscriptions.
    notes
        Those of them that are credit notes of refunds.
    payments
        As in `Inputs`.
    refunds
        subscription_id, on (the day of the approval).

    Returns
    -------
    polars.DataFrame
        subscription_id, refunded (MONEY).
    """
    made, credited = documents.lazy(), notes.lazy()
    days = refunds.lazy().select("subscription_id", "on")
    kept = (
        payments.lazy()
        .join(made.select(document="number", subscription_id="subscription_id"), on="document")
        .join(days, on="subscription_id", suffix="_refund")
        .filter(
            (pl.col("on") <= pl.col("on_refund"))
            & pl.col("status").is_in([PaymentStatus.SUCCEEDED, PaymentStatus.DISPUTED])
        )
        .group_by(number="document")
        .agg(
            paid=pl.when(pl.col("status") == PaymentStatus.SUCCEEDED).then("amount").otherwise(-pl.col("amount")).sum()
        )
    )
    numbered = credited.select("number", "corrects", "subscription_id", back=-pl.col("due"))
    # reductions of the document by other notes
    others = (
        made.join(credited, on="number", how="anti")
        .filter(pl.col("corrects").is_not_null())
        .group_by(number="corrects")
        .agg(lowered=pl.col("due").sum())
    )
    billed = made.select("number", billed="due")
    nothing = pl.lit(0).cast(MONEY)
    unpaid = (pl.col("billed") + pl.col("lowered").fill_null(nothing) - pl.col("paid").fill_null(nothing)).clip(
        lower_bound=0
    )
    return collected(
        numbered.rename({"number": "note", "corrects": "number"})
        .join(billed, on="number", how="left")
        .join(others, on="number", how="left")
        .join(kept, on="number", how="left")
        .group_by("subscription_id")
        .agg(refunded=(pl.col("back") - pl.min_horizontal(unpaid, "back")).sum().cast(MONEY))
    )


def account_balances(documents: pl.DataFrame, payments: pl.DataFrame, currency: str) -> pl.DataFrame:
    """The balance of every account with a document, an opening balance or a payment: the table BALANCES.

    Rule 15: debts survive cancelling, so the status of the account is ignored.

    Parameters
    ----------
    documents
        Issued documents with `open`, see `with_open_amounts`.
    payments
        Of known documents.
    """
    total, is_debit = pl.col("total"), pl.col("kind").is_in(DEBITS)
    credits = pl.col("credits_applied")
    billed = documents.group_by("account_id").agg(
        invoiced=total.filter(is_debit).sum().cast(MONEY),
        credited=-total.filter(pl.col("kind") == DocumentKind.CREDIT_NOTE).sum().cast(MONEY),
        opening=total.filter(pl.col("kind") == PostingKind.OPENING_BALANCE).sum().cast(MONEY),
        credits_applied=credits.filter(is_debit).sum().cast(MONEY),
        credits_returned=-credits.filter(pl.col("kind") == DocumentKind.CREDIT_NOTE).sum().cast(MONEY),
        oldest_unpaid_on=pl.col("issued_on").filter(pl.col("open") > 0).min(),
    )
    amount, status = pl.col("amount"), pl.col("status")
    moved = payments.group_by("account_id").agg(
        paid=amount.filter(status == PaymentStatus.SUCCEEDED).sum().cast(MONEY),
        refunded=amount.filter(status.is_in(RETURNED)).sum().cast(MONEY),
    )
    balances = billed.join(moved, on="account_id", how="full", coalesce=True).with_columns(
        pl.col("invoiced", "credited", "opening", "credits_applied", "credits_returned", "paid", "refunded")
        .fill_null(0)
        .cast(MONEY)
    )
    outstanding = (
        pl.col("opening")
        + pl.col("invoiced")
        - pl.col("credits_applied")
        - (pl.col("credited") - pl.col("credits_returned"))
        - (pl.col("paid") - pl.col("refunded"))
    )
    return BALANCES.conform(
        balances.with_columns(currency=pl.lit(currency), outstanding=outstanding).with_columns(
            status=pl.when(pl.col("outstanding") > 0)
            .then(pl.lit(BalanceStatus.OWING))
            .when(pl.col("outstanding") < 0)
            .then(pl.lit(BalanceStatus.IN_CREDIT))
            .otherwise(pl.lit(BalanceStatus.SETTLED))
        )
    )


def amounts_to_collect(
    documents: pl.DataFrame, payments: pl.DataFrame, card_changes: pl.DataFrame, as_of: date
) -> pl.DataFrame:
    """What to charge to which card: a row per unpaid document, the table COLLECTIONS.

    The idempotency key stays the same until an attempt to pay has an outcome or the amount moves, so that a payment
    provider can be asked twice and charges once.

    Parameters
    ----------
    documents
        Issued documents, all of the accounts, and opening balances as documents.
    card_changes
        account_id, at, brand, last4: approved changes of card.
    """
    due = (
        with_open_amounts(documents, payments)
        .filter(pl.col("open") > 0)
        .join(paid_amounts(payments), on="number", how="left", maintain_order="left")
        .with_columns(amount_due="open", outcomes=pl.col("outcomes").fill_null(0))
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
    days = (pl.lit(as_of) - pl.col("due_on")).dt.total_days()
    age = (
        pl.when(days <= 0)
        .then(pl.lit(Age.NOT_DUE))
        .when(days <= 30)
        .then(pl.lit(Age.UP_TO_30))
        .when(days <= 60)
        .then(pl.lit(Age.UP_TO_60))
        .when(days <= 90)
        .then(pl.lit(Age.UP_TO_90))
        .otherwise(pl.lit(Age.OVER_90))
    )
    rows = due.join(cards, on="account_id", how="left").with_columns(
        days_overdue=days, age=age, attempts_failed=pl.col("last_attempt") == PaymentStatus.FAILED
    )
    keys = [
        hashlib.sha256(f"{number}/{amount}/{outcomes}".encode()).hexdigest()[:32]
        for number, amount, outcomes in rows.select("number", "amount_due", "outcomes").iter_rows()
    ]
    keyed = rows.with_columns(pl.Series("idempotency_key", keys, pl.String), shown_number("number"))
    return COLLECTIONS.conform(keyed)
