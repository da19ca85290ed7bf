"""Delivery of sample usage: split into files and days, with duplicates, late, conflicting and broken rows."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Final

import polars as pl

from billing.sample.events import BANDWIDTH, EMAILS, MILLION, events_of_day, rare_changes
from billing.sample.files import ROWS_PER_FILE, file_content, gzipped, lines
from billing.sample.seats_and_tokens import FILE

DELIVERY_DAYS_AFTER_THE_END: Final = 5

DIRT_PER_MILLION: Final[Mapping[str, int]] = {
    # Duplicates.
    "duplicate_same_day": 2000,
    "duplicate_later_day": 800,
    "conflicting_duplicate": 150,
    # Counted, though unusual.
    "late": 1500,
    "card_number": 100,
    "number_as_string": 200,
    "members_reordered": 200,
    # Rejected.
    "too_old": 100,
    "malformed": 150,
    "missing_field": 100,
    "time_without_zone": 100,
    "negative_counter": 100,
    "unknown_account": 150,
    "unknown_type": 100,
    "future_dated": 100,
}
"""Events per million with each kind of dirt; an event gets at most one."""

DUPLICATES: Final = ("duplicate_same_day", "duplicate_later_day")
REJECTED: Final = (
    "conflicting_duplicate",
    "too_old",
    "malformed",
    "missing_field",
    "time_without_zone",
    "negative_counter",
    "unknown_account",
    "unknown_type",
    "future_dated",
)
ONLY_IN_JSON: Final = ("malformed", "card_number", "number_as_string", "members_reordered")

# Mostly gzipped JSON lines, as collectors deliver them; about every tenth file has another format.
FORMATS: Final = (
    *("jsonl.gz", "jsonl.gz", "csv", "jsonl.gz", "parquet", "jsonl.gz"),
    *("jsonl.zst", "jsonl.gz", "jsonl.gz", "csv.gz", "jsonl.gz", "jsonl"),
)

DIRT_TABLE: Final = [kind for kind, count in DIRT_PER_MILLION.items() for _ in range(count)]


@dataclass(frozen=True)
class Delivered:
    """Counts of what was delivered: `events` counts distinct events, `dirt` the rows of each kind."""

    events: int
    rows: int
    files: int
    dirt: dict[str, int]
    last_delivery_day: date


def write_usage(
    folder: Path,
    customers: pl.DataFrame,
    first_day: date,
    last_day: date,
    seed: int,
    progress: Callable[[date, int], None] | None,
    further: Callable[[int], pl.Series] | None = None,
) -> Delivered:
    """Write every delivery day; hold late rows in memory until their day.

    Parameters
    ----------
    further
        The lines of a further file of each day of usage, which are all on time and without dirt.
    """
    days = (last_day - first_day).days + 1
    users = customers.select(
        *("index", "account_id", "source", "start_day", "quiet_from", "resume_day", "rate"),
        *("email_size", "bandwidth_size", "leads_size"),
    )
    rare = rare_changes(customers, seed)
    expected_rows = int(customers.get_column("rate").sum()) // MILLION
    waiting: dict[int, list[pl.DataFrame]] = {}
    dirt = dict.fromkeys(DIRT_PER_MILLION, 0)
    events = rows = files = last_delivery = 0
    for day in range(days + DELIVERY_DAYS_AFTER_THE_END):
        parts = max(2 + day % 2, math.ceil(expected_rows / ROWS_PER_FILE)) if day < days else 1
        for part in range(parts):
            file_format = FORMATS[(day * 5 + part) % len(FORMATS)]
            pieces = []
            if day < days:
                happened = events_of_day(
                    users, rare=rare, day=day, part=part, parts=parts, first_day=first_day, seed=seed
                )
                happened = _with_dirt(happened, file_format, seed)
                events += happened.height
                for kind, count in happened.get_column("dirt").drop_nulls().value_counts().iter_rows():
                    dirt[kind] += count
                pieces = [_on_time_rows(happened)]
                for delay, later in _late_rows(happened, seed):
                    arrival = min(day + delay, days - 1 + DELIVERY_DAYS_AFTER_THE_END)
                    waiting.setdefault(arrival, []).append(later)
            if part == 0:
                pieces += waiting.pop(day, [])
            delivery = pl.concat(pieces) if pieces else pl.DataFrame()
            if delivery.is_empty():
                continue
            target = folder / str(first_day + timedelta(days=day)) / f"events-{part:02d}.{file_format}"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file_content(delivery, file_format))
            rows, files, last_delivery = rows + delivery.height, files + 1, day
        others = further(day) if further is not None and day < days else pl.Series(dtype=pl.String)
        if not others.is_empty():
            target = folder / str(first_day + timedelta(days=day)) / FILE
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(gzipped(lines(others)))
            events, rows, files = events + others.len(), rows + others.len(), files + 1
            last_delivery = max(last_delivery, day)
        if progress is not None:
            progress(first_day + timedelta(days=day), rows)
    return Delivered(events, rows, files, dirt, first_day + timedelta(days=last_delivery))


def _with_dirt(events: pl.DataFrame, file_format: str, seed: int) -> pl.DataFrame:
    """Add the column `dirt`: null, or the one kind of dirt of the event, for this file format."""
    place = (events.get_column("bits") % MILLION).clip(0, len(DIRT_TABLE)).cast(pl.UInt32)
    impossible = [] if file_format.startswith("jsonl") else list(ONLY_IN_JSON)
    if file_format == "parquet":
        impossible.append("time_without_zone")
    kind = pl.Series([*DIRT_TABLE, None], dtype=pl.String).gather(place)
    dirt = pl.lit(kind)
    counter = pl.col("event_type").is_in([EMAILS, BANDWIDTH])
    return events.with_columns(
        dirt=pl.when(~dirt.is_in(impossible) & ((dirt != "negative_counter") | counter)).then(dirt)
    )


def _on_time_rows(events: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of the events' own file: events on time, followed by duplicates."""
    kind = pl.col("dirt")
    noise = (pl.col("bits") // MILLION % 60).cast(pl.Int64)
    rows = events.filter(kind.ne_missing("late")).with_columns(
        at=pl.when(kind == "too_old")
        .then(pl.col("at") - pl.duration(days=91 + noise))
        .when(kind == "future_dated")
        .then(pl.col("at") + pl.duration(days=3 + noise))
        .otherwise("at"),
        value=pl.when(kind == "negative_counter").then(-pl.col("value")).otherwise("value"),
        subject=pl.when(kind == "unknown_account")
        .then("no-such-account-" + (noise % 5).cast(pl.String))
        .when(kind == "missing_field")
        .then(None)
        .otherwise("subject"),
    )
    repeated = events.filter(kind == "duplicate_same_day")
    return pl.concat([rows, repeated]).drop("bits")


def _late_rows(events: pl.DataFrame, seed: int) -> list[tuple[int, pl.DataFrame]]:
    """Return, by delay in days, the rows that another day delivers: late events, duplicates and conflicts."""
    kind = pl.col("dirt")
    noise = (pl.col("bits") // MILLION).cast(pl.Int64)
    later = (
        events.filter(kind.is_in(["late", "duplicate_later_day", "conflicting_duplicate"]))
        .with_columns(
            delay=pl.when(kind == "late").then(2 + noise % 40).otherwise(1 + noise % 9),
            value=pl.when(kind == "conflicting_duplicate").then(pl.col("value") + 1).otherwise("value"),
            dirt=pl.lit(None, dtype=pl.String),
        )
        .drop("bits")
    )
    return [
        (int(delay), later.filter(pl.col("delay") == delay).drop("delay"))
        for delay in later.get_column("delay").unique().sort()
    ]
