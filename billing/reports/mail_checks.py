"""Warnings of `check` about mail addresses that no mail can be sent to, or from (rule 40)."""

from collections.abc import Iterator
from typing import Final

import polars as pl

from billing.inputs.input_files import input_files, read_rows
from billing.inputs.reading import Inputs
from billing.model.catalogue import Catalogue
from billing.model.mail_addresses import is_mail_address
from billing.model.seller import Seller
from billing.store.home import Home

_COLUMNS: Final = {
    "invoice_email": "a mail address: documents and reminders go there",
    "email": "a mail address: documents and reminders go there where invoice_email is empty",
}
_MOST_TOLD: Final = 5


def mail_address_warnings(home: Home, catalogue: Catalogue, inputs: Inputs) -> list[str]:
    """Addresses of accounts, with file and row, and of the seller that are none."""
    return [*_of_seller(catalogue.seller), *_of_accounts(home, catalogue, inputs.accounts)]


def _of_seller(seller: Seller) -> Iterator[str]:
    addresses = {"contact.email": seller.contact.email if seller.contact else "", "support_email": seller.support_email}
    for name, address in addresses.items():
        if address and not is_mail_address(address):
            yield f"catalogue.yaml: seller.{name}: found {address!r}, expected a mail address: customers write there"


def _of_accounts(home: Home, catalogue: Catalogue, accounts: pl.DataFrame) -> Iterator[str]:
    for column, expected in _COLUMNS.items():
        said = accounts[column].drop_nulls().unique()
        wrong = said.filter(pl.Series([not is_mail_address(text) for text in said], dtype=pl.Boolean))
        if wrong.is_empty():
            continue
        found = accounts.filter(pl.col(column).is_in(wrong.implode())).select("account_id", column)
        rows = read_rows(
            input_files(home, "accounts"), ["account_id", column], "account_id", home, catalogue.encoding, []
        )
        # Of several rows of an account the last one holds.
        places = rows.join(found, on=["account_id", column], how="semi", maintain_order="left").unique(
            "account_id", keep="last"
        )
        told = places.sort("place").select("file", "row", "account_id", column)
        for file, row, account, text in told.head(_MOST_TOLD).iter_rows():
            yield f"{file}: row {row}: {column}: found {text!r} ({account}), expected {expected}"
        if (further := len(told) - _MOST_TOLD) > 0:
            yield f"accounts: {column}: {further} more like these"
