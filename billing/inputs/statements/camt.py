"""Reader of bank statements in ISO 20022: camt.053 (statements) and camt.054 (debit and credit notifications).

Every version of the messages since 02 is read: what differs between them is where some of the same elements stand.
"""

import re
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Final
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

from billing.inputs.statements.rows import StatementRow, at_noon, content_id, read_amount
from billing.model.codes import PaymentStatus
from billing.model.errors import RefusedError

_ROOTS: Final = {"camt053": ("BkToCstmrStmt", "Stmt"), "camt054": ("BkToCstmrDbtCdtNtfctn", "Ntfctn")}
_REMITTANCE: Final = ("Ustrd", "Strd/RfrdDocInf/Nb", "Strd/CdtrRefInf/Ref", "Strd/AddtlRmtInf")
_NOTHING: Final = ("", "NOTPROVIDED", "NONREF")
Element = ElementTree.Element


def read_camt(path: Path, form: str, zone: ZoneInfo) -> list[StatementRow]:
    """A row per transaction of the booked entries; pending entries are ignored.

    Raises
    ------
    RefusedError
        When the file is no message of that kind.
    """
    message, statement = _ROOTS[form]
    root = _parsed(path)
    body = root.find(message)
    if root.tag != "Document" or body is None:
        found = root.tag if root.tag != "Document" else ", ".join(child.tag for child in root) or "nothing"
        raise RefusedError(f"{path}: found {found}, expected a {form[:4]}.{form[4:]} message: Document with {message}")
    counts: dict[str, int] = {}
    rows: list[StatementRow] = []
    for entry in (entry for each in body.findall(statement) for entry in each.findall("Ntry")):
        for place, details in enumerate(entry.findall("NtryDtls/TxDtls") or [entry], start=1):
            rows.append(_movement(len(rows) + 1, entry, details, place, zone, counts))
    return rows


def _parsed(path: Path) -> Element:
    """The document without namespaces."""
    content = path.read_bytes()
    # Statements have no document type: entities in one could expand without end.
    if re.search(rb"<!DOCTYPE|<!ENTITY", content[:100_000].replace(b"\0", b"")):
        raise RefusedError(f"{path}: found a document type, expected a statement without one")
    try:
        root = ElementTree.fromstring(content)  # noqa: S314 # no document type, so no entities of its own
    except ElementTree.ParseError as error:
        raise RefusedError(f"{path}: found what is no XML ({error}), expected a bank statement") from error
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def _movement(
    number: int, entry: Element, details: Element, place: int, zone: ZoneInfo, counts: dict[str, int]
) -> StatementRow:
    amount, currency = _amount(entry, details)
    day = _instant(entry, zone)
    text = " ".join(_texts(details, *(f"RmtInf/{name}" for name in _REMITTANCE), "AddtlTxInf"))
    text = text or " ".join(_texts(entry, "AddtlNtryInf"))
    end_to_end = _first(details, "Refs/EndToEndId")
    owner = _first(entry, "AcctSvcrRef")
    # A statement may leave out the details that a notification has: both have the reference of the entry.
    is_only = details is entry or len(entry.findall("NtryDtls/TxDtls")) == 1
    own = owner if is_only and owner else _first(details, "Refs/AcctSvcrRef")
    is_credit = (_first(details, "CdtDbtInd") or _first(entry, "CdtDbtInd")) == "CRDT"
    is_return = _first(entry, "RvslInd") == "true" or details.find("RtrInf") is not None
    who = "Dbtr" if is_credit or is_return else "Cdtr"
    payer = _first(details, f"RltdPties/{who}/Nm", f"RltdPties/{who}/Pty/Nm", f"RltdPties/Ultmt{who}/Nm")
    identity = own or (f"{owner}/{place}" if owner else None)
    if identity is None:
        iban = _first(details, f"RltdPties/{who}Acct/Id/IBAN")
        identity = content_id(counts, day, str(amount), currency, str(is_credit), iban, payer, end_to_end, text)
    status = _first(entry, "Sts/Cd", "Sts")
    if status != "BOOK":
        return StatementRow(number, identity, ignored=f"not booked ({status})")
    if is_credit and _first(entry, "RvslInd") == "true":
        return StatementRow(number, identity, ignored="reversal of a debit")
    if amount is None or day is None:
        what = "Amt: found no amount" if amount is None else "BookgDt: found no day"
        return StatementRow(number, identity, problem=f"{what}, expected one in every booked entry")
    went_back = PaymentStatus.DISPUTED if is_return else PaymentStatus.REFUNDED
    return StatementRow(
        row=number,
        id=identity,
        at=day,
        amount=abs(amount),
        currency=currency,
        status=PaymentStatus.SUCCEEDED if is_credit else went_back,
        reference=end_to_end or text[:200] or None,
        payer=payer,
        text=" ".join(each for each in (text, end_to_end) if each) or None,
        charge=end_to_end,
    )


def _amount(entry: Element, details: Element) -> tuple[Decimal | None, str | None]:
    """Of the transaction, else of the entry if it has one transaction only."""
    found = next(
        (
            element
            for name in ("Amt", "AmtDtls/TxAmt/Amt", "AmtDtls/InstdAmt/Amt")
            if (element := details.find(name)) is not None
        ),
        None,
    )
    if found is None and len(entry.findall("NtryDtls/TxDtls")) == 1:
        found = entry.find("Amt")
    return (None, None) if found is None else (read_amount(found.text), found.get("Ccy"))


def _instant(entry: Element, zone: ZoneInfo) -> str | None:
    exact, day = _first(entry, "BookgDt/DtTm", "ValDt/DtTm"), _first(entry, "BookgDt/Dt", "ValDt/Dt")
    try:
        if exact:
            found = datetime.fromisoformat(exact)
            return (found if found.tzinfo else found.replace(tzinfo=zone)).isoformat()
        return at_noon(date.fromisoformat(day[:10]), zone) if day else None
    except ValueError:
        return None


def _texts(element: Element, *paths: str) -> Iterator[str]:
    for path in paths:
        yield from (text for found in element.findall(path) if (text := (found.text or "").strip()))


def _first(element: Element, *paths: str) -> str | None:
    found: Sequence[str] = [text for text in _texts(element, *paths) if text.upper() not in _NOTHING]
    return found[0] if found else None
