"""Batch parsing of small delivered files: one file alone costs a hundred times its few rows.

Only lines that are independent of their file are parsed together: whole lines of JSON, of CSV without quotation marks
under the same header, and of raw logs with a record per line that one source reads. All other files are parsed one by
one, with the same result.
"""

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from billing.ingest.formats.compression import Content, TooLargeError, UnreadableFileError
from billing.ingest.formats.csv_events import csv_chunks
from billing.ingest.formats.file_kind import BYTE_ORDER_MARK, is_flat_header
from billing.ingest.formats.json_events import json_chunks
from billing.ingest.formats.json_records import holds_records
from billing.ingest.landing import DeliveredFile
from billing.ingest.metric_members import EventTypes
from billing.ingest.parsed_files import (
    FileVersion,
    concerning_one_file,
    no_rows,
    parse_delivered,
    unreadable_file,
    with_alias_kind,
)
from billing.ingest.parsed_rows import set_aside
from billing.ingest.required_columns import UNFINISHED_LINE, UNPARSEABLE
from billing.ingest.sources.event_mapping import File
from billing.ingest.sources.reading import chunk_of_files, reads_lines_alone
from billing.model.errors import InterruptedRunError
from billing.model.file_limits import DEFAULT_LIMITS, Limits
from billing.model.log_formats import LINE_FORMATS
from billing.model.sources import Source

SMALL: Final = 64 * 1024
"""Largest size in bytes of a file that is parsed in a batch."""

_UNPACKED_TOGETHER: Final = 4 * 1024 * 1024

Job = tuple[FileVersion, DeliveredFile]


@dataclass(frozen=True)
class ParsedTogether:
    """Rows of several delivered files, one file after the other, with the row count of each; one schema."""

    rows: pl.DataFrame
    files: Sequence[tuple[FileVersion, int]]


def parse_together(
    jobs: Sequence[Job],
    types: EventTypes,
    limits: Limits = DEFAULT_LIMITS,
    source_of: Callable[[str], Source | None] = lambda _: None,
) -> Iterator[ParsedTogether]:
    """Parse small delivered files, each with the result of `parse_delivered`; an unreadable file is one reject.

    A file beyond the limits is left out. `source_of` says by which source a file of some name is read.

    Raises
    ------
    InterruptedRunError
        When the bytes of a file differ from its version.
    """
    alone: list[Job] = []
    waiting: dict[bytes, list[_Lines]] = {}
    held: dict[bytes, int] = {}
    for job in jobs:
        lines = _whole_lines(job, limits, source_of(job[0].name))
        if lines is None:
            alone.append(job)
            continue
        alike = waiting.setdefault(lines.header, [])
        alike.append(lines)
        held[lines.header] = held.get(lines.header, 0) + len(lines.body)
        if held[lines.header] >= _UNPACKED_TOGETHER:
            held.pop(lines.header)
            yield from _parsed_lines(waiting.pop(lines.header), types, limits, alone)
    for alike in waiting.values():
        yield from _parsed_lines(alike, types, limits, alone)
    for version, file in alone:
        try:
            rows = pl.concat(parse_delivered(file, types, limits, source_of(version.name)))
        except TooLargeError:
            continue
        except UnreadableFileError as error:
            rows = unreadable_file(file, types, error, source_of(version.name))
        yield ParsedTogether(rows, [(version, len(rows))])


@dataclass(frozen=True)
class _Lines:
    """A file of whole lines: `header` is the CSV header, empty for JSON; `body` lacks the last line end."""

    job: Job
    header: bytes
    body: bytes
    source: Source | None = None
    sha256: str = ""

    @property
    def count(self) -> int:
        """Number of lines besides the header."""
        return self.body.count(b"\n") + 1


def _whole_lines(job: Job, limits: Limits, source: Source | None) -> _Lines | None:
    """The lines of a file, each a JSON object, an unquoted CSV record or a record of its source; else None."""
    version, file = job
    if file.fault or (source is not None and not reads_lines_alone(source)):
        return None
    try:
        delivered = file.path.read_bytes()
    except OSError:
        return None
    digest = hashlib.sha256(delivered).hexdigest()
    if version.sha256 and digest != version.sha256:
        raise InterruptedRunError(f"usage/{file.day}/{file.name} was changed while it was read: run again")
    try:
        with concerning_one_file():
            content = Content(io.BytesIO(delivered), len(delivered), limits)
            text = delivered if content.raw is not None else content.whole()
    except UnreadableFileError:
        return None
    text = text.replace(b"\r\n", b"\n")
    if b"\r" in text or len(text) > min(_UNPACKED_TOGETHER, limits.longest_record):
        return None
    body = text.removesuffix(b"\n")
    if source is not None:
        has_lines = _are_whole(text, body) if source.format in LINE_FORMATS else _are_objects(body)
        is_odd = BYTE_ORDER_MARK in text or b"\0" in text
        # Files of one source are read together: its digest stands for their header.
        return _Lines(job, f"\0{source.digest}".encode(), body, source, digest) if has_lines and not is_odd else None
    if body.startswith(b'{"'):
        return _Lines(job, b"", body) if _are_objects(body) else None
    header, _, body = body.partition(b"\n")
    # Reject quotation marks: there may be a line end inside.
    is_plain = _are_whole(text, body) and b'"' not in text and BYTE_ORDER_MARK not in text and header[:1].isalpha()
    return _Lines(job, header, body) if is_plain and is_flat_header(header) else None


