"""Lines of a text file in bounded blocks, whatever its encoding, compression and line ends."""

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final, cast

import polars as pl

from billing.ingest.formats.compression import ChunkStream, Content, chunks_of
from billing.ingest.formats.csv_events import with_newlines, without_marks
from billing.ingest.formats.delivered_bytes import line_blocks, numbered, split_lines
from billing.model.file_limits import Limits
from billing.model.sources import Source

_FILLED: Final = r"[^ \t\r\n]"
_MARKS: Final = ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
_UTF_8: Final = ("utf-8", "utf8", "utf_8", "utf-8-sig", "ascii")


@dataclass(frozen=True)
class LineBlock:
    """A block of lines.

    Attributes
    ----------
    lines
        row (the number of the line in the file, from 1), text and broken (bytes that are no text); without blank lines.
    unfinished
        Number of the last line, when the file ends without a line end and may be cut off.
    """

    lines: pl.DataFrame
    unfinished: int | None


def recoded(content: Content, encoding: str, limits: Limits) -> Content:
    """The content in UTF-8: from the encoding that a byte order mark or the source names."""
    marked = next((name for mark, name in _MARKS if content.peek(2) == mark), "")
    name = marked or encoding
    if name.lower() in ("", *_UTF_8):
        return content
    found = Content(cast(BinaryIO, ChunkStream(_recoded_chunks(content, name))), content.delivered_bytes, limits)
    if content.raw is None:
        # Only a plain file shows by its last line end that it is whole.
        found.raw = None
    return found


def _recoded_chunks(content: Content, encoding: str) -> Iterator[bytes]:
    # Bytes without a meaning become lone surrogates, and so invalid UTF-8: they break their own line only.
    errors = "strict" if encoding.lower().startswith(("utf", "u16", "u32")) else "surrogateescape"
    decoder = codecs.getincrementaldecoder(encoding)(errors)
    for chunk in chunks_of(cast(BinaryIO, content)):
        yield decoder.decode(chunk).encode("utf-8", "surrogateescape")
    yield decoder.decode(b"", final=True).encode("utf-8", "surrogateescape")


def line_frames(content: Content, source: Source, limits: Limits, *, every: bool = False) -> Iterator[LineBlock]:
    """Read a file in blocks of lines, without the lines to skip, blank lines and comments.

    Parameters
    ----------
    every
        Keep blank lines and comments: they may be part of a quoted value.
    """
    content = recoded(content, source.encoding, limits)
    is_plain = content.raw is not None
    row = 1
    for block in line_blocks(with_newlines(content), longest=limits.longest_record):
        frame = split_lines(block) if block.isascii() else without_marks(split_lines(block), block)
        frame = numbered(frame, row)
        row += len(frame)
        is_cut = is_plain and not block.endswith(b"\n")
        unfinished = row - 1 if is_cut and frame["text"].tail(1).str.contains(_FILLED).any() else None
        wanted = pl.lit(True) if every else pl.col("text").str.contains(_FILLED)
        if source.skip:
            wanted &= pl.col("row") > source.skip
        if source.comment and not every:
            wanted &= ~pl.col("text").str.starts_with(source.comment)
        yield LineBlock(frame.filter(wanted), unfinished)
