"""The two calendars of the graph: days of delivery and billing months.

Keys run from the catalogue's `billing_start` and, with a generous `end_offset`, far into the future: the open month
and the movable clock need months that have not begun. Whether a month may be billed is not a matter of partitions.

Where people look at the calendars, months that have not come yet only look as if they were missing: with
$OVERAGE_MONTHS_AHEAD they end so many months after the open one, and days begin with the first delivery. What has been
delivered or built is always among them.
"""

import os
import warnings
from datetime import date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

import dagster as dg

from assets.environment import home_folder, months_ahead
from billing.ingest.landing import delivery_days as landed_days
from billing.inputs.catalogue_file import billing_calendar
from billing.store.home import Home

FUTURE_MONTHS = 120
FUTURE_DAYS = 400
# deliveries may begin before the first month that is billed: levels of gauges carry on
DAYS_BEFORE_START = 366


def _names_of(folder: Path, prefix: str = "") -> list[str]:
    """The names of folders such as 2026-01 or 2026-01-31, without their prefix, sorted."""
    if not folder.is_dir():
        return []
    names = (entry.name.removeprefix(prefix) for entry in os.scandir(folder))
    return sorted(name for name in names if name.replace("-", "").isdecimal())


def calendar_reach(home: Path, start: date, today: date, ahead: int | None) -> tuple[date, int, int]:
    """The first delivery day, and how many months and days the calendars go on after the present ones."""
    if ahead is None:
        return start - timedelta(days=DAYS_BEFORE_START), FUTURE_MONTHS, FUTURE_DAYS
    built = _names_of(home / "lake" / "fingerprints", "billing_month=")
    delivered = [day.isoformat() for day in landed_days(Home(home))]
    day = f"{today:%Y-%m-%d}"
    last, first = max([*delivered, day]), min([*delivered, f"{start:%Y-%m-%d}"])
    months = _months(max([*built, last[:7]])) - _months(day)
    days = (date.fromisoformat(last) - today).days
    # 1 is the open month, which Dagster leaves out by itself, and today
    return date.fromisoformat(first), months + 1 + ahead, days + 1


def _months(key: str) -> int:
    return int(key[:4]) * 12 + int(key[5:7])


class Calendars(NamedTuple):
    """The partitions of the graph: billing months, days of delivery, and the time zone that both are in."""

    months: dg.TimeWindowPartitionsDefinition
    days: dg.DailyPartitionsDefinition
    time_zone: str


def calendars_of(home: Path, ahead: int | None) -> Calendars:
    """The calendars of a home; without one, or with a broken catalogue, those of the default policy.

    Parameters
    ----------
    ahead
        How many months after the open one there are; None means all.
    """
    start, time_zone = billing_calendar(Home(home).landing / "catalogue.yaml")
    first_day, months, days = calendar_reach(home, start, datetime.now(ZoneInfo(time_zone)).date(), ahead)
    return Calendars(
        dg.TimeWindowPartitionsDefinition(
            start=start.strftime("%Y-%m"), cron_schedule="0 0 1 * *", fmt="%Y-%m", end_offset=months
        ),
        dg.DailyPartitionsDefinition(start_date=first_day.isoformat(), end_offset=days),
        time_zone,
    )


@cache
def calendars() -> Calendars:
    """The calendars of the home that the environment names, made when they are first asked for."""
    return calendars_of(home_folder(), months_ahead())


with warnings.catch_warnings():
    # the parameter is in beta: without it the first month could have no month before it
    warnings.simplefilter("ignore", dg.BetaWarning)
    month_before = dg.TimeWindowPartitionMapping(
        start_offset=-1, end_offset=-1, allow_nonexistent_upstream_partitions=True
    )
