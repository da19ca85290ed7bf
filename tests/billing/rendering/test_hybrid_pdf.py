"""Factur-X: one PDF/A-3 with the e-invoice in it, and both say the same."""

import hashlib
import io
import json
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from facturx import get_xml_from_pdf
from lxml import etree
from pypdf import PdfReader

from billing.einvoices import InvoiceFormat, write_xml
from billing.rendering import Job, render_pdf
from billing.rendering.drawing import draw
from billing.rendering.files import render_file
from tests.invoice_rules import findings
from tests.rich_documents import Content, credit_note, in_other_scripts, invoice, part

RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
FX = "{urn:factur-x:pdfa:CrossIndustryDocument:invoice:1p0#}"
PDFA = "{http://www.aiim.org/pdfa/ns/id/}"
RAM = "{urn:un:unece:uncefact:data:standard:ReusableAggregateBusinessInformationEntity:100}"


def hybrid(content: Content) -> bytes:
    return draw(content, {}, write_xml(content, InvoiceFormat.FACTURX)).pdf


@pytest.fixture(scope="module")
def pdf() -> bytes:
    return hybrid(invoice("en"))


@pytest.fixture(scope="module")
def catalog(pdf: bytes) -> Any:
    return PdfReader(io.BytesIO(pdf)).trailer["/Root"]


def test_the_attachment_is_named_once_with_its_relation_and_the_day_of_issue(catalog: Any) -> None:
    (attached,) = catalog["/AF"]
    entry = attached.get_object()
    assert (entry["/F"], entry["/UF"], entry["/AFRelationship"]) == ("factur-x.xml", "factur-x.xml", "/Alternative")
    names = catalog["/Names"]["/EmbeddedFiles"]["/Names"]
    assert names[0] == "factur-x.xml" and names[1].get_object() == entry
    file = entry["/EF"]["/F"].get_object()
    assert file["/Subtype"] == "/text/xml"
    assert file["/Params"]["/CreationDate"] == file["/Params"]["/ModDate"] == "D:20260210000000Z"


def test_one_rdf_says_pdf_a_3b_and_has_the_properties_of_factur_x(catalog: Any) -> None:
    packet = catalog["/Metadata"].get_object().get_data()
    root = etree.fromstring(packet)
    (rdf,) = root.iter(f"{RDF}RDF")
    marks = {name: value for description in rdf for name, value in description.attrib.items() if PDFA in name}
    assert marks == {f"{PDFA}part": "3", f"{PDFA}conformance": "B"}
    properties = {each.tag.removeprefix(FX): each.text for each in rdf.iter() if str(each.tag).startswith(FX)}
    assert properties == {
        "DocumentFileName": "factur-x.xml",
        "DocumentType": "INVOICE",
        "Version": "1.0",
        "ConformanceLevel": "EN 16931",
    }
    assert packet.count(b"pdfaSchema:namespaceURI>urn:factur-x:pdfa:CrossIndustryDocument:invoice:1p0#<") == 1


def test_it_has_an_output_intent_and_embeds_every_font(pdf: bytes, catalog: Any) -> None:
    (intent,) = catalog["/OutputIntents"]
    assert intent.get_object()["/S"] == "/GTS_PDFA1" and "/DestOutputProfile" in intent.get_object()
    fonts = [
        font.get_object()
        for page in PdfReader(io.BytesIO(pdf)).pages
        for font in page.get("/Resources", {})["/Font"].get_object().values()
    ]
    assert fonts
    for font in fonts:
        (descendant,) = font.get("/DescendantFonts", [font])
        descriptor = descendant.get_object()["/FontDescriptor"].get_object()
        assert {"/FontFile2", "/FontFile3"} & set(descriptor)
    assert pdf.startswith(b"%PDF-1.7")


@pytest.mark.parametrize("make", [invoice, credit_note, lambda _: in_other_scripts()])
def test_the_xml_in_it_is_the_valid_e_invoice(make: Any) -> None:
    content = make("en")
    pdf = hybrid(content)
    name, xml = get_xml_from_pdf(pdf)
    assert name == "factur-x.xml"
    assert xml == write_xml(content, InvoiceFormat.FACTURX)
    assert findings(xml) == []


def test_page_and_xml_agree_to_the_cent(pdf: bytes) -> None:
    text = " ".join(page.extract_text() for page in PdfReader(io.BytesIO(pdf)).pages)
    on_page = {Decimal(found.replace(",", "")) for found in re.findall(r"\d[\d,]*\.\d\d(?!\d)", text)}
    xml = etree.fromstring(get_xml_from_pdf(pdf)[1])
    names = ("LineTotalAmount", "TaxBasisTotalAmount", "TaxTotalAmount", "GrandTotalAmount", "DuePayableAmount")
    in_xml = {Decimal(each.text) for name in names for each in xml.iter(f"{RAM}{name}")}
    assert in_xml and in_xml <= on_page


def test_the_same_bytes_twice_and_in_another_process(pdf: bytes) -> None:
    assert hybrid(invoice("en")) == pdf
    script = (
        "import json, sys, hashlib; from billing.einvoices import InvoiceFormat, write_xml;"
        "from billing.rendering.drawing import draw; content = json.load(sys.stdin);"
        "print(hashlib.sha256(draw(content, {}, write_xml(content, InvoiceFormat.FACTURX)).pdf).hexdigest())"
    )
    other = subprocess.run(
        [sys.executable, "-c", script], input=json.dumps(invoice("en")), capture_output=True, text=True, check=True
    )
    assert other.stdout.strip() == hashlib.sha256(pdf).hexdigest()


def test_a_plain_document_drawn_after_it_is_plain(pdf: bytes) -> None:
    plain = render_pdf(invoice("en"))
    assert b"/OutputIntent" not in plain and b"factur-x" not in plain
    assert hybrid(invoice("en")) == pdf


def test_a_job_with_an_e_invoice_writes_it_into_the_pdf(tmp_path: Path) -> None:
    content = part(invoice("en"), "customer", name="Long" * 1_000)
    xml = write_xml(content, InvoiceFormat.FACTURX)
    file = render_file(Job(json.dumps(content), tmp_path / "INV-2026-000042.pdf", xml=xml))
    assert file.pages > 2
    assert get_xml_from_pdf(file.path.read_bytes())[1] == xml
