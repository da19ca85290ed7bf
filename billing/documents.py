"""Drafts: the documents that are due on the open billing dates of a month, with everything their pages show.

A draft bills what fell due on its own date and, as prior-cycle lines, every difference between what is due and what
has been issued for dates that are closed (rules 19, 20, 23 and 24).
"""

from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from billing.calendar import Grid, first_day, month_number
from billing.catalogue import Catalogue, Tariff, terms_periods
from billing.money import minor_units
from billing.register import hash_content
from billing.tables import CYCLES, DRAFT_LINES, DRAFT_TAXES, DRAFTS, DUES, MONEY, PACKAGES
from billing.tax import document_taxes, taxes_of_note

TEMPLATE_VERSION: Final = "1"
_KEYS: Final = ["account_id", "subscription_id", "billing_date"]
_DUE_KINDS: Final = ["package_fee", "hold_fee", "overage"]
_TIER: Final = pl.Struct({"up_to": pl.String, "unit_price": pl.String, "flat": pl.String})
_TARIFF: Final = pl.Struct({"model": pl.String, "size": pl.String, "tiers": pl.List(_TIER)})


@dataclass(frozen=True)
class Drafts:
    """The tables DRAFTS, DRAFT_LINES and DRAFT_TAXES of a month."""

    documents: pl.DataFrame
    lines: pl.DataFrame
    taxes: pl.DataFrame


@dataclass(frozen=True)
class Issued:
    """What the register knows when a month is drafted.

    Attributes
    ----------
    closed
        subscription_id, billing_date: of all months up to this one.
    amounts
        As `Register.issued_amounts` of everything due before this month.
    documents, lines
        Documents (without status) and lines of this month and the month before.
    closed_through, closed_through_before
        The day up to which this month, and the month before, were closed; None when never.
    """

    closed: pl.DataFrame
    amounts: pl.DataFrame
    documents: pl.DataFrame
    lines: pl.DataFrame
    closed_through: Any
    closed_through_before: Any


def draft_month(
    month: str,
    subscriptions: pl.DataFrame,
    cycles: pl.DataFrame,
    packages: pl.DataFrame,
    decisions: pl.DataFrame,
    rated: pl.DataFrame,
    dues: pl.DataFrame,
    earlier_dues: pl.LazyFrame,
    accounts: pl.DataFrame,
    tax_rates: pl.DataFrame,
    issued: Issued,
    catalogue: Catalogue,
) -> Drafts:
    """The drafts of a month's open billing dates, and of the settlement dates of subscriptions that have ended.

    Parameters
    ----------
    dues, earlier_dues
        The table DUES of the month, and of all months before it.
    """
    open_dates = cycles.join(issued.closed, on=["subscription_id", "billing_date"], how="anti")
    own = dues.join(issued.closed, on=["subscription_id", "billing_date"], how="anti").with_columns(
        due_on="billing_date", due_kind="kind"
    )
    prior = _prior_lines(month, subscriptions, open_dates, earlier_dues, issued, catalogue)
    lines = _numbered_lines(pl.concat([own.select(prior.columns), prior]), catalogue)
    documents = (
        lines.group_by(_KEYS, maintain_order=True)
        .agg(net=pl.col("amount").sum(), _billable=(pl.col("amount") != 0).any())
        # nothing due: no document
        .filter("_billable")
        .drop("_billable")
    )
    lines = lines.join(documents.select(_KEYS), on=_KEYS, how="semi", maintain_order="left")
    taxes = document_taxes(documents, accounts, tax_rates, catalogue)
    tax_sums = taxes.group_by(_KEYS).agg(tax=pl.col("amount").sum())
    documents = (
        documents.join(tax_sums, on=_KEYS, how="left", maintain_order="left")
        .with_columns(pl.col("tax").fill_null(0).cast(MONEY))
        .with_columns(
            total=pl.col("net") + pl.col("tax"),
            # a negative document is a credit note
            kind=pl.when(pl.col("net") < 0).then(pl.lit("credit_note")).otherwise(pl.lit("invoice")),
            billing_month=pl.lit(month),
            issued_on=pl.lit(None, pl.Date),
            currency=pl.lit(catalogue.currency),
            corrects=pl.lit(None, pl.String),
            reason=pl.lit(None, pl.String),
        )
    )
    parts = [
        _line_list(lines, rated, catalogue),
        _usage_list(documents, rated, catalogue),
        _change_list(packages, decisions, catalogue),
        _tax_list(taxes, catalogue),
        _comparison(documents, lines, issued, catalogue),
    ]
    content = _contents(documents, parts, subscriptions, cycles, packages, accounts, catalogue)
    return _drafts(month, documents, lines, taxes, content)


