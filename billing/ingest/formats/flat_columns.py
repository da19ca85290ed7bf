"""Value columns of flat files: which columns hold the values that metrics measure."""

from collections.abc import Sequence

import polars as pl

from billing.ingest.formats.compression import UnreadableFileError
from billing.ingest.formats.file_kind import COLUMNS
from billing.ingest.metric_members import FLAT_VALUE, EventTypes, measured_paths, member_column, required_members


def value_places(names: Sequence[str], types: EventTypes, where: str) -> dict[str, int]:
    """Map the value columns of the parsed file to column positions in a flat file, -1 for none.

    Always contains FLAT_VALUE, and the column of each member that has one named by its path (`data.bytes`).

    Raises
    ------
    UnreadableFileError
        When a required column is missing or repeated, or there is no column for the values.
    """
    paths = {".".join(path): path for path in measured_paths(types)}
    read = {*COLUMNS, FLAT_VALUE, *paths}
    found = [name for name in names if name in read]
    has_values = FLAT_VALUE in found or any(name in paths for name in found)
    if len(found) != len(set(found)) or not set(COLUMNS) <= set(found) or not has_values:
        shown = ", ".join(names) or "nothing"
        others = f" (in place of {FLAT_VALUE}: {', '.join(paths)})" if paths else ""
        expected = f"expected each of {', '.join((*COLUMNS, FLAT_VALUE))} once{others}"
        raise UnreadableFileError(f"{where}: found {shown}, {expected}")
    places = {FLAT_VALUE: names.index(FLAT_VALUE) if FLAT_VALUE in found else -1}
    return places | {member_column(path): names.index(name) for name, path in paths.items() if name in found}


def value_as_read_before(rows: pl.DataFrame, types: EventTypes, before: EventTypes) -> pl.DataFrame:
    """Parsed rows of a flat file after a type got more values: moves its one value to a column of its own.

    Newly measured values were not stored: they are null, so no value is read as another metric's.

    Parameters
    ----------
    types, before
        The current event types, and those that the rows were parsed with.
    """
    now = {event: required_members(members) for event, members in types.items()}
    alone_before = {event: required_members(members) for event, members in before.items()}
    meant = {
        event: members[0].column
        for event, members in alone_before.items()
        if len(members) == 1 and len(now.get(event, ())) > 1 and members[0].column not in rows.columns
    }
    if not meant:
        return rows
    alone = {event: members[0].column for event, members in now.items() if len(members) == 1}
    columns = {member.column for event in meant for member in now[event]} - set(rows.columns)
    value = pl.col(FLAT_VALUE)
    return rows.with_columns(
        pl.when(pl.col("type").is_in([event for event, own in (alone | meant).items() if own == column]))
        .then(value)
        .otherwise(pl.lit(None, pl.String))
        .alias(column)
        for column in sorted(columns)
    ).with_columns(pl.when(~pl.col("type").is_in(list(meant)).fill_null(value=False)).then(value).alias(FLAT_VALUE))
