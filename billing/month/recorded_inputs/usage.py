"""What a month's usage was measured from, so that a late delivery is added to it instead of measuring all of it again.

Kept beside the fingerprints of the month, written after the table. Whatever does not agree with it, to the last byte of
the table, means that everything is measured anew.
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
from billing.store.files import file_hash
from billing.store.home import Home

FORMAT: Final = 1
"""Raised when equal input would be measured otherwise."""

RECORD: Final = "usage_measured"
_MEASURED_BY: Final = "cycles, levels and metrics"

_HASHED_TOGETHER: Final = 100_000


def measuring_digest(cycles: MonthCycles, levels: pl.DataFrame, metrics: Sequence[Metric]) -> str:
    """A hash of all that the usage of a month is measured from, its events aside.

    Parameters
    ----------
    levels
        LEVELS of the month.
    """
    digest = hashlib.sha256(f"{__version__}/{FORMAT} {pl.__version__}\n".encode())
    for metric in metrics:
        told = (metric.name, metric.kind, metric.measure, metric.carries, str(unit_billionths(metric)))
        digest.update(json.dumps(told).encode())
    # a gauge that first moves after it stood at zero, as one without a row does
    opening = levels.filter(pl.col("opening_level") != 0).select("account_id", "metric", "opening_level")
    for frame in (cycles.spans, cycles.cycles, opening):
        for piece in frame.iter_slices(_HASHED_TOGETHER):
            content = io.BytesIO()
            piece.write_parquet(content, compression="uncompressed", statistics=False)
            digest.update(content.getbuffer())
    return digest.hexdigest()


def added_events(home: Home, month: str, digest: str, events: Mapping[str, str]) -> list[Path] | None:
    """The files of events that the month's table USAGE does not know yet; None when it has to be measured anew.

    Parameters
    ----------
    digest
        As `measuring_digest` now.
    events
        As `event_hashes` now.
    """
    try:
        record = read_record(month_record(home, month, RECORD))
        if record is None:
            return None
        known = {name: content for name, content in record.inputs.items() if name != _MEASURED_BY}
        made = file_hash(home.partition(USAGE, month))
        stands = record.inputs.get(_MEASURED_BY) == digest and record.outputs.get(USAGE.name) == made
    except OSError:
        return None
    # If an event file was removed or changed, its contribution is unknown: measure anew.
    if not stands or any(events.get(name) != content for name, content in known.items()):
        return None
    return [home.lake / name for name in events if name not in known]


def record_measured(home: Home, month: str, digest: str, events: Mapping[str, str]) -> None:
    """Remember what the month's table USAGE, as it stands, was measured from."""
    made = {USAGE.name: file_hash(home.partition(USAGE, month))}
    write_record(month_record(home, month, RECORD), Record({_MEASURED_BY: digest, **events}, made))
