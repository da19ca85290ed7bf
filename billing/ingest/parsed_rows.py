"""Schema of a parsed file, and the rows that are rejected by their own content."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
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
    UNKNOWN_TYPE,
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
    "ignored": pl.Boolean,
    "unmapped": pl.Boolean,
}
"""Columns that a reader yields besides its value columns; `incomplete`: a member outside this list is missing.

From `time_found` on they are optional. `detail` describes unparseable rows, and those whose type is `unmapped`: a value
that the file's source does not map to one. `ignored` rows are those that the source does not keep.
"""


Letters = Literal["any", "printable", "visible"]
""""any"; "printable": ASCII without control characters; "visible": "printable" without blanks."""


@dataclass(frozen=True)
class Chunk:
    """A chunk of a delivered file as a reader yields it.

    Attributes
    ----------
    fields
        FIELDS and the value columns, all text as delivered.
    texts
        Returns the original texts of the rows at some positions of `fields`; called for few rows.
    unfinished
        Number of the last row, when it may be truncated.
    letters
        Character class of the identifiers, as far as the reader knows: checking a block of bytes costs almost nothing.
    labels
        What to call a part of the event in messages, where the file's source takes it from another field.
    expected_time
        What a time should look like, in words; empty: as in CloudEvents.
    number_form
        As of `fault_words`.
    """

    fields: pl.DataFrame
    texts: Callable[[pl.Series], pl.Series]
    unfinished: int | None = None
    letters: Letters = "any"
    labels: Mapping[str, str] = field(default_factory=dict)
    expected_time: str = ""
    number_form: str = ""


IGNORED: Final = "ignored"
"""In place of a reason: a record that its source does not keep (rule 39)."""

ALIAS_KIND: Final = "alias_kind"
"""Column of parsed files whose source looks accounts up: `subject` is a name of this kind, not an account id."""

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
"""Schema of a parsed file, besides its value columns; files of earlier versions have no `detail`.

