"""Explained: coupons, charges, seats, minimum spends and upgrades at once, with all of their arithmetic."""

import re
from decimal import Decimal
from typing import Any

import pytest

from billing.month.business import Business
from billing.reports.explain import explain_document
from tests.by_steps import rows

Explained = list[dict[str, Any]]


def explained(business: Business, account: str, on: str, *, everything: bool = False) -> Explained:
    found = rows(business, "documents", "number", "billing_date", account_id=account)
    number = next(number for number, day in found if str(day) == on)
    return explain_document(business, number, everything=everything)


def steps(lines: Explained, kind: str, **wanted: object) -> list[str]:
    """The arithmetic of the one line of a kind."""
    (line,) = (
        each for each in lines if each["kind"] == kind and all(each[name] == value for name, value in wanted.items())
    )
    arithmetic: list[str] = line["arithmetic"]
    return arithmetic


def test_a_coupon_names_its_lines_its_order_and_its_share(sold: Business) -> None:
    lines = explained(sold, "usual", "2026-02-10")
    on_fee = [
        each["arithmetic"] for each in lines if each["kind"] == "coupon" and "on line 1:" in each["arithmetic"][0]
    ]
    assert on_fee == [
        [
            "coupon spring on line 1: Starter, monthly fee",
            "coupons are taken in this order: spring, tenner",
            "lines 1, 2, 3, 4, 5, 6 cost 99.00 + 1.16 + 36.00 + 60.00 + 120.00 + 250.00 = 566.16",
            "10 % of 566.16 = 56.616, rounded half-up = 56.62",
            "56.62 x 99.00 / 566.16 by the largest remainder = 9.90 off this line",
        ],
        [
            "coupon tenner on line 1: Starter, monthly fee",
            "coupons are taken in this order: spring, tenner",
            "lines 1, 2, 3, 4, 5, 6 still cost 89.10 + 1.04 + 32.40 + 54.00 + 108.00 + 225.00 = 509.54",
            "10.00 of 509.54",
            "10.00 x 89.10 / 509.54 by the largest remainder = 1.75 off this line",
        ],
    ]
    alone = steps(explained(sold, "usual", "2026-01-10"), "coupon")
    assert alone[1:] == ["10 % of 99.00 that the line costs = 9.90"]


@pytest.mark.parametrize(("account", "on"), [("usual", "2026-02-10"), ("usual", "2026-03-10"), ("whole", "2026-02-10")])
def test_the_shares_of_every_coupon_add_up_to_it(sold: Business, account: str, on: str) -> None:
    whole: dict[str, set[str]] = {}
    parts: dict[str, Decimal] = {}
    for line in explained(sold, account, on):
        if line["kind"] == "coupon":
            name = line["arithmetic"][0].split()[1]
            taken, of, total, off = re.findall(r"-?\d+\.\d+", line["arithmetic"][-1])
            whole.setdefault(name, set()).add(taken)
            parts[name] = parts.get(name, Decimal(0)) + Decimal(off)
            assert Decimal(off) == -Decimal(line["amount"])
            assert abs(Decimal(off) - Decimal(taken) * Decimal(of) / Decimal(total)) < Decimal("0.01")
    assert {name: {f"{part}"} for name, part in parts.items()} == whole
    assert set(whole) == {"spring", "tenner"}


def test_charges_name_their_row_and_its_reason(sold: Business) -> None:
    lines = explained(sold, "usual", "2026-02-10")
    assert steps(lines, "charge", description="Consulting") == ["charge hours of 2026-01-25: 3 x 40 = 120.00"]
    assert steps(lines, "charge", amount="-20.00") == ["charge sorry of 2026-02-01 (credit): -20.00"]
    assert steps(explained(sold, "own", "2026-01-20"), "charge") == ["charge alone of 2026-01-20: 80.00"]


def test_seats_name_the_level_and_its_events(sold: Business) -> None:
    lines = explained(sold, "usual", "2026-02-10")
    assert steps(lines, "seats") == [
        "8 at the beginning of 2026-02-10 after 1 event",
        "8 - 5 included = 3",
        "3 x 12 = 36.00",
    ]
    (seats,) = (each for each in lines if each["kind"] == "seats")
    assert [(each["time"], each["quantity"]) for each in seats["events"]] == [("2026-02-09T10:00:00Z", "8")]


def test_seats_that_are_added_name_each_rise_by_day(sold: Business) -> None:
    lines = explained(sold, "usual", "2026-03-10")
    assert steps(lines, "proration") == [
        "2026-02-20: 10, the highest before 8: 60 - 36 = 24 more a cycle, x 18 / 28 days left",
        "rounded half-up = 15.43",
    ]
    (rise,) = (each for each in lines if each["kind"] == "proration")
    assert rise["events_total"] == 1


def test_a_minimum_spend_names_what_counted(sold: Business) -> None:
    assert steps(explained(sold, "least", "2026-02-10"), "minimum_spend") == [
        "counts: 99.00 Starter, monthly fee, due on 2026-01-10",
        "counts: 39.00 Emails over the allowance of Starter, due on 2026-02-10",
        "200.00 to come to - 138.00 due for the cycle = 62.00",
    ]
    assert steps(explained(sold, "short", "2026-02-10"), "minimum_spend") == [
        "counts: 99.00 Starter, monthly fee, due on 2026-01-10",
        "200.00 x 16 / 31 days, rounded half-up = 103.23",
        "103.23 to come to - 99.00 due for the cycle = 4.23",
    ]
    counted = steps(explained(sold, "whole", "2026-02-10"), "minimum_spend")
    assert "counts: 67.74 Silver instead of Starter, 21 of 31 days, due on 2026-01-20" in counted


def test_an_upgrade_at_once_names_both_fees_and_the_days(sold: Business) -> None:
    assert steps(explained(sold, "upgraded", "2026-01-20"), "proration") == [
        "(199.00 - 99.00) x 21 / 31 days, rounded half-up = 67.74"
    ]


def test_nothing_is_left_open_and_seats_are_no_usage_that_costs_nothing(sold: Business) -> None:
    for account in ("usual", "whole", "least", "upgraded"):
        lines = explained(sold, account, "2026-02-10", everything=True)
        assert [each["description"] for each in lines if each["kind"] == "late"] == []
        assert "users" not in {each["metric"] for each in lines if each["kind"] == "not_charged"}
