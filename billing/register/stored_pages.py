"""Stored pages: parse the content of issued documents back into the tables of the register."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import polars as pl

from billing.model.columns import MONEY
from billing.model.tables import DOCUMENTS, LINES, TAXES
from billing.rules.tax import with_tax_categories

_HEAD: Final = {
    name: dtype
    for name, dtype in DOCUMENTS.schema.items()
    # `due` is what the total leaves after credits.
    if name not in ("account_id", "subscription_id", "status", "content_hash", "due")
}
_LINE: Final = {name: dtype for name, dtype in LINES.schema.items() if name != "number"}
_TAX: Final = {name: dtype for name, dtype in TAXES.schema.items() if name != "number"}


class PrintedRows(NamedTuple):
    """The tables DOCUMENTS (less status and content_hash), LINES and TAXES, parsed from stored pages."""

    documents: pl.DataFrame
    lines: pl.DataFrame
    taxes: pl.DataFrame


def printed_rows(contents: pl.DataFrame) -> PrintedRows:
    """Parse stored pages into rows.

    Parameters
    ----------
    contents
        number, content: of issued documents, as the register keeps it.

    Returns
    -------
    PrintedRows
        Each with `number` as in `contents`, and documents with `page_number`, as the page has it. Text that is not a
        value of its column becomes null.
    """
    written = pl.Struct(
        {
            **_as_text(_HEAD),
            "customer": pl.Struct({"account_id": pl.String}),
            "subscription": pl.Struct({"subscription_id": pl.String}),
            "lines": pl.List(pl.Struct(_as_text(_LINE))),
            "taxes": pl.List(pl.Struct(_as_text(_TAX))),
        }
    )
    pages = contents.select(_of="number", page=pl.col("content").str.json_decode(written)).unnest("page")
    documents = pages.select(
        pl.col("customer").struct.field("account_id"),
        pl.col("subscription").struct.field("subscription_id"),
        *_values(_HEAD),
        _of="_of",
    ).rename({"number": "page_number", "_of": "number"})
    # Pages of version 1 say neither when they are due, which was on issue, nor credits, nor the categories of taxes.
    documents = documents.with_columns(
        pl.coalesce("due_on", "issued_on"),
        pl.col("credits_applied").fill_null(pl.lit(0).cast(MONEY)),
    )
    taxes = with_tax_categories(_listed(pages, "taxes", _TAX))
    return PrintedRows(documents, _listed(pages, "lines", _LINE), taxes)


def _listed(pages: pl.DataFrame, name: str, schema: Mapping[str, Any]) -> pl.DataFrame:
    rows = pages.select("_of", row=name).explode("row").drop_nulls("row").unnest("row")
    return rows.select(*_values(schema), number="_of")


def _as_text(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Dates and decimals are text on a page."""
    return {name: dtype if dtype.is_integer() else pl.String() for name, dtype in schema.items()}


def _values(schema: Mapping[str, Any]) -> list[pl.Expr]:
    return [
        pl.col(name).str.to_date(strict=False) if dtype == pl.Date else pl.col(name).cast(dtype, strict=False)
        for name, dtype in schema.items()
    ]
