"""Months under candidate catalogues, beside the same months as they are: what is due, from usage measured once.

Nothing is issued and the home is not touched. Decisions are made again: on a billing date on which the candidate and
the catalogue in force decide alike, what was decided stands.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final

import polars as pl

from billing.model.calendar import first_day, months_after, months_between
from billing.model.catalogue import Catalogue
from billing.model.codes import LineKind
from billing.model.tables import ADD_ONS, CHARGES, CYCLES, DUES, PACKAGES, PARKED, USAGE
from billing.month.business import Business
from billing.month.computed import Computed
from billing.month.context import required_table, without_parked
from billing.month.scratch_copy import copy_lake
from billing.month.shards import each_shard
from billing.month.steps import (
    LEVELS_AT_THE_CLOSE,
    cycles_of_month,
    decided_packages,
    ingest_usage,
    terms_in_force,
    write_charges,
    write_cycles,
    write_levels,
    write_packages,
    write_usage,
)
from billing.month.true_ups import approved_refunds
from billing.register.reopened import Reopened
from billing.rules.cheapest_packages import cheapest_packages
from billing.rules.cycles import MonthCycles
from billing.rules.due_items import is_refunded
from billing.rules.own_documents import is_own_document, shown_subscription_id
from billing.rules.package_changes import PackageMonth
from billing.store.files import remove_file
from billing.store.home import Home

_DECIDED: Final = ["closing_package", "opening_package", "change_reason", "waiting_package"]
_DATE: Final = ["account_id", "subscription_id", "billing_date"]
# Tables of delivery days: what is counted does not depend on prices.
_OF_DELIVERIES: Final = ("parsed_files", "events", "repeats", "rejects", "ingest")
_DUE: Final = [
    *(*_DATE, "kind", "metric", "due_item", "rule", "package", "add_on", "term", "amount"),
]


@dataclass(frozen=True)
class MonthDue:
    """What is due for the billing dates of a month, of a shard, that have come.

    Attributes
    ----------
    dues
        account_id, subscription_id, billing_date, kind, metric, due_item, rule, package, add_on, term (monthly or
        yearly), amount; refunds are rows of their own, below 0.
    charges, packages
        The tables CHARGES and PACKAGES.
    parked
        account_id, reason, detail: accounts that are not billed.
    """

    dues: pl.DataFrame
    charges: pl.DataFrame
    packages: pl.DataFrame
    parked: pl.DataFrame


@dataclass(frozen=True)
class Candidate:
    """A business under a joined candidate catalogue (`joined_catalogue`), in a scratch copy of its own.

    Attributes
    ----------
    reopened
        The billing dates that are decided again.
    is_cheapest
        Whether every account is in the cheapest package that fits, changed at each close.
    measures_alike
        Whether usage is measured as under the catalogue in force.
    """

    business: Business
    reopened: Reopened
    is_cheapest: bool
    measures_alike: bool


@dataclass(frozen=True)
class Compared:
    """A month of a shard: as it is, and under each candidate.

    Attributes
    ----------
    issued
        account_id, subscription_id, issued: what documents have billed for the dates of the month that have come.
    """

    month: str
    shard: Business = field(repr=False)
    before: MonthDue
    after: Sequence[MonthDue]
    issued: pl.DataFrame


class _AsItIs:
    """A month of a shard under the catalogue in force.

    Attributes
    ----------
    decided
        The packages as they would be decided with what is known now.
    """

    def __init__(self, shard: Business, month: str, decided: PackageMonth) -> None:
        self.shard, self.month, self.decided = shard, month, decided

    @cached_property
    def cycles(self) -> MonthCycles:
        return cycles_of_month(self.shard, self.month)

    @cached_property
    def packages(self) -> pl.DataFrame:
        return required_table(self.shard, PACKAGES, self.month)

    @cached_property
    def in_force(self) -> pl.DataFrame:
        return terms_in_force(self.shard, self.month, self.cycles.cycles, self.packages)

    @cached_property
    def recorded(self) -> pl.DataFrame:
        """As `_decisions_of`, of closed billing dates."""
        has_any = self.shard.home.parts(ADD_ONS, self.month)
        held = required_table(self.shard, ADD_ONS, self.month) if has_any else ADD_ONS.empty()
        return _decisions_of(self.packages.filter("closed"), held)


@contextmanager
def candidate_copy(
    base: Business, root: Home, catalogue: Catalogue, since: str, *, is_cheapest: bool
) -> Iterator[Candidate]:
    """A candidate in a scratch copy of `base`, which is up to date, at `root`; removed at the end."""
    try:
        root.root.mkdir()
        (root.root / "landing").symlink_to(base.home.landing.resolve())
        measures_alike = base.catalogue.metrics == catalogue.metrics
        counts_alike = base.catalogue.policy.lateness_days == catalogue.policy.lateness_days
        is_counted_again = not (measures_alike and counts_alike)
        copy_lake(base.home, root, is_locked=True, whole=() if is_counted_again else _OF_DELIVERIES)
        for table in (PACKAGES, ADD_ONS, DUES):
            for month in (each for each in root.months(table) if each >= since):
                for part in root.parts(table, month):
                    remove_file(part)
        if is_cheapest:
            # No request changes a package.
            catalogue = replace(catalogue, policy=replace(catalogue.policy, requested_upgrades="next_cycle"))
        reopened = Reopened(since)
        business = replace(
            base,
            home=root,
            catalogue=catalogue,
            register=base.register.reopened(reopened),
            computed=Computed(),
        )
        if is_counted_again:
            ingest_usage(business)
            _carry_levels(business, since)
        yield Candidate(business, reopened, is_cheapest, measures_alike=not is_counted_again)
    finally:
        shutil.rmtree(root.root, ignore_errors=True)


def _carry_levels(business: Business, since: str) -> None:
    """Levels up to the first month: a gauge may be new, or measured otherwise, and carries on from its first event."""
    for month in months_between(business.first_month or since, months_after(since, -1)):
        for shard in each_shard(business, month):
            write_levels(shard, month)


def compared_months(base: Business, candidates: Sequence[Candidate], since: str, through: str) -> Iterator[Compared]:
    """The months one after the other, shard by shard: memory follows a month of a shard.

    Parameters
    ----------
    base
        A scratch copy of the business, up to date through the last month.
    """
    again = replace(base, register=base.register.reopened(Reopened(since)), computed=Computed())
    # Before anybody subscribed there is nothing.
    for month in months_between(max(since, base.first_month or since), through):
        shards = [each_shard(business, month) for business in (base, again, *(each.business for each in candidates))]
        for shard, decides, *others in zip(*shards, strict=True):
            as_it_is = _AsItIs(shard, month, decided_packages(decides, month))
            for candidate, own in zip(candidates, others, strict=True):
                own.computed.take_over((LEVELS_AT_THE_CLOSE, month), decides.computed)
                _compute(as_it_is, candidate, own)
            issued = shard.register.issued_amounts(first_day(month), first_day(months_after(month, 1)))
            yield Compared(
                month,
                shard,
                _due(shard, month),
                [_due(own, month) for own in others],
                issued.filter(pl.col("billing_date") <= shard.as_of).select("account_id", "subscription_id", "issued"),
            )
            for business in (decides, *others):
                business.computed.forget((LEVELS_AT_THE_CLOSE, month))
            decides.computed.forget(("packages", month))


def _compute(as_it_is: _AsItIs, candidate: Candidate, shard: Business) -> None:
    """Write the tables of a month of a candidate."""
    month = as_it_is.month
    _measure(as_it_is, candidate, shard)
    found = decided_packages(shard, month)
    if candidate.is_cheapest:
        found = _in_cheapest(shard, month, found)
    else:
        stands = _stands(as_it_is, found)
        if not stands.is_empty():
            candidate.reopened.let_stand(month, stands)
            shard.computed.forget(("packages", month))
            found = decided_packages(shard, month)
    write_packages(shard, month, found)
    write_charges(shard, month)
    shard.computed.forget(("packages", month))


def _measure(as_it_is: _AsItIs, candidate: Candidate, shard: Business) -> None:
    """Measure usage again, where the candidate measures otherwise or has other cycles."""
    month, ours, theirs = as_it_is.month, as_it_is.cycles, cycles_of_month(shard, as_it_is.month)
    has_same_cycles = ours.cycles.equals(theirs.cycles) and ours.spans.equals(theirs.spans)
    if not has_same_cycles:
        write_cycles(shard, month)
    if not candidate.measures_alike:
        write_levels(shard, month)
    if not (has_same_cycles and candidate.measures_alike and _has_same_rules(as_it_is, shard)):
        write_usage(shard, month)


def _has_same_rules(as_it_is: _AsItIs, shard: Business) -> bool:
    """Whether the same rules of tariffs by dimension tell the usage apart (rule 34)."""
    ours, theirs = as_it_is.shard.rule_book, shard.rule_book
    if ours is None or theirs is None:
        return ours is theirs
    # The packages of the closing cycles do not depend on what was used in them.
    packages = decided_packages(shard, as_it_is.month).packages
    in_force = terms_in_force(shard, as_it_is.month, as_it_is.cycles.cycles, packages)
    return ours.measures_as(theirs, as_it_is.in_force, in_force)


def _stands(as_it_is: _AsItIs, found: PackageMonth) -> pl.Series:
    """subscription_id: whose closed billing date a candidate decides as the catalogue in force, but not as it was.

    What is known now is not what was known at the close: such decisions stand.
    """
    same = ["subscription_id", *_DECIDED, "add_ons"]
    decided = _decisions_of(as_it_is.decided.packages, as_it_is.decided.add_ons)
    alike = _decisions_of(found.packages, found.add_ons).join(decided, on=same, how="semi", nulls_equal=True)
    return (
        as_it_is.recorded.join(alike.select("subscription_id"), on="subscription_id", how="semi")
        .join(alike, on=same, how="anti", nulls_equal=True)["subscription_id"]
        .sort()
    )


def _decisions_of(packages: pl.DataFrame, add_ons: pl.DataFrame) -> pl.DataFrame:
    """subscription_id, _DECIDED, add_ons: what is decided on each billing date, to compare."""
    changes = add_ons.group_by("subscription_id").agg(
        add_ons=pl.format("{} {} {}", "add_on", pl.col("quantity").fill_null(0), "effective_on").sort().str.join(", ")
    )
    return packages.select("subscription_id", *_DECIDED).join(changes, on="subscription_id", how="left")


def _in_cheapest(shard: Business, month: str, found: PackageMonth) -> PackageMonth:
    """`found`, in which every account goes on in the cheapest package that fits."""
    chosen = pl.concat(
        cheapest_packages(
            part.rows(found.packages),
            cycles=required_table(part, CYCLES, month),
            usage=required_table(part, USAGE, month),
            terms=part.terms,
        )
        for part in shard.by_currency
    )
    packages = (
        found.packages.join(chosen, on="subscription_id", how="left", maintain_order="left")
        .with_columns(
            # An automatic upgrade to the same package is what it was.
            change_reason=pl.when(pl.col("cheapest").is_null() | (pl.col("cheapest") == pl.col("opening_package")))
            .then("change_reason")
            .when(pl.col("cheapest") != pl.col("closing_package"))
            .then(pl.lit("cheapest")),
            opening_package=pl.coalesce("cheapest", "opening_package"),
            waiting_package=pl.lit(None, pl.String),
        )
        .drop("cheapest")
    )
    return PackageMonth(PACKAGES.conform(packages), found.decisions, found.add_ons)


def _due(shard: Business, month: str) -> MonthDue:
    parked = required_table(shard, PARKED, month)
    dues = without_parked(required_table(shard, DUES, month, pl.col("billing_date") <= shard.as_of), parked)
    terms = shard.lives.subscriptions.select(_of="subscription_id", term="term")
    dues = dues.with_columns(_of=shown_subscription_id()).join(terms, on="_of", how="left", maintain_order="left")
    return MonthDue(
        pl.concat([dues.select(_DUE), _refunds(shard, dues).select(_DUE)]),
        without_parked(required_table(shard, CHARGES, month), parked),
        required_table(shard, PACKAGES, month),
        parked.select("account_id", "reason", "detail"),
    )


def _refunds(shard: Business, dues: pl.DataFrame) -> pl.DataFrame:
    """What approved refunds give back of `dues`: all that was charged in advance for the first cycle (rule 14)."""
    refunds = approved_refunds(shard).select(_of="subscription_id")
    if refunds.is_empty():
        return dues.clear()
    begins = shard.lives.subscriptions.select(_of="subscription_id", _begins="grid_start")
    is_first = is_own_document() | (pl.col("billing_date") == pl.col("_begins"))
    is_coupon = pl.col("kind") == LineKind.COUPON
    return (
        dues.filter(is_refunded())
        .with_columns(_of=shown_subscription_id())
        .join(refunds, on="_of", how="semi", maintain_order="left")
        .join(begins, on="_of", maintain_order="left")
        .filter(is_first)
        .with_columns(
            kind=pl.when(is_coupon).then("kind").otherwise(pl.lit(LineKind.REFUND)),
            amount=-pl.col("amount"),
        )
    )
