"""What the next months bill if usage goes on as in the last cycles, computed in a scratch copy by the rules of billing.

The home is not changed, nothing is drafted or issued. How near forecasts of past months would have been is beside it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

import polars as pl

from billing.model.calendar import last_day, months_after, months_between
from billing.model.codes import ForecastBasis, SubscriptionStatus
from billing.model.columns import BASE_QUANTITY, MONEY
from billing.model.errors import RefusedError
from billing.model.money import minor_units, scaled_to_decimal
from billing.model.plain_rows import plain_rows
from billing.model.tables import CYCLES, DUES, PARKED
from billing.month.business import Business
from billing.month.foreseen_usage import (
    EVENTS_OF,
    LEVELS_OF_USAGE,
    ForeseenBusiness,
    ForeseenUsage,
    foresee_months,
    foreseen_usage,
)
from billing.month.scratch_copy import bring_up_to_date, scratch_copy
from billing.month.steps import billed_months, ingest_usage
from billing.month.true_ups import month_differences
from billing.rules.usage_forecast import TESTED_CYCLES
from billing.store.files import write_file

FORECAST: Final = pl.Schema(
    {
        "month": pl.String(),
        "account_id": pl.String(),
        "expected": MONEY,
        "low": MONEY,
        "high": MONEY,
        "currency": pl.String(),
        "basis": pl.String(),
    }
)
"""What an account is billed in a month, before tax, in its currency; `basis` as `ForecastBasis`."""

BACKTEST: Final = pl.Schema(
    {
        "month": pl.String(),
        "currency": pl.String(),
        "actual": MONEY,
        "expected": MONEY,
        "low": MONEY,
        "high": MONEY,
        "error_percent": pl.Decimal(38, 2),
        "is_between": pl.Boolean(),
    }
)
"""A past month as it would have been forecast from the cycles before it, and what it came to."""

METHODS: Final = pl.Schema(
    {
        "account_id": pl.String(),
        "metric": pl.String(),
        "method": pl.String(),
        "cycles": pl.Int64(),
        "used": BASE_QUANTITY,
        "error": BASE_QUANTITY,
        "low_percent": pl.Decimal(38, 4),
        "high_percent": pl.Decimal(38, 4),
    }
)
"""The method of an account's metric: its error over the tested cycles, in base units as `used` is, and its spread."""

_AMOUNTS: Final = ("expected", "low", "high")
_LEVELS: Final[Mapping[str, str]] = dict(zip(_AMOUNTS, LEVELS_OF_USAGE, strict=True))
_ROW: Final = ["month", "account_id", "currency"]
_DATE: Final = ["subscription_id", "billing_date"]
_ZERO: Final = pl.lit(0).cast(MONEY)
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Forecast:
    """What the next months bill.

    Attributes
    ----------
    as_of
        The day up to which usage, requests and payments are known.
    months
        The forecast months.
    rows
        FORECAST, sorted by month and account.
    backtest
        BACKTEST, sorted by month and currency.
    methods
        METHODS, sorted by account and metric.
    not_issued
        How many billing dates before the first month are due and not issued: they are not in the forecast.
    parked
        How many accounts are parked: nothing is forecast for them.
    """

    as_of: date
    months: Sequence[str]
    rows: pl.DataFrame
    backtest: pl.DataFrame
    methods: pl.DataFrame
    not_issued: int
    parked: int

    def as_plain(self) -> list[dict[str, Any]]:
        """The rows as plain values, amounts with the decimals of their currency."""
        return plain_rows(self.rows, [minor_units(code) or 0 for code in self.rows["currency"]])

    def in_words(self) -> list[str]:
        """Totals by month and currency, how near forecasts of the past would have been, and the methods in use."""
        totals = self.rows.group_by("month", "currency", maintain_order=True).agg(pl.col(_AMOUNTS).sum())
        texts = [
            f"{month}: {code} {_amount(expected, code)} expected, {_amount(low, code)} to {_amount(high, code)}"
            for month, code, expected, low, high in totals.sort("month", "currency").iter_rows()
        ]
        for (code,), tested in self.backtest.partition_by("currency", as_dict=True, maintain_order=True).items():
            errors = [error for error in tested["error_percent"] if error is not None]
            mean = f"{sum(errors) / len(errors):.2f} % off on average" if errors else "nothing to compare"
            inside = tested["is_between"].sum()
            texts.append(
                f"back-test of {tested['month'][0]} to {tested['month'][-1]}, {code}: {mean}; {inside} of "
                f"{tested.height} months between low and high"
            )
        if self.backtest.is_empty():
            texts.append("no back-test: no account has two complete cycles")
        used = self.methods.group_by("metric", "method").len().sort("metric", "method")
        texts += [f"{metric}: {method.replace('_', ' ')} for {count}" for metric, method, count in used.iter_rows()]
        return texts

    def write(self, folder: Path) -> list[Path]:
        """Write forecast.parquet, backtest.parquet and methods.parquet; the same forecast gives the same bytes."""
        frames = {"forecast": self.rows, "backtest": self.backtest, "methods": self.methods}
        paths = []
        for name, frame in frames.items():
            paths.append(folder / f"{name}.parquet")
            write_file(paths[-1], frame.write_parquet)
        return paths


