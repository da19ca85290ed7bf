"""Reader of accounts: who is billed, and where (rule 28)."""

from collections.abc import Sequence
from functools import partial
from typing import Final

import polars as pl

from billing.inputs.checked_rows import InputTable, gathered, read_checked
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
    one_of_rule,
    says_yes,
    too_long_rule,
    unparseable_rule,
    yes_or_no_rule,
)
from billing.model.catalogue import Catalogue
from billing.model.codes import RejectReason
from billing.model.errors import RefusedError
from billing.model.money import CURRENCIES
from billing.model.regions import with_region_keys
from billing.model.seller import INVOICE_FORMATS
from billing.model.text import counted
from billing.store.home import Home

ACCOUNT_COLUMNS: Final = (
    "account_id",
    "name",
    "email",
    "address_line1",
    "address_line2",
    "city",
    "region",
    "postal_code",
    "country",
    "tax_id",
    "tax_exempt",
    "locale",
    "language",
    "payment_days",
    "order_reference",
    "buyer_reference",
    "electronic_address",
    "registration",
    "invoice_format",
    "invoice_email",
    "dunning",
    "tax_exempt_reason",
    "currency",
)
_IDENTIFIER: Final = r"^[0-9]{4}:\S.{0,98}$"


def read_accounts(home: Home, catalogue: Catalogue, noticed: RowsRead) -> pl.DataFrame:
    files = input_files(home, "accounts")
    if not files:
        raise RefusedError(
            f"{home.landing}: there are no accounts: expected accounts.csv, accounts.parquet or accounts.jsonl, or a "
            "folder accounts of such files"
        )
    texts = {column: pl.col(column) for column in ACCOUNT_COLUMNS}
    values = texts | {
        "country": pl.col("country").str.to_uppercase(),
        "tax_exempt": says_yes("tax_exempt").fill_null(value=False),
        "payment_days": pl.col("payment_days").cast(pl.Int16),
        "invoice_format": pl.col("invoice_format").str.to_lowercase(),
        "dunning": says_yes("dunning"),
        "currency": pl.col("currency").str.to_uppercase(),
    }
    table = InputTable(
        files,
        ACCOUNT_COLUMNS,
        "account_id",
        home,
        catalogue.encoding,
        partial(_checked, _rules()),
        kept=tuple(values.values()),
    )
    read = read_checked(table, noticed.warnings)
    noticed.set_aside(read.wrong, None, read.rows)
    order = read.good.select(pl.arg_sort_by("account_id", "place")).to_series()
    ids = read.good["account_id"].gather(order)
    repeated = ids.filter(ids == ids.shift()).unique().sort()
    noticed.warnings += [
        f"{files[0].name}: account {account_id} has more than one row: the last one holds"
        for account_id in repeated[:20]
    ]
    if len(repeated) > 20:
        noticed.warnings.append(
            f"{files[0].name}: {counted(len(repeated) - 20, 'more account')} with more than one row"
        )
    return gathered(read.good, order.filter(ids.ne_missing(ids.shift(-1)))).select(ACCOUNT_COLUMNS)


def _rules() -> list[RowRule]:
    return [
        unparseable_rule(),
        missing_rule("account_id"),
        *control_characters_rule(("account_id", "name"), ACCOUNT_COLUMNS),
        too_long_rule(ACCOUNT_COLUMNS),
        *(yes_or_no_rule(name) for name in ("tax_exempt", "dunning")),
        one_of_rule("invoice_format", INVOICE_FORMATS, pl.col("invoice_format").str.to_lowercase()),
        _form_rule("payment_days", r"^([0-9]|[1-9][0-9]|[12][0-9]{2}|3[0-5][0-9]|36[0-5])$", "days from 0 to 365"),
        *(
            _form_rule(name, _IDENTIFIER, "a scheme of four digits and an id, such as 9930:DE123456789")
            for name in ("electronic_address", "registration")
        ),
        (
            RejectReason.IMPOSSIBLE_VALUE,
            ~pl.col("currency").str.to_uppercase().is_in(sorted(CURRENCIES)),
            found_text("currency", "an ISO 4217 currency code with a minor unit, such as EUR"),
        ),
        card_number_rule(),
    ]


def _form_rule(column: str, form: str, expected: str) -> RowRule:
    return RejectReason.IMPOSSIBLE_VALUE, ~pl.col(column).str.contains(form), found_text(column, expected)


def _checked(rules: Sequence[RowRule], frame: pl.DataFrame) -> pl.DataFrame:
    return first_wrong_rule(frame.with_columns(hides_card_number(frame)), *rules)


def untaxed_accounts(accounts: pl.DataFrame, tax_rates: pl.DataFrame) -> list[str]:
    """Warn about accounts that cannot be taxed: there are taxes, and the account has no country."""
    nowhere = accounts.filter(pl.col("country").is_null())["account_id"]
    if tax_rates.is_empty() or nowhere.is_empty():
        return []
    further = f" and {len(nowhere) - 5} more" if len(nowhere) > 5 else ""
    return [
        f"accounts: found no country of {', '.join(nowhere[:5])}{further}, expected one in the column country: "
        "no tax is charged to them"
    ]


def accounts_without_regional_rate(accounts: pl.DataFrame, tax_rates: pl.DataFrame) -> list[str]:
    """Warn, per country with regional rates, about accounts in none of these regions."""
    regional = tax_rates.filter(pl.col("region").is_not_null())
    if regional.is_empty():
        return []
    rated = with_region_keys(regional, "key").select("country", "region", "key")
    placed = with_region_keys(accounts.join(rated, on="country", how="semi"), "key")
    found = []
    outside = placed.join(rated, on=["country", "key"], how="anti").sort("country", "account_id")
    for (country,), there in outside.group_by("country", maintain_order=True):
        examples = [
            f"{account_id} ({'no region' if region is None else repr(region)})"
            for account_id, region in there.select("account_id", "region").head(5).iter_rows()
        ]
        further = f" and {len(there) - 5} more" if len(there) > 5 else ""
        regions = rated.filter(pl.col("country") == country)["region"].unique().sort()
        found.append(
            f"accounts: found no rate for the region of {', '.join(examples)}{further}, expected one of the regions of "
            f"{country} in the tax table ({', '.join(regions)}): they pay the rates of the whole country only"
        )
    return found
