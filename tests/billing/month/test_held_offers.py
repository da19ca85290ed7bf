"""Coupons and add-ons over the months: what a run decides, and that shards and later knowledge change nothing."""

import json
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from billing.model.tables import DUES
from billing.month.business import Business
from billing.month.held_offers import coupon_holdings
from billing.month.plan import plan_month, planned_shard
from billing.month.recorded_inputs.months import moved_inputs
from billing.reports.show import read_table
from billing.starter import starter_catalogue
from billing.store.monthly import read_month
from tests import sizes
from tests.by_steps import bill_by_steps, rows
from tests.landing import Landing
from tests.sizes import sized

SHARDS = sized(usual=2, long=4)

COUPONS = """
coupons:
  - {name: spring, percent: "10", documents: 2}
  - {name: for_silver, percent: "10", packages: [silver]}
  - {name: two_in_all, percent: "10", redemptions: {all: 2}}
"""


@pytest.fixture
def landing(tmp_path: Path) -> Landing:
    return Landing(tmp_path, starter_catalogue() + COUPONS)


@pytest.fixture(scope="module")
def redeemed(tmp_path_factory: pytest.TempPathFactory) -> Business:
    """Three months of an account with requests about coupons, and of one whose documents a coupon lowers."""
    landing = Landing(tmp_path_factory.mktemp("redeemed"), starter_catalogue() + COUPONS)
    landing.customer("acme", coupon="spring")
    landing.request("acme", "redeem", "2026-01-20T09:00:00Z", "email", coupon="for_silver")
    landing.request("acme", "upgrade", "2026-01-21T09:00:00Z", "self_service", package="silver")
    landing.request("acme", "redeem", "2026-02-10T09:00:00Z", "email", coupon="for_silver")
    landing.request("acme", "revoke", "2026-03-01T09:00:00Z", coupon="for_silver")
    landing.customer("lowered", coupon="spring")
    landing.use("lowered", "2026-01-20", emails=27_350)
    return bill_by_steps(landing.root, "2026-03", "2026-03-31")


def test_every_request_about_a_coupon_has_one_answer_in_its_month(redeemed: Business) -> None:
    columns = ("decision_id", "billing_month", "kind", "coupon", "reason")
    found = rows(redeemed, "decisions", *columns, account_id="acme")
    assert found == [
        ("request-1", "2026-01", "subscribe", None, "subscribed"),
        ("request-1/coupon", "2026-01", "redeem", "spring", "redeemed"),
        ("request-2", "2026-01", "redeem", "for_silver", "not_for_this_package"),
        ("request-3", "2026-02", "upgrade", None, "requested"),
        ("request-4", "2026-02", "redeem", "for_silver", "redeemed"),
        ("request-5", "2026-03", "revoke", "for_silver", "revoked"),
    ]
    held = coupon_holdings(redeemed).filter(account_id="acme")
    holdings = held.select("coupon", pl.col("effective_on", "revoked_on").dt.to_string("%m-%d"))
    # Revoked before its first billing date, the second one never counts.
    assert holdings.rows() == [("spring", "01-10", None)]
    assert rows(redeemed, "parked", "account_id") == []


def test_redemptions_of_all_accounts_are_the_same_in_shards(landing: Landing, tmp_path: Path) -> None:
    for index in range(6):
        landing.customer(f"customer-{index}")
    for index in (5, 0, 3, 2):
        landing.request(f"customer-{index}", "redeem", f"2026-01-2{9 - index}T09:00:00Z", "email", coupon="two_in_all")
    twin = landing.copied(tmp_path / "twin")
    last = sized(usual=("2026-01", "2026-01-31"), long=("2026-02", "2026-02-28"))
    one, several = (
        bill_by_steps(home, *last, shards=shards) for home, shards in ((landing.root, 1), (twin.root, SHARDS))
    )
    wanted = ("account_id", "reason", "effective_on")
    found = rows(one, "decisions", *wanted, kind="redeem")
    assert [reason for _, reason, _ in found] == ["redeemed", "redeemed", "coupon_exhausted", "coupon_exhausted"]
    assert rows(several, "decisions", *wanted, kind="redeem") == found
    assert coupon_holdings(one)["account_id"].sort().to_list() == ["customer-3", "customer-5"]