def refund_notes(
    month: str,
    refunds: pl.DataFrame,
    subscriptions: pl.DataFrame,
    documents: pl.DataFrame,
    lines: pl.DataFrame,
    taxes: pl.DataFrame,
    accounts: pl.DataFrame,
    catalogue: Catalogue,
) -> Drafts:
    """Credit notes for approved refunds: the package fee of the first document with its tax (rule 14).

    Parameters
    ----------
    refunds
        subscription_id of approved refunds.
    documents, lines, taxes
        Issued in the month: only a document that has been issued can be corrected, and only once.
    """
    first = (
        documents.filter(pl.col("corrects").is_null())
        .join(
            subscriptions.select("subscription_id", billing_date="grid_start"), on=["subscription_id", "billing_date"]
        )
        .join(refunds.select("subscription_id"), on="subscription_id", how="semi")
        .join(documents.select(number="corrects").drop_nulls(), on="number", how="anti")
    )
    fee_lines = lines.filter(pl.col("kind") == "package_fee").join(first.select(*_KEYS, "number"), on="number")
    paid_back = fee_lines.with_columns(
        kind=pl.lit("refund"),
        due_kind=pl.lit("refund"),
        amount=-pl.col("amount"),
        line=pl.int_range(1, pl.len() + 1, dtype=pl.Int32).over("number"),
        description=pl.format("Refund of {}", "description"),
    ).filter(pl.col("amount") != 0)
    notes = first.join(
        paid_back.group_by("number").agg(refunded=pl.col("amount").sum()), on="number", maintain_order="left"
    ).with_columns(net="refunded")
    # a note uses the rates of the document it corrects (rule 24)
    note_taxes = taxes_of_note(notes, taxes, catalogue)
    notes = (
        notes.drop("tax", "total")
        .join(note_taxes.group_by(_KEYS).agg(tax=pl.col("amount").sum()), on=_KEYS, how="left", maintain_order="left")
        .with_columns(pl.col("tax").fill_null(0).cast(MONEY))
        .with_columns(
            total=pl.col("net") + pl.col("tax"),
            kind=pl.lit("credit_note"),
            billing_month=pl.lit(month),
            issued_on=pl.lit(None, pl.Date),
            corrects="number",
            reason=pl.lit("Refund within the refund window."),
        )
    )
    content = _contents(
        notes,
        [_line_list(paid_back, None, catalogue), _tax_list(note_taxes, catalogue)],
        subscriptions,
        None,
        None,
        accounts,
        catalogue,
    )
    return _drafts(month, notes, paid_back, note_taxes, content)


def _drafts(
    month: str, documents: pl.DataFrame, lines: pl.DataFrame, taxes: pl.DataFrame, content: pl.DataFrame
) -> Drafts:
    hashes = pl.Series("content_hash", [hash_content(text) for text in content["content"]], pl.String)
    documents = documents.drop("content_hash", strict=False).join(
        content.with_columns(hashes), on=_KEYS, how="left", maintain_order="left"
    )
    return Drafts(
        DRAFTS.conform(documents),
        DRAFT_LINES.conform(lines.with_columns(billing_month=pl.lit(month))),
        DRAFT_TAXES.conform(taxes.with_columns(billing_month=pl.lit(month))),
    )


def _prior_lines(
    month: str,
    subscriptions: pl.DataFrame,
    open_dates: pl.DataFrame,
    earlier_dues: pl.LazyFrame,
    issued: Issued,
    catalogue: Catalogue,
) -> pl.DataFrame:
    """What is due less what has been issued, of closed dates, as lines on each subscription's next open document."""
    keys = ["account_id", "subscription_id", "billing_date", "kind", "metric"]
    due = (
        earlier_dues.join(issued.closed.lazy(), on=["subscription_id", "billing_date"], how="semi")
        .select(DUES.column_names)
        .collect()
    )
    due_sum = due.group_by(keys).agg(
        pl.col("amount").sum().alias("due"),
        *(pl.col(name).first() for name in ("package", "cycle_start", "cycle_end", "quantity", "allowance", "excess")),
    )
    both = due_sum.join(
        issued.amounts, on=keys, how="full", coalesce=True, nulls_equal=True, suffix="_issued"
    ).with_columns(pl.col("due", "issued").fill_null(0).cast(MONEY))
    targets = _next_open_dates(month, subscriptions, open_dates, issued, catalogue)
    titles = {metric.name: metric.title for metric in catalogue.metrics}
    fee = pl.when(pl.col("kind") == "hold_fee").then(pl.lit("Hold fee")).otherwise(pl.lit("Package fee"))
    what = pl.when(pl.col("kind") == "overage").then(pl.col("metric").replace(titles)).otherwise(fee)
    return (
        both.filter(pl.col("due") != pl.col("issued"))
        .join(targets, on="subscription_id")
        .select(
            "account_id",
            "subscription_id",
            billing_date="target",
            kind=pl.lit("prior_cycle"),
            due_on="billing_date",
            due_kind="kind",
            metric="metric",
            package=pl.coalesce("package", "package_issued"),
            cycle_start=pl.coalesce("cycle_start", "cycle_start_issued"),
            cycle_end=pl.coalesce("cycle_end", "cycle_end_issued"),
            quantity="quantity",
            allowance="allowance",
            excess="excess",
            billed_units=pl.lit(None, DUES.schema["billed_units"]),
            unit_price=pl.lit(None, DUES.schema["unit_price"]),
            amount=pl.col("due") - pl.col("issued"),
            description=pl.format(
                "{} of an earlier cycle: {} due, {} billed before",
                what,
                _money_text("due", catalogue),
                _money_text("issued", catalogue),
            ),
        )
    )