`reason` is the first reason of rule 27 that follows from the row's own content, or null. `text` is the row as
delivered, card numbers masked, for rows with a reason or an unknown event type; texts of valid rows are not stored
(rule 11).
"""

_MOST_DIGITS: Final = 18
_LONGEST_MESSAGE: Final = 1_000
_CONTROLS: Final = re.compile("[\x00-\x1f\x7f-\x9f]")
_SEEN: Final = (ord("!"), ord("~"))


def value_columns(types: EventTypes, *, flat: bool) -> list[str]:
    """Value columns of a parsed file: one per measured member; flat files always have one."""
    if flat:
        return [FLAT_VALUE]
    return sorted({member.column for members in types.values() for member in members})


def set_aside(chunk: Chunk, types: EventTypes, *, flat: bool) -> pl.DataFrame:
    """Rows of a parsed file, from the chunk that a reader yields.

    Rule 27: a wrong row is rejected with the first reason that applies, its original text, and which field was found
    wrong, with the found and the expected value.

    Returns
    -------
    polars.DataFrame
        PARSED and the value columns, in this order.
    """
    fields, spoilt = _trim_identifiers(chunk)
    values = [column for column in fields.columns if column not in FIELDS]
    demands = demands_of(types, flat=flat, columns=values)
    rows = fields.with_columns(*_masked_dimensions(fields, types), reason=_reason(chunk, fields, demands, spoilt))
    is_of_no_use = pl.col("reason").is_not_null() | ~pl.col("type").is_in(list(types)).fill_null(value=False)
    if "ignored" in fields.columns:
        is_of_no_use &= pl.col("reason").ne_missing(pl.lit(IGNORED))
    places = rows.select(is_of_no_use.arg_true()).to_series()
    texts = pl.Series("text", [None], dtype=pl.String).new_from_index(0, len(rows))
    details = texts.alias("detail")
    if len(places):
        texts = texts.scatter(places, mask_card_number_column(chunk.texts(places)))
        words = fault_words(rows.columns, demands, spoilt, chunk.expected_time, chunk.number_form)
        found = rows[places].select(_with_labels(words, chunk.labels)).to_series()
        details = details.scatter(places, mask_card_number_column(found))
    return rows.with_columns(texts, details).select(*PARSED, *values)


def _masked_dimensions(fields: pl.DataFrame, types: EventTypes) -> list[pl.Series]:
    """The dimensions of the events, card numbers masked: they are no values, so what looks like one is not kept."""
    members = [member for own in types.values() for member in own]
    dimensions = {member.column for member in members if not member.is_required}
    dimensions -= {member.column for member in members if member.is_required}
    return [mask_card_number_column(fields[name]) for name in sorted(dimensions) if name in fields.columns]


def _with_labels(words: pl.Expr, labels: Mapping[str, str]) -> pl.Expr:
    """Fault descriptions that name the field of the record, too."""
    told = words
    for name, label in labels.items():
        named = pl.concat_str(pl.lit(f"{label}: "), words.str.slice(len(name) + 2))
        told = pl.when(words.str.starts_with(f"{name}: ")).then(named).otherwise(told)
    return told


def _trim_identifiers(chunk: Chunk) -> tuple[pl.DataFrame, list[str]]:
    """Strip blanks around identifiers; also returns the identifiers that hold control characters."""
    fields = chunk.fields
    if chunk.letters == "visible":
        return fields, []
    if chunk.letters == "printable":
        blanks = fields.select(((pl.col(name) < "!") | pl.col(name).str.ends_with(" ")).any() for name in IDENTIFIERS)
        padded = [name for name in IDENTIFIERS if blanks[name].item()]
        return fields.with_columns(pl.col(name).str.strip_chars() for name in padded) if padded else fields, []
    others = [name for name in IDENTIFIERS if not _is_visible(fields[name])]
    fields = fields.with_columns(pl.col(name).str.strip_chars() for name in others)
    spoilt = fields.select(pl.col(name).str.contains(CONTROL).any() for name in others)
    return fields, [name for name in others if spoilt[name].item()]


def _is_visible(texts: pl.Series) -> bool:
    """Whether all characters of all texts are visible ASCII.

    Compares bytes: half a million ids take 3 ms, a regular expression 21 ms.
    """
    return are_visible(texts.to_arrow().buffers()[2])


def are_visible(letters: pa.Buffer | None) -> bool:
    """Whether all bytes are visible ASCII characters."""
    if letters is None or letters.size == 0:
        return True
    values = pl.Series(pl.from_arrow(pa.Array.from_buffers(pa.uint8(), letters.size, [None, letters])))
    lowest, highest = _SEEN
    return bool(values.min() >= lowest and values.max() <= highest)  # type: ignore[operator]  # bytes are numbers


def _reason(chunk: Chunk, fields: pl.DataFrame, demands: Sequence[Demand], spoilt: Sequence[str]) -> pl.Expr:
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
    if "unmapped" in fields.columns:
        reason = pl.coalesce(reason, pl.when("unmapped").then(pl.lit(UNKNOWN_TYPE)))
    if "ignored" in fields.columns:
        reason = pl.when("ignored").then(pl.lit(IGNORED)).otherwise(reason)
    if chunk.unfinished is None:
        return reason
    return pl.when(pl.col("row") == chunk.unfinished).then(pl.lit(UNFINISHED_LINE)).otherwise(reason)


def _short_integers(texts: pl.DataFrame) -> dict[str, pl.Series]:
    """Columns that hold only short whole numbers, the usual case, as integers; other columns are left out.

    Casting is faster than matching the pattern of a decimal number.
    """
    integers = texts.select(pl.all().str.to_integer(strict=False))
    checks = pl.concat(
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
        for name, (nulls, others, too_low, too_high, signed) in checks.to_dict(as_series=False).items()
        if nulls == others and not (too_low or too_high or signed)
    }


def with_details(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows of a parsed file with `detail`, null in files of earlier versions."""
    return rows if "detail" in rows.columns else rows.with_columns(detail=pl.lit(None, pl.String))


def harmless(message: str) -> str:
    """Sanitize a message that may quote a file: truncated, no control characters, card numbers masked (rule 11)."""
    return mask_card_numbers(_CONTROLS.sub("\N{REPLACEMENT CHARACTER}", message[:_LONGEST_MESSAGE]))


def unreadable(message: str, reason: str = UNREADABLE_FILE) -> pl.DataFrame:
    """The one row that represents an unreadable file (rule 27)."""
    message = harmless(message)
    found = "" if "found " in message else "found what cannot be read: "
    expected = "" if ", expected " in message else ", expected a file that is whole"
    values = {"reason": [reason], "text": [message], "detail": [f"file: {found}{message}{expected}"]}
    return pl.DataFrame(values).select(
        pl.col(name).cast(dtype) if name in values else pl.lit(None, dtype).alias(name)
        for name, dtype in PARSED.items()
    )
