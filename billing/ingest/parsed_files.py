"""Layer one of ingest: one Parquet file of rows per delivered file, a pure function of its bytes.

A parsed file is named by the delivered file, the hash of its bytes and the event types it was parsed with. It is
immutable, and stays when the delivered file vanishes (rule 22).
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from itertools import product
from pathlib import Path
from typing import Final
from urllib.parse import quote

import polars as pl
from polars.exceptions import PanicException

from billing.ingest.formats.compression import UnreadableFileError
from billing.ingest.formats.csv_events import csv_chunks
from billing.ingest.formats.delivered_bytes import Delivered, open_content, open_delivered
from billing.ingest.formats.flat_columns import value_as_read_before
from billing.ingest.formats.json_events import fields_of_lines, json_chunks, json_texts
from billing.ingest.formats.parquet_events import parquet_chunks
from billing.ingest.landing import DeliveredFile
from billing.ingest.metric_members import (
    EventTypes,
    event_types_digest,
    event_types_of,
    event_types_text,
    measured_paths,
)
from billing.ingest.parsed_rows import (
    ALIAS_KIND,
    PARSED,
    Chunk,
    set_aside,
    unreadable,
    value_columns,
    with_details,
)
from billing.ingest.required_columns import (
    OF_A_WHOLE_FILE,
    TOO_MANY_SET_ASIDE,
    UNFINISHED_LINE,
    UNPARSEABLE,
    UNREADABLE_FILE,
)
from billing.ingest.sources.event_mapping import File
from billing.ingest.sources.reading import Tally, TooManySetAsideError, source_chunks, texts_of
from billing.model.card_numbers import mask_card_number_column
from billing.model.file_limits import DEFAULT_LIMITS, Limits
from billing.model.sources import Source
from billing.store.files import file_hash, write_file
from billing.store.home import Home
from billing.store.parquet_writer import write_row_groups

PARSER_VERSION: Final = 1
"""Raise it only to parse every file in landing again. A new parsing rule does not need it: a parsed file keeps its
rows while the delivered bytes are unchanged (rule 27)."""

_LONGEST_NAME: Final = 80
_BEYOND: Final = ".beyond-"
_LONGEST_FAULT: Final = 200
_MOST_TRIED: Final = 4

EVENT_TYPES: Final = "event_types"
"""Metadata key of parsed files: the event types they were parsed with."""
SOURCE: Final = "source"
"""Metadata key of parsed files that a source of the catalogue read: its digest."""


@dataclass(frozen=True, order=True)
class FileVersion:
    """One version of a delivered file: its day and name, and the SHA-256 of its bytes."""

    day: date
    name: str
    sha256: str


def parsed_files_root(home: Home) -> Path:
    """Folder of the parsed files of all days."""
    return home.lake / "parsed_files"


def parsed_files_folder(home: Home, day: date) -> Path:
    """Folder of the parsed files of a delivery day."""
    return parsed_files_root(home) / f"delivery_day={day.isoformat()}"


def parsed_file(
    home: Home,
    version: FileVersion,
    types: EventTypes,
    *,
    source: Source | None = None,
    kept: bool = False,
    beyond: Limits | None = None,
) -> Path:
    """Path of the parsed file of one version of a delivered file, parsed with these event types and by this source.

    `kept`: made from an earlier parsed file (`parse_again`) because the delivered file had vanished; it may hold less
    than the delivered bytes would give. `beyond`: a marker that the file exceeds these limits; under other limits the
    file is parsed again.
    """
    limits = f"{_BEYOND}{beyond.key}" if beyond else ""
    name = f"{parsed_name(version)}.{parse_key(types, source)}{'.kept' if kept else ''}{limits}.parquet"
    return parsed_files_folder(home, version.day) / name


def is_beyond_limits(path: Path) -> bool:
    """Whether a parsed file is only a marker that the delivered file exceeds some limits."""
    return _BEYOND in path.name


def types_digest(types: EventTypes) -> str:
    """Cache key of the event types and the parser version, part of the name of every parsed file."""
    return event_types_digest(types, PARSER_VERSION)


def parse_key(types: EventTypes, source: Source | None) -> str:
    """Cache key of parsed rows: a file that no source reads has the key that it had before there were sources."""
    digest = types_digest(types)
    return digest if source is None else hashlib.sha256(f"{digest}.{source.digest}".encode()).hexdigest()[:12]


def parsed_name(version: FileVersion) -> str:
    """Common prefix of the names of all parsed files of one version of a delivered file."""
    safe = quote(version.name.encode(), safe="")
    if len(safe) > _LONGEST_NAME:
        safe = f"{safe[:_LONGEST_NAME]}~{hashlib.sha256(version.name.encode()).hexdigest()[:12]}"
    return f"{safe}.{version.sha256[:16]}"


def parse_delivered(
    delivered: DeliveredFile, types: EventTypes, limits: Limits = DEFAULT_LIMITS, source: Source | None = None
) -> Iterator[pl.DataFrame]:
    """Parse a delivered file in chunks: the fields of every row, or its reject reason (rule 27).

    Parameters
    ----------
    source
        The source of the catalogue that reads the file; None: it holds CloudEvents or flat columns.

    Yields
    ------
    polars.DataFrame
        `parsed_rows.PARSED` and the value columns, in the order of the file; the first frame has no rows.

    Raises
    ------
    UnreadableFileError
        When the file cannot be read as a whole, for any cause: then none of its rows count.
    """
    if source is not None:
        yield from _parse_by_source(delivered, types, limits, source)
        return
    with concerning_one_file(), open_delivered(delivered, limits) as opened:
        flat = opened.kind != "json"
        nothing = no_rows(types, flat=flat)
        is_first = True
        for chunk in read_chunks(opened, types, limits):
            rows = set_aside(chunk, types, flat=flat)
            if is_first:
                # Use one schema, whatever columns the file has.
                nothing = pl.concat([nothing, rows.clear()], how="diagonal")
                yield nothing
            is_first = False
            yield pl.concat([nothing, rows], how="diagonal")
        if is_first:
            yield nothing


def _parse_by_source(
    delivered: DeliveredFile, types: EventTypes, limits: Limits, source: Source
) -> Iterator[pl.DataFrame]:
    """As `parse_delivered`, of a file that a source reads."""
    tally = Tally(source, types)
    nothing = no_rows(types, flat=False, source=source)
    yield nothing
    with concerning_one_file(), open_content(delivered, limits) as content:
        for chunk in source_chunks(content, source, types, _file_of(delivered, source), limits):
            rows = set_aside(chunk, types, flat=False)
            tally.add(rows)
            yield pl.concat([nothing, with_alias_kind(rows, source)], how="diagonal")
        tally.require_few()


def _file_of(delivered: DeliveredFile, source: Source) -> File:
    digest = file_hash(delivered.path) if source.id.kind == "position" else ""
    return File(delivered.name, delivered.day.isoformat(), digest)


def with_alias_kind(rows: pl.DataFrame, source: Source) -> pl.DataFrame:
    """Parsed rows with the kind of name that their subjects are, where the source looks accounts up."""
    return rows.with_columns(pl.lit(source.subject.alias).alias(ALIAS_KIND)) if source.subject.alias else rows


@contextmanager
def concerning_one_file() -> Iterator[None]:
    """Turn any failure of reading a file into UnreadableFileError: one file must not stop the others.

    Raises
    ------
    UnreadableFileError
        Instead of any exception, including panics of native libraries, which are no `Exception`.
    """
    try:
        yield
    except UnreadableFileError:
        raise
    except (Exception, PanicException) as error:
        words = str(error).splitlines() or [""]
        raise UnreadableFileError(f"cannot be read ({type(error).__name__}: {words[0][:_LONGEST_FAULT]})") from error


def unreadable_file(
    delivered: DeliveredFile, types: EventTypes, error: UnreadableFileError, source: Source | None = None
) -> pl.DataFrame:
    """Parsed file of an unreadable file: one row without number, with the reason of a whole file."""
    reason = TOO_MANY_SET_ASIDE if isinstance(error, TooManySetAsideError) else UNREADABLE_FILE
    nothing = no_rows(types, flat=delivered.format != "json" and source is None, source=source)
    return pl.concat([nothing, unreadable(f"{delivered.name}: {error}", reason)], how="diagonal")


def read_chunks(opened: Delivered, types: EventTypes, limits: Limits = DEFAULT_LIMITS) -> Iterator[Chunk]:
    """Read a delivered file in chunks, before validation.

    Raises
    ------
    UnreadableFileError
        When the file cannot be read as a whole.
    """
    content = opened.content
    if opened.kind == "json":
        yield from json_chunks(content, types, limits)
    elif opened.kind == "csv":
        yield from csv_chunks(content, types, limits)
    elif content.peek(1):  # An empty file withdraws a delivery (rule 22).
        yield from parquet_chunks(content, types)


def read_texts(
    delivered: DeliveredFile,
    rows: pl.Series,
    types: EventTypes,
    limits: Limits = DEFAULT_LIMITS,
    source: Source | None = None,
) -> pl.DataFrame:
    """Texts of some rows of a delivered file as delivered, card numbers masked.

    Returns
    -------
    polars.DataFrame
        row and text; rows that are missing or no longer readable are left out.
    """
    found = [pl.DataFrame(schema={"row": pl.Int64, "text": pl.String})]
    wanted = rows.sort()
    try:
        with concerning_one_file():
            found += _found_texts(delivered, wanted, types, limits, source)
    except UnreadableFileError:
        pass
    texts = pl.concat(found)
    return texts.with_columns(mask_card_number_column(texts["text"]))


def _found_texts(
    delivered: DeliveredFile, wanted: pl.Series, types: EventTypes, limits: Limits, source: Source | None
) -> Iterator[pl.DataFrame]:
    if source is not None:
        with open_content(delivered, limits) as content:
            for rows, texts in texts_of(content, source, limits):
                yield _texts_at(rows, texts, wanted)
        return
    with open_delivered(delivered, limits) as opened:
        if opened.kind == "json":
            yield json_texts(opened.content, wanted, limits)
        else:
            for chunk in read_chunks(opened, types, limits):
                yield _texts_at(chunk.fields["row"], chunk.texts, wanted)


def _texts_at(own: pl.Series, texts: Callable[[pl.Series], pl.Series], wanted: pl.Series) -> pl.DataFrame:
    """Texts (row, text) of the rows of a chunk that are among the wanted ones, which are sorted."""
    if own.is_empty():
        return pl.DataFrame(schema={"row": pl.Int64, "text": pl.String})
    near = wanted.filter(wanted.is_between(own[0], own[-1]))
    places = own.is_in(near.implode()).arg_true()
    return pl.DataFrame([own.gather(places), texts(places).alias("text")])


def write_parsed(
    path: Path, rows: Iterable[pl.DataFrame], version: FileVersion, types: EventTypes, source: str = ""
) -> None:
    """Write a parsed file with its version in the metadata; holds one frame at a time.

    Parameters
    ----------
    rows
        At least one frame, all of one schema.
    source
        Digest of the source that read the file; empty: none did.
    """

    metadata = {
        "file": version.name,
        "sha256": version.sha256,
        "delivery_day": version.day.isoformat(),
        EVENT_TYPES: event_types_text(types),
        **source_metadata(source),
    }
    write_file(path, lambda scratch: write_row_groups(scratch, rows, metadata))


def source_metadata(source: str) -> dict[str, str]:
    """Metadata of a parsed file that a source with this digest read; nothing where none did."""
    return {SOURCE: source} if source else {}


def source_digest(path: Path) -> str:
    """Digest of the source that read a parsed file; empty: none did."""
    return pl.read_parquet_metadata(path).get(SOURCE, "")


def parsed_with(path: Path, types: EventTypes) -> EventTypes | None:
    """The event types that a parsed file was parsed with; None when unknown.

    Files of earlier versions have no metadata: match the digest in the name, for event types that differ from `types`
    only by fewer values of some types.
    """
    text = pl.read_parquet_metadata(path).get(EVENT_TYPES)
    if text is not None:
        return event_types_of(text)
    several = [event for event, members in types.items() if len(members) > 1][:_MOST_TRIED]
    for chosen in product(*([types[event], *((member,) for member in types[event])] for event in several)):
        tried = {**types, **dict(zip(several, chosen, strict=True))}
        if f".{types_digest(tried)}." in path.name:
            return tried
    return None


def parse_again(
    rows: pl.DataFrame, types: EventTypes, *, flat: bool, before: EventTypes | None, by_source: bool = False
) -> pl.DataFrame:
    """Rows of a parsed file under other event types, after the delivered file has vanished.

    Parameters
    ----------
    before
        The event types that they were parsed with, if known.
    by_source
        Whether a source read them: rows that it rejected stay rejected, as their text is no CloudEvent.

    Validate rejected rows and rows of an unknown event type again, from their stored text (JSON) or values (flat
    files, sources). Rows that were valid keep the values measured then: values of a metric added later were not stored.
    """
    rows = with_details(rows)
    if rows["reason"].is_in(OF_A_WHOLE_FILE).any():
        return rows
    if flat or by_source:
        if flat:
            rows = value_as_read_before(rows, types, before or {})
        else:
            lacking = [name for name in value_columns(types, flat=False) if name not in rows.columns]
            rows = rows.with_columns(pl.lit(None, pl.String).alias(name) for name in lacking)
        doubtful = rows["text"].is_not_null() & rows["reason"].is_null()
        fields = rows.filter(doubtful).with_columns(
            unparseable=pl.lit(False), incomplete=pl.lit(False), time_fault=pl.lit(None, pl.String)
        )
        read = set_aside(Chunk(fields.drop("reason", "text", "detail"), fields["text"].gather), types, flat=flat)
    else:
        # The rest of a truncated line is lost: leave it rejected.
        doubtful = rows["text"].is_not_null() & rows["reason"].ne_missing(pl.Series([UNFINISHED_LINE]))
        kept = rows.filter(doubtful)
        broken = kept["reason"].eq_missing(pl.Series([UNPARSEABLE]))
        lines = kept.select("row", "text", broken=broken)
        fields = _with_kept_fields(fields_of_lines(lines, measured_paths(types)), kept, broken)
        read = set_aside(Chunk(fields, kept["text"].gather), types, flat=flat)
    return pl.concat([rows.filter(~doubtful), read], how="diagonal").sort("row")


def _with_kept_fields(fields: pl.DataFrame, kept: pl.DataFrame, broken: pl.Series) -> pl.DataFrame:
    """Fields parsed from stored texts, where card numbers are masked: prefer the stored field over its text."""
    stored = [pl.coalesce(kept[name], name).alias(name) for name in ("source", "id", "type", "subject", "time")]
    return fields.with_columns(
        *stored, unparseable=broken, incomplete=pl.col("incomplete") & ~(pl.col("unparseable") & ~broken)
    )


def no_rows(types: EventTypes, *, flat: bool, source: Source | None = None) -> pl.DataFrame:
    """The schema of a parsed file, without rows."""
    kind = [ALIAS_KIND] if source is not None and source.subject.alias else []
    return pl.DataFrame(schema=PARSED | dict.fromkeys([*kind, *value_columns(types, flat=flat)], pl.String))
