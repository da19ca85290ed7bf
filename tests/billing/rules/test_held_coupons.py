"""Coupons that are held, and how many documents each is still for."""

from datetime import date
from decimal import Decimal

import polars as pl
import pytest

from billing.model.offers import Coupon
from billing.rules.coupons import COUNTED_SCHEMA
from billing.rules.held_coupons import held_coupons
from billing.rules.redemptions import HOLDING_SCHEMA

THREE = Coupon("three", "Three", percent=Decimal(10), documents=3)
EVER = Coupon("ever", "Ever", percent=Decimal(10))
DAY = date(2026, 3, 31)


def holding(coupon: str, revoked_on: date | None = None, request: str = "r") -> tuple[object, ...]:
    return ("a", "a/2026-01-10", coupon, request, None, date(2026, 1, 10), revoked_on)


@pytest.mark.parametrize(
    ("holdings", "used", "expected"),
    [
        ([holding("three")], 0, [("three", 3)]),
        ([holding("three")], 2, [("three", 1)]),
        ([holding("three")], 3, []),
        ([holding("three"), holding("three", request="s")], 4, [("three", 2)]),
        ([holding("ever")], 3, [("ever", None)]),
        ([holding("ever", revoked_on=DAY)], 0, []),
        ([holding("ever", revoked_on=date(2026, 4, 1))], 0, [("ever", None)]),
        ([holding("removed")], 0, []),
    ],
)
def test_what_is_left_of_a_coupon(
    holdings: list[tuple[object, ...]], used: int, expected: list[tuple[str, int | None]]
) -> None:
    redeemed = pl.DataFrame(holdings, schema=HOLDING_SCHEMA, orient="row")
    days = [date(2025, 12, 10), *(date(2026, 1 + place, 10) for place in range(used))]
    rows = [("a/2026-01-10", str(holdings[0][2]), day) for day in days]
    counted = pl.DataFrame(rows, schema=COUNTED_SCHEMA, orient="row")
    found = held_coupons(redeemed, counted, [THREE, EVER], DAY)
    assert found.select("coupon", "documents_left").rows() == expected
