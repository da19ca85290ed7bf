"""Runs that a command submits and follows: what it shows, how it ends, and what Ctrl-C does."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count
from typing import Any
from unittest import mock

import dagster as dg
import pytest
from dagster._core.events import EngineEventData, JobFailureData, RunFailureReason
from dagster._core.storage.tags import AUTO_RETRY_RUN_ID_TAG, WILL_RETRY_TAG
from dagster._core.test_utils import instance_for_test

from assets.heads import DOING, DONE, FOLLOWED, TOTAL
from assets.progress import listening
from billing.model.errors import InterruptedRunError
from pipeline import executors
from pipeline.definitions import defs
from pipeline.following import follow, submit

CONFIG = {"resources": {"billing_home": {"config": {"as_of": "2026-01-31"}}}}
Said = list[str]


@pytest.fixture(scope="module")
def instance() -> Iterator[dg.DagsterInstance]:
    """Records without a daemon: the tests play the cluster, each for a run of its own."""
    queue = {"module": "dagster._core.run_coordinator", "class": "QueuedRunCoordinator"}
    retries = {"enabled": True, "max_retries": 1, "retry_on_asset_or_op_failure": False}
    with instance_for_test(overrides={"run_coordinator": queue, "run_retries": retries}) as instance:
        yield instance


@pytest.fixture
def run(instance: dg.DagsterInstance) -> dg.DagsterRun:
    """A run that was submitted."""
    run_id = submit(instance, defs.resolve_job_def("billing_month"), CONFIG, "2026-01", {"overage/as_of": "2026-01-31"})
    return found(instance, run_id)


def found(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRun:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run


@contextmanager
def cluster(*parts: Callable[[], Any]) -> Iterator[None]:
    """Play the cluster's part, one thing after the other, while the command follows."""

    def play() -> None:
        for part in parts:
            # not `time.sleep`: that is where Ctrl-C arrives
            threading.Event().wait(0.02)
            part()

    thread = threading.Thread(target=play)
    with mock.patch("pipeline.following._SECONDS_BETWEEN_LOOKS", 0.01):
        thread.start()
        yield
        thread.join()


@contextmanager
def keyboard(*, after: int, times: int = 1) -> Iterator[None]:
    """Press Ctrl-C while the command waits."""
    waits = count()
    wait = time.sleep

    def interrupted(seconds: float) -> None:
        if after <= next(waits) < after + times:
            raise KeyboardInterrupt
        wait(min(seconds, 0.01))

    with mock.patch("pipeline.following.time.sleep", interrupted):
        yield


def test_a_run_is_queued_for_the_daemon_with_all_that_it_needs(run: dg.DagsterRun) -> None:
    assert run.status == dg.DagsterRunStatus.QUEUED
    assert run.run_config == CONFIG
    assert run.tags["dagster/partition"] == "2026-01"
    # runs on a home are taken in turn
    assert run.tags["overage/serial"] == "home"
    assert FOLLOWED in run.tags
    assert run.remote_job_origin is not None
    assert run.remote_job_origin.location_name == "pipeline.definitions"
    assert run.job_code_origin is not None
    assert run.asset_selection is None


def test_progress_is_shown_and_the_events_are_returned(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    shown: list[tuple[str, int, int]] = []
    told = EngineEventData({DOING: "rendering 2026-01", DONE: 3, TOTAL: 7})
    check = dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey("parked"), check_name="every_account_could_be_billed", passed=False, metadata={}
    )
    evaluated = dg.DagsterEvent(
        event_type_value=dg.DagsterEventType.ASSET_CHECK_EVALUATION.value,
        job_name=run.job_name,
        event_specific_data=check,
    )
    with (
        listening(lambda *report: shown.append(report)),
        cluster(
            lambda: instance.report_engine_event("3 of 7", run, told),
            lambda: instance.report_dagster_event(evaluated, run.run_id),
            lambda: finish(instance, run, dg.DagsterEventType.RUN_SUCCESS),
        ),
    ):
        ended = follow(instance, run.run_id, print)
    assert shown == [("rendering 2026-01", 3, 7)]
    assert ended.success
    assert [each.check_name for each in ended.get_asset_check_evaluations()] == ["every_account_could_be_billed"]


def finish(
    instance: dg.DagsterInstance, run: dg.DagsterRun, how: dg.DagsterEventType, why: JobFailureData | None = None
) -> None:
    event = dg.DagsterEvent(event_type_value=how.value, job_name=run.job_name, event_specific_data=why)
    instance.report_dagster_event(event, run.run_id)


