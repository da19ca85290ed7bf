"""The library for notebooks: load a home, read its tables, explain a document, preview a month. Read-only."""

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl

from billing.inputs.catalogue_file import load_catalogue
from billing.model.catalogue import Catalogue
from billing.model.errors import RefusedError
from billing.month.business import Business
from billing.reports.explain import explain_document
from billing.reports.preview import Preview, preview_month
from billing.reports.show import read_table as read_table_of
from billing.reports.what_if import STAY, Choices, Comparison, Question, compare_catalogues


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


def what_if(
    business: Business,
    candidate: str | Path | Catalogue,
    since: str,
    through: str,
    *,
    accounts: Sequence[str] = (),
    only: Sequence[str] = (),
    seed_choices: Choices = STAY,
) -> Comparison:
    """Bill past months under a candidate catalogue: its `tables` are frames.

    Parameters
    ----------
    candidate
        The file, or a catalogue that was loaded or changed.
    since, through
        The first and the last month, YYYY-MM.
    accounts, only, seed_choices
        As the options of `overage what-if`.

    Raises
    ------
    RefusedError
        As `compare_catalogues`.
    """
    is_loaded = isinstance(candidate, Catalogue)
    catalogue = candidate if isinstance(candidate, Catalogue) else load_catalogue(Path(candidate))
    name = "candidate" if is_loaded else Path(str(candidate)).stem
    question = Question(since, through, tuple(accounts), tuple(only), seed_choices)
    [found] = compare_catalogues(business, [(name, catalogue)], question)
    return found
