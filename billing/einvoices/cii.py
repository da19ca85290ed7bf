"""UN/CEFACT Cross Industry Invoice (D16B) by EN 16931, the XML of Factur-X and ZUGFeRD."""

from datetime import date
from decimal import Decimal
from typing import Final

from billing.einvoices.elements import Element, Writer
from billing.einvoices.invoice import Invoice, Line, Party, Reduction, Tax
from billing.einvoices.xml_text import money, plain

_D16B: Final = "urn:un:unece:uncefact:data:standard"
_NAMESPACES: Final[dict[str | None, str]] = {
    "rsm": f"{_D16B}:CrossIndustryInvoice:100",
    "ram": f"{_D16B}:ReusableAggregateBusinessInformationEntity:100",
    "qdt": f"{_D16B}:QualifiedDataType:100",
    "udt": f"{_D16B}:UnqualifiedDataType:100",
}
_DISCOUNT: Final = "95"
_DAY: Final = "102"


def write(invoice: Invoice) -> bytes:
    """The document as CII; the same content gives the same bytes."""
    return _Cii(invoice).document()


class _Cii:
    def __init__(self, invoice: Invoice) -> None:
        self._invoice = invoice
        self._to = Writer(_NAMESPACES, "rsm:CrossIndustryInvoice")

    def document(self) -> bytes:
        invoice, to = self._invoice, self._to
        self._head()
        trade = to.group(to.root, "rsm:SupplyChainTradeTransaction")
        for line in invoice.lines:
            self._line(trade, line)
        agreement = to.group(trade, "ram:ApplicableHeaderTradeAgreement")
        to.text(agreement, "ram:BuyerReference", invoice.buyer_reference)
        self._party(agreement, "SellerTradeParty", invoice.seller)
        self._party(agreement, "BuyerTradeParty", invoice.buyer)
        if invoice.order_reference:
            order = to.group(agreement, "ram:BuyerOrderReferencedDocument")
            to.text(order, "ram:IssuerAssignedID", invoice.order_reference)
        delivery = to.group(trade, "ram:ApplicableHeaderTradeDelivery")
        if invoice.delivered_to:
            address = to.group(to.group(delivery, "ram:ShipToTradeParty"), "ram:PostalTradeAddress")
            to.text(address, "ram:CountryID", invoice.delivered_to)
        self._settlement(to.group(trade, "ram:ApplicableHeaderTradeSettlement"))
        return to.written()

    def _head(self) -> None:
        invoice, to = self._invoice, self._to
        context = to.group(to.root, "rsm:ExchangedDocumentContext")
        if invoice.process:
            process = to.group(context, "ram:BusinessProcessSpecifiedDocumentContextParameter")
            to.text(process, "ram:ID", invoice.process)
        guideline = to.group(context, "ram:GuidelineSpecifiedDocumentContextParameter")
        to.text(guideline, "ram:ID", invoice.customization)
        document = to.group(to.root, "rsm:ExchangedDocument")
        to.text(document, "ram:ID", invoice.number)
        to.text(document, "ram:TypeCode", invoice.type_code)
        self._date(document, "ram:IssueDateTime", invoice.issued_on)
        for note in invoice.notes:
            group = to.group(document, "ram:IncludedNote")
            to.text(group, "ram:Content", note.text)
            to.text(group, "ram:SubjectCode", note.subject)

    def _date(self, parent: Element, name: str, day: date | None, type_prefix: str = "udt") -> None:
        if day is not None:
            group = self._to.group(parent, name)
            self._to.text(group, f"{type_prefix}:DateTimeString", day.strftime("%Y%m%d"), format=_DAY)

    def _line(self, trade: Element, line: Line) -> None:
        to = self._to
        group = to.group(trade, "ram:IncludedSupplyChainTradeLineItem")
        to.text(to.group(group, "ram:AssociatedDocumentLineDocument"), "ram:LineID", line.id)
        product = to.group(group, "ram:SpecifiedTradeProduct")
        to.text(product, "ram:Name", line.name)
        to.text(product, "ram:Description", line.description)
        price = to.group(to.group(group, "ram:SpecifiedLineTradeAgreement"), "ram:NetPriceProductTradePrice")
        to.text(price, "ram:ChargeAmount", plain(line.price))
        if line.base != 1:
            to.text(price, "ram:BasisQuantity", plain(line.base), unitCode=line.unit)
        delivery = to.group(group, "ram:SpecifiedLineTradeDelivery")
        to.text(delivery, "ram:BilledQuantity", plain(line.quantity), unitCode=line.unit)
        settlement = to.group(group, "ram:SpecifiedLineTradeSettlement")
        tax = to.group(settlement, "ram:ApplicableTradeTax")
        self._category(tax, line.category, line.rate)
        self._period(settlement, line)
        for reduction in line.reductions:
            self._reduction(settlement, reduction, with_tax=False)
        totals = to.group(settlement, "ram:SpecifiedTradeSettlementLineMonetarySummation")
        self._amount(totals, "LineTotalAmount", line.amount)

    def _party(self, parent: Element, name: str, of: Party) -> None:
        to, party = self._to, self._to.group(parent, f"ram:{name}")
        to.text(party, "ram:ID", of.identifier)
        to.text(party, "ram:Name", of.name)
        if of.registration:
            legal = to.group(party, "ram:SpecifiedLegalOrganization")
            to.text(legal, "ram:ID", of.registration.id, schemeID=of.registration.scheme)
        if any(of.contact):
            person, phone, mail = of.contact
            contact = to.group(party, "ram:DefinedTradeContact")
            to.text(contact, "ram:PersonName", person)
            if phone:
                to.text(to.group(contact, "ram:TelephoneUniversalCommunication"), "ram:CompleteNumber", phone)
            if mail:
                to.text(to.group(contact, "ram:EmailURIUniversalCommunication"), "ram:URIID", mail)
        address = to.group(party, "ram:PostalTradeAddress")
        to.text(address, "ram:PostcodeCode", of.postal_code)
        for place, text in zip(("LineOne", "LineTwo", "LineThree"), of.lines, strict=False):
            to.text(address, f"ram:{place}", text)
        to.text(address, "ram:CityName", of.city)
        to.text(address, "ram:CountryID", of.country)
        to.text(address, "ram:CountrySubDivisionName", of.region)
        if of.electronic_address:
            uri = to.group(party, "ram:URIUniversalCommunication")
            to.text(uri, "ram:URIID", of.electronic_address.id, schemeID=of.electronic_address.scheme)
        for number, scheme in ((of.vat_id, "VA"), (of.tax_number, "FC")):
            if number:
                to.text(to.group(party, "ram:SpecifiedTaxRegistration"), "ram:ID", number, schemeID=scheme)

    def _settlement(self, settlement: Element) -> None:
        invoice, to = self._invoice, self._to
        if invoice.payment:
            to.text(settlement, "ram:PaymentReference", invoice.number)
        if invoice.tax_currency:
            to.text(settlement, "ram:TaxCurrencyCode", invoice.tax_currency[0])
        to.text(settlement, "ram:InvoiceCurrencyCode", invoice.currency)
        if payment := invoice.payment:
            means = to.group(settlement, "ram:SpecifiedTradeSettlementPaymentMeans")
            to.text(means, "ram:TypeCode", payment.code)
            account = to.group(means, "ram:PayeePartyCreditorFinancialAccount")
            to.text(account, "ram:IBANID", payment.iban)
            to.text(account, "ram:AccountName", payment.holder)
            if payment.bic:
                bank = to.group(means, "ram:PayeeSpecifiedCreditorFinancialInstitution")
                to.text(bank, "ram:BICID", payment.bic)
        for tax in invoice.taxes:
            self._tax(settlement, tax)
        self._period(settlement, invoice)
        for reduction in invoice.reductions:
            self._reduction(settlement, reduction, with_tax=True)
        if invoice.due_on:
            terms = to.group(settlement, "ram:SpecifiedTradePaymentTerms")
            self._date(terms, "ram:DueDateDateTime", invoice.due_on)
        self._totals(to.group(settlement, "ram:SpecifiedTradeSettlementHeaderMonetarySummation"))
        for number, day in invoice.preceding:
            reference = to.group(settlement, "ram:InvoiceReferencedDocument")
            to.text(reference, "ram:IssuerAssignedID", number)
            self._date(reference, "ram:FormattedIssueDateTime", day, "qdt")

    def _tax(self, settlement: Element, tax: Tax) -> None:
        to = self._to
        group = to.group(settlement, "ram:ApplicableTradeTax")
        self._amount(group, "CalculatedAmount", tax.amount)
        to.text(group, "ram:TypeCode", "VAT")
        to.text(group, "ram:ExemptionReason", tax.reason)
        self._amount(group, "BasisAmount", tax.taxable)
        to.text(group, "ram:CategoryCode", tax.category)
        to.text(group, "ram:ExemptionReasonCode", tax.code)
        to.text(group, "ram:RateApplicablePercent", "" if tax.rate is None else plain(tax.rate))

    def _category(self, group: Element, category: str, rate: Decimal | None) -> None:
        self._to.text(group, "ram:TypeCode", "VAT")
        self._to.text(group, "ram:CategoryCode", category)
        self._to.text(group, "ram:RateApplicablePercent", "" if rate is None else plain(rate))

    def _period(self, parent: Element, of: Invoice | Line) -> None:
        if of.start is not None or of.end is not None:
            period = self._to.group(parent, "ram:BillingSpecifiedPeriod")
            self._date(period, "ram:StartDateTime", of.start)
            self._date(period, "ram:EndDateTime", of.end)

    def _reduction(self, parent: Element, reduction: Reduction, *, with_tax: bool) -> None:
        to = self._to
        group = to.group(parent, "ram:SpecifiedTradeAllowanceCharge")
        to.text(to.group(group, "ram:ChargeIndicator"), "udt:Indicator", "true" if reduction.is_charge else "false")
        self._amount(group, "ActualAmount", abs(reduction.amount))
        if not reduction.is_charge:
            to.text(group, "ram:ReasonCode", _DISCOUNT)
        to.text(group, "ram:Reason", reduction.reason)
        if with_tax:
            self._category(to.group(group, "ram:CategoryTradeTax"), reduction.category, reduction.rate)

    def _totals(self, totals: Element) -> None:
        invoice, to = self._invoice, self._to
        self._amount(totals, "LineTotalAmount", invoice.line_total)
        if invoice.charges:
            self._amount(totals, "ChargeTotalAmount", invoice.charges)
        if invoice.allowances:
            self._amount(totals, "AllowanceTotalAmount", invoice.allowances)
        self._amount(totals, "TaxBasisTotalAmount", invoice.net)
        to.text(totals, "ram:TaxTotalAmount", money(invoice.tax, invoice.minor_units), currencyID=invoice.currency)
        if invoice.tax_currency:
            currency, amount = invoice.tax_currency
            to.text(totals, "ram:TaxTotalAmount", f"{amount if amount else abs(amount):f}", currencyID=currency)
        self._amount(totals, "GrandTotalAmount", invoice.total)
        if invoice.prepaid:
            self._amount(totals, "TotalPrepaidAmount", invoice.prepaid)
        self._amount(totals, "DuePayableAmount", invoice.payable)

    def _amount(self, parent: Element, name: str, amount: Decimal) -> None:
        self._to.text(parent, f"ram:{name}", money(amount, self._invoice.minor_units))
