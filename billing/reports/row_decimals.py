"""The decimals of the amounts of each row of a table: those of its currency (rule 36)."""

import polars as pl

from billing.model.money import minor_units
from billing.month.business import Business


def decimals_of(business: Business, rows: pl.DataFrame) -> int | list[int]:
    """Of each row: the currency it names, else that of its document, else that of its account."""
    if len(business.inputs.currencies) < 2:
        return business.catalogue.minor_units
    own = business.catalogue.currency
    found: pl.DataFrame | None = None
    if "currency" in rows.columns:
        found = rows.select(currency=pl.col("currency"))
    elif "number" in rows.columns:
        documents = business.register.documents().select("number", issued_in="currency")
        found = rows.select("number").join(documents, on="number", how="left", maintain_order="left")
        found = found.select(currency="issued_in")
    if "account_id" in rows.columns and (found is None or found["currency"].null_count()):
        named = business.currencies.with_currency(rows.select(name for name in _KEYS if name in rows.columns), "its")
        found = (
            named.select(currency="its")
            if found is None
            else found.with_columns(pl.coalesce(pl.col("currency"), named["its"]))
        )
    if found is None:
        return business.catalogue.minor_units
    codes = found["currency"].fill_null(own)
    places = {code: minor_units(code) or 0 for code in codes.unique()}
    return codes.replace_strict(places, return_dtype=pl.Int64).to_list()


_KEYS = ("account_id", "subscription_id")
