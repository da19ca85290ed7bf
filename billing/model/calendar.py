"""Billing calendar: expressions over date columns, in the billing time zone (rules section 1).

Derive every billing date from the original anchor, so that none drifts.
"""

from datetime import date, timedelta

import polars as pl

from billing.model.columns import INSTANT


def month_number(day: pl.Expr) -> pl.Expr:
    """Months since January of year 0; subtract two to count months."""
    return day.dt.year() * 12 + day.dt.month().cast(pl.Int32) - 1


def month_of(day: pl.Expr) -> pl.Expr:
    """Month of a date, YYYY-MM."""
    return day.dt.strftime("%Y-%m")


def first_day(month: str) -> date:
    """First day of a month YYYY-MM."""
    return date.fromisoformat(f"{month}-01")


def last_day(month: str) -> date:
    """The last day of a month."""
    return first_day(months_after(month, 1)) - timedelta(days=1)


def months_after(month: str, count: int) -> str:
    """The month `count` months after (negative: before) a month YYYY-MM."""
    first = first_day(month)
    number = first.year * 12 + first.month - 1 + count
    return f"{number // 12:04d}-{number % 12 + 1:02d}"


def months_between(first: str, last: str) -> list[str]:
    """Months from `first` to `last`, inclusive; empty when `last` is earlier."""
    months = [first]
    while months[-1] < last:
        months.append(months_after(months[-1], 1))
    return months if first <= last else []


def midnight(day: pl.Expr, time_zone: str) -> pl.Expr:
    """First instant of a local day, in UTC; where a clock change skips midnight, the first instant after the gap."""
    local = day.cast(pl.Datetime("ns"))
    # Clock changes at midnight skip half an hour to three hours; crossing the date line skips a whole day.
    candidates = [
        (local + pl.duration(minutes=minutes)).dt.replace_time_zone(
            time_zone, ambiguous="earliest", non_existent="null"
        )
        for minutes in (0, 30, 60, 120, 180, 1440)
    ]
    return pl.coalesce(candidates).dt.convert_time_zone("UTC").cast(INSTANT)
