"""Usage of cycles to come, foreseen from those before, and the steps that bill a scratch copy with it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from datetime import date, timedelta
from functools import cached_property
from typing import Final

import polars as pl

from billing.model.calendar import midnight, month_number, month_of, months_after, months_between
from billing.model.codes import ForecastBasis
from billing.model.money import scaled_to_decimal
from billing.model.tables import CYCLES, USAGE
from billing.month.business import Business
from billing.month.context import required_table
from billing.month.shards import begin_month, each_shard
from billing.month.steps import terms_in_force, write_charges, write_cycles, write_levels, write_packages
from billing.rules.cycles import closing_spans
from billing.rules.measurement import MEASURED
from billing.rules.usage import usage_of
from billing.rules.usage_forecast import HISTORY, SERIES, UsageForecast, forecast_usage, spread_of_all
from billing.store.monthly import read_month, write_month

LEVELS_OF_USAGE: Final = ("quantity", "low", "high")
EVENTS_OF: Final = {"quantity": "events", "low": "low_events", "high": "high_events"}
_MONTHS_OF_HISTORY: Final = 27
_SHORTEST_DAYS, _USUAL_DAYS, _SECONDS_OF_A_DAY = 28, 30, 86_400
_CYCLE: Final = ["subscription_id", "cycle_start"]
_KEY: Final = [*_CYCLE, "metric", "rule"]
_AT_LEAST: Final = ("sum", "count", "unique", "max", "peak")
_PRORATED: Final = ("sum", "count", "unique")

Foresee = Callable[[Business, str], pl.DataFrame]


@dataclass(frozen=True)
class ForeseenBusiness(Business):
    """A business as of a day, with the one-off charges and purchases that are dated up to a later one.

    Attributes
    ----------
    through
        That later day.
    """

    through: date = date.max

    @classmethod
    def of_business(cls, business: Business, through: date) -> "ForeseenBusiness":
        """The same business, which reads charges up to a day; its cache is empty."""
        copied = business.at(business.as_of, issues=False)
        values = {each.name: getattr(copied, each.name) for each in fields(Business)}
        return cls(**values, through=through)

    @property
    def one_off_charges(self) -> pl.DataFrame:
        """As `Business.one_off_charges`, up to the later day."""
        return super(ForeseenBusiness, replace(self, as_of=self.through)).one_off_charges

    @cached_property
    def credit_grants(self) -> pl.DataFrame:
        """As `Business.credit_grants`, up to the later day."""
        return self.inputs.credit_grants.filter(pl.col("granted_on") <= self.through)


@dataclass(frozen=True)
class ForeseenUsage:
    """The usage of the cycles that close in some months, as far as it is known as of a day.

    Attributes
    ----------
    measured
        USAGE of those months, as measured so far.
    usage
        account_id, subscription_id, cycle_start, month, metric, rule, quantity, low, high, events, low_events,
        high_events: of the cycles that are foreseen; integers, quantities in billionths of base units.
    cycles
        account_id, subscription_id, cycle_start: those cycles, also where nothing is foreseen.
    past
        As `usage`: the forecasts of cycles that are known.
    basis
        account_id, basis: what an account with a cycle to come is foreseen from.
    methods
        As `UsageForecast.methods`.
    """

    measured: pl.DataFrame
    usage: pl.DataFrame
    cycles: pl.DataFrame
    past: pl.DataFrame
    basis: pl.DataFrame
    methods: pl.DataFrame

    def of_month(self, level: str) -> Foresee:
        """MEASURED of the cycles that close in a month: foreseen at a level, or measured where access has ended."""

        def foreseen(business: Business, month: str) -> pl.DataFrame:
            known = self.measured.filter(pl.col("billing_month") == month)
            known = known.join(self.cycles, on=_CYCLE, how="anti", maintain_order="left")
            return _measured(known, self.usage.filter(pl.col("month") == month), level, business)

        return foreseen

    def of_past_month(self, level: str) -> Foresee:
        """MEASURED of a month that was billed, as it would have been foreseen; else as it was measured."""

        def foreseen(business: Business, month: str) -> pl.DataFrame:
            past = self.past.filter(pl.col("month") == month)
            usage = read_month(business.home, USAGE, month)
            known = usage.join(past, on=_CYCLE, how="anti", maintain_order="left")
            return _measured(known, past, level, business)

        return foreseen


def foreseen_usage(business: Business, months: Sequence[str]) -> ForeseenUsage:
    """Foresee the usage of the cycles that close in some months, from a business that is up to date.

    Parameters
    ----------
    months
        In order; the first is that of the as-of day, or the one after it.
    """
    shards = [business] if len(business.new_shards) == 1 else [business.of(each) for each in business.new_shards]
    of_all = None
    if len(shards) > 1:
        # Nothing may depend on shards: the spread of an account without errors of its own is that of all accounts.
        of_all = spread_of_all(pl.concat(_forecast_of(shard).forecast.errors for shard in shards))
    parts = [_foreseen_of(shard, months, of_all) for shard in shards]
    names = [each.name for each in fields(ForeseenUsage)]
    # Accounts of several shards in one order.
    return ForeseenUsage(
        **{
            name: pl.concat(getattr(part, name) for part in parts).sort("account_id", maintain_order=True)
            for name in names
        }
    )


def foresee_months(business: Business, months: Sequence[str], foresee: Foresee, *, begins: bool = True) -> None:
    """Compute months of a scratch copy with foreseen usage, from cycles to dues; nothing is drafted or issued.

    Parameters
    ----------
    begins
        Whether their billing dates and levels are computed, too; else they are there.
    """
    for month in months:
        if begins:
            begin_month(business, month)
        for shard in each_shard(business, month):
            if begins:
                write_cycles(shard, month)
                write_levels(shard, month)
            _write_usage(shard, month, foresee(shard, month))
            write_packages(shard, month)
            write_charges(shard, month)
            shard.computed.forget(("packages", month))


def _write_usage(business: Business, month: str, measured: pl.DataFrame) -> None:
    cycles, book = required_table(business, CYCLES, month), business.rule_book
    in_force = None if book is None else terms_in_force(business, month, cycles)
    usage = usage_of(
        month, cycles=cycles, measured=measured, catalogue=business.catalogue, book=book, in_force=in_force
    )
    write_month(business.home, USAGE, month, usage, in_order=True)


def _measured(known: pl.DataFrame, foreseen: pl.DataFrame, level: str, business: Business) -> pl.DataFrame:
    gauges = [metric.name for metric in business.catalogue.metrics if metric.kind == "gauge"]
    quantity = scaled_to_decimal(pl.col(level), 9)
    as_known = known.with_columns(
        closing_base=pl.lit(None, MEASURED["closing_base"]), lowest_base=pl.lit(None, MEASURED["lowest_base"])
    )
    as_foreseen = foreseen.with_columns(
        base_quantity=quantity,
        closing_base=pl.when(pl.col("metric").is_in(gauges)).then(quantity),
        lowest_base=pl.lit(None, MEASURED["lowest_base"]),
        events=pl.col(EVENTS_OF[level]),
        event_sum=quantity,
    )
    return pl.concat(
        part.select(pl.col(name).cast(dtype) for name, dtype in MEASURED.items()) for part in (as_known, as_foreseen)
    )


@dataclass(frozen=True)
class _ShardForecast:
    """The forecast of a shard's usage, and what it was made from."""

    forecast: UsageForecast
    usage: pl.DataFrame
    complete: pl.DataFrame
    history: pl.DataFrame
    running: pl.DataFrame


