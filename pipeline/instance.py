"""Dagster instance of a home: runs and logs are stored in the home, not beside the program."""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from assets.environment import use_dagster_home
from billing.store.files import SCRATCH_PREFIX, write_bytes
from billing.store.home import Home
from pipeline.ready_databases import DATABASES, is_made_for_this_dagster, make_databases
from pipeline.settings import bring_up_to_date, instance_folder, settings


def use_instance_of(home: Home, say: Callable[[str], None]) -> Path:
    """Point $DAGSTER_HOME at the home's instance, created if missing; an instance set by the user is used as it is.

    Updates its settings, see `settings.bring_up_to_date`.

    Returns
    -------
    Path
        Folder of the instance.
    """
    folder = instance_folder(home)
    folder.mkdir(parents=True, exist_ok=True)
    # Serialize creation: two processes that create Dagster's databases at once corrupt them for good.
    with _creation_lock(folder):
        scratch = folder / f"{SCRATCH_PREFIX}instance"
        shutil.rmtree(scratch, ignore_errors=True)
        if not (folder / "dagster.yaml").exists():
            _make(folder, scratch)
        else:
            bring_up_to_date(home, say)
        use_dagster_home(folder)
        if not all((folder / name).exists() for name in DATABASES):
            dg.DagsterInstance.get().dispose()
    return folder


def _make(folder: Path, scratch: Path) -> None:
    """Create databases and settings in a scratch folder and move them into place, the settings last.

    Dagster would use a half-created database as if it were complete: without the indexes that keep its records unique,
    and of an older schema.
    """
    write_bytes(scratch / "dagster.yaml", settings())
    if is_made_for_this_dagster():
        make_databases(scratch)
    else:
        use_dagster_home(scratch)
        dg.DagsterInstance.get().dispose()
    for made in (scratch / "history", scratch / "schedules", scratch / "dagster.yaml"):
        if made.exists() and not (folder / made.name).exists():
            made.rename(folder / made.name)
    shutil.rmtree(scratch)


@contextmanager
def _creation_lock(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
