"""`overage ui` keeps a webserver and a daemon, and ends with them."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline import ui
from tests.pipeline.outside import Landing

Started = list[subprocess.Popen[bytes]]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[str, str], Started]]:
    """Let pieces of Python stand in for webserver and daemon."""
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    real, before = subprocess.Popen, signal.getsignal(signal.SIGTERM)
    processes: Started = []

    def standing_in(webserver: str, daemon: str) -> Started:
        def start(command: list[str], env: dict[str, str]) -> subprocess.Popen[bytes]:
            code = daemon if "dagster._daemon" in command else webserver
            processes.append(real([sys.executable, "-c", code], env=env))
            return processes[-1]

        monkeypatch.setattr(subprocess, "Popen", start)
        return processes

    yield standing_in
    signal.signal(signal.SIGTERM, before)


STAYS = "import time; time.sleep(600)"
ENDS = "pass"
STOPS_US = "import os, signal, time; os.kill(os.getppid(), signal.SIGTERM); time.sleep(600)"


@pytest.mark.parametrize(
    ("webserver", "daemon", "status", "said"),
    [
        (STAYS, ENDS, 1, "webserver or daemon ended by itself: what it said stands above"),
        (ENDS, STAYS, 1, "webserver or daemon ended by itself: what it said stands above"),
        (STAYS, STOPS_US, 0, "stopping"),
    ],
    ids=["daemon", "webserver", "signal"],
)
def test_both_end_when_either_does_or_on_a_signal(
    tmp_path: Path, started: Callable[[str, str], Started], webserver: str, daemon: str, status: int, said: str
) -> None:
    processes = started(webserver, daemon)
    told: list[str] = []
    assert ui.serve(Landing(tmp_path / "home").root, "127.0.0.1", 3000, told.append) == status
    assert told[-1] == said
    assert [process.poll() is not None for process in processes] == [True, True]
    assert -signal.SIGKILL not in [process.returncode for process in processes], "all are asked first"
