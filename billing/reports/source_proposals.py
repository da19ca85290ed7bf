"""Proposals: looks at a file that no source reads, and writes a `sources:` entry with questions where only people know.

What a file shows is filled in (its format, its fields, how its times are written); what it cannot know is `?`, which
the catalogue refuses until someone answers it.
"""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any, Final, cast

import polars as pl
import pyarrow as pa

from billing.ingest.formats.compression import Content, UnreadableFileError
from billing.ingest.formats.delivered_bytes import open_content
from billing.ingest.formats.file_kind import BYTE_ORDER_MARK, COLUMNS, is_flat_header
from billing.ingest.formats.json_records import holds_records, record_lines
from billing.ingest.formats.json_values import decode_line, opened
from billing.ingest.formats.parquet_events import parquet_tables
from billing.ingest.landing import DeliveredFile
from billing.ingest.sources.parquet_records import column_texts
from billing.ingest.sources.text_lines import recoded
from billing.ingest.sources.times import instants
from billing.model.catalogue import Metric
from billing.model.file_limits import DEFAULT_LIMITS
from billing.model.json_paths import json_path
from billing.model.log_formats import TIME_FIELDS, fields_of, line_pattern
from billing.model.sources import ACCESS_LOG_TIME, RFC3339, TimeRule
from billing.model.text import counted

_HEAD: Final = 256 * 1024
_BEFORE: Final = BYTE_ORDER_MARK + b" \t\r\n"
"""Bytes that may stand before the first record."""
_MOST_LINES: Final = 200
_MOST_RECORDS: Final = 50
_MOST_FIELDS: Final = 60
_LONGEST_EXAMPLE: Final = 60
_MOST_OF_THEM: Final = 0.8
_LINE_FORMATS: Final = ("combined", "alb", "s3_access", "common")
_SEPARATORS: Final = (",", ";", "\t", "|")
_TIMES: Final = (
    RFC3339,
    ACCESS_LOG_TIME,
    "%Y-%m-%d %H:%M:%S",
    "%Y/%m/%d %H:%M:%S",
    "%d.%m.%Y %H:%M:%S",
    "%d.%m.%Y %H:%M",
    "%d/%m/%Y %H:%M:%S",
    "%m/%d/%Y %H:%M:%S",
    "%Y-%m-%d",
    "%d.%m.%Y",
)
_COUNTS: Final = {10: "epoch_s", 13: "epoch_ms", 16: "epoch_us", 19: "epoch_ns"}
_BYTES: Final = ("bytes", "body_bytes_sent", "sc-bytes", "sent_bytes", "bytes_sent", "EdgeResponseBytes")
_TIME_NAMES: Final = re.compile(r"(?i)time|date|^ts$|_ts$|_at$|stamp|nano|epoch|msec|(?-i:At)$")
_ID_NAMES: Final = re.compile(r"(^|[_\-.])(id|uid|uuid|guid|key|ray)s?$|(Id|ID|Uuid)$", re.ASCII)


@dataclass(frozen=True)
class Field:
    """A field of the records, with a value that it has; `time` is how its times are written, or empty."""

    name: str
    example: str
    time: str = ""
    is_distinct: bool = False


@dataclass(frozen=True)
class Proposal:
    """What a file looks like, and the entry to paste.

    Attributes
    ----------
    found
        What it was recognised by, in words.
    keys
        Further keys of the entry, as YAML.
    """

    format: str
    found: str
    fields: tuple[Field, ...]
    keys: Mapping[str, str] = field(default_factory=dict)
    entry: str = ""


def propose(path: Path, name: str, metrics: Sequence[Metric]) -> Proposal:
    """Look at a file, and write an entry for it.

    Parameters
    ----------
    name
        Its path below the day of delivery, as far as it lies in one.

    Raises
    ------
    UnreadableFileError
        When it cannot be read, or is empty.
    """
    delivered = DeliveredFile(date.min, path.name, path)
    with open_content(delivered) as content:
        if not content.peek(1):
            raise UnreadableFileError("found an empty file, expected some records to look at")
        looked = _of_parquet(content) if content.peek(4) == b"PAR1" else _of_text(recoded(content, "", DEFAULT_LIMITS))
    return Proposal(looked.format, looked.found, looked.fields, looked.keys, _entry(looked, name, metrics))


