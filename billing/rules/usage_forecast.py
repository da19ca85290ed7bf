"""Forecast the usage of cycles to come from complete ones, by the method that was nearest in the past.

Quantities are billionths of base units, as integers: every forecast is exact and the same on every machine.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from billing.model.codes import ForecastMethod

SERIES: Final = ("account_id", "metric", "rule")
HISTORY: Final[dict[str, pl.DataType | type[pl.DataType]]] = {
    "account_id": pl.String,
    "metric": pl.String,
    "rule": pl.String,
    "place": pl.Int32,
    "quantity": pl.Int128,
    "events": pl.Int128,
}
"""A complete cycle of an account, of a metric or a rule of its tariff; `place` numbers the month in which it ends."""

TESTED_CYCLES: Final = 6
_OF_MEAN, _OF_TREND, _OF_LEVEL, _YEAR = 3, 6, 3, 12
_LEAST_OF_TREND, _LEAST_TESTS, _LEAST_OF_SPREAD = 3, 2, 3
_MILLION: Final = 10**6
_LARGEST_FACTOR: Final = 100
_WHOLE: Final = 10**9
_LARGEST: Final = 10**29
"""Quantities from 10^20 base units on are not billed, so that no product here reaches 2^127."""


@dataclass(frozen=True)
class UsageForecast:
    """What the past says of the usage to come.

    Attributes
    ----------
    series
        SERIES with what its forecasts are computed from, and `method`, `low` and `high` of its account and metric.
    past
        SERIES, place, quantity, low, high, events, low_events, high_events: the forecasts that would have been made one
        cycle ahead, of the last TESTED_CYCLES cycles of each account.
    methods
        account_id, metric, method, cycles (tested), used, error (sums of those cycles, in billionths of base units),
        low, high (relative errors in millionths: the 10th and 90th percentile).
    errors
        metric, relative: the relative errors of all accounts, in millionths.
    years
        The known cycles by series and place.
    """

    series: pl.DataFrame
    past: pl.DataFrame
    methods: pl.DataFrame
    errors: pl.DataFrame
    years: pl.DataFrame

    def ahead(self, targets: pl.DataFrame, prorated: Sequence[str]) -> pl.DataFrame:
        """The usage of cycles to come, if it goes on as it went.

        Parameters
        ----------
        targets
            account_id, step (1 for the first cycle after the last complete one), place (of the month in which it ends),
            access, whole (Int128; how much of a usual cycle has access).
        prorated
            The metrics that use less in a part of a cycle.

        Returns
        -------
        polars.DataFrame
            The columns of `targets`, metric, rule, quantity, low, high, events, low_events, high_events.
        """
        # Beyond a year the same month of the last year that is known.
        known = (pl.col("place") - 1 - pl.col("_last")) // _YEAR * _YEAR + _YEAR
        placed = (
            targets.join(self.series, on="account_id", maintain_order="left")
            .with_columns(_from=pl.col("place") - known)
            .join(self.years, on=["_series", "_from"], how="left", maintain_order="left")
        )
        foreseen = placed.with_columns(_chosen(pl.col("step").cast(pl.Int128))).with_columns(
            pl.when(pl.col("metric").is_in(list(prorated)))
            .then(_half_up(pl.col(measure) * pl.col("access"), pl.col("whole")))
            .otherwise(measure)
            .alias(measure)
            for measure in _MEASURES
        )
        whole = foreseen.with_columns(_in_steps(pl.col("quantity")).alias("quantity"))
        return _with_spread(whole).select(*targets.columns, "metric", "rule", *_FORESEEN)


_FORESEEN: Final = ("quantity", "low", "high", "events", "low_events", "high_events")
_MEASURES: Final = ("quantity", "events")


def forecast_usage(history: pl.DataFrame, of_all: pl.DataFrame | None = None) -> UsageForecast:
    """Choose a method for every account and metric, and its spread, by forecasting the cycles that are known.

    Parameters
    ----------
    history
        HISTORY, of every account the same cycles for each of its series.
    of_all
        As `spread_of_all`, where the history is that of a part of the accounts.
    """
    rows = (
        history.sort(*SERIES, "place", nulls_last=True)
        .with_columns(pl.col(_MEASURES).clip(0, _LARGEST), _series=pl.struct(SERIES).rle_id())
        .with_columns(_unit=_unit())
    )
    keys = [*SERIES, "_series", "_unit"]
    following = rows.group_by(keys, maintain_order=True).agg(place=pl.col("place").max() + 1)
    lacking = [pl.lit(None, pl.Int128).alias(name) for name in _MEASURES]
    both = pl.concat([rows, following.with_columns(lacking).select(rows.columns)]).sort("_series", "place")
    years = rows.select("_series", _from="place", quantity_year="quantity", events_year="events")
    lagged = _with_earlier(both, years)
    is_next = pl.col("quantity").is_null()
    tested = lagged.filter(~is_next, pl.col("_index") > 0, pl.col("_index") >= pl.col("_cycles") - TESTED_CYCLES)
    tried = tested.with_columns(_tried("quantity", pl.lit(1, pl.Int128)))
    totals = _totals(tried)
    judged = _judged(totals)
    errors = judged.select("metric", "relative").drop_nulls()
    if of_all is None:
        of_all = spread_of_all(errors)
    methods = _methods(judged, of_all)
    last = lagged.filter(is_next).with_columns(_last=pl.col("place") - 1)
    series = _with_method(last.drop("place", *_MEASURES, "quantity_year", "events_year"), methods, of_all)
    actual = _with_method(tested, methods, of_all)
    past = _with_spread(actual.with_columns(_chosen(pl.lit(1, pl.Int128)))).select(*SERIES, "place", *_FORESEEN)
    return UsageForecast(series, past, methods, errors, years)


def spread_of_all(errors: pl.DataFrame) -> pl.DataFrame:
    """metric, low, high: the 10th and 90th percentile of relative errors (metric, relative), sorted."""
    return errors.group_by("metric").agg(**_PERCENTILES).sort("metric")


def _unit() -> pl.Expr:
    """The step of a series' quantities: whole base units where all of them were whole."""
    is_whole = (pl.col("quantity") % _WHOLE == 0).all().over("_series")
    return pl.when(is_whole).then(pl.lit(_WHOLE, pl.Int128)).otherwise(pl.lit(1, pl.Int128))


