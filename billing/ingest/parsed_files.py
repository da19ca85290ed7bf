"""The first layer of ingest: every delivered file as one Parquet file of rows, a pure function of its bytes.

A parsed file is named by the delivered file, the hash of its bytes and the event types it was read with, is never
changed, and is kept when the delivered file vanishes (rule 22).
"""

import hashlib
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final
from urllib.parse import quote

import polars as pl

from billing.cards import mask_card_number_column
from billing.home import Home, write_file
from billing.ingest.delivered_bytes import UnreadableFileError, open_delivered
from billing.ingest.flat_events import csv_pieces, parquet_pieces
from billing.ingest.json_events import fields_of_lines, json_pieces, json_texts
from billing.ingest.landing import EXPECTED_ENDINGS, DeliveredFile
from billing.ingest.measured import EventTypes, event_types_digest, measured_paths
from billing.ingest.parquet_pieces import write_pieces
from billing.ingest.parsed_rows import (
    PARSED,
    UNPARSEABLE,
    UNREADABLE_FILE,
    Piece,
    set_aside,
    unreadable,
    value_columns,
)

PARSER_VERSION: Final = 1
"""Raised whenever the same bytes would be parsed to other rows: every file still in landing is then read again."""

_LONGEST_NAME: Final = 80


@dataclass(frozen=True, order=True)
class FileVersion:
    """One version of a delivered file: its day and name, and the SHA-256 of its bytes."""

    day: date
    name: str
    sha256: str


def parsed_files_folder(home: Home, day: date) -> Path:
    """Where the parsed files of a delivery day stand."""
    return home.lake / "parsed_files" / f"delivery_day={day.isoformat()}"


def parsed_file(home: Home, version: FileVersion, types: EventTypes, kept: bool = False) -> Path:
    """The parsed file of one version of a delivered file, read with these event types.

    `kept` names the one that was made from an earlier parsed file (`parse_again`), because the delivered file had
    vanished: it may hold less than the delivered bytes would have given.
    """
    safe = quote(version.name.encode(), safe="")
    if len(safe) > _LONGEST_NAME:
        safe = f"{safe[:_LONGEST_NAME]}~{hashlib.sha256(version.name.encode()).hexdigest()[:12]}"
    digest = event_types_digest(types, PARSER_VERSION)
    return (
        parsed_files_folder(home, version.day)
        / f"{safe}.{version.sha256[:16]}.{digest}{'.kept' if kept else ''}.parquet"
    )


def parse_delivered(delivered: DeliveredFile, types: EventTypes) -> Iterator[pl.DataFrame]:
    """Every row of a delivered file: its fields, or why it is set aside (rule 27); some rows at a time.

    Yields
    ------
    polars.DataFrame
        `parsed_rows.PARSED` and the value columns, in the order of the file; first one without rows.

    Raises
    ------
    UnreadableFileError
        When the file cannot be read as a whole: then nothing of it counts.
    """
    flat = delivered.format != "json"
    nothing = no_rows(types, flat)

    def judged(piece: Piece) -> pl.DataFrame:
        # one schema, whatever columns the file has
        return pl.concat([nothing, set_aside(piece, types, flat)], how="diagonal")

    yield nothing
    yield from map(judged, read_pieces(delivered, types))


def unreadable_file(delivered: DeliveredFile, types: EventTypes, error: UnreadableFileError) -> pl.DataFrame:
    """The parsed file of one that cannot be read: one row without number, with the reason "unreadable_file"."""
    return pl.concat(
        [no_rows(types, delivered.format != "json"), unreadable(f"{delivered.name}: {error}")], how="diagonal"
    )


def read_pieces(delivered: DeliveredFile, types: EventTypes) -> Iterator[Piece]:
    """What stands in a delivered file, piece by piece, before anything is judged.

    Raises
    ------
    UnreadableFileError
        When the file cannot be read as a whole.
    """
    if delivered.format == "unknown" and not delivered.fault:
        raise UnreadableFileError(f"found an unknown ending, expected {EXPECTED_ENDINGS}")
    with open_delivered(delivered) as file:
        if delivered.format == "json":
            yield from json_pieces(file, types)
        elif delivered.format == "csv":
            yield from csv_pieces(file)
        else:
            whole = io.BytesIO(file.read()) if delivered.compression else file
            if whole.read(1):  # an empty file withdraws a delivery (rule 22)
                yield from parquet_pieces(whole)


