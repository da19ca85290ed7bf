"""Run a what-if: bill past months under candidate catalogues in a scratch copy, and compare (nothing is issued)."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Final, Literal

import polars as pl

from billing.model.calendar import first_day, last_day, months_between
from billing.model.catalogue import Catalogue
from billing.model.errors import RefusedError
from billing.model.tables import PACKAGES
from billing.month.business import Business
from billing.month.candidate_months import Compared, MonthDue, candidate_copy, compared_months
from billing.month.scratch_copy import bring_up_to_date, scratch_copy
from billing.month.steps import ingest_usage
from billing.reports.what_if.comparison import Comparison, Sums
from billing.rules.candidate_catalogue import joined_catalogue, not_reached
from billing.rules.price_changes import UPGRADE_SCHEMA, automatic_upgrades, caused_upgrades, line_changes
from billing.store.home import Home

Choices = Literal["stay", "cheapest"]
STAY: Final = "stay"
CHEAPEST: Final = "cheapest"
# Each holds the subscriptions of its accounts.
_AT_ONCE: Final = 8
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Question:
    """What is asked.

    Attributes
    ----------
    since, through
        The first and the last month.
    accounts, only
        Only these accounts, and only accounts that begin in one of these packages; empty for all.
    choices
        `stay`: packages change as they would have; `cheapest`: every account is in the cheapest package that fits,
        changed at each close.
    flag_above
        Name accounts whose bill changes by more than so many percent.
    grandfather_before
        What it costs to leave accounts that subscribed before this day on the old versions.
    """

    since: str
    through: str
    accounts: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    choices: Choices = STAY
    flag_above: Decimal | None = None
    grandfather_before: date | None = None


def compare_catalogues(
    business: Business,
    candidates: Sequence[tuple[str, Catalogue]],
    question: Question,
    progress: Progress | None = None,
    *,
    is_locked: bool = False,
) -> list[Comparison]:
    """What would have been due under each candidate catalogue; usage is measured once, the home is not touched.

    `before` is what is due for the billing dates of the months that have come, with all that is known now; refunds
    count on the date that they give back. `after` is the same under the candidate, from the first day of the first
    month on: a cycle that began before is rated by the catalogue of the home.

    Parameters
    ----------
    candidates
        Each with its name.
    is_locked
        Whether the caller has locked the home.

    Raises
    ------
    RefusedError
        When a month, account or package is unknown, or a candidate would move billing dates.
    """
    _refuse(business, question)
    with scratch_copy(business, business.as_of, is_locked=is_locked) as base:
        ingest_usage(base, progress)
        bring_up_to_date(base, question.through, progress)
        return compare_in(base, candidates, question, progress)


def compare_in(
    base: Business,
    candidates: Sequence[tuple[str, Catalogue]],
    question: Question,
    progress: Progress | None = None,
) -> list[Comparison]:
    """As `compare_catalogues`, of a scratch copy whose months have been computed.

    Raises
    ------
    RefusedError
        When a candidate would move billing dates.
    """
    joined = [joined_catalogue(base.catalogue, each, first_day(question.since)) for _, each in candidates]
    whose, kept = _wanted(base, question), _subscribed_before(base, question.grandfather_before)
    found: list[Comparison] = []
    for names in _some_at_a_time([name for name, _ in candidates]):
        some = slice(len(found), len(found) + len(names))
        found += [
            Comparison(
                name=run.name,
                since=question.since,
                through=question.through,
                as_of=base.as_of,
                currency=base.catalogue.currency,
                tables=run.sums.tables(run.upgrades(base), question.flag_above, kept),
                not_reached=not_reached(catalogue, last_day(question.through)),
                flag_above=question.flag_above,
                grandfather_before=question.grandfather_before,
            )
            for run, (_, catalogue) in zip(
                _runs(base, names, joined[some], question, whose, progress), candidates[some], strict=True
            )
        ]
    return found


def _some_at_a_time(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), _AT_ONCE):
        yield names[start : start + _AT_ONCE]


def _runs(
    base: Business,
    names: Sequence[str],
    catalogues: Sequence[Catalogue],
    question: Question,
    whose: pl.Series | None,
    progress: Progress | None,
) -> list["_Run"]:
    """Candidates side by side, each in a copy of its own."""
    runs = [_Run(name) for name in names]
    months = months_between(question.since, question.through)
    with ExitStack() as stack:
        copies = [
            stack.enter_context(
                candidate_copy(
                    base,
                    Home(base.home.root / f"candidate-{place}"),
                    catalogue,
                    question.since,
                    is_cheapest=question.choices == CHEAPEST,
                )
            )
            for place, catalogue in enumerate(catalogues)
        ]
        for compared in compared_months(base, copies, question.since, question.through):
            if progress is not None:
                progress("comparing months", months.index(compared.month), len(months))
            for run, after in zip(runs, compared.after, strict=True):
                run.add(compared, after, whose)
    return runs


class _Run:
    """A candidate, month after month."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.sums = Sums()
        self._before = UPGRADE_SCHEMA.to_frame()
        self._after = UPGRADE_SCHEMA.to_frame()

    def add(self, compared: Compared, after: MonthDue, whose: pl.Series | None) -> None:
        shard, before = compared.shard, compared.before
        parked = pl.concat(
            [
                due.parked.select("account_id", "reason", "detail", side=pl.lit(side))
                for due, side in ((before, "before"), (after, "after"))
            ]
        )
        # Who cannot be billed under one of the catalogues is compared under none.
        dues = [
            _wanted_rows(due.dues, whose).join(parked, on="account_id", how="anti", maintain_order="left")
            for due in (before, after)
        ]
        self._before = pl.concat([self._before, _wanted_rows(automatic_upgrades(before.packages), whose)])
        self._after = pl.concat([self._after, _wanted_rows(automatic_upgrades(after.packages), whose)])
        changes = line_changes(
            dues[0],
            dues[1],
            charges=(before.charges, after.charges),
            packages=(before.packages, after.packages),
            caused=caused_upgrades(self._before, self._after),
            avoided=caused_upgrades(self._after, self._before),
        )
        currencies = shard.currencies
        issued = _wanted_rows(compared.issued, whose).join(parked, on="account_id", how="anti", maintain_order="left")
        self.sums.add(
            compared.month,
            currencies.with_currency(changes),
            currencies.with_currency(issued),
            currencies.with_currency(_wanted_rows(parked, whose)),
        )

    def upgrades(self, base: Business) -> pl.DataFrame:
        """currency, account_id, subscription_id, to_package, before, after, what; those that stay as they are not."""
        keys = ["account_id", "subscription_id", "to_package"]
        one, other = (
            frame.group_by(keys).agg(pl.col("billing_date").min().alias(name))
            for frame, name in ((self._before, "before"), (self._after, "after"))
        )
        both = one.join(other, on=keys, how="full", coalesce=True)
        what = (
            pl.when(pl.col("before").is_null())
            .then(pl.lit("caused"))
            .when(pl.col("after").is_null())
            .then(pl.lit("avoided"))
            .when(pl.col("before") != pl.col("after"))
            .then(pl.lit("moved"))
        )
        found = both.with_columns(what=what).drop_nulls("what")
        return base.currencies.with_currency(found).sort("currency", *keys)


