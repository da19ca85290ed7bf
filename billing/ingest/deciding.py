"""Which delivery days are written again, and which of their rows are deliveries of one event (rule 26)."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Final

import polars as pl

from billing.ingest import parsed_files as parsing
from billing.ingest.changed_names import days_of_changed_names
from billing.ingest.day_files import day_of, remove_others, write_by_month
from billing.ingest.day_tables import with_repeats
from billing.ingest.deduplication import REPEATS
from billing.ingest.duplicates import Marking
from billing.ingest.landing import DeliveredFile, delivery_day
from billing.ingest.manifest import ParsedVersion
from billing.ingest.parsed_deliveries import Each, ParsedDeliveries, Progress
from billing.ingest.planning import IngestPlan, at_home
from billing.ingest.required_columns import UNREADABLE_FILE
from billing.ingest.row_hashes import RowHashes
from billing.ingest.state import DayState, State, delivery_label, read_state, with_pending, write_state
from billing.ingest.unusable_files import STRAY
from billing.model.sources import digest_of
from billing.model.tables import INGEST, REJECTS
from billing.store.files import folders_synced_once, remove_file, unsynced
from billing.store.frames import read_frame, write_frame
from billing.store.home import Home

_PARSED: Final = "parsed_files/"


@dataclass(frozen=True)
class DayToWrite:
    """A delivery day whose tables are written; may be handed to another process of the same home.

    Attributes
    ----------
    root
        Where the home stands that the paths are in.
    files
        Its files in their current versions, sorted by name, and where their parsed rows are.
    delivered
        Those that are still delivered.
    bytes
        Of the files.
    """

    root: Path
    day: date
    files: tuple[ParsedVersion, ...]
    delivered: tuple[DeliveredFile, ...]
    bytes: int

    def at_home(self, home: Home) -> "DayToWrite":
        """The same in a home that may stand elsewhere."""
        if self.root == home.root:
            return self
        files = (
            replace(file, place=replace(file.place, path=home.root / file.place.path.relative_to(self.root)))
            for file in self.files
        )
        delivered = (at_home(file, self.root, home) for file in self.delivered)
        return DayToWrite(home.root, self.day, tuple(files), tuple(delivered), self.bytes)


@dataclass(frozen=True)
class Decision:
    """What is to be written after all files are parsed.

    Attributes
    ----------
    days
        Days whose tables are written.
    rewritten
        Days of which only the marks were others: they are written already.
    parsed
        Parsed files that are still needed, relative to the lake.
    """

    days: tuple[DayToWrite, ...]
    rewritten: Mapping[date, DayState]
    parsed: frozenset[str]
    warnings: tuple[str, ...]


def decide(home: Home, plan: IngestPlan, hashes: RowHashes, each: Each, progress: Progress) -> Decision:
    """Mark repeated events, and find the days to write; see `stages.decide_days`."""
    return _Deciding(home, plan, hashes).decide(each, progress)


class _Deciding:
    def __init__(self, home: Home, plan: IngestPlan, hashes: RowHashes) -> None:
        self.home = home
        self.plan = plan
        self.hashes = hashes
        self.rules = hashes.rules
        self.parsed: ParsedDeliveries = plan.parsed(home, hashes)
        self.state = read_state(home)
        self.warnings: list[str] = []

    def decide(self, each: Each, progress: Progress) -> Decision:
        self.parsed.compact({job.day for job in self.plan.jobs}, self.plan.current)
        _write_strays(self.home, self.plan)
        files = self._files_by_day()
        changed = self._changed_days(files)
        days: list[DayToWrite] = []
        rewritten: dict[date, DayState] = {}
        if changed:
            before = self.state or State(self.plan.settings.configuration, self.plan.settings.accounts)
            size = sum(file.bytes for day in changed for file in files.get(day, ()))
            with ExitStack() as scratch:
                marks = Marking(self.home, self.hashes, each, progress).decide(files, changed, size, scratch)
                touched = marks.days()
                # Losing the first state means ingesting all days, as the lack of one does.
                with nullcontext() if self.state else unsynced(self.home.lake):
                    write_state(self.home, with_pending(before, frozenset(touched)))
                scratch.enter_context(folders_synced_once())
                for day in touched:
                    written = write_by_month(self.home, REPEATS, day, iter([marks.of(day)]), self.rules)
                    remove_others(self.home, REPEATS, day, written)
                    if day in marks.alike:
                        rewritten[day] = with_repeats(self.home, day, before.days[day])
                    else:
                        days.append(self._day(day, files.get(day, ())))
        return Decision(tuple(days), rewritten, self._needed(files, {day.day for day in days}), tuple(self.warnings))

    def _day(self, day: date, files: Sequence[ParsedVersion]) -> DayToWrite:
        keys = [(day, file.name) for file in files]
        delivered = tuple(self.parsed.delivered[key] for key in keys if key in self.parsed.delivered)
        return DayToWrite(self.home.root, day, tuple(files), delivered, sum(file.bytes for file in files))

    def _files_by_day(self) -> dict[date, list[ParsedVersion]]:
        files: dict[date, list[ParsedVersion]] = {}
        for (day, name), digest in sorted(self.plan.current.items()):
            place = self.parsed.place(parsing.FileVersion(day, name, digest))
            if place is None:
                self.warnings.append(
                    f"usage/{delivery_label(day, name)}: vanished, with its parsed rows: nothing of it counts"
                )
                continue
            size = self.plan.sizes.get((day, name))
            if size is None:
                size = self._last_size(day, name)
            files.setdefault(day, []).append(ParsedVersion(name, digest, size, place, self.rules.source_of(name)))
        return files

    def _last_size(self, day: date, name: str) -> int:
        if self.state is not None and day in self.state.days and name in self.state.days[day].files:
            return self.state.days[day].files[name].bytes
        manifest = read_frame(self.home.delivery(INGEST, day), INGEST).filter(pl.col("file") == name)
        return int(manifest["bytes"][0]) if len(manifest) else 0

    def _changed_days(self, files: Mapping[date, Sequence[ParsedVersion]]) -> set[date]:
        state = self.state
        if state is None or state.configuration != self.plan.settings.configuration:
            return set(files) | set(state.days if state else ()) | _days_in_lake(self.home)
        changed = set(state.pending)
        for day in set(files) | set(state.days):
            before = state.days.get(day, DayState({}, {}))
            now = {file.name: (file.sha256, file.place.kept, digest_of(file.source)) for file in files.get(day, ())}
            if now != {
                name: (file.sha256, file.kept, file.source) for name, file in before.files.items()
            } or not self._lake_files_exist(before):
                changed.add(day)
        return changed | days_of_changed_names(self.home, self.rules, state, files, changed)

    def _lake_files_exist(self, day: DayState) -> bool:
        """Whether the lake files of a day exist with their recorded sizes."""
        try:
            return all((self.home.lake / path).stat().st_size == size for path, (size, _) in day.outputs.items())
        except OSError:
            return False

    def _needed(self, files: Mapping[date, Sequence[ParsedVersion]], written: AbstractSet[date]) -> frozenset[str]:
        """Parsed files that tables are made from, or that later versions are compared with."""
        current = {parsing.FileVersion(day, file.name, file.sha256) for day, found in files.items() for file in found}
        needed = {file.parsed for found in files.values() for file in found}
        compared = [self.parsed.folder(version.day).find_any(version) for version in set(self.plan.kept) - current]
        needed.update(place.path for place in compared if place is not None)
        names = {path.relative_to(self.home.lake).as_posix() for path in needed}
        # Keep the parsed files of days that stay: their views read them.
        unchanged = [found for day, found in self.state.days.items() if day not in written] if self.state else []
        names.update(name for found in unchanged for name in found.outputs if name.startswith(_PARSED))
        return frozenset(names)


def _days_in_lake(home: Home) -> set[date]:
    days = {delivery_day(path.parent.name.partition("=")[2]) for path in home.lake.glob("*/delivery_day=*/*.parquet")}
    days |= {day_of(path) for path in home.lake.glob("events/event_month=*/*.parquet")}
    return {day for day in days if day is not None}


def _write_strays(home: Home, plan: IngestPlan) -> None:
    """Write one reject for each name in landing/usage that is no delivery day."""
    path = home.lake / REJECTS.name / "delivery_day=none" / f"{REJECTS.name}.parquet"
    if not plan.landing.strays:
        remove_file(path)
        return
    rejects = pl.DataFrame({"file": [f"usage/{path}" for path in plan.landing.strays]}).with_columns(
        reason=pl.lit(UNREADABLE_FILE),
        text=pl.format("{}: {}", "file", pl.lit(STRAY)),
        detail=pl.lit(f"file: {STRAY}"),
    )
    rejects = pl.concat([REJECTS.empty(), rejects], how="diagonal")
    if not read_frame(path, REJECTS).equals(REJECTS.conform(rejects)):
        write_frame(path, rejects, REJECTS)
