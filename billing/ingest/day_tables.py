"""The lake files made from the deliveries of one day: events by month, rejects, repeats and the manifest."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Final

import polars as pl

from billing.catalogue import Metric
from billing.home import Home, file_hash, remove_file, write_frame
from billing.ingest.identity import CONFLICTING, DUPLICATE, FIRST, REPEATS
from billing.ingest.judging import Rules
from billing.ingest.measured import FLAT_VALUE, member_column
from billing.ingest.parsed_rows import IMPOSSIBLE_VALUE, PARSED, UNREADABLE_FILE
from billing.ingest.state import DayState, FileState
from billing.tables import BASE_QUANTITY, EVENTS, INGEST, QUANTITY, REJECTS, Table

_MONTH: Final = "event_month"
_PLAIN_VALUE: Final = r"^-?0*[0-9]{1,18}(?:\.[0-9]{1,9}0*)?$"


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


def write_day(
    home: Home, day: date, files: Sequence[ParsedVersion], marks: pl.DataFrame, rules: Rules, texts: Texts
) -> DayState:
    """Write everything the lake holds of one day's deliveries; files that would be empty are removed.

    Parameters
    ----------
    marks
        REPEATS of this day: what `identity.resolve` decided.

    Raises
    ------
    AssertionError
        When a file's rows are not counted + duplicates + rejected (rule 27).
    """
    events = []
    rejects = []
    states: dict[str, FileState] = {}
    for file in files:
        rows = _marked(pl.read_parquet(file.parsed, glob=False, hive_partitioning=False), day, file, marks, rules)
        counted = rows.filter(pl.col("reason").is_null() & (pl.col("mark") != DUPLICATE))
        rejected = rows.filter(pl.col("reason").is_not_null())
        duplicates = len(rows.filter(pl.col("reason").is_null() & (pl.col("mark") == DUPLICATE)))
        events.append(_events(counted, day, file.name, rules))
        rejects.append(_rejects(rejected, day, file, rules, texts))
        states[file.name] = _conserved(
            FileState(
                sha256=file.sha256,
                bytes=file.bytes,
                rows=len(rows),
                counted=len(counted),
                duplicates=duplicates,
                rejected=len(rejected),
                unreadable="; ".join(rejected.filter(pl.col("reason") == UNREADABLE_FILE)["text"]),
                kept=file.kept,
            ),
            day,
            file.name,
        )
    outputs = _write_events(home, day, pl.concat([EVENTS.empty(), *events]), rules)
    outputs += _write_or_remove(home.delivery(REJECTS, day), pl.concat([REJECTS.empty(), *rejects]), REJECTS)
    outputs += _write_or_remove(repeats_path(home, day), marks, REPEATS)
    # the manifest names the versions that the other files were made from, so it comes after them
    outputs += _write_or_remove(home.delivery(INGEST, day), _manifest(day, states), INGEST)
    return DayState(
        files=states,
        outputs={str(path.relative_to(home.lake)): (path.stat().st_size, file_hash(path)) for path in outputs},
    )


def event_month_folder(home: Home, month: str) -> Path:
    """Where the events of a calendar month of the billing time zone stand, one file per delivery day."""
    return home.lake / EVENTS.name / f"{_MONTH}={month}"


def repeats_path(home: Home, day: date) -> Path:
    """Where the marks of a delivery day stand."""
    return home.delivery(REPEATS, day)


def _marked(rows: pl.DataFrame, day: date, file: ParsedVersion, marks: pl.DataFrame, rules: Rules) -> pl.DataFrame:
    """Parsed rows with their final reason, mark and repeats."""
    judged = rows.with_columns(reason=rules.reason(day))
    own = marks.filter(pl.col("file") == file.name).select("row", "mark", "repeats")
    if len(own) == 0:
        return judged.with_columns(mark=pl.lit(FIRST), repeats=pl.lit(0, pl.Int64))
    return (
        judged.join(own, on="row", how="left", maintain_order="left")
        .with_columns(pl.col("mark").fill_null(FIRST), pl.col("repeats").fill_null(0))
        .with_columns(
            reason=pl.when(pl.col("reason").is_null() & (pl.col("mark") == CONFLICTING))
            .then(pl.lit(CONFLICTING))
            .otherwise("reason")
        )
    )


def measured_column(metric: Metric, columns: Sequence[str]) -> str | None:
    """The column of a parsed file that holds what a metric measures; None when the file does not hold it."""
    if metric.measure == "count" or metric.value is None:
        return None
    column = FLAT_VALUE if FLAT_VALUE in columns else member_column(metric.value)
    return column if column in columns else None


def _events(rows: pl.DataFrame, day: date, name: str, rules: Rules) -> pl.DataFrame:
    """EVENTS of the rows that count: one for each metric that measures the row's type."""
    found = [EVENTS.empty()]
    for metric in rules.metrics:
        column = measured_column(metric, rows.columns)
        own = rows.lazy().filter(pl.col("type") == metric.event)
        value, member = pl.lit(None, BASE_QUANTITY), pl.lit(None, pl.String)
        if column is not None:
            # a file that vanished before the metric came to be holds nothing for it
            own = own.filter(pl.col(column).is_not_null())
            if metric.measure == "unique":
                member = pl.col(column)
            else:
                value = pl.col(column).cast(BASE_QUANTITY)
        elif metric.measure != "count":
            continue
        found.append(
            own.select(
                account_id=pl.col("subject"),
                metric=pl.lit(metric.name),
                time="time",
                value=value,
                member=member,
                source="source",
                id="id",
                repeats="repeats",
                delivery_day=pl.lit(day),
                file=pl.lit(name),
                row="row",
            ).collect()
        )
    return pl.concat(found)


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
            known = pl.col(column).str.contains(_PLAIN_VALUE) & (pl.col("reason") != IMPOSSIBLE_VALUE)
            own = pl.when(known).then(column).cast(BASE_QUANTITY)
        quantity = pl.when(of_metric).then(_in_units(own, metric.unit_size)).otherwise(quantity)
    return rows.select(
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
    )


