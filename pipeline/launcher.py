"""Run launcher for Dagster's daemon that detects dead runs.

Dagster's own launcher learns of a dead run from the process that started it. If that process is killed too (a power
cut, the end of a container), Dagster considers the run alive for hours and starts no other.
"""

import json
import os
import socket
from contextlib import closing
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG

from assets.environment import home_folder, local_home, register_url
from assets.heads import HEAD
from assets.run_tags import BY_COMMAND_LINE
from billing.model.errors import InterruptedRunError, RefusedError
from billing.register.register import Register
from billing.store.home import Home
from billing.store.lock import is_held_by, lock

_AT_WORK = CheckRunHealthResult(WorkerStatus.RUNNING)
_DEAD = CheckRunHealthResult(WorkerStatus.FAILED, "the process of this run is gone, and so is the one that started it")


class WatchingRunLauncher(DefaultRunLauncher):
    """Dagster's launcher for one machine, with a health check for runs."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Enable the daemon's health checks."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Report a run dead when no process of it can exist; when in doubt, report it alive."""
        if BY_COMMAND_LINE.items() <= run.tags.items():
            return _AT_WORK if _is_locked(run) else _DEAD
        # The process of a remote server is not visible from here.
        server = json.loads(run.tags.get(GRPC_INFO_TAG, "{}")).get("socket")
        if server is None or _answers(server):
            return _AT_WORK
        head = run.tags.get(HEAD)
        # The lock tells it for sure: after a restart, in a container, another process soon has the same number.
        is_there = any(map(_is_alive, self._processes(run))) if head is None else _is_led(run, head)
        return _AT_WORK if is_there else _DEAD

    def _processes(self, run: dg.DagsterRun) -> set[int]:
        """Process ids that the run has reported."""
        told = self._instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
        events = [entry.dagster_event for entry in told if entry.dagster_event is not None]
        data: list[Any] = [event.engine_event_data for event in events]
        return {int(str(each.metadata["pid"].value)) for each in data if "pid" in each.metadata}


def _is_locked(run: dg.DagsterRun) -> bool:
    """Whether the home is locked by some run: a command holds the lock for all of its runs."""
    folder = _folder(run)
    if not folder:
        return True
    try:
        with lock(Home(folder)):
            return False
    except RefusedError:
        return True


def _is_led(run: dg.DagsterRun, head: str) -> bool:
    """Whether the head of a run holds its lock; when in doubt, it does."""
    home = Home(_folder(run) or home_folder())
    try:
        with closing(Register.open(home, register_url())) as register:
            return register.is_held_by(head) if register.is_on_server else is_held_by(home, head)
    except (RefusedError, InterruptedRunError):
        return True


def _folder(run: dg.DagsterRun) -> Path | None:
    config: Any = run.run_config
    folder = config.get("resources", {}).get("billing_home", {}).get("config", {}).get("folder")
    return local_home(folder) if folder else None


def _answers(server: str) -> bool:
    with socket.socket(socket.AF_UNIX) as asked:
        try:
            asked.connect(server)
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError:
            return True
    return True


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
