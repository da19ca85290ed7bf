"""Usage of open cycles by day, for charts: what each day added to a counter, and the level of a gauge (rule 25)."""

from collections.abc import Sequence
from typing import Final

import polars as pl

from billing.model.catalogue import Catalogue, Metric
from billing.model.columns import BASE_QUANTITY, QUANTITY
from billing.model.quantities import in_units, unit_billionths
from billing.rules.gauges import gauges_of, level_path
from billing.rules.measurement import EXTREME_QUANTITY, ZERO, account_key, measured_by

USAGE_BY_DAY: Final[dict[str, pl.DataType | type[pl.DataType]]] = {
    "subscription_id": pl.String,
    "metric": pl.String,
    "day": pl.Date,
    "quantity": QUANTITY,
}


def usage_by_day(
    spans: pl.DataFrame, events: pl.LazyFrame, levels: pl.DataFrame, accounts: pl.Series, catalogue: Catalogue
) -> pl.DataFrame:
    """The usage of each local day, measured as the metric is; a counter has no row on days without events.

    Parameters
    ----------
    spans
        account_id, subscription_id, span_start, span_end (UTC): the access so far in the open cycles.
    events
        EVENTS from the start of the month of `levels`' opening on; read once for the counters, once for the gauges.
    levels
        account_id, metric, opening_level, as of the first event.
    accounts
        Ids of all accounts that the events name, and maybe of others.

    Returns
    -------
    polars.DataFrame
        USAGE_BY_DAY, in units, sorted. Of a gauge: the highest level of each day where it is measured by its peak, else
        the level at the day's end; one below zero counts as 0.
    """
    counters = [metric for metric in catalogue.metrics if metric.kind == "counter"]
    gauges = [metric for metric in catalogue.metrics if metric.kind == "gauge"]
    found = [
        _counters(spans, events, counters, catalogue.time_zone),
        _gauges(spans, events, levels, gauges, accounts, catalogue.time_zone),
    ]
    units = pl.DataFrame(
        {"metric": [each.name for each in catalogue.metrics], "_unit": list(map(unit_billionths, catalogue.metrics))},
        schema={"metric": pl.String, "_unit": pl.Int128},
    )
    is_measured = pl.col("base") < EXTREME_QUANTITY
    base = pl.max_horizontal("base", ZERO).to_physical()
    return (
        pl.concat(found)
        .filter(is_measured)
        .join(units, on="metric")
        .select("subscription_id", "metric", "day", quantity=in_units(base, pl.col("_unit")).cast(QUANTITY))
        .sort("subscription_id", "metric", "day")
    )


_BASE: Final[dict[str, pl.DataType | type[pl.DataType]]] = {
    "subscription_id": pl.String,
    "metric": pl.String,
    "day": pl.Date,
    "base": BASE_QUANTITY,
}


def _day(instant: str, zone: str) -> pl.Expr:
    return pl.col(instant).dt.convert_time_zone(zone).dt.date()


def _counters(spans: pl.DataFrame, events: pl.LazyFrame, counters: Sequence[Metric], zone: str) -> pl.DataFrame:
    if not counters:
        return pl.DataFrame(schema=_BASE)
    metric = pl.col("metric")
    own = spans.lazy().select("account_id", "subscription_id", "span_start", "span_end")
    is_inside = (pl.col("time") >= pl.col("span_start")) & (pl.col("time") < pl.col("span_end"))
    distinct = measured_by(counters, "unique")
    return (
        events.filter(metric.is_in([each.name for each in counters]))
        .select("account_id", "metric", "time", "value", *(["member"] if distinct else []))
        .join(own, on="account_id")
        .filter(is_inside)
        .group_by("subscription_id", "metric", day=_day("time", zone))
        .agg(
            total=pl.col("value").sum(),
            highest=pl.col("value").max(),
            events=pl.len().cast(BASE_QUANTITY),
            distinct=pl.col("member").n_unique().cast(BASE_QUANTITY) if distinct else ZERO,
        )
        .select(
            "subscription_id",
            "metric",
            "day",
            base=pl.when(metric.is_in(measured_by(counters, "count")))
            .then("events")
            .when(metric.is_in(distinct))
            .then("distinct")
            .when(metric.is_in(measured_by(counters, "max")))
            .then("highest")
            .otherwise("total"),
        )
        .collect(engine="streaming")
        .select(list(_BASE))
    )


def _gauges(
    spans: pl.DataFrame,
    events: pl.LazyFrame,
    levels: pl.DataFrame,
    gauges: Sequence[Metric],
    accounts: pl.Series,
    zone: str,
) -> pl.DataFrame:
    if not gauges:
        return pl.DataFrame(schema=_BASE)
    known = gauges_of(spans["account_id"], levels, gauges)
    path = level_path(events, known, gauges, account_key(accounts, known["account_id"]))
    moved = path.group_by("gauge", day=_day("time", zone)).agg(
        highest=pl.col("level").max(), last=pl.col("level").sort_by("time").last()
    )
    last = pl.col("span_end") - pl.duration(microseconds=1)
    days = (
        spans.filter(pl.col("span_start") < pl.col("span_end"))
        .select(
            "account_id",
            "subscription_id",
            day=pl.date_ranges(
                _day("span_start", zone), last.dt.convert_time_zone(zone).dt.date(), interval="1d", closed="both"
            ),
        )
        .explode("day")
        .unique()
        .join(known, on="account_id")
        .with_columns(before=pl.col("day").dt.offset_by("-1d"))
        .sort("before")
    )
    carried = days.join_asof(
        moved.select("gauge", "day", carried="last").sort("day"),
        left_on="before",
        right_on="day",
        by="gauge",
        strategy="backward",
        check_sortedness=False,
    ).join(moved, on=["gauge", "day"], how="left")
    level = pl.coalesce("carried", "opening_level")
    return carried.select(
        "subscription_id",
        "metric",
        "day",
        base=pl.when(pl.col("metric").is_in(measured_by(gauges, "peak")))
        .then(pl.max_horizontal("highest", level))
        .otherwise(pl.coalesce("last", level)),
    ).select(list(_BASE))
