"""Invoices as PDF: what one costs, drawn by this project and by its peers from the same words.

Every peer is a process of its own that draws the same invoices and ends; the processes of all peers take turns. CPU
seconds are those of the process and everything it started, its start included.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from decimal import localcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

TEMPLATES: Final = Path(__file__).parent / "peers"
SAMPLE: Final = Path(__file__).parent.parent / "invoice_templates" / "sample.json"
RESULTS: Final = Path(__file__).parent / "results"
PAGES: Final = {"one page": 1, "four pages": 16}
"""How often the sample's lines stand on an invoice."""
OURS, NAIVE = "overage", "weasyprint, naive"
GOALS: Final = {"one page": 3.0, "four pages": 1.8}

Draw = Callable[[Mapping[str, Any]], bytes]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure in child processes, print a table and keep the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.invoice_documents", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--documents",
        type=int,
        default=100,
        help="invoices of one page per process and round, and four times as many as of four pages",
    )
    parser.add_argument("--peer", choices=sorted(PEERS), help="draw once as this peer and say what it cost (a child)")
    parser.add_argument("--pages", choices=sorted(PAGES), default="one page")
    parser.add_argument("--keep", type=Path, help="write one invoice of every peer into this folder")
    chosen = parser.parse_args(arguments)
    if chosen.peer:
        print(json.dumps(_as_peer(chosen.peer, chosen.pages, chosen.documents, chosen.keep)))
        return 0
    found = {
        pages: _measured(
            pages, chosen.rounds, chosen.documents if pages == "one page" else chosen.documents // 4, chosen.keep
        )
        for pages in PAGES
    }
    result = {
        "benchmark": "invoice_documents",
        "documents_per_round": chosen.documents,
        "rounds": chosen.rounds,
        "processors": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("weasyprint", "reportlab", "typst")},
        "font_faces_of_the_system": _font_faces(),
        "results": found,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "invoice_documents.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    for pages, peers in found.items():
        print(f"{pages}: CPU milliseconds per invoice (median of {chosen.rounds}), peak MB, naive / this, KB")
        for name, figures in peers.items():
            ratio = figures["naive_over_this"]
            cpu, peak, size = figures["cpu_ms"], figures["peak_mb"], figures["bytes"] / 1000
            print(f"  {name:20} {cpu:8.1f} {peak:6.0f} {ratio:6.2f} {size:6.0f}")
    missed = [pages for pages, goal in GOALS.items() if found[pages][OURS]["naive_over_this"] < goal]
    for pages in missed:
        print(f"{pages}: the goal of {GOALS[pages]} times less CPU than naive WeasyPrint is missed", file=sys.stderr)
    return 1 if missed else 0


def _measured(pages: str, rounds: int, documents: int, keep: Path | None) -> dict[str, dict[str, Any]]:
    """Figures by peer; every round runs every peer once, so that a slow minute hits all of them."""
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in PEERS}
    for turn in range(rounds):
        for name in PEERS:
            print(f"{pages}, round {turn + 1} of {rounds}: {name}", file=sys.stderr, flush=True)
            command = [sys.executable, "-m", "benchmarks.invoice_documents", "--peer", name, "--pages", pages]
            command += ["--documents", str(documents), *(["--keep", str(keep)] if keep and not turn else [])]
            ended = subprocess.run(command, check=True, capture_output=True, text=True)
            runs[name].append(json.loads(ended.stdout))
    return {
        name: {
            "cpu_ms": statistics.median(run["cpu_ms"] for run in ran),
            "wall_ms": statistics.median(run["wall_ms"] for run in ran),
            "peak_mb": max(run["peak_mb"] for run in ran),
            "bytes": ran[0]["bytes"],
            "pages": ran[0]["pages"],
            "naive_over_this": statistics.median(
                naive["cpu_ms"] / run["cpu_ms"] for naive, run in zip(runs[NAIVE], ran, strict=True)
            ),
        }
        for name, ran in runs.items()
    }


