"""Incremental ingest of landing/usage into the lake.

Layer one parses every delivered file on its own (`parsed_files`). Layer two validates and deduplicates the rows, and
writes the tables of each delivery day (`day_tables`). Both are incremental: a day is rewritten when its files, the
accounts or the catalogue's metrics change, or when another day's delivery affects one of its events.

A killed run is recovered by the next: the days to rewrite are recorded as pending before the first is touched, and the
state is written last.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from pathlib import Path, PurePosixPath
from typing import Final

import polars as pl

from billing.ingest import parsed_files as parsing
from billing.ingest.changed_names import accounts_changed, days_of_changed_names
from billing.ingest.day_files import day_of
from billing.ingest.day_tables import rewrite_repeats, write_day
from billing.ingest.duplicates import Marking
from billing.ingest.hash_cache import remove_hashes
from billing.ingest.landing import DeliveredFile, delivered_files, delivery_day
from billing.ingest.malloc import reuse_freed_blocks
from billing.ingest.manifest import ParsedVersion
from billing.ingest.parsed_deliveries import Done, Job, ParsedDeliveries, Progress
from billing.ingest.parsed_sources import sources_of
from billing.ingest.required_columns import UNREADABLE_FILE
from billing.ingest.state import (
    DayState,
    State,
    configuration_digest,
    delivery_label,
    read_state,
    remove_other_accounts,
    remove_other_aliases,
    settled_before,
    stamp,
    with_pending,
    write_accounts,
    write_aliases,
    write_state,
)
from billing.ingest.unusable_files import STRAY, unusable_deliveries
from billing.ingest.validation import Rules
from billing.model.catalogue import Metric
from billing.model.file_limits import DEFAULT_LIMITS, Limits
from billing.model.sources import Source, digest_of
from billing.model.tables import INGEST, REJECTS
from billing.store.files import file_hash, remove_file, remove_scratch_files
from billing.store.frames import read_frame, write_frame
from billing.store.home import Home

_WORTH_SHARING: Final = 8 * 1024 * 1024
"""Delivered bytes from which on files are processed in parallel."""


@dataclass(frozen=True)
class IngestOutcome:
    """Result of an ingest, and the totals of the lake after it.

    Attributes
    ----------
    days_changed
        Delivery days whose lake files were rewritten.
    files_read, files_skipped
        Delivered files that were parsed, and files whose parsed rows were cached.
    rows, counted, duplicates, rejected, ignored
        Of every delivered file in the lake: rows = counted + duplicates + rejected + ignored.
    warnings
        Files whose bytes changed after they were ingested (rule 22), and other warnings.
    unreadable_files
        As `unusable_deliveries` returns them.
    """

    days_changed: tuple[date, ...]
    files_read: int
    files_skipped: int
    rows: int
    counted: int
    duplicates: int
    rejected: int
    warnings: tuple[str, ...]
    unreadable_files: tuple[str, ...]
    ignored: int = 0


def ingest_deliveries(
    home: Home,
    *,
    metrics: Sequence[Metric],
    accounts: pl.Series | AbstractSet[str],
    time_zone: str,
    lateness_days: int,
    progress: Progress | None = None,
    through: date | None = None,
    workers: int = 2,
    kept: Sequence[parsing.FileVersion] = (),
    limits: Limits = DEFAULT_LIMITS,
    sources: Sequence[Source] = (),
    aliases: pl.DataFrame | None = None,
) -> IngestOutcome:
    """Update events, rejects and the ingest manifest from landing/usage.

    Rule 22: the landing area is the truth. A file whose bytes change is ingested again; a file that vanishes stays
    ingested.

    Deterministic and idempotent: the same landing, metrics and accounts give the same tables, byte for byte, whatever
    the order and number of calls. A second call on unchanged input writes nothing.

    Parameters
    ----------
    accounts
        Ids of the known accounts.
    time_zone
        The billing time zone (IANA name).
    lateness_days
        Reject events older than this many days on their delivery day.
    through
        The as-of day: skip later delivery days. Their rows already in the lake stay; readers filter them.
    workers
        Files parsed, and days written, in parallel where there is enough work; each takes some 100 MB.
    kept
        Versions of delivered files that are still compared with their replacements: do not remove their parsed files.
    limits
        Limits on one file; a file beyond them is unreadable until they change.
    sources
        How raw logs are read. A source that changed reads its files again.
    aliases
        ALIASES: the accounts behind names in raw logs.

    Raises
    ------
    InterruptedRunError
        When a delivered file changes while it is read.
    """
    rules = Rules.of(metrics, _as_series(accounts), time_zone, lateness_days, limits, sources, aliases)
    with reuse_freed_blocks():
        return _Ingest(home, rules, progress or _silent, through, workers, kept).run()


class _Ingest:
    """One call of `ingest_deliveries`."""

    def __init__(
        self,
        home: Home,
        rules: Rules,
        progress: Progress,
        through: date | None,
        workers: int,
        kept: Sequence[parsing.FileVersion],
    ) -> None:
        self.home = home
        self.rules = rules
        self.progress = progress
        self.workers = workers
        self.kept = kept
        self.landing = delivered_files(home, through)
        self.delivered = {(file.day, file.name): file for file in self.landing.files}
        self.state = read_state(home)
        self.warnings: list[str] = []
        self.stamps: dict[str, tuple[int, ...]] = dict(self.state.stamps) if self.state else {}
        self.sizes: dict[tuple[date, str], int] = {}
        self.parsed = ParsedDeliveries(
            home,
            rules=rules,
            delivered=self.delivered,
            stamps=self.stamps,
            sizes=self.sizes,
            each=self._run_jobs,
            progress=progress,
        )
        self.marking = Marking(home, rules, self.parsed, self._run_jobs, progress)

    def run(self) -> IngestOutcome:
        for folder in ("parsed_files", "events", "rejects", "ingest", "repeats"):
            remove_scratch_files(self.home.lake / folder)
        known = self._known_versions()
        current = self._current_versions(known)
        read = self.parsed.bring_up_to_date(current)
        self._write_strays()
        files = self._files_by_day(current)
        changed = self._changed_days(files)
        touched: dict[date, pl.DataFrame] = {}
        alike: set[date] = set()
        state = self.state
        accounts = write_accounts(self.home, self.rules.accounts) if changed or state is None else state.accounts
        names = write_aliases(self.home, self.rules.aliases)
        if state is None:
            state = State(configuration_digest(self.rules), accounts)
        if changed:
            touched, alike = self.marking.decide(files, changed)
            if self.state is not None:
                write_state(self.home, with_pending(self.state, frozenset(touched)))
        days = dict(state.days)

        def write(day: date) -> DayState:
            if day in alike:
                return rewrite_repeats(self.home, day, state.days[day], touched[day], self.rules)
            return self._write_day(day, files.get(day, []), touched[day])

        order = sorted(touched)
        for done, written in enumerate(self._run_jobs(write, order, touched.keys())):
            self.progress("writing events", done, len(order))
            days[order[done]] = written
        days = {day: written for day, written in days.items() if written.files}
        # The accounts may have changed without affecting any row.
        if accounts_changed(self.home, self.rules, self.state):
            accounts = write_accounts(self.home, self.rules.accounts)
        final = State(configuration_digest(self.rules), accounts, (), days, self.stamps, names)
        if final != self.state:
            write_state(self.home, final)
            remove_other_accounts(self.home, accounts)
            remove_other_aliases(self.home, names)
            self._remove_superseded(files)
        return self._outcome(final, tuple(sorted(touched)), read)

    # --- delivered files --------------------------------------------------------------------------------------------

    def _known_versions(self) -> dict[tuple[date, str], str]:
        """Hash of every file in the lake, by day and name: from the state, else from the manifests."""
        if self.state is not None and not self.state.pending:
            return {
                (day, name): file.sha256 for day, found in self.state.days.items() for name, file in found.files.items()
            }
        known: dict[tuple[date, str], str] = {}
        if self.state is not None:
            known |= {
                (day, name): file.sha256 for day, found in self.state.days.items() for name, file in found.files.items()
            }
        for folder in sorted((self.home.lake / "parsed_files").glob("delivery_day=*")):
            day = delivery_day(folder.name.partition("=")[2])
            if day is not None:
                known |= {
                    (day, name): sha256
                    for name, sha256 in self.parsed.folder(day).versions()
                    if (day, name) not in known
                }
        for path in sorted((self.home.lake / INGEST.name).glob(f"delivery_day=*/{INGEST.name}.parquet")):
            manifest = read_frame(path, INGEST)
            known |= {
                (day, name): sha for day, name, sha in manifest.select("delivery_day", "file", "sha256").iter_rows()
            }
        return known

    def _current_versions(self, known: Mapping[tuple[date, str], str]) -> dict[tuple[date, str], str]:
        """Hash of the current version of every file: as delivered, or as last seen before it vanished (rule 22)."""
        current = dict(known)
        if "" in known.values():
            # An earlier version recorded a folder inside a day as an unreadable file.
            folders = {(day, str(each)) for day, name in self.delivered for each in PurePosixPath(name).parents}
            current = {key: digest for key, digest in known.items() if digest or key not in folders}
        settled = settled_before(self.home)
        found: dict[tuple[date, str], tuple[int, ...] | None] = {}
        for key, file in self.delivered.items():
            now = _stamp(file)
            if now is not None:
                self.sizes[key] = now[0]
                if key in known and self.stamps.get(delivery_label(*key)) == now and now[2] < settled:
                    continue
            found[key] = now
        digests = self._run_jobs(lambda key: _digest(self.delivered[key]), list(found), {day for day, _ in found})
        for done, ((key, now), digest) in enumerate(zip(found.items(), digests, strict=True)):
            self.progress("looking at deliveries", done, len(found))
            label = delivery_label(*key)
            if now is None or digest is None:
                # An unreadable file is not known to have changed.
                self.stamps.pop(label, None)
                current.setdefault(key, "")
                continue
            self.stamps[label] = now
            if known.get(key) and known[key] != digest:
                self.warnings.append(
                    f"usage/{label}: its bytes changed after it was ingested; it was ingested again and the difference "
                    "is settled like late usage"
                )
            current[key] = digest
        for label in set(self.stamps) - {delivery_label(day, name) for day, name in self.delivered}:
            del self.stamps[label]
        return current

    def _run_jobs(self, work: Callable[[Job], Done], jobs: Sequence[Job], days: AbstractSet[date]) -> Iterator[Done]:
        """Run every job, in parallel where that pays; yields the results in order.

        Parameters
        ----------
        days
            Days whose files are processed: few bytes are not worth a thread.
        """
        size = sum(self.sizes.get((file.day, file.name), 0) for file in self.landing.files if file.day in days)
        if self.workers == 1 or size < _WORTH_SHARING:
            yield from map(work, jobs)
            return
        with ThreadPoolExecutor(self.workers) as pool:
            yield from pool.map(work, jobs)

    def _write_day(self, day: date, files: Sequence[ParsedVersion], marks: pl.DataFrame) -> DayState:
        sources = {source.path: source for source in sources_of(files)}

        def valid(path: Path) -> pl.Series:
            return self.marking.valid_hashes(sources[path], day).is_not_null()

        return write_day(
            self.home,
            day=day,
            files=files,
            marks=marks,
            rules=self.rules,
            texts=self._find_texts(day, files),
            valid=valid,
        )

    def _find_texts(self, day: date, files: Sequence[ParsedVersion]) -> Callable[[pl.DataFrame], pl.DataFrame]:
        """Look up texts of rows: from the last ingest of the same bytes, else from the delivered file."""
        manifest = read_frame(self.home.delivery(INGEST, day), INGEST)
        before = dict(manifest.select("file", "sha256").iter_rows())
        same = [file.name for file in files if before.get(file.name) == file.sha256]
        kept = (
            read_frame(self.home.delivery(REJECTS, day), REJECTS)
            .filter(pl.col("row").is_not_null() & pl.col("file").is_in(same))
            .select("file", "row", "text")
        )

        def find(wanted: pl.DataFrame) -> pl.DataFrame:
            known = kept.join(wanted, on=["file", "row"], how="semi")
            found = [known]
            missing = wanted.join(known, on=["file", "row"], how="anti")
            for (name,), rows in missing.group_by("file", maintain_order=True):
                delivered = self.delivered.get((day, str(name)))
                if delivered is not None:
                    source = self.rules.source_of(str(name))
                    texts = parsing.read_texts(delivered, rows["row"], self.rules.types, self.rules.limits, source)
                    found.append(texts.select(pl.lit(str(name)).alias("file"), "row", "text"))
            return pl.concat(found)

        return find

    def _files_by_day(self, current: Mapping[tuple[date, str], str]) -> dict[date, list[ParsedVersion]]:
        files: dict[date, list[ParsedVersion]] = {}
        for (day, name), digest in sorted(current.items()):
            place = self.parsed.place(parsing.FileVersion(day, name, digest))
            if place is None:
                self.warnings.append(
                    f"usage/{delivery_label(day, name)}: vanished, with its parsed rows: nothing of it counts"
                )
                continue
            size = self.sizes.get((day, name))
            if size is None:
                size = self._last_size(day, name)
            files.setdefault(day, []).append(ParsedVersion(name, digest, size, place, self.rules.source_of(name)))
        return files

    def _last_size(self, day: date, name: str) -> int:
        if self.state is not None and day in self.state.days and name in self.state.days[day].files:
            return self.state.days[day].files[name].bytes
        manifest = read_frame(self.home.delivery(INGEST, day), INGEST).filter(pl.col("file") == name)
        return int(manifest["bytes"][0]) if len(manifest) else 0

    # --- changes ----------------------------------------------------------------------------------------------------

    def _changed_days(self, files: Mapping[date, Sequence[ParsedVersion]]) -> set[date]:
        state = self.state
        if state is None or state.configuration != configuration_digest(self.rules):
            return set(files) | set(state.days if state else ()) | self._days_in_lake()
        changed = set(state.pending)
        for day in set(files) | set(state.days):
            before = state.days.get(day, DayState({}, {}))
            now = {file.name: (file.sha256, file.place.kept, digest_of(file.source)) for file in files.get(day, ())}
            if now != {
                name: (file.sha256, file.kept, file.source) for name, file in before.files.items()
            } or not self._lake_files_exist(before):
                changed.add(day)
        return changed | days_of_changed_names(self.home, self.rules, state, files, changed)

    def _days_in_lake(self) -> set[date]:
        names = {path.parent.name.partition("=")[2] for path in self.home.lake.glob("*/delivery_day=*/*.parquet")}
        days = {delivery_day(name) for name in names}
        days |= {day_of(path) for path in self.home.lake.glob("events/event_month=*/*.parquet")}
        return {day for day in days if day is not None}

    def _lake_files_exist(self, day: DayState) -> bool:
        """Whether the lake files of a day exist with their recorded sizes."""
        try:
            return all((self.home.lake / path).stat().st_size == size for path, (size, _) in day.outputs.items())
        except OSError:
            return False

    # --- strays, clean-up, result -----------------------------------------------------------------------------------

    def _write_strays(self) -> None:
        """Write one reject for each name in landing/usage that is no delivery day."""
        path = self.home.lake / REJECTS.name / "delivery_day=none" / f"{REJECTS.name}.parquet"
        if not self.landing.strays:
            remove_file(path)
            return
        rejects = pl.DataFrame({"file": [f"usage/{path}" for path in self.landing.strays]}).with_columns(
            reason=pl.lit(UNREADABLE_FILE),
            text=pl.format("{}: {}", "file", pl.lit(STRAY)),
            detail=pl.lit(f"file: {STRAY}"),
        )
        rejects = pl.concat([REJECTS.empty(), rejects], how="diagonal")
        if not read_frame(path, REJECTS).equals(REJECTS.conform(rejects)):
            write_frame(path, rejects, REJECTS)

    def _remove_superseded(self, files: Mapping[date, Sequence[ParsedVersion]]) -> None:
        """Remove stale parsed files: no table is made from them, and nothing is compared with them."""
        current = {parsing.FileVersion(day, file.name, file.sha256) for day, found in files.items() for file in found}
        wanted = {file.parsed for found in files.values() for file in found}
        compared = [self.parsed.folder(version.day).find_any(version) for version in set(self.kept) - current]
        wanted.update(place.path for place in compared if place is not None)
        for path in (self.home.lake / "parsed_files").glob("delivery_day=*/*.parquet"):
            if path not in wanted:
                remove_hashes(path)
                path.unlink(missing_ok=True)

    def _outcome(self, state: State, days: tuple[date, ...], read: int) -> IngestOutcome:
        files = [file for found in state.days.values() for file in found.files.values()]
        return IngestOutcome(
            days_changed=days,
            files_read=read,
            files_skipped=max(0, len(files) - read),
            rows=sum(file.rows for file in files),
            counted=sum(file.counted for file in files),
            duplicates=sum(file.duplicates for file in files),
            rejected=sum(file.rejected for file in files),
            ignored=sum(file.ignored for file in files),
            warnings=tuple(self.warnings),
            unreadable_files=tuple(unusable_deliveries(self.home, self.landing)),
        )


def _stamp(file: DeliveredFile) -> tuple[int, ...] | None:
    """As `state.stamp`; None when the file cannot be read."""
    try:
        return None if file.fault else stamp(file)
    except OSError:
        return None


def _digest(file: DeliveredFile) -> str | None:
    """SHA-256 of a delivered file; None when it cannot be read."""
    try:
        return None if file.fault else file_hash(file.path)
    except OSError:
        return None


def _as_series(accounts: pl.Series | AbstractSet[str]) -> pl.Series:
    return accounts if isinstance(accounts, pl.Series) else pl.Series(sorted(accounts), dtype=pl.String)


def _silent(doing: str, done: int, total: int) -> None:
    """The default progress callback: does nothing."""
