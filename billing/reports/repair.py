"""Files of the lake that are cut off or overwritten: finding them, and taking away what the next run makes again.

Everything in the lake is made from landing and the register, but for the parsed rows of deliveries that have been
archived since: these are named and left alone.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from billing.ingest.hash_cache import remove_hashes
from billing.ingest.landing import delivered_files, delivery_day
from billing.ingest.parsed_files import FileVersion, parsed_name
from billing.ingest.parsed_locations import is_shared
from billing.ingest.state import read_state, write_state
from billing.month.recorded_inputs.runs import last_as_of, record_run
from billing.store.files import remove_file
from billing.store.home import Home

_MOST_TOLD: Final = 3
_ROWS_AT_ONCE: Final = 65_536


@dataclass(frozen=True)
class Damage:
    """A file of the lake that cannot be read, and why; whether landing and the register give it again."""

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
    """What is damaged and what to do about it; nothing where every file can be read."""
    found = damaged_files(home)
    if not found:
        return ""
    told = ", ".join(f"{damage.path} ({damage.reason})" for damage in found[:_MOST_TOLD])
    more = f" and {len(found) - _MOST_TOLD} more" if len(found) > _MOST_TOLD else ""
    return (
        f"found a damaged table: {told}{more}, expected files as they were written. "
        f"`overage repair --home {home.root}` takes away what can be made again, and the next `overage bill` makes it"
    )


def repair(home: Home) -> tuple[list[Damage], list[Damage]]:
    """Take away what is damaged and can be made again, and see to it that the next run makes it.

    Returns
    -------
    tuple
        What was taken away, and what cannot be made again and was left alone.
    """
    found = damaged_files(home)
    removed = [damage for damage in found if damage.can_be_made_again]
    # first: as long as a file stands, nothing takes its lack for a lack of rows
    _ingest_again(home, {day for damage in removed if (day := _delivery_day(damage.path)) is not None})
    for damage in removed:
        month = next((part for part in damage.path.parts if part.startswith("billing_month=")), None)
        if month is not None:
            for record in sorted((home.lake / "fingerprints" / month).glob("*.json")):
                remove_file(record)
        if damage.path.parent.parent.name == "parsed_files":
            remove_hashes(damage.path)
        remove_file(damage.path)
    as_of = last_as_of(home.root)
    if removed and as_of is not None:
        # what stands for the whole home is made anew as well
        record_run(home.root, as_of, "")
    return removed, [damage for damage in found if not damage.can_be_made_again]


def _faults(path: Path) -> Iterator[str]:
    """Why a file cannot be read, or nothing."""
    try:
        if path.suffix == ".json":
            json.loads(path.read_bytes())
            return
        with pq.ParquetFile(path) as file:
            for _ in file.iter_batches(_ROWS_AT_ONCE):
                pass
    except (OSError, ValueError, pa.ArrowException) as error:
        yield str(error).splitlines()[0][:200]


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
    # which files share a damaged one cannot be known
    return any(
        version.day == day and (is_shared(path) or path.name.startswith(f"{parsed_name(version)}."))
        for version in archived
    )


def _delivery_day(path: Path) -> date | None:
    """The delivery day of a file of events, repeats, rejects, manifests or parsed rows."""
    names = (path.parent.name.removeprefix("delivery_day="), path.stem)
    return next((day for name in names if (day := delivery_day(name)) is not None), None)


def _ingest_again(home: Home, days: set[date]) -> None:
    """Let the next ingest write the lake files of these days anew."""
    state = read_state(home)
    if state is not None and days:
        write_state(home, replace(state, pending=tuple(sorted(days | set(state.pending)))))
