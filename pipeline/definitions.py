"""Everything Dagster loads. It needs no home: with a missing or broken catalogue the assets fail with its message."""

import os

import dagster as dg

from assets import corrections, documents, ingest, journal, months, previews, reports
from assets.environment import variables
from assets.resources import BillingHome
from pipeline.executors import executor
from pipeline.jobs import (
    billing_month_job,
    correct_job,
    draft_job,
    ingest_job,
    issue_job,
    look_job,
    preview_job,
    profiles_job,
)
from pipeline.private_files import umask_of
from pipeline.process_settings import skip_last_collection
from pipeline.schedules import complete_month, issue_daily
from pipeline.sensors import month_is_ready, new_deliveries, roll_forward, run_failed

skip_last_collection()

# processes of Dagster that carry out runs; a command sees to it by itself
os.umask(umask_of(variables()))

FINANCE = "team:finance"
OWNERS = {"landing": "team:data", "ingest": "team:data"}


def _owned() -> list[dg.AssetsDefinition | dg.AssetSpec]:
    """Every asset, with whom to ask about it."""

    def owned(spec: dg.AssetSpec) -> dg.AssetSpec:
        return spec.replace_attributes(owners=[OWNERS.get(spec.group_name or "", FINANCE)])

    modules = [ingest, months, documents, corrections, previews, reports, journal]
    found = dg.load_assets_from_modules(modules)
    return [
        *map(owned, ingest.landing_assets),
        *(each.map_asset_specs(owned) for each in found if isinstance(each, dg.AssetsDefinition)),
    ]


defs = dg.Definitions(
    assets=_owned(),
    asset_checks=[reports.every_month_is_up_to_date],
    resources={"billing_home": BillingHome()},
    jobs=[ingest_job, billing_month_job, draft_job, issue_job, correct_job, preview_job, profiles_job, look_job],
    schedules=[complete_month, issue_daily],
    sensors=[new_deliveries, roll_forward, run_failed, month_is_ready],
    executor=executor(),
)
