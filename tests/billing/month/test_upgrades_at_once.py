"""Requested upgrades at once: the days left are charged, the whole cycle is rated with the new package (rule 37)."""

import shutil

import pytest

from billing.month.business import Business
from billing.reports.verify import disagreements
from billing.starter import starter_catalogue
from tests.by_steps import bill_by_steps, rows
from tests.landing import Landing
from tests.sizes import sized

AT_ONCE = starter_catalogue().replace("policy:\n", "policy:\n  requested_upgrades: at_once\n", 1)
DAYS = (
    ("2026-01", "2026-01-10"),
    ("2026-01", "2026-01-20"),
    ("2026-01", "2026-01-31"),
    ("2026-02", "2026-02-10"),
    ("2026-02", "2026-02-28"),
    ("2026-03", "2026-03-31"),
)
BILLED = sized(usual=(DAYS[1], DAYS[4], DAYS[5]), long=DAYS)
REDEEMED_ON = {
    "coupon-early": "2026-01-19",
    "coupon-same-day": "2026-01-20",
    "coupon-late": "2026-01-26",
    "coupon-on-date": "2026-02-11",
}


def upgrade(landing: Landing, account: str, package: str, day: str) -> str:
    return landing.request(account, "upgrade", f"{day}T10:00:00Z", "self_service", package=package)


@pytest.fixture(scope="module")
def billed(tmp_path_factory: pytest.TempPathFactory) -> Business:
    coupons = "".join(
        f"  - {{name: of_{each}, percent: 10, applies_to: [package_fee], packages: [{each}]}}\n"
        for each in ("starter", "silver", "gold")
    )
    landing = Landing(tmp_path_factory.mktemp("upgrades") / "home", f"{AT_ONCE}\ncoupons:\n{coupons}")
    for name in ("usual", "further", "on-date", "refunded", "cancelled", "automatic", "unknown", "downgraded"):
        landing.customer(name)
    landing.customer("yearly", term="yearly")
    landing.customer("trial", on="2026-01-06", trial_days=14)
    landing.use("usual", emails=20_000)
    upgrade(landing, "usual", "silver", "2026-01-20")
    for package, day in (("silver", "2026-01-20"), ("gold", "2026-01-25"), ("silver", "2026-02-05")):
        upgrade(landing, "further", package, day)
    upgrade(landing, "yearly", "silver", "2026-02-20")
    upgrade(landing, "on-date", "silver", "2026-02-10")
    for name in ("refunded", "cancelled", "automatic", "downgraded"):
        upgrade(landing, name, "silver", "2026-01-20")
    landing.request("refunded", "refund", "2026-01-25T09:00:00Z", "support")
    landing.request("cancelled", "cancel", "2026-01-25T09:00:00Z", "email")
    landing.request("downgraded", "downgrade", "2026-01-25T09:00:00Z", "support", package="starter")
    landing.use("automatic", leads=13_000)
    upgrade(landing, "unknown", "diamond", "2026-01-20")
    upgrade(landing, "trial", "silver", "2026-01-10")
    for name, redeemed_on in REDEEMED_ON.items():
        landing.customer(name)
        upgrade(landing, name, "silver", "2026-02-10" if name == "coupon-on-date" else "2026-01-20")
        for coupon in ("of_starter", "of_silver", "of_gold"):
            landing.request(name, "redeem", f"{redeemed_on}T11:00:00Z", "support", coupon=coupon)
    upgrade(landing, "coupon-late", "gold", "2026-01-25")
    landing.customer("learnt-late")
    shutil.copytree(landing.root, landing.root.with_name("at-once"), dirs_exist_ok=True)
    for month, day in BILLED:
        if month == "2026-03":
            upgrade(landing, "learnt-late", "silver", "2026-01-20")
        business = bill_by_steps(landing.root, month, day)
    return business


def documents(business: Business, account: str) -> list[tuple[object, ...]]:
    found = rows(business, "documents", "billing_date", "kind", "subscription_id", "net", account_id=account)
    return [(str(day), *rest) for day, *rest in sorted(found)]


def test_the_difference_is_charged_on_the_day_and_the_cycle_is_rated_with_the_new_package(billed: Business) -> None:
    of = "usual/2026-01-10"
    assert documents(billed, "usual") == [
        ("2026-01-10", "invoice", of, "99.00"),
        # 100.00 x 21 / 31
        ("2026-01-20", "invoice", of, "67.74"),
        # 20,000 emails are within the allowance of silver.
        ("2026-02-10", "invoice", of, "199.00"),
        ("2026-03-10", "invoice", of, "199.00"),
    ]
    number = rows(billed, "documents", "number", account_id="usual")[1][0]
    found = rows(billed, "lines", "kind", "package", "amount", "description", number=number)
    assert found == [("proration", "silver", "67.74", "Silver instead of Starter, 21 of 31 days")]


