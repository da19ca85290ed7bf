"""Sample file writer: CloudEvents lines, CSV or Parquet, plain or compressed."""

import gzip
import io
from typing import Final

import polars as pl
import zstandard

from billing.sample.events import DATA_MEMBERS, EVENT_TYPES

ROWS_PER_FILE: Final = 250_000

CARD_NUMBER: Final = "4111 1111 1111 1111"
"""The card networks' public test number: valid, and assigned to nobody."""


def file_content(rows: pl.DataFrame, file_format: str) -> bytes:
    """Return the bytes of one delivered file; independent of time and place of writing."""
    kind, _, compression = file_format.partition(".")
    rows = rows.with_columns(pl.col("id").cast(pl.String))
    if kind == "parquet":
        return _parquet(rows)
    content = _csv(rows, "+02:00" if compression else "Z") if kind == "csv" else lines(json_lines(rows))
    if compression == "gz":
        return gzipped(content)
    if compression == "zst":
        return zstandard.ZstdCompressor(level=3).compress(content)
    return content


def gzipped(content: bytes) -> bytes:
    """The content compressed, without a name and a time."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=4, fileobj=buffer, mtime=0) as file:
        file.write(content)
    return buffer.getvalue()


def lines(lines: pl.Series) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _type_name() -> pl.Expr:
    return (
        pl.when(pl.col("dirt") == "unknown_type")
        .then(pl.lit("page.viewed"))
        .otherwise(pl.lit(pl.Series(EVENT_TYPES)).gather("event_type"))
    )


def json_lines(rows: pl.DataFrame) -> pl.Series:
    """Return CloudEvents, one per line."""
    kind = pl.col("dirt")
    time = pl.col("at").dt.to_string("%Y-%m-%dT%H:%M:%S%.3f")
    value = pl.col("value").cast(pl.String)
    member = pl.lit(pl.Series(DATA_MEMBERS)).gather("event_type")
    head = pl.concat_str(
        pl.lit('{"specversion":"1.0","id":"'),
        "id",
        pl.lit('","source":"'),
        "source",
        pl.lit('","type":"'),
        _type_name(),
        pl.concat_str(pl.lit('","subject":"'), "subject").fill_null(""),
        pl.lit('","time":"'),
        time,
        pl.when(kind == "time_without_zone").then(pl.lit('"')).otherwise(pl.lit('Z"')),
    )
    quote = pl.when(kind == "number_as_string").then(pl.lit('"')).otherwise(pl.lit(""))
    note = pl.when(kind == "card_number").then(pl.lit(f',"note":"{CARD_NUMBER}"')).otherwise(pl.lit(""))
    data = pl.concat_str(pl.lit('"data":{"'), member, pl.lit('":'), quote, value, quote, note, pl.lit("}"))
    line = pl.concat_str(head, pl.lit(","), data, pl.lit("}"))
    return rows.select(
        pl.when(kind == "malformed")
        .then(line.str.head(90))
        .when(kind == "members_reordered")
        .then(pl.concat_str(pl.lit("{"), data, pl.lit(", "), head.str.tail(-1), pl.lit("}")))
        .otherwise(line)
        .alias("line")
    ).to_series()


def _csv(rows: pl.DataFrame, offset: str) -> bytes:
    """Return flat rows with a header; times have the given offset."""
    ahead = pl.duration(hours=2 if offset == "+02:00" else 0)
    zone = pl.when(pl.col("dirt") == "time_without_zone").then(pl.lit("")).otherwise(pl.lit(offset))
    time = (pl.col("at") + ahead).dt.to_string("%Y-%m-%dT%H:%M:%S%.3f")
    flat = rows.select("id", "source", _type_name().alias("type"), "subject", (time + zone).alias("time"), "value")
    return flat.write_csv().encode()


def _parquet(rows: pl.DataFrame) -> bytes:
    """Return flat rows with times in UTC."""
    flat = rows.select(
        *("id", "source"),
        _type_name().alias("type"),
        "subject",
        pl.col("at").dt.replace_time_zone("UTC").alias("time"),
        "value",
    )
    buffer = io.BytesIO()
    flat.rechunk().write_parquet(buffer, compression="zstd", compression_level=1, row_group_size=ROWS_PER_FILE)
    return buffer.getvalue()
