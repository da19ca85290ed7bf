"""The bytes of a delivered file, decompressed in bounded blocks of whole lines."""

import gzip
import io
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import BinaryIO, Final, cast

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
_BLOCK: Final = 8 * 1024 * 1024
_COMPRESSED_PIECE: Final = 128 * 1024
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


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

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """About `size` bytes, at least one unless the file is at its end; all of them when `size` is negative."""
        pieces: list[bytes] = []
        length = 0
        while size < 0 or length < size:
            compressed = self._raw.read(_COMPRESSED_PIECE)
            if not compressed:
                if self._inside_frame:
                    raise EOFError("it ends inside a frame")
                break
            piece = self._decompress(compressed)
            pieces.append(piece)
            length += len(piece)
        return b"".join(pieces)

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


def line_blocks(file: BinaryIO) -> Iterator[bytes]:
    """Blocks of whole lines, a byte order mark at the start taken off; the last line may lack its newline."""
    rest = b""
    first = True
    while data := file.read(_BLOCK):
        if first:
            data = data.removeprefix(_BYTE_ORDER_MARK)
            first = False
        end = data.rfind(b"\n") + 1
        if end:
            yield rest + data[:end]
            rest = data[end:]
        else:
            rest += data
    if rest:
        yield rest


class Lines:
    """The lines of a block; their texts are made when they are asked for.

    Attributes
    ----------
    block
        Whole lines; the last one may lack its newline.
    """

    def __init__(self, block: bytes) -> None:
        self.block = block

    @cached_property
    def count(self) -> int:
        """How many there are, blank ones included."""
        return len(self._ends)

    @cached_property
    def is_text(self) -> bool:
        """Whether all of it is UTF-8."""
        if self.block.isascii():
            return True
        try:
            self.block.decode()
        except UnicodeDecodeError:
            return False
        return True

    def texts(self, places: pl.Series) -> pl.DataFrame:
        """The texts of the lines at some places, counted from 0, in the order given; see `split_lines`."""
        ends = self._ends.gather(places).to_list()
        # the end of the line before, or the start of the block
        starts = self._ends.shift(1, fill_value=-1).gather(places).to_list()
        return _decoded([self.block[start + 1 : end] for start, end in zip(starts, ends, strict=True)])

    @cached_property
    def marks(self) -> tuple[int, int, int, int]:
        """How many quotation marks, commas, backslashes and control characters there are; line ends are none."""
        values = self._values
        line_ends = self.count - (not self.block.endswith(b"\n"))
        return (
            int((values == ord('"')).sum()),
            int((values == ord(",")).sum()),
            int((values == ord("\\")).sum()) if b"\\" in self.block else 0,
            int((values < ord(" ")).sum()) - line_ends,
        )

    @cached_property
    def _values(self) -> pl.Series:
        """The bytes as numbers, without a copy."""
        buffer = pa.py_buffer(self.block)
        return pl.Series(pl.from_arrow(pa.Array.from_buffers(pa.uint8(), len(self.block), [None, buffer])))

    @cached_property
    def _ends(self) -> pl.Series:
        """Where each line ends: the place of its newline, or the end of the block."""
        ends = (self._values == ord("\n")).arg_true().cast(pl.Int64)
        return ends if self.block.endswith(b"\n") else ends.append(pl.Series([len(self.block)], dtype=pl.Int64))


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
        return _decoded(block.removesuffix(b"\n").split(b"\n"))
    return texts.with_columns(broken=pl.lit(False))


def _decoded(pieces: list[bytes]) -> pl.DataFrame:
    pieces = [piece.removesuffix(b"\r") for piece in pieces]
    decoded = [piece.decode("utf-8", errors="replace") for piece in pieces]
    broken = [text.encode() != piece for text, piece in zip(decoded, pieces, strict=True)]
    return pl.DataFrame({"text": decoded, "broken": broken}, schema={"text": pl.String, "broken": pl.Boolean})
