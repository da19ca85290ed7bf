"""Shared row checks: a wrong row is rejected with its reason (rule 27)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from typing import Final

import polars as pl

from billing.model.card_numbers import (
    MAYBE_CARD_NUMBER,
    contains_card_number,
    mask_card_number_column,
    mask_card_numbers,
)
from billing.model.catalogue import Catalogue
from billing.model.codes import RejectReason
from billing.model.columns import MONEY
from billing.model.errors import RefusedError
from billing.model.one_collect import collected
from billing.model.tables import REJECTS

LONGEST: Final = {
    "account_id": 200,
    "name": 500,
    "email": 320,
    "address_line1": 300,
    "address_line2": 300,
    "city": 200,
    "region": 100,
    "postal_code": 40,
    "country": 100,
    "tax_id": 100,
    "locale": 100,
    "language": 100,
    "order_reference": 200,
    "buyer_reference": 200,
    "electronic_address": 200,
    "registration": 200,
    "invoice_email": 320,
    "tax_exempt_reason": 500,
    "request_id": 200,
    "withdraws": 200,
    "package": 200,
    "reason": 1_000,
    "brand": 100,
    "payment_id": 200,
    "document": 200,
    "reference": 200,
    "billed_through": 40,
    "usage_from": 40,
    "coupon": 200,
    "add_on": 200,
    "add_ons": 10_000,
    "charge_id": 200,
    "grant_id": 200,
    "description": 500,
    "card_brand": 100,
    "card_last4": 100,
}
"""Longest texts in characters, so that they fit pages and file names."""

# Reason, condition, and detail: the field, what was found and what was expected.
RowRule = tuple[RejectReason, pl.Expr, pl.Expr]
_LONGEST_DETAIL: Final = 300
_MOST_PROBLEMS: Final = 20
_BEHIND_ESCAPES: Final = "(a card number behind escapes: not kept)"
_ESCAPE: Final = re.compile(r"\\u([0-9a-fA-F]{4})")
_CODE_POINTS: Final = {chr(each): f"U+{each:04X}" for each in (*range(0x20), *range(0x7F, 0xA0))}
_RFC3339 = r"^(?:19[7-9]\d|20\d\d|21\d\d)-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)$"
# Look closer at rows with escapes, which may hide digits, and exponents, which may stand for trailing zeros.
_MAYBE_HIDES_CARD_NUMBER: Final = rf"{MAYBE_CARD_NUMBER}|\\|[:,\[]\s*-?[0-9][0-9.]*[eE]"
_DAY = r"^(?:19[7-9]\d|20\d\d|21\d\d)-\d\d-\d\d$"
_YES: Final = ("true", "1", "yes")
_YES_OR_NO: Final = ("true", "false", "1", "0", "yes", "no")
_AMOUNT: Final = r"\d{1,15}(\.\d{1,4})?"
_ZONELESS = r"^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?$"


@dataclass
class RowsRead:
    """Collects rejects and warnings while rows are read."""

    rejects: list[pl.DataFrame] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    unusable: list[str] = field(default_factory=list)

    def set_aside(self, frame: pl.DataFrame, id_column: str | None, rows: pl.DataFrame | None = None) -> None:
        """Collect the rejects of `frame`, and report files of which no row counts (rule 22).

        Parameters
        ----------
        rows
            file and rows: the number of rows by file, where `frame` has the wrong ones only.
        """
        rejects = set_aside(frame, id_column)
        if rejects.is_empty():
            return
        rows = frame.group_by("file").agg(rows=pl.len()) if rows is None else rows
        self.rejects.append(rejects)
        reasons = rejects.group_by("file", "reason").agg(told=pl.len()).sort("file", "reason")
        files = (
            reasons.group_by("file", maintain_order=True)
            .agg(rejected=pl.col("told").sum(), why=pl.format("{} {}", "reason", "told").str.join(", "))
            .join(rows, on="file", maintain_order="left")
            .filter(pl.col("rows") == pl.col("rejected"))
        )
        self.unusable += [
            f"{file}: none of its rows counts: {why}"
            for file, why, rows in files.select("file", "why", "rows").iter_rows()
        ]


def end_of_day(day: date, catalogue: Catalogue) -> datetime:
    """The instant at which a local day ends in the billing time zone, exclusive."""
    return datetime.combine(day + timedelta(days=1), time.min, tzinfo=catalogue.zone)


def parse_instant(column: str) -> pl.Expr:
    """Parse RFC 3339 text to an instant, exact to the nanosecond; null when invalid."""
    text = pl.col(column).str.to_uppercase().str.replace(" ", "T", literal=True)
    return pl.when(text.str.contains(_RFC3339)).then(
        text.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%#z", time_zone="UTC", time_unit="ns", strict=False)
    )


def parse_day(column: str) -> pl.Expr:
    """Parse a date YYYY-MM-DD; null when invalid."""
    text = pl.col(column)
    return pl.when(text.str.contains(_DAY)).then(text.str.to_date("%Y-%m-%d", strict=False))


def parse_money(column: str, *, signed: bool = True) -> pl.Expr:
    """Parse an amount of at most four decimals to MONEY; null when invalid."""
    text = pl.col(column)
    return pl.when(text.str.contains(f"^{'-?' if signed else ''}{_AMOUNT}$")).then(text).cast(MONEY, strict=False)


def first_wrong_rule(frame: pl.DataFrame, *rules: RowRule) -> pl.DataFrame:
    """`frame` with `reason` and `detail` of the first rule whose condition is true, else null."""
    nothing = pl.lit(None, pl.String)
    if frame.is_empty():
        return frame.with_columns(reason=nothing, detail=nothing)
    names = pl.coalesce(pl.when(condition.fill_null(value=False)).then(pl.lit(name)) for name, condition, _ in rules)
    checked = frame.with_columns(reason=names, detail=nothing)
    is_wrong = checked["reason"].is_not_null()
    if not is_wrong.any():
        return checked
    # Format details only for wrong rows: they are few.
    details = pl.coalesce(pl.when(condition.fill_null(value=False)).then(detail) for _, condition, detail in rules)
    words = checked.filter(is_wrong).select(details.alias("detail")).to_series()
    return checked.with_columns(checked["detail"].scatter(is_wrong.arg_true(), words))


def unparseable_rule() -> RowRule:
    is_json = pl.col("file").str.ends_with(".jsonl")
    what = pl.when(is_json).then(pl.lit("one JSON object a line")).otherwise(pl.lit("one field a column"))
    return RejectReason.UNPARSEABLE, ~pl.col("parsed"), pl.format("found a row that cannot be read, expected {}", what)


def missing_rule(*columns: str) -> RowRule:
    absent = pl.concat_str(
        [pl.when(pl.col(column).is_null()).then(pl.lit(column)) for column in columns],
        separator=", ",
        ignore_nulls=True,
    )
    condition = pl.any_horizontal(pl.col(columns).is_null())
    return RejectReason.MISSING_FIELD, condition, pl.format("{}: found nothing, expected a value", absent)


def control_characters_rule(names: Sequence[str], columns: Sequence[str]) -> list[RowRule]:
    """Reject control characters in ids and names; reject NUL, which PostgreSQL cannot store, in every column."""
    rules: list[RowRule] = []
    for column in ("stated_reason" if each == "reason" else each for each in columns):
        found = pl.col(column).str.extract(r"(\p{Cc})" if column in names else r"(\x00)")
        name = pl.lit(column.removeprefix("stated_"))
        detail = pl.format("{}: found the control character {}, expected text", name, found.replace(_CODE_POINTS))
        rules.append((RejectReason.IMPOSSIBLE_VALUE, found.is_not_null(), detail))
    return rules


def too_long_rule(columns: Sequence[str]) -> RowRule:
    # `reason` is the reject reason: the input's own column is `stated_reason`.
    read = {"stated_reason" if column == "reason" else column: column for column in columns if column in LONGEST}
    lengths = {name: pl.col(name).str.len_chars() for name in read}
    beyond = {name: length > LONGEST[read[name]] for name, length in lengths.items()}
    details = [
        pl.when(beyond[name]).then(
            pl.format(f"{read[name]}: found {{}} characters, expected at most {LONGEST[read[name]]}", length)
        )
        for name, length in lengths.items()
    ]
    return (
        RejectReason.TOO_LONG,
        pl.any_horizontal(*(each.fill_null(value=False) for each in beyond.values())),
        pl.coalesce(details),
    )


def not_an_instant_rule() -> list[RowRule]:
    detail = found_text("at", "a time with its offset, such as 2026-01-31T09:00:00Z")
    return [
        (RejectReason.TIME_WITHOUT_ZONE, pl.col("at").str.contains(_ZONELESS), detail),
        (RejectReason.INVALID_TIME, pl.col("instant").is_null(), detail),
    ]


def not_a_day_rule(days: Mapping[str, str]) -> list[RowRule]:
    """Reject a date that is none, by column: the name of its column of parsed dates."""
    return [
        (
            RejectReason.IMPOSSIBLE_VALUE,
            pl.col(column).is_not_null() & pl.col(parsed).is_null(),
            found_text(column, "a date such as 2026-01-31"),
        )
        for column, parsed in days.items()
    ]


def one_of_rule(column: str, options: Sequence[str], value: pl.Expr | None = None) -> RowRule:
    wrong = ~(pl.col(column) if value is None else value).is_in(options)
    return (
        RejectReason.IMPOSSIBLE_VALUE,
        wrong,
        found_text(column, f"one of: {', '.join(options)}" if options[1:] else options[0]),
    )


def says_yes(column: str) -> pl.Expr:
    """Whether a text says yes; null where it is missing."""
    return pl.col(column).str.to_lowercase().is_in(_YES).alias(column)


def yes_or_no_rule(column: str) -> RowRule:
    return one_of_rule(column, _YES_OR_NO, pl.col(column).str.to_lowercase())


def unknown_account_rule(known: pl.Series) -> RowRule:
    wrong = ~pl.col("account_id").is_in(known.implode())
    return RejectReason.UNKNOWN_ACCOUNT, wrong, found_text("account_id", "an account_id of the accounts file")


def found_text(column: str, expected: str) -> pl.Expr:
    return pl.format(f"{column}: found '{{}}', expected {{}}", pl.col(column), pl.lit(expected))


def card_number_rule(expected: str = "the brand and the last four digits at most") -> RowRule:
    detail = pl.lit(f"found what is a card number, expected {expected}")
    return RejectReason.CARD_NUMBER, pl.col("has_card_number"), detail


def hides_card_number(frame: pl.DataFrame) -> pl.Series:
    """has_card_number: whether a row holds a card number (rule 11)."""
    if frame.is_empty():
        return pl.Series("has_card_number", dtype=pl.Boolean)
    values = pl.concat_str(
        pl.exclude("_place", "place", "row", "text", "parsed", "file"), separator="\n", ignore_nulls=True
    )
    suspects = collected(
        frame.lazy()
        .with_row_index("_place")
        .filter(pl.col("text").str.contains(_MAYBE_HIDES_CARD_NUMBER))
        .select("_place", whole=pl.concat_str("text", values, separator="\n", ignore_nulls=True))
        .filter(pl.col("whole").str.contains(MAYBE_CARD_NUMBER))
    )
    found = suspects["_place"].filter(pl.Series(map(contains_card_number, suspects["whole"]), dtype=pl.Boolean))
    nowhere = pl.repeat(False, frame.height, dtype=pl.Boolean, eager=True)
    return nowhere.scatter(found, values=True).alias("has_card_number")


def refuse_wrong_rows(checked: pl.DataFrame, outcome: str, expected: str) -> None:
    """Refuse a whole table of which a row is wrong, or that has no row.

    Parameters
    ----------
    checked
        row, reason and detail.
    outcome
        The file, and what does not happen.
    expected
        The rows of such a table.

    Raises
    ------
    RefusedError
        Naming the first rows that are wrong.
    """
    wrong = checked.filter(pl.col("reason").is_not_null()).select("row", "detail")
    if checked.is_empty():
        raise RefusedError(f"{outcome}\n  found no row, expected {expected}")
    if not wrong.is_empty():
        rows = [f"  row {row}: {mask_card_numbers(detail)}" for row, detail in wrong.head(_MOST_PROBLEMS).iter_rows()]
        more = [f"  and {wrong.height - _MOST_PROBLEMS} more rows"] if wrong.height > _MOST_PROBLEMS else []
        raise RefusedError("\n".join([outcome, *rows, *more]))


def resolve_identity(frame: pl.DataFrame, identity: str, content: Sequence[str]) -> pl.DataFrame:
    """Mark repeated identities (rule 26): the first valid row counts, equal ones are duplicates, others conflict."""
    valid = pl.col("reason").is_null()
    repeated = repeated_identities(frame.with_row_index("_place"), identity, content, valid=valid)
    return (
        frame.with_row_index("_place")
        .join(repeated, on="_place", how="left", maintain_order="left")
        .with_columns(
            duplicate=pl.col("repeats").fill_null(value=False),
            reason=pl.when("conflicts").then(pl.lit(RejectReason.CONFLICTING)).otherwise("reason"),
            detail=pl.when("conflicts").then(conflicting_detail(identity)).otherwise("detail"),
        )
        .drop("_place", "repeats", "conflicts")
    )


def repeated_identities(
    frame: pl.DataFrame, identity: str, content: Sequence[str], *, valid: pl.Expr | None = None
) -> pl.DataFrame:
    """_place of the valid rows whose identity has several, repeats (of the first: equal) and conflicts (Boolean)."""
    renamed = ["stated_reason" if column == "reason" else column for column in content]
    compared = ["instant" if column == "at" else "money" if column == "amount" else column for column in renamed]
    # Compare contents only for repeated ids: finding them is cheap, comparing is not.
    valid = pl.lit(True) if valid is None else valid
    key = pl.when(valid).then(identity)
    first = pl.struct(compared).first().over(identity, order_by="_place")
    is_first = pl.int_range(pl.len()).over(identity, order_by="_place") == 0
    return (
        frame.filter(valid & key.is_duplicated())
        .rechunk()
        .select(
            "_place",
            repeats=~is_first & pl.struct(compared).eq_missing(first),
            conflicts=~is_first & pl.struct(compared).ne_missing(first),
        )
    )


def conflicting_detail(identity: str) -> pl.Expr:
    return pl.format(f"{identity}: found '{{}}' again with other content, expected each once", identity)


def set_aside(frame: pl.DataFrame, id_column: str | None) -> pl.DataFrame:
    """Rejected rows in the schema of REJECTS, card numbers masked."""
    rejected = frame.filter(pl.col("reason").is_not_null())
    if rejected.is_empty():
        return REJECTS.empty()
    masked = {name: mask_card_number_column(rejected[name]) for name in ("text", "account_id", "detail")}
    places = rejected["has_card_number"].arg_true()
    before, after = rejected["text"].gather(places), masked["text"].gather(places)
    # Decode escapes before masking: they hide a number from the pattern, but not from a reader.
    hidden = [
        one == other or contains_card_number(_without_escapes(other)) for one, other in zip(before, after, strict=True)
    ]
    text = masked["text"].scatter(places.filter(pl.Series(hidden, dtype=pl.Boolean)), _BEHIND_ESCAPES)
    return rejected.select(
        delivery_day=pl.lit(None, pl.Date),
        file="file",
        row="row",
        reason="reason",
        text=text,
        source=pl.lit(None, pl.String),
        id=mask_card_number_column(rejected[id_column]) if id_column else pl.lit(None, pl.String),
        account_id=masked["account_id"],
        metric=pl.lit(None, pl.String),
        quantity=pl.lit(None, REJECTS.schema["quantity"]),
        detail=masked["detail"].str.slice(0, _LONGEST_DETAIL),
    )


def _without_escapes(text: str) -> str:
    """JSON text with escapes such as \\u0034 decoded."""
    return _ESCAPE.sub(lambda escape: chr(int(escape[1], 16)), text)


def local_date(column: str, catalogue: Catalogue) -> pl.Expr:
    return pl.col(column).dt.convert_time_zone(catalogue.time_zone).dt.date()
