"""Asset for previews: a dry run of what billing a month again would change."""

import polars as pl

from assets.declared import Made, Step, Yielded, asset
from assets.metadata import bullets, keys_by_currency, money_type, one_currency, summary
from assets.months import computed
from assets.resources import BillingHome
from billing.model.tables import DOCUMENTS, DRAFTS
from billing.reports.preview import preview_month


@asset(
    group="reports",
    deps=[
        DOCUMENTS.name,
        DRAFTS.name,
        "usage_logs",
        "requests",
        "payments",
        "accounts",
        "aliases",
        "catalogue",
        "tax_rates",
        "exchange_rates",
        "one_off_charges",
        "credit_grants",
    ],
    kinds={"markdown"},
    description="Dry run: what issuing or re-running the month would change, and why.",
)
def preview(context: Step, billing_home: BillingHome) -> Yielded:
    """Run the month in a scratch copy; report counts and sums."""
    business, found = computed(context, billing_home, preview_month)
    keys = keys_by_currency(business, "what")
    changes = found.changes if one_currency(business) else business.currencies.with_currency(found.changes)
    by_kind = (
        changes.group_by(keys)
        .agg(accounts=pl.col("account_id").n_unique(), changes=pl.len(), difference=pl.col("difference").sum())
        .with_columns(pl.col("difference").cast(money_type(business)))
        .sort(keys)
    )
    causes = (
        found.changes.select("account_id", "causes")
        .explode("causes", empty_as_null=False)
        .group_by(cause="causes")
        .agg(accounts=pl.col("account_id").n_unique())
        .sort("accounts", "cause", descending=[True, False])
        # Leave out causes that name a single account.
        .filter(pl.col("cause").str.starts_with("delivery") | pl.col("cause").str.starts_with("catalogue"))
        .head(20)
    )
    metadata = summary(
        by_kind,
        one_currency(business),
        changes=found.changes.height,
        accounts=found.changes["account_id"].n_unique(),
    )
    metadata |= {f"causes_{name}": value for name, value in summary(causes).items()}
    command = f"overage preview {context.month} --as-of {business.as_of}"
    yield Made(
        metadata={
            **metadata,
            "moved": bullets([f"{month}: {', '.join(names)}" for month, names in found.moved.items()]),
            "list them": command,
        }
    )
