"""What accounts lack for the format of their documents, and what the format cannot say (before anything is issued)."""

from collections.abc import Iterator
from typing import Final

import polars as pl

from billing.einvoices.code_lists import (
    ADDRESS_SCHEMES,
    COUNTRIES,
    EXEMPTION_CODES,
    REGISTRATION_SCHEMES,
    UNIT_CODES,
    UNKNOWN_CURRENCIES,
)
from billing.einvoices.formats import E_INVOICES, FRENCH_FORMATS, InvoiceFormat
from billing.einvoices.identifiers import CHECKED, is_siren, is_usable
from billing.einvoices.reading import MOST_DECIMALS
from billing.einvoices.tax_categories import EXEMPTIONS, OUTSIDE
from billing.model.catalogue import Catalogue
from billing.model.codes import TaxCategory
from billing.model.seller import Identifier, read_identifier

FIELD: Final = "field"
"""`kind` of a problem: a field is missing, or holds what the format does not know."""
INEXPRESSIBLE: Final = "inexpressible"
"""`kind` of a problem: the format has no place for it, whatever is filled in."""
PROBLEMS: Final = {"account_id": pl.String, "format": pl.String, "kind": pl.String, "what": pl.String}

_XRECHNUNG, _PEPPOL = InvoiceFormat.XRECHNUNG.value, InvoiceFormat.PEPPOL.value
_SELLER: Final = "in catalogue.yaml"
_ACCOUNT: Final = "in accounts"
_KVK: Final = ("0106", "0190")


def resolved_format(catalogue: Catalogue) -> pl.Expr:
    """`invoice_format` of accounts; that of the policy where it is null."""
    return pl.col("invoice_format").fill_null(catalogue.policy.invoice_format)


def missing_for_format(accounts: pl.DataFrame, taxes: pl.DataFrame, catalogue: Catalogue) -> pl.DataFrame:
    """What stands in the way of accounts' documents in their format: account_id, format, kind, what; sorted.

    Parameters
    ----------
    accounts
        As `Inputs.accounts`.
    taxes
        account_id, billing_date, category, exemption_reason, exemption_code, of documents that there would be; one of
        these accounts without a row is not taxed.
    """
    chosen = accounts.with_columns(format=resolved_format(catalogue)).filter(pl.col("format") != InvoiceFormat.PDF)
    nothing = pl.DataFrame(schema=PROBLEMS)
    if chosen.is_empty():
        return nothing
    taxed = chosen.select("account_id", "format", "country", "tax_id", "registration").join(
        taxes, on="account_id", how="left", maintain_order="left"
    )
    found = [
        frame.filter(is_missing).select("account_id", "format", kind=pl.lit(kind), what=pl.lit(what))
        for frame, problems in (
            (chosen, [*_currency(catalogue), *_of_seller(catalogue), *_of_accounts(catalogue), *_unusable(chosen)]),
            (taxed, [*_of_taxes(catalogue), *_unknown_codes(taxed)]),
        )
        for kind, is_missing, what in problems
    ]
    return pl.concat([nothing, *found, _several(taxed)]).unique().sort("account_id", "kind", "what")


def problems_in_words(problems: pl.DataFrame) -> pl.DataFrame:
    """account_id, detail: what stands in the way of an account's format, as one sentence."""
    return (
        problems.group_by("account_id", "format", maintain_order=True)
        .agg(pl.col("what"))
        .select("account_id", detail=pl.format("its format {} {}", "format", pl.col("what").list.join("; ")))
    )


_Problem = tuple[str, pl.Expr, str]


def _currency(catalogue: Catalogue) -> Iterator[_Problem]:
    if catalogue.minor_units > MOST_DECIMALS:
        what = f"has amounts of two decimals, and {catalogue.currency} has {catalogue.minor_units}"
        yield INEXPRESSIBLE, pl.lit(value=True), what
    if catalogue.currency in UNKNOWN_CURRENCIES:
        yield INEXPRESSIBLE, pl.lit(value=True), f"does not know the currency {catalogue.currency}"


