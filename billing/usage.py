"""Usage: what each metric measured in the cycles that close in a month, and the levels of gauges (rule 1)."""

from collections.abc import Sequence
from itertools import count
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
    events: Sequence[pl.LazyFrame],
    repeated: pl.LazyFrame,
    accounts: pl.Series,
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
        As the table EVENTS, all of the month and the month before, in one part or in several: what adds up is measured
        of one after the other.
    repeated
        account_id, metric, time, repeats of those of them that were delivered more than once.
    accounts
        Ids of all accounts that the events name, and maybe of others.

    Returns
    -------
    polars.DataFrame
        As the table USAGE.
    """
    closing = _closing(cycles)
    key = account_key(accounts, spans["account_id"], closing["account_id"])
    counters, gauges = _of_kind(catalogue, "counter"), _of_kind(catalogue, "gauge")
    measured = pl.concat(
        [_counters(spans, events, counters, key), _gauges(spans, pl.concat(events), levels, closing, gauges, key)],
    )
    return _usage(month, closing, measured, _within(repeated, spans, key), catalogue)


def month_usage_with_more(
    before: pl.DataFrame,
    added: pl.LazyFrame,
    month: str,
    spans: pl.DataFrame,
    cycles: pl.DataFrame,
    levels: pl.DataFrame,
    events: Sequence[pl.LazyFrame],
    repeated: pl.LazyFrame,
    accounts: pl.Series,
    catalogue: Catalogue,
) -> pl.DataFrame:
    """As `month_usage`, the same rows, from what was measured before some of the events were there.

    Parameters
    ----------
    before
        As `month_usage`, of the events without `added` and of otherwise the same.
    added
        Those of `events` that are new.
    """
    closing = _closing(cycles)
    key = account_key(accounts, spans["account_id"], closing["account_id"])
    counters, gauges = _of_kind(catalogue, "counter"), _of_kind(catalogue, "gauge")
    distinct = [metric for metric in counters if metric.measure == "unique"]
    additive = [metric for metric in counters if metric.measure != "unique"]
    is_gauge = pl.col("metric").is_in([metric.name for metric in gauges])
    moved = added.filter(is_gauge).select("account_id").unique().collect()["account_id"]
    is_moved = pl.col("account_id").is_in(moved.implode())
    measured = pl.concat(
        [
            _added_up([_as_measured(before, additive), _counters(spans, [added], additive, key)], additive),
            _counters(spans, events, distinct, key),
            _gauges(spans, pl.concat(events), levels, closing.filter(is_moved), gauges, key),
        ]
    )
    usage = _usage(month, closing, measured, _within(repeated, spans, key), catalogue)
    # the path of a gauge is its account's own affair
    stays = is_gauge & ~is_moved
    keys = ["subscription_id", "cycle_start", "metric"]
    stayed = before.filter(stays).drop("duplicates").join(usage.select(*keys, "duplicates"), on=keys)
    return USAGE.conform(pl.concat([usage.filter(~stays), stayed.select(usage.columns)]))


def _closing(cycles: pl.DataFrame) -> pl.DataFrame:
    return cycles.filter(pl.col("cycle_start").is_not_null()).select(
        "account_id", "subscription_id", "cycle_start", "cycle_end"
    )


def _of_kind(catalogue: Catalogue, kind: str) -> list[Metric]:
    return [metric for metric in catalogue.metrics if metric.kind == kind]


def _usage(
    month: str, closing: pl.DataFrame, measured: pl.DataFrame, repeated: pl.LazyFrame, catalogue: Catalogue
) -> pl.DataFrame:
    """USAGE of the cycles that close, from _MEASURED and the repeated events inside of their spans."""
    units_of_metrics = [unit_billionths(metric) for metric in catalogue.metrics]
    metrics = pl.DataFrame(
        {"metric": [metric.name for metric in catalogue.metrics], "_unit": units_of_metrics},
        schema={"metric": pl.String, "_unit": pl.Int128},
    )
    keys = ["subscription_id", "cycle_start", "metric"]
    duplicates = repeated.group_by(keys).agg(duplicates=pl.col("repeats").sum()).collect()
    usage = closing.join(metrics, how="cross").join(measured, on=keys, how="left").join(duplicates, on=keys, how="left")

    def units(column: str) -> pl.Expr:
        measured = pl.when(pl.col(column).abs() < EXTREME_QUANTITY).then(pl.col(column).to_physical())
        return in_units(measured, pl.col("_unit"), units_of_metrics)

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
    counted = pl.max_horizontal("level", _ZERO).to_physical()
    path = level_path(events, known, gauges, account_key(accounts, known["account_id"]))
    return level_before(at_close, path, "instant").select(
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
    "event_sum": BASE_QUANTITY,
}


def _counters(
    spans: pl.DataFrame, events: Sequence[pl.LazyFrame], counters: Sequence[Metric], key: pl.Expr
) -> pl.DataFrame:
    """Counters add up within the access of the cycle, from zero."""
    if not counters:
        return pl.DataFrame(schema=_MEASURED)
    counted, distinct_members, highest = (_measured_by(counters, measure) for measure in ("count", "unique", "max"))
    names = pl.Series("metric", [metric.name for metric in counters])
    numbered = spans.with_row_index("span").with_columns(pl.col("span").cast(pl.UInt64))
    is_counted = pl.col("metric").is_in(names.implode())
    inside = [_within(part.filter(is_counted), numbered, key) for part in events]
    keys = ["subscription_id", "cycle_start", "metric"]
    # one number for span and metric: it is grouped by sooner than the texts that it stands for
    place = pl.col("metric").cast(pl.Enum(names)).to_physical().cast(pl.UInt64)
    parts = [
        part.group_by(number=pl.col("span") * len(names) + place)
        .agg(
            events=pl.len().cast(pl.Int64),
            event_sum=pl.col("value").sum(),
            **({"highest": pl.col("value").max()} if highest else {}),
        )
        .collect(engine="streaming")
        for part in inside
    ]
    totals = (
        pl.concat(parts)
        .with_columns(span=pl.col("number") // len(names), metric=pl.lit(names).gather(pl.col("number") % len(names)))
        .join(numbered.select("span", "subscription_id", "cycle_start"), on="span")
        .group_by(keys)
        .agg(
            pl.col("events", "event_sum").sum(),
            highest=pl.col("highest").max() if highest else pl.lit(None, BASE_QUANTITY).first(),
        )
    )
    distinct = pl.DataFrame(schema={name: _MEASURED[name] for name in keys} | {"distinct": pl.Int64})
    if distinct_members:
        distinct = (
            pl.concat(inside)
            .filter(pl.col("metric").is_in(distinct_members))
            .group_by(keys)
            .agg(distinct=pl.col("member").n_unique().cast(pl.Int64))
            .collect(engine="streaming")
        )
    metric = pl.col("metric")
    return (
        totals.join(distinct, on=keys, how="left")
        .with_columns(
            base_quantity=pl.when(metric.is_in(counted))
            .then(pl.col("events").cast(BASE_QUANTITY))
            .when(metric.is_in(distinct_members))
            .then(pl.col("distinct").cast(BASE_QUANTITY))
            .when(metric.is_in(highest))
            .then("highest")
            .otherwise("event_sum"),
            closing_base=pl.lit(None, BASE_QUANTITY),
            lowest_base=pl.lit(None, BASE_QUANTITY),
        )
        .select(pl.col(name).cast(dtype) for name, dtype in _MEASURED.items())
    )


def _as_measured(usage: pl.DataFrame, counters: Sequence[Metric]) -> pl.DataFrame:
    """USAGE of some counters as it was measured."""
    return usage.filter(pl.col("metric").is_in([m.name for m in counters]), pl.col("events") > 0).select(
        pl.lit(None, dtype).alias(name) if name.endswith("_base") else name for name, dtype in _MEASURED.items()
    )


def _added_up(parts: Sequence[pl.DataFrame], counters: Sequence[Metric]) -> pl.DataFrame:
    """_MEASURED of counters that add up, or are the highest of their values, from parts of their events."""
    is_highest = pl.col("metric").first().is_in(_measured_by(counters, "max"))
    quantity = pl.col("base_quantity")
    return (
        pl.concat(parts)
        .group_by("subscription_id", "cycle_start", "metric")
        .agg(
            pl.when(is_highest).then(quantity.max()).otherwise(quantity.sum()).alias("base_quantity"),
            pl.col("closing_base", "lowest_base").first(),
            pl.col("events", "event_sum").sum(),
        )
        .select(pl.col(name).cast(dtype) for name, dtype in _MEASURED.items())
    )


def _measured_by(metrics: Sequence[Metric], measure: str) -> list[str]:
    return [metric.name for metric in metrics if metric.measure == measure]


def account_key(*accounts: pl.Series) -> pl.Expr:
    """A 64-bit number of `account_id` that no two of some accounts share: joined on sooner than the texts."""
    ids = pl.concat(each.alias("account_id") for each in accounts).unique().to_frame()
    keys = (pl.col("account_id").hash(seed) for seed in count())
    # with ten million accounts one seed in some hundred thousand fails
    return next(key for key in keys if ids.select(key.n_unique() == pl.len()).item())


def _within(events: pl.LazyFrame, spans: pl.DataFrame, key: pl.Expr) -> pl.LazyFrame:
    """Events inside a span of access, with the span's columns.

    Parameters
    ----------
    key
        As `account_key` of all accounts of both.
    """
    keyed = spans.lazy().with_columns(_account=key).drop("account_id")
    return (
        events.with_columns(_account=key)
        .join(keyed, on="_account")
        .filter((pl.col("time") >= pl.col("span_start")) & (pl.col("time") < pl.col("span_end")))
        .drop("_account")
    )


def _gauges(
    spans: pl.DataFrame,
    events: pl.LazyFrame,
    levels: pl.DataFrame,
    closing: pl.DataFrame,
    gauges: Sequence[Metric],
    key: pl.Expr,
) -> pl.DataFrame:
    """Gauges carry on: the level path of the account, cut by the access of the cycle."""
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
    averaged = _measured_by(gauges, "time_weighted")
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
                .when(metric.is_in(_measured_by(gauges, "last")))
                .then("last")
                .otherwise("peak"),
                _ZERO,
            ),
            closing_base="last",
            lowest_base=pl.when(pl.col("lowest") < 0).then("lowest"),
        )
        .select(pl.col(name).cast(dtype) for name, dtype in _MEASURED.items())
    )


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
    # a level below zero is kept, and counts as 0
    counted = pl.max_horizontal(pl.min_horizontal("level", EXTREME_QUANTITY), _ZERO).to_physical()
    seconds = (
        pl.col("time").shift(-1).over("span").fill_null(pl.col("span_end")) - pl.col("time")
    ).dt.total_nanoseconds()
    cycle = pl.col("cycle")
    fraction = ((pl.col("whole") % cycle) * 10**9 + pl.col("rest")) * 2
    return (
        points.with_columns(_counted=counted.cast(pl.Int128), _lasting=seconds.cast(pl.Int128))
        .with_columns(
            # the integral in two parts, whole units and billionths: each sum stays far below 2^127
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
    """Every gauge of some accounts, numbered: joined and sorted by sooner than the texts that a number stands for.

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
        .with_columns(pl.col("opening_level").fill_null(_ZERO))
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
    # the gauges of an account are numbered one after the other, in this order
    first = known.filter(pl.col("metric").is_in(names[:1])).lazy().select(_account=key, _first="gauge")
    place = pl.col("metric").cast(pl.Enum(names)).to_physical()
    keyed = events.filter(pl.col("metric").is_in(names)).with_columns(_account=key)
    moved = keyed.join(first, on="_account").with_columns(gauge=pl.col("_first") + place)
    deltas = [metric.name for metric in gauges if metric.carries == "delta"]
    absolute = [metric.name for metric in gauges if metric.carries == "level"]
    columns = ["gauge", "time", "event_sum", "new_level", "events"]
    parts = []
    if deltas:
        # all deltas of one instant apply together; what identifies each is not even read
        summed = _at_instants(moved, deltas, new_level=pl.lit(None, BASE_QUANTITY))
        parts.append(summed.select(columns).collect(engine="streaming"))
    if absolute:
        # of several levels at one instant the last by (source, id) holds
        last = _at_instants(moved, absolute, new_level=pl.col("value").sort_by("source", "id").last())
        parts.append(last.select(columns).collect(engine="streaming"))
    if not parts:
        return pl.DataFrame(schema=_PATH)
    # one running sum over all gauges, less what it had come to before each; no event adds 10^27 billionths, so that a
    # hundred thousand million of them stay below 10^38
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
    """What happened at each instant to each of these gauges."""
    return (
        moved.filter(pl.col("metric").is_in(metrics))
        .group_by("gauge", "time")
        .agg(event_sum=pl.col("value").sum(), new_level=new_level, events=pl.len().cast(pl.Int64))
    )


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
