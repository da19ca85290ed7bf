"""Minimum spends month by month: both sides of it, cycles that are cut short, and what is learnt later (rule 32)."""

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from billing.model.tables import DUES
from billing.month.business import Business
from billing.starter import starter_catalogue
from billing.store.monthly import read_month
from tests import sizes
from tests.by_steps import bill_by_steps, rows
from tests.landing import Landing, event
from tests.sizes import sized

MINIMUM = '        minimum_spend: {amount: "200.00", counts: [package_fee, overage]}\n'
OFFERS = """
add_ons:
  - {name: support, versions: [{effective_from: 2026-01-01, price: {monthly: "30.00", yearly: "300.00"}}]}
coupons: [{name: ten, percent: "10", applies_to: [package_fee, minimum_spend]}]
"""


def with_minimum(minimum: str = MINIMUM, right: str = "", wrong: str = "") -> str:
    """The starting catalogue with a minimum on its starter package, and other words in a place."""
    text = starter_catalogue() + OFFERS
    start = text.index("  - name: starter")
    place = text.index('        price: {monthly: "99.00"', start)
    text = text[:place] + minimum + text[place:]
    assert right in text
    return text.replace(right, wrong, 1) if right else text


@pytest.fixture
def shop(tmp_path: Path) -> Landing:
    return Landing(tmp_path, with_minimum())


@pytest.fixture
def shop_with(tmp_path: Path) -> Callable[..., Landing]:
    return lambda *words: Landing(tmp_path, with_minimum(*words))


AGREEMENTS = """
agreements:
  - {account_id: exact, package: starter, effective_from: 2026-01-01,
     minimum_spend: {amount: "102.00", counts: [package_fee, overage]}}
  - {account_id: named, package: starter, effective_from: 2026-01-01,
     minimum_spend: {amount: "50.00", counts: [overage]}}
  - {account_id: unnamed, package: starter, effective_from: 2026-01-01, minimum_spend: {amount: "200.00"}}
  - {account_id: more, package: starter, effective_from: 2026-01-01, minimum_spend: {amount: "300.00"}}
  - {account_id: none, package: starter, effective_from: 2026-02-10, minimum_spend: {amount: "0"}}
"""


@pytest.fixture(scope="module")
def months(tmp_path_factory: pytest.TempPathFactory) -> Business:
    """January to March of accounts that have nothing to do with each other, one per test."""
    catalogue = with_minimum(MINIMUM, 'hold_fee: "0.00"', 'hold_fee: "5.00"') + AGREEMENTS
    shop = Landing(tmp_path_factory.mktemp("months"), catalogue)
    for name in ("emails-0", "emails-48000", "emails-48001", "exact", "more", "none", "suspended", "late"):
        shop.customer(name)
    for name, emails in (("emails-48000", 48_000), ("emails-48001", 48_001), ("exact", 15_001)):
        shop.use(name, "2026-01-20", emails=emails)
    shop.customer("named", add_ons=json.dumps({"support": 1}))
    shop.use("named", "2026-01-20", emails=27_350)
    shop.customer("unnamed", add_ons=json.dumps({"support": 2}))
    shop.customer("charged", coupon="ten")
    (shop.folder / "one_off_charges.csv").write_text(
        "charge_id,account_id,on,description,amount\nc1,charged,2026-01-20,Set-up,250.00\n"
    )
    for name, kind, on in (
        ("cut-25", "cancel", "2026-01-25"),
        ("cut-24", "cancel", "2026-01-24"),
        # Late notice: one more fee, and no access in the cycle that it pays for.
        ("no-access", "cancel", "2026-02-05"),
        ("held", "hold", "2026-01-25"),
    ):
        shop.customer(name)
        shop.request(name, kind, f"{on}T09:00:00Z", "email" if kind == "cancel" else "support")
    shop.customer("trial", trial_days=14)
    shop.customer("upgrades")
    shop.request("upgrades", "upgrade", "2026-01-20T09:00:00Z", "self_service", package="silver")

    business = bill_by_steps(shop.root, "2026-01", "2026-01-31")
    ((number,),) = rows(business, "documents", "number", account_id="suspended")
    shop.pay("suspended", number, "99.00", "2026-01-20T12:00:00Z", "failed")
    shop.pay("suspended", number, "99.00", "2026-01-25T12:00:00Z")
    bill_by_steps(shop.root, "2026-02", "2026-02-28")
    shop.use("late", "2026-01-20", emails=27_350, delivered="2026-03-01")
    return bill_by_steps(shop.root, "2026-03", "2026-03-31")


def minimums(business: Business, account: str = "acme", through: str = "2028-01") -> list[tuple[str, str]]:
    """Billing date and amount of what an account lacked of its minimum, in the months up to one."""
    dues = pl.concat(read_month(business.home, DUES, month) for month in business.home.months(DUES) if month <= through)
    wanted = dues.filter((pl.col("kind") == "minimum_spend") & (pl.col("account_id") == account)).sort("billing_date")
    day, amount = pl.col("billing_date").dt.to_string("%m-%d"), pl.col("amount").cast(pl.Decimal(38, 2))
    return list(wanted.select(day, amount.cast(pl.String)).iter_rows())


