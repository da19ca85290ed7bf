"""Every counted event is billed or listed with the reason it is not (rule 29)."""

from collections.abc import Sequence

import polars as pl

from billing.ingest import scan_events
from billing.model.calendar import first_day, midnight, months_after
from billing.model.codes import UnbilledReason
from billing.model.empty_frames import skip_if_empty
from billing.model.quantities import in_units, unit_billionths
from billing.model.tables import UNBILLED
from billing.month.business import Business
from billing.month.context import computed_once
from billing.month.shards import each_shard, is_sharded
from billing.month.steps import event_months
from billing.rules.cycles import access_spans, closing_spans
from billing.store.monthly import read_month, write_month


def write_unbilled(business: Business, month: str) -> pl.DataFrame:
    """The counted usage of the calendar month that bills nothing, with the reason (rule 27): UNBILLED.

    Where subscriptions moved in, also of the months before the first one: cycles that close in it began there.
    """
    if month == business.first_month and business.has_moved_in:
        for earlier in event_months(business.home, month):
            write_month(business.home, UNBILLED, earlier, _unbilled(business, earlier), in_order=True)
    unbilled = _unbilled(business, month)
    write_month(business.home, UNBILLED, month, unbilled, in_order=True)
    return unbilled


def conserved(business: Business, month: str) -> pl.DataFrame:
    """Per metric: the counted events of the calendar month, and where they went (rule 27).

    Returns
    -------
    polars.DataFrame
        metric, counted, closed (in cycles that end in the month), open (in cycles that end after it), unbilled,
        events each; sorted by metric. counted = closed + open + unbilled unless events were lost or used twice.
    """

    def compute() -> pl.DataFrame:
        if is_sharded(business, month):
            sums = pl.col("counted", "closed", "open", "unbilled").sum()
            found = pl.concat(conserved(shard, month) for shard in each_shard(business, month))
            return found.group_by("metric").agg(sums).sort("metric")
        return conservation(business, month, read_month(business.home, UNBILLED, month))

    parts = business.home.parts(UNBILLED, month)
    return computed_once(business, "conserved", month, [month], parts, compute)


def conservation(
    business: Business, month: str, unbilled: pl.DataFrame, keys: Sequence[str] = ("metric",)
) -> pl.DataFrame:
    zone = business.catalogue.time_zone
    bounds = pl.select(
        start=midnight(pl.lit(first_day(month)), zone), end=midnight(pl.lit(first_day(months_after(month, 1))), zone)
    ).row(0)
    events = scan_events(business.home, [month], business.as_of).select("account_id", "metric", "time")
    counted = events.group_by(keys).agg(counted=pl.len().cast(pl.Int64)).collect(engine="streaming")
    parts = []
    for name, closing in (("closed", month), ("open", months_after(month, 1))):
        spans = closing_spans(closing, business.lives.subscriptions, business.suspensions, business.catalogue)
        inside = (
            events.join(spans.lazy().select("account_id", "span_start", "span_end"), on="account_id")
            .filter((pl.col("time") >= pl.col("span_start")) & (pl.col("time") < pl.col("span_end")))
            .filter((pl.col("time") >= bounds[0]) & (pl.col("time") < bounds[1]))
        )
        parts.append(inside.group_by(keys).agg(pl.len().cast(pl.Int64).alias(name)).collect(engine="streaming"))
    result = counted
    for part in (*parts, unbilled.group_by(keys).agg(unbilled=pl.col("events").sum())):
        result = result.join(part, on=list(keys), how="full", coalesce=True)
    return result.with_columns(pl.col("counted", "closed", "open", "unbilled").fill_null(0)).sort(keys)


def accounts_that_lost_events(business: Business, month: str) -> pl.DataFrame:
    """account_id, detail: accounts with counted events that are in no cycle and not unbilled, or in two (rule 27)."""
    totals = conserved(business, month)
    if totals.filter(_is_lost()).is_empty():
        return pl.DataFrame(schema={"account_id": pl.String, "detail": pl.String})
    return (
        # The table may be stale: a preview does not write it.
        conservation(business, month, _unbilled(business, month), ["account_id", "metric"])
        .filter(_is_lost())
        .select(
            "account_id",
            detail=pl.format(
                "{} {} events of {} are counted, {} are in cycles and {} bill nothing",
                "counted",
                "metric",
                pl.lit(month),
                pl.col("closed") + pl.col("open"),
                "unbilled",
            ),
        )
    )


def _is_lost() -> pl.Expr:
    return pl.col("counted") != pl.col("closed") + pl.col("open") + pl.col("unbilled")


