"""Reader of another system's invoices: amounts by account and line kind, to compare with what is drafted here."""

from pathlib import Path
from typing import Final

import polars as pl

from billing.inputs.input_files import read_table_as_text
from billing.inputs.row_checks import (
    card_number_rule,
    first_wrong_rule,
    found_text,
    hides_card_number,
    missing_rule,
    not_a_day_rule,
    parse_day,
    parse_money,
    refuse_wrong_rows,
    unparseable_rule,
)
from billing.model.catalogue import Catalogue
from billing.model.codes import RejectReason
from billing.model.columns import MONEY

INVOICE_COLUMNS: Final = ("account_id", "kind", "amount", "metric", "billing_date", "quantity")
TAX: Final = "tax"
TOTAL: Final = "total"
DUE: Final = "due"
"""Kinds of rows beside those of lines: `due` is the total less what prepaid credits pay."""
SUMS: Final = (TOTAL, DUE)


def read_old_invoices(path: Path, catalogue: Catalogue) -> pl.DataFrame:
    """account_id, kind (default: total), metric, billing_date (null: the first one here), amount, quantity (text).

    Amounts of the same account, date, kind and metric are added up.

    Raises
    ------
    RefusedError
        Naming the rows that are wrong, with what was found and what was expected.
    """
    frame, _ = read_table_as_text(path, INVOICE_COLUMNS, "account_id", catalogue.encoding)
    frame = frame.with_columns(
        hides_card_number(frame),
        money=parse_money("amount"),
        day=parse_day("billing_date"),
        kind=pl.col("kind").str.to_lowercase().fill_null(TOTAL),
    )
    checked = first_wrong_rule(
        frame,
        unparseable_rule(),
        missing_rule("account_id", "amount"),
        card_number_rule("none"),
        (RejectReason.IMPOSSIBLE_VALUE, pl.col("money").is_null(), found_text("amount", "an amount such as 99.00")),
        *not_a_day_rule({"billing_date": "day"}),
    )
    refuse_wrong_rows(checked, f"{path}: nothing is compared", "one per account and line kind")
    keys = ["account_id", "billing_date", "kind", "metric"]
    return (
        checked.with_columns(billing_date="day")
        .group_by(keys)
        .agg(amount=pl.col("money").sum().cast(MONEY), quantity=pl.col("quantity").drop_nulls().first())
        .sort(keys)
    )
