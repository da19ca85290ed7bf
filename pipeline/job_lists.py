"""What the jobs are made of: known without Dagster."""

from collections.abc import Mapping
from typing import Final

from assets.environment import executes_elsewhere

# Serialize runs with this tag (see dagster.yaml): a month depends on the previous one.
SERIAL = {"overage/serial": "home"}

INGESTED = (
    *(["ingested_together"] if executes_elsewhere() else []),
    "parsed_files",
    "events",
    "rejects",
    "ingest",
)
MONTHLY = (
    *(["shards"] if executes_elsewhere() else []),
    "cycles",
    "levels",
    "usage",
    "packages",
    "decisions",
    "charges",
    "dues",
    "parked",
    "unbilled",
    "drafts",
    "draft_lines",
    "draft_taxes",
    "documents",
    "lines",
    "taxes",
    *(["drawn_files"] if executes_elsewhere() else []),
    "invoice_files",
    "mails",
    "billing_report",
)

BY_MONTH = (*MONTHLY, "corrections", "preview")
"""Assets partitioned by billing month; those of INGESTED are partitioned by delivery day."""

# Assets computed before issuing.
DRAFTED = MONTHLY[: MONTHLY.index("documents")]

# Assets from issuing on.
ISSUED = MONTHLY[MONTHLY.index("documents") :]

PROFILES = ("profile", "balances", "allocations", "collections", "credits", "journal")

BY_COMMAND: Final[Mapping[str, tuple[str, ...]]] = {
    "ingest": INGESTED,
    "billing_month": MONTHLY,
    "issue_documents": ISSUED,
    "correct": ("corrections",),
    "profiles": PROFILES,
    "send_mails": ("mails",),
}
"""Jobs that commands execute, with their assets."""
