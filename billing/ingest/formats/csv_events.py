"""CSV reader for usage: rows to text columns."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO, Final, Literal, cast

import polars as pl

from billing.ingest.formats.compression import ChunkStream, Content, UnreadableFileError, chunks_of
from billing.ingest.formats.delivered_bytes import line_blocks, numbered, numbers_of, split_lines
from billing.ingest.formats.file_kind import BYTE_ORDER_MARK, COLUMNS
from billing.ingest.formats.flat_columns import value_places
from billing.ingest.formats.instants import parse_instants
from billing.ingest.metric_members import EventTypes
from billing.ingest.parsed_rows import Chunk, Letters
from billing.model.file_limits import DEFAULT_LIMITS, Limits
from billing.model.text import counted

_LONGEST_RECORD: Final = 200
"""Most lines of one quoted CSV record; an opening quote not closed within them makes a broken line."""
_LOOKED_AT: Final = 64 * 1024
_FILLED: Final = r"[^ \t\r\n]"
_ENDS_INSIDE: Final = "unexpected end of data"
_State = Literal["closed", "open", "broken"]


def csv_chunks(content: Content, types: EventTypes, limits: Limits = DEFAULT_LIMITS) -> Iterator[Chunk]:
    """Read CSV with a header, comma-separated, quoted as in RFC 4180, in bounded chunks.

    `row` is the number of the line that a record starts on, counted after the header, including blank lines; blank
    lines are no rows. Columns may be in any order; unknown ones are ignored. A record whose length differs from the
    header is unparseable. Lines may end in CR alone. The last line of an uncompressed file without a line end is
    unfinished.

    Yields
    ------
    Chunk
        With the value columns of `flat_columns.value_places`.

    Raises
    ------
    UnreadableFileError
        When a column is missing.
    """
    is_plain = content.raw is not None
    header: list[str] | None = None
    places: dict[str, int] = {}
    row = 1
    open_record = no_lines()
    is_finished = True
    for block in line_blocks(with_newlines(content), longest=limits.longest_record):
        is_ascii = block.isascii()
        frame = split_lines(block) if is_ascii else without_marks(split_lines(block), block)
        lines, was_open = len(frame), len(open_record) > 0
        if header is None:
            filled = frame["text"].str.contains(_FILLED).arg_true()
            if len(filled) == 0:
                continue
            header = _header(frame["text"][filled[0]])
            places = value_places(header, types, "header")
            frame = frame.slice(filled[0] + 1)
        is_finished = block.endswith(b"\n") or not frame["text"].tail(1).str.contains(_FILLED).any() or not is_plain
        frame = numbered(frame, row)
        row += len(frame)
        records, open_record = whole_records(
            pl.concat([open_record, frame.select("row", "text", "broken")]), limits.longest_record, last=False
        )
        letters = "any" if was_open or not is_ascii else _letters(block, lines)
        yield _csv_columns(records, header, places, is_finished=is_finished or len(open_record) > 0, letters=letters)
    if header is not None:
        records, _ = whole_records(open_record, limits.longest_record, last=True)
        yield _csv_columns(records, header, places, is_finished=is_finished)


def with_newlines(content: Content) -> BinaryIO:
    """Replace CR by newline in a file whose lines end in CR alone; pass other files through."""
    head = content.peek(_LOOKED_AT)
    file = cast(BinaryIO, content)
    if b"\n" in head or b"\r" not in head:
        return file
    return cast(BinaryIO, ChunkStream(chunk.replace(b"\r", b"\n") for chunk in chunks_of(file)))


def without_marks(frame: pl.DataFrame, block: bytes) -> pl.DataFrame:
    """Strip a byte order mark from the start of every line: concatenated files have one each."""
    if BYTE_ORDER_MARK not in block:
        return frame
    return frame.with_columns(pl.col("text").str.strip_chars_start("\ufeff"))


def _letters(block: bytes, lines: int) -> Letters:
    """Character class of all fields of an ASCII block, except quoted fields, which may hold line ends."""
    if b"\x7f" in block:
        return "any"
    controls = int((numbers_of(block) < ord(" ")).sum())
    ends = lines - (not block.endswith(b"\n")) + (block.count(b"\r\n") if b"\r" in block else 0)
    if controls != ends:
        return "any"
    return "printable" if b" " in block else "visible"


def _header(line: str) -> list[str]:
    try:
        return [name.strip() for name in next(csv.reader([line], strict=True))]
    except csv.Error as error:
        raise UnreadableFileError(f"the header is not readable as CSV ({error})") from error


def no_lines() -> pl.DataFrame:
    return pl.DataFrame(schema={"row": pl.Int64, "text": pl.String, "broken": pl.Boolean})


def whole_records(
    frame: pl.DataFrame, longest: int, *, last: bool, separator: str = ","
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Join the lines of multi-line records; also returns the lines of a record still open at the end.

    Returns
    -------
    tuple[polars.DataFrame, polars.DataFrame]
        Records (row, text, broken) without blank ones, and the lines to prepend to the next chunk.
    """
    suspects = (frame["text"].str.count_matches('"', literal=True) % 2 == 1).arg_true().to_list()
    rest = frame.clear()
    if suspects:
        lines = _Lines(frame["text"].to_list(), longest, separator)
        drop: list[int] = []
        joined: dict[int, str] = {}
        end = 0
        for start in suspects:
            if start < end:
                continue
            length = lines.record_length(start)
            if length is None and not last:
                rest = frame.slice(start)
                frame = frame.head(start)
                break
            if length is not None and length > 1:
                end = start + length
                joined[start] = "\n".join(lines.texts[start:end])
                drop += range(start + 1, end)
        if joined:
            broken = frame["broken"].to_list()
            for start, text in joined.items():
                broken[start] = any(broken[start : start + text.count("\n") + 1])
            keep = pl.Series([True]).new_from_index(0, len(frame)).scatter(drop, values=False)
            texts = frame["text"].scatter(list(joined), list(joined.values()))
            frame = frame.with_columns(texts, pl.Series("broken", broken, dtype=pl.Boolean)).filter(keep)
    return frame.filter(pl.col("text").str.contains(_FILLED)), rest


