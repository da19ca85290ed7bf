"""The Dagster UI of a home: webserver and daemon as two processes, until stopped."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from assets.environment import variables
from billing.model.errors import RefusedError
from billing.store.home import Home
from pipeline.instance import use_instance_of
from pipeline.web_users import read_users
from pipeline.webserver import PROGRAM

_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


def serve(root: Path, host: str, port: int, say: Callable[[str], None], read_only: bool = False) -> int:
    """Run webserver and daemon on the home; both end when either does, or on a signal.

    Parameters
    ----------
    read_only
        Nothing can be started or changed: no daemon runs, and so no schedule.

    Returns
    -------
    int
        The exit status: 0 when it was stopped, 1 when one of them ended by itself.

    Raises
    ------
    RefusedError
        When there is no home to show, or OVERAGE_UI_USERS is not understood.
    """
    home = Home(root.resolve())
    if not home.landing.is_dir():
        raise RefusedError(
            f"{root}: this is no billing home: expected a folder `landing` in it (`overage init` makes one)"
        )
    if not read_users(variables().get("OVERAGE_UI_USERS", "")) and host not in _LOOPBACK and not read_only:
        say(f"warning: everybody who reaches {host} may bill and issue: set OVERAGE_UI_USERS (--new-user makes a user)")
    use_instance_of(home, say)
    # people look at these calendars: months that are years ahead would only look missing
    environment = {"OVERAGE_MONTHS_AHEAD": "1"} | dict(variables()) | {"OVERAGE_HOME": str(home.root)}
    webserver = [sys.executable, "-m", "pipeline.webserver", "--host", host, "--port", str(port)]
    daemon = [sys.executable, "-m", "dagster._daemon", "run", "-m", "pipeline.definitions", "-d", str(PROGRAM)]
    commands = [[*webserver, "--read-only"]] if read_only else [webserver, daemon]
    # the commands are this program's own, none of their words comes from data
    processes = [subprocess.Popen(command, env=environment) for command in commands]  # noqa: S603
    say(f"http://{host}:{port} shows {home.root}; stop it with Ctrl-C")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        while all(process.poll() is None for process in processes):
            time.sleep(0.2)
        say("webserver or daemon ended by itself: what it said stands above")
        return 1
    except KeyboardInterrupt:
        say("stopping")
        return 0
    finally:
        _stop(processes)


def _stop(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
