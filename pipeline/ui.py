"""Dagster UI of a home: webserver and daemon, and the code server of both, until stopped."""

import errno
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from assets.environment import variables
from billing.model.errors import RefusedError
from billing.store.home import Home
from billing.store.working_copy import name_of
from pipeline.code_server import CodeServer
from pipeline.instance import use_instance_of
from pipeline.replay_process import replay_recorded
from pipeline.web_users import read_users

_SECONDS_OF_REPLAY: Final = 30
_SECONDS_OF_DEFINITIONS: Final = 60
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


def serve(root: Path, host: str, port: int, say: Callable[[str], None], *, read_only: bool = False) -> int:
    """Run webserver and daemon on the home; both end when either does, or on a signal.

    Parameters
    ----------
    read_only
        Disable all changes: no daemon runs, so no schedule does.

    Returns
    -------
    int
        Exit status: 0 when stopped, 1 when one of them ended unexpectedly.

    Raises
    ------
    RefusedError
        When the home does not exist, the port is in use, or OVERAGE_UI_USERS is invalid.
    """
    home = Home(root.resolve())
    if not home.landing.is_dir():
        raise RefusedError(
            f"{root}: this is no billing home: expected a folder `landing` in it (`overage init` makes one)"
        )
    if not read_users(variables().get("OVERAGE_UI_USERS", "")) and host not in _LOOPBACK and not read_only:
        say(f"warning: everybody who reaches {host} may bill and issue: set OVERAGE_UI_USERS (--new-user makes a user)")
    _refuse_busy_port(host, port)
    if not replay_recorded(home, use_instance_of(home, say), _SECONDS_OF_REPLAY):
        say("the runs of commands since the UI was last open are still being written to its records")
    # Limit the calendars: months years ahead would look missing in the UI.
    environment = {"OVERAGE_MONTHS_AHEAD": "1"} | dict(variables()) | {"OVERAGE_HOME": name_of(home.root)}
    webserver = [sys.executable, "-m", "pipeline.webserver", "--host", host, "--port", str(port)]
    daemon = [sys.executable, "-m", "dagster._daemon", "run"]
    commands = [[*webserver, "--read-only"]] if read_only else [webserver, daemon]
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Stop on SIGHUP when the terminal closes, but not under nohup.
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.default_int_handler)
    processes: list[subprocess.Popen[bytes]] = []
    with tempfile.TemporaryDirectory(prefix="overage-") as folder:
        code = CodeServer(home, Path(folder))
        try:
            if code.wait(_start(code.command, environment, processes)):
                for command in commands:
                    _start([*command, "--workspace", str(code.workspace)], environment, processes)
                say(f"http://{host}:{port} shows {name_of(home.root)}; stop it with Ctrl-C")
                _watch(processes, code)
            say("webserver, daemon or code server ended unexpectedly: see its output above")
            return 1
        except KeyboardInterrupt:
            say("stopping")
            return 0
        finally:
            # Stop the code server last: the others call it.
            _stop(processes[1:])
            _stop(processes[:1])


def _start(
    command: list[str], environment: dict[str, str], processes: list[subprocess.Popen[bytes]]
) -> subprocess.Popen[bytes]:
    # Use own process groups: Ctrl-C must not reach them, this process stops them in order.
    # The commands contain no data.
    processes.append(subprocess.Popen(command, env=environment, process_group=0))  # noqa: S603
    return processes[-1]


def _watch(processes: list[subprocess.Popen[bytes]], code: CodeServer) -> None:
    """Return when one of the processes has ended."""
    looked = time.monotonic()
    while all(process.poll() is None for process in processes):
        time.sleep(0.2)
        if time.monotonic() - looked > _SECONDS_OF_DEFINITIONS:
            code.keep_up()
            looked = time.monotonic()


def _refuse_busy_port(host: str, port: int) -> None:
    """Check the port before starting anything: the webserver would fail only after the address was announced.

    Raises
    ------
    RefusedError
        When the address cannot be bound.
    """
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise RefusedError(f"--host: found {host!r}, expected a name or address of this machine ({error})") from None
    faults = [_fault(*each) for each in found]
    # A name may resolve to an address family that the machine does not use.
    if errno.EADDRINUSE in faults or all(faults):
        fault = errno.EADDRINUSE if errno.EADDRINUSE in faults else faults[0]
        why = "is in use" if fault == errno.EADDRINUSE else f"cannot be listened on ({os.strerror(fault)})"
        raise RefusedError(f"port {port} of {host} {why}: choose another one with --port")


def _fault(family: int, kind: int, protocol: int, _: str, address: Any) -> int:
    """The errno of binding an address; 0 when it succeeds."""
    try:
        with socket.socket(family, kind, protocol) as listening:
            # As the webserver does: allow a port in TIME_WAIT.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def _stop(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
