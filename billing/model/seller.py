"""The seller as documents name it: address, registrations, contact, bank and look (rule 40)."""

import re
from dataclasses import dataclass
from typing import Final

INVOICE_FORMATS: Final = ("pdf", "facturx", "ubl", "xrechnung", "peppol")
"""Formats of documents: `invoice_format` of the policy and of accounts."""
FORMAT_MISSING: Final = ("park", "pdf")
"""What happens to an account that lacks a field of its format."""
_SCHEME: Final = re.compile(r"([0-9]{4}):(\S.{0,98})")


@dataclass(frozen=True)
class Identifier:
    """An id with the scheme that it belongs to: of a legal registration (BT-30) or an electronic address (BT-34)."""

    scheme: str
    id: str

    def __str__(self) -> str:
        """As `read_identifier` reads it."""
        return f"{self.scheme}:{self.id}"


def read_identifier(text: str) -> Identifier | None:
    """An id written as `0204:991-12345-67`; None when it has another form."""
    found = _SCHEME.fullmatch(text)
    return Identifier(found[1], found[2]) if found else None


@dataclass(frozen=True)
class Contact:
    """Whom customers ask: a name, a phone number and a mail address."""

    name: str
    phone: str
    email: str


@dataclass(frozen=True)
class Bank:
    """The account that customers pay to; `iban` without blanks."""

    holder: str
    iban: str
    bic: str


@dataclass(frozen=True)
class Seller:
    """The seller, as printed on every document; texts are empty when not set.

    Attributes
    ----------
    address
        Lines of an address, beside or instead of its fields.
    tax_number
        The number that a tax office gave, where there is no tax id, or beside it (BT-32).
    logo
        Name of an SVG or PNG file in the landing folder.
    pay_url
        Address at which a document is paid; `{number}` stands for its number.
    profile_url
        Address below which the folders of `profiles/` are published.
    language
        Language of documents of accounts without one (BCP 47).
    """

    name: str
    address: tuple[str, ...]
    country: str
    tax_id: str
    support_email: str
    billing_policy_url: str
    street: str = ""
    city: str = ""
    postal_code: str = ""
    region: str = ""
    registration: Identifier | None = None
    tax_number: str = ""
    contact: Contact | None = None
    logo: str = ""
    bank: Bank | None = None
    pay_url: str = ""
    footer: tuple[str, ...] = ()
    electronic_address: Identifier | None = None
    accent: str = ""
    language: str = ""
    profile_url: str = ""
