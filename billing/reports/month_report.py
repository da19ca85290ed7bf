"""Month report: totals, changes and their causes, decisions, corrections.

Everything is as of the month's last day, or an earlier as-of day: the report of a past month is the same whenever it is
written. It includes drafts that are not issued yet.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Final

import polars as pl

from billing.ingest import event_files, scan_event_files, scan_events
from billing.ingest.volumes import rejects_by_source, volumes
from billing.model.calendar import first_day, last_day, months_after, months_between
from billing.model.codes import Age, LineKind, Term
from billing.model.columns import MONEY, RATE, Table
from billing.model.money import minor_units, round_fraction
from billing.model.quantities import in_units, unit_billionths
from billing.model.tables import CHARGES, DECISIONS, DRAFT_LINES, DRAFTS, PACKAGES, REJECTS
from billing.month.business import Business
from billing.month.credits import month_credits
from billing.reports.month_by_kind import billed_by_kind
from billing.reports.month_report_checks import Statement, checks_of_month
from billing.reports.totals_histogram import totals_histogram
from billing.reports.what_if.shadow import Shadow, shadow_of_month
from billing.rules.balances import amounts_to_collect
from billing.rules.receivables import is_of_a_document
from billing.store.frames import scan_frames
from billing.store.monthly import read_month

CAUSES: Final = (
    "new customers",
    "customers without a bill now",
    "moved to a larger package",
    "moved to a smaller package",
    "fee of the same package",
    "fees of yearly terms",
    "overage",
    "corrections and refunds",
    "tax",
)
AGES: Final = tuple(Age)
_MOVEMENTS: Final = 10
_LONGEST_NAME: Final = 60
_ZERO: Final = pl.lit(0).cast(MONEY)
_RATE_DECIMALS: Final = 9
_AMOUNTS: Final = ("fees", "overage", "other", "tax", "total")
_COMPARED: Final = (*_AMOUNTS, "yearly")


@dataclass(frozen=True)
class Figures:
    """What a report adds up of one currency; money is MONEY, quantities are in the metric's unit.

    Attributes
    ----------
    by_package
        package, accounts, fees, overage, other, tax, total, before, change: a document belongs to the package whose fee
        stands on it. Sorted by the packages' rank.
    by_metric
        metric, accounts_over, excess, overage, before, change.
    causes
        cause, accounts, change: they add up to the change of the total.
    movements
        account_id, name, before, now, change: the accounts whose total changed most.
    corrections
        what, documents, total: notes, and lines of earlier cycles.
    receivables
        age, documents, amount_due.
    credits
        As `month_credits`; empty where no credit was ever granted.
    spread
        bound, documents: how many documents are up to an amount and over the bound before it.
    by_kind
        As `billed_by_kind`.
    """

    by_package: pl.DataFrame
    by_metric: pl.DataFrame
    causes: pl.DataFrame
    movements: pl.DataFrame
    corrections: pl.DataFrame
    receivables: pl.DataFrame
    credits: pl.DataFrame
    spread: pl.DataFrame
    by_kind: pl.DataFrame


@dataclass(frozen=True)
class MonthReport(Figures):
    """The frames of a report; its own figures are those of the catalogue's currency.

    Attributes
    ----------
    on
        The day of which receivables and exchange rates are said.
    others
        The figures of other currencies, by code (rule 36).
    by_currency
        As `totals_in_one_currency`; empty where there is one currency.
    shadow
        As `shadow_of_month`; None where the policy names no candidate.
    decisions
        kind, outcome, decisions.
    flow
        from_package, to_package, subscriptions: the changes of package.
    by_day
        day, events, late: late is what was delivered later than the day after.
    late
        metric, events, quantity, settled: late usage that was delivered in the month; settled is what lines of earlier
        cycles bill of the metric.
    rejected
        reason, metric, rows, quantity: usage that was set aside in the month.
    sources
        As `volumes`: what each source delivered in the month; empty where the catalogue has no sources.
    rejected_by_source
        source_name, reason, rows; likewise.
    """

    month: str
    on: date
    documents: int
    drafts: int
    decisions: pl.DataFrame
    flow: pl.DataFrame
    by_day: pl.DataFrame
    late: pl.DataFrame
    rejected: pl.DataFrame
    sources: pl.DataFrame
    rejected_by_source: pl.DataFrame
    checks: tuple[Statement, ...]
    others: Mapping[str, Figures] = field(default_factory=dict)
    by_currency: pl.DataFrame = field(default_factory=pl.DataFrame)
    shadow: Shadow | None = None


def month_report(business: Business, month: str) -> MonthReport:
    """The report of a month that has been computed."""
    on = min(business.as_of, last_day(month))
    # Without sources there is nothing to tell of them: read no manifests.
    since, through = (first_day(month), on) if business.catalogue.sources else (date.max, date.min)
    # The catalogue's currency comes first.
    parts = business.by_currency
    figures = {part.catalogue.currency: _figures(part, month, on) for part in parts}
    billed = _billed(business, month)
    own, others = figures[business.catalogue.currency], dict(list(figures.items())[1:])
    rates = business.inputs.exchange_rates.filter(pl.col("on") <= on)
    return MonthReport(
        **vars(own),
        month=month,
        on=on,
        documents=billed.filter(~pl.col("is_draft")).height,
        drafts=billed.filter("is_draft").height,
        decisions=_read(business, DECISIONS, month)
        .group_by("kind", "outcome")
        .agg(decisions=pl.len())
        .sort("kind", "outcome"),
        flow=_read(business, PACKAGES, month)
        # A change in the trial has no billed package before it.
        .filter(pl.all_horizontal(pl.col("change_reason", "closing_package", "opening_package").is_not_null()))
        .group_by(from_package="closing_package", to_package="opening_package")
        .agg(subscriptions=pl.len())
        .sort("from_package", "to_package"),
        by_day=_by_day(business, month),
        late=_late(business, month, _lines(parts[0], month)),
        rejected=_rejected(business, month),
        sources=volumes(business.home, since, through),
        rejected_by_source=rejects_by_source(business.home, since, through),
        checks=tuple(checks_of_month(business, month, on)),
        others=others,
        by_currency=totals_in_one_currency(figures, rates, business.catalogue.currency) if others else pl.DataFrame(),
        shadow=shadow_of_month(business, month, on),
    )


def _figures(business: Business, month: str, on: date) -> Figures:
    before = months_after(month, -1)
    now, then = _billed(business, month), _billed(business, before)
    return Figures(
        by_package=_by_package(now, then, business),
        by_metric=_by_metric(business, month, before),
        causes=_causes(now, then, business, month),
        movements=_movements(now, then, business),
        corrections=_corrections(now, _lines(business, month)),
        receivables=_receivables(business, month, on),
        credits=month_credits(business, first_day(month), on),
        spread=totals_histogram(now),
        by_kind=billed_by_kind(_lines(business, month)),
    )


def totals_in_one_currency(figures: Mapping[str, Figures], rates: pl.DataFrame, own: str) -> pl.DataFrame:
    """What was billed in each currency, and what that is in the catalogue's.

    Parameters
    ----------
    rates
        As `Inputs.exchange_rates`, up to a day: the latest of each currency holds.

    Returns
    -------
    polars.DataFrame
        currency, total, before, change (MONEY: each in its currency), rate, rate_on, in_own (MONEY; all three null
        where there is no rate).
    """
    latest = rates.filter(pl.col("to") == own).sort("on").unique("currency", keep="last", maintain_order=True)
    sums = pl.DataFrame(
        [
            (code, *of.by_package.select(pl.col("total", "before", "change").sum()).row(0))
            for code, of in figures.items()
        ],
        schema={"currency": pl.String, **dict.fromkeys(("total", "before", "change"), MONEY)},
        orient="row",
    )
    known = sums.join(latest.select("currency", "rate", rate_on="on"), on="currency", how="left", maintain_order="left")
    # As of the tax in another currency: rates are below 10^6 with 9 decimals.
    rate = pl.col("rate").to_physical().cast(pl.Int128) // 10 ** (RATE.scale - _RATE_DECIMALS)
    product = pl.col("total").to_physical().cast(pl.Int128) * rate
    unit = pl.lit(10 ** (MONEY.scale + _RATE_DECIMALS), pl.Int128)
    is_own = pl.col("currency") == own
    return known.with_columns(
        in_own=pl.when(is_own).then("total").otherwise(round_fraction(product, unit, minor_units(own) or 0))
    )


def _billed(business: Business, month: str) -> pl.DataFrame:
    """A row per document or draft: account_id, package, kind, is_draft, corrects and the amounts.

    `yearly` is the part of the fees for yearly terms: due once in twelve months.
    """
    keys = ["subscription_id", "billing_date", "number"]
    terms = business.lives.subscriptions.select("subscription_id", "term").unique("subscription_id")
    lines = _lines(business, month).join(terms, on="subscription_id", how="left", maintain_order="left")
    amount, kind = pl.col("amount"), pl.col("kind")
    is_fee, is_overage = kind.is_in([LineKind.PACKAGE_FEE, LineKind.HOLD_FEE]), kind == LineKind.OVERAGE
    sums = lines.group_by(keys).agg(
        package=pl.coalesce(
            pl.col("package").filter(is_fee & pl.col("package").is_not_null()).first(),
            pl.col("package").drop_nulls().first(),
        ),
        fees=amount.filter(is_fee).sum(),
        yearly=amount.filter(is_fee & (pl.col("term") == Term.YEARLY)).sum(),
        overage=amount.filter(is_overage).sum(),
        other=amount.filter(~is_fee & ~is_overage).sum(),
    )
    columns = ["account_id", "subscription_id", "billing_date", "kind", "corrects", "tax", "total"]
    drafts = _read(business, DRAFTS, month, columns)
    documents = pl.concat(
        [
            business.rows(business.register.documents([month])).select(*columns, "number", is_draft=pl.lit(False)),
            drafts.select(*columns, number=pl.lit(None, pl.String), is_draft=pl.lit(True)),
        ]
    )
    return documents.join(sums, on=keys, how="left", nulls_equal=True).with_columns(
        pl.col("fees", "yearly", "overage", "other").fill_null(_ZERO), package=pl.col("package").fill_null("")
    )


def _lines(business: Business, month: str) -> pl.DataFrame:
    """The lines of documents and drafts: number (null on a draft), subscription_id, billing_date, and of the line."""
    columns = ["subscription_id", "billing_date", "number", "kind", "metric", "package", "amount"]
    dated = business.rows(business.register.documents([month])).select("number", "subscription_id", "billing_date")
    issued = business.register.lines([month]).join(dated, on="number", maintain_order="left")
    drafted = _read(business, DRAFT_LINES, month).with_columns(number=pl.lit(None, pl.String))
    return pl.concat([issued.select(columns), drafted.select(columns)])


def _by_package(now: pl.DataFrame, then: pl.DataFrame, business: Business) -> pl.DataFrame:
    sums = now.group_by("package").agg(pl.col("account_id").n_unique().alias("accounts"), pl.col(_AMOUNTS).sum())
    earlier = then.group_by("package").agg(before=pl.col("total").sum())
    ranks = {package.name: package.rank for package in business.catalogue.packages}
    return (
        sums.join(earlier, on="package", how="full", coalesce=True)
        .with_columns(pl.col("accounts").fill_null(0), pl.col(*_AMOUNTS, "before").fill_null(_ZERO))
        .with_columns(change=pl.col("total") - pl.col("before"))
        .sort(pl.col("package").replace_strict(ranks, default=0, return_dtype=pl.Int64), "package")
    )


def _by_metric(business: Business, month: str, before: str) -> pl.DataFrame:
    def of(each: str) -> pl.DataFrame:
        return (
            _read(business, CHARGES, each)
            .group_by("metric")
            .agg(
                # A metric by dimension has a charge for each rule.
                accounts_over=pl.col("subscription_id").filter(pl.col("excess") > 0).n_unique().cast(pl.Int64),
                excess=pl.col("excess").sum(),
                overage=pl.col("amount").sum(),
            )
        )

    order = {metric.name: place for place, metric in enumerate(business.catalogue.metrics)}
    return (
        of(month)
        .join(of(before).select("metric", before="overage"), on="metric", how="left")
        .with_columns(pl.col("before").fill_null(_ZERO))
        .with_columns(change=pl.col("overage") - pl.col("before"))
        .sort(pl.col("metric").replace_strict(order, default=len(order), return_dtype=pl.Int64), "metric")
    )


def _by_account(billed: pl.DataFrame) -> pl.DataFrame:
    return billed.group_by("account_id").agg(
        pl.col("package").filter(pl.col("fees") != 0).first(), pl.col(_COMPARED).sum()
    )


def _compared(now: pl.DataFrame, then: pl.DataFrame) -> pl.DataFrame:
    both = _by_account(now).with_columns(is_now=pl.lit(True))
    earlier = _by_account(then).with_columns(was_then=pl.lit(True))
    return both.join(earlier, on="account_id", how="full", coalesce=True, suffix="_before").with_columns(
        pl.col("is_now", "was_then").fill_null(value=False),
        pl.col(*_COMPARED, *(f"{name}_before" for name in _COMPARED)).fill_null(_ZERO),
    )


def _causes(now: pl.DataFrame, then: pl.DataFrame, business: Business, month: str) -> pl.DataFrame:
    """Causes of the change of the total against the month before, with their amounts per account.

    Compare yearly fees separately: they fall due once in twelve months. A customer without a bill in a month, because
    nothing fell due, has not left.
    """
    ranks = {package.name: package.rank for package in business.catalogue.packages}
    compared = _compared(now, then)
    lives_on = _yearly_customers(business, month)
    stays = pl.col("account_id").is_in(lives_on.implode())
    is_new, is_gone = ~pl.col("was_then") & ~stays, ~pl.col("is_now") & ~stays
    both = compared.filter(~is_new & ~is_gone).with_columns(
        rise=_rank("package", ranks) - _rank("package_before", ranks)
    )
    parts = [
        compared.filter(is_new).select(cause=pl.lit(CAUSES[0]), change="total"),
        compared.filter(is_gone).select(cause=pl.lit(CAUSES[1]), change=-pl.col("total_before")),
        both.select(
            cause=pl.when(pl.col("rise") > 0)
            .then(pl.lit(CAUSES[2]))
            .when(pl.col("rise") < 0)
            .then(pl.lit(CAUSES[3]))
            .otherwise(pl.lit(CAUSES[4])),
            change=pl.col("fees") - pl.col("yearly") - pl.col("fees_before") + pl.col("yearly_before"),
        ),
        *(
            both.select(cause=pl.lit(cause), change=pl.col(name) - pl.col(f"{name}_before"))
            for cause, name in zip(CAUSES[5:], ("yearly", "overage", "other", "tax"), strict=True)
        ),
    ]
    order = {cause: place for place, cause in enumerate(CAUSES)}
    return (
        pl.concat(parts)
        .filter(pl.col("change") != 0)
        .group_by("cause")
        .agg(accounts=pl.len(), change=pl.col("change").sum())
        .sort(pl.col("cause").replace_strict(order, return_dtype=pl.Int64))
    )


def _yearly_customers(business: Business, month: str) -> pl.Series:
    """The accounts with a yearly subscription that was there before the month's billing date and goes on after it."""
    packages = _read(business, PACKAGES, month).filter(
        pl.col("closing_package").is_not_null() & pl.col("opening_package").is_not_null()
    )
    yearly = business.lives.subscriptions.filter(pl.col("term") == Term.YEARLY)
    return packages.join(yearly, on="subscription_id", how="semi")["account_id"].unique()


