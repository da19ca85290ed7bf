"""A day delivered as many files of one event each: what does a file take, and how many files does the lake hold?

Two turns, each a process of its own: all files at once, and one file more.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Final

from benchmarks.measuring import run_measured, write_result
from billing.month import steps
from billing.month.business import Business
from billing.starter import starter_catalogue

FILES, ACCOUNTS = 100_000, 100
_MOST_MILLISECONDS: Final = 3
_MOST_FILES_IN_LAKE: Final = 200
_DAY: Final = date(2026, 1, 12)


def measure(options: Sequence[str]) -> int:
    """Let the files come in; the exit status is 1 where a file takes too long, or the lake holds too many."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks many_small_files")
    parser.add_argument("--files", type=int, default=FILES)
    given = parser.parse_args(options)
    with tempfile.TemporaryDirectory(prefix="overage-benchmark-") as folder:
        home = Path(folder) / "home"
        print(f"making {given.files:,} files of an event ...", flush=True)
        _make(home, given.files)
        found, first = run_measured([__name__, str(home)])
        _deliver(home, given.files)
        again, more = run_measured([__name__, str(home)])
    each = round(1_000 * first.cpu_seconds / given.files, 3)
    print(
        f"{given.files:,} files: {first.cpu_seconds} CPU s ({each} ms a file), {first.peak_mb:,} MB, "
        f"{found['files_in_lake']} files in the lake; one file more: {more.cpu_seconds} CPU s"
    )
    result = {"files": given.files, "milliseconds_per_file": each, **found, "all": vars(first), "one_more": vars(more)}
    write_result("many_small_files", result)
    is_whole = (found["counted"], again["counted"]) == (given.files, given.files + 1)
    return 0 if is_whole and each < _MOST_MILLISECONDS and found["files_in_lake"] <= _MOST_FILES_IN_LAKE else 1


def main() -> None:
    """`HOME`: ingest what was delivered."""
    home = Path(sys.argv[1])
    business = Business.load(home, _DAY)
    outcome = steps.ingest_usage(business)
    in_lake = sum(path.is_file() for path in business.home.lake.rglob("*"))
    print(json.dumps({"counted": outcome.counted, "files_in_lake": in_lake}))


def _make(home: Path, files: int) -> None:
    landing = home / "landing"
    landing.mkdir(parents=True)
    (landing / "catalogue.yaml").write_text(starter_catalogue())
    accounts = "".join(f"account-{each}\n" for each in range(ACCOUNTS))
    (landing / "accounts.csv").write_text(f"account_id\n{accounts}")
    for each in range(files):
        _deliver(home, each)


def _deliver(home: Path, each: int) -> None:
    event = {
        "specversion": "1.0",
        "id": f"event-{each}",
        "source": "/stream",
        "type": "email.sent",
        "subject": f"account-{each % ACCOUNTS}",
        "time": f"{_DAY}T{each % 24:02d}:00:00Z",
        "data": {"count": 1},
    }
    path = home / "landing" / "usage" / f"{_DAY:%Y/%m/%d}" / f"{each % 24:02d}" / f"stream-1-{each:08d}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(event) + "\n")


if __name__ == "__main__":
    main()
