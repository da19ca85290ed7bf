"""A page of template version 2 says what the law and the customer need, in one language, and breaks no number."""

import re
import shutil
import subprocess
from decimal import localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.rendering import RenderingError, render_pdf
from billing.rendering.drawing import draw
from billing.rendering.fonts import width_in_ems
from billing.rendering.locale_formats import EXACT
from billing.rendering.v2.lines import FONT_SIZES, MILLIMETRES_PER_POINT, TABLE, USUAL, columns_of
from billing.rendering.v2.page import page_of
from billing.rendering.words import LANGUAGES
from tests.rich_documents import (
    LOGO,
    Content,
    brief,
    context,
    credit_note,
    debit_note,
    html,
    in_other_scripts,
    invoice,
    line,
    part,
    sha256,
    tax,
    text,
)

reads_pdf = pytest.mark.skipif(
    shutil.which("pdftotext") is None, reason="pdftotext is missing: install poppler-utils to read pages back"
)


def pages(content: Content) -> list[str]:
    done = subprocess.run(
        ["pdftotext", "-layout", "-", "-"], input=render_pdf(content), capture_output=True, check=True
    )
    return [" ".join(page.split()) for page in done.stdout.decode().split("\f")[:-1]]


# --- what the law asks -----------------------------------------------------------------------------------------------


def test_an_invoice_states_what_article_226_asks() -> None:
    said = text(invoice())
    for stated in (
        "10 February 2026",
        "INV-2026-000042",
        "VAT ID DE123456788",
        "Hafenstraße 40 · 20457 Hamburg · Germany",
        "1 Quarry Lane",
        "Gold, monthly fee",
        "10 February 2026 \N{EN DASH} 9 March 2026",
        "as stated on each line",
        "VAT (DE) 19% on 908.00",
        "172.52",
    ):
        assert stated in said


def test_a_document_of_one_period_states_it_once() -> None:
    facts = dict(context(brief("de"))["facts"]["rows"])
    assert " ".join(facts["Leistungszeitraum"].split()) == "10. Februar 2026 \N{EN DASH} 9. März 2026"


@pytest.mark.parametrize(
    ("language", "law"),
    [
        ("en", "Reverse charge: the customer is liable for the tax."),
        ("de", "Steuerschuldnerschaft des Leistungsempfängers (Reverse-Charge-Verfahren)."),
        ("fr", "Autoliquidation"),
        ("es", "Inversión del sujeto pasivo"),
        ("it", "Inversione contabile"),
        ("nl", "Btw verlegd"),
        ("pt", "autoliquidação"),
        ("pl", "Odwrotne obciążenie"),
        ("ja", "リバースチャージ方式"),
    ],
)
def test_a_reverse_charge_is_said_in_the_words_of_the_law(language: str, law: str) -> None:
    content = credit_note(language)
    assert law in text(content)
    assert content["customer"]["tax_id"] in text(content)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (tax("exempt", "E"), "X (DE): exempt, on 908.00 0.00 "),
        (tax("exempt", "E", exemption_reason="Article 132(1)(i)"), "Exempt from tax. Article 132(1)(i)"),
        (tax("exempt", "O"), "Not subject to tax."),
        (tax("exempt", "G"), "Export, exempt from tax."),
        (tax("exempt", "K"), "Intra-Community supply, exempt from tax."),
        (tax("charged", "Z"), "X (DE) 0% on 908.00 0.00"),
        (tax("charged", "Z"), "Taxed at the zero rate."),
    ],
)
def test_a_tax_of_zero_has_its_reason(row: Content, reason: str) -> None:
    assert reason in text(invoice(taxes=[row], tax="0.00", total="908.00", due="878.00"))


def test_no_tax_at_all_is_said() -> None:
    assert "Tax: none applies 0.00" in text(brief())
    outside = brief(lines=[line(invoice(), 0, tax_category="O", tax_rate=None)])
    assert "Not subject to tax." in text(outside)


def test_the_tax_amount_is_given_in_the_currency_of_the_tax() -> None:
    said = text(debit_note())
    assert "Tax amount in the currency of the tax: EUR 82.91 (exchange rate 0.9091 of 19 February 2026)" in said
    unknown = {"currency": "EUR", "tax": None, "rate": None, "rate_on": None}
    assert "Tax amount in EUR: not stated, no exchange rate is known" in text(debit_note(tax_currency=unknown))


