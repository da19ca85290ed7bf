"""The steps of a billing month: each reads the tables it needs, computes one table and writes it.

Steps are idempotent functions of the landing folder, the register and the tables of this month and the one before:
a second run on unchanged input writes nothing.
"""

from dataclasses import dataclass
from datetime import date
from typing import Final

import polars as pl

from billing.ingest import (
    IngestOutcome,
    Progress,
    accounts_of_events,
    event_hashes,
    ingest_deliveries,
    pending_days,
    repeated_events,
    scan_event_files,
    scan_event_parts,
    scan_events,
)
from billing.ingest.planning import IngestPlan
from billing.ingest.stages import plan_ingest, silent
from billing.ingest.state import state_path
from billing.ingest.validation import Rules
from billing.model.calendar import months_after, months_between
from billing.model.codes import DecisionKind, Outcome
from billing.model.offers import AT_ONCE
from billing.model.one_collect import collected
from billing.model.tables import ADD_ONS, CHARGES, CYCLES, DECISIONS, DUES, LEVELS, PACKAGES, PARKED, USAGE
from billing.month.business import Business
from billing.month.checks import quantities_not_charged_once
from billing.month.computed import file_stamp
from billing.month.context import computed_once, joined, rated_charges, required_table, without_parked
from billing.month.dues import dues_of_month
from billing.month.held_offers import coupon_redemptions, held_before, packages_with_add_ons
from billing.month.lost_deliveries import refuse_lost_deliveries
from billing.month.parking import as_parked, contradictory_accounts, parked_accounts
from billing.month.recorded_inputs.rows import recorded_deliveries
from billing.month.recorded_inputs.usage import added_events, measuring_digest, record_measured
from billing.month.true_ups import refund_amounts
from billing.rules.add_on_changes import late_add_on_answers, with_asked_add_ons
from billing.rules.charges import month_charges
from billing.rules.cycles import MonthCycles, joined_cycles, month_cycles
from billing.rules.decisions import month_decisions
from billing.rules.dimensions import IN_FORCE
from billing.rules.gauges import levels_at_close
from billing.rules.package_changes import CLOSED_SCHEMA, PackageMonth, decide_packages, joined_packages
from billing.rules.refusals import refused_after_close, without_decided_voids
from billing.rules.seats import seats_out_of_range
from billing.rules.terms import with_terms
from billing.rules.upgrades_at_once import AskedAtOnce, asked_at_once
from billing.rules.usage import UsageInputs, month_levels, month_usage, month_usage_with_more
from billing.store.home import Home
from billing.store.monthly import read_month, write_month

LEVELS_AT_THE_CLOSE: Final = "levels at the close"
"""Name of a cached answer: it does not depend on prices."""


def billed_months(business: Business, through: str) -> list[str]:
    """The months from that of the first subscription to `through`."""
    return [] if business.first_month is None else months_between(business.first_month, through)


def event_months(home: Home, before: str) -> list[str]:
    """The calendar months before `before` that have events."""
    files = (home.lake / "events").glob("event_month=*/*.parquet")
    months = {path.parent.name.removeprefix("event_month=") for path in files}
    return sorted(month for month in months if month < before)


def days_to_ingest(business: Business, *, by_content: bool = False) -> list[date]:
    """As `pending_days`, up to the as-of day."""
    return pending_days(business.home, _ingest_rules(business), through=business.as_of, by_content=by_content)


def ingest_usage(business: Business, progress: Progress | None = None) -> IngestOutcome:
    """Ingest new and changed deliveries up to the as-of day."""
    kept = recorded_deliveries(business.home)
    return ingest_deliveries(
        business.home, _ingest_rules(business), progress=progress, through=business.as_of, kept=kept
    )


def plan_usage(business: Business, progress: Progress = silent) -> IngestPlan:
    """The first stage of `ingest_usage`, for engines that give the others to workers: see `billing.ingest.stages`."""
    kept = recorded_deliveries(business.home)
    return plan_ingest(business.home, _ingest_rules(business), through=business.as_of, kept=kept, progress=progress)


def _ingest_rules(business: Business) -> Rules:
    return Rules.of_catalogue(business.catalogue, business.inputs.known_accounts, business.inputs.aliases)


def write_cycles(business: Business, month: str) -> pl.DataFrame:
    """The billing dates of the month: CYCLES."""
    cycles = cycles_of_month(business, month).cycles
    write_month(business.home, CYCLES, month, cycles, in_order=True)
    return cycles


