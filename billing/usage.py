"""Usage: what each metric measured in the cycles that close in a month, and the levels of gauges (rule 1)."""

from collections.abc import Sequence
from typing import Final

import polars as pl

from billing.calendar import midnight
from billing.catalogue import Catalogue, Metric
from billing.money import scaled_to_decimal
from billing.rating import in_units, unit_billionths
from billing.tables import BASE_QUANTITY, INSTANT, LEVELS, QUANTITY, USAGE

_ZERO: Final = pl.lit(0).cast(BASE_QUANTITY)
EXTREME_QUANTITY: Final = pl.lit(10**20).cast(BASE_QUANTITY)
"""From here on a quantity is not measured in units but left null, and its account is parked (rule 28)."""


def month_usage(
    month: str,
    spans: pl.DataFrame,
    cycles: pl.DataFrame,
    levels: pl.DataFrame,
    events: pl.LazyFrame,
    catalogue: Catalogue,
) -> pl.DataFrame:
    """The usage of every cycle that closes, of every metric, used or not (rules 1 and 6).

    Parameters
    ----------
    spans
        As `MonthCycles.spans`: usage outside of them is not billed.
    cycles
        As the table CYCLES.
    levels
        As the table LEVELS of this month: `opening_level` is the level at the start of the month before.
    events
        As the table EVENTS, all of the month and the month before.

    Returns
    -------
    polars.DataFrame
        As the table USAGE.
    """
    closing = cycles.filter(pl.col("cycle_start").is_not_null()).select(
        "account_id", "subscription_id", "cycle_start", "cycle_end"
    )
    measured = pl.concat(
        [
            _counters(spans, events, [metric for metric in catalogue.metrics if metric.kind == "counter"]),
            _gauges(
                spans,
                events,
                levels,
                closing,
                [metric for metric in catalogue.metrics if metric.kind == "gauge"],
                catalogue,
            ),
        ]
    )
    metrics = pl.DataFrame(
        {"metric": [m.name for m in catalogue.metrics], "_unit": [unit_billionths(m) for m in catalogue.metrics]},
        schema={"metric": pl.String, "_unit": pl.Int128},
    )
    usage = closing.join(metrics, how="cross").join(
        measured, on=["subscription_id", "cycle_start", "metric"], how="left"
    )

    def units(column: str) -> pl.Expr:
        measured = pl.when(pl.col(column).abs() < EXTREME_QUANTITY).then(pl.col(column).to_physical())
        return in_units(measured, pl.col("_unit"))

    return USAGE.conform(
        usage.with_columns(
            billing_month=pl.lit(month),
            base_quantity=pl.col("base_quantity").fill_null(_ZERO),
            events=pl.col("events").fill_null(0),
            duplicates=pl.col("duplicates").fill_null(0),
            event_sum=pl.col("event_sum").fill_null(_ZERO),
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
            opening_level=pl.col("level_opening").fill_null(_ZERO),
            closing_level="level",
        )
    )


def levels_at_close(
    dates: pl.DataFrame, levels: pl.DataFrame, events: pl.LazyFrame, catalogue: Catalogue
) -> pl.DataFrame:
    """The level of every gauge at the close of a cycle, or of a trial, whatever access there was (rule 10).

    Parameters
    ----------
    dates
        account_id, subscription_id, billing_date: within the billing month.
    levels, events
        As in `month_usage`.

    Returns
    -------
    polars.DataFrame
        subscription_id, metric, level (QUANTITY, in units; one below zero counts as 0), of gauges.
    """
    gauges = [metric for metric in catalogue.metrics if metric.kind == "gauge"]
    units = pl.DataFrame(
        {"metric": [metric.name for metric in gauges], "_unit": [unit_billionths(metric) for metric in gauges]},
        schema={"metric": pl.String, "_unit": pl.Int128},
    )
    at_close = dates.select(
        "account_id", "subscription_id", instant=midnight(pl.col("billing_date"), catalogue.time_zone)
    ).join(units, how="cross")
    known = events.filter(pl.col("metric").is_in(units["metric"].implode())).join(
        dates.lazy().select("account_id").unique(), on="account_id", how="semi"
    )
    path = level_path(known, levels, gauges)
    counted = pl.max_horizontal("level", _ZERO).to_physical()
    return level_before(at_close, path, levels, "instant").select(
        "subscription_id", "metric", level=in_units(counted, pl.col("_unit")).cast(QUANTITY)
    )


