"""What the benchmarks measure is the process that they measure."""

import ast
import mmap
import sys
from pathlib import Path

import pytest

from benchmarks.measuring import run_measured

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
MEGABYTES = 400


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="what a process held is asked of Linux")
def test_a_process_is_not_charged_with_what_the_one_that_started_it_holds() -> None:
    with mmap.mmap(-1, MEGABYTES * 2**20) as held:
        for page in range(0, len(held), mmap.PAGESIZE):
            held[page] = 1
        _, cost = run_measured(["benchmarks.measuring"], seconds_between_looks=0.002)
    assert 0 < cost.peak_mb < MEGABYTES / 4


def test_no_benchmark_makes_its_data_where_it_measures_from() -> None:
    for path in sorted(BENCHMARKS.rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
            called = {
                node.func.id
                for node in ast.walk(function)
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            }
            assert not {"make_month", "run_measured"} <= called, f"{path.name}: {function.name}"
            assert "make_month" not in called or function.name == "main" or path.stem == "month_of_usage", path.name
