"""What e-invoices go wrong about, one by one, and that each document of the sample is valid by the official rules."""

import itertools
import json
import re
import string
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any, Final

import pytest
from lxml import etree

from billing.einvoices import InexpressibleError, InvoiceFormat, format_of, write_xml
from billing.einvoices.code_lists import COUNTRIES, UNKNOWN_CURRENCIES
from billing.einvoices.formats import E_INVOICES
from billing.einvoices.reading import read_invoice
from billing.einvoices.vat_ids import vat_id
from billing.model.money import minor_units
from tests.invoice_rules import RULES, SCHEMATRONS, findings
from tests.rich_documents import Content, brief, credit_note, debit_note, invoice, line, part

UBL, FACTURX, XRECHNUNG, PEPPOL = (
    InvoiceFormat.UBL,
    InvoiceFormat.FACTURX,
    InvoiceFormat.XRECHNUNG,
    InvoiceFormat.PEPPOL,
)
SPACES: Final = {
    "cbc": "urn:oasis:names:specification:ubl:schema:xsd:CommonBasicComponents-2",
    "cac": "urn:oasis:names:specification:ubl:schema:xsd:CommonAggregateComponents-2",
    "ram": "urn:un:unece:uncefact:data:standard:ReusableAggregateBusinessInformationEntity:100",
    "rsm": "urn:un:unece:uncefact:data:standard:CrossIndustryInvoice:100",
    "udt": "urn:un:unece:uncefact:data:standard:UnqualifiedDataType:100",
    "qdt": "urn:un:unece:uncefact:data:standard:QualifiedDataType:100",
}


def texts(content: Content, path: str, chosen: InvoiceFormat = UBL) -> list[str]:
    """The texts at a path of a document's XML, which is valid."""
    xml = write_xml(content, chosen)
    assert findings(xml) == []
    return [element.text or "" for element in etree.fromstring(xml).iterfind(f".//{path}", SPACES)]


def of_lines(*lines: Content, **changes: Any) -> Content:
    """A document of these lines, taxed at 19 %."""
    net = sum((Decimal(each["amount"]) for each in lines), Decimal(0))
    tax = (net * 19 / 100).quantize(Decimal("0.01"))
    numbered = [{**each, "line": number} for number, each in enumerate(lines, start=1)]
    taxes = [invoice("de")["taxes"][0] | {"taxable": f"{net:.2f}", "amount": f"{tax:.2f}"}]
    amounts = {"net": f"{net:.2f}", "tax": f"{tax:.2f}", "total": f"{net + tax:.2f}", "due": f"{net + tax:.2f}"}
    return brief("de", lines=numbered, taxes=taxes, **amounts, **changes)


def untaxed(**changes: Any) -> Content:
    content = brief("de", **changes)
    content["lines"] = [{**each, "tax_category": "O", "tax_rate": None} for each in content["lines"]]
    return content


def of_category(category: str, **tax: Any) -> Content:
    """A fee of one category that charges nothing."""
    content = brief("de")
    row = invoice("de")["taxes"][0] | {"taxable": "299.00", "amount": "0.00", "category": category} | tax
    content["lines"] = [{**content["lines"][0], "tax_category": category, "tax_rate": "0.19"}]
    return content | {"taxes": [row]}


@pytest.mark.parametrize("chosen", E_INVOICES)
@pytest.mark.parametrize("make", [invoice, credit_note, debit_note], ids=["invoice", "credit note", "debit note"])
def test_every_kind_of_document_is_valid_in_every_format(make: Callable[..., Content], chosen: InvoiceFormat) -> None:
    assert findings(write_xml(make("de"), chosen)) == []


def test_a_reverse_charge_credit_note_has_no_negative_zero() -> None:
    assert texts(credit_note("de"), "cac:TaxSubtotal/cbc:TaxAmount") == ["0.00"]
    assert texts(credit_note("de"), "ram:CalculatedAmount", FACTURX) == ["0.00"]
    for chosen in E_INVOICES:
        assert b">-0" not in write_xml(credit_note("de", tax="-0.00", credits_applied="-0.00"), chosen)


def test_amounts_of_a_credit_note_are_positive_and_name_what_they_correct() -> None:
    content = credit_note("de")
    assert texts(content, "cac:LegalMonetaryTotal/cbc:PayableAmount") == ["374.00"]
    assert texts(content, "cbc:CreditNoteTypeCode") == ["381"]
    assert texts(content, "cac:InvoiceDocumentReference/cbc:ID") == ["INV-2026-000042"]
    assert texts(content, "cac:InvoiceDocumentReference/cbc:IssueDate") == ["2026-02-10"]
    assert texts(content, "ram:InvoiceReferencedDocument/ram:FormattedIssueDateTime/qdt:DateTimeString", FACTURX) == [
        "20260210"
    ]


