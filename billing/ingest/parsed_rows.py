"""The rows of a parsed file: its columns, and which rows are set aside by their own content."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import polars as pl
import pyarrow as pa

from billing.ingest.metric_members import FLAT_VALUE, EventTypes
from billing.ingest.required_columns import (
    BELOW_ZERO,
    CONTROL,
    IDENTIFIERS,
    IMPOSSIBLE_VALUE,
    MISSING_FIELD,
    PLAIN_DECIMAL,
    TOO_LARGE,
    UNFINISHED_LINE,
    UNPARSEABLE,
    UNREADABLE_FILE,
    Demand,
    demands_of,
    fault_words,
    of_type,
)
from billing.model.card_numbers import mask_card_number_column, mask_card_numbers
from billing.model.columns import INSTANT

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
    "time_found": pl.String,
    "specversion": pl.String,
    "detail": pl.String,
}
"""What a reader yields, besides its value columns: `incomplete` says that a member outside this list is missing.

The last three may be left away: texts for the words that tell what is wrong. `detail` tells it of unparseable rows.
"""


Letters = Literal["any", "printable", "visible"]
"""Any; no control characters and ASCII; neither those nor blanks."""


@dataclass(frozen=True)
class Piece:
    """A piece of a delivered file as a reader yields it.

    Attributes
    ----------
    fields
        FIELDS and the value columns, all text as delivered.
    texts
        The rows at some places of `fields`, as they were delivered: few are ever asked for.
    unfinished
        The row that the file's last line belongs to, where that may be cut off.
    letters
        What identifiers are made of, as far as the reader knows: seen of a block of bytes it takes next to no time.
    """

    fields: pl.DataFrame
    texts: Callable[[pl.Series], pl.Series]
    unfinished: int | None = None
    letters: Letters = "any"


PARSED: Final[dict[str, pl.DataType | type[pl.DataType]]] = {
    "row": pl.Int64,
    "reason": pl.String,
    "source": pl.String,
    "id": pl.String,
    "type": pl.String,
    "subject": pl.String,
    "time": INSTANT,
    "text": pl.String,
    "detail": pl.String,
}
"""The columns of a parsed file, besides its value columns; files of earlier versions have no `detail`.

