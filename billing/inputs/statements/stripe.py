"""Reader of Stripe's balance reports: the itemized balance change from activity, and the balance history."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from billing.inputs.statements.rows import StatementRow, csv_rows, read_amount
from billing.model.codes import PaymentStatus
from billing.model.errors import RefusedError

_STATUS: Final[Mapping[str, PaymentStatus]] = {
    "charge": PaymentStatus.SUCCEEDED,
    "payment": PaymentStatus.SUCCEEDED,
    "refund_failure": PaymentStatus.SUCCEEDED,
    "dispute_reversal": PaymentStatus.SUCCEEDED,
    "refund": PaymentStatus.REFUNDED,
    "payment_refund": PaymentStatus.REFUNDED,
    "partial_capture_reversal": PaymentStatus.REFUNDED,
    "dispute": PaymentStatus.DISPUTED,
    # The bank took a payment back that had counted: it is owed again.
    "charge_failure": PaymentStatus.DISPUTED,
    "payment_failure_refund": PaymentStatus.DISPUTED,
}
_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "id": ("balance_transaction_id", "id"),
    "created": ("created_utc", "created"),
    "gross": ("gross", "amount"),
    "currency": ("currency",),
    "category": ("reporting_category", "type"),
}
_ACCOUNT: Final = ("payment_metadata_account_id", "account_id_metadata", "customer_metadata_account_id")
_DOCUMENT: Final = ("payment_metadata_document", "document_metadata", "payment_metadata_invoice", "invoice_metadata")


def read_stripe(path: Path, encoding: str) -> list[StatementRow]:
    """A row per balance transaction; fees, payouts and transfers are ignored.

    Raises
    ------
    RefusedError
        When a column that every report has is missing.
    """
    header, rows = csv_rows(path, encoding)
    names = [re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") for name in header]
    column = {}
    for what, options in _NAMES.items():
        found = next((name for name in options if name in names), None)
        if found is None:
            raise RefusedError(
                f"{path}: found the columns {', '.join(header)}, expected those of Stripe's balance report: "
                f"{' or '.join(options)} is missing"
            )
        column[what] = found
    return [
        _movement(number, dict(zip(names, [*row, *[""] * len(names)], strict=False)), column)
        for number, row in enumerate(rows, start=1)
    ]


def _movement(number: int, values: Mapping[str, str], column: Mapping[str, str]) -> StatementRow:
    def first(*names: str) -> str | None:
        return next((text for name in names if (text := values.get(name, "").strip())), None)

    identity = values[column["id"]].strip()
    if not identity:
        return StatementRow(number, "", problem=f"{column['id']}: found nothing, expected an id such as txn_1")
    category = values[column["category"]].strip().lower()
    description = first("description") or ""
    status = _STATUS.get(category)
    if category == "adjustment" and re.search(r"chargeback|dispute", description, re.IGNORECASE):
        status = PaymentStatus.DISPUTED
    if status is None:
        return StatementRow(number, identity, ignored=category or "no category")
    at = _instant(values[column["created"]])
    amount = read_amount(values[column["gross"]], thousands=",")
    if at is None or amount is None:
        name = column["created"] if at is None else column["gross"]
        expected = "a time such as 2026-02-03 10:11:12" if at is None else "an amount such as 99.00"
        return StatementRow(number, identity, problem=f"{name}: found {values[name]!r}, expected {expected}")
    # What a payment and its refund have in common.
    charge = first("charge_id", "payment_intent_id") or first("source_id", "source")
    last4 = first("card_last4", "card_last_4")
    return StatementRow(
        row=number,
        id=identity,
        at=at,
        amount=abs(amount),
        currency=values[column["currency"]].strip().upper(),
        status=status,
        account_id=first(*_ACCOUNT),
        document=first(*_DOCUMENT, "invoice_number"),
        reference=charge,
        payer=first("customer_name", "customer_description"),
        email=first("customer_email"),
        text=" ".join(text for text in (description, first("statement_descriptor")) if text) or None,
        charge=charge,
        card_brand=first("card_brand"),
        card_last4=last4 if last4 and re.fullmatch(r"\d{4}", last4) else None,
    )


def _instant(text: str) -> str | None:
    """A time in UTC, with or without seconds."""
    try:
        found = datetime.fromisoformat(text.strip().replace(" ", "T", 1))
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).isoformat()
