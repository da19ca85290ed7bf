"""Every language of the release says everything, in the words of its accountants."""

import importlib.util
import io
from pathlib import Path
from types import ModuleType

import pytest
from babel.messages.pofile import read_po

from billing.rendering.errors import ContentError
from billing.rendering.fonts import TEMPLATES
from billing.rendering.words import (
    DOCUMENTS,
    LANGUAGES,
    OTHERS,
    catalogue_problems,
    message_problems,
    read_catalogue,
    words,
)

ROOT = Path(__file__).parents[3]
PLURAL_FORMS = {"ja": 1, "pl": 3}

# What an accountant of the country looks for on an invoice, a correction and a document without tax.
GLOSSARY = {
    "en": {"Invoice": "Invoice", "Reverse charge: the customer is liable for the tax.": "Reverse charge"},
    "de": {
        "Invoice": "Rechnung",
        "Credit note": "Rechnungskorrektur",  # Gutschrift is a self-billed invoice in German VAT law
        "Service period": "Leistungszeitraum",
        "VAT ID {number}": "USt-IdNr.",
        "Tax number {number}": "Steuernummer",
        "Reverse charge: the customer is liable for the tax.": "Steuerschuldnerschaft des Leistungsempfängers",
        "Net": "Nettobetrag",
        "Issued": "Rechnungsdatum",
        "Intra-Community supply, exempt from tax.": "innergemeinschaftliche Lieferung",
    },
    "fr": {
        "Invoice": "Facture",
        "Credit note": "avoir",
        "Net": "HT",
        "Total": "TTC",
        "Due date": "Échéance",
        "Reverse charge: the customer is liable for the tax.": "Autoliquidation",
        "Nature of the supply: services": "prestation de services",
    },
    "es": {
        "Invoice": "Factura",
        "Credit note": "Factura rectificativa",
        "Net": "Base imponible",
        "Reverse charge: the customer is liable for the tax.": "Inversión del sujeto pasivo",
    },
    "it": {
        "Invoice": "Fattura",
        "Credit note": "Nota di credito",
        "Net": "Imponibile",
        "VAT ID {number}": "Partita IVA",
        "Reverse charge: the customer is liable for the tax.": "Inversione contabile",
    },
    "nl": {
        "Invoice": "Factuur",
        "Credit note": "Creditfactuur",
        "VAT ID {number}": "Btw-nummer",
        "Reverse charge: the customer is liable for the tax.": "Btw verlegd",
    },
    "pt": {
        "Invoice": "Fatura",
        "Credit note": "Nota de crédito",
        "Reverse charge: the customer is liable for the tax.": "autoliquidação",
    },
    "pl": {
        "Invoice": "Faktura",
        "Credit note": "Faktura korygująca",
        "Net": "netto",
        "Total": "brutto",
        "Due date": "Termin płatności",
        "Reverse charge: the customer is liable for the tax.": "Odwrotne obciążenie",
    },
    "ja": {
        "Invoice": "請求書",
        "Credit note": "返還請求書",
        "Qualified invoice issuer registration number {number}": "登録番号",
        "Reverse charge: the customer is liable for the tax.": "リバースチャージ方式",
        "Due date": "支払期限",
    },
}


