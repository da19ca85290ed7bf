"""Step executors: the only place that makes them. Each one leads its run: see `assets.heads`."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final, cast

import dagster as dg
from dagster._core.execution.context.system import PlanOrchestrationContext
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._core.execution.retries import RetryMode

from assets.environment import accounts_per_shard, home_folder, local_home, register_url
from assets.heads import failures_for_dagster, leading
from billing.register.register import Register
from billing.store.home import Home
from pipeline.executor_choice import CLUSTER, ExecutorName, chosen_executor
from pipeline.replay_process import replay_recorded
from pipeline.settings import instance_folder

_SECONDS_BETWEEN_LOOKS: Final = 2
_SECONDS_OF_REPLAY: Final = 3_600
# Of one process that has imported everything, and of the largest shard measured (docs/performance.md), with a margin.
_BASE_MIB: Final = 512
_KIB_PER_ACCOUNT: Final = 4
_SHARD_STEPS: Final = ("bill_shard",)


def executor() -> dg.ExecutorDefinition:
    """The executor that $OVERAGE_EXECUTOR names.

    Raises
    ------
    RefusedError
        As `chosen_executor`.
    """
    chosen = chosen_executor()
    if chosen == ExecutorName.IN_PROCESS:
        return _led(dg.in_process_executor)
    if chosen == ExecutorName.MULTIPROCESS:
        # Months never overlap, and the steps of a month mostly run in sequence: two processes are enough.
        return _led(dg.multiprocess_executor.configured({"max_concurrent": 2}))
    if chosen == ExecutorName.CELERY:
        return _led(_celery_executor())
    return _led(_k8s_executor())


def lost_steps_are_retried() -> dg.RetryPolicy | None:
    """How often a step whose process is lost is tried again: a step's own errors never are (`assets.heads`).

    On Kubernetes pods are lost, and Dagster has to start another one; RabbitMQ delivers a lost step again by itself.
    """
    return dg.RetryPolicy(max_retries=3, delay=10) if chosen_executor() == ExecutorName.K8S else None


def memory_request(accounts: int) -> str:
    """Memory to ask Kubernetes for, for a step that bills so many accounts: whole steps of 256 MiB."""
    needed = _BASE_MIB + accounts * _KIB_PER_ACCOUNT // 1024
    return f"{-(-needed // 256) * 256}Mi"


def _celery_executor() -> dg.ExecutorDefinition:
    # Part of the extra `cluster`.
    from dagster_celery.executor import CeleryExecutor

    from pipeline.celery_settings import app_arguments

    @dg.executor(name="celery", requirements=dg.multiple_process_executor_requirements())
    def celery(context: dg.InitExecutorContext) -> Any:
        arguments = app_arguments(context.instance)
        return CeleryExecutor(retries=RetryMode.DISABLED, **arguments)

    return celery


def _k8s_executor() -> dg.ExecutorDefinition:
    # As above.
    from dagster_k8s import k8s_job_executor

    def for_shards() -> dict[str, Any]:
        return {"container_config": {"resources": {"requests": {"memory": memory_request(accounts_per_shard())}}}}

    return k8s_job_executor.configured(
        {
            # A lost pod is noticed by Dagster, which starts another (`lost_steps_are_retried`).
            "retries": {"enabled": {}},
            "step_k8s_config": {"job_spec_config": {"backoff_limit": 0}},
            "per_step_k8s_config": {step: for_shards() for step in _SHARD_STEPS},
        }
    )


def _led(inner: dg.ExecutorDefinition) -> dg.ExecutorDefinition:
    """An executor whose process holds the lock of the home and of the register for the whole run."""

    def make(context: dg.InitExecutorContext) -> dg.Executor:
        # Every executor above has one.
        create = cast("Callable[[dg.InitExecutorContext], dg.Executor]", inner.executor_creation_fn)
        return _Leading(create(context))

    return dg.ExecutorDefinition(
        name=inner.name,
        config_schema=inner.config_schema,  # type: ignore[arg-type] # Dagster copies it the same way
        requirements=inner._requirements_fn,
        executor_creation_fn=make,
        description=inner.description,
    )


class _Leading(dg.Executor):
    """Executes by another executor, under the lock of the run."""

    def __init__(self, inner: dg.Executor) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        """What the other executor has of its own: its steps ask for it."""
        return getattr(self._inner, name)

    @property
    def retries(self) -> RetryMode:
        """As the other executor."""
        return self._inner.retries

    def execute(self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan) -> Iterator[Any]:
        """Execute the plan as the head of the run."""
        run, instance = plan_context.dagster_run, plan_context.instance
        root = _folder(run)
        if not root.is_dir():
            # The first step says what is expected there.
            yield from self._inner.execute(plan_context, execution_plan)
            return
        home = Home(root)
        with failures_for_dagster():
            register = Register.open(home, register_url())
            try:
                canceled = _stopped_when_canceled(instance, run) if chosen_executor() in CLUSTER else nullcontext()
                with leading(instance, run, home, register), canceled:
                    # Before this run's own events: those of commands before it are older.
                    replay_recorded(home, instance_folder(home), _SECONDS_OF_REPLAY)
                    yield from self._inner.execute(plan_context, execution_plan)
            finally:
                register.close()


def _folder(run: dg.DagsterRun) -> Path:
    config: Any = run.run_config
    folder = config.get("resources", {}).get("billing_home", {}).get("config", {}).get("folder")
    return local_home(folder) if isinstance(folder, str) and folder else home_folder()


@contextmanager
def _stopped_when_canceled(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Iterator[None]:
    """Interrupt this process when the run is canceled in the records, by whatever machine."""
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(_SECONDS_BETWEEN_LOOKS):
            found = instance.get_run_by_id(run.run_id)
            if found is not None and found.status == dg.DagsterRunStatus.CANCELING:
                os.kill(os.getpid(), signal.SIGINT)
                return

    thread = threading.Thread(target=look, daemon=True, name="canceled")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