def _as_peer(name: str, pages: str, documents: int, keep: Path | None) -> dict[str, Any]:
    """Draw invoices as one peer, in this process."""
    contents = [_content(number, PAGES[pages]) for number in range(1, documents + 1)]
    started = time.perf_counter()
    with PEERS[name]() as draw:
        drawn = [draw(content) for content in contents]
    wall = time.perf_counter() - started
    cpu, peak = 0.0, 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        usage = resource.getrusage(who)
        cpu += usage.ru_utime + usage.ru_stime
        peak += usage.ru_maxrss / 1024
    if keep:
        keep.mkdir(parents=True, exist_ok=True)
        (keep / f"{pages.replace(' ', '-')}-{name.replace(', ', '-')}.pdf").write_bytes(drawn[0])
    return {
        "cpu_ms": cpu / documents * 1000,
        "wall_ms": wall / documents * 1000,
        "peak_mb": peak,
        "bytes": len(drawn[0]),
        "pages": _page_count(drawn[0]),
    }


def _page_count(pdf: bytes) -> int:
    with tempfile.NamedTemporaryFile(suffix=".pdf") as file:
        file.write(pdf)
        file.flush()
        said = subprocess.run(["pdfinfo", file.name], check=True, capture_output=True, text=True).stdout
    return next(int(line.split()[1]) for line in said.splitlines() if line.startswith("Pages:"))


def _content(number: int, times: int) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(SAMPLE.read_text("utf-8"))
    content["number"] = f"INV-2026-{number:06}"
    content["lines"] = [line for _ in range(times) for line in content["lines"]]
    return content


def _words(content: Mapping[str, Any]) -> dict[str, Any]:
    """What stands on the page: every peer prints the same words."""
    from billing.rendering.locale_formats import EXACT
    from billing.rendering.page_text import page_of

    with localcontext(EXACT):
        return page_of(content)


def _naive_html(content: Mapping[str, Any]) -> str:
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.get_template("naive_invoice.html.j2").render(_words(content))


def _font_faces() -> int:
    listed = subprocess.run(["fc-list"], capture_output=True, text=True, check=False)
    return len(listed.stdout.splitlines())


# --- peers: each gives a function that draws one invoice, and cleans up afterwards ----------------------------------


class Overage:
    """This project's worker, as `overage bill` runs it: warmed up once, garbage collected after every invoice."""

    def __enter__(self) -> Draw:
        import gc

        from billing.rendering import render_pdf

        render_pdf(_content(0, 1))
        gc.collect()
        gc.freeze()
        gc.disable()

        def draw(content: Mapping[str, Any]) -> bytes:
            pdf = render_pdf(content)
            gc.collect()
            return pdf

        return draw

    def __exit__(self, *_: object) -> None:
        """Nothing to end."""


class NaiveWeasyPrint:
    """One call per invoice in a long-lived process, flex and grid, fonts of the system: how most begin."""

    def __enter__(self) -> Draw:
        import weasyprint

        return lambda content: bytes(weasyprint.HTML(string=_naive_html(content)).write_pdf())

    def __exit__(self, *_: object) -> None:
        """Nothing to end."""


class Chromium:
    """One headless browser for all invoices, the same HTML as the naive peer."""

    def __enter__(self) -> Draw:
        from playwright.sync_api import sync_playwright

        self._playwright = sync_playwright().start()
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
        self._browser = self._playwright.chromium.launch(executable_path="/usr/bin/chromium", args=flags)
        page = self._browser.new_page()

        def draw(content: Mapping[str, Any]) -> bytes:
            page.set_content(_naive_html(content))
            return bytes(page.pdf(format="A4", print_background=True))

        return draw

    def __exit__(self, *_: object) -> None:
        self._browser.close()
        self._playwright.stop()


class Typst:
    """One compiled document per invoice; the words come in as JSON."""

    def __enter__(self) -> Draw:
        import typst

        compiler = typst.Compiler()
        source = (TEMPLATES / "invoice.typ").read_bytes()

        def draw(content: Mapping[str, Any]) -> bytes:
            words = json.dumps(_words(content))
            pdf = compiler.compile(input=source, format="pdf", sys_inputs={"words": words})
            assert isinstance(pdf, bytes), "one document"  # noqa: S101
            return pdf

        return draw

    def __exit__(self, *_: object) -> None:
        """Nothing to end."""


class ReportLab:
    """Layout in Python: no template that finance could edit."""

    def __enter__(self) -> Draw:
        from benchmarks.peers.reportlab_invoice import draw_invoice

        return lambda content: draw_invoice(_words(content))

    def __exit__(self, *_: object) -> None:
        """Nothing to end."""


PEERS: Final[Mapping[str, Callable[[], Any]]] = {
    OURS: Overage,
    NAIVE: NaiveWeasyPrint,
    "chromium": Chromium,
    "typst": Typst,
    "reportlab": ReportLab,
}

if __name__ == "__main__":
    sys.exit(main())
