"""Dagster definitions. They load without a home: with a broken catalogue the assets fail with its message."""

import os
from datetime import timedelta

import dagster as dg

from assets import corrections, documents, ingest, journal, mails, months, previews, reports, what_if
from assets.dagster_graph import HomeResource, asset_spec, assets_in, check_result
from assets.environment import executes_elsewhere, variables
from assets.heads import failures_for_dagster
from assets.partitions import Calendars, calendars
from pipeline.executors import executor
from pipeline.job_lists import BY_MONTH, INGESTED
from pipeline.jobs import (
    billing_month_job,
    correct_job,
    draft_job,
    ingest_job,
    issue_job,
    look_job,
    mails_job,
    preview_job,
    profiles_job,
    reminders_job,
    what_if_job,
)
from pipeline.private_files import umask_of
from pipeline.process_settings import skip_last_collection
from pipeline.schedules import schedules_in
from pipeline.sensors import month_is_ready, new_deliveries, recorded_runs, roll_forward, run_failed

skip_last_collection()

# For Dagster's run processes; a command sets its own umask.
os.umask(umask_of(variables()))

FINANCE = "team:finance"
OWNERS = {"landing": "team:data", "ingest": "team:data"}


@dg.asset_check(
    name=reports.EVERY_MONTH.name, asset=reports.EVERY_MONTH.asset, description=reports.EVERY_MONTH.description
)
def every_month_is_up_to_date(billing_home: HomeResource) -> dg.AssetCheckResult:
    """Report the stale months, and why."""
    with failures_for_dagster():
        return check_result(reports.every_month_is_up_to_date(billing_home.home))


def _assets(partitions: Calendars) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    """All assets, with their partitions and owners."""
    by_name = dict.fromkeys(BY_MONTH, partitions.months) | dict.fromkeys(INGESTED, partitions.days)
    # Expect the previous month at noon on the 2nd: the schedule complete_month runs at six.
    at_noon = dg.FreshnessPolicy.cron(
        "0 12 2 * *", lower_bound_delta=timedelta(hours=36), timezone=partitions.time_zone
    )

    def completed(spec: dg.AssetSpec) -> dg.AssetSpec:
        spec = spec.replace_attributes(owners=[OWNERS.get(spec.group_name or "", FINANCE)])
        name = spec.key.to_user_string()
        if name in by_name:
            spec = spec.replace_attributes(partitions_def=by_name[name])
        return spec.replace_attributes(freshness_policy=at_noon) if name == "billing_report" else spec

    found = assets_in([ingest, months, documents, corrections, previews, reports, journal, mails, what_if])
    if executes_elsewhere():
        # Here: on one machine nobody waits for them to load.
        from assets import deliveries, shards

        found += [deliveries.ingested_together, shards.shards, shards.drawn_files]
    return [
        *(completed(asset_spec(each)) for each in ingest.landing_assets),
        *(each.map_asset_specs(completed) for each in found),
    ]


def definitions(partitions: Calendars) -> dg.Definitions:
    """All definitions, with the partitions of a home."""
    return dg.Definitions(
        assets=_assets(partitions),
        asset_checks=[every_month_is_up_to_date],
        resources={"billing_home": HomeResource()},
        jobs=[
            ingest_job,
            billing_month_job,
            draft_job,
            issue_job,
            correct_job,
            preview_job,
            profiles_job,
            mails_job,
            reminders_job,
            what_if_job,
            look_job,
        ],
        schedules=schedules_in(partitions.time_zone),
        sensors=[recorded_runs, new_deliveries, roll_forward, run_failed, month_is_ready],
        executor=executor(),
    )


defs = definitions(calendars())
