"""What a process and all that it starts take: processor seconds, peak memory and time; and the machine it ran on."""

import json
import os
import platform
import resource
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from math import log
from pathlib import Path
from typing import Any, Final

from billing import __version__

RESULTS: Final = Path(__file__).parent / "results"
ROOT: Final = Path(__file__).parents[1]
_SAMPLE_SECONDS: Final = 0.05
_LOAD_BEFORE: Final = round(os.getloadavg()[0], 1)
_PEERS: Final = ("polars", "duckdb", "pandas", "weasyprint")


@dataclass(frozen=True)
class Cost:
    """What a process tree took; memory is its highest sum of proportional shares, or the largest of one process."""

    cpu_seconds: float
    peak_mb: int
    seconds: float


def run_measured(
    arguments: Sequence[str], seconds_between_looks: float = _SAMPLE_SECONDS
) -> tuple[dict[str, Any], Cost]:
    """Run `python -m ARGUMENTS` by itself; return the JSON that it prints, and what it took.

    Raises
    ------
    SystemExit
        When it fails: a benchmark with a failed part has no result.
    """
    output, cost = measured([sys.executable, "-m", *arguments], seconds_between_looks)
    return json.loads(output), cost


def measured(
    command: Sequence[str], seconds_between_looks: float = _SAMPLE_SECONDS, succeeds: Collection[int] = (0,)
) -> tuple[str, Cost]:
    """Run a command by itself; return what it prints, and what it took.

    To look at the memory of four processes takes 5 ms of a processor, which they lack where they use all there are.

    Parameters
    ----------
    succeeds
        Exit statuses of a command that did its work.

    Raises
    ------
    SystemExit
        When it fails.
    """
    held = _largest_mb(resource.getrusage(resource.RUSAGE_SELF))
    started = time.perf_counter()
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        watch = _Watch(process.pid, seconds_between_looks)
        watch.start()
        output = process.stdout.read() if process.stdout else ""
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        watch.stop()
        process.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        said = errors.read().decode(errors="replace")
    if process.returncode not in succeeds:
        raise SystemExit(f"{said}\n{' '.join(command)} failed with status {process.returncode}")
    # a process begins with the peak of the one that started it: below that the kernel's figure is not its own
    largest = _largest_mb(usage)
    cost = Cost(
        cpu_seconds=round(usage.ru_utime + usage.ru_stime, 2),
        peak_mb=max(largest, watch.peak_mb) if largest > held else watch.peak_mb or largest,
        seconds=round(seconds, 2),
    )
    return output, cost


def _largest_mb(usage: "resource.struct_rusage") -> int:
    # macOS counts bytes here
    return usage.ru_maxrss // (1024 * 1024 if sys.platform == "darwin" else 1024)


class _Watch(threading.Thread):
    """Looks at the memory of a process tree again and again."""

    def __init__(self, root: int, seconds_between_looks: float) -> None:
        super().__init__(daemon=True)
        self.root = root
        self._seconds = seconds_between_looks
        self.peak_mb = 0
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(self._seconds):
            tree = _tree(self.root)
            # of a single process the kernel keeps the peak itself, and asking for shares would hold it up
            kilobytes = sum(map(_proportional_kilobytes, tree)) if len(tree) > 1 else _peak_kilobytes(self.root)
            self.peak_mb = max(self.peak_mb, kilobytes // 1024)

    def stop(self) -> None:
        self._ended.set()
        self.join()


def _tree(root: int) -> list[int]:
    found, waiting = [], [root]
    while waiting:
        process = waiting.pop()
        found.append(process)
        try:
            for task in Path(f"/proc/{process}/task").glob("*/children"):
                waiting += map(int, task.read_text().split())
        except OSError:  # it has ended
            continue
    return found


def _peak_kilobytes(process: int) -> int:
    """What the process itself has held at most so far."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


def _proportional_kilobytes(process: int) -> int:
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    processor = "unknown"
    memory = 0
    if Path("/proc/cpuinfo").exists():
        names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        processor = names[0].partition(":")[2].strip() if names else processor
        total = Path("/proc/meminfo").read_text().splitlines()[0]
        memory = int(total.split()[1]) // 1024
    return {
        "processor": processor,
        "processors": os.cpu_count(),
        "memory_mb": memory,
        "system": f"{platform.system()} {platform.machine()}",
        "python": f"{platform.python_version()} of {sys.base_prefix}",
        "load_before": _LOAD_BEFORE,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "versions": {
            "overage": __version__,
            **{name: version(name) for name in _PEERS if find_spec(name)},
            "sqlite": sqlite3.sqlite_version,
        },
    }


def write_result(name: str, result: dict[str, Any]) -> Path:
    """Keep a result, with the machine that gave it, as benchmarks/results/NAME.json."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    content = {"benchmark": name, "machine": machine(), **result}
    path.write_text(json.dumps(content, indent=2, default=_plain) + "\n", encoding="utf-8")
    return path


def _plain(value: object) -> object:
    return asdict(value) if isinstance(value, Cost) else str(value)


def median(values: Sequence[float]) -> float:
    """The middle value, or the mean of the two in the middle."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def exponent(sizes: Sequence[int], values: Sequence[float]) -> float:
    """The power of the size that fits the values best (least squares of the logarithms)."""
    across, up = [log(size) for size in sizes], [log(max(value, 0.01)) for value in values]
    middle, height = sum(across) / len(across), sum(up) / len(up)
    slope = sum((x - middle) * (y - height) for x, y in zip(across, up, strict=True))
    return round(slope / sum((x - middle) ** 2 for x in across), 2)


if __name__ == "__main__":
    print(json.dumps(machine()))