def test_a_correction_names_the_document_with_its_date_and_the_reason() -> None:
    said = text(credit_note("de"))
    assert "Rechnungskorrektur" in said
    assert "Korrigiert INV-2026-000042 vom 10. Februar 2026" in said
    assert "Erstattung innerhalb der Erstattungsfrist." in said
    assert "374,00 EUR" in said and "-374" not in said
    assert "API calls of one day were missing." in text(debit_note("de"))


# --- paying ----------------------------------------------------------------------------------------------------------


def gives_back(*documents: tuple[str, str | None]) -> Content:
    """A credit note that corrects no single document: its lines give back what these billed."""
    fee = invoice()["lines"][0] | {"kind": "prior_cycle", "due_kind": "package_fee", "amount": "-10.00"}
    lines = [fee | {"line": 1 + at, "gives_back": it, "gives_back_on": on} for at, (it, on) in enumerate(documents)]
    return credit_note(lines=lines, corrects=None, corrected=None, reason=None)


def test_a_credit_note_that_corrects_none_names_what_its_lines_give_back() -> None:
    one = gives_back(("INV-2026-000007", "2026-01-10"), ("INV-2026-000007", "2026-01-10"))
    said = text(one)
    assert "Corrects INV-2026-000007 of 10 January 2026" in said
    rows = context(one)["facts"]["rows"]
    assert ("Corrects", "INV-2026-000007") in rows and rows.count(("Corrects", "INV-2026-000007")) == 1
    several = gives_back(*((f"INV-2026-00000{number}", "2026-01-10") for number in range(1, 6)))
    rows = context(several)["facts"]["rows"]
    assert [value for name, value in rows if name == "Corrects"] == [f"INV-2026-00000{number}" for number in (1, 2, 3)]
    assert "In your favour" in text(several)


def test_a_credit_note_is_compared_with_its_sign() -> None:
    compared = invoice()["comparison"] | {"previous_total": "100.00", "difference": "-150.00"}
    said = text(credit_note(total="-50.00", comparison=compared))
    assert "150.00 lower than" in said and "100.00 then" in said and "-50.00 now" in said.replace("EUR ", "")


def test_terms_bank_pay_page_and_references_are_printed() -> None:
    said = text(invoice())
    assert "Due by 24 February 2026" in said
    assert "Payable within 14 days of issue, by 24 February 2026, in EUR. Please quote INV-2026-000042." in said
    assert "IBAN DE89 3704 0044 0532 0130 00" in said
    assert "Pay online: https://pay.example.com/INV-2026-000042" in said
    assert 'href="https://pay.example.com/INV-2026-000042"' in html(invoice())
    assert "PO-4711" in said and "Cost centre 42" in said
    at_once = invoice(due_on="2026-02-10", payment_days=0)
    assert "Payment is due on issue, in EUR." in text(at_once)
    one = invoice(due_on="2026-02-11", payment_days=1)
    assert "Payable within 1 day of issue" in text(one)


@pytest.mark.parametrize("address", ["javascript:alert(1)", "https://pay.example.com/<b>", "", "ftp://example.com/1"])
def test_a_pay_link_that_is_not_safe_is_left_out(address: str) -> None:
    content = part(invoice(), "seller", pay_url=address)
    assert "Pay online" not in text(content)


def test_a_number_is_encoded_in_the_pay_link() -> None:
    content = part(invoice(number="2026/00 7"), "seller", pay_url="https://pay.example.com/?n={number}")
    assert 'href="https://pay.example.com/?n=2026%2F00%207"' in html(content)


def test_credits_applied_lower_what_is_due() -> None:
    said = text(invoice())
    assert "Total EUR 1,080.52 Credits applied -30.00 Amount due EUR 1,050.52" in said
    assert "Credits applied" not in text(brief())
    covered = text(invoice(credits_applied="1080.52", due="0.00"))
    assert "Nothing to pay Covered by your credit balance EUR 0.00" in covered
    assert "IBAN" not in covered


# --- looks -----------------------------------------------------------------------------------------------------------


def test_the_logo_is_the_sellers_or_none() -> None:
    png = b"\x89PNG\r\n\x1a\n"
    content = invoice(resources={"logo": sha256(LOGO), "template": None, "translation": None})
    assert f'src="overage:logo/{sha256(LOGO)}"' in html(content, {sha256(LOGO): LOGO})
    with localcontext(EXACT):
        raster = invoice(resources={"logo": sha256(png), "template": None, "translation": None})
        assert page_of(raster, {sha256(png): png}).images[f"overage:logo/{sha256(png)}"] == (png, "image/png")
    assert "overage:logo" not in html(invoice())
    with pytest.raises(RenderingError, match=r"resources\.logo: found no file"):
        render_pdf(content)


