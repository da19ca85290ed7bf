"""Reader of another system's invoices: amounts by account and line kind, to compare with what is drafted here."""

from pathlib import Path
from typing import Final

import polars as pl

from billing.inputs.input_files import read_table_as_text
from billing.inputs.row_checks import (
    first_wrong_rule,
    found_text,
    hides_card_number,
    missing_rule,
    not_a_day_rule,
    parse_day,
    unparseable_rule,
)
from billing.model.card_numbers import mask_card_numbers
from billing.model.catalogue import Catalogue
from billing.model.codes import RejectReason
from billing.model.columns import MONEY
from billing.model.errors import RefusedError

INVOICE_COLUMNS: Final = ("account_id", "kind", "amount", "metric", "billing_date", "quantity")
TAX: Final = "tax"
TOTAL: Final = "total"
"""Kinds of rows beside those of lines."""
_MOST_PROBLEMS: Final = 20


def read_old_invoices(path: Path, catalogue: Catalogue) -> pl.DataFrame:
    """account_id, kind (default: total), metric, billing_date (null: the first one here), amount, quantity (text).

    Amounts of the same account, date, kind and metric are added up.

    Raises
    ------
    RefusedError
        Naming the rows that are wrong, with what was found and what was expected.
    """
    frame, _ = read_table_as_text(path, INVOICE_COLUMNS, "account_id", catalogue.encoding)
    is_amount = pl.col("amount").str.contains(r"^-?\d{1,15}(\.\d{1,4})?$")
    frame = frame.with_columns(
        hides_card_number(frame),
        money=pl.when(is_amount).then(pl.col("amount")).cast(MONEY, strict=False),
        day=parse_day("billing_date"),
        kind=pl.col("kind").str.to_lowercase().fill_null(TOTAL),
    )
    checked = first_wrong_rule(
        frame,
        unparseable_rule(),
        missing_rule("account_id", "amount"),
        (
            RejectReason.CARD_NUMBER,
            pl.col("has_card_number"),
            pl.lit("found what is a card number, expected none"),
        ),
        (RejectReason.IMPOSSIBLE_VALUE, pl.col("money").is_null(), found_text("amount", "an amount such as 99.00")),
        *not_a_day_rule({"billing_date": "day"}),
    )
    wrong = checked.filter(pl.col("reason").is_not_null()).select("row", "detail")
    if not wrong.is_empty() or frame.is_empty():
        rows = [f"  row {row}: {mask_card_numbers(detail)}" for row, detail in wrong.head(_MOST_PROBLEMS).iter_rows()]
        more = [f"  and {wrong.height - _MOST_PROBLEMS} more rows"] if wrong.height > _MOST_PROBLEMS else []
        found = [] if rows else ["  found no row, expected one per account and line kind"]
        raise RefusedError("\n".join([f"{path}: nothing is compared", *rows, *more, *found]))
    keys = ["account_id", "billing_date", "kind", "metric"]
    return (
        checked.with_columns(billing_date="day")
        .group_by(keys)
        .agg(amount=pl.col("money").sum().cast(MONEY), quantity=pl.col("quantity").drop_nulls().first())
        .sort(keys)
    )