def _rank(column: str, ranks: dict[str, int]) -> pl.Expr:
    return pl.col(column).replace_strict(ranks, default=None, return_dtype=pl.Int64)


def _movements(now: pl.DataFrame, then: pl.DataFrame, business: Business) -> pl.DataFrame:
    change = pl.col("total") - pl.col("total_before")
    return (
        _compared(now, then)
        .select("account_id", before="total_before", now="total", change=change)
        .filter(pl.col("change") != 0)
        .sort(pl.col("change").abs(), "account_id", descending=[True, False])
        .head(_MOVEMENTS)
        .join(business.inputs.accounts.select("account_id", "name"), on="account_id", how="left", maintain_order="left")
        .select("account_id", pl.col("name").fill_null("").str.slice(0, _LONGEST_NAME), "before", "now", "change")
    )


def _by_day(business: Business, month: str) -> pl.DataFrame:
    first, last = first_day(month), first_day(months_after(month, 1))
    days = pl.select(day=pl.date_range(first, last, closed="left"))
    found = (
        _dated(scan_events(business.home, [month], business.as_of), business)
        .group_by("day")
        .agg(events=pl.len().cast(pl.Int64), late=pl.col("is_late").sum().cast(pl.Int64))
        .collect(engine="streaming")
    )
    return days.join(found, on="day", how="left").with_columns(pl.col("events", "late").fill_null(0)).sort("day")


