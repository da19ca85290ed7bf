"""A cluster on one machine: PostgreSQL, RabbitMQ, Dagster's daemon and workers, each with folders of its own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import which

from tests.pipeline.saboteur import NOWHERE
from tests.postgresql import Server
from tests.rabbitmq import Broker
from tests.sizes import sized

ROOT = Path(__file__).parents[2]
PRODUCTION = ROOT / "docs" / "production"
OVERAGE = "from pipeline.cli import main; main()"
PATIENCE = sized(usual=600, long=3_000)
"""Seconds that a busy machine may take for anything."""
BYTES_OF_A_BATCH = sized(usual=3_000, long=100_000)
"""So that a small business has batches."""
SHARDS = sized(usual=2, long=4)

HEAD = """
import sys
import dagster as dg
import dagster_celery.executor as celery
from dagster._core.definitions.reconstruct import ReconstructableRepository
from pipeline.definitions import defs

month, as_of, home = sys.argv[1:]
send = celery._submit_task

def twice(*arguments):
    send(*arguments)
    return send(*arguments)

celery._submit_task = twice
job = ReconstructableRepository.for_module("pipeline.definitions", "defs").get_reconstructable_job("billing_month")
config = {"resources": {"billing_home": {"config": {"folder": home, "as_of": as_of, "in_order": True}}}}
with dg.DagsterInstance.get() as instance:
    ended = dg.execute_job(job, instance, run_config=config, tags={"dagster/partition": month}, raise_on_error=False)
    sys.exit(not ended.success)
"""
"""The head of a month's run, which sends every step twice at once."""
DAEMON = """
from dagster._daemon import controller
from dagster._daemon.cli import main

controller.RELOAD_WORKSPACE_INTERVAL = 3_600
main()
"""
"""Dagster's daemon, which does not load the pipeline anew each minute: that takes seconds of a processor."""
NO_COPIES_OF_OUTPUT = """
compute_logs:
  module: dagster._core.storage.noop_compute_log_manager
  class: NoOpComputeLogManager
"""
"""Steps start no processes that copy what they print."""

WITH_A_DISK = (
    *("unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"]), "sh", "-c"),
    'mount -t tmpfs -o size=32m tmpfs "$0" && exec "$@"',
)
"""Runs a program with a small file system of its own at a folder, which no other process sees."""


def can_mount(folder: Path) -> bool:
    """Whether this machine lets a test mount a file system."""
    return (
        which("unshare") is not None and not subprocess.run([*WITH_A_DISK, str(folder), "true"], check=False).returncode
    )


class Cluster:
    """Processes that share a register, Dagster's records, a broker and the home, and nothing else.

    Attributes
    ----------
    environment
        Of every process that is started.
    """

    def __init__(self, folder: Path, server: Server, broker: Broker) -> None:
        self.folder = folder
        self.register = server.new_database()
        self._started: list[subprocess.Popen[bytes]] = []
        self._at_work: list[subprocess.Popen[bytes]] = []
        dagster = folder / "dagster"
        dagster.mkdir(parents=True)
        settings = (PRODUCTION / "dagster.yaml").read_text()
        (dagster / "dagster.yaml").write_text(settings + sized(usual=NO_COPIES_OF_OUTPUT, long=""))
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("OVERAGE", "DAGSTER"))}
        self.environment = kept | {
            "OVERAGE_EXECUTOR": "celery",
            "OVERAGE_SHARDS": str(SHARDS),
            "OVERAGE_REGISTER_URL": self.register,
            "OVERAGE_BROKER_URL": broker.url,
            "OVERAGE_MONTHS_AHEAD": "1",
            "DAGSTER_HOME": str(dagster),
            "DAGSTER_POSTGRES_URL": server.new_records(),
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
                kill(process)

    def said(self, name: str) -> str:
        """What a process has printed."""
        return (self.folder / f"{name}.log").read_text(encoding="utf-8")

    def start(
        self, name: str, home: Path | str, *command: object, before: Sequence[str] = ()
    ) -> subprocess.Popen[bytes]:
        """Start a Python process in a folder of its own, in a group of its own, perhaps by another program."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [*before, sys.executable, *map(str, command)],
                # each has a copy of its own of a home in a store
                env=self.environment | {"OVERAGE_HOME": str(home), "OVERAGE_WORK": str(folder)},
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
            )
        self._started.append(process)
        return process

    def worker(
        self, name: str, home: Path | str, place: str = NOWHERE, *, disk: bool = False
    ) -> subprocess.Popen[bytes]:
        """Start a worker that stops at a place, and wait until it takes steps; its folder may be a disk of its own."""
        folder = self.folder / name
        saboteur = ("-m", "tests.pipeline.saboteur", place, folder, BYTES_OF_A_BATCH)
        before = [*WITH_A_DISK, str(folder)] if disk else []
        process = self.start(name, home, *saboteur, "worker", "--name", name, "--home", home, before=before)
        self.wait(lambda: "ready." in self.said(name), process)
        return process

    def daemon(self, home: Path | str) -> subprocess.Popen[bytes]:
        """Start Dagster's daemon, which takes runs from the queue."""
        program = sized(usual=("-c", DAEMON), long=("-m", "dagster._daemon"))
        return self.start("daemon", home, *program, "run", "-m", "pipeline.definitions")

    def use_shards(self, shards: int, home: Path | str) -> None:
        """Let new months be divided into so many shards: start daemon and workers anew, which all have the setting."""
        if self._at_work and self.environment["OVERAGE_SHARDS"] == str(shards):
            return
        for process in self._at_work:
            kill(process)
        self.environment["OVERAGE_SHARDS"] = str(shards)
        self._at_work = [self.daemon(home), *(self.worker(f"{name}-of-{shards}", home) for name in ("one", "two"))]

    def head(self, home: Path | str, month: str, as_of: str) -> subprocess.Popen[bytes]:
        """Start the head of a run that bills a month, and sends every step twice."""
        return self.start("head", home, "-c", HEAD, month, as_of, home)

    def command(self, home: Path | str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start `overage` with these arguments."""
        return self.start("command", home, "-c", OVERAGE, *arguments, "--home", str(home))

    def wait(self, until: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
        """Wait until something is so, as long as a process is there."""
        deadline = time.monotonic() + PATIENCE
        while not until():
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError("\n".join(f"{log.name}:\n{log.read_text()}" for log in self.folder.glob("*.log")))
            time.sleep(0.1)

    def reached(self, name: str, process: subprocess.Popen[bytes]) -> None:
        """Wait until a worker has come to its place."""
        self.wait((self.folder / name / "reached").exists, process)

    def go(self, name: str) -> None:
        """Let a worker go on."""
        (self.folder / name / "go").touch()


def kill(process: subprocess.Popen[bytes]) -> None:
    """As `kill -9`, with all that it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
