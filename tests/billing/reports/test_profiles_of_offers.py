"""Profiles of what is sold beside packages: what is held, and the next bill with all of it."""

from datetime import date
from decimal import Decimal

import polars as pl
import pytest

from billing.month.business import Business
from billing.reports.profiles import NextBills, next_bills


@pytest.fixture(scope="module")
def bills(sold: Business) -> NextBills:
    return next_bills(sold, date(2026, 3, 31))


def of(bills: NextBills, account: str) -> dict[str, object]:
    (row,) = bills.profiles.filter(pl.col("account_id") == account).iter_rows(named=True)
    return row


def test_coupons_that_are_used_up_are_held_no_more(bills: NextBills) -> None:
    # spring was for three documents
    assert of(bills, "usual")["coupons"] == [{"coupon": "tenner", "documents_left": None}]
    assert of(bills, "least")["coupons"] == []


def test_the_next_bill_has_everything_that_is_sold(bills: NextBills) -> None:
    # (99.00 + 10 users: 60.00 + 2 add-ons: 60.00 - 10.00) with 20 % tax
    assert of(bills, "usual")["upcoming_amount"] == Decimal("250.80")
    # 200.00 to come to, 99.00 of them counted, and the fee: 101.00 + 99.00 with 20 % tax
    assert of(bills, "least")["upcoming_amount"] == Decimal("240.00")
    kinds = bills.lines.filter(pl.col("account_id") == "whole")["kind"].unique().to_list()
    assert sorted(kinds) == ["add_on", "coupon", "minimum_spend", "package_fee", "seats"]


def test_the_package_is_that_of_the_upgrade(bills: NextBills) -> None:
    assert of(bills, "upgraded")["package"] == "silver"
