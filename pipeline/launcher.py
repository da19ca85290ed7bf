"""What starts the runs that Dagster's daemon takes from its queue, and knows when one of them has died with everything.

Dagster's own launcher learns of a run that dies from the process that started it. Where that process is killed too (a
power cut, the end of a container) it would believe the run to be at work for hours, and let no other begin.
"""

import json
import os
import socket
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG

from billing.model.errors import RefusedError
from billing.store.home import Home
from billing.store.lock import lock
from pipeline.instance import BY_COMMAND_LINE

_AT_WORK = CheckRunHealthResult(WorkerStatus.RUNNING)
_DEAD = CheckRunHealthResult(WorkerStatus.FAILED, "the process of this run is gone, and so is the one that started it")


class WatchingRunLauncher(DefaultRunLauncher):
    """Dagster's launcher for one machine, which also says whether a run is still at work."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Let the daemon ask, as often as it monitors runs."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """A run is dead when nothing is left that could be its process; in doubt it is at work."""
        if BY_COMMAND_LINE.items() <= run.tags.items():
            return _AT_WORK if _is_locked(run) else _DEAD
        # a server somewhere else cannot be seen from here
        server = json.loads(run.tags.get(GRPC_INFO_TAG, "{}")).get("socket")
        if server is None or _answers(server) or any(_lives(process) for process in self._processes(run)):
            return _AT_WORK
        return _DEAD

    def _processes(self, run: dg.DagsterRun) -> set[int]:
        """The processes of which the run has told."""
        told = self._instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
        events = [entry.dagster_event for entry in told if entry.dagster_event is not None]
        data: list[Any] = [event.engine_event_data for event in events]
        return {int(str(each.metadata["pid"].value)) for each in data if "pid" in each.metadata}


def _is_locked(run: dg.DagsterRun) -> bool:
    """Whether some run is at work in the home: a command holds its lock from the first run to the last."""
    config: Any = run.run_config
    folder = config.get("resources", {}).get("billing_home", {}).get("config", {}).get("folder")
    if not folder:
        return True
    try:
        with lock(Home(Path(folder))):
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


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
