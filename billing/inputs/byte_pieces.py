"""Pieces of a large file, cut at line ends."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

PIECE_BYTES = 8_000_000
_LONGEST_LINE: Final = 64 * 1024


class UncertainCutError(ValueError):
    """The file has to be read as a whole."""


def byte_blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        while block := file.read(PIECE_BYTES):
            yield block


def byte_pieces(path: Path, *, quoted: bool) -> Iterator[bytes]:
    """The bytes of a file in pieces that end in a line end, except the last one.

    Parameters
    ----------
    quoted
        Cut only at line ends with an even number of quotation marks before them.

    Raises
    ------
    UncertainCutError
        When a line is as long as several pieces, or a quotation mark is not closed.
    """
    rest = b""
    for block in byte_blocks(path):
        rest += block
        end = _last_line_end(rest, quoted=quoted)
        if end:
            yield rest[:end]
            rest = rest[end:]
        elif len(rest) > 4 * PIECE_BYTES + _LONGEST_LINE:
            raise UncertainCutError(path.name)
    if rest:
        yield rest


def _last_line_end(content: bytes, *, quoted: bool) -> int:
    """Place after the last line end that is certain; 0: there is none."""
    end = content.rfind(b"\n") + 1
    if not quoted:
        return end
    marks = content.count(b'"', 0, end)
    while end and marks % 2:
        before = content.rfind(b"\n", 0, end - 1) + 1
        marks -= content.count(b'"', before, end)
        end = before
    return end