def _forecast_of(business: Business, of_all: pl.DataFrame | None = None) -> _ShardForecast:
    this, as_of = f"{business.as_of:%Y-%m}", business.as_of
    months = months_between(months_after(this, -_MONTHS_OF_HISTORY), months_after(this, 1))
    months = [each for each in months if business.home.parts(USAGE, each)]
    usage = (
        business.scan_months(USAGE, months)
        .filter(pl.col("metric").is_in([metric.name for metric in business.catalogue.metrics]))
        .with_columns(quantity=pl.col("base_quantity").to_physical().cast(pl.Int128))
        .collect()
    )
    cycles = _cycles(business, months)
    complete = cycles.filter(
        pl.col("cycle_end") <= as_of, pl.col("access") == pl.col("seconds"), pl.col("days") >= _SHORTEST_DAYS
    )
    history = _history(usage, complete)
    running = _running(usage, cycles.filter(pl.col("cycle_end") > as_of), complete, _prorated(business))
    return _ShardForecast(forecast_usage(pl.concat([history, running]), of_all), usage, complete, history, running)


def _prorated(business: Business) -> list[str]:
    return [metric.name for metric in business.catalogue.metrics if metric.measure in _PRORATED]


def _foreseen_of(business: Business, months: Sequence[str], of_all: pl.DataFrame | None) -> ForeseenUsage:
    found = _forecast_of(business, of_all)
    end = midnight(pl.lit(business.as_of + timedelta(days=1)), business.catalogue.time_zone)
    # Access that has ended is measured already.
    targets = (
        _cycles(business, months)
        .filter(pl.col("cycle_end") > business.as_of, pl.col("last") > end)
        .with_columns(month=month_of(pl.col("cycle_end")), step=pl.col("cycle_end").rank("dense").over("account_id"))
    )
    measured = found.usage.filter(pl.col("billing_month") >= months[0])
    foreseen = _ahead(found.forecast, targets, measured, business)
    past = found.forecast.past.join(
        found.complete.select("account_id", "place", *_CYCLE, month=month_of(pl.col("cycle_end"))),
        on=["account_id", "place"],
        maintain_order="left",
    )
    return ForeseenUsage(
        measured,
        foreseen,
        targets.select("account_id", *_CYCLE),
        past.select(foreseen.columns),
        _basis(targets, found.history, found.running),
        found.forecast.methods,
    )


