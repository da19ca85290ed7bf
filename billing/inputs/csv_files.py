"""CSV reader for inputs: a file as text columns, whole or in pieces of some megabytes."""

import codecs
import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import polars as pl
from polars.exceptions import ComputeError, NoDataError

from billing.inputs.byte_pieces import UncertainCutError, byte_blocks, byte_pieces

_BYTE_ORDER_MARK: Final = "\ufeff"
_BYTE_ORDER_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_BLANK_LINE: Final = ("\n\n", "\n\r\n")
# Match a quoted field, after doubled quotation marks are taken out.
_QUOTED_FIELD: Final = re.compile(r'(?:\A|(?<=[,\n]))"[^"]*"(?=[,\r\n]|\Z)')


def read_csv(path: Path, encoding: str) -> pl.DataFrame:
    """A CSV file as text columns and `_parsed`: false for rows whose field count differs from the header.

    Lines end in LF, CR LF or CR; a byte order mark at the start of a line is ignored (rule 26).

    Parameters
    ----------
    encoding
        As for `read_rows`.

    Raises
    ------
    ValueError
        When two columns have the same name, or no known encoding fits the file.
    """
    text = _text_lines(decoded(path.read_bytes(), encoding))
    if not text.strip():
        raise ValueError("found an empty file, expected a first line with the names of the columns")
    header = [name.strip() for name in next(csv.reader(io.StringIO(text, newline="")), [])]
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise ValueError(f"found the column {repeated[0]} more than once, expected each column once")
    if "\r" in text.replace("\r\n", ""):
        return _read_broken_csv(text)
    try:
        frame = pl.read_csv(text.encode(), infer_schema=False, glob=False)
    except (ComputeError, NoDataError):
        return _read_broken_csv(text)
    # Polars pads short rows, and reads a blank line as a row.
    if frame.to_series(-1).null_count() and not _has_whole_rows(text, len(header)):
        return _read_broken_csv(text)
    return frame.rename(str.strip).with_columns(_parsed=pl.lit(True))


def csv_pieces(path: Path, encoding: str) -> Iterator[pl.DataFrame]:
    """As `read_csv`, in pieces: all together they have the same rows.

    Raises
    ------
    UncertainCutError
        When the whole file has to be seen to read it: where a field may hold line ends and is not quoted as in
        RFC 4180, a row is short, a line is blank, a line ends in CR alone, or the text is not UTF-8.
    """
    has_quotes = _has_quotes(path)
    header = ""
    width = 0
    for piece in byte_pieces(path, quoted=has_quotes):
        text = _certain_text(piece, has_quotes=has_quotes)
        data = text
        if not header:
            header = _header_of(text)
            names = [name.strip() for name in next(csv.reader(io.StringIO(header, newline="")), [])]
            width = len(names)
            if not header.strip() or len(set(names)) < width:
                raise UncertainCutError(path.name)
        else:
            data = header + text
        try:
            frame = pl.read_csv(data.encode(), infer_schema=False, glob=False)
        except (ComputeError, NoDataError) as error:
            raise UncertainCutError(path.name) from error
        if frame.to_series(-1).null_count() and (has_quotes or not _has_whole_rows(text, width)):
            raise UncertainCutError(path.name)
        yield frame.rename(str.strip).with_columns(_parsed=pl.lit(True))
    if not header:
        raise UncertainCutError(path.name)


def _has_quotes(path: Path) -> bool:
    """Whether a file has quotation marks; refuse to cut one with NUL or escape: it may be in another encoding."""
    found = False
    for block in byte_blocks(path):
        if b"\0" in block or b"\x1b" in block:
            raise UncertainCutError(path.name)
        found = found or b'"' in block
    return found


