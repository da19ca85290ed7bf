"""Usage as flat files, CSV and Parquet: rows to columns of text."""

import csv
import io
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import BinaryIO, Final

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from billing.ingest.delivered_bytes import UnreadableFileError, line_blocks, split_lines
from billing.ingest.instants import INVALID, WITHOUT_ZONE, parse_instants
from billing.ingest.measured import FLAT_VALUE
from billing.ingest.parsed_rows import Piece
from billing.tables import INSTANT

COLUMNS: Final = ("id", "source", "type", "subject", "time", FLAT_VALUE)
_BATCH: Final = 65_536
_LONGEST_RECORD: Final = 200
"""Lines that one quoted CSV record may span; an opening quote that is not closed within them is a broken line."""

_OFFSETS_1970_TO_2199: Final = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_SECONDS_UNTIL_2200: Final = 7_258_118_400


def csv_pieces(file: BinaryIO) -> Iterator[Piece]:
    """Read CSV with a header, comma-separated, quoted as RFC 4180 has it, in bounded pieces.

    `row` is the number of the line a record starts on, counted after the header, blank lines included; blank lines
    are no rows. Columns may stand in any order and others are ignored. A record of another length than the header is
    unparseable.

    Yields
    ------
    Piece
        With the one value column `value`.

    Raises
    ------
    UnreadableFileError
        When a column is missing.
    """
    header: list[str] | None = None
    row = 1
    open_record = _no_lines()
    for block in line_blocks(file):
        frame = split_lines(block)
        if header is None:
            filled = frame["text"].str.contains(r"[^ \t\r\n]").arg_true()
            if len(filled) == 0:
                continue
            header = _header(frame["text"][filled[0]])
            frame = frame.slice(filled[0] + 1)
        frame = frame.with_row_index("row", offset=row).with_columns(pl.col("row").cast(pl.Int64))
        row += len(frame)
        records, open_record = _records(pl.concat([open_record, frame.select("row", "text", "broken")]), last=False)
        yield _csv_columns(records, header)
    if header is not None:
        records, _ = _records(open_record, last=True)
        yield _csv_columns(records, header)


def parquet_pieces(file: BinaryIO) -> Iterator[Piece]:
    """Read Parquet in bounded batches.

    `row` is the row's position from 1. `time` is a timestamp with a zone, or text; a timestamp without zone is no
    instant. A value may be an integer, a decimal, text or a binary float, which counts as the shortest decimal that
    denotes it. Columns may stand in any order; others show in the text of a row that is set aside and nowhere else.

    Yields
    ------
    Piece
        With the one value column `value`.

    Raises
    ------
    UnreadableFileError
        When it is no Parquet or a column is missing.
    """
    try:
        reader = pq.ParquetFile(file)
        _check_columns(reader.schema_arrow.names, "columns")
        row = 1
        for batch in reader.iter_batches(batch_size=_BATCH):
            yield _parquet_columns(pa.Table.from_batches([batch]), row)
            row += batch.num_rows
    except (pa.ArrowException, pl.exceptions.PolarsError) as error:
        raise UnreadableFileError(f"not readable as Parquet ({str(error).splitlines()[0]})") from error


def _header(line: str) -> list[str]:
    try:
        names = [name.strip() for name in next(csv.reader([line], strict=True))]
    except csv.Error as error:
        raise UnreadableFileError(f"the header is not readable as CSV ({error})") from error
    _check_columns(names, "header")
    return names


def _check_columns(names: Sequence[str], place: str) -> None:
    missing = [name for name in COLUMNS if name not in names]
    if missing or len(set(names) & set(COLUMNS)) != sum(name in COLUMNS for name in names):
        found = ", ".join(names) or "nothing"
        raise UnreadableFileError(f"{place}: found {found}, expected each of {', '.join(COLUMNS)} once")


def _no_lines() -> pl.DataFrame:
    return pl.DataFrame(schema={"row": pl.Int64, "text": pl.String, "broken": pl.Boolean})


