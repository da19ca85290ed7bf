"""Taxes of a document, by jurisdiction and billing date (rules 4 and 24)."""

from typing import Final

import polars as pl
import stdnum
from stdnum.eu import vat as eu_vat
from stdnum.exceptions import ValidationError

from billing.model.catalogue import Catalogue
from billing.model.codes import TaxCategory, TaxReason
from billing.model.columns import MONEY, RATE
from billing.model.empty_frames import skip_if_empty
from billing.model.money import round_fraction
from billing.model.regions import with_region_keys

_RATE_UNIT: Final = 10**12
_MONEY_UNIT: Final = 10**4
_KEYS: Final = ("account_id", "subscription_id", "billing_date")
_IDENTITY: Final = ("name", "country", "region", "rate", "reason", "category")
# Categories of lines that other rows of the table than those of what is usually sold are for.
_ON_PURPOSE: Final = (
    TaxCategory.ZERO,
    TaxCategory.EXEMPT,
    TaxCategory.REVERSE_CHARGE,
    TaxCategory.INTRA_COMMUNITY,
    TaxCategory.EXPORT,
    TaxCategory.OUTSIDE,
)
# Categories of lines whose rate only a row can say.
WITH_A_RATE: Final = (TaxCategory.STANDARD, TaxCategory.CANARY_ISLANDS, TaxCategory.CEUTA_AND_MELILLA)
_USUAL: Final = (
    TaxCategory.STANDARD,
    TaxCategory.EXEMPT,
    TaxCategory.REVERSE_CHARGE,
    TaxCategory.CANARY_ISLANDS,
    TaxCategory.CEUTA_AND_MELILLA,
)
_UNNAMED: Final = "VAT"
_OF_ITS_OWN: Final = (TaxCategory.CANARY_ISLANDS, TaxCategory.CEUTA_AND_MELILLA)
# What is written of a category that charges nothing.
_REASONS: Final[dict[str, str]] = {
    TaxCategory.EXEMPT.value: TaxReason.EXEMPT.value,
    TaxCategory.EXPORT.value: TaxReason.EXEMPT.value,
    TaxCategory.INTRA_COMMUNITY.value: TaxReason.EXEMPT.value,
    TaxCategory.OUTSIDE.value: TaxReason.EXEMPT.value,
    TaxCategory.REVERSE_CHARGE.value: TaxReason.REVERSE_CHARGE.value,
}
_OF_REASON: Final[dict[str, str]] = {
    TaxReason.EXEMPT.value: TaxCategory.EXEMPT.value,
    TaxReason.REVERSE_CHARGE.value: TaxCategory.REVERSE_CHARGE.value,
}
_WHY_NOTHING: Final = ("exemption_reason", "exemption_code")
_NOTHING: Final = pl.lit(0).cast(MONEY)


@skip_if_empty("documents")
def document_taxes(
    documents: pl.DataFrame, accounts: pl.DataFrame, tax_rates: pl.DataFrame, catalogue: Catalogue
) -> pl.DataFrame:
    """Every tax of every document.

    Rule 24: by jurisdiction and billing date; an exemption suppresses it, and so does a foreign tax id, unless the
    customer is in the seller's country. Regions are compared by `region_key`.

    Parameters
    ----------
    documents
        account_id, subscription_id, billing_date, tax_category (of the lines; null: what the country charges as a
        rule), net (MONEY) of these lines.
    accounts, tax_rates
        As in `Inputs`.

    Returns
    -------
    polars.DataFrame
        account_id, subscription_id, billing_date, name, country, region, rate, taxable, amount, reason, category,
        exemption_reason, exemption_code.
        Rows of different names add up; a regional row replaces the country's of the same name (rule 24).
    """
    documents = _with_category(documents)
    effective = _in_force(*_placed_and_rated(documents, accounts, tax_rates))
    return _charged(effective, catalogue, by_category=documents["tax_category"].is_not_null().any())


