"""Run the peers one after the other, again and again, and put them side by side."""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.logs_to_money.with_postgresql import PROGRAMS
from benchmarks.measuring import Cost, median, run_measured, write_result
from benchmarks.month_of_usage import Month, made_month

PAIRS: Final = {1_000_000: 5, 10_000_000: 5, 50_000_000: 3}
"""How often Overage and DuckDB take turns, by number of events."""

OTHERS: Final = ("pandas", "sqlite", "postgresql")
PEERS: Final = ("duckdb", *OTHERS)

OTHERS_UP_TO: Final = 10_000_000
"""The slow ones take part once, up to so many events."""


def compare(arguments: Sequence[str]) -> int:
    """Compare at every size; the exit status is 1 where not all agree."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks logs_to_money")
    parser.add_argument("--events", type=int, action="append", help="a size; default: 1, 10 and 50 million")
    parser.add_argument("--pairs", type=int, help="pairs at each size; default: 5, at 50 million 3")
    parser.add_argument("--folder", type=Path, help="where made-up months are kept; default: a temporary folder")
    parser.add_argument("--peers", nargs="+", choices=("duckdb", *OTHERS), help="the peers; default: all")
    given = parser.parse_args(arguments)
    agreed = True
    with tempfile.TemporaryDirectory(prefix="overage-benchmark-") as scratch:
        for events in given.events or PAIRS:
            home = (given.folder or Path(scratch)) / f"{events // 1_000_000}m"
            print(f"making {events:,} events ...", flush=True)
            month = made_month(home, events)
            result = _compared(month, given.pairs or PAIRS.get(events, 3), Path(scratch), given.peers or PEERS)
            agreed = agreed and result["agreed"]
            write_result(f"logs_to_money_{events // 1_000_000}m", result)
            print(table(result), flush=True)
    return 0 if agreed else 1


def _compared(month: Month, pairs: int, scratch: Path, peers: Sequence[str]) -> dict[str, Any]:
    in_turns = ["overage", *(name for name in PEERS[:1] if name in peers)]
    turns = in_turns * pairs
    if month.events <= OTHERS_UP_TO:
        turns += [name for name in OTHERS if name in peers and (name != "postgresql" or PROGRAMS)]
    runs: dict[str, list[Cost]] = {}
    answers: dict[str, dict[str, Any]] = {}
    agreed = True
    for turn, name in enumerate(turns):
        with tempfile.TemporaryDirectory(prefix=f"{name}-", dir=scratch) as folder:
            answer, cost = run_measured(
                [f"benchmarks.logs_to_money.with_{name}", str(month.home), str(Path(folder) / "work")]
            )
        runs.setdefault(name, []).append(cost)
        answers.setdefault(name, answer)
        print(
            f"  {turn + 1}/{len(turns)} {name}: {cost.cpu_seconds} CPU s, {cost.peak_mb} MB, {cost.seconds} s",
            flush=True,
        )
        if answer != answers["overage"]:
            agreed = False
            print(f"{name} disagrees: {answer}, expected {answers['overage']}", file=sys.stderr)
    return {
        "events": month.events,
        "accounts": month.accounts,
        "agreed": agreed,
        "answer": answers["overage"],
        # figures of other calls were taken on another day, and on a machine in another state
        "ran_in_one_call": list(dict.fromkeys(turns)),
        "turns": turns,
        "runs": {name: [vars(cost) for cost in costs] for name, costs in runs.items()},
        "overage_to_peer": {name: _ratios(runs["overage"], costs) for name, costs in runs.items() if name != "overage"},
    }


def _ratios(ours: Sequence[Cost], theirs: Sequence[Cost]) -> dict[str, dict[str, float]]:
    """Of each figure: the median, least and greatest of the ratios of the runs that stood next to each other."""
    found = {}
    for figure in ("cpu_seconds", "peak_mb", "seconds"):
        own = [getattr(cost, figure) for cost in ours]
        other = [getattr(cost, figure) for cost in theirs]
        if len(own) != len(other):
            own = [median(own)] * len(other)
        ratios = [one / two for one, two in zip(own, other, strict=True)]
        found[figure] = {
            "median": round(median(ratios), 2),
            "least": round(min(ratios), 2),
            "greatest": round(max(ratios), 2),
        }
    return found


def table(result: dict[str, Any]) -> str:
    """A comparison for a person."""
    lines = [
        f"{result['events']:,} events of {result['accounts']:,} accounts, medians; "
        f"{'all agree to the cent' if result['agreed'] else 'THEY DISAGREE'}",
        "",
        f"{'':<12}{'runs':>6}{'CPU s':>10}{'peak MB':>10}{'seconds':>10}   Overage takes, of its CPU, memory, time",
    ]
    for name, runs in result["runs"].items():
        figures = [median([run[figure] for run in runs]) for figure in ("cpu_seconds", "peak_mb", "seconds")]
        ratios = result["overage_to_peer"].get(name)
        said = "   " + ", ".join(f"{found['median']:.2f}x" for found in ratios.values()) if ratios else ""
        lines.append(f"{name:<12}{len(runs):>6}{figures[0]:>10.1f}{figures[1]:>10,.0f}{figures[2]:>10.1f}{said}")
    return "\n".join(lines)
