"""Lock of a billing home: one run at a time, and the steps of a run that other processes execute."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from billing.model.errors import InterruptedRunError, RefusedError
from billing.store.home import Home

HEAD_IS_GONE: Final = (
    "the process that leads this run is gone, or lost its lock: nothing was done in this step; run the same again"
)


CHECKING_OUT: Final = "a check-out"
"""Name of a holder that brings a working copy up to date: others wait for it, as it takes seconds."""


class BusyError(RefusedError):
    """Another run holds the lock."""


@contextmanager
def lock(home: Home, patience: float = 0, holder: str = "") -> Iterator[None]:
    """Hold the home's lock: one run at a time, from the command line and Dagster alike.

    An operating system lock: released when its process is killed, and reentrant within a process. Waits for steps of a
    killed run that are still at work in other processes (`step_of`).

    Parameters
    ----------
    patience
        Seconds to wait for another run to end.
    holder
        Name of a run whose steps other processes execute.

    Raises
    ------
    RefusedError
        When the home cannot be written, or another run holds the lock.
    """
    path = _lock_of(home)
    if path in _held:
        yield
        return
    try:
        file = path.open("a")
    except OSError as error:
        raise RefusedError(
            f"{home.root}: this billing home cannot be written ({error.strerror}): expected a writable folder"
        ) from error
    with file:
        _take(file, path, patience)
        _wait_for_steps(home, patience)
        _name_holder(file, path, holder)
        _held.add(path)
        try:
            yield
        finally:
            _held.discard(path)
            _name_holder(file, path, "")


@contextmanager
def step_of(home: Home, holder: str) -> Iterator[None]:
    """Be a step of the run whose head holds the home's lock in another process; steps do not exclude each other.

    Raises
    ------
    InterruptedRunError
        When the head does not hold the lock (any more): another run may be at work.
    """
    with _steps_of(home).open("a") as file:
        # First the lock, then the look: the next run waits for it before it begins.
        fcntl.flock(file, fcntl.LOCK_SH)
        if not is_held_by(home, holder):
            raise InterruptedRunError(HEAD_IS_GONE)
        yield


def is_held_by(home: Home, holder: str) -> bool:
    """Whether a run of this name holds the home's lock, in any process."""
    return _holder(home) == holder


def is_held(home: Home) -> bool:
    """Whether any process holds the home's lock."""
    return _holder(home) is not None


def _holder(home: Home) -> str | None:
    """Who holds the home's lock; None if nobody does."""
    try:
        file = _lock_of(home).open()
    except FileNotFoundError:
        return None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return file.read()
    return None


_held: set[Path] = set()


def is_held_here(home: Home) -> bool:
    """Whether this process holds the home's lock."""
    return _lock_of(home) in _held


def _lock_of(home: Home) -> Path:
    return home.root / ".lock"


def _steps_of(home: Home) -> Path:
    return home.root / ".lock-of-steps"


def _wait_for_steps(home: Home, patience: float) -> None:
    """Wait until no step of an earlier run is at work: its head was killed, the step's own process was not."""
    path = _steps_of(home)
    if path.exists():
        with path.open("a") as file:
            _take(file, path, patience)


def _name_holder(file: IO[str], path: Path, holder: str) -> None:
    """Write the name of the holder; a file that says so already keeps its time: who only reads changes nothing."""
    if path.stat().st_size or holder:
        file.truncate(0)
        file.write(holder)
        file.flush()


def _take(file: IO[str], path: Path, patience: float) -> None:
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() >= deadline and path.read_text() != CHECKING_OUT:
                raise BusyError(
                    f"{path.parent}: another run is at work in this billing home: wait for it to end, then run again"
                ) from error
        time.sleep(0.2)