@pytest.mark.parametrize(
    ("colour", "expected"),
    [
        ("#1F4ED8", {"colour": "#1f4ed8", "text": "light"}),
        ("#ffd400", {"colour": "#ffd400", "text": "dark"}),
        ("#767676", {"colour": "#767676", "text": "light"}),
        ("red; background: url(x)", {}),
        ("#fff", {}),
        ("", {}),
    ],
)
def test_text_on_the_accent_colour_can_be_read(colour: str, expected: dict[str, str]) -> None:
    assert context(part(invoice(), "seller", accent=colour))["accent"] == expected


@reads_pdf
def test_footer_and_page_numbers_stand_on_every_page() -> None:
    found = pages(invoice("de", lines=invoice()["lines"] * 8))
    assert len(found) > 2
    for number, page in enumerate(found, 1):
        assert "Meridian Mail GmbH · Managing director: Alex Sample" in page
        assert f"Seite {number} von {len(found)}" in page


def test_a_footer_that_pages_cannot_hold_ends_the_document() -> None:
    short = context(part(invoice(), "seller", footer=["a", "b", "c"]))
    assert short["running"].startswith("a\nb\nc\nMeridian")
    joined = context(part(invoice(), "seller", footer=["a", "b", "c", "d"]))
    assert joined["running"].startswith("a · b · c · d\nMeridian")
    long = context(part(invoice(), "seller", footer=["word " * 60] * 4))
    assert long["running"].startswith("Meridian")
    assert long["notes"] == ["word " * 59 + "word"] * 4


@reads_pdf
@pytest.mark.parametrize("lines", range(2, 19))
def test_no_page_holds_the_payment_note_alone(lines: int) -> None:
    some = invoice()["lines"]
    content = brief(lines=[some[position % 3] for position in range(lines)])
    last = pages(content)[-1]
    assert "Payable within" in last
    assert "Total" in last and ("monthly fee" in last or "over the allowance" in last)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_usual_invoice_is_one_page(language: str) -> None:
    """Logo, footer, bank, a comparison of three rows, three lines, a tax in another currency and four bars."""
    content = invoice(language)
    lines = [line(content, 0, details=[]), *(line(content, place, tariff=None, bounds=None) for place in (1, 1))]
    content = part(content, "seller", footer=["Meridian Mail GmbH · Hamburg · HRB 42", "A. Muster"])
    content = part(content, "comparison", movements=movements(3))
    content |= {
        "lines": lines,
        "usage": [content["usage"][1]] * 4,
        "changes": [],
        "notes": [],
        "taxes": content["taxes"][:1],
    }
    content |= {"resources": {"logo": sha256(LOGO), "template": None, "translation": None}, "credits_applied": "0.00"}
    assert draw(content, {sha256(LOGO): LOGO}).pages == 1


def movements(number: int) -> list[Content]:
    return [
        {
            "what": "metric",
            "metric": f"m{position}",
            "metric_title": f"Metric {position}",
            "previous": "0.00",
            "current": "1.00",
            "difference": "1.00",
        }
        for position in range(number)
    ]


@pytest.mark.parametrize(("number", "in_front"), [(1, True), (10, True), (11, False), (60, False)])
def test_what_moved_stands_before_the_charges_only_while_it_is_short(number: int, in_front: bool) -> None:
    content = part(invoice(), "comparison", movements=movements(number))
    said = text(content)
    assert (said.index("Metric 0") < said.index("Charges")) == in_front
    assert ("What moved is listed after the charges." in said) != in_front
    assert f"Metric {number - 1}" in said


PERCENTAGE: Content = {
    "model": "percentage",
    "size": None,
    "tiers": [],
    "percent": "2.9",
    "per_event": "0.30",
    "free_events": "2",
    "events": "5",
}


