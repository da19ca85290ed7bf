"""Parsing many small delivered files together: a file alone takes a hundred times as long as its few rows.

Only what cannot depend on the file it stands in is read together: whole JSON lines of which every one turns out good.
Everything else is parsed file by file, with the same result.
"""

import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from billing.errors import InterruptedRunError
from billing.file_limits import DEFAULT_LIMITS, Limits
from billing.ingest.compression import Content, TooLargeError, UnreadableFileError
from billing.ingest.json_events import json_pieces
from billing.ingest.landing import DeliveredFile
from billing.ingest.measured import EventTypes
from billing.ingest.parsed_files import (
    FileVersion,
    concerning_one_file,
    no_rows,
    parse_delivered,
    unreadable_file,
)
from billing.ingest.parsed_rows import set_aside

SMALL: Final = 64 * 1024
"""Delivered files of at most so many bytes are parsed together."""

_UNPACKED_TOGETHER: Final = 4 * 1024 * 1024

Job = tuple[FileVersion, DeliveredFile]


@dataclass(frozen=True)
class ParsedTogether:
    """Rows of some delivered files, one file after the other, and how many each has; all have the same columns."""

    rows: pl.DataFrame
    files: Sequence[tuple[FileVersion, int]]


def parse_together(jobs: Sequence[Job], types: EventTypes, limits: Limits = DEFAULT_LIMITS) -> Iterator[ParsedTogether]:
    """Parse small delivered files, each as `parse_delivered` does; a file that cannot be read is one reject.

    One that goes beyond the limits is left out.

    Raises
    ------
    InterruptedRunError
        When a file has other bytes than its version.
    """
    alone: list[Job] = []
    waiting: list[tuple[Job, bytes]] = []
    held = 0
    for job in jobs:
        lines = _whole_lines(job, limits)
        if lines is None:
            alone.append(job)
            continue
        waiting.append((job, lines))
        held += len(lines)
        if held >= _UNPACKED_TOGETHER:
            yield from _parsed_lines(waiting, types, limits, alone)
            waiting, held = [], 0
    yield from _parsed_lines(waiting, types, limits, alone)
    for version, file in alone:
        try:
            rows = pl.concat(parse_delivered(file, types, limits))
        except TooLargeError:
            continue
        except UnreadableFileError as error:
            rows = unreadable_file(file, types, error)
        yield ParsedTogether(rows, [(version, len(rows))])


def _whole_lines(job: Job, limits: Limits) -> bytes | None:
    """The lines of a file, each an object and none blank, without the last line end; None where it is not so plain."""
    version, file = job
    if file.fault:
        return None
    try:
        delivered = file.path.read_bytes()
    except OSError:
        return None
    if version.sha256 and hashlib.sha256(delivered).hexdigest() != version.sha256:
        raise InterruptedRunError(f"usage/{file.day}/{file.name} was changed while it was read: run again")
    try:
        with concerning_one_file():
            content = Content(io.BytesIO(delivered), len(delivered), limits)
            text = delivered if content.raw is not None else content.whole()
    except UnreadableFileError:
        return None
    lines = text.removesuffix(b"\n")
    is_plain = (
        lines.startswith(b'{"')
        and lines.endswith(b"}")
        and b"\r" not in lines
        and lines.count(b"\n") == lines.count(b'}\n{"')
        and len(lines) <= min(_UNPACKED_TOGETHER, limits.longest_record)
    )
    return lines if is_plain else None


def _parsed_lines(
    files: Sequence[tuple[Job, bytes]], types: EventTypes, limits: Limits, alone: list[Job]
) -> Iterator[ParsedTogether]:
    """The files whose lines are all good; the others are added to `alone`."""
    if not files:
        return
    counts = [lines.count(b"\n") + 1 for _, lines in files]
    rows = _rows_of_lines(b"\n".join(lines for _, lines in files), sum(counts), types, limits)
    if rows is None:
        alone += [job for job, _ in files]
        return
    lengths = pl.Series(counts, dtype=pl.Int64)
    ends = lengths.cum_sum()
    places = pl.int_range(len(files), dtype=pl.Int64, eager=True).repeat_by(lengths).explode(empty_as_null=False)
    doubtful = places.filter(rows["reason"].is_not_null()).unique()
    good = ~places.is_in(doubtful.implode())
    # rows are numbered in their own file
    numbered = rows.with_columns(row=pl.col("row") - (ends - lengths).gather(places)).filter(good)
    left = set(doubtful)
    alone += [job for place, (job, _) in enumerate(files) if place in left]
    kept = [(job[0], counts[place]) for place, (job, _) in enumerate(files) if place not in left]
    if kept:
        yield ParsedTogether(numbered, kept)


def _rows_of_lines(lines: bytes, count: int, types: EventTypes, limits: Limits) -> pl.DataFrame | None:
    """A row for each of so many lines of several files; None where it is not plain which row is whose."""
    nothing = no_rows(types, flat=False)
    try:
        with concerning_one_file():
            content = Content(io.BytesIO(lines + b"\n"), len(lines) + 1, limits)
            pieces = [set_aside(piece, types, flat=False) for piece in json_pieces(content, types, limits)]
    except UnreadableFileError:
        return None
    rows = pl.concat([nothing, *pieces], how="diagonal")
    numbers = pl.int_range(1, count + 1, dtype=pl.Int64, eager=True)
    return rows if len(rows) == count and (rows["row"] == numbers).all() else None
