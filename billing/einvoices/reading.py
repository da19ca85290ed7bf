"""Read the stored content of a document as EN 16931 knows it, and compare the sums that the standard demands."""

from collections.abc import Iterable, Mapping
from datetime import date
from decimal import Decimal
from typing import Any, Final

from billing.einvoices.code_lists import UNKNOWN_CURRENCIES
from billing.einvoices.formats import CUSTOMIZATION, FRENCH_FORMATS, FRENCH_PROCESS, PEPPOL_PROCESS, InvoiceFormat
from billing.einvoices.invoice import InexpressibleError, Invoice, Note, Party, Payment, Tax
from billing.einvoices.limits import MAIL, MOST_DECIMALS, currency_problem, without_rate
from billing.einvoices.lines import Amounts, read_lines, with_line_tax
from billing.einvoices.tax_categories import EXEMPTIONS, OUTSIDE, TaxKey, tax_key
from billing.einvoices.vat_ids import vat_id
from billing.einvoices.xml_text import one_line
from billing.model.codes import DocumentKind
from billing.model.seller import Identifier

Content = Mapping[str, Any]
_INVOICE, _CREDIT_NOTE, _DEBIT_NOTE = "380", "381", "383"
_OF_KIND: Final = {
    DocumentKind.INVOICE: _INVOICE,
    DocumentKind.CREDIT_NOTE: _CREDIT_NOTE,
    DocumentKind.DEBIT_NOTE: _DEBIT_NOTE,
}
_SEPA_TRANSFER, _TRANSFER = "58", "30"
_FRANCE: Final = "FR"
_GERMANY: Final = "DE"
# The words that French law prescribes for invoices between businesses (Code de commerce, L441-9 and L441-10).
_FRENCH_NOTES: Final = (
    Note("Indemnité forfaitaire pour frais de recouvrement en cas de retard de paiement : 40 euros.", "PMT"),
    Note(
        "En cas de retard de paiement, pénalités au taux d'intérêt appliqué par la Banque centrale européenne à son "
        "opération de refinancement la plus récente majoré de 10 points de pourcentage.",
        "PMD",
    ),
    Note("Pas d'escompte pour paiement anticipé.", "AAB"),
)


def read_invoice(content: Content, chosen: InvoiceFormat) -> Invoice:
    """The document as EN 16931 knows it; amounts of a credit note are turned round.

    Raises
    ------
    InexpressibleError
        When the format cannot say what the document says, or its sums are not those of its lines.
    """
    if content.get("template_version") != "2":
        raise InexpressibleError("it was issued before documents had the fields of e-invoices")
    if problem := currency_problem(content["currency"], content["minor_units"]):
        raise InexpressibleError(f"the format {problem}")
    amounts = Amounts(is_turned=content["kind"] == DocumentKind.CREDIT_NOTE)
    taxes = _taxes(content, amounts)
    lines, reductions = read_lines(with_line_tax(content["lines"], content["taxes"]), amounts)
    is_outside = any(tax.category == OUTSIDE for tax in taxes)
    seller, buyer = content["seller"], content["customer"]
    if problem := without_rate(chosen, taxes[0].category, seller["country"], buyer["country"]):
        raise InexpressibleError(f"the format {problem}")
    days = [day for line in lines for day in (line.start, line.end) if day is not None]
    invoice = Invoice(
        number=one_line(content["number"]),
        issued_on=date.fromisoformat(content["issued_on"]),
        due_on=date.fromisoformat(content["due_on"]) if content.get("due_on") else None,
        type_code=_type_code(content, chosen),
        currency=content["currency"],
        minor_units=content["minor_units"],
        tax_currency=_tax_currency(content, amounts),
        process=_process(seller, chosen),
        customization=CUSTOMIZATION[chosen],
        buyer_reference=one_line(content["buyer_reference"]),
        order_reference=one_line(content["order_reference"]),
        preceding=_preceding(content),
        notes=tuple(_notes(content, chosen)),
        seller=_seller(seller, chosen, with_vat_id=not is_outside),
        buyer=_buyer(
            # French rules know no id of a buyer without a scheme.
            buyer if seller["country"] != _FRANCE else {**buyer, "account_id": ""},
            chosen,
            with_vat_id=not is_outside,
        ),
        payment=_payment(seller, content["currency"]),
        lines=lines,
        reductions=reductions,
        taxes=taxes,
        line_total=sum((line.amount for line in lines), Decimal(0)),
        net=amounts.read(content["net"]),
        tax=amounts.read(content["tax"]),
        total=amounts.read(content["total"]),
        prepaid=amounts.read(content["credits_applied"]),
        payable=amounts.read(content["due"]),
        start=min(days, default=None),
        end=max(days, default=None),
    )
    _refuse_other_sums(invoice)
    return invoice