@pytest.mark.parametrize("chosen", E_INVOICES)
def test_a_credit_note_that_corrects_none_names_the_documents_that_it_gives_back(chosen: InvoiceFormat) -> None:
    lines = [line(invoice("de"), 4, amount="-50.00", gives_back=f"INV-2026-00000{number}") for number in (7, 8, 7)]
    content = of_lines(*lines) | {"kind": "credit_note"}
    xml = write_xml(content, chosen)
    assert findings(xml) == []
    assert [xml.count(f">INV-2026-00000{number}<".encode()) for number in (7, 8)] == [1, 1]


@pytest.mark.parametrize("chosen", [UBL, FACTURX])
def test_what_a_credit_note_gives_back_is_named_with_its_day(chosen: InvoiceFormat) -> None:
    content = french(credit_note("fr")) | {"corrects": None, "corrected": None}
    back = {"gives_back": "INV-2026-000007", "gives_back_on": "2026-01-10"}
    content["lines"] = [each | back for each in content["lines"]]
    assert read_invoice(content, chosen).preceding == (("INV-2026-000007", date(2026, 1, 10)),)
    assert findings(write_xml(content, chosen), french=True) == []
    without = content | {"lines": [each | {"gives_back_on": None} for each in content["lines"]]}
    assert any("BR-FR-CO-05" in each for each in findings(write_xml(without, chosen), french=True))


def test_a_negative_line_has_a_negative_quantity_and_a_positive_price() -> None:
    content = of_lines(line(invoice("de"), 0), line(invoice("de"), 4, amount="-12.50"))
    assert texts(content, "cbc:InvoicedQuantity") == ["1", "-1"]
    assert texts(content, "cbc:PriceAmount") == ["299", "12.5"]
    assert texts(content, "cbc:LineExtensionAmount")[1:] == ["299.00", "-12.50"]


def test_what_is_charged_in_a_credit_note_is_negative_there() -> None:
    content = of_lines(line(invoice("de"), 0, amount="-299.00"), line(invoice("de"), 1, amount="75.00"))
    content |= {"kind": "credit_note"}
    assert texts(content, "cbc:CreditedQuantity") == ["1", "-1"]


def test_periods_end_on_the_last_day_of_a_half_open_cycle() -> None:
    content = invoice("de")
    assert content["lines"][1]["cycle_end"] == "2026-02-10"
    assert texts(content, "cac:InvoiceLine/cac:InvoicePeriod/cbc:EndDate")[1] == "2026-02-09"
    days = texts(content, "ram:SpecifiedLineTradeSettlement//ram:EndDateTime/udt:DateTimeString", FACTURX)
    assert days[1] == "20260209"


def test_quantity_times_price_is_the_amount_of_every_line() -> None:
    content = invoice("de")
    found = etree.fromstring(write_xml(content, PEPPOL))
    for each in found.iterfind("cac:InvoiceLine", SPACES):
        quantity, amount, price, base = (
            Decimal(each.findtext(path, "1", SPACES))
            for path in (
                "cbc:InvoicedQuantity",
                "cbc:LineExtensionAmount",
                "cac:Price/cbc:PriceAmount",
                "cac:Price/cbc:BaseQuantity",
            )
        )
        assert quantity * price / base == amount
    # Blocks of 1,000 are a price per base quantity; graduated and earlier cycles are one at the amount.
    assert texts(content, "cbc:InvoicedQuantity") == ["1", "25000", "12", "1", "1"]
    assert texts(content, "cbc:BaseQuantity") == ["1000"]
    units = etree.fromstring(write_xml(content, UBL)).iterfind(".//cbc:InvoicedQuantity", SPACES)
    assert [each.get("unitCode") for each in units] == ["C62", "C62", "E34", "C62", "C62"]


def test_a_minimum_or_maximum_is_one_at_the_amount() -> None:
    bounded = line(invoice("de"), 1, amount="80.00", bounds={"minimum": "80", "maximum": None})
    assert texts(of_lines(bounded), "cbc:InvoicedQuantity") == ["1"]