def _dated(events: pl.LazyFrame, business: Business) -> pl.LazyFrame:
    """Events with their local day, and whether they came later than the day after it."""
    day = pl.col("time").dt.convert_time_zone(business.catalogue.time_zone).dt.date()
    return events.with_columns(day=day).with_columns(
        is_late=(pl.col("delivery_day") - pl.col("day")).dt.total_days() > 1
    )


def _late(business: Business, month: str, lines: pl.DataFrame) -> pl.DataFrame:
    """Late usage by the month of its delivery, and what lines of earlier cycles bill."""
    policy = business.catalogue.policy
    earliest = date.fromordinal(first_day(month).toordinal() - policy.lateness_days)
    months = months_between(f"{earliest:%Y-%m}", month)
    units = pl.DataFrame(
        {
            "metric": [metric.name for metric in business.catalogue.metrics],
            "unit": [unit_billionths(metric) for metric in business.catalogue.metrics],
        },
        schema={"metric": pl.String, "unit": pl.Int128},
    )
    # Files are named by delivery day: read only those of the month.
    delivered = [path for path in event_files(business.home, months, business.as_of) if path.stem.startswith(month)]
    late = (
        _dated(scan_event_files(business.home, delivered), business)
        .filter("is_late")
        .group_by("metric")
        .agg(events=pl.len().cast(pl.Int64), total=pl.col("value").sum())
        .collect(engine="streaming")
        .join(units, on="metric")
        .select("metric", "events", quantity=in_units(pl.col("total").to_physical(), pl.col("unit")))
    )
    settled = lines.filter((pl.col("kind") == LineKind.PRIOR_CYCLE) & pl.col("metric").is_not_null())
    amounts = settled.group_by("metric").agg(settled=pl.col("amount").sum())
    return (
        late.join(amounts, on="metric", how="full", coalesce=True)
        .with_columns(pl.col("events").fill_null(0), pl.col("settled").fill_null(_ZERO))
        .sort("metric")
    )


