"""Add-ons month by month: terms, trials, notice, holds, prices by date, and what is learnt later (rule 31)."""

import json

import polars as pl
import pytest

from billing.model.tables import DUES
from billing.month.business import Business
from billing.starter import starter_catalogue
from billing.store.monthly import read_month
from tests.by_steps import bill_by_steps, rows
from tests.landing import Landing

ADD_ONS = """
add_ons:
  - name: emails
    versions:
      - {effective_from: 2026-01-01, price: {monthly: "30.00", yearly: "300.00"}, allowances: {emails: 50000}}
      - {effective_from: 2026-03-01, price: {monthly: "40.00", yearly: "400.00"}, allowances: {emails: 60000}}
  - name: endless
    versions: [{effective_from: 2026-01-01, price: {monthly: "1.00"}, allowances: {emails: null}}]
  - name: late
    versions: [{effective_from: 2026-03-01, price: {monthly: "5.00"}}]
  - name: small
    versions: [{effective_from: 2026-01-01, price: {monthly: "0.335", yearly: "3.00"}, maximum: 5}]
  - name: repriced
    versions:
      - {effective_from: 2026-01-01, price: {monthly: "31.00"}}
      - {effective_from: 2026-03-01, price: {monthly: "40.00"}}
"""
Line = tuple[str, str, str, str]


def _replaced(text: str, right: str, wrong: str) -> str:
    assert right in text
    return text.replace(right, wrong, 1)


def allowing(package: str, add_on: str) -> str:
    """The catalogue with a package that allows one add-on only."""
    name = f"  - name: {package}\n"
    return _replaced(starter_catalogue() + ADD_ONS, name, f"{name}    add_ons: [{add_on}]\n")


IN_THE_WAY = [
    ("add", "nothing", 1, "unknown_add_on"),
    ("add", "late", 1, "add_on_not_sold_yet"),
    ("add", "small", 6, "above_maximum"),
    ("remove", "small", 1, "not_added"),
    ("remove", "nothing", 1, "unknown_add_on"),
]


@pytest.fixture(scope="module")
def months(tmp_path_factory: pytest.TempPathFactory) -> Business:
    """January to April 2026 of accounts that have nothing to do with each other, one or two per test."""
    shop = Landing(tmp_path_factory.mktemp("months"), allowing("gold", "endless"))
    _when_it_is_charged(shop)
    _trials_notice_and_holds(shop)
    shop.customer("stays", add_ons=json.dumps({"small": 1}))
    shop.request("stays", "upgrade", "2026-01-20T09:00:00Z", "self_service", package="silver")
    for name in ("with", "without"):
        shop.customer(name, "silver")
        shop.use(name, "2026-03-01", emails=70_000)
        shop.request(name, "downgrade", "2026-03-05T09:00:00Z", package="starter")
    ask(shop, "add", "2026-01-20", "emails", "with")
    shop.customer("month-end", on="2026-01-31", add_ons=json.dumps({"small": 1}))
    shop.customer("one-term", term="yearly")
    ask(shop, "add", "2026-01-20", "endless", "one-term")
    shop.customer("late-usage")
    ask(shop, "add", "2026-01-20", "emails", "late-usage")
    shop.customer("not-allowed", add_ons=json.dumps({"small": 1, "endless": 1}))
    shop.request("not-allowed", "upgrade", "2026-01-20T09:00:00Z", "self_service", package="gold")
    ask(shop, "add", "2026-01-25", "emails", "not-allowed")
    shop.request("not-allowed", "upgrade", "2026-02-20T09:00:00Z", "self_service", package="platinum")

    business = bill_by_steps(shop.root, "2026-01", "2026-01-31")
    ((number,),) = rows(business, "documents", "number", account_id="suspended")
    shop.pay("suspended", number, "99.00", "2026-02-05T09:00:00Z", "failed")
    shop.pay("suspended", number, "99.00", "2026-02-20T09:00:00Z")
    bill_by_steps(shop.root, "2026-03", "2026-03-31")
    shop.use("late-usage", "2026-02-20", emails=66_001, delivered="2026-04-01")
    return bill_by_steps(shop.root, "2026-04", "2026-04-30")


