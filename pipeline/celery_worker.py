"""A worker of the cluster: takes steps of runs from RabbitMQ and executes them in this process, one at a time."""

import logging
import os
from contextlib import closing
from socket import gethostname
from typing import Any

import celery
import dagster as dg
from dagster._core.events import DagsterEventType
from dagster._grpc.types import ExecuteStepArgs
from dagster._serdes import serialize_value, unpack_value
from dagster_celery.config import dict_wrapper
from dagster_celery.make_app import make_app
from dagster_celery.tasks import create_task

from assets.environment import home_folder, register_url
from assets.resources import forget_loaded
from billing.register.register import Register
from billing.store.home import Home
from pipeline.celery_settings import app_arguments

_ENDED = {DagsterEventType.STEP_SUCCESS, DagsterEventType.STEP_FAILURE, DagsterEventType.STEP_SKIPPED}


class StepTask(celery.Task):  # type: ignore[misc] # Celery has no types.
    """A step of a run. Delivered twice it is executed once: the broker sends again what a lost connection leaves open.

    The second delivery waits for the first, and answers with the events that it recorded.
    """

    def __call__(self, execute_step_args_packed: dict[str, Any], executable_dict: dict[str, Any]) -> Any:
        """Execute the step, unless it has ended or nobody waits for it any more."""
        wanted = unpack_value(execute_step_args_packed, as_type=ExecuteStepArgs)
        (step,) = wanted.step_keys_to_execute or ("",)
        with (
            dg.DagsterInstance.get() as instance,
            closing(Register.open(Home(home_folder()), register_url())) as register,
            register.one_at_a_time(f"{wanted.run_id} {step}"),
        ):
            run = instance.get_run_by_id(wanted.run_id)
            if run is None or run.is_finished:
                return []
            recorded = _recorded(instance, wanted.run_id, step)
            if recorded:
                return [serialize_value(event) for event in recorded]
            # Another process may have issued since: everything is read again.
            forget_loaded()
            try:
                return super().__call__(execute_step_args_packed, executable_dict)
            finally:
                # Hold no connections to the register while idle: PostgreSQL allows 100 by default, for all processes.
                forget_loaded()


def _recorded(instance: dg.DagsterInstance, run_id: str, step: str) -> list[dg.DagsterEvent]:
    """The events of a step's last attempt, if it has ended."""
    # Look at the events that end steps first: a run has hundreds of others.
    if not any(entry.step_key == step for entry in instance.all_logs(run_id, of_type=_ENDED)):
        return []
    events = [
        entry.dagster_event
        for entry in instance.all_logs(run_id)
        if entry.dagster_event is not None and entry.dagster_event.step_key == step
    ]
    types = [event.event_type for event in events]
    first = max((place for place, kind in enumerate(types) if kind == DagsterEventType.STEP_START), default=0)
    return events[first:]


def work(name: str | None) -> int:
    """Take steps until told to stop (SIGTERM: after the step at work); returns the exit status."""
    with dg.DagsterInstance.get() as instance:
        arguments = app_arguments(instance)
    app = make_app({**arguments, "config_source": dict_wrapper(arguments["config_source"])})
    create_task(app, base=StepTask)
    # It would print every event of a step twice.
    logging.getLogger("celery.app.trace").setLevel(logging.WARNING)
    # Results of runs that ended long ago: nobody asks for them.
    app.backend.cleanup()
    worker = app.Worker(
        hostname=f"{name or f'overage-{os.getpid()}'}@{gethostname()}",
        # In this very process: a fork of one that has used Polars may hang.
        pool="solo",
        concurrency=1,
        loglevel="INFO",
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )
    worker.start()
    return int(worker.exitcode or 0)
