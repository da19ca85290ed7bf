"""Runs that commands have executed by themselves, put into Dagster's records: so they are on its pages as any other.

Dagster executes the job again with operations that only tell what was recorded: so it writes the events that it would
have written then, at the recorded times. Each run has the id that its command gave it, and its record is removed once
the run is stored: it is there once, whenever this is interrupted.
"""

import fcntl
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NoReturn

import dagster as dg
import dagster._time as dagster_time
from dagster._core.storage.event_log import SqlEventLogStorage
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable
from dagster._core.storage.runs import SqlRunStorage
from dagster._core.storage.runs.schema import RunsTable
from dagster_shared import seven

from assets.dagster_graph import Events, executed_instead, to_event
from assets.declared import Operation
from assets.environment import home_folder, register_url
from assets.run_tags import BY_COMMAND_LINE, HIDDEN
from billing.model.errors import InterruptedRunError, RefusedError
from billing.month.locking import alone
from billing.register.register import Register
from billing.store.home import Home
from pipeline.definitions import defs
from pipeline.instance import use_instance_of
from pipeline.run_records import FOLDER, RecordedRun, records_in, taken
from pipeline.run_results import INTERRUPTED, ErrorFound
from pipeline.sqlite_storage import open_instance

KILLED: Final = "The command that made this run was killed; the next one completed its work."
_STORED: Final = f"{HIDDEN}overage/stored"
"""Tag, on no page, of a run whose events are all there."""
_ASIDE: Final = ".refused"


def main() -> None:
    """Replay what is recorded of the home that the environment names: a process of its own, as a command was."""
    home = Home(home_folder())
    with open_instance(use_instance_of(home, lambda _: None)) as instance:
        _end_killed_runs_of(home, instance)
        replay_into(instance, Path(instance.root_directory))


def replay_into(instance: dg.DagsterInstance, folder: Path) -> None:
    """Replay the runs that are recorded in the folder of an instance, the oldest first; not those still at work."""
    records = folder / FOLDER
    if not records_in(records):
        return
    with _alone_in(records) as is_alone:
        for path in records_in(records) if is_alone else ():
            with taken(path) as run:
                if run is None:
                    continue
                try:
                    _store(instance, run)
                except dg.DagsterError as error:
                    # Another one would fail in the same way, and those after it need not.
                    sys.stderr.write(f"{path}: this run cannot be shown in Dagster: {error}\n")
                    path.rename(path.with_suffix(_ASIDE))
                else:
                    path.unlink()


def end_killed_runs(instance: dg.DagsterInstance) -> None:
    """Mark runs of killed commands as failed in Dagster's records.

    Safe under the home's lock: no other command is running. Otherwise such runs would look alive forever and block the
    schedules.
    """
    for run in instance.get_runs(unfinished_runs_of_commands()):
        instance.report_run_failed(run, KILLED)


def unfinished_runs_of_commands() -> dg.RunsFilter:
    """Runs in Dagster's records that a command has begun and not ended."""
    return dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED], tags=BY_COMMAND_LINE)


def _end_killed_runs_of(home: Home, instance: dg.DagsterInstance) -> None:
    if not instance.get_runs_count(unfinished_runs_of_commands()):
        return
    try:
        with closing(Register.open(home, register_url())) as register, alone(home, register):
            end_killed_runs(instance)
    except (RefusedError, InterruptedRunError):
        # Some run is at work, or nothing can be: the next look finds them.
        return


@contextmanager
def _alone_in(folder: Path) -> Iterator[bool]:
    """Whether no other process replays the same records."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(handle)


def _store(instance: dg.DagsterInstance, run: RecordedRun) -> None:
    """Write a run into Dagster's records, unless it is there; a part of it is removed first."""
    found = instance.get_run_by_id(run.run_id)
    if found is not None and _STORED in found.tags:
        return
    if found is not None:
        _remove(instance, run.run_id)
    clock = _Clock(run.started)
    with _times_of(clock), executed_instead(_Replay(run, clock)):
        defs.resolve_job_def(run.job).execute_in_process(
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}, **run.config},
            instance=instance,
            partition_key=run.partition,
            tags=dict(run.tags),
            raise_on_error=False,
            run_id=run.run_id,
        )
    # Looking at them writes the events that wait for others.
    instance.event_log_storage.get_logs_for_run(run.run_id, limit=1)
    instance.add_run_tags(run.run_id, {_STORED: "true"})
    _show_as_changed_now(instance, run.run_id)


