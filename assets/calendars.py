"""The reach of the calendars: delivery days and billing months that runs may be for.

Keys start at the catalogue's `billing_start` and, by a large `end_offset`, reach far into the future: the open month
and the as-of day need months that have not begun. Calendars do not decide whether a month may be billed.
In the UI, future months would look missing: with $OVERAGE_MONTHS_AHEAD the keys end that many months after the open
one, and days start at the first delivery. Delivered days and built months are always included.
"""

import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

from billing.ingest.landing import delivery_days as landed_days
from billing.model.calendar import months_after
from billing.store.home import Home

FUTURE_MONTHS = 120
FUTURE_DAYS = 400
# Include days before the first billed month: deliveries may precede it, as gauge levels carry over.
DAYS_BEFORE_START = 366


def _names_of(folder: Path, prefix: str = "") -> list[str]:
    """Names of folders such as 2026-01 or 2026-01-31, without their prefix, sorted."""
    if not folder.is_dir():
        return []
    names = (entry.name.removeprefix(prefix) for entry in os.scandir(folder))
    return sorted(name for name in names if name.replace("-", "").isdecimal())


def calendar_reach(home: Path, start: date, today: date, ahead: int | None) -> tuple[date, int, int]:
    """First delivery day, and how many months and days the calendars extend beyond today."""
    if ahead is None:
        return start - timedelta(days=DAYS_BEFORE_START), FUTURE_MONTHS, FUTURE_DAYS
    built = _names_of(home / "lake" / "fingerprints", "billing_month=")
    delivered = [day.isoformat() for day in landed_days(Home(home))]
    day = f"{today:%Y-%m-%d}"
    last, first = max([*delivered, day]), min([*delivered, f"{start:%Y-%m-%d}"])
    months = _months(max([*built, last[:7]])) - _months(day)
    days = (date.fromisoformat(last) - today).days
    # Add 1 for today and for the open month, which Dagster leaves out by default.
    return date.fromisoformat(first), months + 1 + ahead, days + 1


def _months(key: str) -> int:
    return int(key[:4]) * 12 + int(key[5:7])


class Reach(NamedTuple):
    """First and last month (YYYY-MM) and delivery day of a home's calendars; months may end before they begin."""

    first_month: str
    last_month: str
    first_day: date
    last_day: date


def reach_of(home: Path, start: date, time_zone: str, ahead: int | None) -> Reach:
    """The months and days that Dagster's partitions of a home have (`assets.partitions`), without Dagster.

    Parameters
    ----------
    start, time_zone
        Of the catalogue, as `billing_calendar` returns them.
    ahead
        Number of future months after the open one; None means all.
    """
    start = start.replace(day=1)
    first_day, months, days = calendar_reach(home, start, datetime.now(ZoneInfo(time_zone)).date(), ahead)
    # Dagster's calendars are of UTC, and leave out the period that has not ended.
    now = datetime.now(UTC)
    last_month = months_after(f"{now:%Y-%m}", months - 1)
    return Reach(f"{start:%Y-%m}", last_month, first_day, now.date() + timedelta(days=days - 1))
