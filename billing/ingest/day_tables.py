"""The lake files made from the deliveries of one day: events by month, rejects, repeats and the manifest."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import Final

import polars as pl

from billing.calendar import first_day, months_after, months_between
from billing.cards import mask_card_number_column
from billing.catalogue import Metric
from billing.home import Home, file_hash, remove_file, scan_frames, write_frame
from billing.ingest.demands import IMPOSSIBLE_VALUE, PLAIN_DECIMAL, UNREADABLE_FILE, shown
from billing.ingest.identity import CONFLICTING, DUPLICATE, FIRST, REPEATS
from billing.ingest.judging import Rules
from billing.ingest.measured import read_column
from billing.ingest.parquet_pieces import row_groups, write_table
from billing.ingest.parsed_rows import PARSED, with_details
from billing.ingest.state import DayState, FileState
from billing.tables import BASE_QUANTITY, EVENTS, INGEST, QUANTITY, REJECTS, Table

_MONTH: Final = "event_month"
_HELD_TOGETHER: Final = 100_000
_LONGEST_UNROUNDED: Final = len("0.123456789")
_ROUNDED: Final = r"\.[0-9]{9}[0-9]*[1-9]"
"""More than nine decimals, zeros at the end aside."""


@dataclass(frozen=True)
class ParsedVersion:
    """A delivered file of the day as it counts now, and its parsed rows on disk."""

    name: str
    sha256: str
    bytes: int
    parsed: Path
    kept: bool = False


Texts = Callable[[ParsedVersion, pl.Series], pl.DataFrame]
"""Finds the texts (row, text) of rows that were set aside for what they meet, not for what they are."""


Valid = Callable[[ParsedVersion], pl.Series]
"""Tells of each row of a parsed file whether it can count, whatever other deliveries hold."""


def write_day(
    home: Home,
    day: date,
    files: Sequence[ParsedVersion],
    marks: pl.DataFrame,
    rules: Rules,
    texts: Texts,
    valid: Valid,
) -> DayState:
    """Write everything the lake holds of one day's deliveries; files that would be empty are removed.

    Parameters
    ----------
    files
        Sorted by name.
    marks
        REPEATS of this day: what `identity.resolve` decided.

    Raises
    ------
    AssertionError
        When a file's rows are not counted + duplicates + rejected (rule 27).
    """
    rejects = []
    states: dict[str, FileState] = {}

    def counting_rows() -> Iterator[pl.DataFrame]:
        for file in files:
            marked = marks.filter(pl.col("file") == file.name)
            all_valid = valid(file)
            counted, aside, duplicates, rounded = 0, [], 0, 0
            for rows, are_valid in _some_at_a_time(file, all_valid):
                own = marked.filter(pl.col("row").is_between(rows["row"].min(), rows["row"].max()))
                counting, rejected, repeated = _parted(rows, are_valid, own, rules, day)
                yield _events(counting, day, file.name, rules)
                aside.append(rejected)
                counted, duplicates = counted + len(counting), duplicates + repeated
                rounded += _rounded(counting, rules)
            rejected = pl.concat(aside)
            rejects.append(_rejects(rejected, day, file, rules, texts))
            states[file.name] = _conserved(
                FileState(
                    sha256=file.sha256,
                    bytes=file.bytes,
                    rows=len(all_valid),
                    counted=counted,
                    duplicates=duplicates,
                    rejected=len(rejected),
                    unreadable="; ".join(rejected.filter(pl.col("reason") == UNREADABLE_FILE)["text"]),
                    kept=file.kept,
                    rounded=rounded,
                ),
                day,
                file.name,
            )

    outputs = _write_by_month(home, EVENTS, day, counting_rows(), rules)
    outputs += _write_or_remove(home.delivery(REJECTS, day), pl.concat([REJECTS.empty(), *rejects]), REJECTS)
    outputs += _write_by_month(home, REPEATS, day, iter([REPEATS.conform(marks)]), rules)
    # the manifest names the versions that the other files were made from, so it comes after them
    outputs += _write_or_remove(home.delivery(INGEST, day), _manifest(day, states), INGEST)
    return DayState(files=states, outputs=_described(home, outputs))


def rewrite_repeats(home: Home, day: date, before: DayState, marks: pl.DataFrame, rules: Rules) -> DayState:
    """Write the marks of a day of which the same rows count as before; all else of the day stays as it is."""
    outputs = _write_by_month(home, REPEATS, day, iter([REPEATS.conform(marks)]), rules)
    kept = {path: output for path, output in before.outputs.items() if not path.startswith(f"{REPEATS.name}/")}
    return replace(before, outputs=kept | _described(home, outputs))


def _some_at_a_time(file: ParsedVersion, valid: pl.Series) -> Iterator[tuple[pl.DataFrame, pl.Series]]:
    """The rows of a parsed file, some at a time, each with whether it is valid."""
    rows = pl.scan_parquet(file.parsed, glob=False, hive_partitioning=False)
    start = 0
    # rows that were written together are read together: a part of them would take as long
    for length in row_groups(file.parsed) or [0]:
        together = with_details(rows.slice(start, length).collect())
        for place in range(0, max(1, length), _HELD_TOGETHER):
            part = together.slice(place, _HELD_TOGETHER)
            yield part, valid.slice(start + place, len(part))
        start += length


def day_file(home: Home, table: Table, month: str, day: date) -> Path:
    """Where the rows of EVENTS or REPEATS of a calendar month and a delivery day stand."""
    return month_folder(home, table, month) / f"{day.isoformat()}.parquet"


def month_folder(home: Home, table: Table, month: str) -> Path:
    """Where EVENTS or REPEATS of a calendar month of the billing time zone stand, one file per delivery day."""
    return home.lake / table.name / f"{_MONTH}={month}"


def read_repeats(home: Home, day: date) -> pl.DataFrame:
    """REPEATS of a delivery day, of whatever months its events are."""
    paths = sorted((home.lake / REPEATS.name).glob(f"{_MONTH}=*/{day.isoformat()}.parquet"))
    return scan_frames(paths, REPEATS).sort(REPEATS.key).collect()


def _parted(
    rows: pl.DataFrame, valid: pl.Series, marks: pl.DataFrame, rules: Rules, day: date
) -> tuple[pl.DataFrame, pl.DataFrame, int]:
    """The parsed rows that count; those that are set aside, with `reason`; the number of duplicates."""
    # rows stand in the order of their numbers, and only valid ones are marked
    places = rows["row"].search_sorted(marks["row"])
    is_first, is_conflicting = marks["mark"] == FIRST, marks["mark"] == CONFLICTING
    counted = rows.filter(valid.clone().scatter(places.filter(~is_first), False))
    contradictions = rows[places.filter(is_conflicting)].with_columns(reason=pl.lit(CONFLICTING))
    faults = rows.filter(~valid)
    rejected = pl.concat([faults.with_columns(reason=rules.reason(day, len(faults))), contradictions]).sort("row")
    return counted, rejected, int((marks["mark"] == DUPLICATE).sum())


def measured_column(metric: Metric, columns: Sequence[str]) -> str | None:
    """The column of a parsed file that holds what a metric measures; None when the file does not hold it."""
    if metric.measure == "count" or metric.value is None:
        return None
    return read_column(metric.value, columns)


def _rounded(rows: pl.DataFrame, rules: Rules) -> int:
    """How many rows have a quantity of more than nine decimals: it is rounded half-even to nine (rule 27)."""
    long: dict[str, list[str]] = {}
    for metric in rules.metrics:
        column = measured_column(metric, rows.columns)
        if column is not None and metric.measure != "unique":
            long.setdefault(column, []).append(metric.event)
    # few columns hold a text that is long enough
    lengths = rows.select(pl.col(column).str.len_bytes().max() for column in long).row(0) if long else ()
    is_rounded = [
        pl.col("type").is_in(events) & pl.col(column).str.contains(_ROUNDED)
        for (column, events), length in zip(long.items(), lengths, strict=True)
        if (length or 0) > _LONGEST_UNROUNDED
    ]
    return int(rows.select(pl.any_horizontal(is_rounded).sum()).item()) if is_rounded else 0


def _events(rows: pl.DataFrame, day: date, name: str, rules: Rules) -> pl.DataFrame:
    """EVENTS of the rows that count: one for each metric that measures the row's type; sorted by EVENTS.key."""
    metrics: dict[str, list[Metric]] = {}
    for metric in rules.metrics:
        metrics.setdefault(metric.event, []).append(metric)
    most = max(map(len, metrics.values()), default=0)
    # the metrics of an event's type in turn: mostly there is one
    found = [
        _events_of_metrics(rows, day, name, {event: own[turn] for event, own in metrics.items() if turn < len(own)})
        for turn in range(most)
    ]
    return found[0] if most == 1 else pl.concat([EVENTS.empty(), *found]).sort(EVENTS.key)


