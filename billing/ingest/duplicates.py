"""Incremental deduplication: which deliveries of an event count after some days changed (rule 26)."""

import os
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from typing import Final

import polars as pl

from billing.ingest import parsed_files as parsing
from billing.ingest.day_files import read_repeats
from billing.ingest.deduplication import CANDIDATE, CONFLICTING, FIRST, REPEATS, identity_hash, resolve
from billing.ingest.hash_cache import cache_missing_hashes, scan_hashes
from billing.ingest.hash_slices import HashSlices
from billing.ingest.manifest import ParsedVersion, dimension_columns, measured_column
from billing.ingest.parsed_deliveries import Each, Progress
from billing.ingest.parsed_rows import PARSED
from billing.ingest.parsed_sources import Source, read_columns, rows_at, sources_of
from billing.ingest.row_hashes import RowHashes
from billing.ingest.state import read_state
from billing.model.columns import BASE_QUANTITY
from billing.store.files import full_disk_named, scratch_path
from billing.store.home import Home
from billing.store.parquet_writer import row_groups

_RESOLVED_TOGETHER: Final = 200_000
_COMPARED_TOGETHER: Final = 16_000_000
_READ_TOGETHER: Final = 50_000


class Marks:
    """REPEATS of the days that a deduplication decided; those of many rows stand in scratch files.

    Attributes
    ----------
    changed
        The days whose files changed.
    related
        delivery_day, file, row of the rows on other days that share events with them.
    alike
        Those of `days` whose counted rows are unchanged: only their marks need writing.
    """

    def __init__(self, home: Home, changed: AbstractSet[date], related: pl.DataFrame, scratch: ExitStack) -> None:
        self.changed = changed
        self.related = related
        self.alike: set[date] = set()
        self._home = home
        self._scratch = scratch
        self._held = [pl.DataFrame(schema={"delivery_day": pl.Date} | dict(REPEATS.schema))]
        self._written: list[pl.LazyFrame] = []

    def add(self, marks: pl.DataFrame, *, hold: bool) -> None:
        """Add what `resolve` says of some events; `hold` it in memory."""
        if hold:
            self._held.append(marks)
            return
        path = scratch_path(parsing.parsed_files_root(self._home) / f"marks-{len(self._written)}", os.getpid())
        self._scratch.callback(path.unlink, missing_ok=True)
        # Of a day only its own row groups are read.
        with full_disk_named(path):
            marks.sort("delivery_day").write_parquet(path, row_group_size=_READ_TOGETHER)
        self._written.append(pl.scan_parquet(path, glob=False, hive_partitioning=False))

    def days(self) -> list[date]:
        """The days whose marks are written: the changed ones, and others whose marks are others than before; sorted."""
        found = set(self.changed)
        for day in sorted(set(self.related["delivery_day"]) - self.changed):
            now, before = self.of(day), read_repeats(self._home, day)
            if not now.equals(before):
                found.add(day)
                if set_aside_rows(now).equals(set_aside_rows(before)):
                    self.alike.add(day)
        return sorted(found)

    def of(self, day: date) -> pl.DataFrame:
        """REPEATS of a day."""
        if day in self.changed:
            return self._of(day).sort(REPEATS.key)
        resolved = self.related.filter(pl.col("delivery_day") == day).select("file", "row")
        others = read_repeats(self._home, day).join(resolved, on=["file", "row"], how="anti")
        return pl.concat([others, self._of(day)]).sort(REPEATS.key)

    def _of(self, day: date) -> pl.DataFrame:
        is_of_day = pl.col("delivery_day") == day
        found = [part.filter(is_of_day) for part in self._held]
        if self._written:
            found.append(pl.concat(self._written).filter(is_of_day).collect())
        return pl.concat(found).select(REPEATS.column_names)


