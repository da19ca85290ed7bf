"""Reader of payments: charges and their outcomes (rules 16 and 28)."""

from typing import Final

import polars as pl

from billing.inputs.input_files import input_files, read_rows
from billing.inputs.row_checks import (
    RowsRead,
    card_number_rule,
    control_characters_rule,
    first_wrong_rule,
    hides_card_number,
    local_date,
    missing_rule,
    no_amount_rule,
    not_an_instant_rule,
    one_of_rule,
    parse_instant,
    parse_money,
    too_long_rule,
    unknown_account_rule,
    unparseable_rule,
)
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
) -> pl.DataFrame:
    frame = read_rows(
        input_files(home, "payments"), PAYMENT_MEMBERS, "payment_id", home, catalogue.encoding, noticed.warnings
    )
    frame = frame.with_columns(
        hides_card_number(frame),
        instant=parse_instant("at"),
        money=parse_money("amount", signed=False),
    )
    amount = f"an amount in {catalogue.currency}, not below 0, of at most {catalogue.minor_units} decimals"
    frame = first_wrong_rule(
        frame,
        unparseable_rule(),
        missing_rule("payment_id", "account_id", "at", "amount", "currency", "status"),
        *control_characters_rule(("payment_id", "account_id", "document", "reference"), PAYMENT_MEMBERS),
        too_long_rule(PAYMENT_MEMBERS),
        *not_an_instant_rule(),
        no_amount_rule(catalogue, amount),
        one_of_rule("status", tuple(PaymentStatus)),
        one_of_rule("currency", [catalogue.currency]),
        card_number_rule(),
        unknown_account_rule(known),
    )
    return (
        noticed.counting(frame, "payment_id", [member for member in PAYMENT_MEMBERS if member != "payment_id"])
        .select(
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
        .sort("at", "payment_id")
    )