def _events_of_metrics(rows: pl.DataFrame, day: date, name: str, metrics: Mapping[str, Metric]) -> pl.DataFrame:
    """EVENTS of the rows that count, each measured by the one metric of its type; in the order of the rows."""
    nothing = pl.lit(None, pl.String)
    value, member, measured = nothing, nothing, pl.lit(False)
    for event, metric in metrics.items():
        column, of_type = measured_column(metric, rows.columns), pl.col("type") == event
        if column is not None:
            # a file that vanished before the metric came to be holds nothing for it
            measured |= of_type & pl.col(column).is_not_null()
            if metric.measure == "unique":
                member = pl.when(of_type).then(column).otherwise(member)
            else:
                value = pl.when(of_type).then(column).otherwise(value)
        elif metric.measure == "count":
            measured |= of_type
    return rows.filter(measured).select(
        account_id=pl.col("subject"),
        metric=pl.col("type").replace_strict(
            list(metrics), [metric.name for metric in metrics.values()], return_dtype=pl.String
        ),
        time="time",
        value=value.cast(BASE_QUANTITY),
        member=member,
        source="source",
        id="id",
        delivery_day=pl.lit(day),
        file=pl.lit(name),
        row="row",
    )


def _rejects(rows: pl.DataFrame, day: date, file: ParsedVersion, rules: Rules, texts: Texts) -> pl.DataFrame:
    wanted = rows.filter(pl.col("text").is_null())["row"]
    if len(wanted):
        found = texts(file, wanted).unique("row", keep="first")
        rows = (
            rows.join(found.rename({"text": "found"}), on="row", how="left", maintain_order="left")
            .with_columns(text=pl.coalesce("text", "found", _text_of_fields(rows)))
            .drop("found")
        )
    names, quantity = pl.lit(None, pl.String), pl.lit(None, QUANTITY)
    for metric in reversed(rules.metrics):
        column = measured_column(metric, rows.columns)
        of_metric = pl.col("type") == metric.event
        names = pl.when(of_metric).then(pl.lit(metric.name)).otherwise(names)
        own = pl.lit(Decimal(1) if metric.measure == "count" else None, QUANTITY)
        if column is not None and metric.measure != "unique":
            known = pl.col(column).str.contains(PLAIN_DECIMAL) & (pl.col("reason") != IMPOSSIBLE_VALUE)
            own = pl.when(known).then(column).cast(BASE_QUANTITY)
        quantity = pl.when(of_metric).then(_in_units(own, metric.unit_size)).otherwise(quantity)
    conflicting = pl.format(
        "id: found {} again with other content, expected the same account, type, time and values, or an id of its own",
        shown(pl.col("id")),
    )
    rejects = rows.select(
        delivery_day=pl.lit(day),
        file=pl.lit(file.name),
        row="row",
        reason="reason",
        text="text",
        source="source",
        id="id",
        account_id="subject",
        metric=names,
        quantity=quantity,
        detail=pl.when(pl.col("reason") == CONFLICTING)
        .then(conflicting)
        .otherwise(pl.coalesce("detail", rules.words(day))),
    )
    # rule 11: in what counts the test looks at none of these
    return rejects.with_columns(map(mask_card_number_column, rejects[["text", "source", "id", "account_id", "detail"]]))