def _certain_text(piece: bytes, *, has_quotes: bool) -> str:
    """The text of a piece with the line ends that `_text_lines` gives the whole file."""
    try:
        text = piece.decode()
    except UnicodeDecodeError as error:
        raise UncertainCutError("not UTF-8") from error
    if "\r" in text:
        if text.count("\r") != text.count("\r\n"):
            raise UncertainCutError("CR alone")
        text = text if has_quotes else text.replace("\r\n", "\n")
    if _BYTE_ORDER_MARK in text:
        text = re.sub(rf"(\A|[\r\n]){_BYTE_ORDER_MARK}+", r"\1", text)
    if text.startswith(("\n", "\r\n")) or any(blank in text for blank in _BLANK_LINE):
        raise UncertainCutError("blank line")
    if '"' in text and '"' in (single := text.replace('""', "")) and '"' in _QUOTED_FIELD.sub("", single):
        raise UncertainCutError("quotation mark inside a field")
    return text


def _header_of(text: str) -> str:
    """The first record, with its line end."""
    end = text.find("\n") + 1
    while end and text.count('"', 0, end) % 2:
        end = text.find("\n", end) + 1
    return text[:end]


def decoded(content: bytes, encoding: str) -> str:
    """Decode a CSV file: by its byte order mark, else as UTF-8, else in the encoding that the catalogue names.

    Raises
    ------
    ValueError
        With line and byte of the first undecodable byte.
    """
    marked = next((name for mark, name in _BYTE_ORDER_MARKS if content.startswith(mark)), None)
    # Text in such an encoding can be valid UTF-8, but then has NUL or escape characters: try it first.
    named_first = _is_not_eight_bits(encoding) and (b"\0" in content or b"\x1b" in content)
    tried = [marked] if marked else [encoding] if named_first else ["utf-8", *([encoding] if encoding else [])]
    for name in tried:
        try:
            return content.decode(name)
        except UnicodeDecodeError as error:
            failed = error
    before = content[: failed.start]
    line = 1 + (before.count(b"\n") or before.count(b"\r"))
    expected = f"{tried[-1]}, which `encoding` of the catalogue names" if encoding in tried else "UTF-8"
    hint = "" if encoding else " (or a key `encoding` in the catalogue, such as cp1252)"
    raise ValueError(
        f"line {line}: found the byte 0x{content[failed.start]:02x} (byte {failed.start + 1} of the file), "
        f"expected {expected}{hint}"
    )


def _is_not_eight_bits(encoding: str) -> bool:
    """Whether an encoding is multi-byte for "a" (UTF-16), or writes other letters in bytes of seven bits (UTF-7)."""
    return bool(encoding) and ("a".encode(encoding) != b"a" or "é東Ж".encode(encoding, errors="ignore").isascii())


def _text_lines(text: str) -> str:
    """The text with uniform line ends, and without byte order marks at the start of lines."""
    if _BYTE_ORDER_MARK in text:
        text = re.sub(rf"(\A|[\r\n]){_BYTE_ORDER_MARK}+", r"\1", text)
    if "\r" in text and ("\n" not in text or '"' not in text):
        # Leave line ends between quotation marks: they may be part of a value.
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text


def _has_whole_rows(text: str, width: int) -> bool:
    """Whether every line has all its fields; false when quotation marks make that uncertain."""
    return '"' not in text and bool(
        (pl.Series(text.rstrip("\r\n").split("\n")).str.count_matches(",", literal=True) == width - 1).all()
    )


def _read_broken_csv(text: str) -> pl.DataFrame:
    """As `read_csv`, row by row: a broken row costs only itself."""
    rows = csv.reader(io.StringIO(text, newline=""))
    header = [name.strip() for name in next(rows, [])]
    width = len(header)
    # Skip blank lines.
    fields = [row for row in rows if row and row != [""]]
    return pl.DataFrame(
        [[*(row + [""] * width)[:width], len(row) == width] for row in fields],
        schema=dict.fromkeys(header, pl.String) | {"_parsed": pl.Boolean},
        orient="row",
    )