def _when_it_is_charged(shop: Landing) -> None:
    for name, day in (("soon", "2026-01-20"), ("day-before", "2026-02-09"), ("on-the-day", "2026-02-10")):
        shop.customer(name)
        ask(shop, "add", day, account=name)
    shop.customer("three")
    ask(shop, "add", "2026-01-20", account="three", quantity=3)
    shop.customer("five")
    ask(shop, "add", "2026-01-20", account="five", quantity=5)
    shop.customer("versions")
    ask(shop, "add", "2026-01-20", "emails", "versions")
    shop.use("versions", "2026-03-05", emails=65_001)
    shop.use("versions", "2026-03-15", emails=75_001)
    shop.customer("endless")
    ask(shop, "add", "2026-01-20", "endless", "endless")
    shop.use("endless", "2026-01-25", emails=16_000)
    shop.use("endless", "2026-02-15", emails=1_000_000)
    shop.customer("removes")
    ask(shop, "add", "2026-01-20", "emails", "removes")
    ask(shop, "remove", "2026-02-20", "emails", "removes")
    shop.use("removes", "2026-03-01", emails=65_000)
    shop.customer("several")
    for day, quantity in (("2026-01-20", 2), ("2026-01-21", 3), ("2026-01-22", 6)):
        ask(shop, "add", day, account="several", quantity=quantity)
    ask(shop, "add", "2026-01-21", "endless", "several")
    for kind, add_on, quantity, reason in IN_THE_WAY:
        shop.customer(f"{kind}-{reason}")
        ask(shop, kind, "2026-01-20", add_on, f"{kind}-{reason}", quantity=quantity)


def _trials_notice_and_holds(shop: Landing) -> None:
    shop.customer("trial", trial_days=14)
    ask(shop, "add", "2026-01-12", account="trial", quantity=2)
    shop.customer("notice")
    ask(shop, "add", "2026-01-20", account="notice")
    ask(shop, "add", "2026-02-20", "endless", "notice")
    shop.request("notice", "cancel", "2026-03-05T09:00:00Z", "email")
    for name in ("held", "undone"):
        shop.customer(name)
        ask(shop, "add", "2026-01-20", account=name)
        shop.request(name, "hold", "2026-02-15T09:00:00Z")
    ask(shop, "add", "2026-02-16", "endless", "held")
    shop.request("held", "resume", "2026-04-20T09:00:00Z")
    shop.request("undone", "resume", "2026-02-20T09:00:00Z")
    shop.customer("refunded", add_ons=json.dumps({"small": 2}))
    shop.request("refunded", "refund", "2026-01-20T09:00:00Z")
    shop.customer("suspended")
    ask(shop, "add", "2026-01-20", account="suspended")


@pytest.fixture(scope="module")
def years(tmp_path_factory: pytest.TempPathFactory) -> Business:
    """January to June 2026 of accounts that are billed by the year: since May 2025, and elsewhere before."""
    text = _replaced(starter_catalogue() + ADD_ONS, "billing_start: 2024-01-01", "billing_start: 2026-01-01")
    shop = Landing(tmp_path_factory.mktemp("years"), text)
    moved: dict[str, str] = {"term": "yearly", "on": "2025-05-10", "billed_through": "2026-01-10"}
    shop.customer("more", **moved)
    ask(shop, "add", "2026-01-20", account="more", quantity=2)
    ask(shop, "add", "2026-02-20", account="more", quantity=3)
    ask(shop, "add", "2026-03-20", account="more", quantity=1)
    shop.customer("less", **moved, add_ons=json.dumps({"small": 3}))
    ask(shop, "remove", "2026-02-20", account="less")
    ask(shop, "add", "2026-03-20", account="less", quantity=4)
    shop.customer("suspended", **moved, add_ons=json.dumps({"small": 2}))
    shop.use("suspended", "2026-03-20", emails=15_001)
    shop.customer("moved-in", on="2025-05-10", billed_through="2026-02-10", add_ons=json.dumps({"emails": 1}))
    shop.use("moved-in", "2026-01-20", emails=65_001)
    business = bill_by_steps(shop.root, "2026-04", "2026-04-30")
    ((number,),) = rows(business, "documents", "number", account_id="suspended")
    shop.pay("suspended", number, "3.00", "2026-05-05T09:00:00Z", "failed")
    shop.pay("suspended", number, "3.00", "2026-05-20T09:00:00Z")
    return bill_by_steps(shop.root, "2026-05", "2026-05-31")


