"""Reading JSON lines into columns of text, bad lines kept apart."""

import json
from collections.abc import Sequence
from pathlib import Path

import polars as pl
from polars.exceptions import ComputeError, ShapeError

_CHUNK = 20_000


def read_json_lines(path: Path, members: Sequence[str]) -> pl.DataFrame:
    """The objects of a file of JSON lines, each member as the text that was written.

    Returns
    -------
    polars.DataFrame
        row (Int64, the line's number from 1), text (the line), parsed (Boolean) and a String column per member: a
        number keeps its value, null and missing are null, a list or an object is its JSON text. Blank lines are no
        rows.

    Raises
    ------
    OSError
        When the file cannot be read.
    """
    lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").decode("utf-8", errors="replace").split("\n")
    frame = (
        pl.DataFrame({"text": lines}, schema={"text": pl.String})
        .with_row_index("row", offset=1)
        .select(pl.col("row").cast(pl.Int64), pl.col("text").str.strip_chars_end("\r"))
        .filter(pl.col("text").str.strip_chars() != "")
    )
    chunks = [_decoded(chunk, members) for chunk in frame.iter_slices(_CHUNK)]
    schema = {"row": pl.Int64, "text": pl.String, "parsed": pl.Boolean} | dict.fromkeys(members, pl.String)
    return pl.concat(chunks) if chunks else pl.DataFrame(schema=schema)


def _decoded(chunk: pl.DataFrame, members: Sequence[str]) -> pl.DataFrame:
    shape = pl.Struct(dict.fromkeys(members, pl.String))
    # the fast reader fails a whole column at one bad line, and reads a number through a binary float: it gets lines
    # that begin as an object, in whole characters, and hold no number of more digits than a float keeps
    plain = pl.col("text").str.strip_chars().str.starts_with("{") & ~pl.col("text").str.contains("�|[\\d.]{15,}")
    if chunk.select(plain.all()).item():
        try:
            return chunk.with_columns(parsed=pl.lit(True), _object=pl.col("text").str.json_decode(shape)).unnest(
                "_object"
            )
        except (ComputeError, ShapeError):
            pass
    return _decoded_one_by_one(chunk, members)


def _decoded_one_by_one(chunk: pl.DataFrame, members: Sequence[str]) -> pl.DataFrame:
    columns: dict[str, list[str | None]] = {member: [] for member in members}
    parsed: list[bool] = []
    for text in chunk["text"]:
        found = _object(text)
        parsed.append(found is not None)
        for member in members:
            columns[member].append(_text((found or {}).get(member)))
    return chunk.with_columns(
        pl.Series("parsed", parsed, pl.Boolean),
        *(pl.Series(name, values, pl.String) for name, values in columns.items()),
    )


def _object(text: str) -> dict[str, object] | None:
    if "�" in text:
        return None
    try:
        # numbers stay text: no float, no limit on digits
        value = json.loads(text, parse_float=str, parse_int=str, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _refuse(constant: str) -> object:
    raise ValueError(constant)


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value)
