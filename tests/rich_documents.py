"""Documents of content version 2 with everything that a page can say, for tests of pages.

`python -m tests.rich_documents` writes the golden documents of template version 2, until it is released.
"""

import copy
import hashlib
import json
import re
from decimal import localcontext
from pathlib import Path
from typing import Any, Final

from billing.rendering.locale_formats import EXACT

Content = dict[str, Any]

ROOT: Final = Path(__file__).resolve().parents[1]
GOLDEN: Final = ROOT / "tests" / "billing" / "rendering" / "golden_documents" / "v2"
LOCALES: Final = {
    "en": "en_IE",
    "de": "de_DE",
    "fr": "fr_FR",
    "es": "es_ES",
    "it": "it_IT",
    "nl": "nl_NL",
    "pt": "pt_PT",
    "pl": "pl_PL",
    "ja": "ja_JP",
}
LOGO: Final = (
    b'<svg xmlns="http://www.w3.org/2000/svg" width="120" height="30" viewBox="0 0 120 30">'
    b'<rect width="30" height="30" rx="15" fill="#1f4ed8"/>'
    b'<rect x="38" y="8" width="82" height="14" fill="#17233b"/></svg>'
)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def invoice(language: str = "en", **changes: Any) -> Content:
    """The sample: fee, overages of every kind, an earlier cycle, credits applied, a package change, a comparison."""
    content: Content = json.loads((ROOT / "invoice_templates" / "sample_v2.json").read_text("utf-8"))
    return content | {"language": language, "locale": LOCALES.get(language, language)} | changes


def part(content: Content, key: str, **changes: Any) -> Content:
    """The content with an object of it changed."""
    return content | {key: content[key] | changes}


def line(content: Content, number: int, **changes: Any) -> Content:
    found: Content = copy.deepcopy(content["lines"][number])
    return found | changes


def brief(language: str = "en", **changes: Any) -> Content:
    """A document of one line without tax, for tests that look at one thing."""
    content = invoice(language)
    amounts = {"net": "299.00", "tax": "0.00", "total": "299.00", "credits_applied": "0.00", "due": "299.00"}
    empty: Content = {"changes": [], "comparison": None, "usage": [], "taxes": [], "lines": [line(content, 0)]}
    return content | empty | amounts | changes


def credit_note(language: str = "en", **changes: Any) -> Content:
    """A refund and corrections, of a customer elsewhere in the EU: reverse charge."""
    content = brief(language)
    fee = line(content, 0, kind="refund", due_kind="refund", amount="-299.00", tax_category="AE", tax_rate="0")
    emails = line(
        invoice(language),
        1,
        kind="adjustment",
        due_kind="overage",
        amount="-75.00",
        tax_category="AE",
        settles={
            "due": "0.00",
            "billed": "75.00",
            "why": "less_usage_other_allowance",
            "minimum": None,
            "maximum": None,
            "fee": None,
            "documents": [
                {
                    "number": "INV-2026-000042",
                    "line": 2,
                    "amount": "75.00",
                    "quantity": "40000",
                    "allowance": "15000",
                    "kind": "overage",
                    "package_title": "Starter",
                }
            ],
        },
    )
    customer = {"name": "Papeterie Exemple SARL", "street": "1 rue de l'Exemple", "line2": "", "city": "Lyon"}
    content = part(content, "customer", **customer, postal_code="69001", country="FR", tax_id="FR40303265045")
    tax = {"name": "VAT", "country": "DE", "region": None, "rate": "0", "taxable": "-374.00", "amount": "0.00"}
    reverse = {"reason": "reverse_charge", "category": "AE", "exemption_reason": None, "exemption_code": "VATEX-EU-AE"}
    corrected = {"number": "INV-2026-000042", "issued_on": "2026-02-10", "billing_date": "2026-02-10"}
    about: Content = {
        "number": "CN-2026-000003",
        "kind": "credit_note",
        "issued_on": "2026-02-20",
        "due_on": "2026-02-20",
    }
    amounts = {"net": "-374.00", "tax": "0.00", "total": "-374.00", "due": "-374.00"}
    return (
        content
        | about
        | amounts
        | {"lines": [fee, emails], "taxes": [tax | reverse], "corrects": corrected["number"], "corrected": corrected}
        | {"reason": None, "reason_code": "refund_window"}
        | changes
    )


