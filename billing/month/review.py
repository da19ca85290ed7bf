"""Two-step issuing: review the drafts, then issue exactly these."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

import polars as pl

from billing.model.calendar import first_day, months_after, months_between
from billing.model.codes import LineKind
from billing.model.errors import RefusedError
from billing.model.money import sums_by_currency
from billing.model.tables import DRAFTS
from billing.month.business import Business
from billing.month.drafting import drafted_as_of
from billing.month.recorded_inputs.months import moved_inputs
from billing.month.steps import days_to_ingest
from billing.store.monthly import read_month

_NAMES = ["kind", "account_id", "subscription_id", "billing_date", "corrects", "content_hash"]


@dataclass(frozen=True)
class Review:
    """The drafts of a month that have fallen due.

    Attributes
    ----------
    as_of
        The day as of which they were made; they are issued as of the same day.
    through
        The day up to which billing dates have fallen due.
    totals
        The sum of each currency.
    identity
        Identifies exactly these drafts: as-of day and a hash of their contents. Any change of a page changes it.
    """

    month: str
    as_of: date
    through: date
    documents: int
    totals: Mapping[str, Decimal]
    identity: str


def review_of(business: Business, month: str) -> Review:
    """The latest drafts of a month, as `issue` would issue them.

    Raises
    ------
    RefusedError
        When nothing was ever drafted.
    """
    as_of = drafted_as_of(business, month)
    if as_of is None:
        raise RefusedError(f"{month}: nothing has been drafted: bill it first, then review its drafts, then issue them")
    through = business.at(as_of).closes_through(month)
    drafts = read_month(business.home, DRAFTS, month, [*_NAMES, "total", "currency"])
    due = drafts.filter(pl.col("billing_date") <= through)
    totals = sums_by_currency(due, "total", business.catalogue.currency)
    return Review(month, as_of, through, due.height, totals, _identity(month, as_of, through, due))


def issued_business(business: Business, month: str, reviewed: str) -> Business | None:
    """The business as of the day of reviewed drafts that have been issued, exactly these; None when they have not.

    Recovery of a run that was killed after issuing them completes it as of that day.
    """
    try:
        as_of = date.fromisoformat(reviewed.partition(".")[0])
    except ValueError:
        return None
    then = business.at(as_of, issues=True)
    register, through = business.register, then.closes_through(month)
    closed = register.closed_through(month)
    if closed is None or closed < through:
        return None
    # Corrections of the same day were no drafts: leave them out.
    corrections = register.lines([month]).filter(pl.col("kind") == LineKind.ADJUSTMENT)
    issued = (
        register.documents([month])
        .filter((pl.col("issued_on") == as_of) & (pl.col("billing_date") <= through))
        .join(corrections, on="number", how="anti")
    )
    drafted = register.drafted_hashes(issued["number"].to_list())
    hashes = pl.col("number").replace_strict(drafted, return_dtype=pl.String)
    drafts = issued.with_columns(content_hash=hashes).sort(DRAFTS.key)
    return then if _identity(month, as_of, through, drafts) == reviewed else None


def _identity(month: str, as_of: date, through: date, due: pl.DataFrame) -> str:
    contents = f"{month} {as_of} {through} " + due.select(_NAMES).write_json()
    return f"{as_of}.{hashlib.sha256(contents.encode()).hexdigest()[:16]}"


def reviewed_business(business: Business, month: str, reviewed: str) -> Business:
    """The business as of the day of the reviewed drafts, as it may issue them.

    Raises
    ------
    RefusedError
        When the drafts differ from those reviewed, an input of the month changed since, or an earlier month has billing
        dates that must be closed first.
    """
    review = review_of(business, month)
    if reviewed != review.identity:
        raise RefusedError(
            f"{month}: found the reviewed drafts {reviewed!r}, expected {review.identity!r}: the drafts there are now "
            "are not those that were reviewed; look at them, then issue them"
        )
    then = business.at(review.as_of, issues=False)
    moved = moved_inputs(then, month) or (["usage"] if days_to_ingest(then) else [])
    if moved:
        raise RefusedError(
            f"{month}: inputs moved since these drafts were made ({', '.join(moved)}): bill the month again, review "
            "its drafts, then issue them"
        )
    for earlier in months_between(then.first_month or month, months_after(month, -1)):
        closed, due = then.register.closed_through(earlier), then.closes_through(earlier)
        if due >= first_day(earlier) and (closed is None or closed < due):
            raise RefusedError(f"{month}: billing dates of {earlier} are open up to {due}: issue that month first")
    return then.at(then.as_of, issues=True)
