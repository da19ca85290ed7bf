"""Parquet reader for usage: rows to text columns."""

import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial
from typing import BinaryIO, Final

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from billing.ingest.formats.compression import Content, UnreadableFileError
from billing.ingest.formats.file_kind import COLUMNS
from billing.ingest.formats.flat_columns import value_places
from billing.ingest.formats.instants import INVALID, WITHOUT_ZONE, parse_instants
from billing.ingest.metric_members import EventTypes
from billing.ingest.parsed_rows import Chunk, are_visible
from billing.ingest.required_columns import IDENTIFIERS
from billing.model.columns import INSTANT

_BATCH: Final = 65_536
_BATCH_BYTES: Final = 64 * 1024 * 1024
_OFFSETS_1970_TO_2199: Final = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_SECONDS_UNTIL_2200: Final = 7_258_118_400
_UUID: Final = "arrow.uuid"


def parquet_chunks(content: Content, types: EventTypes) -> Iterator[Chunk]:
    """Read Parquet in bounded batches.

    `row` is the position of the row, from 1. `time` is a timestamp with a zone, or text; a timestamp without a zone is
    no instant. A value may be an integer, a decimal of any width, text or a binary float, read as the shortest decimal
    that denotes it. A UUID is read in its usual form, other binary of 16 bytes as hexadecimal digits. Columns may be in
    any order; unknown ones appear only in the text of rejected rows.

    Yields
    ------
    Chunk
        With the value columns of `flat_columns.value_places`.

    Raises
    ------
    UnreadableFileError
        When it is not Parquet, a column is missing, or its pages decompress to more than the largest ratio allows.
    """
    tables = parquet_tables(content)
    names = next(tables)[0].column_names
    places = value_places(names, types, "columns")
    for table, row in tables:
        yield _columns(table, row, places)