def _levels_after(opening: pl.DataFrame, events: pl.LazyFrame, gauges: Sequence[Metric]) -> pl.DataFrame:
    """account_id, metric, level: `opening` moved on by the events."""
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
        # of several levels at one instant the last by (source, id) holds
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
        level=pl.coalesce("new_level", pl.col("level").fill_null(_ZERO) + pl.col("change").fill_null(_ZERO)),
    ).sort("account_id", "metric")


_MEASURED: Final[dict[str, pl.DataType | type[pl.DataType]]] = {
    "subscription_id": pl.String,
    "cycle_start": pl.Date,
    "metric": pl.String,
    "base_quantity": BASE_QUANTITY,
    "closing_base": BASE_QUANTITY,
    "lowest_base": BASE_QUANTITY,
    "events": pl.Int64,
    "duplicates": pl.Int64,
    "event_sum": BASE_QUANTITY,
}


def _counters(spans: pl.DataFrame, events: pl.LazyFrame, counters: Sequence[Metric]) -> pl.DataFrame:
    """Counters add up within the access of the cycle, from zero."""
    by_measure = {
        measure: [m.name for m in counters if m.measure == measure] for measure in ("sum", "count", "unique", "max")
    }
    numbered = spans.with_row_index("span")
    inside = _within(events.filter(pl.col("metric").is_in([metric.name for metric in counters])), numbered)
    keys = ["subscription_id", "cycle_start", "metric"]
    # by span first: a number is grouped by sooner than the texts it stands for
    totals = (
        inside.group_by("span", "metric")
        .agg(
            events=pl.len().cast(pl.Int64),
            duplicates=pl.col("repeats").sum(),
            event_sum=pl.col("value").sum(),
            highest=pl.col("value").max(),
        )
        .collect(engine="streaming")
        .join(numbered.select("span", "subscription_id", "cycle_start"), on="span")
        .group_by(keys)
        .agg(pl.col("events", "duplicates", "event_sum").sum(), pl.col("highest").max())
    )
    distinct = pl.DataFrame(schema={name: _MEASURED[name] for name in keys} | {"distinct": pl.Int64})
    if by_measure["unique"]:
        distinct = (
            inside.filter(pl.col("metric").is_in(by_measure["unique"]))
            .group_by(keys)
            .agg(distinct=pl.col("member").n_unique().cast(pl.Int64))
            .collect(engine="streaming")
        )
    metric = pl.col("metric")
    return (
        totals.join(distinct, on=keys, how="left")
        .with_columns(
            base_quantity=pl.when(metric.is_in(by_measure["count"]))
            .then(pl.col("events").cast(BASE_QUANTITY))
            .when(metric.is_in(by_measure["unique"]))
            .then(pl.col("distinct").cast(BASE_QUANTITY))
            .when(metric.is_in(by_measure["max"]))
            .then("highest")
            .otherwise("event_sum"),
            closing_base=pl.lit(None, BASE_QUANTITY),
            lowest_base=pl.lit(None, BASE_QUANTITY),
        )
        .select(pl.col(name).cast(dtype) for name, dtype in _MEASURED.items())
    )


def _within(events: pl.LazyFrame, spans: pl.DataFrame) -> pl.LazyFrame:
    """Events inside a span of access, with the span's columns."""
    return events.join(spans.lazy(), on="account_id").filter(
        (pl.col("time") >= pl.col("span_start")) & (pl.col("time") < pl.col("span_end"))
    )


