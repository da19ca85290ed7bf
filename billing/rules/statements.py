"""The statement of an account: every movement in order, with the balance after it (rules 25 and 41)."""

from datetime import date
from decimal import Decimal
from typing import Final

import polars as pl

from billing.model.codes import Age, MovementKind, PaymentStatus
from billing.model.columns import MONEY
from billing.rules.allocations import with_open_amounts
from billing.rules.receivables import shown_number

MOVEMENTS: Final = ("date", "kind", "number", "document", "due_on", "amount", "balance")
_KINDS: Final = {
    PaymentStatus.SUCCEEDED: MovementKind.PAYMENT,
    PaymentStatus.REFUNDED: MovementKind.REFUND,
    PaymentStatus.DISPUTED: MovementKind.DISPUTE,
}
_ORDER: Final = {kind: place for place, kind in enumerate(MovementKind)}


def movements(receivables: pl.DataFrame, payments: pl.DataFrame) -> pl.DataFrame:
    """Every movement of accounts, in order: their sum is what an account owes, as BALANCES has it.

    Parameters
    ----------
    receivables, payments
        As in `allocate`, with due_on.

    Returns
    -------
    polars.DataFrame
        account_id, date, kind (MovementKind), number (of the document, else the payment_id), document (which a payment
        names), due_on, amount (MONEY: above 0 raises what is owed), balance (after it, of the account).
    """
    documents = receivables.select(
        "account_id",
        "kind",
        "due_on",
        shown_number("number"),
        document=pl.lit(None, pl.String),
        date="issued_on",
        amount=pl.col("due").cast(MONEY),
    )
    is_paid = pl.col("status") == PaymentStatus.SUCCEEDED
    paid = payments.filter(pl.col("status").is_in(list(_KINDS))).select(
        "account_id",
        shown_number("document"),
        kind=pl.col("status").replace_strict(_KINDS, return_dtype=pl.String),
        due_on=pl.lit(None, pl.Date),
        number="payment_id",
        date="on",
        amount=pl.when(is_paid).then(-pl.col("amount")).otherwise("amount").cast(MONEY),
    )
    order = pl.col("kind").replace_strict(_ORDER, return_dtype=pl.Int64)
    return (
        pl.concat([documents, paid], how="diagonal")
        .sort("account_id", "date", order, "number")
        .with_columns(balance=pl.col("amount").cum_sum().over("account_id").cast(MONEY))
        .select("account_id", *MOVEMENTS)
    )


def open_by_age(receivables: pl.DataFrame, payments: pl.DataFrame, day: date) -> dict[str, Decimal]:
    """What is open on documents by the days since their due date, as of a day: an amount for each Age."""
    owed = with_open_amounts(
        receivables.filter(pl.col("issued_on") <= day), payments.filter(pl.col("on") <= day)
    ).with_columns(days=(pl.lit(day) - pl.coalesce("due_on", "issued_on")).dt.total_days())
    days = pl.col("days")
    spans = {
        Age.NOT_DUE: days <= 0,
        Age.UP_TO_30: days.is_between(1, 30),
        Age.UP_TO_60: days.is_between(31, 60),
        Age.UP_TO_90: days.is_between(61, 90),
        Age.OVER_90: days > 90,
    }
    sums = owed.select(pl.col("open").filter(span).sum().cast(MONEY).alias(age) for age, span in spans.items())
    return sums.row(0, named=True)
