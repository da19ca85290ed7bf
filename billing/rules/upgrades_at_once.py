"""Requested upgrades that hold from their day, and what the rest of the cycle costs more (rule 37)."""

from dataclasses import dataclass
from typing import Final

import polars as pl

from billing.model.calendar import midnight, month_of
from billing.model.catalogue import Catalogue
from billing.model.codes import DecisionKind, DecisionReason, LineKind, Outcome, Term
from billing.model.columns import MEASUREMENT, MONEY
from billing.model.money import round_fraction
from billing.model.tables import DECISIONS
from billing.rules.billing_dates import Grid
from billing.rules.own_documents import upgrade_id
from billing.rules.refusals import first_that_holds, is_at_once
from billing.rules.subscriptions import Lives
from billing.rules.terms import PRICE_SCALE, TermsFrames, with_terms

_CYCLE: Final = ["subscription_id", "cycle_start"]


@dataclass(frozen=True)
class AskedAtOnce:
    """Upgrades that are asked for at once.

    Attributes
    ----------
    asked
        account_id, request_id, subscription_id, at, on, package: those that were known before their cycle closed.
    late
        The others: they take effect on the next open billing date.
    approved
        request_id of those that the register has as approved: they stand.
    """

    asked: pl.DataFrame
    late: pl.DataFrame
    approved: pl.Series


def asked_at_once(
    answers: pl.DataFrame, cycles: pl.DataFrame, closed: pl.DataFrame, decided: pl.DataFrame
) -> AskedAtOnce:
    """The upgrades that are asked for at once around a month.

    Parameters
    ----------
    answers
        As `Lives.answers`.
    cycles
        The table CYCLES of the month.
    closed
        subscription_id, billing_date of all closed dates.
    decided
        DECISIONS that are closed, of all months.
    """
    columns = ["account_id", "request_id", "subscription_id", "at", "on", "package"]
    asked = answers.filter((pl.col("outcome") == Outcome.PENDING) & is_at_once()).select(columns)
    upgrades = decided.filter(pl.col("kind") == DecisionKind.UPGRADE)
    approved = upgrades.filter(pl.col("outcome") == Outcome.APPROVED)["request_id"]
    is_new = ~pl.col("request_id").is_in(upgrades["request_id"].implode())
    around = asked.join(
        cycles.select("subscription_id", "cycle_start", "billing_date", "next_billing_date"), on="subscription_id"
    )
    ends = pl.when(pl.col("on") < pl.col("billing_date")).then("billing_date").otherwise("next_billing_date")
    passed = (
        around.filter((pl.col("on") >= pl.col("cycle_start")).fill_null(value=True))
        .filter(is_new)
        .join(closed, left_on=["subscription_id", ends], right_on=["subscription_id", "billing_date"], how="semi")
        .select("request_id")
    )
    before = around.filter((pl.col("on") < pl.col("cycle_start")) & is_new).join(
        closed.select("subscription_id", cycle_start="billing_date"), on=_CYCLE, how="semi"
    )
    known = asked.join(pl.concat([passed, before.select("request_id")]), on="request_id", how="anti")
    return AskedAtOnce(
        known.filter(is_new | pl.col("request_id").is_in(approved.implode())), before.select(columns), approved
    )


