"""Which executor executes the steps of a run: what may be chosen, what it needs, and that it leads its run."""

import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import dagster as dg
import pytest
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run

from assets.heads import HEAD
from billing.model.errors import RefusedError
from billing.store.home import Home
from billing.store.lock import is_held_by
from pipeline import executors
from pipeline.executor_choice import ExecutorName, chosen_executor, is_on_cluster
from pipeline.executors import executor, lost_steps_are_retried, memory_request
from tests.pipeline.cluster import PRODUCTION
from tests.pipeline.outside import Landing, overage

SERVER = "postgresql+psycopg://user@host/name"


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The settings of a cluster; its instance's dagster.yaml."""
    settings = tmp_path / "dagster" / "dagster.yaml"
    settings.parent.mkdir()
    settings.write_text("storage: {postgres: {postgres_url: {env: DAGSTER_POSTGRES_URL}}}\n")
    monkeypatch.setenv("OVERAGE_EXECUTOR", "celery")
    monkeypatch.setenv("OVERAGE_REGISTER_URL", SERVER)
    monkeypatch.setenv("OVERAGE_BROKER_URL", "amqp://guest@localhost//")
    monkeypatch.setenv("DAGSTER_HOME", str(settings.parent))
    return settings


@pytest.mark.usefixtures("cluster")
def test_every_executor_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OVERAGE_EXECUTOR")
    assert chosen_executor() == ExecutorName.MULTIPROCESS
    for name in ExecutorName:
        monkeypatch.setenv("OVERAGE_EXECUTOR", name)
        assert chosen_executor() == name
        assert is_on_cluster() == (name in ("celery", "k8s"))
        assert executor().name in (name, f"{name}_executor", "in_process", "multiprocess")


def test_an_unknown_executor_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERAGE_EXECUTOR", "spark")
    with pytest.raises(RefusedError, match="found 'spark', expected one of in_process, multiprocess, celery, k8s"):
        executor()


@pytest.mark.parametrize("name", ["celery", "k8s"])
def test_an_executor_on_other_machines_needs_what_they_all_reach(
    cluster: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("OVERAGE_EXECUTOR", name)

    def refusal() -> str:
        with pytest.raises(RefusedError) as refused:
            chosen_executor()
        return str(refused.value)

    with mock.patch("pipeline.executor_choice.find_spec", return_value=None):
        assert 'pip install "overage-billing[cluster]"' in refusal()
    for url in (None, "sqlite:////home/register.db"):
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("OVERAGE_REGISTER_URL")
            if url:
                patch.setenv("OVERAGE_REGISTER_URL", url)
            assert "expected OVERAGE_REGISTER_URL=postgresql+psycopg://" in refusal()
    unlike = ("telemetry: {enabled: false}", "storage: {sqlite: {base_dir: x}}", "storage: {custom: {module: x}}")
    for content in (*unlike, "[", "- a"):
        cluster.write_text(content)
        assert "expected DAGSTER_HOME to be a folder whose dagster.yaml has `storage: postgres`" in refusal()
    for content in (
        "run_storage: {module: dagster_postgres.run_storage, class: PostgresRunStorage}",
        (PRODUCTION / "dagster.yaml").read_text(),
    ):
        cluster.write_text(content)
        assert chosen_executor() == name
    monkeypatch.delenv("OVERAGE_BROKER_URL")
    if name == "celery":
        assert "expected OVERAGE_BROKER_URL" in refusal()
    monkeypatch.delenv("DAGSTER_HOME")
    assert "found no DAGSTER_HOME" in refusal()


@pytest.mark.parametrize("name", ["spark", "celery"])
def test_a_command_refuses_an_executor_that_cannot_work_before_it_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    landing = Landing(tmp_path / "home")
    landing.customer("acme")
    monkeypatch.setenv("OVERAGE_EXECUTOR", name)
    for arguments in (("bill", "2026-01", "--as-of", "2026-01-31"), ("worker",), ("ui",)):
        ended = overage(*arguments, "--home", landing.root)
        assert (ended.status, ended.messages.count("OVERAGE_EXECUTOR")) == (2, 1), ended.messages
    assert [path.name for path in landing.root.iterdir()] == ["landing"]


def test_a_worker_needs_a_broker(tmp_path: Path) -> None:
    ended = overage("worker", "--home", tmp_path)
    assert (ended.status, "expected OVERAGE_EXECUTOR=celery" in ended.messages) == (2, True)


def test_an_executor_holds_the_lock_of_the_home_for_the_whole_run_after_those_of_commands_are_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "landing").mkdir()
    monkeypatch.setenv("OVERAGE_HOME", str(tmp_path))
    seen: list[object] = []
    monkeypatch.setattr(executors, "replay_recorded", lambda home, *_: seen.append(home))

    @dg.op
    def look(context: dg.OpExecutionContext) -> None:
        run = context.instance.get_run_by_id(context.run_id)
        assert run is not None
        seen.append(is_held_by(Home(tmp_path), run.tags[HEAD]))

    @dg.job(executor_def=executors._led(dg.in_process_executor))
    def looking() -> None:
        look()
        look()

    with dg.DagsterInstance.ephemeral() as instance:
        run = instance.create_run_for_job(looking)
        result = execute_run(InMemoryJob(looking), run, instance, raise_on_error=True)
    assert result.success
    assert seen == [Home(tmp_path), True, True]
    assert not is_held_by(Home(tmp_path), "")


def test_memory_is_asked_for_by_the_accounts_of_a_shard() -> None:
    assert memory_request(1) == "512Mi"
    assert memory_request(250_000) == "1536Mi"
    assert memory_request(1_000_000) == "4608Mi"


@pytest.mark.usefixtures("cluster")
def test_only_where_dagster_starts_lost_steps_again_they_have_a_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    policies = {}
    for name in ExecutorName:
        monkeypatch.setenv("OVERAGE_EXECUTOR", name)
        policies[name] = lost_steps_are_retried()
    assert {name for name, policy in policies.items() if policy} == {"k8s"}


MULTIPROCESS = """
import sys
import dagster as dg
from dagster._core.definitions.reconstruct import ReconstructableRepository

job = ReconstructableRepository.for_module("pipeline.definitions", "defs").get_reconstructable_job("profiles")
config = {"resources": {"billing_home": {"config": {"folder": sys.argv[1], "as_of": "2026-01-31"}}}}
with dg.DagsterInstance.get() as instance:
    ended = dg.execute_job(job, instance, run_config=config, raise_on_error=False)
    run = instance.get_run_by_id(ended.run_id)
    pids = {each.pid for each in ended.filter_events(lambda event: event.is_step_start)}
    print(ended.success, "overage/head" in run.tags, len(pids))
"""


def test_steps_in_processes_of_their_own_work_under_the_lock_of_their_run(tmp_path: Path) -> None:
    landing = Landing(tmp_path / "home")
    landing.customer("acme")
    assert overage("bill", "2026-01", "--as-of", "2026-01-31", "--home", landing.root).status == 0
    (tmp_path / "dagster").mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OVERAGE", "DAGSTER"))}
    done = subprocess.run(
        [sys.executable, "-c", MULTIPROCESS, str(landing.root)],
        env=kept | {"DAGSTER_HOME": str(tmp_path / "dagster"), "OVERAGE_HOME": str(landing.root)},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        # a step that did not see its head would wait for it
        timeout=300,
    )
    assert done.stdout == "True True 2\n", done.stderr
    assert (landing.root / "lake" / "profile").is_dir()
