"""Break-even: what is due along a grid of prices, under a stated assumption of demand."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

import polars as pl

from billing.inputs.catalogue_variation import Point, Variation
from billing.model.codes import LineKind
from billing.model.columns import MONEY
from billing.model.errors import RefusedError
from billing.model.money import minor_units
from billing.model.plain_rows import plain_number, plain_rows
from billing.reports.what_if.comparison import Comparison

_VALUE: Final = pl.Decimal(38, 12)
_POINTS: Final = pl.Schema(
    {
        **{"value_1": _VALUE, "value_2": _VALUE},
        **dict.fromkeys(("before", "after", "difference", "expected"), MONEY),
        **dict.fromkeys(("accounts_more", "accounts_less", "accounts_flagged"), pl.Int64()),
    }
)


@dataclass(frozen=True)
class Grid:
    """What is due along a grid.

    Attributes
    ----------
    paths
        What is varied.
    in_force
        The value that each has in the catalogue of the home; None where its versions have several, or none.
    elasticity
        By how many percent what is bought changes when its price rises by one percent: 0 is usage as it was.
    points
        value_1, value_2 (null with one path), before, after, difference, expected (MONEY; under the assumption),
        accounts_more, accounts_less and accounts_flagged; a row per point.
    """

    paths: Sequence[str]
    in_force: Sequence[Decimal | None]
    elasticity: Decimal
    currency: str
    decimals: int
    points: pl.DataFrame = field(repr=False)

    @property
    def assumption(self) -> str:
        """The assumption in words."""
        if self.elasticity == 0:
            return "usage and packages as they were, but for what prices change by the rules: elasticity 0"
        return (
            f"elasticity {plain_number(self.elasticity)}: where the price rises by 1 %, what is sold at it changes by "
            f"{plain_number(self.elasticity)} %"
        )

    def rows(self) -> list[dict[str, Any]]:
        """The points as plain values."""
        return plain_rows(self.points, self.decimals)

    def as_plain(self) -> dict[str, Any]:
        """The grid as plain values."""
        return {
            "paths": list(self.paths),
            "in_force": [None if value is None else plain_number(value) for value in self.in_force],
            "elasticity": plain_number(self.elasticity),
            "assumption": self.assumption,
            "currency": self.currency,
            "points": self.rows(),
        }


def grid_of(
    points: Sequence[Point],
    compared: Sequence[Comparison],
    variations: Sequence[Variation],
    in_force: Sequence[Decimal | None],
    elasticity: Decimal,
) -> Grid:
    """The grid of the points' comparisons, in the currency that a path ends with, else in the catalogue's.

    Raises
    ------
    RefusedError
        When demand is elastic and a path bears on no lines of its own, or has several values in force; when the paths
        end with different currencies.
    """
    first = compared[0]
    currency = _currency(variations, first)
    rows = []
    for point, found in zip(points, compared, strict=True):
        accounts = found.of("accounts", currency)
        totals = found.of("totals", currency)
        before, after = (_only(totals[name]) for name in ("before", "after"))
        expected = Fraction(after)
        for variation, value, now in zip(variations, point.values, in_force, strict=True):
            expected += _demand(found.of("details", currency), variation, value, now, elasticity)
        rows.append(
            (
                point.values[0],
                point.values[1] if len(point.values) > 1 else None,
                before,
                after,
                after - before,
                _rounded(expected, first.decimals(currency)),
                int((accounts["difference"] > 0).sum()),
                int((accounts["difference"] < 0).sum()),
                found.of("flagged", currency).height,
            )
        )
    return Grid(
        [variation.name for variation in variations],
        list(in_force),
        elasticity,
        currency,
        first.decimals(currency),
        pl.DataFrame(rows, schema=_POINTS, orient="row"),
    )


def _currency(variations: Sequence[Variation], found: Comparison) -> str:
    """The currency of a grid."""
    named = sorted({each.path[-1] for each in variations if minor_units(each.path[-1]) is not None})
    if len(named) > 1:
        raise RefusedError(f"--vary: found paths in {' and '.join(named)}, expected one currency")
    return named[0] if named else found.currency


def _demand(
    details: pl.DataFrame, variation: Variation, value: Decimal, now: Decimal | None, elasticity: Decimal
) -> Fraction:
    """What the lines that bear on a price come to more, or less, as demand follows it; never less than nothing."""
    if elasticity == 0:
        return Fraction(0)
    if now is None or now == 0:
        raise RefusedError(
            f"--elasticity: {variation.name} has no one price above 0 in the months: expected one to compare with"
        )
    change = Fraction(elasticity) * (Fraction(value) - Fraction(now)) / Fraction(now)
    due = _only(details.filter(_bears_on(variation.path))["after"])
    return Fraction(due) * max(change, Fraction(-1))


def _bears_on(path: Sequence[str]) -> pl.Expr:
    """The lines that a price of the catalogue bears on.

    Raises
    ------
    RefusedError
        When it bears on no lines of its own.
    """
    kind, metric, of_term = pl.col("kind"), pl.col("metric"), pl.col("term").is_in(path)
    match path:
        case ("packages", name, "price", *_):
            of_fee = (kind == LineKind.PACKAGE_FEE) | ((kind == LineKind.PRORATION) & metric.is_null())
            return (pl.col("package") == name) & of_fee & of_term
        case ("packages", name, "overage", of, *_):
            return (pl.col("package") == name) & (kind == LineKind.OVERAGE) & (metric == of)
        case ("packages", name, "seats", *_):
            of_seats = (kind == LineKind.SEATS) | ((kind == LineKind.PRORATION) & metric.is_not_null())
            return (pl.col("package") == name) & of_seats
        case ("add_ons", name, "price", *_):
            return (kind == LineKind.ADD_ON) & (pl.col("add_on") == name) & of_term
    raise RefusedError(
        f"--elasticity: found {'.'.join(path)}, expected the price of a package or add-on, or an overage or seats of a "
        "package: nothing else is sold at a price of its own"
    )


def _only(amounts: pl.Series) -> Decimal:
    """The sum of amounts."""
    return sum(amounts.to_list(), Decimal(0))


def _rounded(amount: Fraction, decimals: int) -> Decimal:
    """Half-up to the minor unit."""
    units = amount * 10**decimals
    whole = (abs(units) + Fraction(1, 2)).__floor__()
    return Decimal(whole if units >= 0 else -whole).scaleb(-decimals)
