"""Package changes: one pure function decides them when a cycle closes (rules 7 to 10 and 18)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import polars as pl

from billing.model.codes import (
    REQUESTED_CHANGES,
    DecisionKind,
    Outcome,
    SubscriptionStatus,
    Term,
)
from billing.model.columns import MEASUREMENT
from billing.model.empty_frames import skip_if_empty
from billing.model.one_collect import collected
from billing.model.tables import ADD_ONS, PACKAGES
from billing.rules.add_ons import HeldAddOns
from billing.rules.dimensions import over_all_rules
from billing.rules.refusals import is_at_once, refusal_at_close
from billing.rules.settled_changes import flagged, settle
from billing.rules.terms import TermsFrames, with_terms
from billing.rules.upgrades_at_once import AskedAtOnce, as_decisions, packages_after, upgrades_at_once

CLOSED_SCHEMA: Final[dict[str, pl.DataType | type[pl.DataType]]] = {
    "subscription_id": pl.String,
    "billing_date": pl.Date,
    "closing_package": pl.String,
    "opening_package": pl.String,
    "change_reason": pl.String,
    "waiting_package": pl.String,
}
_NO_FLAGS: Final = pl.lit([], pl.List(pl.String))
_NO_EVIDENCE: Final = pl.lit([], MEASUREMENT)


@dataclass(frozen=True)
class PackageMonth:
    """The packages of a month and the decisions that made them.

    Attributes
    ----------
    packages
        As the table PACKAGES.
    decisions
        As the table DECISIONS, without explanation: changes of packages and add-ons decided at billing dates that are
        still open.
    add_ons
        As the table ADD_ONS.
    """

    packages: pl.DataFrame
    decisions: pl.DataFrame
    add_ons: pl.DataFrame = field(default_factory=ADD_ONS.empty)


def joined_packages(parts: Sequence[PackageMonth]) -> PackageMonth:
    """The packages of the accounts of several currencies as one."""
    if len(parts) == 1:
        return parts[0]
    return PackageMonth(
        PACKAGES.conform(pl.concat(each.packages for each in parts)),
        pl.concat(each.decisions for each in parts),
        ADD_ONS.conform(pl.concat(each.add_ons for each in parts)),
    )


def decide_packages(
    month: str,
    *,
    cycles: pl.DataFrame,
    usage: pl.DataFrame,
    levels: pl.DataFrame,
    previous: pl.DataFrame,
    first_packages: pl.DataFrame,
    answers: pl.DataFrame,
    closed: pl.DataFrame,
    terms: TermsFrames,
    held: HeldAddOns | None = None,
    at_once: AskedAtOnce | None = None,
) -> PackageMonth:
    """The package of every cycle that starts in the month.

    Parameters
    ----------
    cycles, usage
        The tables CYCLES and USAGE of the month.
    levels
        As `levels_at_close`: of subscriptions that have asked for a downgrade.
    previous
        subscription_id, opening_package, waiting_package: of the month before.
    first_packages
        subscription_id, first_package, first_billing_date: of subscriptions that begin in the month.
    answers
        As `Lives.answers`; the pending package changes are decided here.
    closed
        CLOSED_SCHEMA: billing dates that have been closed keep what was decided (rule 9).
    held
        What subscriptions hold of add-ons in the cycles that close; None where nobody holds any.
    at_once
        Upgrades that hold from their day; None where nobody asks for one.

    Returns
    -------
    PackageMonth
        Without subscriptions whose package in force is not known: the month before was not billed with them.
    """
    keys = ["subscription_id", "billing_date"]
    # rule 34: a package fits the sum over all rules of a metric
    usage = over_all_rules(usage)
    open_dates = cycles.join(closed, on=keys, how="anti", maintain_order="left")
    state = _state(open_dates, previous, first_packages, _held_within(open_dates, answers))
    state = state.filter(pl.col("current").is_not_null())
    if at_once is not None:
        in_closing = upgrades_at_once(at_once, _closing_in_force(cycles, previous, first_packages), terms)
        state = _after_upgrades(state, in_closing)
    asked = _asked_of(answers, open_dates, at_once)
    deciding = state.filter("may_change")
    automatic = _automatic_upgrades(deciding, usage, terms, held)
    requested = _requested_changes(deciding, asked, automatic, usage, levels, terms, held)
    decisions = flagged(settle(automatic, requested, month), deciding)
    changes = decisions.filter(pl.col("outcome") == Outcome.APPROVED).select(
        "subscription_id", "to_package", "effective_on", change_kind="kind"
    )
    columns = [name for name in PACKAGES.column_names if name != "billing_month"]
    decided = collected(
        state.lazy()
        .join(changes.lazy(), on="subscription_id", how="left")
        .with_columns(closed=pl.lit(False), **_new_packages())
        .select(columns)
    )
    kept = _closed_packages(cycles.join(closed, on=keys), previous, first_packages)
    packages = pl.concat([decided, kept.select(columns)]).with_columns(billing_month=pl.lit(month))
    if at_once is not None:
        in_opening = upgrades_at_once(at_once, _opening_in_force(cycles, packages), terms)
        answered = as_decisions(pl.concat([in_closing, in_opening]), month)
        new = answered.filter(~pl.col("request_id").is_in(at_once.approved.implode()))
        decisions = pl.concat([decisions, new])
    return PackageMonth(PACKAGES.conform(packages), decisions)


def _asked_of(answers: pl.DataFrame, open_dates: pl.DataFrame, at_once: AskedAtOnce | None) -> pl.DataFrame:
    """request_id, subscription_id, at, kind, package, billing_date: the changes that are decided when cycles close."""
    is_asked = (pl.col("outcome") == Outcome.PENDING) & pl.col("kind").is_in(REQUESTED_CHANGES)
    asked = answers.filter(is_asked).select(
        "request_id", "subscription_id", "at", "kind", "package", billing_date="effective_on"
    )
    if at_once is not None:
        late = at_once.late.join(open_dates.select("subscription_id", "billing_date"), on="subscription_id")
        asked = pl.concat(
            [
                asked.join(answers.filter(is_at_once()), on="request_id", how="anti", maintain_order="left"),
                late.with_columns(kind=pl.lit(DecisionKind.UPGRADE)).select(asked.columns),
            ]
        )
    return asked


def _closing_in_force(cycles: pl.DataFrame, previous: pl.DataFrame, first_packages: pl.DataFrame) -> pl.DataFrame:
    """subscription_id, cycle_start, cycle_end, term, current: the package at the start of the cycles that close."""
    known = cycles.filter(pl.col("cycle_start").is_not_null()).join(previous, on="subscription_id", how="left")
    known = known.join(first_packages, on="subscription_id", how="left")
    return known.select(
        *("subscription_id", "cycle_start", "cycle_end", "term"),
        current=pl.coalesce("opening_package", "first_package"),
    )


def _opening_in_force(cycles: pl.DataFrame, packages: pl.DataFrame) -> pl.DataFrame:
    """As `_closing_in_force`, of the cycles that start."""
    return (
        cycles.join(packages.select("subscription_id", current="opening_package"), on="subscription_id")
        .filter(pl.col("current").is_not_null())
        .select("subscription_id", "term", "current", cycle_start="billing_date", cycle_end="next_billing_date")
    )


def _after_upgrades(state: pl.DataFrame, upgrades: pl.DataFrame) -> pl.DataFrame:
    """`state` with the package of cycles that were upgraded at once: the whole cycle is rated with it (rule 37)."""
    upgraded = state.join(packages_after(upgrades), on=["subscription_id", "cycle_start"], how="left")
    return upgraded.with_columns(
        pl.coalesce("upgraded", name).alias(name) for name in ("current", "closing_package")
    ).drop("upgraded")


@skip_if_empty("cycles")
@skip_if_empty("answers")
def _held_within(cycles: pl.DataFrame, answers: pl.DataFrame) -> pl.DataFrame:
    """subscription_id and was_held: put on hold within the closing cycle, whether it was undone or not."""
    holds = answers.filter((pl.col("outcome") == Outcome.APPROVED) & (pl.col("kind") == DecisionKind.HOLD))
    return (
        cycles.select("subscription_id", "cycle_start", "billing_date")
        .join(holds.select("subscription_id", "on"), on="subscription_id")
        .filter((pl.col("cycle_start") <= pl.col("on")) & (pl.col("on") < pl.col("billing_date")))
        .select("subscription_id", was_held=pl.lit(True))
        .unique()
    )


@skip_if_empty("cycles")
def _state(
    cycles: pl.DataFrame, previous: pl.DataFrame, first_packages: pl.DataFrame, held: pl.DataFrame
) -> pl.DataFrame:
    """The open billing dates with the package in force until then."""
    return collected(
        cycles.lazy()
        .join(previous.lazy(), on="subscription_id", how="left")
        .join(first_packages.lazy(), on="subscription_id", how="left")
        .join(held.lazy(), on="subscription_id", how="left")
        .with_columns(begins=pl.col("billing_date") == pl.col("first_billing_date"))
        .with_columns(
            current=pl.when("begins").then("first_package").otherwise("opening_package"),
            # A subscription that moved in has cycles before its first billing date here (rule 38).
            closing_package=pl.when(pl.col("billing_index") > 0).then(
                pl.when("begins").then("first_package").otherwise("opening_package")
            ),
            # After a cancellation or on hold: pending changes are void, no automatic upgrade.
            may_change=pl.col("status").is_in([SubscriptionStatus.ACTIVE, SubscriptionStatus.SUSPENDED])
            & ~pl.col("is_last"),
            # A hold, even one that was undone, voids the package that waits for the end of a yearly term (rule 13).
            waiting_package=pl.when(pl.col("was_held").is_null()).then("waiting_package"),
        )
        .drop("opening_package", "first_package", "first_billing_date", "begins")
    )


@skip_if_empty("dates")
def _closed_packages(dates: pl.DataFrame, previous: pl.DataFrame, first_packages: pl.DataFrame) -> pl.DataFrame:
    """Closed billing dates with the packages that were decided there.

    A date closed while the subscription counted as ended has no package: carry the package in force forward. It changes
    at the next open date only (rule 9).
    """
    goes_on = ~pl.col("is_last")
    in_force = pl.coalesce("closing_package", pl.when(pl.col("billing_index") > 0).then("before"))
    return (
        dates.join(
            previous.select("subscription_id", before="opening_package"),
            on="subscription_id",
            how="left",
            maintain_order="left",
        )
        .join(first_packages, on="subscription_id", how="left", maintain_order="left")
        .with_columns(
            closing_package=pl.when(goes_on & pl.col("opening_package").is_null())
            .then(in_force)
            .otherwise("closing_package"),
            opening_package=pl.when(goes_on)
            .then(pl.coalesce("opening_package", in_force, "first_package"))
            .otherwise("opening_package"),
            closed=pl.lit(True),
        )
    )


def _new_packages() -> dict[str, pl.Expr]:
    """opening_package, change_reason and waiting_package."""
    takes_effect = pl.col("effective_on") == pl.col("billing_date")
    is_term_date = (pl.col("term") == Term.MONTHLY) | (pl.col("billing_index") % 12 == 0)
    # A cancellation voids the waiting package, too (rule 12).
    waited = is_term_date & pl.col("waiting_package").is_not_null() & pl.col("may_change")
    opening = (
        pl.when(pl.col("is_last"))
        .then(None)
        .when(takes_effect)
        .then("to_package")
        .when(waited)
        .then("waiting_package")
        .otherwise("current")
    )
    waiting = (
        pl.when(takes_effect | waited | ~pl.col("may_change"))
        .then(None)
        .otherwise(pl.coalesce("to_package", "waiting_package"))
    )
    reason = pl.when(takes_effect).then("change_kind").when(waited).then(pl.lit(DecisionKind.DOWNGRADE))
    return {"opening_package": opening, "change_reason": reason, "waiting_package": waiting}


@skip_if_empty("usage")
@skip_if_empty("deciding")
def _automatic_upgrades(
    deciding: pl.DataFrame, usage: pl.DataFrame, terms: TermsFrames, held: HeldAddOns | None
) -> pl.DataFrame:
    """Rule 7: a row per subscription whose trigger metrics outgrew its package.

    Returns
    -------
    polars.DataFrame
        subscription_id, account_id, billing_date, current, rank, target, target_rank, exceeds_catalogue, evidence.
    """
    triggers = _trigger_usage(deciding, usage, terms, held)
    outgrown = triggers.group_by("subscription_id", maintain_order=True).agg(
        is_over=(pl.col("base_quantity") > pl.col("allowance")).any(), evidence=_evidence()
    )
    over = deciding.join(outgrown.filter("is_over"), on="subscription_id", maintain_order="left")
    return _larger_packages(over, triggers, terms, held)


@skip_if_empty("over")
def _larger_packages(
    over: pl.DataFrame, triggers: pl.DataFrame, terms: TermsFrames, held: HeldAddOns | None
) -> pl.DataFrame:
    """As `_automatic_upgrades`, of the subscriptions that outgrew their package."""
    over = over.join(
        _ranks(terms).rename({"package": "current", "rank": "current_rank"}), on="current", maintain_order="left"
    )
    candidates = _candidates(over, terms)
    # the smallest package whose allowance, in the version at the billing date, fits every trigger metric
    fitting = (
        _allowances_at_date(candidates, terms, held, ["subscription_id", "package"])
        .join(triggers.select("subscription_id", "metric", "base_quantity"), on=["subscription_id", "metric"])
        .group_by("subscription_id", "package", "rank")
        .agg(fits=(pl.col("base_quantity") <= pl.col("allowance")).fill_null(value=True).all())
        .filter("fits")
        .sort("rank")
        .group_by("subscription_id", maintain_order=True)
        .first()
        .select("subscription_id", fitting="package", fitting_rank="rank")
    )
    largest = (
        candidates.sort("rank")
        .group_by("subscription_id", maintain_order=True)
        .last()
        .select("subscription_id", largest="package", largest_rank="rank")
    )
    return (
        over.join(fitting, on="subscription_id", how="left", maintain_order="left")
        .join(largest, on="subscription_id", how="left", maintain_order="left")
        # A new version of the same package may fit usage that the closing version did not.
        .filter(pl.col("fitting").is_null() | (pl.col("fitting") != pl.col("current")))
        .select(
            "subscription_id",
            "account_id",
            "billing_date",
            "current",
            "current_rank",
            target=pl.coalesce("fitting", "largest", "current"),
            target_rank=pl.coalesce("fitting_rank", "largest_rank", "current_rank"),
            exceeds_catalogue=pl.col("fitting").is_null(),
            evidence="evidence",
        )
    )


@skip_if_empty("deciding")
def _trigger_usage(
    deciding: pl.DataFrame, usage: pl.DataFrame, terms: TermsFrames, held: HeldAddOns | None
) -> pl.DataFrame:
    """Usage of the trigger metrics of the package in force, against the closing cycle's version."""
    closing = deciding.filter(pl.col("cycle_start").is_not_null()).select(
        "account_id", "subscription_id", "cycle_start", package="current"
    )
    allowances = _allowances(with_terms(closing, terms, on="cycle_start", or_first=True), terms).filter("is_trigger")
    if held is not None:
        allowances = held.with_allowances(allowances, closing, ["subscription_id"])
    return allowances.join(
        usage.select("subscription_id", "cycle_start", "metric", "quantity", "base_quantity"),
        on=["subscription_id", "cycle_start", "metric"],
    ).sort("subscription_id", "metric")


