"""JSON reader for CloudEvents: text to columns."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Final

import polars as pl

from billing.ingest.formats.compression import Content
from billing.ingest.formats.delivered_bytes import count_lines, decoded_lines, line_blocks
from billing.ingest.formats.instants import parse_instants
from billing.ingest.formats.json_columns import Columns, as_lines, column_blocks, merged_columns
from billing.ingest.metric_members import EventTypes, measured_paths, member_column
from billing.ingest.parsed_rows import Chunk
from billing.model.file_limits import DEFAULT_LIMITS, Limits

_ENVELOPE: Final = ("specversion", "id", "source", "type", "subject", "time")
_SMALL_BLOCK: Final = 512 * 1024
"""Block size for looking up a few texts: only blocks with a wanted row are split into lines."""

Path = tuple[str, ...]


def json_chunks(content: Content, types: EventTypes, limits: Limits = DEFAULT_LIMITS) -> Iterator[Chunk]:
    """Read CloudEvents 1.0, one per line or as JSON records in any other arrangement, in bounded chunks.

    Rows are those of `json_columns.column_blocks`. A last line without a line end counts if it is a complete record.

    Yields
    ------
    Chunk
        With one value column per member of `types`.
    """
    for block in column_blocks(content, event_columns(measured_paths(types)), limits):
        yield Chunk(_events(block.fields), block.texts, block.unfinished, block.letters)


def json_texts(content: Content, rows: pl.Series, limits: Limits = DEFAULT_LIMITS) -> pl.DataFrame:
    """Original texts (row, text) of some rows of a file; missing rows are left out."""
    wanted = rows.sort().to_list()
    lines_found: list[bytes] = []
    row = 1
    lines, _ = as_lines(content, limits)
    for block in line_blocks(lines, size=_SMALL_BLOCK, longest=limits.longest_record):
        first, row = row, row + count_lines(block)
        found = bisect_left(wanted, row, lo=len(lines_found))
        if found > len(lines_found):
            parted = block.split(b"\n")
            lines_found += [parted[number - first] for number in wanted[len(lines_found) : found]]
        if found == len(wanted):
            break
    found_rows = pl.Series("row", wanted[: len(lines_found)], dtype=pl.Int64)
    return pl.DataFrame([found_rows, decoded_lines(lines_found)["text"]])


def fields_of_lines(frame: pl.DataFrame, paths: Sequence[Path]) -> pl.DataFrame:
    """Decode lines (row, text, broken) into FIELDS and the value columns of `paths`."""
    return _events(merged_columns([], frame, event_columns(paths)))


def event_columns(paths: Sequence[Path]) -> Columns:
    """Columns of an event: its envelope, and the values at some paths."""
    return [*((name, (name,)) for name in _ENVELOPE), *((member_column(path), path) for path in paths)]


def _events(found: pl.DataFrame) -> pl.DataFrame:
    """FIELDS and the value columns, from the columns of events."""
    found = found.with_columns(parse_instants(found["time"]), incomplete=pl.col("specversion").fill_null("") != "1.0")
    return found if found["incomplete"].any() else found.drop("specversion")
