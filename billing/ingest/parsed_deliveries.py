"""Layer one of ingest: parses delivered files whose rows are not cached yet.

Each large file gets its own parsed file, in parallel; many small files of a day share parsed files.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date
from functools import partial
from pathlib import Path
from typing import Final, Protocol, TypeVar

import polars as pl

from billing.ingest import parsed_files as parsing
from billing.ingest.deduplication import identity_hash
from billing.ingest.formats.compression import TooLargeError, UnreadableFileError
from billing.ingest.hash_cache import cache_hashes
from billing.ingest.landing import DeliveredFile
from billing.ingest.metric_members import FLAT_VALUE
from billing.ingest.parsed_locations import ParsedFolder, Place, write_shared
from billing.ingest.parsed_rows import with_details
from billing.ingest.small_files import SMALL, ParsedTogether, parse_together
from billing.ingest.state import delivery_label, stamp
from billing.ingest.validation import Rules
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

    def __call__(self, work: Callable[[Job], Done], jobs: Sequence[Job], days: AbstractSet[date]) -> Iterator[Done]:
        """Run every job; `days` are those whose files are processed."""


class ParsedDeliveries:
    """Parsed rows of delivered files.

    Attributes
    ----------
    hashes
        By parsed file: the identity hash of every row, null for invalid rows; only of files parsed in this run.
    """

    def __init__(
        self,
        home: Home,
        *,
        rules: Rules,
        delivered: Mapping[tuple[date, str], DeliveredFile],
        stamps: Mapping[str, tuple[int, ...]],
        sizes: Mapping[tuple[date, str], int],
        each: Each,
        progress: Progress,
    ) -> None:
        """`stamps` and `sizes` of the listed files are read when files are parsed."""
        self.home = home
        self.rules = rules
        self.delivered = delivered
        self.stamps = stamps
        self.sizes = sizes
        self.each = each
        self.progress = progress
        self.hashes: dict[Path, pl.Series] = {}
        self.folders: dict[date, ParsedFolder] = {}
        self._keys: dict[str, str] = {}

    def bring_up_to_date(self, current: Mapping[tuple[date, str], str]) -> int:
        """Parse delivered files that are not parsed yet; returns how many were."""
        wanted: dict[date, list[parsing.FileVersion]] = {}
        of_day: dict[date, list[parsing.FileVersion]] = {}
        for (day, name), digest in sorted(current.items()):
            version = parsing.FileVersion(day, name, digest)
            of_day.setdefault(day, []).append(version)
            if self.place(version) is None:
                wanted.setdefault(day, []).append(version)
        jobs = [job for versions in wanted.values() for job in self._jobs(versions)]
        total = sum(map(len, wanted.values()))
        done = 0
        for read in self.each(lambda job: job(), jobs, wanted.keys()):
            self.progress("parsing deliveries", done, total)
            done += read
        for day in wanted:
            self.folders.pop(day, None)
            self._compact(day, of_day[day])
        return total

    def _jobs(self, versions: Sequence[parsing.FileVersion]) -> Iterator[Callable[[], int]]:
        """Jobs that parse files of a day and return how many they parsed: small files in batches."""
        delivered = [version for version in versions if (version.day, version.name) in self.delivered]
        archived = [version for version in versions if (version.day, version.name) not in self.delivered]
        small = [version for version in delivered if self.sizes.get((version.day, version.name), 0) <= SMALL]
        again = [version for version in archived if self._is_small(version)]
        together: set[parsing.FileVersion] = set()
        for few, parse in ((small, self._parse_together), (again, self._parse_again_together)):
            if len(few) >= _MANY:
                together.update(few)
                for start in range(0, len(few), _PARSED_TOGETHER):
                    yield partial(parse, few[start : start + _PARSED_TOGETHER])
        for version in versions:
            if version not in together:
                yield partial(self._parse_one, version)

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
            hashes = rows.select(hash=identity_hash(), valid=self.rules.is_valid(day, len(rows)))
            self.hashes[path] = hashes.select(pl.when("valid").then("hash")).to_series()
            cache_hashes(path, hashes["hash"])
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
            validated.append(rows.select("hash", valid_hash=pl.when(valid).then("hash")))

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
        self.hashes[path] = whole["valid_hash"]
        cache_hashes(path, whole["hash"])

    def _require_unchanged(self, file: DeliveredFile) -> None:
        label = delivery_label(file.day, file.name)
        if label in self.stamps and self.stamps[label] != stamp(file):
            raise InterruptedRunError(f"usage/{label} was changed while it was read: run again")

    def _compact(self, day: date, versions: Sequence[parsing.FileVersion]) -> None:
        """Compact the small parsed files of a day into one, where deliveries came a few at a time."""
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