def catalogue_tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("messages", ROOT / "docs" / "messages.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("domain", [DOCUMENTS, OTHERS])
def test_catalogues_hold_what_code_and_templates_say(domain: str) -> None:
    tool = catalogue_tool()
    found = tool.messages(domain)
    for language in LANGUAGES:
        kept = (TEMPLATES / domain / f"{language}.po").read_text("utf-8")
        assert tool.updated(domain, language, found) == kept, f"{language}: run make messages"


@pytest.mark.parametrize("domain", [DOCUMENTS, OTHERS])
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_catalogue_is_complete_with_its_placeholders_and_plural_forms(language: str, domain: str) -> None:
    catalogue = read_catalogue((TEMPLATES / domain / f"{language}.po").read_bytes())
    english = {(it.context, it.id): it for it in read_catalogue((TEMPLATES / domain / "en.po").read_bytes())}
    assert catalogue.num_plurals == PLURAL_FORMS.get(language, 2)
    assert not catalogue.obsolete
    for message in catalogue:
        if message.id:
            assert not message.fuzzy
            assert not message_problems(message, english[message.context, message.id], catalogue.num_plurals)


@pytest.mark.parametrize("language", sorted(set(LANGUAGES) - {"en"}))
def test_only_names_are_the_same_in_another_language(language: str) -> None:
    catalogue = read_catalogue((TEMPLATES / DOCUMENTS / f"{language}.po").read_bytes())
    same = {message.id for message in catalogue if message.id and message.id == message.string}
    # the same words in both languages
    allowed = {
        "de": set[str](),
        "fr": set[str](),
        "es": {"Total"},
        "it": set[str](),
        "nl": {"Extra"},
        "pt": {"Total"},
        "pl": {"Limit"},
        "ja": {"{quantity} / {allowance}"},
    }
    assert same <= allowed[language] | {"{tax} {rate} on {amount}"}


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_words_are_those_of_accountants(language: str) -> None:
    said = words(language)
    for message, expected in GLOSSARY[language].items():
        assert expected in said.gettext(message)


def test_a_german_correction_is_never_called_gutschrift() -> None:
    catalogue = (TEMPLATES / DOCUMENTS / "de.po").read_text("utf-8")
    assert "Gutschrift" not in catalogue


@pytest.mark.parametrize(
    ("number", "expected"), [(1, "z 1 okresu"), (3, "z 3 okresów"), (5, "z 5 okresów"), (22, "z 22 okresów")]
)
def test_polish_has_three_plural_forms(number: int, expected: str) -> None:
    text = words("pl").ngettext(
        "({fee} \N{MINUS SIGN} {replaced}) \N{MULTIPLICATION SIGN} {part} of {parts} cycle",
        "({fee} \N{MINUS SIGN} {replaced}) \N{MULTIPLICATION SIGN} {part} of {parts} cycles",
        number,
        parts=str(number),
        part="1",
        fee="9",
        replaced="3",
    )
    assert expected in text


@pytest.mark.parametrize(
    ("language", "one", "many"), [("en", "1 day ", "14 days"), ("de", "1 Tag ", "14 Tagen"), ("ja", "1日", "14日")]
)
def test_a_sentence_with_a_number_has_its_plural(language: str, one: str, many: str) -> None:
    for number, expected in ((1, one), (14, many)):
        text = words(language).ngettext(
            "Payable within {days} day of issue, by {date}, in {currency}. Please quote {number}.",
            "Payable within {days} days of issue, by {date}, in {currency}. Please quote {number}.",
            number,
            days=str(number),
        )
        assert expected in text


def test_a_language_without_a_catalogue_is_english_and_a_region_is_its_language() -> None:
    assert words("sv").gettext("Invoice") == "Invoice"
    assert words("de-AT").gettext("Invoice") == words("de_AT").gettext("Invoice") == "Rechnung"
    assert words("../de").gettext("Invoice") == "Invoice"


def test_a_placeholder_is_filled_by_name_and_never_evaluated() -> None:
    said = words(
        "en", own=b'msgid ""\nmsgstr ""\n"Language: en\\n"\n\nmsgid "Corrects {number}"\nmsgstr "{number} {x}"'
    )
    assert said.gettext("Corrects {number}", number="{number}") == "{number} {x}"


HEADER = 'msgid ""\nmsgstr ""\n"Language: sv\\n"\n"Plural-Forms: nplurals=2; plural=(n != 1);\\n"\n\n'


def test_a_home_replaces_words_and_adds_a_language() -> None:
    own = f'{HEADER}msgid "Invoice"\nmsgstr "Faktura"\n'.encode()
    added = words("sv", own=own)
    assert (added.gettext("Invoice"), added.gettext("Total"), added.language) == ("Faktura", "Total", "sv")
    replaced = words("de", own=own.replace(b"Faktura", b"Beleg"))
    assert (replaced.gettext("Invoice"), replaced.gettext("Net")) == ("Beleg", "Nettobetrag")


def test_a_home_language_that_runs_right_to_left_says_so() -> None:
    assert words("ar", own=HEADER.replace("sv", "ar").encode()).direction == "rtl"
    assert words("de").direction == "ltr"


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("sv.po", 'msgid "Corrects {number}"\nmsgstr "Ersätter"\n', "found no {number} in 'Ersätter'"),
        ("sv.po", 'msgid "Corrects {number}"\nmsgstr "{number} {nummer}"\n', "found {nummer} in"),
        ("sv.po", 'msgid "Corrects {number}"\nmsgstr "{number} {0}"\n', "a brace that is no placeholder"),
        (
            "sv.po",
            'msgid "Invoice\nmsgstr "Faktura"\n',
            "line 6: found 'msgid \"Invoice', expected a keyword and a quoted text",
        ),
        ("xx-klingon.po", 'msgid "Invoice"\nmsgstr "Faktura"\n', "found no language called 'xx-klingon'"),
        (
            "sv.po",
            'msgid "{fee} \N{MULTIPLICATION SIGN} {part} of {parts} day"\n'
            'msgid_plural "{fee} \N{MULTIPLICATION SIGN} {part} of {parts} days"\n'
            'msgstr[0] "{fee} {part} {parts}"\nmsgstr[1] ""\n',
            "found 1 of 2 plural forms",
        ),
    ],
)
def test_what_is_wrong_with_a_catalogue_of_a_home_is_named(name: str, text: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(f"{HEADER}{text}", encoding="utf-8")
    errors, _ = catalogue_problems(path)
    assert problem in "\n".join(errors)


def test_a_text_that_no_page_says_any_more_is_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "de.po"
    path.write_text(f'{HEADER}msgid "Invoise"\nmsgstr "Faktura"\n', encoding="utf-8")
    errors, (warning,) = catalogue_problems(path)
    assert errors == [] and warning.startswith("de.po, line 6: found 'Invoise', which no page says")


def test_an_unfinished_language_of_a_home_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "sv.po").write_text(f'{HEADER}msgid "Invoice"\nmsgstr "Faktura"\n', encoding="utf-8")
    errors, warnings = catalogue_problems(tmp_path / "sv.po")
    assert not errors
    assert "texts are not translated, and are printed in English" in warnings[0]
    (tmp_path / "de.po").write_text(f'{HEADER}msgid "Invoice"\nmsgstr "Beleg"\n', encoding="utf-8")
    assert catalogue_problems(tmp_path / "de.po") == ([], [])


@pytest.mark.parametrize(
    "own", [b"\xff\xfe", b'msgid "a"\nmsgstr', b'msgid ""\nmsgstr "Plural-Forms: nplurals=1; plural=x;\\n"']
)
def test_bytes_that_are_no_catalogue_are_refused(own: bytes) -> None:
    with pytest.raises(ContentError, match=r"resources\.translation"):
        words("de", own=own)


def test_catalogues_are_those_that_translators_tools_read() -> None:
    for language in LANGUAGES:
        path = TEMPLATES / DOCUMENTS / f"{language}.po"
        assert read_po(io.BytesIO(path.read_bytes())).locale_identifier == language
