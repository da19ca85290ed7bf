"""Import payments from a statement: match them, and write those that are new into a file of their own (rule 38)."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

import polars as pl

from billing.inputs.statements.camt import read_camt
from billing.inputs.statements.mapped_csv import CsvMapping, read_mapped_csv, read_mapping
from billing.inputs.statements.rows import StatementRow, as_frame
from billing.inputs.statements.stripe import read_stripe
from billing.model.card_numbers import contains_card_number, mask_card_numbers
from billing.model.codes import PaymentStatus
from billing.model.errors import RefusedError
from billing.month.business import Business
from billing.rules.allocations import with_open_amounts
from billing.rules.payment_matching import match_payments
from billing.rules.receivables import shown_number
from billing.store.files import write_bytes

_LONGEST: Final = 200


@dataclass(frozen=True)
class Imported:
    """What an import did.

    Attributes
    ----------
    file
        The new file below landing; null when nothing was new.
    matched
        Of the payments that were added: how many were matched how.
    known
        Movements that were imported before.
    ignored
        Movements that are no payments of customers, by kind.
    unmatched
        row, id, amount, currency, text, why of movements that were not added.
    """

    file: str | None
    matched: dict[str, int]
    known: int
    ignored: dict[str, int]
    unmatched: Sequence[dict[str, Any]]


def import_payments(
    root: Path, path: Path, form: str, mapping: Path | None = None, register_url: str | None = None
) -> Imported:
    """Add the payments of a statement to `landing/payments/`; what was added before is not added again.

    Raises
    ------
    RefusedError
        When the file or the mapping cannot be read, or there is no home: nothing is written.
    """
    business = Business.load(root, date.max, register_url, issues=False)
    rows = [_checked(row, form) for row in _read(business, path, form, mapping)]
    ids = _known_ids(business)
    usable = [row for row in rows if row.ignored is None and row.problem is None]
    first = {row.id: row for row in reversed(usable)}
    fresh = [row for row in usable if row.id not in ids and first[row.id] is row]
    matched = _matched(business, fresh)
    paid = [row for row in fresh if matched[row.row]["how"]]
    # A bank statement has what the business paid to others, too.
    outgoing = {row.row for row in fresh if _is_outgoing(row, form) and not matched[row.row]["how"]}
    file = _write(business, form, [_payment(row, matched[row.row]) for row in paid])
    unmatched = [
        {
            "row": row.row,
            "id": row.id,
            "amount": None if row.amount is None else f"{row.amount:f}",
            "currency": row.currency,
            "text": mask_card_numbers(row.text) if row.text else None,
            "why": mask_card_numbers(row.problem or matched[row.row]["why"]),
        }
        for row in rows
        if row.problem or (row.row in matched and row.row not in outgoing and not matched[row.row]["how"])
    ]
    hows = Counter(matched[row.row]["how"] for row in paid)
    ignored = Counter([*(row.ignored for row in rows if row.ignored), *["outgoing"] * len(outgoing)])
    return Imported(
        file=file,
        matched=dict(sorted(hows.items())),
        known=len(usable) - len(fresh),
        ignored=dict(sorted(ignored.items())),
        unmatched=unmatched,
    )


def _is_outgoing(row: StatementRow, form: str) -> bool:
    return form.startswith("camt") and row.status == PaymentStatus.REFUNDED


def _read(business: Business, path: Path, form: str, mapping: Path | None) -> list[StatementRow]:
    catalogue = business.catalogue
    if mapping is not None and form != "csv":
        raise RefusedError(f"--map: found {mapping} with --format {form}, expected it with --format csv alone")
    if form == "stripe":
        return read_stripe(path, catalogue.encoding)
    if form == "csv":
        how = CsvMapping() if mapping is None else read_mapping(mapping)
        return read_mapped_csv(path, how, catalogue.encoding, catalogue.zone)
    return read_camt(path, form, catalogue.zone)


def _checked(row: StatementRow, form: str) -> StatementRow:
    """The row with its stable id: of a bank, the same in a statement and in a notification."""
    prefix = "camt" if form.startswith("camt") else form
    row = row._replace(id=f"{prefix}/{row.id}")
    texts = [text for text in (row.id, row.reference, row.document, row.account_id) if text]
    if row.problem is None and any(contains_card_number(text) for text in texts):
        return row._replace(id=mask_card_numbers(row.id), problem="found what is a card number, expected none")
    if row.problem is None and any(len(text) > _LONGEST for text in (row.id, row.document or "")):
        return row._replace(problem=f"found an id of more than {_LONGEST} characters, expected fewer")
    if row.problem is None and row.ignored is None and not row.amount:
        return row._replace(ignored="amount of 0")
    return row


def _known_ids(business: Business) -> set[str]:
    rejects = business.inputs.rejects.filter(pl.col("file").str.starts_with("payments"))
    return {*business.inputs.payments["payment_id"], *rejects["id"].drop_nulls()}


def _matched(business: Business, rows: Sequence[StatementRow]) -> dict[int, dict[str, Any]]:
    """By row: account, number (of a document, or reference of an opening balance), how, why."""
    if not rows:
        return {}
    owed = with_open_amounts(business.receivables, business.payments)
    known = business.payments.select("reference", "account_id", "document")
    accounts = business.inputs.accounts.select("account_id", "name", "email")
    frame, own = as_frame(rows), business.catalogue.currency
    others = [code for code in business.inputs.currencies if code != own]
    # What is in a currency that nobody has is told as today: the catalogue's is expected.
    rest = frame.filter(~pl.col("currency").is_in(others).fill_null(value=False))
    owed_here = owed.filter(pl.col("currency") == own) if others else owed
    found = [match_payments(rest, owed_here, accounts, known, own)]
    for code in others:
        theirs = frame.filter(pl.col("currency") == code)
        found.append(match_payments(theirs, owed.filter(pl.col("currency") == code), accounts, known, code))
    matched = pl.concat(found).with_columns(shown_number("number"))
    return {row["row"]: row for row in matched.iter_rows(named=True)}


def _payment(row: StatementRow, match: dict[str, Any]) -> dict[str, str]:
    payment = {
        "payment_id": row.id,
        "account_id": match["account"],
        "document": match["number"],
        "at": row.at,
        "amount": f"{row.amount:f}",
        "currency": row.currency,
        "status": row.status,
        "card_brand": row.card_brand,
        "card_last4": row.card_last4,
        "reference": (row.charge or row.reference or "")[:_LONGEST] or None,
    }
    return {name: str(value) for name, value in payment.items() if value is not None}


def _write(business: Business, form: str, payments: Sequence[dict[str, str]]) -> str | None:
    if not payments:
        return None
    content = "".join(f"{json.dumps(payment, ensure_ascii=False)}\n" for payment in payments).encode()
    name = f"payments/import-{form}-{hashlib.sha256(content).hexdigest()[:12]}.jsonl"
    target = business.home.landing / name
    if target.exists():
        raise RefusedError(f"{target}: found a file of this name, expected none: nothing is overwritten")
    write_bytes(target, content)
    return name