def _are_objects(body: bytes) -> bool:
    """Whether every line seems to be a JSON object."""
    return body.startswith(b'{"') and body.endswith(b"}") and body.count(b"\n") == body.count(b'}\n{"')


def _are_whole(text: bytes, body: bytes) -> bool:
    """Whether there is no blank line, and none without a line end, which may be cut off."""
    return len(body) > 0 and text.endswith(b"\n") and not body.startswith(b"\n") and b"\n\n" not in text


def _parsed_lines(
    files: Sequence[_Lines], types: EventTypes, limits: Limits, alone: list[Job]
) -> Iterator[ParsedTogether]:
    """Parse files with one record per line; files that turn out otherwise are added to `alone`."""
    rows = _rows_of_lines(files, types, limits)
    if rows is None:
        # One file of the batch breaks it: find it by bisection.
        if len(files) == 1:
            alone.append(files[0].job)
            return
        half = len(files) // 2
        yield from _parsed_lines(files[:half], types, limits, alone)
        yield from _parsed_lines(files[half:], types, limits, alone)
        return
    lengths = pl.Series([each.count for each in files], dtype=pl.Int64)
    ends = lengths.cum_sum()
    places = pl.int_range(len(files), dtype=pl.Int64, eager=True).repeat_by(lengths).explode(empty_as_null=False)
    left = set(places.filter(rows["reason"].is_in([UNPARSEABLE, UNFINISHED_LINE]).fill_null(value=False)))
    alone += [each.job for place, each in enumerate(files) if place in left]
    kept = [(each.job[0], each.count) for place, each in enumerate(files) if place not in left]
    if kept:
        # Number the rows per file.
        numbered = rows.with_columns(row=pl.col("row") - (ends - lengths).gather(places))
        yield ParsedTogether(numbered.filter(~places.is_in(sorted(left))), kept)


def _rows_of_lines(files: Sequence[_Lines], types: EventTypes, limits: Limits) -> pl.DataFrame | None:
    """One row per line of several files with one header; None when rows cannot be mapped to files."""
    if files[0].source is not None:
        return _rows_of_source(files, files[0].source, types, limits)
    header, count = files[0].header, sum(each.count for each in files)
    text = b"\n".join([*([header] if header else []), *(each.body for each in files), b""])
    nothing = no_rows(types, flat=bool(header))
    read = csv_chunks if header else json_chunks
    try:
        with concerning_one_file():
            content = Content(io.BytesIO(text), len(text), limits)
            if not header and holds_records(content, limits.longest_record):
                return None
            chunks = [set_aside(chunk, types, flat=bool(header)) for chunk in read(content, types, limits)]
    except UnreadableFileError:
        return None
    rows = pl.concat([nothing, *chunks], how="diagonal")
    numbers = pl.int_range(1, count + 1, dtype=pl.Int64, eager=True)
    return rows if len(rows) == count and (rows["row"] == numbers).all() else None


def _rows_of_source(files: Sequence[_Lines], source: Source, types: EventTypes, limits: Limits) -> pl.DataFrame | None:
    """As `_rows_of_lines`, of files that a source reads."""
    text = b"\n".join([*(each.body for each in files), b""])
    named = [(File(each.job[1].name, each.job[1].day.isoformat(), each.sha256), each.count) for each in files]
    nothing = no_rows(types, flat=False, source=source)
    try:
        with concerning_one_file():
            content = Content(io.BytesIO(text), len(text), limits)
            chunk = chunk_of_files(content, source, types, named, limits)
    except UnreadableFileError:
        return None
    if chunk is None:
        return None
    rows = pl.concat([nothing, with_alias_kind(set_aside(chunk, types, flat=False), source)], how="diagonal")
    return rows.with_columns(row=pl.int_range(1, len(rows) + 1, dtype=pl.Int64, eager=True))
