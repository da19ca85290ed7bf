"""The lists inside a document's content: lines, usage, changes, taxes and the comparison with the bill before."""

from typing import Final

import polars as pl

from billing.model.catalogue import Catalogue, Tariff, terms_periods
from billing.model.codes import PACKAGE_CHANGES, DocumentKind, LineKind, Outcome, TaxReason
from billing.model.columns import MONEY
from billing.model.tables import PART_OF_A_FEE

# Serialize in batches of so many documents: a page takes several times its size as frames.
PIECE: Final = 20_000
KEYS: Final = ["account_id", "subscription_id", "billing_date"]
_TIER: Final = pl.Struct({"up_to": pl.String, "unit_price": pl.String, "flat": pl.String})
_TARIFF: Final = pl.Struct({"model": pl.String, "size": pl.String, "tiers": pl.List(_TIER)})
_BOUNDS: Final = pl.Struct({"minimum": pl.String, "maximum": pl.String})
_BILLED: Final = pl.Struct(
    {
        "number": pl.String,
        "line": pl.Int32,
        "amount": pl.String,
        "quantity": pl.String,
        "allowance": pl.String,
        "description": pl.String,
    }
)
SETTLES: Final = pl.Struct(
    {
        "due": pl.String,
        "billed": pl.String,
        "fee": pl.String,
        "why": pl.String,
        "minimum": pl.String,
        "maximum": pl.String,
        "documents": pl.List(_BILLED),
    }
)
"""What a line that settles an earlier cycle says; amounts and quantities as text.

What is due now, what was billed before and by which lines; in words the fee that is due and what moved; the tariff's
minimum and maximum.
"""


def line_list(lines: pl.DataFrame, rated: pl.DataFrame | None, catalogue: Catalogue) -> pl.DataFrame:
    """The keys and `lines`: as the page lists them.

    Parameters
    ----------
    lines
        Lines of drafts; those that settle an earlier cycle with tariff and settles, as `with_settlements`.
    rated
        As `rated_usage` of the month: the tariffs of overages, and their minimum and maximum, are those of its terms.
    """
    if "settles" not in lines.columns:
        lines = lines.with_columns(tariff=pl.lit(None, _TARIFF), settles=pl.lit(None, SETTLES))
    lines = lines.with_columns(
        pl.lit(None, column.dtype).alias(column.name) for column in PART_OF_A_FEE if column.name not in lines.columns
    )
    if rated is None:
        return _line_entries(lines.with_columns(bounds=pl.lit(None, _BOUNDS)), catalogue)
    own = rated.select("subscription_id", "cycle_start", "metric", "terms_key", "package", "since").join(
        tariffs(catalogue), on=["terms_key", "package", "since", "metric"], how="left"
    )
    has_bounds = pl.col("minimum").is_not_null() | pl.col("maximum").is_not_null()
    detailed = lines.join(
        own.select(
            "subscription_id",
            "cycle_start",
            "metric",
            kind=pl.lit(LineKind.OVERAGE),
            own_tariff="tariff",
            bounds=pl.when(has_bounds).then(pl.struct("minimum", "maximum")),
        ),
        on=["subscription_id", "cycle_start", "metric", "kind"],
        how="left",
        maintain_order="left",
    )
    return _line_entries(detailed.with_columns(tariff=pl.coalesce("tariff", "own_tariff")), catalogue)


def _line_entries(lines: pl.DataFrame, catalogue: Catalogue) -> pl.DataFrame:
    entry = pl.struct(
        line="line",
        kind="kind",
        metric="metric",
        metric_title=_metric_text("metric", catalogue, "title"),
        unit=_metric_text("metric", catalogue, "unit"),
        package="package",
        package_title=package_title("package", catalogue),
        cycle_start=day("cycle_start"),
        cycle_end=day("cycle_end"),
        quantity=_plain("quantity"),
        allowance=_plain("allowance"),
        excess=_plain("excess"),
        billed_units=_plain("billed_units"),
        unit_price=_plain("unit_price"),
        amount=money_text("amount", catalogue),
        description="description",
        tariff="tariff",
        arithmetic=pl.lit([], pl.List(pl.String)),
        settles="settles",
        part=pl.when(pl.col("whole_fee").is_not_null()).then(
            pl.struct(
                fee=_price_text("whole_fee", catalogue),
                replaced=_price_text("replaced_fee", catalogue),
                part=pl.col("fee_part").cast(pl.String),
                parts=pl.col("fee_parts").cast(pl.String),
            )
        ),
        bounds="bounds",
        gives_back="gives_back",
    )
    return lines.group_by(KEYS, maintain_order=True).agg(lines=entry)


