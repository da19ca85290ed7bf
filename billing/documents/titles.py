"""Titles of packages, metrics and taxes in the language of a document; that language and its locale (rule 40)."""

from collections.abc import Iterable, Mapping
from typing import Final, Protocol

import polars as pl

from billing.model.catalogue import Catalogue
from billing.model.empty_frames import skip_if_empty

ENGLISH: Final = "en"
_USUAL_LOCALE: Final = "en_US"
_BETWEEN: Final = "\x00"


class Titled(Protocol):
    """Something with a name, a title, and perhaps titles by language."""

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def titles(self) -> Mapping[str, str]: ...


def language(catalogue: Catalogue) -> pl.Expr:
    """The language of an account's documents, in lower case, from its `language` and `locale`.

    Without either that of the seller, else English.
    """
    of_locale = pl.col("locale").str.extract("^([A-Za-z]{2,3})(?:[-_]|$)")
    chosen = pl.coalesce("language", of_locale, pl.lit(catalogue.seller.language or ENGLISH))
    return chosen.str.replace_all("_", "-", literal=True).str.to_lowercase()


def document_locale_name(catalogue: Catalogue) -> pl.Expr:
    """The locale of an account's documents: its `locale`, else its language in the territory of `language` or country.

    A `locale` of another language does not override a territory that `language` names (`de-AT`). English without any
    territory is that of the United States.
    """
    tag = language(catalogue)
    spoken = tag.str.extract("^([a-z]+)")
    territory = tag.str.extract("-([a-z]{2}|[0-9]{3})$").str.to_uppercase()
    place = pl.coalesce(territory, pl.when(spoken != ENGLISH).then("country"))
    derived = pl.coalesce(pl.concat_str(spoken, pl.lit("_"), place), pl.lit(_USUAL_LOCALE))
    is_spoken = pl.col("locale").str.extract("^([A-Za-z]+)").str.to_lowercase() == spoken
    return pl.when(is_spoken | territory.is_null()).then(pl.coalesce("locale", derived)).otherwise(derived)


@skip_if_empty("frame")
def with_own_language(frame: pl.DataFrame, catalogue: Catalogue) -> pl.DataFrame:
    """`frame` (language, locale and country of accounts) with the language and locale of their documents instead."""
    said = ["language", "locale", "country"]
    # Most accounts say the same: find out once what few say.
    spoken = frame.select(said).unique()
    spoken = spoken.with_columns(_language=language(catalogue), _locale=document_locale_name(catalogue))
    found = frame.join(spoken, on=said, how="left", nulls_equal=True, maintain_order="left")
    return found.drop("language", "locale").rename({"_language": "language", "_locale": "locale"})


def with_language(
    frame: pl.DataFrame, accounts: pl.DataFrame, catalogue: Catalogue, *, always: bool = False
) -> pl.DataFrame:
    """`frame` (account_id) with `language`; null for everyone where no title of the catalogue has several languages."""
    titled: list[Titled] = [*catalogue.packages, *catalogue.metrics, *catalogue.coupons, *catalogue.add_ons]
    if not always and not any(each.titles for each in titled):
        return frame.with_columns(language=pl.lit(None, pl.String))
    return frame.join(
        accounts.select("account_id", language=language(catalogue)), on="account_id", how="left", maintain_order="left"
    )


def package_title(package: str | pl.Expr, catalogue: Catalogue) -> pl.Expr:
    """The title of a package in `language`; the name where the catalogue does not know it."""
    return _title(package, catalogue.packages, unknown=pl.col(package) if isinstance(package, str) else package)


def metric_title(metric: str | pl.Expr, catalogue: Catalogue) -> pl.Expr:
    """The title of a metric in `language`; null where the catalogue does not know it."""
    return _title(metric, catalogue.metrics, unknown=pl.lit(None, pl.String))


def offer_title(catalogue: Catalogue) -> pl.Expr:
    """The title in `language` of the coupon, or else the add-on, of a line; null of other lines.

    The name where the catalogue does not know it.
    """
    coupon = _title("coupon", catalogue.coupons, unknown=pl.col("coupon"))
    add_on = _title("add_on", catalogue.add_ons, unknown=pl.col("add_on"))
    return pl.when(pl.col("coupon").is_not_null()).then(coupon).when(pl.col("add_on").is_not_null()).then(add_on)


def tax_names(tax_rates: pl.DataFrame) -> dict[str, dict[str, str]]:
    """Names of taxes by language, from the columns `name_<language>` of the tax table; the latest row holds."""
    tags = {column: column.removeprefix("name_").replace("_", "-").lower() for column in tax_rates.columns}
    tags = {column: tag for column, tag in tags.items() if column.startswith("name_")}
    names: dict[str, dict[str, str]] = {}
    for row in tax_rates.sort("effective_from").select("name", *tags).iter_rows(named=True) if tags else ():
        said = {tag: row[column] for column, tag in tags.items() if row[column]}
        names[row["name"]] = names.get(row["name"], {}) | said
    return names


def tax_name(names: Mapping[str, Mapping[str, str]]) -> pl.Expr:
    """`name` of a tax in `language`: `names` has the names by language that the tax table gives."""
    named = {f"{name}{_BETWEEN}{tag}": text for name, by_language in names.items() for tag, text in by_language.items()}
    return _in_language(pl.col("name"), named, otherwise=pl.col("name")) if named else pl.col("name")


def _title(of: str | pl.Expr, entries: Iterable[Titled], unknown: pl.Expr) -> pl.Expr:
    name = pl.col(of) if isinstance(of, str) else of
    entries = list(entries)
    usual = name.replace_strict({each.name: each.title for each in entries}, default=unknown, return_dtype=pl.String)
    titles = {f"{each.name}{_BETWEEN}{tag}": title for each in entries for tag, title in each.titles.items()}
    return _in_language(name, titles, otherwise=usual) if titles else usual


def _in_language(name: pl.Expr, titles: Mapping[str, str], otherwise: pl.Expr) -> pl.Expr:
    """By name and language: of the whole tag (de-at), else of its language (de)."""

    def found(tag: pl.Expr) -> pl.Expr:
        key = pl.concat_str(name, pl.lit(_BETWEEN), tag)
        return key.replace_strict(titles, default=None, return_dtype=pl.String)

    tag = pl.col("language")
    return pl.coalesce(found(tag), found(tag.str.extract("^([a-z]+)")), otherwise)
