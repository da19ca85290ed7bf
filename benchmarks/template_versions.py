"""Template versions: what a page of version 2 costs beside the same invoice of version 1, drawn in turns."""

import argparse
import copy
import gc
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.measuring import write_result

SAMPLE: Final = Path(__file__).parent.parent / "invoice_templates" / "sample.json"
GOAL: Final = 1.05
_PAGES: Final = {"one page": 1, "four pages": 16}
_MOVED: Final = {"Package fee": "package_fee", "Earlier cycles": "earlier_cycles", "Tax": "tax"}


def measure(arguments: Sequence[str]) -> int:
    """Draw both versions in turns in this process; 1 when version 2 costs more than the goal."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks template_versions")
    parser.add_argument("--pairs", type=int, default=100)
    given = parser.parse_args(arguments)
    result = {}
    for name, times in _PAGES.items():
        first = json.loads(SAMPLE.read_text("utf-8"))
        first["lines"] = first["lines"] * times
        result[name] = _in_turns(first, second_version(first), max(1, given.pairs // times))
        print(f"  {name}: version 2 takes {result[name]['ratio']:.3f} of version 1", flush=True)
    write_result("template_versions", {"pairs": given.pairs, **result})
    return int(any(figures["ratio"] > GOAL for figures in result.values()))


def _in_turns(first: Mapping[str, Any], second: Mapping[str, Any], pairs: int) -> dict[str, float]:
    from billing.rendering import render_pdf

    def seconds(content: Mapping[str, Any]) -> float:
        started = time.process_time()
        render_pdf(content)
        gc.collect()
        return time.process_time() - started

    seconds(first), seconds(second)
    gc.collect()
    gc.freeze()
    found: list[tuple[float, float]] = []
    for pair in range(pairs):
        # Who begins alternates: the second draws with warmer caches.
        if pair % 2:
            found.append((seconds(first), seconds(second)))
        else:
            late, early = seconds(second), seconds(first)
            found.append((early, late))
    return {
        "first_ms": 1000 * statistics.median(early for early, _ in found),
        "second_ms": 1000 * statistics.median(late for _, late in found),
        "ratio": statistics.median(late / early for early, late in found),
    }


def second_version(first: Mapping[str, Any]) -> dict[str, Any]:
    """The sample of version 1 as content of version 2: the same invoice in fields and codes."""
    content = copy.deepcopy(dict(first))
    nothing = {"corrected": None, "reason_code": None, "tax_currency": None, "credits_applied": "0.00"}
    empty = dict.fromkeys(("street", "line2", "city", "region", "postal_code", "tax_number", "pay_url", "accent"), "")
    none = dict.fromkeys(("registration", "electronic_address", "contact", "bank"))
    for line in content["lines"]:
        line |= {"due_kind": None, "unit_code": "C62", "decimals": 3, "tax_category": "S", "tax_rate": "0.08"}
        if line["kind"] == "prior_cycle":
            line["due_kind"] = "overage"
    for change in content["changes"]:
        change |= {"reason": "auto_upgrade", "why": "usage_over_allowance", "voids_downgrade": False}
    for movement in content["comparison"]["movements"]:
        label = movement.pop("label")
        movement |= {"what": _MOVED.get(label, "metric"), "metric": label, "metric_title": label}
    return (
        content
        | nothing
        | {"template_version": "2", "language": "en", "due_on": content["issued_on"], "payment_days": 0}
        | {"resources": dict.fromkeys(("logo", "template", "translation")), "due": content["total"]}
        | {"order_reference": "", "buyer_reference": ""}
        | {"seller": empty | none | {"footer": []} | content["seller"], "customer": empty | none | content["customer"]}
        | {"taxes": [tax | {"category": "S", "exemption_reason": None} for tax in content["taxes"]]}
    )