def _unbilled(business: Business, month: str) -> pl.DataFrame:
    catalogue, lives = business.catalogue, business.lives
    spans = access_spans(lives.subscriptions, business.suspensions, catalogue)
    events = scan_events(business.home, [month], business.as_of).select("account_id", "metric", "time", "value")
    inside = events.join(spans.lazy(), on="account_id").filter(
        (pl.col("time") >= pl.col("span_start"))
        & (pl.col("span_end").is_null() | (pl.col("time") < pl.col("span_end")))
    )
    keys = ["account_id", "metric"]
    billed = inside.group_by(keys).agg(billed=pl.len().cast(pl.Int64))
    # Compare event by event only for accounts with usage outside of their access.
    touched = (
        events.group_by(keys)
        .agg(counted=pl.len().cast(pl.Int64))
        .join(billed, on=keys, how="left")
        .filter(pl.col("counted") != pl.col("billed").fill_null(0))
        .select(keys)
    )
    suspect = events.join(touched, on=keys, how="semi").collect(engine="streaming").with_row_index("event")
    if suspect.is_empty():
        return UNBILLED.empty()
    used = suspect.join(spans, on="account_id").filter(
        (pl.col("time") >= pl.col("span_start"))
        & (pl.col("span_end").is_null() | (pl.col("time") < pl.col("span_end")))
    )
    outside = suspect.join(used.select("event"), on="event", how="anti")
    reasons = _unbilled_reasons(outside, business)
    metrics = pl.DataFrame(
        {
            "metric": [metric.name for metric in catalogue.metrics],
            "unit": [unit_billionths(metric) for metric in catalogue.metrics],
            "has_value": [metric.measure not in ("count", "unique") for metric in catalogue.metrics],
        },
        schema={"metric": pl.String, "unit": pl.Int128, "has_value": pl.Boolean},
    )
    counted = pl.when("has_value").then("total").otherwise(pl.col("events").cast(events.collect_schema()["value"]))
    return UNBILLED.conform(
        reasons.group_by("account_id", "metric", "reason")
        .agg(total=pl.col("value").sum(), events=pl.len().cast(pl.Int64))
        .join(metrics, on="metric")
        .with_columns(billing_month=pl.lit(month), quantity=in_units(counted.to_physical(), pl.col("unit")))
    )


@skip_if_empty("outside")
def _unbilled_reasons(outside: pl.DataFrame, business: Business) -> pl.DataFrame:
    """Add the reason to events that are not billed."""
    zone = business.catalogue.time_zone
    lives = business.lives
    one_day = pl.duration(days=1)
    starts = lives.subscriptions.select(
        "account_id",
        "end",
        "held_on",
        "pauses",
        measured=midnight(pl.col("measured_from"), zone),
        begins=midnight(pl.col("started_on"), zone),
        paid_from=midnight(pl.col("grid_start"), zone),
        access_until=midnight(pl.col("access_last") + one_day, zone),
    ).sort("begins")
    placed = (
        outside.sort("time")
        .join_asof(
            starts, left_on="time", right_on="begins", by="account_id", strategy="backward", check_sortedness=False
        )
        .join(starts.select("account_id").unique().with_columns(subscribes=pl.lit(True)), on="account_id", how="left")
        .join(lives.parked.select("account_id", is_parked=pl.lit(True)), on="account_id", how="left")
    )
    day = pl.col("time").dt.convert_time_zone(zone).dt.date()
    paused = (
        placed.select("event", "pauses", day=day)
        .explode("pauses", empty_as_null=False)
        .drop_nulls("pauses")
        .unnest("pauses")
        .filter((pl.col("day") >= pl.col("first")) & (pl.col("day") < pl.col("until")))
        .select("event", is_paused=pl.lit(True))
        .unique()
    )
    ended = (pl.col("time") >= pl.col("access_until")).fill_null(value=False)
    return placed.join(paused, on="event", how="left").with_columns(
        reason=pl.when("is_parked")
        .then(pl.lit(UnbilledReason.PARKED))
        .when(pl.col("subscribes").is_null())
        .then(pl.lit(UnbilledReason.NO_SUBSCRIPTION))
        .when(pl.col("begins").is_null())
        .then(pl.lit(UnbilledReason.BEFORE_START))
        .when(ended & pl.col("held_on").is_not_null() & pl.col("end").is_null())
        .then(pl.lit(UnbilledReason.HELD))
        .when(ended)
        .then(pl.lit(UnbilledReason.ACCESS_ENDED))
        .when(pl.col("time") < pl.col("paid_from"))
        .then(pl.lit(UnbilledReason.TRIAL))
        .when(pl.col("time") < pl.col("measured"))
        .then(pl.lit(UnbilledReason.BILLED_ELSEWHERE))
        .when("is_paused")
        .then(pl.lit(UnbilledReason.HELD))
        .otherwise(pl.lit(UnbilledReason.SUSPENDED))
    )
