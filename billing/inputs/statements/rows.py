"""Rows of a statement: what was paid, by whom and for what, as far as the statement says it."""

import csv
import hashlib
import io
import re
from collections.abc import Sequence
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

import polars as pl

from billing.inputs.csv_files import decoded
from billing.model.columns import MONEY
from billing.model.errors import RefusedError

_AMOUNT: Final = re.compile(r"-?\d{1,15}(\.\d{1,4})?")


class StatementRow(NamedTuple):
    """One movement of money.

    Attributes
    ----------
    row
        Its place in the file, from 1.
    id
        Stable: the same movement in another file, or imported again, has the same one.
    at
        RFC 3339.
    amount
        Above 0; `status` says which way it went.
    account_id, document, reference
        As the statement names them, or null.
    payer, email
        Of whoever paid.
    text
        Free text: numbers and references are looked for in it.
    charge
        What a refund and its payment have in common.
    ignored
        Why it is no payment of a customer, or null.
    problem
        Why it cannot be read, or null.
    """

    row: int
    id: str
    at: str | None = None
    amount: Decimal | None = None
    currency: str | None = None
    status: str | None = None
    account_id: str | None = None
    document: str | None = None
    reference: str | None = None
    payer: str | None = None
    email: str | None = None
    text: str | None = None
    charge: str | None = None
    card_brand: str | None = None
    card_last4: str | None = None
    ignored: str | None = None
    problem: str | None = None


STATEMENT: Final = pl.Schema(
    {name: MONEY if name == "amount" else pl.Int64() if name == "row" else pl.String() for name in StatementRow._fields}
)


def as_frame(rows: Sequence[StatementRow]) -> pl.DataFrame:
    """The rows as a frame of STATEMENT."""
    return pl.DataFrame(rows, schema=STATEMENT, orient="row")


def read_amount(text: str | None, decimal: str = ".", thousands: str = "") -> Decimal | None:
    """A plain decimal, signed; null when it is none."""
    plain = (text or "").strip().replace(" ", "").replace("\u00a0", "")
    plain = plain.replace(thousands, "") if thousands else plain
    plain = plain.replace(decimal, ".") if decimal != "." else plain
    plain = plain.removeprefix("+")
    return Decimal(plain) if _AMOUNT.fullmatch(plain) else None


def at_noon(day: date, zone: ZoneInfo) -> str:
    """An instant of a day of which only the date is known."""
    return datetime.combine(day, time(12), tzinfo=zone).isoformat()


def content_id(counts: dict[str, int], *parts: str | None) -> str:
    """An id from the content of a movement, and its occurrence among equal ones of the file."""
    digest = hashlib.sha256("\x1f".join(part or "" for part in parts).encode()).hexdigest()[:24]
    counts[digest] = counts.get(digest, 0) + 1
    return digest if counts[digest] == 1 else f"{digest}-{counts[digest]}"


def csv_rows(path: Path, encoding: str, separator: str = ",") -> tuple[list[str], list[list[str]]]:
    """The header of a CSV file, and its rows without blank ones.

    Raises
    ------
    RefusedError
        When the file cannot be decoded, is empty, or has a column twice.
    """
    try:
        text = decoded(path.read_bytes(), encoding)
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator) if any(row)]
    except (OSError, ValueError, csv.Error) as error:
        raise RefusedError(f"{path}: this file cannot be read: {error}") from error
    if not rows:
        raise RefusedError(f"{path}: found an empty file, expected a first line with the names of the columns")
    header = [name.strip().removeprefix("\ufeff") for name in rows[0]]
    if repeated := sorted({name for name in header if name and header.count(name) > 1}):
        raise RefusedError(f"{path}: found the column {repeated[0]} more than once, expected each column once")
    return header, rows[1:]
