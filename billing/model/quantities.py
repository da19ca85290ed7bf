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
    """Billionths of a base unit in the metric's unit, as QUANTITY, half-up at 18 decimals.

    Parameters
    ----------
    unit
        Int128, as `unit_billionths`: from 10^9 to 10^24, so no step can overflow.
    units
        All that occur in `unit`, where it is no number itself. Where a billionth is a whole number of 10^-18 of each
        (of every power of ten up to 10^18), it is only multiplied, which is exact and much cheaper.

    Raises
    ------
    polars.exceptions.PolarsError
        On collecting, when a quantity takes more than 20 digits before the point.
    """
    units = [unit] if isinstance(unit, int) else units
    unit = pl.lit(unit, INTEGER) if isinstance(unit, int) else unit
    if units and all(_QUANTITY_UNIT % each == 0 for each in units):
        # from 10^20 units on there is no QUANTITY: 10^38 is none, either, so that it is refused and does not overflow
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
    """Billionths of a base unit in one unit of the metric."""
    return int(exactly(metric.unit_size, BILLIONTHS))


def exactly(amount: Decimal, factor: Decimal | int) -> Decimal:
    """The product to its last digit, whatever precision the caller computes with."""
    with localcontext(prec=100):
        return amount * factor