def forecast(business: Business, count: int, progress: Progress | None = None) -> Forecast:
    """Forecast what `count` months bill, from the first one with a billing date to come.

    Raises
    ------
    RefusedError
        When documents were issued as of a later day: their dates are closed.
    InterruptedRunError
        When usage that past months were measured from is lost.
    """
    issued_on = business.register.latest_issued_on()
    if issued_on is not None and business.as_of < issued_on:
        raise RefusedError(
            f"the as-of day: found {business.as_of}, expected {issued_on} or later, as documents were issued that day"
        )
    # Dates are issued `issue_after_days` after they came.
    wait = timedelta(days=business.catalogue.policy.issue_after_days)
    start = max(f"{business.as_of - wait + timedelta(days=1):%Y-%m}", business.first_month or "")
    months = months_between(start, months_after(start, count))
    if business.first_month is None:
        return _forecast(business, months[:count])
    through = last_day(months[-1])
    with scratch_copy(business, business.as_of) as scratch:
        ingest_usage(scratch, progress)
        computed = billed_months(scratch, months_after(f"{business.as_of:%Y-%m}", 1))
        bring_up_to_date(scratch, computed[-1] if computed else start, progress)
        foreseen = foreseen_usage(scratch, months)
        differences = _differences(scratch, computed)
        not_issued = _not_issued(scratch, [month for month in computed if month < start])
        # The month of the as-of day is a past one where none of its billing dates is to come.
        actual = {month: _dues(scratch, [month]) for month in computed[-TESTED_CYCLES - 2 :]}

        def bill(level: str, *, begins: bool) -> pl.DataFrame:
            run = ForeseenBusiness.of_business(scratch, through)
            foresee_months(run, months, foreseen.of_month(level), begins=begins)
            return _to_come(run, months)

        rows, months = _rows(_amounts(bill, foreseen.usage), differences, foreseen.basis, months, count)
        past = [month for month in actual if month < months[0]][-TESTED_CYCLES:]
        # Packages of a month follow from those of the one before: test the last month first.
        tested = [_tested(scratch, month, actual[month], foreseen) for month in reversed(past)]
        parked = scratch.scan_months(PARKED, months).select(pl.col("account_id").n_unique()).collect().item()
    backtest = pl.concat([pl.DataFrame(schema=BACKTEST), *reversed(tested)])
    return _forecast(
        business, months, rows=rows, backtest=backtest, methods=foreseen.methods, not_issued=not_issued, parked=parked
    )


