"""Atomic file writes: to a scratch file in the same folder, synced to disk, then renamed into place.

A reader sees the old bytes or the new ones, never a part. Equal content is not written again.
"""

import errno
import hashlib
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from functools import cache
from pathlib import Path

SCRATCH_PREFIX = ".writing-"
_unsynced: ContextVar[tuple[Path, ...]] = ContextVar("unsynced", default=())
_folders_to_sync: ContextVar[set[Path] | None] = ContextVar("folders_to_sync", default=None)
_NO_ROOM = 65_536
"""Free bytes of a disk that is full."""


def write_file(path: Path, write: Callable[[Path], None], *, may_be_missing: bool = False) -> bool:
    """Let `write` fill a scratch file, then atomically replace `path` with it.

    Parameters
    ----------
    may_be_missing
        Do not sync the folder of a new file, whose lack is noticed: after a power cut it is there whole, or not at all.

    Returns
    -------
    bool
        Whether `path` changed: a scratch file with equal bytes is discarded.

    Raises
    ------
    OSError, polars.exceptions.ComputeError
        Whatever `write` raises (disk full, read-only folder); `path` is unchanged and no scratch file remains.
        See `full_disk_named`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = scratch_path(path, os.getpid())
    try:
        with full_disk_named(path):
            write(scratch)
        is_new = not path.exists()
        if not is_new and _same_bytes(scratch, path):
            return False
        if _is_kept(path):
            with scratch.open("rb") as file:
                os.fsync(file.fileno())
        scratch.replace(path)
        if not (is_new and may_be_missing):
            _sync_folder(path.parent)
    finally:
        scratch.unlink(missing_ok=True)
    return True


@contextmanager
def unsynced(folder: Path) -> Iterator[None]:
    """Sync nothing below a temporary folder: it need not outlive a power cut."""
    token = _unsynced.set((*_unsynced.get(), folder))
    try:
        yield
    finally:
        _unsynced.reset(token)


@contextmanager
def unsynced_if_new(path: Path) -> Iterator[None]:
    """Sync a file only if it replaces one, which would stand for it: the lack of a new one is noticed.

    After a power cut a new file may be missing, empty, or have zeros from some block on.
    """
    with nullcontext() if path.exists() else unsynced(path.parent):
        yield


@contextmanager
def folders_synced_once() -> Iterator[None]:
    """Sync each folder once, at the end, in which several files are written. Their contents are synced one by one.

    Inside of another they are synced at the end of that one.
    """
    if _folders_to_sync.get() is not None:
        yield
        return
    folders: set[Path] = set()
    token = _folders_to_sync.set(folders)
    try:
        yield
    finally:
        _folders_to_sync.reset(token)
        for folder in sorted(folders):
            _sync_folder(folder)


@contextmanager
def full_disk_named(path: Path) -> Iterator[None]:
    """Raise an OSError that says so where writing `path` fails on a full disk: Polars reports a damaged file."""
    try:
        yield
    except Exception as error:  # whatever a library makes of a write that failed
        if getattr(error, "errno", None) is None and _is_full(path.parent):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise


def write_bytes(path: Path, content: bytes) -> bool:
    """Atomically replace `path` with `content`; see `write_file`."""

    def write(scratch: Path) -> None:
        scratch.write_bytes(content)

    return write_file(path, write)


def scratch_path(path: Path, process: int) -> Path:
    """Path of the scratch file in which a process prepares `path`.

    Processes of several machines may have the same number, and prepare the same path at once.
    """
    return path.with_name(f"{SCRATCH_PREFIX}{_machine()}-{process}-{path.name}")


def remove_file(path: Path) -> None:
    """Remove a file, which may be missing, and sync its folder."""
    try:
        path.unlink()
    except FileNotFoundError:
        return
    _sync_folder(path.parent)


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, read in chunks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove_scratch_files(folder: Path) -> list[Path]:
    """Remove scratch files that a killed run left behind."""
    left = sorted(folder.rglob(f"{SCRATCH_PREFIX}*")) if folder.exists() else []
    for path in left:
        path.unlink(missing_ok=True)
    return left


@cache
def _machine() -> str:
    return f"{zlib.crc32(os.uname().nodename.encode()):08x}"


def _is_full(folder: Path) -> bool:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize < _NO_ROOM


def _same_bytes(one: Path, other: Path) -> bool:
    return one.stat().st_size == other.stat().st_size and file_hash(one) == file_hash(other)


def _is_kept(path: Path) -> bool:
    return not any(path.is_relative_to(folder) for folder in _unsynced.get())


def _sync_folder(folder: Path) -> None:
    if not _is_kept(folder):
        return
    waiting = _folders_to_sync.get()
    if waiting is not None:
        waiting.add(folder)
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
