"""Reader of payments: charges and their outcomes (rules 16 and 28)."""

from collections.abc import Sequence
from functools import partial
from typing import Final

import polars as pl

from billing.inputs.checked_rows import InputTable, counting_rows, gathered
from billing.inputs.input_files import input_files
from billing.inputs.row_checks import (
    RowRule,
    RowsRead,
    card_number_rule,
    control_characters_rule,
    first_wrong_rule,
    hides_card_number,
    local_date,
    missing_rule,
    not_an_instant_rule,
    one_of_rule,
    parse_instant,
    parse_money,
    too_long_rule,
    unparseable_rule,
)
from billing.inputs.row_currencies import RowCurrencies
from billing.model.catalogue import Catalogue
from billing.model.codes import PaymentStatus
from billing.store.home import Home

PAYMENT_MEMBERS: Final = (
    "payment_id",
    "account_id",
    "document",
    "at",
    "amount",
    "currency",
    "status",
    "card_brand",
    "card_last4",
    "reference",
)


def read_payments(
    home: Home,
    catalogue: Catalogue,
    known: pl.Series,
    noticed: RowsRead,
    currencies: RowCurrencies,
) -> pl.DataFrame:
    replaced = {"at": "instant", "amount": "money"}
    table = InputTable(
        input_files(home, "payments"),
        PAYMENT_MEMBERS,
        "payment_id",
        home,
        catalogue.encoding,
        partial(_checked, _rules(currencies), currencies),
        # A payment that fits no document is a reject later on: keep its text.
        kept=[*(replaced.get(member, member) for member in PAYMENT_MEMBERS), "file", "row", "text"],
    )
    counting = counting_rows(table, known, [member for member in PAYMENT_MEMBERS if member != "payment_id"], noticed)
    order = counting.select(pl.arg_sort_by("instant", "payment_id")).to_series()
    return gathered(counting, order).select(
        "payment_id",
        "account_id",
        "document",
        at="instant",
        on=local_date("instant", catalogue),
        amount="money",
        currency="currency",
        status="status",
        card_brand="card_brand",
        card_last4="card_last4",
        reference="reference",
        file="file",
        row="row",
        text="text",
    )


def _rules(currencies: RowCurrencies) -> list[RowRule]:
    amount = "an amount in {}, not below 0, of at most {} decimals"
    return [
        unparseable_rule(),
        missing_rule("payment_id", "account_id", "at", "amount", "currency", "status"),
        *control_characters_rule(("payment_id", "account_id", "document", "reference"), PAYMENT_MEMBERS),
        too_long_rule(PAYMENT_MEMBERS),
        *not_an_instant_rule(),
        currencies.no_amount_rule(amount),
        one_of_rule("status", tuple(PaymentStatus)),
        currencies.unused_currency_rule(),
        card_number_rule(),
    ]


def _checked(rules: Sequence[RowRule], currencies: RowCurrencies, frame: pl.DataFrame) -> pl.DataFrame:
    parsed = frame.with_columns(
        hides_card_number(frame), instant=parse_instant("at"), money=parse_money("amount", signed=False)
    )
    return first_wrong_rule(currencies.prepared(parsed), *rules)