def _in_units(quantity: pl.Expr, unit_size: Decimal) -> pl.Expr:
    if unit_size == 1:
        return quantity.cast(QUANTITY)
    return quantity.cast(QUANTITY) / pl.lit(unit_size, pl.Decimal(38, 0))


def _text_of_fields(rows: pl.DataFrame) -> pl.Expr:
    """A row whose file has vanished, written from the fields that are kept of it."""
    kept = [name for name in rows.columns if name not in (*PARSED, "mark", "repeats")]
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
            }
            for name, state in states.items()
        ],
        schema=INGEST.schema,
    )


def _write_events(home: Home, day: date, events: pl.DataFrame, rules: Rules) -> list[Path]:
    """Write a day's events by calendar month of the billing time zone, and remove months it no longer reaches."""
    local = pl.col("time").dt.convert_time_zone(rules.time_zone)
    months = (local.dt.year().cast(pl.Int32) * 12 + local.dt.month() - 1).alias(_MONTH)
    written = []
    for (month,), part in events.with_columns(months).partition_by(_MONTH, as_dict=True, include_key=False).items():
        path = event_month_folder(home, f"{month // 12:04d}-{month % 12 + 1:02d}") / f"{day.isoformat()}.parquet"
        write_frame(path, part, EVENTS)
        written.append(path)
    for path in (home.lake / EVENTS.name).glob(f"{_MONTH}=*/{day.isoformat()}.parquet"):
        if path not in written:
            remove_file(path)
    return sorted(written)


def _write_or_remove(path: Path, frame: pl.DataFrame, table: Table) -> list[Path]:
    if len(frame) == 0:
        remove_file(path)
        return []
    write_frame(path, frame, table)
    return [path]
