"""A business of many accounts and little usage, from the logs to issued register rows: how does it grow?

PDFs are left out. Of several sizes the exponent says it: 1 is in proportion, 2 the square. What every run takes however
small flattens the fit over all sizes, so that of the last two is given, too.
"""

import argparse
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.measuring import exponent, run_measured, write_result
from benchmarks.month_of_usage import BILLED_MONTH, MONTH, make_month
from pipeline.process_settings import set_memory_and_threads

ACCOUNTS: Final = (1_000, 10_000)
PARTS: Final[Mapping[str, str]] = {"ingest": "ingest", "requests": "ingest", "drafts": "drafts", "issue": "issue"}
_REST: Final = "usage to charges, checks"
_AS_OF: Final = {1: (MONTH, "2026-01-31"), 2: (BILLED_MONTH, "2026-02-28")}


def measure(options: Sequence[str]) -> int:
    """Ingest and bill businesses of each size, each in a process of its own."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks month_of_accounts")
    parser.add_argument("--accounts", type=int, nargs="+", default=ACCOUNTS, help="sizes of the business")
    parser.add_argument("--events", type=int, nargs="+", help="of each size; one for each account unless given")
    parser.add_argument("--months", type=int, choices=(1, 2), default=2, help="the sign-ups, then the closing cycles")
    parser.add_argument("--shards", type=int, default=0, help="of a month; by the number of accounts unless given")
    parser.add_argument("--profile", type=Path, help="write where the time goes (functions of Python) to this file")
    given = parser.parse_args(options)
    # As the program does before it starts.
    set_memory_and_threads()
    events = given.events or given.accounts
    sizes = list(zip(given.accounts * (len(events) if len(given.accounts) == 1 else 1), events, strict=True))
    found = [_one_size(accounts, number, given.months, given.shards, given.profile) for accounts, number in sizes]
    growth: dict[str, dict[str, float]] = {}
    if len(found) > 1:
        of = "accounts" if len(set(given.accounts)) > 1 else "events"
        measured = {part: [run["cpu_seconds"][part] for run in found] for part in found[-1]["cpu_seconds"]}
        measured["memory"] = [run["peak_mb"] for run in found]
        growth = {
            name: {part: exponent([run[of] for run in found[-last:]], up[-last:]) for part, up in measured.items()}
            for name, last in (("of all sizes", len(found)), ("of the last two", 2))
        }
        for name, powers in growth.items():
            print(f"exponent over {of}, {name}: " + ", ".join(f"{part} {power}" for part, power in powers.items()))
    if not given.profile:
        # a profiler slows what it watches: such figures are not kept
        name = "month_of_accounts" if given.events is None else "month_of_accounts_by_events"
        write_result(name, {"months": given.months, "sizes": found, "growth": growth})
    return 0


def _one_size(accounts: int, events: int, months: int, shards: int, profile: Path | None) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="overage-benchmark-") as folder:
        home = str(Path(folder) / "home")
        run_measured(["benchmarks.month_of_accounts", home, str(accounts), str(events)])
        through = [*_AS_OF[months], str(shards), *([str(profile)] if profile else [])]
        billed, total = run_measured(["benchmarks.ingest_and_bill", "bill", home, *through])
    seconds: dict[str, float] = defaultdict(float)
    for cost in billed["steps"]:
        part = PARTS.get(cost["step"], _REST)
        seconds[part if part == "ingest" else f"{cost['month']} {part}"] += cost["cpu_seconds"]
    seconds["all"] = total.cpu_seconds
    run = {
        "accounts": accounts,
        "events": events,
        "documents": billed["documents"],
        "cpu_seconds": {part: round(value, 2) for part, value in seconds.items()},
        "peak_mb": total.peak_mb,
        "seconds": total.seconds,
    }
    print(f"{accounts:,} accounts, {events:,} events, {billed['documents']:,} documents, {total.peak_mb:,} MB, CPU s:")
    print("".join(f"  {part:<34}{value:>8.1f}\n" for part, value in seconds.items()), end="", flush=True)
    return run


def main() -> None:
    """`HOME ACCOUNTS EVENTS`: write the business."""
    home, accounts, events = sys.argv[1:]
    make_month(Path(home), int(events), int(accounts))
    print("{}")


if __name__ == "__main__":
    main()
