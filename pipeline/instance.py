"""The Dagster instance of a home: its runs and logs stay in the home, away from the program."""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Final

import dagster as dg
import yaml

from billing.home import SCRATCH_PREFIX, Home, file_hash, write_bytes

BY_COMMAND_LINE = {"overage/by": "command line"}
"""The tag of runs that a command made, in its own process."""

# every dagster.yaml that a version has written into homes, the present one last
WRITTEN: Final = (
    "9bd30c71eabecf74cd8f602bb2447035b9d45bb2b25e757b74bf320e6c4febf4",
    "142d6c1d30484b9e8b2dcd0b69e1df34d653ede58f1fd2caf91e3843b27d7436",
    "fe6bb058ef2d1484b786c10dc59d3a617fb24c1daf4629a3a92f40f603e78bad",
    "1c83af1c400750be1919be0648846699f6f7e585d73cd95150692ce4a339ceb2",
)


def use_instance_of(home: Home, say: Callable[[str], None]) -> Path:
    """Point $DAGSTER_HOME at the home's instance, made when it is not there; an instance set by the user stays.

    Settings that are as an earlier version wrote them are brought up to date, and `say` tells it, or what to add to
    those that somebody has changed.

    Returns
    -------
    Path
        The folder of the instance.
    """
    set_by_user = os.environ.get("DAGSTER_HOME")
    folder = Path(set_by_user) if set_by_user else home.root.resolve() / ".dagster"
    folder.mkdir(parents=True, exist_ok=True)
    # two processes that make Dagster's databases in one instant leave them unusable for good
    with _one_at_a_time(folder):
        scratch = folder / f"{SCRATCH_PREFIX}instance"
        shutil.rmtree(scratch, ignore_errors=True)
        if not (folder / "dagster.yaml").exists():
            _make(folder, scratch)
        elif not set_by_user:
            _bring_up_to_date(folder / "dagster.yaml", say)
        os.environ["DAGSTER_HOME"] = str(folder)
        dg.DagsterInstance.get().dispose()
    return folder


def _make(folder: Path, scratch: Path) -> None:
    """Make databases and settings elsewhere and put them in place, the settings last.

    Dagster goes on with databases whose making was killed as if they were whole: without the indexes that keep its
    records apart, and of an older version.
    """
    write_bytes(scratch / "dagster.yaml", _settings())
    os.environ["DAGSTER_HOME"] = str(scratch)
    dg.DagsterInstance.get().dispose()
    for made in (scratch / "history", scratch / "schedules", scratch / "dagster.yaml"):
        if made.exists() and not (folder / made.name).exists():
            made.rename(folder / made.name)
    shutil.rmtree(scratch)


def _bring_up_to_date(path: Path, say: Callable[[str], None]) -> None:
    ours = _settings()
    if path.read_bytes() == ours:
        return
    if file_hash(path) in WRITTEN:
        write_bytes(path, ours)
        say(f"{path}: brought up to date: it was as an earlier version of this program wrote it")
        return
    # without it a run that went down with its machine would be waited for by all others
    try:
        theirs, wanted = (yaml.safe_load(content) for content in (path.read_bytes(), ours))
    except yaml.YAMLError:
        # Dagster refuses it and says where it is wrong
        return
    if not isinstance(theirs, dict) or "run_launcher" not in theirs:
        launcher = ", ".join(f"{name}: {value}" for name, value in wanted["run_launcher"].items())
        say(
            f"warning: {path}: found no run_launcher: add the line `run_launcher: {{{launcher}}}`, so that a run that "
            "goes down with its machine is noticed and begun again"
        )


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
