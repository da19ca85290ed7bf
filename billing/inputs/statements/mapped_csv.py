"""Reader of any CSV of payments: its own columns, or those that a mapping names."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from billing.inputs.statements.rows import StatementRow, at_noon, content_id, csv_rows, read_amount
from billing.inputs.yaml_reader import read_yaml
from billing.model.codes import RETURNED, PaymentStatus
from billing.model.errors import Problem, RefusedError

_FIELDS: Final = (
    "id",
    "at",
    "amount",
    "currency",
    "status",
    "account_id",
    "document",
    "reference",
    "payer",
    "email",
    "text",
    "card_brand",
    "card_last4",
)
_OPTIONS: Final = ("separator", "decimal", "thousands", "encoding", "at_format", "zone", "statuses", "const")
_OWN: Final = {name: name for name in _FIELDS} | {"id": "payment_id"}


@dataclass(frozen=True)
class CsvMapping:
    """Which column holds what, and how it is written.

    Attributes
    ----------
    columns
        Names of columns by field.
    const
        Values by field, for what the file does not say.
    """

    columns: Mapping[str, str] = field(default_factory=lambda: dict(_OWN))
    const: Mapping[str, str] = field(default_factory=dict)
    statuses: Mapping[str, str] = field(default_factory=dict)
    separator: str = ","
    decimal: str = "."
    thousands: str = ""
    encoding: str = ""
    at_format: str = ""
    zone: str = ""
    is_own: bool = True


def read_mapping(path: Path) -> CsvMapping:
    """Read a mapping: a YAML file of fields and the columns that hold them.

    Raises
    ------
    RefusedError
        Naming every key that is wrong, with what was found and what was expected.
    """
    problems: list[Problem] = []
    root = read_yaml(path.name, path.read_bytes(), problems)
    if root is None:
        raise RefusedError(f"{path}: the mapping is refused", problems)
    root.keys(required=("at", "amount"), optional=(*_FIELDS[:1], *_FIELDS[3:], *_OPTIONS))
    columns = {name: root.at(name).text("") for name in _FIELDS if root.has(name)}
    const = {name: place.text("") for name, place in root.at("const").named()}
    root.at("const").keys(required=(), optional=("currency", "status", "account_id"))
    statuses = {name: place.choice(tuple(PaymentStatus)) for name, place in root.at("statuses").named()}
    texts = {name: root.at(name).text("", empty=True) for name in ("separator", "decimal", "thousands", "at_format")}
    for name in ("separator", "decimal", "thousands"):
        if len(texts[name]) > 1:
            root.at(name).problem("one character")
    zone = root.at("zone").time_zone() if root.has("zone") else ""
    encoding = root.at("encoding").encoding() if root.has("encoding") else ""
    if problems:
        raise RefusedError(f"{path}: the mapping is refused", problems)
    return CsvMapping(
        columns=columns,
        const=const,
        statuses=statuses,
        separator=texts["separator"] or ",",
        decimal=texts["decimal"] or ".",
        thousands=texts["thousands"],
        encoding=encoding,
        at_format=texts["at_format"],
        zone=zone,
        is_own=False,
    )


def read_mapped_csv(path: Path, mapping: CsvMapping, encoding: str, zone: ZoneInfo) -> list[StatementRow]:
    """A row per row of the file. Without a column of statuses an amount below 0 went back.

    Raises
    ------
    RefusedError
        When the file lacks a column of the mapping.
    """
    header, rows = csv_rows(path, mapping.encoding or encoding, mapping.separator)
    wanted = {name: column for name, column in mapping.columns.items() if not mapping.is_own or column in header}
    lacking = [column for column in wanted.values() if column not in header]
    lacking += [_OWN[name] for name in ("at", "amount") if name not in wanted]
    if lacking:
        raise RefusedError(f"{path}: found the columns {', '.join(header)}, expected {', '.join(lacking)} among them")
    places = {name: header.index(column) for name, column in wanted.items()}
    own_zone = ZoneInfo(mapping.zone) if mapping.zone else zone
    counts: dict[str, int] = {}
    return [
        _movement(
            number,
            {name: row[place].strip() if place < len(row) else "" for name, place in places.items()},
            mapping,
            own_zone,
            counts,
        )
        for number, row in enumerate(rows, start=1)
    ]


def _movement(
    number: int, values: Mapping[str, str], mapping: CsvMapping, zone: ZoneInfo, counts: dict[str, int]
) -> StatementRow:
    given = {name: text for name, text in values.items() if text}
    told = {**mapping.const, **given}
    identity = told.get("id") or content_id(counts, *(values.get(name) for name in _FIELDS[1:]))
    amount = read_amount(told.get("amount"), mapping.decimal, mapping.thousands)
    at = _instant(told.get("at", ""), mapping.at_format, zone)
    status = mapping.statuses.get(told.get("status", ""), told.get("status"))
    if status is None and amount is not None:
        status = PaymentStatus.SUCCEEDED if amount > 0 else PaymentStatus.REFUNDED
    expected = {
        "amount": (amount is None, "an amount such as 99.00"),
        "at": (at is None, "a time as `at_format` of the mapping says, or RFC 3339, or a date"),
        "status": (amount is not None and status not in tuple(PaymentStatus), f"one of {', '.join(PaymentStatus)}"),
    }
    if amount is not None and amount < 0 and status not in tuple(RETURNED):
        expected["amount"] = (True, f"an amount above 0: the status is {status}")
    for name, (is_wrong, what) in expected.items():
        if is_wrong:
            return StatementRow(number, identity, problem=f"{name}: found {told.get(name, '')!r}, expected {what}")
    assert amount is not None  # noqa: S101 # as checked above
    last4 = told.get("card_last4", "")
    return StatementRow(
        row=number,
        id=identity,
        at=at,
        amount=abs(amount),
        currency=told.get("currency", "").upper() or None,
        status=status,
        account_id=told.get("account_id"),
        document=told.get("document"),
        reference=told.get("reference"),
        payer=told.get("payer"),
        email=told.get("email"),
        text=" ".join(told[name] for name in ("text", "reference") if name in told) or None,
        card_brand=told.get("card_brand"),
        card_last4=last4 if re.fullmatch(r"\d{4}", last4) else None,
    )


def _instant(text: str, form: str, zone: ZoneInfo) -> str | None:
    try:
        found = datetime.strptime(text, form) if form else datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    is_day = re.fullmatch(r"\d{4}-\d\d-\d\d", text) if not form else not re.search(r"%[HIMSTXcs]", form)
    if is_day:
        return at_noon(found.date(), zone)
    return (found if found.tzinfo else found.replace(tzinfo=zone)).isoformat()
