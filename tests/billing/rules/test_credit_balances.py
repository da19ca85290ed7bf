"""What is left of prepaid credits, what expires, and rows of grants that are lowered or gone (rule 33)."""

from datetime import date
from decimal import Decimal
from typing import Any

import polars as pl

from billing.model.columns import MONEY
from billing.rules.credit_balances import (
    credit_balances,
    expired_credits,
    lowered_grants,
    next_expiries,
    not_covered,
)
from billing.rules.prepaid_credits import USES

JANUARY, FEBRUARY = date(2026, 1, 10), date(2026, 2, 10)


def grants(*rows: tuple[str, str, int, date | None, str]) -> pl.DataFrame:
    """grant_id, account_id, amount, expires_on, currency; granted in January."""
    schema: dict[str, Any] = {"grant_id": pl.String, "account_id": pl.String, "amount": MONEY, "expires_on": pl.Date}
    frame = pl.DataFrame(list(rows), schema=schema | {"currency": pl.String}, orient="row")
    return frame.with_columns(kind=pl.lit("granted"), granted_on=pl.lit(JANUARY), priority=pl.lit(100))


def uses(*rows: tuple[str, str, str, int]) -> pl.DataFrame:
    """number, grant_id, account_id, amount."""
    frame = [
        (number, 1, name, Decimal(amount), None, account, "USD", JANUARY, JANUARY, True)
        for number, name, account, amount in rows
    ]
    return pl.DataFrame(frame, schema=USES, orient="row")


def moved(*rows: tuple[str, date, int]) -> pl.DataFrame:
    schema: dict[str, Any] = {"grant_id": pl.String, "account_id": pl.String, "day": pl.Date, "amount": MONEY}
    return pl.DataFrame(
        [(name, f"of-{name}", day, Decimal(amount)) for name, day, amount in rows], schema=schema, orient="row"
    )


def test_used_left_and_expired_are_what_was_granted() -> None:
    found = credit_balances(
        grants(
            ("a", "acme", 50, None, "USD"),
            ("b", "acme", 50, FEBRUARY, "USD"),
            ("c", "beta", 50, date(2026, 2, 11), "EUR"),
            ("d", "beta", 30, None, "USD"),
        ),
        uses(
            ("I1", "a", "acme", 20),
            ("I2", "a", "acme", 5),
            ("I2", "b", "acme", 10),
            ("I3", "d", "beta", 40),
            ("I4", "e", "gone", 9),
        ),
        FEBRUARY,
    )
    columns = ("grant_id", "account_id", "currency", "amount", "used", "expired", "left", "kind", "granted_on")
    assert found.sort("grant_id").select(columns).rows() == [
        ("a", "acme", "USD", 50, 25, 0, 25, "granted", JANUARY),
        ("b", "acme", "USD", 50, 10, 40, 0, "granted", JANUARY),
        ("c", "beta", "EUR", 50, 0, 0, 50, "granted", JANUARY),
        ("d", "beta", "USD", 40, 40, 0, 0, "granted", JANUARY),
        ("e", "gone", "USD", 9, 9, 0, 0, None, None),
    ]


def test_next_to_expire_is_of_an_account_and_a_currency() -> None:
    credits = credit_balances(
        grants(
            ("a", "acme", 1, FEBRUARY, "USD"),
            ("b", "acme", 5, FEBRUARY, "EUR"),
            ("c", "acme", 7, date(2026, 2, 1), "EUR"),
            ("d", "acme", 9, date(2026, 3, 1), "USD"),
            ("e", "acme", 3, date(2026, 1, 15), "EUR"),
        ),
        uses(("I1", "e", "acme", 3)),
        JANUARY,
    )
    assert next_expiries(credits).sort("currency").rows() == [
        ("acme", "EUR", 12, date(2026, 2, 1), 7),
        ("acme", "USD", 10, FEBRUARY, 1),
    ]


def test_what_was_used_beyond_what_was_added_counts_as_added_on_the_day_of_its_last_use() -> None:
    added = moved(("a", JANUARY, 10), ("a", FEBRUARY, 5), ("b", JANUARY, 3))
    used = moved(("a", JANUARY, 9), ("a", FEBRUARY, 6), ("b", FEBRUARY, 2), ("b", JANUARY, 2), ("c", JANUARY, 1))
    assert not_covered(added, used).rows() == [("b", "of-b", FEBRUARY, 1), ("c", "of-c", JANUARY, 1)]


def test_what_is_left_expires_on_the_day_and_what_comes_back_later_then() -> None:
    late = date(2026, 3, 5)
    expiry = pl.DataFrame(
        {"grant_id": ["a", "b", "c"], "expires_on": [FEBRUARY, FEBRUARY, None]},
        schema_overrides={"expires_on": pl.Date},
    )
    added = [moved(("a", JANUARY, 50), ("b", JANUARY, 5), ("c", JANUARY, 5)), moved(("a", JANUARY, 1))]
    used = moved(("a", JANUARY, 20), ("a", late, -8), ("b", JANUARY, 5), ("c", JANUARY, 1))
    assert expired_credits(added, used, expiry).rows() == [("a", "of-a", FEBRUARY, 31), ("a", "of-a", late, 8)]


def test_rows_that_grant_less_than_was_used_are_named() -> None:
    now = grants(("a", "acme", 10, None, "USD"), ("b", "acme", 9, None, "USD"), ("c", "other", 10, None, "USD"))
    used = uses(
        ("I1", "a", "acme", 10),
        ("I1", "b", "acme", 10),
        ("I1", "c", "acme", 1),
        ("I1", "d", "acme", 2),
        ("I2", "e", "acme", 0),
    )
    assert lowered_grants(now, used) == [
        "credit_grants: b: found an amount of 9, and 10 of it was used by acme: that stands, nothing is left",
        "credit_grants: c: found account other, and 1 of it was used by acme: that stands; expected a row of its own "
        "for another account",
        "credit_grants: d: the row is gone, and 2 of it was used by acme: that stands, the rest is void",
    ]
