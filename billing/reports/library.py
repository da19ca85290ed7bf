"""The library for notebooks: load a home, read its tables, explain a document, preview a month. Read-only."""

from datetime import date
from pathlib import Path
from typing import Any

import polars as pl

from billing.model.errors import RefusedError
from billing.month.business import Business
from billing.reports.explain import explain_document
from billing.reports.preview import Preview, preview_month
from billing.reports.show import read_table as read_table_of


def load(home: str | Path, as_of: date | str | None = None, register_url: str | None = None) -> Business:
    """Load a billing home to read it.

    Parameters
    ----------
    home
        The folder that has `landing` in it.
    as_of
        The day as of which to look, a date or YYYY-MM-DD; None: all that is known.
    register_url
        Where the register is, if not in the home: as $OVERAGE_REGISTER_URL, which a library does not read.

    Raises
    ------
    RefusedError
        Naming what is missing or wrong, and where.
    """
    day = date.fromisoformat(as_of) if isinstance(as_of, str) else as_of
    return Business.load(Path(home), day or date.max, register_url, issues=False)


def read_table(business: Business, name: str, month: str | None = None, account: str | None = None) -> pl.DataFrame:
    """Read a table of docs/tables.md, of one billing month or account if asked for, sorted by its key.

    Raises
    ------
    RefusedError
        When there is no such table or account, or the month is none.
    """
    return read_table_of(business, name=name, month=month, account=account)


def explain(business: Business, number: str, line: int | None = None) -> list[dict[str, Any]]:
    """Explain a document, or one of its lines: as `explain_document`.

    Raises
    ------
    RefusedError
        When no such document or line has been issued.
    """
    return explain_document(business, number, line)


def preview(business: Business, month: str) -> Preview:
    """Preview what billing a month would change: `changes` is a frame, `totals()` their sums.

    Raises
    ------
    RefusedError
        When the business was loaded without an as-of day, or issuing would be refused.
    """
    if business.as_of == date.max:
        raise RefusedError("preview: found no as-of day, expected one: load(home, as_of='2026-03-31')")
    return preview_month(business, month)
