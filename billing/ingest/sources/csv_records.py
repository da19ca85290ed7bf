"""Records of CSV in any dialect, with the row numbers of the plain CSV reader."""

import csv
from collections.abc import Iterator, Sequence

import polars as pl

from billing.ingest.formats.compression import Content, UnreadableFileError
from billing.ingest.formats.csv_events import no_lines, split_record, whole_records
from billing.ingest.sources.line_records import NO_TEXT
from billing.ingest.sources.records import Records, field_column, without_nulls
from billing.ingest.sources.text_lines import line_frames
from billing.model.file_limits import Limits
from billing.model.sources import Source
from billing.model.text import counted


def csv_records(content: Content, source: Source, limits: Limits) -> Iterator[Records]:
    """Read CSV in bounded blocks; a record with more or fewer fields than the header is unparseable.

    `row` is the number of the line that a record starts on, counted after the header.

    Raises
    ------
    UnreadableFileError
        When the header lacks a column that the source reads.
    """
    header: list[str] | None = list(source.header) or None
    before = source.skip
    open_record = no_lines()
    unfinished: int | None = None
    for block in line_frames(content, source, limits, every=True):
        lines = block.lines
        if header is None:
            places = lines.select((pl.col("text").str.contains(r"[^ \t\r\n]") & ~_is_comment(source)).arg_true())
            if places.is_empty():
                continue
            first = int(places.item(0, 0))
            header = _header(lines["text"][first], source)
            before = int(lines["row"][first])
            lines = lines.slice(first + 1)
        unfinished = None if block.unfinished is None else block.unfinished - before
        lines = lines.with_columns(pl.col("row") - before)
        records, open_record = whole_records(
            pl.concat([open_record, lines]), limits.longest_record, last=False, separator=source.separator
        )
        # The last line may belong to a record that is still open.
        yield _records(records, header, source, None if len(open_record) else unfinished)
    if header is not None and len(open_record):
        records, _ = whole_records(open_record, limits.longest_record, last=True, separator=source.separator)
        yield _records(records, header, source, unfinished)


def _is_comment(source: Source) -> pl.Expr:
    return pl.col("text").str.starts_with(source.comment) if source.comment else pl.lit(False)


def _header(line: str, source: Source) -> list[str]:
    names = split_record(line, source.separator)
    if isinstance(names, str):
        raise UnreadableFileError(f"the header is not readable as CSV ({names})")
    names = [name.strip() for name in names]
    require_columns(names, source, "header")
    return names


def require_columns(names: Sequence[str], source: Source, where: str) -> None:
    """Refuse a file without the columns that its source reads, or with one of them twice.

    Raises
    ------
    UnreadableFileError
        Naming what was found and what was expected.
    """
    wrong = [field for field in source.fields if names.count(field) != 1]
    if wrong:
        expected = ", ".join(source.fields)
        raise UnreadableFileError(
            f"{where}: found {', '.join(names) or 'nothing'}, expected each of {expected} once, which the source "
            f"{source.name} reads"
        )


def _records(records: pl.DataFrame, header: Sequence[str], source: Source, unfinished: int | None) -> Records:
    records = records.filter(~_is_comment(source))
    text = records["text"]
    quoted = text.str.contains('"', literal=True) | text.str.contains("[\r\0]")
    commas = text.str.count_matches(source.separator, literal=True)
    plain = ~quoted & ~records["broken"] & (commas == len(header) - 1)
    places = {field_column(field): header.index(field) for field in source.fields}
    split = records.filter(plain).select("row", parts=pl.col("text").str.split_exact(source.separator, len(header) - 1))
    rows = split.select(
        "row",
        pl.lit(False).alias("unparseable"),
        *(pl.col("parts").struct.field(f"field_{place}").alias(name) for name, place in places.items()),
        detail=pl.lit(None, pl.String),
    )
    others = records.filter(~plain)
    if len(others):
        rows = pl.concat([rows, _quoted(others, places, len(header), source.separator)]).sort("row")
    last = None if unfinished is None or records.is_empty() else int(records["row"][-1])
    return Records(rows.with_columns(without_nulls(source.fields, source.nulls)), text.gather, last)


def _quoted(others: pl.DataFrame, places: dict[str, int], width: int, separator: str) -> pl.DataFrame:
    """Fields of records with quotation marks, and of malformed ones."""
    texts = others["text"].to_list()
    rows = None if others["broken"].any() else _together(texts, width, separator)
    faults: list[str | None] = [None] * len(texts)
    if rows is None:
        found = [
            _fields_or_fault(text, broken=broken, width=width, separator=separator)
            for text, broken in zip(texts, others["broken"].to_list(), strict=True)
        ]
        faults = [each if isinstance(each, str) else None for each in found]
        rows = [each if isinstance(each, list) else None for each in found]
    fields = {name: [row[place] if row else None for row in rows] for name, place in places.items()}
    return pl.DataFrame(
        {"row": others["row"], "unparseable": [row is None for row in rows], **fields, "detail": faults},
        schema={"row": pl.Int64, "unparseable": pl.Boolean, **dict.fromkeys(fields, pl.String), "detail": pl.String},
    )


def _together(texts: list[str], width: int, separator: str) -> "list[list[str] | None] | None":
    """Fields of all records at once, the usual case; None when one of them is malformed."""
    try:
        rows: list[list[str] | None] = list(csv.reader(texts, delimiter=separator, strict=True))
    except csv.Error:
        return None
    return rows if len(rows) == len(texts) and all(row and len(row) == width for row in rows) else None


def _fields_or_fault(text: str, *, broken: bool, width: int, separator: str) -> list[str] | str:
    if broken:
        return NO_TEXT
    fields = split_record(text, separator)
    if isinstance(fields, str):
        return f"row: found no CSV record ({fields}), expected {counted(width, 'field')}"
    if len(fields) != width:
        return f"row: found {counted(len(fields), 'field')}, expected {width} as in the header"
    return fields