def usage_list(documents: pl.DataFrame, rated: pl.DataFrame, catalogue: Catalogue) -> pl.DataFrame:
    """Usage of the cycle that ended against its allowance, as the catalogue lists the metrics."""
    order = {metric.name: position for position, metric in enumerate(catalogue.metrics)}
    entry = pl.struct(
        metric="metric",
        metric_title=_metric_text("metric", catalogue, "title"),
        unit=_metric_text("metric", catalogue, "unit"),
        measure=_metric_text("metric", catalogue, "measure"),
        package_title=package_title("package", catalogue),
        cycle_start=day("cycle_start"),
        cycle_end=day("cycle_end"),
        quantity=_plain("quantity"),
        allowance=_plain("allowance_units"),
        excess=_plain("excess"),
    )
    return (
        rated.join(
            documents.select("subscription_id", cycle_end="billing_date"),
            on=["subscription_id", "cycle_end"],
            how="semi",
        )
        .with_columns(_order=pl.col("metric").replace_strict(order, return_dtype=pl.Int32))
        .sort("subscription_id", "_order")
        .group_by("subscription_id", pl.col("cycle_end").alias("billing_date"), maintain_order=True)
        .agg(usage=entry)
    )


def change_list(packages: pl.DataFrame, decisions: pl.DataFrame, catalogue: Catalogue) -> pl.DataFrame:
    """The package change of the billing date, and why (rule 23)."""
    why = decisions.filter((pl.col("outcome") == Outcome.APPROVED) & pl.col("kind").is_in(PACKAGE_CHANGES)).select(
        "subscription_id", "explanation", "evidence", billing_date="effective_on"
    )
    changed = packages.filter(pl.col("change_reason").is_not_null() & pl.col("opening_package").is_not_null()).join(
        why, on=["subscription_id", "billing_date"], how="left", maintain_order="left"
    )
    before = pl.col("closing_package").fill_null(pl.col("opening_package"))
    evidence = pl.col("evidence").list.eval(
        pl.struct(
            metric=pl.element().struct.field("metric"),
            metric_title=_named(pl.element().struct.field("metric"), catalogue, "title"),
            unit=_named(pl.element().struct.field("metric"), catalogue, "unit"),
            quantity=plain_text(pl.element().struct.field("quantity")),
            allowance=plain_text(pl.element().struct.field("allowance")),
        )
    )
    entry = pl.struct(
        from_package=before,
        from_title=_title_of(before, catalogue),
        to_package="opening_package",
        to_title=package_title("opening_package", catalogue),
        effective_on=day("billing_date"),
        reason="change_reason",
        sentence=pl.col("explanation").fill_null(""),
        evidence=evidence.fill_null([]),
    )
    return changed.group_by("subscription_id", "billing_date", maintain_order=True).agg(changes=entry)


def tax_list(taxes: pl.DataFrame, catalogue: Catalogue) -> pl.DataFrame:
    entry = pl.struct(
        name="name",
        country="country",
        region="region",
        rate=_plain("rate"),
        taxable=money_text("taxable", catalogue),
        amount=money_text("amount", catalogue),
        reason="reason",
        taxed_as="taxed_as",
    )
    note = (
        pl.when((pl.col("reason") == TaxReason.EXEMPT).any())
        .then(pl.lit("Exempt from tax."))
        .when((pl.col("reason") == TaxReason.REVERSE_CHARGE).any())
        .then(pl.lit("Reverse charge: the customer accounts for the tax."))
    )
    return taxes.group_by(KEYS, maintain_order=True).agg(taxes=entry, tax_note=note)


def comparison(
    documents: pl.DataFrame,
    lines: pl.DataFrame,
    issued_documents: pl.DataFrame,
    issued_lines: pl.DataFrame,
    catalogue: Catalogue,
) -> pl.DataFrame:
    """Comparison with the account's previous document: answers "why is it higher this month?" (rule 23)."""
    earlier = (
        issued_documents.filter(pl.col("kind") == DocumentKind.INVOICE)
        .select("account_id", "number", "tax", previous_date="billing_date", previous_total="total")
        .sort("previous_date", "number")
    )
    compared = (
        documents.select(*KEYS, "total", "tax")
        .sort("billing_date")
        .join_asof(
            earlier.rename({"tax": "previous_tax"}),
            left_on="billing_date",
            right_on="previous_date",
            by="account_id",
            strategy="backward",
            allow_exact_matches=False,
            check_sortedness=False,
        )
        .filter(pl.col("number").is_not_null())
    )
    movements = _movements(compared, lines, issued_lines, catalogue)
    return (
        compared.join(movements, on=KEYS, how="left")
        .with_columns(difference=pl.col("total") - pl.col("previous_total"))
        .select(
            *KEYS,
            comparison=pl.struct(
                previous_number="number",
                previous_date=day("previous_date"),
                previous_total=money_text("previous_total", catalogue),
                difference=money_text("difference", catalogue),
                movements=pl.col("movements").fill_null([]),
            ),
        )
    )


