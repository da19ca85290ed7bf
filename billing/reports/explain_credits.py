"""Explain what prepaid credits pay of a document, or what a credit note gives back to them (rule 33)."""

from typing import Any

import polars as pl

from billing.model.plain_rows import money_in_words
from billing.month.business import Business


def credits_entry(business: Business, document: dict[str, Any]) -> list[dict[str, Any]]:
    """The entry of kind `credits` of a document, as `explain_document`; none where it has no credits."""
    uses = business.register.credit_uses().filter(pl.col("number") == document["number"])
    if uses.is_empty():
        return []
    decimals = business.catalogue.minor_units
    total, due = (money_in_words(document[name], decimals) for name in ("total", "due"))
    granted = business.inputs.credit_grants.select("grant_id", "kind", "granted_on", "expires_on", "priority")
    rows = uses.join(granted, on="grant_id", how="left", maintain_order="left").sort("position")
    is_note = document["credits_applied"] < 0
    return [
        {
            "number": document["number"],
            "line": None,
            "kind": "credits",
            **dict.fromkeys(("metric", "rule", "package", "cycle_start", "cycle_end", "quantity", "amount")),
            "description": "Given back as prepaid credit" if is_note else "Paid by prepaid credits",
            "arithmetic": [
                *(_step(row, money_in_words(abs(row["amount"]), decimals)) for row in rows.iter_rows(named=True)),
                f"total {total}, due {due}",
            ],
            "days": [],
            "events": [],
            "events_total": 0,
        }
    ]


def _step(row: dict[str, Any], amount: str) -> str:
    grant = row["grant_id"]
    if row["gives_back"] is not None:
        return f"{amount} back to {grant}, which paid it of {row['gives_back']}"
    if row["kind"] is None:
        return f"{amount} by {grant}, whose row is gone"
    until = "never expires" if row["expires_on"] is None else f"expires {row['expires_on']}"
    return f"{amount} by {grant}: {row['kind']} on {row['granted_on']}, {until}, priority {row['priority']}"