def _of_seller(catalogue: Catalogue) -> Iterator[_Problem]:
    seller = catalogue.seller
    contact, country = seller.contact, seller.country
    every, in_format = pl.lit(value=True), pl.col("format")
    national = (in_format == _PEPPOL) & (pl.col("country") == country)
    as_german = (in_format == _XRECHNUNG) | (national if country == "DE" else pl.lit(value=False))
    placed = as_german | (national if country == "NL" else pl.lit(value=False))
    has_mail = contact is not None and bool(contact.email or seller.support_email)
    if not (seller.tax_id or seller.registration):
        yield FIELD, every, f"needs seller.tax_id or seller.registration {_SELLER}"
    for name, text, where in (
        ("seller.city", seller.city, placed),
        ("seller.postal_code", seller.postal_code, placed),
        ("seller.contact.name", contact and contact.name, as_german),
        ("seller.contact.phone", contact and contact.phone, as_german),
        ("seller.contact.email", has_mail, as_german),
        ("seller.bank", seller.bank, placed),
        ("seller.electronic_address", seller.electronic_address, in_format == _PEPPOL),
    ):
        if not text:
            yield FIELD, where, f"needs {name} {_SELLER}"
    if country == "NL" and not (seller.registration and seller.registration.scheme in _KVK):
        yield FIELD, national, f"needs seller.registration with the scheme 0106 or 0190 {_SELLER}"
    if country == "FR":
        french = in_format.is_in(FRENCH_FORMATS)
        if not is_siren(seller.registration):
            yield FIELD, french, f"needs seller.registration with the scheme 0002 and a SIREN of 9 digits {_SELLER}"
        if not (seller.electronic_address or has_mail or seller.support_email):
            yield FIELD, french, f"needs seller.electronic_address or seller.support_email {_SELLER}"
    for name, its in (("electronic_address", seller.electronic_address), ("registration", seller.registration)):
        if its is not None and not is_usable(its):
            yield FIELD, in_format == _PEPPOL, f"does not know the id of seller.{name} {_SELLER}: its checksum is wrong"
    yield from _schemes(every, seller.electronic_address, "seller.electronic_address", ADDRESS_SCHEMES)
    yield from _schemes(every, seller.registration, "seller.registration", REGISTRATION_SCHEMES | {""})
    if country not in COUNTRIES:
        yield FIELD, every, f"does not know the country {country} of the seller {_SELLER}"
    for metric in catalogue.metrics:
        if metric.unit_code not in UNIT_CODES:
            yield FIELD, every, f"does not know the unit_code {metric.unit_code} of metric {metric.name} {_SELLER}"


def _schemes(where: pl.Expr, found: Identifier | None, name: str, known: frozenset[str]) -> Iterator[_Problem]:
    if found is not None and found.scheme not in known:
        yield FIELD, where, f"does not know the scheme {found.scheme} of {name} {_SELLER}"


def _of_accounts(catalogue: Catalogue) -> Iterator[_Problem]:
    in_format, country = pl.col("format"), catalogue.seller.country
    german = in_format == _XRECHNUNG
    if country == "DE":
        german |= (in_format == _PEPPOL) & (pl.col("country") == "DE")
    is_peppol = in_format == _PEPPOL
    yield FIELD, pl.col("country").is_null(), f"needs country {_ACCOUNT}"
    known_country = pl.col("country").is_in(sorted(COUNTRIES))
    yield FIELD, ~known_country, f"does not know the country {_ACCOUNT}: expected a code of ISO 3166-1 alpha-2"
    for name in ("city", "postal_code"):
        yield FIELD, german & pl.col(name).is_null(), f"needs {name} {_ACCOUNT}"
    yield FIELD, german & pl.col("buyer_reference").is_null(), f"needs buyer_reference {_ACCOUNT}"
    no_reference = pl.col("buyer_reference").is_null() & pl.col("order_reference").is_null()
    yield FIELD, is_peppol & ~german & no_reference, f"needs buyer_reference or order_reference {_ACCOUNT}"
    no_address = pl.col("electronic_address").is_null()
    yield FIELD, is_peppol & no_address, f"needs electronic_address {_ACCOUNT}"
    by_mail = in_format == _XRECHNUNG
    if country == "FR":
        by_mail |= in_format.is_in(FRENCH_FORMATS)
    without_mail = by_mail & no_address & pl.col("email").is_null()
    yield FIELD, without_mail, f"needs electronic_address or email {_ACCOUNT}"
    for name, known in (("electronic_address", ADDRESS_SCHEMES), ("registration", REGISTRATION_SCHEMES)):
        scheme = pl.col(name).str.slice(0, 4)
        yield FIELD, ~scheme.is_in(sorted(known)), f"does not know the scheme of {name} {_ACCOUNT}"
    if country == "NL":
        dutch = is_peppol & (pl.col("country") == "NL")
        for column, name in (("address_line1", "address_line1"), ("city", "city"), ("postal_code", "postal_code")):
            yield FIELD, dutch & pl.col(column).is_null(), f"needs {name} {_ACCOUNT}"


