"""Taxes of a document, by jurisdiction and billing date (rules 4 and 24)."""

from typing import Final

import polars as pl
import stdnum
from stdnum.eu import vat as eu_vat
from stdnum.exceptions import ValidationError

from billing.catalogue import Catalogue
from billing.money import round_fraction
from billing.regions import with_region_keys
from billing.tables import MONEY, RATE

_RATE_UNIT: Final = 10**12
_MONEY_UNIT: Final = 10**4


def document_taxes(
    documents: pl.DataFrame, accounts: pl.DataFrame, tax_rates: pl.DataFrame, catalogue: Catalogue
) -> pl.DataFrame:
    """Every tax of every document.

    Rule 24: by jurisdiction and billing date; an exemption suppresses it, and so does a foreign tax id, unless the
    customer is in the seller's country. Regions are compared by `region_key`.

    Parameters
    ----------
    documents
        account_id, subscription_id, billing_date, net (MONEY).
    accounts, tax_rates
        As in `Inputs`.

    Returns
    -------
    polars.DataFrame
        account_id, subscription_id, billing_date, name, country, region, rate, taxable, amount, reason.
        Rows of different names add up; a regional row replaces the country's of the same name (rule 24).
    """
    rates = with_region_keys(tax_rates, "rated_in")
    regional = accounts["country"].is_in(rates.filter(pl.col("region").is_not_null())["country"].implode())
    customers = accounts.select("account_id", "country", "region", exempt="tax_exempt", tax_id="tax_id")
    placed = pl.concat(
        [
            with_region_keys(customers.filter(regional), "lives_in"),
            customers.filter(~regional.fill_null(False)).with_columns(lives_in=pl.lit(None, pl.String)),
        ]
    ).drop("region")
    effective = (
        documents.join(placed, on="account_id", how="left")
        .join(rates, on="country")
        .filter(pl.col("effective_from") <= pl.col("billing_date"))
        .filter(pl.col("rated_in").is_null() | (pl.col("rated_in") == pl.col("lives_in")))
        .sort("effective_from")
        .group_by("subscription_id", "billing_date", "name", "rated_in", maintain_order=True)
        .last()
        # the regional row goes before the country's of the same name
        .sort(pl.col("region").is_null(), maintain_order=True)
        .group_by("subscription_id", "billing_date", "name", maintain_order=True)
        .first()
    )
    foreign = _foreign_tax_ids(effective.select("account_id", "country", "tax_id").unique(), catalogue.seller.country)
    reason = (
        pl.when("exempt")
        .then(pl.lit("exempt"))
        .when(pl.col("account_id").is_in(foreign.implode()))
        .then(pl.lit("reverse_charge"))
        .otherwise(pl.lit("charged"))
    )
    amount = _tax_amount("net", catalogue)
    return (
        effective.with_columns(reason=reason)
        .select(
            "account_id",
            "subscription_id",
            "billing_date",
            "name",
            "country",
            "region",
            pl.col("rate").cast(RATE),
            taxable="net",
            amount=pl.when(pl.col("reason") == "charged").then(amount).otherwise(pl.lit(0).cast(MONEY)),
            reason="reason",
        )
        .sort("billing_date", "account_id", "subscription_id", "name", "region")
    )


def taxes_of_note(notes: pl.DataFrame, taxes: pl.DataFrame, catalogue: Catalogue) -> pl.DataFrame:
    """The taxes of notes, at the rates of the documents they correct (rule 24).

    Parameters
    ----------
    notes
        account_id, subscription_id, billing_date, number (of the corrected document), net.
    taxes
        The corrected documents' taxes.
    """
    keys = ["account_id", "subscription_id", "billing_date"]
    charged = pl.col("reason") == "charged"
    return (
        taxes.drop("taxable", "amount")
        .join(notes.select(*keys, "number", "net"), on="number")
        .with_columns(amount=pl.when(charged).then(_tax_amount("net", catalogue)).otherwise(pl.lit(0).cast(MONEY)))
        .rename({"net": "taxable"})
        .drop("number")
        .sort(*keys, "name", "rate", "region")
    )


def _tax_amount(net: str, catalogue: Catalogue) -> pl.Expr:
    """rate x net, half-up, once per tax and document (rule 4)."""
    return round_fraction(
        pl.col(net).to_physical() * pl.col("rate").to_physical(),
        pl.lit(_RATE_UNIT * _MONEY_UNIT, pl.Int128),
        catalogue.minor_units,
    )


def _foreign_tax_ids(accounts: pl.DataFrame, seller_country: str) -> pl.Series:
    """Accounts outside of the seller's country with a valid tax id of another country than the seller's."""
    with_id = accounts.filter(pl.col("tax_id").is_not_null() & (pl.col("country") != seller_country))
    owner = (
        with_id.select(pl.struct("country", "tax_id").alias("_id"))
        .to_series()
        .map_elements(lambda row: tax_id_country(row["tax_id"], row["country"]), return_dtype=pl.String)
    )
    return with_id.filter((owner != seller_country).fill_null(False))["account_id"]


def tax_id_country(tax_id: str, country: str) -> str | None:
    """The country a valid tax id belongs to; None when it is not valid in form and checksum (rule 24).

    A European VAT number says its country itself; any other is tried in the customer's country.
    """
    if _is_valid(eu_vat, tax_id):
        prefix = eu_vat.compact(tax_id)[:2]
        return {"EL": "GR", "XI": "GB"}.get(prefix, prefix)
    modules = (stdnum.get_cc_module(country.lower(), name) for name in ("vat", "tin"))
    return country if any(module is not None and _is_valid(module, tax_id) for module in modules) else None


def _is_valid(module: object, tax_id: str) -> bool:
    try:
        module.validate(tax_id)  # type: ignore[attr-defined] # stdnum's modules share this function without a type
    except ValidationError:
        return False
    return True
