"""Required columns and values per event type, and the fault descriptions of rejected rows (rule 27)."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Final

import polars as pl

from billing.ingest.formats.instants import WITHOUT_ZONE
from billing.ingest.metric_members import FLAT_VALUE, Content, EventTypes, member_column, required_members
from billing.model.codes import RejectReason

UNPARSEABLE: Final = RejectReason.UNPARSEABLE.value
UNFINISHED_LINE: Final = RejectReason.UNFINISHED_LINE.value
MISSING_FIELD: Final = RejectReason.MISSING_FIELD.value
IMPOSSIBLE_VALUE: Final = RejectReason.IMPOSSIBLE_VALUE.value
UNREADABLE_FILE: Final = RejectReason.UNREADABLE_FILE.value
TOO_MANY_SET_ASIDE: Final = RejectReason.TOO_MANY_SET_ASIDE.value
UNKNOWN_TYPE: Final = RejectReason.UNKNOWN_TYPE.value
OF_A_WHOLE_FILE: Final = (UNREADABLE_FILE, TOO_MANY_SET_ASIDE)
"""Reasons of the one row that represents a file of which nothing counts."""

PLAIN_DECIMAL: Final = r"^-?0*[0-9]{1,18}(?:\.[0-9]+)?$"
"""At most 18 integer digits, leading zeros aside; digits after the ninth decimal are rounded when the value is read."""
BELOW_ZERO: Final = r"^-.*[1-9]"
TOO_LARGE: Final = r"^-?0*9{18}\.9{9}[5-9]"
"""A number that rounding would give 19 integer digits."""
NO_NUMBER: Final = "\x1f"
"""Prefix of a text that is no number in the dialect of its source, though it may look like a plain decimal."""
CONTROL: Final = r"\p{Cc}"
IDENTIFIERS: Final = ("id", "source", "type", "subject")

_LONGEST_FOUND: Final = 100
_FEW: Final = 4
_EXPECTED: Final[dict[Content, str]] = {
    "dimension": "a value",
    "text": "a value",
    "number": "a decimal number of at most 18 digits before the point",
    "unsigned": "a decimal number not below zero, of at most 18 digits before the point",
}
_MEANS: Final = {
    "id": "the id of the event",
    "source": "the source of the event",
    "type": "an event type",
    "subject": "an account id",
    "time": "an instant such as 2026-01-31T12:00:00Z",
}


@dataclass(frozen=True)
class Demand:
    """A required member of an event type.

    Attributes
    ----------
    path
        As the catalogue writes it: `data.bytes`.
    column
        Its column in the parsed file; None when a flat file has no column for it.
    """

    event: str
    path: str
    content: Content
    column: str | None

    @property
    def field(self) -> str:
        """The name by which users find it in the file."""
        return FLAT_VALUE if self.column == FLAT_VALUE else self.path


def demands_of(types: EventTypes, *, flat: bool, columns: Collection[str]) -> list[Demand]:
    """Required members of every event type, and their columns.

    A flat file's one column `value` holds the path of a type that measures no other. For a type with several values it
    would be ambiguous: these need columns of their own, named by their paths.
    """
    found = []
    for event, members in types.items():
        required = required_members(members)
        for member in required:
            own = member_column(member.path)
            column: str | None = own
            if flat and own not in columns:
                column = FLAT_VALUE if len(required) == 1 else None
            found.append(Demand(event, ".".join(member.path), member.content, column))
    return found


def of_type(events: Sequence[str]) -> pl.Expr:
    """Whether a row has one of these types."""
    if 0 < len(events) <= _FEW:
        # A fifth of the time of looking them up.
        return reduce(or_, (pl.col("type") == event for event in events))
    return pl.col("type").is_in(list(events))


def shown(text: pl.Expr) -> pl.Expr:
    """A found value for display: quoted, truncated, without control characters."""
    return pl.format("'{}'", text.str.slice(0, _LONGEST_FOUND).str.replace_all(CONTROL, "\N{REPLACEMENT CHARACTER}"))


def fault_words(
    columns: Collection[str],
    demands: Sequence[Demand],
    spoilt: Sequence[str],
    expected_time: str = "",
    number_form: str = "",
) -> pl.Expr:
    """Fault description of a row: field, found value and expected value; null without a reason.

    Parameters
    ----------
    columns
        Columns of the rows: `parsed_rows.FIELDS` as far as the reader yields them, the value columns and reason.
    spoilt
        Identifiers that may hold control characters.
    expected_time
        What a time should look like, in words; empty: as in CloudEvents.
    number_form
        How numbers are written, in words that follow what is expected; empty: as plain decimals.
    """
    reason = pl.col("reason")
    detail = pl.col("detail") if "detail" in columns else pl.lit(None, pl.String)
    no_record = pl.coalesce(detail, pl.lit("row: found no record, expected one"))
    cut = pl.lit("row: found a last line without a line end, expected one: the file may be cut off")
    found = pl.col("time_found") if "time_found" in columns else pl.lit("another", pl.String)
    zone = pl.format("time: found {}, expected an offset after it, such as Z or +01:00", shown(found))
    means = expected_time or f"{_MEANS['time']} of the years 1970 to 2199"
    instant = pl.format("time: found {}, expected {}", shown(found), pl.lit(means))
    return (
        pl.when(reason == UNFINISHED_LINE)
        .then(cut)
        .when(reason == UNPARSEABLE)
        .then(no_record)
        .when(reason == MISSING_FIELD)
        .then(_missing(columns, demands, expected_time or _MEANS["time"], number_form))
        .when(reason == IMPOSSIBLE_VALUE)
        .then(_impossible(demands, spoilt, number_form))
        .when(reason == WITHOUT_ZONE)
        .then(zone)
        .when(reason == UNKNOWN_TYPE)
        .then(detail)
        .when(reason.is_not_null())
        .then(instant)
    )


def _missing(columns: Collection[str], demands: Sequence[Demand], expected_time: str, number_form: str) -> pl.Expr:
    version = pl.col("specversion") if "specversion" in columns else pl.lit(None, pl.String)
    faults = [
        pl.when(pl.col("incomplete")).then(
            pl.format("specversion: found {}, expected '1.0'", pl.coalesce(shown(version), pl.lit("nothing")))
        )
    ]
    faults += [
        pl.when(pl.col(name).fill_null("") == "").then(pl.lit(f"{name}: found nothing, expected {_MEANS[name]}"))
        for name in IDENTIFIERS
    ]
    faults.append(pl.when(pl.col("time").is_null()).then(pl.lit(f"time: found nothing, expected {expected_time}")))
    unplaced: dict[str, list[str]] = {}
    for demand in demands:
        if demand.column is None:
            unplaced.setdefault(demand.event, []).append(demand.path)
    for event, paths in unplaced.items():
        words = (
            f"{', '.join(paths)}: found no such column, expected one: several values are measured of {event}, so the "
            f"column {FLAT_VALUE} could be any of them"
        )
        faults.append(pl.when(pl.col("type") == event).then(pl.lit(words)))
    for demand in demands:
        if demand.column is not None:
            expected = _EXPECTED[demand.content] + (number_form if demand.content != "text" else "")
            words = f"{demand.field}: found nothing, expected {expected}"
            absent = pl.col(demand.column).fill_null("") == ""
            faults.append(pl.when((pl.col("type") == demand.event) & absent).then(pl.lit(words)))
    return pl.coalesce(*faults)


def _impossible(demands: Sequence[Demand], spoilt: Sequence[str], number_form: str) -> pl.Expr:
    faults = [
        pl.when(pl.col(name).str.contains(CONTROL)).then(
            pl.format("{}: found {}, expected no control characters", pl.lit(name), shown(pl.col(name)))
        )
        for name in spoilt
    ]
    for demand in demands:
        if demand.column is None or demand.content == "text":
            continue
        text = pl.col(demand.column)
        wrong = ~text.str.contains(PLAIN_DECIMAL) | text.str.contains(TOO_LARGE)
        if demand.content == "unsigned":
            wrong |= text.str.contains(BELOW_ZERO)
        found, expected = shown(text.str.strip_prefix(NO_NUMBER)), f"{_EXPECTED[demand.content]}{number_form}"
        words = pl.format("{}: found {}, expected {}", pl.lit(demand.field), found, pl.lit(expected))
        faults.append(pl.when((pl.col("type") == demand.event) & wrong).then(words))
    return pl.coalesce(*faults, pl.lit(None, pl.String))
