"""E-invoices: processor time of one XML, and of a PDF with one in it against the plain PDF."""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from billing.einvoices import InvoiceFormat, write_xml
from billing.einvoices.formats import E_INVOICES
from billing.rendering.drawing import draw

SAMPLE: Final = Path(__file__).parent.parent / "invoice_templates" / "sample_v2.json"
RESULTS: Final = Path(__file__).parent / "results"
GOAL_MS: Final = 3.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure in this process, print a table and keep the figures; 1 where an XML misses its goal."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks e_invoices", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--documents", type=int, default=200, help="XML files per round; a tenth as many PDFs")
    chosen = parser.parse_args(arguments)
    content: dict[str, Any] = json.loads(SAMPLE.read_text("utf-8"))
    xml = {each: write_xml(content, each) for each in E_INVOICES}
    milliseconds = {each.value: _cpu_ms(partial(write_xml, content, each), chosen) for each in E_INVOICES}
    attached = xml[InvoiceFormat.FACTURX]
    draw(content)
    few = argparse.Namespace(rounds=chosen.rounds, documents=max(1, chosen.documents // 10))
    pairs = [
        (_once(lambda: draw(content), few), _once(lambda: draw(content, {}, attached), few)) for _ in range(few.rounds)
    ]
    ratio = round(statistics.median(hybrid / plain for plain, hybrid in pairs), 3)
    result = {
        "benchmark": "e_invoices",
        "rounds": chosen.rounds,
        "documents_per_round": chosen.documents,
        "processors": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "cpu_ms": milliseconds,
        "bytes": {each.value: len(content) for each, content in xml.items()},
        "pdf_with_xml_over_plain_pdf": ratio,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "e_invoices.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    for name, figure in milliseconds.items():
        print(f"  {name:12} {figure:6.2f} ms")
    print(f"  a PDF with the XML in it / the plain PDF: {ratio}")
    missed = [name for name, figure in milliseconds.items() if figure > GOAL_MS]
    for name in missed:
        print(f"{name}: the goal of {GOAL_MS} ms is missed", file=sys.stderr)
    return 1 if missed else 0


def _cpu_ms(work: Callable[[], object], chosen: argparse.Namespace) -> float:
    return round(statistics.median(_once(work, chosen) for _ in range(chosen.rounds)), 3)


def _once(work: Callable[[], object], chosen: argparse.Namespace) -> float:
    started = time.process_time()
    for _ in range(chosen.documents):
        work()
    spent = time.process_time() - started
    return spent * 1000 / int(chosen.documents)


if __name__ == "__main__":
    sys.exit(main())
