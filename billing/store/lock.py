"""Lock of a billing home: one run at a time."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from billing.model.errors import RefusedError
from billing.store.home import Home


class BusyError(RefusedError):
    """Another run holds the lock."""


@contextmanager
def lock(home: Home, patience: float = 0) -> Iterator[None]:
    """Hold the home's lock: one run at a time, from the command line and Dagster alike.

    An operating system lock: released when its process is killed, and reentrant within a process.

    Parameters
    ----------
    patience
        Seconds to wait for another run to end.

    Raises
    ------
    RefusedError
        When the home cannot be written, or another run holds the lock.
    """
    path = home.root / ".lock"
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
        _held.add(path)
        try:
            yield
        finally:
            _held.discard(path)


_held: set[Path] = set()


def _take(file: IO[str], path: Path, patience: float) -> None:
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() >= deadline:
                raise BusyError(
                    f"{path.parent}: another run is at work in this billing home: wait for it to end, then run again"
                ) from error
        time.sleep(0.2)
