"""Who is billed in which currency: what accounts say, and what was issued to them (rule 36)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import polars as pl

from billing.model.codes import DecisionKind
from billing.month.computed import Computed
from billing.rules.allocations import with_open_amounts
from billing.rules.currencies import Currencies, in_currencies, live_subscriptions
from billing.rules.subscriptions import Lives, read_lives
from billing.rules.terms import terms_frames
from billing.rules.withdrawals import without_withdrawn

if TYPE_CHECKING:
    from billing.month.business import Business


def currencies_of(business: Business) -> Currencies:
    """Who is billed in which currency, where several are in use."""
    own = business.catalogue.currency
    accounts = business.inputs.accounts.select("account_id", "currency")
    issued = business.register.issued_currencies()
    now = accounts.select("account_id", row=pl.col("currency").fill_null(own))
    moved = issued.join(now, on="account_id", maintain_order="left").filter(pl.col("row") != pl.col("currency"))
    if moved.is_empty():
        return in_currencies(own, accounts, issued, pl.Series(dtype=pl.String), _owing(business, moved))
    return in_currencies(own, accounts, issued, _live(business, moved), _owing(business, moved))


def parts_of(business: Business) -> list[Business]:
    """As `Business.by_currency`, where there are several."""
    currencies = business.currencies
    return [
        replace(
            business,
            catalogue=business.catalogue.in_currency(code),
            inputs=business.inputs.of_currency(code, currencies),
            whole=business,
            computed=business.computed.once(("currency", code), None, Computed),
        )
        for code in currencies.codes
    ]


def give_up_parts(business: Business) -> None:
    """Let go of the parts, which hold the business: it is freed when nobody uses it any more."""
    vars(business).pop("_parts", None)


def of_currency(business: Business, currency: str) -> Business:
    """The part of a business in a currency; the business itself where that is the only one."""
    return next((part for part in business.by_currency if part.catalogue.currency == currency), business)


def _live(business: Business, moved: pl.DataFrame) -> pl.Series:
    """subscription_id of what lives of accounts whose row names another currency than their documents."""
    requests = business.requests
    takes_back = (requests["kind"] == DecisionKind.WITHDRAW).any()
    decided = business.register.closed_decision_ids() if takes_back else pl.Series(dtype=pl.String)
    requests, _ = without_withdrawn(requests, decided)
    billed = moved["subscription_id"]
    found = [
        read_lives(
            requests.join(some, on="account_id", how="semi", maintain_order="left"), catalogue, terms, None, billed
        ).subscriptions
        for (code,), some in moved.partition_by("currency", as_dict=True, maintain_order=True).items()
        for catalogue in [business.catalogue.in_currency(str(code))]
        for terms in [terms_frames(catalogue)]
    ]
    closed = business.register.closed_dates().select("subscription_id", "billing_date")
    return live_subscriptions(pl.concat(found), closed, business.as_of)


def _owing(business: Business, moved: pl.DataFrame) -> pl.DataFrame:
    """account_id, currency, open: what these accounts owe."""
    receivables = business.receivables.join(moved, on="account_id", how="semi", maintain_order="left")
    payments = business.payments.join(moved, on="account_id", how="semi", maintain_order="left")
    owed = with_open_amounts(receivables, payments).filter(pl.col("open") > 0)
    return owed.group_by("account_id", "currency", maintain_order=True).agg(pl.col("open").sum())


def joined_lives(parts: Iterable[Lives]) -> Lives:
    """The lives of the accounts of several currencies as one."""
    lives = list(parts)
    if len(lives) == 1:
        return lives[0]
    return Lives(
        subscriptions=pl.concat(each.subscriptions for each in lives).sort("account_id", "started_on"),
        answers=pl.concat(each.answers for each in lives).sort("at", "request_id"),
        parked=pl.concat(each.parked for each in lives).sort("account_id"),
    )