def _taxes(content: Content, amounts: Amounts) -> tuple[Tax, ...]:
    """A row a category and rate: taxes of several documents that are given back stand together."""
    entries: dict[TaxKey, Tax] = {}
    for entry in content["taxes"]:
        key = tax_key(entry["category"], entry["rate"])
        default = EXEMPTIONS.get(key.category, ("", ""))
        is_explained = key.category in EXEMPTIONS
        known = entries.get(key)
        entries[key] = Tax(
            key.category,
            key.rate,
            amounts.read(entry["taxable"]) + (known.taxable if known else 0),
            amounts.read(entry["amount"]) + (known.amount if known else 0),
            one_line(entry["exemption_reason"] or default[0]) if is_explained else "",
            (entry["exemption_code"] or default[1]) if is_explained else "",
        )
    if not entries:
        reason, code = EXEMPTIONS[OUTSIDE]
        return (Tax(OUTSIDE, None, amounts.read(content["net"]), Decimal(0), reason, code),)
    if len(entries) > 1 and any(key.category == OUTSIDE for key in entries):
        raise InexpressibleError("it has lines outside the scope of VAT (category O) beside others")
    return tuple(entries.values())


def _refuse_other_sums(invoice: Invoice) -> None:
    """Compare what the standard computes (BR-CO-10 to 16, BR-S-08 and the like) with what was issued."""
    by_tax = {TaxKey(tax.category, tax.rate): -tax.taxable for tax in invoice.taxes}
    for category, rate, amount in (
        *((line.category, line.rate, line.amount) for line in invoice.lines),
        *((each.category, each.rate, -each.amount) for each in invoice.reductions),
    ):
        key = TaxKey(category, rate)
        if key not in by_tax:
            raise InexpressibleError(f"a line has the tax category {category}, and the document has no such tax")
        by_tax[key] += amount
    differences = {
        "its lines are not its net": invoice.line_total - invoice.allowances + invoice.charges - invoice.net,
        "its taxes are not its tax": sum((tax.amount for tax in invoice.taxes), Decimal(0)) - invoice.tax,
        "its net and tax are not its total": invoice.net + invoice.tax - invoice.total,
        "its total less the credits applied is not what is due": invoice.total - invoice.prepaid - invoice.payable,
        "its lines are not what its taxes are on": next((each for each in by_tax.values() if each), Decimal(0)),
    }
    for what, difference in differences.items():
        if difference:
            raise InexpressibleError(f"{what}: they differ by {difference:f}")


def _type_code(content: Content, chosen: InvoiceFormat) -> str:
    code = _OF_KIND[content["kind"]]
    # BR-DE-17 and BR-FR-04 know no debit note: an invoice that names the document before it says the same.
    french = _FRANCE in (content["seller"]["country"], content["customer"]["country"])
    return _INVOICE if code == _DEBIT_NOTE and (french or chosen is InvoiceFormat.XRECHNUNG) else code


def _process(seller: Content, chosen: InvoiceFormat) -> str:
    if chosen in (InvoiceFormat.XRECHNUNG, InvoiceFormat.PEPPOL):
        return PEPPOL_PROCESS
    return FRENCH_PROCESS if seller["country"] == _FRANCE else ""


