"""A page shows what was stored when the document was issued, in the same bytes for ever, and nothing else."""

import copy
import errno
import gc
import hashlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from decimal import Decimal, localcontext
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.rendering import (
    Job,
    MachineError,
    RenderedFile,
    RenderingError,
    Undrawn,
    check_rendering_environment,
    drawing,
    environment,
    render_files,
    render_pdf,
    workers,
)
from billing.rendering import files as files_module
from billing.rendering import locale_formats as wording
from billing.rendering import page_text as page
from billing.rendering.simplified_content import LONGEST_WORD, is_beyond_paper, plainer
from billing.rendering.v2.page import Page
from billing.store.files import scratch_path
from tests.sizes import sized

ROOT = Path(__file__).resolve().parents[3]
Content = dict[str, object]

reads_pdf = pytest.mark.skipif(
    shutil.which("pdftotext") is None, reason="pdftotext is missing: install poppler-utils to read pages back"
)


@pytest.fixture(autouse=True)
def three_documents_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers start for three documents, so that a test of workers needs no more."""
    monkeypatch.setattr(workers, "DOCUMENTS_WITHOUT_WORKERS", 2)


def sample(**changes: object) -> Content:
    content: Content = json.loads((ROOT / "invoice_templates" / "sample.json").read_text("utf-8"))
    assert set(changes) <= set(content)
    return copy.deepcopy(content) | changes


def part(content: Content, key: str, **changes: object) -> Content:
    """An object of the content, changed."""
    value = content[key]
    assert isinstance(value, dict)
    return value | changes


def rows(content: Content, key: str) -> list[Content]:
    value = content[key]
    assert isinstance(value, list)
    return value


def fee(**changes: object) -> Content:
    return rows(sample(), "lines")[0] | changes


def emails(**changes: object) -> Content:
    return rows(sample(), "lines")[1] | changes


def brief(**changes: object) -> Content:
    """A document of one line, for tests that look at one thing."""
    return sample(changes=[], comparison=None, usage=[], lines=[fee()]) | changes


def read(pdf: bytes, page: int | None = None, order: str = "-layout") -> str:
    """The text of a PDF, each run of white space as one space; `order` `-raw` keeps the lines of a cell together."""
    pages = ["-f", str(page), "-l", str(page)] if page else []
    done = subprocess.run(["pdftotext", *pages, order, "-", "-"], input=pdf, capture_output=True, check=True)
    # plain signs, so that a test reads as it is typed
    text = done.stdout.decode("utf-8").translate({ord("\N{EN DASH}"): "-", ord("\N{MULTIPLICATION SIGN}"): "x"})
    return " ".join(text.split())


def streams(pdf: bytes) -> bytes:
    """Everything a PDF holds, with its compressed parts opened."""
    opened = [pdf]
    for found in re.finditer(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.DOTALL):
        try:
            opened.append(zlib.decompress(found.group(1)))
        except zlib.error:
            continue
    return b"\n".join(opened)


def numbered(numbers: range, folder: Path) -> Iterator[Job]:
    for number in numbers:
        name = f"INV-2026-{number:06d}"
        yield Job(json.dumps(brief(number=name)), folder / f"{name}.pdf")


# --- what a page says ------------------------------------------------------------------------------------------------


@reads_pdf
def test_an_invoice_says_what_exceeded_and_what_it_cost() -> None:
    text = read(render_pdf(sample()))
    assert "Invoice" in text
    assert "Due on issue" in text
    assert "Gold, monthly fee" in text
    assert "February 10, 2026 - March 9, 2026" in text
    assert "Emails over the allowance 40,000 15,000 25,000 25 x 1,000 3.00 75.00 Starter · January 10, 2026 -" in text
    assert "Bandwidth over the allowance 61.2 GB 50 GB 11.2 GB 12 GB 0.50 6.00" in text
    assert "Earlier cycle · Emails reported late" in text
    assert "16,500 15,000 1,500 2 x 1,000 3.00 3.00" in text
    assert "December 10, 2025 - January 9, 2026" in text
    assert "Net 383.00" in text
    assert "Sales tax (US OR) 8% on 383.00 30.64" in text
    assert "Total USD 413.64" in text
    assert "billing@example.com" in text
    assert "https://example.com/billing-policy" in text


@reads_pdf
def test_a_line_of_an_earlier_cycle_says_what_billed_it_before_and_what_moved() -> None:
    billed = {"number": "INV-2026-000007", "line": 2, "allowance": "15000"}
    settles = {
        "due": "6.00",
        "billed": "3.00",
        "fee": None,
        "why": "More usage of the cycle counts now than when it was billed.",
        "minimum": "2.5",
        "maximum": None,
        "documents": [billed | {"amount": "3.00", "quantity": "15400", "description": "Emails over the allowance"}],
    }
    usage = rows(sample(), "lines")[3] | {"arithmetic": [], "settles": settles}
    text = read(render_pdf(brief(lines=[usage])))
    assert "16,500 15,000 1,500 2 x 1,000 3.00 3.00" in text
    assert (
        "At least 2.50 · Billed before: 3.00 on INV-2026-000007 for 15,400 · More usage of the cycle counts now than "
        "when it was billed."
    ) in text
    # a fee: in words where it is another one
    fees = [billed | {"line": 1, "amount": "99.00", "quantity": None, "allowance": None, "description": "Starter"}]
    changed = settles | {"fee": "Starter, 22 of 31 days", "why": None, "minimum": None, "documents": fees}
    text = read(render_pdf(brief(lines=[fee(kind="prior_cycle", settles=changed)])))
    assert "Due now: Starter, 22 of 31 days · Billed before: 99.00 on INV-2026-000007: Starter" in text
    same = changed | {"fee": "Starter", "why": "The same fee has another price now."}
    text = read(render_pdf(brief(lines=[fee(kind="prior_cycle", settles=same)])))
    assert "Billed before: 99.00 on INV-2026-000007 · The same fee has another price now." in text
    assert "Due now" not in text


def test_a_part_of_a_fee_is_told_with_its_factors() -> None:
    days = fee(part={"fee": "1099.00", "replaced": None, "part": "22", "parts": "31"})
    cycles = fee(line=2, part={"fee": "1990.00", "replaced": "990.00", "part": "11", "parts": "12"})
    text = read(render_pdf(brief(lines=[days, cycles])))
    assert "1,099.00 x 22 / 31 days" in text
    assert "(1,990.00 \N{MINUS SIGN} 990.00) x 11 / 12 cycles" in text


@reads_pdf
def test_an_invoice_answers_why_it_is_higher_this_month() -> None:
    text = read(render_pdf(sample()))
    assert "Why it is higher than last time" in text
    assert "USD 314.64 higher than INV-2026-000007 of January 10, 2026: USD 99.00 then, USD 413.64 now" in text
    assert "Package fee 99.00 299.00 +200.00" in text
    assert "Package change: Starter → Gold, from February 10, 2026" in text
    assert "Leads: 14,000 used, 2,500 included" in text


@pytest.mark.parametrize(
    ("label", "amount", "expected"),
    [
        ("Custom domains over the allowance", "123,456,789.00", True),
        ("W" * 44, "0.00", True),
        ("W" * 45, "0.00", False),
        ("\N{CJK UNIFIED IDEOGRAPH-6771}" * 22, "0.00", True),
        ("\N{CJK UNIFIED IDEOGRAPH-6771}" * 23, "0.00", False),
        ("Two\nlines", "0.00", False),
        ("Fee", "1,234,567,890.00", False),
    ],
)
def test_what_may_wrap_or_is_two_lines_stands_in_a_row_of_its_own(label: str, amount: str, expected: bool) -> None:
    for place in ("previous", "current", "difference"):
        movement = {"label": label, "previous": "1.00", "current": "2.00", "difference": "+1.00"} | {place: amount}
        assert page.is_one_line(movement) is expected


@reads_pdf
@pytest.mark.parametrize(
    "label", ["Package fee", "Two\nlines", "A fee that has a longer name than what moved has room for"]
)
def test_every_movement_stands_beside_its_own_amounts(label: str) -> None:
    movements = [rows(part(sample(), "comparison"), "movements")[0] | {"label": label}]
    movements += rows(part(sample(), "comparison"), "movements")[1:]
    text = read(render_pdf(brief(comparison=part(sample(), "comparison", movements=movements))))
    first, *others = label.split("\n")
    assert f"{first.removesuffix(' room for')} 99.00 299.00 +200.00" in text.replace(" room", "")
    for other in others:
        assert f"+200.00 {other} Emails over" in text
    for said in (
        "Emails over the allowance 0.00 75.00 +75.00",
        "Earlier cycles 0.00 3.00 +3.00",
        "Tax 0.00 30.64 +30.64",
    ):
        assert said in text


@reads_pdf
def test_a_lower_and_an_equal_total_are_called_so() -> None:
    comparison = part(sample(), "comparison", difference="-12.50", movements=[])
    assert "USD 12.50 lower than" in read(render_pdf(brief(comparison=comparison)))
    comparison["difference"] = "0.00"
    assert "Nothing changed since your last document" in read(render_pdf(brief(comparison=comparison)))


@reads_pdf
def test_a_credit_note_is_negative_in_the_content_and_positive_on_paper() -> None:
    tax = rows(sample(), "taxes")[0] | {"taxable": "-299.00", "amount": "-23.92"}
    refund = fee(kind="refund", amount="-299.00", description="Refund of Gold")
    text = read(
        render_pdf(
            brief(
                number="CN-2026-000003",
                kind="credit_note",
                corrects="INV-2026-000042",
                reason="Refund approved.",
                lines=[refund],
                taxes=[tax],
                net="-299.00",
                tax="-23.92",
                total="-322.92",
            )
        )
    )
    assert "Credit note" in text
    assert "Refund of Gold 299.00" in text
    assert "8% on 299.00 23.92" in text
    assert "Total credited USD 322.92" in text
    assert "Corrects INV-2026-000042" in text
    assert "Refund approved." in text
    assert "-2" not in text.replace("CN-2026", "").replace("INV-2026", "")
    assert "Due on issue" not in text


@reads_pdf
def test_no_tax_on_a_credit_note_is_zero_without_a_sign() -> None:
    tax = rows(sample(), "taxes")[0] | {"taxable": "-299.00", "amount": "0.00", "reason": "reverse_charge"}
    refund = fee(kind="refund", amount="-299.00")
    text = read(
        render_pdf(brief(kind="credit_note", lines=[refund], taxes=[tax], net="-299.00", tax="0.00", total="-299.00"))
    )
    assert "reverse charge 0.00" in text


@reads_pdf
def test_a_charge_on_a_credit_note_stays_apart_from_what_is_credited() -> None:
    lines = [fee(amount="-100.00"), fee(amount="30.00", description="Earlier fee")]
    content = brief(kind="credit_note", lines=lines, taxes=[], net="-70.00", tax="0.00", total="-70.00")
    text = read(render_pdf(content))
    assert "Earlier fee -30.00 Gold · February 10" in text
    assert "Total credited USD 70.00" in text


@reads_pdf
def test_a_debit_note_names_the_document_it_corrects() -> None:
    content = brief(number="DN-2026-000001", kind="debit_note", corrects="INV-2026-000042", reason="Late usage.")
    text = read(render_pdf(content))
    assert "Debit note" in text
    assert "Corrects INV-2026-000042" in text
    assert "Late usage." in text


@reads_pdf
@pytest.mark.parametrize(
    ("currency", "minor_units", "locale", "amount", "printed"),
    [
        ("USD", 2, "en_US", "1234567.80", "USD 1,234,567.80"),
        ("JPY", 0, "ja_JP", "1234567", "JPY 1,234,567"),
        ("KWD", 3, "fr_FR", "1234.5", "KWD 1 234,500"),
        ("EUR", 2, "de-DE", "1234.50", "EUR 1.234,50"),
        ("INR", 2, "hi_IN", "1234567.00", "INR 12,34,567.00"),
        ("USD", 2, "xx_nowhere", "1234.00", "USD 1,234.00"),
        ("USD", 2, None, "9999999999999999.99", "USD 9,999,999,999,999,999.99"),
    ],
)
def test_money_has_the_minor_units_of_its_currency_and_the_digits_of_its_reader(
    currency: str, minor_units: int, locale: str | None, amount: str, printed: str
) -> None:
    content = brief(currency=currency, minor_units=minor_units, locale=locale, lines=[], taxes=[], net="0", tax="0")
    assert printed in read(render_pdf(content | {"total": amount}))


def test_money_of_any_size_is_written_exactly() -> None:
    amount = "98765432109876543210987654321098765432109.87"
    with localcontext(wording.EXACT):
        printed = wording.Print("en_US", "USD", 2).money(Decimal(amount), "total")
    assert printed.replace(",", "") == amount


def test_paper_refuses_to_round_money() -> None:
    with pytest.raises(RenderingError, match=r"INV-2026-000042: total: found 1\.005, expected at most 2 decimals"):
        render_pdf(brief(total="1.005"))


@reads_pdf
def test_quantities_drop_idle_zeros_and_unit_prices_keep_every_decimal() -> None:
    line = emails(quantity="61.200000000", unit="GB", unit_price="0.0030", arithmetic=[])
    text = read(render_pdf(brief(lines=[line])))
    assert "61.2 GB 15,000 GB" in text
    assert " 0.003 75.00" in text


@reads_pdf
def test_tiers_are_written_out() -> None:
    tiers = [
        {"up_to": "1000", "unit_price": "0.003", "flat": "5.00"},
        {"up_to": None, "unit_price": "0.002", "flat": None},
    ]
    line = emails(tariff={"model": "graduated", "size": None, "tiers": tiers}, unit_price=None, billed_units="25000")
    text = read(render_pdf(brief(lines=[line])))
    assert "Each tier prices its own part (up to 1,000: 0.003 each plus 5.00; above: 0.002 each)" in re.sub(
        r" 40,000 15,000 25,000 25,000 75\.00", "", text
    )


@reads_pdf
def test_the_minimum_and_maximum_of_a_tariff_are_told_after_its_tiers() -> None:
    tiers = [
        {"up_to": "100", "unit_price": None, "flat": "5.00"},
        {"up_to": None, "unit_price": None, "flat": "9.00"},
    ]
    steps = {"tariff": {"model": "stairstep", "size": None, "tiers": tiers}, "unit_price": None, "amount": "8.00"}
    line = emails(**steps, bounds={"minimum": None, "maximum": "8"}, package=None, package_title=None)
    text = read(render_pdf(brief(lines=[line], locale="de_DE")))
    assert "One price for the tier reached (up to 100: 5,00; above: 9,00) · At most 8,00" in text
    # blocks are told by the columns
    line = emails(bounds={"minimum": "100.00", "maximum": "2000"}, amount="100.00")
    assert " · At least 100.00 · At most 2,000.00" in read(render_pdf(brief(lines=[line])))
    assert "At " not in read(render_pdf(brief(lines=[emails()])))


@reads_pdf
def test_usage_without_a_limit_is_called_unlimited() -> None:
    usage = rows(sample(), "usage")[1] | {"quantity": "10000000", "allowance": None, "excess": "0"}
    assert "Emails 10,000,000 unlimited" in read(render_pdf(brief(usage=[usage])))


@reads_pdf
@pytest.mark.parametrize(("reason", "words"), [("exempt", "20%: exempt"), ("reverse_charge", "20%: reverse charge")])
def test_a_tax_that_is_not_charged_says_why(reason: str, words: str) -> None:
    tax = {"name": "VAT", "country": "FR", "region": None, "rate": "0.20", "taxable": "299.00", "amount": "0.00"}
    text = read(render_pdf(brief(taxes=[tax | {"reason": reason}], tax_note="The customer accounts for the tax.")))
    assert f"VAT (FR) {words} 0.00" in text
    assert "The customer accounts for the tax." in text


@pytest.mark.parametrize(
    ("quantity", "allowance", "rest"),
    [
        ("0", "10", "74.00"),
        ("5", "10", "37.00"),
        ("10", "10", "0.00"),
        ("20", "10", "37.00"),
        ("15", "10", "24.67"),
        ("3", "0", "74.00"),
        ("0", "0", "74.00"),
        ("-4", "10", "74.00"),
        ("1E+40", "1E-9", "74.00"),
    ],
)
def test_a_bar_divides_at_the_allowance(quantity: str, allowance: str, rest: str) -> None:
    assert page.bar(Decimal(quantity), Decimal(allowance)) == rest


@reads_pdf
def test_an_invoice_with_all_its_parts_fits_on_one_page() -> None:
    lines = [fee(), emails(), emails(), emails()]
    drawn = drawing.draw(sample(lines=lines, notes=["Please pay by bank transfer."]))
    assert drawn.pages == 1
    text = read(drawn.pdf)
    for part_of_it in ("Why it is higher", "Package change", "Custom domains", "Sales tax", "Payment", "Questions?"):
        assert part_of_it in text


# --- long and strange documents --------------------------------------------------------------------------------------


@reads_pdf
@pytest.mark.parametrize("lines", [1, 9, 10, 11, 12, 13, 60])
def test_totals_never_stand_on_a_page_without_a_line(lines: int) -> None:
    content = brief(lines=[emails(description=f"Item {line} of many") for line in range(lines)])
    drawn = drawing.draw(content)
    texts = [read(drawn.pdf, page + 1) for page in range(drawn.pages)]
    with_total = [text for text in texts if "Total USD" in text]
    assert len(with_total) == 1
    assert f"Item {lines - 1} of many" in with_total[0]
    for number, text in enumerate(texts, start=1):
        assert f"Page {number} of {drawn.pages}" in text
        assert "INV-2026-000042" in text
        assert "Item Used Allowance" in text or "Item " not in text


@reads_pdf
@pytest.mark.parametrize("movements", [page.MOVEMENTS_KEPT_TOGETHER, page.MOVEMENTS_KEPT_TOGETHER + 1, 120])
def test_what_moved_begins_below_the_letterhead_however_much_it_is(movements: int) -> None:
    moved = [
        {"label": f"Metric {number} ends", "previous": "0.00", "current": "1.00", "difference": "1.00"}
        for number in range(movements)
    ]
    drawn = drawing.draw(sample(comparison=part(sample(), "comparison", movements=moved)))
    first = read(drawn.pdf, 1)
    for said in ("Total due", "Why it is higher", "Metric 0 ends 0.00 1.00 +1.00", "Metric 29 ends"):
        assert said in first
    whole = read(drawn.pdf)
    assert [whole.count(f"Metric {number} ends ") for number in range(movements)] == [1] * movements


@reads_pdf
def test_long_names_wrap_and_stay_whole() -> None:
    name = "Donaudampfschifffahrtsgesellschaft" * 5
    content = brief(customer=part(sample(), "customer", name=name), seller=part(sample(), "seller", name=name))
    assert read(render_pdf(content)).replace(" ", "").count("Donaudampf") >= 5


@reads_pdf
def test_other_alphabets_are_set_in_the_bundled_faces(tmp_path: Path) -> None:
    name = "Ελλάδα Київ Łódź 株式会社山田 한국어"
    path = tmp_path / "INV-2026-000042.pdf"
    content = brief(customer=part(sample(), "customer", name=name))
    (file,) = render_files([Job(json.dumps(content), path)])
    assert isinstance(file, RenderedFile)
    assert file.unprintable == ""
    text = read(path.read_bytes())
    assert "Ελλάδα Київ Łódź" in text
    assert "株式会社山田" in text
    fonts = set(re.findall(rb"/FontName /([\w+-]+)", streams(path.read_bytes())))
    families = {font.partition(b"+")[2] for font in fonts}
    assert families == {b"Inter", b"Inter-Semi-Bold", b"Page-Han", b"Page-Hangul"}


def test_characters_without_a_face_are_reported(tmp_path: Path) -> None:
    content = brief(customer=part(sample(), "customer", name="Acme \N{GRINNING FACE}"))
    (file,) = render_files([Job(json.dumps(content), tmp_path / "INV-2026-000042.pdf")])
    assert isinstance(file, RenderedFile)
    assert file.unprintable == "\N{GRINNING FACE}"


@reads_pdf
def test_nothing_is_due_on_a_document_of_nothing() -> None:
    text = read(render_pdf(brief(lines=[], taxes=[], net="0.00", tax="0.00", total="0.00")))
    assert "Nothing to pay" in text
    assert "Total USD 0.00" in text


# --- the same bytes --------------------------------------------------------------------------------------------------


def test_the_same_content_gives_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    here = hashlib.sha256(render_pdf(sample())).hexdigest()
    program = (
        "import hashlib, json, sys; sys.path.insert(0, sys.argv[1]); from billing.rendering import render_pdf; "
        "from pathlib import Path; text = Path(sys.argv[2]).read_text('utf-8'); "
        "print(hashlib.sha256(render_pdf(json.loads(text))).hexdigest())"
    )
    path = ROOT / "invoice_templates" / "sample.json"
    running = []
    places = (("2", "Pacific/Auckland"), ("1", "UTC"))[: sized(usual=1, long=2)]
    for seed, zone in places:
        surroundings = {**os.environ, "PYTHONHASHSEED": seed, "TZ": zone, "LC_ALL": "C", "HOME": str(tmp_path)}
        command = [sys.executable, "-c", program, str(ROOT), str(path)]
        running.append(subprocess.Popen(command, env=surroundings, cwd=tmp_path, stdout=subprocess.PIPE, text=True))
    assert [process.communicate(timeout=120)[0].strip() for process in running] == [here for _ in places]


def test_what_was_drawn_before_does_not_show() -> None:
    first = render_pdf(sample(locale="fr_FR"))
    for locale in ("ja_JP", "km_KH", "de_DE", "ar_EG"):
        render_pdf(brief(locale=locale))
    assert render_pdf(sample(locale="fr_FR")) == first


def test_dates_do_not_depend_on_the_locales_used_before() -> None:
    program = """
