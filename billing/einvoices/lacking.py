"""What documents lack for a format: unusual ones before they are issued, and issued ones for another format."""

from collections.abc import Iterator, Sequence
from typing import Final

import polars as pl

from billing.einvoices.formats import InvoiceFormat
from billing.einvoices.invoice import Invoice, Party, Tax
from billing.einvoices.requirements import FACTS, requirements, unknown_units, with_wrong_ids

_ROW: Final = "row"


def lacking(invoices: Sequence[tuple[Invoice, InvoiceFormat]]) -> list[tuple[str, ...]]:
    """What each document lacks for its format, as `Requirement.field` names it; nothing when it is complete."""
    rows = [
        {_ROW: row, **_facts(invoice, chosen, tax)}
        for row, (invoice, chosen) in enumerate(invoices)
        for tax in invoice.taxes
    ]
    facts = with_wrong_ids(pl.DataFrame(rows, schema={_ROW: pl.UInt32, **FACTS}))
    found: list[list[str]] = [[] for _ in invoices]
    asked = requirements()
    missing = facts.select(_ROW, *(each.is_missing.alias(str(number)) for number, each in enumerate(asked)))
    for number, each in enumerate(asked):
        for row in missing.filter(pl.col(str(number)))[_ROW].unique():
            found[row].append(each.field)
    for (invoice, _), fields in zip(invoices, found, strict=True):
        fields.extend(f"unit_code (found {code})" for code in unknown_units([line.unit for line in invoice.lines]))
    return [tuple(dict.fromkeys(fields)) for fields in found]


def _facts(invoice: Invoice, chosen: InvoiceFormat, tax: Tax) -> dict[str, str | bool | None]:
    seller, buyer, payment = invoice.seller, invoice.buyer, invoice.payment
    name, phone, email = seller.contact
    texts = {
        "format": chosen.value,
        **dict(_party(buyer)),
        "tax_id": buyer.vat_id,
        **{f"seller_{column}": text for column, text in _party(seller)},
        "seller_tax_id": seller.vat_id,
        "seller_tax_number": seller.tax_number,
        "seller_iban": payment.iban if payment else "",
        "contact_name": name,
        "contact_phone": phone,
        "contact_email": email,
        "buyer_reference": invoice.buyer_reference,
        "order_reference": invoice.order_reference,
        "category": tax.category,
        "exemption_reason": tax.reason,
        "exemption_code": tax.code,
    }
    return {
        **{column: text or None for column, text in texts.items()},
        "is_to_pay": invoice.payable > 0 and not invoice.is_credit_note,
        "names_no_document": invoice.is_credit_note and not invoice.preceding,
    }


def _party(party: Party) -> Iterator[tuple[str, str]]:
    yield "country", party.country
    yield "street", party.lines[0] if party.lines else ""
    yield "city", party.city
    yield "postal_code", party.postal_code
    yield "registration", str(party.registration or "")
    yield "electronic_address", str(party.electronic_address or "")
