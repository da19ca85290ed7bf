"""Records of Parquet: columns, and members of nested columns by paths."""

from collections.abc import Iterator
from functools import partial

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from billing.ingest.formats.compression import Content, UnreadableFileError
from billing.ingest.formats.json_columns import members_in_texts
from billing.ingest.formats.parquet_events import json_rows, parquet_tables, texts_of
from billing.ingest.sources.records import Records, field_column, without_nulls
from billing.model.json_paths import Path, json_path
from billing.model.sources import Source


def parquet_records(content: Content, source: Source) -> Iterator[Records]:
    """Read Parquet in bounded batches; `row` is the position of the row, from 1.

    A path leads on by name inside of text that is a JSON object. Timestamps become text in RFC 3339, with `Z` where
    they have a zone; a date is its day.

    Raises
    ------
    UnreadableFileError
        When it lacks a column that the source reads.
    """
    if not content.peek(1):
        return  # An empty file withdraws a delivery (rule 22).
    tables = parquet_tables(content)
    names = next(tables)[0].column_names
    paths = {field: (field,) if field in names else json_path(field) for field in source.fields}
    lacking = sorted(str(path[0]) for path in paths.values() if names.count(path[0]) != 1)
    if lacking:
        raise UnreadableFileError(
            f"columns: found {', '.join(names) or 'nothing'}, expected each of {', '.join(lacking)} once, which the "
            f"source {source.name} reads"
        )
    signs = {rule.field: source.decimal for rule in source.values}
    for table, row in tables:
        fields = {
            field_column(field): column_texts(table, path, signs.get(field, ".")) for field, path in paths.items()
        }
        found = pl.DataFrame(
            {
                "row": pl.int_range(row, row + table.num_rows, dtype=pl.Int64, eager=True),
                "unparseable": pl.repeat(False, table.num_rows, dtype=pl.Boolean, eager=True),
                **fields,
                "detail": pl.repeat(None, table.num_rows, dtype=pl.String, eager=True),
            }
        )
        yield Records(found.with_columns(without_nulls(source.fields, source.nulls)), partial(json_rows, table))


def column_texts(table: pa.Table, path: Path, decimal: str = ".") -> pl.Series:
    """The texts at a path of the columns; null where there is none.

    Parameters
    ----------
    decimal
        The sign to write numbers with that are no text in the file: as the source reads them.
    """
    column = table.column(str(path[0]))
    for place, step in enumerate(path[1:], start=1):
        kind = column.type
        if isinstance(step, int) and (pa.types.is_list(kind) or pa.types.is_large_list(kind)):
            # Lists that are shorter have nothing there.
            items = [item[step] if item is not None and len(item) > step else None for item in column.to_pylist()]
            column = pa.chunked_array([pa.array(items, kind.value_type)])
        elif isinstance(step, str) and pa.types.is_struct(kind) and kind.get_field_index(step) >= 0:
            column = pc.struct_field(column, [kind.get_field_index(step)])
        elif isinstance(step, str) and pa.types.is_map(kind):
            items = [dict(item).get(step) if item is not None else None for item in column.to_pylist()]
            column = pa.chunked_array([pa.array(items, kind.item_type)])
        elif isinstance(step, str):
            return members_in_texts(texts_of(column), [("text", path[place:])])["text"]
        else:
            return pl.repeat(None, table.num_rows, dtype=pl.String, eager=True)
    if pa.types.is_timestamp(column.type):
        return _of_time(column)
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    has_fractions = pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    texts = texts_of(column)
    return texts.str.replace(".", decimal, literal=True) if has_fractions and decimal != "." else texts


def _of_time(column: pa.ChunkedArray) -> pl.Series:
    """Timestamps as text in RFC 3339."""
    kind = column.type
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[kind.unit]
    ticks = pl.Series("ticks", pl.from_arrow(column.cast(pa.int64())), dtype=pl.Int64)
    seconds = pl.col("ticks") // per_second
    rest = (pl.col("ticks") % per_second) * (10**9 // per_second)
    day = pl.from_epoch(seconds.cast(pl.Int64), time_unit="s").dt.to_string("%Y-%m-%dT%H:%M:%S")
    is_sane = seconds.is_between(-(2**40), 2**38)
    text = pl.concat_str(day, pl.lit("."), rest.cast(pl.String).str.zfill(9), pl.lit("Z" if kind.tz else ""))
    odd = pl.format("the timestamp {} {}", "ticks", pl.lit(kind.unit))
    return pl.DataFrame({"ticks": ticks}).select(
        pl.when(pl.col("ticks").is_null()).then(None).when(is_sane).then(text).otherwise(odd).alias("text")
    )["text"]
