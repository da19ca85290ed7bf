"""Reader of one-off charges: what accounts are billed, or given back, once (rule 30)."""

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
    says_yes,
    too_long_rule,
    unparseable_rule,
    yes_or_no_rule,
)
from billing.inputs.row_currencies import RowCurrencies
from billing.model.catalogue import Catalogue
from billing.model.codes import RejectReason, TaxCategory
from billing.model.columns import MONEY, PRICE, QUANTITY
from billing.model.money import MAXIMUM_AMOUNT
from billing.store.home import Home

CHARGE_MEMBERS: Final = (
    "charge_id",
    "account_id",
    "on",
    "description",
    "quantity",
    "unit_price",
    "amount",
    "currency",
    "tax_category",
    "coupon_allowed",
    "at_once",
    "reason",
)
ONE_OFF_SCHEMA: Final = pl.Schema(
    {
        "charge_id": pl.String(),
        "account_id": pl.String(),
        "on": pl.Date(),
        "description": pl.String(),
        "quantity": QUANTITY,
        "unit_price": PRICE,
        "amount": MONEY,
        "currency": pl.String(),
        "tax_category": pl.String(),
        "coupon_allowed": pl.Boolean(),
        "at_once": pl.Boolean(),
        "reason": pl.String(),
    }
)
# Quantity times price, in units of 10^-15, leaves room for `round_fraction`.
_QUANTITY: Final = r"^[0-9]{1,9}(\.[0-9]{1,6})?$"
_UNIT_PRICE: Final = r"^-?[0-9]{1,9}(\.[0-9]{1,9})?$"
_QUANTITY_SCALE: Final = 6
_PRICE_SCALE: Final = 9


def read_one_off_charges(
    home: Home, catalogue: Catalogue, known: pl.Series, noticed: RowsRead, currencies: RowCurrencies
) -> pl.DataFrame:
    """ONE_OFF_SCHEMA, sorted by charge_id; an amount below 0 is given back, and has a reason.

    The amount is quantity x unit_price, rounded half-up to the currency's minor unit, or as given. quantity is null
    where none is given, unit_price where the amount is given alone. A negative amount takes no coupon.
    """
    files = input_files(home, "one_off_charges")
    if not files:
        return pl.DataFrame(schema=ONE_OFF_SCHEMA)
    table = InputTable(
        files,
        CHARGE_MEMBERS,
        "charge_id",
        home,
        catalogue.encoding,
        partial(_checked, _rules(currencies), currencies),
        kept=[
            *("charge_id", "account_id", "charged_on", "description", "counted", "price", "money", "charged_in"),
            *("category", "takes_coupon", "is_at_once", "stated_reason"),
        ],
    )
    content = [name for name in table.kept if name != "charge_id" and isinstance(name, str)]
    charges = counting_rows(table, known, content, noticed).select(
        "charge_id",
        "account_id",
        "description",
        on="charged_on",
        quantity=pl.col("counted").cast(QUANTITY),
        unit_price=pl.col("price").cast(PRICE),
        amount="money",
        currency="charged_in",
        tax_category="category",
        coupon_allowed="takes_coupon",
        at_once="is_at_once",
        reason="stated_reason",
    )
    return charges.select(ONE_OFF_SCHEMA.names()).sort("charge_id")


def _checked(rules: Sequence[RowRule], currencies: RowCurrencies, frame: pl.DataFrame) -> pl.DataFrame:
    counted = pl.when(pl.col("quantity").str.contains(_QUANTITY)).then("quantity").cast(pl.Decimal(38, _QUANTITY_SCALE))
    price = (
        pl.when(pl.col("unit_price").str.contains(_UNIT_PRICE)).then("unit_price").cast(pl.Decimal(38, _PRICE_SCALE))
    )
    parsed = frame.with_columns(
        hides_card_number(frame),
        charged_on=parse_day("on"),
        counted=counted,
        price=price,
        given=parse_money("amount"),
        category=pl.col("tax_category").str.to_uppercase(),
        is_at_once=says_yes("at_once").fill_null(value=False),
    )
    parsed = currencies.prepared(parsed).with_columns(charged_in=currencies.of_row())
    scale = pl.lit(10 ** (_QUANTITY_SCALE + _PRICE_SCALE), pl.Int128)
    product = pl.col("counted").fill_null(1).to_physical().cast(pl.Int128) * pl.col("price").to_physical()
    parsed = parsed.with_columns(computed=currencies.rounded(product, scale))
    parsed = parsed.with_columns(money=pl.when(pl.col("amount").is_null()).then("computed").otherwise("given"))
    takes_coupon = says_yes("coupon_allowed").fill_null(value=True) & (pl.col("money") >= 0)
    return first_wrong_rule(parsed.with_columns(takes_coupon=takes_coupon), *rules)


def _rules(currencies: RowCurrencies) -> list[RowRule]:
    expected = "an amount in {} of at most {} decimals, such as -12.50"
    is_given = pl.col("amount").is_not_null()
    return [
        unparseable_rule(),
        missing_rule("charge_id", "account_id", "on", "description"),
        *control_characters_rule(("charge_id", "account_id", "description"), CHARGE_MEMBERS),
        (
            RejectReason.MISSING_FIELD,
            ~is_given & pl.col("unit_price").is_null(),
            pl.lit("amount: found nothing, expected an amount, or a unit_price"),
        ),
        too_long_rule(CHARGE_MEMBERS),
        *not_a_day_rule({"on": "charged_on"}),
        (
            RejectReason.IMPOSSIBLE_VALUE,
            pl.col("quantity").is_not_null() & ~(pl.col("counted") > 0).fill_null(value=False),
            found_text("quantity", "a number above 0 and below 1,000,000,000, of at most 6 decimals"),
        ),
        (
            RejectReason.IMPOSSIBLE_VALUE,
            pl.col("unit_price").is_not_null() & pl.col("price").is_null(),
            found_text("unit_price", "a price below 1,000,000,000, of at most 9 decimals"),
        ),
        currencies.no_amount_rule(expected),
        (
            RejectReason.IMPOSSIBLE_VALUE,
            is_given & (pl.col("money") != pl.col("computed")),
            pl.format("amount: found '{}', expected {}: quantity x unit_price", "amount", _in_words("computed")),
        ),
        (
            RejectReason.IMPOSSIBLE_VALUE,
            pl.col("money").abs() >= pl.lit(MAXIMUM_AMOUNT).cast(MONEY),
            pl.lit("amount: found one of 10^14 or more, expected less"),
        ),
        currencies.wrong_currency_rule(),
        one_of_rule("tax_category", tuple(TaxCategory), pl.col("category")),
        *(yes_or_no_rule(name) for name in ("coupon_allowed", "at_once")),
        (
            RejectReason.MISSING_FIELD,
            (pl.col("money") < 0) & pl.col("stated_reason").is_null(),
            pl.format("reason: found nothing, expected why {} is given back", _in_words("money")),
        ),
        card_number_rule(),
    ]


def _in_words(amount: str) -> pl.Expr:
    return pl.col(amount).cast(pl.String).str.strip_chars_end("0").str.strip_chars_end(".")
