"""Temporary folders outside the home, with clean-up after killed processes."""

import fcntl
import os
import shutil
import tempfile
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