@skip_if_empty("effective")
def _charged(effective: pl.DataFrame, catalogue: Catalogue, *, by_category: bool) -> pl.DataFrame:
    """As `document_taxes`, of lines with the row of each tax that holds; `by_category`: some say a category."""
    foreign = _foreign_tax_ids(effective.select("account_id", "country", "tax_id").unique(), catalogue.seller.country)
    category = pl.col("category")
    is_taxed = category.is_in([TaxCategory.STANDARD, *_OF_ITS_OWN])
    is_reversed = pl.col("account_id").is_in(foreign.implode())
    reason = (
        pl.when(is_taxed & pl.col("exempt"))
        .then(pl.lit(TaxReason.EXEMPT))
        .when(is_taxed & is_reversed)
        .then(pl.lit(TaxReason.REVERSE_CHARGE))
        .otherwise(category.replace_strict(_REASONS, default=TaxReason.CHARGED.value))
    )
    amount = _tax_amount("net", catalogue)
    of_lines = (
        effective.with_columns(reason=reason)
        .with_columns(
            category=pl.when(is_taxed)
            .then(pl.col("reason").replace_strict(_OF_REASON, default=category, return_dtype=pl.String))
            .otherwise(category),
            exemption_reason=pl.when(pl.col("reason") == TaxReason.EXEMPT)
            .then(pl.coalesce("their_reason", "exemption_reason"))
            .otherwise("exemption_reason"),
        )
        .select(
            "account_id",
            "subscription_id",
            "billing_date",
            "name",
            "country",
            "region",
            pl.col("rate").cast(RATE),
            "net",
            "reason",
            "category",
            "exemption_reason",
            "exemption_code",
        )
    )
    if by_category:
        # One tax of several categories of lines is one tax of the document.
        of_lines = of_lines.group_by(*_KEYS, *_IDENTITY, maintain_order=True).agg(
            pl.col("net").sum().cast(MONEY), pl.col(*_WHY_NOTHING).first()
        )
    return (
        of_lines.with_columns(
            taxable="net",
            amount=pl.when(pl.col("reason") == TaxReason.CHARGED).then(amount).otherwise(pl.lit(0).cast(MONEY)),
        )
        .select(*_KEYS, *_IDENTITY[:4], "taxable", "amount", *_IDENTITY[4:], *_WHY_NOTHING)
        .sort("billing_date", "account_id", "subscription_id", "name", "region", "rate", "category")
    )


def without_rate(lines: pl.DataFrame, accounts: pl.DataFrame, tax_rates: pl.DataFrame) -> pl.DataFrame:
    """The `lines` whose category says a rate (S, L, M) that no row of the tax table gives: they cannot be billed.

    Parameters
    ----------
    lines
        account_id, subscription_id, billing_date, tax_category.
    accounts, tax_rates
        As in `Inputs`.

    Returns
    -------
    polars.DataFrame
        Columns of `lines`, in their order, and country.
    """
    asked = lines.filter(pl.col("tax_category").is_in(WITH_A_RATE))
    if asked.is_empty():
        return asked.with_columns(country=pl.lit(None, pl.String))
    placed, rates = _placed_and_rated(asked, accounts, tax_rates)
    found = _rows_in_force(placed.join(rates, left_on=["country", "tax_category"], right_on=["country", "_class"]))
    lacking = placed.join(found, on=[*_KEYS, "tax_category"], how="anti", maintain_order="left")
    return lacking.select(*lines.columns, "country")


