"""Layer one of ingest: the parsed rows of every delivered file, made where they are missing.

Large files are parsed each into a file of its own, some at a time. Of many small ones of a day the rows share files.
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
from billing.ingest.formats.parquet_pieces import row_groups
from billing.ingest.hash_cache import keep_hashes
from billing.ingest.landing import DeliveredFile
from billing.ingest.metric_members import FLAT_VALUE
from billing.ingest.parsed_locations import ParsedFolder, Place, write_shared
from billing.ingest.parsed_rows import with_details
from billing.ingest.small_files import SMALL, ParsedTogether, parse_together
from billing.ingest.state import delivery_label, stamp
from billing.ingest.validation import Rules
from billing.model.errors import InterruptedRunError
from billing.store.home import Home

Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and how much there is."""

Job = TypeVar("Job")
Done = TypeVar("Done")

_JUDGED_TOGETHER: Final = 2_000_000
_MANY: Final = 16
"""From so many small files of a day on they are parsed together, and share parsed files."""
_PARSED_TOGETHER: Final = 4_000
_MOST_SMALL: Final = 64
"""So many parsed files of few rows stand in a delivery day before they are brought together."""
_FEW_ROWS: Final = 5_000


class Each(Protocol):
    """Does every job, in turn or some at a time, and gives what comes of them in order."""

    def __call__(self, work: Callable[[Job], Done], jobs: Sequence[Job], days: AbstractSet[date]) -> Iterator[Done]:
        """Do the work of every job; `days` are those whose files are worked on."""


