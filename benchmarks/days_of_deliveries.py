"""A year of daily deliveries: what do a month and a day more take, the more has been delivered before?

Two turns a month, each a process of its own, from the logs to the charges: all days of the month but the last, and the
last alone. In either the month and the one before it are measured and rated, which late events belong to.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

from benchmarks.measuring import exponent, run_measured, write_result
from benchmarks.month_of_usage import made_month
from billing.model.calendar import first_day, months_after, months_between
from billing.month import steps
from billing.month.business import Business

ACCOUNTS, EVENTS_PER_DAY, MONTHS = 10_000, 20_000, 12
_FIRST: Final = "2026-01"


def measure(options: Sequence[str]) -> int:
    """Let the months of a year come in, one after the other."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks days_of_deliveries")
    parser.add_argument("--accounts", type=int, default=ACCOUNTS)
    parser.add_argument("--events-per-day", type=int, default=EVENTS_PER_DAY)
    parser.add_argument("--months", type=int, default=MONTHS)
    given = parser.parse_args(options)
    months = months_between(_FIRST, months_after(_FIRST, given.months - 1))
    ends = [first_day(months_after(month, 1)) - timedelta(days=1) for month in months]
    days = [(end - first_day(_FIRST)).days + 1 for end in ends]
    found = []
    with tempfile.TemporaryDirectory(prefix="overage-benchmark-") as folder:
        home = Path(folder) / "home"
        print(f"making {days[-1]} days of {given.events_per_day:,} events ...", flush=True)
        made_month(home, given.events_per_day * days[-1], given.accounts, days=days[-1])
        for end, before in zip(ends, days, strict=True):
            run = {"days": before} | _month(home, end)
            found.append(run)
            print(
                f"{before:>5} days: month {run['month_cpu_seconds']:>6}, last day {run['day_cpu_seconds']:>6} CPU s, "
                f"{run['peak_mb']:>5} MB",
                flush=True,
            )
    growth = {
        name: exponent([run["days"] for run in found], [run[name] for run in found])
        for name in ("month_cpu_seconds", "day_cpu_seconds", "peak_mb")
    }
    print("exponent over days: " + ", ".join(f"{name} {power}" for name, power in growth.items()))
    size = {"accounts": given.accounts, "events_per_day": given.events_per_day}
    write_result("days_of_deliveries", size | {"months": found, "growth": growth})
    return 0


def _month(home: Path, end: date) -> dict[str, Any]:
    _, most = run_measured([__name__, str(home), str(end - timedelta(days=1))])
    answer, last = run_measured([__name__, str(home), str(end)])
    return answer | {
        "month_cpu_seconds": most.cpu_seconds,
        "day_cpu_seconds": last.cpu_seconds,
        "peak_mb": max(most.peak_mb, last.peak_mb),
    }


def main() -> None:
    """`HOME AS_OF`: ingest what was delivered up to a day, and bill the month of the day and the one before."""
    home, as_of = Path(sys.argv[1]), date.fromisoformat(sys.argv[2])
    business = Business.load(home, as_of)
    outcome = steps.ingest_usage(business)
    month = f"{as_of:%Y-%m}"
    for each in [month] if month == _FIRST else [months_after(month, -1), month]:
        steps.write_cycles(business, each)
        steps.write_levels(business, each)
        steps.write_usage(business, each)
        steps.write_packages(business, each)
        steps.write_charges(business, each)
    print(json.dumps({"rows": outcome.rows}))


if __name__ == "__main__":
    main()
