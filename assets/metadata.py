"""Asset metadata for finance people: descriptions, columns, summaries and numbers, but no customer rows."""

from base64 import b64encode
from collections.abc import Sequence
from decimal import Decimal
from typing import Final

import polars as pl

from assets.declared import Markdown, Value
from billing.model.money import minor_units, sums_by_currency
from billing.month.business import Business

# Limit tables: metadata is stored with every run. Larger ones belong in files or commands.
_MOST_ROWS: Final = 30
_LONGEST_TEXT: Final = 300


def markdown_table(frame: pl.DataFrame, currency: str | None = None) -> str:
    """The first rows of a frame as a Markdown table, numbers right-aligned, with a count of the remaining rows.

    With a currency, all decimal columns are money and labelled with it.
    """
    numeric = [dtype.is_numeric() for dtype in frame.dtypes]
    names = [
        f"{name}, {currency}" if currency is not None and isinstance(dtype, pl.Decimal) else name
        for name, dtype in frame.schema.items()
    ]
    head = "| " + " | ".join(name.replace("_", " ") for name in names) + " |"
    rule = "|" + "|".join(" ---: " if right else " --- " for right in numeric) + "|"
    rows = ["| " + " | ".join(_cell(value) for value in row) + " |" for row in frame.head(_MOST_ROWS).iter_rows()]
    more = frame.height - len(rows)
    return "\n".join([head, rule, *rows, *(["", f"and {more:,} more"] if more > 0 else [])])


def bullets(texts: Sequence[str]) -> Markdown:
    """The first of many texts as a Markdown list."""
    return Markdown("\n".join(f"* {text}" for text in first_of(texts)) or "none")


def in_words(texts: Sequence[str]) -> str:
    """The first of many short texts, separated by commas."""
    return ", ".join(first_of(texts)) or "none"


def first_of(texts: Sequence[str]) -> list[str]:
    """The first of many texts, truncated, with a count of the remaining ones."""
    more = len(texts) - _MOST_ROWS
    return [*map(_cut, texts[:_MOST_ROWS]), *([f"and {more:,} more"] if more > 0 else [])]


def summary(frame: pl.DataFrame, currency: str | None = None, **numbers: int | Decimal) -> dict[str, Value]:
    """Metadata of a frame: a Markdown summary, numbers that Dagster plots over time, and the currency of amounts."""
    values: dict[str, Value] = {
        name.replace("_", " "): value if isinstance(value, int) else _plottable(value)
        for name, value in numbers.items()
    }
    if currency is not None:
        values["currency"] = currency
    if not frame.is_empty():
        values["summary"] = Markdown(markdown_table(frame, currency))
    return values


def money_type(business: Business) -> pl.Decimal:
    """Decimal type with the minor units of the business's currency; of several, with the most."""
    codes = business.inputs.currencies or (business.catalogue.currency,)
    return pl.Decimal(38, max(minor_units(code) or 0 for code in codes))


def height(rows: pl.LazyFrame) -> int:
    """How many rows there are."""
    count: int = rows.select(pl.len()).collect().item()
    return count


def amount_sum(frame: pl.DataFrame, business: Business, column: str = "amount") -> Decimal:
    """Sum of a money column, with the currency's decimals."""
    total: Decimal = frame.select(pl.col(column).sum().cast(money_type(business))).item()
    return total


def keys_by_currency(business: Business, *keys: str) -> list[str]:
    """By what amounts are added up: in a home of several currencies by theirs, too (rule 36)."""
    return [*keys, *(["currency"] if len(business.inputs.currencies) > 1 else [])]


def one_currency(business: Business) -> str | None:
    """The currency of all amounts; None where there are several."""
    return None if len(business.inputs.currencies) > 1 else business.catalogue.currency


def amounts(frame: pl.DataFrame, business: Business, name: str, column: str = "amount") -> dict[str, Decimal]:
    """The sum of a money column by name: in a home of several currencies that of each, by name and code."""
    if one_currency(business) is not None:
        return {name: amount_sum(frame, business, column)}
    sums = sums_by_currency(frame, column, business.catalogue.currency)
    return {f"{name}_{code}": amount for code, amount in sums.items()}


def chart(title: str, svg: str) -> str:
    """A chart as a Markdown image, which Dagster's pages can show."""
    return f"![{title}](data:image/svg+xml;base64,{b64encode(svg.encode()).decode()})"


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return f"{value:,}"
    return _cut(str(value)).replace("|", "\\|")


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 1]}…"


def _plottable(value: Decimal) -> float:
    # Float is for the plot only: no amount is ever read back from it.
    return float(value)
