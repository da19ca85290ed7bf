"""What Dagster says of a job that ended, as a command learns it."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import dagster as dg

from assets.dagster_graph import plain_metadata
from pipeline.run_results import ErrorFound, Evaluation, FailedStep, Result


def result_of(events: Sequence[dg.DagsterEvent], *, success: bool) -> Result:
    """The result of a run, from its events."""
    result = Result(success)
    for event in events:
        if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            result.evaluations.append(_evaluation(event.asset_check_evaluation_data))
        elif event.is_step_failure:
            data = event.step_failure_data
            told: Any = data.user_failure_data
            words = None if told is None else told.description
            result.failures.append(FailedStep(str(event.step_key), words or None, _error(data.error)))
    result.error = next(_errors_of_run(events), None)
    return result


def _errors_of_run(events: Iterable[dg.DagsterEvent]) -> Iterator[ErrorFound | None]:
    for event in events:
        is_of_run = event.event_type == dg.DagsterEventType.RUN_FAILURE
        data: Any = event.job_failure_data if is_of_run else None
        if data is not None and data.error is not None:
            yield _error(data.error)


def _evaluation(found: dg.AssetCheckEvaluation) -> Evaluation:
    return Evaluation(
        found.asset_key.to_user_string(),
        found.check_name,
        passed=found.passed,
        is_warning=found.severity == dg.AssetCheckSeverity.WARN,
        blocking=bool(found.blocking),
        metadata=plain_metadata(found.metadata),
    )


def _error(found: Any) -> ErrorFound | None:
    if found is None:
        return None
    return ErrorFound(str(found.cls_name), found.message, _error(found.cause))