def _placed_and_rated(
    documents: pl.DataFrame, accounts: pl.DataFrame, tax_rates: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """`documents` with where their customers live, and the tax table with the keys of its regions and classes."""
    rates = with_region_keys(tax_rates.with_columns(_class=_class_of_rates()), "rated_in")
    regional = accounts["country"].is_in(rates.filter(pl.col("region").is_not_null())["country"].implode())
    return documents.join(_placed(accounts, regional), on="account_id", how="left", maintain_order="left"), rates


def _placed(accounts: pl.DataFrame, regional: pl.Series) -> pl.DataFrame:
    """Customers with `lives_in`: the key of their region, where their country has regional rates (`regional`)."""
    customers = accounts.select(
        "account_id", "country", "region", exempt="tax_exempt", tax_id="tax_id", their_reason="tax_exempt_reason"
    )
    return pl.concat(
        [
            with_region_keys(customers.filter(regional), "lives_in"),
            customers.filter(~regional.fill_null(value=False)).with_columns(lives_in=pl.lit(None, pl.String)),
        ]
    ).drop("region")


def _class_of_rates() -> pl.Expr:
    """Rates of one class follow each other: those without a category, whatever the rate, are of class S."""
    return pl.col("category").fill_null(pl.lit(TaxCategory.STANDARD))


def _in_force(documents: pl.DataFrame, rates: pl.DataFrame) -> pl.DataFrame:
    """The row of each tax that holds for what is sold, with its category.

    By name the latest row on or before the billing date, a regional one before the country's. Lines take the rows of
    their category; without one those of category S and those without a category, or, where there are none, the latest
    of another category. Where a category that charges nothing has no row, its rate is 0.
    """
    asked = pl.col("tax_category")
    on_purpose = asked.is_not_null() & (asked != TaxCategory.STANDARD)
    usual, others = documents.filter(~on_purpose), documents.filter(on_purpose)
    found = _rows_in_force(usual.join(rates, on="country"))
    if others.is_empty():
        return found
    of_category = _rows_in_force(
        others.join(rates, left_on=["country", "tax_category"], right_on=["country", "_class"])
    )
    nothing = others.join(of_category, on=[*_KEYS, "tax_category"], how="anti")
    unsaid = nothing.filter(asked.is_in(_ON_PURPOSE) & (asked != TaxCategory.OUTSIDE)).with_columns(
        name=pl.lit(_UNNAMED),
        region=pl.lit(None, pl.String),
        rate=pl.lit(0).cast(rates.schema["rate"]),
        category="tax_category",
        exemption_reason=pl.lit(None, pl.String),
        exemption_code=pl.lit(None, pl.String),
    )
    columns = [name for name in found.columns if name in of_category.columns and name in unsaid.columns]
    return pl.concat([found.select(columns), of_category.select(columns), unsaid.select(columns)])


@skip_if_empty("rated")
def _rows_in_force(rated: pl.DataFrame) -> pl.DataFrame:
    """`rated` (documents with every row of their country) with the row of each tax that holds, and its category."""
    document = ["subscription_id", "billing_date", "tax_category"]
    if "_class" not in rated.columns:
        rated = rated.with_columns(_class="tax_category")
    there = (
        rated.filter(pl.col("effective_from") <= pl.col("billing_date"))
        .filter(pl.col("rated_in").is_null() | (pl.col("rated_in") == pl.col("lives_in")))
        .sort("effective_from", "_class")
    )
    is_usual = pl.col("_class") == TaxCategory.STANDARD
    return (
        there.filter(is_usual | ~is_usual.any().over(document))
        .group_by(*document, "name", "rated_in", maintain_order=True)
        .last()
        .sort(pl.col("region").is_null(), maintain_order=True)
        .group_by(*document, "name", maintain_order=True)
        .first()
        .with_columns(category=tax_category())
    )


def tax_category() -> pl.Expr:
    """`category`; where it is null that of `rate`, and of `reason` where there is one: S above 0, else Z."""
    usual = pl.when(pl.col("rate") > 0).then(pl.lit(TaxCategory.STANDARD)).otherwise(pl.lit(TaxCategory.ZERO))
    return pl.coalesce("category", usual)


@skip_if_empty("taxes")
def with_tax_categories(taxes: pl.DataFrame) -> pl.DataFrame:
    """`taxes` of issued documents with the category of those of versions that stored none."""
    of_reason = pl.col("reason").replace_strict(_OF_REASON, default=None, return_dtype=pl.String)
    return taxes.with_columns(category=pl.coalesce("category", of_reason, tax_category()))


@skip_if_empty("parts")
@skip_if_empty("running")
def taxes_given_back(parts: pl.DataFrame, running: pl.DataFrame, catalogue: Catalogue) -> pl.DataFrame:
    """The taxes of what is given back, or charged again, at the rates of the document that billed it (rule 24).

    Each is the difference of the document's rounded tax after and before: all of a document given back in parts is the
    document, to the cent.

    Parameters
    ----------
    parts
        account_id, subscription_id, billing_date, number (the document that billed it), tax_category, net (MONEY) of
        its lines of that category.
    running
        number, name, country, region, rate, reason, taxable, amount: the taxes of these documents, less what has been
        given back of them so far.

    Returns
    -------
    polars.DataFrame
        As `document_taxes`, and taxed_as: `number`.
    """
    after = _tax_amount("taxable", catalogue)
    charged = pl.col("reason") == TaxReason.CHARGED
    parts = _with_category(parts)
    return (
        running.with_columns(_has_usual())
        .rename({"taxable": "taxable_before", "amount": "amount_before"})
        .join(parts.select(*_KEYS, "number", "tax_category", "net"), on="number")
        .filter(_taxes_lines())
        .group_by(*_KEYS, "number", *_IDENTITY, maintain_order=True)
        .agg(pl.col("net").sum(), pl.col("taxable_before", "amount_before", *_WHY_NOTHING).first())
        .with_columns(taxable=(pl.col("taxable_before") + pl.col("net")).cast(MONEY))
        .with_columns(amount=pl.when(charged).then(after - pl.col("amount_before")).otherwise(_NOTHING).cast(MONEY))
        .select(
            *_KEYS,
            *_IDENTITY[:4],
            pl.col("net").alias("taxable"),
            "amount",
            *_IDENTITY[4:],
            *_WHY_NOTHING,
            taxed_as="number",
        )
        .sort(*_KEYS, "name", "rate", "region", "taxed_as")
    )


@skip_if_empty("taxes")
def running_taxes(taxes: pl.DataFrame, lines: pl.DataFrame, catalogue: Catalogue) -> pl.DataFrame:
    """What is left of the taxes of documents, for `taxes_given_back`.

    A tax that stands once on a document that bills and gives back (rule 4) is told apart to the cent: what is left of
    all documents is what they charged.

    Parameters
    ----------
    taxes, lines
        As `Register.taxes_of`, of the documents, of those whose lines give them back, and of all that these give back.
    """
    lines = _with_category(lines)
    keys = ["number", *_IDENTITY]
    own = taxes.filter(pl.col("taxed_as").is_null())
    apart = taxes.filter(pl.col("taxed_as").is_not_null()).select(*keys, "by")
    # A line taxed together with others has no tax row: move what it changed in the rounded tax of its document.
    before = pl.col("others") + (pl.col("amount").cum_sum() - pl.col("amount")).over("by", *_IDENTITY)
    together = (
        own.select(keys)
        .unique()
        .with_columns(_has_usual())
        .join(lines, on="number")
        .filter(_taxes_lines())
        .group_by(*keys, "by")
        .agg(pl.col("amount").sum())
        .join(apart, on=[*keys, "by"], how="anti", nulls_equal=True)
        .join(
            own.filter(pl.col("number") == pl.col("by")).select("by", *_IDENTITY, whole="taxable"),
            on=["by", *_IDENTITY],
            nulls_equal=True,
        )
        .sort("by", *_IDENTITY, "number")
        .with_columns(others=pl.col("whole") - pl.col("amount").sum().over("by", *_IDENTITY))
        .with_columns(before=before.cast(MONEY), after=(before + pl.col("amount")).cast(MONEY))
        .with_columns(
            moved=pl.when(pl.col("reason") == TaxReason.CHARGED)
            .then(_tax_amount("after", catalogue) - _tax_amount("before", catalogue))
            .otherwise(_NOTHING)
        )
    )
    parts = [
        taxes.select(*keys, "taxable", "amount"),
        together.select(*keys, taxable="amount", amount="moved"),
        together.select(
            *(pl.col("by").alias(name) if name == "number" else pl.col(name) for name in keys),
            taxable=-pl.col("amount"),
            amount=-pl.col("moved"),
        ),
    ]
    return (
        pl.concat([part.cast({"taxable": MONEY, "amount": MONEY}) for part in parts])
        .group_by(keys)
        .agg(pl.col("taxable", "amount").sum().cast(MONEY))
        .join(taxes.select(*keys, *_WHY_NOTHING).unique(keys, keep="first"), on=keys, how="left", nulls_equal=True)
        .sort(keys)
    )


def _with_category(lines: pl.DataFrame) -> pl.DataFrame:
    """`lines` with tax_category: null where it is not said."""
    said = "tax_category" in lines.columns
    return lines if said else lines.with_columns(tax_category=pl.lit(None, pl.String))


def _has_usual() -> pl.Expr:
    return pl.col("category").is_in(_USUAL).any().over("number").alias("_has_usual")


def _taxes_lines() -> pl.Expr:
    """Whether a tax of a document (category) is charged on its lines of a tax_category."""
    asked, category = pl.col("tax_category"), pl.col("category")
    on_purpose = asked.is_in(_ON_PURPOSE).fill_null(value=False)
    usually = category.is_in(_USUAL) | ~pl.col("_has_usual")
    return pl.when(on_purpose).then(category == asked).otherwise(usually)


def joined_taxes(own: pl.DataFrame, given_back: pl.DataFrame, catalogue: Catalogue) -> pl.DataFrame:
    """The taxes of documents that bill and give back: the same tax stands once, on the net of both (rule 4).

    Parameters
    ----------
    own
        As `document_taxes`, of the lines that bill.
    given_back
        As `taxes_given_back`, of the lines that give back.

    Returns
    -------
    polars.DataFrame
        As `given_back`; taxed_as is null on an own tax.
    """
    own = own.with_columns(taxed_as=pl.lit(None, pl.String))
    if given_back.is_empty():
        return own
    # Where the lines net to zero, each document gets its own tax back to the cent.
    comes_to_nothing = own.filter(pl.col("taxable") == 0).join(given_back, on=list(_KEYS), how="semi")
    own = own.join(comes_to_nothing, on=list(_KEYS), how="anti", maintain_order="left")
    same = [*_KEYS, *_IDENTITY]
    back = given_back.join(own, on=same, how="semi", nulls_equal=True).group_by(same).agg(back=pl.col("taxable").sum())
    charged = pl.col("reason") == TaxReason.CHARGED
    moved = (
        own.join(back, on=same, how="left", nulls_equal=True, maintain_order="left")
        .with_columns(taxable=(pl.col("taxable") + pl.col("back").fill_null(_NOTHING)).cast(MONEY))
        .with_columns(amount=pl.when(charged).then(_tax_amount("taxable", catalogue)).otherwise("amount").cast(MONEY))
        .select(own.columns)
    )
    rest = given_back.join(own, on=same, how="anti", nulls_equal=True).select(own.columns)
    return pl.concat([moved, rest]).sort(
        "billing_date", "account_id", "subscription_id", "name", "region", "taxed_as", maintain_order=True
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
    return with_id.filter((owner != seller_country).fill_null(value=False))["account_id"]


def tax_id_country(tax_id: str, country: str) -> str | None:
    """The country a valid tax id belongs to; None when it is not valid in form and checksum (rule 24).

    A European VAT number starts with its country; any other is validated as the customer's country.
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