def _remove(instance: dg.DagsterInstance, run_id: str) -> None:
    """Remove a part of a run, with the results of its checks, which Dagster leaves."""
    instance.delete_run(run_id)
    events = instance.event_log_storage
    if isinstance(events, SqlEventLogStorage):
        with events.index_connection() as connection:
            table = AssetCheckExecutionsTable
            connection.execute(table.delete().where(table.c.run_id == run_id))


def _show_as_changed_now(instance: dg.DagsterInstance, run_id: str) -> None:
    """Let sensors notice the run: in SQLite they look at runs that changed since they looked last."""
    storage = instance.run_storage
    if isinstance(storage, SqlRunStorage):
        now = datetime.now(UTC).replace(tzinfo=None)
        with storage.connect() as connection:
            connection.execute(RunsTable.update().where(RunsTable.c.run_id == run_id).values(update_timestamp=now))


class _Clock:
    """Tells Dagster the time at which something was recorded."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def as_datetime(self) -> datetime:
        return datetime.fromtimestamp(self.now, UTC)


@contextmanager
def _times_of(clock: _Clock) -> Iterator[None]:
    """Let Dagster's events have the times of a clock: what it writes them with reads the time at these places."""
    factory = logging.getLogRecordFactory()

    def made(*arguments: Any, **options: Any) -> logging.LogRecord:
        record = factory(*arguments, **options)
        record.created = clock.now
        return record

    kept = (dagster_time._mockable_get_current_datetime, dagster_time._mockable_get_current_timestamp, seven.time_fn)
    logging.setLogRecordFactory(made)
    dagster_time._mockable_get_current_datetime = clock.as_datetime
    dagster_time._mockable_get_current_timestamp = clock
    seven.time_fn = clock
    try:
        yield
    finally:
        logging.setLogRecordFactory(factory)
        dagster_time._mockable_get_current_datetime, dagster_time._mockable_get_current_timestamp = kept[:2]
        seven.time_fn = kept[2]


class _Replay:
    """Yields for each operation what is recorded of it."""

    def __init__(self, run: RecordedRun, clock: _Clock) -> None:
        self._run = run
        self._clock = clock

    def __call__(self, operation: Operation, context: dg.AssetExecutionContext) -> Events:
        step = self._run.steps.get(operation.name)
        if step is None:
            if self._run.ended is None:
                raise dg.DagsterExecutionInterruptedError(KILLED)
            raise dg.Failure("The record of this run does not have this step.", allow_retries=False)
        self._clock.now = max(self._clock.now, step.started)
        for each in step.told:
            if isinstance(each, str):
                context.log.warning(each)
            else:
                yield to_event(each)
        self._clock.now = max(self._clock.now, step.ended)
        if step.error is not None:
            _raise(step.words, step.error)


def _raise(words: str | None, error: ErrorFound) -> NoReturn:
    if words is not None:
        raise dg.Failure(words, allow_retries=False) from _cause_of(error)
    if error.name == INTERRUPTED:
        raise dg.DagsterExecutionInterruptedError
    raise _exception(error)


def _exception(error: ErrorFound) -> Exception:
    """An exception that Dagster shows as it would have shown the one that is recorded."""
    place, _, words = error.message.strip().partition(": ")
    module = place.removesuffix(error.name).removesuffix(".")
    made: type[Exception] = type(error.name, (Exception,), {"__module__": module or "builtins"})
    found = made(words) if words else made()
    found.__cause__ = _cause_of(error)
    return found


def _cause_of(error: ErrorFound) -> Exception | None:
    return None if error.cause is None else _exception(error.cause)


if __name__ == "__main__":
    main()