def _gauges(
    spans: pl.DataFrame,
    events: pl.LazyFrame,
    levels: pl.DataFrame,
    closing: pl.DataFrame,
    gauges: Sequence[Metric],
    catalogue: Catalogue,
) -> pl.DataFrame:
    """Gauges carry on: the level path of the account, cut by the access of the cycle."""
    names = pl.DataFrame({"metric": [metric.name for metric in gauges]}, schema={"metric": pl.String})
    account_events = events.filter(pl.col("metric").is_in(names["metric"].implode())).join(
        closing.lazy().select("account_id").unique(), on="account_id", how="semi"
    )
    path = level_path(account_events, levels, gauges)
    spanned = spans.join(names, how="cross").with_row_index("span")
    carried_in = level_before(spanned, path, levels, "span_start")
    steps = (
        path.lazy()
        .join(
            carried_in.lazy().select("span", "account_id", "metric", "span_start", "span_end"),
            on=["account_id", "metric"],
        )
        .filter((pl.col("time") >= pl.col("span_start")) & (pl.col("time") < pl.col("span_end")))
        .select("span", "time", "level", "events", "duplicates", "event_sum")
        .collect()
    )
    points = pl.concat(
        [
            carried_in.select(
                "span",
                time="span_start",
                level="level",
                events=pl.lit(0, pl.Int64),
                duplicates=pl.lit(0, pl.Int64),
                event_sum=_ZERO,
                rank=pl.lit(0),
            ),
            steps.with_columns(rank=pl.lit(1)).select(
                "span", "time", "level", "events", "duplicates", "event_sum", "rank"
            ),
        ]
    ).sort("span", "time", "rank")
    ends = carried_in.select(
        "span", "span_end", "subscription_id", "cycle_start", "metric", "cycle_start_instant", "cycle_end_instant"
    )
    points = points.join(ends, on="span", how="left", maintain_order="left")
    # a level below zero is kept, and counts as 0
    counted = pl.max_horizontal(pl.min_horizontal("level", EXTREME_QUANTITY), _ZERO).to_physical()
    seconds = (
        pl.col("time").shift(-1).over("span").fill_null(pl.col("span_end")) - pl.col("time")
    ).dt.total_nanoseconds()
    points = points.with_columns(_counted=counted.cast(pl.Int128), _lasting=seconds.cast(pl.Int128)).with_columns(
        # the integral in two parts, whole units and billionths: each sum stays far below 2^127
        _whole=(pl.col("_counted") // 10**9) * pl.col("_lasting"),
        _rest=(pl.col("_counted") % 10**9) * pl.col("_lasting"),
    )
    keys = ["subscription_id", "cycle_start", "metric"]
    summed = points.group_by(keys, maintain_order=True).agg(
        events=pl.col("events").sum(),
        duplicates=pl.col("duplicates").sum(),
        event_sum=pl.col("event_sum").sum(),
        peak=pl.col("level").max(),
        lowest=pl.col("level").min(),
        last=pl.col("level").last(),
        whole=pl.col("_whole").sum(),
        rest=pl.col("_rest").sum(),
        cycle=(pl.col("cycle_end_instant").first() - pl.col("cycle_start_instant").first())
        .dt.total_nanoseconds()
        .cast(pl.Int128),
    )
    by_measure = {
        measure: [m.name for m in gauges if m.measure == measure] for measure in ("peak", "last", "time_weighted")
    }
    metric = pl.col("metric")
    cycle = pl.col("cycle")
    fraction = ((pl.col("whole") % cycle) * 10**9 + pl.col("rest")) * 2
    average = scaled_to_decimal((pl.col("whole") // cycle) * 10**9 + (fraction + cycle) // (cycle * 2), 9)
    return summed.with_columns(
        base_quantity=pl.max_horizontal(
            pl.when(metric.is_in(by_measure["time_weighted"]))
            .then(average)
            .when(metric.is_in(by_measure["last"]))
            .then("last")
            .otherwise("peak"),
            _ZERO,
        ),
        closing_base="last",
        lowest_base=pl.when(pl.col("lowest") < 0).then("lowest"),
    ).select(pl.col(name).cast(dtype) for name, dtype in _MEASURED.items())


def level_path(events: pl.LazyFrame, levels: pl.DataFrame, gauges: Sequence[Metric]) -> pl.DataFrame:
    """The level of every gauge after each instant at which it changes.

    Parameters
    ----------
    events
        EVENTS of gauges, from the start of the month before the billing month on.
    levels
        LEVELS of the billing month.

    Returns
    -------
    polars.DataFrame
        account_id, metric, time, level (BASE_QUANTITY), events, duplicates, event_sum; sorted by the first three.
    """
    deltas = [metric.name for metric in gauges if metric.carries == "delta"]
    absolute = [metric.name for metric in gauges if metric.carries == "level"]
    columns = ["account_id", "metric", "time", "event_sum", "new_level", "events", "duplicates"]
    parts = []
    if deltas:
        # all deltas of one instant apply together; what identifies each is not even read
        summed = _at_instants(events, deltas, new_level=pl.lit(None, BASE_QUANTITY))
        parts.append(summed.select(columns).collect(engine="streaming"))
    if absolute:
        # of several levels at one instant the last by (source, id) holds
        last = _at_instants(events, absolute, new_level=pl.col("value").sort_by("source", "id").last())
        parts.append(last.select(columns).collect(engine="streaming"))
    if not parts:
        return pl.DataFrame(schema=_PATH)
    instants = (
        pl.concat(parts)
        .sort("account_id", "metric", "time")
        .join(
            levels.select("account_id", "metric", "opening_level"),
            on=["account_id", "metric"],
            how="left",
            maintain_order="left",
        )
    )
    running = pl.col("opening_level").fill_null(_ZERO) + pl.col("event_sum").cum_sum().over("account_id", "metric")
    level = pl.when(pl.col("metric").is_in(deltas)).then(running).otherwise("new_level")
    return instants.with_columns(level=level).select(pl.col(name).cast(dtype) for name, dtype in _PATH.items())


_PATH: Final[dict[str, pl.DataType | type[pl.DataType]]] = {
    "account_id": pl.String,
    "metric": pl.String,
    "time": INSTANT,
    "level": BASE_QUANTITY,
    "events": pl.Int64,
    "duplicates": pl.Int64,
    "event_sum": BASE_QUANTITY,
}


def _at_instants(events: pl.LazyFrame, metrics: Sequence[str], new_level: pl.Expr) -> pl.LazyFrame:
    """What happened at each instant to each account's level of these gauges."""
    return (
        events.filter(pl.col("metric").is_in(metrics))
        .group_by("account_id", "metric", "time")
        .agg(
            event_sum=pl.col("value").sum(),
            new_level=new_level,
            events=pl.len().cast(pl.Int64),
            duplicates=pl.col("repeats").sum(),
        )
    )


def level_before(rows: pl.DataFrame, path: pl.DataFrame, levels: pl.DataFrame, instant: str) -> pl.DataFrame:
    """`rows` (account_id, metric, `instant`) with `level`: what stood just before that instant, carried in."""
    opening = levels.select("account_id", "metric", "opening_level")
    return (
        rows.sort(instant)
        .join_asof(
            path.select("account_id", "metric", "time", "level").sort("time"),
            left_on=instant,
            right_on="time",
            by=["account_id", "metric"],
            strategy="backward",
            allow_exact_matches=False,
            check_sortedness=False,
        )
        .join(opening, on=["account_id", "metric"], how="left")
        .with_columns(level=pl.coalesce("level", "opening_level", _ZERO))
        .drop("opening_level")
    )