def _next_open_dates(
    month: str, subscriptions: pl.DataFrame, open_dates: pl.DataFrame, issued: Issued, catalogue: Catalogue
) -> pl.DataFrame:
    """subscription_id, target: the month's date on which differences are billed, where it is the next open one.

    A subscription that has ended is settled on what would have been its later billing dates (rule 20).
    """
    closed = issued.closed.select("subscription_id", previous="billing_date", was_closed=pl.lit(True))
    live = (
        open_dates.select("subscription_id", "billing_index", target="billing_date", previous="cycle_start")
        .join(closed, on=["subscription_id", "previous"], how="left")
        .filter((pl.col("billing_index") == 0) | pl.col("was_closed"))
        .select("subscription_id", "target")
    )
    grid = Grid.of(catalogue.policy)
    start = pl.col("grid_start")
    k = month_number(pl.lit(first_day(month))) - month_number(start)
    settled = (
        subscriptions.with_columns(target=grid.date(start, k), previous=grid.date(start, k - 1))
        .filter(pl.col("target") > pl.col("last_billing_date"))
        .filter((pl.col("target") > pl.lit(issued.closed_through, pl.Date)).fill_null(True))
        .join(closed, on=["subscription_id", "previous"], how="left")
        .filter(
            pl.col("was_closed").fill_null(False)
            | (
                (pl.col("previous") > pl.col("last_billing_date"))
                & (pl.col("previous") <= pl.lit(issued.closed_through_before, pl.Date)).fill_null(False)
            )
        )
        .select("subscription_id", "target")
    )
    return pl.concat([live, settled])


def _numbered_lines(lines: pl.DataFrame, catalogue: Catalogue) -> pl.DataFrame:
    """Lines in the order of the page: fee first, overages as the catalogue lists metrics, earlier cycles last."""
    kinds = {"package_fee": 0, "hold_fee": 1, "overage": 2, "prior_cycle": 3}
    metrics = {metric.name: position for position, metric in enumerate(catalogue.metrics)}
    return (
        lines.with_columns(
            _kind=pl.col("kind").replace_strict(kinds, return_dtype=pl.Int32),
            _metric=pl.col("metric").replace_strict(metrics, default=-1, return_dtype=pl.Int32),
            _due_kind=pl.col("due_kind").replace_strict(kinds, return_dtype=pl.Int32),
        )
        .sort("billing_date", "account_id", "subscription_id", "_kind", "due_on", "_due_kind", "_metric", "cycle_start")
        .with_columns(line=pl.int_range(1, pl.len() + 1, dtype=pl.Int32).over(_KEYS))
        .drop("_kind", "_metric", "_due_kind")
    )


