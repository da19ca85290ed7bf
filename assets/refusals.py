"""Refusals on Dagster's pages: a message with the list of problems, without a stack trace."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from billing.model.calendar import first_day
from billing.model.errors import InterruptedRunError, RefusedError
from billing.month.business import Business


@contextmanager
def failures_in_words() -> Iterator[None]:
    """Convert a refusal or an interruption to a step failure with its message."""
    try:
        yield
    except (RefusedError, InterruptedRunError) as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error


def refuse_month_to_come(business: Business, month: str) -> None:
    """Refuse a month that has not begun on the as-of day: the UI selects a range of months with one click.

    Raises
    ------
    RefusedError
        Before any computation for the month.
    """
    if first_day(month) > business.as_of:
        raise RefusedError(
            f"{month} has not begun: this run is as of {business.as_of}; expected {business.as_of:%Y-%m} or an earlier "
            "month. Nothing was computed or issued"
        )
