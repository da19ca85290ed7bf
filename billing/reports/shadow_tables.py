"""The tables of a month's report about the candidate catalogue that the policy tries beside it."""

from collections.abc import Sequence
from typing import Any, Final

import polars as pl

from billing.model.plain_rows import plain_rows
from billing.reports.what_if.amounts import before_after
from billing.reports.what_if.comparison import Comparison
from billing.reports.what_if.shadow import Shadow

_MOST: Final = 10
_AMOUNTS: Final = ("as it is", "candidate", "difference")


def shadow_tables(shadow: Shadow | None, month: str) -> list[dict[str, Any]]:
    """heading, note, columns (name, whether a number), rows, total; nothing without a candidate."""
    if shadow is None:
        return []
    heading = f"Under {shadow.path}"
    if shadow.compared is None:
        rows = [[line.strip()] for line in shadow.problem.splitlines()]
        return [_table(f"{heading}: not billed", "", ["problem"], rows)]
    found, tables = shadow.compared, []
    note = "What is due for the billing dates of the month, before tax, beside what the candidate would have billed. "
    note += f"All of it: overage what-if {shadow.path} --from {month} --through {month}"
    for code in found.currencies:
        named = f"{heading}, {code}" if len(found.currencies) > 1 else heading
        lines = [[row["kind"].replace("_", " "), *before_after(row)] for row in found.rows("lines", code)]
        total = [["Total", *before_after(row)] for row in found.rows("totals", code)]
        tables.append(_table(named, note, ["lines", *_AMOUNTS], lines, total))
        moved = [[row["account_id"], *before_after(row), row["why"]] for row in _most_moved(found, code)]
        if moved:
            tables.append(_table(f"{named}: accounts that change most", "", ["account", *_AMOUNTS, "why"], moved))
    return tables


def _table(
    heading: str,
    note: str,
    names: Sequence[str],
    rows: Sequence[Sequence[str]],
    total: Sequence[Sequence[str]] = (),
) -> dict[str, Any]:
    return {
        "heading": heading,
        "note": note,
        "columns": [(name, name in _AMOUNTS) for name in names],
        "rows": rows,
        "total": total[0] if total else [],
    }


def _most_moved(found: Comparison, currency: str) -> list[dict[str, Any]]:
    moved = found.of("accounts", currency).filter(pl.col("difference") != 0)
    order = moved.sort(pl.col("difference").abs(), "account_id", descending=[True, False]).head(_MOST)
    return plain_rows(order, found.decimals(currency))
