"""Tags of runs."""

from typing import Final

HIDDEN: Final = ".dagster/"
"""Prefix of tags that are on no page."""

HEAD: Final = "overage/head"
"""Tag of a run: the name under which its head holds the lock."""
VERSIONS: Final = "overage/versions"
"""Tag of a run: the versions of its head."""
SHARDS_BILLED: Final = f"{HIDDEN}overage/shards_billed"
"""Tag, on no page, of a run whose workers have billed the month's shards: the run's id."""
WARNINGS: Final = f"{HIDDEN}overage/warnings"
"""Tag, on no page, of a run whose workers have ingested: its first warnings, of changed files and others, as JSON."""
FOLLOWED: Final = "overage/followed"
"""Tag of a run whose progress a command shows."""
BY_COMMAND_LINE: Final = {"overage/by": "command line"}
"""Tag of runs that a command executes in its own process."""
RANGE_START: Final = "dagster/asset_partition_range_start"
RANGE_END: Final = "dagster/asset_partition_range_end"
"""Tags of a run over a range of days: the first and the last."""
