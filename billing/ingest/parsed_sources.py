"""Parsed files to read, each once, whether it holds one delivered file or is shared by many small ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars as pl

from billing.ingest.manifest import ParsedVersion


@dataclass(frozen=True)
class Source:
    """A parsed file, and the delivered files whose current rows it holds."""

    path: Path
    files: Sequence[ParsedVersion]

    @property
    def is_whole(self) -> bool:
        """Whether all rows are of one delivered file, so that its row numbers tell them apart."""
        return self.files[0].place.rows is None

    def files_at(self, places: pl.Series) -> pl.Series:
        """file: name of the delivered file for the row at each position; null for stale rows."""
        if self.is_whole:
            return pl.Series("file", [self.files[0].name], dtype=pl.String).new_from_index(0, len(places))
        parts = self._parts
        if parts.is_empty():  # Of the files that it holds only empty ones are current.
            return pl.Series("file", [None], dtype=pl.String).new_from_index(0, len(places))
        part = parts["start"].search_sorted(places.cast(pl.Int64), side="right").cast(pl.Int64) - 1
        found = parts[part.clip(lower_bound=0)]
        return found.select(
            file=pl.when(pl.Series(part >= 0), pl.Series(places.cast(pl.Int64)) < found["end"]).then("file")
        ).to_series()

    def holds(self, rows: int) -> pl.Series | None:
        """For each of `rows` rows, whether it is current; None when all are."""
        if self.is_whole or self._parts["length"].sum() == rows:
            return None
        return self.files_at(pl.int_range(rows, dtype=pl.Int64, eager=True)).is_not_null()

    @cached_property
    def _parts(self) -> pl.DataFrame:
        rows = [(file.name, file.place.start, file.place.rows) for file in self.files if file.place.rows]
        parts = pl.DataFrame(
            rows, schema={"file": pl.String, "start": pl.Int64, "length": pl.Int64}, orient="row"
        ).sort("start")
        return parts.with_columns(end=pl.col("start") + pl.col("length"))


def sources_of(files: Sequence[ParsedVersion]) -> list[Source]:
    """Parsed files that hold the rows of some delivered files, in order of first use."""
    found: dict[Path, list[ParsedVersion]] = {}
    for file in files:
        found.setdefault(file.parsed, []).append(file)
    return [Source(path, tuple(own)) for path, own in found.items()]


def read_columns(path: Path, columns: Sequence[str], optional: Sequence[str] = ()) -> pl.DataFrame:
    """Some columns of a parsed file; the optional ones as far as it has them."""
    there = pl.read_parquet_schema(path) if optional else {}
    wanted = [*columns, *(name for name in optional if name in there)]
    return pl.read_parquet(path, columns=wanted, glob=False, hive_partitioning=False)


def rows_at(path: Path, places: pl.Series, rows: pl.Series | None = None) -> pl.DataFrame:
    """The rows at some positions of a parsed file, with `place`.

    Parameters
    ----------
    rows
        Their numbers, if known, of a file of one delivery: a filter by a column of the file decodes only these rows of
        the others, which takes half as long as one by position.
    """
    found = pl.scan_parquet(path, glob=False, hive_partitioning=False, row_index_name="place")
    if rows is not None:
        found = found.filter(pl.col("row").is_in(rows.implode()))
    return found.filter(pl.col("place").is_in(places.implode())).collect()