def _in_units(quantity: pl.Expr, unit_size: Decimal) -> pl.Expr:
    if unit_size == 1:
        return quantity.cast(QUANTITY)
    return quantity.cast(QUANTITY) / pl.lit(unit_size, pl.Decimal(38, 0))


def _text_of_fields(rows: pl.DataFrame) -> pl.Expr:
    """A row whose file has vanished, written from the fields that are kept of it."""
    kept = [name for name in rows.columns if name not in (*PARSED, "mark")]
    fields = [pl.col(name) for name in ("id", "source", "type", "subject", *kept)]
    return pl.struct(*fields, pl.col("time").dt.strftime("%Y-%m-%dT%H:%M:%S%.fZ")).struct.json_encode()


def _conserved(state: FileState, day: date, name: str) -> FileState:
    if state.rows != state.counted + state.duplicates + state.rejected:
        raise AssertionError(
            f"{day}/{name}: {state.rows} rows, but {state.counted} counted, {state.duplicates} duplicates "
            f"and {state.rejected} rejected"
        )
    return state


def _manifest(day: date, states: Mapping[str, FileState]) -> pl.DataFrame:
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
            }
            for name, state in states.items()
        ],
        schema=INGEST.schema,
    )


def _by_month(rows: pl.DataFrame, rules: Rules) -> Iterator[tuple[str, pl.DataFrame]]:
    """Rows with a `time` by their calendar months of the billing time zone, in their order."""
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


def _write_by_month(home: Home, table: Table, day: date, frames: Iterator[pl.DataFrame], rules: Rules) -> list[Path]:
    """Write a day's rows by month, and remove months it no longer reaches.

    The rows of all frames are sorted by the table's key. Most are of the month of the day: of that a row group is held
    at a time, of others all.
    """
    own_month = f"{day:%Y-%m}"
    others: dict[str, list[pl.DataFrame]] = {}

    def of_own_month() -> Iterator[pl.DataFrame]:
        for month, part in chain.from_iterable(_by_month(rows, rules) for rows in frames):
            if month == own_month:
                yield part
            else:
                others.setdefault(month, []).append(part)

    written = []
    own = of_own_month()
    for first in own:
        written.append(day_file(home, table, own_month, day))
        write_table(written[0], chain([first], own), table)
    for month in sorted(others):
        written.append(day_file(home, table, month, day))
        write_table(written[-1], others.pop(month), table)
    for path in (home.lake / table.name).glob(f"{_MONTH}=*/{day.isoformat()}.parquet"):
        if path not in written:
            remove_file(path)
    return written


def _described(home: Home, outputs: Sequence[Path]) -> dict[str, tuple[int, str]]:
    """Size and hash of lake files, by their paths in the lake."""
    return {str(path.relative_to(home.lake)): (path.stat().st_size, file_hash(path)) for path in outputs}


def _write_or_remove(path: Path, frame: pl.DataFrame, table: Table) -> list[Path]:
    if len(frame) == 0:
        remove_file(path)
        return []
    write_frame(path, frame, table)
    return [path]