def _refuse(business: Business, question: Question) -> None:
    for month in (question.since, question.through):
        business.refuse_unknown_month(month)
    if question.through < question.since:
        raise RefusedError(f"--through: found {question.through}, expected {question.since} (--from) or later")
    begins = month_of_day(business.as_of)
    if business.first_month is None or question.through < business.first_month:
        raise RefusedError(
            f"nothing was billed through {question.through}: expected a month from "
            f"{business.first_month or 'the first subscription'} on"
        )
    if question.through > begins:
        raise RefusedError(f"--through: found {question.through}, expected {begins} or earlier: it has not come yet")
    for account in question.accounts:
        if not business.knows(account):
            raise RefusedError(f"unknown account: found {account!r}, expected one of the accounts file")
    names = [package.name for package in business.catalogue.packages]
    for package in question.only:
        if package not in names:
            raise RefusedError(f"unknown package: found {package!r}, expected one of: {', '.join(names)}")


def month_of_day(day: date) -> str:
    """The month of a day, YYYY-MM."""
    return f"{day:%Y-%m}"


def _wanted(base: Business, question: Question) -> pl.Series | None:
    """The accounts that are asked for; None for all."""
    if not question.accounts and not question.only:
        return None
    wanted = pl.Series("account_id", list(question.accounts), pl.String)
    if not question.only:
        return wanted
    months = months_between(question.since, question.through)
    begins = (
        base.scan_months(PACKAGES, months)
        .sort("billing_date")
        .group_by("account_id", "subscription_id", maintain_order=True)
        .agg(package=pl.coalesce("closing_package", "opening_package").first())
        .filter(pl.col("package").is_in(question.only))
        .select(pl.col("account_id").unique().sort())
        .collect()["account_id"]
    )
    return begins.filter(begins.is_in(wanted.implode())) if question.accounts else begins


def _wanted_rows(frame: pl.DataFrame, whose: pl.Series | None) -> pl.DataFrame:
    return frame if whose is None else frame.join(whose.to_frame(), on="account_id", how="semi", maintain_order="left")


def _subscribed_before(business: Business, day: date | None) -> pl.Series | None:
    if day is None:
        return None
    begun = business.lives.subscriptions.group_by("account_id").agg(pl.col("started_on").min())
    return begun.filter(pl.col("started_on") < day)["account_id"].sort()