def test_a_worker_knows_which_redemptions_came_too_late(landing: Landing) -> None:
    for index in range(6):
        landing.customer(f"customer-{index}", coupon="two_in_all")
    business = Business.load(landing.root, date(2026, 1, 31), shards=4)
    plan = plan_month(business, "2026-01")
    beyond = business.exhausted_redemptions
    assert beyond.height == 4
    for shard in plan.shards:
        assert planned_shard(landing.root, plan, shard).exhausted_redemptions.equals(beyond)


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


def test_a_coupon_lowers_the_documents_that_it_is_for(redeemed: Business) -> None:
    # M01: 10 % of all lines, on two documents
    assert rows(redeemed, "documents", "total", account_id="lowered") == [("89.10",), ("124.20",), ("99.00",)]


def test_a_charge_of_one_shard_moves_the_months_of_all(landing: Landing) -> None:
    for index in range(6):
        landing.customer(f"customer-{index}")
    bill_by_steps(landing.root, "2026-01", "2026-01-31", shards=SHARDS)
    for index in range(0, 6, sized(usual=2, long=1)):
        row = f"charge_id,account_id,on,description,amount\nc1,customer-{index},2026-01-15,Set-up,5.00\n"
        (landing.folder / "one_off_charges.csv").write_text(row)
        business = Business.load(landing.root, date(2026, 1, 31), shards=SHARDS)
        assert "one-off charges" in moved_inputs(business, "2026-01")


# --- add-ons ----------------------------------------------------------------------------------------------------------

ADD_ONS = """
add_ons:
  - name: more_emails
    title: More emails
    versions: [{effective_from: 2026-01-01, price: {monthly: "30.00", yearly: "300.00"}, allowances: {emails: 50000}}]
  - {name: support, versions: [{effective_from: 2026-01-01, price: {monthly: "9.00"}, maximum: 3}]}
  - {name: leads, versions: [{effective_from: 2026-01-01, price: {monthly: "30.00"}, allowances: {leads: 1000}}]}
"""


@pytest.fixture
def shop(tmp_path: Path) -> Landing:
    return Landing(tmp_path, starter_catalogue() + ADD_ONS)


def add_on_lines(business: Business, account: str = "acme") -> list[tuple[str, str, str, str]]:
    """billing date, add-on, quantity and amount of the lines of an account."""
    dues = pl.concat(read_month(business.home, DUES, month) for month in business.home.months(DUES))
    wanted = dues.filter((pl.col("kind") == "add_on") & (pl.col("account_id") == account)).sort("billing_date")
    texts = wanted.select(
        pl.col("billing_date").dt.to_string("%m-%d"),
        "add_on",
        pl.col("quantity").cast(pl.Decimal(38, 0)).cast(pl.String),
        pl.col("amount").cast(pl.Decimal(38, 2)).cast(pl.String),
    )
    return list(texts.iter_rows())


@pytest.fixture(scope="module")
def sold(tmp_path_factory: pytest.TempPathFactory) -> Business:
    """January and February of accounts with add-ons, then another catalogue and a request that came late, and March."""
    shop = Landing(tmp_path_factory.mktemp("sold"), starter_catalogue() + ADD_ONS)
    given = json.dumps({"more_emails": 1, "support": 3})
    shop.customer("given", add_ons=given)
    shop.customer("added")
    shop.request("added", "add", "2026-01-20T09:00:00Z", "self_service", add_on="more_emails", quantity=2)
    shop.use("added", "2026-02-20", emails=116_001)
    shop.customer("late")
    shop.customer("closed")
    shop.request("closed", "add", "2026-01-20T09:00:00Z", add_on="support", quantity=3)
    shop.customer("voided")
    shop.request("voided", "add", "2026-01-20T09:00:00Z", add_on="support")
    shop.request("voided", "cancel", "2026-01-25T09:00:00Z", "email")
    shop.request("voided", "remove", "2026-01-26T09:00:00Z", add_on="support")
    shop.customer("unknown")
    shop.request("unknown", "add", "2026-01-20T09:00:00Z", add_on="nothing")
    for name in ("with", "without"):
        shop.customer(name)
        shop.use(name, "2026-02-15", leads=3_000)
    shop.request("with", "add", "2026-01-20T09:00:00Z", add_on="leads")
    bill_by_steps(shop.root, "2026-02", "2026-02-28")
    shop.request("late", "add", "2026-01-20T09:00:00Z", add_on="support")
    path = shop.folder / "catalogue.yaml"
    path.write_text(path.read_text().replace("maximum: 3", "maximum: 2"))
    return bill_by_steps(shop.root, "2026-03", "2026-03-31")


