"""`make bench` and `python -m benchmarks NAME [OPTIONS]`: measure, print a table, keep the figures in results/."""

import importlib
import sys
from typing import Final

# Map each name to a function that takes options and returns an exit status; import it only when asked for.
BENCHMARKS: Final = {
    "ingest_and_bill": "benchmarks.step_by_step:measure",
    "month_of_accounts": "benchmarks.month_of_accounts:measure",
    "days_of_deliveries": "benchmarks.days_of_deliveries:measure",
    "many_small_files": "benchmarks.many_small_files:measure",
    "access_logs": "benchmarks.access_logs:measure",
    "identity_of_events": "benchmarks.identity_of_events:measure",
    "billion_events": "benchmarks.billion_events:measure",
    "rating_of_accounts": "benchmarks.rating_of_accounts:measure",
    "logs_to_money": "benchmarks.logs_to_money.compare:compare",
    "invoice_documents": "benchmarks.invoice_documents:main",
    "template_versions": "benchmarks.template_versions:measure",
    "e_invoices": "benchmarks.e_invoices:main",
    "many_documents": "benchmarks.many_documents:measure",
    "load_definitions": "benchmarks.load_definitions:measure",
    "what_if": "benchmarks.what_if:measure",
}
OTHERS: Final = {
    "against": "benchmarks.against:measure",
    "page": "benchmarks.page:main",
}
"""Asked for by name only: pairs with an earlier version, and the page of results."""


def main() -> int:
    """Run one benchmark with its options, or all; the highest exit status is returned."""
    name, *options = sys.argv[1:] or ["all"]
    known = BENCHMARKS | OTHERS
    if name != "all" and name not in known:
        print(f"found {name}, expected one of: {', '.join(known)}", file=sys.stderr)
        return 2
    status = 0
    for each in BENCHMARKS if name == "all" else [name]:
        module, _, function = known[each].partition(":")
        print(f"== {each}", flush=True)
        status = max(status, getattr(importlib.import_module(module), function)(options))
    return status


if __name__ == "__main__":
    sys.exit(main())
