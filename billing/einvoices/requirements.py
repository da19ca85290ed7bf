"""What one document lacks for a format: for documents that are written in another format than they were issued in."""

from collections.abc import Iterator

from billing.einvoices.code_lists import ADDRESS_SCHEMES, COUNTRIES, EXEMPTION_CODES, REGISTRATION_SCHEMES, UNIT_CODES
from billing.einvoices.formats import FRENCH_FORMATS, InvoiceFormat
from billing.einvoices.identifiers import is_siren, is_usable
from billing.einvoices.invoice import Invoice
from billing.einvoices.tax_categories import OUTSIDE
from billing.model.codes import TaxCategory

_KVK = ("0106", "0190")
_MAIL = "EM"


def lacking(invoice: Invoice, chosen: InvoiceFormat) -> tuple[str, ...]:
    """The fields that a document lacks for a format, as `missing_for_format` names them; empty when it is complete."""
    return tuple(dict.fromkeys([*_parties(invoice, chosen), *_taxes(invoice), *_codes(invoice, chosen)]))


def _parties(invoice: Invoice, chosen: InvoiceFormat) -> Iterator[str]:
    seller, buyer = invoice.seller, invoice.buyer
    is_peppol = chosen is InvoiceFormat.PEPPOL
    national = is_peppol and seller.country == buyer.country
    as_german = chosen is InvoiceFormat.XRECHNUNG or (national and seller.country == "DE")
    dutch = national and seller.country == "NL"
    if not (seller.vat_id or seller.registration):
        yield "seller.registration" if _is_outside(invoice) else "seller.tax_id or seller.registration"
    if buyer.country not in COUNTRIES:
        yield "country"
    if seller.country not in COUNTRIES:
        yield "seller.country"
    for party, prefix in ((seller, "seller."), (buyer, "")):
        if as_german or dutch:
            yield from (f"{prefix}{name}" for name in ("city", "postal_code") if not getattr(party, name))
        if (is_peppol or chosen is InvoiceFormat.XRECHNUNG) and party.electronic_address is None:
            yield f"{prefix}electronic_address"
    if as_german:
        names = ("name", "phone", "email")
        yield from (f"seller.contact.{name}" for name, text in zip(names, seller.contact, strict=True) if not text)
    if (as_german or dutch) and invoice.payment is None:
        yield "seller.bank"
    if as_german and not invoice.buyer_reference:
        yield "buyer_reference"
    elif is_peppol and not (invoice.buyer_reference or invoice.order_reference):
        yield "buyer_reference or order_reference"
    if dutch and not (seller.registration and seller.registration.scheme in _KVK):
        yield "seller.registration with the scheme 0106 or 0190"
    if dutch and not buyer.lines:
        yield "address_line1"
    if seller.country == "FR" and chosen in FRENCH_FORMATS:
        if not is_siren(seller.registration):
            yield "seller.registration with the scheme 0002 and a SIREN of 9 digits"
        if seller.electronic_address is None:
            yield "seller.electronic_address or seller.support_email"
        if buyer.electronic_address is None:
            yield "electronic_address or email"


def _is_outside(invoice: Invoice) -> bool:
    return any(tax.category == OUTSIDE for tax in invoice.taxes)


def _taxes(invoice: Invoice) -> Iterator[str]:
    seller, buyer = invoice.seller, invoice.buyer
    for tax in invoice.taxes:
        by_id = tax.category in (TaxCategory.INTRA_COMMUNITY, TaxCategory.EXPORT)
        if by_id and not seller.vat_id:
            yield "seller.tax_id"
        elif tax.category != OUTSIDE and not (seller.vat_id or seller.tax_number):
            yield "seller.tax_id or seller.tax_number"
        if tax.category == TaxCategory.INTRA_COMMUNITY and not buyer.vat_id:
            yield "tax_id"
        if tax.category == TaxCategory.REVERSE_CHARGE and not (buyer.vat_id or buyer.registration):
            yield "tax_id"
        if tax.category == TaxCategory.EXEMPT and not (tax.reason or tax.code):
            yield "tax_exempt_reason or exemption_reason"
        if tax.code and tax.code not in EXEMPTION_CODES:
            yield "exemption_code"


def _codes(invoice: Invoice, chosen: InvoiceFormat) -> Iterator[str]:
    for party, prefix in ((invoice.seller, "seller."), (invoice.buyer, "")):
        address, registration = party.electronic_address, party.registration
        if address is not None and address.scheme not in ADDRESS_SCHEMES | {_MAIL}:
            yield f"{prefix}electronic_address with a known scheme"
        elif address is not None and chosen is InvoiceFormat.PEPPOL and not is_usable(address):
            yield f"{prefix}electronic_address with a valid id"
        if registration is not None and registration.scheme not in REGISTRATION_SCHEMES | {""}:
            yield f"{prefix}registration with a known scheme"
        elif registration is not None and chosen is InvoiceFormat.PEPPOL and not is_usable(registration):
            yield f"{prefix}registration with a valid id"
    yield from (f"unit_code (found {line.unit})" for line in invoice.lines if line.unit not in UNIT_CODES)
