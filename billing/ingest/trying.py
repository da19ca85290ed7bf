"""Reading delivered usage without ingesting it: which rows would be set aside, and why (rule 27)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import polars as pl

from billing.cards import mask_card_number_column
from billing.home import Home
from billing.ingest.compression import UnreadableFileError
from billing.ingest.judging import Rules
from billing.ingest.landing import DeliveredFile, Landing
from billing.ingest.parsed_files import parse_delivered
from billing.ingest.pending import moved_files
from billing.words import counted

FIRST_ROWS: Final = 1_000
_LONGEST_TEXT: Final = 200


@dataclass(frozen=True)
class _Tried:
    """rows read, and reason, told (rows), row (the first) and found (what is wrong in it) of those to be set aside."""

    rows: int
    aside: pl.DataFrame


def usage_that_would_be_set_aside(home: Home, landing: Landing, rules: Rules, every_row: bool) -> list[str]:
    """Of delivered files, in words: that one cannot be read, or how many rows would be set aside for which reason.

    Rows that repeat or contradict events of other rows are not looked for.

    Parameters
    ----------
    every_row
        Of every file all rows are read; else the first rows of those that are new or have changed.
    """
    files = landing.files if every_row else moved_files(home, landing)
    return [words for file in files for words in _in_words(file, rules, every_row)]


def _in_words(file: DeliveredFile, rules: Rules, every_row: bool) -> Iterator[str]:
    label = f"usage/{file.day}/{file.name}"
    try:
        tried = _tried(file, rules, every_row)
    except UnreadableFileError as error:
        yield f"{label}: cannot be read: {error}"
        return
    of_rows = f"of {'its' if every_row else 'the first'} {counted(tried.rows, 'row')}"
    for reason, told, row, found in tried.aside.sort("row").iter_rows():
        yield f"{label}: {told} {of_rows} would be set aside: {reason}, first in row {row}: {found}"


def _tried(file: DeliveredFile, rules: Rules, every_row: bool) -> _Tried:
    """Read a file, or its first rows.

    Raises
    ------
    UnreadableFileError
        When it cannot be read as a whole.
    """
    read, parts = 0, []
    for rows in parse_delivered(file, rules.types, rules.limits):
        part = rows if every_row else rows.head(FIRST_ROWS - read)
        read += len(part)
        parts.append(_set_aside(part, rules, file))
        if not every_row and read >= FIRST_ROWS:
            break
    aside = (
        pl.concat(parts)
        .sort("row")
        .group_by("reason", maintain_order=True)
        .agg(pl.col("told").sum(), pl.col("row").first(), pl.col("found").first())
    )
    return _Tried(read, aside)


def _set_aside(rows: pl.DataFrame, rules: Rules, file: DeliveredFile) -> pl.DataFrame:
    """reason, told, row, found of the rows that cannot count."""
    judged = rows.with_columns(reason=rules.reason(file.day, len(rows))).filter(pl.col("reason").is_not_null())
    found = judged.select(pl.coalesce("detail", rules.words(file.day), "text").alias("found")).to_series()
    return (
        judged.with_columns(mask_card_number_column(found).str.slice(0, _LONGEST_TEXT))
        .group_by("reason", maintain_order=True)
        .agg(told=pl.len(), row=pl.col("row").first(), found=pl.col("found").first())
    )
