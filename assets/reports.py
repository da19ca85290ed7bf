"""Assets for reports: the month report, profiles and freshness."""

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Final

import polars as pl

from assets.declared import Asset, Check, Checked, Made, Markdown, Step, Value, Yielded, asset, assets_of
from assets.links import link, place
from assets.metadata import (
    amount_sum,
    amounts,
    chart,
    in_words,
    keys_by_currency,
    markdown_table,
    money_type,
    one_currency,
    summary,
)
from assets.months import computed
from assets.resources import BillingHome
from billing.model.account_tables import ALLOCATIONS, BALANCES, COLLECTIONS, CREDITS, PROFILE
from billing.model.columns import Table
from billing.model.tables import CHARGES, DECISIONS, DOCUMENTS, DUES, PARKED, UNBILLED
from billing.month.business import Business
from billing.month.recorded_inputs.months import (
    built_months,
    first_moved_before,
    is_up_to_date,
    moved_inputs,
    record_when_complete,
)
from billing.month.steps import days_to_ingest
from billing.reports.accounts import ACCOUNT_TABLES, write_accounts
from billing.reports.month_report import MonthReport, month_report
from billing.reports.month_report_page import month_charts, package_titles, write_report
from billing.reports.preview_causes import record_given
from billing.store.frames import scan_frames

_CREDITED = ("amount", "used", "expired", "left")


@asset(
    group="reports",
    deps=[DOCUMENTS.name, "invoice_files", CHARGES.name, DUES.name, DECISIONS.name, UNBILLED.name, PARKED.name],
    kinds={"html", "pdf"},
    description="Month report on one page: totals by package and metric, changes and their reasons.",
    checks=[
        Check(
            "built_from_current_inputs",
            asset="billing_report",
            description="No input of the month has changed since it was built.",
        )
    ],
)
def billing_report(context: Step, billing_home: BillingHome) -> Yielded:
    """Write the month report, and record the month's inputs."""
    month = context.month

    def step(business: Business, month: str) -> tuple[MonthReport, Path, Path]:
        report = month_report(business, month)
        written = write_report(business, report, with_pdf=billing_home.pdf_of_report)
        # Record it last: a month without its report is incomplete.
        complete = record_when_complete(business, month)
        # The command line records it once, after all of its months.
        if complete and not billing_home.in_order and is_up_to_date(business, month):
            record_given(business)
        return report, *written

    business, (report, page, pdf) = computed(context, billing_home, step)
    yield Made(metadata=_report_metadata(business, report, page, pdf))
    moved = moved_inputs(business, month)
    # Issuing is blocked while an earlier month is stale.
    first = (first_moved_before(business, month) or month) if moved else month
    yield Checked(
        name="built_from_current_inputs",
        passed=not moved,
        metadata={
            "month": month,
            "moved since it was built": ", ".join(moved) or "nothing",
            "what to do": f"run billing_month from {first} to the latest month" if moved else "nothing",
        },
    )


EVERY_MONTH: Final = Check(
    "every_month_is_up_to_date",
    asset="billing_report",
    description="No input of a built month has been delivered or changed since. "
    "It looks when it is executed, here or by the job `look_for_moved_inputs`.",
)


def every_month_is_up_to_date(billing_home: BillingHome) -> Checked:
    """Report the stale months, and why."""
    business = billing_home.business()
    days = days_to_ingest(business, by_content=True)
    moved = {month: names for month in built_months(business) if (names := moved_inputs(business, month))}
    return Checked(
        EVERY_MONTH.name,
        passed=not days and not moved,
        metadata={
            "delivered and not ingested yet": in_words([day.isoformat() for day in days]),
            "moved since a month was built": in_words(
                [f"{month} ({', '.join(names)})" for month, names in moved.items()]
            ),
            "what to do": _what_to_do(days, moved),
        },
    )


def _what_to_do(days: Sequence[date], moved: Mapping[str, Sequence[str]]) -> str:
    if moved:
        return f"run billing_month from {min(moved)} to the latest month"
    return "run ingest for these days, then look again" if days else "nothing"


