"""The bytes of a delivered file, decompressed in bounded blocks of whole lines."""

import gzip
import io
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, BinaryIO, Final, cast

import polars as pl
import pyarrow as pa
import zstandard
from isal import igzip, isal_zlib
from polars.exceptions import ComputeError

from billing.ingest.landing import DeliveredFile

_DAMAGED: Final[tuple[type[Exception], ...]] = (
    EOFError,
    gzip.BadGzipFile,
    cast(type[Exception], isal_zlib.error),  # its stub has an instance there
    zstandard.ZstdError,
)
_BLOCK: Final = 16 * 1024 * 1024
"""Each block takes a certain number of steps, whatever its size, and while it is parsed several times its memory."""
_PIECE: Final = 256 * 1024
"""What is decompressed at once: few enough bytes to stay in the processor's cache until they are gathered."""
_COMPRESSED_PIECE: Final = 128 * 1024
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"

MOST_PIECES: Final = 100
FIRST_LINE: Final = b",".join([b"-"] * MOST_PIECES) + b"\n"
"""Stands before lines that are to be cut at their commas: the first line's pieces are the most there are."""


class UnreadableFileError(Exception):
    """A delivered file cannot be read as a whole: it becomes one reject that names it (rule 27)."""


@contextmanager
def open_delivered(delivered: DeliveredFile) -> Iterator[BinaryIO]:
    """Open a delivered file for reading, decompressed.

    Raises
    ------
    UnreadableFileError
        When the file cannot be opened, read or decompressed, now or while it is read.
    """
    if delivered.fault:
        raise UnreadableFileError(delivered.fault)
    try:
        with delivered.path.open("rb") as raw:
            if delivered.compression == ".gz":
                with igzip.IGzipFile(fileobj=raw) as file:  # type: ignore[no-untyped-call]
                    yield cast(BinaryIO, file)
            elif delivered.compression == ".zst":
                yield cast(BinaryIO, _ZstandardFile(raw))
            else:
                yield raw
    except _DAMAGED as error:
        raise UnreadableFileError(f"the compressed data is damaged or cut off ({error})") from error
    except OSError as error:
        raise UnreadableFileError(f"cannot be read ({error.strerror or error})") from error


class _ZstandardFile(io.RawIOBase):
    """Zstandard frames, one after the other, whose end is checked.

    The library's own reader takes a file that is cut off for a complete one.
    """

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._inside_frame = False
        self._waiting = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as there is something; 0 at the end of the file."""
        while not self._waiting:
            compressed = self._raw.read(_COMPRESSED_PIECE)
            if not compressed:
                if self._inside_frame:
                    raise EOFError("it ends inside a frame")
                return 0
            self._waiting = memoryview(self._decompress(compressed))
        count = min(len(buffer), len(self._waiting))
        buffer[:count] = self._waiting[:count]
        self._waiting = self._waiting[count:]
        return count

    def _decompress(self, compressed: bytes) -> bytes:
        pieces = []
        while compressed:
            self._inside_frame = True
            pieces.append(self._frame.decompress(compressed))
            compressed = b""
            if self._frame.eof:
                compressed = self._frame.unused_data
                self._frame = zstandard.ZstdDecompressor().decompressobj()
                self._inside_frame = False
        return b"".join(pieces)


def line_blocks(file: BinaryIO, ahead: bytes = b"", size: int = _BLOCK) -> Iterator[bytes]:
    """Blocks of whole lines, a byte order mark at the start taken off; the last line may lack its newline.

    Each block begins with `ahead`, which does not come from the file. What is decompressed is gathered from a small
    buffer that stays in the processor's cache.
    """
    buffer = bytearray(min(_PIECE, size))
    block = io.BytesIO()
    held = block.write(ahead)
    is_first = True
    with memoryview(buffer) as view:
        while read := _fill(file, view):
            start = len(_BYTE_ORDER_MARK) if is_first and buffer.startswith(_BYTE_ORDER_MARK) else 0
            is_first = False
            cut = buffer.rfind(b"\n", start, read) + 1 if held + read >= size else 0
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

    @cached_property
    def _values(self) -> pl.Series:
        return _numbers(self.framed, len(FIRST_LINE))

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
    return int((_numbers(block) == ord("\n")).sum()) + (not block.endswith(b"\n"))


def _numbers(block: bytes, start: int = 0) -> pl.Series:
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
