"""Synthetic VAT numbers with valid check digits."""

import polars as pl


def german_vat_number(bits: pl.Series) -> pl.Series:
    """Return nine digits with a valid check digit (ISO 7064 mod 11, 10)."""
    digits = 10_000_000 + bits % 90_000_000
    product = pl.repeat(10, bits.len(), dtype=pl.UInt64, eager=True)
    for position in range(7, -1, -1):
        total = (digits // 10**position % 10 + product) % 10
        total = total + (total == 0).cast(pl.UInt64) * 10
        product = total * 2 % 11
    return digits.cast(pl.String) + ((11 - product) % 10).cast(pl.String)


def french_vat_number(bits: pl.Series) -> pl.Series:
    """Return two key digits and a nine-digit company number with its own check digit (Luhn)."""
    digits = 10_000_000 + bits % 90_000_000
    total = pl.zeros(bits.len(), dtype=pl.UInt64, eager=True)
    for position in range(8):
        digit = digits // 10**position % 10
        total = total + (digit * 2 // 10 + digit * 2 % 10 if position % 2 == 0 else digit)
    number = digits * 10 + (10 - total % 10) % 10
    return ((number * 3 + 12) % 97).cast(pl.String).str.zfill(2) + number.cast(pl.String)


def british_vat_number(bits: pl.Series) -> pl.Series:
    """Return nine digits whose last two make the weighted sum a multiple of 97."""
    digits = 1_000_000 + bits % 9_000_000
    total = pl.zeros(bits.len(), dtype=pl.UInt64, eager=True)
    for position in range(7):
        total = total + digits // 10**position % 10 * (position + 2)
    return digits.cast(pl.String) + (97 - total % 97).cast(pl.String).str.zfill(2)