def _candidates(over: pl.DataFrame, terms: TermsFrames) -> pl.DataFrame:
    """The current package and every larger one that is sold at the billing date, with its terms.

    An upgrade skips packages that are not sold in the currency of the account, and one of a yearly term those without
    a yearly price (rules 18 and 36).
    """
    packages = _ranks(terms)
    pairs = (
        over.select("account_id", "subscription_id", "billing_date", "cycle_start", "term", "current", "current_rank")
        .join(packages, how="cross")
        .filter(pl.col("rank") >= pl.col("current_rank"))
        .filter((pl.col("package") == pl.col("current")) | ~pl.col("package").is_in(terms.hidden))
        .drop("current")
    )
    sold = terms.packages.select("terms_key", "package", "since", "monthly", "yearly")
    return (
        with_terms(pairs, terms, on="billing_date")
        .filter(pl.col("terms_key").is_not_null())
        .join(sold, on=["terms_key", "package", "since"], how="left")
        # One that is not sold in the currency of the account is no candidate (rule 36).
        .filter(pl.col("monthly").is_not_null())
        .filter((pl.col("term") == Term.MONTHLY) | pl.col("yearly").is_not_null())
    )


@skip_if_empty("asked")
@skip_if_empty("deciding")
def _requested_changes(
    deciding: pl.DataFrame,
    asked: pl.DataFrame,
    automatic: pl.DataFrame,
    usage: pl.DataFrame,
    levels: pl.DataFrame,
    terms: TermsFrames,
    held: HeldAddOns | None,
) -> pl.DataFrame:
    """Every requested change with `refusal` (null: valid), rank and evidence.

    Rule 8: it takes effect on the next billing date, where it is larger than the package in force.
    """
    ranks = _ranks(terms)
    requests = (
        asked.join(
            deciding.select(
                "account_id",
                "subscription_id",
                "billing_date",
                "cycle_start",
                "term",
                "current",
                "billing_index",
                "term_end",
            ),
            on=["subscription_id", "billing_date"],
            maintain_order="left",
        )
        .join(ranks, on="package", how="left", maintain_order="left")
        .join(
            ranks.rename({"package": "current", "rank": "current_rank"}),
            on="current",
            how="left",
            maintain_order="left",
        )
        .join(
            automatic.filter(pl.col("target") != pl.col("current")).select("subscription_id", upgraded=pl.lit(True)),
            on="subscription_id",
            how="left",
            maintain_order="left",
        )
    )
    sold = terms.packages.select("terms_key", "package", "since", "monthly", "yearly")
    requests = with_terms(requests, terms, on="billing_date").join(
        sold, on=["terms_key", "package", "since"], how="left", maintain_order="left"
    )
    fits = _fit(requests.filter(pl.col("kind") == DecisionKind.DOWNGRADE), usage, levels, terms, held)
    requests = requests.join(fits, on="request_id", how="left", maintain_order="left")
    requests = requests.with_columns(is_hidden=pl.col("package").is_in(terms.hidden))
    return requests.with_columns(refusal=refusal_at_close(), evidence=pl.col("evidence").fill_null(_NO_EVIDENCE))