def is_read_without_source(path: Path) -> bool:
    """Whether a file is what landing always held: CloudEvents, or columns of that name."""
    try:
        with open_content(DeliveredFile(date.min, path.name, path)) as content:
            if content.peek(4) == b"PAR1":
                return set(COLUMNS) <= set(next(parquet_tables(content))[0].column_names)
            head = content.peek(_HEAD).lstrip(_BEFORE)
            return b'"specversion"' in head if head[:1] in (b"{", b"[") else is_flat_header(head.split(b"\n")[0])
    except (UnreadableFileError, OSError, ValueError):
        return False


# --- recognising ----------------------------------------------------------------------------------------------------


def _of_text(content: Content) -> Proposal:
    head = content.peek(_HEAD)
    if head.lstrip(_BEFORE)[:1] in (b"{", b"["):
        return _of_json(content)
    text = head.decode("utf-8", "replace").lstrip("\ufeff")
    lines = [line for line in text.splitlines() if line.strip()]
    lines = lines[: _MOST_LINES + 1]
    if len(head) == _HEAD or len(lines) > _MOST_LINES:
        lines = lines[:-1]  # The last one may be cut.
    for line in lines:
        if line.lower().startswith(("#fields:", "#fields\t")):
            return _of_directives(line, lines)
    return _of_line_format(lines) or _of_csv(lines) or _of_any_line(lines)


def _of_directives(header: str, lines: Sequence[str]) -> Proposal:
    format = "zeek" if "\t" in header and not header.lower().startswith("#fields:") else "w3c"
    names = re.split(r"[\t ]+", header.strip())[1:]
    rows = [re.split(r"\t" if "\t" in line else " ", line) for line in lines if not line.startswith("#")]
    rows = [row for row in rows if len(row) == len(names)]
    columns = {name: [row[place] for row in rows] for place, name in enumerate(names)}
    if "date" in columns and "time" in columns:
        columns["time"] = [f"{day}T{time}" for day, time in zip(columns.pop("date"), columns["time"], strict=True)]
    return Proposal(format, f"a line {header.split()[0]} names the fields", _fields(columns, ("-",)))


def _of_line_format(lines: Sequence[str]) -> Proposal | None:
    texts = pl.Series(lines, dtype=pl.String)
    for format in _LINE_FORMATS:
        names = fields_of(format) or ()
        pattern = line_pattern(format, "", names)
        found = texts.str.extract_groups(pattern.wide).struct.unnest()
        found.columns = list(pattern.fields)
        matching = found.filter(pl.col(pattern.sure).is_not_null())
        if len(matching) < max(1, _MOST_OF_THEM * len(lines)):
            continue
        columns = {name: matching[name].fill_null("-").str.strip_chars('"[]').to_list() for name in matching.columns}
        if pattern.request:
            requests = [request.split(" ") for request in columns.pop(pattern.request)]
            columns["method"] = [parts[0] for parts in requests]
            columns["path"] = [parts[1] if len(parts) > 1 else "-" for parts in requests]
        told = f"{len(matching)} of the first {len(lines)} lines match"
        return Proposal(format, told, _fields({name: columns[name] for name in names if name in columns}, ("-",)))
    return None


def _of_csv(lines: Sequence[str]) -> Proposal | None:
    for separator in _SEPARATORS:
        try:
            rows = list(csv.reader(io.StringIO("\n".join(lines)), delimiter=separator, strict=True))
        except csv.Error:
            continue
        width = len(rows[0]) if rows else 0
        if width < 2 or sum(len(row) == width for row in rows) < _MOST_OF_THEM * len(rows):
            continue
        rows = [[value.strip() for value in row] for row in rows if len(row) == width]
        has_header = len(set(rows[0])) == width and all(value and not _is_value(value) for value in rows[0])
        names = rows[0] if has_header else [f"column{place}" for place in range(1, width + 1)]
        body = rows[1:] if has_header else rows
        columns = {name: [row[place] for row in body] for place, name in enumerate(names)}
        nulls = [
            text for text in ("NULL", "null", "\\N", "-", "N/A") if any(text in values for values in columns.values())
        ]
        keys = {"separator": json.dumps(separator)} if separator != "," else {}
        keys |= {} if has_header else {"header": f"[{', '.join(names)}]"}
        keys |= {"null": f"[{', '.join(json.dumps(text) for text in nulls)}]"} if nulls else {}
        told = "the first line names the columns" if has_header else "it has no line of names: they are made up here"
        shown = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}[separator]
        return Proposal("csv", f"{width} fields between {shown}; {told}", _fields(columns, nulls), keys)
    return None


