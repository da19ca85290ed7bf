"""Numbers of raw logs as plain decimals: decimal and thousands signs of a language, and exact multiples."""

import re
from decimal import Decimal, localcontext
from typing import Final

import polars as pl

from billing.ingest.required_columns import NO_NUMBER
from billing.model.sources import Source, ValueRule

_LONGEST: Final = 1_000
"""Characters of a number that is multiplied; a longer one is none."""
_EXPONENT: Final = r"^[+-]?[0-9]{1,40}(?:\.[0-9]{1,40})?[eE][+-]?[0-9]{1,2}$"
_WITH_EXPONENTS: Final = ("csv", "json", "nginx", "parquet", "regex")
"""Formats in which numbers may be written with an exponent, as cost reports and programs write small ones."""
_WHOLE: Final = 17
"""Digits of whole numbers that are multiplied as integers."""


def plain_numbers(texts: pl.Series, source: Source) -> pl.Series:
    """Numbers in the source's dialect as plain decimals; what is no such number begins with NO_NUMBER."""
    texts = texts.str.strip_chars()
    if source.decimal == "." and not source.thousands:
        return _without_exponents(texts) if source.format in _WITH_EXPONENTS else texts
    point, thousands = re.escape(source.decimal), re.escape(source.thousands)
    grouped = rf"|[0-9]{{1,3}}(?:{thousands}[0-9]{{3}})+" if source.thousands else ""
    form = rf"^[+-]?(?:[0-9]+{grouped})(?:{point}[0-9]+)?$"
    text = pl.col("text")
    plain = text.str.replace_all(source.thousands, "", literal=True) if source.thousands else text
    plain = plain.str.replace(source.decimal, ".", literal=True).str.strip_prefix("+")
    other = pl.lit(NO_NUMBER) + text
    return (
        texts.to_frame("text")
        .select(pl.when(text.str.contains(form)).then(plain).otherwise(other).alias("text"))
        .to_series()
    )


def number_form(source: Source) -> str:
    """How the source writes numbers, as of `fault_words`."""
    is_plain = source.decimal == "." and not source.thousands
    example = "" if is_plain else f", such as 1{source.thousands}234{source.decimal}56"
    return f"{example}, in at most {_LONGEST:,} characters" if any(rule.times for rule in source.values) else example


def _without_exponents(texts: pl.Series) -> pl.Series:
    """Numbers such as 1.08E-8 as plain decimals, exactly; other texts stay."""
    places = texts.str.contains(_EXPONENT).arg_true()
    if places.is_empty():
        return texts
    distinct = texts.gather(places).unique()
    plain = pl.Series([f"{Decimal(text):f}" for text in distinct], dtype=pl.String)
    return texts.scatter(places, texts.gather(places).replace_strict(distinct, plain, return_dtype=pl.String))


def multiplied(texts: pl.Series, rule: ValueRule) -> pl.Series:
    """Numbers times a factor, exactly; other texts stay."""
    times = rule.times
    if times is None or times == 1:
        return texts
    found = texts
    whole = texts.str.contains(rf"^-?[0-9]{{1,{_WHOLE}}}$").fill_null(value=False)
    factor = int(times) if times == int(times) else None
    if factor is not None:
        products = (
            texts.to_frame("text")
            .select(pl.when(whole).then("text").cast(pl.Int128, strict=False) * factor)
            .to_series()
        ).cast(pl.String)
        found = products.zip_with(whole, texts)
        rest = (~whole & texts.is_not_null()).arg_true()
    else:
        rest = texts.is_not_null().arg_true()
    if rest.is_empty():
        return found
    # Fractions are few different texts in most logs: multiply each once.
    distinct = texts.gather(rest).unique()
    exact = pl.Series([_product(text, times) for text in distinct], dtype=pl.String)
    replaced = texts.gather(rest).replace_strict(distinct, exact, return_dtype=pl.String)
    return found.scatter(rest, replaced)


def _product(text: str, times: Decimal) -> str:
    if not re.fullmatch(r"-?[0-9]+(?:\.[0-9]+)?", text):
        return text
    if len(text) > _LONGEST:
        return f"{NO_NUMBER}{text}"
    with localcontext(prec=2 * _LONGEST):
        product = f"{Decimal(text) * times:f}"
    return product.rstrip("0").rstrip(".") if "." in product else product
