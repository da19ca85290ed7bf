"""The manifest of a delivery day: the rows of every delivered file by outcome."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

import polars as pl

from billing.ingest.metric_members import member_column, read_column
from billing.ingest.parsed_locations import Place
from billing.ingest.state import FileState
from billing.ingest.validation import Rules
from billing.model.catalogue import Metric
from billing.model.columns import INSTANT
from billing.model.sources import Source, digest_of
from billing.model.tables import INGEST

OUTCOMES: Final = ("rows", "counted", "duplicates", "rejected", "ignored", "rounded")
"""What is counted of each file: rows = counted + duplicates + rejected + ignored; of the counted, some are rounded."""
LONGEST_UNROUNDED: Final = len("0.123456789")
"""Bytes of a number that is not rounded, whatever it is."""
_ROUNDED: Final = r"\.[0-9]{9}[0-9]*[1-9]"
"""More than nine decimals, trailing zeros aside."""


@dataclass(frozen=True)
class ParsedVersion:
    """A delivered file of the day in its current version, the location of its parsed rows, and what reads it."""

    name: str
    sha256: str
    bytes: int
    place: Place
    source: Source | None = None

    @property
    def parsed(self) -> Path:
        """The parsed file with its rows; a shared file holds rows of other small files too."""
        return self.place.path


def file_states(files: Sequence[ParsedVersion], tallies: Sequence[pl.DataFrame], day: date) -> dict[str, FileState]:
    """Row counts of each file by outcome."""
    times = {"first_time": pl.Int64, "last_time": pl.Int64}
    schema = {"file": pl.String, **dict.fromkeys(OUTCOMES, pl.Int64), "unreadable": pl.String, **times}
    found = (
        pl.concat([pl.DataFrame(schema=schema), *tallies], how="diagonal")
        .group_by("file")
        .agg(
            pl.col(OUTCOMES).sum(),
            pl.col("unreadable").drop_nulls().str.join("; "),
            pl.col("first_time").min(),
            pl.col("last_time").max(),
        )
    )
    told = {row.pop("file"): row for row in found.iter_rows(named=True)}
    states = {}
    for file in files:
        state = FileState(
            sha256=file.sha256,
            bytes=file.bytes,
            kept=file.place.kept,
            source=digest_of(file.source),
            source_name=file.source.name if file.source else "",
            **told.get(file.name, dict.fromkeys(OUTCOMES, 0)),
        )
        states[file.name] = _conserved(state, day, file.name)
    return states


def tally(rows: pl.DataFrame, name: str, files: Sequence[str]) -> pl.DataFrame:
    """Count the rows of each of these files, as the column `name`."""
    if len(files) == 1:
        return pl.DataFrame({"file": files, name: [len(rows)]})
    return rows.group_by("file").agg(pl.len().cast(pl.Int64).alias(name))


def span(counting: pl.DataFrame) -> pl.DataFrame:
    """Earliest and latest time of the counted rows of each file, in nanoseconds."""
    time = pl.col("time").cast(INSTANT).to_physical()
    if len(counting) and counting["file"][0] == counting["file"][-1]:
        return counting.select(pl.col("file").first(), first_time=time.min(), last_time=time.max())
    return counting.group_by("file").agg(first_time=time.min(), last_time=time.max())


def rounded(rows: pl.DataFrame, rules: Rules) -> pl.DataFrame:
    """Count per file the quantities with more than nine decimals: rounded half-even to nine (rule 27).

    Returns
    -------
    polars.DataFrame
        file, rounded; files without such rows are left out.
    """
    long: dict[str, list[str]] = {}
    for metric in rules.metrics:
        column = measured_column(metric, rows.columns)
        if column is not None and metric.measure != "unique":
            long.setdefault(column, []).append(metric.event)
    # Skip the regular expression for columns without a text long enough.
    lengths = rows.select(pl.col(column).str.len_bytes().max() for column in long).row(0) if long else ()
    is_rounded = [
        pl.col("type").is_in(events) & pl.col(column).str.contains(_ROUNDED)
        for (column, events), length in zip(long.items(), lengths, strict=True)
        if (length or 0) > LONGEST_UNROUNDED
    ]
    found = rows.filter(pl.any_horizontal(is_rounded)) if is_rounded else rows.clear()
    return found.group_by("file").agg(rounded=pl.len().cast(pl.Int64))


def _conserved(state: FileState, day: date, name: str) -> FileState:
    if state.rows != state.counted + state.duplicates + state.rejected + state.ignored:
        raise AssertionError(
            f"{day}/{name}: {state.rows} rows, but {state.counted} counted, {state.duplicates} duplicates, "
            f"{state.rejected} rejected and {state.ignored} ignored"
        )
    return state


def manifest(day: date, states: Mapping[str, FileState]) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {
                "delivery_day": day,
                "file": name,
                "bytes": state.bytes,
                "sha256": state.sha256,
                "rows": state.rows,
                "counted": state.counted,
                "duplicates": state.duplicates,
                "rejected": state.rejected,
                "rounded": state.rounded,
                "source_name": state.source_name or None,
                "ignored": state.ignored,
                "first_time": state.first_time,
                "last_time": state.last_time,
            }
            for name, state in states.items()
        ],
        schema={**INGEST.schema, "first_time": pl.Int64, "last_time": pl.Int64},
    ).with_columns(pl.col("first_time", "last_time").cast(INSTANT))


def measured_column(metric: Metric, columns: Sequence[str]) -> str | None:
    """The column of a parsed file that holds a metric's value; None when the file has none."""
    if metric.measure == "count" or metric.value is None:
        return None
    return read_column(metric.value, columns)


def dimension_columns(metric: Metric, columns: Sequence[str]) -> list[str | None]:
    """The columns of a parsed file that hold a metric's dimensions, in their order; None where the file has none."""
    own = [member_column(path) for _, path in metric.by]
    return [column if column in columns else None for column in own]
