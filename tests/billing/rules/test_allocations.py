"""What pays what: amounts owed, statuses and collections come from one allocation (rules 15, 16 and 25)."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from billing.model.columns import MONEY
from billing.rules.allocations import allocate, with_open_amounts
from billing.rules.balances import account_balances, amounts_to_collect, suspensions

FIRST = date(2026, 1, 10)
_DOCUMENT: dict[str, Any] = {
    "number": pl.String,
    "kind": pl.String,
    "account_id": pl.String,
    "subscription_id": pl.String,
    "issued_on": pl.Date,
    "due_on": pl.Date,
    "currency": pl.String,
    "total": MONEY,
    "credits_applied": MONEY,
    "due": MONEY,
    "corrects": pl.String,
    "credited_at": pl.Datetime("ns", "UTC"),
}
_PAYMENT: dict[str, Any] = {
    "payment_id": pl.String,
    "account_id": pl.String,
    "document": pl.String,
    "at": pl.Datetime("ns", "UTC"),
    "on": pl.Date,
    "amount": MONEY,
    "status": pl.String,
    "card_brand": pl.String,
    "card_last4": pl.String,
}
CARDS = pl.DataFrame(schema={"account_id": pl.String, "at": _PAYMENT["at"], "brand": pl.String, "last4": pl.String})


def documents(*rows: tuple[str, int, str, str | None]) -> pl.DataFrame:
    """(number, days after the first, total, corrects) of one account."""
    kinds = {"I": "invoice", "C": "credit_note", "D": "debit_note"}
    return pl.DataFrame(
        [
            {
                "number": number,
                "kind": kinds[number[0]],
                "account_id": "acme",
                "subscription_id": "acme/2026-01-10",
                "issued_on": FIRST + timedelta(days=days),
                "due_on": FIRST + timedelta(days=days),
                "currency": "USD",
                "total": Decimal(total),
                "credits_applied": Decimal(0),
                "due": Decimal(total),
                "corrects": corrects,
                "credited_at": datetime(2026, 1, 10, tzinfo=UTC) + timedelta(days=days),
            }
            for number, days, total, corrects in rows
        ],
        schema=_DOCUMENT,
    )


def payments(*rows: tuple[str, int, str, str]) -> pl.DataFrame:
    """(document, days after the first, amount, status): at noon."""
    return pl.DataFrame(
        [
            {
                "payment_id": f"p{place:03}",
                "account_id": "acme",
                "document": document,
                "at": datetime(2026, 1, 10, 12, tzinfo=UTC) + timedelta(days=days),
                "on": FIRST + timedelta(days=days),
                "amount": Decimal(amount),
                "status": status,
            }
            for place, (document, days, amount, status) in enumerate(rows)
        ],
        schema=_PAYMENT,
    )


def states(found: pl.DataFrame) -> dict[str, tuple[str, str]]:
    return {number: (f"{owed:.2f}", status) for number, owed, status in found.select("number", "open", "status").rows()}


def test_an_overpayment_pays_the_next_bill_as_far_as_it_goes() -> None:
    issued = documents(("I1", 0, "99.00", None), ("I2", 31, "99.00", None))
    paid = payments(("I1", 0, "150.00", "succeeded"))
    assert states(with_open_amounts(issued, paid)) == {"I1": ("0.00", "paid"), "I2": ("48.00", "open")}
    assert amounts_to_collect(issued, paid, CARDS, FIRST)["amount_due"].to_list() == [Decimal("48.00")]
    assert allocate(issued, paid).select("source", "number", "amount", "on").rows() == [
        ("p000", "I1", Decimal("99.00"), FIRST),
        ("p000", "I2", Decimal("51.00"), FIRST + timedelta(days=31)),
    ]


def test_a_credit_without_a_document_pays_the_oldest_open_one() -> None:
    issued = documents(("C1", 0, "-99.00", None), ("I1", 31, "99.00", None))
    assert states(with_open_amounts(issued, payments())) == {"C1": ("0.00", "open"), "I1": ("0.00", "credited")}
    assert amounts_to_collect(issued, payments(), CARDS, FIRST).is_empty()


def test_what_payments_and_credits_cover_together_is_paid() -> None:
    issued = documents(("I1", 0, "102.00", None), ("C1", 5, "-3.00", "I1"))
    paid = payments(("I1", 9, "99.00", "succeeded"))
    assert states(with_open_amounts(issued, paid))["I1"] == ("0.00", "paid")


def test_an_unpaid_document_that_is_credited_in_full_is_settled_and_suspends_nobody() -> None:
    issued = documents(("I1", 0, "99.00", None), ("C1", 5, "-99.00", "I1"))
    failed = payments(("I1", 0, "99.00", "failed"))
    assert states(with_open_amounts(issued, failed))["I1"] == ("0.00", "credited")
    # from the failed payment to the start of the day of the credit note
    assert suspensions(failed, issued).rows() == [
        ("acme", datetime(2026, 1, 10, 12, tzinfo=UTC), datetime(2026, 1, 15, tzinfo=UTC))
    ]
    balance = account_balances(with_open_amounts(issued, failed), failed, "USD").row(0, named=True)
    assert (balance["outstanding"], balance["oldest_unpaid_on"]) == (Decimal(0), None)


def test_a_credit_of_the_account_keeps_a_failed_payment_from_suspending() -> None:
    issued = documents(("C1", 0, "-99.00", None), ("I1", 31, "99.00", None), ("I2", 62, "99.00", None))
    failed = payments(("I1", 31, "99.00", "failed"))
    assert suspensions(failed, issued).is_empty()
    assert suspensions(payments(("I2", 62, "99.00", "failed")), issued).height == 1


def test_a_charge_that_was_taken_back_is_owed_again_and_asked_for_with_a_new_key() -> None:
    issued = documents(("I1", 0, "99.00", None))
    keys = []
    outcomes = [("I1", 0, "99.00", "failed"), ("I1", 1, "99.00", "succeeded"), ("I1", 9, "99.00", "disputed")]
    for known in ([], outcomes[:1], outcomes):
        (row,) = amounts_to_collect(issued, payments(*known), CARDS, FIRST).iter_rows(named=True)
        assert row["amount_due"] == Decimal("99.00")
        keys.append(row["idempotency_key"])
    assert len(set(keys)) == 3
    assert states(with_open_amounts(issued, payments(*outcomes))) == {"I1": ("99.00", "open")}


def test_what_is_sent_back_is_taken_off_the_latest_payment() -> None:
    issued = documents(("I1", 0, "99.00", None))
    paid = payments(("I1", 0, "60.00", "succeeded"), ("I1", 3, "60.00", "succeeded"), ("I1", 5, "30.00", "refunded"))
    assert allocate(issued, paid).select("source", "amount").rows() == [
        ("p000", Decimal("60.00")),
        ("p001", Decimal("30.00")),
    ]
    back = payments(("I1", 0, "99.00", "succeeded"), ("I1", 3, "99.00", "refunded"))
    assert states(with_open_amounts(issued, back)) == {"I1": ("99.00", "refunded")}


def test_nothing_owed_is_paid_when_it_is_issued() -> None:
    assert states(with_open_amounts(documents(("I1", 0, "0.00", None)), payments())) == {"I1": ("0.00", "paid")}


NUMBERS = ("I1", "I2", "D1", "C1", "C2")


@given(
    totals=st.tuples(*(st.integers(0, 300) for _ in NUMBERS)),
    corrected=st.tuples(*(st.sampled_from(["I1", "I2", None]) for _ in range(2))),
    moves=st.lists(
        st.tuples(
            st.sampled_from(NUMBERS),
            st.integers(0, 40),
            st.integers(0, 300),
            st.sampled_from(["succeeded", "failed", "refunded", "disputed"]),
        ),
        max_size=8,
    ),
)
def test_whatever_was_paid_and_credited_what_is_collected_is_what_is_owed(
    totals: tuple[int, ...], corrected: tuple[str | None, ...], moves: list[tuple[Any, ...]]
) -> None:
    corrects = ("I1", None, "I1", *corrected)[1:]
    rows = [
        (number, place, str(-total if number[0] == "C" else total), (None, *corrects)[place])
        for place, (number, total) in enumerate(zip(NUMBERS, totals, strict=True))
    ]
    issued, paid = (
        documents(*rows),
        payments(*((number, day, str(each), status) for number, day, each, status in moves)),
    )
    known = with_open_amounts(issued, paid)
    balance = account_balances(known, paid, "USD").row(0, named=True)
    collected = amounts_to_collect(issued, paid, CARDS, FIRST)
    assert collected["amount_due"].sum() == max(Decimal(0), balance["outstanding"])
    assert known["open"].sum() == max(Decimal(0), balance["outstanding"])
    found = allocate(issued, paid)
    assert (found["amount"] > 0).all()
    # no source pays more than it has
    credit = sum((-total for total in issued["total"] if total < 0), Decimal(0))
    received = sum(paid.filter(pl.col("status") == "succeeded")["amount"], Decimal(0))
    assert sum(found["amount"], Decimal(0)) <= credit + received


def test_a_document_is_overdue_from_the_day_after_it_is_due() -> None:
    due = documents(("I1", 0, "10.00", None)).with_columns(due_on=pl.lit(FIRST + timedelta(days=14)))
    ages = {}
    for days in (14, 15, 44, 45):
        (row,) = amounts_to_collect(due, payments(), CARDS, FIRST + timedelta(days=days)).iter_rows(named=True)
        ages[days] = row["days_overdue"], row["age"], row["due_on"]
    day = FIRST + timedelta(days=14)
    assert ages == {
        14: (0, "not_due", day),
        15: (1, "1_to_30", day),
        44: (30, "1_to_30", day),
        45: (31, "31_to_60", day),
    }