def _movements(
    found: pl.DataFrame, lines: pl.DataFrame, issued_lines: pl.DataFrame, catalogue: Catalogue
) -> pl.DataFrame:
    """Changes per document against the previous one: fee, metrics, earlier cycles and tax."""
    label = (
        pl.when(pl.col("kind") == LineKind.PRIOR_CYCLE)
        .then(pl.lit("Earlier cycles"))
        .when(pl.col("kind") == LineKind.HOLD_FEE)
        .then(pl.lit("Hold fee"))
        .when(pl.col("kind") == LineKind.OVERAGE)
        .then(_metric_text("metric", catalogue, "title"))
        .otherwise(pl.lit("Package fee"))
    )
    kinds = {"Package fee": 0, "Hold fee": 1, "Earlier cycles": 900, "Tax": 901}
    order = kinds | {metric.title: 2 + position for position, metric in enumerate(catalogue.metrics)}
    nothing = pl.lit(0).cast(MONEY)
    now = lines.join(found.select(KEYS), on=KEYS, how="semi").select(
        *KEYS, label=label, current="amount", previous=nothing
    )
    then = issued_lines.join(found.select(*KEYS, "number"), on="number").select(
        *KEYS, label=label, current=nothing, previous="amount"
    )
    tax = found.select(*KEYS, label=pl.lit("Tax"), current="tax", previous="previous_tax")
    return (
        pl.concat([now, then, tax])
        .group_by(*KEYS, "label")
        .agg(pl.col("current").sum(), pl.col("previous").sum())
        .with_columns(difference=pl.col("current") - pl.col("previous"))
        .filter(pl.col("difference") != 0)
        .sort(*KEYS, pl.col("label").replace_strict(order, default=800, return_dtype=pl.Int32), "label")
        .group_by(KEYS, maintain_order=True)
        .agg(
            movements=pl.struct(
                label="label",
                previous=money_text("previous", catalogue),
                current=money_text("current", catalogue),
                difference=money_text("difference", catalogue),
            )
        )
    )


def tariffs(catalogue: Catalogue) -> pl.DataFrame:
    """terms_key, package, since, metric, tariff (as the page shows it), minimum and maximum (as text; null is none)."""
    rows = [
        {
            "terms_key": period.account_id,
            "package": period.package,
            "since": period.since,
            "metric": metric,
            "tariff": _tariff(tariff),
            "minimum": None if tariff.minimum is None else f"{tariff.minimum:f}",
            "maximum": None if tariff.maximum is None else f"{tariff.maximum:f}",
        }
        for period in terms_periods(catalogue)
        for metric, tariff in period.terms.overage.items()
        if tariff is not None
    ]
    return pl.DataFrame(
        rows,
        schema={
            "terms_key": pl.String,
            "package": pl.String,
            "since": pl.Date,
            "metric": pl.String,
            "tariff": _TARIFF,
            "minimum": pl.String,
            "maximum": pl.String,
        },
    )


def _tariff(tariff: Tariff) -> dict[str, object]:
    if tariff.model == "block":
        tiers = [{"up_to": None, "unit_price": f"{tariff.price:f}", "flat": None}]
    else:
        tiers = [
            {
                "up_to": None if tier.up_to is None else f"{tier.up_to:f}",
                "unit_price": None if tariff.model == "stairstep" else f"{tier.unit_price:f}",
                "flat": f"{tier.flat:f}" if tier.flat or tariff.model == "stairstep" else None,
            }
            for tier in tariff.tiers
        ]
    return {"model": tariff.model, "size": None if tariff.size is None else f"{tariff.size:f}", "tiers": tiers}


def _plain(column: str) -> pl.Expr:
    return plain_text(pl.col(column))


def plain_text(value: pl.Expr) -> pl.Expr:
    """A decimal as text without trailing zeros: 61.2, 27350."""
    return value.cast(pl.String).str.strip_chars_end("0").str.strip_chars_end(".")


def money_text(column: str, catalogue: Catalogue) -> pl.Expr:
    """A rounded amount as text, with the minor unit's decimals: 164.00."""
    return pl.col(column).cast(pl.Decimal(38, catalogue.minor_units)).cast(pl.String)


def _price_text(column: str, catalogue: Catalogue) -> pl.Expr:
    """A price with all its decimals, and at least those of the minor unit: 99.00, 0.003."""
    price = pl.col(column)
    rounded = price.cast(pl.Decimal(38, catalogue.minor_units))
    return pl.when(price == rounded).then(rounded.cast(pl.String)).otherwise(plain_text(price))


def day(column: str) -> pl.Expr:
    return pl.col(column).dt.to_string("%Y-%m-%d")


def package_title(column: str, catalogue: Catalogue) -> pl.Expr:
    return _title_of(pl.col(column), catalogue)


def _title_of(package: pl.Expr, catalogue: Catalogue) -> pl.Expr:
    return package.replace({package.name: package.title for package in catalogue.packages})


def _metric_text(column: str, catalogue: Catalogue, what: str) -> pl.Expr:
    return _named(pl.col(column), catalogue, what)


def _named(metric: pl.Expr, catalogue: Catalogue, what: str) -> pl.Expr:
    """A metric's title, unit or measure; null where the metric is null or has none."""
    names = {metric.name: getattr(metric, what) for metric in catalogue.metrics}
    return metric.replace_strict(names, default=None, return_dtype=pl.String)
