"""JSON lines reader for small files: text columns, bad lines marked as not parsed."""

import json
import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Final

import polars as pl
from polars.exceptions import ComputeError, ShapeError

from billing.inputs.byte_pieces import UncertainCutError, byte_pieces

_CHUNK = 20_000
# Polars fails a whole column at one bad line and reads numbers as floats: give it only lines that start an object,
# without escapes or replacement characters, whose numbers are short integers.
_NEEDS_CARE: Final = r"^\s*[^{\s]|\x{FFFD}|\\u|[\d.]{15,}|[:,\[]\s*-?[0-9]+[.eE]|[:,\[]\s*-0"
_EXPONENT: Final = re.compile(r"[^eE]+[eE][+-]?[0-9]{1,2}")


def read_json_lines(path: Path, members: Sequence[str]) -> pl.DataFrame:
    """Read a file of JSON lines, each member as the text that was written.

    Returns
    -------
    polars.DataFrame
        row (Int64, line number from 1), text (the line), parsed (Boolean) and a String column per member: a number
        keeps its value, null and missing are null, a list or an object is its JSON text. Blank lines are no rows.

    Raises
    ------
    OSError
        When the file cannot be read.
    """
    content = path.read_bytes()
    # JSON text cannot contain a raw carriage return: without newlines it must be the line end.
    return _decoded(content, members, "\n" if b"\n" in content else "\r", 1)


def json_line_pieces(path: Path, members: Sequence[str]) -> Iterator[pl.DataFrame]:
    """As `read_json_lines`, in pieces: all together they have the same rows.

    Raises
    ------
    UncertainCutError
        When the file has no newline, or a line is as long as several pieces.
    """
    row = 1
    for piece in byte_pieces(path, quoted=False):
        if row == 1 and b"\n" not in piece:
            raise UncertainCutError(path.name)
        yield _decoded(piece.removesuffix(b"\n"), members, "\n", row)
        row += piece.count(b"\n")
    if row == 1:
        raise UncertainCutError(path.name)


def _decoded(content: bytes, members: Sequence[str], line_end: str, first: int) -> pl.DataFrame:
    """Rows as `read_json_lines` returns them, counted from `first`."""
    lines = content.decode("utf-8", errors="replace").split(line_end)
    frame = (
        pl.DataFrame({"text": lines}, schema={"text": pl.String})
        .with_row_index("row", offset=first)
        .select(pl.col("row").cast(pl.Int64), pl.col("text").str.strip_chars_start("\ufeff").str.strip_chars_end("\r"))
        .filter(pl.col("text").str.strip_chars() != "")
    )
    chunks = [_decode(chunk, members) for chunk in frame.iter_slices(_CHUNK)]
    schema = {"row": pl.Int64, "text": pl.String, "parsed": pl.Boolean} | dict.fromkeys(members, pl.String)
    return pl.concat(chunks) if chunks else pl.DataFrame(schema=schema)


def _decode(chunk: pl.DataFrame, members: Sequence[str]) -> pl.DataFrame:
    """Decode a chunk by Polars, or line by line; both must give the same result for a line."""
    if chunk.select(pl.col("text").str.contains(_NEEDS_CARE).any()).item():
        return _decode_one_by_one(chunk, members)
    shape = pl.Struct(dict.fromkeys(members, pl.String))
    try:
        return chunk.with_columns(parsed=pl.lit(True), _object=pl.col("text").str.json_decode(shape)).unnest("_object")
    except (ComputeError, ShapeError):
        return _decode_one_by_one(chunk, members)


def _decode_one_by_one(chunk: pl.DataFrame, members: Sequence[str]) -> pl.DataFrame:
    nothing: list[str | None] = [None] * len(members)
    rows = [_members(text, members) for text in chunk["text"]]
    columns = zip(*(row or nothing for row in rows), strict=True)
    return chunk.with_columns(
        pl.Series("parsed", [row is not None for row in rows], pl.Boolean),
        *(pl.Series(name, values, pl.String) for name, values in zip(members, columns, strict=True)),
    )


def _members(text: str, members: Sequence[str]) -> list[str | None] | None:
    """Members of one object as text; None when the line is no object."""
    if "\N{REPLACEMENT CHARACTER}" in text:
        return None
    try:
        # Keep numbers as text: no float, no limit on digits.
        value = json.loads(
            text, parse_float=_plain, parse_int=str, parse_constant=_refuse, object_pairs_hook=_first_of_each
        )
        if not isinstance(value, dict):
            return None
        found = [_text(value.get(member)) for member in members]
        # Reject lone surrogates: no column can hold them.
        "".join(member or "" for member in found).encode()
    except (ValueError, RecursionError):
        return None
    return found


def _plain(number: str) -> str:
    """Expand an exponent: 1e2 becomes 100; an excessive one stays and fails validation."""
    return format(Decimal(number), "f") if _EXPONENT.fullmatch(number) else number


def _first_of_each(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in pairs:
        found.setdefault(name, value)
    return found


def _refuse(constant: str) -> object:
    raise ValueError(constant)


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value)
