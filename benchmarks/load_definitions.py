"""Loading the definitions, as every process of Dagster does before it does anything, beside loading Dagster alone.

Both start a new interpreter; files are in the page cache after the first run, which is not counted.
"""

import json
import sys
from collections.abc import Sequence
from importlib import import_module
from statistics import median
from typing import Final

from benchmarks.measuring import Cost, run_measured, write_result

RUNS: Final = 7
MODULES: Final = ("dagster", "pipeline.definitions")
LIMIT_SECONDS: Final = 3
"""Processor seconds that loading may take: a person waits for it with every command."""


def measure(options: Sequence[str]) -> int:
    """Load each in processes of their own that take turns, and keep what each took; 1 when it takes too long."""
    if options:
        print(f"found {' '.join(options)}, expected no options", file=sys.stderr)
        return 2
    costs: dict[str, list[Cost]] = {module: [] for module in MODULES}
    for run in range(RUNS + 1):
        for module in MODULES:
            _, cost = run_measured(["benchmarks.load_definitions", module])
            if run:
                costs[module].append(cost)
    middle = {module: median(cost.cpu_seconds for cost in each) for module, each in costs.items()}
    found = {
        module: {
            "cpu_seconds": [cost.cpu_seconds for cost in each],
            "median_cpu_seconds": middle[module],
            "median_seconds": median(cost.seconds for cost in each),
            "peak_mb": max(cost.peak_mb for cost in each),
        }
        for module, each in costs.items()
    }
    for module in MODULES:
        print(f"  {module}: {middle[module]:.2f} CPU s, {found[module]['peak_mb']} MB", flush=True)
    write_result("load_definitions", {"runs": RUNS, **found})
    return int(middle["pipeline.definitions"] >= LIMIT_SECONDS)


def main() -> None:
    """Load what is named."""
    import_module(sys.argv[1])
    print(json.dumps({}))


if __name__ == "__main__":
    main()
