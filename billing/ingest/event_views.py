"""EVENTS of large delivered files as views: which rows of a parsed file count, instead of a copy of these rows.

A view is fixed when its delivery day is written, as a copy would be: what changes later about accounts, metrics or
repeated events writes the day again. It is a table of one row per delivered file, beside the files of EVENTS.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from functools import lru_cache, partial
from operator import and_
from pathlib import Path
from typing import Any, Final

import polars as pl

from billing.ingest.day_files import are_split, may_be_split, month_folder
from billing.ingest.deduplication import FIRST
from billing.ingest.manifest import LONGEST_UNROUNDED, ParsedVersion, measured_column, rounded
from billing.ingest.measured_events import Measured, events_of_turn, is_measured, measured_by_turn
from billing.ingest.parsed_rows import ALIAS_KIND, PARSED, with_details
from billing.ingest.parsed_sources import rows_at
from billing.ingest.small_files import SMALL
from billing.ingest.validation import Rules
from billing.model.calendar import first_day, month_of, months_after
from billing.model.columns import INSTANT
from billing.model.errors import InterruptedRunError
from billing.model.tables import EVENTS
from billing.store.files import write_file
from billing.store.home import Home
from billing.store.parquet_writer import row_groups

Valid = Callable[[Path], pl.Series]
"""Returns for each row of a parsed file whether it is valid, before duplicates are resolved."""

_ENDING: Final = ".view.parquet"
_LARGE: Final = 10_000
"""Rows of a parsed file from which on a view of it costs less than a copy."""
_MOST_LEFT_OUT: Final = 100_000
_LEFT_OUT_SHARE: Final = 4
"""A view leaves out one row of so many at most; they are held in memory."""
_METADATA: Final = {
    "table": "event_views",
    "description": "Rows of parsed files that are events: all but those at the places that are left out.",
}
_READ_TOGETHER: Final = 400_000
_SCANNED_TOGETHER: Final = 1_000_000_000
"""Rows of one scan, which are numbered in 32 bits; many scans at once would hold much memory."""
_TIMES: Final = ("first_time", "last_time")
_TIMES_OF: Final[dict[str, pl.DataType | type[pl.DataType]]] = {"file": pl.String, **dict.fromkeys(_TIMES, pl.Int64)}
_PLACE: Final = "place in all files"
_PATH: Final = "path of the parsed file"
_READ: Final[dict[str, pl.DataType | type[pl.DataType]]] = {
    name: PARSED[name] for name in ("row", "source", "id", "type", "subject", "time")
}
_SCHEMA: Final[dict[str, pl.DataType | type[pl.DataType]]] = {
    "file": pl.String,
    "parsed": pl.String,
    "sha256": pl.String,
    "bytes": pl.Int64,
    "rows": pl.Int64,
    "measured": pl.String,
    "left_out": pl.List(pl.UInt32),
}


@dataclass(frozen=True)
class View:
    """The rows of a delivered file that count in a calendar month.

    Attributes
    ----------
    month
        Of the events.
    turns
        As `measured_by_turn`, each with whether all the rows are measured.
    left_out
        Places of the other rows in the parsed file, sorted.
    other_rows
        Their row numbers.
    rows
        How many are left in.
    tallies
        Of the rows left in, for the manifest.
    """

    file: ParsedVersion
    month: str
    turns: Sequence[tuple[Sequence[Measured], bool]]
    left_out: pl.Series
    other_rows: pl.Series
    rows: int
    tallies: Sequence[pl.DataFrame]

    def others(self) -> pl.DataFrame:
        """The rows that are left out, with `file` and `place`."""
        rows = rows_at(self.file.parsed, self.left_out, self.other_rows)
        return with_details(rows).with_columns(file=pl.lit(self.file.name))


def view_path(home: Home, month: str, day: date) -> Path:
    """Path of the views of a delivery day's events in a calendar month."""
    return month_folder(home, EVENTS, month) / f"{day.isoformat()}{_ENDING}"


