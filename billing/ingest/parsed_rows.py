"""The rows of a parsed file: its columns, and which rows are set aside by their own content."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from billing.cards import mask_card_number_column
from billing.ingest.measured import FLAT_VALUE, Content, EventTypes, flat_content, member_column
from billing.tables import INSTANT

UNPARSEABLE: Final = "unparseable"
MISSING_FIELD: Final = "missing_field"
IMPOSSIBLE_VALUE: Final = "impossible_value"
UNREADABLE_FILE: Final = "unreadable_file"

FIELDS: Final[dict[str, pl.DataType | type[pl.DataType]]] = {
    "row": pl.Int64,
    "unparseable": pl.Boolean,
    "incomplete": pl.Boolean,
    "source": pl.String,
    "id": pl.String,
    "type": pl.String,
    "subject": pl.String,
    "time": INSTANT,
    "time_fault": pl.String,
}
"""What a reader yields, besides its value columns: `incomplete` says that a member outside this list is missing."""


@dataclass(frozen=True)
class Piece:
    """A piece of a delivered file as a reader yields it.

    Attributes
    ----------
    fields
        FIELDS and the value columns, all text as delivered.
    texts
        The rows at some places of `fields`, as they were delivered: few are ever asked for.
    """

    fields: pl.DataFrame
    texts: Callable[[pl.Series], pl.Series]


PARSED: Final[dict[str, pl.DataType | type[pl.DataType]]] = {
    "row": pl.Int64,
    "reason": pl.String,
    "source": pl.String,
    "id": pl.String,
    "type": pl.String,
    "subject": pl.String,
    "time": INSTANT,
    "text": pl.String,
}
"""The columns of a parsed file, besides its value columns.

`reason` is the first reason of rule 27 that a row's own content gives, or null. `text` is the row as delivered, card
numbers masked, where there is a reason or the event type is unknown; a good row's text is not kept (rule 11).
"""

# At most 18 digits before the point and 9 after it, zeros at either end aside.
_PLAIN_DECIMAL: Final = r"^-?0*[0-9]{1,18}(?:\.[0-9]{1,9}0*)?$"
_BELOW_ZERO: Final = r"^-.*[1-9]"
_MOST_DIGITS: Final = 18


def value_columns(types: EventTypes, flat: bool) -> list[str]:
    """The value columns of a parsed file: one for each measured member, or the one of flat files."""
    if flat:
        return [FLAT_VALUE]
    return sorted({member.column for members in types.values() for member in members})


def set_aside(piece: Piece, types: EventTypes, flat: bool) -> pl.DataFrame:
    """Rows of a parsed file, from what a reader found in a delivered one.

    Rule 27: what is wrong is set aside with the first reason that applies, and its original text.

    Returns
    -------
    polars.DataFrame
        PARSED and the value columns, in the order given.
    """
    values = [column for column in piece.fields.columns if column not in FIELDS]
    rows = piece.fields.with_columns(reason=_reason(piece.fields, types, values, flat))
    is_of_no_use = pl.col("reason").is_not_null() | ~pl.col("type").is_in(list(types)).fill_null(False)
    places = rows.select(is_of_no_use.arg_true()).to_series()
    texts = pl.Series("text", [None], dtype=pl.String).new_from_index(0, len(rows))
    if len(places):
        texts = texts.scatter(places, mask_card_number_column(piece.texts(places)))
    return rows.with_columns(texts).select(*PARSED, *values)


def _reason(fields: pl.DataFrame, types: EventTypes, values: Sequence[str], flat: bool) -> pl.Expr:
    absent = pl.col("incomplete") | (pl.col("time").is_null() & pl.col("time_fault").is_null())
    for name in ("id", "source", "type", "subject"):
        absent |= pl.col(name).is_null() | (pl.col(name) == "")
    impossible = pl.lit(False)
    demands = {column: demand for column, demand in _demands(types, flat).items() if column in values}
    integers = _short_integers(fields.select(list(demands)))
    for column, (needed, numbers, unsigned) in demands.items():
        text = pl.col(column)
        absent |= _of_type(needed) & (text.is_null() | (text == ""))
        if column in integers:
            is_below_zero = integers[column] < 0
            if is_below_zero.any():
                impossible |= _of_type(unsigned) & pl.lit(is_below_zero)
            continue
        impossible |= _of_type(numbers) & ~text.str.contains(_PLAIN_DECIMAL)
        impossible |= _of_type(unsigned) & text.str.contains(_BELOW_ZERO)
    return (
        pl.when("unparseable")
        .then(pl.lit(UNPARSEABLE))
        .when(absent.fill_null(True))
        .then(pl.lit(MISSING_FIELD))
        .when(impossible.fill_null(False))
        .then(pl.lit(IMPOSSIBLE_VALUE))
        .otherwise("time_fault")
    )


def _short_integers(texts: pl.DataFrame) -> dict[str, pl.Series]:
    """What the texts of columns denote that hold whole numbers of few digits only, as most do.

    That is seen sooner than by their pattern. Columns with anything else are left out.
    """
    integers = texts.select(pl.all().str.to_integer(strict=False))
    told = pl.concat(
        [
            texts.select(pl.all().null_count()),
            integers.select(pl.all().null_count()),
            integers.select(pl.all().min().fill_null(0) <= -(10**_MOST_DIGITS)),
            integers.select(pl.all().max().fill_null(0) >= 10**_MOST_DIGITS),
            texts.select(pl.all().str.starts_with("+").any()),
        ],
        how="vertical_relaxed",
    )
    return {
        name: integers[name]
        for name, (nulls, others, too_low, too_high, signed) in told.to_dict(as_series=False).items()
        if nulls == others and not (too_low or too_high or signed)
    }


def _demands(types: EventTypes, flat: bool) -> dict[str, tuple[list[str], list[str], list[str]]]:
    """By value column: the event types that need it, need a number in it, need a number not below zero in it."""
    demands: dict[str, tuple[list[str], list[str], list[str]]] = {}

    def add(column: str, event: str, content: Content) -> None:
        needed, numbers, unsigned = demands.setdefault(column, ([], [], []))
        needed.append(event)
        if content != "text":
            numbers.append(event)
        if content == "unsigned":
            unsigned.append(event)

    for event, members in types.items():
        if flat:
            content = flat_content(members)
            if content is not None:
                add(FLAT_VALUE, event, content)
        else:
            for member in members:
                add(member_column(member.path), event, member.content)
    return demands


def _of_type(events: Sequence[str]) -> pl.Expr:
    if len(events) == 1:
        return pl.col("type") == events[0]
    return pl.col("type").is_in(list(events))


def unreadable(message: str) -> pl.DataFrame:
    """The one row that stands for a file that cannot be read (rule 27)."""
    return pl.DataFrame({"reason": [UNREADABLE_FILE], "text": [message]}).select(
        pl.col(name).cast(dtype) if name in ("reason", "text") else pl.lit(None, dtype).alias(name)
        for name, dtype in PARSED.items()
    )
