"""The content of a document: everything its page shows, stored when it is issued (rule 19).

Rule 23: it says what exceeded, at which price and why, and answers "why is it higher this month?" on its own.
"""

from collections.abc import Sequence
from typing import Final

import polars as pl

from billing.catalogue import Catalogue, Tariff, terms_periods
from billing.money import minor_units
from billing.tables import CYCLES, MONEY, PART_OF_A_FEE

TEMPLATE_VERSION: Final = "1"
# documents that are written out at once: a page takes several times its text until it is one
_PIECE: Final = 20_000
_KEYS: Final = ["account_id", "subscription_id", "billing_date"]
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

# a line that settles nothing, is no part of a fee or has no bounds does not say so: documents keep their bytes
_NOT_SAID: Final = (',"settles":null', ',"part":null', ',"bounds":null', ',"gives_back":null', ',"taxed_as":null')


def contents(
    documents: pl.DataFrame,
    parts: list[pl.DataFrame],
    subscriptions: pl.DataFrame,
    cycles: pl.DataFrame | None,
    packages: pl.DataFrame,
    accounts: pl.DataFrame,
    catalogue: Catalogue,
) -> pl.DataFrame:
    """The keys and `content`: everything the page shows, as one line of JSON that begins with number and issued_on.

    `parts` hold lists of the page by the documents' keys; what no part brings is empty on the page.
    """
    frame = documents
    for part in parts:
        on = [key for key in _KEYS if key in part.columns]
        frame = frame.join(part, on=on, how="left", maintain_order="left")
    missing: dict[str, list[object] | None] = {
        "usage": [],
        "changes": [],
        "taxes": [],
        "comparison": None,
        "tax_note": None,
    }
    frame = frame.with_columns(
        pl.lit(value, pl.List(pl.Struct({})) if value == [] else pl.String).alias(name)
        for name, value in missing.items()
        if name not in frame.columns
    )
    cycles = CYCLES.empty() if cycles is None else cycles
    opening = pl.coalesce("opening_package", "closing_package")
    frame = (
        frame.join(accounts, on="account_id", how="left", maintain_order="left")
        .join(
            subscriptions.select("subscription_id", "started_on", "term"),
            on="subscription_id",
            how="left",
            maintain_order="left",
        )
        .join(
            cycles.select("subscription_id", "billing_date", "next_billing_date", "is_last"),
            on=["subscription_id", "billing_date"],
            how="left",
            maintain_order="left",
        )
        .join(
            packages.select("subscription_id", "billing_date", package=opening),
            on=["subscription_id", "billing_date"],
            how="left",
            maintain_order="left",
        )
    )
    text = pl.concat_str(
        _members(
            number=pl.lit(None, pl.String),
            issued_on=pl.lit(None, pl.String),
            template_version=pl.lit(TEMPLATE_VERSION),
            kind=pl.col("kind"),
            billing_month=pl.col("billing_month"),
            billing_date=_day("billing_date"),
            currency=pl.col("currency"),
            minor_units=pl.lit(minor_units(catalogue.currency)),
            locale=pl.col("locale").fill_null("en_US"),
            corrects=pl.col("corrects"),
            reason=pl.col("reason"),
        ),
        # the same on every page: written once
        pl.lit(pl.select(_seller(catalogue)).item()),
        _members(
            customer=pl.struct(
                account_id="account_id",
                name=pl.coalesce("name", "account_id"),
                email=pl.col("email").fill_null(""),
                # what is null is left out, too
                address=pl.concat_list(
                    "address_line1",
                    "address_line2",
                    pl.concat_str("postal_code", "city", "region", separator=" ", ignore_nulls=True),
                ).list.filter(pl.element() != ""),
                country=pl.col("country").fill_null(""),
                tax_id=pl.col("tax_id").fill_null(""),
            )
        ),
        _members(
            subscription=pl.struct(
                subscription_id="subscription_id",
                package="package",
                package_title=_title("package", catalogue),
                term="term",
                started_on=_day("started_on"),
                next_billing_date=pl.when(pl.col("is_last").eq_missing(False)).then(_day("next_billing_date")),
            )
        ),
        _without(_NOT_SAID, _members(lines=pl.col("lines"))),
        _members(
            usage=pl.col("usage").fill_null([]),
            changes=pl.col("changes").fill_null([]),
            comparison=pl.col("comparison"),
        ),
        _without(_NOT_SAID, _members(taxes=pl.col("taxes").fill_null([]))),
        _members(
            tax_note=pl.col("tax_note"),
            net=_money_text("net", catalogue),
            tax=_money_text("tax", catalogue),
            total=_money_text("total", catalogue),
            notes=pl.lit([], pl.List(pl.String)),
        ),
        separator=",",
    )
    text = pl.concat_str(pl.lit("{"), text, pl.lit("}"))
    written = [piece.select(*_KEYS, content=text) for piece in frame.iter_slices(_PIECE)]
    return pl.concat([frame.clear().select(*_KEYS, content=pl.lit("")), *written])


