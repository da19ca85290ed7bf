"""Dagster schedules: complete the previous month, issue daily what is due, and remind of what is overdue.

The month follows from the tick. The as-of day is the day before the tick, so that the last day's logs are included.
"""

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg

from assets.homes import checked_out_home
from assets.partitions import calendars
from billing.ingest.missing_deliveries import missing_deliveries
from billing.model.calendar import first_day, months_after
from billing.model.text import counted
from billing.store.home import Home
from pipeline.jobs import billing_month_job, reminders_job
from pipeline.months_to_run import loaded, months_to_run


def month_requests(month: str, as_of: date) -> Iterator[dg.RunRequest]:
    """Run requests for a month and every earlier stale month, in order.

    Always includes the previous month: some of its dates may fall due late.
    """
    root = checked_out_home()
    config = as_of_config(as_of)
    missing = missing_deliveries(Home(root), first_day(months_after(month, -1)), as_of)
    if missing:
        # Tag the run, so that the list of runs shows it before anything is issued.
        config["tags"]["overage/missing"] = (
            f"{counted(len(missing.days), 'day')}, {counted(len(missing.files), 'file')}"
        )
    with loaded(root, as_of) as business:
        months = months_to_run(business, month)
    for each in months:
        # The first billed month has no previous partition.
        if calendars().months.has_partition_key(each):
            yield dg.RunRequest(run_key=f"{each} as of {as_of}", partition_key=each, **config)


def as_of_config(as_of: date) -> dict[str, Any]:
    """Run configuration for an as-of day, and a tag to search for."""
    return {
        "run_config": {"resources": {"billing_home": {"config": {"as_of": as_of.isoformat()}}}},
        "tags": {"overage/as_of": as_of.isoformat()},
    }


def as_of_day(tick: datetime, time_zone: str) -> date:
    """The day before the tick, in the billing time zone."""
    return tick.astimezone(ZoneInfo(time_zone)).date() - timedelta(days=1)


def schedules_in(time_zone: str) -> list[dg.ScheduleDefinition]:
    """The schedules complete_month, issue_daily and remind_daily, in the billing time zone."""

    def complete_month(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest]:
        as_of = as_of_day(context.scheduled_execution_time, time_zone)
        yield from month_requests(months_after(as_of.strftime("%Y-%m"), -1), as_of)

    def issue_daily(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest]:
        as_of = as_of_day(context.scheduled_execution_time, time_zone)
        yield from month_requests(as_of.strftime("%Y-%m"), as_of)

    def remind_daily(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        as_of = as_of_day(context.scheduled_execution_time, time_zone)
        return dg.RunRequest(run_key=f"reminders as of {as_of}", **as_of_config(as_of))

    return [
        dg.ScheduleDefinition(
            name="complete_month",
            job=billing_month_job,
            cron_schedule="0 6 2 * *",
            execution_timezone=time_zone,
            execution_fn=complete_month,
            description="On the 2nd: complete the previous month.",
        ),
        dg.ScheduleDefinition(
            name="issue_daily",
            job=billing_month_job,
            cron_schedule="0 5 * * *",
            execution_timezone=time_zone,
            execution_fn=issue_daily,
            description="Every day: ingest, and issue what was due by the previous day; customers are billed on "
            "their date.",
        ),
        dg.ScheduleDefinition(
            name="remind_daily",
            job=reminders_job,
            cron_schedule="0 8 * * *",
            execution_timezone=time_zone,
            execution_fn=remind_daily,
            description="Every day: remind of what is overdue, by the policy's reminders; nothing without them.",
        ),
    ]
