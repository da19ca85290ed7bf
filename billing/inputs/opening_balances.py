"""Reader of opening balances: what accounts owed, or had in credit, when they moved in (rule 38)."""

from typing import Final

import polars as pl

from billing.inputs.input_files import input_files, read_rows
from billing.inputs.row_checks import (
    RowsRead,
    card_number_rule,
    control_characters_rule,
    first_wrong_rule,
    hides_card_number,
    missing_rule,
    not_a_day_rule,
    parse_day,
    parse_money,
    resolve_identity,
    too_long_rule,
    unknown_account_rule,
    unparseable_rule,
)
from billing.inputs.row_currencies import RowCurrencies
from billing.model.catalogue import Catalogue
from billing.model.codes import RejectReason
from billing.model.columns import MONEY
from billing.store.home import Home

OPENING_COLUMNS: Final = ("account_id", "currency", "amount", "on", "reference")
OPENING_SCHEMA: Final = pl.Schema(
    {"account_id": pl.String(), "currency": pl.String(), "reference": pl.String(), "amount": MONEY, "on": pl.Date()}
)


def read_opening_balances(
    home: Home, catalogue: Catalogue, known: pl.Series, noticed: RowsRead, currencies: RowCurrencies
) -> pl.DataFrame:
    """OPENING_SCHEMA, sorted: an amount above 0 is owed, one below 0 in credit; an empty reference is empty text.

    The currency is that of the account where none is given.
    """
    files = input_files(home, "opening_balances")
    if not files:
        return pl.DataFrame(schema=OPENING_SCHEMA)
    frame = read_rows(files, OPENING_COLUMNS, "account_id", home, catalogue.encoding, noticed.warnings)
    frame = frame.with_columns(
        hides_card_number(frame),
        money=parse_money("amount"),
        day=parse_day("on"),
        reference=pl.col("reference").fill_null(""),
    )
    frame = currencies.prepared(frame).with_columns(owed_in=currencies.of_row())
    frame = frame.with_columns(
        identity=pl.concat_str("account_id", "owed_in", "reference", separator="\n", ignore_nulls=False)
    )
    frame = first_wrong_rule(
        frame,
        unparseable_rule(),
        missing_rule("account_id", "amount", "on"),
        *control_characters_rule(("account_id", "reference"), OPENING_COLUMNS),
        too_long_rule(OPENING_COLUMNS),
        currencies.no_amount_rule("an amount in {} of at most {} decimals, such as -12.50"),
        *not_a_day_rule({"on": "day"}),
        currencies.wrong_currency_rule(),
        card_number_rule(),
        unknown_account_rule(known),
    )
    frame = resolve_identity(frame, "identity", ["amount", "day"])
    frame = frame.with_columns(
        detail=pl.when(pl.col("reason") == RejectReason.CONFLICTING)
        .then(
            pl.format(
                "reference: found '{}' of this account again with other content, expected each reference once",
                "reference",
            )
        )
        .otherwise("detail")
    )
    noticed.set_aside(frame, None)
    return (
        frame.filter(pl.col("reason").is_null() & ~pl.col("duplicate"))
        .select("account_id", "reference", currency="owed_in", amount="money", on="day")
        .select(OPENING_SCHEMA.names())
        .sort("account_id", "currency", "reference")
    )
