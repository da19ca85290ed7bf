"""Billing without commands and without Dagster: the steps of a month one after the other, in a tenth of the time."""

from datetime import date
from pathlib import Path
from typing import Any

import polars as pl

from billing.month.business import Business
from billing.month.scratch_copy import bring_up_to_date
from billing.month.steps import ingest_usage
from billing.reports.show import read_table
from tests.read_once import inputs_read_once


def bill_by_steps(
    home: Path, month: str, as_of: str, issues: bool = True, register: str | None = None, shards: int | None = None
) -> Business:
    """What `overage bill MONTH --as-of DAY` computes and issues; no PDFs, pages and records of Dagster."""
    with inputs_read_once():
        business = Business.load(home, date.fromisoformat(as_of), register, issues=issues, shards=shards)
    ingest_usage(business)
    bring_up_to_date(business, month)
    return business


def rows(business: Business, table: str, *columns: str, **wanted: Any) -> list[tuple[Any, ...]]:
    """The columns of a table's rows that have the wanted values, amounts as text."""
    frame = read_table(business, name=table).filter(*(pl.col(name) == value for name, value in wanted.items()))
    amounts = [name for name in columns if isinstance(frame.schema[name], pl.Decimal)]
    in_cents = frame.select(columns).with_columns(pl.col(amounts).cast(pl.Decimal(38, 2)).cast(pl.String))
    return list(in_cents.iter_rows())
