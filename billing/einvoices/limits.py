"""Limits of e-invoice formats that are asked for without frames: the command line loads them."""

from typing import Final

from billing.einvoices.code_lists import UNKNOWN_CURRENCIES
from billing.einvoices.formats import InvoiceFormat
from billing.einvoices.tax_categories import OUTSIDE

MAIL: Final = "EM"
"""Scheme of a mail address that stands for an electronic address: Peppol alone knows no mail."""
MOST_DECIMALS: Final = 2


def currency_problem(currency: str, minor_units: int) -> str | None:
    """Why no document in a currency can be an e-invoice."""
    if minor_units > MOST_DECIMALS:
        return f"has amounts of two decimals, and {currency} has {minor_units}"
    return f"does not know the currency {currency}" if currency in UNKNOWN_CURRENCIES else None


def without_rate(chosen: InvoiceFormat, category: str, seller_country: str, country: str | None) -> str | None:
    """Why a document of a tax category cannot be in a format (BR-DE-14, and DE-R-014 of Peppol between Germans)."""
    is_german = chosen is InvoiceFormat.PEPPOL and seller_country == country == "DE"
    if category == OUTSIDE and (is_german or chosen is InvoiceFormat.XRECHNUNG):
        return "has a tax rate for everything, and no tax of the table holds (category O)"
    return None