def _forecast(
    business: Business,
    months: Sequence[str],
    *,
    rows: pl.DataFrame | None = None,
    backtest: pl.DataFrame | None = None,
    methods: pl.DataFrame | None = None,
    not_issued: int = 0,
    parked: int = 0,
) -> Forecast:
    percents = {f"{name}_percent": scaled_to_decimal(pl.col(name), 4) for name in ("low", "high")}
    quantities = {name: scaled_to_decimal(pl.col(name), BASE_QUANTITY.scale) for name in ("used", "error")}
    chosen = pl.DataFrame(schema=METHODS)
    if methods is not None:
        chosen = methods.with_columns(**percents, **quantities).select(
            pl.col(name).cast(dtype) for name, dtype in METHODS.items()
        )
    nothing = pl.DataFrame(schema=FORECAST)
    tests = pl.DataFrame(schema=BACKTEST)
    return Forecast(
        business.as_of,
        tuple(months),
        nothing if rows is None else rows,
        tests if backtest is None else backtest,
        chosen,
        not_issued,
        parked,
    )


def _amounts(bill: Callable[..., pl.DataFrame], usage: pl.DataFrame) -> pl.DataFrame:
    """What is billed at each level of usage: _ROW and _AMOUNTS; several rows of an account and month add up."""
    parts, expected = [], bill(_LEVELS["expected"], begins=True)
    for amount, level in _LEVELS.items():
        found = expected if _is_as_expected(usage, level) else bill(level, begins=False)
        zeros = {other: _ZERO for other in _AMOUNTS if other != amount}
        parts.append(found.rename({"amount": amount}).with_columns(**zeros).select(*_ROW, *_AMOUNTS))
    return pl.concat(parts)


def _is_as_expected(usage: pl.DataFrame, level: str) -> bool:
    return usage["quantity"].equals(usage[level]) and usage["events"].equals(usage[EVENTS_OF[level]])


