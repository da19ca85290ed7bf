"""UBL 2.1: an invoice or a credit note by EN 16931 (UBL, XRechnung, Peppol BIS Billing)."""

from decimal import Decimal
from typing import Final

from billing.einvoices.elements import Element, Writer
from billing.einvoices.invoice import Invoice, Line, Party, Reduction, Tax
from billing.einvoices.xml_text import money, plain

_COMMON: Final = "urn:oasis:names:specification:ubl:schema:xsd:Common"
_NAMESPACES: Final[dict[str | None, str]] = {
    "cac": f"{_COMMON}AggregateComponents-2",
    "cbc": f"{_COMMON}BasicComponents-2",
}
_DISCOUNT: Final = "95"


def write(invoice: Invoice) -> bytes:
    """The document as UBL; the same content gives the same bytes."""
    return _Ubl(invoice).document()


class _Ubl:
    def __init__(self, invoice: Invoice) -> None:
        self._invoice = invoice
        kind = "CreditNote" if invoice.is_credit_note else "Invoice"
        self._kind = kind
        spaces: dict[str | None, str] = {None: f"urn:oasis:names:specification:ubl:schema:xsd:{kind}-2", **_NAMESPACES}
        self._to = Writer(spaces, kind)

    def document(self) -> bytes:
        invoice, to = self._invoice, self._to
        self._head(to.root)
        self._party(to.group(to.root, "cac:AccountingSupplierParty"), invoice.seller)
        self._party(to.group(to.root, "cac:AccountingCustomerParty"), invoice.buyer)
        if invoice.delivered_to:
            address = to.group(to.group(to.group(to.root, "cac:Delivery"), "cac:DeliveryLocation"), "cac:Address")
            # BR-DE-10 and 11: XRechnung wants city and postal code wherever there is an address of delivery.
            to.text(address, "cbc:CityName", invoice.buyer.city)
            to.text(address, "cbc:PostalZone", invoice.buyer.postal_code)
            to.text(to.group(address, "cac:Country"), "cbc:IdentificationCode", invoice.delivered_to)
        self._payment(to.root)
        for reduction in invoice.reductions:
            self._reduction(to.root, reduction, with_tax=True)
        self._taxes(to.root)
        self._totals(to.root)
        for line in invoice.lines:
            self._line(to.root, line)
        return to.written()

    def _head(self, root: Element) -> None:
        invoice, to = self._invoice, self._to
        to.text(root, "cbc:CustomizationID", invoice.customization)
        to.text(root, "cbc:ProfileID", invoice.process)
        to.text(root, "cbc:ID", invoice.number)
        to.text(root, "cbc:IssueDate", invoice.issued_on.isoformat())
        if invoice.due_on and not invoice.is_credit_note:
            to.text(root, "cbc:DueDate", invoice.due_on.isoformat())
        to.text(root, f"cbc:{self._kind}TypeCode", invoice.type_code)
        for note in invoice.notes:
            to.text(root, "cbc:Note", f"#{note.subject}#{note.text}" if note.subject else note.text)
        to.text(root, "cbc:DocumentCurrencyCode", invoice.currency)
        if invoice.tax_currency:
            to.text(root, "cbc:TaxCurrencyCode", invoice.tax_currency[0])
        to.text(root, "cbc:BuyerReference", invoice.buyer_reference)
        self._period(root, self._invoice)
        if invoice.order_reference:
            to.text(to.group(root, "cac:OrderReference"), "cbc:ID", invoice.order_reference)
        for number, day in invoice.preceding:
            reference = to.group(to.group(root, "cac:BillingReference"), "cac:InvoiceDocumentReference")
            to.text(reference, "cbc:ID", number)
            to.text(reference, "cbc:IssueDate", day.isoformat() if day else "")

    def _period(self, parent: Element, of: Invoice | Line) -> None:
        if of.start is None and of.end is None:
            return
        period = self._to.group(parent, "cac:InvoicePeriod")
        for name, day in (("StartDate", of.start), ("EndDate", of.end)):
            self._to.text(period, f"cbc:{name}", day.isoformat() if day else "")

    def _party(self, parent: Element, of: Party) -> None:
        to, party = self._to, self._to.group(parent, "cac:Party")
        if of.electronic_address:
            to.text(party, "cbc:EndpointID", of.electronic_address.id, schemeID=of.electronic_address.scheme)
        if of.identifier:
            to.text(to.group(party, "cac:PartyIdentification"), "cbc:ID", of.identifier)
        address = to.group(party, "cac:PostalAddress")
        for name, text in zip(("StreetName", "AdditionalStreetName"), of.lines, strict=False):
            to.text(address, f"cbc:{name}", text)
        to.text(address, "cbc:CityName", of.city)
        to.text(address, "cbc:PostalZone", of.postal_code)
        to.text(address, "cbc:CountrySubentity", of.region)
        for text in of.lines[2:]:
            to.text(to.group(address, "cac:AddressLine"), "cbc:Line", text)
        to.text(to.group(address, "cac:Country"), "cbc:IdentificationCode", of.country)
        for number, scheme in ((of.vat_id, "VAT"), (of.tax_number, "FC")):
            if number:
                its = to.group(party, "cac:PartyTaxScheme")
                to.text(its, "cbc:CompanyID", number)
                to.text(to.group(its, "cac:TaxScheme"), "cbc:ID", scheme)
        legal = to.group(party, "cac:PartyLegalEntity")
        to.text(legal, "cbc:RegistrationName", of.name)
        if of.registration:
            to.text(legal, "cbc:CompanyID", of.registration.id, schemeID=of.registration.scheme)
        if any(of.contact):
            contact = to.group(party, "cac:Contact")
            for name, text in zip(("Name", "Telephone", "ElectronicMail"), of.contact, strict=True):
                to.text(contact, f"cbc:{name}", text)

    def _payment(self, root: Element) -> None:
        invoice, to = self._invoice, self._to
        payment = invoice.payment
        if payment:
            means = to.group(root, "cac:PaymentMeans")
            to.text(means, "cbc:PaymentMeansCode", payment.code)
            # A UBL credit note has no due date of its own.
            if invoice.is_credit_note and invoice.due_on:
                to.text(means, "cbc:PaymentDueDate", invoice.due_on.isoformat())
            to.text(means, "cbc:PaymentID", invoice.number)
            account = to.group(means, "cac:PayeeFinancialAccount")
            to.text(account, "cbc:ID", payment.iban)
            to.text(account, "cbc:Name", payment.holder)
            if payment.bic:
                to.text(to.group(account, "cac:FinancialInstitutionBranch"), "cbc:ID", payment.bic)

    def _reduction(self, parent: Element, reduction: Reduction, *, with_tax: bool) -> None:
        to = self._to
        group = to.group(parent, "cac:AllowanceCharge")
        to.text(group, "cbc:ChargeIndicator", "true" if reduction.is_charge else "false")
        if not reduction.is_charge:
            to.text(group, "cbc:AllowanceChargeReasonCode", _DISCOUNT)
        to.text(group, "cbc:AllowanceChargeReason", reduction.reason)
        self._amount(group, "Amount", abs(reduction.amount))
        if with_tax:
            self._category(group, "TaxCategory", reduction.category, reduction.rate)

    def _taxes(self, root: Element) -> None:
        invoice, to = self._invoice, self._to
        total = to.group(root, "cac:TaxTotal")
        self._amount(total, "TaxAmount", invoice.tax)
        for tax in invoice.taxes:
            group = to.group(total, "cac:TaxSubtotal")
            self._amount(group, "TaxableAmount", tax.taxable)
            self._amount(group, "TaxAmount", tax.amount)
            self._category(group, "TaxCategory", tax.category, tax.rate, tax)
        if invoice.tax_currency:
            currency, amount = invoice.tax_currency
            to.text(to.group(root, "cac:TaxTotal"), "cbc:TaxAmount", plain_money(amount), currencyID=currency)

    def _category(
        self, parent: Element, name: str, category: str, rate: Decimal | None, why: Tax | None = None
    ) -> None:
        to = self._to
        group = to.group(parent, f"cac:{name}")
        to.text(group, "cbc:ID", category)
        to.text(group, "cbc:Percent", "" if rate is None else plain(rate))
        if why is not None:
            to.text(group, "cbc:TaxExemptionReasonCode", why.code)
            to.text(group, "cbc:TaxExemptionReason", why.reason)
        to.text(to.group(group, "cac:TaxScheme"), "cbc:ID", "VAT")

    def _totals(self, root: Element) -> None:
        invoice = self._invoice
        totals = self._to.group(root, "cac:LegalMonetaryTotal")
        self._amount(totals, "LineExtensionAmount", invoice.line_total)
        self._amount(totals, "TaxExclusiveAmount", invoice.net)
        self._amount(totals, "TaxInclusiveAmount", invoice.total)
        if invoice.allowances:
            self._amount(totals, "AllowanceTotalAmount", invoice.allowances)
        if invoice.charges:
            self._amount(totals, "ChargeTotalAmount", invoice.charges)
        if invoice.prepaid:
            self._amount(totals, "PrepaidAmount", invoice.prepaid)
        self._amount(totals, "PayableAmount", invoice.payable)

    def _line(self, root: Element, line: Line) -> None:
        to = self._to
        group = to.group(root, f"cac:{self._kind}Line")
        to.text(group, "cbc:ID", line.id)
        quantity = "CreditedQuantity" if self._invoice.is_credit_note else "InvoicedQuantity"
        to.text(group, f"cbc:{quantity}", plain(line.quantity), unitCode=line.unit)
        self._amount(group, "LineExtensionAmount", line.amount)
        self._period(group, line)
        for reduction in line.reductions:
            self._reduction(group, reduction, with_tax=False)
        item = to.group(group, "cac:Item")
        to.text(item, "cbc:Description", line.description)
        to.text(item, "cbc:Name", line.name)
        self._category(item, "ClassifiedTaxCategory", line.category, line.rate)
        price = to.group(group, "cac:Price")
        to.text(price, "cbc:PriceAmount", plain(line.price), currencyID=self._invoice.currency)
        if line.base != 1:
            to.text(price, "cbc:BaseQuantity", plain(line.base), unitCode=line.unit)

    def _amount(self, parent: Element, name: str, amount: Decimal) -> None:
        invoice = self._invoice
        self._to.text(parent, f"cbc:{name}", money(amount, invoice.minor_units), currencyID=invoice.currency)


def plain_money(amount: Decimal) -> str:
    """An amount of another currency as it is stored, without negative zero."""
    return f"{amount if amount else abs(amount):f}"
