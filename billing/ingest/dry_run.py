"""Dry run of an ingest: which delivered rows would be rejected, and why (rule 27)."""

from collections.abc import Sequence
from datetime import date
from typing import Final

import polars as pl

from billing.ingest.aliases import ALIAS
from billing.ingest.days_to_ingest import moved_files
from billing.ingest.formats.compression import UnreadableFileError
from billing.ingest.landing import DeliveredFile, Landing
from billing.ingest.parsed_files import FileVersion, parse_delivered
from billing.ingest.parsed_rows import IGNORED, harmless
from billing.ingest.required_columns import OF_A_WHOLE_FILE
from billing.ingest.small_files import SMALL, parse_together
from billing.ingest.state import stamp
from billing.ingest.validation import Rules
from billing.model.card_numbers import mask_card_number_column
from billing.model.sources import Source
from billing.model.text import counted
from billing.store.home import Home

FIRST_ROWS: Final = 1_000
_MANY: Final = 16
_TOGETHER: Final = 4_000
_LONGEST_TEXT: Final = 400
_QUARTER_NANOSECONDS: Final = 900 * 10**9
_DAY_NANOSECONDS: Final = 96 * _QUARTER_NANOSECONDS


def usage_that_would_be_set_aside(home: Home, landing: Landing, rules: Rules, *, every_row: bool) -> list[str]:
    """One line per unreadable file, and per file and reason with the number of rows that would be rejected.

    Duplicates and conflicts between rows are not checked.

    Parameters
    ----------
    every_row
        Read all rows of every file; otherwise only the first rows of new or changed files.
    """
    files = landing.files if every_row else moved_files(home, landing, rules.sources)
    lines: dict[DeliveredFile, list[str]] = {}
    small = [file for file in files if _is_small(file)]
    if len(small) >= _MANY:
        for start in range(0, len(small), _TOGETHER):
            lines |= _check_small_files(small[start : start + _TOGETHER], rules, every_row=every_row)
    for file in files:
        if file not in lines:
            lines[file] = _check_file(file, rules, every_row=every_row)
    return [words for file in files for words in lines[file]]


def _is_small(file: DeliveredFile) -> bool:
    try:
        return not file.fault and stamp(file)[0] <= SMALL
    except OSError:
        return False


def _check_small_files(
    files: Sequence[DeliveredFile], rules: Rules, *, every_row: bool
) -> dict[DeliveredFile, list[str]]:
    """Lines for small files, which are parsed in one batch; files beyond the limits are left out."""
    by_version = {FileVersion(file.day, file.name, ""): file for file in files}
    lines: dict[DeliveredFile, list[str]] = {}
    for part in parse_together(list(by_version.items()), rules.types, rules.limits, rules.source_of):
        names = pl.Series("version", range(len(part.files)), dtype=pl.Int64)
        lengths = pl.Series([length for _, length in part.files], dtype=pl.Int64)
        rows = part.rows.with_columns(names.repeat_by(lengths).explode(empty_as_null=False))
        rows = rows if every_row else rows.filter(pl.col("row").fill_null(0) <= FIRST_ROWS)
        read = dict(rows.group_by("version").len().iter_rows())
        lines |= {by_version[version]: [] for version, _ in part.files}
        # Validate by day: all files of a day share the same rules.
        days = pl.Series("day", [version.day for version, _ in part.files], dtype=pl.Date).gather(rows["version"])
        for (day,), own in rows.with_columns(days).group_by("day", maintain_order=True):
            aside = _rejects(own.drop("day"), rules, day)
            for (place,), found in aside.group_by("version", maintain_order=True):
                file = by_version[part.files[place][0]]
                lines[file] = _lines_by_reason(file, read[place], found.drop("version"), every_row=every_row)
        if not rules.sources:
            continue
        tell_days_only = rows.group_by("version").agg(tell=_are_midnights()).filter("tell")["version"].sort()
        for version, _ in [part.files[place] for place in tell_days_only]:
            lines[by_version[version]] += _warnings_of_days(by_version[version], rules.source_of(version.name))
    return lines


