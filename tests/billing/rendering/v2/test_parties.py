"""Addresses are written as their country writes them, and numbers are called what they are."""

import pytest

from billing.rendering.content import Fields
from billing.rendering.v2.formats import Formats
from billing.rendering.v2.parties import address_lines, page_link, registration, tax_ids
from billing.rendering.words import words

PLACE = {"street": "1 Main Street", "line2": "", "city": "Town", "region": "RG", "postal_code": "12345"}


def lines(language: str = "en", **changes: object) -> list[str]:
    said = words(language)
    return address_lines(Fields({**PLACE, "country": "US", **changes}), said, Formats(language, language, "EUR", 2))


@pytest.mark.parametrize(
    ("country", "expected"),
    [
        ("US", ["Town, RG 12345", "United States"]),
        ("CA", ["Town, RG 12345", "Canada"]),
        ("AU", ["Town RG 12345", "Australia"]),
        ("GB", ["Town", "12345", "United Kingdom"]),
        ("DE", ["12345 Town", "Germany"]),  # the region of an address in Germany is a code for tax only
        ("IT", ["12345 Town (RG)", "Italy"]),
        ("BR", ["Town - RG", "12345", "Brazil"]),
        ("IE", ["Town", "RG", "12345", "Ireland"]),
        ("", ["12345 Town"]),
    ],
)
def test_the_line_of_the_city_is_that_of_its_country(country: str, expected: list[str]) -> None:
    assert lines(country=country) == ["1 Main Street", *expected]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"region": ""}, "Town, 12345"),
        ({"postal_code": ""}, "Town, RG"),
        ({"city": "", "region": ""}, "12345"),
        ({"city": "", "postal_code": "", "region": "RG"}, "RG"),
    ],
)
def test_what_an_address_lacks_leaves_no_sign(changes: dict[str, str], expected: str) -> None:
    assert lines(**changes)[1] == expected
    assert lines(country="IT", region="")[1] == "12345 Town"


def test_free_lines_stand_beside_or_instead_of_fields() -> None:
    empty = dict.fromkeys(PLACE, "")
    assert lines(address=["Box 1", "Bend, OR"], **empty) == ["Box 1", "Bend, OR", "United States"]
    assert lines(address=["Box 1", "united states"], **empty) == ["Box 1", "united states"]
    assert lines(address=["1 main street"])[:2] == ["1 main street", "Town, RG 12345"]


def test_a_country_is_named_in_the_language_of_the_document() -> None:
    assert lines("de", country="CH")[-1] == "Schweiz"
    assert lines("ja", country="DE")[-1] == "ドイツ"
    japan = {
        "street": "見本町1-2-3",
        "city": "千代田区",
        "region": "東京都",
        "postal_code": "100-0001",
        "country": "JP",
    }
    assert lines("ja", **japan)[:2] == ["〒100-0001", "東京都千代田区見本町1-2-3"]


@pytest.mark.parametrize(
    ("country", "tax_id", "language", "expected"),
    [
        ("DE", "DE123456788", "en", "VAT ID DE123456788"),
        ("DE", "DE123456788", "de", "USt-IdNr. DE123456788"),
        ("US", "93-0000042", "en", "Tax ID 93-0000042"),
        ("JP", "T1234567890123", "ja", "登録番号 T1234567890123"),
        ("IT", "IT00743110157", "it", "Partita IVA IT00743110157"),
    ],
)
def test_a_tax_id_is_called_what_it_is(country: str, tax_id: str, language: str, expected: str) -> None:
    (said,) = tax_ids(Fields({"country": country, "tax_id": tax_id}), words(language))
    assert said.replace("\N{NO-BREAK SPACE}", " ") == expected


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"scheme": "0002", "id": "303265045"}, "SIREN 303265045"),
        ({"scheme": "0106", "id": "12345678"}, "KvK 12345678"),
        ({"scheme": "", "id": "HRB 42"}, "Handelsregister HRB 42"),
        ({"scheme": "0002", "id": ""}, ""),
        (None, ""),
    ],
)
def test_a_registration_bears_the_name_of_its_register(entry: object, expected: str) -> None:
    assert registration(Fields({"registration": entry}), words("de")) == expected


@pytest.mark.parametrize("address", ["javascript:alert(1)", "https://a b", "https://example.com/<", "//example.com"])
def test_only_plain_addresses_become_links(address: str) -> None:
    assert page_link(address) == ""
    assert page_link("https://example.com/pay?n=1") == "https://example.com/pay?n=1"
