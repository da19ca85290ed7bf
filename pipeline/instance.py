"""The Dagster instance of a home: its runs and logs stay in the home, away from the program."""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import dagster as dg

from assets.environment import use_dagster_home
from billing.store.files import SCRATCH_PREFIX, write_bytes
from billing.store.home import Home
from pipeline.settings import bring_up_to_date, instance_folder, settings

BY_COMMAND_LINE = {"overage/by": "command line"}
"""The tag of runs that a command made, in its own process."""

_DATABASES: Final = ("history/runs.db", "history/runs/index.db", "schedules/schedules.db")


def use_instance_of(home: Home, say: Callable[[str], None]) -> Path:
    """Point $DAGSTER_HOME at the home's instance, made when it is not there; an instance set by the user stays.

    Its settings are brought up to date, as `settings.bring_up_to_date` says.

    Returns
    -------
    Path
        The folder of the instance.
    """
    folder = instance_folder(home)
    folder.mkdir(parents=True, exist_ok=True)
    # two processes that make Dagster's databases in one instant leave them unusable for good
    with _one_at_a_time(folder):
        scratch = folder / f"{SCRATCH_PREFIX}instance"
        shutil.rmtree(scratch, ignore_errors=True)
        if not (folder / "dagster.yaml").exists():
            _make(folder, scratch)
        else:
            bring_up_to_date(home, say)
        use_dagster_home(folder)
        if not all((folder / name).exists() for name in _DATABASES):
            dg.DagsterInstance.get().dispose()
    return folder


def _make(folder: Path, scratch: Path) -> None:
    """Make databases and settings elsewhere and put them in place, the settings last.

    Dagster goes on with databases whose making was killed as if they were whole: without the indexes that keep its
    records apart, and of an older version.
    """
    write_bytes(scratch / "dagster.yaml", settings())
    use_dagster_home(scratch)
    dg.DagsterInstance.get().dispose()
    for made in (scratch / "history", scratch / "schedules", scratch / "dagster.yaml"):
        if made.exists() and not (folder / made.name).exists():
            made.rename(folder / made.name)
    shutil.rmtree(scratch)


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
