"""Files of a working copy: what is on disk, what of it was checked out, and which paths a command needs."""

import json
import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final, NamedTuple

from billing.store.content_trees import Entry
from billing.store.files import write_bytes
from billing.store.object_store import Version

FOLDERS: Final = ("lake", "documents", "profiles", "reports")
"""Folders of a home that the manifest covers; landing is written by others, as plain objects."""
DOCUMENTS: Final = "documents/"

_VERSION: Final = 1
_TICK_SECONDS: Final = 0.1

Stamp = tuple[int, int, int]
"""Size, modification time in nanoseconds, and inode: files of a home are only ever replaced."""


class Known(NamedTuple):
    """A file that was checked out or committed, and the stamp that its place on disk had then."""

    entry: Entry
    stamp: Stamp


@dataclass(frozen=True)
class Record:
    """State of a working copy after its last check-out or commit.

    Attributes
    ----------
    manifest
        The version of the store's manifest; None when the store has none.
    tree
        The root object of the manifest.
    files
        Files on disk by path. Their entries are those of the tree.
    """

    manifest: Version | None = None
    tree: str = ""
    generation: int = 0
    files: Mapping[str, Known] = field(default_factory=dict)


def read_record(path: Path) -> Record | None:
    """The record of a working copy; None when there is no usable one: every file is then compared by its bytes."""
    try:
        content = json.loads(path.read_bytes())
        if content["format"] != _VERSION:
            return None
        manifest = content["manifest"]
        return Record(
            Version(*manifest) if manifest else None,
            content["tree"],
            content["generation"],
            {
                name: Known(Entry(sha256, size), (stamp[0], stamp[1], stamp[2]))
                for name, (sha256, size, stamp) in content["files"].items()
            },
        )
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None


def write_record(path: Path, record: Record) -> None:
    """Replace the record atomically."""
    content = {
        "format": _VERSION,
        "manifest": [record.manifest.e_tag, record.manifest.version] if record.manifest else None,
        "tree": record.tree,
        "generation": record.generation,
        "files": {name: [*known.entry, known.stamp] for name, known in record.files.items()},
    }
    write_bytes(path, json.dumps(content, separators=(",", ":")).encode())


def stamp_of(path: Path) -> Stamp:
    """The stamp of a file."""
    found = path.stat()
    return (found.st_size, found.st_mtime_ns, found.st_ino)


