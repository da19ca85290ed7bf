"""Warnings of `check` about tax ids, the seller's tax id and locales; none stops a run (rule 24)."""

from collections.abc import Iterable, Sequence
from typing import Final

import polars as pl
import stdnum

from billing.inputs.reading import Inputs
from billing.model.catalogue import Catalogue
from billing.rendering.locale_formats import knows_locale
from billing.rules.tax import tax_id_country

_MOST_TOLD: Final = 5


def tax_and_locale_warnings(inputs: Inputs, catalogue: Catalogue) -> list[str]:
    """Invalid tax ids, taxes without the seller's tax id, and unknown locales, in words."""
    return [*_seller(inputs, catalogue), *_wrong_tax_ids(inputs.accounts), *_unknown_locales(inputs.accounts)]


def _seller(inputs: Inputs, catalogue: Catalogue) -> list[str]:
    seller = catalogue.seller
    place = "catalogue.yaml: seller.tax_id: found"
    if not seller.tax_id:
        charges = inputs.tax_rates.filter(pl.col("rate") > 0)
        if charges.is_empty():
            return []
        names = ", ".join(charges["name"].unique().sort())
        return [f"{place} none, expected the seller's tax id: documents charge tax ({names})"]
    if _is_wrong(seller.tax_id, seller.country):
        return [f"{place} {seller.tax_id!r}, expected a tax id that is valid in form and checksum"]
    return []


def _wrong_tax_ids(accounts: pl.DataFrame) -> list[str]:
    pairs = accounts.select("country", "tax_id").drop_nulls("tax_id").unique()
    wrong = [_is_wrong(tax_id, country) for country, tax_id in pairs.iter_rows()]
    found = accounts.join(pairs.filter(pl.Series(wrong, dtype=pl.Boolean)), on=["country", "tax_id"], nulls_equal=True)
    expected = "expected a tax id that is valid in form and checksum: it suppresses no tax"
    return _told(found.sort("account_id").select("account_id", "tax_id").iter_rows(), "tax_id", expected)


def _unknown_locales(accounts: pl.DataFrame) -> list[str]:
    locales = accounts["locale"].drop_nulls().unique()
    unknown = locales.filter(pl.Series([not knows_locale(name) for name in locales], dtype=pl.Boolean))
    found = accounts.filter(pl.col("locale").is_in(unknown.implode())).sort("account_id")
    expected = "expected a locale such as de_DE: documents are written as for en_US"
    return _told(found.select("account_id", "locale").iter_rows(), "locale", expected)


def _is_wrong(tax_id: str, country: str | None) -> bool:
    """Whether a tax id can be validated, by the format of its country, and is invalid."""
    modules = [stdnum.get_cc_module(country.lower(), name) for name in ("vat", "tin")] if country else []
    return any(modules) and tax_id_country(tax_id, country or "") is None


def _told(rows: Iterable[Sequence[str]], column: str, expected: str) -> list[str]:
    """One line for each of the first accounts, and one with the number of the others."""
    lines = [f"accounts: {account}: {column}: found {value!r}, {expected}" for account, value in rows]
    further = len(lines) - _MOST_TOLD
    return lines[:_MOST_TOLD] + ([f"accounts: {column}: {further} more like these"] if further > 0 else [])
