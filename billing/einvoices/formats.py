"""The formats of e-invoices, and what tells them apart (BT-23, BT-24)."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from billing.model.seller import INVOICE_FORMATS


class InvoiceFormat(StrEnum):
    """`invoice_format` of the policy and of accounts, and `format` of a document's content."""

    PDF = "pdf"
    FACTURX = "facturx"
    UBL = "ubl"
    XRECHNUNG = "xrechnung"
    PEPPOL = "peppol"


E_INVOICES: Final = tuple(each for each in InvoiceFormat if each is not InvoiceFormat.PDF)
XML_FILES: Final = (InvoiceFormat.UBL, InvoiceFormat.XRECHNUNG, InvoiceFormat.PEPPOL)
"""Formats that are a file of their own beside the PDF; a Factur-X document is in the PDF."""
OF_UBL: Final = XML_FILES
FRENCH_FORMATS: Final = (InvoiceFormat.FACTURX, InvoiceFormat.UBL)
"""Formats that carry what French law adds, where the seller is in France."""

CUSTOMIZATION: Final[Mapping[InvoiceFormat, str]] = {
    InvoiceFormat.FACTURX: "urn:cen.eu:en16931:2017",
    InvoiceFormat.UBL: "urn:cen.eu:en16931:2017",
    InvoiceFormat.XRECHNUNG: "urn:cen.eu:en16931:2017#compliant#urn:xeinkauf.de:kosit:xrechnung_3.0",
    InvoiceFormat.PEPPOL: "urn:cen.eu:en16931:2017#compliant#urn:fdc:peppol.eu:2017:poacc:billing:3.0",
}
PEPPOL_PROCESS: Final = "urn:fdc:peppol.eu:2017:poacc:billing:01:1.0"
FRENCH_PROCESS: Final = "S1"
"""Deposit of an invoice for services, in the French reform."""


def format_of(content: Mapping[str, Any]) -> InvoiceFormat:
    """The format that a document was issued in; of documents from before there were formats, pdf."""
    text = content.get("format") or InvoiceFormat.PDF
    return InvoiceFormat(text)


assert tuple(InvoiceFormat) == INVOICE_FORMATS  # noqa: S101 # two lists of one thing
