"""Incremental deduplication: which deliveries of an event count after some days changed (rule 26)."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date
from pathlib import Path
from typing import Final

import polars as pl

from billing.ingest import parsed_files as parsing
from billing.ingest.day_files import read_repeats
from billing.ingest.deduplication import CANDIDATE, FIRST, REPEATS, identity_hash, resolve, shared_hashes
from billing.ingest.hash_cache import cache_missing_hashes, scan_hashes
from billing.ingest.manifest import ParsedVersion, measured_column
from billing.ingest.parsed_deliveries import Each, ParsedDeliveries, Progress
from billing.ingest.parsed_rows import ALIAS_KIND, PARSED
from billing.ingest.parsed_sources import Source, sources_of
from billing.ingest.validation import Rules
from billing.model.columns import BASE_QUANTITY
from billing.store.home import Home

_RESOLVED_TOGETHER: Final = 1_000_000


class Marking:
    """Finds rows whose event was delivered more than once, on changed days and on days that share events with them."""

    def __init__(self, home: Home, rules: Rules, deliveries: ParsedDeliveries, each: Each, progress: Progress) -> None:
        self.home = home
        self.rules = rules
        self.deliveries = deliveries
        self.each = each
        self.progress = progress

    def decide(
        self, files: Mapping[date, Sequence[ParsedVersion]], changed: AbstractSet[date]
    ) -> tuple[dict[date, pl.DataFrame], set[date]]:
        """REPEATS of every day to rewrite: the changed days, and days that share events with them.

        Also returns the days whose counted rows are unchanged: only their marks need rewriting.
        """
        hashes = []
        for done, day in enumerate(sorted(changed)):
            self.progress("finding repeated events", done, len(changed))
            hashes += [self.valid_hashes(source, day) for source in sources_of(files.get(day, ()))]
        others = [(day, source) for day in sorted(set(files) - changed) for source in sources_of(files[day])]
        related = self._rows_elsewhere(changed, others)
        shared = pl.concat([shared_hashes(hashes), related["hash"]]).unique()
        slices = max(1, len(shared) // _RESOLVED_TOGETHER)
        decided = [resolve(pl.DataFrame(schema=CANDIDATE)).with_columns(pl.col("delivery_day").cast(pl.Date))]
        for part in range(slices):
            wanted = shared.filter(shared % slices == part)

            def suspected(job: tuple[date, Source], wanted: pl.Series = wanted) -> pl.DataFrame:
                day, source = job
                suspects = self.valid_hashes(source, day).is_in(wanted.implode()).fill_null(value=False)
                return self._candidates(source, day, suspects.arg_true())

            delivered = [(day, source) for day in sorted(changed) for source in sources_of(files.get(day, ()))]
            candidates = list(self.each(suspected, delivered, changed))
            candidates += [
                self._candidates(others[other][1], others[other][0], found["place"])
                for (other,), found in related.filter(pl.col("hash") % slices == part)
                .partition_by("source", as_dict=True)
                .items()
            ]
            if candidates:
                decided.append(resolve(pl.concat(candidates)))
        marks = pl.concat(decided)
        touched = {
            day: marks.filter(pl.col("delivery_day") == day).drop("delivery_day").sort(REPEATS.key) for day in changed
        }
        alike = set()
        for day in sorted(set(related["delivery_day"]) - changed):
            before = read_repeats(self.home, day)
            resolved = related.filter(pl.col("delivery_day") == day).select("file", "row")
            now = pl.concat(
                [
                    before.join(resolved, on=["file", "row"], how="anti"),
                    marks.filter(pl.col("delivery_day") == day).select(REPEATS.column_names),
                ]
            ).sort(REPEATS.key)
            if not now.equals(before):
                touched[day] = now
                if set_aside_rows(now).equals(set_aside_rows(before)):
                    alike.add(day)
        return touched, alike

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
            scan_hashes(path).select("hash")
            for day in sorted(changed)
            for path in sorted(parsing.parsed_files_folder(self.home, day).glob("*.parquet"))
        ]
        if not own:
            return empty
        moved = pl.concat(own).drop_nulls().unique().collect()
        for _, source in others:
            cache_missing_hashes(source.path)
        found = (
            pl.concat(
                scan_hashes(source.path).with_columns(source=pl.lit(place, pl.Int64))
                for place, (_, source) in enumerate(others)
            )
            .join(moved.lazy(), on="hash", how="semi")
            .collect(engine="streaming")
        )
        parts = [empty]
        for (place,), part in found.partition_by("source", as_dict=True).items():
            day, source = others[place]
            rows = read_columns(source.path, ["row"])["row"].gather(part["place"])
            named = part.with_columns(rows, source.files_at(part["place"]), delivery_day=pl.lit(day))
            parts.append(named.drop_nulls("file").select(empty.columns))
        return pl.concat(parts)

    def valid_hashes(self, source: Source, day: date) -> pl.Series:
        """The identity hash of every row of a parsed file; null for invalid rows."""
        found = self.deliveries.hashes.get(source.path)
        if found is None:
            names = ["source", "id", "reason", "subject", "type", "time"]
            rows = self.rules.with_accounts(read_columns(source.path, names, [ALIAS_KIND]))
            valid = self.rules.is_valid(day, len(rows))
            found = rows.select(pl.when(valid).then(identity_hash()).alias("hash"))["hash"]
            self.deliveries.hashes[source.path] = found
        counts = source.holds(len(found))
        return found if counts is None else found.set(~counts, None)

    def _candidates(self, source: Source, day: date, places: pl.Series) -> pl.DataFrame:
        """CANDIDATE: the valid rows among those at some positions of a parsed file."""
        if places.is_empty():
            return pl.DataFrame(schema=CANDIDATE)
        rows = (
            pl.scan_parquet(source.path, glob=False, hive_partitioning=False, row_index_name="place")
            .filter(pl.col("place").is_in(places.implode()))
            .collect()
        )
        rows = self.rules.with_accounts(rows.with_columns(source.files_at(rows["place"])))
        rows = rows.filter(self.rules.is_valid(day, len(rows)))
        values = [name for name in rows.columns if name not in (*PARSED, "place", "file")]
        parts = [pl.DataFrame(schema=CANDIDATE)]
        for event in self.rules.types:
            measured, measuring = [], [pl.lit(None, pl.String)]
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
            content = pl.struct("subject", "type", pl.col("time").to_physical(), *measured).struct.json_encode()
            parts.append(
                rows.filter(pl.col("type") == event).select(
                    delivery_day=pl.lit(day),
                    file="file",
                    row="row",
                    source="source",
                    id="id",
                    content=content,
                    account_id="subject",
                    time="time",
                    metrics=pl.concat_list(measuring).list.drop_nulls(),
                )
            )
        return pl.concat(parts)


def read_columns(path: Path, columns: Sequence[str], optional: Sequence[str] = ()) -> pl.DataFrame:
    """Some columns of a parsed file; the optional ones as far as it has them."""
    there = pl.read_parquet_schema(path) if optional else {}
    wanted = [*columns, *(name for name in optional if name in there)]
    return pl.read_parquet(path, columns=wanted, glob=False, hive_partitioning=False)


def set_aside_rows(repeats: pl.DataFrame) -> pl.DataFrame:
    """The rows of REPEATS that do not count: duplicates and conflicts."""
    return repeats.filter(pl.col("mark") != FIRST)
