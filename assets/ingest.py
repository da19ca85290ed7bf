"""Assets for ingest: delivered files to counted events, partitioned by delivery day."""

import json
from collections.abc import Iterator, Sequence
from datetime import date

import dagster as dg
import polars as pl

from assets.environment import executes_elsewhere
from assets.heads import WARNINGS, at_work
from assets.metadata import definition_metadata, first_of, summary
from assets.progress import report
from assets.resources import BillingHome
from billing.ingest import IngestOutcome
from billing.ingest.volumes import low_days, low_days_in_words, volumes
from billing.model.tables import EVENTS, INGEST, REJECTS
from billing.month.business import Business
from billing.month.steps import ingest_usage
from billing.month.unread_files import names_not_read
from billing.store.frames import scan_frames


def ingest(business: Business) -> IngestOutcome:
    """Ingest new deliveries, and report progress."""
    return ingest_usage(business, report)


_landing = [dg.AssetKey(name) for name in ("usage_logs", "accounts", "aliases", "catalogue")]


@dg.multi_asset(
    name="ingest_deliveries",
    group_name="ingest",
    backfill_policy=dg.BackfillPolicy.single_run(),
    specs=[
        dg.AssetSpec(
            "parsed_files",
            deps=[*_landing, *([dg.AssetKey("ingested_together")] if executes_elsewhere() else [])],
            kinds={"parquet", "polars"},
            description="Every delivered file parsed to rows, with the text of rows that could not be parsed.",
        ),
        dg.AssetSpec(
            "events",
            deps=["parsed_files"],
            kinds={"parquet", "polars"},
            description="Counted usage events, deduplicated over all deliveries.",
            metadata=definition_metadata(EVENTS),
        ),
        dg.AssetSpec(
            "rejects",
            deps=["parsed_files"],
            kinds={"parquet", "polars"},
            description="Rejected rows, with reason and text.",
            metadata=definition_metadata(REJECTS),
        ),
        dg.AssetSpec(
            "ingest",
            deps=["parsed_files"],
            kinds={"parquet", "polars"},
            description="Manifest: one row per delivered file, rows = counted + duplicates + rejected + ignored.",
            metadata=definition_metadata(INGEST),
        ),
    ],
    check_specs=[
        dg.AssetCheckSpec(
            "every_row_is_counted_or_set_aside",
            asset="ingest",
            blocking=True,
            description="For every file: rows = counted + duplicates + rejected + ignored (rules 27 and 39).",
        ),
        dg.AssetCheckSpec(
            "every_file_could_be_read",
            asset="ingest",
            description="All inputs are read, and no file is unreadable.",
        ),
        dg.AssetCheckSpec(
            "no_ingested_file_has_changed",
            asset="ingest",
            description="No delivered file has changed since it was ingested (rule 22).",
        ),
        dg.AssetCheckSpec(
            "every_source_delivers_as_usual",
            asset="ingest",
            description="Every source delivered at least a third of its usual rows: those of the same weekday before.",
        ),
    ],
)
def ingest_assets(
    context: dg.AssetExecutionContext, billing_home: BillingHome
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """Ingest everything new; report on the delivery days of this run."""
    business = billing_home.business()
    with at_work(context, business):
        outcome = ingest(business)
    # Workers that have read the deliveries before have noticed some.
    warnings = [*outcome.warnings, *json.loads(context.run.tags.get(WARNINGS, "[]"))]
    unread = [
        *names_not_read(business.home, business.catalogue),
        *business.inputs.unusable,
        *outcome.unreadable_files,
    ]
    days = pl.Series([date.fromisoformat(key) for key in context.partition_keys], dtype=pl.Date)
    files = [path for day in days if (path := business.home.delivery(INGEST, day)).exists()]
    manifest = scan_frames(files, INGEST).collect()
    rejects = scan_frames(
        [path for day in days if (path := business.home.delivery(REJECTS, day)).exists()], REJECTS
    ).collect()
    outcomes = ("rows", "counted", "duplicates", "rejected", "ignored")
    totals = manifest.select(pl.col(outcomes).sum()).row(0)
    by_reason = rejects.group_by("reason").agg(rows=pl.len()).sort("rows", "reason", descending=[True, False])
    numbers = dict(zip(outcomes, totals, strict=True))
    yield dg.MaterializeResult(asset_key="parsed_files", metadata={"files": manifest.height})
    yield dg.MaterializeResult(asset_key="events", metadata=summary(pl.DataFrame(), counted=numbers["counted"]))
    yield dg.MaterializeResult(asset_key="rejects", metadata=summary(by_reason, rejected=rejects.height))
    by_source, low = _by_source(business, days)
    shown = pl.DataFrame([numbers]) if by_source["source_name"].is_null().all() else by_source
    yield dg.MaterializeResult(asset_key="ingest", metadata=summary(shown, **numbers))
    yield dg.AssetCheckResult(
        asset_key="ingest",
        check_name="every_row_is_counted_or_set_aside",
        passed=totals[0] == sum(totals[1:]),
        metadata=numbers,
    )
    yield dg.AssetCheckResult(
        asset_key="ingest",
        check_name="every_file_could_be_read",
        passed=not unread,
        severity=dg.AssetCheckSeverity.WARN,
        metadata=_listed("unreadable files", unread),
    )
    yield dg.AssetCheckResult(
        asset_key="ingest",
        check_name="no_ingested_file_has_changed",
        passed=not warnings,
        severity=dg.AssetCheckSeverity.WARN,
        metadata=_listed("changed files", warnings),
    )
    yield dg.AssetCheckResult(
        asset_key="ingest",
        check_name="every_source_delivers_as_usual",
        passed=not low,
        severity=dg.AssetCheckSeverity.WARN,
        metadata=_listed("days with few rows", low),
    )


def _by_source(business: Business, days: pl.Series) -> tuple[pl.DataFrame, list[str]]:
    """As `volumes` of the days of this run, and `low_days` in words; nothing where the catalogue has no sources."""
    first, last = days.min(), days.max()
    if not business.catalogue.sources or not isinstance(first, date) or not isinstance(last, date):
        return volumes(business.home, date.max, date.min), []
    low = low_days(business.home, first, min(last, business.as_of)).filter(pl.col("delivery_day").is_in(days.implode()))
    return volumes(business.home, first, last), low_days_in_words(low)


def _listed(name: str, warnings: Sequence[str]) -> dict[str, int | list[str]]:
    return {name: len(warnings), **({"warnings": first_of(warnings)} if warnings else {})}


landing_assets = [
    dg.AssetSpec(name, group_name="landing", kinds={kind}, description=text)
    for name, kind, text in (
        ("usage_logs", "file", "Raw usage logs as delivered, by delivery day. Written by other systems."),
        ("accounts", "csv", "Who is billed, and where. Written by other systems."),
        ("aliases", "csv", "Names in raw logs, and the accounts they stand for. Written by other systems."),
        ("requests", "json", "Customer requests: subscriptions, changes, cancellations. Append-only."),
        ("payments", "json", "Payments: succeeded, failed, refunded or disputed. Append-only."),
        (
            "opening_balances",
            "csv",
            "What accounts owed when they moved in. Written once, by `overage move-in` or hand.",
        ),
        ("one_off_charges", "csv", "What accounts are billed, or given back, once. Written by finance."),
        ("credit_grants", "csv", "Credits that pay documents to come. Written by finance."),
        ("catalogue", "yaml", "Metrics, packages, prices and policy. Finance edits it."),
        ("tax_rates", "csv", "Tax rates by jurisdiction and date. Finance edits it."),
        ("exchange_rates", "csv", "What a currency was worth in another, by date. Finance edits it."),
    )
]
