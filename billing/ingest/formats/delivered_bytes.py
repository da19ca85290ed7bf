"""Decompressed bytes of a delivered file, in bounded blocks of whole lines."""

import io
import os
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import BinaryIO, Final

import polars as pl
import pyarrow as pa
from polars.exceptions import ComputeError

from billing.ingest.formats.compression import DAMAGED, Content, TooLargeError, UnreadableFileError
from billing.ingest.formats.file_kind import BYTE_ORDER_MARK, kind_of
from billing.ingest.landing import DeliveredFile, Format
from billing.ingest.parsed_rows import Letters
from billing.model.file_limits import DEFAULT_LIMITS, Limits

_BLOCK: Final = 16 * 1024 * 1024
"""Block size: each block costs a fixed number of calls, and several times its size in memory while parsed."""
_PIECE: Final = 256 * 1024
"""Decompression buffer: small enough to stay in the CPU cache until it is copied."""

_COUNTED_TOGETHER: Final = 64 * 1024
_LINES_PER_TEXT: Final = 500
"""Lines per line that is asked for, from which on to count on from a piece takes less than to find all line ends."""

MOST_FIELDS: Final = 100
FIRST_LINE: Final = b",".join([b"-"] * MOST_FIELDS) + b"\n"
"""Header line for lines split at commas: the reader takes its field count as the maximum."""


@dataclass(frozen=True)
class Delivered:
    """An open delivered file: its decompressed content and its format."""

    content: Content
    kind: Format

    @property
    def is_plain(self) -> bool:
        """Whether the file is uncompressed: then only its last line end shows that it is complete."""
        return self.content.raw is not None


@contextmanager
def open_delivered(delivered: DeliveredFile, limits: Limits = DEFAULT_LIMITS) -> Iterator[Delivered]:
    """Open a delivered file for reading, decompressed; detects compression and format by its first bytes.

    Raises
    ------
    UnreadableFileError
        When the file cannot be opened, read or decompressed, now or during reading, or has no known format.
    """
    with open_content(delivered, limits) as content:
        yield Delivered(content, kind_of(delivered, content))


@contextmanager
def open_content(delivered: DeliveredFile, limits: Limits = DEFAULT_LIMITS) -> Iterator[Content]:
    """Open a delivered file for reading, decompressed, whatever its format.

    Raises
    ------
    UnreadableFileError
        When the file cannot be opened, read or decompressed, now or during reading.
    """
    if delivered.fault:
        raise UnreadableFileError(delivered.fault)
    try:
        with delivered.path.open("rb") as raw:
            yield Content(raw, os.fstat(raw.fileno()).st_size, limits)
    except DAMAGED as error:
        raise UnreadableFileError(f"the compressed data is damaged or cut off ({error})") from error
    except OSError as error:
        # Decompressors raise OSError too, without an errno.
        if error.errno is None:
            raise UnreadableFileError(f"the compressed data is damaged or cut off ({error})") from error
        raise UnreadableFileError(f"cannot be read ({error.strerror or error})") from error


def line_blocks(
    file: BinaryIO, ahead: bytes = b"", size: int = _BLOCK, longest: int = DEFAULT_LIMITS.longest_record
) -> Iterator[bytes]:
    """Read blocks of whole lines, without a leading byte order mark; the last line may lack its newline.

    Each block starts with `ahead`, which is not part of the file. Fill blocks from a small buffer that stays in the
    CPU cache.

    Raises
    ------
    TooLargeError
        When a line is longer than `longest` bytes.
    """
    buffer = bytearray(min(_PIECE, size))
    block = io.BytesIO()
    held = block.write(ahead)
    place = line = 0
    with memoryview(buffer) as view:
        while read := _fill(file, view):
            start = len(BYTE_ORDER_MARK) if place == 0 and buffer.startswith(BYTE_ORDER_MARK) else 0
            end = buffer.find(b"\n", 0, read)
            if place + (end if end >= 0 else read) - line > longest:
                raise TooLargeError(
                    f"found a line of more than {longest:,} bytes (it begins at byte {line + 1:,}), expected shorter "
                    "ones: if they are wanted, raise longest_record_mib in the catalogue's policy"
                )
            end = buffer.rfind(b"\n", 0, read)
            line = place + end + 1 if end >= 0 else line
            place += read
            cut = end + 1 if held + read >= size else 0
            if cut:
                block.write(view[start:cut])
                yield block.getvalue()
                block, start = io.BytesIO(), cut
                held = block.write(ahead)
            held += block.write(view[start:read])
    if held > len(ahead):
        yield block.getvalue()


def _fill(file: BinaryIO, view: memoryview) -> int:
    """Fill a buffer until it is full or the file ends; returns the number of bytes read."""
    end = 0
    while end < len(view) and (count := file.readinto(view[end:])):  # type: ignore[attr-defined]
        end += count
    return end