def _check_file(file: DeliveredFile, rules: Rules, *, every_row: bool) -> list[str]:
    read, parts, source = 0, [], rules.source_of(file.name)
    tell_days_only: list[bool] = []
    try:
        for rows in parse_delivered(file, rules.types, rules.limits, source):
            part = rows if every_row else rows.head(FIRST_ROWS - read)
            read += len(part)
            if source is not None and len(part):
                tell_days_only.append(part.select(_are_midnights()).item())
            parts.append(_rejects(part.with_columns(version=pl.lit(0, pl.Int64)), rules, file.day))
            if not every_row and read >= FIRST_ROWS:
                break
    except UnreadableFileError as error:
        return [f"{_label(file)}: cannot be read: {harmless(str(error))}"]
    aside = (
        pl.concat(parts)
        .sort("row")
        .group_by("reason", maintain_order=True)
        .agg(pl.col("rejected").sum(), pl.col("row").first(), pl.col("found").first())
    )
    lines = _lines_by_reason(file, read, aside, every_row=every_row)
    return [*lines, *_warnings_of_days(file, source)] if tell_days_only and all(tell_days_only) else lines


def _warnings_of_days(file: DeliveredFile, source: Source | None) -> list[str]:
    """What is wrong with days in place of times: only times tell equal records apart whose content is their id."""
    if source is None or source.id.kind != "content" or not source.time.has_time_of_day:
        return []
    return [
        f"{_label(file)}: found no time that is finer than a day, expected one or an id of its own: the source "
        f"{source.name} takes equal records of a day in two files for one"
    ]


def _are_midnights() -> pl.Expr:
    """Whether there are several times, and all are midnights of one offset: their logs tell the day only."""
    at = pl.col("time").drop_nulls()
    rest = at.dt.epoch("ns") % _DAY_NANOSECONDS
    # One instant alone is a midnight of some offset by chance: several days are not.
    is_midnight = (rest.first() == 0) | ((rest.first() % _QUARTER_NANOSECONDS == 0) & (at.n_unique() > 1))
    is_repeated = at.n_unique() < at.len()
    return ((rest.n_unique() == 1) & is_midnight & is_repeated).fill_null(value=False)


def _lines_by_reason(file: DeliveredFile, read: int, aside: pl.DataFrame, *, every_row: bool) -> list[str]:
    """A line per reason (reason, rejected, row, found), sorted by the first row of each."""
    of_rows = f"of {'its' if every_row else 'the first'} {counted(read, 'row')}"
    return [
        f"{_label(file)}: cannot be read: {found.removeprefix(f'{file.name}: ')}"
        if reason in OF_A_WHOLE_FILE
        else f"{_label(file)}: {rejected} {of_rows} would be set aside: {reason}, first in row {row}: {found}"
        for reason, rejected, row, found in aside.sort("row").select("reason", "rejected", "row", "found").iter_rows()
    ]


def _label(file: DeliveredFile) -> str:
    return f"usage/{file.day}/{file.name}"


def _rejects(rows: pl.DataFrame, rules: Rules, day: date) -> pl.DataFrame:
    """Rejects by reason: version, reason, rejected (rows), row and found (the first row, and what is wrong in it)."""
    rows = rules.with_accounts(rows)
    reason = pl.col("reason")
    rejects = rows.with_columns(reason=rules.reason(day, len(rows))).filter(reason.is_not_null() & (reason != IGNORED))
    is_of_a_file = reason.is_in(OF_A_WHOLE_FILE)
    words = (
        pl.when(is_of_a_file)
        .then("text")
        .otherwise(pl.coalesce("detail", rules.words(day, looked_up=ALIAS in rows.columns), "text"))
    )
    found = rejects.select(words.alias("found")).to_series()
    shown = pl.when(is_of_a_file).then("found").otherwise(pl.col("found").str.slice(0, _LONGEST_TEXT))
    return (
        rejects.with_columns(mask_card_number_column(found))
        .with_columns(found=shown)
        .group_by("version", "reason", maintain_order=True)
        .agg(rejected=pl.len(), row=pl.col("row").first(), found=pl.col("found").first())
    )
