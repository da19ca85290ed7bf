"""Records of JSON in any arrangement: their fields by paths."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Final

import polars as pl

from billing.ingest.formats.compression import Content
from billing.ingest.formats.json_columns import Columns, column_blocks, merged_columns
from billing.ingest.formats.json_values import JsonDecimal, decode_line, scalar
from billing.ingest.sources.nested_json import NestedRecord, nested_records
from billing.ingest.sources.records import Records, field_column, without_nulls
from billing.ingest.sources.text_lines import recoded
from billing.model.file_limits import Limits
from billing.model.json_paths import json_path
from billing.model.sources import Source

SPECIFICATION: Final = "specversion"
_TOGETHER: Final = 20_000
_WITH_POINT: Final = r"^-?[0-9]+\.[0-9]+$"
_BYTES_TOGETHER: Final = 16 * 1024 * 1024


def json_records(content: Content, source: Source, limits: Limits) -> Iterator[Records]:
    """Read JSON in bounded blocks: one record per document, or the records at the source's path in each.

    A field that a record lacks is looked for in the objects around it, as far as they stand before it, from the
    inside out. A path leads on inside of text that is a JSON object, and by name into a list of names and values. Rows
    of documents are those of `json_columns.column_blocks`; deeper records are counted from 1.
    """
    content = recoded(content, source.encoding, limits)
    fields = [*source.fields, *((SPECIFICATION,) if source.format == "cloudevents" else ())]
    columns = [(field_column(field), json_path(field)) for field in fields]
    if source.records:
        yield from _nested(content, source, columns, limits)
        return
    # A source of CloudEvents reads what the first reader reads.
    for block in column_blocks(content, columns, limits, looks_inside=source.format == "json"):
        yield _as_records(block.fields, block.texts, source, block.unfinished)


def _as_records(
    found: pl.DataFrame, texts: Callable[[pl.Series], pl.Series], source: Source, unfinished: int | None = None
) -> Records:
    """The records of decoded columns, in the dialect of the source."""
    fields = _with_detail(found).with_columns(without_nulls(source.fields, source.nulls))
    return Records(_with_own_sign(fields, texts, source), texts, unfinished)


def _with_detail(found: pl.DataFrame) -> pl.DataFrame:
    """Decoded columns with `detail`, null where no record is broken."""
    return found if "detail" in found.columns else found.with_columns(detail=pl.lit(None, pl.String))


def _with_own_sign(fields: pl.DataFrame, texts: Callable[[pl.Series], pl.Series], source: Source) -> pl.DataFrame:
    """Write JSON numbers with the source's decimal sign, which is that of texts: 1.234 and "1.234" may differ."""
    if source.decimal == ".":
        return fields
    for field in dict.fromkeys(rule.field for rule in source.values if rule.field in source.fields):
        values, path = fields[field_column(field)], json_path(field)
        places = values.str.contains(_WITH_POINT).fill_null(value=False).arg_true()
        records = [decode_line(text) for text in texts(places)]
        is_number = [isinstance(scalar(record, path, looks_inside=True), JsonDecimal) for record in records]
        numbers = places.filter(pl.Series(is_number, dtype=pl.Boolean))
        written = values.gather(numbers).str.replace(".", source.decimal, literal=True)
        fields = fields.with_columns(values.scatter(numbers, written).alias(field_column(field)))
    return fields


def _nested(content: Content, source: Source, columns: Columns, limits: Limits) -> Iterator[Records]:
    kept = {str(path[0]) for _, path in columns}
    records = nested_records(content, json_path(source.records), kept, limits)
    row = 1
    while together := list(_bounded(records)):
        yield _as_records(_fields(together, columns, row), partial(_texts, together), source)
        row += len(together)


def _bounded(records: Iterator[NestedRecord]) -> Iterator[NestedRecord]:
    size = 0
    for record in islice(records, _TOGETHER):
        yield record
        size += len(record.text)
        if size > _BYTES_TOGETHER:
            return


def _texts(records: Sequence[NestedRecord], places: pl.Series) -> pl.Series:
    return pl.Series("text", [_plain(records[place].text) for place in places], dtype=pl.String)


def _plain(text: str) -> str:
    """A text without lone surrogates, which stand for bytes that are no UTF-8."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _fields(records: Sequence[NestedRecord], columns: Columns, row: int) -> pl.DataFrame:
    texts = [_plain(record.text) for record in records]
    rows = pl.int_range(row, row + len(records), dtype=pl.Int64, eager=True).alias("row")
    lines = pl.DataFrame(
        {
            "row": rows,
            "text": [
                "[]" if record.fault else text.replace("\n", " ") for record, text in zip(records, texts, strict=True)
            ],
            "broken": [not record.fault and text != record.text for record, text in zip(records, texts, strict=True)],
        },
        schema={"row": pl.Int64, "text": pl.String, "broken": pl.Boolean},
    )
    found = _with_detail(merged_columns([], lines, columns, looks_inside=True))
    faults = pl.Series([record.fault or None for record in records], dtype=pl.String)
    found = found.with_columns(detail=pl.coalesce(faults, "detail"))
    deepest = max((len(record.around) for record in records), default=0)
    for level in range(deepest):
        around = [record.around[level] if level < len(record.around) else "{}" for record in records]
        found = _looked_for(found, around, columns)
    return found


def _looked_for(found: pl.DataFrame, around: Sequence[str], columns: Columns) -> pl.DataFrame:
    """Fill what records lack from the objects around them; each object is decoded once."""
    distinct = list(dict.fromkeys(around))
    places = {text: place for place, text in enumerate(distinct)}
    if distinct == ["{}"]:
        return found
    lines = pl.DataFrame(
        {"row": range(len(distinct)), "text": [_plain(text).replace("\n", " ") for text in distinct], "broken": False},
        schema={"row": pl.Int64, "text": pl.String, "broken": pl.Boolean},
    )
    outer = merged_columns([], lines, columns, looks_inside=True)[[places[text] for text in around]]
    return found.with_columns(pl.coalesce(found[name], outer[name]).alias(name) for name, _ in columns)
