"""Frames as plain values: decimals and dates as text, exactly, for JSON, CSV and pages."""

import json
import re
from collections.abc import Callable, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

import polars as pl

from billing.model.columns import MONEY

_CONTROLS: Final = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def plain_rows(frame: pl.DataFrame, decimals: int | Sequence[int]) -> list[dict[str, Any]]:
    """Rows as plain values: decimals and dates as text, instants in UTC with Z.

    Parameters
    ----------
    decimals
        Decimals of the currency's minor unit, perhaps of each row: amounts have exactly these.
    """
    of_rows = [decimals] * frame.height if isinstance(decimals, int) else decimals
    writers = {
        places: {name: _formatter(dtype, places) for name, dtype in frame.schema.items()} for places in set(of_rows)
    }
    return [
        {name: writers[places][name](value) for name, value in row.items()}
        for places, row in zip(of_rows, frame.iter_rows(named=True), strict=True)
    ]


def _formatter(dtype: Any, decimals: int) -> Callable[[Any], Any]:
    """Formatter for values of a type."""
    if dtype == MONEY:
        return lambda value: None if value is None else f"{value:.{decimals}f}"
    if isinstance(dtype, pl.Decimal):
        return lambda value: None if value is None else plain_number(value)
    if dtype == pl.Date:
        return lambda value: None if value is None else _day(value)
    if isinstance(dtype, pl.Datetime):
        return lambda value: None if value is None else _instant(value)
    if isinstance(dtype, pl.List):
        inner = _formatter(dtype.inner, decimals)
        return lambda values: None if values is None else [inner(value) for value in values]
    if isinstance(dtype, pl.Struct):
        fields = {field.name: _formatter(field.dtype, decimals) for field in dtype.fields}
        return lambda value: None if value is None else {name: write(value[name]) for name, write in fields.items()}
    return lambda value: value


def money_in_words(value: Decimal, decimals: int) -> str:
    """Format an amount with the decimals of its currency, and more only when it has more."""
    rounded = f"{value:.{decimals}f}"
    return rounded if Decimal(rounded) == value else plain_number(value)


def plain_number(value: Decimal) -> str:
    """Format a decimal without trailing zeros or exponent: 61.2, 27350, 0."""
    text = f"{value:f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) or "0"


def _day(value: date) -> str:
    return value.isoformat()


def _instant(value: datetime) -> str:
    text = value.strftime("%Y-%m-%dT%H:%M:%S.%f").rstrip("0").rstrip(".")
    return f"{text}Z"


def without_controls(text: str) -> str:
    """Escape all control characters of a JSON text: a terminal may execute some that JSON allows."""
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def as_json(rows: Sequence[dict[str, Any]]) -> str:
    """Format a JSON list, one object per line."""
    lines = ",\n".join(without_controls(json.dumps(row, ensure_ascii=False)) for row in rows)
    return f"[\n{lines}\n]" if rows else "[]"
