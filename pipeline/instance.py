"""The Dagster instance of a home: its runs and logs stay in the home, away from the program."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import dagster as dg

from billing.home import Home, write_bytes


def use_instance_of(home: Home) -> Path:
    """Point $DAGSTER_HOME at the home's instance, made when it is not there; an instance set by the user stays.

    Returns
    -------
    Path
        The folder of the instance.
    """
    set_by_user = os.environ.get("DAGSTER_HOME")
    folder = Path(set_by_user) if set_by_user else home.root.resolve() / ".dagster"
    os.environ["DAGSTER_HOME"] = str(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # two processes that make Dagster's databases in one instant leave them unusable for good
    with _one_at_a_time(folder):
        settings = folder / "dagster.yaml"
        if not settings.exists():
            write_bytes(settings, _settings())
        dg.DagsterInstance.get().dispose()
    return folder


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _settings() -> bytes:
    """The dagster.yaml that comes with the program: beside this module when installed, else at the top."""
    installed = files("pipeline").joinpath("dagster.yaml")
    return installed.read_bytes() if installed.is_file() else (Path(__file__).parents[1] / "dagster.yaml").read_bytes()
