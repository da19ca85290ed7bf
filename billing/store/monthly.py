"""Monthly tables: one file for a billing month, or a part for each shard of its accounts."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from billing.model.buckets import BucketRange, buckets_of, in_buckets
from billing.model.columns import Table
from billing.store.files import remove_file
from billing.store.frames import read_frame, scan_frames, write_frame
from billing.store.home import Home


def read_month(home: Home, table: Table, month: str, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """A monthly table of a month, or some of its columns, sorted by its key; empty where it has not been computed.

    Of a shard's home, the rows of its accounts.
    """
    parts = home.parts(table, month)
    if len(parts) == 1 and home.buckets is None:
        return read_frame(parts[0], table, columns)
    wanted = list(columns or table.column_names)
    needed = list(dict.fromkeys([*wanted, *table.key, *(["account_id"] if home.buckets else [])]))
    found = [
        in_buckets(read_frame(part, table, needed), None if home.holds_all_of(part) else home.buckets) for part in parts
    ]
    rows = pl.concat([table.empty().select(needed), *found])
    return (rows.sort(table.key) if len(parts) > 1 else rows).select(wanted)


def scan_month(home: Home, table: Table, month: str) -> pl.LazyFrame:
    """As `read_month`, lazily."""
    return scan_months(home, table, [month])


def scan_months(home: Home, table: Table, months: Sequence[str]) -> pl.LazyFrame:
    """A monthly table of those of some months that have been computed; each month is sorted by the table's key."""
    parts = [home.parts(table, month) for month in months]
    if all(len(files) <= 1 for files in parts) and home.buckets is None:
        return scan_frames([files[0] for files in parts if files], table)
    whole = [_scan_parts(home, table, files) for files in parts if files]
    return pl.concat(whole) if whole else table.empty().lazy()


def is_one_file(home: Home, table: Table, month: str) -> bool:
    """Whether `scan_month` reads one file as it is: any of its rows can be read without the others."""
    parts = home.parts(table, month)
    return len(parts) == 1 and (home.buckets is None or home.holds_all_of(parts[0]))


def write_month(
    home: Home,
    table: Table,
    month: str,
    frame: pl.DataFrame,
    *,
    in_order: bool = False,
    rows_at_once: int | None = None,
) -> bool:
    """Write a monthly table, or the part of a shard's home, as `write_frame`; the whole replaces the parts."""
    path = home.partition(table, month)
    is_changed = write_frame(path, frame, table, in_order=in_order, rows_at_once=rows_at_once)
    keep_whole(home, table, month)
    return is_changed


def keep_whole(home: Home, table: Table, month: str) -> None:
    """Remove the parts of a monthly table that has been written as a whole."""
    if home.buckets is None:
        keep_parts(home, table, month, [None])


def keep_parts(home: Home, table: Table, month: str, ranges: Sequence[BucketRange | None]) -> None:
    """Remove the files of a monthly table that are of other shards; None is the whole."""
    kept = {replace(home, buckets=each).partition(table, month) for each in ranges}
    for part in home.parts(table, month):
        if part not in kept:
            remove_file(part)


def _scan_parts(home: Home, table: Table, files: list[Path]) -> pl.LazyFrame:
    rows = scan_frames(files, table)
    buckets = home.buckets
    if buckets is not None and not all(map(home.holds_all_of, files)):
        rows = rows.filter(
            pl.col("account_id").map_batches(
                lambda accounts: buckets.holds(buckets_of(accounts)), return_dtype=pl.Boolean, is_elementwise=True
            )
        )
    return rows.sort(table.key) if len(files) > 1 else rows