def test_a_percentage_is_one_at_the_amount_and_a_rule_is_named() -> None:
    tariff: Content = {"model": "percentage", "size": None, "tiers": [], "percent": "2.9", "events": "3"}
    measured = {"quantity": "169.99", "allowance": "0", "excess": "169.99", "billed_units": "169.99"}
    row = line(invoice("de"), 1, **measured, amount="5.83", unit_price=None, tariff=tariff, rule="brand=amex")
    content = of_lines({**row, "metric_title": "Payments (brand amex)"})
    assert texts(content, "cbc:InvoicedQuantity") == ["1"]
    assert texts(content, "cac:Price/cbc:PriceAmount") == ["5.83"]
    assert "Payments (brand amex)" in texts(content, "cac:Item/cbc:Name")


def test_a_debit_note_is_an_invoice_where_the_country_knows_none() -> None:
    content = debit_note("de")
    french = part(content, "customer", country="FR")
    codes = {(chosen, country): texts(each, "cbc:InvoiceTypeCode", chosen) for chosen, country, each in (
        (UBL, "DE", content), (PEPPOL, "DE", content), (XRECHNUNG, "DE", content), (UBL, "FR", french)
    )}  # fmt: skip
    assert codes == {
        (UBL, "DE"): ["383"],
        (PEPPOL, "DE"): ["383"],
        (XRECHNUNG, "DE"): ["380"],
        (UBL, "FR"): ["380"],
    }
    # It still names the document that it corrects.
    assert texts(content, "cac:InvoiceDocumentReference/cbc:ID", XRECHNUNG) == ["INV-2026-000042"]


def test_credits_applied_are_prepaid() -> None:
    content = of_lines(line(invoice("de"), 0))
    total = Decimal(content["total"])
    content |= {"credits_applied": "100.00", "due": f"{total - 100:.2f}"}
    assert texts(content, "cbc:PrepaidAmount") == ["100.00"]
    assert texts(content, "ram:TotalPrepaidAmount", FACTURX) == ["100.00"]
    assert texts(content, "cac:LegalMonetaryTotal/cbc:PayableAmount") == [f"{total - 100:.2f}"]


@pytest.mark.parametrize("chosen", E_INVOICES)
def test_coupons_are_allowances_of_their_line_or_of_the_document(chosen: InvoiceFormat) -> None:
    fee = line(invoice("de"), 0)
    coupon = {**fee, "kind": "coupon", "description": "Spring offer", "quantity": None}
    content = of_lines(fee, coupon | {"amount": "-29.90", "applies_to_line": 1}, coupon | {"amount": "-10.00"})
    assert findings(write_xml(content, chosen)) == []
    if chosen is UBL:
        assert texts(content, "cac:InvoiceLine/cac:AllowanceCharge/cbc:Amount") == ["29.90"]
        assert texts(content, "cac:InvoiceLine/cbc:LineExtensionAmount") == ["269.10"]
        assert texts(content, "cbc:AllowanceTotalAmount") == ["10.00"]
        assert texts(content, "cbc:AllowanceChargeReason") == ["Spring offer", "Spring offer"]
        assert texts(content, "cac:LegalMonetaryTotal/cbc:TaxExclusiveAmount") == [content["net"]]


def test_a_coupon_that_is_taken_back_is_a_charge() -> None:
    fee = line(invoice("de"), 0)
    content = of_lines(fee, {**fee, "kind": "coupon", "description": "Spring offer", "amount": "5.00"})
    assert texts(content, "cac:AllowanceCharge/cbc:ChargeIndicator") == ["true"]
    assert texts(content, "cbc:ChargeTotalAmount") == ["5.00"]


@pytest.mark.parametrize("chosen", [UBL, FACTURX, PEPPOL])
def test_what_is_outside_of_vat_carries_no_vat_ids(chosen: InvoiceFormat) -> None:
    content = part(untaxed(), "customer", tax_id="IE6433435F")
    xml = write_xml(content, chosen)
    assert findings(xml) == []
    assert b"DE123456788</" not in xml.replace(b'"9930">DE123456788', b"") and b"IE6433435F" not in xml


def test_an_xrechnung_cannot_say_what_is_outside_of_vat() -> None:
    with pytest.raises(InexpressibleError, match="category O"):
        write_xml(untaxed(), XRECHNUNG)


def test_peppol_between_germans_cannot_say_what_is_outside_of_vat() -> None:
    """DE-R-014."""
    assert texts(untaxed(), "cac:TaxCategory/cbc:ID", PEPPOL) == ["O"]
    with pytest.raises(InexpressibleError, match="category O"):
        write_xml(part(untaxed(), "customer", country="DE"), PEPPOL)


