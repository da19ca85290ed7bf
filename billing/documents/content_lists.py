"""The lists inside a document's content: lines, usage, taxes and the comparison with the bill before."""

from typing import Final

import polars as pl

from billing.documents.field_texts import day, decimals_of, metric_text, money_text, plain, plain_text, price_text
from billing.documents.left_out import entries_of_numbers, written
from billing.documents.tariffs import TARIFF, TERMS, tariffs, with_events
from billing.documents.titles import metric_title, offer_title, package_title, tax_name, tax_names, with_language
from billing.model.catalogue import Catalogue
from billing.model.codes import UNTAXED, DocumentKind, LineKind, TaxCategory
from billing.model.columns import MONEY, RATE
from billing.model.empty_frames import skip_if_empty
from billing.model.tables import PART_OF_A_FEE
from billing.rules.dimensions import with_rule_words
from billing.rules.due_items import refunded_kind

# Serialize in batches of so many documents: a page takes several times its size as frames.
PIECE: Final = 20_000
KEYS: Final = ["account_id", "subscription_id", "billing_date"]
_BOUNDS: Final = pl.Struct({"minimum": pl.String, "maximum": pl.String})
_FEE: Final = pl.Struct({"kind": pl.String, "package_title": pl.String, "description": pl.String})
_BILLED: Final = pl.Struct(
    {
        "number": pl.String,
        "line": pl.Int32,
        "amount": pl.String,
        "quantity": pl.String,
        "allowance": pl.String,
        "kind": pl.String,
        "package_title": pl.String,
        "description": pl.String,
    }
)
COMPARED_DOCUMENT: Final = ("number", "kind", "account_id", "billing_date", "issued_on", "currency", "tax", "total")
COMPARED_LINE: Final = ("number", "kind", "metric", "amount")
"""Columns of issued documents and lines that a bill is compared with."""
SETTLES: Final = pl.Struct(
    {
        "due": pl.String,
        "billed": pl.String,
        "why": pl.String,
        "minimum": pl.String,
        "maximum": pl.String,
        "fee": _FEE,
        "documents": pl.List(_BILLED),
    }
)
"""What a line that settles an earlier cycle says; amounts and quantities as text.

What is due now, what was billed before and by which lines, the code of what moved (WhySettled), the fee that is due,
and the tariff's minimum and maximum.
"""


