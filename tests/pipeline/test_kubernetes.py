"""The job that Dagster creates for a step on Kubernetes, by our settings: compared, as no Kubernetes is at hand."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import dagster as dg
import pytest
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.definitions.reconstruct import ReconstructableRepository
from dagster._core.executor.step_delegating import StepHandlerContext
from dagster._core.test_utils import instance_for_test
from dagster._grpc.types import ExecuteStepArgs

from pipeline.executors import executor

IMAGE = "registry.example.com/overage:0.5.0"


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """An instance as Dagster's chart configures it, without a cluster behind."""
    (tmp_path / "dagster.yaml").write_text("run_storage: {module: dagster_postgres.run_storage}\n")
    launcher = {
        "service_account_name": "overage",
        "instance_config_map": "overage-instance",
        "postgres_password_secret": "dagster-postgresql-secret",  # the name of a secret, and none itself
        "dagster_home": "/opt/dagster/dagster_home",
        "job_namespace": "billing",
        "env_secrets": ["overage"],
        "load_incluster_config": True,
    }
    with (
        mock.patch("kubernetes.config.load_incluster_config"),
        instance_for_test(
            overrides={
                "run_launcher": {"module": "dagster_k8s.launcher", "class": "K8sRunLauncher", "config": launcher}
            }
        ) as made,
    ):
        monkeypatch.setenv("OVERAGE_EXECUTOR", "k8s")
        monkeypatch.setenv("OVERAGE_REGISTER_URL", "postgresql+psycopg://user@host/name")
        monkeypatch.setenv("OVERAGE_ACCOUNTS_PER_SHARD", "1000000")
        monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
        yield made


def jobs() -> dg.Definitions:
    """A job with a step of a shard, and another one."""

    @dg.op
    def plan() -> None: ...

    @dg.op(ins={"planned": dg.In(dg.Nothing)})
    def bill_shard() -> None: ...

    @dg.job(executor_def=executor())
    def billing_month() -> None:
        bill_shard(planned=plan())

    return dg.Definitions(jobs=[billing_month])


def job_of(instance: dg.DagsterInstance, step: str) -> dict[str, Any]:
    """The Kubernetes job for a step."""
    definition = jobs().resolve_job_def("billing_month")
    origin = ReconstructableRepository.for_module("pipeline.definitions", "defs", container_image=IMAGE)
    origin_of_job = origin.get_reconstructable_job("billing_month").get_python_origin()
    run = instance.create_run_for_job(definition, job_code_origin=origin_of_job)
    chosen = definition.executor_def
    config: Any = chosen.apply_config_mapping({"config": {}}).value
    create: Any = chosen.executor_creation_fn
    made = create(dg.InitExecutorContext(InMemoryJob(definition), chosen, config["config"], instance))
    context = mock.Mock(spec=StepHandlerContext)
    context.instance, context.dagster_run, context.step_tags = instance, run, {step: {}}
    context.execute_step_args = ExecuteStepArgs(
        job_origin=origin_of_job, run_id=run.run_id, step_keys_to_execute=[step], instance_ref=None
    )
    context.get_step_context.return_value.step.op_name = step
    with (
        mock.patch.object(made._step_handler, "_api_client") as client,
        mock.patch("dagster_k8s.executor.DagsterEvent.step_worker_starting"),
    ):
        list(made._step_handler.launch_step(context))
    sent = client.create_namespaced_job_with_retries.call_args.kwargs
    assert sent["namespace"] == "billing"
    job: dict[str, Any] = sent["body"].to_dict()
    return job


def test_a_shard_is_a_job_with_the_memory_of_its_accounts_that_kubernetes_does_not_repeat(
    instance: dg.DagsterInstance,
) -> None:
    job = job_of(instance, "bill_shard")
    assert job["spec"]["backoff_limit"] == 0
    pod = job["spec"]["template"]["spec"]
    assert (pod["restart_policy"], pod["service_account_name"]) == ("Never", "overage")
    (container,) = pod["containers"]
    assert container["image"] == IMAGE
    # of the image no entrypoint is wanted: this is the whole command
    assert (container["command"], container["args"][:3]) == (None, ["dagster", "api", "execute_step"])
    assert container["resources"]["requests"] == {"memory": "4608Mi"}
    assert [each["secret_ref"]["name"] for each in container["env_from"]] == ["overage"]
    environment = {each["name"]: each["value"] for each in container["env"]}
    assert environment["DAGSTER_HOME"] == "/opt/dagster/dagster_home"
    assert environment["DAGSTER_RUN_STEP_KEY"] == "bill_shard"
    assert job["metadata"]["labels"]["dagster/op"] == "bill_shard"


def test_other_steps_ask_for_no_memory_of_shards(instance: dg.DagsterInstance) -> None:
    (container,) = job_of(instance, "plan")["spec"]["template"]["spec"]["containers"]
    assert not (container["resources"] or {}).get("requests")
