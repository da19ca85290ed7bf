"""Shared by the steps of a month: tables computed before, and cached answers."""

from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl

from billing.ingest import events_digest
from billing.model.columns import Table
from billing.model.tables import PACKAGES, USAGE
from billing.month.business import Business
from billing.month.held_offers import held_add_ons
from billing.rules.charges import rated_usage
from billing.store.files import file_hash
from billing.store.monthly import read_month, scan_month


def computed_once(
    business: Business,
    what: str,
    month: str,
    events_of: Sequence[str],
    tables: Sequence[Path],
    compute: Callable[[], pl.DataFrame],
    *other_inputs: object,
) -> pl.DataFrame:
    """Cache a small frame of a month that several steps need, until one of its inputs changes.

    Parameters
    ----------
    events_of
        The months of the events that are read.
    tables
        The files of the tables that are read.
    other_inputs
        Other inputs, besides those of the business and the payments of issued documents.
    """
    events = events_digest(business.home, events_of, business.as_of)
    hashes = [path.exists() and file_hash(path) for path in tables]
    key = (business.register.count(), events, *hashes, *other_inputs)
    return business.computed.once((what, month), key, compute)


def rated_charges(business: Business, month: str) -> pl.DataFrame:
    """The rated usage of all accounts."""
    rated = [
        rated_usage(
            required_table(part, USAGE, month),
            required_table(part, PACKAGES, month),
            part.terms,
            held_add_ons(part, month),
        )
        for part in business.by_currency
    ]
    return joined(rated, [name for name in USAGE.key if name in rated[0].columns])


def required_table(business: Business, table: Table, month: str, rows: pl.Expr | None = None) -> pl.DataFrame:
    """The table of the month, or only these rows of it; of the accounts in one currency, theirs."""
    home = business.home
    if not home.parts(table, month):
        path = home.partition(table, month)
        raise FileNotFoundError(f"{path}: {table.name} of {month} has not been computed: bill that month first")
    found = read_month(home, table, month) if rows is None else scan_month(home, table, month).filter(rows).collect()
    return business.rows(found)


def joined(parts: Sequence[pl.DataFrame], key: Sequence[str]) -> pl.DataFrame:
    """What was computed for each currency, as one frame sorted by its key; what is of one currency is as it is."""
    return parts[0] if len(parts) == 1 else pl.concat(parts, how="diagonal_relaxed").sort(key, maintain_order=True)


def without_parked(frame: pl.DataFrame, parked: pl.DataFrame) -> pl.DataFrame:
    if parked.is_empty():
        return frame
    return frame.join(parked.select("account_id"), on="account_id", how="anti", maintain_order="left")
