"""Temporary folders outside the home, with clean-up after killed processes."""

import fcntl
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

IN_USE: Final = ".in-use"


@contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """Create a private folder, removed on exit; first removes folders of killed processes with the same prefix.

    A folder in use holds an operating system lock, which ends with its process.
    """
    _remove_left(prefix)
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    try:
        # Take the lock before the file gets the name that other processes check.
        with (folder / f"{IN_USE}-soon").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            (folder / f"{IN_USE}-soon").rename(folder / IN_USE)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class ScratchFolder:
    """A temporary folder that is removed with the object, or by the next process where this one is killed."""

    def __init__(self, prefix: str) -> None:
        opened = temporary_folder(prefix)
        self.path = opened.__enter__()
        self._remove = weakref.finalize(self, opened.__exit__, None, None, None)


def _remove_left(prefix: str) -> None:
    for mark in Path(tempfile.gettempdir()).glob(f"{prefix}*/{IN_USE}"):
        try:
            # Touch only our own folders: other users write here too.
            if mark.parent.lstat().st_uid != os.getuid():
                continue
            with mark.open("r") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(mark.parent, ignore_errors=True)
        except OSError:
            # In use, or just removed by its owner.
            continue
