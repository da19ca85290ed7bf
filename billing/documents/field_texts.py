"""How amounts, quantities, prices and days are written as fields of a document's content."""

import polars as pl

from billing.model.catalogue import Catalogue


def plain(column: str) -> pl.Expr:
    """As `plain_text`, of a column."""
    return plain_text(pl.col(column))


def plain_text(value: pl.Expr) -> pl.Expr:
    """A decimal as text without trailing zeros: 61.2, 27350."""
    return value.cast(pl.String).str.strip_chars_end("0").str.strip_chars_end(".")


def money_text(column: str, catalogue: Catalogue) -> pl.Expr:
    """A rounded amount as text, with the minor unit's decimals: 164.00."""
    return pl.col(column).cast(pl.Decimal(38, catalogue.minor_units)).cast(pl.String)


def price_text(column: str, catalogue: Catalogue) -> pl.Expr:
    """A price with all its decimals, and at least those of the minor unit: 99.00, 0.003."""
    price = pl.col(column)
    rounded = price.cast(pl.Decimal(38, catalogue.minor_units))
    return pl.when(price == rounded).then(rounded.cast(pl.String)).otherwise(plain_text(price))


def day(column: str) -> pl.Expr:
    """A day as YYYY-MM-DD."""
    return pl.col(column).dt.to_string("%Y-%m-%d")


def metric_text(column: str, catalogue: Catalogue, what: str) -> pl.Expr:
    """A metric's unit, code of the unit or measure; null where the metric is null or has none."""
    names = {metric.name: getattr(metric, what) for metric in catalogue.metrics}
    return pl.col(column).replace_strict(names, default=None, return_dtype=pl.String)


def decimals_of(metric: pl.Expr, catalogue: Catalogue) -> pl.Expr:
    """How many decimals of a metric paper shows."""
    decimals = {metric.name: metric.decimals for metric in catalogue.metrics}
    return metric.replace_strict(decimals, default=None, return_dtype=pl.Int8)
