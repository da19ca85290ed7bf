"""Input files of accounts, requests and payments: discovery, and rows as text columns.

A table is one file or a folder of files: CSV, JSON lines or Parquet.
"""

import codecs
import csv
import difflib
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import polars as pl
from polars.exceptions import ComputeError, NoDataError, PolarsError

from billing.inputs.json_lines import read_json_lines
from billing.model.card_numbers import mask_card_numbers
from billing.model.errors import RefusedError
from billing.store.home import Home

ENDINGS: Final = (".csv", ".jsonl", ".parquet")
EXPECTED_FILES: Final = "one file or a folder of files that end in .csv, .jsonl or .parquet"

# Match a member's name in a line of JSON, up to the colon.
_MEMBER = r'"[^"\\]{1,60}"[ \t]*:'
_BYTE_ORDER_MARK: Final = "\ufeff"
_BYTE_ORDER_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def input_files(home: Home, name: str) -> list[Path]:
    """Files of a table: the one named after it, per extension, then those in the folder named after it, sorted."""
    folder = home.landing / name
    single = [home.landing / f"{name}{ending}" for ending in ENDINGS]
    inside = sorted(folder.iterdir()) if folder.is_dir() else []
    return [
        *(path for path in single if path.is_file()),
        *(
            path
            for path in inside
            if path.suffix in ENDINGS and not path.name.startswith((".", "_")) and path.is_file()
        ),
    ]


def read_rows(
    files: Sequence[Path], columns: Sequence[str], identity: str, home: Home, encoding: str, warnings: list[str]
) -> pl.DataFrame:
    """Rows of all files as text columns, with file, row, text and parsed; empty text is null.

    An unknown column name that resembles a missing column is reported in `warnings` as a possible misspelling.

    Parameters
    ----------
    encoding
        Encoding of CSV files that are not UTF-8, from the catalogue; empty when not set.

    Raises
    ------
    RefusedError
        When a file cannot be read.
    """
    schema = {"row": pl.Int64, "text": pl.String, "parsed": pl.Boolean} | dict.fromkeys([*columns, "file"], pl.String)
    frames = [pl.DataFrame(schema=schema)]
    for path in files:
        try:
            frame, names = _read_one(path, columns, identity, encoding)
        except (OSError, PolarsError, ValueError, csv.Error) as error:
            message = f"{path}: this file cannot be read: {str(error).splitlines()[0]}"
            raise RefusedError(mask_card_numbers(message)) from error
        name = mask_card_numbers(path.relative_to(home.landing).as_posix())
        warnings += [f"{name}: {mask_card_numbers(words)}" for words in _misspelt(names, columns)]
        frames.append(frame.with_columns(file=pl.lit(name)))
    stripped = _stripped(pl.concat(frames), columns)
    # `reason` is the reject reason: rename the input's own column.
    return stripped.rename({"reason": "stated_reason"}) if "reason" in columns else stripped


def read_table_as_text(
    path: Path, columns: Sequence[str], identity: str, encoding: str
) -> tuple[pl.DataFrame, list[str]]:
    """One file by itself: as `read_rows` with all its columns, and the names of those that are not in `columns`.

    Raises
    ------
    RefusedError
        When the file cannot be read, has no column `identity`, or has a column that resembles a missing one.
    """
    try:
        if path.suffix not in ENDINGS:
            raise ValueError(f"found the ending {path.suffix!r}, expected one of {', '.join(ENDINGS)}")
        _, names = _read_one(path, columns, identity, encoding)
        wanted = [*columns, *(name for name in names if name not in columns)]
        frame, _ = _read_one(path, wanted, identity, encoding)
    except (OSError, PolarsError, ValueError, csv.Error) as error:
        raise RefusedError(
            mask_card_numbers(f"{path}: this file cannot be read: {str(error).splitlines()[0]}")
        ) from error
    if misspelt := _misspelt(names, columns):
        raise RefusedError(mask_card_numbers(f"{path}: {misspelt[0]}"))
    return _stripped(frame.with_columns(file=pl.lit(path.name)), wanted), wanted[len(columns) :]


def _stripped(frame: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """The frame with blanks around texts taken off; empty text is null."""
    return frame.with_columns(pl.col(column).str.strip_chars() for column in columns).with_columns(
        pl.when(pl.col(column) != "").then(column) for column in columns
    )


def _misspelt(names: Sequence[str], columns: Sequence[str]) -> list[str]:
    """Warnings about unknown names in a file that resemble a missing column."""
    missing = [column for column in columns if column not in names]
    found = []
    for name in names:
        written = re.sub(r"[\s-]+", "_", name.strip().lower())
        near = difflib.get_close_matches(written, missing, n=1, cutoff=0.75) if name not in columns else []
        if near:
            found.append(f"found the column {name!r}, which is not read, expected {near[0]!r} if that is what it holds")
    return found


def _read_one(path: Path, columns: Sequence[str], identity: str, encoding: str) -> tuple[pl.DataFrame, list[str]]:
    """row, text, parsed and the columns of one file, and the column names it has.

    Raises
    ------
    ValueError
        When the file has no column `identity`.
    """
    if path.suffix == ".jsonl":
        lines = read_json_lines(path, columns)
        members = lines.select(pl.col("text").str.extract_all(_MEMBER).explode(empty_as_null=False).unique().sort())
        return lines, members.to_series().str.strip_chars_end(": \t").str.strip_chars('"').to_list()
    frame = (
        pl.read_parquet(path, glob=False).select(pl.all().cast(pl.String)).with_columns(_parsed=pl.lit(True))
        if path.suffix == ".parquet"
        else read_csv(path, encoding)
    )
    if identity not in frame.columns:
        raise ValueError(f"found the columns {', '.join(frame.columns[:-1])}, expected {', '.join(columns)}")
    rows = frame.select(
        pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias("row"),
        pl.concat_str(pl.exclude("_parsed").fill_null(""), separator=",").alias("text"),
        pl.col("_parsed").alias("parsed"),
        *(pl.col(column) if column in frame.columns else pl.lit(None, pl.String).alias(column) for column in columns),
    )
    return rows, frame.columns[:-1]


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
