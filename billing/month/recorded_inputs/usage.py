"""Recorded inputs of a month's usage: a late delivery is added incrementally instead of measuring everything again.

The record is written after the table. If anything differs from it, even one byte of the table, measure everything
again.
"""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import polars as pl

from billing import __version__
from billing.model.catalogue import Metric
from billing.model.quantities import unit_billionths
from billing.model.tables import USAGE
from billing.month.recorded_inputs.record import Record, month_record, read_record, write_record
from billing.rules.cycles import MonthCycles
from billing.rules.dimensions import RuleBook
from billing.store.files import file_hash
from billing.store.home import Home

FORMAT: Final = 1
"""Raised when equal input would be measured otherwise."""

RECORD: Final = "usage_measured"
_MEASURED_BY: Final = "cycles, levels and metrics"

_HASHED_TOGETHER: Final = 100_000


def measuring_digest(
    cycles: MonthCycles,
    levels: pl.DataFrame,
    metrics: Sequence[Metric],
    book: RuleBook | None = None,
    in_force: pl.DataFrame | None = None,
) -> str:
    """A hash of all inputs of a month's usage except its events.

    Parameters
    ----------
    levels
        LEVELS of the month.
    book, in_force
        As in `UsageInputs`.
    """
    digest = hashlib.sha256(f"{__version__}/{FORMAT} {pl.__version__}\n".encode())
    for metric in metrics:
        definition = (metric.name, metric.kind, metric.measure, metric.carries, str(unit_billionths(metric)))
        digest.update(json.dumps(definition).encode())
    by_rules: list[pl.DataFrame] = []
    if book is not None and in_force is not None:
        digest.update(book.fingerprint.encode())
        by_rules = [in_force.sort(in_force.columns)]
    # A gauge at level zero equals one without a row: leave it out of the hash.
    opening = levels.filter(pl.col("opening_level") != 0).select("account_id", "metric", "opening_level")
    for frame in (cycles.spans, cycles.cycles, opening, *by_rules):
        for piece in frame.iter_slices(_HASHED_TOGETHER):
            content = io.BytesIO()
            piece.write_parquet(content, compression="uncompressed", statistics=False)
            digest.update(content.getbuffer())
    return digest.hexdigest()


def added_events(home: Home, month: str, digest: str, events: Mapping[str, str]) -> list[Path] | None:
    """Event files that are not in the month's USAGE yet; None when it has to be measured again.

    Parameters
    ----------
    digest
        As `measuring_digest` now.
    events
        As `event_hashes` now.
    """
    try:
        record = read_record(month_record(home, month, RECORD), may_be_lost=True)
        if record is None:
            return None
        known = {name: content for name, content in record.inputs.items() if name != _MEASURED_BY}
        made = file_hash(home.partition(USAGE, month))
        stands = record.inputs.get(_MEASURED_BY) == digest and record.outputs.get(USAGE.name) == made
    except (OSError, ValueError):
        return None
    # If an event file was removed or changed, its contribution is unknown: measure everything again.
    if not stands or any(events.get(name) != content for name, content in known.items()):
        return None
    return [home.lake / name for name in events if name not in known]


def record_measured(home: Home, month: str, digest: str, events: Mapping[str, str]) -> None:
    """Record the inputs of the month's current USAGE."""
    made = {USAGE.name: file_hash(home.partition(USAGE, month))}
    write_record(month_record(home, month, RECORD), Record({_MEASURED_BY: digest, **events}, made), may_be_lost=True)
