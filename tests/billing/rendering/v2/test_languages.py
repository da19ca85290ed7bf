"""A page of template version 2 is in one language: its words, numbers, dates, units and countries."""

import re
import subprocess
import sys
from collections.abc import Callable, Mapping

import pytest

from billing.rendering import render_pdf
from billing.rendering.fonts import TEMPLATES, width_in_ems
from billing.rendering.v2.lines import MILLIMETRES_PER_POINT, USUAL
from billing.rendering.words import DOCUMENTS, LANGUAGES, read_catalogue, words
from tests.rich_documents import Content, brief, credit_note, debit_note, html, invoice, sha256, tax, text

RICH: Mapping[str, Callable[[str], Content]] = {
    "invoice": invoice,
    "credit note": credit_note,
    "debit note": debit_note,
    "exempt": lambda language: invoice(language, taxes=[tax("exempt", "E")]),
    "export": lambda language: invoice(language, taxes=[tax("exempt", "G")]),
    "outside": lambda language: invoice(language, taxes=[tax("exempt", "O")]),
    "no tax": brief,
}


def texts_of(value: object, without: str) -> list[str]:
    """Texts anywhere in a content, but those of one member."""
    if isinstance(value, dict):
        return [text for name, each in value.items() if name != without for text in texts_of(each, without)]
    if isinstance(value, list):
        return [text for each in value for text in texts_of(each, without)]
    return [value] if isinstance(value, str) else []


def english_words(language: str, content: Content) -> set[str]:
    """Words of the English catalogue on a page: not those of people, nor those that the language has, too."""
    english = read_catalogue((TEMPLATES / DOCUMENTS / "en.po").read_bytes())
    path = TEMPLATES / DOCUMENTS / f"{language}.po"
    translated = " ".join(str(it.string) for it in read_catalogue(path.read_bytes())) if path.is_file() else ""
    own = set(re.findall("[a-z]{4,}", translated.casefold()))
    ids = [it.id if isinstance(it.id, str) else it.id[0] for it in english if it.id]
    known = {word for it in ids for word in re.findall("[a-z]{4,}", re.sub(r"\{.*?\}", " ", it).casefold())}
    # descriptions are English words of the table LINES: no page may show them where a code says it
    people = set(re.findall("[a-z]+", " ".join(texts_of(content, without="description")).casefold()))
    return (known - own - people) & set(re.findall("[a-z]+", text(content).casefold()))


@pytest.mark.parametrize("document", RICH)
@pytest.mark.parametrize("language", [it for it in LANGUAGES if it != "en"])
def test_no_english_is_left_on_a_page_of_another_language(language: str, document: str) -> None:
    assert english_words(language, RICH[document](language)) == set()


def test_english_on_a_page_would_be_noticed() -> None:
    assert {"payable", "credits"} <= english_words("sv", invoice("sv"))


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_draws_every_kind_of_document(language: str) -> None:
    for content in (invoice(language), credit_note(language), debit_note(language)):
        drawn = render_pdf(content)
        assert drawn.startswith(b"%PDF")


@pytest.mark.parametrize("language", [it for it in LANGUAGES if it != "ja"])
def test_no_word_of_a_heading_is_wider_than_its_place(language: str) -> None:
    said = words(language)
    places = {
        ("Used", "Allowance", "Over", "Charged"): (7.0, USUAL[0] - 1.2),
        ("Unit price",): (7.0, USUAL[4] - 1.2),
        ("Then", "Now", "Difference"): (7.0, 26.0),
        ("Invoice",): (23.0, 74.0),
        ("Credit note", "Debit note"): (15.0, 74.0),
    }
    for messages, (points, place) in places.items():
        for word in " ".join(map(said.gettext, messages)).split(" "):
            assert width_in_ems(word, bold=points > 10) * points * MILLIMETRES_PER_POINT <= place


def test_numbers_dates_and_countries_are_those_of_the_language() -> None:
    said = text(invoice("de"))
    assert "1.050,52 EUR" in said
    assert "10. Februar 2026" in said
    assert "Deutschland" in said and "Irland" in said
    assert "19 %" in text(invoice("fr")).replace("\N{NARROW NO-BREAK SPACE}", " ")
    assert "61,2\N{NARROW NO-BREAK SPACE}Go" in html(invoice("fr"))
    assert "2026年2月10日" in text(invoice("ja"))


def test_a_german_page_of_an_american_locale_has_german_numbers() -> None:
    assert "1.050,52" in text(invoice("de", locale="en_US"))
    assert "1.050,52" in text(invoice("de", locale="nonsense"))


def test_a_language_of_the_home_runs_right_to_left() -> None:
    own = (
        'msgid ""\nmsgstr ""\n"Language: ar\\n"\n"Plural-Forms: nplurals=6; plural=(n==0 ? 0 : n==1 ? 1 : n==2 ? 2 : '
        'n%100>=3 && n%100<=10 ? 3 : n%100>=11 && n%100<=99 ? 4 : 5);\\n"\n\nmsgid "Invoice"\nmsgstr "فاتورة"\n'
    ).encode()
    resources = {"logo": None, "template": None, "translation": sha256(own)}
    content = invoice("ar", locale="ar_EG", resources=resources)
    page = html(content, {sha256(own): own})
    assert '<html lang="ar" dir="rtl">' in page
    assert "فاتورة" in page
    assert render_pdf(content, {sha256(own): own}).startswith(b"%PDF")


def test_formats_do_not_depend_on_the_languages_used_before() -> None:
    program = """
import json, sys
from datetime import date
from decimal import Decimal, localcontext
from billing.rendering.locale_formats import EXACT
from billing.rendering.v2.formats import Formats
out = {}
for name in sys.argv[1].split():
    with localcontext(EXACT):
        said = Formats(name, name.split("_")[0], "EUR", 2)
        out[name] = [said.day(date(2026, month, 3)) for month in range(1, 13)]
        out[name] += [said.count(Decimal(number), unit) for unit in ("GB", "hours") for number in ("1", "2", "5")]
        out[name] += [said.country("CH"), said.percent(Decimal("0.19")), said.money_with_currency(Decimal(-1), "")]
print(json.dumps(out, sort_keys=True))
"""
    names = ["en_GB", "de_AT", "fr_CA", "es_MX", "it_CH", "nl_BE", "pt_BR", "pl_PL", "ja_JP", "yo_NG", "ar_EG", "km_KH"]
    seen = {
        subprocess.run(
            [sys.executable, "-c", program, " ".join(order)], capture_output=True, text=True, check=True
        ).stdout
        for order in (names, names[::-1])
    }
    assert len(seen) == 1
