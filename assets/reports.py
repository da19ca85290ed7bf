"""Reports: what the month came to, and what it was built from."""

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal

import dagster as dg
import polars as pl

from assets.ingest import PATIENCE_SECONDS
from assets.metadata import amount_sum, bar_chart, definition_metadata, money_type, summary
from assets.months import computed
from assets.partitions import billing_months, billing_time_zone, home_folder
from assets.resources import BillingHome
from billing.business import Business
from billing.calendar import months_after
from billing.fingerprint import moved_inputs, record_when_complete
from billing.home import read_frame, write_frame
from billing.profile_pages import write_profile_pages
from billing.profiles import account_profiles, balances, collections
from billing.tables import (
    BALANCES,
    CHARGES,
    COLLECTIONS,
    DECISIONS,
    DOCUMENTS,
    DUES,
    PARKED,
    PROFILE,
    UNBILLED,
)


@dg.asset(
    group_name="reports",
    partitions_def=billing_months,
    deps=[DOCUMENTS.name, "invoice_files", CHARGES.name, DUES.name, DECISIONS.name, UNBILLED.name, PARKED.name],
    kinds={"markdown"},
    # the schedule complete_month runs at six on the 2nd: at noon the month before should stand there
    freshness_policy=dg.FreshnessPolicy.cron(
        "0 12 2 * *", lower_bound_delta=timedelta(hours=36), timezone=billing_time_zone(home_folder())
    ),
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
        record_when_complete(business, month)
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
    yield dg.AssetCheckResult(
        check_name="built_from_current_inputs",
        passed=not moved,
        metadata={
            "month": month,
            "moved since it was built": ", ".join(moved) or "nothing",
            "what to do": f"run billing_month from {month} to the latest month" if moved else "nothing",
        },
    )


@dg.multi_asset(
    name="account_profiles",
    group_name="reports",
    specs=[
        dg.AssetSpec(
            PROFILE.name,
            description="The billing profile of every account: package, usage so far, what comes next and what was.",
            deps=[DOCUMENTS.name, "payments", "accounts", "events"],
            kinds={"parquet", "polars"},
            metadata=definition_metadata(PROFILE),
        ),
        dg.AssetSpec(
            BALANCES.name,
            description="What every account owes.",
            deps=[DOCUMENTS.name, "payments"],
            kinds={"parquet", "polars"},
            metadata=definition_metadata(BALANCES),
        ),
        dg.AssetSpec(
            COLLECTIONS.name,
            description="What to charge to which card, for a payment provider.",
            deps=[DOCUMENTS.name, "payments", "requests"],
            kinds={"parquet", "polars"},
            metadata=definition_metadata(COLLECTIONS),
        ),
    ],
)
def profiles(billing_home: BillingHome) -> Iterator[dg.MaterializeResult[None]]:
    """Write profiles, balances and amounts to collect as of the run's day."""
    business = billing_home.business()
    with business.alone(PATIENCE_SECONDS):
        found = {
            PROFILE: account_profiles(business, business.as_of),
            BALANCES: balances(business),
            COLLECTIONS: collections(business),
        }
        previous = read_frame(business.home.whole(PROFILE), PROFILE)
        names = dict(business.inputs.accounts.select("account_id", "name").iter_rows())
        pages = write_profile_pages(business.home, found[PROFILE], previous, names, business.catalogue)
        for table, frame in found.items():
            write_frame(business.home.whole(table), frame, table)
    by_status = found[PROFILE].group_by("status").agg(accounts=pl.len()).sort("status")
    owing = (
        found[BALANCES]
        .group_by("status")
        .agg(accounts=pl.len(), outstanding=pl.col("outstanding").sum().cast(money_type(business)))
    )
    ages = (
        found[COLLECTIONS]
        .group_by("age")
        .agg(documents=pl.len(), amount_due=pl.col("amount_due").sum().cast(money_type(business)))
    )
    yield dg.MaterializeResult(
        asset_key=PROFILE.name,
        metadata={
            **summary(by_status, accounts=found[PROFILE].height, pages_written=pages),
            "pages": dg.MetadataValue.path(str((business.home.profiles / "index.html").resolve())),
        },
    )
    yield dg.MaterializeResult(
        asset_key=BALANCES.name,
        metadata=summary(owing.sort("status"), outstanding=amount_sum(found[BALANCES], business, "outstanding")),
    )
    yield dg.MaterializeResult(
        asset_key=COLLECTIONS.name,
        metadata=summary(ages.sort("age"), to_collect=amount_sum(found[COLLECTIONS], business, "amount_due")),
    )


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