class _Lines:
    """Lines of which some start a multi-line record; parses each line at most once."""

    def __init__(self, texts: list[str], longest: int, separator: str) -> None:
        self.texts = texts
        self._separator = separator
        self._longest = longest
        self._inside: dict[int, _State] = {}

    def record_length(self, start: int) -> int | None:
        """Number of lines of the record that starts at a line; None when the lines end before the record does.

        1 when it is malformed or longer than the limits: then it is treated as a single line.
        """
        if _state(self.texts[start], self._separator) != "open":
            return 1
        size = len(self.texts[start])
        end = min(start + _LONGEST_RECORD, len(self.texts))
        for place in range(start + 1, end):
            size += len(self.texts[place]) + 1
            if place not in self._inside:
                # Prepend a quotation mark: the field was opened on an earlier line.
                self._inside[place] = _state('"' + self.texts[place], self._separator)
            if size > self._longest or self._inside[place] == "broken":
                return 1
            if self._inside[place] == "closed":
                return place - start + 1
        return 1 if end - start == _LONGEST_RECORD else None


def _state(text: str, separator: str) -> "_State":
    """Whether a line is a complete record, one that continues in a quoted field, or malformed."""
    found = split_record(text, separator)
    if isinstance(found, list):
        return "closed"
    return "open" if found == _ENDS_INSIDE else "broken"


def split_record(record: str, separator: str = ",") -> list[str] | str:
    """The fields of a record, or the error message."""
    try:
        fields = list(csv.reader(io.StringIO(record, newline=""), delimiter=separator, strict=True))
    except csv.Error as error:
        return str(error)
    return fields[0] if len(fields) == 1 else "a line end outside of quotation marks"


def _csv_columns(
    records: pl.DataFrame, header: Sequence[str], places: dict[str, int], *, is_finished: bool, letters: Letters = "any"
) -> Chunk:
    commas = records["text"].str.count_matches(",", literal=True)
    quoted = records["text"].str.contains('"', literal=True) | records["text"].str.contains("[\r\0]")
    columns = {name: header.index(name) for name in COLUMNS} | places
    plain = ~quoted & ~records["broken"] & (commas == len(header) - 1)
    split = records.filter(plain).select("row", parts=pl.col("text").str.split_exact(",", len(header) - 1))
    rows = split.select(
        "row",
        pl.lit(False).alias("unparseable"),
        *(
            (pl.col("parts").struct.field(f"field_{place}") if place >= 0 else pl.lit(None, pl.String)).alias(name)
            for name, place in columns.items()
        ),
    )
    others = records.filter(~plain)
    if len(others):
        rows = pl.concat([rows, _parse_one_by_one(others, columns, len(header))], how="diagonal").sort("row")
    fields = _with_empties_null(rows).with_columns(parse_instants(rows["time"]), incomplete=pl.lit(False))
    unfinished = None if is_finished or records.is_empty() else records["row"][-1]
    return Chunk(fields, records["text"].gather, unfinished, "any" if quoted.any() else letters)


def _parse_one_by_one(others: pl.DataFrame, columns: Mapping[str, int], count: int) -> pl.DataFrame:
    """Parse records one by one: those with quotation marks, and malformed ones."""
    found = [
        _fields_or_fault(text, broken=broken, count=count)
        for text, broken in zip(others["text"].to_list(), others["broken"].to_list(), strict=True)
    ]
    good = [fields if isinstance(fields, list) else None for fields in found]
    texts = {
        name: [fields[place] if fields and place >= 0 else None for fields in good] for name, place in columns.items()
    }
    faults = [fault if isinstance(fault, str) else None for fault in found]
    return pl.DataFrame(
        {"row": others["row"], "unparseable": [fields is None for fields in good], **texts, "detail": faults},
        schema={"row": pl.Int64, "unparseable": pl.Boolean, **dict.fromkeys(texts, pl.String), "detail": pl.String},
    )


def _fields_or_fault(text: str, *, broken: bool, count: int) -> list[str] | str:
    """The fields of a record, or its fault description."""
    if broken:
        return "row: found bytes that are no UTF-8, expected text"
    fields = split_record(text)
    if isinstance(fields, str):
        return f"row: found no CSV record ({fields}), expected {count} fields"
    if len(fields) != count:
        return f"row: found {counted(len(fields), 'field')}, expected {count} as in the header"
    return fields


def _with_empties_null(rows: pl.DataFrame) -> pl.DataFrame:
    others = [name for name in rows.columns if rows.schema[name] == pl.String and name not in ("time", "detail")]
    return rows.with_columns(pl.when(pl.col(name) != "").then(pl.col(name)).alias(name) for name in others)
