"""Compare along a grid of prices: each point is a candidate catalogue."""

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path

from billing.inputs.catalogue_variation import Variation, grid, values_in_force
from billing.model.calendar import first_day, last_day
from billing.model.errors import RefusedError
from billing.model.plain_rows import plain_number
from billing.month.business import Business
from billing.reports.what_if.break_even import Grid, grid_of
from billing.reports.what_if.comparison import Comparison
from billing.reports.what_if.running import Progress, Question, compare_catalogues


def compare_along(
    business: Business,
    catalogue: Path,
    variations: Sequence[Variation],
    question: Question,
    elasticity: Decimal = Decimal(0),
    progress: Progress | None = None,
    *,
    is_locked: bool = False,
) -> tuple[list[Comparison], Grid]:
    """As `compare_catalogues`, of a catalogue with one or two numbers varied.

    Raises
    ------
    RefusedError
        As `compare_catalogues`, and where a path leads to no number.
    """
    days = first_day(question.since), last_day(question.through)
    points = list(grid(catalogue, variations, *days))
    named = [(", ".join(map(plain_number, point.values)), point.catalogue) for point in points]
    single = [_in_force(business, variation, *days) for variation in variations]
    compared = compare_catalogues(business, named, question, progress, is_locked=is_locked)
    return compared, grid_of(points, compared, variations, single, elasticity)


def _in_force(business: Business, variation: Variation, first: date, last: date) -> Decimal | None:
    """The one value that the number has in the catalogue of the home; None where there are several, or none."""
    try:
        values = values_in_force(business.home.landing / "catalogue.yaml", variation, first, last)
    except RefusedError:
        # Only the candidate has it.
        return None
    return values[0] if len(values) == 1 else None
