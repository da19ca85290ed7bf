"""E-invoices beside and in PDFs: written with them, recorded by hash, and written again as they were."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from facturx import get_xml_from_pdf

from billing.einvoices import InexpressibleError, InvoiceFormat, write_xml
from billing.month.business import Business
from billing.month.pdf_files import documents_to_render, render_documents
from billing.register.register import Register
from billing.reports.export_documents import export_documents
from billing.reports.verify import disagreements, redrawn_documents
from billing.store.files import file_hash
from tests.by_steps import bill_by_steps
from tests.european_business import RATES, SELLER, change_catalogue, write_accounts
from tests.invoice_rules import findings
from tests.landing import Landing

MONTH = "2026-01"
FORMATS = ("xrechnung", "facturx", "peppol", "pdf")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Business:
    landing = Landing(tmp_path_factory.mktemp("files") / "home")
    change_catalogue(landing, currency="EUR", seller=SELLER)
    (landing.folder / "tax_rates.csv").write_text(RATES)
    write_accounts(landing, [(name, "DE", "", {"invoice_format": name}) for name in FORMATS])
    for name in FORMATS:
        landing.request(name, "subscribe", "2026-01-10T09:00:00Z", "self_service", package="starter")
    business = bill_by_steps(landing.root, MONTH, "2026-01-31")
    assert not render_documents(business, MONTH).undrawn
    return business


@pytest.fixture
def business(made: Business) -> Iterator[Business]:
    yield made
    render_documents(made, MONTH)
    assert disagreements(made) == []


def number_of(business: Business, name: str) -> str:
    numbers: dict[str, str] = dict(business.register.documents().select("account_id", "number").iter_rows())
    return numbers[name]


def test_each_format_has_its_files(business: Business) -> None:
    folder = business.home.documents / MONTH
    suffixes = {name: sorted(p.suffix for p in folder.glob(f"{number_of(business, name)}.*")) for name in FORMATS}
    assert suffixes == {
        "xrechnung": [".pdf", ".xml"],
        "peppol": [".pdf", ".xml"],
        "facturx": [".pdf"],
        "pdf": [".pdf"],
    }
    assert findings((folder / f"{number_of(business, 'xrechnung')}.xml").read_bytes()) == []
    name, xml = get_xml_from_pdf((folder / f"{number_of(business, 'facturx')}.pdf").read_bytes())
    assert name == "factur-x.xml" and findings(xml) == []
    assert len(business.register.invoice_files()) == 2
    assert documents_to_render(business, MONTH) == []


@pytest.mark.parametrize(("name", "suffix"), [("xrechnung", ".xml"), ("xrechnung", ".pdf"), ("facturx", ".pdf")])
def test_a_lost_file_is_named_and_written_again_with_the_same_bytes(business: Business, name: str, suffix: str) -> None:
    path = business.home.documents / MONTH / f"{number_of(business, name)}{suffix}"
    before = path.read_bytes()
    path.unlink()
    (found,) = disagreements(business)
    assert str(path) in found and "is missing" in found
    assert documents_to_render(business, MONTH) == [number_of(business, name)]
    assert render_documents(business, MONTH).redrawn == []
    assert path.read_bytes() == before


def test_another_file_in_its_place_is_found(business: Business) -> None:
    path = business.home.invoice_file(MONTH, number_of(business, "peppol"))
    before = path.read_bytes()
    path.write_bytes(before.replace(b"117.81", b"1.00"))
    (found,) = disagreements(business)
    assert "has other bytes than when it was issued" in found
    path.write_bytes(before)
    stray = path.with_name("INV-2026-000999.xml")
    stray.write_bytes(before)
    assert disagreements(business) == [f"{stray}: the register knows no such document"]
    stray.unlink()


def test_a_run_that_was_killed_before_it_recorded_writes_and_records_again(
    business: Business, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    landing = Landing(tmp_path / "home")
    change_catalogue(landing, currency="EUR", seller=SELLER, policy={"invoice_format": "ubl"})
    (landing.folder / "tax_rates.csv").write_text(RATES)
    write_accounts(landing, [("de", "DE", "", {})])
    landing.request("de", "subscribe", "2026-01-10T09:00:00Z", "self_service", package="starter")
    other = bill_by_steps(landing.root, MONTH, "2026-01-31")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Register, "record_files", killed)
        with pytest.raises(KeyboardInterrupt):
            render_documents(other, MONTH)
    (number,) = documents_to_render(other, MONTH)
    assert not render_documents(other, MONTH).redrawn
    assert other.register.invoice_files() == {number: file_hash(other.home.invoice_file(MONTH, number))}
    assert disagreements(other) == []


def test_an_e_invoice_that_is_written_otherwise_today_is_recorded_beside_what_was_issued(
    business: Business, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = business.home.invoice_file(MONTH, number_of(business, "peppol"))
    issued = path.read_bytes()
    path.unlink()
    with monkeypatch.context() as patch:
        patch.setattr("billing.month.invoice_files.write_xml", lambda *_: issued + b"\n")
        rendered = render_documents(business, MONTH)
    assert rendered.redrawn == [number_of(business, "peppol")]
    assert disagreements(business) == []
    (told,) = redrawn_documents(business)
    assert "the e-invoice of" in told and "put the original back" in told
    path.write_bytes(issued)


def test_a_document_that_cannot_be_written_is_named_and_the_others_are_drawn(
    business: Business, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = {name: number_of(business, name) for name in FORMATS}
    for name in ("xrechnung", "facturx"):
        business.home.document_file(MONTH, numbers[name]).unlink()

    def refused(content: dict[str, str], chosen: InvoiceFormat) -> bytes:
        if chosen is InvoiceFormat.FACTURX:
            raise InexpressibleError("its lines are not its net")
        return write_xml(content, chosen)

    with monkeypatch.context() as patch:
        patch.setattr("billing.month.invoice_files.write_xml", refused)
        rendered = render_documents(business, MONTH)
    (undrawn,) = rendered.undrawn
    assert undrawn.number == numbers["facturx"]
    assert "its lines are not its net" in undrawn.cause
    assert [file.path.stem for file in rendered.files] == [numbers["xrechnung"]]


def test_issued_documents_are_exported_in_another_format(business: Business, tmp_path: Path) -> None:
    before = business.register.state()
    exported = export_documents(business, MONTH, InvoiceFormat.UBL, out=tmp_path / "out")
    assert len(exported.files) == len(FORMATS) and not exported.not_written
    assert all(findings(path.read_bytes()) == [] for path in exported.files)
    exported = export_documents(business, MONTH, InvoiceFormat.FACTURX, accounts=["facturx"])
    (path,) = exported.files
    assert path == business.home.documents / MONTH / "export" / f"{number_of(business, 'facturx')}.pdf"
    assert path.read_bytes() == business.home.document_file(MONTH, path.stem).read_bytes()
    assert business.register.state() == before


def test_what_cannot_be_exported_is_named_with_what_is_missing(tmp_path: Path) -> None:
    landing = Landing(tmp_path / "home")
    change_catalogue(landing, seller={"tax_id": "93-0000042"})
    landing.customer("us")
    business = bill_by_steps(landing.root, MONTH, "2026-01-31")
    exported = export_documents(business, MONTH, InvoiceFormat.UBL)
    ((number, why),) = exported.not_written
    assert (number, why) == ("INV-2026-000001", "it was issued without seller.registration")
    assert json.loads(dict(business.register.contents([number]))[number])["format"] == "pdf"
