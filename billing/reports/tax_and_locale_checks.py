"""Warnings of `check` about tax ids, the seller, locales and languages; none stops a run (rules 24 and 40)."""

from collections.abc import Iterable, Sequence
from typing import Final

import polars as pl
import stdnum

from billing.einvoices.code_lists import COUNTRIES
from billing.inputs.reading import Inputs
from billing.model.catalogue import Catalogue
from billing.rendering.locale_formats import knows_locale
from billing.rendering.words import LANGUAGES
from billing.rules.tax import tax_id_country

_MOST_TOLD: Final = 5
_KOSOVO: Final = "XK"


def tax_and_locale_warnings(inputs: Inputs, catalogue: Catalogue) -> list[str]:
    """Invalid tax ids, what the seller's documents lack, and unknown locales and languages, in words."""
    return [
        *_seller(inputs, catalogue),
        *_wrong_tax_ids(inputs.accounts),
        *_unknown_countries(inputs, catalogue),
        *_unknown_locales(inputs.accounts),
        *_unknown_languages(inputs.accounts, catalogue),
    ]


def _seller(inputs: Inputs, catalogue: Catalogue) -> list[str]:
    """Whose tax it is: a document that charges, reverses or exempts one must say so (VAT directive, article 226)."""
    seller = catalogue.seller
    place = "catalogue.yaml: seller"
    if seller.tax_id and _is_wrong(seller.tax_id, seller.country):
        return [f"{place}.tax_id: found {seller.tax_id!r}, expected a tax id that is valid in form and checksum"]
    if seller.tax_id or inputs.tax_rates.is_empty():
        return []
    names = ", ".join(inputs.tax_rates["name"].unique().sort())
    # Where a tax is reversed or exempt, or its rate is 0, a document says so, and for whom.
    charges = (inputs.tax_rates["rate"] > 0).any()
    if not charges and inputs.tax_rates["category"].is_null().all():
        return []
    if seller.tax_number and seller.country == "DE":
        return []
    what = "documents charge tax" if charges else "documents say why no tax is charged"
    return [f"{place}.tax_id: found none, expected the seller's tax id: {what} ({names})"]


def _wrong_tax_ids(accounts: pl.DataFrame) -> list[str]:
    pairs = accounts.select("country", "tax_id").drop_nulls("tax_id").unique()
    wrong = [_is_wrong(tax_id, country) for country, tax_id in pairs.iter_rows()]
    found = accounts.join(pairs.filter(pl.Series(wrong, dtype=pl.Boolean)), on=["country", "tax_id"], nulls_equal=True)
    expected = "expected a tax id that is valid in form and checksum: it suppresses no tax"
    return _told(found.sort("account_id").select("account_id", "tax_id").iter_rows(), "tax_id", expected)


def _unknown_countries(inputs: Inputs, catalogue: Catalogue) -> list[str]:
    """Countries that are none, such as UK: what holds in one does only where all files err in the same way."""
    known = sorted(COUNTRIES | {_KOSOVO})
    expected = "expected a code of ISO 3166-1, such as GB"
    found = inputs.accounts.filter(~pl.col("country").is_in(known)).sort("account_id").select("account_id", "country")
    seller = catalogue.seller.country
    taxed = inputs.tax_rates["country"].unique().sort()
    return [
        *([] if seller in known else [f"catalogue.yaml: seller.country: found {seller!r}, {expected}"]),
        *(f"tax_rates.csv: country: found {name!r}, {expected}" for name in taxed.filter(~taxed.is_in(known))),
        *_told(found.iter_rows(), "country", expected),
    ]


def _unknown_locales(accounts: pl.DataFrame) -> list[str]:
    locales = accounts["locale"].drop_nulls().unique()
    unknown = locales.filter(pl.Series([not knows_locale(name) for name in locales], dtype=pl.Boolean))
    found = accounts.filter(pl.col("locale").is_in(unknown.implode())).sort("account_id")
    expected = "expected a locale such as de_DE: documents are written as for en_US"
    return _told(found.select("account_id", "locale").iter_rows(), "locale", expected)


def _unknown_languages(accounts: pl.DataFrame, catalogue: Catalogue) -> list[str]:
    """Languages without a catalogue of words: their documents are in English."""
    known = {*LANGUAGES, *catalogue.resources.translations}
    said = accounts["language"].drop_nulls().unique()
    unknown = said.filter(pl.Series([not known & set(_tags(name)) for name in said], dtype=pl.Boolean))
    found = accounts.filter(pl.col("language").is_in(unknown.implode())).sort("account_id")
    expected = (
        f"expected one of {', '.join(LANGUAGES)}, or a catalogue landing/translations/<language>.po: documents are in "
        "English"
    )
    own = catalogue.seller.language
    of_seller = (
        [f"catalogue.yaml: seller.language: found {own!r}, {expected}"] if own and not known & set(_tags(own)) else []
    )
    return [*of_seller, *_told(found.select("account_id", "language").iter_rows(), "language", expected)]


def _tags(language: str) -> tuple[str, str]:
    """The whole tag and its language, in lower case."""
    tag = language.replace("_", "-").lower()
    return tag, tag.partition("-")[0]


def _is_wrong(tax_id: str, country: str | None) -> bool:
    """Whether a tax id can be validated, by the format of its country, and is invalid."""
    modules = [stdnum.get_cc_module(country.lower(), name) for name in ("vat", "tin")] if country else []
    return any(modules) and tax_id_country(tax_id, country or "") is None


def _told(rows: Iterable[Sequence[str]], column: str, expected: str) -> list[str]:
    """One line for each of the first accounts, and one with the number of the others."""
    lines = [f"accounts: {account}: {column}: found {value!r}, {expected}" for account, value in rows]
    further = len(lines) - _MOST_TOLD
    return lines[:_MOST_TOLD] + ([f"accounts: {column}: {further} more like these"] if further > 0 else [])