class ParsedDeliveries:
    """The parsed rows of delivered files.

    Attributes
    ----------
    hashes
        By parsed file: the identity hash of every row, null where the row cannot count; of files parsed here.
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
        """`stamps` and `sizes` are those of the files that were looked at: they are read when files are parsed."""
        self.home = home
        self.rules = rules
        self.delivered = delivered
        self.stamps = stamps
        self.sizes = sizes
        self.each = each
        self.progress = progress
        self.hashes: dict[Path, pl.Series] = {}
        self.folders: dict[date, ParsedFolder] = {}
        self.types_digest = parsing.types_digest(rules.types)

    def bring_up_to_date(self, current: Mapping[tuple[date, str], str]) -> int:
        """Parse what is delivered and not parsed yet; the number of files that were."""
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
            self._bring_together(day, of_day[day])
        return total

    def _jobs(self, versions: Sequence[parsing.FileVersion]) -> Iterator[Callable[[], int]]:
        """What parses some files of a day and tells how many: small ones together, where there are many."""
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
        """Whether the parsed rows of an archived file are few."""
        place = self.folder(version.day).find_any(version)
        return place is not None and (place.rows is not None or place.path.stat().st_size <= SMALL)

    def _parse_one(self, version: parsing.FileVersion) -> int:
        file = self.delivered.get((version.day, version.name))
        path = parsing.parsed_file(self.home, version, self.rules.types, kept=file is None)
        if file is not None:
            try:
                parsing.write_parsed(path, self._parsed_rows(file, path), version, self.rules.types)
            except UnreadableFileError as error:
                self._require_unchanged(file)
                if isinstance(error, TooLargeError):
                    path = parsing.parsed_file(self.home, version, self.rules.types, beyond=self.rules.limits)
                rows = parsing.unreadable_file(file, self.rules.types, error)
                parsing.write_parsed(path, [rows], version, self.rules.types)
            return 1
        older = self.folder(version.day).find_any(version)
        if older is not None:
            rows = self._parsed_again(older.scan().collect(), older.path)
            parsing.write_parsed(path, [rows], version, self.rules.types)
        return 1

    def _parsed_again(self, rows: pl.DataFrame, parsed: Path) -> pl.DataFrame:
        flat = FLAT_VALUE in rows.columns
        before = parsing.parsed_with(parsed, self.rules.types) if flat else None
        return parsing.parse_again(rows, self.rules.types, flat=flat, before=before)

    def _parse_again_together(self, versions: Sequence[parsing.FileVersion]) -> int:
        """Make the rows of small archived files of a day from what was parsed of them before."""
        day, frames = versions[0].day, dict[Path, pl.DataFrame]()
        by_schema: dict[tuple[str, ...], list[ParsedTogether]] = {}
        for version in versions:
            place = self.folder(day).find_any(version)
            if place is None:
                continue
            if place.path not in frames:
                frames[place.path] = pl.read_parquet(place.path, glob=False, hive_partitioning=False)
            rows = self._parsed_again(frames[place.path].slice(place.start, place.rows), place.path)
            by_schema.setdefault(tuple(rows.columns), []).append(ParsedTogether(rows, [(version, len(rows))]))
        for found in by_schema.values():
            files = [file for each in found for file in each.files]
            write_shared(self.home, day, pl.concat(each.rows for each in found), files, self.rules.types, kept=True)
        return len(versions)

    def _parse_together(self, versions: Sequence[parsing.FileVersion]) -> int:
        """Parse small files of a day into as few files as there are schemas."""
        day = versions[0].day
        jobs = [(version, self.delivered[(day, version.name)]) for version in versions]
        by_schema: dict[tuple[str, ...], list[ParsedTogether]] = {}
        for parsed in parse_together(jobs, self.rules.types, self.rules.limits):
            if len(parsed.files) == 1:
                self._require_unchanged(self.delivered[(day, parsed.files[0][0].name)])
            by_schema.setdefault(tuple(parsed.rows.columns), []).append(parsed)
        for found in by_schema.values():
            rows, files = pl.concat(each.rows for each in found), [file for each in found for file in each.files]
            path = write_shared(self.home, day, rows, files, self.rules.types, kept=False)
            hashes = rows.select(hash=identity_hash(), valid=self.rules.is_valid(day, len(rows)))
            self.hashes[path] = hashes.select(pl.when("valid").then("hash")).to_series()
            keep_hashes(path, hashes["hash"])
        parsed_files = {version for found in by_schema.values() for each in found for version, _ in each.files}
        # one that goes beyond the limits is told so in a parsed file of its own
        return len(parsed_files) + sum(self._parse_one(version) for version in versions if version not in parsed_files)

    def _parsed_rows(self, file: DeliveredFile, path: Path) -> Iterator[pl.DataFrame]:
        """The rows of a delivered file, some at a time; what is to be found out of them is, while they are at hand."""
        judged: list[pl.DataFrame] = []
        waiting: list[pl.DataFrame] = []

        def judge() -> None:
            rows = pl.concat(waiting)
            waiting.clear()
            valid = pl.col("valid_if_known") & ~self.rules.is_of_unknown_account(len(rows))
            judged.append(rows.select("hash", valid_hash=pl.when(valid).then("hash")))

        for rows in parsing.parse_delivered(file, self.rules.types, self.rules.limits):
            # accounts are looked for sooner by many rows together; as a copy, a text does not hold the block around it
            known = rows.select(
                hash=identity_hash(),
                valid_if_known=self.rules.is_valid_if_known(file.day),
                subject=pl.col("subject") + "",
            )
            waiting.append(known)
            if sum(map(len, waiting)) >= _JUDGED_TOGETHER:
                judge()
            yield rows
        if waiting:
            judge()
        self._require_unchanged(file)
        whole = pl.concat(judged)
        self.hashes[path] = whole["valid_hash"]
        keep_hashes(path, whole["hash"])

    def _require_unchanged(self, file: DeliveredFile) -> None:
        label = delivery_label(file.day, file.name)
        if label in self.stamps and self.stamps[label] != stamp(file):
            raise InterruptedRunError(f"usage/{label} was changed while it was read: run again")

    def _bring_together(self, day: date, versions: Sequence[parsing.FileVersion]) -> None:
        """Write the rows of many small parsed files of a day into one, where deliveries came a few at a time."""
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
        alike: dict[tuple[bool, tuple[str, ...]], list[tuple[parsing.FileVersion, pl.DataFrame]]] = {}
        frames: dict[Path, pl.DataFrame] = {}
        for version, place in small.items():
            if place.path not in frames:
                frames[place.path] = with_details(pl.read_parquet(place.path, glob=False, hive_partitioning=False))
            own = frames[place.path].slice(place.start, place.rows)
            alike.setdefault((place.kept, tuple(own.columns)), []).append((version, own))
        for (kept, _), found in alike.items():
            files = [(version, len(own)) for version, own in found]
            write_shared(self.home, day, pl.concat(own for _, own in found), files, self.rules.types, kept=kept)
        self.folders.pop(day)

    def folder(self, day: date) -> ParsedFolder:
        if day not in self.folders:
            self.folders[day] = ParsedFolder(self.home, day)
        return self.folders[day]

    def place(self, version: parsing.FileVersion) -> Place | None:
        """Where the rows of a file stand; None when they have yet to be read."""
        is_archived = (version.day, version.name) not in self.delivered
        return self.folder(version.day).find(
            version, self.types_digest, is_archived=is_archived, limits=self.rules.limits
        )