class Marking:
    """Finds rows whose event was delivered more than once, on changed days and on days that share events with them.

    What is held does not grow with the rows: hashes are compared by slices, and so are the rows that share one.
    """

    def __init__(self, home: Home, hashes: RowHashes, each: Each, progress: Progress) -> None:
        self.home = home
        self.rules = hashes.rules
        self.hashes = hashes
        self.each = each
        self.progress = progress

    def decide(
        self, files: Mapping[date, Sequence[ParsedVersion]], changed: AbstractSet[date], size: int, scratch: ExitStack
    ) -> Marks:
        """The marks of the changed days, and of days that share events with them.

        Parameters
        ----------
        size
            Bytes of the files of the changed days.
        scratch
            Removes scratch files when it is closed.
        """
        with HashSlices(parsing.parsed_files_root(self.home)) as hashes:
            for done, day in enumerate(sorted(changed)):
                self.progress("finding repeated events", done, len(changed))
                for source in sources_of(files.get(day, ())):
                    hashes.add(self.hashes.valid(source, day))
            own = hashes.shared()
        others = [(day, source) for day in sorted(set(files) - changed) for source in sources_of(files[day])]
        delivered = [(day, source) for day in sorted(changed) for source in sources_of(files.get(day, ()))]
        related = self._rows_elsewhere(changed, others)
        shared = pl.concat([own, related["hash"]]).unique().sort()
        slices = 1 + len(shared) // _RESOLVED_TOGETHER
        candidates = _Candidates(self.home, slices, scratch)

        def suspected(job: tuple[date, Source]) -> pl.DataFrame:
            day, source = job
            return self._candidates(source, day, _among(self.hashes.valid(source, day), shared).arg_true())

        for found in self.each(suspected, delivered, size):
            candidates.add(found)
        for (other,), rows in related.partition_by("source", as_dict=True).items():
            candidates.add(self._candidates(others[other][1], others[other][0], rows["place"]))
        marks = Marks(self.home, changed, related.select("delivery_day", "file", "row"), scratch)
        for together in candidates.by_slice():
            resolved = resolve(together)
            if (resolved["mark"] == CONFLICTING).any():
                resolved = resolve(self._with_marks_before(together, files))
            resolved = resolved.with_columns(pl.col("delivery_day").cast(pl.Date))
            marks.add(resolved, hold=slices == 1)
        return marks

    def _with_marks_before(
        self, candidates: pl.DataFrame, files: Mapping[date, Sequence[ParsedVersion]]
    ) -> pl.DataFrame:
        """CANDIDATE with `before`: their marks of the last ingest, null in files whose bytes are others now."""
        state = read_state(self.home)
        parts = [
            pl.DataFrame(schema={"delivery_day": pl.Date, "file": pl.String, "row": pl.Int64, "before": pl.String})
        ]
        for day in candidates["delivery_day"].unique().sort() if state else ():
            known = state.days[day].files if state and day in state.days else {}
            kept = {name: file.sha256 for name, file in known.items()}
            same = [file.name for file in files.get(day, ()) if kept.get(file.name) == file.sha256]
            marks = read_repeats(self.home, day).filter(pl.col("file").is_in(same))
            parts.append(marks.select(pl.lit(day).alias("delivery_day"), "file", "row", before="mark"))
        on = ["delivery_day", "file", "row"]
        return candidates.join(pl.concat(parts), on=on, how="left", maintain_order="left")

    def _rows_elsewhere(self, changed: AbstractSet[date], others: Sequence[tuple[date, Source]]) -> pl.DataFrame:
        """Rows on unchanged days, of events that a changed day delivers or delivered before.

        Returns
        -------
        polars.DataFrame
            delivery_day, file, row, hash, source (index into `others`) and place (row index in the parsed file).
        """
        schema = {"delivery_day": pl.Date, "file": pl.String, "row": pl.Int64, "hash": pl.UInt64}
        empty = pl.DataFrame(schema=schema | {"source": pl.Int64, "place": pl.UInt32})
        if not others:
            return empty
        # Take every version on disk: rows of a replaced file matter too.
        own = [
            path
            for day in sorted(changed)
            for path in sorted(parsing.parsed_files_folder(self.home, day).glob("*.parquet"))
        ]
        if not own:
            return empty
        elsewhere = [cache_missing_hashes(source.path) for _, source in others]
        slices = 1 + sum(map(sum, map(row_groups, own))) // _COMPARED_TOGETHER
        parts = [empty]
        for part in range(slices):
            found = _found_elsewhere(own, elsewhere, pl.col("hash") % slices == part)
            for (place,), rows in found.partition_by("source", as_dict=True).items():
                day, source = others[place]
                numbers = read_columns(source.path, ["row"])["row"].gather(rows["place"])
                named = rows.with_columns(numbers, source.files_at(rows["place"]), delivery_day=pl.lit(day))
                parts.append(named.drop_nulls("file").select(empty.columns))
        return pl.concat(parts)

    def _candidates(self, source: Source, day: date, places: pl.Series) -> pl.DataFrame:
        """CANDIDATE: the valid rows among those at some positions of a parsed file."""
        if places.is_empty():
            return pl.DataFrame(schema=CANDIDATE)
        numbers = read_columns(source.path, ["row"])["row"].gather(places) if source.is_whole else None
        rows = rows_at(source.path, places, numbers)
        rows = self.rules.with_accounts(rows.with_columns(source.files_at(rows["place"])))
        rows = rows.filter(self.rules.is_valid(day, len(rows)))
        values = [name for name in rows.columns if name not in (*PARSED, "place", "file")]
        parts = [pl.DataFrame(schema=CANDIDATE)]
        nothing = pl.lit(None, pl.String)
        for event in self.rules.types:
            measured, measuring = [], [nothing]
            for metric in self.rules.metrics:
                if metric.event != event:
                    continue
                column = measured_column(metric, values)
                if column is not None:
                    text = pl.col(column)
                    same = text if metric.measure == "unique" else text.cast(BASE_QUANTITY).cast(pl.String)
                    measured.append(same.alias(metric.name))
                    measuring.append(pl.when(text.is_not_null()).then(pl.lit(metric.name)))
                elif metric.measure == "count":
                    measuring.append(pl.lit(metric.name))
                measured += [
                    (nothing if name is None else pl.col(name)).alias(f"{metric.name} by {place}")
                    for place, name in enumerate(dimension_columns(metric, values))
                ]
            content = pl.struct("subject", "type", pl.col("time").to_physical(), *measured).struct.json_encode()
            parts.append(
                rows.filter(pl.col("type") == event).select(
                    delivery_day=pl.lit(day),
                    file="file",
                    row="row",
                    # Copy texts: a view of one keeps the whole block that it was read with in memory.
                    source=pl.col("source") + "",
                    id=pl.col("id") + "",
                    content=content,
                    account_id=pl.col("subject") + "",
                    type="type",
                    time="time",
                    metrics=pl.concat_list(measuring).list.drop_nulls(),
                )
            )
        return pl.concat(parts)


