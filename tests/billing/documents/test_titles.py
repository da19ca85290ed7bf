"""The language and the locale of an account's documents."""

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from billing.documents.titles import document_locale_name, language
from billing.inputs.catalogue_file import load_catalogue
from billing.rendering.v2.formats import document_locale
from billing.starter import starter_catalogue


@pytest.mark.parametrize(
    ("tag", "locale", "country", "seller", "expected", "drawn_in"),
    [
        (None, "de_AT", "DE", "", ("de", "de_AT"), "de_AT"),
        ("de-AT", None, "AT", "", ("de-at", "de_AT"), "de_AT"),
        ("de-AT", "en_US", "US", "", ("de-at", "de_AT"), "de_AT"),
        ("de-AT", "de_CH", "AT", "", ("de-at", "de_CH"), "de_CH"),
        ("de", "fr_CH", "CH", "", ("de", "fr_CH"), "de_CH"),
        ("de", None, "CH", "", ("de", "de_CH"), "de_CH"),
        ("es", None, "ES", "", ("es", "es_ES"), "es_ES"),
        ("es-419", None, "MX", "", ("es-419", "es_419"), "es_419"),
        (None, None, "AT", "de", ("de", "de_AT"), "de_AT"),
        ("de", None, "JP", "", ("de", "de_JP"), "de"),
        ("pt-BR", None, None, "", ("pt-br", "pt_BR"), "pt_BR"),
        (None, None, "DE", "", ("en", "en_US"), "en_US"),
        ("en-GB", None, "DE", "", ("en-gb", "en_GB"), "en_GB"),
        ("xx", None, "DE", "", ("xx", "xx_DE"), "xx"),
        (None, None, None, "de", ("de", "en_US"), "de"),
    ],
)
def test_a_document_is_in_its_language_in_the_territory_of_the_customer(
    tag: str | None,
    locale: str | None,
    country: str | None,
    seller: str,
    expected: tuple[str, str],
    drawn_in: str,
    tmp_path: Path,
) -> None:
    (tmp_path / "catalogue.yaml").write_text(starter_catalogue())
    catalogue = load_catalogue(tmp_path / "catalogue.yaml")
    catalogue = replace(catalogue, seller=replace(catalogue.seller, language=seller))
    account = pl.DataFrame(
        {"language": [tag], "locale": [locale], "country": [country]},
        schema={"language": pl.String, "locale": pl.String, "country": pl.String},
    )
    found = account.select(language(catalogue).alias("language"), document_locale_name(catalogue).alias("locale"))
    assert found.row(0) == expected
    spoken = expected[0].split("-")[0]
    assert str(document_locale(expected[1], "en" if spoken == "xx" else spoken)) == drawn_in.replace("xx", "en")
