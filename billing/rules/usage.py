"""Usage of each cycle and metric, from counted events (rules 1 and 29)."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from billing.model.catalogue import Catalogue, Metric
from billing.model.columns import BASE_QUANTITY
from billing.model.quantities import in_units, unit_billionths
from billing.model.tables import LEVELS, USAGE
from billing.rules.dimensions import SIGNATURE, RuleBook
from billing.rules.gauges import measured_gauges
from billing.rules.measurement import (
    EXTREME_QUANTITY,
    ZERO,
    account_key,
    added_up,
    as_measured,
    measured_counters,
    within_spans,
)


@dataclass(frozen=True, kw_only=True)
class UsageInputs:
    """What the usage of a month is measured from.

    Attributes
    ----------
    spans
        As `MonthCycles.spans`: usage outside of them is not billed.
    cycles
        As the table CYCLES.
    levels
        As the table LEVELS of this month: `opening_level` is the level at the start of the month before.
    events
        As the table EVENTS, all of the month and the month before, in one batch or several: additive metrics are
        measured batch by batch.
    repeated
        account_id, metric, time, repeats of those of them that were delivered more than once; `dimensions`, too, where
        there is a book.
    accounts
        Ids of all accounts that the events name, and maybe of others.
    book, in_force
        The rules of tariffs by dimension, if there are any, and the terms that rate the closing cycles: IN_FORCE.
    gauge_events
        Those of the events that are of gauges, and maybe others, where that is known without reading all.
    """

    month: str
    spans: pl.DataFrame
    cycles: pl.DataFrame
    levels: pl.DataFrame
    events: Sequence[pl.LazyFrame]
    repeated: pl.LazyFrame
    accounts: pl.Series
    catalogue: Catalogue
    book: RuleBook | None = None
    in_force: pl.DataFrame | None = None
    gauge_events: pl.LazyFrame | None = None

    @property
    def events_of_gauges(self) -> pl.LazyFrame:
        """The events of the gauges, and maybe others."""
        return pl.concat(self.events) if self.gauge_events is None else self.gauge_events


def month_usage(inputs: UsageInputs) -> pl.DataFrame:
    """The usage of every cycle that closes, of every metric, used or not: the table USAGE (rules 1 and 6)."""
    spans, events, closing = inputs.spans, inputs.events, _closing(inputs.cycles)
    key = account_key(inputs.accounts, spans["account_id"], closing["account_id"])
    counters, gauges = _of_kind(inputs.catalogue, "counter"), _of_kind(inputs.catalogue, "gauge")
    measured = pl.concat(
        [
            measured_counters(spans, events, counters, key, inputs.book, inputs.in_force),
            measured_gauges(spans, inputs.events_of_gauges, inputs.levels, closing, gauges, key),
        ],
    )
    return _usage(inputs, closing, measured, within_spans(inputs.repeated, spans, key))


def month_usage_with_more(inputs: UsageInputs, *, before: pl.DataFrame, added: pl.LazyFrame) -> pl.DataFrame:
    """Update the usage of a month from new events: the same rows as `month_usage`, without measuring all again.

    Parameters
    ----------
    before
        As `month_usage`, of the events without `added` and of otherwise the same.
    added
        Those of the events that are new.
    """
    spans, events, closing = inputs.spans, inputs.events, _closing(inputs.cycles)
    key = account_key(inputs.accounts, spans["account_id"], closing["account_id"])
    counters, gauges = _of_kind(inputs.catalogue, "counter"), _of_kind(inputs.catalogue, "gauge")
    distinct = [metric for metric in counters if metric.measure == "unique"]
    additive = [metric for metric in counters if metric.measure != "unique"]
    is_gauge = pl.col("metric").is_in([metric.name for metric in gauges])
    moved = added.filter(is_gauge).select("account_id").unique().collect()["account_id"]
    is_moved = pl.col("account_id").is_in(moved.implode())
    measured = pl.concat(
        [
            added_up(
                [
                    as_measured(before, additive),
                    measured_counters(spans, [added], additive, key, inputs.book, inputs.in_force),
                ],
                additive,
            ),
            measured_counters(spans, events, distinct, key),
            measured_gauges(spans, inputs.events_of_gauges, inputs.levels, closing.filter(is_moved), gauges, key),
        ]
    )
    usage = _usage(inputs, closing, measured, within_spans(inputs.repeated, spans, key))
    # A gauge depends on events of its own account only: recompute the touched accounts.
    stays = is_gauge & ~is_moved
    keys = ["subscription_id", "cycle_start", "metric"]
    stayed = before.filter(stays).drop("duplicates").join(usage.select(*keys, "duplicates"), on=keys)
    return USAGE.conform(pl.concat([usage.filter(~stays), stayed.select(usage.columns)]))


def usage_of(
    month: str,
    *,
    cycles: pl.DataFrame,
    measured: pl.DataFrame,
    catalogue: Catalogue,
    book: RuleBook | None,
    in_force: pl.DataFrame | None,
) -> pl.DataFrame:
    """The table USAGE of quantities that are known without events; what is not among them is 0.

    Parameters
    ----------
    measured
        MEASURED of the closing cycles, perhaps of others, too.
    cycles, catalogue, book, in_force
        As in `UsageInputs`. What a rule measured that is not in force is rated with the rest.
    """
    nothing = pl.DataFrame(schema={"account_id": pl.String})
    inputs = UsageInputs(
        month=month,
        spans=nothing,
        cycles=cycles,
        levels=nothing,
        events=[],
        repeated=nothing.lazy(),
        accounts=nothing["account_id"],
        catalogue=catalogue,
        book=book,
        in_force=in_force,
    )
    repeats = {"subscription_id": pl.String, "cycle_start": pl.Date, "metric": pl.String, "repeats": pl.Int64}
    repeated = pl.LazyFrame(schema={**repeats, "dimensions": pl.List(pl.String)})
    return _usage(inputs, _closing(cycles), _by_rules_in_force(measured, book, in_force), repeated)


def _by_rules_in_force(measured: pl.DataFrame, book: RuleBook | None, in_force: pl.DataFrame | None) -> pl.DataFrame:
    if measured["rule"].null_count() == measured.height:
        return measured
    keys = ["subscription_id", "metric", "rule"]
    rules = measured.select(keys).clear() if book is None or in_force is None else book.rows(in_force)
    known = rules.select(keys).unique().with_columns(_known=pl.lit(value=True))
    return (
        measured.join(known, on=keys, how="left", maintain_order="left")
        .with_columns(rule=pl.when("_known").then("rule"))
        .group_by("subscription_id", "cycle_start", "metric", "rule", maintain_order=True)
        .agg(pl.col("base_quantity", "events", "event_sum").sum(), pl.col("closing_base", "lowest_base").first())
        .select(measured.columns)
    )


def _closing(cycles: pl.DataFrame) -> pl.DataFrame:
    return cycles.filter(pl.col("cycle_start").is_not_null()).select(
        "account_id", "subscription_id", "cycle_start", "cycle_end"
    )


def _of_kind(catalogue: Catalogue, kind: str) -> list[Metric]:
    return [metric for metric in catalogue.metrics if metric.kind == kind]


def _usage(inputs: UsageInputs, closing: pl.DataFrame, measured: pl.DataFrame, repeated: pl.LazyFrame) -> pl.DataFrame:
    """USAGE of the cycles that close, from MEASURED and the repeated events inside of their spans."""
    catalogue, book = inputs.catalogue, inputs.book
    units_of_metrics = [unit_billionths(metric) for metric in catalogue.metrics]
    metrics = pl.DataFrame(
        {"metric": [metric.name for metric in catalogue.metrics], "_unit": units_of_metrics},
        schema={"metric": pl.String, "_unit": pl.Int128},
    )
    keys = ["subscription_id", "cycle_start", "metric"]
    rows = closing.join(metrics, how="cross")
    by_rule = [] if book is None else [SIGNATURE]
    duplicates = (
        (repeated if book is None else repeated.with_columns(book.signature().alias(SIGNATURE)))
        .group_by(*keys, *by_rule)
        .agg(duplicates=pl.col("repeats").sum())
        .collect()
    )
    if book is None or inputs.in_force is None:
        usage = rows.join(measured, on=keys, how="left").join(duplicates, on=keys, how="left")
    else:
        # rule 6: a rule that nothing matches has a row, too.
        ruled = closing.join(book.rows(inputs.in_force).join(metrics, on="metric"), on="subscription_id")
        every = pl.concat([rows.with_columns(rule=pl.lit(None, pl.String)), ruled.select(*rows.columns, "rule")])
        named = book.with_rules(duplicates, inputs.in_force).group_by(*keys, "rule").agg(pl.col("duplicates").sum())
        on = [*keys, "rule"]
        usage = every.join(measured, on=on, how="left", nulls_equal=True).join(
            named, on=on, how="left", nulls_equal=True
        )

    def units(column: str) -> pl.Expr:
        measured = pl.when(pl.col(column).abs() < EXTREME_QUANTITY).then(pl.col(column).to_physical())
        return in_units(measured, pl.col("_unit"), units_of_metrics)

    return USAGE.conform(
        usage.with_columns(
            billing_month=pl.lit(inputs.month),
            base_quantity=pl.col("base_quantity").fill_null(ZERO),
            events=pl.col("events").fill_null(0),
            duplicates=pl.col("duplicates").fill_null(0),
            event_sum=pl.col("event_sum").fill_null(ZERO),
        ).with_columns(
            quantity=units("base_quantity"),
            closing_level=units("closing_base"),
            lowest_level=units("lowest_base"),
        )
    )


def month_levels(
    month: str, previous: pl.DataFrame | None, events: pl.LazyFrame, earlier: pl.LazyFrame, catalogue: Catalogue
) -> pl.DataFrame:
    """The levels of all gauges at the start of the month before and of the month.

    Parameters
    ----------
    previous
        LEVELS of the month before; None in the first month of the business.
    events
        EVENTS of the month before.
    earlier
        EVENTS of all months before that one; read in the first month of the business only.

    Returns
    -------
    polars.DataFrame
        As the table LEVELS; an account and metric without any event has no row, its level is 0.
    """
    gauges = [metric for metric in catalogue.metrics if metric.kind == "gauge"]
    nothing = pl.DataFrame(schema={"account_id": pl.String, "metric": pl.String, "level": BASE_QUANTITY})
    if previous is not None:
        opening = previous.select("account_id", "metric", level="closing_level")
    else:
        opening = _levels_after(nothing, earlier, gauges)
    closing = _levels_after(opening, events, gauges)
    return LEVELS.conform(
        closing.join(opening, on=["account_id", "metric"], how="left", suffix="_opening").select(
            "account_id",
            billing_month=pl.lit(month),
            metric="metric",
            opening_level=pl.col("level_opening").fill_null(ZERO),
            closing_level="level",
        )
    )


def _levels_after(opening: pl.DataFrame, events: pl.LazyFrame, gauges: Sequence[Metric]) -> pl.DataFrame:
    """account_id, metric, level: `opening` advanced by the events."""
    deltas = [metric.name for metric in gauges if metric.carries == "delta"]
    levels = [metric.name for metric in gauges if metric.carries == "level"]
    changed = (
        events.filter(pl.col("metric").is_in(deltas))
        .group_by("account_id", "metric")
        .agg(change=pl.col("value").sum())
        .collect(engine="streaming")
    )
    replaced = pl.DataFrame(schema={"account_id": pl.String, "metric": pl.String, "new_level": BASE_QUANTITY})
    if levels:
        # Several levels at one instant: the last by (source, id) wins.
        replaced = (
            events.filter(pl.col("metric").is_in(levels))
            .group_by("account_id", "metric")
            .agg(new_level=pl.col("value").sort_by("time", "source", "id").last())
            .collect(engine="streaming")
        )
    moved = opening.join(changed, on=["account_id", "metric"], how="full", coalesce=True).join(
        replaced, on=["account_id", "metric"], how="full", coalesce=True
    )
    return moved.select(
        "account_id",
        "metric",
        level=pl.coalesce("new_level", pl.col("level").fill_null(ZERO) + pl.col("change").fill_null(ZERO)),
    ).sort("account_id", "metric")