def is_view(path: Path) -> bool:
    """Whether a file of EVENTS holds views, not rows."""
    return path.name.endswith(_ENDING)


def are_copied(files: Sequence[ParsedVersion], valid: Valid, rules: Rules) -> bool:
    """Whether the events of these files are split by account: then shards read their parts of copies."""
    whole = [file.parsed for file in files if file.place.rows is None]

    def accounts(most: int) -> pl.Series:
        found: list[pl.Series] = []
        for path in whole:
            if sum(map(len, found)) < most:
                parsed = pl.scan_parquet(path, glob=False, hive_partitioning=False).select("subject").head(most)
                subjects = parsed.collect()["subject"]
                found.append(subjects.filter(valid(path).head(most)))
        return pl.concat(found).head(most)

    rows = sum(sum(row_groups(path)) for path in whole)
    return may_be_split(len(rules.accounts)) and are_split(rows, accounts)


def view_of(file: ParsedVersion, valid: Callable[[Path], pl.Series], marks: pl.DataFrame, rules: Rules) -> View | None:
    """The view of a parsed file, or None where a copy of its rows is better.

    Parameters
    ----------
    valid
        Of the day.
    marks
        REPEATS of the delivered file.
    """
    # Copy small files: whether one shares its parsed file depends on what else is delivered.
    if file.place.rows is not None or file.bytes <= SMALL:
        return None
    are_valid = valid(file.parsed)
    if len(are_valid) < _LARGE:
        return None
    columns = list(pl.read_parquet_schema(file.parsed))
    if ALIAS_KIND in columns:
        return None
    return _Viewing(file, are_valid, marks.filter(pl.col("mark") != FIRST), rules, columns).view()


