"""Reading the counted events of calendar months."""

import hashlib
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import polars as pl

from billing.home import Home, file_hash, scan_frames
from billing.ingest.day_tables import event_month_folder
from billing.ingest.landing import delivery_day
from billing.ingest.state import read_state
from billing.tables import EVENTS


def event_files(home: Home, months: Sequence[str], as_of: date | None = None) -> list[Path]:
    """The files with the events of some calendar months (YYYY-MM, billing time zone), delivered up to a day; sorted."""
    return [
        path
        for month in sorted(set(months))
        for path in sorted(event_month_folder(home, month).glob("*.parquet"))
        if (day := delivery_day(path.stem)) is not None and (as_of is None or day <= as_of)
    ]


def scan_events(home: Home, months: Sequence[str], as_of: date | None = None) -> pl.LazyFrame:
    """EVENTS of some calendar months (YYYY-MM, billing time zone), delivered up to a day.

    Each file is sorted by EVENTS.key, the frame as a whole is not. `repeats` counts redeliveries up to the last
    ingest, later than `as_of` too.
    """
    return scan_frames(event_files(home, months, as_of), EVENTS)


def events_fingerprint(home: Home, months: Sequence[str], as_of: date | None = None) -> str:
    """A hash that changes whenever `scan_events` would give other rows."""
    state = read_state(home)
    recorded = (
        {}
        if state is None or state.pending
        else {path: digest for day in state.days.values() for path, (_, digest) in day.outputs.items()}
    )
    fingerprint = hashlib.sha256()
    for path in event_files(home, months, as_of):
        name = str(path.relative_to(home.lake))
        fingerprint.update(f"{name}\0{recorded.get(name) or file_hash(path)}\n".encode())
    return fingerprint.hexdigest()
