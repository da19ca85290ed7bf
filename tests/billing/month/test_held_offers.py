"""Coupons and add-ons over the months: what a run decides, and that shards and later knowledge change nothing."""

from pathlib import Path

import polars as pl
import pytest

from billing.month.held_offers import coupon_holdings
from billing.starter import starter_catalogue
from tests.by_steps import bill_by_steps, rows
from tests.landing import Landing

COUPONS = """
coupons:
  - {name: spring, percent: "10", documents: 2}
  - {name: for_silver, percent: "10", packages: [silver]}
  - {name: two_in_all, percent: "10", redemptions: {all: 2}}
"""


@pytest.fixture
def landing(tmp_path: Path) -> Landing:
    return Landing(tmp_path, starter_catalogue() + COUPONS)


def test_every_request_about_a_coupon_has_one_answer_in_its_month(landing: Landing) -> None:
    landing.customer("acme", coupon="spring")
    landing.request("acme", "redeem", "2026-01-20T09:00:00Z", "email", coupon="for_silver")
    landing.request("acme", "upgrade", "2026-01-21T09:00:00Z", "self_service", package="silver")
    landing.request("acme", "redeem", "2026-02-10T09:00:00Z", "email", coupon="for_silver")
    landing.request("acme", "revoke", "2026-03-01T09:00:00Z", coupon="for_silver")
    business = bill_by_steps(landing.root, "2026-03", "2026-03-31")
    found = rows(business, "decisions", "decision_id", "billing_month", "kind", "coupon", "reason")
    assert found == [
        ("request-1", "2026-01", "subscribe", None, "subscribed"),
        ("request-1/coupon", "2026-01", "redeem", "spring", "redeemed"),
        ("request-2", "2026-01", "redeem", "for_silver", "not_for_this_package"),
        ("request-3", "2026-02", "upgrade", None, "requested"),
        ("request-4", "2026-02", "redeem", "for_silver", "redeemed"),
        ("request-5", "2026-03", "revoke", "for_silver", "revoked"),
    ]
    holdings = coupon_holdings(business).select("coupon", pl.col("effective_on", "revoked_on").dt.to_string("%m-%d"))
    # Revoked before its first billing date, the second one never counts.
    assert holdings.rows() == [("spring", "01-10", None)]
    assert rows(business, "parked", "account_id") == []


def test_redemptions_of_all_accounts_are_the_same_in_shards(landing: Landing, tmp_path: Path) -> None:
    for index in range(6):
        landing.customer(f"customer-{index}")
    for index in (5, 0, 3, 2):
        landing.request(f"customer-{index}", "redeem", f"2026-01-2{9 - index}T09:00:00Z", "email", coupon="two_in_all")
    twin = landing.copied(tmp_path / "twin")
    one, several = (
        bill_by_steps(home, "2026-02", "2026-02-28", shards=shards)
        for home, shards in ((landing.root, 1), (twin.root, 4))
    )
    wanted = ("account_id", "reason", "effective_on")
    found = rows(one, "decisions", *wanted, kind="redeem")
    assert [reason for _, reason, _ in found] == ["redeemed", "redeemed", "coupon_exhausted", "coupon_exhausted"]
    assert rows(several, "decisions", *wanted, kind="redeem") == found
    assert coupon_holdings(one)["account_id"].sort().to_list() == ["customer-3", "customer-5"]


def test_a_request_of_another_account_moves_the_months_that_it_answers(landing: Landing) -> None:
    for name in ("a", "b", "c"):
        landing.customer(name)
    for name in ("a", "b"):
        landing.request(name, "redeem", "2026-01-20T09:00:00Z", "email", coupon="two_in_all")
    before = bill_by_steps(landing.root, "2026-01", "2026-01-31")
    assert [reason for (reason,) in rows(before, "decisions", "reason", kind="redeem")] == ["redeemed", "redeemed"]
    landing.request("c", "redeem", "2026-01-15T09:00:00Z", "email", coupon="two_in_all")
    after = bill_by_steps(landing.root, "2026-01", "2026-01-31")
    assert rows(after, "decisions", "account_id", "reason", kind="redeem") == [
        ("c", "redeemed"),
        ("a", "redeemed"),
        ("b", "coupon_exhausted"),
    ]


def test_a_coupon_lowers_the_documents_that_it_is_for(landing: Landing) -> None:
    landing.customer("acme", coupon="spring")
    landing.use("acme", "2026-01-20", emails=27_350)
    business = bill_by_steps(landing.root, "2026-03", "2026-03-31")
    # M01: 10 % of all lines, on two documents
    assert rows(business, "documents", "total") == [("89.10",), ("124.20",), ("99.00",)]
