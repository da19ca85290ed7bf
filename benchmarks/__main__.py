"""`make bench`: measure, print a table, keep the figures in benchmarks/results/, and fail over the limit of memory."""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, Final

import polars as pl

RESULTS: Final = Path(__file__).parent / "results"
MEMORY_LIMIT_MB: Final = 2_000
# the sample's customers sign up over the whole time, so fewer than three months of days each carry usage
ACCOUNTS, MONTHS, EVENTS_PER_ACCOUNT_DAY = 10_000, 3, "1.55"


def main() -> int:
    """Measure in child processes; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--accounts", type=int, default=ACCOUNTS)
    parser.add_argument("--months", type=int, default=MONTHS)
    parser.add_argument("--events-per-account-day", default=EVENTS_PER_ACCOUNT_DAY)
    parser.add_argument("--profile", type=Path, help="write where the time goes (functions of Python) to this file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="overage-benchmark-") as folder:
        home = Path(folder) / "home"
        print("making the home ...", flush=True)
        size = [str(arguments.accounts), str(arguments.months), arguments.events_per_account_day]
        made, _ = _child("make", str(home), *size)
        print(f"ingesting and billing {made['rows']:,} rows of usage ...", flush=True)
        profile = [str(arguments.profile)] if arguments.profile else []
        billed, total = _child("bill", str(home), str(arguments.months), *profile)
    result = {
        "benchmark": "ingest_and_bill",
        "accounts": arguments.accounts,
        "months": arguments.months,
        "rows": made["rows"],
        "documents": billed["documents"],
        **total,
        "memory_limit_mb": MEMORY_LIMIT_MB,
        "processors": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "polars": pl.__version__,
        "steps": billed["steps"],
    }
    if not arguments.profile:
        # a profiler slows what it watches: such figures are not kept
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "ingest_and_bill.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(_table(result))
    if total["peak_mb"] >= MEMORY_LIMIT_MB:
        print(f"too much memory: {total['peak_mb']:,} MB, expected less than {MEMORY_LIMIT_MB:,} MB", file=sys.stderr)
        return 1
    return 0


def _child(*arguments: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run one task in a process of its own; return its result and what the whole process took."""
    command = [sys.executable, "-m", "benchmarks.ingest_and_bill", *arguments]
    started = time.perf_counter()
    with subprocess.Popen(command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True) as process:
        output = process.stdout.read() if process.stdout else ""
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{arguments[0]} failed with status {process.returncode}")
    return json.loads(output), {
        "seconds": round(time.perf_counter() - started, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_mb": usage.ru_maxrss // (1024 * 1024 if sys.platform == "darwin" else 1024),
    }


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
        f"{result['documents']:,} documents; {result['processors']} processors",
        "",
        f"{'step':<22}{'seconds':>10}{'CPU s':>10}{'peak MB':>10}",
    ]
    for step in sorted(seconds, key=lambda name: -seconds[name]):
        lines.append(f"{step:<22}{seconds[step]:>10.1f}{processor[step]:>10.1f}{peak[step]:>10,}")
    total = f"{'the whole process':<22}{result['seconds']:>10.1f}{result['cpu_seconds']:>10.1f}{result['peak_mb']:>10,}"
    return "\n".join([*lines, "", total])


if __name__ == "__main__":
    sys.exit(main())
