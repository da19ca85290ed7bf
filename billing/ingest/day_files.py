"""Files of a delivery day's EVENTS and REPEATS: one a calendar month, or parts of one where there are many accounts.

A shard of a month's accounts is to read about its share of the events. So the events of a day with many rows of many
accounts are split by buckets when they are written, always into the same parts: the number of shards may change.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from typing import Final

import polars as pl

from billing.ingest.deduplication import REPEATS
from billing.ingest.landing import delivery_day
from billing.ingest.validation import Rules
from billing.model.buckets import BUCKETS, BucketRange, bucket_ranges, buckets_of
from billing.model.calendar import first_day, months_after, months_between
from billing.model.columns import Table
from billing.model.tables import EVENTS
from billing.store.files import remove_file
from billing.store.frames import read_frame
from billing.store.home import Home
from billing.store.parquet_writer import TableFile

PARTS: Final = bucket_ranges(32)
"""The buckets of each part of a day's events, where they are split."""

_MONTH: Final = "event_month"
_MANY_ROWS: Final = 250_000
_MANY_ACCOUNTS: Final = 125_000
"""A day's events are split if so many first rows are of more accounts; those of 250,000 that use alike are of 158,000.

The rows alone decide: what is known besides may change without the day being written again.
"""
_SPLIT_TOGETHER: Final = 500_000
_CHECKED_TOGETHER: Final = 100_000


def day_file(home: Home, table: Table, month: str, day: date, part: BucketRange | None = None) -> Path:
    """Path of the EVENTS or REPEATS rows of a calendar month and a delivery day, or of a part of their accounts."""
    name = day.isoformat() if part is None else f"{day.isoformat()}.{part.name}"
    return month_folder(home, table, month) / f"{name}.parquet"


def month_folder(home: Home, table: Table, month: str) -> Path:
    """Folder of EVENTS or REPEATS of a calendar month (billing time zone), a file or parts of one per delivery day."""
    return home.lake / table.name / f"{_MONTH}={month}"


def day_of(path: Path) -> date | None:
    """The delivery day of a file of EVENTS or REPEATS, or of a part of one; None where it is another file."""
    return delivery_day(path.name.partition(".")[0])


def part_of(path: Path) -> BucketRange | None:
    """The buckets whose accounts are in a file of EVENTS or REPEATS; None: all of them."""
    return BucketRange.named(path.stem.partition(".")[2])


def files_of_day(home: Home, table: Table, day: date) -> list[Path]:
    """The files of EVENTS or REPEATS of a delivery day, of all months; sorted. Of a shard, those it reads."""
    begins, root = f"{day.isoformat()}.", home.lake / table.name
    # Compare names: to compile a pattern takes longer than to list the files of a year.
    folders = [folder for folder in _names(root) if folder.startswith(f"{_MONTH}=")]
    found = [root / folder / name for folder in folders for name in _names(root / folder) if name.startswith(begins)]
    return sorted(path for path in found if path.suffix == ".parquet" and is_read(home, path))


def _names(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries]
    except (FileNotFoundError, NotADirectoryError):
        return []


def is_read(home: Home, path: Path) -> bool:
    """Whether rows of a shard's accounts may be in a file; all files are read where the home is no shard's."""
    part = part_of(path)
    return home.buckets is None or part is None or home.buckets.overlaps(part)


def may_be_split(known: int) -> bool:
    """Whether the events of any day are of so many accounts that they are split, where so many are known."""
    return known > _MANY_ACCOUNTS


def are_split(rows: int, accounts: Callable[[int], pl.Series]) -> bool:
    """Whether the events of so many rows are split by account; `accounts` returns those of the first rows."""
    return rows >= _MANY_ROWS and accounts(_MANY_ROWS).n_unique() > _MANY_ACCOUNTS


def read_repeats(home: Home, day: date) -> pl.DataFrame:
    """REPEATS of a delivery day, of all months of its events."""
    found = [read_frame(path, REPEATS) for path in files_of_day(home, REPEATS, day)]
    return pl.concat([REPEATS.empty(), *found]).sort(REPEATS.key)