def _seller(catalogue: Catalogue) -> pl.Expr:
    seller = catalogue.seller
    return _members(
        seller=pl.struct(
            name=pl.lit(seller.name),
            address=pl.lit(list(seller.address), pl.List(pl.String)),
            country=pl.lit(seller.country),
            tax_id=pl.lit(seller.tax_id),
            support_email=pl.lit(seller.support_email),
            billing_policy_url=pl.lit(seller.billing_policy_url),
        )
    )


def _members(**values: pl.Expr) -> pl.Expr:
    """Members of a JSON object, without its braces: in parts they are written out faster than as one object."""
    named = [value.alias(name) for name, value in values.items()]
    return pl.struct(named).struct.json_encode().str.strip_prefix("{").str.strip_suffix("}")


def _without(phrases: Sequence[str], text: pl.Expr) -> pl.Expr:
    for phrase in phrases:
        text = text.str.replace_all(phrase, "", literal=True)
    return text


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
            kind=pl.lit("overage"),
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
        package_title=_title("package", catalogue),
        cycle_start=_day("cycle_start"),
        cycle_end=_day("cycle_end"),
        quantity=_plain("quantity"),
        allowance=_plain("allowance"),
        excess=_plain("excess"),
        billed_units=_plain("billed_units"),
        unit_price=_plain("unit_price"),
        amount=_money_text("amount", catalogue),
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
    return lines.group_by(_KEYS, maintain_order=True).agg(lines=entry)


def usage_list(documents: pl.DataFrame, rated: pl.DataFrame, catalogue: Catalogue) -> pl.DataFrame:
    """Usage of the cycle that ended against its allowance, as the catalogue lists the metrics."""
    order = {metric.name: position for position, metric in enumerate(catalogue.metrics)}
    entry = pl.struct(
        metric="metric",
        metric_title=_metric_text("metric", catalogue, "title"),
        unit=_metric_text("metric", catalogue, "unit"),
        measure=_metric_text("metric", catalogue, "measure"),
        package_title=_title("package", catalogue),
        cycle_start=_day("cycle_start"),
        cycle_end=_day("cycle_end"),
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
    why = decisions.filter(
        (pl.col("outcome") == "approved") & pl.col("kind").is_in(["auto_upgrade", "upgrade", "downgrade"])
    ).select("subscription_id", "explanation", "evidence", billing_date="effective_on")
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
        to_title=_title("opening_package", catalogue),
        effective_on=_day("billing_date"),
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
        taxable=_money_text("taxable", catalogue),
        amount=_money_text("amount", catalogue),
        reason="reason",
        taxed_as="taxed_as",
    )
    note = (
        pl.when((pl.col("reason") == "exempt").any())
        .then(pl.lit("Exempt from tax."))
        .when((pl.col("reason") == "reverse_charge").any())
        .then(pl.lit("Reverse charge: the customer accounts for the tax."))
    )
    return taxes.group_by(_KEYS, maintain_order=True).agg(taxes=entry, tax_note=note)