def _spread(amounts: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    """The sums of _AMOUNTS; an upgrade may make more usage cheaper, so that low and high are the outer of all three."""
    sums = amounts.group_by(keys).agg(pl.col(_AMOUNTS).sum())
    return sums.with_columns(low=pl.min_horizontal(_AMOUNTS), high=pl.max_horizontal(_AMOUNTS))


def _to_come(business: Business, months: Sequence[str]) -> pl.DataFrame:
    """_ROW, amount: what is due on the billing dates of some months that are not closed, and 0 for those to come."""
    closed = business.register.closed_dates().select(_DATE)
    goes_on = [SubscriptionStatus.ACTIVE, SubscriptionStatus.SUSPENDED]
    dates = (
        business.scan_months(CYCLES, months)
        .filter(pl.col("status").is_in(goes_on), ~pl.col("is_last"))
        .join(business.scan_months(PARKED, months), on=["account_id", "billing_month"], how="anti")
        .select("account_id", *_DATE, "billing_month", amount=_ZERO)
        .collect()
    )
    dues = business.scan_months(DUES, months).select(dates.columns).collect()
    both = pl.concat([dates, dues]).join(closed, on=_DATE, how="anti", maintain_order="left")
    return _summed(business, both)


def _dues(business: Business, months: Sequence[str]) -> pl.DataFrame:
    """_ROW, amount: what is due on the billing dates of some months."""
    columns = ["account_id", *_DATE, "billing_month", "amount"]
    return _summed(business, business.scan_months(DUES, months).select(columns).collect())


def _summed(business: Business, dues: pl.DataFrame) -> pl.DataFrame:
    named = business.currencies.with_currency(dues.rename({"billing_month": "month"}))
    return named.group_by(_ROW).agg(pl.col("amount").sum().cast(MONEY)).sort(_ROW)


def _differences(business: Business, computed: Sequence[str]) -> pl.DataFrame:
    """account_id, currency, amount: what the next documents settle of earlier ones (rule 20)."""
    if not computed:
        return pl.DataFrame(schema={"account_id": pl.String, "currency": pl.String, "amount": MONEY})
    found = month_differences(business, computed[0], months_after(computed[-1], 1))
    named = business.currencies.with_currency(found.select("account_id", "subscription_id", "due", "issued"))
    return (
        named.group_by("account_id", "currency")
        .agg(amount=(pl.col("due") - pl.col("issued")).sum().cast(MONEY))
        .filter(pl.col("amount") != 0)
        .sort("account_id", "currency")
    )


def _not_issued(business: Business, months: Sequence[str]) -> int:
    """How many billing dates of these months something is due on that is not issued."""
    closed = business.register.closed_dates().select(_DATE)
    dues = business.scan_months(DUES, months).group_by(_DATE).agg(pl.col("amount").sum()).collect()
    return dues.filter(pl.col("amount") != 0).join(closed, on=_DATE, how="anti").height


def _rows(
    amounts: pl.DataFrame, differences: pl.DataFrame, basis: pl.DataFrame, months: Sequence[str], count: int
) -> tuple[pl.DataFrame, list[str]]:
    """FORECAST of the first `count` months, from the first one that has a billing date to come, and these months."""
    has_begun = amounts["month"].is_in(list(months[:1])).any()
    wanted = list(months[:count] if has_begun else months[1:])
    settled = (
        differences.join(
            amounts.group_by("account_id", "currency").agg(pl.col("month").min()),
            on=["account_id", "currency"],
            how="left",
        )
        # What is left of an ended subscription is settled by a document of its own.
        .with_columns(pl.col("month").fill_null(wanted[0]), **{name: pl.col("amount") for name in _AMOUNTS})
        .select(*_ROW, *_AMOUNTS)
    )
    rows = (
        _spread(pl.concat([amounts, settled]), _ROW)
        .filter(pl.col("month").is_in(wanted))
        .join(basis, on="account_id", how="left")
        .with_columns(pl.col("basis").fill_null(ForecastBasis.MEASURED.value))
        .sort(_ROW)
    )
    return rows.select(pl.col(name).cast(dtype) for name, dtype in FORECAST.items()), wanted


def _tested(business: Business, month: str, actual: pl.DataFrame, foreseen: ForeseenUsage) -> pl.DataFrame:
    """BACKTEST of a past month: of the accounts whose usage could have been foreseen, packages as they were decided."""
    usage = foreseen.past.filter(pl.col("month") == month)
    accounts = usage.select("account_id").unique()

    def bill(level: str, *, begins: bool) -> pl.DataFrame:
        foresee_months(business.at(business.as_of), [month], foreseen.of_past_month(level), begins=False)
        return _dues(business, [month])

    if usage.is_empty():
        return pl.DataFrame(schema=BACKTEST)
    both = pl.concat(
        [
            _spread(_amounts(bill, usage), _ROW).with_columns(actual=_ZERO),
            actual.with_columns(**dict.fromkeys(_AMOUNTS, _ZERO)).rename({"amount": "actual"}),
        ],
        how="diagonal",
    )
    sums = (
        both.join(accounts, on="account_id", how="semi")
        .group_by("month", "currency")
        .agg(pl.col("actual", *_AMOUNTS).sum())
    )
    billed = pl.col("actual").abs().to_physical().cast(pl.Int128)
    off = (pl.col("expected") - pl.col("actual")).abs().to_physical().cast(pl.Int128)
    percent = (off * 20_000 + billed) // (pl.when(billed > 0).then(billed) * 2)
    return (
        sums.with_columns(
            error_percent=scaled_to_decimal(percent, 2),
            is_between=pl.col("actual").is_between("low", "high"),
        )
        .sort("month", "currency")
        .select(pl.col(name).cast(dtype) for name, dtype in BACKTEST.items())
    )


def _amount(value: Any, currency: str) -> str:
    return f"{value:.{minor_units(currency) or 0}f}"
