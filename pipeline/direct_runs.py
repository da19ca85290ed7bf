"""Jobs that a command executes itself: the operations that Dagster would, in the same order, and a record of each run.

Knows no Dagster: loading it, and writing its records, take longer than a small month computes. The records are replayed
into Dagster when it is there (`pipeline.replaying`).
"""

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from assets import corrections, documents, ingest, journal, mails, months, reports
from assets.declared import Checked, Made, MonthBefore, Operation
from assets.homes import PATIENCE_SECONDS
from assets.refusals import StepFailedError
from assets.resources import BillingHome
from assets.run_tags import RANGE_END, RANGE_START
from billing.month.locking import alone
from billing.register.register import Register
from billing.store.home import Home
from billing.store.working_files import EVERYTHING, Needs
from pipeline.interrupts import terminated_as_interrupted
from pipeline.job_lists import BY_COMMAND
from pipeline.run_records import RecordedRun, RecordedStep, Recorder, Told, recording
from pipeline.run_results import Evaluation, FailedStep, Result, failed_checks, found_error

_MODULES = (ingest, months, documents, corrections, reports, journal, mails)


@dataclass(frozen=True)
class _Step:
    """What an operation knows of its run."""

    name: str
    month: str
    days: Sequence[str]
    run_id: str
    tags: Mapping[str, str]
    told: list[Told] = field(default_factory=list)

    def warn(self, message: str) -> None:
        self.told.append(message)

    def at_work(self, home: Home, register: Register, needs: Needs = EVERYTHING) -> AbstractContextManager[None]:
        del needs  # Of a home in a store the command has checked out everything.
        return alone(home, register, PATIENCE_SECONDS)


def execute(
    job: str,
    resource: BillingHome,
    records: Path | None,
    *,
    partition: str | None,
    tags: Mapping[str, str],
    config: Mapping[str, Any],
) -> Result:
    """Execute a job, and record it in a folder of records.

    An operation that builds on one that failed is left out; others are executed.

    Parameters
    ----------
    config
        Run configuration as Dagster's, of which `ops` is read.
    """
    run = RecordedRun(str(uuid.uuid4()), job, partition, tags, config, time.time())
    with terminated_as_interrupted():
        if records is None:
            return _execute(run, resource, None)
        with recording(records, run) as recorder:
            return _execute(run, resource, recorder)


def _execute(run: RecordedRun, resource: BillingHome, recorder: Recorder | None) -> Result:
    result, left_out = Result(), set[str]()
    for operation, after in operations_of(run.job):
        if after & left_out:
            left_out.add(operation.name)
            continue
        step = _Step(operation.name, run.partition or "", _days(run.tags), run.run_id, run.tags)
        started, before = time.time(), len(result.evaluations)
        words, error = None, None
        given = run.config.get("ops", {}).get(operation.name, {}).get("config", {})
        is_interrupted = False
        try:
            for each in _work(operation, step, given, resource):
                step.told.append(each)
                if isinstance(each, Checked):
                    result.evaluations.append(_evaluation(operation, each))
        except StepFailedError as failure:
            words, error = str(failure), found_error(failure)
        # Catch whatever is raised, as Dagster does: a native library panics with a BaseException.
        except BaseException as raised:
            error, is_interrupted = found_error(raised), isinstance(raised, KeyboardInterrupt)
        if recorder is not None:
            recorder.step(RecordedStep(operation.name, started, time.time(), tuple(step.told), words, error))
        if error is not None:
            result.failures.append(FailedStep(operation.name, words, error))
        if error is not None or any(each.blocking for each in failed_checks(result.evaluations[before:])):
            result.success = False
            left_out.add(operation.name)
        if is_interrupted:
            break
    return result


def _work(
    operation: Operation, step: _Step, config: Mapping[str, Any], resource: BillingHome
) -> Iterator[Made | Checked]:
    given = () if operation.config is None else (operation.config(**config),)
    return operation.work(step, *given, resource)


def _evaluation(operation: Operation, checked: Checked) -> Evaluation:
    check = operation.check_of(checked)
    return Evaluation(
        check.asset,
        check.name,
        passed=checked.passed,
        is_warning=checked.severity == checked.severity.WARN,
        blocking=check.blocking,
        metadata=checked.metadata,
    )


@cache
def operations_of(job: str) -> Sequence[tuple[Operation, frozenset[str]]]:
    """The operations of a job in Dagster's order, each with the names of those that it builds on."""
    made_by = {each.name: operation for operation in _operations() for each in operation.assets}
    chosen = {made_by[name].name: made_by[name] for name in BY_COMMAND[job]}
    after = {
        name: frozenset(
            made_by[dep].name
            for each in operation.assets
            for dep in each.deps
            if not isinstance(dep, MonthBefore) and dep in made_by and made_by[dep].name in chosen
        )
        - {name}
        for name, operation in chosen.items()
    }

    @cache
    def level(name: str) -> int:
        return 1 + max(map(level, after[name]), default=0)

    return tuple((chosen[name], after[name]) for name in sorted(chosen, key=lambda name: (level(name), name)))


def _operations() -> list[Operation]:
    return [each for module in _MODULES for each in vars(module).values() if isinstance(each, Operation)]


def _days(tags: Mapping[str, str]) -> list[str]:
    """The delivery days of a run that has a range of them."""
    if RANGE_START not in tags:
        return []
    first, last = (date.fromisoformat(tags[name]) for name in (RANGE_START, RANGE_END))
    return [(first + timedelta(days)).isoformat() for days in range((last - first).days + 1)]
