"""Delivery days that an ingest would process, found without reading unchanged files."""

from collections.abc import Sequence
from datetime import date

from billing.ingest.landing import DeliveredFile, Landing, delivered_files
from billing.ingest.state import (
    State,
    accounts_digest,
    aliases_digest,
    configuration_digest,
    read_state,
    settled_before,
    stamp,
)
from billing.ingest.validation import Rules
from billing.model.sources import Source, digest_of, source_of
from billing.store.files import file_hash
from billing.store.home import Home


def pending_days(home: Home, rules: Rules, *, through: date, by_content: bool = False) -> list[date]:
    """Delivery days with new or changed files; every day when the catalogue or the accounts changed; sorted.

    Parameters
    ----------
    by_content
        Hash a file whose stamp changed, and leave it out when its bytes did not.
    """
    files = delivered_files(home, through).files
    state = read_state(home)
    if (
        state is None
        or state.pending
        or state.configuration != configuration_digest(rules)
        or state.accounts != accounts_digest(rules.accounts)
        or state.aliases != aliases_digest(rules.aliases)
    ):
        return sorted({file.day for file in files})
    settled = settled_before(home)
    return sorted(
        {file.day for file in files if _is_changed(file, state, settled, rules.sources, by_content=by_content)}
    )


def moved_files(home: Home, landing: Landing, sources: Sequence[Source] = ()) -> list[DeliveredFile]:
    """Delivered files that are new or changed since the last ingest, or read by a source that is.

    A touched file with the same bytes is neither.
    """
    state = read_state(home)
    if state is None:
        return list(landing.files)
    settled = settled_before(home)
    return [file for file in landing.files if _is_changed(file, state, settled, sources, by_content=True)]


def _is_changed(
    file: DeliveredFile, state: State, settled: int, sources: Sequence[Source], *, by_content: bool
) -> bool:
    day = state.days.get(file.day)
    known = day.files.get(file.name) if day else None
    source = source_of(file.name, sources)
    if known is None or known.source != digest_of(source):
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
