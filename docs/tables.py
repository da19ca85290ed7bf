"""Write docs/tables.md from billing/model/tables.py, the one place where tables and columns are described."""

from pathlib import Path
from typing import Final

import polars as pl
from polars.datatypes import DataTypeClass

from billing.model.columns import Column, Table
from billing.model.tables import TABLES
from billing.reports.show import TECHNICAL

PAGE: Final = Path(__file__).with_suffix(".md")

INTRODUCTION: Final = """\
# Tables

`overage show TABLE` prints each of them as a table, as JSON (`--format json`: a list of objects) or as CSV. They are
Parquet files under `lake/<table>/` of the home, with these descriptions inside; monthly tables have a folder
`billing_month=YYYY-MM` each. Issued documents, their lines and taxes are facts of the register; the lake repeats them.

Money and quantities are decimals in Parquet and text in JSON (`"164.00"`), so that no reader rounds them. Dates are
`YYYY-MM-DD` days in the billing time zone; instants are UTC with `Z`. Quantities are in the metric's unit (GB) unless
a column says base units (bytes). The key is what a table is sorted by. Columns with a † are for programs: JSON, CSV and
Parquet have them, the printed table leaves them out.

This page is written by `make docs`.
"""


def tables_page() -> str:
    """The page as Markdown: a section for each table, with its key, columns, types and meanings."""
    return "\n".join([INTRODUCTION, *(_section(table) for table in TABLES.values())])


def _section(table: Table) -> str:
    key = ", ".join(f"`{name}`" for name in table.key)
    head = [f"## {table.name}", "", f"{table.description} Key: {key}.", ""]
    return "\n".join([*head, "| column | type | meaning |", "|---|---|---|", *map(_row, table.columns), ""])


def _row(column: Column) -> str:
    mark = "†" if column.name in TECHNICAL else ""
    return f"| `{column.name}`{mark} | {_type(column.dtype)} | {_text(column.description)} |"


def _type(dtype: pl.DataType | DataTypeClass) -> str:
    """A type in words that hold for Parquet and JSON alike."""
    if isinstance(dtype, pl.Decimal):
        return f"decimal, {dtype.scale} places"
    if isinstance(dtype, pl.List):
        return f"list of {_type(dtype.inner)}"
    if isinstance(dtype, pl.Struct):
        return "{" + ", ".join(field.name for field in dtype.fields) + "}"
    if isinstance(dtype, pl.Datetime):
        return "instant"
    names = {pl.String: "text", pl.Date: "date", pl.Boolean: "true or false", pl.Int32: "integer", pl.Int64: "integer"}
    return next(name for known, name in names.items() if dtype == known)


def _text(description: str) -> str:
    """A description as the cell of a table: angle brackets would be taken for HTML, a bar for the cell's end."""
    return description.replace("<", "&lt;").replace(">", "&gt;").replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(tables_page(), encoding="utf-8")
