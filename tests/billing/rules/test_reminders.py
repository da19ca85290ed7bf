"""Who is reminded of what: the oldest overdue document decides, and each level is sent once."""

from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from billing.model.catalogue import ReminderLevel
from billing.model.columns import MONEY
from billing.rules.reminders import overdue_documents, reminders_due, still_open

LEVELS = (ReminderLevel(7), ReminderLevel(21, Decimal("5.00")), ReminderLevel(35, is_final=True))
DUE = date(2026, 2, 10)
DOCUMENT = {"number": pl.String, "account_id": pl.String, "kind": pl.String, "currency": pl.String}
DOCUMENT |= {"issued_on": pl.Date, "due_on": pl.Date, "due": MONEY, "corrects": pl.String}  # type: ignore[dict-item]
PAYMENT: dict[str, Any] = {"payment_id": pl.String, "account_id": pl.String, "document": pl.String}
PAYMENT |= {"at": pl.Datetime("ns", "UTC"), "on": pl.Date, "amount": MONEY, "status": pl.String}


def documents(*rows: tuple[str, str, str], kind: str = "invoice", corrects: str | None = None) -> pl.DataFrame:
    """number, total and due day (MM-DD) of documents of acme."""
    frame = [
        (
            number,
            "acme",
            kind,
            "USD",
            date.fromisoformat(f"2026-{day}"),
            date.fromisoformat(f"2026-{day}"),
            Decimal(total),
            corrects,
        )
        for number, total, day in rows
    ]
    return pl.DataFrame(frame, schema=DOCUMENT, orient="row")


def payments(*rows: tuple[str, str, str]) -> pl.DataFrame:
    """document, amount and status, on 11 February."""
    on = date(2026, 2, 11)
    frame = [
        (f"p{place}", "acme", document, on, on, Decimal(amount), status)
        for place, (document, amount, status) in enumerate(rows)
    ]
    schema = PAYMENT | {"at": pl.Date}
    return pl.DataFrame(frame, schema=schema, orient="row").with_columns(pl.col("at").cast(PAYMENT["at"]))


def due(
    after: int,
    owed: pl.DataFrame,
    paid: pl.DataFrame | None = None,
    reminded: tuple[tuple[str, int], ...] = (),
    dunning: bool | None = None,
) -> list[tuple[int, str, list[str], str]]:
    """level, oldest document, documents and amount of the reminders so many days after 10 February."""
    found = reminders_due(
        overdue_documents(owed, payments() if paid is None else paid, DUE + timedelta(days=after)),
        accounts=pl.DataFrame({"account_id": ["acme"], "dunning": [dunning]}, schema_overrides={"dunning": pl.Boolean}),
        levels=LEVELS,
        reminded=pl.DataFrame(
            [("acme", number, level) for number, level in reminded],
            schema={"account_id": pl.String, "oldest_document": pl.String, "level": pl.Int64},
            orient="row",
        ),
    )
    rows = found.select(
        "level", "oldest_document", "documents", pl.col("amount").cast(pl.Decimal(38, 2)).cast(pl.String)
    )
    return list(rows.iter_rows())


@pytest.mark.parametrize(("after", "level"), [(0, 0), (6, 0), (7, 1), (20, 1), (21, 2), (34, 2), (35, 3), (400, 3)])
def test_the_level_is_the_latest_whose_days_have_passed(after: int, level: int) -> None:
    found = due(after, documents(("A", "100.00", "02-10")))
    assert found == ([(level, "A", ["A"], "100.00")] if level else [])


@pytest.mark.parametrize(
    ("after", "sent", "level"), [(20, 1, None), (21, 1, 2), (35, 1, 3), (35, 3, None), (21, 3, None)]
)
def test_a_level_is_sent_once_for_the_oldest_document(after: int, sent: int, level: int | None) -> None:
    found = due(after, documents(("A", "100.00", "02-10")), reminded=(("A", sent),))
    assert [each[0] for each in found] == ([] if level is None else [level])


def test_all_overdue_documents_stand_on_one_reminder_with_the_level_of_the_oldest() -> None:
    owed = documents(("B", "30.00", "02-20"), ("A", "100.00", "02-10"), ("C", "7.00", "03-30"))
    assert due(22, owed) == [(2, "A", ["A", "B"], "130.00")]
    # The oldest is paid: the next one has levels of its own.
    assert due(22, owed, payments(("A", "100.00", "succeeded")), (("A", 2),)) == [(1, "B", ["B"], "30.00")]


def test_only_what_is_left_is_reminded() -> None:
    owed = documents(("A", "100.00", "02-10"))
    assert due(7, owed, payments(("A", "60.00", "succeeded"))) == [(1, "A", ["A"], "40.00")]
    assert due(7, owed, payments(("A", "60.00", "failed"))) == [(1, "A", ["A"], "100.00")]
    assert due(7, owed, payments(("A", "100.00", "succeeded"))) == []


def test_credit_that_covers_is_not_reminded() -> None:
    owed = documents(("A", "100.00", "02-10"))
    credit = documents(("N", "-100.00", "02-12"), kind="credit_note", corrects="A")
    assert due(30, pl.concat([owed, credit])) == []
    # An opening balance below zero pays, too.
    opening = documents(("o", "-100.00", "01-01"), kind="opening_balance")
    assert due(30, pl.concat([owed, opening])) == []


def test_an_opening_balance_is_reminded_from_its_day() -> None:
    opening = documents(("o", "80.00", "02-10"), kind="opening_balance").with_columns(due_on=pl.lit(None, pl.Date))
    assert due(7, opening) == [(1, "o", ["o"], "80.00")]


def test_a_disputed_document_is_not_reminded() -> None:
    owed = documents(("A", "100.00", "02-10"), ("B", "30.00", "02-10"))
    paid = payments(("A", "100.00", "succeeded"), ("A", "100.00", "disputed"))
    assert due(7, owed, paid) == [(1, "B", ["B"], "30.00")]


@pytest.mark.parametrize(("dunning", "count"), [(None, 1), (True, 1), (False, 0)])
def test_accounts_may_be_left_alone(dunning: bool | None, count: int) -> None:
    assert len(due(7, documents(("A", "100.00", "02-10")), dunning=dunning)) == count


@pytest.mark.parametrize(
    ("now", "is_whole"),
    [
        ([("A", "100.00"), ("B", "200.00")], True),
        ([("A", "100.00"), ("B", "200.00"), ("C", "5.00")], True),
        ([("A", "100.00")], False),
        ([("A", "100.00"), ("B", "150.00")], False),
        ([], False),
    ],
)
def test_a_reminder_is_sent_later_only_while_all_it_names_is_still_open(
    now: list[tuple[str, str]], is_whole: bool
) -> None:
    made = pl.DataFrame(
        [("acme/2026-03-01", "acme", '["A", "B"]', Decimal("300.00"))],
        schema={"reminder_id": pl.String, "account_id": pl.String, "documents": pl.String, "amount": MONEY},
        orient="row",
    )
    open_now = pl.DataFrame(
        [("acme", document, Decimal(amount)) for document, amount in now],
        schema={"account_id": pl.String, "document": pl.String, "open": MONEY},
        orient="row",
    )
    assert still_open(made, open_now)["reminder_id"].to_list() == ["acme/2026-03-01"] * is_whole
