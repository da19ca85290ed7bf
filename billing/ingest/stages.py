"""Ingest in stages that workers can be given: plain functions over a home, with small arguments and results.

`ingest_deliveries` calls them one after the other. An engine that has several processes calls the same ones:

1. `plan_ingest`, by the head of the run: hashes what is delivered, and finds what is to be parsed;
2. `parse_batch` for each of `batches(plan.jobs, ...)`, by workers, in any order;
3. `decide_days`, by the head, when all is parsed: finds the events that were delivered more than once by slices of the
   hash space, writes REPEATS, and records the days to write as pending;
4. `write_batch` for each of `batches(decision.days, ...)`, by workers, in any order;
5. `finish_ingest`, by the head, when all is written: writes the state, the only file that makes it count.

The head alone holds the lock of the home from 1 to 5. Every stage may be killed, repeated, or run twice at once: a
parsed file is named by its content, a day's tables are a function of its parsed files and marks, and a run that stopped
anywhere is gone over again by the next. Paths in what is handed over are put where the worker's home stands. It needs
the delivered files of its jobs (in 4, of its days), and of the lake the accounts and aliases of the settings, the
state, and parsed_files, repeats, rejects and ingest of its days.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final, Protocol, TypeVar

import polars as pl

from billing.ingest import parsed_files as parsing
from billing.ingest.day_tables import write_day
from billing.ingest.deciding import DayToWrite, Decision, decide
from billing.ingest.hash_cache import remove_hashes
from billing.ingest.landing import DeliveredFile
from billing.ingest.malloc import reuse_freed_blocks
from billing.ingest.parsed_deliveries import Done, Each, Job, ParsedDeliveries, ParseJob, Progress
from billing.ingest.parsed_sources import sources_of
from billing.ingest.planning import IngestPlan, at_home, plan
from billing.ingest.row_hashes import RowHashes
from billing.ingest.settings import Settings, forget_rules
from billing.ingest.state import (
    DayState,
    State,
    delivery_label,
    read_state,
    remove_other_accounts,
    remove_other_aliases,
    stamp,
    write_state,
)
from billing.ingest.unusable_files import unusable_deliveries
from billing.ingest.validation import Rules
from billing.model.errors import InterruptedRunError
from billing.model.tables import INGEST, REJECTS
from billing.store.files import file_hash, folders_synced_once
from billing.store.frames import read_frame
from billing.store.home import Home


class Sized(Protocol):
    """Work of a number of bytes."""

    @property
    def bytes(self) -> int:
        """Of the delivered files."""


Work = TypeVar("Work", bound=Sized)

BATCH_BYTES: Final = 256 * 1024 * 1024
"""Delivered bytes that a worker is given at once: some ten to sixty million events."""


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


def in_turn(work: Callable[[Job], Done], jobs: Sequence[Job], size: int) -> Iterator[Done]:
    """Run jobs one after the other."""
    yield from map(work, jobs)


def silent(doing: str, done: int, total: int) -> None:
    """The default progress callback: does nothing."""


def plan_ingest(
    home: Home,
    rules: Rules,
    *,
    through: date | None = None,
    kept: Sequence[parsing.FileVersion] = (),
    each: Each = in_turn,
    progress: Progress = silent,
) -> IngestPlan:
    """Look at what is delivered, hash what may have changed, and find what is not parsed yet.

    Stores the accounts and the aliases in the lake for the other stages. The parameters are those of
    `ingest_deliveries`; `each` may run several jobs at once.
    """
    return plan(home, rules, through=through, kept=kept, each=each, progress=progress)


def parse_batch(
    home: Home, settings: Settings, root: Path, jobs: Sequence[ParseJob], hashes: RowHashes | None = None
) -> int:
    """Parse delivered files; returns how many. What is parsed already is parsed again, to the same bytes.

    Parameters
    ----------
    root
        That of the plan.
    hashes
        What this process knows of parsed rows, where the next stages run in it, too.

    Raises
    ------
    InterruptedRunError
        When a delivered file has other bytes than when it was planned.
    """
    found = hashes or RowHashes(settings.rules(home), settings.key)
    parsed = 0
    with _own_memory(hashes), folders_synced_once():
        for job in jobs:
            delivered = {(file.day, file.name): at_home(file, root, home) for file in job.delivered}
            stamps = _stamps_here(job, delivered)
            parsed += ParsedDeliveries(home, hashes=found, delivered=delivered, stamps=stamps).parse(job)
    return parsed


def decide_days(
    home: Home,
    plan: IngestPlan,
    hashes: RowHashes | None = None,
    each: Each = in_turn,
    progress: Progress = silent,
) -> Decision:
    """Find the days to write and the events that were delivered more than once, and write REPEATS of these days.

    Before anything is written the days are recorded as pending. Hashes are held by slices: memory does not grow with
    the rows.
    """
    found = hashes or RowHashes(plan.settings.rules(home), plan.settings.key)
    return decide(home, plan, found, each, progress)


def write_batch(
    home: Home, settings: Settings, days: Sequence[DayToWrite], hashes: RowHashes | None = None
) -> dict[date, DayState]:
    """Write the tables of some days, from their parsed rows and REPEATS; returns what to tell `finish_ingest`.

    Raises
    ------
    InterruptedRunError
        When a day is not pending: the batch was handed over long ago, and a later run has written the day.
    """
    found = hashes or RowHashes(settings.rules(home), settings.key)
    state = read_state(home)
    written = {}
    with _own_memory(hashes), folders_synced_once():
        for day in days:
            if state is None or day.day not in state.pending:
                raise InterruptedRunError(f"usage of {day.day} is not to be written any more: another run did it")
            written[day.day] = _write_day(home, day.at_home(home), found)
    return written


def finish_ingest(home: Home, plan: IngestPlan, decision: Decision, written: Mapping[date, DayState]) -> IngestOutcome:
    """Write the state, and remove what no state needs; returns the outcome.

    Parameters
    ----------
    written
        What `write_batch` returned, of all days.

    Raises
    ------
    InterruptedRunError
        When a day was not written.
    """
    missing = [day.day for day in decision.days if day.day not in written]
    if missing:
        raise InterruptedRunError(f"usage of {missing[0]} was not written: run again")
    before, settings = read_state(home), plan.settings
    days = {**(before.days if before else {}), **decision.rewritten, **written}
    days = {day: found for day, found in days.items() if found.files}
    final = State(settings.configuration, settings.accounts, (), days, plan.stamps, settings.aliases)
    if final != before:
        write_state(home, final)
        remove_other_accounts(home, settings.accounts)
        remove_other_aliases(home, settings.aliases)
        _remove_superseded(home, decision.parsed)
    forget_rules()
    files = [file for found in days.values() for file in found.files.values()]
    return IngestOutcome(
        days_changed=tuple(sorted([*decision.rewritten, *written])),
        files_read=plan.files_to_parse,
        files_skipped=max(0, len(files) - plan.files_to_parse),
        rows=sum(file.rows for file in files),
        counted=sum(file.counted for file in files),
        duplicates=sum(file.duplicates for file in files),
        rejected=sum(file.rejected for file in files),
        ignored=sum(file.ignored for file in files),
        warnings=(*plan.warnings, *decision.warnings),
        unreadable_files=tuple(unusable_deliveries(home, plan.landing)),
    )


def batches(work: Sequence[Work], size: int = BATCH_BYTES) -> list[list[Work]]:
    """Jobs or days in their order, in batches of about so many delivered bytes; at least one in each."""
    found: list[list[Work]] = []
    held = 0
    for each in work:
        if not found or held + each.bytes > size:
            found.append([])
            held = 0
        found[-1].append(each)
        held += each.bytes
    return found


def _own_memory(hashes: RowHashes | None) -> AbstractContextManager[None]:
    """Memory settings of a batch that a worker was given; the head has its own."""
    return reuse_freed_blocks() if hashes is None else nullcontext()


def _stamps_here(job: ParseJob, delivered: Mapping[tuple[date, str], DeliveredFile]) -> dict[str, tuple[int, ...]]:
    """The metadata that the files of a job have where they stand now: a copy of a file has other than the file."""
    stamps = dict(job.stamps)
    for version in job.versions:
        label, file = delivery_label(version.day, version.name), delivered.get((version.day, version.name))
        if file is None or label not in stamps:
            continue
        now = stamp(file)
        if now != stamps[label] and file_hash(file.path) != version.sha256:
            raise InterruptedRunError(f"usage/{label} was changed while it was read: run again")
        stamps[label] = now
    return stamps


def _write_day(home: Home, day: DayToWrite, hashes: RowHashes) -> DayState:
    sources = {source.path: source for source in sources_of(day.files)}
    return write_day(
        home,
        day=day.day,
        files=day.files,
        rules=hashes.rules,
        texts=_find_texts(home, day, hashes.rules),
        valid=lambda path: hashes.valid(sources[path], day.day).is_not_null(),
    )


def _find_texts(home: Home, day: DayToWrite, rules: Rules) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """Look up texts of rows: from the last ingest of the same bytes, else from the delivered file."""
    manifest = read_frame(home.delivery(INGEST, day.day), INGEST)
    before = dict(manifest.select("file", "sha256").iter_rows())
    same = [file.name for file in day.files if before.get(file.name) == file.sha256]
    kept = (
        read_frame(home.delivery(REJECTS, day.day), REJECTS)
        .filter(pl.col("row").is_not_null() & pl.col("file").is_in(same))
        .select("file", "row", "text")
    )
    delivered = {file.name: file for file in day.delivered}

    def find(wanted: pl.DataFrame) -> pl.DataFrame:
        known = kept.join(wanted, on=["file", "row"], how="semi")
        found = [known]
        missing = wanted.join(known, on=["file", "row"], how="anti")
        for (name,), rows in missing.group_by("file", maintain_order=True):
            if str(name) in delivered:
                source = rules.source_of(str(name))
                texts = parsing.read_texts(delivered[str(name)], rows["row"], rules.types, rules.limits, source)
                found.append(texts.select(pl.lit(str(name)).alias("file"), "row", "text"))
        return pl.concat(found)

    return find


def _remove_superseded(home: Home, needed: AbstractSet[str]) -> None:
    """Remove stale parsed files: no table is made from them, and nothing is compared with them."""
    for path in parsing.parsed_files_root(home).glob("delivery_day=*/*.parquet"):
        if path.relative_to(home.lake).as_posix() not in needed:
            remove_hashes(path)
            path.unlink(missing_ok=True)
