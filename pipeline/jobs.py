"""Dagster jobs: ingest deliveries, bill a month, issue, correct, preview, profiles."""

from functools import partial

import dagster as dg

from assets.reports import EVERY_MONTH
from pipeline.executors import lost_steps_are_retried
from pipeline.job_lists import DRAFTED, INGESTED, ISSUED, MONTHLY, PROFILES, SERIAL

_job = partial(dg.define_asset_job, op_retry_policy=lost_steps_are_retried())

# Select this check only on request: it reads every month.
_looking = dg.AssetSelection.checks(dg.AssetCheckKey(dg.AssetKey(EVERY_MONTH.asset), EVERY_MONTH.name))

ingest_job = _job(
    "ingest",
    selection=dg.AssetSelection.assets(*INGESTED),
    tags=SERIAL,
    description="Ingest the deliveries of some days, and all other new deliveries.",
)
billing_month_job = _job(
    "billing_month",
    selection=dg.AssetSelection.assets(*MONTHLY) - _looking,
    tags=SERIAL,
    description="Bill a month and ISSUE its invoices: ingest what is new, measure, decide, charge, issue what has "
    "fallen due up to the run's day, render. What is issued stays issued. To see it first: draft_month, which issues "
    "nothing.",
)
draft_job = _job(
    "draft_month",
    selection=dg.AssetSelection.assets(*DRAFTED),
    tags=SERIAL,
    config={"resources": {"billing_home": {"config": {"draft": True}}}},
    description="Compute a month up to its drafts and issue nothing; the page of drafts says how to issue these.",
)
# Show a placeholder in the Launchpad for the value to fill in.
issue_job = _job(
    "issue_documents",
    selection=dg.AssetSelection.assets(*ISSUED) - _looking,
    tags=SERIAL,
    config={"ops": {"documents": {"config": {"reviewed": "what the page of drafts shows as reviewed"}}}},
    description="ISSUE exactly the reviewed drafts of a month; refused if anything changed since.",
)
correct_job = _job(
    "correct",
    selection=dg.AssetSelection.assets("corrections"),
    tags=SERIAL,
    description="Correct an issued month at once: ISSUE credit and debit notes; the configuration takes the reason.",
)
preview_job = _job(
    "preview_month",
    selection=dg.AssetSelection.assets("preview"),
    tags=SERIAL,
    description="Dry run: show what issuing or re-running a month would change.",
)
what_if_job = _job(
    "what_if_months",
    selection=dg.AssetSelection.assets("what_if"),
    tags=SERIAL,
    # Placeholders in the Launchpad for the values to fill in.
    config={
        "ops": {
            "what_if": {"config": {"candidate": "landing/candidate.yaml", "since": "YYYY-MM", "through": "YYYY-MM"}}
        }
    },
    description="Dry run: what a candidate catalogue would have billed of past months. Nothing is issued.",
)
profiles_job = _job(
    "profiles",
    selection=dg.AssetSelection.assets(*PROFILES),
    tags=SERIAL,
    description="Billing profiles, balances, amounts to collect and the journal, as of a day.",
)
mails_job = _job(
    "send_mails",
    selection=dg.AssetSelection.assets("mails"),
    tags=SERIAL,
    description="SEND the mails of a month's documents that were not sent yet, under the policy `send: after_issue`.",
)
reminders_job = _job(
    "send_reminders",
    selection=dg.AssetSelection.assets("reminders"),
    tags=SERIAL,
    description="Make and SEND the reminders that are due as of a day, by the policy's `reminders`.",
)
look_job = _job(
    "look_for_moved_inputs",
    selection=_looking,
    description="Check whether an input of a built month has been delivered or changed.",
)