class _Candidates:
    """CANDIDATE rows, by slices of the hash space: those of more than one slice stand in scratch files."""

    def __init__(self, home: Home, slices: int, scratch: ExitStack) -> None:
        self._folder = parsing.parsed_files_root(home)
        self._scratch = scratch
        self._held = [pl.DataFrame(schema=CANDIDATE)]
        self._written: list[list[Path]] = [[] for _ in range(slices)]

    def add(self, rows: pl.DataFrame) -> None:
        self._held.append(rows)
        if len(self._written) > 1 and sum(map(len, self._held)) >= _RESOLVED_TOGETHER:
            self._write()

    def by_slice(self) -> Iterator[pl.DataFrame]:
        """The rows of each slice: all deliveries of an event are in one."""
        if len(self._written) == 1:
            yield pl.concat(self._held)
            return
        self._write()
        for paths in self._written:
            parts = (pl.read_parquet(path, glob=False, hive_partitioning=False) for path in paths)
            yield pl.concat([pl.DataFrame(schema=CANDIDATE), *parts])

    def _write(self) -> None:
        rows = pl.concat(self._held).with_columns(slice=identity_hash() % len(self._written))
        self._held = [rows.drop("slice").clear()]
        for (place,), part in rows.partition_by("slice", as_dict=True, include_key=False).items():
            path = scratch_path(self._folder / f"candidates-{place}-{len(self._written[place])}", os.getpid())
            self._scratch.callback(path.unlink, missing_ok=True)
            with full_disk_named(path):
                part.write_parquet(path)
            self._written[place].append(path)


def _among(hashes: pl.Series, shared: pl.Series) -> pl.Series:
    """Whether each hash is among some others, which are sorted."""
    if len(shared) <= len(hashes):
        return hashes.is_in(shared.implode()).fill_null(value=False)
    # To look each of a few up costs less than a set of all the others.
    places = shared.search_sorted(hashes.fill_null(0)).clip(upper_bound=len(shared) - 1)
    return ((shared.gather(places) == hashes) & hashes.is_not_null()).fill_null(value=False)


def _found_elsewhere(own: Sequence[Path], others: Sequence[pl.LazyFrame], inside: pl.Expr) -> pl.DataFrame:
    """hash, place and source (index) of the rows of other parsed files whose hash some own file has, of one slice."""
    moved = pl.concat(scan_hashes(path).select("hash") for path in own).filter(inside).drop_nulls().unique().collect()
    return (
        pl.concat(hashes.with_columns(source=pl.lit(place, pl.Int64)) for place, hashes in enumerate(others))
        .filter(inside)
        .join(moved.lazy(), on="hash", how="semi")
        .collect(engine="streaming")
    )


def set_aside_rows(repeats: pl.DataFrame) -> pl.DataFrame:
    """The rows of REPEATS that do not count: duplicates and conflicts."""
    return repeats.filter(pl.col("mark") != FIRST)