def write_by_month(home: Home, table: Table, day: date, frames: Iterable[pl.DataFrame], rules: Rules) -> list[Path]:
    """Write a day's rows by month, and return the files; see `remove_others`.

    All frames together are sorted by the table's key. Of each month some row groups are held in memory.
    """
    with ExitStack() as files:
        months: dict[str, _MonthOfDay] = {}
        for rows in frames:
            for month, part in _by_month(rows, rules):
                if month not in months:
                    months[month] = _MonthOfDay(home, table, month, day, files)
                months[month].add(part)
        return [path for month in sorted(months) for path in months[month].close()]


def remove_others(home: Home, table: Table, day: date, written: Sequence[Path]) -> None:
    """Remove the files of a day that were not written: of months and parts without rows."""
    for path in files_of_day(home, table, day):
        if path not in written:
            remove_file(path)


class _MonthOfDay:
    """The rows of a calendar month among those of a delivery day, while they are written.

    The bytes do not depend on how the rows are handed over.
    """

    def __init__(self, home: Home, table: Table, month: str, day: date, files: ExitStack) -> None:
        self._home, self._table, self._month, self._day = home, table, month, day
        self._files = files
        self._held: list[pl.DataFrame] = []
        self._rows = 0
        self._at_once = table.rows_at_once
        self._parts: dict[BucketRange | None, TableFile] = {}
        self._is_split: bool | None = None

    def add(self, rows: pl.DataFrame) -> None:
        self._held.append(self._table.fit(rows))
        self._rows += len(rows)
        if self._is_split is None and self._rows >= _MANY_ROWS:
            self._decide()
        while self._rows >= self._at_once:
            whole = pl.concat(self._held)
            self._write(whole[: self._at_once])
            self._held, self._rows = [whole[self._at_once :]], self._rows - self._at_once

    def close(self) -> Sequence[Path]:
        """Write what is left, and put the files in place."""
        if self._rows:
            self._write(pl.concat(self._held))
        for file in self._parts.values():
            file.close()
        return [file.path for file in self._parts.values()]

    def _decide(self) -> None:
        accounts = pl.concat(rows["account_id"] for rows in self._held)
        self._is_split = self._table is EVENTS and are_split(self._rows, accounts.head)
        if self._is_split:
            self._at_once = _SPLIT_TOGETHER

    def _write(self, rows: pl.DataFrame) -> None:
        if not self._is_split:
            self._file(None).add(rows)
            return
        for part, own in _by_part(rows):
            self._file(part).add(own)

    def _file(self, part: BucketRange | None) -> TableFile:
        if part not in self._parts:
            path = day_file(self._home, self._table, self._month, self._day, part)
            self._parts[part] = self._files.enter_context(TableFile(path, self._table))
        return self._parts[part]


def _by_part(rows: pl.DataFrame) -> Iterator[tuple[BucketRange, pl.DataFrame]]:
    """Rows by the part that their accounts are in, in the order of the parts; their own order stays."""
    # Distinct accounts are not worth finding: there are many.
    places = [buckets_of(own["account_id"]) // (BUCKETS // len(PARTS)) for own in rows.iter_slices(_CHECKED_TOGETHER)]
    found = rows.with_columns(pl.concat(places).alias("part")).partition_by(
        "part", as_dict=True, maintain_order=True, include_key=False
    )
    for (place,), own in sorted(found.items()):
        yield PARTS[place], own


def _by_month(rows: pl.DataFrame, rules: Rules) -> Iterator[tuple[str, pl.DataFrame]]:
    """Rows with a `time`, grouped by calendar month of the billing time zone, order preserved."""
    if rows.is_empty():
        return
    ends = pl.Series([rows["time"].min(), rows["time"].max()]).dt.convert_time_zone(rules.time_zone)
    months = months_between(*ends.dt.to_string("%Y-%m"))
    for month in months:
        start, end = (rules.midnight(first_day(each)) for each in (month, months_after(month, 1)))
        inside = pl.col("time").is_between(start, end, closed="left")
        part = rows.filter(inside) if len(months) > 1 else rows
        if len(part):
            yield month, part
