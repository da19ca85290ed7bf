"""Seller, customers and their languages as letters store them."""

from dataclasses import asdict
from typing import Any

import polars as pl

from billing.documents.titles import document_locale_name, language
from billing.model.catalogue import Catalogue
from billing.month.business import Business

_CUSTOMER = {"street": "address_line1", "line2": "address_line2"}


def seller_of(catalogue: Catalogue) -> dict[str, Any]:
    """The seller as contents of documents store it."""
    seller = asdict(catalogue.seller)
    return {name: list(value) if isinstance(value, tuple) else value for name, value in seller.items()}


def customers_of(business: Business, accounts: pl.Series) -> dict[str, dict[str, Any]]:
    """By account: customer (as contents of documents store it), language, locale, to (its mail address).

    An account that has lost its row has its id alone.
    """
    rows = business.inputs.accounts.filter(pl.col("account_id").is_in(accounts.implode())).with_columns(
        language=language(business.catalogue),
        locale=document_locale_name(business.catalogue),
        to=pl.coalesce("invoice_email", "email"),
    )
    same = ("account_id", "name", "email", "city", "region", "postal_code", "country", "tax_id")
    found = {}
    for row in rows.iter_rows(named=True):
        customer = {name: row[name] or "" for name in same}
        customer |= {name: row[column] or "" for name, column in _CUSTOMER.items()}
        found[row["account_id"]] = {
            "customer": customer,
            "language": row["language"],
            "locale": row["locale"],
            "to": row["to"],
        }
    for account in set(accounts) - found.keys():
        usual = business.catalogue.seller.language or "en"
        found[account] = {"customer": {"account_id": account}, "language": usual, "locale": "", "to": None}
    return found


def own_words(catalogue: Catalogue, spoken: str) -> bytes | None:
    """The home's catalogue of a language, if any."""
    resources = catalogue.resources
    for tag in (spoken, spoken.split("-")[0]):
        if tag in resources.translations:
            return resources.files[resources.translations[tag]]
    return None


def logo_of(catalogue: Catalogue) -> bytes | None:
    """The seller's logo, if any."""
    resources = catalogue.resources
    return resources.files[resources.logo] if resources.logo else None
