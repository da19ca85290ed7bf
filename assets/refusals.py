"""What is refused, as Dagster's pages show it: a sentence and a list of what to mend, in place of a stack trace."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from billing.model.calendar import first_day
from billing.model.errors import InterruptedRunError, RefusedError
from billing.month.business import Business


@contextmanager
def told_in_words() -> Iterator[None]:
    """Let a step fail with the words of what was refused or interrupted."""
    try:
        yield
    except (RefusedError, InterruptedRunError) as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error


def refuse_month_to_come(business: Business, month: str) -> None:
    """Refuse a month that has not begun on the run's day: a range of months is chosen with one click.

    Raises
    ------
    RefusedError
        Before anything of the month is computed.
    """
    if first_day(month) > business.as_of:
        raise RefusedError(
            f"{month} has not begun: this run is as of {business.as_of}; expected {business.as_of:%Y-%m} or an earlier "
            "month. Nothing was computed or issued"
        )
