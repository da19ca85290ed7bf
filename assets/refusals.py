"""Refusals as failures of a step: a message with the list of problems, without a stack trace."""

from collections.abc import Iterator
from contextlib import contextmanager

from billing.model.calendar import first_day
from billing.model.errors import InterruptedRunError, RefusedError
from billing.month.business import Business


class StepFailedError(Exception):
    """A step failed for a reason that it says in words; trying again would not help."""


@contextmanager
def failures_in_words() -> Iterator[None]:
    """Convert a refusal or an interruption to a step failure with its message."""
    try:
        yield
    except (RefusedError, InterruptedRunError) as error:
        raise StepFailedError(str(error)) from error


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
