"""Run launcher for Dagster's daemon that detects dead runs.

Dagster's own launcher learns of a dead run from the process that started it. If that process is killed too (a power
cut, the end of a container), Dagster considers the run alive for hours and starts no other.
"""

import json
import os
import socket
from typing import Any

import dagster as dg
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG

from assets.environment import local_home
from billing.model.errors import RefusedError
from billing.store.home import Home
from billing.store.lock import lock
from pipeline.instance import BY_COMMAND_LINE

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
        if server is None or _answers(server) or any(_is_alive(process) for process in self._processes(run)):
            return _AT_WORK
        return _DEAD

    def _processes(self, run: dg.DagsterRun) -> set[int]:
        """Process ids that the run has reported."""
        told = self._instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
        events = [entry.dagster_event for entry in told if entry.dagster_event is not None]
        data: list[Any] = [event.engine_event_data for event in events]
        return {int(str(each.metadata["pid"].value)) for each in data if "pid" in each.metadata}


def _is_locked(run: dg.DagsterRun) -> bool:
    """Whether the home is locked by some run: a command holds the lock for all of its runs."""
    config: Any = run.run_config
    folder = config.get("resources", {}).get("billing_home", {}).get("config", {}).get("folder")
    if not folder:
        return True
    try:
        with lock(Home(local_home(folder))):
            return False
    except RefusedError:
        return True


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