def _unusable(accounts: pl.DataFrame) -> Iterator[_Problem]:
    """Ids that are wrong by the checksum of their scheme: Peppol refuses them."""
    for name in ("electronic_address", "registration"):
        is_checked = (pl.col("format") == _PEPPOL) & pl.col(name).str.slice(0, 4).is_in(list(CHECKED))
        there = accounts.filter(is_checked)[name].unique().sort()
        read = ((text, read_identifier(text)) for text in there)
        wrong = [text for text, identifier in read if identifier is not None and not is_usable(identifier)]
        if wrong:
            yield FIELD, pl.col(name).is_in(wrong), f"does not know the id of {name} {_ACCOUNT}: its checksum is wrong"


def _of_taxes(catalogue: Catalogue) -> Iterator[_Problem]:
    seller, category = catalogue.seller, pl.col("category").fill_null(OUTSIDE)
    outside = category == OUTSIDE
    yield (
        INEXPRESSIBLE,
        (pl.col("format") == _XRECHNUNG) & outside,
        "has a tax rate for everything, and no tax of the table holds (category O)",
    )
    if seller.registration is None:
        yield FIELD, outside, f"needs seller.registration {_SELLER}, as no tax of the table holds (category O)"
    if not seller.tax_id:
        by_id = category.is_in([TaxCategory.INTRA_COMMUNITY, TaxCategory.EXPORT])
        yield FIELD, by_id, f"needs seller.tax_id {_SELLER}"
        if not seller.tax_number:
            yield FIELD, ~outside & ~by_id, f"needs seller.tax_id or seller.tax_number {_SELLER}"
    no_id = pl.col("tax_id").is_null()
    reverse = category == TaxCategory.REVERSE_CHARGE
    yield FIELD, reverse & no_id & pl.col("registration").is_null(), f"needs tax_id {_ACCOUNT} (reverse charge)"
    yield FIELD, (category == TaxCategory.INTRA_COMMUNITY) & no_id, f"needs tax_id {_ACCOUNT} (category K)"
    unexplained = pl.col("exemption_reason").is_null() & pl.col("exemption_code").is_null()
    yield (
        FIELD,
        (category == TaxCategory.EXEMPT) & unexplained,
        f"needs tax_exempt_reason {_ACCOUNT}, or exemption_reason in tax_rates",
    )


def _unknown_codes(taxed: pl.DataFrame) -> Iterator[_Problem]:
    """Codes of reasons that are none; a tax that is charged has no reason, whatever the table says."""
    is_explained = pl.col("category").is_in(list(EXEMPTIONS))
    codes = taxed.filter(is_explained)["exemption_code"].drop_nulls().unique().sort()
    for code in codes:
        if code not in EXEMPTION_CODES:
            yield (
                FIELD,
                is_explained & (pl.col("exemption_code") == code),
                f"does not know the exemption_code {code} in tax_rates",
            )


def _several(taxed: pl.DataFrame) -> pl.DataFrame:
    """Accounts with several taxes on one document."""
    several = (
        taxed.filter(pl.col("category").is_not_null())
        .group_by("account_id", "format", "billing_date", maintain_order=True)
        .agg(_count=pl.len())
        .filter(pl.col("_count") > 1)
    )
    what = "has one tax rate a line, and several taxes are charged together"
    return several.select("account_id", "format", kind=pl.lit(INEXPRESSIBLE), what=pl.lit(what))


def uses_e_invoices(accounts: pl.DataFrame, catalogue: Catalogue) -> bool:
    """Whether any account has another format than PDF."""
    return bool(accounts.select(resolved_format(catalogue).is_in(list(E_INVOICES)).any()).item())