def test_an_add_on_is_charged_in_advance_and_adds_to_the_allowance(sold: Business) -> None:
    # M05
    assert rows(sold, "documents", "total", account_id="added") == [("99.00",), ("159.00",), ("165.00",)]
    assert add_on_lines(sold, "added") == [
        ("02-10", "more_emails", "2", "60.00"),
        ("03-10", "more_emails", "2", "60.00"),
    ]
    wanted = {"metric": "emails", "billing_month": "2026-03", "account_id": "added"}
    assert rows(sold, "charges", "allowance", "excess", "amount", **wanted) == [("115000.00", "1001.00", "6.00")]
    assert rows(sold, "add_ons", "add_on", "quantity", "is_given", account_id="added") == [("more_emails", 2, False)]


def test_add_ons_that_come_with_a_subscription_are_charged_on_billing_date_0(sold: Business) -> None:
    assert rows(sold, "documents", "total", account_id="given")[:2] == [("156.00",), ("156.00",)]
    columns = ("decision_id", "request_id", "kind", "add_on", "quantity", "reason")
    assert rows(sold, "decisions", *columns, account_id="given") == [
        ("request-1", "request-1", "subscribe", None, None, "subscribed"),
        ("request-1/add_on/more_emails", None, "add", "more_emails", 1, "requested"),
        ("request-1/add_on/support", None, "add", "support", 3, "requested"),
    ]


def test_what_is_learnt_after_the_close_is_asked_again(sold: Business) -> None:
    found = rows(sold, "decisions", "outcome", "reason", kind="add", account_id="late")
    assert found == [("refused", "known_after_the_close")]
    assert add_on_lines(sold, "late") == []


def test_a_closed_date_keeps_its_add_ons_when_the_catalogue_changes(sold: Business) -> None:
    assert rows(sold, "documents", "total", account_id="closed") == [("99.00",), ("126.00",), ("126.00",)]


def test_a_request_that_is_voided_or_refused_has_one_answer(sold: Business) -> None:
    wanted = ("kind", "outcome", "reason", "add_on")
    found = {
        name: [row for row in rows(sold, "decisions", *wanted, account_id=name) if row[0] in ("add", "remove")]
        for name in ("voided", "unknown")
    }
    assert sorted(found["voided"]) == [
        ("add", "superseded", "voided_by_cancellation", "support"),
        ("remove", "refused", "no_live_subscription", "support"),
    ]
    assert found["unknown"] == [("add", "refused", "unknown_add_on", "nothing")]
    assert rows(sold, "parked", "account_id") == []


@pytest.fixture(scope="module")
def in_parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Business]:
    """February as of some days, as it was on each. Copies: do not issue in them."""
    shop = Landing(tmp_path_factory.mktemp("parts") / "home", starter_catalogue() + ADD_ONS)
    shop.customer("drafted")
    shop.request("drafted", "add", "2026-01-20T09:00:00Z", add_on="support")
    for name, day in (("early", "10"), ("later", "20")):
        shop.customer(name, on=f"2026-01-{day}")
        shop.request(name, "add", "2026-01-25T09:00:00Z", add_on="support")
    found = {}
    for as_of in ("2026-02-05", "2026-02-12", "2026-02-28"):
        bill_by_steps(shop.root, "2026-02", as_of)
        copy = shop.copied(shop.root.with_name(as_of))
        found[as_of] = Business.load(copy.root, date.fromisoformat(as_of), issues=False)
    return found


