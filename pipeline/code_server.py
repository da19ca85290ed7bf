"""Code server: the process that holds the definitions of a home, for webserver and daemon alike.

Left to themselves each of them starts one, and the daemon a new one every minute.
"""

import json
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from assets.calendars import calendar_reach
from billing.inputs.catalogue_file import billing_calendar
from billing.store.home import Home
from pipeline.webserver import MODULE, PROGRAM

_SECONDS_OF_RELOADING: Final = 180


class CodeServer:
    """Dagster's code server of a home, on a socket of its own.

    A new start has another socket: a run whose server is gone is known by it (`pipeline.launcher`).
    """

    def __init__(self, home: Home, folder: Path) -> None:
        self._home = home
        self._socket = folder / "code"
        self._calendar: object = None
        self.workspace = folder / "workspace.yaml"
        """Tells webserver and daemon where the server is."""

    @property
    def command(self) -> list[str]:
        """What to run."""
        definitions = ("--module-name", MODULE, "--working-directory", str(PROGRAM), "--location-name", MODULE)
        words = ("dagster", "code-server", "start", *definitions, "--socket", str(self._socket))
        return [sys.executable, "-m", *words, "--log-level", "warning"]

    def wait(self, process: subprocess.Popen[bytes]) -> bool:
        """Wait until the server answers; False when its process ends before that."""
        self._calendar = self._read_calendar()
        # YAML reads JSON.
        place = {"grpc_server": {"socket": str(self._socket), "location_name": MODULE}}
        self.workspace.write_text(json.dumps({"load_from": [place]}), "utf-8")
        while process.poll() is None:
            if self._socket.exists() and self._asked("heartbeat", "alive"):
                return True
            time.sleep(0.05)
        return False

    def keep_up(self) -> None:
        """Load the definitions again when the calendars of the home have changed, or what holds them is lost."""
        try:
            calendar = self._read_calendar()
        except OSError:
            # An input is being replaced: look again later.
            return
        changed = calendar != self._calendar or not self._asked("ping", "alive")
        if changed and self._asked("reload_code", timeout=_SECONDS_OF_RELOADING):
            self._calendar = calendar

    def _read_calendar(self) -> tuple[object, ...]:
        """What the partitions of the definitions are made of."""
        start, time_zone = billing_calendar(self._home.landing / "catalogue.yaml")
        today = datetime.now(ZoneInfo(time_zone)).date()
        return start, time_zone, *calendar_reach(self._home.root, start, today, 0)

    def _asked(self, call: str, *arguments: object, **options: object) -> bool:
        """Whether the server answered a call."""
        from dagster._core.errors import DagsterUserCodeUnreachableError
        from dagster._grpc.client import DagsterGrpcClient

        try:
            getattr(DagsterGrpcClient(socket=str(self._socket)), call)(*arguments, **options)
        except DagsterUserCodeUnreachableError:
            return False
        return True
