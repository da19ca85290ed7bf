"""Records of logs with one record per line that a pattern reads: access logs, load balancers, patterns of one's own."""

from collections.abc import Iterator
from typing import Final

import polars as pl

from billing.ingest.formats.compression import Content
from billing.ingest.sources.records import Records, field_column, without_nulls
from billing.ingest.sources.text_lines import line_frames
from billing.model.file_limits import Limits
from billing.model.log_formats import PATTERN_FORMATS, REQUEST, REQUEST_LINE, LinePattern, line_pattern
from billing.model.sources import Source

NO_TEXT: Final = "row: found bytes that are no UTF-8, expected text (a key `encoding` of the source names another)"
_WRAPPED: Final = r'^(?:"|\[)'


def line_records(content: Content, source: Source, limits: Limits) -> Iterator[Records]:
    """Read a log by the pattern of its format, in bounded blocks; a line that it does not match is unparseable."""
    pattern = line_pattern(source.format, source.pattern, source.fields)
    words = f"row: found a line of another form, expected {_form(source)}"
    nulls = (*source.nulls, *(("-",) if pattern.dash_is_null else ()))
    for block in line_frames(content, source, limits):
        yield Records(_fields(block.lines, source, pattern, nulls, words), block.lines["text"].gather, block.unfinished)


def _groups(texts: pl.Series, pattern: str, read: LinePattern) -> pl.DataFrame:
    """The fields of a pattern as columns, null where a text does not match."""
    found = texts.str.extract_groups(pattern).struct.unnest()
    if not all(name.isdigit() for name in found.columns):
        return found.select(read.fields)
    found.columns = list(read.fields)
    return found


def _form(source: Source) -> str:
    if source.format in PATTERN_FORMATS:
        return f"one that matches the {source.format} pattern of the source {source.name}"
    return f"one of the format {source.format}"


def _fields(
    lines: pl.DataFrame, source: Source, pattern: LinePattern, nulls: tuple[str, ...], words: str
) -> pl.DataFrame:
    found = _groups(lines["text"], pattern.pattern, pattern)
    if pattern.sure:
        other = found[pattern.sure].is_null()
        if pattern.wide and other.any():
            places = other.arg_true()
            wider = _groups(lines["text"].gather(places), pattern.wide, pattern)
            found = found.with_columns(found[name].scatter(places, wider[name]) for name in found.columns)
            other = found[pattern.sure].is_null()
    else:
        # A line may match although every group of it is optional and found nothing.
        nothing = found.select(pl.all_horizontal(pl.all().is_null())).to_series()
        other = nothing & ~lines["text"].str.contains(pattern.pattern)
    if pattern.request:
        parts = found[pattern.request].str.extract_groups(REQUEST_LINE).struct.unnest()
        parts.columns = list(REQUEST)
        found = found.hstack(parts)
    if source.format in ("alb", "s3_access"):
        is_wrapped = pl.all().str.contains(_WRAPPED).fill_null(value=False)
        found = found.with_columns(pl.when(is_wrapped).then(pl.all().str.slice(1).str.head(-1)).otherwise(pl.all()))
    named = found.select(pl.col(field).alias(field_column(field)) for field in source.fields)
    unparseable = other | lines["broken"]
    detail = pl.when(lines["broken"]).then(pl.lit(NO_TEXT)).when(other).then(pl.lit(words))
    return (
        pl.DataFrame([lines["row"], unparseable.alias("unparseable")])
        .hstack(named.with_columns(without_nulls(source.fields, nulls)))
        .with_columns(detail=detail)
    )