def test_a_run_as_of_before_a_billing_date_drafts_what_was_asked(in_parts: dict[str, Business]) -> None:
    wanted = {"account_id": "drafted"}
    early, late = in_parts["2026-02-05"], in_parts["2026-02-12"]
    assert rows(early, "drafts", "total", **wanted) == [("108.00",)]
    assert rows(early, "decisions", "decision_id", kind="add") == []
    assert rows(late, "documents", "total", billing_month="2026-02", **wanted) == [("108.00",)]
    assert rows(late, "decisions", "reason", "quantity", "explanation", kind="add", **wanted) == [
        ("requested", 1, "As you asked, you have 1 of Support from 2026-02-10.")
    ]


def test_add_ons_stay_decided_when_a_month_is_issued_in_two_parts(in_parts: dict[str, Business]) -> None:
    decided = {
        as_of: [
            row for row in rows(in_parts[as_of], "decisions", "account_id", "reason", kind="add") if row[0] != "drafted"
        ]
        for as_of in ("2026-02-12", "2026-02-28")
    }
    assert decided == {
        "2026-02-12": [("early", "requested")],
        "2026-02-28": [("early", "requested"), ("later", "requested")],
    }
    assert rows(in_parts["2026-02-28"], "add_ons", "account_id") == [("drafted",), ("early",), ("later",)]


def test_add_ons_keep_an_account_from_an_automatic_upgrade(sold: Business) -> None:
    upgrades = rows(sold, "decisions", "account_id", "to_package", kind="auto_upgrade")
    assert upgrades == [("without", "silver")]


@pytest.mark.skipif(not sizes.LONG, reason="`test_shards.py` bills whatever is sold in shards: pytest --long")
def test_shards_agree_about_add_ons(shop: Landing, tmp_path: Path) -> None:
    for index in range(8):
        shop.customer(f"customer-{index}")
        shop.request(f"customer-{index}", "add", "2026-01-20T09:00:00Z", add_on="support", quantity=1 + index % 4)
    twin = shop.copied(tmp_path / "twin")
    one, several = (
        bill_by_steps(home, "2026-02", "2026-02-28", shards=shards)
        for home, shards in ((shop.root, 1), (twin.root, SHARDS))
    )
    for table in ("documents", "decisions", "add_ons"):
        assert read_table(several, name=table).equals(read_table(one, name=table))


# --- minimum spend ----------------------------------------------------------------------------------------------------

MINIMUM = '        minimum_spend: {amount: "200.00", counts: [package_fee, overage]}\n'


def with_minimum(text: str, minimum: str = MINIMUM) -> str:
    """The starting catalogue with a minimum spend on its starter package."""
    start = text.index("  - name: starter")
    place = text.index('        price: {monthly: "99.00"', start)
    return text[:place] + minimum + text[place:]


def minimums(business: Business, account: str = "acme") -> list[tuple[str, str]]:
    """billing date and amount of what an account lacked of its minimum."""
    dues = pl.concat(read_month(business.home, DUES, month) for month in business.home.months(DUES))
    wanted = dues.filter((pl.col("kind") == "minimum_spend") & (pl.col("account_id") == account)).sort("billing_date")
    day, amount = pl.col("billing_date").dt.to_string("%m-%d"), pl.col("amount").cast(pl.Decimal(38, 2))
    return list(wanted.select(day, amount.cast(pl.String)).iter_rows())


def test_what_a_cycle_lacks_of_its_minimum_is_a_line(tmp_path: Path) -> None:
    # M06
    landing = Landing(tmp_path, with_minimum(starter_catalogue()))
    landing.customer("acme")
    landing.use("acme", "2026-01-20", emails=27_350)
    landing.customer("leaves")
    landing.request("leaves", "cancel", "2026-01-25T09:00:00Z", "email")
    business = bill_by_steps(tmp_path, "2026-02", "2026-02-28")
    assert minimums(business) == [("02-10", "62.00")]
    assert rows(business, "documents", "total", account_id="acme") == [("99.00",), ("200.00",)]
    assert rows(business, "documents", "total", account_id="leaves", billing_month="2026-02") == [("4.23",)]
