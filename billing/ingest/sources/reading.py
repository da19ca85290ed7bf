"""Reads a delivered file by its source: its records as chunks of events."""

from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal

import polars as pl

from billing.ingest.formats.compression import Content, UnreadableFileError
from billing.ingest.metric_members import EventTypes
from billing.ingest.parsed_rows import IGNORED, Chunk
from billing.ingest.sources.csv_records import csv_records
from billing.ingest.sources.directive_records import directive_records
from billing.ingest.sources.event_mapping import EventMapping, File
from billing.ingest.sources.json_path_records import json_records
from billing.ingest.sources.line_records import line_records
from billing.ingest.sources.parquet_records import parquet_records
from billing.ingest.sources.records import Records
from billing.ingest.sources.text_lines import line_frames
from billing.model.codes import RejectReason
from billing.model.file_limits import Limits
from billing.model.log_formats import LINE_FORMATS
from billing.model.sources import Source

Texts = Callable[[pl.Series], pl.Series]
"""Returns the texts of the records at some positions."""


class TooManySetAsideError(UnreadableFileError):
    """More of a file is rejected than its source allows."""


def source_chunks(content: Content, source: Source, types: EventTypes, file: File, limits: Limits) -> Iterator[Chunk]:
    """Read a delivered file by its source, in bounded chunks.

    Raises
    ------
    UnreadableFileError
        When it cannot be read as a whole.
    """
    mapping = EventMapping(source, types, file)
    for records in records_of(content, source, limits):
        if len(records.fields):
            yield mapping.chunk(records)


def records_of(content: Content, source: Source, limits: Limits) -> Iterator[Records]:
    """The records of a delivered file, before they become events."""
    if source.format in LINE_FORMATS:
        return line_records(content, source, limits)
    if source.format in ("w3c", "zeek"):
        return directive_records(content, source, limits)
    if source.format == "csv":
        return csv_records(content, source, limits)
    if source.format == "parquet":
        return parquet_records(content, source)
    return json_records(content, source, limits)


def reads_lines_alone(source: Source) -> bool:
    """Whether each line of a file is a record by itself: then lines of several files may be read at once."""
    is_of_lines = source.format in LINE_FORMATS or (source.format in ("json", "cloudevents") and not source.records)
    depends_on_file = source.set_aside_at_most is not None or source.skip or source.comment or source.encoding
    return is_of_lines and not depends_on_file


def chunk_of_files(
    content: Content, source: Source, types: EventTypes, files: Sequence[tuple[File, int]], limits: Limits
) -> Chunk | None:
    """Read whole lines of several small files, one file after the other, with the result of each by itself.

    Parameters
    ----------
    files
        Each file and the number of its lines.

    Returns
    -------
    Chunk or None
        Rows are numbered per file; None when some line is no record of its own.
    """
    lengths = pl.Series([length for _, length in files], dtype=pl.Int64)
    of = pl.int_range(len(files), dtype=pl.Int64, eager=True).repeat_by(lengths).explode(empty_as_null=False)
    blocks = list(records_of(content, source, limits))
    if len(blocks) != 1 or len(blocks[0].fields) != len(of):
        return None
    (records,) = blocks
    numbers = pl.int_range(1, len(of) + 1, dtype=pl.Int64, eager=True).alias("row")
    if not records.fields["row"].equals(numbers):
        return None
    fields = records.fields.with_columns(numbers - (lengths.cum_sum() - lengths).gather(of))
    return EventMapping(source, types, *(file for file, _ in files)).chunk(Records(fields, records.texts), of)


def texts_of(content: Content, source: Source, limits: Limits) -> Iterator[tuple[pl.Series, Texts]]:
    """Rows of the records of a delivered file, and their texts by position; lines are not matched for it."""
    if source.format in LINE_FORMATS:
        for block in line_frames(content, source, limits):
            yield block.lines["row"], block.lines["text"].gather
        return
    for records in records_of(content, source, limits):
        yield records.fields["row"], records.texts


class Tally:
    """Counts what reading rejects, against the share that a source allows."""

    def __init__(self, source: Source, types: EventTypes) -> None:
        self.source = source
        self.known = list(types)
        self.read = 0
        self.rejected = 0
        self.first: tuple[int, str, str] | None = None

    def add(self, rows: pl.DataFrame) -> None:
        """Count parsed rows; of an unknown type is also a row of a type that no metric has."""
        if self.source.set_aside_at_most is None:
            return
        reason = pl.col("reason")
        unknown = pl.when(~pl.col("type").is_in(self.known)).then(pl.lit(RejectReason.UNKNOWN_TYPE.value))
        kept = rows.filter(reason.ne_missing(pl.lit(IGNORED))).with_columns(
            pl.coalesce(reason, unknown).alias("reason")
        )
        wrong = kept.filter(reason.is_not_null())
        self.read += len(kept)
        self.rejected += len(wrong)
        if self.first is None and len(wrong):
            row, why, detail = wrong.select("row", "reason", "detail").row(0)
            self.first = (row, why, detail or "")

    def require_few(self) -> None:
        """Refuse the file when reading rejected more than the source allows.

        Raises
        ------
        TooManySetAsideError
            With the numbers, and the first row that was rejected.
        """
        allowed = self.source.set_aside_at_most
        if allowed is None or self.first is None or self.rejected <= allowed * self.read:
            return
        row, reason, detail = self.first
        share = f"{(Decimal(100) * self.rejected / self.read).quantize(Decimal('0.1'))}%"
        limit = f"{(allowed * 100).normalize():f}%"
        raise TooManySetAsideError(
            f"found {self.rejected:,} of {self.read:,} rows set aside ({share}), expected at most {limit}, which the "
            f"source {self.source.name} allows; first in row {row}: {reason}: {detail}"
        )
