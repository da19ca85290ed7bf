"""Template versions: what a page of version 2 costs beside the same invoice of version 1, drawn in turns.

The goal holds for the same content. Where to pay, with the QR code of the transfer, is content that version 1 cannot
show: what it adds is measured beside.
"""

import argparse
import copy
import gc
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Final

from benchmarks.measuring import write_result

SAMPLE: Final = Path(__file__).parent.parent / "invoice_templates" / "sample.json"
GOAL: Final = 1.05
_MOVED: Final = {"Package fee": "package_fee", "Earlier cycles": "earlier_cycles", "Tax": "tax"}


def measure(arguments: Sequence[str]) -> int:
    """Draw both versions in turns in this process; 1 when version 2 costs more than the goal."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks template_versions")
    parser.add_argument("--pairs", type=int, default=100)
    given = parser.parse_args(arguments)
    sample = json.loads(SAMPLE.read_text("utf-8")) | {"currency": "EUR"}
    one, four = ({**sample, "lines": sample["lines"] * times} for times in (1, 16))
    result = {}
    for name, first, second, pairs in (
        ("one page", one, second_version(one), given.pairs),
        ("four pages", four, second_version(four), max(1, given.pairs // 16)),
        ("one page with bank and QR code", one, _with_bank(second_version(one)), given.pairs),
    ):
        result[name] = _in_turns(first, second, pairs)
        print(f"  {name}: version 2 takes {result[name]['ratio']:.3f} of version 1", flush=True)
    write_result("template_versions", {"pairs": given.pairs, **result})
    return int(any(result[name]["ratio"] > GOAL for name in ("one page", "four pages")))


def _in_turns(first: Mapping[str, Any], second: Mapping[str, Any], pairs: int) -> dict[str, float]:
    from billing.rendering import render_pdf

    drawn = count(1)

    def seconds(content: Mapping[str, Any]) -> float:
        # Use a new number each time: every invoice has its own QR code.
        content = {**content, "number": f"EX-2026-{next(drawn):06d}"}
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


def _with_bank(content: Mapping[str, Any]) -> dict[str, Any]:
    """Version 2 with what version 1 cannot show: where to pay, and the QR code of that transfer."""
    bank = {"holder": "Example Software Ltd", "iban": "DE89370400440532013000", "bic": "COBADEFFXXX"}
    return {**content, "seller": content["seller"] | {"bank": bank}}


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
