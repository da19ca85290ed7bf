"""What a finance person reads on an asset's page: meaning, columns, a summary, numbers. Never a customer's row."""

from base64 import b64encode
from collections.abc import Sequence
from decimal import Decimal
from html import escape

import dagster as dg
import polars as pl

from billing.business import Business
from billing.tables import Table


def column_schema(table: Table) -> dg.TableSchema:
    """The table's columns with their descriptions, from the one place where they are described."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(name=column.name, type=str(column.dtype), description=column.description)
            for column in table.columns
        ]
    )


def definition_metadata(table: Table) -> dict[str, object]:
    """Metadata of an asset that holds a table."""
    return {"dagster/column_schema": column_schema(table)}


def markdown_table(frame: pl.DataFrame) -> str:
    """A small frame as a Markdown table, numbers to the right."""
    numeric = [dtype.is_numeric() for dtype in frame.dtypes]
    head = "| " + " | ".join(name.replace("_", " ") for name in frame.columns) + " |"
    rule = "|" + "|".join(" ---: " if right else " --- " for right in numeric) + "|"
    rows = ["| " + " | ".join(_cell(value) for value in row) + " |" for row in frame.iter_rows()]
    return "\n".join([head, rule, *rows])


def summary(frame: pl.DataFrame, **numbers: int | Decimal) -> dict[str, dg.MetadataValue]:
    """A Markdown summary and plain numbers that Dagster plots over time."""
    values: dict[str, dg.MetadataValue] = {
        name: dg.MetadataValue.int(value) if isinstance(value, int) else dg.MetadataValue.float(_plottable(value))
        for name, value in numbers.items()
    }
    if not frame.is_empty():
        values["summary"] = dg.MetadataValue.md(markdown_table(frame))
    return values


def money_type(business: Business) -> pl.Decimal:
    """Decimals as the business's currency has them."""
    return pl.Decimal(38, business.catalogue.minor_units)


def amount_sum(frame: pl.DataFrame, business: Business, column: str = "amount") -> Decimal:
    """The sum of a column of money, with the currency's decimals."""
    total: Decimal = frame.select(pl.col(column).sum().cast(money_type(business))).item()
    return total


def bar_chart(title: str, labels: Sequence[str], values: Sequence[Decimal]) -> dg.MetadataValue:
    """A small bar chart as an SVG in a Markdown image."""
    highest = max([abs(value) for value in values] or [Decimal(0)]) or Decimal(1)
    rows = []
    for position, (label, value) in enumerate(zip(labels, values, strict=True)):
        y = 24 + position * 22
        width = int(abs(value) / highest * 300)
        rows.append(
            f'<text x="0" y="{y + 13}">{escape(label)}</text><rect x="130" y="{y}" width="{width}" height="16" rx="2" '
            f'fill="#3f5fbf"/><text x="{136 + width}" y="{y + 13}">{value:,}</text>'
        )
    height = 32 + 22 * len(rows)
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="560" height="{height}" font-family="sans-serif" '
        f'font-size="12" fill="#22324a"><text x="0" y="13" font-weight="bold">{escape(title)}</text>'
        f"{''.join(rows)}</svg>"
    )
    return dg.MetadataValue.md(f"![{title}](data:image/svg+xml;base64,{b64encode(svg.encode()).decode()})")


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int | Decimal) and not isinstance(value, bool) else str(value)


def _plottable(value: Decimal) -> float:
    # only for the plot on the page: no amount is ever read back from it
    return float(value)
