"""Readers of the counted events of calendar months: of a shard's home, only those of its own accounts."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Final

import polars as pl

from billing.ingest.day_files import day_of, files_of_day, is_read, month_folder, part_of
from billing.ingest.deduplication import REPEATS
from billing.ingest.event_views import is_view, rows_in_view, scan_views
from billing.ingest.state import accounts_path, read_accounts, read_state
from billing.model.buckets import BucketRange, bucket_of, buckets_of, in_buckets
from billing.model.columns import Table
from billing.model.tables import EVENTS
from billing.store.files import file_hash
from billing.store.frames import scan_frames
from billing.store.home import Home
from billing.store.parquet_writer import row_groups

_READ_TOGETHER: Final = 10_000_000
_ACCOUNTS_TOGETHER: Final = 250_000
_MANY_FILES: Final = 8
_FEW_BYTES: Final = 4 * 1024 * 1024
"""Of the files of a month that is held: some 200,000 rows, 25 MB in memory."""
_MONTHS_HELD: Final = 3


def event_files(home: Home, months: Sequence[str], as_of: date | None = None) -> list[Path]:
    """Event files of some calendar months (YYYY-MM, billing time zone), delivered up to a day; sorted.

    Of a shard's home, those with events of its accounts: where few accounts have events, they hold others' too.
    """
    return _day_files(home, EVENTS, months, as_of)


def scan_events(
    home: Home, months: Sequence[str], as_of: date | None = None, *, metrics: Sequence[str] | None = None
) -> pl.LazyFrame:
    """EVENTS of some calendar months (YYYY-MM, billing time zone), delivered up to a day; in no order.

    Parameters
    ----------
    metrics
        Read at least the events of these: to read less than half of all costs less, to read more does not.
    """
    return scan_event_files(home, event_files(home, months, as_of), metrics)


def scan_account_events(home: Home, months: Sequence[str], account: str, as_of: date | None = None) -> pl.LazyFrame:
    """As `scan_events`, of one account."""
    bucket = bucket_of(account)
    own = replace(home, buckets=BucketRange(bucket, bucket))
    return _scanned(home, event_files(own, months, as_of)).filter(pl.col("account_id") == account)


def scan_event_files(home: Home, paths: Sequence[Path], metrics: Sequence[str] | None = None) -> pl.LazyFrame:
    """EVENTS in some of `event_files`, at least those of some metrics."""
    if home.buckets is None:
        return _scanned(home, paths, metrics)
    own = [path for path in paths if (part := part_of(path)) is not None and home.buckets.covers(part)]
    shared = [path for path in paths if path not in set(own)]
    if not shared:
        return scan_frames(own, EVENTS)
    of_shared = _of_own_accounts(home, _scanned(home, shared, metrics))
    return pl.concat([scan_frames(own, EVENTS), of_shared]) if own else of_shared


def _scanned(home: Home, paths: Sequence[Path], metrics: Sequence[str] | None = None) -> pl.LazyFrame:
    """EVENTS in some files, and behind the views among them."""
    copies = [path for path in paths if not is_view(path)]
    viewed = scan_views(home, [path for path in paths if is_view(path)], metrics)
    return pl.concat([_scan_copies(copies), *viewed]) if copies or not viewed else pl.concat(viewed)


def _scan_copies(paths: list[Path]) -> pl.LazyFrame:
    """EVENTS in files of rows: of a month with many small ones out of memory, as the steps of a run read it often.

    To open 84 files with 170,000 rows takes ten times as long as what is computed of them.
    """
    held: list[pl.LazyFrame] = []
    others: list[Path] = []
    for _, month in groupby(paths, key=lambda path: path.parent):
        files = list(month)
        stamps = [path.stat() for path in files] if len(files) >= _MANY_FILES else []
        if stamps and sum(each.st_size for each in stamps) <= _FEW_BYTES:
            known = tuple((each.st_dev, each.st_ino, each.st_mtime_ns, each.st_size) for each in stamps)
            held.append(_held_events(_Files(known, files)).lazy())
        else:
            others += files
    return pl.concat([scan_frames(others, EVENTS), *held]) if others or not held else pl.concat(held)


@dataclass(frozen=True)
class _Files:
    """Files by what tells them from others: a scratch copy has the same ones in another place."""

    known: tuple[tuple[int, ...], ...]
    paths: Sequence[Path] = field(compare=False)


@lru_cache(maxsize=_MONTHS_HELD)
def _held_events(files: _Files) -> pl.DataFrame:
    return scan_frames(list(files.paths), EVENTS).collect()


def scan_event_parts(home: Home, months: Sequence[str], as_of: date | None = None) -> list[pl.LazyFrame]:
    """As `scan_events`, in batches of a few million rows; at least one."""
    parts: list[list[Path]] = [[]]
    rows = 0
    for path in event_files(home, months, as_of):
        rows += rows_in_view(path) if is_view(path) else sum(row_groups(path))
        parts[-1].append(path)
        if rows >= _READ_TOGETHER:
            parts.append([])
            rows = 0
    return [scan_event_files(home, part) for part in parts if part or len(parts) == 1]


def accounts_of_events(home: Home) -> pl.Series:
    """Ids of all accounts with events in the lake, and of accounts that were known when they were ingested."""
    state = read_state(home)
    if state is not None and not state.pending:
        if home.buckets is not None and accounts_path(home, state.accounts).exists():
            return _known_in_buckets(accounts_path(home, state.accounts), home.buckets)
        known = read_accounts(home, state.accounts)
        if known is not None:
            return known
    paths = sorted((home.lake / EVENTS.name).glob("*/*.parquet"))
    found = _scanned(home, paths).select("account_id").unique().collect()
    return in_buckets(found, home.buckets)["account_id"]


def scan_delivered_events(home: Home, day: date, file: str) -> pl.LazyFrame:
    """EVENTS counted from one delivered file, of all months."""
    return scan_event_files(home, files_of_day(home, EVENTS, day)).filter(pl.col("file") == file)


def repeated_events(
    home: Home, months: Sequence[str], as_of: date | None = None, *, with_dimensions: bool = False
) -> pl.LazyFrame:
    """Duplicate counts: which of `scan_events` were delivered more than once with the same content (rule 26).

    Returns
    -------
    polars.LazyFrame
        account_id, metric, time, repeats: further deliveries up to the last ingest, also after `as_of`; if asked for
        also `dimensions`, as in EVENTS.
    """
    rows = (
        _of_own_accounts(home, scan_frames(_day_files(home, REPEATS, months, as_of), REPEATS))
        .filter(pl.col("repeats") > 0)
        .explode("metrics")
        .select("account_id", "time", "repeats", "file", "row", metric="metrics")
        .drop_nulls("metric")
    )
    if with_dimensions:
        on = ["account_id", "metric", "time", "file", "row"]
        repeated = rows.collect()
        # Filter by row first: only what may match is read whole.
        at = pl.col("row").is_in(repeated["row"].unique().implode())
        found = scan_events(home, months, as_of).filter(at).select(*on, "dimensions")
        few = found.join(repeated.lazy().select(on).unique(), on=on, how="semi").unique(on, keep="any")
        rows = repeated.lazy().join(few, on=on, how="left")
    return rows.drop("file", "row")


def events_digest(home: Home, months: Sequence[str], as_of: date | None = None) -> str:
    """Fingerprint of the events: changes whenever `scan_events` or `repeated_events` would return other rows."""
    paths = event_files(home, months, as_of) + _day_files(home, REPEATS, months, as_of)
    fingerprint = hashlib.sha256()
    for name, digest in _hashes(home, paths).items():
        fingerprint.update(f"{name}\0{digest}\n".encode())
    return fingerprint.hexdigest()


def event_hashes(home: Home, months: Sequence[str], as_of: date | None = None) -> dict[str, str]:
    """Hash of every file that `scan_events` reads, by path relative to the lake; in their order."""
    return _hashes(home, event_files(home, months, as_of))


def _of_own_accounts(home: Home, rows: pl.LazyFrame) -> pl.LazyFrame:
    """The rows of the accounts of a shard's home; all of them where the home is no shard's."""
    if home.buckets is None or home.buckets.is_whole:
        return rows
    return rows.filter(pl.col("account_id").is_in(accounts_of_events(home).implode()))


@lru_cache(maxsize=2)
def _known_in_buckets(path: Path, buckets: BucketRange) -> pl.Series:
    """The known accounts of a shard, out of a file that is named by its content; holds few of the others at a time."""
    of_all = _buckets_of_known(path)
    parts = [
        accounts.filter(buckets.holds(of_all[start : start + _ACCOUNTS_TOGETHER]))
        for start, accounts in _known_accounts(path)
    ]
    return pl.concat(parts)


@lru_cache(maxsize=1)
def _buckets_of_known(path: Path) -> pl.Series:
    """Find the buckets once for all shards: it takes as long as reading the accounts five times."""
    return pl.concat(buckets_of(accounts) for _, accounts in _known_accounts(path))


def _known_accounts(path: Path) -> Iterator[tuple[int, pl.Series]]:
    known = pl.scan_parquet(path, glob=False, hive_partitioning=False)
    for start in range(0, max(1, sum(row_groups(path))), _ACCOUNTS_TOGETHER):
        yield start, known.slice(start, _ACCOUNTS_TOGETHER).collect()["account_id"]


def _hashes(home: Home, paths: Sequence[Path]) -> dict[str, str]:
    state = read_state(home)
    recorded = (
        {}
        if state is None or state.pending
        else {path: digest for day in state.days.values() for path, (_, digest) in day.outputs.items()}
    )
    names = [str(path.relative_to(home.lake)) for path in paths]
    return {name: recorded.get(name) or file_hash(home.lake / name) for name in names}


def _day_files(home: Home, table: Table, months: Sequence[str], as_of: date | None) -> list[Path]:
    return [
        path
        for month in sorted(set(months))
        for path in sorted(month_folder(home, table, month).glob("*.parquet"))
        if is_read(home, path) and (day := day_of(path)) is not None and (as_of is None or day <= as_of)
    ]
