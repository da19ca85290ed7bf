"""A billion events a month by measured parts: parsing and writing one percent by two workers, and identity by slices.

One percent of each delivery day of a month of a billion events is ingested by the stages that an engine gives to
workers: two processes parse, one decides, two write. Then hashes of a month are compared by slices on disk, and a shard
of the accounts reads its events. The rest is arithmetic: parsing and writing are a hundred times one percent, on
as many workers as there are.
"""

import argparse
import json
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from typing import IO, Any, Final

import polars as pl

from benchmarks.identity_of_events import find_repeats
from benchmarks.ingest_and_bill import cpu_seconds, peak_megabytes
from benchmarks.measuring import run_measured, write_result
from benchmarks.month_of_usage import account_names, made_month
from billing.ingest.events import event_files, scan_events
from billing.ingest.stages import batches, decide_days, finish_ingest, parse_batch, plan_ingest, write_batch
from billing.inputs.catalogue_file import load_catalogue
from billing.model.buckets import bucket_ranges
from billing.store.home import Home

EVENTS: Final = 10_000_000
ACCOUNTS: Final = 1_000_000
HASHES: Final = 100_000_000
WORKERS: Final = 2
SHARDS: Final = 4
MONTH: Final = "2026-01"
_BATCH: Final = 32 * 1024 * 1024


def measure(options: Sequence[str]) -> int:
    """Ingest a part by stages, compare hashes, and say what the whole takes; the exit status is 1 where it is wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks billion_events")
    parser.add_argument("--events", type=int, default=EVENTS, help="the part that is ingested")
    parser.add_argument("--accounts", type=int, default=ACCOUNTS)
    parser.add_argument("--hashes", type=int, default=HASHES, help="a billion need 8 GB of disk for temporary files")
    parser.add_argument("--home", type=Path, help="a folder for the made-up month, which is kept there")
    given = parser.parse_args(options)
    with tempfile.TemporaryDirectory(prefix="overage-bench-") as folder:
        root = given.home or Path(folder) / "home"
        made_month(root, given.events, given.accounts)
        ingested = _ingest(root, given.accounts)
        shard, cost = run_measured([__name__, "read", str(root)])
        hashes, _ = run_measured([__name__, "identity", str(given.hashes)])
    result = {"events": given.events, "accounts": given.accounts, **ingested, "shard": shard, "identity": hashes}
    write_result("billion_events", result)
    for name, found in ingested.items():
        print(f"{name}: {found['cpu_seconds']:.1f} CPU s, {found['mb']:,} MB at most in a process")
    print(
        f"a shard of {SHARDS}: {shard['events']:,} events, {shard['cpu_seconds']:.1f} CPU s, {cost.peak_mb:,} MB; "
        f"{shard['bytes'] / shard['bytes_of_all']:.0%} of the bytes of all events"
    )
    print(f"identity of {given.hashes:,}: {hashes['cpu_seconds']:.0f} CPU s, {hashes['mb']:,} MB")
    return 0 if hashes["repeated"] == hashes["expected"] else 1


def _ingest(root: Path, accounts: int) -> dict[str, dict[str, float]]:
    """What each stage took: those of the head in this process, the others in workers."""
    home, catalogue = Home(root), load_catalogue(root / "landing" / "catalogue.yaml")
    started = cpu_seconds()
    plan = plan_ingest(
        home,
        metrics=catalogue.metrics,
        accounts=account_names(accounts),
        time_zone=catalogue.time_zone,
        lateness_days=catalogue.policy.lateness_days,
        through=date(2026, 2, 28),
    )
    planned = cpu_seconds() - started
    parsed, _ = _by_workers(root, [("parse", plan.settings, plan.root, jobs) for jobs in batches(plan.jobs, _BATCH)])
    started = cpu_seconds()
    decision = decide_days(home, plan)
    decided = cpu_seconds() - started
    wrote, results = _by_workers(root, [("write", plan.settings, days) for days in batches(decision.days, _BATCH)])
    started = cpu_seconds()
    finish_ingest(home, plan, decision, {day: state for written in results for day, state in written.items()})
    head = {"mb": peak_megabytes()}
    return {
        "plan and finish": {"cpu_seconds": planned + cpu_seconds() - started, **head},
        "parse": parsed,
        "decide": {"cpu_seconds": decided, **head},
        "write": wrote,
    }


def _by_workers(root: Path, batches_: Sequence[tuple[Any, ...]]) -> tuple[dict[str, float], list[Any]]:
    """Give batches to processes in turn; what they took together, and what they returned."""
    with ExitStack() as running:
        workers = []
        for place in range(WORKERS):
            process = running.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", __name__, "work", str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
                )
            )
            pickle.dump(batches_[place::WORKERS], _pipe(process.stdin))
            _pipe(process.stdin).close()
            workers.append(process)
        told = [pickle.load(_pipe(process.stdout)) for process in workers]  # noqa: S301  # what our own process says
    cost = {"cpu_seconds": sum(each["cpu_seconds"] for each in told), "mb": max(each["mb"] for each in told)}
    return cost, [result for each in told for result in each["results"]]


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise AssertionError("the process has no pipe")
    return pipe


def _work(home: Home) -> None:
    """Do the batches that come in, and say what that took."""
    results = []
    for stage, *arguments in pickle.load(sys.stdin.buffer):  # noqa: S301  # what our own process says
        results.append(parse_batch(home, *arguments) if stage == "parse" else write_batch(home, *arguments))
    told = {"results": results, "cpu_seconds": cpu_seconds(), "mb": peak_megabytes()}
    pickle.dump(told, sys.stdout.buffer)


def _read_a_shard(home: Home) -> dict[str, float]:
    """Add up the events of one shard of the accounts, as measuring a month does."""
    shard = Home(home.root, bucket_ranges(SHARDS)[1])
    started = cpu_seconds()
    sums = (
        scan_events(shard, [MONTH])
        .group_by("account_id", "metric")
        .agg(pl.len(), pl.col("value").sum())
        .collect(engine="streaming")
    )
    spent = cpu_seconds() - started
    return {
        "accounts": sums["account_id"].n_unique(),
        "events": int(sums["len"].sum()),
        "cpu_seconds": spent,
        "bytes": sum(path.stat().st_size for path in event_files(shard, [MONTH])),
        "bytes_of_all": sum(path.stat().st_size for path in event_files(home, [MONTH])),
    }


def main() -> None:
    """`work HOME`, `read HOME` or `identity HASHES`: one part, in a process of its own."""
    task, argument = sys.argv[1:]
    if task == "work":
        _work(Home(Path(argument)))
        return
    print(json.dumps(_read_a_shard(Home(Path(argument))) if task == "read" else find_repeats(int(argument))))


if __name__ == "__main__":
    main()
