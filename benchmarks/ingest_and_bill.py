"""The work that is measured: a generated home, ingested and billed without drawing PDFs, step by step.

Started by `python -m benchmarks` in a process of its own, so that its processor time and peak memory are its alone.
"""

import cProfile
import json
import pstats
import resource
import sys
import time
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import NamedTuple

from billing.month import steps
from billing.month.all_steps import STEPS_OF_A_MONTH
from billing.month.business import Business
from billing.month.issuing import issue_documents
from billing.month.shards import begin_month, each_shard
from billing.month.unbilled import conserved
from billing.sample import write_sample


class Cost(NamedTuple):
    """What one step took; peak memory is that of the process so far."""

    step: str
    month: str | None
    seconds: float
    cpu_seconds: float
    peak_mb: int


def make_home(home: Path, accounts: int, months: int, events_per_account_day: Decimal) -> int:
    """Write the synthetic business and return its number of usage rows."""
    # Figures are compared with those of earlier versions: the same metrics.
    return write_sample(
        home, accounts=accounts, months=months, events_per_account_day=events_per_account_day, seats_and_tokens=False
    ).rows


def ingest_and_bill(home: Path, last: str, as_of: date, shards: int | None = None) -> tuple[list[Cost], int]:
    """Ingest what is delivered and bill all months to the last; return each step's cost and the number of documents."""
    costs: list[Cost] = []

    def measured(step: str, month: str | None, work: Callable[[], object]) -> object:
        started, processor = time.perf_counter(), cpu_seconds()
        result = work()
        spent = round(time.perf_counter() - started, 3), round(cpu_seconds() - processor, 3)
        costs.append(Cost(step, month, *spent, peak_megabytes()))
        return result

    business = Business.load(home, as_of, shards=shards)
    costs.append(Cost("load", None, 0, round(cpu_seconds(), 3), peak_megabytes()))
    measured("ingest", None, lambda: steps.ingest_usage(business))
    measured("requests", None, lambda: business.first_month)
    for month in steps.billed_months(business, last):
        begin_month(business, month)
        shard = None
        for shard in each_shard(business, month):
            for step, write in STEPS_OF_A_MONTH.items():
                measured(step, month, partial(write, shard, month))
            measured("conservation check", month, partial(conserved, shard, month))
        # As in the program, the last shard is given up before the month is issued.
        del shard
        measured("issue", month, partial(issue_documents, business, month))
    return costs, business.register.count()


def peak_megabytes() -> int:
    """The largest resident memory of this process so far."""
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # macOS counts bytes here
    return kilobytes // (1024 * 1024 if sys.platform == "darwin" else 1024)


def cpu_seconds() -> float:
    """Processor seconds of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """`make HOME ACCOUNTS MONTHS EVENTS_PER_ACCOUNT_DAY` or `bill HOME LAST_MONTH AS_OF SHARDS [PROFILE]`, in JSON.

    SHARDS is 0 where the number of accounts decides.
    """
    task, home, *rest = sys.argv[1:]
    if task == "make":
        accounts, months, daily = rest
        result: object = {"rows": make_home(Path(home), int(accounts), int(months), Decimal(daily))}
    else:
        last, as_of, shards, *profile = rest
        profiler = cProfile.Profile() if profile else None
        if profiler:
            profiler.enable()
        costs, documents = ingest_and_bill(Path(home), last, date.fromisoformat(as_of), int(shards) or None)
        if profiler:
            profiler.disable()
            with Path(profile[0]).open("w", encoding="utf-8") as report:
                pstats.Stats(profiler, stream=report).sort_stats("tottime").print_stats(40)
                pstats.Stats(profiler, stream=report).sort_stats("cumulative").print_stats(60)
        result = {"documents": documents, "steps": [cost._asdict() for cost in costs]}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