class Lines:
    """The lines of a block; texts are created on request.

    Attributes
    ----------
    framed
        FIRST_LINE, followed by whole lines; the last one may lack its newline.
    """

    def __init__(self, framed: bytes) -> None:
        self.framed = framed

    @property
    def block(self) -> bytes:
        """A copy of the lines without FIRST_LINE."""
        return self.framed[len(FIRST_LINE) :]

    @cached_property
    def count(self) -> int:
        """Number of lines, including blank ones."""
        return self._newlines + (not self.framed.endswith(b"\n"))

    @cached_property
    def is_ascii(self) -> bool:
        """Whether all characters are ASCII."""
        return self.framed.isascii()

    @cached_property
    def is_text(self) -> bool:
        """Whether the block is valid UTF-8."""
        if self.is_ascii:
            return True
        try:
            self.framed.decode()
        except UnicodeDecodeError:
            return False
        return True

    def texts(self, places: pl.Series) -> pl.DataFrame:
        """Texts of the lines at some positions, from 0, in that order; see `split_lines`."""
        wanted = places.to_list()
        ends = self._ends_of_few(wanted) if len(wanted) * _LINES_PER_TEXT < self.count else self._ends_of_all(wanted)
        first = len(FIRST_LINE)
        return decoded_lines([self.framed[first + start : first + end] for start, end in ends])

    @cached_property
    def marks(self) -> tuple[int, int, int, int]:
        """Counts of quotation marks, commas, backslashes and control characters, line ends excluded."""
        values = self._values
        return (
            int((values == ord('"')).sum()),
            int((values == ord(",")).sum()),
            int((values == ord("\\")).sum()) if b"\\" in self.framed else 0,
            int((values < ord(" ")).sum()) - self._newlines,
        )

    @cached_property
    def blanks(self) -> int:
        """Number of blanks."""
        return int((self._values == ord(" ")).sum())

    @cached_property
    def letters(self) -> Letters:
        """Character class of all texts, assuming that an escape may denote any character."""
        _, _, escapes, controls = self.marks
        if escapes or controls or not self.is_ascii or b"\x7f" in self.framed:
            return "any"
        return "printable" if self.blanks else "visible"

    @cached_property
    def _values(self) -> pl.Series:
        return numbers_of(self.framed, len(FIRST_LINE))

    @cached_property
    def _are_newlines(self) -> pl.Series:
        return self._values == ord("\n")

    @cached_property
    def _newlines(self) -> int:
        return int(self._are_newlines.sum())

    @cached_property
    def _lines_before(self) -> list[int]:
        """Number of line ends before each piece of the block."""
        pieces = range(0, len(self._values), _COUNTED_TOGETHER)
        counts = [int(self._are_newlines.slice(start, _COUNTED_TOGETHER).sum()) for start in pieces]
        return list(accumulate(counts, initial=0))

    def _ends_of_few(self, places: Sequence[int]) -> Iterator[tuple[int, int]]:
        """Where some lines begin and end in the block: found from the start of the piece that they begin in."""
        before, first = self._lines_before, len(FIRST_LINE)
        for place in places:
            piece = bisect_left(before, place) - 1
            start = first
            if place:
                start += piece * _COUNTED_TOGETHER
                for _ in range(place - before[piece]):
                    start = self.framed.index(b"\n", start) + 1
            end = self.framed.find(b"\n", start)
            yield start - first, (len(self.framed) if end < 0 else end) - first

    def _ends_of_all(self, places: Sequence[int]) -> Iterator[tuple[int, int]]:
        """As `_ends_of_few`, for many of the lines."""
        ends = [-1, *self._are_newlines.arg_true().to_list(), len(self._values)]
        return ((ends[place] + 1, ends[place + 1]) for place in places)


def count_lines(block: bytes) -> int:
    """Number of lines of a block; the last one may lack its newline."""
    return int((numbers_of(block) == ord("\n")).sum()) + (not block.endswith(b"\n"))


def numbers_of(block: bytes, start: int = 0) -> pl.Series:
    """The bytes of a block from `start` on as integers, zero-copy."""
    found = pa.Array.from_buffers(pa.uint8(), len(block) - start, [None, pa.py_buffer(block)], offset=start)
    return pl.Series(pl.from_arrow(found))


def split_lines(block: bytes) -> pl.DataFrame:
    """Split a block into lines, without line ends.

    Returns
    -------
    polars.DataFrame
        text (String) and broken (Boolean: not UTF-8; invalid bytes are replaced by U+FFFD).
    """
    try:
        texts = pl.scan_lines(block, name="text").collect()
    except ComputeError:
        return decoded_lines(block.removesuffix(b"\n").split(b"\n"))
    return texts.with_columns(broken=pl.lit(False))


def numbered(lines: pl.DataFrame, first: int) -> pl.DataFrame:
    """Lines with their number in the file as `row`, before the other columns."""
    return lines.with_row_index("row", offset=first).with_columns(pl.col("row").cast(pl.Int64))


def decoded_lines(lines: list[bytes]) -> pl.DataFrame:
    """Decode lines from bytes without newlines; as `split_lines`."""
    lines = [line.removesuffix(b"\r") for line in lines]
    decoded = [line.decode("utf-8", errors="replace") for line in lines]
    broken = [text.encode() != line for text, line in zip(decoded, lines, strict=True)]
    return pl.DataFrame({"text": decoded, "broken": broken}, schema={"text": pl.String, "broken": pl.Boolean})
