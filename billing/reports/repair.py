"""Repair: find truncated or overwritten files of the lake, and remove those that the next run rebuilds.

The lake can be rebuilt from landing and the register, except for parsed rows of deliveries that were archived since:
these are reported and left alone.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Final

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from polars.exceptions import PolarsError

from billing.ingest.hash_cache import remove_hashes
from billing.ingest.landing import delivered_files, delivery_day
from billing.ingest.parsed_files import FileVersion, parsed_name
from billing.ingest.parsed_locations import is_shared
from billing.ingest.state import read_state, write_state
from billing.model.account_tables import JOURNAL
from billing.model.tables import DOCUMENTS, LINES
from billing.month.recorded_inputs.runs import last_as_of, record_run
from billing.month.shards import shards_record
from billing.store.files import remove_file
from billing.store.home import Home

_MOST_TOLD: Final = 3
_BOOKED: Final = {DOCUMENTS.name, LINES.name, JOURNAL.name}
_ROWS_AT_ONCE: Final = 65_536


@dataclass(frozen=True)
class Damage:
    """An unreadable file of the lake, why, and whether it can be rebuilt."""

    path: Path
    reason: str
    can_be_made_again: bool


def damaged_files(home: Home) -> list[Damage]:
    """Every damaged file of the lake, sorted by path; each file is read to its end."""
    archived = _archived(home)
    return [
        Damage(path, reason, not _holds_archived(path, archived))
        for path in sorted(home.lake.rglob("*"))
        if path.suffix in (".parquet", ".json") and not path.name.startswith(".")
        for reason in _faults(path)
    ]


def damage_in_words(home: Home) -> str:
    """What is damaged and what to do; empty if every file can be read."""
    damaged = damaged_files(home)
    if not damaged:
        return ""
    examples = ", ".join(f"{damage.path} ({damage.reason})" for damage in damaged[:_MOST_TOLD])
    more = f" and {len(damaged) - _MOST_TOLD} more" if len(damaged) > _MOST_TOLD else ""
    return (
        f"found a damaged table: {examples}{more}, expected files as they were written. "
        f"`overage repair --home {home.root}` takes away what can be made again, and the next `overage bill` makes it"
    )


def repair(home: Home) -> tuple[list[Damage], list[Damage]]:
    """Remove damaged files that can be rebuilt, and mark them for the next run.

    Returns
    -------
    tuple
        What was removed, and what cannot be rebuilt and was left alone.
    """
    damaged = [*damaged_files(home), *_repeating(home)]
    removed = [damage for damage in damaged if damage.can_be_made_again]
    # Invalidate first: until a file is removed, nothing mistakes its absence for no rows.
    _ingest_again(home, {day for damage in removed if (day := _delivery_day(damage.path)) is not None})
    for damage in removed:
        month = next((part for part in damage.path.parts if part.startswith("billing_month=")), None)
        if month is not None:
            # A month keeps its shards, so that each part replaces its own.
            shards = shards_record(home, month.removeprefix("billing_month="))
            for record in sorted((home.lake / "fingerprints" / month).glob("*.json")):
                if record != shards:
                    remove_file(record)
        if damage.path.parent.parent.name == "parsed_files":
            remove_hashes(damage.path)
        remove_file(damage.path)
    if any(damage.path.parent.parent.name in _BOOKED for damage in removed):
        # A month's postings are made from the lines of all documents.
        for record in home.lake.glob(f"{JOURNAL.name}/*/built_from.json"):
            remove_file(record)
    as_of = last_as_of(home.root)
    if removed and as_of is not None:
        # Rebuild what covers the whole home, too.
        record_run(home.root, as_of, "")
    return removed, [damage for damage in damaged if not damage.can_be_made_again]


def _faults(path: Path) -> Iterator[str]:
    """Why a file cannot be read; empty if it can."""
    try:
        if path.suffix == ".json":
            json.loads(path.read_bytes())
            return
        with pq.ParquetFile(path) as file:
            for _ in file.iter_batches(_ROWS_AT_ONCE):
                pass
    except (OSError, ValueError, pa.ArrowException) as error:
        yield str(error).splitlines()[0][:200]


def _repeating(home: Home) -> Iterator[Damage]:
    """Copies of the register in which a row stands twice, and journals that were made from them."""
    # The rows are sorted by the key.
    twice = [pl.all_horizontal(pl.col(each.key) == pl.col(each.key).shift()).any() for each in (DOCUMENTS, LINES)]
    unbalanced = (pl.col("debit").sum() != pl.col("credit").sum()).over("kind", "entry").any()
    for table, fault, reason in (
        (DOCUMENTS, twice[0], "has a document twice"),
        (LINES, twice[1], "has a line twice"),
        (JOURNAL, unbalanced, "has an entry whose debits are not its credits"),
    ):
        for month in home.months(table):
            for path in home.parts(table, month):
                if _read(path, fault):
                    yield Damage(path, reason, can_be_made_again=True)


def _read(path: Path, value: pl.Expr) -> bool:
    """The value; False of a file that cannot be read."""
    try:
        return bool(pl.scan_parquet(path, hive_partitioning=False, glob=False).select(value).collect().item())
    except (OSError, PolarsError):
        return False


def _archived(home: Home) -> list[FileVersion]:
    """The versions of delivered files that were ingested and are in landing no more."""
    state = read_state(home)
    delivered = {(file.day, file.name) for file in delivered_files(home, None).files}
    return [
        FileVersion(day, name, file.sha256)
        for day, found in (state.days.items() if state else ())
        for name, file in found.files.items()
        if (day, name) not in delivered
    ]


def _holds_archived(path: Path, archived: Sequence[FileVersion]) -> bool:
    """Whether a file may hold the only rows there are of an archived delivery."""
    if path.parent.parent.name != "parsed_files":
        return False
    day = _delivery_day(path)
    # The deliveries that a damaged shared file holds are unknown.
    return any(
        version.day == day and (is_shared(path) or path.name.startswith(f"{parsed_name(version)}."))
        for version in archived
    )


def _delivery_day(path: Path) -> date | None:
    """The delivery day of a file of events, repeats, rejects, manifests or parsed rows."""
    names = (path.parent.name.removeprefix("delivery_day="), path.name.partition(".")[0])
    return next((day for name in names if (day := delivery_day(name)) is not None), None)


def _ingest_again(home: Home, days: set[date]) -> None:
    """Make the next ingest rewrite the lake files of these days."""
    state = read_state(home)
    if state is not None and days:
        write_state(home, replace(state, pending=tuple(sorted(days | set(state.pending)))))
