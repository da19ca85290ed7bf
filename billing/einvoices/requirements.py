"""What e-invoice formats ask for and cannot say: the one list, for accounts before issuing and for documents.

Both are read into a frame of facts. Accounts are asked by `missing.py`, documents by `lacking.py`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final

import polars as pl

from billing.einvoices.code_lists import (
    ADDRESS_SCHEMES,
    COUNTRIES,
    EXEMPTION_CODES,
    REGISTRATION_SCHEMES,
    UNIT_CODES,
)
from billing.einvoices.formats import FRENCH_FORMATS, InvoiceFormat
from billing.einvoices.identifiers import CHECKED, is_usable
from billing.einvoices.limits import MAIL
from billing.einvoices.tax_categories import EXEMPTIONS, OUTSIDE
from billing.model.codes import TaxCategory
from billing.model.seller import Identifier

FACTS: Final = {
    **dict.fromkeys(("format", "country", "tax_id", "registration", "street", "city", "postal_code"), pl.String),
    **dict.fromkeys(("electronic_address", "buyer_reference", "order_reference"), pl.String),
    **dict.fromkeys(("seller_country", "seller_tax_id", "seller_tax_number", "seller_registration"), pl.String),
    **dict.fromkeys(("seller_street", "seller_city", "seller_postal_code", "seller_iban"), pl.String),
    **dict.fromkeys(("contact_name", "contact_phone", "contact_email", "seller_electronic_address"), pl.String),
    **dict.fromkeys(("category", "exemption_reason", "exemption_code"), pl.String),
    **dict.fromkeys(("is_to_pay", "names_no_document"), pl.Boolean),
}
"""What is asked about: a row per tax of an account or a document, null where nothing is known.

