"""Locations of parsed rows: an own parsed file, or a slice of a shared one.

Small delivered files share parsed files: writing and opening a file per delivery costs more than its rows, with a
hundred thousand files of one event each. The footer of a shared file maps versions to slices.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Final

import polars as pl

from billing.ingest.metric_members import EventTypes, event_types_text
from billing.ingest.parsed_files import EVENT_TYPES, FileVersion, parsed_files_folder, parsed_name, source_metadata
from billing.model.file_limits import Limits
from billing.store.files import write_file
from billing.store.home import Home
from billing.store.parquet_writer import write_row_groups

_SHARED: Final = "+"
"""Prefix of shared files: no name of a delivered file starts with it, as names are quoted."""
_KEPT: Final = ".kept.parquet"
_ENDING: Final = re.compile(r"\.[0-9a-f]+(\.kept)?(\.beyond-[^.]*)?\.parquet$")
"""Suffix of parsed files, after the name of the version."""
_ROWS_TOGETHER: Final = 100_000


@dataclass(frozen=True)
class Place:
    """Location of the parsed rows of one version of a delivered file.

    Attributes
    ----------
    kept
        Whether they were made from an earlier parsed file: see `parsed_files.parsed_file`.
    start, rows
        The slice of the file; the whole file when `rows` is None.
    """

    path: Path
    kept: bool = False
    start: int = 0
    rows: int | None = None

    def scan(self) -> pl.LazyFrame:
        """Scan the rows, in the order of the delivered file."""
        return pl.scan_parquet(self.path, glob=False, hive_partitioning=False).slice(self.start, self.rows)


class ParsedFolder:
    """Index of the parsed files of a delivery day, as listed at construction."""

    def __init__(self, home: Home, day: date) -> None:
        self._folder = parsed_files_folder(home, day)
        self.paths = sorted(self._folder.glob("*.parquet")) if self._folder.is_dir() else []
        self._names = {path.name for path in self.paths}
        self._has_own = not all(map(is_shared, self.paths))

    def find(self, version: FileVersion, key: str, *, is_archived: bool, limits: Limits) -> Place | None:
        """Location of the rows of a version, parsed with some event types and source; None when not parsed yet.

        Parameters
        ----------
        key
            From `parsed_files.parse_key`.
        is_archived
            The delivered file is gone: accept rows made from an earlier parsed file.
        limits
            Accept a marker that the delivered file exceeds these limits.
        """
        begins, beyond = f".{key}", f".{key}.beyond-{limits.key}.parquet"
        for ending in (f"{begins}.parquet", beyond, *([f"{begins}{_KEPT}"] if is_archived else [])):
            for place in self._shared.get((version.name, version.sha256), ()):
                if place.path.name.endswith(ending):
                    return place
            own = f"{parsed_name(version)}{ending}" if self._has_own else ""
            if own in self._names:
                return Place(self._folder / own, ending.endswith(_KEPT))
        return None

    def find_any(self, version: FileVersion) -> Place | None:
        """Location of rows of the same bytes, parsed with any event types, or None."""
        shared = list(self._shared.get((version.name, version.sha256), ()))
        own = [
            Place(path, path.name.endswith(_KEPT))
            for path in self._own.get(parsed_name(version), ())
            if pl.read_parquet_metadata(path).get("sha256") == version.sha256
        ]
        # Prefer rows parsed from the bytes over rows made from an earlier parsed file.
        return min([*shared, *own], key=lambda place: (place.kept, place.path.name), default=None)

    def versions(self) -> list[tuple[str, str]]:
        """Name and hash of every version with rows here, by the name of the parsed file."""
        found = []
        for path in self.paths:
            if not is_shared(path):
                metadata = pl.read_parquet_metadata(path)
                found.append((metadata["file"], metadata["sha256"]))
        return [*self._shared, *found]

    @cached_property
    def _own(self) -> Mapping[str, Sequence[Path]]:
        """Parsed files of one version each, by the prefix of their names."""
        found: dict[str, list[Path]] = {}
        for path in self.paths:
            if not is_shared(path):
                begins = _ENDING.sub("", path.name)
                found.setdefault(begins, []).append(path)
        return found

    @cached_property
    def _shared(self) -> Mapping[tuple[str, str], Sequence[Place]]:
        found: dict[tuple[str, str], list[Place]] = {}
        sizes: dict[Path, int] = {}
        for path in self.paths:
            if is_shared(path):
                kept, start = path.name.endswith(_KEPT), 0
                for name, sha256, rows in json.loads(pl.read_parquet_metadata(path)["files"]):
                    found.setdefault((name, sha256), []).append(Place(path, kept, start, rows))
                    start += rows
                sizes[path] = start
        # After a compaction, use the compacted file.
        return {
            version: sorted(places, key=lambda place: (-sizes[place.path], place.path))
            for version, places in found.items()
        }


def write_shared(
    home: Home,
    day: date,
    rows: pl.DataFrame,
    files: Sequence[tuple[FileVersion, int]],
    types: EventTypes,
    *,
    key: str,
    source: str,
    kept: bool,
) -> Path:
    """Write a parsed file shared by several delivered files; returns its path.

    Parameters
    ----------
    rows
        Rows of all files, one file after the other.
    files
        Each version and its number of rows.
    key
        Cache key of the rows, from `parsed_files.parse_key`.
    source
        Digest of the source that read the files; empty: none did.
    """
    index = json.dumps([(version.name, version.sha256, length) for version, length in files])
    begins = f"{_SHARED}{hashlib.sha256(index.encode()).hexdigest()[:16]}.{key}"
    path = parsed_files_folder(home, day) / f"{begins}{_KEPT if kept else '.parquet'}"
    chunks = [rows.clear(), *rows.iter_slices(_ROWS_TOGETHER)]
    metadata = {"files": index, "delivery_day": day.isoformat(), EVENT_TYPES: event_types_text(types)}
    metadata |= source_metadata(source)
    write_file(path, lambda scratch: write_row_groups(scratch, chunks, metadata))
    return path


def is_shared(path: Path) -> bool:
    """Whether a parsed file is shared by several delivered files."""
    return path.name.startswith(_SHARED)
