"""Usage ingest: delivered files to deduplicated events; every row that does not count is rejected with its reason."""

from billing.ingest.days_to_ingest import pending_days
from billing.ingest.deliveries import ingest_deliveries
from billing.ingest.events import (
    accounts_of_events,
    event_files,
    event_hashes,
    events_digest,
    repeated_events,
    scan_account_events,
    scan_event_files,
    scan_event_parts,
    scan_events,
)
from billing.ingest.parsed_deliveries import Progress
from billing.ingest.stages import IngestOutcome

__all__ = [
    "IngestOutcome",
    "Progress",
    "accounts_of_events",
    "event_files",
    "event_hashes",
    "events_digest",
    "ingest_deliveries",
    "pending_days",
    "repeated_events",
    "scan_account_events",
    "scan_event_files",
    "scan_event_parts",
    "scan_events",
]