@pytest.fixture(scope="module")
def at_once(tmp_path_factory: pytest.TempPathFactory) -> Business:
    """February and March, billed on the first of the month, upgrades at once; a price is corrected in between."""
    text = _replaced(allowing("silver", "endless"), "billing_anchor: signup_day", "billing_anchor: first_of_month")
    text = _replaced(text, "policy:\n", "policy:\n  requested_upgrades: at_once\n")
    shop = Landing(tmp_path_factory.mktemp("at-once"), text)
    shop.customer("short", on="2026-02-10", add_ons=json.dumps({"emails": 2}))
    shop.customer("upgraded", on="2026-02-10", add_ons=json.dumps({"small": 1}))
    shop.request("upgraded", "upgrade", "2026-02-20T09:00:00Z", "self_service", package="silver")
    shop.customer("repriced", on="2026-02-01", add_ons=json.dumps({"repriced": 2}))
    bill_by_steps(shop.root, "2026-02", "2026-02-28")
    (shop.folder / "catalogue.yaml").write_text(_replaced(text, '"31.00"', '"29.00"'))
    return bill_by_steps(shop.root, "2026-03", "2026-03-31")


def ask(shop: Landing, kind: str, on: str, add_on: str = "small", account: str = "acme", **members: int) -> None:
    shop.request(account, kind, f"{on}T09:00:00Z", "self_service", add_on=add_on, **members)


def fees(business: Business, account: str, through: str = "2028-01") -> list[Line]:
    """Billing date, add-on, quantity and amount of what fell due of an account in the months up to one."""
    dues = pl.concat(read_month(business.home, DUES, month) for month in business.home.months(DUES) if month <= through)
    wanted = dues.filter((pl.col("kind") == "add_on") & (pl.col("account_id") == account))
    texts = wanted.sort("billing_date", "add_on").select(
        pl.col("billing_date").dt.to_string("%Y-%m-%d").str.slice(2),
        "add_on",
        pl.col("quantity").cast(pl.Decimal(38, 0)).cast(pl.String),
        pl.col("amount").cast(pl.Decimal(38, 2)).cast(pl.String),
    )
    return list(texts.iter_rows())


def answers(business: Business, kind: str = "add", *, account: str) -> list[tuple[str, str]]:
    return rows(business, "decisions", "outcome", "reason", kind=kind, account_id=account)


# --- when it is charged -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("account", ["soon", "day-before"])
def test_what_is_asked_up_to_the_day_before_is_charged_on_the_billing_date(months: Business, account: str) -> None:
    assert fees(months, account, "2026-02") == [("26-02-10", "small", "1", "0.34")]


def test_what_is_asked_on_a_billing_date_comes_after_its_fee(months: Business) -> None:
    assert fees(months, "on-the-day", "2026-03") == [("26-03-10", "small", "1", "0.34")]


def test_the_fee_of_several_is_rounded_once(months: Business) -> None:
    # 3 x 0.335 = 1.005
    assert fees(months, "three", "2026-02") == [("26-02-10", "small", "3", "1.01")]


def test_the_fee_is_of_the_version_on_the_billing_date_and_the_allowance_of_that_at_the_start_of_the_cycle(
    months: Business,
) -> None:
    assert [(day, amount) for day, _, _, amount in fees(months, "versions", "2026-04")] == [
        ("26-02-10", "30.00"),
        ("26-03-10", "40.00"),
        ("26-04-10", "40.00"),
    ]
    # One over 15,000 + 50,000 in the cycle from 10 February, and one over 15,000 + 60,000 in the one from 10 March.
    found = rows(months, "charges", "billing_month", "excess", "amount", metric="emails", account_id="versions")
    assert found[1:3] == [("2026-03", "1.00", "3.00"), ("2026-04", "1.00", "3.00")]


def test_an_unlimited_allowance_takes_the_overage_away(months: Business) -> None:
    # In the cycle in which it was asked for it does not count yet.
    found = rows(months, "charges", "allowance", "amount", metric="emails", account_id="endless")
    assert found[:2] == [("15000.00", "3.00"), (None, "0.00")]


