"""Reader of credit grants: what accounts have in credit for documents to come (rule 33)."""

from collections.abc import Sequence
from functools import partial
from typing import Final

import polars as pl

from billing.inputs.checked_rows import InputTable, counting_rows
from billing.inputs.input_files import input_files
from billing.inputs.row_checks import (
    RowRule,
    RowsRead,
    card_number_rule,
    control_characters_rule,
    first_wrong_rule,
    found_text,
    hides_card_number,
    missing_rule,
    not_a_day_rule,
    one_of_rule,
    parse_day,
    parse_money,
    too_long_rule,
    unparseable_rule,
)
from billing.inputs.row_currencies import RowCurrencies
from billing.model.catalogue import Catalogue
from billing.model.codes import GrantKind, RejectReason
from billing.model.columns import MONEY
from billing.model.money import MAXIMUM_AMOUNT
from billing.model.offers import USUAL_PRIORITY
from billing.store.home import Home

GRANT_MEMBERS: Final = (
    "grant_id",
    "account_id",
    "amount",
    "currency",
    "granted_on",
    "expires_on",
    "kind",
    "priority",
    "description",
)
GRANT_SCHEMA: Final = pl.Schema(
    {
        "grant_id": pl.String(),
        "account_id": pl.String(),
        "amount": MONEY,
        "currency": pl.String(),
        "granted_on": pl.Date(),
        "expires_on": pl.Date(),
        "kind": pl.String(),
        "priority": pl.Int64(),
        "description": pl.String(),
    }
)
_PRIORITY: Final = "^[0-9]{1,9}$"


def read_credit_grants(
    home: Home, catalogue: Catalogue, known: pl.Series, noticed: RowsRead, currencies: RowCurrencies
) -> pl.DataFrame:
    """GRANT_SCHEMA, sorted by grant_id: amounts above 0; expires_on (exclusive) is null for ever."""
    files = input_files(home, "credit_grants")
    if not files:
        return pl.DataFrame(schema=GRANT_SCHEMA)
    table = InputTable(
        files,
        GRANT_MEMBERS,
        "grant_id",
        home,
        catalogue.encoding,
        partial(_checked, _rules(currencies), currencies),
        kept=["grant_id", "account_id", "money", "granted_in", "starts_on", "ends_on", "kind", "rank", "description"],
    )
    content = [name for name in table.kept if name != "grant_id" and isinstance(name, str)]
    grants = counting_rows(table, known, content, noticed).select(
        "grant_id",
        "account_id",
        "kind",
        "description",
        amount="money",
        currency="granted_in",
        granted_on="starts_on",
        expires_on="ends_on",
        priority="rank",
    )
    return grants.select(GRANT_SCHEMA.names()).sort("grant_id")


def _checked(rules: Sequence[RowRule], currencies: RowCurrencies, frame: pl.DataFrame) -> pl.DataFrame:
    priority = pl.when(pl.col("priority").str.contains(_PRIORITY)).then("priority").cast(pl.Int64)
    parsed = frame.with_columns(
        hides_card_number(frame),
        money=parse_money("amount", signed=False),
        starts_on=parse_day("granted_on"),
        ends_on=parse_day("expires_on"),
        rank=pl.when(pl.col("priority").is_null()).then(USUAL_PRIORITY).otherwise(priority).cast(pl.Int64),
    )
    parsed = currencies.prepared(parsed).with_columns(granted_in=currencies.of_row())
    return first_wrong_rule(parsed, *rules)


def _rules(currencies: RowCurrencies) -> list[RowRule]:
    amount = "an amount in {} above 0, of at most {} decimals"
    money = pl.col("money")
    return [
        unparseable_rule(),
        missing_rule("grant_id", "account_id", "amount", "granted_on", "kind"),
        *control_characters_rule(("grant_id", "account_id", "description"), GRANT_MEMBERS),
        too_long_rule(GRANT_MEMBERS),
        currencies.no_amount_rule(amount),
        (
            RejectReason.IMPOSSIBLE_VALUE,
            (money == 0) | (money >= pl.lit(MAXIMUM_AMOUNT).cast(MONEY)),
            currencies.amount_detail(amount),
        ),
        *not_a_day_rule({"granted_on": "starts_on", "expires_on": "ends_on"}),
        (
            RejectReason.IMPOSSIBLE_VALUE,
            pl.col("ends_on") <= pl.col("starts_on"),
            pl.format("expires_on: found '{}', expected a day after granted_on, {}", "expires_on", "granted_on"),
        ),
        one_of_rule("kind", tuple(GrantKind)),
        (
            RejectReason.IMPOSSIBLE_VALUE,
            pl.col("priority").is_not_null() & pl.col("rank").is_null(),
            found_text("priority", "a whole number from 0 to 999999999"),
        ),
        currencies.wrong_currency_rule(),
        card_number_rule(),
    ]
