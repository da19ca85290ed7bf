"""Rating alone: a million accounts, five metrics each, by graduated tariffs of four tiers, in exact decimals.

Reading the catalogue and making up the quantities is not counted; peak memory is that of the whole process.
"""

import json
import resource
import sys
import tempfile
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Final

import polars as pl

from benchmarks.measuring import run_measured, write_result
from benchmarks.month_of_usage import CATALOGUE
from billing.inputs.catalogue_file import load_catalogue
from billing.model.columns import BASE_QUANTITY
from billing.model.quantities import BILLIONTHS, in_units
from billing.rules.rating import rate
from billing.rules.terms import terms_frames

ACCOUNTS: Final = 1_000_000
RUNS: Final = 3
_METRICS: Final = ("calls", "emails", "messages", "minutes", "searches")
_TIERS: Final = (
    '[{up_to: 100, unit_price: "0.30"}, {up_to: 1000, unit_price: "0.20", flat: "1.00"}, '
    '{up_to: 10000, unit_price: "0.125"}, {up_to: null, unit_price: "0.0901"}]'
)


def measure(options: Sequence[str]) -> int:
    """Rate in processes of their own, and keep what each took."""
    if options:
        print(f"found {' '.join(options)}, expected no options", file=sys.stderr)
        return 2
    runs = []
    for _ in range(RUNS):
        found, whole = run_measured(["benchmarks.rating_of_accounts"])
        runs.append({**found, "peak_mb": whole.peak_mb})
        print(f"  {found['rows']:,} quantities: {found['cpu_seconds']:.2f} CPU s, {whole.peak_mb:,} MB", flush=True)
    agreed = len({run["amount"] for run in runs}) == 1
    write_result("rating_of_accounts", {"accounts": ACCOUNTS, "metrics": len(_METRICS), "agreed": agreed, "runs": runs})
    return 0 if agreed else 1


def main() -> None:
    """Rate once, and print what it took as JSON."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "catalogue.yaml"
        path.write_text(_catalogue(), encoding="utf-8")
        catalogue = load_catalogue(path)
    terms = terms_frames(catalogue)
    number = pl.int_range(0, ACCOUNTS * len(_METRICS), dtype=pl.Int64, eager=True)
    quantities = pl.DataFrame({"number": number}).select(
        metric=pl.lit(pl.Series(_METRICS)).gather(pl.col("number") % len(_METRICS)),
        # spread over all tiers, a third of them within the allowance
        base_quantity=(pl.col("number") * 7919 % 30_000).cast(BASE_QUANTITY),
        terms_key=pl.lit(""),
        package=pl.lit("basic"),
        since=pl.lit(date(2026, 1, 1)),
    )
    before = _cpu_seconds()
    measured = quantities.with_columns(quantity=in_units(pl.col("base_quantity").to_physical(), BILLIONTHS))
    rated = rate(measured, terms)
    spent = _cpu_seconds() - before
    amount = rated["amount"].sum()
    print(json.dumps({"rows": len(rated), "cpu_seconds": round(spent, 3), "amount": str(amount)}))


def _catalogue() -> str:
    head = CATALOGUE[: CATALOGUE.index("metrics:")]
    metrics = "\n".join(
        f"  {name}: {{event: {name}.used, kind: counter, measure: sum, value: data.count}}" for name in _METRICS
    )
    allowances = ", ".join(f"{name}: 10000" for name in _METRICS)
    overage = "\n".join(f"          {name}: {{model: graduated, tiers: {_TIERS}}}" for name in _METRICS)
    return f"""{head}metrics:
{metrics}
packages:
  - name: basic
    rank: 1
    title: Basic
    versions:
      - effective_from: 2026-01-01
        price: {{monthly: "9.00"}}
        allowances: {{{allowances}}}
        overage:
{overage}
        auto_upgrade_on: []
"""


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
