"""Quantities in a metric's units, as exact integers."""

from collections.abc import Collection
from decimal import Decimal, localcontext

import polars as pl

from billing.model.catalogue import Metric
from billing.model.columns import QUANTITY
from billing.model.money import scaled_to_decimal

BILLIONTHS = 10**9
_QUANTITY_UNIT = 10**QUANTITY.scale
INTEGER = pl.Int128


def in_units(billionths: pl.Expr, unit: pl.Expr | int, units: Collection[int] = ()) -> pl.Expr:
    """Convert billionths of a base unit to the metric's unit, as QUANTITY, half-up at 18 decimals.

    Parameters
    ----------
    unit
        Int128, as `unit_billionths`: from 10^9 to 10^24, so no step can overflow.
    units
        All values of `unit`, when it is an expression. If a billionth is a whole number of 10^-18 of each (for powers
        of ten up to 10^18), multiply only: exact and much cheaper than a division.

    Raises
    ------
    polars.exceptions.PolarsError
        On collect, when a quantity has more than 20 integer digits.
    """
    units = [unit] if isinstance(unit, int) else units
    unit = pl.lit(unit, INTEGER) if isinstance(unit, int) else unit
    if units and all(_QUANTITY_UNIT % each == 0 for each in units):
        # No QUANTITY holds 10^20 units or more: substitute 10^38, which the cast refuses, to avoid an overflow.
        beyond = billionths.abs() >= unit * 10**20
        exact = pl.when(beyond).then(pl.lit(10**38, INTEGER)).otherwise(billionths * (_QUANTITY_UNIT // unit))
        return scaled_to_decimal(exact, QUANTITY.scale)
    magnitude = billionths.abs()
    whole = magnitude // unit
    rest = (magnitude - whole * unit) * BILLIONTHS
    high = rest // unit
    low = ((rest - high * unit) * BILLIONTHS + unit // 2) // unit
    sign = billionths.sign()
    return (whole * sign).cast(QUANTITY) + scaled_to_decimal((high * BILLIONTHS + low) * sign, 18)


def unit_billionths(metric: Metric) -> int:
    """Billionths of a base unit per unit of the metric."""
    return int(exactly(metric.unit_size, BILLIONTHS))


def exactly(amount: Decimal, factor: Decimal | int) -> Decimal:
    """Multiply without rounding, independent of the caller's decimal context."""
    with localcontext(prec=100):
        return amount * factor