def write_levels(business: Business, month: str) -> pl.DataFrame:
    """The gauges' levels at the start of the month before and of this one: LEVELS.

    Raises
    ------
    FileNotFoundError
        When the month before has not been billed: a level cannot be guessed.
    """
    before = months_after(month, -1)
    is_first = business.first_month is None or month <= business.first_month
    refuse_lost_deliveries(business, month, date.min if is_first else None)
    previous = None if is_first else required_table(business, LEVELS, before)
    earlier = event_months(business.home, before) if is_first else []
    gauges = _gauges(business)
    levels = month_levels(
        month,
        previous,
        scan_events(business.home, [before], business.as_of, metrics=gauges),
        scan_events(business.home, earlier, business.as_of, metrics=gauges),
        business.catalogue,
    )
    write_month(business.home, LEVELS, month, levels)
    return levels


def _gauges(business: Business) -> list[str]:
    return [metric.name for metric in business.catalogue.metrics if metric.kind == "gauge"]


def write_usage(business: Business, month: str) -> pl.DataFrame:
    """What was used in the cycles that close in the month: USAGE."""
    refuse_lost_deliveries(business, month)
    home, cycles, levels = business.home, cycles_of_month(business, month), required_table(business, LEVELS, month)
    months, as_of = [months_after(month, -1), month], business.as_of
    files = event_hashes(home, months, as_of)
    book = business.rule_book
    in_force = None if book is None else terms_in_force(business, month, cycles.cycles)
    digest = measuring_digest(cycles, levels, business.catalogue.metrics, book, in_force)
    inputs = UsageInputs(
        month=month,
        spans=cycles.spans,
        cycles=cycles.cycles,
        levels=levels,
        events=scan_event_parts(home, months, as_of),
        gauge_events=scan_events(home, months, as_of, metrics=_gauges(business)),
        repeated=repeated_events(home, months, as_of, with_dimensions=book is not None),
        accounts=accounts_of_events(home),
        catalogue=business.catalogue,
        book=book,
        in_force=in_force,
    )
    added = added_events(home, month, digest, files)
    if added is None:
        usage = month_usage(inputs)
    else:
        before = read_month(home, USAGE, month)
        usage = month_usage_with_more(inputs, before=before, added=scan_event_files(home, added))
    write_month(home, USAGE, month, usage, in_order=True)
    record_measured(home, month, digest, files)
    return usage


def terms_in_force(
    business: Business, month: str, cycles: pl.DataFrame, packages: pl.DataFrame | None = None
) -> pl.DataFrame:
    """The terms that rate the cycles that close in the month: IN_FORCE; known before their usage is (rule 2).

    Parameters
    ----------
    packages
        The table PACKAGES of the month, if it is known already.
    """
    if packages is None:
        packages = _packages_of_month(business, month, cycles, usage=None, closed=None).packages
    closing = packages.select("subscription_id", package="closing_package")
    dated = cycles.select("account_id", "subscription_id", "cycle_start").join(closing, on="subscription_id")
    found = [
        with_terms(part.rows(dated), part.terms, on="cycle_start", or_first=True).select(list(IN_FORCE))
        for part in business.by_currency
    ]
    return joined(found, ["subscription_id"])


def write_packages(business: Business, month: str, decided: PackageMonth | None = None) -> pl.DataFrame:
    """The package of every cycle that starts in the month, as decided here or before: PACKAGES and ADD_ONS."""
    found = decided or decided_packages(business, month)
    write_month(business.home, PACKAGES, month, found.packages, in_order=True)
    # Where nobody has add-ons, there is no such table.
    if not found.add_ons.is_empty() or business.home.parts(ADD_ONS, month):
        write_month(business.home, ADD_ONS, month, found.add_ons, in_order=True)
    return found.packages


def write_decisions(
    business: Business, month: str, decided: PackageMonth | None = None, final: pl.DataFrame | None = None
) -> pl.DataFrame:
    """The answers to requests and the automatic upgrades of the month, those decided by the as-of day: DECISIONS.

    `final` is as in `ClosedNow`.
    """
    changes = (decided or decided_packages(business, month)).decisions.filter(pl.col("decided_on") <= business.as_of)
    closed = business.register.closed_decisions(month) if final is None else final
    answers = business.lives.answers.filter(
        (pl.col("outcome") != Outcome.PENDING)
        | pl.col("request_id").is_in(changes["request_id"].drop_nulls().implode())
    )
    of_packages = pl.concat([closed, DECISIONS.conform(changes)])
    offers = [coupon_redemptions(business, month, of_packages).answers]
    waits = business.lives.answers["outcome"].is_in([Outcome.PENDING, Outcome.SUPERSEDED]).any()
    asked = business.asked_add_ons
    if waits or not asked.is_empty():
        decided_before = business.register.closed_decision_ids()
        answers = without_decided_voids(answers, decided_before)
        asked = asked.filter(~pl.col("decision_id").is_in(decided_before.implode()))
    # Read closed dates only where a change may be late: they are those of all earlier months.
    if waits or not asked.is_empty():
        closed_dates = business.register.closed_dates()
        late = refused_after_close(business.lives.answers, closed_dates, decided_before)
        answers = pl.concat([answers, late])
        offers.append(late_add_on_answers(asked, closed_dates, decided_before))
    decisions = month_decisions(
        month,
        of_packages,
        with_asked_add_ons(answers, business.requests),
        refund_amounts(business),
        business.first_month or month,
        business.catalogue,
        pl.concat(offers, how="diagonal"),
    )
    write_month(business.home, DECISIONS, month, decisions, in_order=True)
    business.computed.forget(("packages", month))
    return decisions