@assets_of(
    name="account_profiles",
    group="reports",
    assets=[
        Asset(
            PROFILE.name,
            description="The billing profile of every account: package, usage so far, next and previous bills.",
            deps=[DOCUMENTS.name, "payments", "accounts", "events"],
            kinds=frozenset({"parquet", "polars"}),
            table=PROFILE,
        ),
        Asset(
            BALANCES.name,
            description="What every account owes.",
            deps=[DOCUMENTS.name, "payments", "opening_balances"],
            kinds=frozenset({"parquet", "polars"}),
            table=BALANCES,
        ),
        Asset(
            ALLOCATIONS.name,
            description="Which payments, credit notes and prepaid credits pay which document.",
            deps=[DOCUMENTS.name, "payments", "opening_balances"],
            kinds=frozenset({"parquet", "polars"}),
            table=ALLOCATIONS,
        ),
        Asset(
            CREDITS.name,
            description="What is used, left and expired of every prepaid credit.",
            deps=[DOCUMENTS.name, "credit_grants"],
            kinds=frozenset({"parquet", "polars"}),
            table=CREDITS,
        ),
        Asset(
            COLLECTIONS.name,
            description="What to charge to which card, for a payment provider.",
            deps=[DOCUMENTS.name, "payments", "opening_balances", "requests"],
            kinds=frozenset({"parquet", "polars"}),
            table=COLLECTIONS,
        ),
    ],
)
def profiles(context: Step, billing_home: BillingHome) -> Yielded:
    """Write profiles, balances and amounts to collect as of the run's day."""
    business = billing_home.business()
    with context.at_work(business.home, business.register):
        written = write_accounts(business)
    made = {table: scan_frames([business.home.whole(table)], table) for table in ACCOUNT_TABLES}
    by_status = made[PROFILE].group_by("status").agg(accounts=pl.len()).sort("status").collect()
    yield Made(
        asset=PROFILE.name,
        metadata={
            **summary(
                by_status,
                accounts=int(by_status["accounts"].sum()),
                pages_written=written.pages,
                own_pages_written=written.own_pages,
            ),
            "pages": link(business.home, business.home.profiles / "index.html"),
        },
    )
    yield from _sums_of_accounts(business, made)


def _sums_of_accounts(business: Business, found: Mapping[Table, pl.LazyFrame]) -> Yielded:
    """What balances, allocations, credits and collections come to, by currency."""
    money, currency = money_type(business), one_currency(business)

    allocated = found[ALLOCATIONS]
    if currency is None:
        allocated = business.currencies.with_currency(allocated)
    for table, rows, key, counted, sums, name, column in (
        (BALANCES, found[BALANCES], "status", "accounts", ["outstanding"], "outstanding", "outstanding"),
        (ALLOCATIONS, allocated, "source_kind", "allocations", ["amount"], "allocated", "amount"),
        (CREDITS, found[CREDITS], "kind", "grants", _CREDITED, "left", "left"),
        (COLLECTIONS, found[COLLECTIONS], "age", "documents", ["amount_due"], "to_collect", "amount_due"),
    ):
        keys = keys_by_currency(business, key)
        added_up = [pl.col(each).sum().cast(money) for each in sums]
        sums_by_key = rows.group_by(keys).agg(pl.len().alias(counted), *added_up).sort(keys).collect()
        totals = amounts(sums_by_key, business, name, column)
        yield Made(asset=table.name, metadata=summary(sums_by_key, currency, **totals))


def _report_metadata(business: Business, report: MonthReport, page: Path, pdf: Path) -> dict[str, Value]:
    """The month's figures, and the tables and charts of the report as one Markdown; names no account."""
    money, currency = money_type(business), business.catalogue.currency
    titles = package_titles(business.catalogue)
    by_package = report.by_package.select(
        pl.col("package").replace(titles).replace({"": "none"}),
        "accounts",
        *(pl.col(name).cast(money) for name in ("fees", "overage", "other", "tax", "total", "before", "change")),
    )
    causes = report.causes.with_columns(pl.col("change").cast(money))
    charts = month_charts(business.catalogue, report)
    parts = [
        f"**{report.month}**, documents and drafts, {currency}",
        markdown_table(by_package, currency),
        *(["**Why it changed against the month before**", markdown_table(causes, currency)] if causes.height else []),
        *(["**Totals by currency**", markdown_table(report.by_currency)] if report.others else []),
        *(chart(name, svg) for name, svg in charts.items()),
    ]
    figures = {name: amount_sum(report.by_package, business, name) for name in ("total", "overage", "change")}
    return {
        "month in one page": Markdown("\n\n".join(parts)),
        **summary(
            pl.DataFrame(),
            currency,
            accounts=sum(int(each.by_package["accounts"].sum()) for each in (report, *report.others.values())),
            documents=report.documents,
            drafts=report.drafts,
            **figures,
        ),
        "report": link(business.home, page),
        **({"report as PDF": link(business.home, pdf)} if pdf.exists() else {}),
        "file of the report": place(business.home, page),
    }
