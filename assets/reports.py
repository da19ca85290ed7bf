"""Reports: what the month came to, and what it was built from."""

from collections.abc import Iterator
from decimal import Decimal

import dagster as dg
import polars as pl

from assets.metadata import bar_chart, money_type, summary
from assets.months import computed
from assets.partitions import billing_months
from assets.resources import BillingHome
from billing.business import Business
from billing.calendar import months_after
from billing.fingerprint import moved_inputs, record_fingerprint
from billing.home import read_frame
from billing.tables import CHARGES, DECISIONS, DOCUMENTS, DUES, PARKED, UNBILLED


@dg.asset(
    group_name="reports",
    partitions_def=billing_months,
    deps=[DOCUMENTS.name, "invoice_files", CHARGES.name, DUES.name, DECISIONS.name, UNBILLED.name, PARKED.name],
    kinds={"markdown"},
    description="The month in one page: packages, fees, overages, change against the month before.",
    check_specs=[
        dg.AssetCheckSpec(
            "built_from_current_inputs",
            asset="billing_report",
            description="Nothing the month depends on has moved since it was built.",
        )
    ],
)
def billing_report(
    context: dg.AssetExecutionContext, billing_home: BillingHome
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """Sum the month up and remember what it was built from."""
    month = context.partition_key

    def step(business: Business, month: str) -> pl.DataFrame:
        record_fingerprint(business, month)
        return month_summary(business, month)

    business, by_package = computed(context, billing_home, step)
    metadata = summary(by_package, subscriptions=int(by_package["subscriptions"].sum()))
    overage = by_package.select(
        pl.col("package").fill_null(""), pl.col("fees") + pl.col("overage").cast(by_package.schema["fees"])
    )
    metadata["chart"] = bar_chart(
        f"Fees and overages by package, {business.catalogue.currency}",
        overage["package"].to_list(),
        overage["fees"].to_list(),
    )
    yield dg.MaterializeResult(metadata=metadata)
    moved = moved_inputs(business, month)
    yield dg.AssetCheckResult(check_name="built_from_current_inputs", passed=not moved, metadata={"moved": moved})


def month_summary(business: Business, month: str) -> pl.DataFrame:
    """package, subscriptions, fees, overage, total, change against the month before; sorted by package."""
    now, then = (_by_package(business, each) for each in (month, months_after(month, -1)))
    nothing = pl.lit(Decimal(0)).cast(now.schema["fees"])
    return (
        now.join(then.select("package", before="total"), on="package", how="full", coalesce=True)
        .with_columns(
            pl.col("subscriptions").fill_null(0), pl.col("fees", "overage", "total", "before").fill_null(nothing)
        )
        .with_columns(change=pl.col("total") - pl.col("before"))
        .drop("before")
        .sort("package")
    )


def _by_package(business: Business, month: str) -> pl.DataFrame:
    dues = read_frame(business.home.partition(DUES, month), DUES)
    is_overage = pl.col("kind") == "overage"
    amount = pl.col("amount").cast(money_type(business))
    return dues.group_by("package").agg(
        subscriptions=(~is_overage).sum().cast(pl.Int64),
        fees=amount.filter(~is_overage).sum(),
        overage=amount.filter(is_overage).sum(),
        total=amount.sum(),
    )
