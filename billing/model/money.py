"""Currencies, and the one function that rounds money (rule 4)."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Final

import iso4217
import polars as pl

from billing.model.columns import MONEY

MAXIMUM_AMOUNT = Decimal(10) ** 14
"""Upper bound of every price, flat fee, minimum and maximum of a catalogue; leaves headroom in every column."""


def minor_units(currency: str) -> int | None:
    """Decimals of a currency's minor unit (ISO 4217 exponent: JPY 0, USD 2, KWD 3).

    Returns
    -------
    int or None
        None when ISO 4217 does not list the code, or gives it no exponent (gold, test codes).
    """
    try:
        exponent = iso4217.Currency(currency).exponent
    except ValueError:
        return None
    return None if exponent is None else int(exponent)


CURRENCIES: Final = frozenset(each.code for each in iso4217.Currency if each.exponent is not None)
"""The codes with a minor unit."""


def sums_by_currency(amounts: pl.DataFrame, column: str, own: str) -> dict[str, Decimal]:
    """The sum of a column in each currency, with its decimals; `own` first, and alone where there are no rows."""
    sums = dict(amounts.group_by("currency").agg(pl.col(column).sum()).iter_rows())
    codes = [own, *sorted(sums.keys() - {own})] if own in sums or not sums else sorted(sums)
    return {code: Decimal(f"{sums.get(code, Decimal(0)):.{minor_units(code) or 0}f}") for code in codes}


def in_currencies(sums: Mapping[str, Decimal]) -> str:
    """Sums by currency as one text: 94.50 EUR, 105.00 USD."""
    return ", ".join(f"{amount} {code}" for code, amount in sums.items())


def round_fraction(numerator: pl.Expr, denominator: pl.Expr, decimals: int) -> pl.Expr:
    """Round a fraction to `decimals` places, as MONEY.

    Rule 4: half away from zero, once, to the currency's minor unit.

    Parameters
    ----------
    numerator, denominator
        Int128; the denominator is positive. The caller guarantees
        ``2 x |numerator| x 10^decimals + denominator < 2^127`` (see `billing.rules.rating`).
    """
    rounded = (numerator.abs() * (2 * 10**decimals) + denominator) // (denominator * 2) * numerator.sign()
    return scaled_to_decimal(rounded * 10 ** (MONEY.scale - decimals), MONEY.scale)


def scaled_to_decimal(scaled: pl.Expr, decimals: int) -> pl.Expr:
    """Reinterpret an Int128 of units of 10^-decimals as an exact Decimal(38, decimals)."""
    # A cast multiplies by the scale first and overflows for large integers.
    return scaled.reinterpret(dtype=pl.Decimal(38, decimals))