def upgrades_at_once(upgrades: AskedAtOnce, in_force: pl.DataFrame, terms: TermsFrames) -> pl.DataFrame:
    """The answers to upgrades that were asked for at once, in the cycles in which they were.

    Each is measured against the package in force on its day, those before it included; it supersedes nothing.

    Parameters
    ----------
    in_force
        subscription_id, cycle_start, cycle_end, term, current: the package at the start of each cycle.

    Returns
    -------
    polars.DataFrame
        account_id, subscription_id, request_id, at, on, cycle_start, cycle_end, term, from_package, to_package,
        outcome, reason; sorted by at, request_id.
    """
    ranks = terms.packages.select("package", "rank").unique()
    sold = terms.packages.select("terms_key", "package", "since", "monthly", "yearly")
    asked = (
        upgrades.asked.join(in_force, on="subscription_id")
        .filter((pl.col("cycle_start") <= pl.col("on")) & (pl.col("on") < pl.col("cycle_end")))
        .join(ranks, on="package", how="left")
        .join(ranks.rename({"package": "current", "rank": "current_rank"}), on="current", how="left")
        .sort("at", "request_id")
    )
    asked = with_terms(asked, terms, on="on").join(
        sold, on=["terms_key", "package", "since"], how="left", maintain_order="left"
    )
    refusal = first_that_holds(
        [
            (pl.col("rank").is_null(), DecisionReason.UNKNOWN_PACKAGE),
            (pl.col("package").is_in(terms.hidden), DecisionReason.PACKAGE_HIDDEN),
            (pl.col("terms_key").is_null(), DecisionReason.PACKAGE_NOT_SOLD_YET),
            (pl.col("monthly").is_null(), DecisionReason.NOT_SOLD_IN_CURRENCY),
            ((pl.col("term") == Term.YEARLY) & pl.col("yearly").is_null(), DecisionReason.NO_YEARLY_PRICE),
        ]
    )
    stands = pl.col("request_id").is_in(upgrades.approved.implode())
    asked = asked.with_columns(refusal=pl.when(~stands).then(refusal))
    highest = pl.when(pl.col("refusal").is_null()).then("rank").cum_max().shift(1).forward_fill().over(_CYCLE)
    is_higher = pl.col("rank") > pl.max_horizontal("current_rank", highest)
    asked = asked.with_columns(
        refusal=pl.coalesce(
            "refusal", pl.when(~stands & ~is_higher.fill_null(value=False)).then(pl.lit(DecisionReason.NOT_AN_UPGRADE))
        )
    )
    approved = pl.col("refusal").is_null()
    before = pl.when(approved).then("package").shift(1).forward_fill().over(_CYCLE)
    return asked.select(
        "account_id",
        *("subscription_id", "request_id", "at", "on", "cycle_start", "cycle_end", "term"),
        from_package=pl.coalesce(before, "current"),
        to_package="package",
        outcome=pl.when(approved).then(pl.lit(Outcome.APPROVED)).otherwise(pl.lit(Outcome.REFUSED)),
        reason=pl.coalesce("refusal", pl.lit(DecisionReason.REQUESTED)),
    )


def packages_after(upgrades: pl.DataFrame) -> pl.DataFrame:
    """subscription_id, cycle_start, upgraded: the package at the end of each cycle with upgrades, as above."""
    approved = upgrades.filter(pl.col("outcome") == Outcome.APPROVED)
    return approved.group_by(_CYCLE, maintain_order=True).agg(upgraded=pl.col("to_package").last())


def as_decisions(upgrades: pl.DataFrame, month: str) -> pl.DataFrame:
    """The table DECISIONS, without explanation, of the upgrades that are answered in a month."""
    nothing = ("explanation", "amount", "expected_from", "expected_by", "coupon", "add_on", "quantity")
    return DECISIONS.conform(
        upgrades.filter(month_of(pl.col("on")) == month).with_columns(
            decision_id="request_id",
            billing_month=pl.lit(month),
            kind=pl.lit(DecisionKind.UPGRADE),
            decided_on="on",
            effective_on=pl.when(pl.col("outcome") == Outcome.APPROVED).then("on"),
            evidence=pl.lit([], MEASUREMENT),
            flags=pl.lit([], pl.List(pl.String)),
            **dict.fromkeys(nothing),
        )
    )


