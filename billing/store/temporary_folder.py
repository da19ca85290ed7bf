"""Folders outside of the home that are needed while a process is at work, and that do not outlive it for long."""

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
    """A folder of one's own, gone afterwards; what a killed process left under the same prefix is removed first.

    Who uses a folder holds a lock in it, which is the operating system's and ends with the process.
    """
    _remove_left(prefix)
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    try:
        # held before it has the name by which others look for it
        with (folder / f"{IN_USE}-soon").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            (folder / f"{IN_USE}-soon").rename(folder / IN_USE)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_left(prefix: str) -> None:
    for mark in Path(tempfile.gettempdir()).glob(f"{prefix}*/{IN_USE}"):
        try:
            # in a folder that others write to, too, only what is ours is touched
            if mark.parent.lstat().st_uid != os.getuid():
                continue
            with mark.open("r") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(mark.parent, ignore_errors=True)
        except OSError:
            # it is in use, or its user has just removed it
            continue