def _notes(content: Content, chosen: InvoiceFormat) -> Iterable[Note]:
    texts = [one_line(text) for text in (content["reason"], *content["notes"]) if text]
    its = content["tax_currency"]
    if its and its["tax"] is None:
        texts.append(f"{its['currency']}: no exchange rate is known.")
    # PEPPOL-EN16931-R002: one note, but between Germans.
    is_german = content["seller"]["country"] == content["customer"]["country"] == _GERMANY
    if chosen is InvoiceFormat.PEPPOL and not is_german:
        texts = [" / ".join(texts)] if texts else []
    yield from map(Note, texts)
    if content["seller"]["country"] == _FRANCE and chosen in FRENCH_FORMATS:
        yield from _FRENCH_NOTES


def _tax_currency(content: Content, amounts: Amounts) -> tuple[str, Decimal] | None:
    its = content["tax_currency"]
    if not its or its["tax"] is None:
        return None
    tax = amounts.read(its["tax"])
    cents = Decimal(1).scaleb(-MOST_DECIMALS)
    # A currency of three decimals, or one that is not known, cannot stand there: its amount is left out.
    is_known = its["currency"] not in UNKNOWN_CURRENCIES
    return (its["currency"], tax) if is_known and tax == tax.quantize(cents) else None


def _preceding(content: Content) -> tuple[tuple[str, date | None], ...]:
    """The document that a note corrects, with its day; of a credit note that is none those that its lines give back."""
    corrected = content["corrected"]
    if corrected:
        return ((one_line(corrected["number"]), date.fromisoformat(corrected["issued_on"])),)
    if content["kind"] != DocumentKind.CREDIT_NOTE:
        return ()
    days = {line["gives_back"]: line.get("gives_back_on") for line in content["lines"] if line.get("gives_back")}
    return tuple((one_line(number), date.fromisoformat(day) if day else None) for number, day in days.items())


def _payment(seller: Content, currency: str) -> Payment | None:
    bank = seller["bank"]
    if not bank:
        return None
    code = _SEPA_TRANSFER if currency == "EUR" else _TRANSFER
    return Payment(code, bank["iban"], bank["bic"], one_line(bank["holder"] or seller["name"]))


def _seller(seller: Content, chosen: InvoiceFormat, *, with_vat_id: bool) -> Party:
    contact = seller["contact"] or {"name": "", "phone": "", "email": ""}
    mail = contact["email"] or seller["support_email"]
    own = [seller["street"]] if seller["street"] else seller["address"]
    return Party(
        name=one_line(seller["name"]),
        lines=_address(own),
        city=one_line(seller["city"]),
        postal_code=one_line(seller["postal_code"]),
        region=one_line(seller["region"]),
        country=seller["country"],
        registration=_identifier(seller["registration"]),
        electronic_address=_electronic_address(seller["electronic_address"], mail, chosen),
        vat_id=vat_id(seller["tax_id"], seller["country"]) if with_vat_id else "",
        tax_number=one_line(seller["tax_number"]),
        contact=(one_line(contact["name"]), one_line(contact["phone"]), one_line(mail)),
    )


def _buyer(buyer: Content, chosen: InvoiceFormat, *, with_vat_id: bool) -> Party:
    return Party(
        name=one_line(buyer["name"]),
        lines=_address([buyer["street"], buyer["line2"]]),
        city=one_line(buyer["city"]),
        postal_code=one_line(buyer["postal_code"]),
        region=one_line(buyer["region"]),
        country=buyer["country"],
        registration=_identifier(buyer["registration"]),
        electronic_address=_electronic_address(buyer["electronic_address"], buyer["email"], chosen),
        vat_id=vat_id(buyer["tax_id"], buyer["country"]) if with_vat_id else "",
        identifier=one_line(buyer["account_id"]),
    )


def _address(lines: Iterable[str]) -> tuple[str, ...]:
    """At most three lines: what is over stands on the third."""
    said = [one_line(line) for line in lines if line.strip()]
    return (*said[:2], ", ".join(said[2:])) if len(said) > 2 else tuple(said)


def _identifier(entry: Content | None) -> Identifier | None:
    return Identifier(entry["scheme"] or "", one_line(entry["id"])) if entry else None


def _electronic_address(entry: Content | None, mail: str, chosen: InvoiceFormat) -> Identifier | None:
    """That of the party, else its mail address: Peppol alone knows no mail."""
    if entry or chosen is InvoiceFormat.PEPPOL or not mail:
        return _identifier(entry)
    return Identifier(MAIL, one_line(mail))
