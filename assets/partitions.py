"""Dagster's partition definitions: delivery days and billing months, as far as `assets.calendars` has them reach."""

import warnings
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

import dagster as dg

from assets.calendars import calendar_reach
from assets.environment import home_folder, months_ahead
from assets.homes import check_out_first
from billing.inputs.catalogue_file import billing_calendar
from billing.store.home import Home


class Calendars(NamedTuple):
    """Partition definitions of the graph: billing months, delivery days, and their time zone."""

    months: dg.TimeWindowPartitionsDefinition
    days: dg.DailyPartitionsDefinition
    time_zone: str


def calendars_of(home: Path, ahead: int | None) -> Calendars:
    """Partition definitions of a home; the default policy's without a home or with a broken catalogue.

    Parameters
    ----------
    ahead
        Number of future months after the open one; None means all.
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
    """Partition definitions of the home that the environment names, created on first use and cached."""
    root = home_folder()
    check_out_first(root)
    return calendars_of(root, months_ahead())


with warnings.catch_warnings():
    # The mapping parameter is in beta; without it the first month would depend on a missing partition.
    warnings.simplefilter("ignore", dg.BetaWarning)
    month_before = dg.TimeWindowPartitionMapping(
        start_offset=-1, end_offset=-1, allow_nonexistent_upstream_partitions=True
    )
