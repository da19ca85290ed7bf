"""Records of logs whose own lines name their fields: W3C extended logs (IIS, CloudFront) and Zeek."""

import csv
import re
from collections.abc import Iterator, Sequence
from typing import Final

import polars as pl

from billing.ingest.formats.compression import Content
from billing.ingest.sources.line_records import NO_TEXT
from billing.ingest.sources.records import Records, field_column, without_nulls
from billing.ingest.sources.text_lines import line_frames
from billing.model.file_limits import Limits
from billing.model.sources import Source
from billing.model.text import counted

_FIELDS: Final = re.compile(r"#fields\b:?[ \t]*", re.IGNORECASE)
_SEPARATOR: Final = re.compile(r"\\x([0-9a-fA-F]{2})")
_NO_NAMES: Final = "row: found a line before the names of the fields, expected a line #Fields before it"
_JOINED: Final = ("date", "time")


class _Directives:
    """What the lines that begin with # have said so far."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.separator = " "
        self.nulls = ["-"]

    def read(self, line: str) -> None:
        """Read one directive; lines that say nothing about fields are comments."""
        found = _FIELDS.match(line)
        if found is not None:
            rest = line[found.end() :]
            if self.separator not in " \t":
                self.names = rest.removeprefix(self.separator).split(self.separator)
                return
            # W3C names are separated by blanks even where tabs separate the values.
            self.names = rest.split("\t") if "\t" in rest else rest.split()
            self.separator = "\t" if "\t" in rest or self.separator == "\t" else " "
        elif line.startswith("#separator"):
            written = _SEPARATOR.fullmatch(line.removeprefix("#separator").strip())
            character = chr(int(written[1], 16)) if written else "\t"
            self.separator = character if character == "\t" or (character.isprintable() and character != '"') else "\t"
        elif line.startswith(("#unset_field", "#empty_field")):
            parts = re.split(rf"[\t {re.escape(self.separator)}]", line, maxsplit=1)
            self.nulls.append(parts[1].strip() if len(parts) > 1 else "")


def directive_records(content: Content, source: Source, limits: Limits) -> Iterator[Records]:
    """Read a log in bounded blocks; lines that begin with # are no records, and #Fields may change at any of them."""
    directives = _Directives()
    for block in line_frames(content, source, limits):
        is_directive = block.lines["text"].str.starts_with("#")
        parts: list[pl.DataFrame] = []
        start = 0
        for place in is_directive.arg_true().to_list():
            parts.append(_fields(block.lines[start:place], source, directives))
            directives.read(block.lines["text"][place])
            start = place + 1
        parts.append(_fields(block.lines[start:], source, directives))
        records = block.lines.filter(~is_directive)
        yield Records(pl.concat(parts), records["text"].gather, block.unfinished)


def _fields(lines: pl.DataFrame, source: Source, directives: _Directives) -> pl.DataFrame:
    """Fields of consecutive lines under the same names."""
    names = directives.names
    separator = directives.separator
    if separator == " " and len(lines) and "\t" in lines["text"][0]:
        separator = "\t"
    text = pl.col("text")
    width = len(names)
    split = lines.select(
        parts=text.str.split_exact(separator, max(width - 1, 0)),
        count=text.str.count_matches(separator, literal=True) + 1,
    )
    is_whole = (split["count"] == width) & (width > 0)
    fields = {
        name: split["parts"].struct.field(f"field_{names.index(name)}")
        for name in (*source.fields, *_JOINED)
        if name in names
    }
    nothing = pl.repeat(None, len(lines), dtype=pl.String, eager=True)
    detail = nothing
    others = (~is_whole).arg_true()
    if len(others):
        repaired, faults = _one_by_one(lines, others, separator, names, list(fields))
        fields = {name: values.scatter(others, repaired[name]) for name, values in fields.items()}
        detail = pl.Series(faults, dtype=pl.String)
    columns = {field_column(name): fields.get(name, nothing) for name in source.fields}
    found = pl.DataFrame({"row": lines["row"], "broken": lines["broken"]} | columns)
    if "time" in source.fields and all(name in names for name in _JOINED):
        joined = pl.concat_str(fields["date"], pl.lit("T"), fields["time"])
        found = found.with_columns(joined.alias(field_column("time")))
    return (
        found.with_columns(without_nulls(source.fields, directives.nulls))
        .with_columns(detail=pl.when("broken").then(pl.lit(NO_TEXT)).otherwise(detail))
        .with_columns(unparseable=pl.col("detail").is_not_null())
        .select("row", "unparseable", *columns, "detail")
    )


def _one_by_one(
    lines: pl.DataFrame, places: pl.Series, separator: str, names: Sequence[str], read: Sequence[str]
) -> tuple[dict[str, pl.Series], list[str | None]]:
    """Fields of the lines at some positions that may hold quoted values; and the faults of all lines."""
    faults: list[str | None] = [None] * len(lines)
    rows: list[list[str] | None] = []
    for place, text in zip(places, lines["text"].gather(places), strict=True):
        row, fault = _quoted(text, separator, len(names))
        faults[place] = fault
        rows.append(row)
    values = {
        name: pl.Series([row[names.index(name)] if row else None for row in rows], dtype=pl.String) for name in read
    }
    return values, faults


def _quoted(text: str, separator: str, width: int) -> tuple[list[str] | None, str | None]:
    if not width:
        return None, _NO_NAMES
    try:
        row = next(csv.reader([text], delimiter=separator, skipinitialspace=separator == " "), [])
    except csv.Error:
        row = text.split(separator)
    if len(row) == width:
        return row, None
    return None, f"row: found {counted(len(row), 'field')}, expected {width} as in #Fields"
