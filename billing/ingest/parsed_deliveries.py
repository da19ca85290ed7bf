"""Layer one of ingest: parses delivered files whose rows are not cached yet.

Each large file gets its own parsed file, in parallel; many small files of a day share parsed files.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final, Protocol, TypeVar

import polars as pl

from billing.ingest import parsed_files as parsing
from billing.ingest.deduplication import identity_hash
from billing.ingest.formats.compression import TooLargeError, UnreadableFileError
from billing.ingest.landing import DeliveredFile
from billing.ingest.metric_members import FLAT_VALUE
from billing.ingest.parsed_locations import ParsedFolder, Place, write_shared
from billing.ingest.parsed_rows import with_details
from billing.ingest.row_hashes import RowHashes
from billing.ingest.small_files import SMALL, ParsedTogether, parse_together
from billing.ingest.state import delivery_label, stamp
from billing.model.errors import InterruptedRunError
from billing.model.sources import Source, digest_of
from billing.store.home import Home
from billing.store.parquet_writer import row_groups

Progress = Callable[[str, int, int], None]
"""Progress callback: what is being done, how much is done, and the total."""

Job = TypeVar("Job")
Done = TypeVar("Done")

_VALIDATION_BATCH: Final = 2_000_000
_MANY: Final = 16
"""Small files of a day from which on they are parsed in a batch and share parsed files."""
_PARSED_TOGETHER: Final = 4_000
_MOST_SMALL: Final = 64
"""Small parsed files of a delivery day from which on they are compacted into one."""
_FEW_ROWS: Final = 5_000


class Each(Protocol):
    """Runs every job, in parallel where that pays, and yields the results in order."""

    def __call__(self, work: Callable[[Job], Done], jobs: Sequence[Job], size: int) -> Iterator[Done]:
        """Run every job; `size` is the number of delivered bytes that they process."""


@dataclass(frozen=True)
class ParseJob:
    """Versions of delivered files of one day that are parsed at once: a large one, or many small ones.

    Attributes
    ----------
    delivered
        The delivered files of these versions, as far as they are still delivered.
    stamps
        By label: the file system metadata of a delivered file when it was hashed.
    bytes
        Of the delivered files.
    """

    versions: tuple[parsing.FileVersion, ...]
    delivered: tuple[DeliveredFile, ...]
    stamps: Mapping[str, tuple[int, ...]]
    bytes: int

    @property
    def day(self) -> date:
        """The delivery day."""
        return self.versions[0].day


class ParsedDeliveries:
    """Parsed rows of delivered files."""

    def __init__(
        self,
        home: Home,
        *,
        hashes: RowHashes,
        delivered: Mapping[tuple[date, str], DeliveredFile],
        stamps: Mapping[str, tuple[int, ...]],
    ) -> None:
        """`stamps` of the delivered files are compared when they are parsed."""
        self.home = home
        self.hashes = hashes
        self.rules = hashes.rules
        self.delivered = delivered
        self.stamps = stamps
        self.folders: dict[date, ParsedFolder] = {}
        self._keys: dict[str, str] = {}

    def jobs(self, current: Mapping[tuple[date, str], str], sizes: Mapping[tuple[date, str], int]) -> list[ParseJob]:
        """What parses the versions that are not parsed yet."""
        wanted: dict[date, list[parsing.FileVersion]] = {}
        for (day, name), digest in sorted(current.items()):
            version = parsing.FileVersion(day, name, digest)
            if self.place(version) is None:
                wanted.setdefault(day, []).append(version)
        return [
            self._job(together, sizes)
            for versions in wanted.values()
            for together in self._parsed_at_once(versions, sizes)
        ]

    def parse(self, job: ParseJob) -> int:
        """Parse the files of a job; returns how many. Parsed again, they give the same bytes."""
        if len(job.versions) == 1:
            return self._parse_one(job.versions[0])
        if job.delivered:
            return self._parse_together(job.versions)
        return self._parse_again_together(job.versions)

    def compact(self, days: AbstractSet[date], current: Mapping[tuple[date, str], str]) -> None:
        """Compact the small parsed files of each of some days into one, where deliveries came a few at a time."""
        versions: dict[date, list[parsing.FileVersion]] = {}
        for (day, name), digest in sorted(current.items()):
            if day in days:
                versions.setdefault(day, []).append(parsing.FileVersion(day, name, digest))
        for day, found in versions.items():
            self.folders.pop(day, None)
            self._compact(day, found)

    def _job(self, versions: Sequence[parsing.FileVersion], sizes: Mapping[tuple[date, str], int]) -> ParseJob:
        keys = [(version.day, version.name) for version in versions]
        labels = [delivery_label(*key) for key in keys]
        return ParseJob(
            tuple(versions),
            tuple(self.delivered[key] for key in keys if key in self.delivered),
            {label: self.stamps[label] for label in labels if label in self.stamps},
            sum(sizes.get(key, 0) for key in keys),
        )

    def _parsed_at_once(
        self, versions: Sequence[parsing.FileVersion], sizes: Mapping[tuple[date, str], int]
    ) -> Iterator[Sequence[parsing.FileVersion]]:
        """Versions of a day, those of small files in batches."""
        delivered = [version for version in versions if (version.day, version.name) in self.delivered]
        archived = [version for version in versions if (version.day, version.name) not in self.delivered]
        small = [version for version in delivered if sizes.get((version.day, version.name), 0) <= SMALL]
        again = [version for version in archived if self._is_small(version)]
        together: set[parsing.FileVersion] = set()
        for few in (small, again):
            if len(few) >= _MANY:
                together.update(few)
                for start in range(0, len(few), _PARSED_TOGETHER):
                    yield few[start : start + _PARSED_TOGETHER]
        for version in versions:
            if version not in together:
                yield [version]

    def _is_small(self, version: parsing.FileVersion) -> bool:
        """Whether an archived file has few parsed rows."""
        place = self.folder(version.day).find_any(version)
        return place is not None and (place.rows is not None or place.path.stat().st_size <= SMALL)

    def _parse_one(self, version: parsing.FileVersion) -> int:
        file = self.delivered.get((version.day, version.name))
        types, source = self.rules.types, self.rules.source_of(version.name)
        path = parsing.parsed_file(self.home, version, types, source=source, kept=file is None)
        if file is not None:
            digest = digest_of(source)
            try:
                parsing.write_parsed(path, self._parsed_rows(file, path, source), version, types, digest)
            except UnreadableFileError as error:
                self._require_unchanged(file)
                if isinstance(error, TooLargeError):
                    path = parsing.parsed_file(self.home, version, types, source=source, beyond=self.rules.limits)
                rows = parsing.unreadable_file(file, types, error, source)
                parsing.write_parsed(path, [rows], version, types, digest)
            return 1
        older = self.folder(version.day).find_any(version)
        if older is not None:
            rows = self._reparse(older.scan().collect(), older.path)
            parsing.write_parsed(path, [rows], version, types, parsing.source_digest(older.path))
        return 1

    def _reparse(self, rows: pl.DataFrame, parsed: Path) -> pl.DataFrame:
        flat, by_source = FLAT_VALUE in rows.columns, parsing.source_digest(parsed) != ""
        before = parsing.parsed_with(parsed, self.rules.types) if flat else None
        return parsing.parse_again(rows, self.rules.types, flat=flat, before=before, by_source=by_source)

    def _parse_again_together(self, versions: Sequence[parsing.FileVersion]) -> int:
        """Rebuild the rows of small archived files of a day from their earlier parsed files."""
        day, frames = versions[0].day, dict[Path, pl.DataFrame]()
        alike: dict[tuple[str, str, tuple[str, ...]], list[ParsedTogether]] = {}
        for version in versions:
            place = self.folder(day).find_any(version)
            if place is None:
                continue
            if place.path not in frames:
                frames[place.path] = pl.read_parquet(place.path, glob=False, hive_partitioning=False)
            rows = self._reparse(frames[place.path].slice(place.start, place.rows), place.path)
            kind = (self._key(version), parsing.source_digest(place.path), tuple(rows.columns))
            alike.setdefault(kind, []).append(ParsedTogether(rows, [(version, len(rows))]))
        for (key, source, _), found in alike.items():
            rows, files = pl.concat(each.rows for each in found), [file for each in found for file in each.files]
            write_shared(self.home, day, rows, files, self.rules.types, key=key, source=source, kept=True)
        return len(versions)

    def _parse_together(self, versions: Sequence[parsing.FileVersion]) -> int:
        """Parse small files of a day into one file per schema."""
        day = versions[0].day
        jobs = [(version, self.delivered[(day, version.name)]) for version in versions]
        alike: dict[tuple[str, str, tuple[str, ...]], list[ParsedTogether]] = {}
        for parsed in parse_together(jobs, self.rules.types, self.rules.limits, self.rules.source_of):
            first = parsed.files[0][0]
            if len(parsed.files) == 1:
                self._require_unchanged(self.delivered[(day, first.name)])
            digest = digest_of(self.rules.source_of(first.name))
            kind = (self._key(first), digest, tuple(parsed.rows.columns))
            alike.setdefault(kind, []).append(parsed)
        for (key, digest, _), found in alike.items():
            rows, files = pl.concat(each.rows for each in found), [file for each in found for file in each.files]
            path = write_shared(self.home, day, rows, files, self.rules.types, key=key, source=digest, kept=False)
            rows = self.rules.with_accounts(rows)
            looked_at = rows.select(hash=identity_hash(), valid=self.rules.is_valid(day, len(rows)))
            self.hashes.keep(path, looked_at["hash"], looked_at["valid"])
        parsed_files = {version for found in alike.values() for each in found for version, _ in each.files}
        # A file beyond the limits gets a parsed file of its own that says so.
        return len(parsed_files) + sum(self._parse_one(version) for version in versions if version not in parsed_files)

    def _parsed_rows(self, file: DeliveredFile, path: Path, source: Source | None) -> Iterator[pl.DataFrame]:
        """Rows of a delivered file in chunks; validates, hashes and looks up accounts while a chunk is in memory."""
        validated: list[pl.DataFrame] = []
        waiting: list[pl.DataFrame] = []

        def validate() -> None:
            rows = pl.concat(waiting)
            waiting.clear()
            valid = pl.col("valid_if_known") & ~self.rules.is_of_unknown_account(len(rows))
            validated.append(rows.select("hash", valid=valid))

        for rows in parsing.parse_delivered(file, self.rules.types, self.rules.limits, source):
            # Look up accounts of many rows at once; copy texts, as a slice keeps its whole block in memory.
            known = self.rules.with_accounts(rows).select(
                hash=identity_hash(),
                valid_if_known=self.rules.is_valid_if_known(file.day),
                subject=pl.col("subject") + "",
            )
            waiting.append(known)
            if sum(map(len, waiting)) >= _VALIDATION_BATCH:
                validate()
            yield rows
        if waiting:
            validate()
        self._require_unchanged(file)
        whole = pl.concat(validated)
        self.hashes.keep(path, whole["hash"], whole["valid"])

    def _require_unchanged(self, file: DeliveredFile) -> None:
        label = delivery_label(file.day, file.name)
        if label in self.stamps and self.stamps[label] != stamp(file):
            raise InterruptedRunError(f"usage/{label} was changed while it was read: run again")

    def _compact(self, day: date, versions: Sequence[parsing.FileVersion]) -> None:
        """As `compact`, of one day."""
        if len(self.folder(day).paths) < _MOST_SMALL:
            return
        placed = {
            version: place
            for version in versions
            if (place := self.place(version)) is not None and not parsing.is_beyond_limits(place.path)
        }
        rows = {path: sum(row_groups(path)) for path in {place.path for place in placed.values()}}
        small = {version: place for version, place in placed.items() if rows[place.path] <= _FEW_ROWS}
        if len({place.path for place in small.values()}) < _MOST_SMALL:
            return
        alike: dict[tuple[bool, str, str, tuple[str, ...]], list[tuple[parsing.FileVersion, pl.DataFrame]]] = {}
        frames: dict[Path, pl.DataFrame] = {}
        for version, place in small.items():
            if place.path not in frames:
                frames[place.path] = with_details(pl.read_parquet(place.path, glob=False, hive_partitioning=False))
            own = frames[place.path].slice(place.start, place.rows)
            kind = (place.kept, self._key(version), parsing.source_digest(place.path), tuple(own.columns))
            alike.setdefault(kind, []).append((version, own))
        for (kept, key, source, _), found in alike.items():
            rows_of_files, files = pl.concat(own for _, own in found), [(version, len(own)) for version, own in found]
            write_shared(self.home, day, rows_of_files, files, self.rules.types, key=key, source=source, kept=kept)
        self.folders.pop(day)

    def folder(self, day: date) -> ParsedFolder:
        if day not in self.folders:
            self.folders[day] = ParsedFolder(self.home, day)
        return self.folders[day]

    def place(self, version: parsing.FileVersion) -> Place | None:
        """Location of a file's parsed rows; None when it is not parsed yet."""
        is_archived = (version.day, version.name) not in self.delivered
        return self.folder(version.day).find(
            version, self._key(version), is_archived=is_archived, limits=self.rules.limits
        )

    def _key(self, version: parsing.FileVersion) -> str:
        """Cache key of the parsed rows of a file."""
        source = self.rules.source_of(version.name)
        digest = digest_of(source)
        if digest not in self._keys:
            self._keys[digest] = parsing.parse_key(self.rules.types, source)
        return self._keys[digest]