def parquet_tables(content: Content) -> Iterator[tuple[pa.Table, int]]:
    """Read Parquet in bounded batches, each with the number of its first row; the first table has no rows.

    Raises
    ------
    UnreadableFileError
        When it is not Parquet, or its pages decompress to more than the largest ratio allows.
    """
    if content.raw is not None:
        content.raw.seek(0)
    file: BinaryIO = content.raw or io.BytesIO(content.whole())
    try:
        # Spark's int96 is read as microseconds: in nanoseconds, the year 9999 would become 1816.
        reader = pq.ParquetFile(file, coerce_int96_timestamp_unit="us")
        yield reader.schema_arrow.empty_table(), 0
        rows, size = (
            reader.metadata.num_rows,
            sum(reader.metadata.row_group(group).total_byte_size for group in range(reader.metadata.num_row_groups)),
        )
        content.require_ratio(size)
        # Shrink the batch for wide rows.
        batch_size = max(1, min(_BATCH, _BATCH_BYTES * max(rows, 1) // max(size, 1)))
        row = 1
        for batch in reader.iter_batches(batch_size=batch_size):
            yield pa.Table.from_batches([batch]), row
            row += batch.num_rows
    except (pa.ArrowException, pl.exceptions.PolarsError) as error:
        raise UnreadableFileError(f"not readable as Parquet ({str(error).splitlines()[0]})") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise UnreadableFileError(f"not readable as Parquet ({str(error).splitlines()[0]})") from error


def _columns(table: pa.Table, first_row: int, places: dict[str, int]) -> Chunk:
    names = table.column_names
    nothing = pl.repeat(None, table.num_rows, dtype=pl.String, eager=True)
    fields = pl.DataFrame(
        {
            "row": pl.int_range(first_row, first_row + table.num_rows, eager=True),
            "unparseable": pl.repeat(False, table.num_rows, dtype=pl.Boolean, eager=True),
            "incomplete": pl.repeat(False, table.num_rows, dtype=pl.Boolean, eager=True),
        }
        | {name: texts_of(table.column(names.index(name))) for name in COLUMNS if name != "time"}
        | {name: texts_of(table.column(place)) if place >= 0 else nothing for name, place in places.items()}
    ).with_columns(_instants(table.column(names.index("time"))))
    visible = all(_is_visible(table.column(names.index(name))) for name in IDENTIFIERS)
    return Chunk(fields, partial(json_rows, table), letters="visible" if visible else "any")


def _is_visible(column: pa.ChunkedArray) -> bool:
    """Whether a column holds only visible ASCII, by its buffers, without a look at each text."""
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return False
    return all(are_visible(_letters(chunk)) for chunk in column.chunks)


def _letters(chunk: pa.Array) -> pa.Buffer | None:
    """The character buffer of a chunk, which may be a slice of a longer one."""
    _, ends, letters = chunk.buffers()
    if letters is None or len(chunk) == 0:
        return None
    width = 8 if pa.types.is_large_string(chunk.type) else 4
    first, last = (
        int.from_bytes(ends.slice(place * width, width).to_pybytes(), "little")
        for place in (chunk.offset, chunk.offset + len(chunk))
    )
    return letters.slice(first, last - first)


def texts_of(column: pa.ChunkedArray) -> pl.Series:
    """A column of scalars as plain text; nested values and bytes that are not UTF-8 are null."""
    column = _of_plain_type(column)
    kind = column.type
    if pa.types.is_nested(kind):
        return pl.repeat(None, len(column), dtype=pl.String, eager=True)
    if _is_wide_decimal(kind):
        return _plain_numbers(pl.Series(pl.from_arrow(column.cast(pa.large_string()))))
    series = pl.Series(pl.from_arrow(column))
    if series.dtype == pl.Binary:
        return _decoded(series)
    texts = series.cast(pl.String, strict=False)
    return _plain_numbers(texts).str.replace(r"\.0$", "") if series.dtype.is_float() else texts


def _of_plain_type(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column with dictionary, extension, half-float and fixed-size binary types resolved at the top level."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = pa.chunked_array([chunk.dictionary_decode() for chunk in column.chunks], kind.value_type)
        kind = column.type
    is_uuid = isinstance(kind, pa.BaseExtensionType) and kind.extension_name == _UUID
    if isinstance(kind, pa.BaseExtensionType):
        column = pa.chunked_array([chunk.storage for chunk in column.chunks], kind.storage_type)
        kind = column.type
    if pa.types.is_float16(kind):
        return column.cast(pa.float32())
    if pa.types.is_fixed_size_binary(kind):
        raw = pl.Series(pl.from_arrow(column.cast(pa.large_binary())))
        if kind.byte_width != 16:
            return pa.chunked_array([_decoded(raw).to_arrow()])
        return pa.chunked_array([_hexadecimal(raw, is_uuid=is_uuid).to_arrow()])
    return column


def _decoded(raw: pl.Series, instead: Callable[[bytes], str | None] = lambda _: None) -> pl.Series:
    """Decode bytes as UTF-8; `instead` converts bytes that are not."""

    def text(value: bytes | None) -> str | None:
        if value is None:
            return None
        try:
            return value.decode()
        except UnicodeDecodeError:
            return instead(value)

    try:
        return raw.cast(pl.String)
    except pl.exceptions.ComputeError:
        return pl.Series(raw.name, map(text, raw.to_list()), dtype=pl.String)


def _hexadecimal(raw: pl.Series, *, is_uuid: bool) -> pl.Series:
    digits = raw.bin.encode("hex")
    if not is_uuid:
        return digits
    parts = [
        pl.col("digits").str.slice(start, length) for start, length in ((0, 8), (8, 4), (12, 4), (16, 4), (20, 12))
    ]
    return digits.to_frame("digits").select(pl.concat_str(parts, separator="-")).to_series()


def _is_wide_decimal(kind: pa.DataType) -> bool:
    """Whether a type is a decimal that Polars does not support."""
    return bool(pa.types.is_decimal(kind)) and not pa.types.is_decimal128(kind)


def _plain_numbers(texts: pl.Series) -> pl.Series:
    """Expand exponents: 1e16 becomes 10000000000000000."""
    shifted = texts.str.contains(r"^-?[0-9.]+[eE][+-]?[0-9]{1,3}$").fill_null(value=False)
    if shifted.any():
        plain = [f"{Decimal(text):f}" for text in texts.filter(shifted).to_list()]
        texts = texts.scatter(shifted.arg_true(), plain)
    return texts


def _instants(column: pa.ChunkedArray) -> pl.DataFrame:
    """Columns time, time_fault and time_found, as `parse_instants`."""
    kind = column.type
    if pa.types.is_timestamp(kind):
        per_second = _OFFSETS_1970_TO_2199[kind.unit]
        ticks = pl.Series("ticks", pl.from_arrow(column.cast(pa.int64())), dtype=pl.Int64)
        inside = (pl.col("ticks") >= 0) & (pl.col("ticks") < _SECONDS_UNTIL_2200 * per_second)
        if kind.tz is None:
            inside = pl.lit(False)
        nanoseconds = pl.when(inside).then("ticks") * (10**9 // per_second)
        fault = WITHOUT_ZONE if kind.tz is None else INVALID
        is_faulty = pl.col("ticks").is_not_null() & ~inside
        return pl.DataFrame({"ticks": ticks}).select(
            time=nanoseconds.cast(INSTANT),
            time_fault=pl.when(is_faulty).then(pl.lit(fault)),
            time_found=pl.when(is_faulty).then(pl.format("the timestamp {} {}", "ticks", pl.lit(kind.unit))),
        )
    texts = texts_of(column)
    if _is_text(kind.value_type if pa.types.is_dictionary(kind) else kind):
        return parse_instants(texts)
    return pl.DataFrame({"text": texts}).select(
        time=pl.lit(None, INSTANT),
        time_fault=pl.when(pl.col("text").is_not_null()).then(pl.lit(INVALID)),
        time_found="text",
    )


def _is_text(kind: pa.DataType) -> bool:
    return any(is_it(kind) for is_it in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view))


def json_rows(table: pa.Table, places: pl.Series) -> pl.Series:
    """Some rows of a table, each as one JSON object of all its columns."""
    wanted = places.cast(pl.Int64)
    seen: Counter[str] = Counter()
    columns = []
    for name, column in zip(table.column_names, table.columns, strict=True):
        seen[name] += 1
        unique = name if seen[name] == 1 else f"{name} ({seen[name]})"
        columns.append(_encodable_values(column, wanted).alias(unique))
    return pl.DataFrame(columns).select(pl.struct(pl.all()).struct.json_encode()).to_series()


def _encodable_values(column: pa.ChunkedArray, wanted: pl.Series) -> pl.Series:
    """Values of a column at some positions, as a column that can be encoded as JSON."""
    if pa.types.is_string_view(column.type) or pa.types.is_binary_view(column.type):
        # Arrow has no take for view types.
        series = pl.Series(pl.from_arrow(column)).gather(wanted)
    else:
        column = column.take(wanted.to_arrow())
        if pa.types.is_nested(column.type) and not _is_encodable(column.type):
            texts = [json.dumps(value, default=_plain_value, ensure_ascii=False) for value in column.to_pylist()]
            return pl.Series(texts, dtype=pl.String)
        if not _is_encodable(column.type):
            column = _of_plain_type(column)
        if _is_wide_decimal(column.type):
            return texts_of(column)
        series = pl.Series(pl.from_arrow(column))
    return _decoded(series, bytes.hex) if series.dtype == pl.Binary else series


def _is_encodable(kind: pa.DataType, *, nested: bool = False) -> bool:
    """Whether Polars can read a column of this type and encode it as JSON."""
    if isinstance(kind, pa.BaseExtensionType) or pa.types.is_fixed_size_binary(kind) or _is_wide_decimal(kind):
        return False
    if pa.types.is_struct(kind):
        fields = [kind.field(place) for place in range(kind.num_fields)]
        return len({field.name for field in fields}) == len(fields) and all(
            _is_encodable(field.type, nested=True) for field in fields
        )
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _is_encodable(kind.value_type, nested=True)
    if pa.types.is_dictionary(kind):
        return not nested and _is_text(kind.value_type)
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return not nested
    return not (pa.types.is_nested(kind) or pa.types.is_float16(kind) or pa.types.is_binary_view(kind))


def _plain_value(value: object) -> object:
    """Fallback for values without a JSON form: bytes as hexadecimal digits, anything else as text."""
    return value.hex() if isinstance(value, bytes) else str(value)