@skip_if_empty("lines")
def line_list(
    lines: pl.DataFrame,
    rated: pl.DataFrame | None,
    taxes: pl.DataFrame,
    catalogue: Catalogue,
    *,
    taxed: pl.Series | None = None,
    given_back: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """The keys and `lines`: as the page lists them, as JSON.

    Parameters
    ----------
    lines
        Lines of drafts, with language; those that settle an earlier cycle with tariff and settles, as
        `with_settlements`.
    rated
        As `rated_usage` of the month: the tariffs of overages, and their minimum and maximum, are those of its terms.
    taxes
        As `joined_taxes`, of the documents.
    taxed
        Numbers of the earlier documents with taxes, among those whose billing the lines give back.
    given_back
        number, issued_on: of these documents.
    """
    if "settles" not in lines.columns:
        lines = lines.with_columns(tariff=pl.lit(None, TARIFF), settles=pl.lit(None, SETTLES))
    lines = lines.with_columns(
        pl.lit(None, column.dtype).alias(column.name) for column in PART_OF_A_FEE if column.name not in lines.columns
    )
    numbers = lines["gives_back"].drop_nulls().unique()
    untaxed = numbers.clear() if taxed is None else numbers.filter(~numbers.is_in(taxed.implode()))
    lines = _with_tax(_with_days(lines, given_back), taxes, untaxed)
    if rated is None:
        return _line_entries(lines.with_columns(bounds=pl.lit(None, _BOUNDS)), catalogue)
    own = rated.select("subscription_id", "cycle_start", "metric", "rule", "events", *TERMS).join(
        tariffs(catalogue), on=[*TERMS, "metric", "rule"], how="left", nulls_equal=True
    )
    has_bounds = pl.col("minimum").is_not_null() | pl.col("maximum").is_not_null()
    detailed = lines.join(
        own.select(
            "subscription_id",
            "cycle_start",
            "metric",
            kind=pl.lit(LineKind.OVERAGE),
            due_item="rule",
            own_tariff=with_events("tariff", "events"),
            bounds=pl.when(has_bounds).then(pl.struct("minimum", "maximum")),
        ),
        on=["subscription_id", "cycle_start", "metric", "kind", "due_item"],
        how="left",
        nulls_equal=True,
        maintain_order="left",
    )
    return _line_entries(detailed.with_columns(tariff=pl.coalesce("tariff", "own_tariff")), catalogue)


def _with_days(lines: pl.DataFrame, given_back: pl.DataFrame | None) -> pl.DataFrame:
    """Add gives_back_on, the day of the document that `gives_back` names: law asks for both (article 219)."""
    if given_back is None or given_back.is_empty():
        return lines.with_columns(gives_back_on=pl.lit(None, pl.Date))
    days = given_back.select(gives_back="number", gives_back_on="issued_on")
    return lines.join(days, on="gives_back", how="left", maintain_order="left")


def _with_tax(lines: pl.DataFrame, taxes: pl.DataFrame, untaxed: pl.Series) -> pl.DataFrame:
    """Add tax_category and tax_rate: of the one tax on the line; O where there is none, null where there are several.

    A line that gives back is taxed as the document that billed it, where that tax stands apart.
    """
    one = (
        taxes.group_by(*KEYS, "taxed_as")
        .agg(_count=pl.len(), _category=pl.col("category").first(), _rate=pl.col("rate").first())
        .with_columns(
            _rate=plain_text(pl.when(pl.col("_category") != TaxCategory.OUTSIDE).then("_rate").cast(RATE)),
        )
    )
    own = one.filter(pl.col("taxed_as").is_null()).drop("taxed_as")
    found = lines.join(own, on=KEYS, how="left", maintain_order="left")
    if not untaxed.is_empty():
        # What an untaxed document billed is given back without tax.
        is_untaxed = pl.col("gives_back").is_in(untaxed.implode()).fill_null(value=False)
        found = found.with_columns(
            pl.when(~is_untaxed).then(name).alias(name) for name in ("_count", "_category", "_rate")
        )
    apart = one.filter(pl.col("taxed_as").is_not_null()).rename({"taxed_as": "gives_back"})
    if not apart.is_empty():
        found = found.join(
            apart, on=[*KEYS, "gives_back"], how="left", suffix="_apart", maintain_order="left"
        ).with_columns(pl.coalesce(f"{name}_apart", name).alias(name) for name in ("_count", "_category", "_rate"))
    found = _with_own_category(found, taxes)
    is_one = pl.col("_count") == 1
    return found.with_columns(
        tax_category=pl.when(pl.col("_count").is_null())
        .then(pl.lit(TaxCategory.OUTSIDE))
        .when(is_one)
        .then("_category"),
        tax_rate=pl.when(is_one).then("_rate"),
    )


def _with_own_category(lines: pl.DataFrame, taxes: pl.DataFrame) -> pl.DataFrame:
    """Of lines that are charged with a category of their own: its tax; the others have one of the rest."""
    asked = pl.col("tax_category")
    if not lines.select(asked.is_not_null().any()).item():
        return lines
    on_purpose = lines.filter(asked.is_in(UNTAXED)).select(*KEYS, category="tax_category", _asked=True).unique()
    one = taxes.filter(pl.col("taxed_as").is_null()).join(on_purpose, on=[*KEYS, "category"], how="left")
    is_rest = pl.col("_asked").is_null() | ~pl.col("_asked").is_null().any().over(KEYS)
    rest = (
        one.filter(is_rest)
        .group_by(KEYS)
        .agg(
            _rest=pl.len(),
            _rest_category=pl.col("category").first(),
            _rest_rate=plain_text(
                pl.when(pl.col("category").first() != TaxCategory.OUTSIDE).then(pl.col("rate").first()).cast(RATE)
            ),
        )
    )
    purposely, own = asked.is_in(UNTAXED).fill_null(value=False), pl.col("gives_back").is_null()
    nothing = pl.when(asked != TaxCategory.OUTSIDE).then(pl.lit("0"))
    return (
        lines.join(rest, on=KEYS, how="left", maintain_order="left")
        .with_columns(
            _count=pl.when(~own).then("_count").when(purposely).then(1).otherwise("_rest"),
            _category=pl.when(~own).then("_category").when(purposely).then(asked).otherwise("_rest_category"),
            _rate=pl.when(~own).then("_rate").when(purposely).then(nothing).otherwise("_rest_rate"),
        )
        .drop("_rest", "_rest_category", "_rest_rate")
    )


def _line_entries(lines: pl.DataFrame, catalogue: Catalogue) -> pl.DataFrame:
    is_settlement = pl.col("kind").is_in([LineKind.PRIOR_CYCLE, LineKind.ADJUSTMENT, LineKind.REFUND])
    due_kind = pl.when(pl.col("kind") == LineKind.REFUND).then(refunded_kind()).otherwise("due_kind")
    entry = {
        "line": pl.col("line"),
        "kind": pl.col("kind"),
        "due_kind": pl.when(is_settlement).then(due_kind),
        "due_on": pl.when(is_settlement).then(day("due_on")),
        "metric": pl.col("metric"),
        "rule": pl.col("rule"),
        "add_on": pl.col("add_on"),
        "charge_id": pl.col("charge_id"),
        "coupon": pl.col("coupon"),
        "applies_to_line": pl.col("applies_to_line"),
        "title": offer_title(catalogue),
        "metric_title": with_rule_words(metric_title("metric", catalogue), catalogue),
        "unit": metric_text("metric", catalogue, "unit"),
        "unit_code": metric_text("metric", catalogue, "unit_code"),
        "decimals": decimals_of(pl.col("metric"), catalogue),
        "package": pl.col("package"),
        "package_title": package_title("package", catalogue),
        "cycle_start": day("cycle_start"),
        "cycle_end": day("cycle_end"),
        "quantity": plain("quantity"),
        "allowance": plain("allowance"),
        "excess": plain("excess"),
        "billed_units": plain("billed_units"),
        "unit_price": plain("unit_price"),
        "amount": money_text("amount", catalogue),
        "description": pl.col("description"),
        "tax_category": pl.col("tax_category"),
        "tax_rate": pl.col("tax_rate"),
        "tariff": pl.col("tariff"),
        "settles": pl.col("settles"),
        "part": pl.when(pl.col("whole_fee").is_not_null()).then(
            pl.struct(
                fee=price_text("whole_fee", catalogue),
                replaced=price_text("replaced_fee", catalogue),
                part=pl.col("fee_part").cast(pl.String),
                parts=pl.col("fee_parts").cast(pl.String),
            )
        ),
        "bounds": pl.col("bounds"),
        "gives_back": pl.col("gives_back"),
        "gives_back_on": day("gives_back_on"),
    }
    # What was measured is hardly ever alike; fees, add-ons and coupons are.
    is_measured = pl.col("metric").is_not_null() | pl.col("gives_back").is_not_null()
    return written(lines, KEYS, "lines", entry, apart=is_measured)


def usage_list(documents: pl.DataFrame, rated: pl.DataFrame, catalogue: Catalogue) -> pl.DataFrame:
    """The keys of a subscription's document and `usage`, as JSON: that of the cycle that ended against its allowance.

    As the catalogue lists the metrics.

    Parameters
    ----------
    documents
        subscription_id, billing_date, language.
    """
    order = {metric.name: position for position, metric in enumerate(catalogue.metrics)}
    has_rules = any(metric.by for metric in catalogue.metrics)
    # A level that is charged in advance is no usage against an allowance.
    in_advance = [metric.name for metric in catalogue.metrics if metric.is_in_advance]
    rows = (
        rated.filter(~pl.col("metric").is_in(in_advance))
        .join(
            documents.select("subscription_id", "language", cycle_end="billing_date"),
            on=["subscription_id", "cycle_end"],
        )
        .with_columns(_order=pl.col("metric").replace_strict(order, return_dtype=pl.Int32))
        .sort("subscription_id", "_order", "rule")
    )
    measured = {"quantity": plain("quantity"), "allowance": plain("allowance_units"), "excess": plain("excess")}
    members = {
        **({"rule": pl.col("rule")} if has_rules else {}),
        "metric": pl.col("metric"),
        "metric_title": with_rule_words(metric_title("metric", catalogue), catalogue),
        "unit": metric_text("metric", catalogue, "unit"),
        "decimals": decimals_of(pl.col("metric"), catalogue),
        "measure": metric_text("metric", catalogue, "measure"),
        "package_title": package_title("package", catalogue),
        "cycle_start": day("cycle_start"),
        "cycle_end": day("cycle_end"),
    }
    lists = (
        rows.select("subscription_id", billing_date="cycle_end", usage=entries_of_numbers(rows, members, measured))
        .group_by("subscription_id", "billing_date", maintain_order=True)
        .agg("usage")
    )
    return lists.with_columns(pl.format("[{}]", pl.col("usage").list.join(",")).alias("usage"))


@skip_if_empty("taxes")
def tax_list(
    taxes: pl.DataFrame, accounts: pl.DataFrame, tax_rates: pl.DataFrame, catalogue: Catalogue
) -> pl.DataFrame:
    """The keys and `taxes`: those of documents, of rows as `joined_taxes`, as JSON."""
    names = tax_names(tax_rates)
    taxes = with_language(taxes, accounts, catalogue, always=True) if names else taxes
    of_rate = ("reason", "taxed_as", "category", "exemption_reason", "exemption_code")
    entry = {
        "name": tax_name(names),
        "country": pl.col("country"),
        "region": pl.col("region"),
        "rate": plain("rate"),
        "taxable": money_text("taxable", catalogue),
        "amount": money_text("amount", catalogue),
        **{name: pl.col(name) for name in of_rate},
    }
    return written(taxes, KEYS, "taxes", entry, apart=pl.lit(value=False))


@skip_if_empty("documents")
@skip_if_empty("issued_documents")
def comparison(
    documents: pl.DataFrame,
    lines: pl.DataFrame,
    issued_documents: pl.DataFrame,
    issued_lines: pl.DataFrame,
    catalogue: Catalogue,
) -> pl.DataFrame:
    """Comparison with the account's previous document: answers "why is it higher this month?" (rule 23).

    `previous_date` is the day that the previous document bears.

    Parameters
    ----------
    issued_documents, issued_lines
        COMPARED_DOCUMENT and COMPARED_LINE of earlier ones.
    """
    earlier = (
        issued_documents.filter(pl.col("kind") == DocumentKind.INVOICE)
        .select("account_id", "number", "tax", "issued_on", previous_date="billing_date", previous_total="total")
        .sort("previous_date", "number")
    )
    compared = (
        documents.select(*KEYS, "total", "tax", "language")
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
                previous_date=day("issued_on"),
                previous_total=money_text("previous_total", catalogue),
                difference=money_text("difference", catalogue),
                movements=pl.col("movements").fill_null([]),
            ),
        )
    )


