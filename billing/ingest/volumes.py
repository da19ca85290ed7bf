"""What each source delivered: files, rows by outcome and times, against the same weekday of earlier weeks."""

from datetime import date, timedelta
from typing import Final

import polars as pl

from billing.ingest.landing import delivery_day
from billing.ingest.manifest import OUTCOMES
from billing.model.columns import INSTANT
from billing.model.tables import INGEST, REJECTS
from billing.store.frames import scan_frames
from billing.store.home import Home

WEEKS: Final = 4
"""Earlier weeks that a day is compared with."""
_FEWEST: Final = 2
"""Weeks from which on there is something usual."""
_ONE_IN: Final = 3
"""A day is low with fewer rows than one in this many of the usual ones."""


def volumes(home: Home, since: date, through: date) -> pl.DataFrame:
    """What each source delivered on the days from `since` to `through`.

    Returns
    -------
    polars.DataFrame
        source_name (null: files that no source reads), files, OUTCOMES, first_time and last_time (of events that
        count), usual (rows of the same weekdays of earlier weeks, null where nothing is usual yet); sorted.
    """
    days = _by_day(home, since, through)
    inside = days.filter(pl.col("delivery_day").is_between(since, through))
    return (
        inside.group_by("source_name")
        .agg(
            pl.col("files", *OUTCOMES).sum(),
            pl.col("first_time").min(),
            pl.col("last_time").max(),
            usual=pl.when(pl.col("usual").is_not_null().any()).then(pl.col("usual").sum()),
        )
        .filter(pl.col("files") > 0)
        .sort("source_name", nulls_last=True)
    )


def rejects_by_source(home: Home, since: date, through: date) -> pl.DataFrame:
    """Rejects of usage delivered on some days: source_name, reason, rows; sorted."""
    files = _manifests(home, since, through).select("delivery_day", "file", "source_name")
    paths = [home.delivery(REJECTS, day) for day in _days(home, since, through)]
    rejects = scan_frames([path for path in paths if path.exists()], REJECTS).select("delivery_day", "file", "reason")
    return (
        rejects.join(files.lazy(), on=["delivery_day", "file"], how="left")
        .group_by("source_name", "reason")
        .agg(rows=pl.len().cast(pl.Int64))
        .sort("source_name", "reason", nulls_last=True)
        .collect()
    )


def low_days(home: Home, since: date, through: date) -> pl.DataFrame:
    """Days on which a source delivered less than a third of its usual rows; files without a source make no source.

    Returns
    -------
    polars.DataFrame
        delivery_day, source_name, rows, usual; sorted.
    """
    days = _by_day(home, since, through)
    inside = pl.col("delivery_day").is_between(since, through)
    return (
        days.filter(pl.col("source_name").is_not_null() & inside & (pl.col("rows") * _ONE_IN < pl.col("usual")))
        .select("delivery_day", "source_name", "rows", "usual")
        .sort("delivery_day", "source_name")
    )


def low_days_in_words(days: pl.DataFrame) -> list[str]:
    """One line for each of `low_days`."""
    return [
        f"{day}: {source} delivered {rows:,} rows, usually {usual:,} on this weekday"
        for day, source, rows, usual in days.iter_rows()
    ]


def _by_day(home: Home, since: date, through: date) -> pl.DataFrame:
    """A row per source and day from its first one on, days without a delivery too, with what is usual on the day."""
    start = since - timedelta(weeks=WEEKS)
    delivered = (
        _manifests(home, start, through)
        .group_by("source_name", "delivery_day")
        .agg(
            pl.len().cast(pl.Int64).alias("files"),
            pl.col(OUTCOMES).fill_null(0).sum(),
            pl.col("first_time").min(),
            pl.col("last_time").max(),
        )
    )
    days = pl.select(delivery_day=pl.date_range(start, through))
    begins = delivered.group_by("source_name").agg(begins=pl.col("delivery_day").min())
    every = (
        begins.join(days, how="cross")
        .filter(pl.col("delivery_day") >= pl.col("begins"))
        .join(delivered, on=["source_name", "delivery_day"], how="left", nulls_equal=True)
        .with_columns(pl.col("files", *OUTCOMES).fill_null(0))
    )
    # The median of the same weekday of earlier weeks: one holiday makes nothing unusual.
    earlier = pl.concat(
        [
            every.select("source_name", pl.col("delivery_day") + pl.duration(weeks=week), earlier="rows")
            for week in range(1, WEEKS + 1)
        ]
    )
    usual = (
        earlier.group_by("source_name", "delivery_day")
        .agg(weeks=pl.len(), usual=pl.col("earlier").sort().get((pl.len() - 1) // 2))
        .filter(pl.col("weeks") >= _FEWEST)
        .drop("weeks")
    )
    return every.join(usual, on=["source_name", "delivery_day"], how="left", nulls_equal=True)


def _manifests(home: Home, since: date, through: date) -> pl.DataFrame:
    """INGEST of the days from `since` to `through`."""
    columns = ["delivery_day", "file", "source_name", *OUTCOMES, "first_time", "last_time"]
    paths = [home.delivery(INGEST, day) for day in _days(home, since, through)]
    return (
        scan_frames(paths, INGEST)
        .select(columns)
        .with_columns(pl.col("first_time", "last_time").cast(INSTANT))
        .collect()
    )


def _days(home: Home, since: date, through: date) -> list[date]:
    """Days with a manifest."""
    folders = (home.lake / INGEST.name).glob(f"delivery_day=*/{INGEST.name}.parquet")
    found = [delivery_day(path.parent.name.partition("=")[2]) for path in folders]
    return sorted(day for day in found if day is not None and since <= day <= through)