def upgrade_dues(
    decisions: pl.DataFrame,
    lives: Lives,
    cycles: pl.DataFrame,
    suspensions: pl.DataFrame,
    terms: TermsFrames,
    catalogue: Catalogue,
) -> pl.DataFrame:
    """What upgrades at once add to the table DUES of a month: the difference of the fees for the days left.

    Both fees are of the version in which the fee of the cycle, or of the yearly term, was charged. None is due while
    access is suspended (rule 16).

    Parameters
    ----------
    decisions
        The table DECISIONS of the month.
    cycles
        The table CYCLES of the month.
    suspensions
        account_id, suspended_from, suspended_until (null is open).
    """
    grid, on = Grid.of(catalogue.policy), pl.col("on")
    dated = _with_fees(_paid_spans(decisions, lives, cycles, suspensions, catalogue), terms)
    whole = (pl.col("paid_until") - pl.col("paid_from")).dt.total_days()
    if grid.first_of_month:
        whole = on.dt.month_end().dt.day()
    left = (pl.col("paid_until") - on).dt.total_days()
    more = pl.max_horizontal(pl.col("new").to_physical() - pl.col("old").to_physical(), 0).cast(pl.Int128)
    amount = round_fraction(
        more * left.cast(pl.Int128), whole.cast(pl.Int128) * pl.lit(PRICE_SCALE, pl.Int128), catalogue.minor_units
    )
    titles = {package.name: package.title for package in catalogue.packages}
    return dated.select(
        "account_id",
        subscription_id=upgrade_id(),
        billing_date=on,
        kind=pl.lit(LineKind.PRORATION),
        due_item="request_id",
        package="to_package",
        cycle_start=on,
        cycle_end="paid_until",
        amount=amount.cast(MONEY),
        whole_fee="new",
        replaced_fee="old",
        fee_part=left.cast(pl.Int32),
        fee_parts=whole.cast(pl.Int32),
        description=pl.format(
            "{} instead of {}, {} of {} days",
            pl.col("to_package").replace(titles),
            pl.col("from_package").replace(titles),
            left,
            whole,
        ),
    ).filter(pl.col("amount") != 0)


def _paid_spans(
    decisions: pl.DataFrame, lives: Lives, cycles: pl.DataFrame, suspensions: pl.DataFrame, catalogue: Catalogue
) -> pl.DataFrame:
    """The upgrades that cost something, with paid_from and paid_until: the cycle or term that the old fee pays for."""
    grid, zone, on = Grid.of(catalogue.policy), catalogue.time_zone, pl.col("on")
    approved = decisions.filter(
        (pl.col("kind") == DecisionKind.UPGRADE) & (pl.col("outcome") == Outcome.APPROVED)
    ).join(lives.answers.filter(is_at_once()).select("request_id", "on"), on="request_id")
    approved = approved.filter(pl.col("effective_on") == on)
    is_next = on >= pl.col("billing_date")
    k = pl.when(is_next).then("billing_index").otherwise(pl.col("billing_index") - 1)
    first = pl.when(pl.col("term") == Term.YEARLY).then(k // 12 * 12).otherwise(k)
    last = pl.when(pl.col("term") == Term.YEARLY).then(first + 12).otherwise(k + 1)
    dated = (
        approved.join(cycles.select("subscription_id", "term", "billing_index", "billing_date"), on="subscription_id")
        .join(lives.subscriptions.select("subscription_id", "grid_start"), on="subscription_id")
        .with_columns(
            paid_from=grid.date(pl.col("grid_start"), first), paid_until=grid.date(pl.col("grid_start"), last)
        )
    )
    if not catalogue.policy.charge_while_suspended:
        day = midnight(on, zone)
        stopped = (
            dated.join(suspensions, on="account_id")
            .filter(
                (pl.col("suspended_from") <= day)
                & (pl.col("suspended_until").is_null() | (pl.col("suspended_until") > day))
            )
            .select("request_id")
        )
        dated = dated.join(stopped, on="request_id", how="anti", maintain_order="left")
    return dated


def _with_fees(dated: pl.DataFrame, terms: TermsFrames) -> pl.DataFrame:
    """`dated` with new and old (PRICE): the fees of both packages for the cycle or term."""
    fees = terms.packages.select("terms_key", "package", "since", "monthly", "yearly")
    for name, package in (("new", "to_package"), ("old", "from_package")):
        dated = (
            with_terms(dated.with_columns(package=package), terms, on="paid_from", or_first=True)
            .join(fees, on=["terms_key", "package", "since"], how="left", maintain_order="left")
            .with_columns(pl.when(pl.col("term") == Term.YEARLY).then("yearly").otherwise("monthly").alias(name))
            .drop("terms_key", "since", "monthly", "yearly", "package")
        )
    return dated
