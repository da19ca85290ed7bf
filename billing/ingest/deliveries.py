"""Incremental ingest of landing/usage into the lake.

Layer one parses every delivered file on its own (`parsed_files`). Layer two validates and deduplicates the rows, and
writes the tables of each delivery day (`day_tables`). Both are incremental: a day is rewritten when its files, the
accounts or the catalogue's metrics change, or when another day's delivery affects one of its events.

A killed run is recovered by the next: the days to rewrite are recorded as pending before the first is touched, and the
state is written last.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Final

from billing.ingest import parsed_files as parsing
from billing.ingest.malloc import reuse_freed_blocks
from billing.ingest.parsed_deliveries import Done, Job, Progress
from billing.ingest.row_hashes import RowHashes
from billing.ingest.stages import (
    IngestOutcome,
    Sized,
    decide_days,
    finish_ingest,
    parse_batch,
    plan_ingest,
    silent,
    write_batch,
)
from billing.ingest.state import DayState
from billing.ingest.validation import Rules
from billing.store.files import folders_synced_once
from billing.store.home import Home

_WORTH_SHARING: Final = 8 * 1024 * 1024
"""Delivered bytes from which on files are processed in parallel."""


def ingest_deliveries(
    home: Home,
    rules: Rules,
    *,
    progress: Progress | None = None,
    through: date | None = None,
    workers: int = 2,
    kept: Sequence[parsing.FileVersion] = (),
) -> IngestOutcome:
    """Update events, rejects and the ingest manifest from landing/usage.

    Rule 22: the landing area is the truth. A file whose bytes change is ingested again; a file that vanishes stays
    ingested.

    Deterministic and idempotent: the same landing, metrics and accounts give the same tables, byte for byte, whatever
    the order and number of calls. A second call on unchanged input writes nothing.

    Parameters
    ----------
    rules
        What rows are validated with. A source that changed reads its files again; a file beyond the limits is
        unreadable until they change.
    through
        The as-of day: skip later delivery days. Their rows already in the lake stay; readers filter them.
    workers
        Files parsed, and days written, in parallel where there is enough work; each takes some 100 MB.
    kept
        Versions of delivered files that are still compared with their replacements: do not remove their parsed files.

    Raises
    ------
    InterruptedRunError
        When a delivered file changes while it is read.
    """
    each, told = _Threads(workers), progress or silent
    with reuse_freed_blocks():
        plan = plan_ingest(home, rules, through=through, kept=kept, each=each, progress=told)
        settings = plan.settings
        hashes = RowHashes(settings.rules(home), settings.key)
        done = 0
        with folders_synced_once():
            for read in each(
                lambda job: parse_batch(home, settings, plan.root, [job], hashes), plan.jobs, _size(plan.jobs)
            ):
                told("parsing deliveries", done, plan.files_to_parse)
                done += read
        decision = decide_days(home, plan, hashes, each, told)
        written: dict[date, DayState] = {}
        # The days of a month share folders. They are pending until the state is written.
        with folders_synced_once():
            for found in each(
                lambda day: write_batch(home, settings, [day], hashes), decision.days, _size(decision.days)
            ):
                told("writing events", len(written), len(decision.days))
                written |= found
        return finish_ingest(home, plan, decision, written)


class _Threads:
    """Runs jobs in parallel where there is enough work."""

    def __init__(self, workers: int) -> None:
        self._workers = workers

    def __call__(self, work: Callable[[Job], Done], jobs: Sequence[Job], size: int) -> Iterator[Done]:
        """Run every job; yields the results in order."""
        if self._workers == 1 or size < _WORTH_SHARING:
            yield from map(work, jobs)
            return
        with ThreadPoolExecutor(self._workers) as pool:
            yield from pool.map(work, jobs)


def _size(work: Sequence[Sized]) -> int:
    return sum(each.bytes for each in work)
