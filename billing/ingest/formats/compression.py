"""Streaming decompression of a delivered file; detects the compression by magic bytes, not by name."""

import bz2
import gzip
import io
import lzma
import re
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, BinaryIO, Final, cast

import pyarrow as pa
from isal import igzip, isal_zlib

from billing.model.file_limits import EXEMPT_FROM_RATIO, Limits

DAMAGED: Final[tuple[type[Exception], ...]] = (
    EOFError,
    gzip.BadGzipFile,
    cast(type[Exception], isal_zlib.error),  # The stub declares an instance.
    lzma.LZMAError,
)
_DEEPEST: Final = 2
"""Most layers of compression: unpack gzip within gzip, but no file of nested layers."""
_STEP: Final = 1024 * 1024


class UnreadableFileError(Exception):
    """A delivered file that cannot be read as a whole: it becomes one reject that names it (rule 27)."""


class TooLargeError(UnreadableFileError):
    """A delivered file beyond a setting of `Limits`: it is read again when the setting changes."""


def _gzip(raw: BinaryIO) -> BinaryIO:
    return cast(BinaryIO, igzip.IGzipFile(fileobj=raw))  # type: ignore[no-untyped-call]


def _bzip2(raw: BinaryIO) -> BinaryIO:
    return cast(BinaryIO, bz2.BZ2File(raw))


def _xz(raw: BinaryIO) -> BinaryIO:
    return cast(BinaryIO, lzma.LZMAFile(raw))


def _arrow(codec: str) -> Callable[[BinaryIO], BinaryIO]:
    # Unlike zstandard's reader, it works in bounded steps and detects a truncated file.
    return lambda raw: cast(BinaryIO, pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), codec))


_OPENERS: Final[tuple[tuple[re.Pattern[bytes], Callable[[BinaryIO], BinaryIO]], ...]] = (
    (re.compile(rb"\x1f\x8b\x08"), _gzip),
    # The second pattern is a skippable frame: parallel compressors start with one.
    (re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"), _arrow("zstd")),
    (re.compile(rb"\x04\x22\x4d\x18"), _arrow("lz4")),
    (re.compile(rb"BZh[1-9](?:1AY&SY|\x17\x72\x45\x38\x50\x90)"), _bzip2),
    (re.compile(rb"\xfd7zXZ\x00"), _xz),
)
_MAGIC: Final = 10


class Content(io.RawIOBase):
    """The decompressed content of a delivered file: a forward-only stream with `peek`.

    Attributes
    ----------
    raw
        The file as delivered when it is not compressed, else None.
    """

    def __init__(self, raw: BinaryIO, size: int, limits: Limits) -> None:
        self.raw: BinaryIO | None = raw
        self._file = raw
        self._ahead = memoryview(b"")
        self.delivered_bytes = size
        self._unpacked = 0
        self._limits = limits
        for _ in range(_DEEPEST):
            magic = self.peek(_MAGIC)
            opener = next((opener for pattern, opener in _OPENERS if pattern.match(magic)), None)
            if opener is None:
                return
            if self.raw is not None:
                raw.seek(0)
                self._file = opener(raw)
            else:
                self._file = opener(cast(BinaryIO, ChunkStream(chain([bytes(self._ahead)], chunks_of(self._file)))))
            self.raw, self._ahead, self._unpacked = None, memoryview(b""), 0

    def readable(self) -> bool:
        """Whether the stream is readable."""
        return True

    def peek(self, size: int) -> bytes:
        """The next `size` bytes, fewer at the end of the file, without consuming them."""
        missing = size - len(self._ahead)
        if missing > 0:
            buffer = bytearray(missing)
            end = 0
            with memoryview(buffer) as view:
                while end < missing and (count := self._fill(view[end:])):
                    end += count
            self._ahead = memoryview(bytes(self._ahead) + bytes(buffer[:end]))
        return bytes(self._ahead[:size])

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer; returns the number of bytes, 0 at the end of the file.

        Raises
        ------
        TooLargeError
            When the file unpacks to more than the largest ratio allows.
        """
        if self._ahead:
            count = min(len(buffer), len(self._ahead))
            buffer[:count] = self._ahead[:count]
            self._ahead = self._ahead[count:]
            return count
        return self._fill(buffer)

    def whole(self) -> bytes:
        """Read the rest of the file."""
        return b"".join(chunks_of(cast(BinaryIO, self)))

    def _fill(self, buffer: Any) -> int:
        count = int(self._file.readinto(buffer))  # type: ignore[attr-defined]
        if self.raw is None:
            self._unpacked += count
            self.require_ratio(self._unpacked)
        return count

    def require_ratio(self, unpacked: int) -> None:
        """Check the number of unpacked bytes against the size of the file.

        Raises
        ------
        TooLargeError
            When they are more than the largest ratio allows.
        """
        if unpacked > max(EXEMPT_FROM_RATIO, self.delivered_bytes * self._limits.largest_ratio):
            raise TooLargeError(
                f"found {self.delivered_bytes:,} bytes that unpack to more than {self._limits.largest_ratio} times as "
                "many, expected fewer: if they are wanted, raise largest_ratio in the catalogue's policy"
            )


class ChunkStream(io.RawIOBase):
    """Chunks of bytes as a readable stream."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._waiting = memoryview(b"")

    def readable(self) -> bool:
        """Whether the stream is readable."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer; returns the number of bytes, 0 after the last chunk."""
        while not self._waiting:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._waiting = memoryview(chunk)
        count = min(len(buffer), len(self._waiting))
        buffer[:count] = self._waiting[:count]
        self._waiting = self._waiting[count:]
        return count


def chunks_of(file: BinaryIO, size: int = _STEP) -> Iterator[bytes]:
    """Read the rest of a file in chunks of `size` bytes."""
    buffer = bytearray(size)
    with memoryview(buffer) as view:
        while count := file.readinto(view):  # type: ignore[attr-defined]
            yield bytes(view[:count])
