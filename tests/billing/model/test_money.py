"""Rounding against exact fractions, and the minor units of the world's currencies."""

import math
from decimal import Decimal
from fractions import Fraction

import iso4217
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.model.columns import MONEY
from billing.model.money import minor_units, round_fraction, scaled_to_decimal


@pytest.mark.parametrize(
    ("currency", "decimals"),
    [("USD", 2), ("EUR", 2), ("JPY", 0), ("KWD", 3), ("CLF", 4), ("XAU", None), ("XXX", None), ("usd", None)],
)
def test_a_currency_has_the_minor_unit_that_iso_4217_gives_it(currency: str, decimals: int | None) -> None:
    assert minor_units(currency) == decimals


@pytest.mark.parametrize("text", ["", "DOLLAR", "US", "840", "€", "XTS "])
def test_what_is_no_currency_has_no_minor_unit(text: str) -> None:
    assert minor_units(text) is None


def test_money_has_room_for_every_currency() -> None:
    assert {minor_units(currency.code) for currency in iso4217.Currency} - {None} <= set(range(MONEY.scale + 1))


def rounded(numerator: int, denominator: int, decimals: int) -> Decimal:
    frame = pl.DataFrame({"n": [numerator], "d": [denominator]}, schema={"n": pl.Int128, "d": pl.Int128})
    found = frame.select(round_fraction(pl.col("n"), pl.col("d"), decimals)).to_series()
    assert found.dtype == MONEY
    value = found.item()
    assert isinstance(value, Decimal)
    return value


@pytest.mark.parametrize(
    ("numerator", "denominator", "decimals", "amount"),
    [
        (5, 1000, 2, "0.01"),
        (-5, 1000, 2, "-0.01"),
        (15, 1000, 2, "0.02"),
        (25, 1000, 2, "0.03"),
        (4999, 10**6, 2, "0.00"),
        (-4999, 10**6, 2, "0.00"),
        (1, 2, 0, "1"),
        (-1, 2, 0, "-1"),
        (1, 3, 3, "0.333"),
        (2, 3, 3, "0.667"),
        (1, 3, 4, "0.3333"),
    ],
)
def test_half_a_minor_unit_is_rounded_away_from_zero(
    numerator: int, denominator: int, decimals: int, amount: str
) -> None:
    assert rounded(numerator, denominator, decimals) == Decimal(amount)


@settings(max_examples=200)
@given(
    cents=st.integers(-(10**16), 10**16),
    denominator=st.integers(1, 10**18),
    offset=st.integers(-2, 2),
    decimals=st.sampled_from([0, 2, 3, 4]),
)
def test_every_fraction_is_rounded_once_and_exactly(cents: int, denominator: int, offset: int, decimals: int) -> None:
    # around the middle between two amounts, where rounding goes wrong if it goes wrong
    numerator = (2 * cents + 1) * denominator // (2 * 10**decimals) + offset
    exact = abs(Fraction(numerator, denominator)) * 10**decimals
    nearest = math.floor(exact) + (exact - math.floor(exact) >= Fraction(1, 2))
    expected = Fraction(nearest if numerator >= 0 else -nearest, 10**decimals)
    assert Fraction(rounded(numerator, denominator, decimals)) == expected


@settings(max_examples=60)
@given(numerator=st.integers(0, 10**25), denominator=st.integers(1, 10**12))
def test_a_credit_is_the_mirror_of_its_charge(numerator: int, denominator: int) -> None:
    if Fraction(numerator, denominator) < 10**14:
        assert rounded(-numerator, denominator, 2) == -rounded(numerator, denominator, 2)


@settings(max_examples=100)
@given(units=st.integers(-(10**38) + 1, 10**38 - 1), decimals=st.sampled_from([0, 2, 4, 9, 18]))
def test_counted_units_become_the_decimal_they_count(units: int, decimals: int) -> None:
    frame = pl.DataFrame({"u": [units]}, schema={"u": pl.Int128})
    found = frame.select(scaled_to_decimal(pl.col("u"), decimals)).to_series()
    assert found.dtype == pl.Decimal(38, decimals)
    assert Fraction(found.item()) == Fraction(units, 10**decimals)