Ids are written as `scheme:id`; an electronic address is the mail address where that may stand for it. `is_to_pay`: the
customer pays something. `names_no_document`: a credit note that names no earlier document.
"""
_IDS: Final = ("electronic_address", "registration", "seller_electronic_address", "seller_registration")
_IN_CATALOGUE, _IN_ACCOUNTS = "in catalogue.yaml", "in accounts"
_DUTCH_REGISTRATIONS: Final = ("0106", "0190")
_WITH_VAT_ID: Final = (TaxCategory.INTRA_COMMUNITY, TaxCategory.EXPORT)


@dataclass(frozen=True)
class Requirement:
    """One thing that a format asks for.

    Attributes
    ----------
    field
        What a document lacks.
    asked
        What an account is told: the same, with what was found, and where it is set.
    is_missing
        Over facts, with the columns of `with_wrong_ids`.
    """

    field: str
    asked: pl.Expr
    is_missing: pl.Expr


def with_wrong_ids(facts: pl.DataFrame) -> pl.DataFrame:
    """The facts, and of each id `<name>_is_wrong`: its scheme has a form or a checksum that it does not keep."""
    for name in _IDS:
        checked = facts[name].filter(facts[name].str.slice(0, 4).is_in(CHECKED)).unique()
        wrong = [text for text in checked if not is_usable(Identifier(text[:4], text[5:]))]
        facts = facts.with_columns(pl.col(name).is_in(wrong).alias(f"{name}_is_wrong"))
    return facts


@cache
def requirements() -> tuple[Requirement, ...]:
    """Everything that a format asks for, in the order in which it is named."""
    return (*_of_seller(), *_of_customer(), *_of_taxes(), *_of_codes())


def unknown_units(codes: list[str]) -> list[str]:
    """Codes that are no unit of UN/ECE Recommendations 20 and 21, in their order."""
    return [code for code in dict.fromkeys(codes) if code not in UNIT_CODES]


_IN_XRECHNUNG: Final = pl.col("format") == InvoiceFormat.XRECHNUNG.value
_IN_PEPPOL: Final = pl.col("format") == InvoiceFormat.PEPPOL.value
_IN_FRENCH: Final = pl.col("format").is_in([each.value for each in FRENCH_FORMATS])
_SELLER: Final = pl.col("seller_country")
_IS_NATIONAL: Final = _IN_PEPPOL & (pl.col("country") == _SELLER)
# Peppol asks between Germans what XRechnung asks (DE-R), and more of sellers in the Netherlands and Italy.
_AS_GERMAN: Final = _IN_XRECHNUNG | (_IS_NATIONAL & (_SELLER == "DE"))
_AS_DUTCH: Final = _IN_PEPPOL & (_SELLER == "NL")
_AS_ITALIAN: Final = _IN_PEPPOL & (_SELLER == "IT")
_IS_OUTSIDE: Final = pl.col("category") == OUTSIDE


def _none(*names: str) -> pl.Expr:
    """None of the facts is known."""
    return pl.all_horizontal(pl.col(name).is_null() for name in names)


def _scheme(name: str) -> pl.Expr:
    return pl.col(name).str.extract("^([^:]*):", 1)


def _needs(field: str, where: pl.Expr, *, beside: str = "") -> Requirement:
    """A field of the seller or of the account that is not there."""
    place = _IN_CATALOGUE if field.startswith("seller.") else _IN_ACCOUNTS
    return Requirement(field, pl.lit(f"needs {field} {place}{beside}"), where)


def _of_seller() -> Iterator[Requirement]:
    placed = _AS_GERMAN | _AS_DUTCH | _AS_ITALIAN
    yield _needs("seller.tax_id or seller.registration", ~_IS_OUTSIDE & _none("seller_tax_id", "seller_registration"))
    yield _needs(
        "seller.registration",
        _IS_OUTSIDE & _none("seller_registration"),
        beside=", as no tax of the table holds (category O)",
    )
    yield _needs("seller.street", (_AS_DUTCH | _AS_ITALIAN) & _none("seller_street"))
    yield _needs("seller.city", placed & _none("seller_city"))
    yield _needs("seller.postal_code", placed & _none("seller_postal_code"))
    for name in ("name", "phone", "email"):
        yield _needs(f"seller.contact.{name}", _AS_GERMAN & _none(f"contact_{name}"))
    yield _needs("seller.bank", (_AS_GERMAN | (_AS_DUTCH & pl.col("is_to_pay"))) & _none("seller_iban"))
    yield _needs("seller.electronic_address", _IN_PEPPOL & _none("seller_electronic_address"))
    is_dutch = _scheme("seller_registration").is_in(_DUTCH_REGISTRATIONS).fill_null(value=False)
    yield _needs("seller.registration with the scheme 0106 or 0190", _AS_DUTCH & ~is_dutch)
    number = pl.col("seller_tax_number").str.contains("^[A-Z0-9]{11,16}$")
    yield _needs("seller.tax_number of 11 to 16 letters and digits", _AS_ITALIAN & ~number)
    is_siren = pl.col("seller_registration").str.contains("^0002:[0-9]{9}$").fill_null(value=False)
    french = _IN_FRENCH & (_SELLER == "FR")
    yield _needs("seller.registration with the scheme 0002 and a SIREN of 9 digits", french & ~is_siren)
    yield _needs("seller.electronic_address or seller.support_email", french & _none("seller_electronic_address"))


def _of_customer() -> Iterator[Requirement]:
    dutch = _AS_DUTCH & _IS_NATIONAL
    yield _needs("country", _none("country"))
    yield _needs("address_line1", dutch & _none("street"))
    yield _needs("city", (_AS_GERMAN | dutch) & _none("city"))
    yield _needs("postal_code", (_AS_GERMAN | dutch) & _none("postal_code"))
    yield _needs("buyer_reference", _AS_GERMAN & _none("buyer_reference"))
    yield _needs(
        "buyer_reference or order_reference",
        _IN_PEPPOL & ~_AS_GERMAN & _none("buyer_reference", "order_reference"),
    )
    yield _needs("electronic_address", _IN_PEPPOL & _none("electronic_address"))
    by_mail = _IN_XRECHNUNG | (_IN_FRENCH & (_SELLER == "FR"))
    yield _needs("electronic_address or email", by_mail & _none("electronic_address"))
    yield _needs(
        "registration with the scheme 0106 or 0190", dutch & ~_scheme("registration").is_in(_DUTCH_REGISTRATIONS)
    )
    # NL-R-001: a credit that was never billed, such as a negative one-off charge, names no invoice.
    yield _needs("number of a document that it credits", _AS_DUTCH & pl.col("names_no_document"))


def _of_taxes() -> Iterator[Requirement]:
    category, with_id = pl.col("category"), pl.col("category").is_in([each.value for each in _WITH_VAT_ID])
    yield _needs("seller.tax_id", with_id & _none("seller_tax_id"))
    yield _needs(
        "seller.tax_id or seller.tax_number",
        ~_IS_OUTSIDE & ~with_id & _none("seller_tax_id", "seller_tax_number"),
    )
    reverse = category == TaxCategory.REVERSE_CHARGE.value
    yield _needs("tax_id", reverse & _none("tax_id", "registration"), beside=" (reverse charge)")
    within = category == TaxCategory.INTRA_COMMUNITY.value
    yield _needs("tax_id", within & _none("tax_id"), beside=" (category K)")
    unexplained = (category == TaxCategory.EXEMPT.value) & _none("exemption_reason", "exemption_code")
    yield Requirement(
        "tax_exempt_reason or exemption_reason",
        pl.lit(f"needs tax_exempt_reason {_IN_ACCOUNTS}, or exemption_reason in tax_rates"),
        unexplained,
    )


def _of_codes() -> Iterator[Requirement]:
    """Codes and ids that the formats do not know."""
    for column, place in (
        ("country", f"{_IN_ACCOUNTS}: expected a code of ISO 3166-1 alpha-2"),
        ("seller_country", f"of the seller {_IN_CATALOGUE}"),
    ):
        field = f"{_written(column)} of ISO 3166-1"
        yield _known(field, "does not know the country {} " + place, pl.col(column), COUNTRIES)
    for column, schemes in (
        ("electronic_address", ADDRESS_SCHEMES | {MAIL}),
        ("registration", REGISTRATION_SCHEMES),
        ("seller_electronic_address", ADDRESS_SCHEMES | {MAIL}),
        ("seller_registration", REGISTRATION_SCHEMES | {""}),
    ):
        field = _written(column)
        place = f"{field} {_IN_CATALOGUE if column.startswith('seller_') else _IN_ACCOUNTS}"
        told = "does not know the scheme {} of " + place
        yield _known(f"{field} with a known scheme", told, _scheme(column), schemes)
        yield Requirement(
            f"{field} with a valid id",
            pl.lit(f"does not know the id of {place}: its checksum is wrong"),
            _IN_PEPPOL & pl.col(f"{column}_is_wrong"),
        )
    # A tax that is charged has no reason, whatever the table says.
    code = pl.when(pl.col("category").is_in(list(EXEMPTIONS))).then("exemption_code")
    told = "does not know the exemption_code {} in tax_rates"
    yield _known("exemption_code of the list VATEX", told, code, EXEMPTION_CODES)


def _written(column: str) -> str:
    return column.replace("seller_", "seller.")


def _known(field: str, told: str, found: pl.Expr, codes: frozenset[str]) -> Requirement:
    """A code that stands there must be one of the list; `told` has a place for it."""
    return Requirement(field, pl.format(told, found), ~found.is_in(sorted(codes)))