def write_charges(business: Business, month: str) -> pl.DataFrame:
    """What the closed cycles cost and what falls due on the month's billing dates: CHARGES, DUES and PARKED."""
    rated = rated_charges(business, month)
    parked = parked_accounts(business, month, rated)
    rated = without_parked(rated, parked)
    charges = month_charges(rated)
    unmatched = quantities_not_charged_once(without_parked(required_table(business, USAGE, month), parked), charges)
    if not unmatched.is_empty():
        parked = as_parked(month, parked, contradictory_accounts(unmatched))
        rated, charges = without_parked(rated, parked), without_parked(charges, parked)
    cycles = without_parked(required_table(business, CYCLES, month), parked)
    packages = required_table(business, PACKAGES, month)
    first_packages = _first_packages(business, cycles)
    decisions = _package_decisions(business, month)
    dues = joined(
        [
            dues_of_month(
                part,
                month,
                cycles=part.rows(cycles),
                packages=part.rows(packages),
                first_packages=first_packages,
                rated=part.rows(rated),
                parked=parked,
                decisions=None if decisions is None else part.rows(decisions),
            )
            for part in business.by_currency
        ],
        DUES.key,
    )
    beyond = dues.filter(pl.col("amount").is_null())
    if not beyond.is_empty():
        parked = as_parked(month, parked, seats_out_of_range(beyond))
        dues, charges = without_parked(dues, parked), without_parked(charges, parked)
    write_month(business.home, PARKED, month, parked, in_order=True)
    write_month(business.home, DUES, month, dues, in_order=True)
    write_month(business.home, CHARGES, month, charges, in_order=True)
    return charges


def cycles_of_month(business: Business, month: str) -> MonthCycles:
    found = [
        month_cycles(month, part.lives.subscriptions, part.suspensions, part.catalogue) for part in business.by_currency
    ]
    return joined_cycles(found)


@dataclass(frozen=True)
class ClosedNow:
    """What is closed of a month when it was just issued: reading a large month back is expensive.

    Attributes
    ----------
    dates, decisions
        As `Register.closed_dates` and `closed_decisions` of the month; no decisions: the register is asked for them.
    """

    dates: pl.DataFrame
    decisions: pl.DataFrame | None = None


def decided_packages(business: Business, month: str, closed: ClosedNow | None = None) -> PackageMonth:
    """The package changes of a month; pass what is closed of it if it is known already.

    Computed once for PACKAGES and DECISIONS.
    """
    home = business.home
    files = [state_path(home), *(home.partition(table, month) for table in (CYCLES, USAGE, LEVELS))]
    resumed = business.lives.subscriptions["resumed_from"].is_not_null().any()
    # Search all months, this one included, for the package of a resumed subscription.
    files += [part for each in home.months(PACKAGES) if resumed or each != month for part in home.parts(PACKAGES, each)]
    key = (business.register.revision(), *map(file_stamp, files))
    return business.computed.once(("packages", month), key, lambda: _decided_packages(business, month, closed))


def _decided_packages(business: Business, month: str, closed: ClosedNow | None) -> PackageMonth:
    cycles = required_table(business, CYCLES, month)
    return _packages_of_month(business, month, cycles, required_table(business, USAGE, month), closed)


def _packages_of_month(
    business: Business, month: str, cycles: pl.DataFrame, usage: pl.DataFrame | None, closed: ClosedNow | None
) -> PackageMonth:
    """As `decided_packages`; without usage only the packages of the cycles that close are right, and no add-ons."""
    closed = closed or ClosedNow(business.register.closed_dates(month))
    found = [
        _packages_in_currency(part, month, part.rows(cycles), usage if usage is None else part.rows(usage), closed)
        for part in business.by_currency
    ]
    return joined_packages(found)