def test_a_run_that_was_lost_and_is_begun_again_is_followed_on(
    instance: dg.DagsterInstance, run: dg.DagsterRun
) -> None:
    said: Said = []
    again = found(instance, submit(instance, defs.resolve_job_def("billing_month"), CONFIG, "2026-01", {}))
    lost = dg.DagsterEvent(event_type_value=dg.DagsterEventType.RUN_FAILURE.value, job_name=run.job_name)
    with cluster(
        # the failure is recorded a moment before what follows from it
        lambda: instance.run_storage.handle_run_event(run.run_id, lost, datetime.now(UTC)),
        lambda: instance.add_run_tags(run.run_id, {WILL_RETRY_TAG: "true"}),
        lambda: instance.add_run_tags(run.run_id, {AUTO_RETRY_RUN_ID_TAG: again.run_id}),
        lambda: finish(instance, again, dg.DagsterEventType.RUN_SUCCESS),
    ):
        assert follow(instance, run.run_id, said.append).success
    assert said == [
        f"run {run.run_id} was lost with the machine that led it: Dagster has begun it again as {again.run_id}"
    ]


def test_a_run_that_failed_has_failed(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    why = JobFailureData(error=None, failure_reason=RunFailureReason.STEP_FAILURE)
    with cluster(lambda: finish(instance, run, dg.DagsterEventType.RUN_FAILURE, why)):
        assert not follow(instance, run.run_id, print).success


def test_a_run_that_somebody_else_canceled_or_deleted_interrupts_the_command(
    instance: dg.DagsterInstance, run: dg.DagsterRun
) -> None:
    with cluster(lambda: instance.report_run_canceled(run)), pytest.raises(InterruptedRunError, match="was canceled"):
        follow(instance, run.run_id, print)
    instance.delete_run(run.run_id)
    with pytest.raises(InterruptedRunError, match="in Dagster's records no more"):
        follow(instance, run.run_id, print)


def test_ctrl_c_takes_a_run_out_of_the_queue(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    said: Said = []
    with keyboard(after=2), pytest.raises(KeyboardInterrupt):
        follow(instance, run.run_id, said.append)
    assert found(instance, run.run_id).status == dg.DagsterRunStatus.CANCELED
    assert "is canceled: waiting for the steps at work to end" in said[0]


def test_ctrl_c_cancels_a_run_at_work_and_waits_for_its_end_but_the_second_one_does_not(
    instance: dg.DagsterInstance, run: dg.DagsterRun
) -> None:
    finish(instance, run, dg.DagsterEventType.RUN_START)
    with keyboard(after=2, times=2), pytest.raises(KeyboardInterrupt):
        follow(instance, run.run_id, print)
    # what its head sees
    assert found(instance, run.run_id).status == dg.DagsterRunStatus.CANCELING
    said: Said = []

    def ended_after_ctrl_c() -> None:
        while not said:
            threading.Event().wait(0.01)
        threading.Event().wait(0.2)
        instance.report_run_canceled(run)

    # a second request could overwrite the recorded end
    with (
        mock.patch.object(instance, "report_run_canceling", side_effect=AssertionError),
        cluster(ended_after_ctrl_c),
        keyboard(after=0),
        pytest.raises(KeyboardInterrupt),
    ):
        follow(instance, run.run_id, said.append)
    assert found(instance, run.run_id).status == dg.DagsterRunStatus.CANCELED


def test_a_run_that_ends_while_it_is_asked_to_is_not_waited_for(
    instance: dg.DagsterInstance, run: dg.DagsterRun
) -> None:
    finish(instance, run, dg.DagsterEventType.RUN_START)
    ask = instance.report_run_canceling

    def ended_before(asked: dg.DagsterRun) -> object:
        finish(instance, run, dg.DagsterEventType.RUN_SUCCESS)
        return ask(asked)

    with (
        mock.patch.object(instance, "report_run_canceling", ended_before),
        keyboard(after=2),
        pytest.raises(KeyboardInterrupt),
    ):
        follow(instance, run.run_id, print)


def test_the_head_of_a_run_that_is_canceled_anywhere_is_interrupted(
    instance: dg.DagsterInstance, run: dg.DagsterRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executors, "_SECONDS_BETWEEN_LOOKS", 0.01)
    finish(instance, run, dg.DagsterEventType.RUN_START)
    with pytest.raises(KeyboardInterrupt), executors._stopped_when_canceled(instance, run):
        instance.report_run_canceling(run)
        time.sleep(30)
