"""The page of results, docs/benchmarks.md, and its pictures, from the figures in results/.

`python -m benchmarks page --measure` runs all peers at one and at ten million events in one call, then the raw logs.
"""

import argparse
import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from benchmarks import access_logs, against
from benchmarks.logs_to_money import compare
from benchmarks.measuring import RESULTS, ROOT, median
from billing.reports.svg_charts import bars

PAGE: Final = ROOT / "docs" / "benchmarks.md"
PICTURES: Final = {"cpu_seconds": "CPU seconds", "peak_mb": "peak memory, MB"}
"""By figure: its title. Each is drawn as docs/images/benchmark-FIGURE.svg."""

_NAMES: Final = {
    "overage": "Overage",
    "duckdb": "DuckDB",
    "pandas": "pandas",
    "sqlite": "SQLite, row by row",
    "postgresql": "PostgreSQL, COPY",
}
_SIZES: Final = ("1m", "10m")

_HEAD: Final = """\
# Benchmarks

What it takes to get from logs to money, beside other tools that do the same work on the same files. Every peer stores
rejected rows with reason and text, deduplicates by (source, id) over the month, writes the counted events, measures
usage and rates it; all must give the same cents, counts, rejects and texts, or the run fails. CPU seconds and memory
are those of the whole process tree.

Repeat it: `make bench` sets the peers up and runs everything; `python -m benchmarks page --measure` runs what this page
shows and writes it again. More figures, and what was learned from them: [performance.md](performance.md).

![CPU seconds for ten million events, by tool](images/benchmark-cpu_seconds.svg)

![Peak memory for ten million events, by tool](images/benchmark-peak_mb.svg)
"""
_LOGS: Final = """\
## Raw access logs

Combined log lines of a web server to usage by account, by a source in the catalogue. Both keep rejected lines with
their text, tell records apart by the SHA-256 of their text and its occurrence in the file, and count a record delivered
again once.
"""
_AGAINST: Final = """\
## Against the last release

The same commands on the same homes by this version and by {version}, in turns
(`python -m benchmarks against {version}`); both issue the same documents. Medians of {pairs} pairs.
"""


def main(options: Sequence[str]) -> int:
    """Write the page and its pictures; the exit status is 1 where peers do not agree.

    Raises
    ------
    SystemExit
        The kept figures are of sides that disagree.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks page")
    parser.add_argument("--measure", action="store_true", help="run the benchmarks of the page first")
    given = parser.parse_args(options)
    status = 0
    if given.measure:
        status = max(compare.compare(["--events", "1000000", "--events", "10000000"]), access_logs.measure([]))
    for path, content in written().items():
        path.write_text(content, encoding="utf-8")
        print(path.relative_to(ROOT))
    return status


def written() -> dict[Path, str]:
    """The page and its pictures: path to content."""
    sizes = [_result(f"logs_to_money_{size}") for size in _SIZES]
    sections = [_HEAD, *map(_peers, sizes), _raw_logs(_result("access_logs")), _earlier(_result("against"))]
    largest = sizes[-1]
    files = {PAGE: "\n".join(sections)}
    for figure, title in PICTURES.items():
        found = {name: Decimal(str(median([run[figure] for run in runs]))) for name, runs in largest["runs"].items()}
        picture = bars(
            f"From {largest['events']:,} events in log files to amounts: {title}",
            [_NAMES[name] for name in found],
            [value.quantize(Decimal(1)) for value in found.values()],
        )
        files[ROOT / "docs" / "images" / f"benchmark-{figure}.svg"] = f"{picture}\n"
    return files


def _result(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text("utf-8"))
    if not found.get("agree", found.get("agreed")):
        raise SystemExit(f"{name}: the sides that it compares disagree, expected the same results")
    return found


def _peers(result: dict[str, Any]) -> str:
    rows = []
    for name, runs in result["runs"].items():
        figures = [median([run[figure] for run in runs]) for figure in ("cpu_seconds", "peak_mb", "seconds")]
        ratios = result["overage_to_peer"].get(name, {})
        taken = ", ".join(_ratio(ratio) for ratio in ratios.values())
        rows.append(
            [_NAMES[name], f"{len(runs)}", f"{figures[0]:.1f}", f"{figures[1]:,.0f}", f"{figures[2]:.1f}", taken]
        )
    title = f"## {result['events']:,} events, {result['accounts']:,} accounts\n"
    heads = ["medians", "runs", "CPU s", "peak MB", "seconds", "Overage takes, of its CPU, memory, time"]
    return "\n".join([title, _table(heads, rows), _machine(result)])


def _ratio(found: dict[str, float]) -> str:
    between = f" ({found['least']:.2f} to {found['greatest']:.2f})" if found["least"] != found["greatest"] else ""
    return f"{found['median']:.2f}x{between}"


def _raw_logs(result: dict[str, Any]) -> str:
    rows = []
    for peer in ("overage", "duckdb"):
        figures = [median([pair[peer][figure] for pair in result["pairs"]]) for figure in ("cpu_seconds", "peak_mb")]
        rows.append([_NAMES[peer], f"{len(result['pairs'])}", f"{figures[0]:.1f}", f"{figures[1]:,.0f}"])
    ratio = median([pair["overage"]["cpu_seconds"] / pair["duckdb"]["cpu_seconds"] for pair in result["pairs"]])
    rows[0].append("")
    rows[1].append(f"{ratio:.2f}x")
    heads = [f"{result['lines']:,} lines, medians", "runs", "CPU s", "peak MB", "Overage takes, of its CPU"]
    return "\n".join([_LOGS, _table(heads, rows), _machine(result)])


def _earlier(result: dict[str, Any]) -> str:
    rows = []
    for name, figures in result["cases"].items():
        months = against.CASES[name].months
        before, now = (median([run["cpu_seconds"] for run in figures[which]]) / months for which in ("before", "now"))
        found = against.ratios(figures)
        rows.append([name, f"{before:.2f}", f"{now:.2f}", f"{found['cpu_seconds']:.2f}x", f"{found['peak_mb']:.2f}x"])
    pairs = max(len(figures["now"]) for figures in result["cases"].values())
    heads = ["", f"CPU s, {result['version']}", "now", "CPU", "memory"]
    text = _AGAINST.format(version=result["version"], pairs=pairs)
    return "\n".join([text, _table(heads, rows), _machine(result)])


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join([*(f"| {' | '.join(line)} |" for line in lines), ""])


def _machine(result: dict[str, Any]) -> str:
    """On what and when the figures were measured."""
    machine = result["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    return (
        f"Measured on {machine['date']}: {machine['processor']}, {machine['processors']} processors, "
        f"{machine['memory_mb']:,} MB, {machine['system']}; Python {machine['python']}, {versions}; load before: "
        f"{machine['load_before']}.\n"
    )
