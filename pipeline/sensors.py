"""Dagster sensors: detect deliveries, roll corrections forward, and send notices about runs."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path

import dagster as dg

from assets.clock import today
from assets.environment import home_folder, variables
from assets.homes import checked_out_home
from assets.partitions import calendars
from billing.ingest.landing import delivered_files
from billing.ingest.state import stamp as stamp_of_delivery
from billing.model.errors import RefusedError
from billing.month.business import Business
from billing.month.recorded_inputs.months import built_months, month_inputs, moved_inputs
from billing.month.steps import billed_months
from billing.store.home import Home
from billing.store.working_files import NOTHING
from pipeline.job_lists import SERIAL
from pipeline.jobs import billing_month_job, correct_job, ingest_job, issue_job, profiles_job
from pipeline.months_to_run import loaded
from pipeline.notices import failure_notice, is_configured, ready_notice, send
from pipeline.replay_process import replay_recorded
from pipeline.run_state import is_command_at_work
from pipeline.schedules import as_of_config

# Ingest as one range if a tick finds more ranges of days than this.
_MOST_RANGES = 12
# Dagster gives a tick a minute.
_SECONDS_OF_REPLAY = 40
_IN_PROGRESS = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
]


@dg.sensor(
    name="new_deliveries",
    job=ingest_job,
    minimum_interval_seconds=60,
    description="Detect new or replaced delivered files, and ingest their days.",
)
def new_deliveries(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """Compare the file system metadata of all delivered files with the cursor; reads no file."""
    try:
        # The inputs are enough.
        root = checked_out_home(NOTHING)
        day = today(root)
    except RefusedError as error:
        return dg.SkipReason(f"the catalogue cannot be read: {error}")
    before: dict[str, str] = json.loads(context.cursor or "{}")
    now = _fingerprints_by_day(root, day)
    moved = sorted(date.fromisoformat(each) for each, stamp in now.items() if before.get(each) != stamp)
    known = [each for each in moved if calendars().days.has_partition_key(each.isoformat())]
    cursor = json.dumps(now, separators=(",", ":"))
    if not known:
        return dg.SensorResult(skip_reason="nothing new was delivered", cursor=cursor)
    key = hashlib.sha256(cursor.encode()).hexdigest()[:16]
    requests = [
        dg.RunRequest(
            run_key=f"{first} to {last} {key}",
            tags={
                "dagster/asset_partition_range_start": first.isoformat(),
                "dagster/asset_partition_range_end": last.isoformat(),
            },
        )
        for first, last in _ranges(known)
    ]
    return dg.SensorResult(run_requests=requests, cursor=cursor)


def _fingerprints_by_day(root: Path, through: date) -> Mapping[str, str]:
    """By delivery day: a short hash of the name, size and modification time of its files."""
    lines: dict[str, list[str]] = {}
    for file in delivered_files(Home(root), through).files:
        try:
            found = stamp_of_delivery(file)
        except OSError:
            # It vanished just now: that changes nothing (rule 22).
            continue
        stamp = f"{file.name} {found[0]} {found[1]}"
        lines.setdefault(file.day.isoformat(), []).append(stamp)
    return {day: hashlib.sha256("\n".join(each).encode()).hexdigest()[:12] for day, each in sorted(lines.items())}


def _ranges(days: list[date]) -> list[tuple[date, date]]:
    """First and last day of every run of consecutive days."""
    breaks = [(one, other) for one, other in pairwise(days) if other - one > timedelta(days=1)]
    if len(breaks) >= _MOST_RANGES:
        return [(days[0], days[-1])]
    firsts, lasts = [days[0], *(other for _, other in breaks)], [*(one for one, _ in breaks), days[-1]]
    return list(zip(firsts, lasts, strict=True))


@dg.sensor(
    name="roll_forward",
    job=billing_month_job,
    minimum_interval_seconds=120,
    description="Rebuild stale months, in order, up to the latest.",
)
def roll_forward(context: dg.SensorEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """Request a run for every stale month; months that become stale by it follow at the next tick."""
    at_work = dg.RunsFilter(statuses=_IN_PROGRESS, tags=SERIAL)
    if context.instance.get_runs_count(at_work):
        yield dg.SkipReason("other runs are at work")
        return
    try:
        root = checked_out_home()
        as_of = today(root) - timedelta(days=1)
    except RefusedError as error:
        yield dg.SkipReason(f"the catalogue cannot be read: {error}")
        return
    if is_command_at_work(Home(root)):
        yield dg.SkipReason("a command is at work")
        return
    with loaded(root, as_of) as business:
        moved = None if business is None else _moved_months(business)
    if moved is None:
        yield dg.SkipReason("there is no business to bill, or its inputs are refused: see `overage check`")
        return
    if not moved:
        yield dg.SkipReason("every month is built from what there is")
    for month, built_from in moved.items():
        yield dg.RunRequest(
            run_key=f"{month} from {hashlib.sha256(built_from.encode()).hexdigest()[:16]}",
            partition_key=month,
            **as_of_config(as_of),
        )


def _moved_months(business: Business) -> dict[str, str]:
    """The stale months, and what each would be built from."""
    built = set(built_months(business))
    # A new day alone makes no month stale: the open month belongs to the daily schedule.
    return {
        each: json.dumps(month_inputs(business, each), sort_keys=True)
        for each in billed_months(business, max(built, default=""))
        if each in built and set(moved_inputs(business, each)) - {"as of"}
    }


@dg.sensor(
    name="recorded_runs",
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Write the runs of commands, which work without Dagster, into Dagster's records.",
)
def recorded_runs(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Replay what is recorded, in a process of its own."""
    try:
        home = Home(home_folder())
    except RefusedError as error:
        return dg.SkipReason(f"the home cannot be used: {error}")
    is_done = replay_recorded(home, Path(context.instance.root_directory), _SECONDS_OF_REPLAY)
    return dg.SkipReason("every run that has ended is recorded" if is_done else "runs are being recorded")


_TOLD = [billing_month_job, ingest_job, issue_job, correct_job, profiles_job]


@dg.run_failure_sensor(
    name="run_failed",
    monitored_jobs=_TOLD,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Send a notice of a failed run, by mail and web hook, if configured.",
)
def run_failed(context: dg.RunFailureSensorContext) -> dg.SkipReason | None:
    """Send a notice of a failed run, unless Dagster retries it."""
    if not is_configured(variables()):
        return dg.SkipReason("no mail and no web hook is configured")
    if context.dagster_run.tags.get("dagster/will_retry") == "true":
        return dg.SkipReason("it is run again")
    send(failure_notice(context.dagster_run, context.instance), context.instance, variables(), context.log.warning)
    return None


@dg.run_status_sensor(
    run_status=dg.DagsterRunStatus.SUCCESS,
    name="month_is_ready",
    monitored_jobs=[billing_month_job, issue_job],
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Send a notice that a month is complete, or its drafts ready to review, if configured.",
)
def month_is_ready(context: dg.RunStatusSensorContext) -> dg.SkipReason | None:
    """Send a notice when a month is fully issued, or drafted if somebody reviews first."""
    if not is_configured(variables()):
        return dg.SkipReason("no mail and no web hook is configured")
    root, month = checked_out_home(), context.dagster_run.tags.get("dagster/partition")
    notice = None
    if month is not None:
        with loaded(root, date.max) as business:
            notice = ready_notice(context.dagster_run, business, month) if business is not None else None
    if notice is None:
        return dg.SkipReason("the month is not complete")
    send(notice, context.instance, variables(), context.log.warning)
    return None
