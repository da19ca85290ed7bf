"""Month report: totals, changes and their causes, decisions, corrections.

Everything is as of the month's last day, or an earlier as-of day: the report of a past month is the same whenever it is
written. It includes drafts that are not issued yet.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import reduce
from operator import add
from typing import Final, NamedTuple

import polars as pl

from billing.ingest import event_files, scan_event_files, scan_events
from billing.ingest.volumes import rejects_by_source, volumes
from billing.model.calendar import first_day, last_day, months_after, months_between
from billing.model.columns import MONEY, RATE
from billing.model.money import minor_units, round_fraction
from billing.model.quantities import in_units, unit_billionths
from billing.model.tables import DECISIONS, PACKAGES, REJECTS
from billing.month.business import Business
from billing.month.shards import each_shard
from billing.reports.month_figures import Figures, Sums, added_rows, added_up, figures, sums_of_month
from billing.reports.month_report_checks import Checked, Statement, checks_of_month
from billing.reports.what_if.shadow import Shadow, shadow_of_month
from billing.store.frames import scan_frames
from billing.store.monthly import read_month

_FLOW: Final = ["from_package", "to_package"]
_RATE_DECIMALS: Final = 9
_ZERO: Final = pl.lit(0).cast(MONEY)


@dataclass(frozen=True)
class MonthReport(Figures):
    """The frames of a report; its own figures are those of the catalogue's currency.

    Attributes
    ----------
    on
        The day of which receivables and exchange rates are said.
    others
        The figures of other currencies, by code (rule 36).
    by_currency
        As `totals_in_one_currency`; empty where there is one currency.
    shadow
        As `shadow_of_month`; None where the policy names no candidate.
    decisions
        kind, outcome, decisions.
    flow
        from_package, to_package, subscriptions: the changes of package.
    by_day
        day, events, late: late is what was delivered later than the day after.
    late
        metric, events, quantity, settled: late usage that was delivered in the month; settled is what lines of earlier
        cycles bill of the metric.
    rejected
        reason, metric, rows, quantity: usage that was set aside in the month.
    sources
        As `volumes`: what each source delivered in the month; empty where the catalogue has no sources.
    rejected_by_source
        source_name, reason, rows; likewise.
    """

    month: str
    on: date
    documents: int
    drafts: int
    decisions: pl.DataFrame
    flow: pl.DataFrame
    by_day: pl.DataFrame
    late: pl.DataFrame
    rejected: pl.DataFrame
    sources: pl.DataFrame
    rejected_by_source: pl.DataFrame
    checks: tuple[Statement, ...]
    others: Mapping[str, Figures] = field(default_factory=dict)
    by_currency: pl.DataFrame = field(default_factory=pl.DataFrame)
    shadow: Shadow | None = None


class _OfShard(NamedTuple):
    sums: Mapping[str, Sums]
    decisions: pl.DataFrame
    flow: pl.DataFrame
    checked: Checked


def month_report(business: Business, month: str) -> MonthReport:
    """The report of a month that has been computed: sums of its shards."""
    on = min(business.as_of, last_day(month))
    # Without sources there is nothing to tell of them: read no manifests.
    since, through = (first_day(month), on) if business.catalogue.sources else (date.max, date.min)
    shards = [_of_shard(shard, month, on) for shard in each_shard(business, month)]
    # The catalogue's currency comes first.
    sums = added_up((each.sums for each in shards), business.catalogue.currency)
    own, *others = ((code, figures(each, business)) for code, each in sums.items())
    counts = added_rows([each.counts for each in sums.values()], ["is_draft"])
    rates = business.inputs.exchange_rates.filter(pl.col("on") <= on)
    totals = totals_in_one_currency(dict([own, *others]), rates, own[0]) if others else pl.DataFrame()
    checked = reduce(add, (each.checked for each in shards))
    return MonthReport(
        **vars(own[1]),
        month=month,
        on=on,
        documents=int(counts.filter(~pl.col("is_draft"))["documents"].sum()),
        drafts=int(counts.filter("is_draft")["documents"].sum()),
        decisions=added_rows([each.decisions for each in shards], ["kind", "outcome"]).sort("kind", "outcome"),
        flow=added_rows([each.flow for each in shards], _FLOW).sort(_FLOW),
        by_day=_by_day(business, month),
        late=_late(business, month, sums[own[0]].settled),
        rejected=_rejected(business, month),
        sources=volumes(business.home, since, through),
        rejected_by_source=rejects_by_source(business.home, since, through),
        checks=tuple(checks_of_month(business, checked, month, on)),
        others=dict(others),
        by_currency=totals,
        shadow=shadow_of_month(business, month, on),
    )


def _of_shard(business: Business, month: str, on: date) -> _OfShard:
    decisions = read_month(business.home, DECISIONS, month)
    packages = read_month(business.home, PACKAGES, month)
    return _OfShard(
        sums_of_month(business, month, on),
        decisions.group_by("kind", "outcome").agg(decisions=pl.len()),
        # A change in the trial has no billed package before it.
        packages.filter(pl.all_horizontal(pl.col("change_reason", "closing_package", "opening_package").is_not_null()))
        .group_by(from_package="closing_package", to_package="opening_package")
        .agg(subscriptions=pl.len()),
        Checked.of(business, month),
    )


def totals_in_one_currency(figures: Mapping[str, Figures], rates: pl.DataFrame, own: str) -> pl.DataFrame:
    """What was billed in each currency, and what that is in the catalogue's.

    Parameters
    ----------
    rates
        As `Inputs.exchange_rates`, up to a day: the latest of each currency holds.

    Returns
    -------
    polars.DataFrame
        currency, total, before, change (MONEY: each in its currency), rate, rate_on, in_own (MONEY; all three null
        where there is no rate).
    """
    latest = rates.filter(pl.col("to") == own).sort("on").unique("currency", keep="last", maintain_order=True)
    sums = pl.DataFrame(
        [
            (code, *of.by_package.select(pl.col("total", "before", "change").sum()).row(0))
            for code, of in figures.items()
        ],
        schema={"currency": pl.String, **dict.fromkeys(("total", "before", "change"), MONEY)},
        orient="row",
    )
    known = sums.join(latest.select("currency", "rate", rate_on="on"), on="currency", how="left", maintain_order="left")
    # As of the tax in another currency: rates are below 10^6 with 9 decimals.
    rate = pl.col("rate").to_physical().cast(pl.Int128) // 10 ** (RATE.scale - _RATE_DECIMALS)
    product = pl.col("total").to_physical().cast(pl.Int128) * rate
    unit = pl.lit(10 ** (MONEY.scale + _RATE_DECIMALS), pl.Int128)
    is_own = pl.col("currency") == own
    return known.with_columns(
        in_own=pl.when(is_own).then("total").otherwise(round_fraction(product, unit, minor_units(own) or 0))
    )


def _by_day(business: Business, month: str) -> pl.DataFrame:
    first, last = first_day(month), first_day(months_after(month, 1))
    days = pl.select(day=pl.date_range(first, last, closed="left"))
    found = (
        _dated(scan_events(business.home, [month], business.as_of), business)
        .group_by("day")
        .agg(events=pl.len().cast(pl.Int64), late=pl.col("is_late").sum().cast(pl.Int64))
        .collect(engine="streaming")
    )
    return days.join(found, on="day", how="left").with_columns(pl.col("events", "late").fill_null(0)).sort("day")


def _dated(events: pl.LazyFrame, business: Business) -> pl.LazyFrame:
    """Events with their local day, and whether they came later than the day after it."""
    day = pl.col("time").dt.convert_time_zone(business.catalogue.time_zone).dt.date()
    return events.with_columns(day=day).with_columns(
        is_late=(pl.col("delivery_day") - pl.col("day")).dt.total_days() > 1
    )


def _late(business: Business, month: str, settled: pl.DataFrame) -> pl.DataFrame:
    """Late usage by the month of its delivery, and what lines of earlier cycles bill."""
    policy = business.catalogue.policy
    earliest = date.fromordinal(first_day(month).toordinal() - policy.lateness_days)
    months = months_between(f"{earliest:%Y-%m}", month)
    units = pl.DataFrame(
        {
            "metric": [metric.name for metric in business.catalogue.metrics],
            "unit": [unit_billionths(metric) for metric in business.catalogue.metrics],
        },
        schema={"metric": pl.String, "unit": pl.Int128},
    )
    # Files are named by delivery day: read only those of the month.
    delivered = [path for path in event_files(business.home, months, business.as_of) if path.stem.startswith(month)]
    late = (
        _dated(scan_event_files(business.home, delivered), business)
        .filter("is_late")
        .group_by("metric")
        .agg(events=pl.len().cast(pl.Int64), total=pl.col("value").sum())
        .collect(engine="streaming")
        .join(units, on="metric")
        .select("metric", "events", quantity=in_units(pl.col("total").to_physical(), pl.col("unit")))
    )
    return (
        late.join(settled, on="metric", how="full", coalesce=True)
        .with_columns(pl.col("events").fill_null(0), pl.col("settled").fill_null(_ZERO))
        .sort("metric")
    )


def _rejected(business: Business, month: str) -> pl.DataFrame:
    files = sorted((business.home.lake / REJECTS.name).glob(f"delivery_day={month}-*/{REJECTS.name}.parquet"))
    return (
        scan_frames(files, REJECTS)
        .filter(pl.col("delivery_day") <= business.as_of)
        .group_by("reason", "metric")
        .agg(rows=pl.len(), quantity=pl.col("quantity").sum())
        .sort("reason", "metric", nulls_last=True)
        .collect()
    )
