"""Landing folder of a working copy: a mirror of what others put below `landing/` of the store, as plain objects.

Inputs are downloaded when they are new or changed. Of a usage log only the name is here, as an empty file: its bytes
are downloaded when ingest opens it, which it does not while size and entity tag are those of the last ingest.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from billing.model.errors import InterruptedRunError, RefusedError
from billing.store.files import SCRATCH_PREFIX, file_hash, write_bytes
from billing.store.home_objects import in_parallel
from billing.store.object_store import LostRaceError, Object, ObjectStore
from billing.store.working_copy import STORE, WorkingCopy, working_copy

LANDING: Final = "landing"
_USAGE: Final = "usage/"
_INPUTS: Final = (".csv", ".parquet", ".jsonl", ".yaml", ".json", ".po", ".svg", ".png", ".j2", ".css")
_MOST_LISTINGS: Final = 3
_MOST_CACHED_BYTES: Final = 20 * 1024**3
_LISTING: Final = f"{STORE}/landing.json"


@dataclass(frozen=True)
class RemoteFile:
    """A usage log in the store."""

    url: str
    key: str
    size: int
    mark: str
    cache: Path

    @property
    def stamp(self) -> tuple[int, ...]:
        """Changes whenever the bytes do, on any machine; as `billing.ingest.state.stamp`, its third value is old."""
        number = int.from_bytes(hashlib.sha256(self.mark.encode()).digest()[:7])
        return (self.size, number, 0, 0, 0)

    def fetched(self) -> Path:
        """Path of its bytes, downloaded on first use.

        Raises
        ------
        FileNotFoundError
            When the object is gone.
        InterruptedRunError
            When it has changed since it was listed, or the store or the disk fails.
        """
        path = self.cache / self.name
        if not path.exists():
            try:
                # Share one client: a new one loads certificates and connects again.
                copy = working_copy(self.cache.parent.parent)
                store = ObjectStore(self.url) if copy is None else copy.store
                store.fetch(self.key, path, mark=self.mark)
            except FileNotFoundError:
                raise
            except OSError as error:
                # Ingest takes an error of the operating system for a file that cannot be read.
                raise InterruptedRunError(f"{path}: {error.strerror or error}") from error
        return path

    @property
    def name(self) -> str:
        """Name of its bytes in the cache."""
        return hashlib.sha256(f"{self.key}\n{self.mark}\n{self.size}".encode()).hexdigest()[:32]


def remote_usage(landing: Path) -> Mapping[str, RemoteFile] | None:
    """The usage logs of a store by their path below `usage/`; None for a folder, also below a link to `landing`."""
    folder = landing.resolve()
    listing = folder.parent / _LISTING
    try:
        found = listing.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return _read_usage(listing, found.st_ino, found.st_mtime_ns)


@lru_cache(maxsize=2)
def _read_usage(listing: Path, *_: int) -> Mapping[str, RemoteFile]:
    content = json.loads(listing.read_bytes())
    cache = listing.parent / "usage"
    return {
        path.removeprefix(_USAGE): RemoteFile(content["url"], f"{LANDING}/{path}", size, mark, cache)
        for path, (size, mark) in content["objects"].items()
        if path.startswith(_USAGE)
    }


def check_out_landing(copy: WorkingCopy, *, usage: bool = True) -> None:
    """As `_check_out`, while readers of the same working copy wait; lists again where an input is being replaced."""
    with copy.syncing():
        for _ in range(_MOST_LISTINGS):
            try:
                _check_out(copy, usage=usage)
                return
            except LostRaceError as error:
                lost = error
        raise lost


def _check_out(copy: WorkingCopy, *, usage: bool) -> None:
    """Make the landing folder what the store lists; the caller holds the home's lock.

    Parameters
    ----------
    usage
        List the usage logs, too; otherwise those that were listed before stay.

    Raises
    ------
    StoreError
        When the store cannot be used.
    RefusedError
        When names cannot stand in one folder.
    """
    before = _read_listing(copy)
    objects = _listed(copy, before.get("objects", {}), usage=usage)
    folder = copy.root / LANDING
    local = _local_files(folder)
    content = {"url": copy.url, "objects": {path: [each.size, each.mark] for path, each in sorted(objects.items())}}
    # Write the listing first: an empty file must never be taken for a delivery.
    _write_listing(copy, content | {"stamps": before.get("stamps", {})})
    for path in local:
        if path not in objects:
            (folder / path).unlink()
    known = before.get("objects", {})
    stamps: dict[str, list[int]] = {}
    wanted: list[str] = []
    for path, each in objects.items():
        if path.startswith(_USAGE) or not path.lower().endswith(_INPUTS):
            if local.get(path, (None,))[0] != 0:
                _write_empty(folder / path)
            continue
        stamp = local.get(path)
        if known.get(path) == [each.size, each.mark] and stamp and before.get("stamps", {}).get(path) == list(stamp):
            stamps[path] = list(stamp)
        else:
            wanted.append(path)

    def bring(path: str) -> list[int]:
        try:
            copy.store.fetch(f"{LANDING}/{path}", folder / path, mark=objects[path].mark)
        except FileNotFoundError as error:
            raise LostRaceError(f"{copy.url}/{LANDING}/{path} was removed while it was read: run again") from error
        return list(_stamp(folder / path))

    stamps |= dict(zip(wanted, in_parallel(bring, wanted), strict=True))
    _write_listing(copy, content | {"stamps": stamps})
    _remove_empty_folders(folder)  # Without objects there is no landing folder: no home yet.
    _remove_old_logs(copy)


def put_inputs(copy: WorkingCopy) -> list[str]:
    """Upload inputs that a command wrote into the landing folder; returns their paths below it, sorted.

    Raises
    ------
    InterruptedRunError
        When the store has another file of that name.
    """
    folder, known = copy.root / LANDING, _read_listing(copy).get("objects", {})
    new = sorted(
        path
        for path in _local_files(folder)
        if path not in known and not path.startswith(_USAGE) and SCRATCH_PREFIX not in path
    )
    for path in new:
        key = f"{LANDING}/{path}"
        if not copy.store.put_new(key, folder / path):
            there = copy.store.get(key)
            if there is None or hashlib.sha256(there[0]).hexdigest() != file_hash(folder / path):
                raise InterruptedRunError(f"{copy.url}/{key}: found another file of this name: nothing is overwritten")
    return new


def _listed(copy: WorkingCopy, known: Mapping[str, Any], *, usage: bool) -> dict[str, Object]:
    """The objects below landing/, by their path there; markers of folders are left out."""
    if usage:
        listed = list(copy.store.objects(LANDING))
    else:
        listed, folders_there = copy.store.folder(LANDING)
        for folder in folders_there:
            if f"{folder}/" != f"{LANDING}/{_USAGE}":
                listed += copy.store.objects(folder)
        logs = {path: found for path, found in known.items() if path.startswith(_USAGE)}
        listed += [Object(f"{LANDING}/{path}", size, mark) for path, (size, mark) in logs.items()]
    found = {each.key.removeprefix(f"{LANDING}/"): each for each in listed}
    folders: set[str] = set()
    for path in found:
        folder = path.rpartition("/")[0]
        while folder and folder not in folders:
            folders.add(folder)
            folder = folder.rpartition("/")[0]
    for path in folders & set(found):
        # Consoles of stores make an empty object for a folder.
        if found.pop(path).size:
            raise RefusedError(
                f"{copy.url}/{LANDING}/{path}: found an object and a folder of the same name: rename one of them"
            )
    return found


def _read_listing(copy: WorkingCopy) -> dict[str, dict[str, list[int]]]:
    try:
        content = json.loads((copy.root / _LISTING).read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _write_listing(copy: WorkingCopy, content: Mapping[str, object]) -> None:
    write_bytes(copy.root / _LISTING, json.dumps(content, separators=(",", ":")).encode())


def _local_files(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Path below the landing folder and stamp of every file."""
    found: dict[str, tuple[int, int, int]] = {}
    waiting = [("", str(folder))]
    while waiting:
        prefix, path = waiting.pop()
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append((f"{prefix}{entry.name}/", entry.path))
                    else:
                        stat = entry.stat(follow_symlinks=False)
                        found[f"{prefix}{entry.name}"] = (stat.st_size, stat.st_mtime_ns, stat.st_ino)
        except FileNotFoundError:
            continue
    return found


def _stamp(path: Path) -> tuple[int, int, int]:
    stat = path.stat()
    return (stat.st_size, stat.st_mtime_ns, stat.st_ino)


def _write_empty(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    except OSError as error:
        raise RefusedError(
            f"{path}: the name of this object cannot be a file here ({error.strerror}): rename the object"
        ) from error


def _remove_empty_folders(folder: Path) -> None:
    for path, _, _ in os.walk(folder, topdown=False):
        if not os.listdir(path):  # noqa: PTH208  # os.walk gives texts.
            Path(path).rmdir()


def _remove_old_logs(copy: WorkingCopy) -> None:
    """Remove downloaded logs that the store has no more, or with other bytes, and the oldest of too many."""
    cache = copy.root / STORE / "usage"
    if not cache.is_dir():
        return
    current = {each.name for each in (remote_usage(copy.root / LANDING) or {}).values()}
    cached = sorted(((path.stat().st_mtime_ns, path.stat().st_size, path) for path in cache.iterdir()), reverse=True)
    held = 0
    for _, size, path in cached:
        held += size
        if path.name not in current or held > _MOST_CACHED_BYTES:
            path.unlink()
