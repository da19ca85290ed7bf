"""The statement of an account: movements, balance and aging, as data and as a page (rule 41)."""

from datetime import date
from decimal import Decimal
from typing import Any

import polars as pl

from billing.model.errors import RefusedError
from billing.model.money import minor_units
from billing.month.business import Business
from billing.rendering.letters import amount_text, statement_pdf
from billing.reports.letter_parties import customers_of, logo_of, own_words, seller_of
from billing.rules.statements import MOVEMENTS, movements, open_by_age


def statement(business: Business, account: str, since: date | None, until: date) -> dict[str, Any]:
    """The statement of an account, in its currency, over `[since, until]`; without `since` from its first movement on.

    Returns
    -------
    dict
        account_id, currency, from, to, opening, movements (a list with the columns MOVEMENTS), closing, aging (an
        amount by Age); amounts are texts.

    Raises
    ------
    RefusedError
        When the account is unknown, or `since` is after `until`.
    """
    if not business.knows(account):
        raise RefusedError(f"unknown account: found {account!r}, expected an account_id of the accounts file")
    if since is not None and since > until:
        raise RefusedError(f"--from: found {since}, expected a day up to {until}")
    its = business.currencies.with_currency(pl.DataFrame({"account_id": [account]})).item(0, "currency")
    own = (pl.col("account_id") == account) & (pl.col("currency") == its)
    receivables = business.receivables.filter(own)
    payments = business.payments.filter(own & (pl.col("on") <= until))
    places = minor_units(its) or 0
    moved = movements(receivables, payments).filter(pl.col("date") <= until)
    first = since or (moved["date"].min() if moved.height else until)
    before = moved.filter(pl.col("date") < first)
    opening = _sum(before)
    shown = moved.filter(pl.col("date") >= first)
    closing = opening + _sum(shown)
    rows = [
        {
            **row,
            "date": row["date"].isoformat(),
            "due_on": row["due_on"].isoformat() if row["due_on"] else None,
            "amount": amount_text(row["amount"], places),
            "balance": amount_text(row["balance"], places),
        }
        for row in shown.select(MOVEMENTS).iter_rows(named=True)
    ]
    ages = open_by_age(receivables, payments, until)
    return {
        "account_id": account,
        "currency": its,
        "from": first.isoformat() if isinstance(first, date) else until.isoformat(),
        "to": until.isoformat(),
        "opening": amount_text(opening, places),
        "movements": rows,
        "closing": amount_text(closing, places),
        "aging": {str(age): amount_text(amount, places) for age, amount in ages.items()},
    }


def statement_page(business: Business, content: dict[str, Any]) -> bytes:
    """The statement as a PDF, in the language of the account."""
    account = content["account_id"]
    customer = customers_of(business, pl.Series([account]))[account]
    return statement_pdf(
        {
            **content,
            "language": customer["language"],
            "locale": customer["locale"],
            "minor_units": minor_units(content["currency"]),
            "seller": seller_of(business.catalogue),
            "customer": customer["customer"],
        },
        own_words(business.catalogue, customer["language"]),
        logo_of(business.catalogue),
    )


def _sum(moved: pl.DataFrame) -> Decimal:
    amounts: list[Decimal] = moved["amount"].to_list()
    return sum(amounts, Decimal(0))