def _with_earlier(rows: pl.DataFrame, years: pl.DataFrame) -> pl.DataFrame:
    """Add what each cycle's forecast is computed from: earlier cycles, newest first, and those a year before them."""
    dated = rows.with_columns(_from=pl.col("place") - _YEAR).join(
        years, on=["_series", "_from"], how="left", maintain_order="left"
    )
    lags = {f"{name}_{lag}": pl.col(name).shift(lag) for name in _MEASURES for lag in range(1, _OF_TREND + 1)}
    lags |= {
        f"{name}_year_{lag}": pl.col(f"{name}_year").shift(lag) for name in _MEASURES for lag in range(1, _OF_LEVEL + 1)
    }
    return dated.drop("_from").with_columns(
        **{name: value.over("_series") for name, value in lags.items()},
        _index=pl.int_range(pl.len(), dtype=pl.Int64).over("_series"),
        _cycles=pl.col("quantity").count().over("_series").cast(pl.Int64),
    )


def _mean(measure: str) -> pl.Expr:
    """The mean of the last three cycles."""
    count = pl.col("_index").clip(1, _OF_MEAN).cast(pl.Int128)
    return pl.when(pl.col("_index") > 0).then(_half_up(_sum(_lags(measure, _OF_MEAN)), count))


def _trend(measure: str, step: pl.Expr) -> pl.Expr:
    """The line of least squares through the last six cycles, `step` cycles on; never below zero."""
    n = pl.col("_index").clip(1, _OF_TREND).cast(pl.Int128)
    places = [n - lag for lag in range(1, _OF_TREND + 1)]
    values = _lags(measure, _OF_TREND)
    sum_x, sum_xx = n * (n - 1) // 2, (n - 1) * n * (n * 2 - 1) // 6
    sum_y, sum_xy = _sum(values), _sum([place * value for place, value in zip(places, values, strict=True)])
    spread = n * sum_xx - sum_x * sum_x
    slope = n * sum_xy - sum_x * sum_y
    value = slope * (n * (n - 1 + step) - sum_x) + sum_y * spread
    enough = pl.col("_index") >= _LEAST_OF_TREND
    return pl.when(enough).then(_half_up(value, n * spread).clip(0, _LARGEST))