def _of_any_line(lines: Sequence[str]) -> Proposal:
    example = lines[0][:_LONGEST_EXAMPLE] if lines else ""
    return Proposal(
        "{regex: '?'}",
        f"lines of no format that is known, such as {example!r}: write a pattern with named groups, such as "
        r"'^(?P<host>\S+) (?P<time>\S+) (?P<bytes>\d+)$', or {nginx: '...'} with the log_format of your server",
        (Field("$line", example),),
    )


def _of_json(content: Content) -> Proposal:
    records: Sequence[Mapping[str, Any]] = list(_documents(content))
    path, found = "", "one JSON object a record"
    while records and (name := _list_of_objects(records[0])) is not None:
        path = f"{path}.{name}[*]" if path else f"{name}[*]"
        items = (item for record in records for item in record.get(name, ()) if isinstance(item, dict))
        records = list(islice(items, _MOST_RECORDS))
        found = f"JSON whose records are the items of {path}"
    columns: dict[str, list[str]] = {}
    for record in records:
        for name, value in _leaves(record, ""):
            columns.setdefault(name, []).append(value)
    return Proposal("json", found, _fields(columns, ()), {"records": json.dumps(path)} if path else {})


def _documents(content: Content) -> Iterator[Mapping[str, Any]]:
    longest = DEFAULT_LIMITS.longest_record
    file = record_lines(content, longest) if holds_records(content, longest) else cast(io.RawIOBase, content)
    with io.BufferedReader(cast(io.RawIOBase, file)) as lines:
        found = 0
        while found < _MOST_RECORDS and (line := lines.readline(longest)):
            document = decode_line(line.decode("utf-8", "replace"))
            if not isinstance(document, str):
                found += 1
                yield document


def _list_of_objects(record: Mapping[str, Any]) -> str | None:
    """The one member that is a list of objects, where the record has little else: then its items are the records."""
    lists = [name for name, value in record.items() if isinstance(value, list) and value and isinstance(value[0], dict)]
    plain = [name for name, value in record.items() if not isinstance(value, list | dict)]
    return lists[0] if len(lists) == 1 and len(plain) <= 3 else None


def _leaves(value: Any, name: str) -> Iterator[tuple[str, str]]:
    inside = opened(value)
    if isinstance(inside, dict):
        # Also what a text or a list of names and values holds.
        value = inside
    if isinstance(value, dict):
        for key, below in value.items():
            yield from _leaves(below, _below(name, key))
    elif isinstance(value, list):
        for place, below in enumerate(value[:2]):
            yield from _leaves(below, f"{name}[{place}]")
    elif value is not None:
        yield name, ("true" if value else "false") if isinstance(value, bool) else str(value)


def _of_parquet(content: Content) -> Proposal:
    tables = parquet_tables(content)
    schema = next(tables)[0].schema
    table = next(tables, (schema.empty_table(), 0))[0].slice(0, _MOST_RECORDS)
    columns = {}
    for each in schema:
        for name in _names_of(each.type, each.name):
            columns[name] = column_texts(table, json_path(name)).fill_null("").to_list()
    return Proposal("parquet", f"Parquet of {counted(len(schema), 'column')}", _fields(columns, ()))


def _names_of(kind: pa.DataType, name: str) -> Iterator[str]:
    """Paths of the scalars of a column."""
    if pa.types.is_struct(kind):
        for place in range(kind.num_fields):
            yield from _names_of(kind.field(place).type, _below(name, kind.field(place).name))
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        yield from _names_of(kind.value_type, f"{name}[0]")
    else:
        yield name


def _below(name: str, key: str) -> str:
    """The path of a member: names with dots or brackets are quoted."""
    if not re.fullmatch(r"[^.\[\]\"']+", key):
        return f'{name}["{key}"]'
    return f"{name}.{key}" if name else key


def _is_value(text: str) -> bool:
    return bool(re.fullmatch(r"[-+]?[\d.,]+", text)) or _time_format([text], may_be_count=False) != ""


def _fields(columns: Mapping[str, Sequence[str]], nulls: Sequence[str]) -> tuple[Field, ...]:
    found = []
    for name, values in list(columns.items())[:_MOST_FIELDS]:
        there = [value for value in values if value and value not in nulls]
        example = Counter(there).most_common(1)[0][0] if there else ""
        distinct = len(there) > 1 and len(set(there)) == len(values)
        found.append(Field(name, example, _time_format(there, may_be_count=bool(_TIME_NAMES.search(name))), distinct))
    return tuple(found)


