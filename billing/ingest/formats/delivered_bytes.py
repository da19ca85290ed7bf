"""The bytes of a delivered file, unpacked, in bounded blocks of whole lines."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
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
"""Each block takes a certain number of steps, whatever its size, and while it is parsed several times its memory."""
_PIECE: Final = 256 * 1024
"""What is unpacked at once: few enough bytes to stay in the processor's cache until they are gathered."""

MOST_PIECES: Final = 100
FIRST_LINE: Final = b",".join([b"-"] * MOST_PIECES) + b"\n"
"""Stands before lines that are to be cut at their commas: the first line's pieces are the most there are."""


@dataclass(frozen=True)
class Delivered:
    """A delivered file that is open: what it holds, unpacked, and how its rows are written."""

    content: Content
    kind: Format

    @property
    def is_plain(self) -> bool:
        """Whether it is not compressed: then nothing but its last line end says that it is whole."""
        return self.content.raw is not None


@contextmanager
def open_delivered(delivered: DeliveredFile, limits: Limits = DEFAULT_LIMITS) -> Iterator[Delivered]:
    """Open a delivered file for reading, unpacked; compression and kind are told by its first bytes.

    Raises
    ------
    UnreadableFileError
        When the file cannot be opened, read or unpacked, now or while it is read, or is of no known kind.
    """
    if delivered.fault:
        raise UnreadableFileError(delivered.fault)
    try:
        with delivered.path.open("rb") as raw:
            content = Content(raw, os.fstat(raw.fileno()).st_size, limits)
            yield Delivered(content, kind_of(delivered, content))
    except DAMAGED as error:
        raise UnreadableFileError(f"the compressed data is damaged or cut off ({error})") from error
    except OSError as error:
        # the libraries that unpack raise it too, without a number
        if error.errno is None:
            raise UnreadableFileError(f"the compressed data is damaged or cut off ({error})") from error
        raise UnreadableFileError(f"cannot be read ({error.strerror or error})") from error


def line_blocks(
    file: BinaryIO, ahead: bytes = b"", size: int = _BLOCK, longest: int = DEFAULT_LIMITS.longest_record
) -> Iterator[bytes]:
    """Blocks of whole lines, a byte order mark at the start taken off; the last line may lack its newline.

    Each block begins with `ahead`, which does not come from the file. What is unpacked is gathered from a small buffer
    that stays in the processor's cache.

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
    """Read into a buffer to its end, or to the end of the file; the number of bytes read."""
    end = 0
    while end < len(view) and (count := file.readinto(view[end:])):  # type: ignore[attr-defined]
        end += count
    return end


class Lines:
    """The lines of a block; their texts are made when they are asked for.

    Attributes
    ----------
    framed
        FIRST_LINE, and whole lines after it; the last one may lack its newline.
    """

    def __init__(self, framed: bytes) -> None:
        self.framed = framed

    @property
    def block(self) -> bytes:
        """A copy of the lines alone."""
        return self.framed[len(FIRST_LINE) :]

    @cached_property
    def count(self) -> int:
        """How many there are, blank ones included."""
        return len(self._ends) - 1

    @cached_property
    def is_text(self) -> bool:
        """Whether all of it is UTF-8."""
        if self.framed.isascii():
            return True
        try:
            self.framed.decode()
        except UnicodeDecodeError:
            return False
        return True

    def texts(self, places: pl.Series) -> pl.DataFrame:
        """The texts of the lines at some places, counted from 0, in the order given; see `split_lines`."""
        first = len(FIRST_LINE)
        before, ends = (self._ends.gather(each).to_list() for each in (places, places + 1))
        return decoded_lines(
            [self.framed[first + start + 1 : first + end] for start, end in zip(before, ends, strict=True)]
        )

    @cached_property
    def marks(self) -> tuple[int, int, int, int]:
        """How many quotation marks, commas, backslashes and control characters there are; line ends are none."""
        values = self._values
        return (
            int((values == ord('"')).sum()),
            int((values == ord(",")).sum()),
            int((values == ord("\\")).sum()) if b"\\" in self.framed else 0,
            len(self._controls) - len(self._newlines),
        )

    @property
    def letters(self) -> Letters:
        """What all texts in it are made of at least, supposed that an escape may stand for anything."""
        _, _, escapes, controls = self.marks
        if escapes or controls or not self.framed.isascii() or b"\x7f" in self.framed:
            return "any"
        return "printable" if b" " in self.framed else "visible"

    @cached_property
    def _values(self) -> pl.Series:
        return numbers_of(self.framed, len(FIRST_LINE))

    @cached_property
    def _controls(self) -> pl.Series:
        """The places of all control characters, newlines too."""
        return (self._values < ord(" ")).arg_true()

    @cached_property
    def _newlines(self) -> pl.Series:
        return self._controls.filter(self._values.gather(self._controls) == ord("\n"))

    @cached_property
    def _ends(self) -> pl.Series:
        """Where each line ends: the place of its newline, or the end of the block; first, where the one before does."""
        ends = [pl.Series([-1], dtype=pl.Int64), self._newlines.cast(pl.Int64)]
        if not self.framed.endswith(b"\n"):
            ends.append(pl.Series([len(self._values)], dtype=pl.Int64))
        return pl.concat(ends, rechunk=True)


def count_lines(block: bytes) -> int:
    """How many lines a block has; the last one may lack its newline."""
    return int((numbers_of(block) == ord("\n")).sum()) + (not block.endswith(b"\n"))


def numbers_of(block: bytes, start: int = 0) -> pl.Series:
    """The bytes of a block from `start` on as numbers, without a copy."""
    found = pa.Array.from_buffers(pa.uint8(), len(block) - start, [None, pa.py_buffer(block)], offset=start)
    return pl.Series(pl.from_arrow(found))


def split_lines(block: bytes) -> pl.DataFrame:
    """The lines of a block, without line ends.

    Returns
    -------
    polars.DataFrame
        text (String) and broken (Boolean: not UTF-8; the bytes in question are replaced by U+FFFD).
    """
    try:
        texts = pl.scan_lines(block, name="text").collect()
    except ComputeError:
        return decoded_lines(block.removesuffix(b"\n").split(b"\n"))
    return texts.with_columns(broken=pl.lit(False))


def decoded_lines(pieces: list[bytes]) -> pl.DataFrame:
    """Lines given as bytes without their newlines; as `split_lines`."""
    pieces = [piece.removesuffix(b"\r") for piece in pieces]
    decoded = [piece.decode("utf-8", errors="replace") for piece in pieces]
    broken = [text.encode() != piece for text, piece in zip(decoded, pieces, strict=True)]
    return pl.DataFrame({"text": decoded, "broken": broken}, schema={"text": pl.String, "broken": pl.Boolean})
