"""This version against an earlier one: the same commands on the same homes, in turns, and the same documents.

The earlier version is checked out of the repository's history into a folder, with an environment of its own from its
own lock, made by the same Python. Both are asked through the command line only.
"""

import argparse
import csv
import io
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.measuring import ROOT, Cost, measured, median, write_result

PAIRS: Final = 5
_PROGRAM: Final = Path("bin", "overage")
_BILLED: Final = (0, 1)
"""Exit statuses of `bill`; with 1 an account is parked, as some of the sample are."""


@dataclass(frozen=True)
class Case:
    """One command that is measured.

    Attributes
    ----------
    made_by
        Command that makes the home, without its folder.
    before
        Command that runs first, unmeasured; empty: none.
    measured
        The measured command.
    late
        Folder of usage that is delivered only for the measured command.
    months
        By how many months the figures are divided.
    """

    made_by: tuple[str, ...]
    before: tuple[str, ...]
    measured: tuple[str, ...]
    late: str = ""
    months: int = 1


_INIT: Final = ("init",)
_FIRST: Final = ("bill", "2026-01", "--as-of", "2026-01-31")
_SIX: Final = ("bill", "2026-01", "--through", "2026-06", "--as-of", "2026-06-30")
_SAMPLE: Final = ("sample", "--accounts", "400", "--months", "2")
_TWO: Final = ("bill", "2026-01", "--through", "2026-02", "--as-of", "2026-02-28")
_BUSY: Final = ("sample", "--accounts", "40", "--months", "1", "--events-per-account-day", "800")

CASES: Final = {
    "a first month of the starting home": Case(_INIT, (), _FIRST),
    "each further month of it": Case(_INIT, _FIRST, _SIX, months=5),
    "six months in which nothing moved": Case(_INIT, _SIX, _SIX),
    "two months of 400 accounts": Case(_SAMPLE, (), _TWO),
    "one late day of 59 of them": Case(_SAMPLE, _TWO, _TWO, late="landing/usage/2026-02-15"),
    "a month of 40 accounts and a million events": Case(_BUSY, (), _FIRST),
}


def measure(arguments: Sequence[str]) -> int:
    """Measure pairs with an earlier version; the exit status is 1 where the two issue other documents.

    Raises
    ------
    SystemExit
        The version is not in the history, or a command failed.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks against")
    parser.add_argument("version", help="a version (0.4.0), a tag or a commit")
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--case", action="append", choices=list(CASES), help="default: all")
    parser.add_argument("--folder", type=Path, help="where the earlier version is kept; default: a temporary folder")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="overage-against-") as scratch:
        commit = commit_of(given.version)
        earlier = _installed(commit, (given.folder or Path(scratch)) / commit[:12])
        programs = {"before": earlier / _PROGRAM, "now": Path(sys.prefix) / _PROGRAM}
        figures: dict[str, Any] = {}
        agree = True
        for name in given.case or CASES:
            runs: dict[str, list[Cost]] = {"before": [], "now": []}
            for pair in range(given.pairs):
                issued = {}
                for which in ("before", "now") if pair % 2 == 0 else ("now", "before"):
                    cost, issued[which] = _run(CASES[name], programs["before"], programs[which], Path(scratch) / "home")
                    runs[which].append(cost)
                if issued["before"] != issued["now"]:
                    agree = False
                    print(f"{name}: the documents differ", file=sys.stderr)
            figures[name] = {which: [vars(cost) for cost in costs] for which, costs in runs.items()}
            print(_line(name, figures[name], CASES[name].months), flush=True)
        write_result("against", {"version": given.version, "commit": commit, "agree": agree, "cases": figures})
    return 0 if agree else 1


def commit_of(version: str) -> str:
    """The commit of a version: a tag or any name that git knows, else the one that first gave the program its number.

    Raises
    ------
    SystemExit
        The history does not have it.
    """
    for name in (f"v{version}", version):
        found = _git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
        if found:
            return found
    numbered = _git("log", "--reverse", "--format=%H", f'-S__version__ = "{version}"', "--", "billing/__init__.py")
    if not numbered:
        raise SystemExit(f"unknown version: found {version}, expected a version, tag or commit of this repository")
    return numbered.splitlines()[0]


def ratios(figures: dict[str, Any]) -> dict[str, float]:
    """Of a case: now by before, the median over its pairs, by figure."""
    found = {}
    for figure in ("cpu_seconds", "peak_mb", "seconds"):
        pairs = zip(figures["now"], figures["before"], strict=True)
        found[figure] = round(median([now[figure] / max(before[figure], 0.01) for now, before in pairs]), 2)
    return found


def _line(name: str, figures: dict[str, Any], months: int) -> str:
    before, now = (median([run["cpu_seconds"] for run in figures[which]]) / months for which in ("before", "now"))
    found = ratios(figures)
    return f"{name}: {before:.2f} to {now:.2f} CPU s, {found['cpu_seconds']:.2f}x; memory {found['peak_mb']:.2f}x"


def _git(*arguments: str) -> str:
    found = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)
    return found.stdout.strip() if found.returncode == 0 else ""


def _installed(commit: str, folder: Path) -> Path:
    """The environment of an earlier version, made where it is not there yet."""
    environment = folder / ".venv"
    if not (environment / _PROGRAM).exists():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run(["git", "clone", "--quiet", "--shared", "--no-checkout", str(ROOT), str(folder)], check=True)
        subprocess.run(["git", "-C", str(folder), "checkout", "--quiet", "--detach", commit], check=True)
        python = str(Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}")
        subprocess.run(["make", "-C", str(folder), f"PYTHON={python}", ".venv/.libraries"], check=True)
    return environment


def _run(case: Case, maker: Path, program: Path, home: Path) -> tuple[Cost, list[tuple[str, str]]]:
    """Make a home anew and run the command on it; what it took, and number and total of what is issued then."""
    shutil.rmtree(home, ignore_errors=True)
    measured([str(maker), case.made_by[0], str(home), *case.made_by[1:]])
    aside = home.with_name("late")
    if case.late:
        shutil.move(home / case.late, aside)
    where = ["--home", str(home)]
    if case.before:
        measured([str(program), *case.before, *where], succeeds=_BILLED)
    if case.late:
        shutil.move(aside, home / case.late)
    _, cost = measured([str(program), *case.measured, *where], succeeds=_BILLED)
    listed, _ = measured([str(program), "show", "documents", "--format", "csv", *where])
    return cost, [(row["number"], row["total"]) for row in csv.DictReader(io.StringIO(listed))]