class Scan:
    """The files of a working copy; lists a folder again only when its modification time has changed.

    A scan of 100,000 unchanged files takes as long as one look at each of their folders.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folders: dict[str, _Listed] = {}

    def files(self) -> dict[str, Stamp]:
        """Path below the home and stamp of every file; hidden names are scratch files and left out."""
        found: dict[str, Stamp] = {}
        waiting = list(FOLDERS)
        while waiting:
            folder = waiting.pop()
            listed = self._list(folder)
            if listed is not None:
                found.update((f"{folder}/{name}", stamp) for name, stamp in listed.files.items())
                waiting += [f"{folder}/{name}" for name in listed.folders]
        return found

    def forget(self) -> None:
        """List every folder again."""
        self._folders.clear()

    def _list(self, folder: str) -> "_Listed | None":
        path, now = self._root / folder, time.monotonic()
        try:
            changed = path.stat().st_mtime_ns
            known = self._folders.get(folder)
            if known is not None and known.changed == changed and known.is_settled:
                return known
            files: dict[str, Stamp] = {}
            folders: list[str] = []
            with os.scandir(path) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.name)
                    else:
                        stat = entry.stat()
                        files[entry.name] = (stat.st_size, stat.st_mtime_ns, stat.st_ino)
        except (FileNotFoundError, NotADirectoryError):
            self._folders.pop(folder, None)
            return None
        # A folder may change again within the tick of its time: trust the second look, a tick later.
        is_same = known is not None and known.changed == changed
        since = known.since if is_same and known is not None else now
        self._folders[folder] = _Listed(changed, files, folders, since, is_settled=now - since > _TICK_SECONDS)
        return self._folders[folder]


class _Listed(NamedTuple):
    """A listed folder: its modification time, files and folders, and since when it is known to be like that."""

    changed: int
    files: dict[str, Stamp]
    folders: list[str]
    since: float
    is_settled: bool


@dataclass(frozen=True)
class Needs:
    """Which files a command reads, as patterns of paths below the home.

    A pattern is a path whose parts may have * and ?; `**` at its end stands for everything below a folder. A file is
    needed if one of `wanted` matches it and none of `left_out`.

    Attributes
    ----------
    event_months
        Of events and whatever else is stored by calendar month of events: only these months.
    buckets
        Of files that hold a range of buckets: only those that overlap this one (first and last).
    parsed_days
        Delivery days (YYYY-MM-DD) whose parsed rows are needed, too: see `with_parsed_rows`.
    """

    wanted: Sequence[str] = ("**",)
    left_out: Sequence[str] = ()
    event_months: Sequence[str] | None = None
    buckets: tuple[int, int] | None = None
    parsed_days: frozenset[str] = frozenset()

    def with_parsed_rows(self, paths: Iterable[str]) -> "Needs":
        """The same and, of the delivery days among these paths whose events are views of parsed rows, those rows."""
        days = {view[1] for path in paths if (view := _VIEW.search(path)) is not None and path in self}
        return replace(self, parsed_days=frozenset(days)) if days else self

    def __contains__(self, path: str) -> bool:
        if self.parsed_days and (parsed := _PARSED.search(path)) is not None and parsed[1] in self.parsed_days:
            return True
        if self.event_months is not None:
            month = _EVENT_MONTH.search(path)
            if month is not None and month[1] not in self.event_months:
                return False
        if self.buckets is not None:
            part = _PART.search(path)
            if part is not None and not (int(part[1]) <= self.buckets[1] and int(part[2]) >= self.buckets[0]):
                return False
        return any(_matches(path, each) for each in self.wanted) and not any(
            _matches(path, each) for each in self.left_out
        )


_EVENT_MONTH: Final = re.compile(r"/event_month=(\d{4}-\d{2})/")
_VIEW: Final = re.compile(r"^lake/events/event_month=[^/]+/(\d{4}-\d{2}-\d{2})\.view\.parquet$")
_PARSED: Final = re.compile(r"^lake/parsed_files/delivery_day=([^/]+)/[^/]+\.parquet$")
_PART: Final = re.compile(r"\.(\d{4})-(\d{4})\.[a-z]+$")
_PAGES: Final = ("documents/**", "profiles/**", "reports/**")

EVERYTHING: Final = Needs()
TABLES: Final = Needs(left_out=("lake/parsed_files/**", "lake/events/**", *_PAGES))
"""The tables that `show` reads, without events and parsed rows."""
NOTHING: Final = Needs(wanted=())
COMPUTING: Final = Needs(left_out=("lake/parsed_files/**", "profiles/**", "reports/**"))
"""What a step of a month reads that ingests nothing."""
FILES: Final = Needs(wanted=("documents/**", "lake/plans/**", "lake/resources/**"))
"""What drawing reads: the register has the rest."""


def of_shard(event_months: Sequence[str] | None, first_bucket: int, last_bucket: int) -> Needs:
    """What computing a month of some buckets reads: all of the lake but parsed rows, others' parts and other events.

    Parameters
    ----------
    event_months
        The calendar months whose events the month reads: its own and the one before. None: all.
    """
    return Needs(("lake/**",), ("lake/parsed_files/**",), event_months, (first_bucket, last_bucket))


def _matches(path: str, pattern: str) -> bool:
    parts, wanted = path.split("/"), pattern.split("/")
    if wanted[-1] == "**":
        wanted = wanted[:-1]
        if len(parts) <= len(wanted):
            return False
    elif len(parts) != len(wanted):
        return False
    return all(map(fnmatchcase, parts, wanted))


def folders_of(paths: Iterable[str]) -> set[str]:
    """The folders that hold these paths, and those above them."""
    found: set[str] = set()
    for path in paths:
        folder = path.rpartition("/")[0]
        while folder and folder not in found:
            found.add(folder)
            folder = folder.rpartition("/")[0]
    return found
