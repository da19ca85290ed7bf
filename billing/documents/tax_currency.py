"""The tax of a document in the currency of the tax's country, where the document is in another (rule 24)."""

from typing import Final

import polars as pl

from billing.documents.content_lists import KEYS
from billing.documents.field_texts import plain_text
from billing.model.catalogue import Catalogue
from billing.model.codes import TaxReason
from billing.model.country_currencies import currency_of_country
from billing.model.money import minor_units, round_fraction

TAX_CURRENCY: Final = pl.Struct({"currency": pl.String, "tax": pl.String, "rate": pl.String, "rate_on": pl.String})
# Rates are below 10^6 with 9 decimals, and amounts below 10^14 with at most 4: the product is below 10^33.
_MONEY_UNIT: Final = 10**4
_RATE_UNIT: Final = 10**9
_SMALLEST_RATE: Final = 10**3


def tax_in_its_currency(taxes: pl.DataFrame, exchange_rates: pl.DataFrame, catalogue: Catalogue) -> pl.DataFrame:
    """The keys and `tax_currency` (TAX_CURRENCY) of documents that charge a tax of a country of another currency.

    The rate is the latest on or before the billing date; without one the amount is null, and the page says so.

    Parameters
    ----------
    taxes
        As `joined_taxes`.
    exchange_rates
        As `Inputs.exchange_rates`.
    """
    countries = taxes["country"].unique().sort().drop_nulls().to_list()
    currencies = {country: currency_of_country(country) for country in countries}
    others = {country: its for country, its in currencies.items() if its not in (None, catalogue.currency)}
    nothing = taxes.clear().select(*KEYS, tax_currency=pl.lit(None, TAX_CURRENCY))
    if not others:
        return nothing
    charged = taxes.filter((pl.col("reason") == TaxReason.CHARGED) & (pl.col("amount") != 0))
    # The taxes of one country only: those of several have no one currency.
    sums = (
        charged.group_by(KEYS, maintain_order=True)
        .agg(pl.col("amount").sum(), pl.col("country").first(), _countries=pl.col("country").n_unique())
        .filter((pl.col("_countries") == 1) & pl.col("country").is_in(list(others)))
        .with_columns(to=pl.col("country").replace_strict(others, return_dtype=pl.String))
        .sort("billing_date")
    )
    known = exchange_rates.filter(pl.col("currency") == catalogue.currency).select("to", "rate", rate_on="on")
    found = sums.join_asof(
        known.sort("rate_on"),
        left_on="billing_date",
        right_on="rate_on",
        by="to",
        strategy="backward",
        check_sortedness=False,
        coalesce=False,
    )
    parts = [nothing]
    for (to,), some in found.partition_by("to", as_dict=True, maintain_order=True).items():
        digits = minor_units(str(to)) or 0
        product = pl.col("amount").to_physical().cast(pl.Int128) * (
            pl.col("rate").to_physical().cast(pl.Int128) // _SMALLEST_RATE
        )
        tax = round_fraction(product, pl.lit(_MONEY_UNIT * _RATE_UNIT, pl.Int128), digits)
        parts.append(
            some.select(
                *KEYS,
                tax_currency=pl.struct(
                    currency="to",
                    tax=tax.cast(pl.Decimal(38, digits)).cast(pl.String),
                    rate=plain_text(pl.col("rate")),
                    rate_on=pl.col("rate_on").dt.to_string("%Y-%m-%d"),
                ),
            )
        )
    return pl.concat(parts)