import json, sys
sys.path.insert(0, sys.argv[1])
from datetime import date
from billing.rendering.locale_formats import Print
names = sys.argv[2].split()
out = {}
for name in names:
    written = Print(name, "USD", 2)
    out[name] = [written.day(date(2024, month, 1)) + written.month(date(2024, month, 1)) for month in range(1, 13)]
print(json.dumps(out, sort_keys=True))
"""
    names = [
        "ja_JP",
        "en_US",
        "yo_NG",
        "lrc_IR",
        "km_KH",
        "fr_FR",
        "de_DE",
        "gn_PY",
        "ru_RU",
        "el_GR",
        "zh_Hant_TW",
        "uk",
    ]
    seen = {
        subprocess.run(
            [sys.executable, "-c", program, str(ROOT), " ".join(order)], capture_output=True, text=True, check=True
        ).stdout
        for order in (names, names[::-1])
    }
    assert len(seen) == 1


def test_the_only_date_in_a_file_is_the_day_of_issue() -> None:
    pdf = render_pdf(sample(issued_on="2026-02-11"))
    held = streams(pdf)
    assert re.findall(rb"D:\d+", held) == [b"D:20260211"]
    assert b"/Title (INV-2026-000042)" in held


def test_no_rules_but_those_of_the_bundle_shape_a_page() -> None:
    # WeasyPrint's rules for any HTML would list the headings of a page as its bookmarks
    assert b"/Outlines" not in streams(render_pdf(sample()))


def test_a_newer_template_never_draws_an_older_document() -> None:
    with pytest.raises(RenderingError, match="template_version: found '0', expected '1'"):
        render_pdf(sample(template_version="0"))


# --- hostile content -------------------------------------------------------------------------------------------------


@reads_pdf
def test_markup_in_a_name_is_text() -> None:
    name = "<b>Acme</b> & <script>alert(1)</script> {{ 7 * 7 }} ]]>"
    assert name in read(render_pdf(brief(customer=part(sample(), "customer", name=name))), order="-raw")


@pytest.mark.parametrize(
    "element",
    [
        '<img src="{}"/>',
        '<link rel="stylesheet" href="{}"/>',
        '<link rel="attachment" href="{}"/>',
        '<p style="background: url({})">x</p>',
        '<style>@import "{}";</style>',
        '<object data="{}"></object>',
    ],
)
@pytest.mark.parametrize("scheme", ["file", "http", "data"])
def test_a_page_fetches_nothing_outside_the_bundle(element: str, scheme: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.svg"
    secret.write_text("<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'><title>top-secret</title></svg>")
    address = {"file": secret.as_uri(), "http": "http://127.0.0.1:9/x", "data": "data:text/css,p{}"}[scheme]
    with pytest.raises(ValueError, match="outside the invoice bundle"):
        drawing.engine().draw_html(f"<html>{element.format(address)}</html>")
    held = drawing.engine().draw(Page(page.page_of(brief(reason=element.format(address)))), drawing.FIRST, 60).pdf
    assert b"top-secret" not in streams(held)


def test_a_drawing_in_a_page_cannot_bring_a_picture_along(tmp_path: Path) -> None:
    from PIL import Image

    picture = tmp_path / "picture.png"
    Image.new("RGB", (9, 9), "red").save(picture)
    outer = '<svg xmlns="http://www.w3.org/2000/svg" width="90" height="90"><image href="{}" width="9"/></svg>'
    held = drawing.engine().draw_html(f"<html>{outer.format(picture.as_uri())}</html>").pdf
    assert b"/Subtype /Image" not in streams(held)


def test_a_template_cannot_run_code() -> None:
    from jinja2.exceptions import SecurityError

    environment = drawing.engine().template(drawing.FIRST).environment
    for attack in ("{{ cycler.__init__.__globals__.os.popen('true') }}", "{{ lines.append(1) }}"):
        with pytest.raises(SecurityError):
            environment.from_string(attack).render(lines=[])


@reads_pdf
def test_a_name_cannot_turn_the_line_over() -> None:
    name = "Acme \N{RIGHT-TO-LEFT OVERRIDE}00.99 DSU"
    assert "Acme 00.99 DSU" in read(render_pdf(brief(customer=part(sample(), "customer", name=name))))


def test_only_plain_addresses_become_links() -> None:
    seller = part(sample(), "seller", billing_policy_url="javascript:alert(1)", support_email="a@example.com?bcc=x")
    held = streams(render_pdf(brief(seller=seller)))
    assert b"/URI (" not in held
    assert b"/URI (https://example.com/billing-policy)" in streams(render_pdf(brief()))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"total": "many"}, "total: found 'many', expected a decimal number"),
        ({"total": "NaN"}, "total: found 'NaN', expected a decimal number"),
        ({"total": "1e999999999"}, "total: found '1e999999999', expected a decimal number"),
        ({"total": None}, "total: found None, expected text"),
        ({"issued_on": "yesterday"}, "issued_on: found 'yesterday', expected a date"),
        ({"lines": [{"line": 1}]}, r"lines\[0\]\.\w+: found nothing, expected a value or null"),
        ({"lines": {}}, r"lines: found \{\}, expected a list"),
        ({"kind": "poem"}, "kind: found 'poem', expected invoice, credit_note or debit_note"),
    ],
)
def test_content_that_cannot_be_printed_is_named(changes: Content, words: str) -> None:
    with pytest.raises(RenderingError, match=f"INV-2026-000042: {words}") as caught:
        render_pdf(brief(**changes))
    assert caught.value.number == "INV-2026-000042"


def test_a_document_that_takes_too_long_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    drawing.engine()
    monkeypatch.setattr(drawing, "SECONDS_PER_DOCUMENT", 0.01)
    monkeypatch.setattr(drawing, "SECONDS_PER_LINE", 0.0)
    # what an alarm raises in a callback of the garbage collector, as the tests' libraries have one, comes to nobody
    gc.disable()
    try:
        with pytest.raises(RenderingError, match="not drawn within"):
            render_pdf(sample(lines=[emails() for _ in range(50)]))
    finally:
        gc.enable()
    assert signal.getsignal(signal.SIGPROF) == signal.SIG_DFL


def test_time_that_other_processes_take_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    with drawing._time_limit(0.05):
        time.sleep(0.2)
    assert signal.getitimer(signal.ITIMER_PROF) == (0.0, 0.0)


@pytest.mark.parametrize("name", ["x" * 60_000, "x y " * 15_000, "x" * 60_000 + " é" * 9])
def test_a_name_that_no_page_can_take_is_cut_and_the_document_drawn(name: str, tmp_path: Path) -> None:
    content = brief(customer=part(sample(), "customer", name=name))
    path = tmp_path / "INV-2026-000042.pdf"
    before = time.process_time()
    (file,) = render_files([Job(json.dumps(content), path)])
    assert time.process_time() - before < 10
    assert isinstance(file, RenderedFile)
    assert file.shortened == "it holds texts that are longer than any page"
    again = list(render_files([Job(json.dumps(content), tmp_path / "again.pdf", file.sha256)]))
    assert (tmp_path / "again.pdf").read_bytes() == path.read_bytes()
    assert isinstance(again[0], RenderedFile)


@reads_pdf
def test_a_document_that_takes_too_long_is_drawn_plainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def draw(content: Content, resources: Mapping[str, bytes], *_: object) -> drawing.Drawn:
        if len(str(part(content, "customer")["name"])) > 1_010:
            raise RenderingError(str(content["number"]), "not drawn within 30 seconds of processor time")
        return drawing.draw(content, resources)

    monkeypatch.setattr(files_module, "draw", draw)
    content = brief(customer=part(sample(), "customer", name="Long" * 1_000))
    (file,) = render_files([Job(json.dumps(content), tmp_path / "INV-2026-000042.pdf")])
    assert isinstance(file, RenderedFile)
    assert file.shortened == "not drawn within 30 seconds of processor time"
    text = read(file.path.read_bytes())
    assert "Long" * 10 in text
    assert "\N{HORIZONTAL ELLIPSIS}" in text
    # as it was drawn first it is drawn again, on a machine that could do more
    monkeypatch.setattr(files_module, "draw", drawing.draw)
    again = Job(json.dumps(content), tmp_path / "again.pdf", file.sha256)
    assert [each.path.read_bytes() for each in render_files([again])] == [file.path.read_bytes()]


@pytest.mark.parametrize("content", [sample(), brief(), brief(customer=part(sample(), "customer", name="x" * 100))])
def test_what_fits_a_page_is_never_made_plainer(content: Content) -> None:
    assert plainer(content) == content
    assert not is_beyond_paper(content)


@given(st.text(st.characters(codec="utf-8"), max_size=3_000))
def test_a_shortened_text_has_no_long_word_and_keeps_its_beginning(text: str) -> None:
    short = plainer({"name": text})["name"]
    assert isinstance(short, str)
    assert max(map(len, short.split(" "))) <= LONGEST_WORD
    kept = short.removesuffix("\N{HORIZONTAL ELLIPSIS}").replace(" ", "")
    assert text.replace(" ", "").startswith(kept)


# --- files -----------------------------------------------------------------------------------------------------------


class PoolForAll(workers.Pool):
    """Started workers cost a second each, so tests that are not about their life share them."""

    def stop(self) -> None:
        """Stay for the next test."""

    def remove_scratch(self) -> None:
        """Stay for the next test."""


@pytest.fixture(scope="module")
def pool_for_all() -> Iterator[PoolForAll]:
    pool = PoolForAll(documents_per_worker=1000)
    yield pool
    workers.Pool.stop(pool)
    workers.Pool.remove_scratch(pool)


def test_calls_below_a_page_take_no_memory_from_the_system_again_and_again() -> None:
    def down(calls: int) -> int:
        return down(calls - 1) + 1 if calls else 0

    def back_and_forth() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for calls in range(400):
            assert [down(calls) for _ in range(10)] == [calls] * 10
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    taken = back_and_forth()
    drawing.with_one_stack_chunk(back_and_forth)
    assert back_and_forth() < taken / 10


@pytest.fixture
def few_need_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """`render_files` draws no document in this process."""
    monkeypatch.setattr(workers, "DOCUMENTS_WITHOUT_WORKERS", 0)


@pytest.fixture
def started_workers(pool_for_all: PoolForAll, few_need_workers: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """`render_files` draws with workers that run already."""
    monkeypatch.setattr(workers, "Pool", lambda documents_per_worker: pool_for_all)


@pytest.mark.usefixtures("few_need_workers")
def test_files_come_in_the_order_of_their_jobs_and_equal_what_one_process_draws(tmp_path: Path) -> None:
    jobs = list(numbered(range(1, sized(usual=4, long=6)), tmp_path / "2026-02"))
    files = list(render_files(iter(jobs), workers=2, documents_per_worker=2))
    assert [file.path for file in files] == [job.path for job in jobs]
    for (text, path, *_), file in zip(jobs, files, strict=True):
        content = path.read_bytes()
        assert content == render_pdf(json.loads(text))
        assert file == RenderedFile(path, hashlib.sha256(content).hexdigest(), len(content), 1)
    assert sorted(tmp_path.rglob("*.*")) == [job.path for job in jobs]


def test_few_documents_need_no_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", None)
    assert len(list(render_files(numbered(range(2), tmp_path)))) == 2
    assert list(render_files([])) == []


def test_documents_are_drawn_from_any_thread(
    tmp_path: Path, pool_for_all: PoolForAll, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "Pool", lambda documents_per_worker: pool_for_all)
    files: list[RenderedFile | Undrawn] = []
    before = sum(worker.rendered for worker in pool_for_all._all)
    thread = threading.Thread(target=lambda: files.extend(render_files(numbered(range(1), tmp_path), workers=1)))
    thread.start()
    thread.join(timeout=120)
    assert sum(worker.rendered for worker in pool_for_all._all) == before + 1  # no time limit would hold in the thread
    assert [file.path.name for file in files] == ["INV-2026-000000.pdf"]


@pytest.mark.usefixtures("few_need_workers")
def test_jobs_are_taken_as_they_are_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))

    def endless() -> Iterator[Job]:
        for number in range(1_000_000):
            taken.append(number)
            yield from numbered(range(number, number + 1), tmp_path)

    files = render_files(endless(), workers=1)
    next(files)
    assert list(scratch.iterdir())
    files.close()  # type: ignore[attr-defined]  # a generator
    assert len(taken) < 20
    assert not list(tmp_path.glob(".*"))
    assert not list(scratch.iterdir())


@pytest.mark.usefixtures("started_workers")
def test_a_document_that_fails_is_named_in_its_place_and_stops_no_other(tmp_path: Path) -> None:
    jobs = list(numbered(range(1, 6), tmp_path))
    jobs[2] = Job(json.dumps(brief(number="INV-2026-000003", total="broken")), jobs[2].path)
    found = list(render_files(jobs, workers=2))
    assert [file.path for file in found] == [job.path for job in jobs]
    assert [isinstance(file, Undrawn) for file in found] == [False, False, True, False, False]
    assert str(found[2]).startswith("Undrawn")
    assert isinstance(found[2], Undrawn)
    assert found[2].number == "INV-2026-000003"
    assert found[2].cause.startswith("total: found 'broken'")
    assert [job.path.exists() for job in jobs] == [True, True, False, True, True]
    assert not list(tmp_path.glob(".*"))


def test_a_killed_worker_is_reported_and_leaves_nothing(tmp_path: Path, pool_for_all: PoolForAll) -> None:
    job = next(numbered(range(1), tmp_path))
    path = job.path
    pool_for_all.render(job)
    worker = pool_for_all._idle[-1]
    slow = json.dumps(sample(number="INV-2026-000009", lines=[emails() for _ in range(400)]))
    target = tmp_path / "INV-2026-000009.pdf"
    scratch_path(target, worker._process.pid).write_bytes(b"half a page")
    killer = threading.Timer(0.3, worker._process.kill)
    killer.start()
    started = time.monotonic()
    with pytest.raises(RenderingError, match="INV-2026-000009: its worker was killed by SIGKILL"):
        pool_for_all.render(Job(slow, target))
    assert time.monotonic() - started < 20
    killer.join()
    assert sorted(tmp_path.iterdir()) == [path]
    assert worker not in pool_for_all._idle
    assert pool_for_all.render(job).path == path  # by another worker


def test_a_worker_that_died_waiting_is_reported_and_not_used_again(tmp_path: Path, pool_for_all: PoolForAll) -> None:
    job = next(numbered(range(1), tmp_path))
    path = job.path
    pool_for_all.render(job)
    worker = pool_for_all._idle[-1]
    worker._process.kill()
    worker._process.wait()
    scratch_path(path, worker._process.pid).write_bytes(b"half a page")
    with pytest.raises(RenderingError, match="INV-2026-000000: its worker was killed by SIGKILL"):
        pool_for_all.render(job)
    assert list(tmp_path.iterdir()) == [path]
    assert pool_for_all.render(job).path == path  # by another worker


@pytest.mark.usefixtures("few_need_workers")
def test_a_worker_that_gives_no_answer_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "START_WORKER", "import time; time.sleep(600)")
    monkeypatch.setattr(workers, "SECONDS_TO_START", 0.2)
    with pytest.raises(MachineError, match="INV-2026-000000: the worker gave no answer within 0 seconds"):
        list(render_files(numbered(range(3), tmp_path), workers=1))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("few_need_workers")
def test_a_worker_that_cannot_draw_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    older = (
        "import sys; sys.path.insert(0, sys.argv[1]); "
        "from billing.rendering import environment; environment.WEASYPRINT_VERSION = '0.1'; "
    )
    broken = older + workers.START_WORKER
    monkeypatch.setattr(workers, "START_WORKER", broken)
    with pytest.raises(MachineError, match=r"INV-2026-000000: no document can be drawn.*expected 0\.1"):
        list(render_files(numbered(range(3), tmp_path), workers=1))


@pytest.mark.usefixtures("few_need_workers")
def test_a_worker_that_breaks_down_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "START_WORKER", "raise SystemExit('out of paper')")
    with pytest.raises(MachineError, match="INV-2026-000000: its worker ended with status 1: out of paper"):
        list(render_files(numbered(range(3), tmp_path), workers=2))


@pytest.mark.usefixtures("started_workers")
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "documents"
    blocked.write_text("a file where a folder should be")
    for without_workers in (0, 1):
        monkeypatch.setattr(workers, "DOCUMENTS_WITHOUT_WORKERS", without_workers)
        with pytest.raises(OSError, match=re.escape(str(blocked))):
            list(render_files(numbered(range(1), blocked), workers=1))
    assert sorted(tmp_path.iterdir()) == [blocked]


def test_a_full_disk_names_the_file_and_keeps_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = next(numbered(range(1), tmp_path))
    path = job.path
    path.write_bytes(b"issued before")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=re.escape(str(path))) as caught:
        list(render_files([job]))
    assert caught.value.errno == errno.ENOSPC
    assert path.read_bytes() == b"issued before"
    assert sorted(tmp_path.iterdir()) == [path]


def test_content_that_is_not_json_is_named_by_its_file(tmp_path: Path) -> None:
    (found,) = render_files([Job("{", tmp_path / "INV-2026-000007.pdf")])
    assert isinstance(found, Undrawn)
    assert (found.number, found.cause[:30]) == ("INV-2026-000007", "found content that is not JSON")


@pytest.mark.parametrize("settings", [{"workers": 0}, {"documents_per_worker": 0}])
def test_no_workers_draw_no_documents(settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="expected at least 1"):
        list(render_files([], **settings))


# --- this machine ----------------------------------------------------------------------------------------------------


def test_importing_the_renderer_loads_neither_weasyprint_nor_polars() -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import billing.rendering; "
        "print([name for name in ('weasyprint', 'polars', 'dagster', 'jinja2', 'babel') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program, str(ROOT)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_process_that_has_drawn_leaves_nothing_behind_and_ends_silently(tmp_path: Path) -> None:
    program = (
        "import json, os, sys; sys.path.insert(0, sys.argv[1]); from billing.rendering import render_pdf; "
        "from pathlib import Path; render_pdf(json.loads(Path(sys.argv[2]).read_text('utf-8'))); "
        "print(len(os.listdir(os.environ['TMPDIR'])))"
    )
    command = [sys.executable, "-c", program, str(ROOT), str(ROOT / "invoice_templates" / "sample.json")]
    surroundings = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, env=surroundings, capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr, list(tmp_path.iterdir())) == ("1", "", [])


@pytest.mark.parametrize("end", sized([signal.SIGINT, signal.SIGKILL], [signal.SIGINT, signal.SIGTERM, signal.SIGKILL]))
def test_a_process_that_is_ended_while_it_draws_leaves_nothing_that_the_next_does_not_remove(
    tmp_path: Path, end: signal.Signals
) -> None:
    program = (
        "import json, sys, time; sys.path.insert(0, sys.argv[1]); from billing.rendering import render_pdf; "
        "from pathlib import Path; render_pdf(json.loads(Path(sys.argv[2]).read_text('utf-8'))); "
        "print('drawn', flush=True); time.sleep(float(sys.argv[3]))"
    )
    command = [sys.executable, "-c", program, str(ROOT), str(ROOT / "invoice_templates" / "sample.json")]
    surroundings = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [*command, "60"], env=surroundings, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as drawing_one:
        assert drawing_one.stdout is not None
        assert drawing_one.stdout.readline() == "drawn\n"
        drawing_one.send_signal(end)
    assert not list(tmp_path.glob("weasyprint-*"))
    if end == signal.SIGINT:
        assert not list(tmp_path.iterdir())
    subprocess.run([*command, "0"], env=surroundings, check=True, capture_output=True)
    assert not list(tmp_path.iterdir())


def test_this_machine_can_draw() -> None:
    assert check_rendering_environment() == []


def test_what_is_missing_is_said_with_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment.Library, "loads", lambda self: False)
    monkeypatch.setattr(environment, "TEMPLATES", tmp_path)
    monkeypatch.setattr(environment, "WEASYPRINT_VERSION", "0.1")
    problems = check_rendering_environment()
    assert len(problems) == 5
    assert "apt-get install libharfbuzz-subset0" in problems[3]
    for problem in problems[1:4]:
        assert "Fedora: dnf install" in problem
        assert "macOS: brew install" in problem
    assert "Inter-Regular.ttf" in problems[4]


def test_loading_the_libraries_that_draw_starts_no_process() -> None:
    program = (
        "import subprocess\n"
        "def refuse(*_, **__): raise SystemExit('a process was started')\n"
        "subprocess.Popen = refuse\n"
        "from billing.rendering.drawing import engine\n"
        "engine()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
