"""What an identifier is does not depend on the form of the file, nor on its neighbours (rules 26 and 27)."""

import io
import json
from collections.abc import Iterator

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from billing.ingest.formats.compression import Content
from billing.ingest.formats.csv_events import csv_chunks
from billing.ingest.formats.json_events import json_chunks
from billing.ingest.formats.parquet_events import parquet_chunks
from billing.ingest.metric_members import EventTypes, Member
from billing.ingest.parsed_rows import Chunk, set_aside
from billing.model.file_limits import DEFAULT_LIMITS

TYPES: EventTypes = {"email.sent": (Member(("data", "count"), "unsigned"),)}
NAMES = ("id", "source", "type", "subject", "time", "value")
LETTERS = ["a", "b", "Z", "~", " ", " ", "\t", "\x7f", "\x00", "\x1b", "\u00a0", "\u0085", "\u2003", "ü", "\ufeff"]

Row = tuple[str, str]
rows_of_identifiers = some.lists(
    some.tuples(some.text(some.sampled_from(LETTERS[:6]), max_size=5), some.just("acme"))
    | some.tuples(some.text(some.sampled_from(LETTERS), max_size=5), some.text(some.sampled_from(LETTERS), max_size=5)),
    min_size=1,
    max_size=6,
)


def whole(id: str, subject: str) -> dict[str, str]:
    return dict(zip(NAMES, (id, "/s", "email.sent", subject, "2026-01-01T00:00:00Z", "1"), strict=True))


def as_json(rows: list[Row]) -> Iterator[Chunk]:
    texts = [
        json.dumps({"specversion": "1.0"} | whole(*row) | {"data": {"count": 1}}, ensure_ascii=False) for row in rows
    ]
    return json_chunks(content("".join(f"{text}\n" for text in texts).encode()), TYPES)


def as_csv(rows: list[Row]) -> Iterator[Chunk]:
    texts = [",".join(NAMES), *(",".join(whole(*row).values()) for row in rows)]
    return csv_chunks(content("".join(f"{text}\n" for text in texts).encode()), TYPES)


def as_parquet(rows: list[Row]) -> Iterator[Chunk]:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([whole(*row) for row in rows]), buffer)
    return parquet_chunks(content(buffer.getvalue()), TYPES)


def content(whole: bytes) -> Content:
    return Content(io.BytesIO(whole), len(whole), DEFAULT_LIMITS)


def found(pieces: Iterator[Chunk], flat: bool) -> list[tuple[str | None, str | None, str | None]]:
    rows = pl.concat([set_aside(chunk, TYPES, flat=flat) for chunk in pieces])
    return rows.select(pl.col("id", "subject").replace({"": None}), "reason").rows()


def expected(row: Row) -> tuple[str | None, str | None, str | None]:
    id, subject = (text.strip(" \t\u00a0\u0085\u2003") or None for text in row)
    if id is None or subject is None:
        return id, subject, "missing_field"
    is_spoilt = any(letter in "\t\x7f\x00\x1b\u0085" for letter in id + subject)
    return id, subject, "impossible_value" if is_spoilt else None


@given(rows=rows_of_identifiers)
@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("form", ["json", "csv", "parquet"])
def test_an_identifier_is_the_same_in_every_form_of_file(form: str, rows: list[Row]) -> None:
    # at the start of a CSV line it is no part of the id
    rows = [(id.replace("\ufeff", ""), subject) for id, subject in rows]
    read = {"json": as_json, "csv": as_csv, "parquet": as_parquet}[form]
    assert found(read(rows), flat=form != "json") == [expected(row) for row in rows]