def _rejected(business: Business, month: str) -> pl.DataFrame:
    files = sorted((business.home.lake / REJECTS.name).glob(f"delivery_day={month}-*/{REJECTS.name}.parquet"))
    return (
        scan_frames(files, REJECTS)
        .filter(pl.col("delivery_day") <= business.as_of)
        .group_by("reason", "metric")
        .agg(rows=pl.len(), quantity=pl.col("quantity").sum())
        .sort("reason", "metric", nulls_last=True)
        .collect()
    )


def _corrections(now: pl.DataFrame, lines: pl.DataFrame) -> pl.DataFrame:
    notes = (
        now.filter(pl.col("corrects").is_not_null())
        .group_by(what=pl.col("kind").str.replace("_", " "))
        .agg(documents=pl.len(), total=pl.col("total").sum())
        .sort("what")
    )
    earlier = lines.filter(pl.col("kind") == LineKind.PRIOR_CYCLE)
    settled = earlier.select(
        what=pl.lit("lines of earlier cycles, before tax"), documents=pl.len(), total=pl.col("amount").sum()
    )
    return pl.concat([notes, settled.filter(pl.col("documents") > 0)])


def _receivables(business: Business, month: str, on: date) -> pl.DataFrame:
    """Accounts receivable at the end of `on`, of documents of the month and before."""
    is_opening = ~is_of_a_document("number") & (pl.col("issued_on") <= on)
    its = pl.col("currency") == business.catalogue.currency if business.whole is not None else pl.lit(value=True)
    documents = business.receivables.filter(((pl.col("billing_month") <= month) | is_opening) & its)
    is_known = pl.col("document").is_in(documents["number"].implode()) | ~is_of_a_document("document")
    payments = business.payments.filter((pl.col("on") <= on) & is_known & its)
    no_cards = business.requests.head(0)
    by_age = amounts_to_collect(documents, payments, no_cards, on).group_by("age")
    order = {age: place for place, age in enumerate(AGES)}
    return by_age.agg(documents=pl.len(), amount_due=pl.col("amount_due").sum()).sort(
        pl.col("age").replace_strict(order, return_dtype=pl.Int64)
    )


def _read(business: Business, table: Table, month: str, columns: Sequence[str] | None = None) -> pl.DataFrame:
    return business.rows(read_month(business.home, table, month, columns))
