"""The two calendars of the graph: days of delivery and billing months.

Keys run from the catalogue's `billing_start` and, with a generous `end_offset`, far into the future: the open month
and the movable clock need months that have not begun. Whether a month may be billed is not a matter of partitions.
"""

import os
import warnings
from datetime import date, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import dagster as dg
import yaml

DEFAULT_BILLING_START = date(2024, 1, 1)
FUTURE_MONTHS = 120
FUTURE_DAYS = 400
# deliveries may begin before the first month that is billed: levels of gauges carry on
DAYS_BEFORE_START = 366


def home_folder() -> Path:
    """The billing home: $OVERAGE_HOME, else ./data."""
    return Path(os.environ.get("OVERAGE_HOME") or "data")


def billing_start(home: Path) -> date:
    """The catalogue's `billing_start`; the default when there is no catalogue that says one.

    Definitions have to load without a home and with a broken catalogue: the assets then fail with its message.
    """
    policy = _catalogue(home).get("policy")
    start = policy.get("billing_start") if isinstance(policy, dict) else None
    return start.replace(day=1) if type(start) is date else DEFAULT_BILLING_START


def billing_time_zone(home: Path) -> str:
    """The catalogue's time zone; UTC when there is no catalogue that says one."""
    name = _catalogue(home).get("time_zone", "UTC")
    try:
        return ZoneInfo(str(name)).key
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return "UTC"


def _catalogue(home: Path) -> dict[str, object]:
    try:
        content = yaml.safe_load((home / "landing" / "catalogue.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}


_START = billing_start(home_folder())

billing_months = dg.TimeWindowPartitionsDefinition(
    start=_START.strftime("%Y-%m"), cron_schedule="0 0 1 * *", fmt="%Y-%m", end_offset=FUTURE_MONTHS
)
delivery_days = dg.DailyPartitionsDefinition(
    start_date=(_START - timedelta(days=DAYS_BEFORE_START)).isoformat(), end_offset=FUTURE_DAYS
)
with warnings.catch_warnings():
    # the parameter is in beta: without it the first month could have no month before it
    warnings.simplefilter("ignore", dg.BetaWarning)
    month_before = dg.TimeWindowPartitionMapping(
        start_offset=-1, end_offset=-1, allow_nonexistent_upstream_partitions=True
    )
