"""Runs on a cluster from a command: submitted to Dagster's queue, and followed until they end.

The run belongs to the cluster: a command whose terminal is closed leaves it at work. Ctrl-C cancels it, as it stops a
run on one machine: the steps at work end, and no other begins.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import dagster as dg
from dagster._core.definitions.reconstruct import ReconstructableRepository
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteRepositoryOrigin
from dagster._core.run_coordinator import SubmitRunContext
from dagster._core.storage.tags import AUTO_RETRY_RUN_ID_TAG, PARTITION_NAME_TAG, WILL_RETRY_TAG

from assets.environment import code_image, code_location, container_context
from assets.heads import DOING, DONE, FOLLOWED, TOTAL
from assets.progress import report
from billing.model.errors import InterruptedRunError
from pipeline.run_state import Say

_SECONDS_BETWEEN_LOOKS: Final = 0.5
_SECONDS_UNTIL_TOLD: Final = 60
_REPOSITORY: Final = "__repository__"
_MODULE: Final = "pipeline.definitions"
_WAITING: Final = (dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.QUEUED)
_ENDS: Final = {
    dg.DagsterEventType.RUN_SUCCESS,
    dg.DagsterEventType.RUN_FAILURE,
    dg.DagsterEventType.RUN_CANCELED,
}


@dataclass
class Followed:
    """What the records say of a run that ended."""

    success: bool
    all_events: list[dg.DagsterEvent] = field(default_factory=list)

    def get_asset_check_evaluations(self) -> list[dg.AssetCheckEvaluation]:
        """The results of its checks."""
        return [
            event.asset_check_evaluation_data
            for event in self.all_events
            if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION
        ]


def submit(
    instance: dg.DagsterInstance,
    job: dg.JobDefinition,
    config: Mapping[str, Any],
    partition: str | None,
    tags: Mapping[str, str],
) -> str:
    """Put a run of a job into Dagster's queue; returns its id."""
    location = RegisteredCodeLocationOrigin(code_location())
    repository = ReconstructableRepository.for_module(
        _MODULE, "defs", container_image=code_image(), container_context=container_context() or None
    )
    run = instance.create_run_for_job(
        job,
        run_config=config,
        tags={**job.run_tags, **tags, FOLLOWED: "true", **({PARTITION_NAME_TAG: partition} if partition else {})},
        remote_job_origin=RemoteRepositoryOrigin(location, _REPOSITORY).get_job_origin(job.name),
        job_code_origin=repository.get_reconstructable_job(job.name).get_python_origin(),
    )
    unused: Any = None
    # The queue needs no workspace: the daemon that takes the run from it has one.
    return instance.run_coordinator.submit_run(SubmitRunContext(run, workspace=unused)).run_id


def follow(instance: dg.DagsterInstance, run_id: str, say: Say) -> Followed:
    """Show the progress of a run, and of the one that Dagster begins again when its head is lost.

    Raises
    ------
    KeyboardInterrupt
        After Ctrl-C, once the run has ended.
    """
    with _canceled_by_keyboard(instance, run_id, say):
        run, events = _to_its_end(instance, run_id, say)
    again = _begun_again(instance, run)
    if again is not None:
        say(f"run {run_id} was lost with the machine that led it: Dagster has begun it again as {again}")
        return follow(instance, again, say)
    if run.status == dg.DagsterRunStatus.CANCELED:
        raise InterruptedRunError(f"run {run_id} was canceled; completed steps are kept")
    return Followed(run.status == dg.DagsterRunStatus.SUCCESS, events)


def _to_its_end(instance: dg.DagsterInstance, run_id: str, say: Say) -> tuple[dg.DagsterRun, list[dg.DagsterEvent]]:
    events: list[dg.DagsterEvent] = []
    cursor: str | None = None
    told, begun = False, time.monotonic()
    while True:
        # First the status: what is recorded before the end is read after it.
        run = _run(instance, run_id)
        while True:
            found = instance.get_records_for_run(run_id, cursor=cursor)
            entries = [record.event_log_entry for record in found.records]
            events += [entry.dagster_event for entry in entries if entry.dagster_event is not None]
            _report([entry.dagster_event for entry in entries if entry.dagster_event is not None])
            cursor = found.cursor
            if not found.has_more:
                break
        if run.is_finished:
            return run, events
        if run.status in _WAITING and not told and time.monotonic() - begun > _SECONDS_UNTIL_TOLD:
            told = True
            say(
                f"run {run_id} waits in Dagster's queue: for another run on this home, or for the daemon "
                "(dagster-daemon), if that is not at work"
            )
        time.sleep(_SECONDS_BETWEEN_LOOKS)


def _run(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRun:
    run = instance.get_run_by_id(run_id)
    if run is None:
        raise InterruptedRunError(f"run {run_id} is in Dagster's records no more: it was deleted while it was followed")
    return run


def _report(events: list[dg.DagsterEvent]) -> None:
    """Tell the command's progress display what steps elsewhere report."""
    for event in events:
        if event.event_type == dg.DagsterEventType.ENGINE_EVENT:
            told = {name: value.value for name, value in event.engine_event_data.metadata.items()}
            if {DOING, DONE, TOTAL} <= told.keys():
                report(str(told[DOING]), int(str(told[DONE])), int(str(told[TOTAL])))


def _begun_again(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str | None:
    """The run by which Dagster's daemon replaces a lost one, if it does."""
    deadline = time.monotonic() + _SECONDS_UNTIL_TOLD
    while run.status == dg.DagsterRunStatus.FAILURE and instance.run_retries_enabled:
        if AUTO_RETRY_RUN_ID_TAG in run.tags:
            return run.tags[AUTO_RETRY_RUN_ID_TAG]
        # Dagster decides right after it has recorded the failure.
        will = run.tags.get(WILL_RETRY_TAG)
        if will == "false" or (will is None and time.monotonic() > deadline):
            return None
        time.sleep(_SECONDS_BETWEEN_LOOKS)
        run = _run(instance, run.run_id)
    return None


@contextmanager
def _canceled_by_keyboard(instance: dg.DagsterInstance, run_id: str, say: Say) -> Iterator[None]:
    """Cancel the run on Ctrl-C, and wait for its end; a second Ctrl-C does not wait."""
    try:
        yield
    except KeyboardInterrupt:
        say(f"run {run_id} is canceled: waiting for the steps at work to end (Ctrl-C again: do not wait)")
        run = _run(instance, run_id)
        # Cancel once: a second request could be recorded after the run's end.
        if not run.is_finished and run.status != dg.DagsterRunStatus.CANCELING:
            # Its head sees that in the records: it may be on another machine.
            instance.report_run_canceling(run)
            if run.status in _WAITING:
                instance.report_run_canceled(run)
        while not _has_ended(instance, run_id):
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        raise


def _has_ended(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Whether the end of a run is recorded; the request to cancel it may have been recorded later, as its status."""
    return _run(instance, run_id).is_finished or bool(instance.all_logs(run_id, of_type=_ENDS))
