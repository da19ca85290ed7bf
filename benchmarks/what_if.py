"""What-if: twelve months of 10,000 accounts and 9 million events, billed, then under one and under ten candidates.

Each part runs in a process of its own on the same home; a candidate is the catalogue with another monthly fee.
"""

import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Final

from benchmarks.measuring import run_measured, write_result
from billing.inputs.catalogue_file import load_catalogue
from billing.inputs.catalogue_variation import Variation, grid
from billing.model.calendar import first_day, last_day
from billing.month.business import Business
from billing.month.scratch_copy import bring_up_to_date
from billing.month.steps import billed_months, ingest_usage
from billing.reports.what_if import Question, compare_catalogues
from billing.sample import billing_hint, write_sample

ACCOUNTS: Final = 10_000
MONTHS: Final = 12
EVENTS_A_DAY: Final = 2.75
MANY: Final = 10
_PRICE: Final = "packages.starter.price.monthly"


def measure(options: Sequence[str]) -> int:
    """Measure each part, and keep what it took: options are how many accounts, and a home that is billed already."""
    accounts = int(options[0]) if options else ACCOUNTS
    folder = Path(tempfile.mkdtemp(prefix="overage-what-if-"))
    home = Path(options[1]) if len(options) > 1 else folder / "home"
    try:
        parts = [] if len(options) > 1 else [("billed", ["bill", str(home), str(accounts)])]
        parts += [(f"{count} candidates", ["compare", str(home), str(count)]) for count in (1, MANY)]
        found = {}
        for name, arguments in parts:
            said, cost = run_measured(["benchmarks.what_if", *arguments])
            found[name] = {**said, **asdict(cost)}
            print(f"  {name}: {cost.cpu_seconds:.1f} CPU s, {cost.peak_mb:,} MB, {cost.seconds:.0f} s", flush=True)
        one, many = (found[f"{count} candidates"]["cpu_seconds"] for count in (1, MANY))
        further = round((many - one) / (MANY - 1), 2)
        result = {"accounts": accounts, "months": MONTHS, "parts": found, "cpu_seconds_of_a_further_candidate": further}
        if "billed" in found:
            result["of_billing"] = round(further / found["billed"]["cpu_seconds"], 3)
        print(f"  a further candidate: {further} CPU s, {result.get('of_billing', '-')} of billing")
        write_result("what_if", result)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def main() -> None:
    """Do one part, and print what it found as JSON."""
    part, home, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    month, as_of = billing_hint(MONTHS)
    if part == "bill":
        write_sample(home, accounts=count, months=MONTHS, events_per_account_day=EVENTS_A_DAY)
        business = Business.load(home, date.fromisoformat(str(as_of)))
        ingest_usage(business)
        bring_up_to_date(business, month)
        print(json.dumps({"documents": business.register.count()}))
        return
    business = Business.load(home, date.fromisoformat(str(as_of)), issues=False)
    since = billed_months(business, month)[0]
    catalogue = home / "landing" / "catalogue.yaml"
    if count == 1:
        candidates = [("same", load_catalogue(catalogue))]
    else:
        varied = Variation.of(f"{_PRICE}=90..{90 + count - 1}/1")
        points = grid(catalogue, [varied], first_day(since), last_day(month))
        candidates = [(str(point.values[0]), point.catalogue) for point in points]
    found = compare_catalogues(business, candidates, Question(since, month), is_locked=True)
    totals = [Decimal(each.as_plain()["after"]) for each in found]
    print(json.dumps({"candidates": len(found), "after": [str(total) for total in totals]}))


if __name__ == "__main__":
    main()