@pytest.mark.parametrize(
    ("changes", "tariff", "stated"),
    [
        ({}, {}, "2.9% of 169.99: 4.92971; 3 events at 0.30 each: 0.90; 2 events are free"),
        ({}, {"events": "3", "free_events": "1"}, "2 events at 0.30 each: 0.60; 1 event is free"),
        ({"excess": "0"}, {"free_events": "4"}, "1 event at 0.30 each: 0.30; 4 events are free"),
        ({}, {"per_event": None}, "2.9% of 169.99: 4.92971"),
        ({}, {"events": None}, "2.9% of 169.99: 4.92971"),
    ],
)
def test_a_percentage_says_what_it_is_of_and_its_events(changes: Content, tariff: Content, stated: str) -> None:
    metric = {"metric": "payments", "metric_title": "Payments (brand amex)", "unit": None, "unit_price": None}
    measured = {"quantity": "169.99", "allowance": "0", "excess": "169.99", "billed_units": "169.99", "amount": "5.83"}
    row = line(invoice(), 1, **metric, **measured | changes, tariff=PERCENTAGE | tariff)
    said = text(brief(lines=[row], net="5.83", total="5.83", due="5.83"))
    assert "Payments (brand amex) over the allowance" in said
    assert stated in said


@reads_pdf
def test_the_comparison_takes_at_most_a_third_of_the_first_page() -> None:
    content = part(invoice("de"), "comparison", movements=movements(10))
    boxes = subprocess.run(["pdftotext", "-bbox", "-", "-"], input=render_pdf(content), capture_output=True, check=True)
    first = boxes.stdout.decode().split("</page>")[0]
    places = {word: float(top) for top, word in re.findall(r'yMin="([\d.]+)"[^>]*>([^<]+)</word>', first)}
    height = float(re.findall(r'page width="[\d.]+" height="([\d.]+)"', first)[0])
    assert places["Paketwechsel:"] - places["Warum"] < height / 3


@pytest.mark.parametrize(
    ("quantity", "decimals", "expected"),
    [
        ("61.200000001", 3, "61.2"),
        ("0.0005", 3, "<\N{NO-BREAK SPACE}0.001"),
        ("0.0015", 3, "0.002"),
        ("0.0025", 3, "0.002"),  # half-even
        ("2.5", 0, "2"),
        ("12345678.123456789", 9, "12,345,678.123456789"),
        ("0", 3, "0"),
    ],
)
def test_quantities_are_rounded_on_paper_only(quantity: str, decimals: int, expected: str) -> None:
    row = line(invoice(), 1, quantity=quantity, decimals=decimals)
    (shown,) = context(brief(lines=[row]))["lines"]
    assert shown["quantity"] == expected


def test_a_unit_is_written_in_the_language_with_its_plural() -> None:
    for unit, code, language, expected in (
        ("hours", "HUR", "de", "2\N{NO-BREAK SPACE}Stunden"),
        ("hours", "HUR", "pl", "2\N{NO-BREAK SPACE}godziny"),
        ("GB", "E34", "fr", "2\N{NARROW NO-BREAK SPACE}Go"),
        ("credits", "C62", "de", "2\N{NO-BREAK SPACE}credits"),
        (None, "E34", "de", "2\N{NO-BREAK SPACE}GB"),
        (None, "C62", "de", "2"),
    ):
        row = line(invoice(), 1, quantity="2", unit=unit, unit_code=code)
        assert context(brief(language, lines=[row]))["lines"][0]["quantity"] == expected


@given(
    digits=st.integers(1, 30),
    decimals=st.integers(0, 9),
    amount=st.integers(1, 24),
    language=st.sampled_from(("en", "de", "fr")),
)
def test_no_number_is_wider_than_its_column(digits: int, decimals: int, amount: int, language: str) -> None:
    quantity = f"{'8' * digits}.{'8' * 9}"
    row = line(invoice(language), 2, quantity=quantity, excess=quantity, billed_units=quantity, decimals=decimals)
    content = brief(language, lines=[row | {"amount": f"{'8' * amount}.88"}])
    shown = context(content)
    columns, (found,) = shown["columns"], shown["lines"]
    size = float(columns.size or FONT_SIZES[0])
    widths = [float(width) for width in columns.widths[1:]] or list(USUAL)
    widths = [0.0] * (6 - len(widths)) + widths
    assert sum(map(float, columns.widths)) <= TABLE + 0.5
    names = ("quantity", "allowance", "excess", "charged", "price", "amount")
    for name, width in zip(names, widths, strict=True):
        if name == "amount" or found["measured"]:
            ems = width_in_ems(found[name], bold=name == "amount")
            assert ems * size * MILLIMETRES_PER_POINT <= width
    if not found["measured"]:
        assert any("8" * 3 in detail for detail in found["details"])


def test_usual_numbers_need_no_widths() -> None:
    with localcontext(EXACT):
        assert columns_of(context(invoice())["lines"], "1,080.52").widths == ()


