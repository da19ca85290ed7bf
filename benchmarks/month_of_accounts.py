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

from benchmarks.measuring import exponent, median, run_measured, write_result
from benchmarks.month_of_usage import BILLED_MONTH, MONTH, make_month
from pipeline.process_settings import set_memory_and_threads

ACCOUNTS: Final = (1_000, 10_000)
PARTS: Final[Mapping[str, str]] = {
    "load": "load",
    "ingest": "ingest",
    "requests": "ingest",
    "drafts": "drafts",
    "issue": "issue",
}
_REST: Final = "usage to charges, checks"
_AS_OF: Final = {1: (MONTH, "2026-01-31"), 2: (BILLED_MONTH, "2026-02-28")}


def measure(options: Sequence[str]) -> int:
    """Ingest and bill businesses of each size, each in a process of its own."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks month_of_accounts")
    parser.add_argument("--accounts", type=int, nargs="+", default=ACCOUNTS, help="sizes of the business")
    parser.add_argument("--events", type=int, nargs="+", help="of each size; one for each account unless given")
    parser.add_argument("--months", type=int, choices=(1, 2), default=2, help="the sign-ups, then the closing cycles")
    parser.add_argument("--shards", type=int, default=0, help="of a month; by the number of accounts unless given")
    parser.add_argument("--offers", action="store_true", help="plain accounts, and as many with offers, in turns")
    parser.add_argument("--turns", type=int, default=1, help="of plain accounts and those with offers")
    parser.add_argument("--profile", type=Path, help="write where the time goes (functions of Python) to this file")
    given = parser.parse_args(options)
    # As the program does before it starts.
    set_memory_and_threads()
    events = given.events or given.accounts
    sizes = list(zip(given.accounts * (len(events) if len(given.accounts) == 1 else 1), events, strict=True))
    if given.offers:
        compared = [_with_offers(*size, given) for size in sizes]
        if not given.profile:
            write_result("month_of_accounts_with_offers", {"months": given.months, "sizes": compared})
        return 0
    found = [_one_size(*size, given) for size in sizes]
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


def _with_offers(accounts: int, events: int, given: argparse.Namespace) -> dict[str, Any]:
    """A coupon, an add-on and emails by three dimensions for every account, against none: both in turns."""
    runs = [
        (_one_size(accounts, events, given), _one_size(accounts, events, given, "offers")) for _ in range(given.turns)
    ]
    plain, offers = ([run[place] for run in runs] for place in (0, 1))
    ratios = {
        "cpu": median([two["cpu_seconds"]["all"] / one["cpu_seconds"]["all"] for one, two in runs]),
        "memory": median([two["peak_mb"] / one["peak_mb"] for one, two in runs]),
    }
    said = f"{ratios['cpu']:.2f}x the CPU, {ratios['memory']:.2f}x the memory"
    print(f"with offers: {said} (medians of {given.turns} pairs)")
    return {"accounts": accounts, "plain": plain, "with_offers": offers, "ratios": ratios}


def _one_size(accounts: int, events: int, given: argparse.Namespace, *sold: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="overage-benchmark-") as folder:
        home = str(Path(folder) / "home")
        run_measured(["benchmarks.month_of_accounts", home, str(accounts), str(events), *sold])
        through = [*_AS_OF[given.months], str(given.shards), *([str(given.profile)] if given.profile else [])]
        billed, total = run_measured(["benchmarks.ingest_and_bill", "bill", home, *through])
    seconds: dict[str, float] = defaultdict(float)
    for cost in billed["steps"]:
        part = PARTS.get(cost["step"], _REST)
        seconds[part if part in ("load", "ingest") else f"{cost['month']} {part}"] += cost["cpu_seconds"]
    seconds["all"] = total.cpu_seconds
    run = {
        "accounts": accounts,
        "events": events,
        "documents": billed["documents"],
        "cpu_seconds": {part: round(value, 2) for part, value in seconds.items()},
        "peak_mb": total.peak_mb,
        "seconds": total.seconds,
    }
    name = " ".join([f"{accounts:,} accounts", *sold])
    print(f"{name}, {events:,} events, {billed['documents']:,} documents, {total.peak_mb:,} MB, CPU s:")
    print("".join(f"  {part:<34}{value:>8.1f}\n" for part, value in seconds.items()), end="", flush=True)
    return run


def main() -> None:
    """`HOME ACCOUNTS EVENTS [offers]`: write the business."""
    home, accounts, events, *sold = sys.argv[1:]
    make_month(Path(home), int(events), int(accounts), offers=bool(sold))
    print("{}")


if __name__ == "__main__":
    main()
