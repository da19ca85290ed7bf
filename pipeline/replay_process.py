"""Replays what commands have recorded into Dagster, in a process of its own: as the command itself would have done."""

import subprocess
import sys
from pathlib import Path
from typing import Final

from assets.environment import variables
from billing.store.home import Home
from billing.store.working_copy import name_of
from pipeline.run_records import FOLDER, records_in

_going_on: Final[list[subprocess.Popen[bytes]]] = []
"""Processes that nobody waits for: kept, so that each is seen to end."""


def replay_recorded(home: Home, folder: Path, seconds: float) -> bool:
    """Replay the runs that are recorded in the folder of a Dagster instance.

    Parameters
    ----------
    seconds
        How long to wait for it; it goes on after that.

    Returns
    -------
    bool
        Whether it has ended.
    """
    if not records_in(folder / FOLDER):
        return True
    _going_on[:] = [each for each in _going_on if each.poll() is None]
    # On one machine, with calendars as far as commands see them.
    environment = {name: value for name, value in variables().items() if name != "OVERAGE_MONTHS_AHEAD"}
    environment |= {
        "OVERAGE_HOME": name_of(home.root),
        "OVERAGE_EXECUTOR": "in_process",
        "DAGSTER_HOME": str(folder.resolve()),
    }
    # Give it a process group of its own: Ctrl-C ends the command that waits, not the replay.
    replaying = subprocess.Popen([sys.executable, "-m", "pipeline.replaying"], env=environment, process_group=0)
    try:
        replaying.wait(seconds)
    except subprocess.TimeoutExpired:
        _going_on.append(replaying)
        return False
    return True