def _time_format(values: Sequence[str], *, may_be_count: bool) -> str:
    """How times are written, if all of some values are times; empty if they are none."""
    sample = list(values[:20])
    if not sample:
        return ""
    if may_be_count and all(re.fullmatch(r"\d+(\.\d+)?", value) for value in sample):
        lengths = {len(value.partition(".")[0]) for value in sample}
        format = _COUNTS.get(next(iter(lengths)), "") if len(lengths) == 1 else ""
        return format if format and _reads(sample, TimeRule("", format)) else ""
    for format in _TIMES:
        has_offset = TimeRule("", format).has_offset
        if (format == RFC3339 or has_offset) and _reads(sample, TimeRule("", format)):
            return format
        if not has_offset and _reads(sample, TimeRule("", format, "UTC")):
            return f"{format} without zone"
    return ""


def _reads(sample: Sequence[str], rule: TimeRule) -> bool:
    return not instants(pl.Series(sample, dtype=pl.String), rule)["time"].has_nulls()


# --- the entry ------------------------------------------------------------------------------------------------------


def _entry(looked: Proposal, file: str, metrics: Sequence[Metric]) -> str:
    """The entry as YAML, with what is known filled in and questions where it is not."""
    folder, _, below = file.rpartition("/")
    begins = below.split(".")[0]
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", folder.split("/")[0] or begins).strip("_") or "logs"
    pattern = f"{folder}/**" if folder else f"{begins}*"
    types: dict[str, list[str]] = {}
    for metric in metrics:
        types.setdefault(metric.event, []).extend([".".join(metric.value)] if metric.value else [])
    lines = [
        ("sources:", ""),
        (f"  - name: {json.dumps(name)}", "your name for these logs, and the `source` of their events"),
        (f"    files: [{json.dumps(pattern)}]", "? which files: patterns of the path below landing/usage/<day>/"),
        (f"    format: {looked.format}", ""),
        *((f"    {key}: {value}", "") for key, value in looked.keys.items()),
        ("    event:", ""),
        _id(looked),
        (
            '      type: {const: "?"}',
            "? the event type that each record is; by a field: {field: NAME, map: {value: type}}",
        ),
        (
            '      subject: {field: "?"}',
            "? the field of the customer; with `alias: KIND` if aliases.csv names accounts",
        ),
        _time(looked),
        *_values(looked, types),
    ]
    width = max(len(text) for text, words in lines if words) + 2
    return "\n".join(f"{text:<{width}}# {words}" if words else text for text, words in lines) + "\n"


def _id(looked: Proposal) -> tuple[str, str]:
    likely = [each.name for each in looked.fields if each.is_distinct and _ID_NAMES.search(each.name)]
    if likely:
        return (
            f"      id: {{field: {json.dumps(likely[0])}}}",
            "? is it there, and never twice? Else: content | position",
        )
    return '      id: "?"', "? {field: NAME} if records have an id; else content (a copy adds nothing) | position"


def _time(looked: Proposal) -> tuple[str, str]:
    named = TIME_FIELDS.get(looked.format, ("", "", ""))[0]
    if named:
        return f"      time: {{field: {named}}}", "the format knows how it is written"
    times = [each for each in looked.fields if each.time]
    if not times:
        return '      time: {field: "?"}', "? the field of the time, with `format` and `zone`"
    first = times[0]
    format, _, zoneless = first.time.partition(" without ")
    written = "" if format == RFC3339 else f", format: {json.dumps(format)}"
    zone = ', zone: "?"' if zoneless else ""
    others = f"? or another field: {', '.join(each.name for each in times[1:4])}" if times[1:] else ""
    question = "? the zone of these times, such as UTC" if zoneless else ""
    words = "; ".join(filter(None, (question, others))) or f"such as {first.example}"
    return f"      time: {{field: {json.dumps(first.name)}{written}{zone}}}", words


def _values(looked: Proposal, types: Mapping[str, Sequence[str]]) -> list[tuple[str, str]]:
    likely = next((each.name for each in looked.fields if each.name in _BYTES), "")
    lines = []
    for path in dict.fromkeys(path for paths in types.values() for path in paths):
        readers = ", ".join(kind for kind, own in types.items() if path in own)
        if path.endswith("bytes") and likely:
            lines.append((f"      {path}: {{field: {json.dumps(likely)}, null_is: 0}}", f"for the type {readers}"))
        else:
            lines.append((f"      # {path}: {{field: NAME}}", f"for the type {readers}"))
    return lines
