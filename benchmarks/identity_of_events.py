"""Exact identity alone: of how many events is it told which were delivered more than once, and what does that hold?

Hashes are made up, eight bytes an event, as ingest keeps them beside its parsed rows; then those that occur more than
once are looked for, by slices on disk where they are many. The rows behind those, which ingest fetches file by file and
compares as texts, are few and left out.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import polars as pl

from benchmarks.ingest_and_bill import cpu_seconds, peak_megabytes
from benchmarks.measuring import run_measured, write_result
from billing.ingest.hash_slices import HashSlices

EVENTS: Final = 50_000_000
_DAYS: Final = 31
_ONE_REPEATS_OF: Final = 200
_MADE_TOGETHER: Final = 1_000_000
_ODD: Final = 0x9E3779B97F4A7C15
"""Times this number, modulo 2^64: another number for each, all over the range."""


def measure(options: Sequence[str]) -> int:
    """Find the repeats in a process of its own; the exit status is 1 where it finds others."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks identity_of_events")
    parser.add_argument("--events", type=int, default=EVENTS, help="a billion need 8 GB of disk for temporary files")
    given = parser.parse_args(options)
    found, cost = run_measured([__name__, str(given.events)])
    write_result("identity_of_events", found | {"cost": vars(cost)})
    print(
        f"{given.events:,} events, {found['repeated']:,} delivered again: {cost.peak_mb:,} MB, of which "
        f"{found['mb_before']:,} before the first; {found['cpu_seconds']} CPU s to find them"
    )
    return 0 if found["repeated"] == found["expected"] else 1


def main() -> None:
    """`EVENTS`: make up hashes, and find those that come again."""
    events = int(sys.argv[1])
    print(json.dumps(find_repeats(events)))


def find_repeats(events: int) -> dict[str, float]:
    """Of so many events every two hundredth comes again a day later: how many are found, and what that takes."""
    before, spent, expected = peak_megabytes(), 0.0, 0
    with tempfile.TemporaryDirectory(prefix="overage-bench-") as folder, HashSlices(Path(folder)) as slices:
        for day in range(_DAYS):
            first, after = day * events // _DAYS, (day + 1) * events // _DAYS
            for start in range(first, after, _MADE_TOGETHER):
                spent += _add(slices, pl.int_range(start, min(after, start + _MADE_TOGETHER), eager=True))
            # every so many of the day before come again
            again = pl.int_range(max(0, day - 1) * events // _DAYS, first, _ONE_REPEATS_OF, eager=True)
            expected += len(again)
            spent += _add(slices, again)
        started = cpu_seconds()
        repeated = slices.shared()
        spent += cpu_seconds() - started
    return {
        "events": events,
        "repeated": len(repeated),
        "expected": expected,
        "mb_before": before,
        "mb": peak_megabytes(),
        "cpu_seconds": round(spent, 2),
    }


def _add(slices: HashSlices, numbers: pl.Series) -> float:
    hashes = numbers.cast(pl.UInt64) * pl.Series([_ODD], dtype=pl.UInt64)
    started = cpu_seconds()
    slices.add(hashes)
    return cpu_seconds() - started


if __name__ == "__main__":
    main()