def test_an_address_of_delivery_has_city_and_postal_code() -> None:
    """BR-DE-10 and BR-DE-11, where the category of a tax depends on the country that is delivered to."""
    content = of_category("K", reason="exempt", exemption_reason=None, exemption_code=None)
    content = part(content, "customer", tax_id="IE6433435F")
    for chosen in (UBL, XRECHNUNG, PEPPOL):
        place = texts(content, "cac:DeliveryLocation/cac:Address/*", chosen)
        assert place[:2] == ["Dublin", "D02 X285"]
    assert texts(content, "cac:DeliveryLocation/cac:Address/cac:Country/cbc:IdentificationCode") == ["IE"]


def test_peppol_has_one_note_but_between_germans() -> None:
    """PEPPOL-EN16931-R002."""
    content = debit_note("de") | {"tax_currency": {"currency": "CHF", "tax": None, "rate": None, "rate_on": None}}
    said = ["API calls of one day were missing.", "CHF: no exchange rate is known."]
    assert texts(content, "cbc:Note", PEPPOL) == [" / ".join(said)]
    assert texts(part(content, "customer", country="DE"), "cbc:Note", PEPPOL) == said
    assert texts(content, "cbc:Note", UBL) == said


@pytest.mark.parametrize(
    ("category", "further", "code"),
    [
        ("AE", {"reason": "reverse_charge"}, "VATEX-EU-AE"),
        ("E", {"reason": "exempt", "exemption_reason": "Kleinunternehmer"}, None),
        ("K", {"reason": "exempt"}, "VATEX-EU-IC"),
        ("G", {"reason": "exempt"}, "VATEX-EU-G"),
        ("Z", {"rate": "0"}, None),
    ],
)
def test_what_charges_nothing_has_its_category_and_reason(category: str, further: Content, code: str | None) -> None:
    content = of_category(category, **({"exemption_reason": None, "exemption_code": None} | further))
    content = part(content, "customer", tax_id="IE6433435F")
    for chosen in E_INVOICES:
        assert findings(write_xml(content, chosen)) == []
    assert texts(content, "cac:TaxSubtotal/cac:TaxCategory/cbc:Percent") == ["0"]
    assert texts(content, "cbc:TaxExemptionReasonCode") == ([code] if code else [])


def test_the_tax_amount_in_the_currency_of_the_country_stands_beside() -> None:
    content = debit_note("de")
    assert texts(content, "cbc:TaxCurrencyCode") == ["EUR"]
    assert texts(content, "cac:TaxTotal/cbc:TaxAmount") == ["91.20", "82.91"]
    unknown = content | {"tax_currency": {"currency": "CHF", "tax": None, "rate": None, "rate_on": None}}
    assert texts(unknown, "cbc:TaxCurrencyCode") == []
    assert "CHF: no exchange rate is known." in texts(unknown, "cbc:Note")


def test_a_tax_currency_of_three_decimals_is_left_out() -> None:
    content = debit_note("de") | {
        "tax_currency": {"currency": "KWD", "tax": "27.961", "rate": "0.3066", "rate_on": "2026-02-19"}
    }
    assert texts(content, "cbc:TaxCurrencyCode") == []


def test_amounts_of_three_decimals_cannot_be_said() -> None:
    with pytest.raises(InexpressibleError, match="two decimals, and KWD has 3"):
        write_xml(brief("de", currency="KWD", minor_units=3), UBL)


def test_two_taxes_on_one_line_cannot_be_said() -> None:
    content = brief("de")
    content["lines"] = [{**content["lines"][0], "tax_category": None, "tax_rate": None}]
    with pytest.raises(InexpressibleError, match="several taxes are on one line"):
        write_xml(content, UBL)


def test_what_is_outside_of_vat_cannot_stand_beside_what_is_taxed() -> None:
    content = of_lines(line(invoice("de"), 0))
    outside = content["taxes"][0] | {"category": "O", "taxable": "0.00", "amount": "0.00", "reason": "exempt"}
    with pytest.raises(InexpressibleError, match="beside others"):
        write_xml(content | {"taxes": [*content["taxes"], outside]}, UBL)