def _contents(
    documents: pl.DataFrame,
    parts: list[pl.DataFrame],
    subscriptions: pl.DataFrame,
    cycles: pl.DataFrame | None,
    packages: pl.DataFrame | None,
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
    packages = PACKAGES.empty() if packages is None else packages
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
    seller = catalogue.seller
    content = pl.struct(
        number=pl.lit(None, pl.String),
        issued_on=pl.lit(None, pl.String),
        template_version=pl.lit(TEMPLATE_VERSION),
        kind="kind",
        billing_month="billing_month",
        billing_date=_day("billing_date"),
        currency="currency",
        minor_units=pl.lit(minor_units(catalogue.currency)),
        locale=pl.col("locale").fill_null("en_US"),
        corrects="corrects",
        reason="reason",
        seller=pl.struct(
            name=pl.lit(seller.name),
            address=pl.lit(list(seller.address), pl.List(pl.String)),
            country=pl.lit(seller.country),
            tax_id=pl.lit(seller.tax_id),
            support_email=pl.lit(seller.support_email),
            billing_policy_url=pl.lit(seller.billing_policy_url),
        ),
        customer=pl.struct(
            account_id="account_id",
            name=pl.coalesce("name", "account_id"),
            email=pl.col("email").fill_null(""),
            address=pl.concat_list(
                "address_line1",
                "address_line2",
                pl.concat_str("postal_code", "city", "region", separator=" ", ignore_nulls=True),
            )
            .list.drop_nulls()
            .list.eval(pl.element().filter(pl.element() != "")),
            country=pl.col("country").fill_null(""),
            tax_id=pl.col("tax_id").fill_null(""),
        ),
        subscription=pl.struct(
            subscription_id="subscription_id",
            package="package",
            package_title=_title("package", catalogue),
            term="term",
            started_on=_day("started_on"),
            next_billing_date=pl.when(pl.col("is_last").eq_missing(False)).then(_day("next_billing_date")),
        ),
        lines="lines",
        usage=pl.col("usage").fill_null([]),
        changes=pl.col("changes").fill_null([]),
        comparison="comparison",
        taxes=pl.col("taxes").fill_null([]),
        tax_note="tax_note",
        net=_money_text("net", catalogue),
        tax=_money_text("tax", catalogue),
        total=_money_text("total", catalogue),
        notes=pl.lit([], pl.List(pl.String)),
    )
    return frame.select(*_KEYS, content=content.struct.json_encode())


def _line_list(lines: pl.DataFrame, rated: pl.DataFrame | None, catalogue: Catalogue) -> pl.DataFrame:
    if rated is None:
        return _line_entries(lines.with_columns(tariff=pl.lit(None, _TARIFF)), catalogue)
    tariffs = rated.select("subscription_id", "cycle_start", "metric", "terms_key", "package", "since").join(
        _tariffs(catalogue), on=["terms_key", "package", "since", "metric"], how="left"
    )
    detailed = lines.join(
        tariffs.select("subscription_id", "cycle_start", "metric", "tariff", kind=pl.lit("overage")),
        on=["subscription_id", "cycle_start", "metric", "kind"],
        how="left",
        maintain_order="left",
    )
    return _line_entries(detailed, catalogue)


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
    )
    return lines.group_by(_KEYS, maintain_order=True).agg(lines=entry)


def _usage_list(documents: pl.DataFrame, rated: pl.DataFrame, catalogue: Catalogue) -> pl.DataFrame:
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


def _change_list(packages: pl.DataFrame, decisions: pl.DataFrame, catalogue: Catalogue) -> pl.DataFrame:
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
            quantity=_plain_expression(pl.element().struct.field("quantity")),
            allowance=_plain_expression(pl.element().struct.field("allowance")),
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


def _tax_list(taxes: pl.DataFrame, catalogue: Catalogue) -> pl.DataFrame:
    entry = pl.struct(
        name="name",
        country="country",
        region="region",
        rate=_plain("rate"),
        taxable=_money_text("taxable", catalogue),
        amount=_money_text("amount", catalogue),
        reason="reason",
    )
    note = (
        pl.when((pl.col("reason") == "exempt").any())
        .then(pl.lit("Exempt from tax."))
        .when((pl.col("reason") == "reverse_charge").any())
        .then(pl.lit("Reverse charge: the customer accounts for the tax."))
    )
    return taxes.group_by(_KEYS, maintain_order=True).agg(taxes=entry, tax_note=note)


def _comparison(documents: pl.DataFrame, lines: pl.DataFrame, issued: Issued, catalogue: Catalogue) -> pl.DataFrame:
    """What moved since the account's document before: it answers "why is it higher this month?" (rule 23)."""
    earlier = (
        issued.documents.filter(pl.col("kind") == "invoice")
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
    then = issued.lines.join(found.select(*_KEYS, "number"), on="number").select(
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


def _tariffs(catalogue: Catalogue) -> pl.DataFrame:
    """terms_key, package, since, metric, tariff: as the page shows it."""
    rows = [
        {"terms_key": p.account_id, "package": p.package, "since": p.since, "metric": metric, "tariff": _tariff(tariff)}
        for p in terms_periods(catalogue)
        for metric, tariff in p.terms.overage.items()
        if tariff is not None
    ]
    return pl.DataFrame(
        rows,
        schema={"terms_key": pl.String, "package": pl.String, "since": pl.Date, "metric": pl.String, "tariff": _TARIFF},
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
    return _plain_expression(pl.col(column))


def _plain_expression(value: pl.Expr) -> pl.Expr:
    """A decimal as text without trailing zeros: 61.2, 27350."""
    return value.cast(pl.String).str.strip_chars_end("0").str.strip_chars_end(".")


def _money_text(column: str, catalogue: Catalogue) -> pl.Expr:
    """An amount, rounded already, with the minor unit's decimals: 164.00."""
    return pl.col(column).cast(pl.Decimal(38, catalogue.minor_units)).cast(pl.String)


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