def _packages_in_currency(
    business: Business, month: str, cycles: pl.DataFrame, usage: pl.DataFrame | None, closed: ClosedNow
) -> PackageMonth:
    before = months_after(month, -1)
    is_first = business.first_month is None or month <= business.first_month
    previous = PACKAGES.empty() if is_first else required_table(business, PACKAGES, before)
    decided = decide_packages(
        month,
        cycles=cycles,
        usage=USAGE.empty() if usage is None else usage,
        levels=_levels_of_downgrades(business, cycles, month),
        previous=previous.select("subscription_id", "opening_package", "waiting_package"),
        first_packages=_first_packages(business, cycles),
        answers=business.lives.answers,
        closed=closed.dates.select(list(CLOSED_SCHEMA)),
        terms=business.terms,
        held=None if usage is None else held_before(business, month, business.asked_add_ons),
        at_once=_asked_at_once(business, cycles),
    )
    if usage is None:
        return decided
    return packages_with_add_ons(
        business, month, cycles=cycles, previous=previous, decided=decided, final=closed.decisions
    )


def _package_decisions(business: Business, month: str) -> pl.DataFrame | None:
    """The changes of packages of the month, as in the table DECISIONS; None where no upgrade holds at once.

    Not read from that table: it is written beside that of the charges.
    """
    if business.catalogue.policy.requested_upgrades != AT_ONCE:
        return None
    changes = decided_packages(business, month).decisions.filter(pl.col("decided_on") <= business.as_of)
    return pl.concat([business.register.closed_decisions(month), DECISIONS.conform(changes)])


def _asked_at_once(business: Business, cycles: pl.DataFrame) -> AskedAtOnce | None:
    """The upgrades at once around a month; None where the policy has none."""
    if business.catalogue.policy.requested_upgrades != AT_ONCE:
        return None
    register = business.register
    closed = register.closed_dates().select("subscription_id", "billing_date")
    decided = pl.concat([DECISIONS.empty(), *(register.closed_decisions(each) for each in register.issued_months())])
    return asked_at_once(business.lives.answers, cycles, closed, decided)


def _levels_of_downgrades(business: Business, cycles: pl.DataFrame, month: str) -> pl.DataFrame:
    """The levels at the close where a downgrade is asked for, as `levels_at_close`."""
    asked = business.lives.answers.filter(
        (pl.col("outcome") == Outcome.PENDING) & (pl.col("kind") == DecisionKind.DOWNGRADE)
    )
    dates = cycles.join(
        asked, left_on=["subscription_id", "billing_date"], right_on=["subscription_id", "effective_on"], how="semi"
    )
    months = [months_after(month, -1), month] if dates.height else []
    at = tuple(dates.select("account_id", "subscription_id", "billing_date").iter_rows())

    def compute() -> pl.DataFrame:
        events = scan_events(business.home, months, business.as_of, metrics=_gauges(business))
        accounts = accounts_of_events(business.home) if months else dates["account_id"]
        return levels_at_close(dates, required_table(business, LEVELS, month), events, accounts, business.catalogue)

    levels = business.home.partition(LEVELS, month)
    return computed_once(business, LEVELS_AT_THE_CLOSE, month, months, [levels], compute, at)


def _first_packages(business: Business, cycles: pl.DataFrame) -> pl.DataFrame:
    """subscription_id, first_package, first_billing_date of subscriptions whose first date here is in the month.

    One that was resumed goes on with its old package.
    """
    begun = collected(
        business.lives.subscriptions.lazy()
        .select("subscription_id", "first_package", "first_billing_date", "resumed_from")
        .join(
            cycles.lazy().select("subscription_id", first_billing_date="billing_date"),
            on=["subscription_id", "first_billing_date"],
            how="semi",
        )
    )
    if begun["resumed_from"].null_count() == begun.height:
        return begun.drop("resumed_from")
    resumed = begun.filter(pl.col("resumed_from").is_not_null()).select("subscription_id", "resumed_from")
    last = (
        business.scan_months(PACKAGES, business.home.months(PACKAGES))
        .join(resumed.lazy().select(subscription_id="resumed_from").unique(), on="subscription_id", how="semi")
        .sort("billing_date")
        .group_by("subscription_id", maintain_order=True)
        .agg(old_package=pl.coalesce("opening_package", "closing_package").last())
        .collect()
    )
    # Held during its trial: no cycle yet, so use the package subscribed to.
    subscribed = business.lives.subscriptions.select("subscription_id", subscribed_package="first_package")
    return (
        begun.join(last, left_on="resumed_from", right_on="subscription_id", how="left", maintain_order="left")
        .join(subscribed, left_on="resumed_from", right_on="subscription_id", how="left", maintain_order="left")
        .select(
            "subscription_id",
            "first_billing_date",
            first_package=pl.coalesce("first_package", "old_package", "subscribed_package"),
        )
    )