def test_taxes_of_several_documents_that_are_given_back_stand_in_one_row() -> None:
    content = of_lines(line(invoice("de"), 0), line(invoice("de"), 1))
    row = content["taxes"][0]
    split = [row | {"taxable": "299.00", "amount": "56.81"}, row | {"taxable": "75.00", "amount": "14.25"}]
    assert texts(content | {"taxes": split}, "cac:TaxSubtotal/cbc:TaxableAmount") == ["374.00"]


def test_lines_that_come_to_nothing_beside_what_is_given_back_take_its_tax() -> None:
    fee = line(invoice("de"), 0, tax_category="O", tax_rate=None)
    content = of_lines(line(invoice("de"), 1, amount="-75.00"), fee, {**fee, "amount": "-299.00"})
    content |= {"kind": "credit_note"}
    assert texts(content, "cac:Item/cac:ClassifiedTaxCategory/cbc:ID") == ["S", "S", "S"]


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"net": "300.00"}, "lines are not its net"),
        ({"tax": "56.82", "total": "355.82", "due": "355.82"}, "taxes are not its tax"),
        ({"total": "355.80"}, "net and tax are not its total"),
        ({"due": "355.80"}, "not what is due"),
    ],
)
def test_sums_that_are_not_those_of_the_lines_are_refused(changes: Content, what: str) -> None:
    with pytest.raises(InexpressibleError, match=what):
        write_xml(of_lines(line(invoice("de"), 0)) | changes, UBL)


def test_payment_is_a_sepa_transfer_in_euros_and_another_one_elsewhere() -> None:
    assert texts(invoice("de"), "cbc:PaymentMeansCode") == ["58"]
    assert texts(debit_note("de"), "cbc:PaymentMeansCode") == ["30"]
    assert texts(invoice("de"), "ram:IBANID", FACTURX) == ["DE89370400440532013000"]
    assert texts(part(invoice("de"), "seller", bank=None), "cbc:PaymentMeansCode") == []


def test_a_credit_note_without_a_bank_is_valid() -> None:
    content = part(credit_note("de"), "seller", bank=None)
    assert findings(write_xml(content, UBL)) == findings(write_xml(content, FACTURX)) == []


def test_text_that_xml_cannot_hold_is_left_out_and_the_rest_stays_as_it_is() -> None:
    content = part(invoice("de"), "customer", name="Müller\x0b & <Söhne>\n\ud7ff 🎉 und \ufffe株式会社")
    (_, name) = texts(content, "cbc:RegistrationName")
    assert name == "Müller & <Söhne> \ud7ff 🎉 und 株式会社"


def test_an_address_in_lines_alone_is_written_as_lines() -> None:
    content = part(invoice("de"), "seller", street="", city="", postal_code="", address=["A", "B", "C", "D"])
    assert texts(content, "cac:AccountingSupplierParty//cbc:StreetName") == ["A"]
    assert texts(content, "cac:AccountingSupplierParty//cac:AddressLine/cbc:Line") == ["C, D"]


@pytest.mark.parametrize(
    ("tax_id", "country", "expected"),
    [
        ("DE 123456788", "DE", "DE123456788"),
        ("123456788", "DE", "DE123456788"),
        ("12-3456789", "US", "US12-3456789"),
        ("T1234567890123", "JP", "JPT1234567890123"),
        ("EL094259216", "GR", "EL094259216"),
        ("094259216", "GR", "EL094259216"),
        ("ATU13585627", "DE", "ATU13585627"),
        ("CHE-123.456.788 MWST", "CH", "CHE-123456788MWST"),
        ("", "DE", ""),
    ],
)
def test_vat_ids_begin_with_a_country(tax_id: str, country: str, expected: str) -> None:
    assert vat_id(tax_id, country) == expected


def test_mail_stands_for_an_electronic_address_but_in_peppol() -> None:
    content = invoice("de")
    assert content["customer"]["electronic_address"] is None
    endpoints = ".//cac:AccountingCustomerParty/cac:Party/cbc:EndpointID"
    for chosen, schemes in ((UBL, ["EM"]), (XRECHNUNG, ["EM"]), (PEPPOL, [])):
        found = etree.fromstring(write_xml(content, chosen)).iterfind(endpoints, SPACES)
        assert [each.get("schemeID") for each in found] == schemes


