"""An e-invoice from the stored content of a document."""

from collections.abc import Mapping
from typing import Any

from billing.einvoices.formats import OF_UBL, InvoiceFormat
from billing.einvoices.reading import read_invoice


def write_xml(content: Mapping[str, Any], chosen: InvoiceFormat) -> bytes:
    """The e-invoice of an issued document: CII for Factur-X, UBL for the others.

    Raises
    ------
    InexpressibleError
        When the format cannot say what the document says, or the document's sums are not those of its lines.
    """
    # lxml is loaded by the first e-invoice: most homes have none.
    from billing.einvoices import cii, ubl

    invoice = read_invoice(content, chosen)
    return ubl.write(invoice) if chosen in OF_UBL else cii.write(invoice)