def debit_note(language: str = "en", **changes: Any) -> Content:
    """A correction upwards in dollars, with the tax amount in euros and the tariff of a tier reached."""
    content = brief(language, currency="USD", number="DN-2026-000001", kind="debit_note", issued_on="2026-02-20")
    tiers = [
        {"up_to": "1000000", "unit_price": "0.0005", "flat": None},
        {"up_to": None, "unit_price": "0.0004", "flat": "20"},
    ]
    calls = line(
        invoice(language),
        3,
        kind="adjustment",
        due_kind="overage",
        amount="480.00",
        tariff={"model": "volume", "size": None, "tiers": tiers},
        tiers=[],
        bounds={"minimum": "20", "maximum": None},
    )
    tax = invoice(language)["taxes"][0] | {"taxable": "480.00", "amount": "91.20", "taxed_as": "INV-2026-000042"}
    euros = {"currency": "EUR", "tax": "82.91", "rate": "0.9091", "rate_on": "2026-02-19"}
    corrected = {"number": "INV-2026-000042", "issued_on": "2026-02-10", "billing_date": "2026-02-10"}
    amounts = {"net": "480.00", "tax": "91.20", "total": "571.20", "due": "571.20"}
    return (
        content
        | amounts
        | {"lines": [calls], "taxes": [tax], "corrects": corrected["number"], "corrected": corrected}
        | {"due_on": "2026-03-06", "reason": "API calls of one day were missing.", "tax_currency": euros}
        | changes
    )


def in_other_scripts() -> Content:
    """A Japanese page with names in Japanese, Arabic, Hebrew and Korean."""
    content = part(invoice("ja"), "customer", name="株式会社 見本髙﨑 · شركة المثال · דוגמה · 견본", country="JP")
    return part(content, "customer", street="見本町1-2-3", city="千代田区", region="東京都", postal_code="100-0001")


def golden() -> dict[str, Content]:
    logo = {"logo": sha256(LOGO), "template": None, "translation": None}
    return {
        "invoice": invoice("de", resources=logo),
        "credit_note": credit_note("fr"),
        "debit_note": debit_note("pl"),
        "invoice_in_other_scripts": in_other_scripts(),
    }


def tax(reason: str, category: str, **changes: object) -> Content:
    """A tax row that charges nothing."""
    row = {"name": "X", "country": "DE", "region": None, "rate": "0", "taxable": "908.00", "amount": "0.00"}
    return {**row, "reason": reason, "category": category, "exemption_reason": None, "exemption_code": None, **changes}


def html(content: Content, resources: dict[str, bytes] | None = None) -> str:
    """The page of a document as HTML."""
    from billing.rendering.drawing import engine
    from billing.rendering.template_versions import EDITIONS
    from billing.rendering.v2.page import page_of

    with localcontext(EXACT):
        page = page_of(content, resources)
    return engine().html(page, EDITIONS["2"])


def text(content: Content) -> str:
    """The words of a page, each run of white space as one space."""
    said = re.sub(r"<[^>]*>", "\n", html(content)).replace("&#39;", "'").replace("&#34;", '"')
    return " ".join(said.replace("&amp;", "&").replace("&lt;", "<").split())


def context(content: Content) -> dict[str, Any]:
    """What a template is given."""
    from billing.rendering.v2.page import page_of

    with localcontext(EXACT):
        return page_of(content).context


def main() -> None:
    from billing.rendering import drawing_libraries, render_pdf

    templates = ROOT / "invoice_templates"
    paths = [*(templates / "v2").rglob("*"), *(templates / "fonts").rglob("*"), templates / "fonts.conf"]
    files = {
        path.relative_to(templates).as_posix(): sha256(path.read_bytes())
        for path in sorted(paths)
        if path.suffix not in (".md", "") and path.is_file()
    }
    (GOLDEN / "resources").mkdir(parents=True, exist_ok=True)
    (GOLDEN / "resources" / sha256(LOGO)).write_bytes(LOGO)
    (GOLDEN / "files.json").write_text(json.dumps(files, indent=2) + "\n", encoding="utf-8")
    (GOLDEN / "libraries.txt").write_text(drawing_libraries() + "\n", encoding="utf-8")
    for name, content in golden().items():
        text = json.dumps(content, ensure_ascii=False, indent=1)
        (GOLDEN / f"{name}.json").write_text(text + "\n", encoding="utf-8")
        (GOLDEN / f"{name}.pdf").write_bytes(render_pdf(content, {sha256(LOGO): LOGO}))


if __name__ == "__main__":
    main()
