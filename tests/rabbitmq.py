"""A real RabbitMQ broker for the tests: in a folder of its own, on loopback, gone at the end."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

_SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
PRODUCTION = Path(__file__).parents[1] / "docs" / "production"
MISSING = "RabbitMQ is not installed: its tests are skipped"
_PATIENCE = 120
"""Seconds that a busy machine may take to start it."""


class Broker:
    """A broker that listens on free ports of this machine only."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, distribution, self._names = _free_ports(3)
        (folder / "rabbitmq.conf").write_text(
            (PRODUCTION / "rabbitmq.conf").read_text() + f"listeners.tcp.1 = 127.0.0.1:{self.port}\n"
        )
        (folder / "plugins").write_text("[].\n")
        self._environment = {
            **{name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ},
            "HOME": str(folder),
            "RABBITMQ_NODENAME": f"overage-{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +S 1:1",
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "ERL_EPMD_PORT": str(self._names),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    @contextmanager
    def running(cls) -> Iterator["Broker"]:
        """A new broker; skips the test where there is none to start (CI always has one)."""
        if not _SERVER.exists():
            if os.environ.get("CI") == "true":
                pytest.fail("RabbitMQ is missing in CI")
            pytest.skip(MISSING)
        folder = Path(tempfile.mkdtemp(prefix="rabbitmq-"))
        broker = cls(folder)
        try:
            broker.start()
            yield broker
        finally:
            broker.kill()
            broker._end_name_server()
            shutil.rmtree(folder)

    @property
    def url(self) -> str:
        """Its address."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self.folder / "said").open("ab") as said:
            self._process = subprocess.Popen(
                [_SERVER],
                env=self._environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                process_group=0,
            )
        deadline = time.monotonic() + _PATIENCE
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self.folder / "said").read_text())
            time.sleep(0.2)

    def kill(self) -> None:
        """As `kill -9`: it has no time to write anything down."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _end_name_server(self) -> None:
        """End the name server that Erlang starts beside it, once that has noticed that the broker is gone."""
        command = ["epmd", "-port", str(self._names), "-kill"]
        deadline = time.monotonic() + _PATIENCE
        while (
            b"living nodes"
            in subprocess.run(
                command, env=self._environment, stdin=subprocess.DEVNULL, capture_output=True, check=False
            ).stdout
            and time.monotonic() < deadline
        ):
            time.sleep(0.1)

    def _answers(self) -> bool:
        """Whether it speaks AMQP: the port is open a while before."""
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as connection:
            connection.settimeout(5)
            connection.sendall(b"AMQP\x00\x00\x09\x01")
            return bool(connection.recv(1))
        return False


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
