"""Cycles: the billing dates of a month, and the spans of access whose usage is billed (section 1, rules 12 to 16)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Final

import polars as pl

from billing.model.calendar import first_day, midnight, month_number, month_of, months_after
from billing.model.catalogue import Catalogue
from billing.model.codes import FeeReason, SubscriptionStatus, Term
from billing.model.columns import INSTANT
from billing.model.empty_frames import skip_if_empty
from billing.model.one_collect import collected
from billing.model.tables import CYCLES
from billing.rules.billing_dates import Grid

SPAN_SCHEMA: Final[dict[str, pl.DataType | type[pl.DataType]]] = {
    "account_id": pl.String,
    "subscription_id": pl.String,
    "span_start": INSTANT,
    "span_end": INSTANT,
}


@dataclass(frozen=True)
class MonthCycles:
    """The cycles around one billing month.

    Attributes
    ----------
    cycles
        As the table CYCLES, a row per subscription with a billing date in the month.
    spans
        The spans of access of every cycle that closes in the month: account_id, subscription_id, cycle_start,
        cycle_end (dates), cycle_start_instant, cycle_end_instant, span_start, span_end (UTC, half-open).
    """

    cycles: pl.DataFrame
    spans: pl.DataFrame


def joined_cycles(parts: Sequence[MonthCycles]) -> MonthCycles:
    """The cycles of the accounts of several currencies as one."""
    if len(parts) == 1:
        return parts[0]
    spans = pl.concat(each.spans for each in parts).sort("subscription_id", "cycle_start", "span_start")
    return MonthCycles(CYCLES.conform(pl.concat(each.cycles for each in parts)), spans)


def month_cycles(
    month: str, subscriptions: pl.DataFrame, suspensions: pl.DataFrame, catalogue: Catalogue
) -> MonthCycles:
    """The billing dates that fall in a month, and the access in the cycles that end there.

    Parameters
    ----------
    subscriptions
        As `Lives.subscriptions`.
    suspensions
        account_id, suspended_from, suspended_until (UTC; null is open): rule 16.
    """
    dated = _billing_dates(month, subscriptions, catalogue).collect()
    spans = _closing_spans(dated.lazy(), access_spans(subscriptions, suspensions, catalogue))
    first_and_last = (
        spans.lazy()
        .group_by("subscription_id")
        .agg(access_start=pl.col("span_start").min(), access_end=pl.col("span_end").max())
    )
    suspended = _suspended_at_billing_date(dated, suspensions)
    paused = _paused_at_billing_date(dated.filter(pl.col("pauses").list.len() > 0))
    cycles = collected(
        dated.lazy()
        .join(first_and_last, on="subscription_id", how="left")
        .join(suspended.lazy(), on="subscription_id", how="left")
        .join(paused.lazy(), on="subscription_id", how="left")
        .join(_late_yearly_fees(month, dated, suspensions, catalogue).lazy(), on="subscription_id", how="left")
        .with_columns(pl.col("is_suspended", "is_paused").fill_null(value=False))
        .with_columns(**_fee_columns(catalogue))
    )
    return MonthCycles(CYCLES.conform(cycles), spans)


def closing_spans(
    month: str, subscriptions: pl.DataFrame, suspensions: pl.DataFrame, catalogue: Catalogue
) -> pl.DataFrame:
    """The spans of `month_cycles` alone."""
    dated = _billing_dates(month, subscriptions, catalogue)
    return _closing_spans(dated, access_spans(subscriptions, suspensions, catalogue))


@skip_if_empty("subscriptions")
def access_spans(subscriptions: pl.DataFrame, suspensions: pl.DataFrame, catalogue: Catalogue) -> pl.DataFrame:
    """When each subscription gave access: SPAN_SCHEMA, sorted; an open end is null.

    A trial gives no billable access, nor does a hold that was undone, nor a suspension (rules 13, 16 and 18).
    """
    zone = catalogue.time_zone
    one_day = pl.duration(days=1)
    given = (
        subscriptions.lazy()
        .select(
            "account_id",
            "subscription_id",
            "pauses",
            span_start=midnight(pl.max_horizontal("access_from", "grid_start", "measured_from"), zone),
            span_end=midnight(pl.col("access_last") + one_day, zone),
        )
        .filter(pl.col("span_end").is_null() | (pl.col("span_start") < pl.col("span_end")))
    )
    if suspensions.is_empty() and not (subscriptions["pauses"].list.len() > 0).any():
        return collected(given.select(list(SPAN_SCHEMA)).sort("account_id", "span_start"))
    lives = collected(given)
    own = lives.select(list(SPAN_SCHEMA))
    pauses = (
        lives.select("subscription_id", "pauses")
        .explode("pauses", empty_as_null=False)
        .drop_nulls("pauses")
        .unnest("pauses")
        .select(
            "subscription_id",
            blocked_from=midnight(pl.col("first"), zone),
            blocked_until=midnight(pl.col("until"), zone),
        )
    )
    suspended = lives.join(suspensions, on="account_id").select(
        "subscription_id", blocked_from="suspended_from", blocked_until="suspended_until"
    )
    return _without(own, pl.concat([pauses, suspended])).sort("account_id", "span_start")


def _without(spans: pl.DataFrame, blocked: pl.DataFrame) -> pl.DataFrame:
    """Subtract blocked intervals from spans (they may overlap; a null end is open)."""
    touched = (
        blocked.filter(pl.col("blocked_until").is_null() | (pl.col("blocked_from") < pl.col("blocked_until")))
        .join(spans, on="subscription_id")
        .filter(pl.col("blocked_until").is_null() | (pl.col("blocked_until") > pl.col("span_start")))
        .filter(pl.col("span_end").is_null() | (pl.col("blocked_from") < pl.col("span_end")))
        .sort("subscription_id", "blocked_from")
    )
    if touched.is_empty():
        return spans
    far = pl.lit(date(2262, 1, 1)).cast(INSTANT)
    open_end = pl.col("blocked_until").fill_null(far)
    # Gaps run from the cumulative maximum of ends to the next start, plus one after the last interval.
    reached = pl.max_horizontal("span_start", open_end.cum_max().over("subscription_id"))
    ordered = touched.with_columns(reached=reached)
    before = ordered.select(
        "account_id",
        "subscription_id",
        span_start=pl.col("reached").shift(1).over("subscription_id").fill_null(pl.col("span_start")),
        span_end="blocked_from",
    )
    after = (
        ordered.group_by("subscription_id", maintain_order=True)
        .last()
        .select("account_id", "subscription_id", span_start="reached", span_end="span_end")
    )
    gaps = pl.concat([before, after]).filter(
        (pl.col("span_start") < far) & (pl.col("span_end").is_null() | (pl.col("span_start") < pl.col("span_end")))
    )
    return pl.concat([spans.join(touched, on="subscription_id", how="anti"), gaps])


def _billing_dates(month: str, subscriptions: pl.DataFrame, catalogue: Catalogue) -> pl.LazyFrame:
    """Subscriptions with a billing date in the month, with the dates around it."""
    grid = Grid.of(catalogue.policy)
    first = pl.lit(first_day(month))
    start = pl.col("grid_start")
    k = (month_number(first) - month_number(start)).cast(pl.Int32)
    following = pl.lit(first_day(months_after(month, 1)))
    return (
        subscriptions.lazy()
        .filter(start < following)
        .with_columns(billing_index=k)
        .with_columns(billing_date=grid.date(start, pl.col("billing_index")))
        .filter(pl.col("billing_date") >= pl.col("first_billing_date"))
        .filter(pl.col("last_billing_date").is_null() | (pl.col("billing_date") <= pl.col("last_billing_date")))
        .with_columns(
            billing_month=pl.lit(month),
            cycle_start=pl.when(pl.col("billing_index") > 0).then(grid.date(start, pl.col("billing_index") - 1)),
            cycle_end=pl.when(pl.col("billing_index") > 0).then("billing_date"),
            next_billing_date=grid.date(start, pl.col("billing_index") + 1),
            following_term=pl.when(pl.col("term") == Term.YEARLY)
            .then(grid.date(start, pl.col("billing_index") // 12 * 12 + 12))
            .otherwise(grid.date(start, pl.col("billing_index") + 1)),
            term_end=pl.when(pl.col("term") == Term.YEARLY)
            .then(grid.date(start, (pl.col("billing_index") + 11) // 12 * 12))
            .otherwise("billing_date"),
        )
        .with_columns(
            billing_instant=midnight(pl.col("billing_date"), catalogue.time_zone),
            cycle_start_instant=midnight(pl.col("cycle_start"), catalogue.time_zone),
            cycle_end_instant=midnight(pl.col("cycle_end"), catalogue.time_zone),
        )
    )


@skip_if_empty("spans")
def _closing_spans(dated: pl.LazyFrame, spans: pl.DataFrame) -> pl.DataFrame:
    """The access within the cycles that close."""
    closing = dated.filter(pl.col("cycle_start").is_not_null()).select(
        "subscription_id", "cycle_start", "cycle_end", "cycle_start_instant", "cycle_end_instant"
    )
    return (
        spans.lazy()
        .join(closing, on="subscription_id")
        .with_columns(
            span_start=pl.max_horizontal("span_start", "cycle_start_instant"),
            span_end=pl.min_horizontal("span_end", "cycle_end_instant"),
        )
        .filter(pl.col("span_start") < pl.col("span_end"))
        .sort("account_id", "span_start")
        .collect()
    )


@skip_if_empty("suspensions")
@skip_if_empty("dated")
def _suspended_at_billing_date(dated: pl.DataFrame, suspensions: pl.DataFrame) -> pl.DataFrame:
    """subscription_id and is_suspended, where the billing date falls into a suspension."""
    return (
        dated.join(suspensions, on="account_id")
        .filter(
            (pl.col("suspended_from") <= pl.col("billing_instant"))
            & (pl.col("suspended_until").is_null() | (pl.col("suspended_until") > pl.col("billing_instant")))
        )
        .select("subscription_id", is_suspended=pl.lit(True))
        .unique()
    )


@skip_if_empty("suspensions")
@skip_if_empty("dated")
def _late_yearly_fees(month: str, dated: pl.DataFrame, suspensions: pl.DataFrame, catalogue: Catalogue) -> pl.DataFrame:
    """subscription_id, late_fee_on, late_term_start, late_term_end: yearly fees that fall due as access comes back.

    By rule 16 a yearly fee whose date falls into a suspension is due on the day access comes back, for the term from
    its date. A monthly one is not: the fee that was paid late pays for the access that follows.
    """
    grid, zone = Grid.of(catalogue.policy), catalogue.time_zone
    back, start = pl.col("late_fee_on"), pl.col("grid_start")
    term = (grid.next_index(start, back) - 1) // 12 * 12
    kept = dated.filter((pl.col("term") == Term.YEARLY) & pl.lit(not catalogue.policy.charge_while_suspended))
    return (
        kept.join(suspensions, on="account_id")
        .with_columns(late_fee_on=pl.col("suspended_until").dt.convert_time_zone(zone).dt.date())
        .filter((month_of(back) == month) & (back >= start))
        .with_columns(late_term_start=grid.date(start, term), late_term_end=grid.date(start, term + 12))
        .with_columns(fee_instant=midnight(pl.col("late_term_start"), zone))
        .filter(
            (pl.col("suspended_from") <= pl.col("fee_instant")) & (pl.col("suspended_until") > pl.col("fee_instant"))
        )
        # Access of an ended subscription does not come back.
        .filter(
            (pl.col("late_term_start") < pl.col("fees_until")).fill_null(value=True)
            & (back <= pl.col("access_last")).fill_null(value=True)
        )
        .select("subscription_id", "late_fee_on", "late_term_start", "late_term_end")
    )


@skip_if_empty("dated")
def _paused_at_billing_date(dated: pl.DataFrame) -> pl.DataFrame:
    """subscription_id and is_paused, where the billing date falls into a hold that was undone later."""
    return (
        dated.select("subscription_id", "billing_date", "pauses")
        .explode("pauses", empty_as_null=False)
        .drop_nulls("pauses")
        .unnest("pauses")
        .filter((pl.col("first") <= pl.col("billing_date")) & (pl.col("billing_date") < pl.col("until")))
        .select("subscription_id", is_paused=pl.lit(True))
        .unique()
    )


def _fee_columns(catalogue: Catalogue) -> dict[str, pl.Expr]:
    """Whether a fee falls due on the billing date, which share of it, and the status after it."""
    policy = catalogue.policy
    at = pl.col("billing_date")
    # Rule 18: the fee of a yearly term falls due on every twelfth billing date
    is_term_date = (pl.col("term") == Term.MONTHLY) | (pl.col("billing_index") % 12 == 0)
    stopped = pl.col("fees_until").is_not_null() & (at >= pl.col("fees_until"))
    is_held = pl.col("held_on").is_not_null() & pl.col("end").is_null()
    hold_fee = pl.lit(policy.hold_fee > Decimal(0))
    hold_fee_due = (
        hold_fee
        & pl.col("held_on").is_not_null()
        # No hold fee for a period that is paid, including the extra cycle or year of a late notice.
        & (at >= pl.col("paid_until"))
        & (pl.col("hold_fees_until").is_null() | (at < pl.col("hold_fees_until")))
    )
    suspended = pl.col("is_suspended") & pl.lit(not policy.charge_while_suspended)
    reason = (
        pl.when(stopped)
        .then(
            pl.when(pl.col("end").is_not_null())
            .then("end")
            .when(is_held)
            .then(pl.lit(FeeReason.HELD))
            .otherwise(pl.lit(FeeReason.ENDED))
        )
        .when(~is_term_date)
        .then(pl.lit(FeeReason.TERM))
        .when(suspended)
        .then(pl.lit(FeeReason.SUSPENDED))
        .otherwise(pl.lit(FeeReason.DUE))
    )
    # Policy first_of_month: proration of the first, short cycle by the days of its calendar month.
    days = at.dt.month_end().dt.day().cast(pl.Int32)
    # No proration after a resume (rule 13).
    prorated = (
        pl.lit(policy.billing_anchor == "first_of_month" and policy.first_cycle == "prorated")
        & (pl.col("billing_index") == 0)
        & pl.col("resumed_from").is_null()
    )
    due = reason == FeeReason.DUE
    return {
        "fee_reason": reason,
        "fee_share_numerator": pl.when(~due)
        .then(0)
        .when(prorated)
        .then(days - at.dt.day().cast(pl.Int32) + 1)
        .otherwise(1),
        "fee_share_denominator": pl.when(due & prorated).then(days).otherwise(1),
        "hold_fee_due": hold_fee_due.fill_null(value=False),
        "is_last": (at == pl.col("last_billing_date")).fill_null(value=False),
        # A hold that was undone or ended later still counts on the days it lasted.
        "status": pl.when(
            (pl.col("held_on") < at).fill_null(value=False) & (pl.col("ended_on") >= at).fill_null(value=True)
            | pl.col("is_paused")
        )
        .then(pl.lit(SubscriptionStatus.HELD))
        .when(stopped & pl.col("end").is_not_null())
        .then("end")
        .when(pl.col("is_suspended"))
        .then(pl.lit(SubscriptionStatus.SUSPENDED))
        .when((pl.col("ended_on") < at).fill_null(value=False))
        .then("end")
        .otherwise(pl.lit(SubscriptionStatus.ACTIVE)),
    }
