"""The bytes of a delivered file, decompressed in bounded blocks of whole lines."""

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, Final, cast

import polars as pl
import zstandard
from polars.exceptions import ComputeError

from billing.ingest.landing import DeliveredFile

_BLOCK: Final = 8 * 1024 * 1024
_COMPRESSED_PIECE: Final = 128 * 1024
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
NOT_TEXT: Final = "\N{REPLACEMENT CHARACTER}"


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
                with gzip.open(raw) as file:
                    yield cast(BinaryIO, file)
            elif delivered.compression == ".zst":
                yield cast(BinaryIO, _ZstandardFile(raw))
            else:
                yield raw
    except (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError) as error:
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


def lines(block: bytes) -> pl.DataFrame:
    """The lines of a block, without line ends.

    Returns
    -------
    polars.DataFrame
        text (String) and broken (Boolean: not UTF-8; the bytes in question are replaced by U+FFFD).
    """
    try:
        texts = pl.scan_lines(block, name="text").collect()
    except ComputeError:
        pieces = [line.removesuffix(b"\r") for line in block.removesuffix(b"\n").split(b"\n")]
        decoded = [piece.decode("utf-8", errors="replace") for piece in pieces]
        broken = [text.encode() != piece for text, piece in zip(decoded, pieces, strict=True)]
        return pl.DataFrame({"text": decoded, "broken": broken}, schema={"text": pl.String, "broken": pl.Boolean})
    return texts.with_columns(broken=pl.lit(False))
