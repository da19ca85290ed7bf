"""Every document of whole businesses against the official rules, in every format that can say it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from billing.einvoices import InexpressibleError, InvoiceFormat, write_xml
from billing.einvoices.formats import E_INVOICES
from billing.einvoices.lacking import lacking
from billing.einvoices.reading import read_invoice
from billing.month.business import Business
from tests.by_steps import bill_by_steps
from tests.european_business import RATES, SELLER, change_catalogue, european_documents, write_accounts
from tests.invoice_rules import findings
from tests.landing import Landing, event
from tests.sizes import sized

Content = dict[str, Any]


def contents(business: Business) -> Iterator[Content]:
    numbers = business.register.documents()["number"].to_list()
    yield from (json.loads(text) for _, text in business.register.contents(numbers))


@pytest.fixture(scope="module")
def europe(tmp_path_factory: pytest.TempPathFactory) -> list[Content]:
    return list(contents(european_documents(tmp_path_factory.mktemp("europe") / "home")))


def test_the_european_business_has_every_kind_of_document_and_line(europe: list[Content]) -> None:
    lines = [line for content in europe for line in content["lines"]]
    assert {content["kind"] for content in europe} == {"invoice", "credit_note", "debit_note"}
    assert {line["kind"] for line in lines} == {"package_fee", "overage", "prior_cycle", "refund", "adjustment"}
    assert {line["tax_category"] for line in lines} == {"S", "E", "AE", "Z", "G", "O"}
    assert any(
        line["amount"].startswith("-")
        for content in europe
        if content["kind"] == "invoice"
        for line in content["lines"]
    )
    assert {"graduated", "block"} == {line["tariff"]["model"] for line in lines if line["tariff"]}
    assert any(content["subscription"]["term"] == "yearly" for content in europe)
    assert any(line["bounds"] for line in lines if "bounds" in line)
    assert any(content["tax_currency"] for content in europe)


def test_a_document_names_others_by_the_day_that_they_bear(europe: list[Content]) -> None:
    issued = {content["number"]: content["issued_on"] for content in europe}
    compared = [content["comparison"] for content in europe if content["comparison"]]
    corrected = [content["corrected"] for content in europe if content["corrected"]]
    back = [line for content in europe for line in content["lines"] if line.get("gives_back")]
    assert compared and corrected and back
    assert [each["gives_back_on"] for each in back] == [issued[each["gives_back"]] for each in back]
    assert [each["previous_date"] for each in compared] == [issued[each["previous_number"]] for each in compared]
    assert [each["issued_on"] for each in corrected] == [issued[each["number"]] for each in corrected]


@pytest.mark.parametrize("chosen", E_INVOICES)
def test_every_document_of_a_european_business_is_valid_or_named(chosen: InvoiceFormat, europe: list[Content]) -> None:
    refused = []
    for content in europe:
        try:
            xml = write_xml(content, chosen)
        except InexpressibleError:
            refused.append(content["customer"]["account_id"])
            continue
        assert findings(xml) == [], content["number"]
        assert lacking([(read_invoice(content, chosen), chosen)]) == [()], content["number"]
        extra = XRECHNUNG if chosen is InvoiceFormat.XRECHNUNG else PEPPOL if chosen is InvoiceFormat.PEPPOL else ()
        assert [rule for rule in extra if f"<{rule}>".encode() not in xml] == []
    # No tax holds in the United States: an XRechnung has a rate for everything.
    assert set(refused) == ({"us"} if chosen is InvoiceFormat.XRECHNUNG else set())


# What XRechnung (BR-DE-1, 2, 5 to 9, 15) and Peppol (R001, R003, R010, R020) ask for beyond the CEN rules.
PEPPOL = ("cbc:ProfileID", "cbc:BuyerReference")
XRECHNUNG = (
    "cbc:BuyerReference",
    "cac:PaymentMeans",
    "cac:Contact",
    "cbc:Telephone",
    "cbc:ElectronicMail",
    "cbc:Percent",
)


def test_peppol_and_xrechnung_name_both_electronic_addresses_and_one_tax_total(europe: list[Content]) -> None:
    for content in europe:
        for chosen in (InvoiceFormat.PEPPOL, InvoiceFormat.XRECHNUNG):
            if chosen is InvoiceFormat.XRECHNUNG and content["customer"]["account_id"] == "us":
                continue
            xml = write_xml(content, chosen)
            assert xml.count(b"<cbc:EndpointID") == 2
            # PEPPOL-EN16931-R053: one total with rows, and one in the currency of the tax.
            assert xml.count(b"<cac:TaxTotal>") == 1 + bool(content["tax_currency"])
            assert b"></cbc:" not in xml and b"<cbc:Note/>" not in xml


def test_a_yen_business_is_valid(tmp_path: Path) -> None:
    landing = Landing(tmp_path / "home")
    seller = SELLER | {
        "country": "JP",
        "tax_id": "T1234567890123",
        "registration": {"scheme": "0188", "id": "1234567890123"},
    }
    catalogue = change_catalogue(landing, currency="JPY", seller=seller, policy={"invoice_format": "facturx"})
    for package in catalogue["packages"]:
        for version in package["versions"]:
            version["price"] = {"monthly": "9900", "yearly": "99000"}
    (landing.folder / "catalogue.yaml").write_text(yaml.safe_dump(catalogue))
    (landing.folder / "tax_rates.csv").write_text(
        "country,region,rate,name,effective_from\nJP,,0.10,消費税,2020-01-01\n"
    )
    write_accounts(landing, [("tokyo", "JP", "", {}), ("paris", "FR", "", {})])
    for name in ("tokyo", "paris"):
        landing.request(name, "subscribe", "2026-01-10T09:00:00Z", "self_service", package="starter")
        landing.use(name, emails=17_000, bytes=61_200_000_001)
    documents = list(contents(bill_by_steps(landing.root, "2026-02", "2026-02-10")))
    assert len(documents) == 4
    for content in documents:
        for chosen in E_INVOICES:
            if chosen is InvoiceFormat.XRECHNUNG and not content["taxes"]:
                continue
            assert findings(write_xml(content, chosen)) == [], (content["number"], chosen)


def test_every_document_of_the_sample_is_valid(sample_billed_for_europe: Business) -> None:
    """The synthetic business, once its seller has the fields that e-invoices need."""
    documents = list(contents(sample_billed_for_europe))
    assert len(documents) >= 15
    for place, content in enumerate(documents):
        if place % sized(usual=5, long=1):
            continue
        # The rules of the content are the same in both: the second one is another way to write it.
        for chosen in (InvoiceFormat.UBL, InvoiceFormat.FACTURX)[: 1 if place % sized(usual=15, long=1) else 2]:
            assert findings(write_xml(content, chosen)) == [], (content["number"], chosen)


CHARGES = """charge_id,account_id,on,description,amount,quantity,unit_price,tax_category,reason,at_once
c1,de,2026-02-01,Setup,50.00,,,,,
c2,de,2026-02-02,Goodwill,-7.00,,,,asked,
c3,exempt,2026-02-02,Training,40.00,,,E,,yes
c4,ch,2026-02-02,"Hours & <more>",,2.5,80.00,,,
c5,us,2026-02-02,Workshop,10.00,,,,,
c6,at,2026-02-02,Back,-500.00,,,,asked,
"""


def test_whatever_is_sold_can_be_an_e_invoice(tmp_path: Path) -> None:
    """Add-ons, seats, a minimum spend, charges of another tax category, and coupons in percent and of an amount."""
    landing = Landing(tmp_path / "home")
    catalogue = change_catalogue(landing, currency="EUR", seller=SELLER, policy={"invoice_format": "ubl"})
    catalogue["metrics"]["users"] = {
        "event": "users.changed",
        "kind": "gauge",
        "measure": "peak",
        "value": "data.delta",
        "carries": "delta",
        "charged": "in_advance",
    }
    for package in catalogue["packages"]:
        version = package["versions"][0]
        version["seats"] = {"metric": "users", "included": 1, "price": "12.00"}
        version["minimum_spend"] = {"amount": "400.00"}
    catalogue["coupons"] = [
        {"name": "spring", "title": {"en": "Spring offer", "de": "Frühlingsangebot"}, "percent": "10"},
        {"name": "five", "amount": "5.00", "applies_to": ["package_fee"]},
    ]
    price = {"effective_from": "2026-01-01", "price": {"monthly": "30.00"}}
    catalogue["add_ons"] = [{"name": "ip", "title": "Dedicated IP", "versions": [price]}]
    (landing.folder / "catalogue.yaml").write_text(yaml.safe_dump(catalogue, allow_unicode=True))
    (landing.folder / "tax_rates.csv").write_text(f"{RATES}DE,,0,USt,2020-01-01,E,Unterricht,\n")
    (landing.folder / "one_off_charges.csv").write_text(CHARGES)
    customers = [("de", "DE"), ("exempt", "DE"), ("at", "AT"), ("ch", "CH"), ("us", "US")]
    write_accounts(landing, [(name, country, "", {}) for name, country in customers])
    for (name, _), coupon in zip(customers, ("spring", "spring", "five", "spring", "five"), strict=True):
        bought = {"coupon": coupon, "add_ons": '{"ip": 2}'}
        landing.request(name, "subscribe", "2026-01-10T09:00:00Z", "self_service", package="starter", **bought)
        landing.use(name, emails=16_500, bytes=61_200_000_001)
        users = event(f"users-{name}", name, "users.changed", {"delta": 4}, "2026-01-12T12:00:00Z")
        landing.deliver([users], "2026-01-12")
    documents = list(contents(bill_by_steps(landing.root, "2026-02", "2026-02-10")))
    kinds = {line["kind"] for content in documents for line in content["lines"]}
    assert {"add_on", "seats", "charge", "coupon", "minimum_spend"} <= kinds
    assert {content["kind"] for content in documents} == {"invoice", "credit_note"}
    for content in documents:
        for chosen in E_INVOICES:
            if chosen is not InvoiceFormat.XRECHNUNG or content["customer"]["account_id"] != "us":
                assert findings(write_xml(content, chosen)) == [], (content["number"], chosen)