# --- both sides of the minimum ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("emails", "lacking"),
    [
        (0, [("02-10", "101.00")]),
        # 33 and 34 blocks of 3.00 over the allowance: 198.00 and 201.00 with the fee
        (48_000, [("02-10", "2.00")]),
        (48_001, []),
    ],
)
def test_what_is_due_below_the_minimum_is_raised_to_it(
    months: Business, emails: int, lacking: list[tuple[str, str]]
) -> None:
    assert minimums(months, f"emails-{emails}", "2026-02") == lacking


def test_a_cycle_that_comes_to_the_minimum_exactly_has_no_line(months: Business) -> None:
    # In the next cycle it is 3.00 less.
    assert minimums(months, "exact", "2026-03") == [("03-10", "3.00")]


def test_only_what_is_named_counts(months: Business) -> None:
    assert minimums(months, "named", "2026-02") == [("02-10", "11.00")]


def test_add_ons_count_unless_something_else_is_named(months: Business) -> None:
    assert minimums(months, "unnamed", "2026-02") == [("02-10", "41.00")]


def test_charges_count_for_nothing_and_coupons_come_later(months: Business) -> None:
    assert minimums(months, "charged", "2026-02") == [("02-10", "101.00")]
    # 99.00 + 101.00 less 10 %, and the charge
    assert rows(months, "documents", "total", account_id="charged")[:2] == [("89.10",), ("430.00",)]


def test_an_agreement_has_a_minimum_of_its_own_or_none(months: Business) -> None:
    assert minimums(months, "more", "2026-03") == [("02-10", "201.00"), ("03-10", "201.00")]
    # Of the version at the start of the cycle.
    assert minimums(months, "none") == [("02-10", "101.00")]


# --- cycles that are cut short ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("on", "lacking"),
    [
        # 16 of 31 days: 103.23 - 99.00; 15 days: 96.77 are below the fee
        ("2026-01-25", [("02-10", "4.23")]),
        ("2026-01-24", []),
    ],
)
def test_a_cancelled_cycle_counts_its_days_of_access(months: Business, on: str, lacking: list[tuple[str, str]]) -> None:
    assert minimums(months, f"cut-{on[-2:]}") == lacking


def test_a_cycle_without_access_has_none(months: Business) -> None:
    # 27 of 31 days: 174.19 - 99.00
    assert minimums(months, "no-access") == [("02-10", "75.19")]


def test_suspended_days_count_as_cut(months: Business) -> None:
    # 27 of 31 days: from 21 to 24 January there was no access at all
    assert minimums(months, "suspended", "2026-02") == [("02-10", "75.19")]


def test_in_a_trial_there_is_none(months: Business) -> None:
    assert minimums(months, "trial", "2026-02") == [("02-24", "101.00")]


def test_a_held_cycle_has_its_days_and_none_while_it_is_held(months: Business) -> None:
    assert minimums(months, "held") == [("02-10", "4.23")]


def test_a_short_first_cycle_counts_the_days_of_its_calendar_month(shop_with: Callable[..., Landing]) -> None:
    shop = shop_with(MINIMUM, "billing_anchor: signup_day", "billing_anchor: first_of_month")
    shop.customer("acme", on="2026-01-17")
    business = bill_by_steps(shop.root, "2026-02", "2026-02-28")
    # 200.00 x 15 / 31 = 96.77 less the fee of 47.90
    assert minimums(business) == [("02-01", "48.87")]


def test_a_change_of_package_at_its_end_cuts_nothing(months: Business) -> None:
    # Silver has no minimum.
    assert minimums(months, "upgrades") == [("02-10", "101.00")]


# --- terms and moves --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def year(tmp_path_factory: pytest.TempPathFactory) -> Business:
    """A yearly term of two accounts; in a usual run its fee was billed elsewhere, and its last cycles are here."""
    catalogue = with_minimum(MINIMUM, 'yearly: "990.00"', 'yearly: "1000.00"').replace(
        "billing_start: 2024-01-01", sized(usual="billing_start: 2026-10-01", long="billing_start: 2024-01-01")
    )
    agreement = "{account_id: adds, package: starter, effective_from: 2026-01-01, minimum_spend: %s}"
    minimum = '{amount: "200.00", counts: [add_on]}'
    shop = Landing(tmp_path_factory.mktemp("year"), f"{catalogue}agreements: [{agreement % minimum}]\n")
    for name in ("fees", "adds"):
        shop.customer(name, term="yearly", **sized(usual={"billed_through": "2026-10-10"}, long={}))
    shop.request("adds", "add", "2026-10-20T09:00:00Z", add_on="support")
    return bill_by_steps(shop.root, "2027-01", "2027-01-31")


