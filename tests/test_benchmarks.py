"""What the benchmarks measure is the process that they measure."""

import ast
import mmap
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import against, page
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


def test_what_the_tests_read_of_benchmarks_needs_no_package_that_only_benchmarks_install() -> None:
    missing = "".join(f"sys.modules['{name}'] = None; " for name in ("numpy", "pandas", "duckdb"))
    subprocess.run([sys.executable, "-c", f"import sys; {missing}import benchmarks.page"], check=True)


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


def test_an_earlier_version_is_the_commit_that_gave_the_program_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(against, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    named = ["-c", "user.name=Somebody", "-c", "user.email=somebody@example.com"]

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(tmp_path), *named, *words], capture_output=True, text=True, check=True
        ).stdout.strip()

    git("init", "--quiet")
    (tmp_path / "billing").mkdir()
    commits = []
    for number, text in (("0.1.0", ""), ("0.2.0", ""), ("0.2.0", "# more"), ("0.3.0", "")):
        (tmp_path / "billing" / "__init__.py").write_text(f'__version__ = "{number}"\n{text}')
        git("add", ".")
        git("commit", "--quiet", "--message", "Change")
        commits.append(git("rev-parse", "HEAD"))
    git("tag", "v0.3.0", commits[2])
    assert [against.commit_of(each) for each in ("0.1.0", "0.2.0", "HEAD")] == [commits[0], commits[1], commits[3]]
    assert against.commit_of("0.3.0") == commits[2], "a tag says more than the number"
    with pytest.raises(SystemExit, match=re.escape("unknown version: found 9.0.0")):
        against.commit_of("9.0.0")


def test_ratios_are_those_of_pairs() -> None:
    before, now = (
        [{"cpu_seconds": each, "peak_mb": 100, "seconds": each} for each in runs] for runs in ((2, 4, 8), (1, 1, 8))
    )
    assert against.ratios({"before": before, "now": now}) == {"cpu_seconds": 0.5, "peak_mb": 1.0, "seconds": 0.5}


def test_the_page_of_results_shows_the_kept_figures() -> None:
    for path, content in page.written().items():
        assert path.read_text("utf-8") == content, f"{path.name}: write it again with `python -m benchmarks page`"