def test_one_that_is_removed_is_charged_no_more_and_its_allowance_lasts_its_cycle(months: Business) -> None:
    assert fees(months, "removes") == [("26-02-10", "emails", "1", "30.00")]
    assert set(rows(months, "charges", "amount", metric="emails", account_id="removes")) == {("0.00",)}
    assert answers(months, "remove", account="removes") == [("approved", "requested")]


def test_of_several_requests_in_a_cycle_the_latest_valid_one_counts(months: Business) -> None:
    assert fees(months, "several", "2026-02") == [
        ("26-02-10", "endless", "1", "1.00"),
        ("26-02-10", "small", "3", "1.01"),
    ]
    assert sorted(answers(months, account="several")) == [
        ("approved", "requested"),
        ("approved", "requested"),
        ("refused", "above_maximum"),
        ("superseded", "superseded_by_later_request"),
    ]


@pytest.mark.parametrize(("kind", "reason"), [(kind, reason) for kind, _, _, reason in IN_THE_WAY])
def test_what_stands_in_the_way_is_said(months: Business, kind: str, reason: str) -> None:
    account = f"{kind}-{reason}"
    assert answers(months, kind, account=account) == [("refused", reason)]
    ((explanation,),) = rows(months, "decisions", "explanation", kind=kind, account_id=account)
    assert explanation
    assert "{" not in explanation
    assert fees(months, account) == []


def test_a_quantity_at_the_maximum_is_allowed(months: Business) -> None:
    assert answers(months, account="five") == [("approved", "requested")]


# --- trials, notice, holds, refunds -----------------------------------------------------------------------------------


def test_in_a_trial_it_waits_for_billing_date_0(months: Business) -> None:
    assert fees(months, "trial", "2026-02") == [("26-01-24", "small", "2", "0.67"), ("26-02-24", "small", "2", "0.67")]


def test_late_notice_charges_them_with_the_fee(months: Business) -> None:
    # What was asked for and waited is void.
    assert fees(months, "notice") == [("26-02-10", "small", "1", "0.34"), ("26-03-10", "small", "1", "0.34")]
    assert answers(months, account="notice") == [("approved", "requested"), ("superseded", "voided_by_cancellation")]


def test_while_a_subscription_is_held_nothing_is_charged_and_a_new_one_has_none(months: Business) -> None:
    assert fees(months, "held") == [("26-02-10", "small", "1", "0.34")]
    assert answers(months, account="held")[1] == ("refused", "on_hold")


def test_a_hold_that_is_undone_keeps_them(months: Business) -> None:
    assert [day for day, *_ in fees(months, "undone", "2026-03")] == ["26-02-10", "26-03-10"]


def test_a_refund_gives_back_what_was_charged_in_advance(months: Business) -> None:
    assert rows(months, "documents", "kind", "total", account_id="refunded") == [
        ("credit_note", "-99.67"),
        ("invoice", "99.67"),
    ]


def test_while_suspended_no_fee_falls_due(months: Business) -> None:
    assert [day for day, *_ in fees(months, "suspended", "2026-03")] == ["26-03-10"]


# --- terms ------------------------------------------------------------------------------------------------------------


def test_in_a_yearly_term_the_whole_cycles_left_are_charged_and_less_waits_for_its_end(years: Business) -> None:
    assert fees(years, "more") == [
        # 2 x 3.00 x 3 / 12, then one more for 2 of 12
        ("26-02-10", "small", "2", "1.50"),
        ("26-03-10", "small", "1", "0.50"),
        ("26-05-10", "small", "1", "3.00"),
    ]
    effective = rows(years, "decisions", "effective_on", kind="add", account_id="more")
    assert [f"{day:%Y-%m-%d}" for (day,) in effective] == ["2026-02-10", "2026-03-10", "2026-05-10"]


def test_a_lower_quantity_that_waits_is_void_when_another_one_is_asked_for(years: Business) -> None:
    assert fees(years, "less") == [
        # one more than the three that it came with, for 1 of 12 cycles
        ("26-04-10", "small", "1", "0.25"),
        ("26-05-10", "small", "4", "12.00"),
    ]


