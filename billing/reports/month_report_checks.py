"""The checks at the head of the month report."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final, Self

import polars as pl

from billing.ingest.volumes import low_days, low_days_in_words
from billing.model.calendar import first_day
from billing.model.tables import PARKED
from billing.model.text import counted
from billing.month.business import Business
from billing.month.checks import answers_not_given_once, dates_not_billed_once, not_adding_up, surges
from billing.month.unbilled import conserved
from billing.store.monthly import read_month

_MOST_TOLD: Final = 5


@dataclass(frozen=True)
class Statement:
    """A check of the month; `detail` is what is wrong, or how much was checked."""

    text: str
    holds: bool
    detail: str


@dataclass(frozen=True)
class Checked:
    """What was checked of the accounts of a shard, and how much is wrong; it adds up."""

    events: int
    lost: int
    documents: int
    not_adding_up: int
    without_file: int
    not_billed_once: int
    unanswered: int
    parked: int
    surges: int

    @classmethod
    def of(cls, business: Business, month: str) -> Self:
        """The checks of a business or shard."""
        register = business.register
        documents, lines, taxes = register.documents([month]), register.lines([month]), register.taxes([month])
        found = conserved(business, month)
        return cls(
            events=int(found["counted"].sum()),
            lost=found.filter(pl.col("counted") != pl.col("closed") + pl.col("open") + pl.col("unbilled")).height,
            documents=documents.height,
            not_adding_up=not_adding_up(documents, lines, taxes, ["number"]).height,
            without_file=sum(not business.home.document_file(month, each).exists() for each in documents["number"]),
            not_billed_once=dates_not_billed_once(business, month).height,
            unanswered=answers_not_given_once(business, month).height,
            parked=read_month(business.home, PARKED, month).height,
            surges=surges(business, month).height,
        )

    def __add__(self, other: Self) -> Self:
        both = zip(vars(self).items(), vars(other).values(), strict=True)
        return type(self)(**{name: one + another for (name, one), another in both})


def checks_of_month(business: Business, found: Checked, month: str, on: date) -> Sequence[Statement]:
    """What must hold of a month before its report is trusted, as of a day.

    Parameters
    ----------
    found
        Of all shards.
    """
    gaps = business.register.number_gaps()
    unbilled, unanswered, missing = found.not_billed_once, found.unanswered, found.without_file
    parked, large = found.parked, found.surges
    return (
        Statement("No event is lost", not found.lost, f"{counted(f'{found.events:,}', 'event')} counted"),
        Statement("Every active account is billed once", not unbilled, f"{unbilled} dates are not"),
        Statement(
            "Lines and taxes add up to documents",
            not found.not_adding_up,
            counted(f"{found.documents:,}", "document"),
        ),
        Statement("Decisions are complete", not unanswered, f"{unanswered} are missing"),
        Statement("Numbers have no gap", not gaps, ", ".join(gaps) or "of every series and year"),
        Statement("Every document has its PDF", not missing, f"{missing} without a file"),
        Statement("Every account could be billed", not parked, f"{parked} parked: overage show parked --month {month}"),
        *_usual(business, month, on),
        Statement(
            "No bill is ten times the last without a note",
            not large,
            f"{large} are: overage show surges --month {month}",
        ),
    )


def _usual(business: Business, month: str, on: date) -> list[Statement]:
    """Whether sources delivered as usual; nothing where the catalogue has none."""
    if not business.catalogue.sources:
        return []
    low = low_days_in_words(low_days(business.home, first_day(month), on))
    told = "; ".join(low[:_MOST_TOLD])
    return [Statement("Every source delivers at least a third of its usual rows", not low, told)]