def test_a_tier_has_a_line_of_its_own() -> None:
    said = context(invoice())["lines"][3]
    assert [text.replace("\N{NO-BREAK SPACE}", " ") for text in said["tiers"]] == [
        "Up to 100,000: 100,000 \N{MULTIPLICATION SIGN} 0.001 = 100.00",
        "Over 100,000 up to 1,000,000: 900,000 \N{MULTIPLICATION SIGN} 0.0004 + 20.00 = 380.00",
        "Over 1,000,000: 150,000 \N{MULTIPLICATION SIGN} 0.0003 = 45.00",
        "At least 20.00",
        "At most 525.00",
    ]
    assert said["details"][-1] == "Each tier prices its own part:"


def test_tiers_that_a_line_does_not_say_are_those_of_its_tariff_if_they_make_its_amount() -> None:
    tiers = [
        {"up_to": "100000", "unit_price": "0.001", "flat": None},
        {"up_to": "1000000", "unit_price": "0.0004", "flat": "20"},
        {"up_to": None, "unit_price": "0.0003", "flat": None},
    ]
    stored = line(invoice(), 3)
    row = line(invoice(), 3, tiers=[], tariff={"model": "graduated", "size": None, "tiers": tiers})
    assert context(brief(lines=[row]))["lines"][0]["tiers"] == context(brief(lines=[stored]))["lines"][0]["tiers"]
    without = line(invoice(), 3, tiers=[], tariff=row["tariff"], amount="525.01")
    shown = context(brief(lines=[without]))["lines"][0]
    assert shown["tiers"] == []
    assert any("Each tier prices its own part (up to 100,000: 0.001 each;" in detail for detail in shown["details"])


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"part": "21", "parts": "31"}, "(199,00 \N{MINUS SIGN} 99,00) \N{MULTIPLICATION SIGN} 21 von 31 Tagen"),
        ({"part": "7", "parts": "12"}, "(199,00 \N{MINUS SIGN} 99,00) \N{MULTIPLICATION SIGN} 7 von 12 Abrechnung"),
    ],
)
def test_a_change_within_a_cycle_is_in_the_language_with_its_days_or_cycles(parts: Content, said: str) -> None:
    part_of_it = {"fee": "199.00", "replaced": "99.00", **parts}
    fee = invoice("de")["lines"][0] | {"package": "silver", "package_title": "Silver", "part": part_of_it}
    changed = fee | {"kind": "proration", "description": "Silver instead of Starter, 21 of 31 days"}
    found = text(brief("de", lines=[changed]))
    assert "Silver, Wechsel im laufenden Zeitraum" in found and said in found
    assert "instead of" not in found


def test_seats_are_named_in_the_language() -> None:
    seats = invoice("de")["lines"][1] | {"kind": "seats", "metric": "users", "metric_title": "Benutzer"}
    added = seats | {"kind": "proration", "description": "Users added within the cycle"}
    found = text(brief("de", lines=[seats | {"description": "Users in advance"}, added]))
    assert "Benutzer, im Voraus" in found and "Benutzer, im laufenden Zeitraum hinzugekommen" in found
    assert "within" not in found and "advance" not in found


def test_an_earlier_cycle_says_what_billed_it_and_what_moved() -> None:
    said = text(invoice())
    assert "Billed before: 3.00 on INV-2026-000007 for 15,200" in said
    assert "More usage of the cycle counts now than when it was billed." in said


def test_a_text_of_people_is_no_markup_and_turns_no_line() -> None:
    content = part(invoice(), "customer", name="<script>x</script> \N{RIGHT-TO-LEFT OVERRIDE}evil")
    assert "&lt;script&gt;" in html(content)
    assert render_pdf(content).startswith(b"%PDF")


def test_the_longest_name_keeps_the_page_whole() -> None:
    content = part(part(invoice(), "customer", name="N" * 300), "seller", name="Seller " * 40)
    assert render_pdf(content).startswith(b"%PDF")


@reads_pdf
def test_a_page_in_other_scripts_is_set_in_bundled_faces() -> None:
    listed = subprocess.run(["pdffonts", "-"], input=render_pdf(in_other_scripts()), capture_output=True, check=True)
    faces = listed.stdout.decode()
    for face in ("Page-Japanese", "Inter", "Page-Arabic", "Page-Hebrew", "Page-Hangul"):
        assert face in faces
    assert "Type 3" not in faces