_FEES: Final = ("package_fee", "hold_fee")
_OTHERS: Final = (
    LineKind.PRORATION,
    LineKind.SEATS,
    LineKind.ADD_ON,
    LineKind.CHARGE,
    LineKind.PREPAYMENT,
    LineKind.MINIMUM_SPEND,
    LineKind.COUPON,
)
_METRIC: Final = "metric"
_LAST: Final = ("earlier_cycles", "tax")


@skip_if_empty("found")
def _movements(
    found: pl.DataFrame, lines: pl.DataFrame, issued_lines: pl.DataFrame, catalogue: Catalogue
) -> pl.DataFrame:
    """Changes per document against the previous one: fee, metrics, earlier cycles and tax."""
    what = pl.col("kind").replace_strict(
        {
            LineKind.PRIOR_CYCLE.value: "earlier_cycles",
            LineKind.HOLD_FEE.value: "hold_fee",
            LineKind.OVERAGE.value: _METRIC,
            **{kind.value: kind.value for kind in _OTHERS},
        },
        default="package_fee",
        return_dtype=pl.String,
    )
    metric = pl.when(what == _METRIC).then("metric")
    order = {name: position for position, name in enumerate((*_FEES, *_OTHERS[:3], _METRIC, *_OTHERS[3:], *_LAST))}
    metrics = {metric.name: position for position, metric in enumerate(catalogue.metrics)}
    nothing = pl.lit(0).cast(MONEY)
    # Group by row index and code: the keys themselves are strings, which are slower to hash.
    places = found.select(*KEYS, "number", "language", "tax", "previous_tax").with_row_index("_document")
    of_group = {"what": what.replace_strict(order, return_dtype=pl.UInt8), "metric": metric}
    now = lines.join(places, on=KEYS).select("_document", **of_group, current="amount", previous=nothing)
    then = issued_lines.join(places, on="number").select("_document", **of_group, current=nothing, previous="amount")
    tax = places.select(
        "_document",
        what=pl.lit(order["tax"], pl.UInt8),
        metric=pl.lit(None, pl.String),
        current="tax",
        previous="previous_tax",
    )
    return (
        pl.concat([now, then, tax])
        .group_by("_document", "what", "metric")
        .agg(pl.col("current").sum(), pl.col("previous").sum())
        .with_columns(difference=pl.col("current") - pl.col("previous"))
        .filter(pl.col("difference") != 0)
        .sort(
            "_document",
            "what",
            pl.col("metric").replace_strict(metrics, default=len(metrics), return_dtype=pl.Int32),
            "metric",
        )
        .with_columns(
            pl.col("what").replace_strict({place: name for name, place in order.items()}, return_dtype=pl.String)
        )
        .join(places.select("_document", *KEYS, "language"), on="_document", how="left", maintain_order="left")
        .group_by(KEYS, maintain_order=True)
        .agg(
            movements=pl.struct(
                what="what",
                metric="metric",
                metric_title=metric_title("metric", catalogue),
                previous=money_text("previous", catalogue),
                current=money_text("current", catalogue),
                difference=money_text("difference", catalogue),
            )
        )
    )
