"""Many invoices as PDF: how many a second two workers draw, and what memory a process that is never replaced keeps."""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.measuring import run_measured, write_result

SAMPLE: Final = Path(__file__).parent.parent / "invoice_templates" / "sample.json"
DOCUMENTS: Final = {"files": 2_000, "growth": 10_000}
WORKERS: Final = 2
GOALS: Final = {"documents_per_second": 25, "growth_mb_per_thousand": 10}
_STEP: Final = 500
_SECONDS_BETWEEN_LOOKS: Final = 1.0  # the memory of workers grows slowly, and looking takes time from them


def measure(arguments: Sequence[str]) -> int:
    """Measure each in a process of its own, and keep what they took; 1 when a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks many_documents")
    parser.add_argument("--documents", type=int, default=DOCUMENTS["files"], help="drawn into files by two workers")
    parser.add_argument("--growth", type=int, default=DOCUMENTS["growth"], help="drawn by one process, never replaced")
    given = parser.parse_args(arguments)
    result: dict[str, Any] = {}
    if given.documents:
        found, cost = run_measured(["benchmarks.many_documents", "files", str(given.documents)], _SECONDS_BETWEEN_LOOKS)
        result |= {"files": given.documents, "workers": WORKERS, **found, "cost": vars(cost)}
        print(
            f"  {given.documents:,} documents by {WORKERS} workers: {found['documents_per_second']} a second, "
            f"{1000 * cost.cpu_seconds / given.documents:.0f} CPU ms each, {cost.peak_mb} MB",
            flush=True,
        )
    if given.growth:
        found, _ = run_measured(["benchmarks.many_documents", "growth", str(given.growth)])
        result |= {"growth": given.growth, **found}
        print(
            f"  {given.growth:,} documents by one process: {found['growth_mb_per_thousand']} MB more per thousand",
            flush=True,
        )
    write_result("many_documents", result)
    is_missed = (
        result.get("documents_per_second", GOALS["documents_per_second"]) < GOALS["documents_per_second"]
        or result.get("growth_mb_per_thousand", 0) > GOALS["growth_mb_per_thousand"]
    )
    return int(is_missed)


def _contents(documents: int) -> Iterator[tuple[str, str]]:
    content = json.loads(SAMPLE.read_text("utf-8"))
    for number in range(1, documents + 1):
        content["number"] = f"INV-2026-{number:06}"
        yield content["number"], json.dumps(content)


def _files(documents: int) -> dict[str, float]:
    """Draw into files as `overage bill` does, the start of the workers included."""
    from billing.rendering import Job, RenderedFile, render_files

    with tempfile.TemporaryDirectory(prefix="overage-benchmark-") as folder:
        jobs = (Job(text, Path(folder) / f"{number}.pdf") for number, text in _contents(documents))
        started = time.perf_counter()
        drawn = sum(isinstance(file, RenderedFile) for file in render_files(jobs, workers=WORKERS))
        seconds = time.perf_counter() - started
    if drawn != documents:
        raise SystemExit(f"{drawn} of {documents} documents were drawn")
    return {"documents_per_second": round(documents / seconds, 1)}


def _growth(documents: int) -> dict[str, Any]:
    """Draw one after the other as a worker does, and look at what the process holds every 500 documents."""
    import gc

    from billing.rendering import render_pdf

    render_pdf(json.loads(SAMPLE.read_text("utf-8")))
    gc.collect()
    gc.freeze()
    gc.disable()
    resident = []
    for drawn, (_, text) in enumerate(_contents(documents), start=1):
        render_pdf(json.loads(text))
        gc.collect()
        if drawn % _STEP == 0:
            resident.append(round(_resident_mb(), 1))
    # the first step is warming up: caches of fonts and templates fill
    steps = len(resident) - 1
    growth = (resident[-1] - resident[0]) / (steps * _STEP / 1000) if steps else 0.0
    return {"resident_mb": resident, "growth_mb_per_thousand": round(growth, 2)}


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024**2


def main() -> None:
    """Do one of the two, `files N` or `growth N`, and print what was found."""
    name, documents = sys.argv[1], int(sys.argv[2])
    print(json.dumps(_files(documents) if name == "files" else _growth(documents)))


if __name__ == "__main__":
    main()
