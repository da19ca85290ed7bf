"""Runs that died together with what started them."""

import fcntl
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.events import EngineEventData
from dagster._core.launcher import WorkerStatus

from assets.heads import HEAD
from assets.run_tags import BY_COMMAND_LINE
from billing.store.home import Home
from billing.store.lock import lock
from pipeline.definitions import defs
from pipeline.instance import use_instance_of
from pipeline.launcher import WatchingRunLauncher


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """The records of a home."""
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.setenv("DAGSTER_HOME", str(use_instance_of(Home(tmp_path), print)))
    with dg.DagsterInstance.get() as instance:
        yield instance


@pytest.fixture
def dead() -> int:
    """A process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def health(
    instance: dg.DagsterInstance,
    home: Path,
    server: dict[str, object] | None,
    process: int | None,
    head: str | None = None,
) -> WorkerStatus:
    """What the launcher says of a run of a server; without one, of a command."""
    tags = BY_COMMAND_LINE if server is None else {".dagster/grpc_info": json.dumps(server)}
    tags = tags if head is None else {**tags, HEAD: head}
    config = {"resources": {"billing_home": {"config": {"folder": str(home)}}}}
    run = instance.create_run_for_job(defs.resolve_job_def("profiles"), tags=tags, run_config=config)
    if process is not None:
        instance.report_engine_event("Started process for run.", run, EngineEventData.in_process(process))
    launcher = instance.run_launcher
    assert isinstance(launcher, WatchingRunLauncher)
    assert launcher.supports_check_run_worker_health
    return launcher.check_run_worker_health(run).status


def test_a_run_is_dead_when_neither_its_process_nor_the_one_that_started_it_is_there(
    instance: dg.DagsterInstance, tmp_path: Path, dead: int
) -> None:
    gone: dict[str, object] = {"host": "localhost", "socket": str(tmp_path / "gone")}
    assert health(instance, tmp_path, gone, dead) == WorkerStatus.FAILED
    assert health(instance, tmp_path, gone, None) == WorkerStatus.FAILED
    assert health(instance, tmp_path, gone, os.getpid()) == WorkerStatus.RUNNING
    # a power cut leaves the name of the socket
    with socket.socket(socket.AF_UNIX) as asked:
        asked.bind(str(tmp_path / "left"))
    assert health(instance, tmp_path, {"socket": str(tmp_path / "left")}, dead) == WorkerStatus.FAILED
    with socket.socket(socket.AF_UNIX) as asked:
        asked.bind(str(tmp_path / "here"))
        asked.listen()
        assert health(instance, tmp_path, {"socket": str(tmp_path / "here")}, dead) == WorkerStatus.RUNNING
    # what is somewhere else cannot be seen from here
    assert health(instance, tmp_path, {"host": "elsewhere", "port": 4000}, dead) == WorkerStatus.RUNNING


def test_a_run_of_a_command_is_dead_when_no_run_is_at_work_in_its_home(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    assert health(instance, tmp_path, None, None) == WorkerStatus.FAILED
    with (tmp_path / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert health(instance, tmp_path, None, None) == WorkerStatus.RUNNING


def test_a_run_that_has_a_head_is_alive_as_long_as_that_holds_the_lock(
    instance: dg.DagsterInstance, tmp_path: Path, dead: int
) -> None:
    gone: dict[str, object] = {"host": "localhost", "socket": str(tmp_path / "gone")}
    with lock(Home(tmp_path), holder="head"):
        assert health(instance, tmp_path, gone, dead, "head") == WorkerStatus.RUNNING
        assert health(instance, tmp_path, gone, dead, "another") == WorkerStatus.FAILED
    # its number is another process's by now
    assert health(instance, tmp_path, gone, os.getpid(), "head") == WorkerStatus.FAILED
