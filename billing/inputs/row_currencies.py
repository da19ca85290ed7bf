"""The currency of rows about an account: its own where none is given, and no other (rule 36)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Self

import polars as pl

from billing.inputs.row_checks import RowRule, found_text
from billing.model.catalogue import Catalogue
from billing.model.codes import RejectReason
from billing.model.columns import MONEY
from billing.model.money import minor_units, round_fraction

ISSUED_SCHEMA: Final[dict[str, pl.DataType | type[pl.DataType]]] = {"account_id": pl.String, "currency": pl.String}


@dataclass(frozen=True)
class RowCurrencies:
    """The currencies in use.

    Attributes
    ----------
    decimals
        Of the minor units of all currencies in use, by code; that of the catalogue first.
    others
        account_id, currency: of accounts in another currency than the catalogue's.
    issued
        account_id, currency: what was issued to accounts, where several currencies are in use.
    """

    decimals: Mapping[str, int]
    others: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=ISSUED_SCHEMA))
    issued: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=ISSUED_SCHEMA))

    @classmethod
    def of(cls, catalogue: Catalogue, accounts: pl.DataFrame, issued: pl.DataFrame | None = None) -> Self:
        """Those of the catalogue, of accounts and of what was issued.

        Parameters
        ----------
        accounts
            As `Inputs.accounts`.
        issued
            account_id, currency; None where all of it is in the catalogue's currency.
        """
        own = catalogue.currency
        named = accounts.filter(pl.col("currency").is_not_null() & (pl.col("currency") != own))
        issued = pl.DataFrame(schema=ISSUED_SCHEMA) if issued is None else issued.select(list(ISSUED_SCHEMA)).unique()
        codes = sorted({*named["currency"].unique(), *issued["currency"].unique()} - {own})
        decimals = {own: catalogue.minor_units} | {code: minor_units(code) or 0 for code in codes}
        return cls(decimals, named.select(list(ISSUED_SCHEMA)), issued)

    @property
    def codes(self) -> tuple[str, ...]:
        """The currencies in use, that of the catalogue first."""
        return tuple(self.decimals)

    @property
    def own(self) -> str:
        """The catalogue's."""
        return self.codes[0]

    @property
    def are_several(self) -> bool:
        """Whether there is another than the catalogue's."""
        return len(self.decimals) > 1

    def prepared(self, frame: pl.DataFrame) -> pl.DataFrame:
        """`frame` (account_id, currency) with account_currency and row_currency, where several are in use."""
        if not self.are_several:
            return frame
        others = self.others.rename({"currency": "account_currency"})
        its = frame.join(others, on="account_id", how="left", maintain_order="left")
        its = its.with_columns(pl.col("account_currency").fill_null(self.own))
        return its.with_columns(row_currency=pl.coalesce("currency", "account_currency"))

    def of_row(self) -> pl.Expr:
        """The currency of a row of `prepared`."""
        return pl.col("row_currency") if self.are_several else pl.col("currency").fill_null(self.own)

    def wrong_currency_rule(self) -> RowRule:
        """Reject a row in another currency than its account's, and than what was issued to it."""
        if not self.are_several:
            wrong = pl.col("currency") != self.own
            return RejectReason.IMPOSSIBLE_VALUE, wrong, found_text("currency", self.own)
        pairs = self.issued.select(pl.format("{} {}", "currency", "account_id"))
        was_issued = pl.format("{} {}", "row_currency", "account_id").is_in(pairs.to_series().implode())
        return (
            RejectReason.IMPOSSIBLE_VALUE,
            (pl.col("row_currency") != pl.col("account_currency")) & ~was_issued,
            pl.format("currency: found '{}', expected {}: that of the account", "currency", "account_currency"),
        )

    def unused_currency_rule(self) -> RowRule:
        """Reject a row in a currency that no account has."""
        expected = f"one of: {', '.join(self.codes)}" if self.are_several else self.own
        return RejectReason.IMPOSSIBLE_VALUE, ~pl.col("currency").is_in(self.codes), found_text("currency", expected)

    def no_amount_rule(self, expected: str) -> RowRule:
        """Reject an amount (parsed: `money`) that is none, or has more decimals than the currency of its row.

        Parameters
        ----------
        expected
            The form of an amount, with places for the currency and its decimals.
        """
        physical = pl.col("money").to_physical()
        smallest = {code: 10 ** (MONEY.scale - places) for code, places in self.decimals.items()}
        unit = pl.lit(smallest[self.own])
        if self.are_several:
            unit = pl.col("row_currency").replace_strict(smallest, default=1, return_dtype=pl.Int64)
        wrong = pl.col("money").is_null() | (physical % unit != 0)
        return RejectReason.IMPOSSIBLE_VALUE, wrong, self.amount_detail(expected)

    def amount_detail(self, expected: str) -> pl.Expr:
        """What is wrong with an amount; `expected` is as in `no_amount_rule`."""
        if not self.are_several:
            return found_text("amount", expected.format(self.own, self.decimals[self.own]))
        places = pl.col("row_currency").replace_strict(self.decimals, default=0, return_dtype=pl.Int64)
        return pl.format(f"amount: found '{{}}', expected {expected}", pl.col("amount"), pl.col("row_currency"), places)

    def rounded(self, numerator: pl.Expr, denominator: pl.Expr) -> pl.Expr:
        """As `round_fraction`, to the minor unit of the currency of the row."""
        if not self.are_several:
            return round_fraction(numerator, denominator, self.decimals[self.own])
        by_places = {
            places: [c for c, its in self.decimals.items() if its == places] for places in self.decimals.values()
        }
        return pl.coalesce(
            pl.when(pl.col("row_currency").is_in(codes)).then(round_fraction(numerator, denominator, places))
            for places, codes in by_places.items()
        )
