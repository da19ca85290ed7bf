"""Input files of accounts, requests and payments: discovery, and rows as text columns.

A table is one file or a folder of files: CSV, JSON lines or Parquet.
"""

import csv
import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import polars as pl
from polars.exceptions import PolarsError

from billing.inputs.csv_files import csv_pieces, read_csv
from billing.inputs.json_lines import json_line_pieces, read_json_lines
from billing.model.card_numbers import mask_card_numbers
from billing.model.errors import RefusedError
from billing.store.home import Home

ENDINGS: Final = (".csv", ".jsonl", ".parquet")
EXPECTED_FILES: Final = "one file or a folder of files that end in .csv, .jsonl or .parquet"

_Made = TypeVar("_Made")
_LARGE = 16_000_000
_ROWS_OF_A_PIECE = 50_000
# Match a member's name in a line of JSON, up to the colon.
_MEMBER = r'"[^"\\]{1,60}"[ \t]*:'


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
    """Rows of all files as text columns, with place, file, row, text and parsed; empty text is null.

    As `read_pieces`, of which it joins the pieces.
    """
    return pl.concat(read_pieces(files, columns, identity, home, encoding, warnings, lambda piece: piece), rechunk=True)


def read_pieces(
    files: Sequence[Path],
    columns: Sequence[str],
    identity: str,
    home: Home,
    encoding: str,
    warnings: list[str],
    make: Callable[[pl.DataFrame], _Made],
) -> list[_Made]:
    """What `make` makes of the rows of all files, piece by piece: of a large file no more than a piece is in memory.

    A piece has the columns as text (empty text is null), place (UInt32: number of the row in all files), file, row,
    text and parsed. Without files there is one, which is empty. An unknown column name that resembles a missing column
    is reported in `warnings` as a possible misspelling.

    Parameters
    ----------
    encoding
        Encoding of CSV files that are not UTF-8, from the catalogue; empty when not set.

    Raises
    ------
    RefusedError
        When a file cannot be read.
    """
    schema = {"row": pl.Int64, "text": pl.String, "parsed": pl.Boolean} | dict.fromkeys(columns, pl.String)

    def made_of(name: str, before: int, within: int, rows: pl.DataFrame) -> _Made:
        placed = rows.with_row_index("place", before + within).with_columns(file=pl.lit(name, pl.String))
        stripped = _stripped(placed, columns)
        # `reason` is the reject reason: rename the input's own column.
        return make(stripped.rename({"reason": "stated_reason"}) if "reason" in columns else stripped)

    made = [] if files else [made_of("", 0, 0, pl.DataFrame(schema=schema))]
    rows = 0
    for path in files:
        name = mask_card_numbers(path.relative_to(home.landing).as_posix())
        try:
            found, names, height = _read_made(path, columns, identity, encoding, partial(made_of, name, rows))
        except (OSError, PolarsError, ValueError, csv.Error) as error:
            message = f"{path}: this file cannot be read: {str(error).splitlines()[0]}"
            raise RefusedError(mask_card_numbers(message)) from error
        made += found
        rows += height
        warnings += [f"{name}: {mask_card_numbers(words)}" for words in _misspelt(names, columns)]
    return made


def _read_made(
    path: Path, columns: Sequence[str], identity: str, encoding: str, make: Callable[[int, pl.DataFrame], _Made]
) -> tuple[list[_Made], list[str], int]:
    """What is made of the pieces of a file, given the rows before each; its column names and number of rows."""
    for in_pieces in (True, False) if path.stat().st_size > _LARGE else (False,):
        made: list[_Made] = []
        rows = 0
        names: list[str] = []
        try:
            for piece, found in _pieces(path, columns, identity, encoding, in_pieces=in_pieces):
                made.append(make(rows, piece))
                rows += piece.height
                names = list({*names, *found}) if path.suffix == ".jsonl" else found
        except (PolarsError, ValueError, csv.Error):
            # Where a cut is uncertain or a piece is wrong, the whole file decides, and words the message.
            if not in_pieces:
                raise
        else:
            break
    return made, _member_names(names) if path.suffix == ".jsonl" else names, rows


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
    """row, text, parsed and the columns of one file, and the column names it has."""
    ((rows, names),) = _pieces(path, columns, identity, encoding, in_pieces=False)
    return rows, _member_names(names) if path.suffix == ".jsonl" else names


def _pieces(
    path: Path, columns: Sequence[str], identity: str, encoding: str, *, in_pieces: bool
) -> Iterator[tuple[pl.DataFrame, list[str]]]:
    """row, text, parsed and the columns of one file, and its column names (of JSON lines: members as written).

    Raises
    ------
    ValueError
        When the file has no column `identity`, or `in_pieces` and it is uncertain where to cut.
    """
    if path.suffix == ".jsonl":
        for lines in json_line_pieces(path, columns) if in_pieces else (read_json_lines(path, columns),):
            members = lines.select(pl.col("text").str.extract_all(_MEMBER).explode(empty_as_null=False).unique())
            yield lines, members.to_series().to_list()
        return
    before = 0
    for frame in _tables(path, encoding, in_pieces=in_pieces):
        if identity not in frame.columns:
            raise ValueError(f"found the columns {', '.join(frame.columns[:-1])}, expected {', '.join(columns)}")
        rows = frame.select(
            pl.int_range(before + 1, before + pl.len() + 1, dtype=pl.Int64).alias("row"),
            pl.concat_str(pl.exclude("_parsed").fill_null(""), separator=",").alias("text"),
            pl.col("_parsed").alias("parsed"),
            *(
                pl.col(column) if column in frame.columns else pl.lit(None, pl.String).alias(column)
                for column in columns
            ),
        )
        before += frame.height
        yield rows, frame.columns[:-1]


def _tables(path: Path, encoding: str, *, in_pieces: bool) -> Iterator[pl.DataFrame]:
    """A CSV or Parquet file as text columns and `_parsed`."""
    if path.suffix != ".parquet":
        yield from csv_pieces(path, encoding) if in_pieces else (read_csv(path, encoding),)
        return
    frame = pl.read_parquet(path, glob=False)
    height = _ROWS_OF_A_PIECE if in_pieces else max(1, frame.height)
    for start in range(0, max(1, frame.height), height):
        yield frame.slice(start, height).select(pl.all().cast(pl.String)).with_columns(_parsed=pl.lit(True))


def _member_names(members: Iterable[str]) -> list[str]:
    """Names of members of JSON as they are written: `"name" :`."""
    return [member.rstrip(": \t").strip('"') for member in sorted(members)]
