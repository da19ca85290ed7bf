"""The schedules: complete the month before, and issue every day what has fallen due.

Both compute their month from the tick. The as-of is the day before the tick, so that the last day's logs are in.
"""

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg

from assets.environment import home_folder
from assets.partitions import calendars
from billing.ingest.missing_deliveries import missing_deliveries
from billing.model.calendar import first_day, months_after
from billing.model.text import counted
from billing.store.home import Home
from pipeline.jobs import billing_month_job
from pipeline.months_to_run import load, months_to_run


def month_requests(month: str, as_of: date) -> Iterator[dg.RunRequest]:
    """A run for a month and, before it, for every earlier one that has to be built again, in order.

    The month before is always among them: some of its dates may fall due late.
    """
    root = home_folder()
    config = as_of_config(as_of)
    missing = missing_deliveries(Home(root), first_day(months_after(month, -1)), as_of)
    if missing:
        # a tag stands in the list of runs, before the run has issued anything
        config["tags"]["overage/missing"] = (
            f"{counted(len(missing.days), 'day')}, {counted(len(missing.files), 'file')}"
        )
    for each in months_to_run(load(root, as_of), month):
        # in the first month that is billed there is no month before it
        if calendars().months.has_partition_key(each):
            yield dg.RunRequest(run_key=f"{each} as of {as_of}", partition_key=each, **config)


def as_of_config(as_of: date) -> dict[str, Any]:
    """What makes a run one as of a day: its configuration, and a tag that a person can look for."""
    return {
        "run_config": {"resources": {"billing_home": {"config": {"as_of": as_of.isoformat()}}}},
        "tags": {"overage/as_of": as_of.isoformat()},
    }


def as_of_day(tick: datetime, time_zone: str) -> date:
    """The day before the tick, in the billing time zone."""
    return tick.astimezone(ZoneInfo(time_zone)).date() - timedelta(days=1)


def schedules_in(time_zone: str) -> list[dg.ScheduleDefinition]:
    """The schedules complete_month and issue_daily, in the billing time zone."""

    def complete_month(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest]:
        as_of = as_of_day(context.scheduled_execution_time, time_zone)
        yield from month_requests(months_after(as_of.strftime("%Y-%m"), -1), as_of)

    def issue_daily(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest]:
        as_of = as_of_day(context.scheduled_execution_time, time_zone)
        yield from month_requests(as_of.strftime("%Y-%m"), as_of)

    return [
        dg.ScheduleDefinition(
            name="complete_month",
            job=billing_month_job,
            cron_schedule="0 6 2 * *",
            execution_timezone=time_zone,
            execution_fn=complete_month,
            description="On the 2nd: complete the month before.",
        ),
        dg.ScheduleDefinition(
            name="issue_daily",
            job=billing_month_job,
            cron_schedule="0 5 * * *",
            execution_timezone=time_zone,
            execution_fn=issue_daily,
            description="Every day: ingest, and issue what fell due until the day before; customers are billed on "
            "their date.",
        ),
    ]