class _Viewing:
    """Looks at the rows of a parsed file, a row group at a time."""

    def __init__(
        self, file: ParsedVersion, valid: pl.Series, aside: pl.DataFrame, rules: Rules, columns: Sequence[str]
    ) -> None:
        self._file, self._valid, self._aside, self._rules = file, valid, aside, rules
        values = {measured_column(metric, columns) for metric in rules.metrics} - {None}
        self._columns = ["row", "type", "time", *sorted(str(name) for name in values)]
        self._turns = measured_by_turn(rules, columns)

    def view(self) -> View | None:
        left_out, numbers = [pl.Series("left_out", dtype=pl.UInt32)], [pl.Series("row", dtype=pl.Int64)]
        tallies: list[pl.DataFrame] = []
        are_measured = [True] * len(self._turns)
        most = min(_MOST_LEFT_OUT, len(self._valid) // _LEFT_OUT_SHARE)
        start, month = 0, ""
        for rows in self._read_together():
            counting = self._counting(rows, start)
            month = month or self._month(rows.filter(counting))
            counting &= self._in_month(rows, month)
            out = (~counting).arg_true()
            left_out.append(out.rename("left_out") + start)
            numbers.append(rows["row"].gather(out))
            if sum(map(len, left_out)) > most:
                return None
            start += len(rows)
            tallies += self._tallies(rows, counting, are_measured)
        out = pl.concat(left_out)
        rows_left = len(self._valid) - len(out)
        if not rows_left:
            return None
        tallies.append(pl.DataFrame({"file": [self._file.name], "rows": [rows_left], "counted": [rows_left]}))
        turns = list(zip(self._turns, are_measured, strict=True))
        return View(self._file, month, turns, out, pl.concat(numbers), rows_left, tallies)

    def _read_together(self) -> Iterator[pl.DataFrame]:
        """The rows, some row groups at a time: slicing one costs a full read."""
        parsed = pl.scan_parquet(self._file.parsed, glob=False, hive_partitioning=False).select(self._columns)
        start, held = 0, 0
        groups = row_groups(self._file.parsed)
        for place, length in enumerate(groups, 1):
            held += length
            if held >= _READ_TOGETHER or place == len(groups):
                yield parsed.slice(start, held).collect()
                start, held = start + held, 0

    def _tallies(self, rows: pl.DataFrame, counting: pl.Series, are_measured: list[bool]) -> Iterator[pl.DataFrame]:
        """Tallies of the rows that count; notes the turns that do not measure all of them."""
        counts, time = pl.lit(counting), pl.col("time").cast(INSTANT).to_physical()
        values = self._columns[3:]
        looked_at = rows.select(
            pl.concat_list((is_measured(turn) | ~counts).all() for turn in self._turns).alias("measured"),
            time.filter(counts).min().alias("first_time"),
            time.filter(counts).max().alias("last_time"),
            pl.max_horizontal(pl.lit(0), *(pl.col(name).str.len_bytes().max() for name in values)).alias("longest"),
        ).row(0, named=True)
        are_measured[:] = map(and_, are_measured, looked_at["measured"])
        yield pl.DataFrame(
            {"file": [self._file.name], **{name: [looked_at[name]] for name in _TIMES}}, schema=_TIMES_OF
        )
        if looked_at["longest"] > LONGEST_UNROUNDED:
            yield rounded(rows.filter(counting).with_columns(file=pl.lit(self._file.name)), self._rules)

    def _counting(self, rows: pl.DataFrame, start: int) -> pl.Series:
        """Whether each row is valid and counts."""
        valid = self._valid.slice(start, len(rows))
        own = self._aside.filter(pl.col("row").is_between(rows["row"][0], rows["row"][-1]))
        if own.is_empty():
            return valid
        return valid.clone().scatter(rows["row"].search_sorted(own["row"]), values=False)

    def _month(self, rows: pl.DataFrame) -> str:
        """The calendar month of the row in the middle."""
        if rows.is_empty():
            return ""
        local = pl.col("time").slice(len(rows) // 2, 1).dt.convert_time_zone(self._rules.time_zone).dt.date()
        return str(rows.select(month_of(local)).item())

    def _in_month(self, rows: pl.DataFrame, month: str) -> pl.Series:
        if not month:
            return pl.repeat(False, len(rows), eager=True, dtype=pl.Boolean)
        start, end = (self._rules.midnight(first_day(each)) for each in (month, months_after(month, 1)))
        inside = pl.col("time").is_between(start, end, closed="left").fill_null(value=False)
        return rows.select(inside).to_series()


def write_views(home: Home, day: date, views: Sequence[View], described: dict[str, tuple[int, str]]) -> list[Path]:
    """Write the views of a delivery day, a file per month; returns the paths.

    Parameters
    ----------
    described
        Size and hash of the parsed files, by their paths relative to the lake.
    """
    months: dict[str, list[dict[str, object]]] = {}
    for view in views:
        parsed = view.file.parsed.relative_to(home.lake).as_posix()
        size, sha256 = described[parsed]
        measured = [{"whole": whole, "metrics": [asdict(each) for each in turn]} for turn, whole in view.turns]
        row = {
            "file": view.file.name,
            "parsed": parsed,
            "sha256": sha256,
            "bytes": size,
            "rows": view.rows,
            "measured": json.dumps(measured),
            "left_out": view.left_out,
        }
        months.setdefault(view.month, []).append(row)
    written = []
    for month, rows in sorted(months.items()):
        path = view_path(home, month, day)
        frame = pl.DataFrame(rows, schema=_SCHEMA)
        written.append(path)
        write_file(path, partial(frame.write_parquet, compression="zstd", metadata=_METADATA))
    return written


def rows_in_view(path: Path) -> int:
    """How many rows of parsed files the views of a file let in."""
    return int(_read(path)["rows"].sum())


def scan_views(home: Home, paths: Sequence[Path], metrics: Sequence[str] | None = None) -> list[pl.LazyFrame]:
    """EVENTS behind the views of some files, those of parsed files that are read alike as one scan.

    Parameters
    ----------
    metrics
        Only the events of these.

    Raises
    ------
    InterruptedRunError
        When a parsed file is missing, or is another.
    """
    alike: dict[tuple[str, int], list[tuple[date, dict[str, Any]]]] = {}
    rows: dict[str, int] = {}
    for path in paths:
        day = date.fromisoformat(path.name.removesuffix(_ENDING))
        for view in _read(path).iter_rows(named=True):
            before = rows.get(view["measured"], 0)
            alike.setdefault((view["measured"], before // _SCANNED_TOGETHER), []).append((day, view))
            rows[view["measured"]] = before + view["rows"] + len(view["left_out"])
    return [
        events
        for (measured, _), views in alike.items()
        for events in _scan_alike(home, _turns(json.loads(measured), metrics), views)
    ]


def _turns(
    measured: Sequence[Mapping[str, Any]], metrics: Sequence[str] | None
) -> list[tuple[list[Measured], pl.Expr | None]]:
    """The metrics by turn, and which rows they measure, where it is not all of them."""
    found: list[tuple[list[Measured], pl.Expr | None]] = []
    for turn in measured:
        of_all = [Measured(**each | {"dimensions": tuple(each["dimensions"])}) for each in turn["metrics"]]
        own = [each for each in of_all if metrics is None or each.metric in metrics]
        if not turn["whole"]:
            found.append((own, is_measured(own)))
        elif len(own) < len(of_all):
            # A filter by a column of the file spares decoding the other rows.
            found.append((own, pl.col("type").is_in([each.event for each in own])))
        else:
            found.append((own, None))
    return [(own, rows) for own, rows in found if own]


def _scan_alike(
    home: Home,
    turns: Sequence[tuple[Sequence[Measured], pl.Expr | None]],
    views: Sequence[tuple[date, Mapping[str, Any]]],
) -> Iterator[pl.LazyFrame]:
    """EVENTS of views with the same metrics, by turn."""
    columns = {name for turn, _ in turns for each in turn for name in (each.column, *each.dimensions) if name}
    schema = {**_READ, **dict.fromkeys(sorted(columns), pl.String)}
    paths, left_out, start = [], [pl.Series(dtype=pl.UInt32)], 0
    for _, view in views:
        paths.append(_checked(home, view))
        left_out.append(pl.Series(view["left_out"], dtype=pl.UInt32) + start)
        start += view["rows"] + len(view["left_out"])
    rows = pl.scan_parquet(
        paths,
        glob=False,
        hive_partitioning=False,
        row_index_name=_PLACE,
        schema=schema,
        extra_columns="ignore",
        missing_columns="insert",
        include_file_paths=_PATH,
    )
    out = pl.concat(left_out)
    if len(out):
        # A filter would look the places up anew for every batch of rows.
        rows = rows.join(out.to_frame(_PLACE).lazy(), on=_PLACE, how="anti")
    names = [str(path) for path in paths]
    files, days = [view["file"] for _, view in views], [day for day, _ in views]
    rows = rows.with_columns(
        file=pl.col(_PATH).replace_strict(names, files, return_dtype=pl.String),
        delivery_day=pl.col(_PATH).replace_strict(names, days, return_dtype=pl.Date),
    )
    for turn, measured in turns:
        yield events_of_turn(rows if measured is None else rows.filter(measured), turn)


def _checked(home: Home, view: Mapping[str, Any]) -> Path:
    """The parsed file of a view, that is the one that the view was made of."""
    parsed = home.lake / str(view["parsed"])
    if not parsed.exists() or parsed.stat().st_size != view["bytes"]:
        raise InterruptedRunError(
            f"{parsed}: found no file of {view['bytes']} bytes, expected the one that events refer to: `overage bill` "
            "makes it again"
        )
    return parsed


def _read(path: Path) -> pl.DataFrame:
    found = path.stat()
    return _read_once(path, found.st_ino, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=512)
def _read_once(path: Path, *_: int) -> pl.DataFrame:
    """Read a file of views, cached by its stamp: a month reads it several times, and it is only ever replaced."""
    return pl.read_parquet(path, glob=False, hive_partitioning=False)