def read_texts(delivered: DeliveredFile, rows: pl.Series) -> pl.DataFrame:
    """The texts of some rows of a delivered file as delivered, card numbers masked.

    Returns
    -------
    polars.DataFrame
        row and text; rows that are not there, or cannot be read any more, are left out.
    """
    found = [pl.DataFrame(schema={"row": pl.Int64, "text": pl.String})]
    try:
        if delivered.format == "json":
            with open_delivered(delivered) as file:
                found.append(json_texts(file, rows))
        else:
            for piece in read_pieces(delivered, {}):
                wanted = piece.fields["row"].is_in(rows.implode()).arg_true()
                found.append(pl.DataFrame([piece.fields["row"].gather(wanted), piece.texts(wanted).alias("text")]))
    except UnreadableFileError:
        pass
    texts = pl.concat(found)
    return texts.with_columns(mask_card_number_column(texts["text"]))


def write_parsed(path: Path, rows: Iterable[pl.DataFrame], version: FileVersion) -> None:
    """Write a parsed file, with the version it came from in its metadata; a frame of rows is held at a time.

    Parameters
    ----------
    rows
        One frame at least, all of one schema.
    """

    metadata = {"file": version.name, "sha256": version.sha256, "delivery_day": version.day.isoformat()}
    write_file(path, lambda scratch: write_pieces(scratch, rows, metadata))


def parse_again(rows: pl.DataFrame, types: EventTypes, flat: bool) -> pl.DataFrame:
    """The rows of a parsed file whose delivered file has vanished, under other event types.

    Rows that were set aside, or whose event type was unknown, are judged again from their kept text (JSON) or values
    (flat files). Rows that were good keep the values that were measured then: what a metric added later would have
    measured in them was not stored.
    """
    if rows["reason"].eq_missing(pl.Series([UNREADABLE_FILE])).any():
        return rows
    if flat:
        doubtful = rows["text"].is_not_null() & rows["reason"].is_null()
        fields = rows.filter(doubtful).with_columns(
            unparseable=pl.lit(False), incomplete=pl.lit(False), time_fault=pl.lit(None, pl.String)
        )
        read = set_aside(Piece(fields.drop("reason", "text"), fields["text"].gather), types, flat)
    else:
        doubtful = rows["text"].is_not_null()
        kept = rows.filter(doubtful)
        broken = kept["reason"].eq_missing(pl.Series([UNPARSEABLE]))
        lines = kept.select("row", "text", broken=broken)
        fields = _with_kept_fields(fields_of_lines(lines, measured_paths(types)), kept, broken)
        read = set_aside(Piece(fields, kept["text"].gather), types, flat)
    return pl.concat([rows.filter(~doubtful), read], how="diagonal").sort("row")


def _with_kept_fields(fields: pl.DataFrame, kept: pl.DataFrame, broken: pl.Series) -> pl.DataFrame:
    """Fields read from kept texts, in which a card number is masked: what was stored of a row goes before its text."""
    stored = [pl.coalesce(kept[name], name).alias(name) for name in ("source", "id", "type", "subject", "time")]
    return fields.with_columns(
        *stored, unparseable=broken, incomplete=pl.col("incomplete") & ~(pl.col("unparseable") & ~broken)
    )


def no_rows(types: EventTypes, flat: bool) -> pl.DataFrame:
    """A parsed file of an empty file."""
    return pl.DataFrame(schema=PARSED | dict.fromkeys(value_columns(types, flat), pl.String))


def other_parsed_file(home: Home, version: FileVersion) -> Path | None:
    """A parsed file of the same bytes, read with other event types, or None."""
    paths = parsed_files_folder(home, version.day).glob("*.parquet")
    # what was read from the bytes goes before what was made from such a file
    for path in sorted(paths, key=lambda path: (path.name.endswith(".kept.parquet"), path.name)):
        metadata = pl.read_parquet_metadata(path)
        if metadata.get("file") == version.name and metadata.get("sha256") == version.sha256:
            return path
    return None
