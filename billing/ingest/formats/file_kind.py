"""File format detection: by magic bytes, then by file extension."""

import csv
import re
from typing import Final

from billing.ingest.formats.compression import Content, UnreadableFileError
from billing.ingest.landing import COMPRESSIONS, DeliveredFile, Format

COLUMNS: Final = ("id", "source", "type", "subject", "time")
"""Columns that every flat file has, besides its values."""
BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"

_LOOKED_AT: Final = 64 * 1024
_JSON: Final = re.compile(rb'\{\s*(?:["}]|$)|\[\s*(?:[\[\]{]|$)')
_OTHERS: Final = (
    (b"PK\x03\x04", "a ZIP archive or a workbook"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Obj\x01", "an Avro file"),
    (b"ORC", "an ORC file"),
    (b"ARROW1", "an Arrow file"),
    (b"%PDF", "a PDF"),
    (b"SQLite format 3", "an SQLite database"),
    (b"\xff\xfe", "text in UTF-16"),
    (b"\xfe\xff", "text in UTF-16"),
    (b"\xff\x06\x00\x00sNaPpY", "Snappy frames"),
    (b"\x1f\x9d", "a .Z file"),
)
_EXPECTED: Final = (
    "expected CloudEvents as JSON, CSV with a header or Parquet, plain or compressed with gzip, zstd, bzip2, xz or "
    "lz4, or a source in the catalogue that reads it (overage try FILE proposes one)"
)


def kind_of(delivered: DeliveredFile, content: Content) -> Format:
    """Format of the rows of a delivered file.

    Raises
    ------
    UnreadableFileError
        When neither magic bytes nor extension identify a known format, or they identify another one.
    """
    head = content.peek(_LOOKED_AT)
    if head.startswith(b"PAR1"):
        return "parquet"
    found = _skipped(head)
    if _JSON.match(found):
        return "json"
    if is_flat_header(re.split(rb"[\r\n]", found, maxsplit=1)[0]):
        return "csv"
    other = next((name for magic, name in _OTHERS if head.startswith(magic)), None)
    if other is not None:
        raise UnreadableFileError(f"found {other}, {_EXPECTED}")
    if found and content.raw is not None and delivered.compression in COMPRESSIONS:
        raise UnreadableFileError(
            f"the compressed data is damaged or cut off (found a name that ends in {delivered.compression} and other "
            f"bytes, {_EXPECTED})"
        )
    if delivered.format == "unknown" and found:
        raise UnreadableFileError(f"found an unknown ending and no rows that are known, {_EXPECTED}")
    return delivered.format


def _skipped(head: bytes) -> bytes:
    """The bytes after byte order marks and blanks."""
    while True:
        shorter = head.lstrip().removeprefix(BYTE_ORDER_MARK)
        if shorter == head:
            return head
        head = shorter


def is_flat_header(line: bytes) -> bool:
    """Whether a line names every required column of flat files."""
    try:
        names = {name.strip() for name in next(csv.reader([line.decode()], strict=True), [])}
    except (UnicodeDecodeError, csv.Error):
        return False
    return names.issuperset(COLUMNS)
