"""Which step of ingesting and billing costs what: a generated business of three months, PDFs not drawn."""

import argparse
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.measuring import run_measured, write_result
from billing.sample import billing_hint
from pipeline.process_settings import set_memory_and_threads

MEMORY_LIMIT_MB: Final = 2_000
# the sample's customers sign up over the whole time, so fewer than three months of days each carry usage
ACCOUNTS, MONTHS, EVENTS_PER_ACCOUNT_DAY = 10_000, 3, "1.55"
_CHILD: Final = "benchmarks.ingest_and_bill"


def measure(arguments_given: Sequence[str]) -> int:
    """Measure in child processes; the exit status is 1 over the limit of memory."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks ingest_and_bill")
    parser.add_argument("--accounts", type=int, default=ACCOUNTS)
    parser.add_argument("--months", type=int, default=MONTHS)
    parser.add_argument("--events-per-account-day", default=EVENTS_PER_ACCOUNT_DAY)
    parser.add_argument("--shards", type=int, default=0, help="of a month; by the number of accounts unless given")
    parser.add_argument("--profile", type=Path, help="write where the time goes (functions of Python) to this file")
    arguments = parser.parse_args(arguments_given)
    # As the program does before it starts.
    set_memory_and_threads()
    with tempfile.TemporaryDirectory(prefix="overage-benchmark-") as folder:
        home = Path(folder) / "home"
        print("making the home ...", flush=True)
        size = [str(arguments.accounts), str(arguments.months), arguments.events_per_account_day]
        made, _ = run_measured([_CHILD, "make", str(home), *size])
        print(f"ingesting and billing {made['rows']:,} rows of usage ...", flush=True)
        profile = [str(arguments.profile)] if arguments.profile else []
        last, as_of = billing_hint(arguments.months)
        billed, total = run_measured([_CHILD, "bill", str(home), last, str(as_of), str(arguments.shards), *profile])
    result = {
        "accounts": arguments.accounts,
        "months": arguments.months,
        "rows": made["rows"],
        "documents": billed["documents"],
        "total": vars(total),
        "memory_limit_mb": MEMORY_LIMIT_MB,
        "steps": billed["steps"],
    }
    if not arguments.profile:
        # a profiler slows what it watches: such figures are not kept
        write_result("ingest_and_bill", result)
    print(_table(result))
    if total.peak_mb >= MEMORY_LIMIT_MB:
        print(f"too much memory: {total.peak_mb:,} MB, expected less than {MEMORY_LIMIT_MB:,} MB", file=sys.stderr)
        return 1
    return 0


def _table(result: dict[str, Any]) -> str:
    """The figures for a person: a line per step, months added up, the most expensive first."""
    seconds: dict[str, float] = defaultdict(float)
    processor: dict[str, float] = defaultdict(float)
    peak: dict[str, int] = defaultdict(int)
    for cost in result["steps"]:
        seconds[cost["step"]] += cost["seconds"]
        processor[cost["step"]] += cost["cpu_seconds"]
        peak[cost["step"]] = max(peak[cost["step"]], cost["peak_mb"])
    lines = [
        f"{result['rows']:,} rows of usage, {result['accounts']:,} accounts, {result['months']} months, "
        f"{result['documents']:,} documents",
        "",
        f"{'step':<22}{'seconds':>10}{'CPU s':>10}{'peak MB':>10}",
    ]
    for step in sorted(seconds, key=lambda name: -seconds[name]):
        lines.append(f"{step:<22}{seconds[step]:>10.1f}{processor[step]:>10.1f}{peak[step]:>10,}")
    whole = result["total"]
    total = f"{'the whole process':<22}{whole['seconds']:>10.1f}{whole['cpu_seconds']:>10.1f}{whole['peak_mb']:>10,}"
    return "\n".join([*lines, "", total])