`reason` is the first reason of rule 27 that a row's own content gives, or null. `text` is the row as delivered, card
numbers masked, where there is a reason or the event type is unknown; a good row's text is not kept (rule 11).
"""

_MOST_DIGITS: Final = 18
_LONGEST_MESSAGE: Final = 1_000
_CONTROLS: Final = re.compile("[\x00-\x1f\x7f-\x9f]")
_SEEN: Final = (ord("!"), ord("~"))


def value_columns(types: EventTypes, *, flat: bool) -> list[str]:
    """The value columns of a parsed file: one for each measured member; of flat files one in any case."""
    if flat:
        return [FLAT_VALUE]
    return sorted({member.column for members in types.values() for member in members})


def set_aside(piece: Piece, types: EventTypes, *, flat: bool) -> pl.DataFrame:
    """Rows of a parsed file, from what a reader found in a delivered one.

    Rule 27: what is wrong is set aside with the first reason that applies, its original text, and what was found and
    expected in which field.

    Returns
    -------
    polars.DataFrame
        PARSED and the value columns, in the order given.
    """
    fields, spoilt = _trimmed(piece)
    values = [column for column in fields.columns if column not in FIELDS]
    demands = demands_of(types, flat=flat, columns=values)
    rows = fields.with_columns(reason=_reason(piece, fields, demands, spoilt))
    is_of_no_use = pl.col("reason").is_not_null() | ~pl.col("type").is_in(list(types)).fill_null(value=False)
    places = rows.select(is_of_no_use.arg_true()).to_series()
    texts = pl.Series("text", [None], dtype=pl.String).new_from_index(0, len(rows))
    details = texts.alias("detail")
    if len(places):
        texts = texts.scatter(places, mask_card_number_column(piece.texts(places)))
        found = rows[places].select(fault_words(rows.columns, demands, spoilt)).to_series()
        details = details.scatter(places, mask_card_number_column(found))
    return rows.with_columns(texts, details).select(*PARSED, *values)


def _trimmed(piece: Piece) -> tuple[pl.DataFrame, list[str]]:
    """Identifiers without blanks around them, which are no part of them; and those that hold control characters."""
    fields = piece.fields
    if piece.letters == "visible":
        return fields, []
    if piece.letters == "printable":
        blanks = fields.select(((pl.col(name) < "!") | pl.col(name).str.ends_with(" ")).any() for name in IDENTIFIERS)
        padded = [name for name in IDENTIFIERS if blanks[name].item()]
        return fields.with_columns(pl.col(name).str.strip_chars() for name in padded) if padded else fields, []
    others = [name for name in IDENTIFIERS if not _is_visible(fields[name])]
    fields = fields.with_columns(pl.col(name).str.strip_chars() for name in others)
    spoilt = fields.select(pl.col(name).str.contains(CONTROL).any() for name in others)
    return fields, [name for name in others if spoilt[name].item()]


def _is_visible(texts: pl.Series) -> bool:
    """Whether all letters of all texts are ASCII and visible.

    They are looked at as bytes: half a million ids take 3 ms, by a regular expression 21.
    """
    return are_visible(texts.to_arrow().buffers()[2])


def are_visible(letters: pa.Buffer | None) -> bool:
    """Whether all bytes are visible letters in ASCII."""
    if letters is None or letters.size == 0:
        return True
    values = pl.Series(pl.from_arrow(pa.Array.from_buffers(pa.uint8(), letters.size, [None, letters])))
    lowest, highest = _SEEN
    return bool(values.min() >= lowest and values.max() <= highest)  # type: ignore[operator]  # bytes are numbers


def _reason(piece: Piece, fields: pl.DataFrame, demands: Sequence[Demand], spoilt: Sequence[str]) -> pl.Expr:
    absent = pl.col("incomplete") | (pl.col("time").is_null() & pl.col("time_fault").is_null())
    for name in IDENTIFIERS:
        absent |= pl.col(name).is_null() | (pl.col(name) == "")
    impossible = pl.lit(False)
    for name in spoilt:
        impossible |= pl.col(name).str.contains(CONTROL)
    by_column: dict[str, list[Demand]] = {}
    for demand in demands:
        if demand.column is None:
            absent |= pl.col("type") == demand.event
        elif demand.column in fields.columns:
            by_column.setdefault(demand.column, []).append(demand)
    integers = _short_integers(fields.select(list(by_column)))
    for column, asked in by_column.items():
        text = pl.col(column)
        absent |= of_type([demand.event for demand in asked]) & (text.is_null() | (text == ""))
        numbers = [demand.event for demand in asked if demand.content != "text"]
        unsigned = [demand.event for demand in asked if demand.content == "unsigned"]
        if column not in integers:
            impossible |= of_type(numbers) & (~text.str.contains(PLAIN_DECIMAL) | text.str.contains(TOO_LARGE))
            impossible |= of_type(unsigned) & text.str.contains(BELOW_ZERO)
        elif (is_below_zero := integers[column] < 0).any():
            impossible |= of_type(unsigned) & pl.lit(is_below_zero)
    reason = (
        pl.when("unparseable")
        .then(pl.lit(UNPARSEABLE))
        .when(absent.fill_null(value=True))
        .then(pl.lit(MISSING_FIELD))
        .when(impossible.fill_null(value=False))
        .then(pl.lit(IMPOSSIBLE_VALUE))
        .otherwise("time_fault")
    )
    if piece.unfinished is None:
        return reason
    return pl.when(pl.col("row") == piece.unfinished).then(pl.lit(UNFINISHED_LINE)).otherwise(reason)


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


def with_details(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows of a parsed file with `detail`, null where an earlier version has written them."""
    return rows if "detail" in rows.columns else rows.with_columns(detail=pl.lit(None, pl.String))


def harmless(message: str) -> str:
    """A message that may quote a file: cut, without control characters, card numbers masked (rule 11)."""
    return mask_card_numbers(_CONTROLS.sub("\N{REPLACEMENT CHARACTER}", message[:_LONGEST_MESSAGE]))


def unreadable(message: str) -> pl.DataFrame:
    """The one row that stands for a file that cannot be read (rule 27)."""
    message = harmless(message)
    found = "" if "found " in message else "found what cannot be read: "
    expected = "" if ", expected " in message else ", expected a file that is whole"
    told = {"reason": [UNREADABLE_FILE], "text": [message], "detail": [f"file: {found}{message}{expected}"]}
    return pl.DataFrame(told).select(
        pl.col(name).cast(dtype) if name in told else pl.lit(None, dtype).alias(name) for name, dtype in PARSED.items()
    )
