"""A home's documents in the customers' languages, with its logo, words and template, and the same after years."""

import shutil
import subprocess
from pathlib import Path

import pytest

from billing.month.business import Business
from billing.month.pdf_files import render_documents
from tests.by_steps import bill_by_steps
from tests.landing import ACCOUNT_HEADER, Landing
from tests.rich_documents import LOGO

HEADER = 'msgid ""\nmsgstr ""\n"Language: de\\n"\n"Plural-Forms: nplurals=2; plural=(n != 1);\\n"\n\n'
SELLER = """seller:
  name: Example Software GmbH
  street: Beispielstraße 1
  city: Hamburg
  postal_code: "20457"
  country: DE
  tax_id: DE123456788
  logo: logo.svg
  bank: {holder: Example Software GmbH, iban: DE89370400440532013000, bic: COBADEFFXXX}
  pay_url: "https://pay.example.com/{number}"
  footer: [Amtsgericht Hamburg, HRB 42]
  colours: {accent: "#1f4ed8"}
"""

reads_pdf = pytest.mark.skipif(
    shutil.which("pdftotext") is None, reason="pdftotext is missing: install poppler-utils to read pages back"
)


def words_of(pdf: Path) -> str:
    done = subprocess.run(["pdftotext", "-layout", pdf, "-"], capture_output=True, check=True, text=True)
    return " ".join(done.stdout.split())


def drawn(business: Business) -> dict[str, bytes]:
    assert not render_documents(business, "2026-01").undrawn
    return {path.name: path.read_bytes() for path in (business.home.documents / "2026-01").iterdir()}


@reads_pdf
def test_documents_keep_language_logo_words_and_template(tmp_path: Path) -> None:
    landing = Landing(tmp_path / "home")
    catalogue = landing.catalogue.replace("currency: USD", "currency: EUR", 1)
    start, end = catalogue.index("\nseller:") + 1, catalogue.index("\n# How billing works")
    (landing.folder / "catalogue.yaml").write_text(f"{catalogue[:start]}{SELLER}{catalogue[end:]}", encoding="utf-8")
    people = "".join(
        f"{name},{name.title()} Inc.,b@{name}.example.com,1 Street,,Town,,12345,{country},,,{locale}\n"
        for name, country, locale in (("acme", "DE", "de_DE"), ("bilt", "FR", "fr_FR"), ("cone", "US", "en_US"))
    )
    (landing.folder / "accounts.csv").write_text(f"{ACCOUNT_HEADER}\n{people}")
    for name in ("acme", "bilt", "cone"):
        landing.request(name, "subscribe", "2026-01-10T09:00:00Z", "self_service", package="starter")
    (landing.folder / "logo.svg").write_bytes(LOGO)
    for name, text in (
        ("translations/de.po", f'{HEADER}msgid "Service period"\nmsgstr "Abrechnungsperiode"\n'),
        ("templates/invoice.css", "h1 { color: #7a1f2b }"),
    ):
        (landing.folder / name).parent.mkdir()
        (landing.folder / name).write_text(text)

    business = bill_by_steps(landing.root, "2026-01", "2026-01-31")
    issued = drawn(business)
    german, french, english = (words_of(business.home.documents / "2026-01" / name) for name in sorted(issued))
    assert "Rechnung" in german and "Abrechnungsperiode" in german and "Amtsgericht Hamburg" in german
    assert "Starter, abonnement mensuel" in french and "99,00 EUR" in french
    assert "Invoice" in english and "United States" in english
    assert all(
        f"https://pay.example.com/{name[:-4]}" in text
        for name, text in zip(sorted(issued), (german, french, english), strict=True)
    )

    for folder in ("translations", "templates"):
        shutil.rmtree(landing.folder / folder)
    (landing.folder / "logo.svg").write_bytes(LOGO.replace(b"#1f4ed8", b"#ff0000"))
    shutil.rmtree(business.home.documents)
    again = Business.load(landing.root, business.as_of)
    assert drawn(again) == issued
