"""`check` names wrong tax ids, taxes without the seller's tax id, and locales that nobody knows."""

from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from billing.inputs.accounts import ACCOUNT_COLUMNS
from billing.inputs.reading import Inputs
from billing.inputs.tax_rates import TAX_SCHEMA
from billing.model.catalogue import Catalogue
from billing.model.resources import Resources
from billing.model.tables import REJECTS
from billing.reports.tax_and_locale_checks import tax_and_locale_warnings


def inputs(*accounts: dict[str, str], rate: str | None = None) -> Inputs:
    """Accounts with these columns, and a tax of Germany."""
    schema: dict[str, pl.DataType | type[pl.DataType]] = dict.fromkeys(ACCOUNT_COLUMNS, pl.String)
    rates = pl.DataFrame({"country": ["DE"], "rate": [rate], "name": ["USt"]}) if rate else pl.DataFrame()
    frame = pl.DataFrame([{"account_id": f"a{each}"} | row for each, row in enumerate(accounts)], schema=schema)
    taxes = pl.DataFrame(schema=TAX_SCHEMA)
    if rate:
        taxes = rates.select(
            pl.col(name).cast(dtype) if name in rates.columns else pl.lit(None, dtype).alias(name)
            for name, dtype in TAX_SCHEMA.items()
        )
    nothing = pl.DataFrame()
    return Inputs(frame, nothing, nothing, taxes, REJECTS.empty(), ())


@pytest.mark.parametrize(
    ("country", "tax_id", "is_wrong"),
    [
        ("DE", "DE136695976", False),
        ("DE", "DE136695977", True),
        ("DE", "FR40303265045", False),
        ("US", "12", True),
        ("US", "93-0000042", False),
        ("CH", "CHE-107.787.577 IVA", False),
        ("CH", "CHE-107.787.578 IVA", True),
        ("AQ", "anything", False),  # nobody knows the form of such ids
    ],
)
def test_a_tax_id_that_is_not_valid_is_named(ref_1: Catalogue, country: str, tax_id: str, is_wrong: bool) -> None:
    said = [f"accounts: a0: tax_id: found {tax_id!r}, expected a tax id that is valid in form and checksum"]
    found = tax_and_locale_warnings(inputs({"country": country, "tax_id": tax_id}), ref_1)
    assert [each.partition(": it suppresses")[0] for each in found] == (said if is_wrong else [])


@pytest.mark.parametrize(("rate", "tax_id", "said"), [("0.19", "", "found none"), ("0.19", "1", "found '1'")])
def test_who_charges_tax_has_a_valid_tax_id(ref_1: Catalogue, rate: str, tax_id: str, said: str) -> None:
    catalogue = replace(ref_1, seller=replace(ref_1.seller, tax_id=tax_id))
    (found,) = tax_and_locale_warnings(inputs(rate=rate), catalogue)
    assert found.startswith(f"catalogue.yaml: seller.tax_id: {said}, expected")


@pytest.mark.parametrize("rate", ["0", None])
def test_who_charges_no_tax_needs_no_tax_id(ref_1: Catalogue, rate: str | None) -> None:
    catalogue = replace(ref_1, seller=replace(ref_1.seller, tax_id=""))
    assert tax_and_locale_warnings(inputs(rate=rate), catalogue) == []


@pytest.mark.parametrize("locale", ["xx_YY", "german", "de_DE_", "deDE!"])
def test_an_unknown_locale_is_named_and_a_known_one_is_not(ref_1: Catalogue, locale: str) -> None:
    known = [{"locale": name} for name in ("de_DE", "de-DE", "en", "zh_Hant_TW")]
    (found,) = tax_and_locale_warnings(inputs(*known, {"locale": locale}), ref_1)
    assert found.startswith(f"accounts: a4: locale: found {locale!r}, expected a locale such as de_DE")


def test_of_many_accounts_the_first_are_named_and_the_others_counted(ref_1: Catalogue) -> None:
    found = tax_and_locale_warnings(inputs(*[{"locale": "xx"}] * 9), ref_1)
    assert found[5:] == ["accounts: locale: 4 more like these"]


def of_seller(catalogue: Catalogue, **members: Any) -> Catalogue:
    return replace(catalogue, seller=replace(catalogue.seller, **members))


@pytest.mark.parametrize(
    ("category", "rate", "is_asked"), [("S", "0.19", True), ("AE", "0", True), (None, "0", False), (None, None, False)]
)
def test_the_tax_id_is_asked_for_where_tax_is_charged_reversed_or_exempted(
    ref_1: Catalogue, category: str | None, rate: str | None, is_asked: bool
) -> None:
    given = inputs(rate=rate)
    given = replace(given, tax_rates=given.tax_rates.with_columns(category=pl.lit(category, pl.String)))
    found = tax_and_locale_warnings(given, of_seller(ref_1, tax_id=""))
    assert [line.partition(": found")[0] for line in found] == ["catalogue.yaml: seller.tax_id"] * is_asked


def test_a_german_seller_may_have_a_tax_number_instead(ref_1: Catalogue) -> None:
    members: dict[str, Any] = {"country": "DE", "tax_id": "", "tax_number": "12/345/67890"}
    assert tax_and_locale_warnings(inputs(rate="0.19"), of_seller(ref_1, **members)) == []


def test_a_language_without_words_is_named(ref_1: Catalogue) -> None:
    known = [{"language": name} for name in ("de", "de-AT", "pt_BR", "JA")]
    (found,) = tax_and_locale_warnings(inputs(*known, {"language": "sv"}), ref_1)
    assert found.startswith("accounts: a4: language: found 'sv', expected one of en, de, fr")
    own = replace(ref_1, resources=Resources(translations={"sv": "hash"}))
    assert tax_and_locale_warnings(inputs({"language": "sv"}), own) == []
    (found,) = tax_and_locale_warnings(inputs(), of_seller(ref_1, language="sv"))
    assert found.startswith("catalogue.yaml: seller.language: found 'sv'")


def test_countries_that_are_none_are_named(ref_1: Catalogue) -> None:
    countries = ({"country": name} for name in ("UK", "GERMANY", "GB", "XK"))
    assert tax_and_locale_warnings(inputs(*countries, {}), ref_1) == [
        "accounts: a0: country: found 'UK', expected a code of ISO 3166-1, such as GB",
        "accounts: a1: country: found 'GERMANY', expected a code of ISO 3166-1, such as GB",
    ]


def test_a_seller_and_taxes_of_countries_that_are_none_are_named(ref_1: Catalogue) -> None:
    given = inputs(rate="0.20")
    given = replace(given, tax_rates=given.tax_rates.with_columns(country=pl.lit("UK")))
    assert tax_and_locale_warnings(given, of_seller(ref_1, country="UK", tax_id="GB980780684")) == [
        "catalogue.yaml: seller.country: found 'UK', expected a code of ISO 3166-1, such as GB",
        "tax_rates.csv: country: found 'UK', expected a code of ISO 3166-1, such as GB",
    ]
