"""A billion events a month by measured parts: parsing and writing one percent by two workers, and identity by slices.

One percent of each delivery day of a month of a billion events is ingested by the stages that an engine gives to
workers: two processes parse, one decides, two write. Then hashes of a month are compared by slices on disk, and a shard
of the accounts reads its events. The rest is arithmetic: parsing and writing are a hundred times one percent, on
as many workers as there are.
"""

import argparse
import json
import pickle
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any, Final

import polars as pl

from benchmarks.identity_of_events import find_repeats
from benchmarks.ingest_and_bill import cpu_seconds
from benchmarks.measuring import Cost, run_measured, write_result
from benchmarks.month_of_usage import account_names, made_month
from billing.ingest.events import event_files, scan_events
from billing.ingest.stages import batches, decide_days, finish_ingest, parse_batch, plan_ingest, write_batch
from billing.ingest.state import DayState
from billing.ingest.validation import Rules
from billing.inputs.catalogue_file import load_catalogue
from billing.model.buckets import bucket_ranges
from billing.store.home import Home
from pipeline.process_settings import set_memory_and_threads

EVENTS: Final = 10_000_000
ACCOUNTS: Final = 1_000_000
HASHES: Final = 100_000_000
WORKERS: Final = 2
SHARDS: Final = 4
MONTH: Final = "2026-01"
_BATCH: Final = 32 * 1024 * 1024


def measure(options: Sequence[str]) -> int:
    """Ingest a part by stages, compare hashes, and say what each took; the exit status is 1 where it is wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks billion_events")
    parser.add_argument("--events", type=int, default=EVENTS, help="the part that is ingested")
    parser.add_argument("--accounts", type=int, default=ACCOUNTS)
    parser.add_argument("--hashes", type=int, default=HASHES, help="a billion need 8 GB of disk for temporary files")
    parser.add_argument("--home", type=Path, help="a folder for the made-up month, which is kept there")
    given = parser.parse_args(options)
    set_memory_and_threads()
    stages: dict[str, Cost] = {}
    with tempfile.TemporaryDirectory(prefix="overage-bench-") as folder:
        root = given.home or Path(folder) / "home"
        made_month(root, given.events, given.accounts)
        for stage in ("plan", "parse", "decide", "write", "finish"):
            stages[stage] = _by_processes(stage, root, Path(folder), given.accounts)
            cost = stages[stage]
            print(f"{stage}: {cost.cpu_seconds:.1f} CPU s, {cost.peak_mb:,} MB at most in a process", flush=True)
        shard, cost = run_measured([__name__, "read", str(root), folder, ""])
        hashes, identity = run_measured([__name__, "identity", str(root), folder, str(given.hashes)])
    print(
        f"a shard of {SHARDS}: {shard['events']:,} events, {shard['cpu_seconds']:.1f} CPU s, {cost.peak_mb:,} MB; "
        f"{shard['bytes'] / shard['bytes_of_all']:.0%} of the bytes of all events"
    )
    print(f"identity of {given.hashes:,}: {hashes['cpu_seconds']:.1f} CPU s, {identity.peak_mb:,} MB")
    plain = {stage: vars(cost) for stage, cost in stages.items()}
    result = {"events": given.events, "accounts": given.accounts, "stages": plain, "shard": shard, "identity": hashes}
    write_result("billion_events", result)
    return 0 if hashes["repeated"] == hashes["expected"] else 1


def _by_processes(stage: str, root: Path, folder: Path, accounts: int) -> Cost:
    """Run a stage: parse and write by workers at once, each in a process; processor time is that of all."""
    places = range(WORKERS if stage in ("parse", "write") else 1)

    def run(place: int) -> Cost:
        return run_measured([__name__, stage, str(root), str(folder), str(place if len(places) > 1 else accounts)])[1]

    with ThreadPoolExecutor(len(places)) as pool:
        costs = list(pool.map(run, places))
    return Cost(
        cpu_seconds=round(sum(cost.cpu_seconds for cost in costs), 2),
        peak_mb=max(cost.peak_mb for cost in costs),
        seconds=max(cost.seconds for cost in costs),
    )


class _Spool:
    """What one process hands to the next."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, name: str, thing: object) -> None:
        (self._folder / name).write_bytes(pickle.dumps(thing))

    def get(self, name: str) -> Any:
        return pickle.loads((self._folder / name).read_bytes())  # noqa: S301  # our own process wrote it


def _plan(home: Home, spool: _Spool, accounts: int) -> None:
    catalogue = load_catalogue(home.landing / "catalogue.yaml")
    rules = Rules.of_catalogue(catalogue, account_names(accounts))
    plan = plan_ingest(home, rules, through=date(2026, 2, 28))
    spool.put("plan", plan)


def _parse(home: Home, spool: _Spool, place: int) -> None:
    plan = spool.get("plan")
    for jobs in batches(plan.jobs, _BATCH)[place::WORKERS]:
        parse_batch(home, plan.settings, plan.root, jobs)


def _decide(home: Home, spool: _Spool, _: int) -> None:
    spool.put("decision", decide_days(home, spool.get("plan")))


def _write(home: Home, spool: _Spool, place: int) -> None:
    plan, decision = spool.get("plan"), spool.get("decision")
    written: dict[date, DayState] = {}
    for days in batches(decision.days, _BATCH)[place::WORKERS]:
        written |= write_batch(home, plan.settings, days)
    spool.put(f"written-{place}", written)


def _finish(home: Home, spool: _Spool, _: int) -> None:
    written = [spool.get(f"written-{place}") for place in range(WORKERS)]
    days = {day: state for each in written for day, state in each.items()}
    finish_ingest(home, spool.get("plan"), spool.get("decision"), days)


_STAGES: Final[dict[str, Callable[[Home, _Spool, int], None]]] = {
    "plan": _plan,
    "parse": _parse,
    "decide": _decide,
    "write": _write,
    "finish": _finish,
}


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
    """`PART HOME FOLDER NUMBER`: a stage, `read` or `identity`, in a process of its own."""
    task, root, folder, number = sys.argv[1:]
    if task in _STAGES:
        _STAGES[task](Home(Path(root)), _Spool(Path(folder)), int(number))
        print("{}")
        return
    print(json.dumps(_read_a_shard(Home(Path(root))) if task == "read" else find_repeats(int(number))))


if __name__ == "__main__":
    main()
