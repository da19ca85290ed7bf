"""Measure gauges: the level over time of each account and metric."""

from collections.abc import Sequence
from typing import Final

import polars as pl

from billing.model.calendar import midnight
from billing.model.catalogue import Catalogue, Metric
from billing.model.columns import BASE_QUANTITY, INSTANT, QUANTITY
from billing.model.empty_frames import skip_if_empty
from billing.model.money import scaled_to_decimal
from billing.model.quantities import in_units, unit_billionths
from billing.rules.measurement import EXTREME_QUANTITY, MEASURED, ZERO, account_key, measured_by


@skip_if_empty("dates")
def levels_at_close(
    dates: pl.DataFrame, levels: pl.DataFrame, events: pl.LazyFrame, accounts: pl.Series, catalogue: Catalogue
) -> pl.DataFrame:
    """The level of every gauge at the close of a cycle, or of a trial, whatever access there was (rule 10).

    Parameters
    ----------
    dates
        account_id, subscription_id, billing_date: within the billing month.
    levels, events, accounts
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
    known = gauges_of(dates["account_id"], levels, gauges)
    at_close = (
        dates.select("account_id", "subscription_id", instant=midnight(pl.col("billing_date"), catalogue.time_zone))
        .join(known, on="account_id")
        .join(units, on="metric")
    )
    counted = pl.max_horizontal("level", ZERO).to_physical()
    path = level_path(events, known, gauges, account_key(accounts, known["account_id"]))
    return level_before(at_close, path, "instant").select(
        "subscription_id", "metric", level=in_units(counted, pl.col("_unit")).cast(QUANTITY)
    )


@skip_if_empty("spans")
def measured_gauges(
    spans: pl.DataFrame,
    events: pl.LazyFrame,
    levels: pl.DataFrame,
    closing: pl.DataFrame,
    gauges: Sequence[Metric],
    key: pl.Expr,
) -> pl.DataFrame:
    """Measure gauges: carry the level forward, and cut its path at the spans of access."""
    known = gauges_of(closing["account_id"], levels, gauges)
    path = level_path(events, known, gauges, key)
    spanned = spans.join(known, on="account_id", maintain_order="left").with_row_index("span")
    carried_in = level_before(spanned, path, "span_start")
    steps = (
        path.join(spanned.select("span", "gauge", "span_start", "span_end"), on="gauge", maintain_order="left")
        .filter((pl.col("time") >= pl.col("span_start")) & (pl.col("time") < pl.col("span_end")))
        .select("span", "time", "level", "events", "event_sum")
    )
    in_span = steps.group_by("span").agg(
        pl.col("events", "event_sum").sum(),
        highest=pl.col("level").max(),
        lowest=pl.col("level").min(),
        last=pl.col("level").last(),
    )
    keys = ["subscription_id", "cycle_start", "metric"]
    averaged = measured_by(gauges, "time_weighted")
    metric = pl.col("metric")
    return (
        carried_in.join(in_span, on="span", how="left", maintain_order="left")
        .group_by(keys, maintain_order=True)
        .agg(
            pl.col("events", "event_sum").sum(),
            peak=pl.max_horizontal("level", "highest").max(),
            lowest=pl.min_horizontal("level", "lowest").min(),
            last=pl.coalesce("last", "level").last(),
        )
        .join(
            _averages(carried_in.filter(metric.is_in(averaged)), steps),
            on=keys,
            how="left",
            maintain_order="left",
        )
        .with_columns(
            base_quantity=pl.max_horizontal(
                pl.when(metric.is_in(averaged))
                .then("average")
                .when(metric.is_in(measured_by(gauges, "last")))
                .then("last")
                .otherwise("peak"),
                ZERO,
            ),
            closing_base="last",
            lowest_base=pl.when(pl.col("lowest") < 0).then("lowest"),
            rule=pl.lit(None, pl.String),
        )
        .select(pl.col(name).cast(dtype) for name, dtype in MEASURED.items())
    )


@skip_if_empty("carried_in")
def _averages(carried_in: pl.DataFrame, steps: pl.DataFrame) -> pl.DataFrame:
    """subscription_id, cycle_start, metric, average: levels over the seconds with access ÷ the seconds of the cycle.

    Parameters
    ----------
    carried_in
        Spans of access with the level at their start.
    steps
        span, time, level: what the level becomes inside of the spans.
    """
    points = pl.concat(
        [
            carried_in.select("span", "level", time="span_start", rank=pl.lit(0)),
            steps.join(carried_in, on="span", how="semi").select("span", "level", "time", rank=pl.lit(1)),
        ]
    ).sort("span", "time", "rank")
    ends = carried_in.select(
        "span", "span_end", "subscription_id", "cycle_start", "metric", "cycle_start_instant", "cycle_end_instant"
    )
    points = points.join(ends, on="span", how="left", maintain_order="left")
    # Keep negative levels; measure them as 0.
    counted = pl.max_horizontal(pl.min_horizontal("level", EXTREME_QUANTITY), ZERO).to_physical()
    seconds = (
        pl.col("time").shift(-1).over("span").fill_null(pl.col("span_end")) - pl.col("time")
    ).dt.total_nanoseconds()
    cycle = pl.col("cycle")
    fraction = ((pl.col("whole") % cycle) * 10**9 + pl.col("rest")) * 2
    return (
        points.with_columns(_counted=counted.cast(pl.Int128), _lasting=seconds.cast(pl.Int128))
        .with_columns(
            # Integrate whole units and billionths separately: each sum stays far below 2^127.
            _whole=(pl.col("_counted") // 10**9) * pl.col("_lasting"),
            _rest=(pl.col("_counted") % 10**9) * pl.col("_lasting"),
        )
        .group_by("subscription_id", "cycle_start", "metric")
        .agg(
            whole=pl.col("_whole").sum(),
            rest=pl.col("_rest").sum(),
            cycle=(pl.col("cycle_end_instant").first() - pl.col("cycle_start_instant").first())
            .dt.total_nanoseconds()
            .cast(pl.Int128),
        )
        .select(
            "subscription_id",
            "cycle_start",
            "metric",
            average=scaled_to_decimal((pl.col("whole") // cycle) * 10**9 + (fraction + cycle) // (cycle * 2), 9),
        )
    )


def gauges_of(accounts: pl.Series, levels: pl.DataFrame, gauges: Sequence[Metric]) -> pl.DataFrame:
    """Number every gauge of some accounts: joining and sorting by an integer is faster than by two strings.

    Parameters
    ----------
    levels
        LEVELS of the billing month.

    Returns
    -------
    polars.DataFrame
        account_id, metric, gauge (its number), opening_level (BASE_QUANTITY, at the start of the month before).
    """
    names = pl.DataFrame({"metric": [metric.name for metric in gauges]}, schema={"metric": pl.String})
    return (
        accounts.unique()
        .sort()
        .to_frame("account_id")
        .join(names, how="cross", maintain_order="left_right")
        .with_row_index("gauge")
        .join(
            levels.select("account_id", "metric", "opening_level"),
            on=["account_id", "metric"],
            how="left",
            maintain_order="left",
        )
        .with_columns(pl.col("opening_level").fill_null(ZERO))
    )


def level_path(events: pl.LazyFrame, known: pl.DataFrame, gauges: Sequence[Metric], key: pl.Expr) -> pl.DataFrame:
    """The level of every gauge after each instant at which it changes.

    Parameters
    ----------
    events
        EVENTS from the start of the month before the billing month on.
    known
        The gauges in question, as `gauges_of` these metrics.
    key
        As `account_key` of all accounts of both.

    Returns
    -------
    polars.DataFrame
        gauge, time, level (BASE_QUANTITY), events, event_sum; sorted by the first two.
    """
    names = [metric.name for metric in gauges]
    # The gauges of an account have consecutive numbers, in this order.
    first = known.filter(pl.col("metric").is_in(names[:1])).lazy().select(_account=key, _first="gauge")
    place = pl.col("metric").cast(pl.Enum(names)).to_physical()
    keyed = events.filter(pl.col("metric").is_in(names)).with_columns(_account=key)
    moved = keyed.join(first, on="_account").with_columns(gauge=pl.col("_first") + place)
    deltas = [metric.name for metric in gauges if metric.carries == "delta"]
    absolute = [metric.name for metric in gauges if metric.carries == "level"]
    columns = ["gauge", "time", "event_sum", "new_level", "events"]
    parts = []
    if deltas:
        # Sum the deltas of one instant: their order does not matter, so source and id are not read.
        summed = _at_instants(moved, deltas, new_level=pl.lit(None, BASE_QUANTITY))
        parts.append(summed.select(columns).collect(engine="streaming"))
    if absolute:
        # Several levels at one instant: the last by (source, id) wins.
        last = _at_instants(moved, absolute, new_level=pl.col("value").sort_by("source", "id").last())
        parts.append(last.select(columns).collect(engine="streaming"))
    if not parts:
        return pl.DataFrame(schema=_PATH)
    # One cumulative sum over all gauges, minus its value before each. An event adds less than 10^27 billionths, so
    # 10^11 events stay below 10^38.
    total, is_first = pl.col("event_sum").cum_sum(), pl.col("gauge").ne_missing(pl.col("gauge").shift())
    before = pl.when(is_first).then(total - pl.col("event_sum")).forward_fill()
    opening = pl.lit(known["opening_level"]).gather("gauge")
    return (
        pl.concat(parts)
        .sort("gauge", "time")
        .with_columns(level=pl.coalesce("new_level", opening + total - before))
        .select(pl.col(name).cast(dtype) for name, dtype in _PATH.items())
    )


_PATH: Final[dict[str, pl.DataType | type[pl.DataType]]] = {
    "gauge": pl.UInt32,
    "time": INSTANT,
    "level": BASE_QUANTITY,
    "events": pl.Int64,
    "event_sum": BASE_QUANTITY,
}


def _at_instants(moved: pl.LazyFrame, metrics: Sequence[str], new_level: pl.Expr) -> pl.LazyFrame:
    """Events per gauge and instant."""
    return (
        moved.filter(pl.col("metric").is_in(metrics))
        .group_by("gauge", "time")
        .agg(event_sum=pl.col("value").sum(), new_level=new_level, events=pl.len().cast(pl.Int64))
    )


@skip_if_empty("rows", by=("instant",))
def level_before(rows: pl.DataFrame, path: pl.DataFrame, instant: str) -> pl.DataFrame:
    """`rows` (gauge, opening_level, `instant`) with `level`: what stood just before that instant, carried in.

    Parameters
    ----------
    path
        As `level_path`.
    """
    numbered = rows.with_row_index("_row")
    last = (
        path.join(numbered.select("_row", "gauge", instant), on="gauge", maintain_order="left")
        .filter(pl.col("time") < pl.col(instant))
        .group_by("_row")
        .agg(pl.col("level").last())
    )
    return (
        numbered.join(last, on="_row", how="left", maintain_order="left")
        .with_columns(level=pl.coalesce("level", "opening_level"))
        .drop("_row", "opening_level")
    )
