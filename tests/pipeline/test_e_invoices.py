"""E-invoices from outside: billed, verified, parked with the reason, and exported."""

from pathlib import Path

from facturx import get_xml_from_pdf

from tests.european_business import change_catalogue, european
from tests.invoice_rules import findings
from tests.pipeline.outside import bill, overage, show
from tests.sizes import LONG


def test_e_invoices_are_billed_checked_verified_and_exported(tmp_path: Path) -> None:
    home = tmp_path / "home"
    landing = european(home, format_missing="park")
    accounts = landing.folder / "accounts.csv"
    lines = accounts.read_text().splitlines()
    formats = {"de": "xrechnung", "fr": "facturx", "us": "xrechnung"}
    lines[1:] = [f"{line.removesuffix(',')},{formats.get(line.split(',')[0], '')}" for line in lines[1:]]
    accounts.write_text("\n".join(lines) + "\n")

    checked = overage("check", "--home", home)
    assert "account us: missing_for_format: its format xrechnung has a tax rate for everything" in checked.output
    billed = bill(home, "2026-01", "2026-01-31", paper=True, profiles=LONG)
    assert billed.status == 1
    assert "account us is parked: its format xrechnung has a tax rate" in billed.messages
    folder = home / "documents" / "2026-01"
    numbers = {row["account_id"]: row["number"] for row in show(home, "documents")}
    assert "us" not in numbers and len(numbers) == 8
    assert findings((folder / f"{numbers['de']}.xml").read_bytes()) == []
    assert b"xrechnung_3.0" in (folder / f"{numbers['de']}.xml").read_bytes()
    assert not (folder / f"{numbers['fr']}.xml").exists()
    assert findings(get_xml_from_pdf((folder / f"{numbers['fr']}.pdf").read_bytes())[1]) == []
    assert not LONG or overage("verify", "--home", home).status == 0

    accounts.write_text(accounts.read_text().replace("us@example.com", "other@example.com").replace(",xrechnung", ","))
    assert bill(home, "2026-01", "2026-01-31", paper=True, profiles=True).status == 0
    assert {row["account_id"] for row in show(home, "documents")} == {*numbers, "us"}

    out = tmp_path / "out"
    exported = overage("export-documents", "2026-01", "--format", "xrechnung", "--home", home, "--out", out)
    assert exported.status == 1
    assert (
        "cannot be xrechnung: the format has a tax rate for everything, and no tax of the table holds"
        in exported.messages
    )
    assert len(list(out.iterdir())) == len(numbers)
    again = overage("export-documents", "2026-01", "--format", "peppol", "--account", "de", "--home", home)
    assert (again.status, again.output.strip()) == (0, str(folder / "export" / f"{numbers['de']}.xml"))
    refused = overage("export-documents", "2026-02", "--format", "ubl", "--home", home)
    assert refused.status == 2 and "unknown month" in refused.messages
    # An export is no document of the register, and no change of it.
    assert overage("verify", "--home", home).status == 0
    if LONG:
        change_catalogue(landing, policy={"format_missing": "pdf"})
        assert bill(home, "2026-01", "2026-01-31", paper=True).status == 0