def test_a_further_upgrade_pays_the_further_difference(billed: Business) -> None:
    # 100.00 x 16 / 31
    assert [net for *_, net in documents(billed, "further")] == ["99.00", "67.74", "51.61", "299.00", "299.00"]
    answers = rows(billed, "decisions", "reason", "from_package", "to_package", account_id="further", kind="upgrade")
    assert answers == [
        ("requested", "starter", "silver"),
        ("requested", "silver", "gold"),
        ("not_an_upgrade", "gold", "silver"),
    ]


def test_a_yearly_term_pays_for_the_days_left_of_the_term(billed: Business) -> None:
    # 1,000.00 x 324 / 365, and no difference on the next billing date.
    assert [(day, net) for day, *_, net in documents(billed, "yearly")] == [
        ("2026-01-10", "990.00"),
        ("2026-02-20", "887.67"),
    ]


def test_a_request_of_a_billing_date_pays_for_the_whole_cycle(billed: Business) -> None:
    assert [net for *_, net in documents(billed, "on-date")] == ["99.00", "100.00", "99.00", "199.00"]


def test_a_refund_of_the_first_cycle_gives_the_difference_back(billed: Business) -> None:
    assert [(kind, net) for _, kind, _, net in documents(billed, "refunded")] == [
        ("credit_note", "-99.00"),
        ("invoice", "99.00"),
        ("credit_note", "-67.74"),
        ("invoice", "67.74"),
    ]


def test_a_cancellation_gives_nothing_back(billed: Business) -> None:
    assert [net for *_, net in documents(billed, "cancelled")] == ["99.00", "67.74"]


def test_automatic_upgrades_stay_with_the_next_cycle(billed: Business) -> None:
    # 13,000 leads are over the allowance of silver, too.
    assert [net for *_, net in documents(billed, "automatic")] == ["99.00", "67.74", "299.00", "299.00"]


def test_a_downgrade_never_gives_back(billed: Business) -> None:
    assert [net for *_, net in documents(billed, "downgraded")] == ["99.00", "67.74", "99.00", "99.00"]


def test_an_unknown_package_is_refused_on_the_day(billed: Business) -> None:
    found = rows(billed, "decisions", "reason", "billing_month", account_id="unknown", kind="upgrade")
    assert found == [("unknown_package", "2026-01")]


def test_in_a_trial_it_holds_from_the_first_billing_date(billed: Business) -> None:
    assert documents(billed, "trial")[0] == ("2026-01-20", "invoice", "trial/2026-01-06", "199.00")


def test_a_coupon_is_redeemed_for_the_package_that_the_upgrade_gave(billed: Business) -> None:
    approved = {
        name: [
            coupon
            for coupon, outcome in rows(billed, "decisions", "coupon", "outcome", account_id=name, kind="redeem")
            if outcome == "approved"
        ]
        for name in REDEEMED_ON
    }
    assert approved == {
        "coupon-early": ["of_starter"],
        "coupon-same-day": ["of_silver"],
        "coupon-late": ["of_gold"],
        "coupon-on-date": ["of_silver"],
    }
    # 199.00 less 10 %
    assert [net for *_, net in documents(billed, "coupon-same-day")] == ["99.00", "67.74", "179.10", "179.10"]


def test_the_register_agrees(billed: Business) -> None:
    assert [told for told in disagreements(billed) if "PDF" not in told] == []
    reopened = bill_by_steps(billed.home.root, *DAYS[-1])
    assert reopened.register.count() == billed.register.count()


def test_one_that_is_learnt_after_its_cycle_closed_holds_from_the_next_open_date(billed: Business) -> None:
    assert [net for *_, net in documents(billed, "learnt-late")] == ["99.00", "99.00", "199.00"]
    wanted = {"account_id": "learnt-late", "kind": "upgrade"}
    found = rows(billed, "decisions", "reason", "effective_on", "billing_month", **wanted)
    assert [(reason, str(on), month) for reason, on, month in found] == [("requested", "2026-03-10", "2026-03")]


def test_a_run_of_one_step_and_a_run_of_many_say_the_same(billed: Business) -> None:
    month, day = sized(usual=DAYS[4], long=DAYS[5])
    one = bill_by_steps(billed.home.root.with_name("at-once"), month, day)
    for account in ("usual", "further", "yearly", "on-date"):
        assert documents(one, account) == [each for each in documents(billed, account) if str(each[0]) <= day]