def _records(frame: pl.DataFrame, last: bool) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Join the lines of records that span several; hand back the lines of one that is still open at the end.

    Returns
    -------
    tuple[polars.DataFrame, polars.DataFrame]
        Records (row, text, broken), without blank ones, and the lines to start the next piece with.
    """
    suspects = (frame["text"].str.count_matches('"', literal=True) % 2 == 1).arg_true().to_list()
    drop: list[int] = []
    joined: dict[int, str] = {}
    end = 0
    rest = frame.clear()
    for start in suspects:
        if start < end:
            continue
        following = frame["text"].slice(start, _LONGEST_RECORD).to_list()
        length = _record_length(following)
        if length is None and len(following) < _LONGEST_RECORD and not last:
            rest = frame.slice(start)
            frame = frame.head(start)
            break
        if length is not None and length > 1:
            joined[start] = "\n".join(following[:length])
            drop += range(start + 1, start + length)
            end = start + length
    if joined:
        texts = frame["text"].scatter(list(joined), list(joined.values()))
        broken = frame["broken"].to_list()
        for start, text in joined.items():
            broken[start] = any(broken[start : start + text.count("\n") + 1])
        keep = pl.Series([True]).new_from_index(0, len(frame)).scatter(drop, False)
        frame = frame.with_columns(texts, pl.Series("broken", broken, dtype=pl.Boolean)).filter(keep)
    return frame.filter(pl.col("text").str.contains(r"[^ \t\r\n]")), rest


def _record_length(texts: Sequence[str]) -> int | None:
    """How many of these lines the first record takes; None when it is not closed within them."""
    quotes = 0
    for count, text in enumerate(texts, start=1):
        quotes += text.count('"')
        if quotes % 2 == 0 and _split("\n".join(texts[:count])) is not None:
            return count
    return None


def _split(record: str) -> list[str] | None:
    try:
        fields = list(csv.reader(io.StringIO(record, newline=""), strict=True))
    except csv.Error:
        return None
    return fields[0] if len(fields) == 1 else None


def _csv_columns(records: pl.DataFrame, header: Sequence[str]) -> Piece:
    commas = records["text"].str.count_matches(",", literal=True)
    quoted = records["text"].str.contains('"', literal=True) | records["text"].str.contains("[\r\0]")
    places = {name: header.index(name) for name in COLUMNS}
    plain = ~quoted & ~records["broken"] & (commas == len(header) - 1)
    schema = {"row": pl.Int64, "unparseable": pl.Boolean} | dict.fromkeys(COLUMNS, pl.String)
    split = records.filter(plain).select("row", parts=pl.col("text").str.split_exact(",", len(header) - 1))
    simple = split.select(
        "row",
        pl.lit(False).alias("unparseable"),
        *(pl.col("parts").struct.field(f"field_{place}").alias(name) for name, place in places.items()),
    )
    others = records.filter(~plain)
    split_others = [
        None if broken else _split(text)
        for text, broken in zip(others["text"].to_list(), others["broken"].to_list(), strict=True)
    ]
    good = [found if found is not None and len(found) == len(header) else None for found in split_others]
    difficult = pl.DataFrame(
        {"row": others["row"], "unparseable": [found is None for found in good]}
        | {name: [found and found[place] for found in good] for name, place in places.items()},
        schema=schema,
    )
    columns = pl.concat([simple, difficult])
    if len(others):
        columns = columns.sort("row")
    fields = _with_empties_null(columns).with_columns(parse_instants(columns["time"]), incomplete=pl.lit(False))
    return Piece(fields, records["text"].gather)


def _with_empties_null(columns: pl.DataFrame) -> pl.DataFrame:
    return columns.with_columns(
        pl.when(pl.col(name) != "").then(pl.col(name)).alias(name) for name in COLUMNS if name != "time"
    )


def _parquet_columns(table: pa.Table, first_row: int) -> Piece:
    times = _parquet_instants(table.column("time"))
    fields = pl.DataFrame(
        {
            "row": pl.int_range(first_row, first_row + table.num_rows, eager=True),
            "unparseable": pl.repeat(False, table.num_rows, dtype=pl.Boolean, eager=True),
            "incomplete": pl.repeat(False, table.num_rows, dtype=pl.Boolean, eager=True),
            "time": times["time"],
            "time_fault": times["time_fault"],
        }
        | {name: _text_column(table.column(name)) for name in COLUMNS if name != "time"}
    )
    # each row's own columns as one JSON object
    return Piece(fields, lambda places: _json_rows(table.take(places.cast(pl.Int64).to_arrow())))


def _text_column(column: pa.ChunkedArray) -> pl.Series:
    """A column of scalars as plain text; what is no scalar is null."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_nested(kind):
        return pl.repeat(None, len(column), dtype=pl.String, eager=True)
    if pa.types.is_float16(kind):
        column = column.cast(pa.float32())
    series = pl.Series(pl.from_arrow(column))
    texts = series.cast(pl.String, strict=False)
    if series.dtype.is_float():
        return _plain_floats(texts)
    return texts


def _plain_floats(texts: pl.Series) -> pl.Series:
    """Shortest decimals of binary floats without their exponents: 1e16 is 10000000000000000, 5.0 is 5."""
    shifted = texts.str.contains(r"^-?[0-9.]+e[+-]?[0-9]{1,2}$").fill_null(False)
    if shifted.any():
        plain = [f"{Decimal(text):f}" for text in texts.filter(shifted).to_list()]
        texts = texts.scatter(shifted.arg_true(), plain)
    return texts.str.replace(r"\.0$", "")


def _parquet_instants(column: pa.ChunkedArray) -> pl.DataFrame:
    kind = column.type
    if pa.types.is_timestamp(kind):
        per_second = _OFFSETS_1970_TO_2199[kind.unit]
        ticks = pl.Series("ticks", pl.from_arrow(column.cast(pa.int64())), dtype=pl.Int64)
        inside = (pl.col("ticks") >= 0) & (pl.col("ticks") < _SECONDS_UNTIL_2200 * per_second)
        if kind.tz is None:
            inside = pl.lit(False)
        nanoseconds = pl.when(inside).then("ticks") * (10**9 // per_second)
        fault = WITHOUT_ZONE if kind.tz is None else INVALID
        return pl.DataFrame({"ticks": ticks}).select(
            time=nanoseconds.cast(INSTANT),
            time_fault=pl.when(pl.col("ticks").is_not_null() & ~inside).then(pl.lit(fault)),
        )
    texts = _text_column(column)
    if (
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_dictionary(kind)
    ):
        return parse_instants(texts)
    return pl.DataFrame({"text": texts}).select(
        time=pl.lit(None, INSTANT), time_fault=pl.when(pl.col("text").is_not_null()).then(pl.lit(INVALID))
    )


def _json_rows(table: pa.Table) -> pl.Series:
    frame = pl.DataFrame(pl.from_arrow(table))
    plain = frame.with_columns(pl.selectors.by_dtype(pl.Binary).cast(pl.String, strict=False))
    return plain.select(pl.struct(pl.all()).struct.json_encode()).to_series()
