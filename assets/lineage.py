"""Column lineage: from a posting of the journal back to the events."""

from collections.abc import Mapping, Sequence
from typing import Final

from billing.model.account_tables import BALANCES, COLLECTIONS, CREDITS, JOURNAL
from billing.model.columns import Table
from billing.model.tables import (
    CHARGES,
    CYCLES,
    DOCUMENTS,
    DRAFT_LINES,
    DRAFT_TAXES,
    DRAFTS,
    DUES,
    EVENTS,
    LEVELS,
    LINES,
    PACKAGES,
    TAXES,
    USAGE,
)

Sources = Sequence[tuple[Table, str]]

_SAME_NAMES: Final[Mapping[str, Table]] = {
    USAGE.name: CYCLES,
    CHARGES.name: USAGE,
    DUES.name: CHARGES,
    DRAFT_LINES.name: DUES,
    DRAFT_TAXES.name: DRAFT_LINES,
    DRAFTS.name: CYCLES,
    DOCUMENTS.name: DRAFTS,
    LINES.name: DRAFT_LINES,
    TAXES.name: DRAFT_TAXES,
    BALANCES.name: DOCUMENTS,
    COLLECTIONS.name: DOCUMENTS,
}
"""Default source table of a table: for columns with the same name."""

_net, _tax, _total = (DRAFT_LINES, "amount"), (DRAFT_TAXES, "amount"), (DOCUMENTS, "total")
_due = (DOCUMENTS, "due")
_posted = [_total, (LINES, "amount"), (TAXES, "amount")]

_OTHERS: Final[Mapping[str, Mapping[str, Sources]]] = {
    USAGE.name: {
        "metric": [(EVENTS, "metric")],
        "quantity": [(EVENTS, "value"), (LEVELS, "opening_level")],
        "duplicates": [(EVENTS, "source"), (EVENTS, "id")],
    },
    CHARGES.name: {"package": [(PACKAGES, "closing_package")]},
    DUES.name: {
        "billing_date": [(CYCLES, "billing_date")],
        "package": [(PACKAGES, "opening_package"), (CHARGES, "package")],
    },
    DRAFT_TAXES.name: {"taxable": [_net]},
    DRAFTS.name: {"net": [_net], "tax": [_tax], "total": [_net, _tax]},
    BALANCES.name: {"invoiced": [_total], "credited": [_total], "outstanding": [_due], "status": []},
    CREDITS.name: {"account_id": [(DOCUMENTS, "account_id")], "used": [(DOCUMENTS, "credits_applied")]},
    COLLECTIONS.name: {"amount_due": [_total]},
    JOURNAL.name: {
        "number": [(DOCUMENTS, "number")],
        "account_id": [(DOCUMENTS, "account_id")],
        "currency": [(DOCUMENTS, "currency")],
        "debit": _posted,
        "credit": _posted,
    },
}
"""Columns with other sources; an empty list means no source."""


def sources_of(table: Table) -> dict[str, Sources]:
    """Source columns by column: what it is copied or computed from; columns without sources are left out."""
    before = _SAME_NAMES.get(table.name)
    same = {name: [(before, name)] for name in table.column_names if before is not None and name in before.schema}
    return {name: sources for name, sources in (same | dict(_OTHERS.get(table.name, {}))).items() if sources}