def _same_month_last_year(measure: str) -> pl.Expr:
    """The cycle of a year before, scaled by the last three cycles over those a year before them."""
    years = [pl.col(f"{measure}_year_{lag}") for lag in range(1, _OF_LEVEL + 1)]
    recent = _sum(
        [
            pl.when(year.is_not_null()).then(value).otherwise(0)
            for year, value in zip(years, _lags(measure, _OF_LEVEL), strict=True)
        ]
    )
    before = _sum([year.fill_null(0) for year in years])
    is_known = (pl.col("_index") >= _LEAST_OF_TREND) & (before > 0) & pl.col(f"{measure}_year").is_not_null()
    level = (recent * _MILLION // pl.when(before > 0).then(before).otherwise(1)).clip(0, _LARGEST_FACTOR * _MILLION)
    value = _half_up(pl.col(f"{measure}_year") * level, pl.lit(_MILLION, pl.Int128))
    return pl.when(is_known).then(value.clip(0, _LARGEST))


def _tried(measure: str, step: pl.Expr) -> list[pl.Expr]:
    found = {
        ForecastMethod.MEAN: _mean(measure),
        ForecastMethod.TREND: _trend(measure, step),
        ForecastMethod.SAME_MONTH_LAST_YEAR: _same_month_last_year(measure),
    }
    return [_in_steps(value).alias(f"{method}") for method, value in found.items()]


def _chosen(step: pl.Expr) -> list[pl.Expr]:
    """The forecasts by the method of each series; where a year before lacks a cycle, the mean."""
    found = []
    for measure in _MEASURES:
        method, mean = pl.col("method"), _mean(measure)
        other = (
            pl.when(method == ForecastMethod.TREND)
            .then(_trend(measure, step))
            .when(method == ForecastMethod.SAME_MONTH_LAST_YEAR)
            .then(_same_month_last_year(measure))
        )
        value = pl.coalesce(other, mean)
        found.append((_in_steps(value) if measure == "quantity" else value).alias(measure))
    return found


def _with_spread(rows: pl.DataFrame) -> pl.DataFrame:
    """Add the forecasts at the percentiles of past errors; the columns `low` and `high` become quantities."""

    def at(measure: str, factor: str) -> pl.Expr:
        return _half_up(pl.col(measure) * (pl.col(factor) + _MILLION), pl.lit(_MILLION, pl.Int128)).clip(0, _LARGEST)

    return rows.with_columns(
        low=pl.min_horizontal(_in_steps(at("quantity", "low")), "quantity"),
        high=pl.max_horizontal(_in_steps(at("quantity", "high")), "quantity"),
        low_events=pl.min_horizontal(at("events", "low"), "events"),
        high_events=pl.max_horizontal(at("events", "high"), "events"),
    )


def _totals(tried: pl.DataFrame) -> pl.DataFrame:
    """account_id, metric, place, actual and a column for each method: over all rules of the metric."""

    def whole(name: str) -> pl.Expr:
        return pl.when(pl.col(name).null_count() == 0).then(pl.col(name).sum()).alias(name)

    return tried.group_by("account_id", "metric", "place", maintain_order=True).agg(
        pl.col("quantity").sum().alias("actual"), *(whole(method) for method in ForecastMethod)
    )


def _judged(totals: pl.DataFrame) -> pl.DataFrame:
    """Tested cycles with the method of each account and metric, the one with the smallest error.

    Returns
    -------
    polars.DataFrame
        account_id, metric, place, method, actual, forecast (by that method), relative (null: a forecast of nothing).
    """
    keys = ["account_id", "metric"]
    mean, trend, year = (str(method) for method in ForecastMethod)
    counted = totals.with_columns(
        _trend=pl.col(trend).count().over(keys) >= _LEAST_TESTS, _year=pl.col(year).count().over(keys) >= _LEAST_TESTS
    )
    # Compare methods on the cycles that all of them could forecast.
    common = (
        pl.when("_year")
        .then(pl.col(year).is_not_null() & pl.col(trend).is_not_null())
        .when("_trend")
        .then(pl.col(trend).is_not_null())
        .otherwise(pl.lit(value=True))
    )
    errors = (
        counted.filter(common)
        .group_by(keys, maintain_order=True)
        .agg(
            pl.col("_trend", "_year").first(),
            **{f"_of_{method}": (pl.col("actual") - pl.col(method)).abs().sum() for method in ForecastMethod},
        )
    )
    of = {method: pl.col(f"_of_{method}") for method in ForecastMethod}
    of_mean, of_trend, of_year = (of[method] for method in ForecastMethod)
    chosen = (
        pl.when(pl.col("_year") & (of_year < of_mean) & (of_year < of_trend))
        .then(pl.lit(year))
        .when(pl.col("_trend") & (of_trend < of_mean))
        .then(pl.lit(trend))
        .otherwise(pl.lit(mean))
    )
    method = pl.col("method")
    forecast = pl.when(method == year).then(year).when(method == trend).then(trend).otherwise(mean)
    return (
        totals.join(errors.select(*keys, method=chosen), on=keys, maintain_order="left")
        .with_columns(forecast=forecast)
        .drop_nulls("forecast")
        .with_columns(relative=_relative_error())
        .select(*keys, "place", "method", "actual", "forecast", "relative")
    )


def _relative_error() -> pl.Expr:
    """How far a cycle was above (or below) its forecast, in millionths of that; null where that was nothing."""
    forecast, actual = pl.col("forecast"), pl.col("actual")
    error = (actual - forecast) * _MILLION // pl.when(forecast > 0).then(forecast).otherwise(1)
    none = pl.when(actual == 0).then(pl.lit(0, pl.Int128))
    return pl.when(forecast > 0).then(error.clip(-_MILLION, _LARGEST_FACTOR * _MILLION)).otherwise(none)


_RELATIVE: Final = pl.col("relative").drop_nulls().sort()
_ERRORS: Final = pl.col("relative").count().cast(pl.Int64)
# The nearest rank: of ten errors the first and the ninth.
_PERCENTILES: Final = {
    "low": _RELATIVE.get((_ERRORS + 9) // 10 - 1, null_on_oob=True),
    "high": _RELATIVE.get((_ERRORS * 9 + 9) // 10 - 1, null_on_oob=True),
}


def _methods(judged: pl.DataFrame, of_all: pl.DataFrame) -> pl.DataFrame:
    keys = ["account_id", "metric"]
    own = judged.group_by(keys, maintain_order=True).agg(
        pl.col("method").first(),
        cycles=pl.len().cast(pl.Int64),
        used=pl.col("actual").sum(),
        error=(pl.col("actual") - pl.col("forecast")).abs().sum(),
        _enough=_ERRORS >= _LEAST_OF_SPREAD,
        **_PERCENTILES,
    )
    spread = {name: pl.when("_enough").then(name).otherwise(f"{name}_of_all").fill_null(0) for name in _PERCENTILES}
    return (
        own.join(of_all, on="metric", how="left", maintain_order="left", suffix="_of_all")
        .with_columns(**spread)
        .select(*keys, "method", "cycles", "used", "error", "low", "high")
        .sort(keys)
    )


def _with_method(rows: pl.DataFrame, methods: pl.DataFrame, of_all: pl.DataFrame) -> pl.DataFrame:
    """Add method, low and high; an account without a tested cycle takes the mean and the spread of all accounts."""
    found = rows.join(
        methods.select("account_id", "metric", "method", "low", "high"),
        on=["account_id", "metric"],
        how="left",
        maintain_order="left",
    ).join(of_all, on="metric", how="left", maintain_order="left", suffix="_of_all")
    spread = {name: pl.coalesce(name, f"{name}_of_all", pl.lit(0, pl.Int128)) for name in ("low", "high")}
    return found.with_columns(pl.col("method").fill_null(ForecastMethod.MEAN.value), **spread).drop(
        "low_of_all", "high_of_all"
    )


def _lags(measure: str, count: int) -> list[pl.Expr]:
    return [pl.col(f"{measure}_{lag}").fill_null(0) for lag in range(1, count + 1)]


def _sum(values: list[pl.Expr]) -> pl.Expr:
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total


def _half_up(numerator: pl.Expr, denominator: pl.Expr) -> pl.Expr:
    return (numerator * 2 + denominator) // (denominator * 2)


def _in_steps(value: pl.Expr) -> pl.Expr:
    return _half_up(value, pl.col("_unit")) * pl.col("_unit")
