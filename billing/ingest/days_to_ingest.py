"""Which delivery days an ingest would look at: found without reading what has not moved."""

from collections.abc import Sequence
from datetime import date

import polars as pl

from billing.ingest.landing import DeliveredFile, Landing, delivered_files
from billing.ingest.state import State, accounts_digest, configuration_digest, read_state, settled_before, stamp
from billing.ingest.validation import Rules
from billing.model.catalogue import Metric
from billing.model.file_limits import DEFAULT_LIMITS, Limits
from billing.store.files import file_hash
from billing.store.home import Home


def pending_days(
    home: Home,
    *,
    metrics: Sequence[Metric],
    accounts: pl.Series,
    time_zone: str,
    lateness_days: int,
    through: date,
    by_content: bool = False,
    limits: Limits = DEFAULT_LIMITS,
) -> list[date]:
    """Delivery days with new or changed files; all of them when the catalogue or the accounts moved; sorted.

    Parameters
    ----------
    by_content
        Read a file that was only copied or touched, and leave it out.
    limits
        How much one file may make of itself.
    """
    rules = Rules.of(metrics, accounts, time_zone, lateness_days, limits)
    files = delivered_files(home, through).files
    state = read_state(home)
    if (
        state is None
        or state.pending
        or state.configuration != configuration_digest(rules)
        or state.accounts != accounts_digest(rules.accounts)
    ):
        return sorted({file.day for file in files})
    settled = settled_before(home)
    return sorted({file.day for file in files if _moved(file, state, settled, by_content=by_content)})


def moved_files(home: Home, landing: Landing) -> list[DeliveredFile]:
    """The delivered files that are new or have changed since the last ingest; those that were only touched are not."""
    state = read_state(home)
    if state is None:
        return list(landing.files)
    settled = settled_before(home)
    return [file for file in landing.files if _moved(file, state, settled, by_content=True)]


def _moved(file: DeliveredFile, state: State, settled: int, *, by_content: bool) -> bool:
    day = state.days.get(file.day)
    known = day.files.get(file.name) if day else None
    if known is None:
        return True
    if file.fault:
        return False
    try:
        now = stamp(file)
        is_stamped = state.stamps.get(f"{file.day.isoformat()}/{file.name}") == now
        if not is_stamped and not by_content:
            return True
        return (not is_stamped or now[2] >= settled) and file_hash(file.path) != known.sha256
    except OSError:
        return True
