"""A cluster on one machine: PostgreSQL, RabbitMQ, Dagster's daemon and workers, each with folders of its own."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.postgresql import Server
from tests.rabbitmq import Broker

ROOT = Path(__file__).parents[2]
PRODUCTION = ROOT / "docs" / "production"
OVERAGE = "from pipeline.cli import main; main()"
PATIENCE = 300
"""Seconds that a busy machine may take for anything."""


class Cluster:
    """Processes that share a register, Dagster's records and a broker, and nothing else but the home."""

    def __init__(self, folder: Path, server: Server, broker: Broker) -> None:
        self.folder, self.broker = folder, broker
        self.register = server.new_database()
        records = server.new_database().replace("postgresql+psycopg:", "postgresql+psycopg2:")
        self._started: list[subprocess.Popen[bytes]] = []
        self.dagster = folder / "dagster"
        self.dagster.mkdir(parents=True)
        shutil.copy(PRODUCTION / "dagster.yaml", self.dagster)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("OVERAGE", "DAGSTER"))}
        self.environment = kept | {
            "OVERAGE_EXECUTOR": "celery",
            "OVERAGE_REGISTER_URL": self.register,
            "OVERAGE_BROKER_URL": broker.url,
            "OVERAGE_MONTHS_AHEAD": "1",
            "DAGSTER_HOME": str(self.dagster),
            "DAGSTER_POSTGRES_URL": records,
            "PYTHONPATH": str(ROOT),
        }

    @classmethod
    @contextmanager
    def running(cls, folder: Path, server: Server, broker: Broker) -> Iterator["Cluster"]:
        """A cluster without processes; those that it starts are ended."""
        cluster = cls(folder, server, broker)
        try:
            yield cluster
        finally:
            for process in cluster._started:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def said(self, name: str) -> str:
        """What a process has printed."""
        return (self.folder / f"{name}.log").read_text(encoding="utf-8")

    def start(self, name: str, command: list[str], home: Path, **environment: str) -> subprocess.Popen[bytes]:
        """Start a process in a folder of its own, in a group of its own."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                env=self.environment | {"OVERAGE_HOME": str(home), "OVERAGE_WORK": str(folder)} | environment,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
            )
        self._started.append(process)
        return process

    def worker(self, name: str, home: Path, **environment: str) -> subprocess.Popen[bytes]:
        """Start a worker, and wait until it takes steps."""
        process = self.start(name, [sys.executable, "-c", OVERAGE, "worker", "--name", name], home, **environment)
        self.wait(name, "ready.", process)
        return process

    def daemon(self, home: Path) -> subprocess.Popen[bytes]:
        """Start Dagster's daemon, which takes runs from the queue."""
        command = [sys.executable, "-m", "dagster._daemon", "run", "-m", "pipeline.definitions"]
        return self.start("daemon", command, home)

    def command(self, name: str, home: Path, *arguments: str) -> subprocess.Popen[bytes]:
        """Start `overage` with these arguments."""
        return self.start(name, [sys.executable, "-c", OVERAGE, *arguments, "--home", str(home)], home)

    def wait(self, name: str, text: str, process: subprocess.Popen[bytes]) -> None:
        """Wait until a process has printed a text."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.said(name):
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(self.said(name))
            time.sleep(0.1)
