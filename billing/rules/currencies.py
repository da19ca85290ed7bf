"""Currencies: an account has one, a currency is a part of the accounts, and nothing of two is added up (rule 36)."""

from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from typing import Any, Final, Literal, TypeVar

import polars as pl

from billing.model.codes import ParkedReason
from billing.rules.own_documents import CHARGES

Rows = TypeVar("Rows", pl.DataFrame, pl.LazyFrame)

ACCOUNT_CURRENCY: Final[dict[str, pl.DataType | type[pl.DataType]]] = {"account_id": pl.String, "currency": pl.String}
SUBSCRIPTION_CURRENCY: Final[dict[str, pl.DataType | type[pl.DataType]]] = {
    "subscription_id": pl.String,
    "currency": pl.String,
}
_REFUSED: Final = {"account_id": pl.String, "reason": pl.String, "detail": pl.String}


@dataclass(frozen=True)
class Currencies:
    """Who is billed in which currency.

    Attributes
    ----------
    own
        The currency of the catalogue: that of all others.
    accounts
        ACCOUNT_CURRENCY: the accounts in another one.
    subscriptions
        SUBSCRIPTION_CURRENCY: those that were billed in another currency than their account has now.
    refused
        account_id, reason, detail: accounts whose row names a currency that they cannot have yet. They keep the other.
    """

    own: str
    accounts: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=ACCOUNT_CURRENCY))
    subscriptions: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=SUBSCRIPTION_CURRENCY))
    refused: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=_REFUSED))

    @property
    def codes(self) -> tuple[str, ...]:
        """The currencies of these accounts, that of the catalogue first."""
        if self.accounts.is_empty() and self.subscriptions.is_empty():
            return (self.own,)
        named = pl.concat([self.accounts["currency"], self.subscriptions["currency"]]).unique().sort()
        return (self.own, *(code for code in named if code != self.own))

    def rows(self, frame: Rows, currency: str) -> Rows:
        """The rows of a frame (account_id, perhaps subscription_id) that are of a currency, in their order."""
        if isinstance(frame, pl.DataFrame):
            if frame.is_empty():
                return frame
            if self.subscriptions.is_empty() or "subscription_id" not in frame.columns:
                return self._rows_by_account(frame, currency)
        found = self.with_currency(frame, "_in")
        return found.filter(pl.col("_in") == currency).drop("_in")

    def with_currency(self, frame: Rows, name: str = "currency") -> Rows:
        """`frame` (account_id, perhaps subscription_id) with the currency of each row."""
        columns = frame.collect_schema().names()
        accounts = _like(frame, self.accounts.rename({"currency": name}))
        found = frame.join(accounts, on="account_id", how="left", maintain_order="left")
        if "subscription_id" in columns and not self.subscriptions.is_empty():
            billed = _like(frame, self.subscriptions.rename({"currency": "_billed"}))
            found = found.join(billed, on="subscription_id", how="left", maintain_order="left")
            return found.with_columns(pl.coalesce("_billed", name, pl.lit(self.own)).alias(name)).drop("_billed")
        return found.with_columns(pl.col(name).fill_null(self.own))

    def _rows_by_account(self, frame: pl.DataFrame, currency: str) -> pl.DataFrame:
        """As `rows`, where no subscription was billed in another currency than its account has."""
        is_own = currency == self.own
        accounts = self.accounts if is_own else self._accounts_in.get(currency, self.accounts.clear())
        how: Literal["anti", "semi"] = "anti" if is_own else "semi"
        return frame.join(accounts, on="account_id", how=how, maintain_order="left")

    @cached_property
    def _accounts_in(self) -> dict[str, pl.DataFrame]:
        return {code: self.accounts.filter(pl.col("currency") == code) for code in self.codes}


def _like(frame: pl.DataFrame | pl.LazyFrame, other: pl.DataFrame) -> Any:
    """`other`, lazy where `frame` is."""
    return other if isinstance(frame, pl.DataFrame) else other.lazy()


def in_currencies(
    own: str, accounts: pl.DataFrame, issued: pl.DataFrame, live: pl.Series, owing: pl.DataFrame
) -> Currencies:
    """Who is billed in which currency: what the row of an account says, or, as long as it has to, what was issued.

    Parameters
    ----------
    own
        The currency of the catalogue.
    accounts
        account_id, currency (null: `own`).
    issued
        account_id, subscription_id, currency: of issued documents, each once, in the order of their issue.
    live
        subscription_id: those that have a billing date to come.
    owing
        account_id, currency, open: what is owed.
    """
    row = accounts.select("account_id", row=pl.col("currency").fill_null(own))
    # An account without a row keeps the currency of its documents.
    known = row.join(
        issued.unique("account_id", keep="last", maintain_order=True).select("account_id", last="currency"),
        on="account_id",
        how="full",
        coalesce=True,
        maintain_order="left_right",
    ).with_columns(row=pl.coalesce("row", "last"))
    moved = issued.join(known.select("account_id", "row"), on="account_id", maintain_order="left").filter(
        pl.col("row") != pl.col("currency")
    )
    debts = moved.join(owing, on=["account_id", "currency"], maintain_order="left").select(
        "account_id", "currency", "row", why=pl.format("it owes {} {}", "currency", "open")
    )
    lives = moved.filter(pl.col("subscription_id").is_in(live.implode())).select(
        "account_id", "currency", "row", why=pl.format("subscription {} has billing dates to come", "subscription_id")
    )
    # One-off charges stand under one name: those to come would be among those that were billed.
    shared = moved.filter(pl.col("subscription_id").str.ends_with(CHARGES)).select(
        "account_id", "currency", "row", why=pl.lit("one-off charges were billed to it: use another account")
    )
    stays = pl.concat([lives, debts, shared]).unique("account_id", keep="first", maintain_order=True)
    refused = stays.select(
        "account_id",
        reason=pl.lit(ParkedReason.CURRENCY_CHANGED),
        detail=pl.format(
            "currency: found '{}', expected {}, in which documents were issued to it: {}; nothing is billed until it "
            "is {} again, or nothing is live and nothing is owed in it",
            *("row", "currency", "why", "currency"),
        ),
    )
    in_force = known.join(stays.select("account_id", keeps="currency"), on="account_id", how="left").select(
        "account_id", currency=pl.coalesce("keeps", "row")
    )
    others = in_force.filter(pl.col("currency") != own).sort("account_id")
    earlier = issued.join(in_force.rename({"currency": "now"}), on="account_id").filter(
        pl.col("currency") != pl.col("now")
    )
    return Currencies(
        own,
        others,
        earlier.select(list(SUBSCRIPTION_CURRENCY)).unique().sort("subscription_id"),
        refused.sort("account_id"),
    )


def live_subscriptions(subscriptions: pl.DataFrame, closed: pl.DataFrame, as_of: date) -> pl.Series:
    """subscription_id of those with a billing date to come, or one that has not been closed.

    Parameters
    ----------
    subscriptions
        As `Lives.subscriptions`.
    closed
        subscription_id, billing_date.
    """
    last = pl.col("last_billing_date")
    ended = subscriptions.filter(last.is_not_null() & (last <= as_of)).join(
        closed.select("subscription_id", last_billing_date="billing_date"),
        on=["subscription_id", "last_billing_date"],
        how="semi",
    )
    return subscriptions.join(ended, on="subscription_id", how="anti")["subscription_id"]