CYCLES_OF_A_YEAR = sized(usual=4, long=12)


def test_a_yearly_fee_counts_a_twelfth_a_cycle_and_the_last_the_rest(year: Business) -> None:
    # 1,000.00 in twelve: eleven of 83.33 and one of 83.37
    found = [amount for _, amount in minimums(year, "fees")]
    assert found == ["116.67"] * (CYCLES_OF_A_YEAR - 1) + ["116.63"]


def test_an_add_on_inside_a_yearly_term_counts_over_the_cycles_left(year: Business) -> None:
    # 300.00 x 2 / 12 = 50.00 over two cycles
    found = [amount for _, amount in minimums(year, "adds")]
    assert found == (["200.00"] * 10 + ["175.00"] * 2)[-CYCLES_OF_A_YEAR:]


def test_the_fee_that_was_billed_elsewhere_counts(shop_with: Callable[..., Landing]) -> None:
    shop = shop_with(MINIMUM, "billing_start: 2024-01-01", "billing_start: 2026-02-01")
    shop.customer("acme", on="2025-05-10", billed_through="2026-02-10")
    shop.customer("yearly", on="2025-09-15", billed_through="2026-02-15", term="yearly")
    business = bill_by_steps(shop.root, "2026-02", "2026-02-28")
    assert minimums(business) == [("02-10", "101.00")]
    # 990.00 / 12 = 82.50
    assert minimums(business, "yearly") == [("02-15", "117.50")]


# --- what is learnt later ---------------------------------------------------------------------------------------------


def test_late_usage_takes_the_place_of_what_was_lacking(months: Business) -> None:
    assert minimums(months, "late", "2026-03") == [("02-10", "62.00"), ("03-10", "101.00")]
    ((number, total),) = rows(months, "documents", "number", "total", account_id="late", billing_month="2026-03")
    prior = rows(months, "lines", "metric", "amount", kind="prior_cycle", number=number)
    assert sorted(prior, key=str) == [("emails", "39.00"), (None, "-39.00")]
    assert total == "200.00"


@pytest.mark.skipif(not sizes.LONG, reason="`test_shards.py` bills whatever is sold in shards: pytest --long")
def test_shards_agree_about_minimums(shop: Landing, tmp_path: Path) -> None:
    for index in range(6):
        shop.customer(f"customer-{index}")
        shop.use(f"customer-{index}", "2026-01-20", emails=16_000 + 5_000 * index)
    twin = shop.copied(tmp_path / "twin")
    one, several = (
        bill_by_steps(home, "2026-02", "2026-02-28", shards=shards)
        for home, shards in ((shop.root, 1), (twin.root, sized(usual=2, long=4)))
    )
    wanted = ("number", "kind", "amount")
    assert rows(several, "lines", *wanted) == rows(one, "lines", *wanted)


def test_a_currency_without_decimals_rounds_to_its_unit(shop_with: Callable[..., Landing]) -> None:
    shop = shop_with(MINIMUM.replace("200.00", "200"), "currency: USD", "currency: JPY")
    shop.customer("acme")
    shop.request("acme", "cancel", "2026-01-25T09:00:00Z", "email")
    # 200 x 16 / 31 = 103.2 yen
    assert minimums(bill_by_steps(shop.root, "2026-02", "2026-02-28")) == [("02-10", "4.00")]


SEATS_COUNT = {"without": ("package_fee", "101.00"), "with": ("package_fee, seats", "75.45")}


@pytest.fixture(scope="module")
def seated(tmp_path_factory: pytest.TempPathFactory) -> Business:
    """Two customers who add seats within the first cycle; what counts for the minimum of each is agreed upon."""
    seats = '        seats: {metric: users, included: 5, price: "12.00"}\n'
    users = "  users: {event: users.changed, kind: gauge, carries: level, value: data.level, charged: in_advance}\n"
    agreements = "".join(
        f"  - {{account_id: {name}, package: starter, effective_from: 2026-01-01,\n"
        f'     minimum_spend: {{amount: "200.00", counts: [{counts}]}}}}\n'
        for name, (counts, _) in SEATS_COUNT.items()
    )
    text = with_minimum(seats).replace("metrics:\n", f"metrics:\n{users}", 1)
    landing = Landing(tmp_path_factory.mktemp("seated"), f"{text}\nagreements:\n{agreements}")
    for name in SEATS_COUNT:
        landing.customer(name)
        landing.deliver([event(name, name, "users.changed", {"level": 8}, "2026-01-19T10:00:00Z")], "2026-01-19")
    return bill_by_steps(landing.root, "2026-02", "2026-02-28")


@pytest.mark.parametrize("account", SEATS_COUNT)
def test_seats_added_within_the_cycle_count_as_seats(seated: Business, account: str) -> None:
    # 3 x 12.00 x 22 / 31 = 25.55
    assert minimums(seated, account) == [("02-10", SEATS_COUNT[account][1])]
