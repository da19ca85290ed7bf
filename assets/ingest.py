"""Assets for ingest: delivered files to counted events, partitioned by delivery day."""

import json
from collections.abc import Sequence
from datetime import date

import polars as pl

from assets.declared import Asset, Check, Checked, Made, Severity, Step, Yielded, assets_of
from assets.environment import executes_elsewhere
from assets.metadata import first_of, summary
from assets.progress import report
from assets.resources import BillingHome
from assets.run_tags import WARNINGS
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


_landing = ("usage_logs", "accounts", "aliases", "catalogue")

_KINDS = frozenset({"parquet", "polars"})


@assets_of(
    name="ingest_deliveries",
    group="ingest",
    is_single_run=True,
    assets=[
        Asset(
            "parsed_files",
            deps=[*_landing, *(["ingested_together"] if executes_elsewhere() else [])],
            kinds=_KINDS,
            description="Every delivered file parsed to rows, with the text of rows that could not be parsed.",
        ),
        Asset(
            "events",
            deps=["parsed_files"],
            kinds=_KINDS,
            description="Counted usage events, deduplicated over all deliveries.",
            table=EVENTS,
        ),
        Asset(
            "rejects",
            deps=["parsed_files"],
            kinds=_KINDS,
            description="Rejected rows, with reason and text.",
            table=REJECTS,
        ),
        Asset(
            "ingest",
            deps=["parsed_files"],
            kinds=_KINDS,
            description="Manifest: one row per delivered file, rows = counted + duplicates + rejected + ignored.",
            table=INGEST,
        ),
    ],
    checks=[
        Check(
            "every_row_is_counted_or_set_aside",
            asset="ingest",
            blocking=True,
            description="For every file: rows = counted + duplicates + rejected + ignored (rules 27 and 39).",
        ),
        Check(
            "every_file_could_be_read",
            asset="ingest",
            description="All inputs are read, and no file is unreadable.",
        ),
        Check(
            "no_ingested_file_has_changed",
            asset="ingest",
            description="No delivered file has changed since it was ingested (rule 22).",
        ),
        Check(
            "every_source_delivers_as_usual",
            asset="ingest",
            description="Every source delivered at least a third of its usual rows: those of the same weekday before.",
        ),
    ],
)
def ingest_assets(context: Step, billing_home: BillingHome) -> Yielded:
    """Ingest everything new; report on the delivery days of this run."""
    business = billing_home.business()
    with context.at_work(business.home, business.register):
        outcome = ingest(business)
    # Workers that have read the deliveries before have noticed some.
    warnings = [*outcome.warnings, *json.loads(context.tags.get(WARNINGS, "[]"))]
    unread = [
        *names_not_read(business.home, business.catalogue),
        *business.inputs.unusable,
        *outcome.unreadable_files,
    ]
    days = pl.Series([date.fromisoformat(key) for key in context.days], dtype=pl.Date)
    files = [path for day in days if (path := business.home.delivery(INGEST, day)).exists()]
    manifest = scan_frames(files, INGEST).collect()
    rejects = scan_frames(
        [path for day in days if (path := business.home.delivery(REJECTS, day)).exists()], REJECTS
    ).collect()
    outcomes = ("rows", "counted", "duplicates", "rejected", "ignored")
    totals = manifest.select(pl.col(outcomes).sum()).row(0)
    by_reason = rejects.group_by("reason").agg(rows=pl.len()).sort("rows", "reason", descending=[True, False])
    numbers = dict(zip(outcomes, totals, strict=True))
    yield Made(asset="parsed_files", metadata={"files": manifest.height})
    yield Made(asset="events", metadata=summary(pl.DataFrame(), counted=numbers["counted"]))
    yield Made(asset="rejects", metadata=summary(by_reason, rejected=rejects.height))
    by_source, low = _by_source(business, days)
    shown = pl.DataFrame([numbers]) if by_source["source_name"].is_null().all() else by_source
    yield Made(asset="ingest", metadata=summary(shown, **numbers))
    yield Checked(
        asset="ingest",
        name="every_row_is_counted_or_set_aside",
        passed=totals[0] == sum(totals[1:]),
        metadata=numbers,
    )
    yield Checked(
        asset="ingest",
        name="every_file_could_be_read",
        passed=not unread,
        severity=Severity.WARN,
        metadata=_listed("unreadable files", unread),
    )
    yield Checked(
        asset="ingest",
        name="no_ingested_file_has_changed",
        passed=not warnings,
        severity=Severity.WARN,
        metadata=_listed("changed files", warnings),
    )
    yield Checked(
        asset="ingest",
        name="every_source_delivers_as_usual",
        passed=not low,
        severity=Severity.WARN,
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
    Asset(name, text, kinds=frozenset({kind}), group="landing")
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
