"""Exact identity alone: of how many events is it told which were delivered more than once, and what does that hold?

Deliveries of texts are made up a day at a time and hashed, as ingest does while it parses; what is held of each is the
hash. Then the shared ones are looked for. The rows behind those, which ingest fetches file by file and compares as
texts, are few and left out.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Final

import numpy as np
import polars as pl

from benchmarks.ingest_and_bill import cpu_seconds, peak_megabytes
from benchmarks.measuring import run_measured, write_result
from benchmarks.month_of_usage import DAYS
from billing.ingest.deduplication import identity_hash, shared_hashes

EVENTS: Final = 50_000_000
_ONE_REPEATS_OF: Final = 200
_HASHED_TOGETHER: Final = 100_000


def measure(options: Sequence[str]) -> int:
    """Find the repeats in a process of its own; the exit status is 1 where it finds others."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks identity_of_events")
    parser.add_argument("--events", type=int, default=EVENTS)
    given = parser.parse_args(options)
    found, cost = run_measured([__name__, str(given.events)])
    write_result("identity_of_events", found | {"cost": vars(cost)})
    print(
        f"{given.events:,} events, {found['repeated']:,} delivered again: {cost.peak_mb:,} MB, of which "
        f"{found['mb_before']:,} before the first; {found['cpu_seconds']} CPU s to find them"
    )
    return 0 if found["repeated"] == found["expected"] else 1


def main() -> None:
    """`EVENTS`: make up identities, and find those that come again."""
    events = int(sys.argv[1])
    before = peak_megabytes()
    hashes, expected = [], 0
    for day in range(DAYS):
        first, after = day * events // DAYS, (day + 1) * events // DAYS
        own = pl.Series(np.arange(first, after))
        # every so many of the day before come again
        again = pl.Series(np.arange((day - 1) * events // DAYS, first, _ONE_REPEATS_OF) if day else [], dtype=pl.Int64)
        expected += len(again)
        delivered = pl.concat([own, again]).to_frame()
        hashes += [_hashed(rows.to_series()) for rows in delivered.iter_slices(_HASHED_TOGETHER)]
    started = cpu_seconds()
    repeated = shared_hashes(hashes)
    print(
        json.dumps(
            {
                "events": events,
                "repeated": len(repeated),
                "expected": expected,
                "mb_before": before,
                "cpu_seconds": round(cpu_seconds() - started, 2),
            }
        )
    )


def _hashed(numbers: pl.Series) -> pl.Series:
    digits = numbers.cast(pl.String).str.zfill(32)
    identities = pl.select(source=pl.lit("/collectors/") + (numbers % 4).cast(pl.String), id=digits)
    return identities.select(identity_hash()).to_series()


if __name__ == "__main__":
    main()