@skip_if_empty("downgrades")
def _fit(
    downgrades: pl.DataFrame,
    usage: pl.DataFrame,
    levels: pl.DataFrame,
    terms: TermsFrames,
    held: HeldAddOns | None,
) -> pl.DataFrame:
    """request_id, fits, evidence: the metrics that block a downgrade, or all of them when none does.

    Rule 10: usage must fit every allowance of the target.

    Gauges count by their latest level at the close, whatever access there was; counters by the closing cycle. At the
    limit is a fit.
    """
    compared = (
        _allowances_at_date(downgrades.filter(pl.col("terms_key").is_not_null()), terms, held, ["request_id"])
        .join(
            usage.select("subscription_id", "cycle_start", "metric", "quantity"),
            on=["subscription_id", "cycle_start", "metric"],
            how="left",
        )
        .join(levels, on=["subscription_id", "metric"], how="left")
        .with_columns(quantity=pl.coalesce("level", "quantity"))
        .with_columns(pl.col("quantity").fill_null(0).cast(usage.schema["quantity"]), limit="allowance_units")
        .with_columns(blocks=(pl.col("quantity") > pl.col("limit")).fill_null(value=False))
        .sort("request_id", "metric")
    )
    return compared.group_by("request_id", maintain_order=True).agg(
        fits=~pl.col("blocks").any(),
        evidence=pl.struct("metric", "quantity", allowance="limit").filter(pl.col("blocks") | ~pl.col("blocks").any()),
    )


def _ranks(terms: TermsFrames) -> pl.DataFrame:
    return terms.packages.select("package", "rank").unique().sort("rank")


def _allowances(frame: pl.DataFrame, terms: TermsFrames) -> pl.DataFrame:
    """`frame` (terms_key, package, since) with metric, allowance, allowance_units and is_trigger: a row per metric."""
    return frame.join(
        terms.metrics.select("terms_key", "package", "since", "metric", "allowance", "allowance_units", "is_trigger"),
        on=["terms_key", "package", "since"],
    )


def _allowances_at_date(
    frame: pl.DataFrame, terms: TermsFrames, held: HeldAddOns | None, keys: list[str]
) -> pl.DataFrame:
    """As `_allowances`, of a package that would start on the billing date, with the add-ons held that it allows."""
    found = _allowances(frame, terms)
    return found if held is None else held.with_allowances(found, frame, keys, package="package", on="billing_date")


def _evidence() -> pl.Expr:
    return pl.struct("metric", "quantity", allowance="allowance_units")
