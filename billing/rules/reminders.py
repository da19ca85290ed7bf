"""Which accounts are reminded of which overdue documents (rule 41)."""

from collections.abc import Sequence
from datetime import date
from typing import Final

import polars as pl

from billing.model.catalogue import ReminderLevel
from billing.model.codes import PaymentStatus
from billing.model.columns import MONEY
from billing.rules.allocations import OWED, paid_amounts, with_open_amounts

OVERDUE: Final = ("number", "kind", "issued_on", "due_on", "due", "open")


def overdue_documents(receivables: pl.DataFrame, payments: pl.DataFrame, as_of: date) -> pl.DataFrame:
    """What is owed after its due date, opening balances too, less what payments and credits cover.

    Parameters
    ----------
    receivables
        As in `allocate`, with due_on; an opening balance is due on its day.

    Returns
    -------
    polars.DataFrame
        account_id, currency, OVERDUE and days (since due_on); the oldest first. Documents whose latest payment is
        disputed are left out.
    """
    disputed = paid_amounts(payments).filter(pl.col("last_returned") == PaymentStatus.DISPUTED)
    return (
        with_open_amounts(receivables, payments)
        .filter(pl.col("kind").is_in(OWED) & (pl.col("open") > 0))
        .with_columns(due_on=pl.coalesce("due_on", "issued_on"))
        .filter(pl.col("due_on") < as_of)
        .join(disputed, on="number", how="anti")
        .select("account_id", "currency", *OVERDUE, days=(pl.lit(as_of) - pl.col("due_on")).dt.total_days())
        .sort("account_id", "due_on", "issued_on", "number")
    )


def reminders_due(
    overdue: pl.DataFrame, *, accounts: pl.DataFrame, levels: Sequence[ReminderLevel], reminded: pl.DataFrame
) -> pl.DataFrame:
    """The reminders to send: one an account, of all its overdue documents.

    The level is that of the account's oldest overdue document: the latest one whose days have passed. Each level is
    sent once for that document; levels that were missed are not made up for.

    Parameters
    ----------
    overdue
        As `overdue_documents`.
    accounts
        account_id, dunning (null: yes).
    reminded
        account_id, oldest_document, level of the reminders so far.

    Returns
    -------
    polars.DataFrame
        account_id, level (from 1), oldest_document, documents (list of numbers), currency, amount (MONEY); sorted.
    """
    reached = pl.sum_horizontal(
        pl.lit(0, pl.Int64), *((pl.col("days") >= level.days).cast(pl.Int64) for level in levels)
    )
    wanted = accounts.filter(pl.col("dunning").fill_null(value=True)).select("account_id")
    due = (
        overdue.join(wanted, on="account_id", how="semi", maintain_order="left")
        # One reminder adds up what is of one currency (rule 36): that of the oldest document.
        .filter(pl.col("currency") == pl.col("currency").first().over("account_id"))
        .group_by("account_id", maintain_order=True)
        .agg(
            level=reached.first(),
            oldest_document=pl.col("number").first(),
            documents=pl.col("number"),
            currency=pl.col("currency").first(),
            amount=pl.col("open").sum().cast(MONEY),
        )
        .filter(pl.col("level") > 0)
    )
    sent = reminded.group_by("account_id", "oldest_document").agg(sent=pl.col("level").max())
    return (
        due.join(sent, on=["account_id", "oldest_document"], how="left", maintain_order="left")
        .filter(pl.col("sent").is_null() | (pl.col("sent") < pl.col("level")))
        .drop("sent")
        .sort("account_id")
    )


def still_open(made: pl.DataFrame, overdue: pl.DataFrame) -> pl.DataFrame:
    """reminder_id of reminders of which every document is overdue with what they say together (rule 41).

    Parameters
    ----------
    made
        reminder_id, account_id, documents (a list as JSON), amount (MONEY).
    overdue
        account_id, document, open (MONEY).
    """
    named = made.select(
        "reminder_id", "account_id", "amount", document=pl.col("documents").str.json_decode(pl.List(pl.String))
    ).explode("document")
    found = named.join(overdue, on=["account_id", "document"], how="left")
    return (
        found.group_by("reminder_id", maintain_order=True)
        .agg(pl.col("open").sum(), pl.col("amount").first(), is_whole=pl.col("open").is_not_null().all())
        .filter(pl.col("is_whole") & (pl.col("open") == pl.col("amount")))
        .select("reminder_id")
    )