def french(content: Content) -> Content:
    """The document between two companies in France."""
    parties = {
        "seller": {"tax_id": "FR40303265045", "registration": {"scheme": "0002", "id": "303265045"}},
        "customer": {"tax_id": "FR83404833048", "registration": {"scheme": "0002", "id": "404833048"}},
    }
    for key, changes in parties.items():
        address = {"scheme": "0225", "id": changes["registration"]["id"]}  # type: ignore[index]
        content = part(content, key, country="FR", electronic_address=address, **changes)
    fee = {**content["lines"][0], "tax_rate": "0.2"}
    sign = -1 if content["kind"] == "credit_note" else 1
    tax = invoice("fr")["taxes"][0] | {"rate": "0.2", "taxable": f"{sign * 299}.00", "amount": f"{sign * 59}.80"}
    amounts = {"net": f"{sign * 299}.00", "tax": f"{sign * 59}.80", "total": f"{sign * 358}.80"}
    fee |= {"tax_category": "S", "amount": f"{sign * 299}.00"}
    return content | amounts | {"due": amounts["total"], "lines": [fee], "taxes": [tax]}


@pytest.mark.parametrize("chosen", [UBL, FACTURX])
@pytest.mark.parametrize("make", [brief, credit_note, debit_note])
def test_documents_of_a_french_seller_keep_the_french_rules(
    make: Callable[..., Content], chosen: InvoiceFormat
) -> None:
    xml = write_xml(french(make("fr")), chosen)
    assert findings(xml, french=True) == []
    assert {code in xml for code in (b"PMT", b"PMD", b"AAB")} == {True}


def test_french_rules_fail_without_what_french_documents_add() -> None:
    xml = write_xml(french(brief("fr")), UBL)
    without_note = xml.replace(b"#PMT#", b"")
    assert any("BR-FR-05" in each for each in findings(without_note, french=True))
    assert any("BR-FR-04" in each for each in findings(xml.replace(b">380<", b">383<"), french=True))


def test_the_rules_find_what_is_wrong() -> None:
    xml = write_xml(invoice("de"), UBL)
    assert any("BR-CO-10" in each for each in findings(xml.replace(b">908.00<", b">909.00<")))
    assert any("XSD" in each for each in findings(xml.replace(b"cbc:Note", b"cbc:Remark").replace(b"DueDate", b"Due")))


def test_documents_of_earlier_versions_have_no_format_and_cannot_be_written() -> None:
    content = {key: value for key, value in invoice("de").items() if key != "format"}
    assert format_of(content) is InvoiceFormat.PDF
    with pytest.raises(InexpressibleError, match="before documents had the fields"):
        write_xml(content | {"template_version": "1"}, UBL)


def test_the_same_document_has_the_same_bytes_in_another_process() -> None:
    script = (
        "import json, sys, hashlib; from billing.einvoices import InvoiceFormat, write_xml;"
        "content = json.load(sys.stdin);"
        "print([hashlib.sha256(write_xml(content, each)).hexdigest() for each in InvoiceFormat if each != 'pdf'])"
    )
    content = json.dumps(invoice("de"))
    seen = {
        subprocess.run(
            [sys.executable, "-c", script],
            input=content,
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(seen) == 1 and len(eval(seen.pop())) == len(E_INVOICES)  # noqa: S307 # our own output


def test_an_invoice_knows_its_allowances_and_payable_amount() -> None:
    content = invoice("de")
    found = read_invoice(content, UBL)
    assert found.payable == Decimal(content["due"])
    assert found.allowances == found.charges == Decimal(0)


def test_countries_and_currencies_are_those_of_the_official_lists() -> None:
    rules = (RULES / SCHEMATRONS["ubl"]).read_text()
    lists = [set(found.split()) for found in re.findall(r"contains\(\s*'([^']{300,})'", rules)]
    countries = [found for found in lists if {"DE", "US"} <= found]
    currencies = [found for found in lists if {"EUR", "USD"} <= found]
    assert countries and all(found - {"EL"} == COUNTRIES for found in countries)
    codes = ("".join(letters) for letters in itertools.product(string.ascii_uppercase, repeat=3))
    billed = {code for code in codes if minor_units(code) is not None}
    assert currencies and all(billed - found == UNKNOWN_CURRENCIES for found in currencies)


@pytest.mark.parametrize("code", sorted(UNKNOWN_CURRENCIES))
def test_a_currency_that_is_on_no_list_cannot_be_said(code: str) -> None:
    with pytest.raises(InexpressibleError, match=f"does not know the currency {code}"):
        read_invoice(invoice("de") | {"currency": code}, InvoiceFormat.UBL)
    beside = invoice("de") | {"tax_currency": {"currency": code, "tax": "1.00", "rate": "1", "rate_on": "2026-01-01"}}
    assert read_invoice(beside, InvoiceFormat.UBL).tax_currency is None