def test_a_yearly_fee_that_a_suspension_kept_takes_its_add_ons_along(years: Business) -> None:
    assert fees(years, "suspended") == [("26-05-20", "small", "2", "6.00")]
    late = rows(years, "documents", "billing_date", "total", billing_month="2026-05", account_id="suspended")
    assert [(f"{day:%m-%d}", total) for day, total in late] == [("05-20", "996.00")]


def test_what_has_no_yearly_price_cannot_be_added_to_a_yearly_term(months: Business) -> None:
    assert answers(months, account="one-term") == [("refused", "no_yearly_price")]
    told = rows(months, "decisions", "explanation", kind="add", account_id="one-term")
    assert told == [("Endless has no yearly price.",)]


def test_a_short_first_cycle_charges_its_days(at_once: Business) -> None:
    # 60.00 x 19 / 28
    assert fees(at_once, "short") == [("26-02-10", "emails", "2", "40.71"), ("26-03-01", "emails", "2", "80.00")]


def test_an_anchor_at_a_months_end_does_not_drift(months: Business) -> None:
    assert [day for day, *_ in fees(months, "month-end", "2026-03")] == ["26-01-31", "26-02-28", "26-03-31"]


# --- packages ---------------------------------------------------------------------------------------------------------


def test_they_stay_through_an_upgrade(months: Business) -> None:
    assert [day for day, *_ in fees(months, "stays", "2026-02")] == ["26-01-10", "26-02-10"]


def test_a_package_that_does_not_allow_one_ends_it_for_good(months: Business) -> None:
    assert [(day, add_on) for day, add_on, *_ in fees(months, "not-allowed", "2026-03")] == [
        ("26-01-10", "endless"),
        ("26-01-10", "small"),
        ("26-02-10", "endless"),
        ("26-03-10", "endless"),
    ]
    columns = ("decision_id", "outcome", "reason", "explanation")
    assert rows(months, "decisions", *columns, kind="remove", account_id="not-allowed") == [
        (
            "not-allowed/2026-01-10/2026-02-10/add_on/small",
            "approved",
            "not_allowed_by_package",
            "Gold does not allow Small: it ends on 2026-02-10.",
        )
    ]
    assert answers(months, account="not-allowed")[-1] == ("refused", "not_allowed_by_package")
    assert rows(months, "parked", "account_id", account_id="not-allowed") == []


def test_they_count_when_a_downgrade_is_tested(months: Business) -> None:
    # On 10 March one of them is 60,000 of starter's 15,000.
    assert answers(months, "downgrade", account="with") == [("approved", "usage_fits")]
    assert answers(months, "downgrade", account="without") == [("refused", "usage_exceeds_package")]


# --- what is learnt later ---------------------------------------------------------------------------------------------


def test_late_usage_is_settled_with_the_allowance_that_held(months: Business) -> None:
    # 66,001 - 65,000: two started blocks of 3.00
    prior = rows(
        months, "lines", "kind", "allowance", "amount", metric="emails", number=number_of(months, "late-usage")
    )
    assert prior == [("prior_cycle", "65000.00", "6.00")]


def number_of(business: Business, account: str, month: str = "2026-04") -> str:
    """The number of the document of an account in a month."""
    ((number,),) = rows(business, "documents", "number", account_id=account, billing_month=month)
    return str(number)


def test_a_price_that_is_corrected_is_settled(at_once: Business) -> None:
    assert rows(at_once, "lines", "kind", "add_on", "amount", add_on="repriced") == [
        ("add_on", "repriced", "62.00"),
        ("add_on", "repriced", "80.00"),
        ("prior_cycle", "repriced", "-4.00"),
    ]


def test_a_subscription_that_moved_in_has_had_what_it_came_with(years: Business) -> None:
    found = [(day, amount) for day, _, _, amount in fees(years, "moved-in", "2026-03")]
    assert found == [("26-02-10", "30.00"), ("26-03-10", "40.00")]
    charged = rows(years, "charges", "allowance", "amount", metric="emails", account_id="moved-in")
    assert charged[0] == ("65000.00", "3.00")


def test_an_upgrade_at_once_ends_what_its_package_does_not_allow_on_the_next_date(at_once: Business) -> None:
    assert [day for day, *_ in fees(at_once, "upgraded")] == ["26-02-10"]
    assert answers(at_once, "remove", account="upgraded") == [("approved", "not_allowed_by_package")]