def _cycles(business: Business, months: Sequence[str]) -> pl.DataFrame:
    """The cycles with access that close in some months.

    Returns
    -------
    polars.DataFrame
        account_id, subscription_id, cycle_start, cycle_end, place, days, seconds, access and elapsed (seconds with
        access, of all and up to the as-of day), whole (seconds of a usual cycle), last (end of access).
    """
    lives, suspensions, catalogue = business.lives, business.suspensions, business.catalogue
    spans = pl.concat(closing_spans(month, lives.subscriptions, suspensions, catalogue) for month in months)
    until = midnight(pl.lit(business.as_of + timedelta(days=1)), catalogue.time_zone)
    passed = pl.min_horizontal("span_end", until) - pl.col("span_start")
    return (
        spans.group_by("account_id", *_CYCLE, "cycle_end", maintain_order=True)
        .agg(
            seconds=(pl.col("cycle_end_instant") - pl.col("cycle_start_instant")).dt.total_seconds().first(),
            access=(pl.col("span_end") - pl.col("span_start")).dt.total_seconds().sum(),
            elapsed=passed.dt.total_seconds().clip(0).sum(),
            last=pl.col("span_end").max(),
        )
        .with_columns(
            pl.col("seconds", "access", "elapsed").cast(pl.Int128),
            place=month_number(pl.col("cycle_end")),
            days=(pl.col("cycle_end") - pl.col("cycle_start")).dt.total_days(),
        )
        # The short first cycle of a home that bills on the first is a part of a usual one.
        .with_columns(
            whole=pl.when(pl.col("days") < _SHORTEST_DAYS)
            .then(pl.lit(_USUAL_DAYS * _SECONDS_OF_A_DAY, pl.Int128))
            .otherwise("seconds")
        )
        .sort("account_id", "cycle_end")
    )


def _history(usage: pl.DataFrame, complete: pl.DataFrame) -> pl.DataFrame:
    """HISTORY of the complete cycles: of each account the same cycles for every metric and rule that it ever used."""
    rows = usage.join(complete.select("place", *_CYCLE), on=_CYCLE)
    series = rows.select(SERIES).unique()
    grid = complete.select("account_id", "place").join(series, on="account_id")
    found = grid.join(
        rows.select(*SERIES, "place", "quantity", "events"), on=[*SERIES, "place"], how="left", nulls_equal=True
    )
    return found.with_columns(pl.col("quantity", "events").fill_null(0)).select(
        pl.col(name).cast(dtype) for name, dtype in HISTORY.items()
    )


def _running(
    usage: pl.DataFrame, open_cycles: pl.DataFrame, complete: pl.DataFrame, prorated: Sequence[str]
) -> pl.DataFrame:
    """HISTORY of accounts without a complete cycle: their running cycle, scaled from the days so far to all of it."""
    only = open_cycles.filter(pl.col("elapsed") > 0).join(complete, on="account_id", how="anti", maintain_order="left")
    rows = usage.join(only.select("place", "elapsed", "whole", *_CYCLE), on=_CYCLE)
    scaled = [
        pl.when(pl.col("metric").is_in(list(prorated)))
        .then((pl.col(name).cast(pl.Int128) * pl.col("whole") * 2 + pl.col("elapsed")) // (pl.col("elapsed") * 2))
        .otherwise(pl.col(name).cast(pl.Int128))
        .alias(name)
        for name in ("quantity", "events")
    ]
    return rows.with_columns(scaled).select(pl.col(name).cast(dtype) for name, dtype in HISTORY.items())


def _ahead(forecast: UsageForecast, targets: pl.DataFrame, measured: pl.DataFrame, business: Business) -> pl.DataFrame:
    """The foreseen usage of open cycles; of one that is running at least what was measured so far."""
    columns = ["account_id", *_CYCLE, "month"]
    asked = targets.select(*columns, "step", "place", "access", "whole")
    foreseen = forecast.ahead(asked, _prorated(business)).drop_nulls("metric")
    numbers = [*LEVELS_OF_USAGE, *EVENTS_OF.values()]
    lasting = [metric.name for metric in business.catalogue.metrics if metric.measure in _AT_LEAST]
    so_far = (
        measured.filter(pl.col("metric").is_in(lasting))
        .join(targets.select(*_CYCLE, "month"), on=_CYCLE)
        .with_columns(
            **{name: pl.col("quantity") for name in LEVELS_OF_USAGE},
            **{name: pl.col("events") for name in EVENTS_OF.values()},
        )
    )
    rows = pl.concat(
        part.select(*columns, "metric", "rule", pl.col(numbers).cast(pl.Int128)) for part in (foreseen, so_far)
    )
    return rows.group_by(*columns, "metric", "rule").agg(pl.col(numbers).max()).sort("account_id", *_KEY)


def _basis(targets: pl.DataFrame, history: pl.DataFrame, running: pl.DataFrame) -> pl.DataFrame:
    accounts = targets.select("account_id").unique()
    known = pl.col("account_id").is_in(history["account_id"].unique().implode())
    begun = pl.col("account_id").is_in(running["account_id"].unique().implode())
    basis = (
        pl.when(known)
        .then(pl.lit(ForecastBasis.HISTORY))
        .when(begun)
        .then(pl.lit(ForecastBasis.RUNNING_CYCLE))
        .otherwise(pl.lit(ForecastBasis.NO_HISTORY))
    )
    return accounts.select("account_id", basis=basis).sort("account_id")
