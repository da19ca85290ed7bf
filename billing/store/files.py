"""Write files atomically: under a scratch name in the same folder, flushed to disk, then renamed into place.

A reader sees the old bytes or the new ones and never a part. Equal content is not written again.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

SCRATCH_PREFIX = ".writing-"


def write_file(path: Path, write: Callable[[Path], None]) -> bool:
    """Let `write` fill a scratch file, then put it in place of `path` at once.

    Returns
    -------
    bool
        Whether `path` changed: a scratch file equal to what stands there is thrown away.

    Raises
    ------
    OSError, polars.exceptions.ComputeError
        Whatever `write` raises (disk full, read-only folder); `path` is as it was and no scratch file remains.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = scratch_path(path, os.getpid())
    try:
        write(scratch)
        if path.exists() and _same_bytes(scratch, path):
            return False
        with scratch.open("rb") as file:
            os.fsync(file.fileno())
        scratch.replace(path)
        _sync_folder(path.parent)
    finally:
        scratch.unlink(missing_ok=True)
    return True


def write_bytes(path: Path, content: bytes) -> bool:
    """Put `content` in place of `path` at once; see `write_file`."""

    def write(scratch: Path) -> None:
        scratch.write_bytes(content)

    return write_file(path, write)


def scratch_path(path: Path, process: int) -> Path:
    """Where a process writes what it then puts in place of `path`."""
    return path.with_name(f"{SCRATCH_PREFIX}{process}-{path.name}")


def remove_file(path: Path) -> None:
    """Remove a file that may be missing, and make that last."""
    if path.exists():
        path.unlink()
        _sync_folder(path.parent)


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove_scratch_files(folder: Path) -> list[Path]:
    """Remove what a killed run left under a scratch name."""
    left = sorted(folder.rglob(f"{SCRATCH_PREFIX}*")) if folder.exists() else []
    for path in left:
        path.unlink(missing_ok=True)
    return left


def _same_bytes(one: Path, other: Path) -> bool:
    return one.stat().st_size == other.stat().st_size and file_hash(one) == file_hash(other)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
