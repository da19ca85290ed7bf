"""E-invoices: the XML of documents by EN 16931, from their stored content and nothing else (rules 19 and 40).

Pure: content in, bytes out; the same content gives the same bytes. No amount is computed again: sums that the formats
demand are compared with those stored.
"""

from billing.einvoices.formats import InvoiceFormat, format_of
from billing.einvoices.invoice import InexpressibleError
from billing.einvoices.writing import write_xml

__all__ = ["InexpressibleError", "InvoiceFormat", "format_of", "write_xml"]