def comparison(
    documents: pl.DataFrame,
    lines: pl.DataFrame,
    issued_documents: pl.DataFrame,
    issued_lines: pl.DataFrame,
    catalogue: Catalogue,
) -> pl.DataFrame:
    """What moved since the account's document before: it answers "why is it higher this month?" (rule 23)."""
    earlier = (
        issued_documents.filter(pl.col("kind") == "invoice")
        .select("account_id", "number", "tax", previous_date="billing_date", previous_total="total")
        .sort("previous_date", "number")
    )
    found = (
        documents.select(*_KEYS, "total", "tax")
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
    label = (
        pl.when(pl.col("kind") == "prior_cycle")
        .then(pl.lit("Earlier cycles"))
        .when(pl.col("kind") == "hold_fee")
        .then(pl.lit("Hold fee"))
        .when(pl.col("kind") == "overage")
        .then(_metric_text("metric", catalogue, "title"))
        .otherwise(pl.lit("Package fee"))
    )
    kinds = {"Package fee": 0, "Hold fee": 1, "Earlier cycles": 900, "Tax": 901}
    order = kinds | {metric.title: 2 + position for position, metric in enumerate(catalogue.metrics)}
    nothing = pl.lit(0).cast(MONEY)
    now = lines.join(found.select(_KEYS), on=_KEYS, how="semi").select(
        *_KEYS, label=label, current="amount", previous=nothing
    )
    then = issued_lines.join(found.select(*_KEYS, "number"), on="number").select(
        *_KEYS, label=label, current=nothing, previous="amount"
    )
    tax = found.select(*_KEYS, label=pl.lit("Tax"), current="tax", previous="previous_tax")
    movements = (
        pl.concat([now, then, tax])
        .group_by(*_KEYS, "label")
        .agg(pl.col("current").sum(), pl.col("previous").sum())
        .with_columns(difference=pl.col("current") - pl.col("previous"))
        .filter(pl.col("difference") != 0)
        .sort(*_KEYS, pl.col("label").replace_strict(order, default=800, return_dtype=pl.Int32), "label")
        .group_by(_KEYS, maintain_order=True)
        .agg(
            movements=pl.struct(
                label="label",
                previous=_money_text("previous", catalogue),
                current=_money_text("current", catalogue),
                difference=_money_text("difference", catalogue),
            )
        )
    )
    return (
        found.join(movements, on=_KEYS, how="left")
        .with_columns(difference=pl.col("total") - pl.col("previous_total"))
        .select(
            *_KEYS,
            comparison=pl.struct(
                previous_number="number",
                previous_date=_day("previous_date"),
                previous_total=_money_text("previous_total", catalogue),
                difference=_money_text("difference", catalogue),
                movements=pl.col("movements").fill_null([]),
            ),
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


def _money_text(column: str, catalogue: Catalogue) -> pl.Expr:
    """An amount, rounded already, with the minor unit's decimals: 164.00."""
    return pl.col(column).cast(pl.Decimal(38, catalogue.minor_units)).cast(pl.String)


def _price_text(column: str, catalogue: Catalogue) -> pl.Expr:
    """A price with all its decimals, and at least those of the minor unit: 99.00, 0.003."""
    price = pl.col(column)
    rounded = price.cast(pl.Decimal(38, catalogue.minor_units))
    return pl.when(price == rounded).then(rounded.cast(pl.String)).otherwise(plain_text(price))


def _day(column: str) -> pl.Expr:
    return pl.col(column).dt.to_string("%Y-%m-%d")


def _title(column: str, catalogue: Catalogue) -> pl.Expr:
    return _title_of(pl.col(column), catalogue)


def _title_of(package: pl.Expr, catalogue: Catalogue) -> pl.Expr:
    return package.replace({package.name: package.title for package in catalogue.packages})


def _metric_text(column: str, catalogue: Catalogue, what: str) -> pl.Expr:
    return _named(pl.col(column), catalogue, what)


def _named(metric: pl.Expr, catalogue: Catalogue, what: str) -> pl.Expr:
    """A metric's title, unit or measure; null where the metric is null or has none."""
    names = {metric.name: getattr(metric, what) for metric in catalogue.metrics}
    return metric.replace_strict(names, default=None, return_dtype=pl.String)
